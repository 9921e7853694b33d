//! `getheaders`, `gethdrsen` and `getblocks`: three questions of one layout about the blocks after a locator.
//!
//! Sections 2.7 to 2.9 of the wire specification (the node's `src/net/net_processing.cpp`).

use super::PROTOCOL_VERSION;
use crate::wire::{BlockHash, DecodeError, Reader, write_compact_size};

macro_rules! locator_request {
    ($(#[$doc:meta])* $name:ident, new: $new:literal, stop: $stop:literal, stop_at: $stop_at:literal) => {
        $(#[$doc])*
        ///
        /// | field | bytes | encoding |
        /// |---|---|---|
        /// | version | 4 | little-endian, ignored |
        /// | count | 1 to 9 | compact size |
        /// | locator | 32 each | hashes, newest first |
        #[doc = concat!("| stop | 32 | ", $stop, " |")]
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name {
            /// Ignored by nodes.
            pub version: u32,
            /// Hashes of blocks the sender has, newest first.
            pub locator: Vec<BlockHash>,
            #[doc = concat!("The ", $stop, ".")]
            pub stop: BlockHash,
        }

        impl $name {
            #[doc = $new]
            #[must_use]
            pub fn new(locator: impl Into<Vec<BlockHash>>) -> Self {
                Self { version: PROTOCOL_VERSION.unsigned_abs(), locator: locator.into(), stop: BlockHash::ZERO }
            }

            #[doc = $stop_at]
            #[must_use]
            pub fn stop_at(mut self, stop: BlockHash) -> Self {
                self.stop = stop;
                self
            }

            pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let (version, locator, stop) = read(reader)?;
                Ok(Self { version, locator, stop })
            }

            pub(super) fn write(&self, out: &mut Vec<u8>) {
                write(self.version, &self.locator, self.stop, out);
            }
        }
    };
}

locator_request! {
    /// The payload of `getheaders`: asks for the headers that follow the first locator hash on the active chain.
    ///
    /// With an empty locator the reply is the one header of `stop`.
    GetHeaders,
    new: "Asks for all headers after `locator`.",
    stop: "hash of the last header wanted; zero for as many as there are, up to 2,000",
    stop_at: "Ends the reply with the header of `stop`."
}

locator_request! {
    /// The payload of `gethdrsen`: asks as `getheaders` does, for headers with their coinbase transactions.
    ///
    /// With an empty locator the reply is the one header of `stop`.
    GetHdrsEn,
    new: "Asks for all headers after `locator`.",
    stop: "hash of the last header wanted; zero for as many as there are, up to 2,000",
    stop_at: "Ends the reply with the header of `stop`."
}

locator_request! {
    /// The payload of `getblocks`: asks for an `inv` of the blocks that follow the first locator hash on the active
    /// chain.
    ///
    /// A node with nothing to list does not reply. Nothing in a reply ties it to its question, so as a request it may take a
    /// block that the node announces meanwhile for its answer; [`GetHeaders`] does not.
    GetBlocks,
    new: "Asks for all block hashes after `locator`.",
    stop: "hash before which the reply ends; zero for as many as there are, up to 500",
    stop_at: "Ends the reply before `stop`, which is not listed itself."
}

fn read(reader: &mut Reader<'_>) -> Result<(u32, Vec<BlockHash>, BlockHash), DecodeError> {
    let version = reader.u32()?;
    let count = reader.count(32)?;
    let locator = reader.items(count, |reader| Ok(BlockHash::from_wire(reader.array()?)))?;
    Ok((version, locator, BlockHash::from_wire(reader.array()?)))
}

fn write(version: u32, locator: &[BlockHash], stop: BlockHash, out: &mut Vec<u8>) {
    out.extend_from_slice(&version.to_le_bytes());
    write_compact_size(out, locator.len() as u64);
    for hash in locator {
        out.extend_from_slice(hash.as_wire());
    }
    out.extend_from_slice(stop.as_wire());
}
