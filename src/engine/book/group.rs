//! What an IP address tells before anybody dials it: who else is likely to run it, and from whom it is believed.
//!
//! Layer 4. Ranges: the IANA registries of special-purpose addresses (RFC 6890); groups: the node's
//! `CNetAddr::GetGroup` in `src/net/netaddress.cpp`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that one operator is likely to hold together: the /16 of IPv4, the /32 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AddressGroup {
    V4([u8; 2]),
    V6([u16; 2]),
}

impl AddressGroup {
    /// The group of an address; `None` for loopback, where many peers are no sign of one operator.
    pub(crate) fn of(ip: &IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) => Some(Self::V4([ip.octets()[0], ip.octets()[1]])),
            IpAddr::V6(ip) => Some(Self::V6([ip.segments()[0], ip.segments()[1]])),
        }
    }
}

/// Writes the network: `1.2.0.0/16`, `2001:db8::/32`.
impl fmt::Display for AddressGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b]) => write!(f, "{}/16", Ipv4Addr::new(a, b, 0, 0)),
            Self::V6([a, b]) => write!(f, "{}/32", Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0)),
        }
    }
}

impl FromStr for AddressGroup {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ip, length) = text.split_once('/').ok_or(())?;
        match (ip.parse::<IpAddr>().map_err(drop)?, length) {
            (IpAddr::V4(ip), "16") => Ok(Self::V4([ip.octets()[0], ip.octets()[1]])),
            (IpAddr::V6(ip), "32") => Ok(Self::V6([ip.segments()[0], ip.segments()[1]])),
            _ => Err(()),
        }
    }
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// The whole network.
    Global,
    /// A network of one's own: private, shared, link local, unique local.
    Private,
    /// This machine.
    Loopback,
}

impl Reach {
    /// The reach of an address; `None` if no peer can be there.
    pub(super) fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Option<Self> {
        let nowhere = match ip.octets() {
            // This network, and all that is multicast or reserved; broadcast is the last of them.
            [0 | 224.., ..] => true,
            // Protocol assignments, documentation, the abandoned 6to4 relay, benchmarks.
            [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
            [192, 88, 99, _] | [198, 18 | 19, ..] => true,
            _ => false,
        };
        let shared = matches!(ip.octets(), [100, 64..=127, ..]);
        match ip {
            _ if nowhere => None,
            _ if ip.is_loopback() => Some(Self::Loopback),
            _ if shared || ip.is_private() || ip.is_link_local() => Some(Self::Private),
            _ => Some(Self::Global),
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Option<Self> {
        match ip.segments() {
            _ if ip.is_loopback() => Some(Self::Loopback),
            [0xfc00..=0xfdff, ..] | [0xfe80..=0xfebf, ..] => Some(Self::Private),
            // Protocol assignments (Teredo among them), documentation, 6to4.
            [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x2002, ..] => None,
            [0x2000..=0x3fff, ..] => Some(Self::Global),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn groups_are_16_bits_of_ipv4_and_32_of_ipv6() {
        let group = |text| AddressGroup::of(&ip(text));
        assert_eq!(group("1.2.3.4"), group("1.2.200.1"));
        assert_eq!(group("1.2.3.4"), group("::ffff:1.2.9.9"));
        assert_ne!(group("1.2.3.4"), group("1.3.3.4"));
        assert_eq!(group("2a00:1:2::3"), group("2a00:1:ffff::"));
        assert_ne!(group("2a00:1::3"), group("2a00:2::3"));
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(group(loopback), None, "{loopback}");
        }
    }

    #[test]
    fn groups_read_back() {
        for text in ["1.2.0.0/16", "2a00:1::/32", "::/32"] {
            assert_eq!(text.parse::<AddressGroup>().map(|group| group.to_string()).as_deref(), Ok(text));
        }
        for text in ["1.2.0.0", "1.2.0.0/32", "2a00::/16", "x/16", ""] {
            assert!(text.parse::<AddressGroup>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_special_range_is_told_from_global_addresses() {
        use Reach::{Global, Loopback, Private};
        for (text, reach) in [
            ("1.1.1.1", Some(Global)),
            ("100.63.0.1", Some(Global)),
            ("100.128.0.1", Some(Global)),
            ("172.15.0.1", Some(Global)),
            ("172.32.0.1", Some(Global)),
            ("198.17.0.1", Some(Global)),
            ("198.20.0.1", Some(Global)),
            ("223.255.255.255", Some(Global)),
            ("2600::1", Some(Global)),
            ("2001:200::1", Some(Global)),
            ("3fff:1000::1", Some(Global)),
            ("::ffff:1.1.1.1", Some(Global)),
            ("10.0.0.1", Some(Private)),
            ("100.64.0.1", Some(Private)),
            ("169.254.1.1", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.31.0.1", Some(Private)),
            ("192.168.0.1", Some(Private)),
            ("fc00::1", Some(Private)),
            ("fd12::1", Some(Private)),
            ("fe80::1", Some(Private)),
            ("127.0.0.1", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("0.0.0.0", None),
            ("0.1.2.3", None),
            ("192.0.0.1", None),
            ("192.0.2.1", None),
            ("192.88.99.1", None),
            ("198.18.0.1", None),
            ("198.19.0.1", None),
            ("198.51.100.1", None),
            ("203.0.113.1", None),
            ("224.0.0.1", None),
            ("240.0.0.1", None),
            ("255.255.255.255", None),
            ("::", None),
            ("::ffff:0.0.0.0", None),
            ("64:ff9b::1", None),
            ("2001::1", None),
            ("2001:db8::1", None),
            ("2002:a00:1::", None),
            ("3fff::1", None),
            ("fec0::1", None),
            ("ff02::1", None),
        ] {
            assert_eq!(Reach::of(ip(text)), reach, "{text}");
        }
    }
}
