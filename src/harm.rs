//! What nodes ban, disconnect or give points for, found before it is sent.
//!
//! Sections 2 and 9 of the wire specification.

use std::fmt;

use crate::message::{FilterLoad, InventoryKind, Message, Services};
use crate::wire::{Command, DecodeError};

/// Why a message would harm our standing with a peer.
///
/// Such messages are refused where they are sent; [`Conduit::send_anyway`](crate::Conduit::send_anyway) sends them all the
/// same.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Harm {
    /// `mempool`: nodes end the connection unless they are set up to answer us.
    Mempool,
    /// A filter for a peer that does not offer [`Services::BLOOM`]: nodes ban for it.
    FilterNotOffered,
    /// A filter, or an element for one, over the size that nodes accept: they ban for it.
    FilterTooLarge,
    /// An `inv` with something else than transactions and blocks: nodes end the connection.
    InventoryKind {
        /// The first such kind.
        kind: InventoryKind,
    },
    /// A message of the handshake, which the conduit has sent itself: a second `protoconf` ends the connection, a second
    /// `version` costs a point.
    Handshake {
        /// Its command.
        command: Command,
    },
    /// A message that may be sent once for each connection: the second one costs a point.
    Repeated {
        /// Its command.
        command: Command,
    },
    /// A message for setting up streams: nodes end an established connection for it.
    StreamSetup {
        /// Its command.
        command: Command,
    },
    /// More items than nodes accept in one message, which costs 20 points.
    TooManyItems {
        /// The message's command.
        command: Command,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A command that begins with `extmsg`, which is no message but the form of a header: what follows would be misread.
    ExtendedHeader,
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mempool => f.write_str("nodes end the connection for mempool"),
            Self::FilterNotOffered => f.write_str("the peer does not offer filters and would ban us"),
            Self::FilterTooLarge => f.write_str("nodes ban for a filter of this size"),
            Self::InventoryKind { kind } => {
                write!(f, "nodes end the connection for inv of kind {}", u32::from(*kind))
            }
            Self::Handshake { command } => write!(f, "{command} was sent in the handshake"),
            Self::Repeated { command } => write!(f, "{command} was sent before and may be sent once"),
            Self::StreamSetup { command } => write!(f, "nodes end an established connection for {command}"),
            Self::TooManyItems { command, count, limit } => {
                write!(f, "{command} of {count} items is over the limit of {limit}")
            }
            Self::ExtendedHeader => f.write_str("extmsg is the form of a header, not a message"),
        }
    }
}

/// What there is against sending a message to a peer that offers these services.
pub(crate) fn harm_of(message: &Message, services: Services) -> Option<Harm> {
    let command = message.command();
    let too_many = |count, limit| (count > limit).then_some(Harm::TooManyItems { command, count, limit });
    harm_of_command(command, services).or_else(|| match message {
        // The same bytes do the same harm, whatever they are held as here.
        Message::Unknown { payload, .. } => match Message::decode(command, payload) {
            Ok(Message::Unknown { .. }) => None,
            Ok(known) => harm_of(&known, services),
            Err(DecodeError::TooManyItems { count, .. }) => {
                too_many(usize::try_from(count).unwrap_or(usize::MAX), max_items(command)?)
            }
            // Nodes say that it does not parse, which costs nothing.
            Err(_) => None,
        },
        Message::FilterLoad(filter) => is_too_large(filter).then_some(Harm::FilterTooLarge),
        Message::FilterAdd(element) => (!element.is_within_limits()).then_some(Harm::FilterTooLarge),
        Message::Inv(items) => {
            let is_legal = |kind| matches!(kind, InventoryKind::Transaction | InventoryKind::Block);
            let other = items.iter().map(|item| item.kind).find(|&kind| !is_legal(kind))?;
            Some(Harm::InventoryKind { kind: other })
        }
        Message::Headers(headers) => too_many(headers.len(), max_items(command)?),
        Message::Addr(addresses) => too_many(addresses.len(), max_items(command)?),
        _ => None,
    })
}

/// What there is against a message whatever it holds, be it no such message at all.
fn harm_of_command(command: Command, services: Services) -> Option<Harm> {
    match command {
        Command::MEMPOOL => Some(Harm::Mempool),
        // Nodes look at their services before they look at the payload.
        Command::FILTERLOAD | Command::FILTERADD => {
            (!services.contains(Services::BLOOM)).then_some(Harm::FilterNotOffered)
        }
        Command::VERSION | Command::VERACK | Command::PROTOCONF => Some(Harm::Handshake { command }),
        Command::CREATESTRM | Command::STREAMACK => Some(Harm::StreamSetup { command }),
        // Nodes compare the first six bytes only.
        _ if command.as_str().starts_with("extmsg") => Some(Harm::ExtendedHeader),
        _ => None,
    }
}

/// Sections 1.5, 2.3 and 2.11 of the wire specification.
fn max_items(command: Command) -> Option<usize> {
    match command {
        Command::HEADERS => Some(2_000),
        Command::ADDR => Some(1_000),
        _ => None,
    }
}

fn is_too_large(filter: &FilterLoad) -> bool {
    !filter.is_within_limits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Inventory, ProtoConf};
    use crate::wire::SharedBytes;

    #[test]
    fn what_nodes_punish_is_found_under_any_name() {
        let none = Services::NETWORK;
        let inv = |kind: u32| Message::Inv(vec![Inventory { kind: kind.into(), hash: [0; 32] }]);
        let kind = |kind: u32| Some(Harm::InventoryKind { kind: kind.into() });
        let cases = [
            (Message::Mempool { age_seconds: None }, Some(Harm::Mempool)),
            (Message::Ping { nonce: 1 }, None),
            (Message::FilterClear, None),
            (inv(1), None),
            (inv(2), None),
            (inv(3), kind(3)),
            (inv(0x4000_0001), kind(0x4000_0001)),
            (Message::GetData(vec![Inventory { kind: 3.into(), hash: [0; 32] }]), None),
            (
                Message::ProtoConf(ProtoConf::new(2_000_000, "Default")),
                Some(Harm::Handshake { command: Command::PROTOCONF }),
            ),
        ];
        for (message, harm) in cases {
            assert_eq!(harm_of(&message, none), harm, "{message:?}");
            let mut payload = Vec::new();
            message.encode_payload(&mut payload);
            let unknown = Message::Unknown { command: message.command(), payload: SharedBytes::from(payload) };
            assert_eq!(harm_of(&unknown, none), harm, "{message:?} as bytes");
        }
        for command in [Command::EXTMSG, Command::new("extmsgfoo").expect("a command")] {
            let extmsg = Message::Unknown { command, payload: SharedBytes::default() };
            assert_eq!(harm_of(&extmsg, none), Some(Harm::ExtendedHeader));
        }
    }

    #[test]
    fn bytes_that_do_not_decode_are_no_way_around() {
        let unknown = |command, payload: Vec<u8>| Message::Unknown { command, payload: payload.into() };
        let none = Services::NETWORK;
        for command in [Command::VERSION, Command::PROTOCONF] {
            assert_eq!(harm_of(&unknown(command, vec![0]), none), Some(Harm::Handshake { command }));
        }
        for command in [Command::CREATESTRM, Command::STREAMACK] {
            assert_eq!(harm_of(&unknown(command, vec![]), none), Some(Harm::StreamSetup { command }));
        }
        for command in [Command::FILTERLOAD, Command::FILTERADD] {
            assert_eq!(harm_of(&unknown(command, vec![]), none), Some(Harm::FilterNotOffered));
            assert_eq!(
                harm_of(&unknown(command, vec![]), Services::BLOOM),
                None,
                "nodes say that it does not parse"
            );
        }
        assert_eq!(harm_of(&unknown(Command::MEMPOOL, vec![1, 2]), none), Some(Harm::Mempool));
        // More items than we would decode, too.
        for (command, each, limit) in [(Command::HEADERS, 81, 2_000), (Command::ADDR, 30, 1_000)] {
            let count = limit + 1;
            let items = |count: usize| {
                let mut payload = vec![0xfd, count as u8, (count >> 8) as u8];
                payload.resize(3 + count * each, 0);
                unknown(command, payload)
            };
            assert_eq!(harm_of(&items(limit), none), None);
            assert_eq!(harm_of(&items(count), none), Some(Harm::TooManyItems { command, count, limit }));
        }
        assert_eq!(harm_of(&unknown(Command::INV, vec![1]), none), None);
    }

    #[test]
    fn a_filter_needs_the_service_and_a_size_within_limits() {
        let load =
            |len| Message::FilterLoad(FilterLoad { filter: vec![0; len], hash_functions: 1, tweak: 0, flags: 0 });
        assert_eq!(harm_of(&load(10), Services::NETWORK), Some(Harm::FilterNotOffered));
        assert_eq!(harm_of(&load(36_000), Services::BLOOM), None);
        assert_eq!(harm_of(&load(36_001), Services::BLOOM), Some(Harm::FilterTooLarge));
    }
}
