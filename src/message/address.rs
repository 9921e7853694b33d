//! Network addresses, and `addr`, which tells them to others.
//!
//! Sections 2.3 and 6.3 of the wire specification (the node's `src/net/netaddress.h`, `src/protocol.h`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Services;
use crate::wire::{DecodeError, Reader, write_compact_size};

/// An address with what is offered there, as `version` holds it.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | services | 8 | little-endian |
/// | ip | 16 | network order; IPv4 mapped into IPv6 |
/// | port | 2 | big-endian |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NetworkAddress {
    /// What the peer there offers.
    pub services: Services,
    /// Mapped addresses read as IPv4; `::` is "none".
    pub ip: IpAddr,
    /// The TCP port.
    pub port: u16,
}

impl NetworkAddress {
    /// No address: no services, `::`, port 0.
    pub const UNSPECIFIED: Self = Self { services: Services::NONE, ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED), port: 0 };

    /// An address that offers `services`.
    #[must_use]
    pub fn new(services: Services, address: SocketAddr) -> Self {
        Self { services, ip: address.ip().to_canonical(), port: address.port() }
    }

    /// IP and port, to connect to.
    #[must_use]
    pub const fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            services: Services(reader.u64()?),
            ip: IpAddr::V6(Ipv6Addr::from(reader.array::<16>()?)).to_canonical(),
            port: reader.u16_be()?,
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.services.0.to_le_bytes());
        let ip = match self.ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&self.port.to_be_bytes());
    }
}

/// Without services.
impl From<SocketAddr> for NetworkAddress {
    fn from(address: SocketAddr) -> Self {
        Self::new(Services::NONE, address)
    }
}

/// An address and when a peer was last seen there; one item of `addr`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | time | 4 | Unix seconds, little-endian |
/// | address | 26 | as in `version` |
///
/// The message is a compact size, at most 1,000, and the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TimestampedAddress {
    /// When the peer was last seen, in Unix seconds.
    pub time: u32,
    /// Where.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub address: NetworkAddress,
}

impl TimestampedAddress {
    /// Bytes on the wire.
    pub(super) const LEN: usize = 30;
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Vec<TimestampedAddress>, DecodeError> {
    let count = reader.count(TimestampedAddress::LEN)?;
    if count > MAX_ADDRESSES {
        return Err(DecodeError::TooManyItems { count: count as u64, limit: MAX_ADDRESSES as u64 });
    }
    reader.items(count, |reader| {
        Ok(TimestampedAddress { time: reader.u32()?, address: NetworkAddress::read(reader)? })
    })
}

pub(super) fn write(addresses: &[TimestampedAddress], out: &mut Vec<u8>) {
    write_compact_size(out, addresses.len() as u64);
    for TimestampedAddress { time, address } in addresses {
        out.extend_from_slice(&time.to_le_bytes());
        address.write(out);
    }
}

/// `MAX_ADDR_TO_SEND` of the node.
const MAX_ADDRESSES: usize = 1_000;
