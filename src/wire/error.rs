//! What can be wrong with bytes: in a frame's header, in a payload, in the text of a hash.
//!
//! Layer 1. Sections 1.6 and 6.1 of the wire specification.

use std::error::Error;
use std::fmt;

use super::Command;

/// What is wrong with a frame.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The header names another network.
    WrongMagic {
        /// The four bytes received.
        got: [u8; 4],
    },
    /// The command holds a byte outside 0x20..=0x7e, or a non-zero byte after a zero.
    BadCommand {
        /// The twelve bytes received.
        got: [u8; 12],
    },
    /// The announced payload is over the limit for its command; sizes are in bytes.
    PayloadTooLarge {
        /// The frame's command; for an extended header, the real one.
        command: Command,
        /// The announced size.
        length: u64,
        /// The largest size accepted.
        limit: u64,
    },
    /// The payload does not hash to the header's checksum.
    BadChecksum {
        /// The frame's command.
        command: Command,
        /// The checksum the header holds.
        expected: [u8; 4],
        /// The checksum of the payload received.
        got: [u8; 4],
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongMagic { got } => write!(f, "wrong network magic {got:02x?}"),
            Self::BadCommand { got } => write!(f, "malformed command field {got:02x?}"),
            Self::PayloadTooLarge { command, length, limit } => {
                write!(f, "{command} payload of {length} bytes is over the limit of {limit}")
            }
            Self::BadChecksum { command, expected, got } => {
                write!(f, "{command} payload hashes to {got:02x?}, its header says {expected:02x?}")
            }
        }
    }
}

impl Error for FrameError {}

/// What is wrong with a payload.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The payload ends inside a field.
    UnexpectedEnd,
    /// A compact size is not in its shortest form.
    NonCanonicalCompactSize,
    /// A compact size is over 0xffffffff, which no node accepts.
    CompactSizeTooLarge {
        /// The value read.
        value: u64,
    },
    /// More items than the message may hold.
    TooManyItems {
        /// The announced count.
        count: u64,
        /// The largest count accepted.
        limit: u64,
    },
    /// A field is longer than it may be; sizes are in bytes.
    FieldTooLong {
        /// The field's name in the specification.
        field: &'static str,
        /// The announced length.
        length: u64,
        /// The largest length accepted.
        limit: u64,
    },
    /// A field holds a value that the protocol does not allow.
    InvalidValue {
        /// The field's name in the specification.
        field: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => f.write_str("payload ends inside a field"),
            Self::NonCanonicalCompactSize => f.write_str("compact size is not in its shortest form"),
            Self::CompactSizeTooLarge { value } => write!(f, "compact size {value} is over 0xffffffff"),
            Self::TooManyItems { count, limit } => write!(f, "{count} items are over the limit of {limit}"),
            Self::FieldTooLong { field, length, limit } => {
                write!(f, "{field} of {length} bytes is over the limit of {limit}")
            }
            Self::InvalidValue { field } => write!(f, "{field} holds a value the protocol does not allow"),
        }
    }
}

impl Error for DecodeError {}

/// Why a text is not a hash.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseHashError {
    /// Not the right number of digits.
    Length {
        /// Digits given.
        got: usize,
        /// Digits expected.
        expected: usize,
    },
    /// Not a hexadecimal digit.
    Digit {
        /// The digit's position from the left, from 0.
        position: usize,
    },
}

impl fmt::Display for ParseHashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { got, expected } => write!(f, "{got} hexadecimal digits, expected {expected}"),
            Self::Digit { position } => write!(f, "no hexadecimal digit at position {position}"),
        }
    }
}

impl Error for ParseHashError {}
