//! `reject`, in which a peer says that it refused a message and why.
//!
//! Sections 2.21 and 5.3 of the wire specification (BIP 61; the node's `src/consensus/validation.h`).

use std::fmt;

use super::Text;
use crate::wire::{BlockHash, Command, DecodeError, Reader, Txid, write_bytes};

/// The payload of `reject`.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | message | 1 + n | byte string, at most 12: the refused command |
/// | code | 1 | |
/// | reason | 1 + n | byte string, at most 111 |
/// | hash | 32 | of the refused transaction or block; absent for one that could not be parsed |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Reject {
    /// The command of the refused message.
    pub message: Text,
    /// The kind of fault.
    pub code: RejectCode,
    /// The node's words for it.
    pub reason: Text,
    /// What was refused, in wire order.
    #[cfg_attr(feature = "serde", serde(default, with = "super::hex::optional_hash"))]
    pub hash: Option<[u8; 32]>,
}

impl Reject {
    /// The refused transaction, if it is one and named.
    #[must_use]
    pub fn txid(&self) -> Option<Txid> {
        self.hash_if(Command::TX).map(Txid::from_wire)
    }

    /// The refused block, if it is one and named.
    #[must_use]
    pub fn block_hash(&self) -> Option<BlockHash> {
        self.hash_if(Command::BLOCK).map(BlockHash::from_wire)
    }

    fn hash_if(&self, command: Command) -> Option<[u8; 32]> {
        self.hash.filter(|_| self.message.as_str() == command.as_str())
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            message: Text::from_bytes(reader.bytes_up_to("message", MAX_MESSAGE_LEN)?),
            code: reader.u8()?.into(),
            reason: Text::from_bytes(reader.bytes_up_to("reason", MAX_REASON_LEN)?),
            // Fewer bytes than a hash has are a tail to ignore.
            hash: reader.array().ok(),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, self.message.as_bytes());
        out.push(self.code.into());
        write_bytes(out, self.reason.as_bytes());
        if let Some(hash) = &self.hash {
            out.extend_from_slice(hash);
        }
    }
}

macro_rules! reject_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// The kind of fault that a `reject` names.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
        pub enum RejectCode {
            $($(#[$doc])* $name,)*
            /// Any other number.
            Other(u8),
        }

        impl From<u8> for RejectCode {
            fn from(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)*
                    other => Self::Other(other),
                }
            }
        }

        impl From<RejectCode> for u8 {
            fn from(code: RejectCode) -> Self {
                match code {
                    $(RejectCode::$name => $code,)*
                    RejectCode::Other(other) => other,
                }
            }
        }

        /// Writes number and name, as in `0x10 invalid`.
        impl fmt::Display for RejectCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = match self {
                    $(Self::$name => $text,)*
                    Self::Other(_) => "unknown",
                };
                write!(f, "{:#04x} {name}", u8::from(*self))
            }
        }
    };
}

reject_codes! {
    /// 0x01: the message could not be parsed; comes without a hash.
    Malformed = 0x01, "malformed";
    /// 0x10: a transaction or block breaks the rules.
    Invalid = 0x10, "invalid";
    /// 0x11: the version is too old.
    Obsolete = 0x11, "obsolete";
    /// 0x12: a second `version`, or a double spend.
    Duplicate = 0x12, "duplicate";
    /// 0x13: a block spends frozen outputs.
    SoftConsensusFreeze = 0x13, "soft consensus freeze";
    /// 0x40: against the node's policy.
    NonStandard = 0x40, "nonstandard";
    /// 0x41: an output is too small; SV Node says 0x40 instead.
    Dust = 0x41, "dust";
    /// 0x42: the fee is too low, or the mempool full.
    InsufficientFee = 0x42, "insufficient fee";
    /// 0x43: a header contradicts a checkpoint.
    Checkpoint = 0x43, "checkpoint";
    /// 0x44: `getdata` refused for now; ask again after some seconds.
    TooBusy = 0x44, "too busy";
    /// 0x45: a non-final transaction was replaced too often.
    RateExceeded = 0x45, "rate exceeded";
    /// 0x60: a broken `version`, or a stream that cannot be set up.
    StreamSetup = 0x60, "stream setup";
    /// 0x70: the authentication failed.
    AuthConnSetup = 0x70, "auth connection setup";
}

/// A command's length.
const MAX_MESSAGE_LEN: usize = 12;
/// `MAX_REJECT_MESSAGE_LENGTH` of the node.
const MAX_REASON_LEN: usize = 111;
