//! The fork check: whether a peer is on our chain, by one `getheaders` and by what it calls itself.
//!
//! Layer 4, pure. Section 5 of the header chain's reference; what a peer is told by is [`ForkMarker`].

use crate::block::proven_work;
use crate::message::{BlockHeader, GetHeaders};
use crate::network::ForkMarker;

/// What a peer's answer to the check says of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has our marker.
    Right,
    /// It is on another chain.
    Wrong,
    /// It cannot be told: the peer may still be syncing.
    Undecided,
    /// No answer to what was asked: it follows none of the blocks named, or its work is not proven.
    Nonsense,
}

/// The check's `getheaders`.
pub(super) fn question(marker: &ForkMarker) -> GetHeaders {
    let locator: Vec<_> = marker.locator.iter().map(|point| point.hash).collect();
    GetHeaders::new(locator).stop_at(marker.marker)
}

/// Judges the answer of a peer that announced `start_height` in its `version`.
///
/// Only the first header counts: the node starts behind the newest block of the locator that is on its active chain.
/// A peer that is not on our chain may send up to 2,000 of them, as it never comes to the marker.
pub(super) fn judge(marker: &ForkMarker, start_height: i32, headers: &[BlockHeader]) -> Verdict {
    // Its tip is one of the blocks named, or before them.
    let Some(first) = headers.first() else { return Verdict::Undecided };
    let hash = first.hash();
    let attached = marker.locator.iter().position(|point| point.hash == first.previous);
    let Some(attached) = attached.filter(|_| proven_work(first, &hash).is_some()) else {
        return Verdict::Nonsense;
    };
    if hash == marker.marker {
        return Verdict::Right;
    }
    let next = marker.locator[attached].next;
    // By its own word it has a chain longer than that, but without the marker's parent.
    let is_too_long = i64::from(start_height) >= i64::from(marker.height) + FAR_ABOVE;
    if attached == 0 || next.is_some_and(|next| next != hash) || is_too_long {
        return Verdict::Wrong;
    }
    Verdict::Undecided
}

/// Names the software of another chain that a user agent tells of.
///
/// Words are found in any letter case and anywhere. They are more than the node's own `abc`, `cash` and `bch`, but longer,
/// as we do not want to lose a wallet that calls itself `Cashier`.
pub(super) fn agent_of_other_chain(user_agent: &str) -> Option<&'static str> {
    let agent = user_agent.to_ascii_lowercase();
    FOREIGN_AGENTS.into_iter().find(|(word, _)| agent.contains(word)).map(|(_, name)| name)
}

/// Blocks above the marker from where a peer must have it: a day's worth, so that no peer about to sync is hit.
const FAR_ABOVE: i64 = 144;

/// What user agents of other chains contain, in lower case, and whose it is.
///
/// From the lists by which Fulcrum (`src/BitcoinD.cpp`), Knuth (its table of known clients) and nChain's Java client
/// (`DEFAULT_USER_AGENT_BLACKLIST`) tell nodes apart, and Bitcoin Verde's own `defaultUserAgent`; `bcash` and `ecash` are
/// those projects' names.
const FOREIGN_AGENTS: [(&str, &str); 15] = [
    ("bitcoin abc", "Bitcoin ABC"),
    ("bitcoin cash", "Bitcoin Cash Node"),
    ("bchd", "bchd"),
    ("bch unlimited", "BCH Unlimited"),
    ("bchunlimited", "BCH Unlimited"),
    ("bucash", "BCH Unlimited"),
    ("bitcoinunlimited", "Bitcoin Unlimited"),
    ("bitcoin xt", "Bitcoin XT"),
    ("bitcoin verde", "Bitcoin Verde"),
    ("flowee", "Flowee"),
    ("/knuth:", "Knuth"),
    ("kth-bch", "Knuth"),
    ("/bcash:", "bcash"),
    ("ecash", "eCash"),
    ("/satoshi:", "Bitcoin Core"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::network::{CustomNetwork, ForkPoint, Network};
    use crate::wire::{BlockHash, MerkleRoot, parse_hex};

    const M1: &str = "00000020432d350741fbf28f2e1486eabe2c4e143bfe2241af6518010000000000000000abaa4bd8a48c1c6bc08ee39b66065e5e9484304cab8b56d5eed3e40b1ac996c899c480593547011822ca4ae8";
    const X2: &str = "0000002022938d4ece739b34d65de82f58c72c7a80d09bde4fd9020100000000000000004419fd3ebb093486e3a662ec67455bf1ff06ec9052e59aba4d1b6bbd0511f31ca8b4ed5bdb1f021881f61ee9";
    /// A block of ours long after the split.
    const BSV_646575: &str = "00004020001c43664879f5c89384f39f0c71a48197b2f1bfdbbe83010000000000000000e3d8f953f133959c98fadfced5b83f388b8aaee167772dc850425edcb5ac916e7862285fdf6203181438585e";
    const TEST_M2: &str = "00000020b9ea0b497adc73aff2e3d2c3663db12bdf4f8d612d3317e76700000000000000b1e1eda1767dc2e6fdb63e82d570461da2daa2f4fd9fe375ebce93f5b180a6f5ae7e285faef5021a7f406d4d";
    const MAIN_1: &str = "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299";
    const MAIN_2: &str = "010000004860eb18bf1b1620e37e9490fc8a427514416fd75159ab86688e9a8300000000d5fdcc541e25de1c7a5addedf24858b8bb665c9f36ef744ee42c316022c90f9bb0bc6649ffff001d08d2bd61";

    fn header(text: &str) -> BlockHeader {
        let mut bytes = [0; BlockHeader::LEN];
        parse_hex(text, &mut bytes).unwrap();
        BlockHeader::decode(&bytes)
    }

    /// A header of some chain behind `previous`, with hardly any work, but proven.
    fn follower(previous: BlockHash) -> BlockHeader {
        let candidate = |nonce| BlockHeader {
            version: 4,
            previous,
            merkle_root: MerkleRoot::ZERO,
            time: 1_600_000_000,
            bits: 0x207f_ffff,
            nonce,
        };
        (0..).map(candidate).find(|header| proven_work(header, &header.hash()).is_some()).unwrap()
    }

    /// The same, not proven.
    fn unproven(header: BlockHeader) -> BlockHeader {
        let candidate = |nonce| BlockHeader { nonce, ..header };
        (0..).map(candidate).find(|header| proven_work(header, &header.hash()).is_none()).unwrap()
    }

    fn main() -> ForkMarker {
        Network::Main.fork_marker().unwrap()
    }

    fn test() -> ForkMarker {
        Network::Test.fork_marker().unwrap()
    }

    #[test]
    fn question_is_the_frame_of_the_reference() {
        let frame = |network: Network| {
            let marker = network.fork_marker().unwrap();
            let frame = Message::GetHeaders(question(&marker)).to_frame(network.magic());
            frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let main = "e3e1f3e8676574686561646572730000850000005853f0e48011010003\
                    22938d4ece739b34d65de82f58c72c7a80d09bde4fd902010000000000000000\
                    432d350741fbf28f2e1486eabe2c4e143bfe2241af6518010000000000000000\
                    6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000\
                    2b66b102d8f8966ca9d04cdaafe000fc6fd915427156d9010000000000000000";
        assert_eq!(frame(Network::Main), main);
        let test = "f4e5f3f4676574686561646572730000a5000000339977018011010004\
                    b9ea0b497adc73aff2e3d2c3663db12bdf4f8d612d3317e76700000000000000\
                    fb47e0ab0d2448f71192a09fe61bc9c46cd3b4e7bd778091d00e170000000000\
                    38f1ae7f0ea8c1b589884c5fbd0b83721e3ab6759a4b897206857cf100000000\
                    43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000\
                    d0d498d4550e1fff2578ca2724444c7adfac700dfd08bf1a9a02000000000000";
        assert_eq!(frame(Network::Test), test);
    }

    #[test]
    fn peer_that_sends_the_marker_is_right() {
        assert_eq!(judge(&test(), 1_700_000, &[header(TEST_M2)]), Verdict::Right);
        // Whatever height it announced when it connected.
        assert_eq!(judge(&test(), 0, &[header(TEST_M2)]), Verdict::Right);
    }

    #[test]
    fn peer_of_bch_is_wrong() {
        let x2 = header(X2);
        assert_eq!(judge(&main(), 900_000, &[x2]), Verdict::Wrong);
        assert_eq!(judge(&main(), 556_766, &[x2]), Verdict::Wrong);
        let many: Vec<_> = std::iter::once(x2).chain((1..2_000).map(|_| follower(x2.hash()))).collect();
        assert_eq!(judge(&main(), 900_000, &many), Verdict::Wrong);
    }

    #[test]
    fn peer_of_an_unknown_fork_at_the_markers_height_is_wrong() {
        for marker in [main(), test()] {
            assert_eq!(judge(&marker, 0, &[follower(marker.locator[0].hash)]), Verdict::Wrong);
        }
    }

    #[test]
    fn peer_that_has_only_the_first_fork_behind_it_is_undecided() {
        let m1 = header(M1);
        assert_eq!(judge(&main(), 500_000, &[m1]), Verdict::Undecided);
        assert_eq!(judge(&main(), 556_767 + 143, &[m1]), Verdict::Undecided);
        // On the test network nothing is known to follow this one.
        let common = test().locator[1].hash;
        assert_eq!(judge(&test(), 1_200_000, &[follower(common)]), Verdict::Undecided);
    }

    #[test]
    fn peer_of_btc_is_wrong() {
        assert_eq!(judge(&main(), 0, &[follower(main().locator[1].hash)]), Verdict::Wrong);
        assert_eq!(judge(&test(), 0, &[follower(test().locator[2].hash)]), Verdict::Wrong);
    }

    #[test]
    fn peer_that_knows_the_genesis_block_alone_is_undecided_while_its_chain_is_short() {
        let first = header(MAIN_1);
        for start_height in [-1, 0, 478_000, 556_767 + 143] {
            assert_eq!(judge(&main(), start_height, &[first]), Verdict::Undecided, "{start_height}");
        }
        for start_height in [556_767 + 144, 900_000, i32::MAX] {
            assert_eq!(judge(&main(), start_height, &[first]), Verdict::Wrong, "{start_height}");
        }
    }

    #[test]
    fn peer_whose_long_chain_lacks_the_markers_parent_is_wrong_by_its_own_word() {
        assert_eq!(judge(&main(), 900_000, &[header(M1)]), Verdict::Wrong);
        let common = test().locator[1].hash;
        assert_eq!(judge(&test(), 1_600_000, &[follower(common)]), Verdict::Wrong);
    }

    #[test]
    fn peer_with_nothing_to_send_is_undecided() {
        for start_height in [0, 556_766, 900_000] {
            assert_eq!(judge(&main(), start_height, &[]), Verdict::Undecided);
        }
    }

    #[test]
    fn header_behind_no_block_that_was_named_is_nonsense() {
        for stray in [header(BSV_646575), header(MAIN_2), header(TEST_M2), follower(main().marker)] {
            assert_eq!(judge(&main(), 900_000, &[stray]), Verdict::Nonsense);
            assert_eq!(judge(&main(), 900_000, &[stray, header(X2)]), Verdict::Nonsense);
        }
    }

    #[test]
    fn header_without_its_work_is_nonsense() {
        for point in main().locator {
            assert_eq!(judge(&main(), 0, &[unproven(follower(point.hash))]), Verdict::Nonsense);
        }
        assert_eq!(judge(&main(), 0, &[BlockHeader { nonce: 0, ..header(X2) }]), Verdict::Nonsense);
        assert_eq!(judge(&main(), 0, &[BlockHeader { bits: 0, ..header(X2) }]), Verdict::Nonsense);
    }

    #[test]
    fn scaling_peers_are_told_by_their_first_block() {
        let marker = Network::Scaling.fork_marker().unwrap();
        assert_eq!(question(&marker).locator, [Network::Scaling.genesis()]);
        assert_eq!(judge(&marker, 0, &[]), Verdict::Undecided);
        assert_eq!(judge(&marker, 9, &[follower(Network::Scaling.genesis())]), Verdict::Wrong);
        assert_eq!(judge(&marker, 9, &[follower(marker.marker)]), Verdict::Nonsense);
    }

    #[test]
    fn custom_network_is_told_by_its_own_marker() {
        let (genesis, one, two) = (Network::Main.genesis(), header(MAIN_1), header(MAIN_2));
        let custom = CustomNetwork {
            name: "hamlet".to_owned(),
            magic: *b"haml",
            port: 1,
            seeds: Vec::new(),
            genesis,
            fork_marker: Some(ForkMarker::new([ForkPoint::new(one.hash())], two.hash(), 2)),
        };
        let marker = Network::Custom(custom.into()).fork_marker().unwrap();
        assert_eq!(question(&marker), GetHeaders::new([one.hash(), genesis]).stop_at(two.hash()));
        assert_eq!(judge(&marker, 2, &[two]), Verdict::Right);
        assert_eq!(judge(&marker, 2, &[follower(one.hash())]), Verdict::Wrong);
        assert_eq!(judge(&marker, 1, &[one]), Verdict::Undecided);
        assert_eq!(judge(&marker, 1, &[follower(genesis)]), Verdict::Undecided);
        assert_eq!(judge(&marker, 146, &[follower(genesis)]), Verdict::Wrong);
        assert_eq!(judge(&marker, 2, &[follower(two.hash())]), Verdict::Nonsense);
    }

    #[test]
    fn agents_of_other_chains_are_named() {
        for (agent, name) in [
            ("/Bitcoin ABC:0.27.0(EB32.0)/", "Bitcoin ABC"),
            ("/Bitcoin Cash Node:28.0.1(EB32.0)/", "Bitcoin Cash Node"),
            ("/BITCOIN CASH NODE:1/", "Bitcoin Cash Node"),
            ("/BCH Unlimited:1.10.0(EB32; AD12)/", "BCH Unlimited"),
            ("/BCHUnlimited:1.10.0/", "BCH Unlimited"),
            ("/Satoshi:1.0.3.1(EB16; AD4)/BUCash:1.0.3.1/", "BCH Unlimited"),
            ("/BitcoinUnlimited:1.1.0.99(EB16; AD12)/", "Bitcoin Unlimited"),
            ("/bchwire:0.5.0/bchd:0.20.0/", "bchd"),
            ("/Bitcoin Verde:2.3.0/", "Bitcoin Verde"),
            ("/Flowee:1 (2022-06)/", "Flowee"),
            ("/Knuth:0.58.0/", "Knuth"),
            ("/bcash:1.1.0/", "bcash"),
            ("/Satoshi:28.0.0/Knots:20241210/", "Bitcoin Core"),
        ] {
            assert_eq!(agent_of_other_chain(agent), Some(name), "{agent}");
        }
    }

    #[test]
    fn agents_of_our_chain_are_let_be() {
        for agent in [
            "",
            "/",
            "/Bitcoin SV:1.2.2/",
            "/Bitcoin SV:1.0.16(Testnet; abc)/",
            concat!("/bsv-conduit:", env!("CARGO_PKG_VERSION"), "/"),
            "/bsv-conduit:0.1/",
            "/teranode/",
            "/teranode-legacy-v1.0.0/",
            "/bsvwire:0.5.0/bsvd:0.6.2/",
            "/bitcoin-bsvcl:1.0.0/",
            "/bitcoinj:0.14/HandCash:3.0/",
            "/MyCashier:1/",
            "/abcwallet/",
            "/ElectrumSV:1.3.16/",
            "/Knuthwork:1/",
        ] {
            assert_eq!(agent_of_other_chain(agent), None, "{agent}");
        }
    }
}
