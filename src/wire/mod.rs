//! Layer 1: bytes and frames. Headers, `extmsg`, the push decoder, checksums, hashes and compact sizes.
//!
//! Pure: no I/O, no clock, no locks. Implements sections 1 and 6.1 to 6.2 of the wire specification, which
//! follows the node's `src/protocol.cpp` and `src/serialize.h`.

mod bytes;
mod codec;
mod command;
mod decoder;
mod error;
mod frame;
mod hash;
mod header;
#[cfg(feature = "serde")]
pub(crate) mod hex;

pub use bytes::SharedBytes;
pub use codec::{Reader, compact_size_len, write_bytes, write_compact_size};
pub use command::Command;
pub use decoder::{FrameDecoder, FramePart, PayloadLimits};
pub use error::{DecodeError, FrameError, ParseHashError};
pub use frame::Frame;
pub use hash::{BlockHash, MerkleRoot, Txid, sha256d};
pub use header::{FrameHeader, checksum};

#[cfg(any(test, feature = "serde"))]
pub(crate) use hash::parse_hex;
