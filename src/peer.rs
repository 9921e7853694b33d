//! Peers as callers name and see them: identities, addresses, snapshots.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::error::AddressError;
use crate::message::Services;
use crate::proto::Link;
use crate::stats::Traffic;

/// Identifies a peer for as long as the conduit knows it, over any number of connections to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerId(pub(crate) u64);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

/// Identifies one connection; never used again once it ended, so a late command cannot hit its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// Identifies a block stream; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// A map by ids of ours. They count up and no peer chooses them, so they need no hash that withstands an attack.
pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A set of such ids.
pub(crate) type IdSet<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// Spreads ids by one multiplication.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, id: u64) {
        // 2^64 divided by the golden ratio: neighbours end up far from each other.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Where a peer is found: an IP address or a name, and a port.
///
/// Parsed from `1.2.3.4:8333`, `[2001:db8::1]:8333`, `node.example:8333`; without a port it gets the network's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    pub(crate) host: Host,
    /// `None` until the network's port is filled in.
    pub(crate) port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

impl PeerAddress {
    /// The address with a port, the given one where it has none.
    #[must_use]
    pub fn or_port(mut self, port: u16) -> Self {
        self.port.get_or_insert(port);
        self
    }

    /// The port, if one was named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The host's name, unless it is an IP address.
    #[must_use]
    pub fn host_name(&self) -> Option<&str> {
        match &self.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(name),
        }
    }

    /// The socket address, unless the host is a name or the port is missing.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match (&self.host, self.port) {
            (Host::Ip(ip), Some(port)) => Some(SocketAddr::new(*ip, port)),
            _ => None,
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: Some(address.port()) }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Ip(IpAddr::V6(ip)), Some(_)) => write!(f, "[{ip}]")?,
            (Host::Ip(ip), _) => write!(f, "{ip}")?,
            (Host::Name(name), _) => f.write_str(name)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError { text: text.to_owned() };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Ip(ip.into()), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().map_err(|_| error())?)),
            None => (text, None),
        };
        let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || host.len() > MAX_NAME || !host.chars().all(is_name_char) || port == Some(0) {
            return Err(error());
        }
        let host = host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Ip);
        Ok(Self { host, port })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for PeerAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for PeerAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What can name a peer: text, a socket address, a host and a port.
pub trait ToPeerAddress {
    /// The address meant.
    ///
    /// # Errors
    ///
    /// [`AddressError`] if the text is no address.
    fn to_peer_address(&self) -> Result<PeerAddress, AddressError>;
}

impl ToPeerAddress for str {
    fn to_peer_address(&self) -> Result<PeerAddress, AddressError> {
        self.parse()
    }
}

impl ToPeerAddress for String {
    fn to_peer_address(&self) -> Result<PeerAddress, AddressError> {
        self.parse()
    }
}

impl ToPeerAddress for SocketAddr {
    fn to_peer_address(&self) -> Result<PeerAddress, AddressError> {
        Ok((*self).into())
    }
}

impl ToPeerAddress for PeerAddress {
    fn to_peer_address(&self) -> Result<PeerAddress, AddressError> {
        Ok(self.clone())
    }
}

impl ToPeerAddress for (&str, u16) {
    fn to_peer_address(&self) -> Result<PeerAddress, AddressError> {
        let (host, port) = *self;
        let address: PeerAddress = host.parse()?;
        if address.port.is_some() {
            return Err(AddressError { text: format!("{host}:{port}") });
        }
        Ok(address.or_port(port))
    }
}

impl ToPeerAddress for (IpAddr, u16) {
    fn to_peer_address(&self) -> Result<PeerAddress, AddressError> {
        Ok(SocketAddr::from(*self).into())
    }
}

impl<T: ToPeerAddress + ?Sized> ToPeerAddress for &T {
    fn to_peer_address(&self) -> Result<PeerAddress, AddressError> {
        (**self).to_peer_address()
    }
}

/// A peer as it stood when [`Conduit::peers`](crate::Conduit::peers) was called.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PeerInfo {
    /// Its identity.
    pub id: PeerId,
    /// The address it was named or found by.
    pub address: PeerAddress,
    /// Who dialled.
    pub link: Link,
    /// Whether it is connected.
    pub state: PeerState,
    /// The connections to it: 0, 1, or with [`streams`](crate::Config#structfield.streams) 2.
    pub streams: usize,
    /// Whether it was set as the main peer.
    pub is_main: bool,
    /// Whether the caller named it; any other was found.
    pub is_named: bool,
    /// Time since its handshake, while connected.
    pub connected_for: Option<Duration>,
    /// What it calls itself, once connected.
    pub user_agent: Option<String>,
    /// The services it offers, once connected.
    pub services: Option<Services>,
    /// The block height it announced in its `version`, once connected.
    pub start_height: Option<i32>,
    /// Smoothed round-trip time of pings and small requests, once measured.
    pub latency: Option<Duration>,
    /// Smoothed rate at which its large replies come, bytes a second, once measured.
    pub throughput: Option<u64>,
    /// What it wants the transactions to pay that it is told of, in satoshis for 1,000 bytes, once it has said so.
    pub fee_filter: Option<u64>,
    /// Requests it has not answered yet.
    pub outstanding_requests: usize,
    /// Dials and requests that failed in a row.
    pub failures: u32,
    /// What has passed over the present connection, or both of them, once the handshake is done.
    pub traffic: Option<Traffic>,
}

/// Where a peer stands.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum PeerState {
    /// Not connected; it is dialled again when its back-off ends.
    Waiting,
    /// Its name is resolved, or it is dialled, or the handshake is under way.
    Connecting,
    /// Connected, and asked whether it is on our chain.
    Checking,
    /// Connected, but it cannot tell yet whether it is on our chain: only told of transactions, and asked for what proves
    /// itself if nobody else can be.
    Unverified,
    /// Connected, handshake done, on our chain.
    Ready,
    /// Connected, but we do not read it, because nobody takes its messages.
    Paused,
    /// Banned: not dialled until the ban ends.
    Banned,
}

/// A ban in force.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct BanInfo {
    /// Whom it is for: a host with all its ports, or one address.
    pub address: PeerAddress,
    /// Time until its end.
    pub left: Duration,
    /// What for.
    pub reason: BanReason,
}

/// What somebody was banned for.
///
/// Of several bans that find no room, those that nobody requested give way first.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum BanReason {
    /// It showed itself to be on another chain, so there is no use in dialling it.
    WrongChain,
    /// It sent a block that is not what its header says.
    BadBlock,
    /// The caller wanted it.
    Requested,
}

/// The longest host name (RFC 1035).
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in ["1.2.3.4:8333", "[2001:db8::1]:8333", "node.example:18333", "node.example", "1.2.3.4"] {
            assert_eq!(text.parse::<PeerAddress>().map(|a| a.to_string()).as_deref(), Ok(text));
        }
        let v6 = "[::1]".parse::<PeerAddress>().unwrap();
        assert_eq!(v6, "::1".parse().unwrap());
        assert_eq!(v6.or_port(8333).to_string(), "[::1]:8333");
        assert_eq!(
            ("node.example", 8333).to_peer_address().map(|a| a.to_string()).as_deref(),
            Ok("node.example:8333")
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ":8333", "host:", "host:70000", "host:0", "ho st:8333", "a/b:1", "[::1:8333"] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text}");
        }
        assert!(("1.2.3.4:1", 2).to_peer_address().is_err());
    }
}
