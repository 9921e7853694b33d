//! What is remembered from one run to the next, as text: addresses and bans.
//!
//! Layer 4, pure; `driver::peers_file` reads and writes the bytes. The form is strict: each snapshot has one text, and a
//! text that differs from it in a single bit is noticed.

use std::str::{FromStr, SplitAsciiWhitespace};

use super::bans::{Ban, BanKey};
use super::entry::SavedAddress;
use crate::error::FileFault;
use crate::message::Services;
use crate::network::Network;
use crate::peer::BanReason;
use crate::wire::sha256d;

/// What a file of peers holds.
///
/// | line | content |
/// |---|---|
/// | first | `conduit-peers 1`, the network, its magic in wire order, its genesis hash |
/// | each address | `address`, IP and port, services in hexadecimal, last seen, last worked or `-`, failures, who told |
/// | each ban | `ban`, then `host` and an IP or `peer` and an address, its end, `requested` or `wrong-chain` |
/// | last | double SHA-256 of all bytes before it |
///
/// Words are parted by one space and every line ends with a newline; times are Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) addresses: Vec<SavedAddress>,
    pub(crate) bans: Vec<(BanKey, Ban)>,
}

impl Snapshot {
    /// The text of the file.
    pub(crate) fn to_text(&self, network: &Network) -> String {
        let mut text = header(network);
        self.addresses.iter().for_each(|saved| text.push_str(&address_line(saved)));
        self.bans.iter().for_each(|(key, ban)| text.push_str(&ban_line(key, ban)));
        let digest = digest_line(&text);
        text + &digest
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it; nothing of a faulty file is used.
    pub(crate) fn parse(network: &Network, bytes: &[u8]) -> Result<Self, FileFault> {
        let text = std::str::from_utf8(bytes).map_err(|_| FileFault::Damaged)?;
        // Told first, as another version may end otherwise.
        let rest = text.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(' ')).ok_or(FileFault::Damaged)?;
        let version = rest.split([' ', '\n']).next().and_then(canonical::<u32>);
        match version {
            Some(VERSION) => {}
            Some(found) => return Err(FileFault::Version { found }),
            None => return Err(FileFault::Damaged),
        }
        let last = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).ok_or(FileFault::Damaged)?;
        let (body, digest) = text.split_at(last + 1);
        if digest != digest_line(body) {
            return Err(FileFault::Damaged);
        }
        let lines = body.strip_prefix(header(network).as_str()).ok_or(FileFault::OtherNetwork)?;
        let mut this = Self::default();
        for (i, line) in lines.split_inclusive('\n').enumerate() {
            this.read_line(line).ok_or(FileFault::Line { number: i + 2 })?;
        }
        Ok(this)
    }

    /// Reads a line, which has to be the one that is written for what it says.
    fn read_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        match words.next()? {
            "address" => {
                let saved = read_address(&mut words)?;
                self.addresses.push(saved);
                (address_line(&saved) == line).then_some(())
            }
            "ban" => {
                let (key, ban) = read_ban(&mut words)?;
                let is_canonical = ban_line(&key, &ban) == line;
                self.bans.push((key, ban));
                is_canonical.then_some(())
            }
            _ => None,
        }
    }
}

/// The name of a network as files and their names have it: lower-case letters, digits and hyphens. That of a custom
/// network ends with its magic, so that it is never mistaken for another.
pub(crate) fn label(network: &Network) -> String {
    let Network::Custom(custom) = network else { return network.name().to_owned() };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = custom.name.chars().map(plain).take(MAX_LABEL).collect();
    format!("{name}-{}", hex(&custom.magic))
}

fn header(network: &Network) -> String {
    let (label, magic, genesis) = (label(network), hex(&network.magic()), network.genesis());
    format!("{NAME} {VERSION} {label} {magic} {genesis}\n")
}

fn address_line(saved: &SavedAddress) -> String {
    let SavedAddress { address, services, last_seen, last_worked, failures, source } = saved;
    let worked = last_worked.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
    format!("address {address} {:x} {last_seen} {worked} {failures} {source}\n", services.0)
}

fn read_address(words: &mut SplitAsciiWhitespace<'_>) -> Option<SavedAddress> {
    Some(SavedAddress {
        address: words.next()?.parse().ok()?,
        services: Services(u64::from_str_radix(words.next()?, 16).ok()?),
        last_seen: words.next()?.parse().ok()?,
        last_worked: match words.next()? {
            NEVER => None,
            at => Some(at.parse().ok()?),
        },
        failures: words.next()?.parse().ok()?,
        source: words.next()?.parse().ok()?,
    })
}

fn ban_line(key: &BanKey, ban: &Ban) -> String {
    let (kind, whom) = match key {
        BanKey::Host(ip) => (HOST, ip.to_string()),
        BanKey::Peer(address) => (PEER, address.to_string()),
    };
    let reason = match ban.reason {
        BanReason::Requested => REQUESTED,
        BanReason::WrongChain => WRONG_CHAIN,
        BanReason::BadBlock => BAD_BLOCK,
    };
    format!("ban {kind} {whom} {} {reason}\n", ban.until)
}

fn read_ban(words: &mut SplitAsciiWhitespace<'_>) -> Option<(BanKey, Ban)> {
    let (kind, whom) = (words.next()?, words.next()?);
    let key = match kind {
        HOST => BanKey::Host(whom.parse().ok()?),
        PEER => BanKey::Peer(whom.parse().ok()?),
        _ => return None,
    };
    let until = words.next()?.parse().ok()?;
    let reason = match words.next()? {
        REQUESTED => BanReason::Requested,
        WRONG_CHAIN => BanReason::WrongChain,
        BAD_BLOCK => BanReason::BadBlock,
        _ => return None,
    };
    Some((key, Ban { until, reason }))
}

fn digest_line(body: &str) -> String {
    hex(&sha256d(body.as_bytes())) + "\n"
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a number that is written in the one way that we write it.
fn canonical<T: FromStr + ToString>(word: &str) -> Option<T> {
    word.parse().ok().filter(|value: &T| value.to_string() == word)
}

const NAME: &str = "conduit-peers";
const VERSION: u32 = 1;
const NEVER: &str = "-";
const HOST: &str = "host";
const PEER: &str = "peer";
const REQUESTED: &str = "requested";
const WRONG_CHAIN: &str = "wrong-chain";
const BAD_BLOCK: &str = "bad-block";
/// Characters of a custom network's name that a label has.
const MAX_LABEL: usize = 32;

#[cfg(test)]
pub(crate) mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use super::super::entry::Source;
    use super::*;
    use crate::network::CustomNetwork;

    /// One of everything that a file can hold.
    pub(crate) fn snapshot() -> Snapshot {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let address = |address: &str, last_worked, failures, source| SavedAddress {
            address: address.parse().unwrap(),
            services: Services(0x25),
            last_seen: 1_700_000_000,
            last_worked,
            failures,
            source,
        };
        let ban = |until, reason| Ban { until, reason };
        Snapshot {
            addresses: vec![
                address("8.8.8.8:8333", None, 0, Source::of(Some(ip("9.9.1.1")))),
                address("9.9.9.9:18333", Some(1_699_999_999), 3, Source::of(Some(ip("2600:1::1")))),
                address("127.0.0.1:1", Some(-1), u32::MAX, Source::of(Some(ip("127.0.0.1")))),
                address("[2600::1]:8333", None, 9, Source::Seed),
                address("[::1]:8333", Some(i64::MAX), 0, Source::Us),
            ],
            bans: vec![
                (BanKey::Host(ip("1.2.3.4")), ban(1_700_000_000, BanReason::WrongChain)),
                (BanKey::Host(ip("2600::2")), ban(i64::MAX, BanReason::Requested)),
                (BanKey::Peer("127.0.0.1:18444".parse().unwrap()), ban(5, BanReason::Requested)),
                (BanKey::Peer("Node.example:8333".parse().unwrap()), ban(5, BanReason::WrongChain)),
            ],
        }
    }

    fn custom(name: &str) -> Network {
        Network::Custom(Arc::new(CustomNetwork {
            name: name.to_owned(),
            magic: [1, 2, 3, 0xff],
            port: 1,
            seeds: vec![],
            genesis: Network::Main.genesis(),
            fork_marker: None,
        }))
    }

    /// Ends a text as if it had been written.
    fn sealed(body: &str) -> Vec<u8> {
        (body.to_owned() + &digest_line(body)).into_bytes()
    }

    #[test]
    fn what_is_written_reads_back() {
        for network in
            [Network::Main, Network::Test, Network::Scaling, Network::Regtest, custom("a b\nc"), custom("")]
        {
            for snapshot in [snapshot(), Snapshot::default()] {
                let text = snapshot.to_text(&network);
                assert_eq!(Snapshot::parse(&network, text.as_bytes()), Ok(snapshot), "{text}");
            }
        }
    }

    #[test]
    fn the_text_is_as_documented() {
        let text = snapshot().to_text(&Network::Main);
        let lines: Vec<&str> = text.lines().collect();
        let genesis = Network::Main.genesis();
        assert_eq!(lines[0], format!("conduit-peers 1 main e3e1f3e8 {genesis}"));
        assert_eq!(lines[1], "address 8.8.8.8:8333 25 1700000000 - 0 9.9.0.0/16");
        assert_eq!(lines[4], "address [2600::1]:8333 25 1700000000 - 9 seed");
        assert_eq!(lines[6], "ban host 1.2.3.4 1700000000 wrong-chain");
        assert_eq!(lines[8], "ban peer 127.0.0.1:18444 5 requested");
        assert_eq!((lines.len(), lines[10].len()), (11, 64));
        assert_eq!(header(&custom("My Net!")), format!("conduit-peers 1 my-net--010203ff 010203ff {genesis}\n"));
    }

    #[test]
    fn every_truncation_is_noticed() {
        let text = snapshot().to_text(&Network::Main);
        for length in 0..text.len() {
            let result = Snapshot::parse(&Network::Main, &text.as_bytes()[..length]);
            assert_eq!(result, Err(FileFault::Damaged), "{length} bytes of {}", text.len());
        }
        let longer = text.clone() + "\n";
        assert_eq!(Snapshot::parse(&Network::Main, longer.as_bytes()), Err(FileFault::Damaged));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = snapshot().to_text(&Network::Main).into_bytes();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let fault = Snapshot::parse(&Network::Main, &bytes).expect_err("a damaged file was read");
            assert!(matches!(fault, FileFault::Damaged | FileFault::Version { .. }), "bit {bit}: {fault:?}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(Snapshot::parse(&Network::Main, &bytes).is_ok());
    }

    #[test]
    fn files_of_other_versions_and_networks_are_told_apart() {
        let text = snapshot().to_text(&Network::Test);
        for network in [Network::Main, Network::Scaling, custom("test")] {
            assert_eq!(Snapshot::parse(&network, text.as_bytes()), Err(FileFault::OtherNetwork), "{network}");
        }
        for version in [0, 2, 17] {
            let other = text.replacen(" 1 ", &format!(" {version} "), 1);
            let fault = FileFault::Version { found: version };
            assert_eq!(Snapshot::parse(&Network::Test, other.as_bytes()), Err(fault));
        }
        assert_eq!(Snapshot::parse(&Network::Test, &sealed("conduit-peers 01 test\n")), Err(FileFault::Damaged));
        assert_eq!(Snapshot::parse(&Network::Test, &sealed("something else\n")), Err(FileFault::Damaged));
        assert_eq!(Snapshot::parse(&Network::Test, b"conduit-peers 1"), Err(FileFault::Damaged));
        assert_eq!(Snapshot::parse(&Network::Test, b"conduit-peers 1\n"), Err(FileFault::Damaged));
    }

    #[test]
    fn lines_that_we_would_not_write_are_refused_though_the_digest_fits() {
        let good = "address 8.8.8.8:8333 25 1700000000 - 0 seed\n";
        let head = header(&Network::Main);
        assert!(Snapshot::parse(&Network::Main, &sealed(&(head.clone() + good))).is_ok());
        for bad in [
            "",
            "address 8.8.8.8:8333 25 1700000000 - 0\n",
            "address 8.8.8.8:8333 25 1700000000 - 0 seed more\n",
            "address  8.8.8.8:8333 25 1700000000 - 0 seed\n",
            "address 8.8.8.8:8333 25 1700000000 - 0 seed\r\n",
            "address 8.8.8.8:08333 25 1700000000 - 0 seed\n",
            "address 8.8.8.8 25 1700000000 - 0 seed\n",
            "address 8.8.8.8:8333 2F 1700000000 - 0 seed\n",
            "address 8.8.8.8:8333 025 1700000000 - 0 seed\n",
            "address 8.8.8.8:8333 25 +1700000000 - 0 seed\n",
            "address 8.8.8.8:8333 25 1700000000 never 0 seed\n",
            "address 8.8.8.8:8333 25 1700000000 - -1 seed\n",
            "address 8.8.8.8:8333 25 1700000000 - 0 9.9.9.0/16\n",
            "address [2600:0::1]:8333 25 1700000000 - 0 seed\n",
            "ban host 1.2.3.4:1 5 requested\n",
            "ban host node.example 5 requested\n",
            "ban peer node.example:0 5 requested\n",
            "ban peer node.example:1 5 Requested\n",
            "ban peer node.example:1 5\n",
            "ban someone node.example:1 5 requested\n",
            "note 8.8.8.8\n",
            "\n",
        ] {
            let result = Snapshot::parse(&Network::Main, &sealed(&(head.clone() + good + bad + good)));
            let expected = if bad.is_empty() { None } else { Some(FileFault::Line { number: 3 }) };
            assert_eq!(result.err(), expected, "{bad:?}");
        }
    }
}
