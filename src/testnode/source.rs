//! Bytes that are made while they leave, and what a lying node changes in them.
//!
//! Pure. Sections 1.1, 1.2 and 2.13 of the wire specification.

use sha2::{Digest, Sha256};

use super::generator::Generator;
use crate::message::BlockHeader;
use crate::wire::{FrameHeader, Reader, write_compact_size};

/// A payload, or a frame, of any length.
#[derive(Clone, Debug)]
pub(super) struct Source {
    prefix: Vec<u8>,
    /// What follows the prefix.
    body: Option<Generator>,
    /// Bytes that were taken.
    at: u64,
    /// All bytes, those taken included.
    len: u64,
    /// The places of the bytes that are flipped.
    flipped: Vec<u64>,
}

impl Source {
    pub(super) const fn of_bytes(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self { prefix: bytes, body: None, at: 0, len, flipped: Vec::new() }
    }

    /// A block's header and its transactions.
    pub(super) fn of_block(header: &BlockHeader, count: u64, transactions: Generator, len: u64) -> Self {
        let mut prefix = header.encode().to_vec();
        write_compact_size(&mut prefix, count);
        Self { prefix, body: Some(transactions), at: 0, len, flipped: Vec::new() }
    }

    /// All bytes, those taken included.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that are still to come.
    pub(super) const fn left(&self) -> u64 {
        self.len - self.at
    }

    /// Appends the next bytes, at most `limit`; fewer only at the end.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, limit: usize) {
        let start = out.len();
        let n = usize::try_from(self.left()).unwrap_or(usize::MAX).min(limit);
        let prefix = usize::try_from(self.at).ok().and_then(|at| self.prefix.get(at..)).unwrap_or_default();
        let prefix = &prefix[..prefix.len().min(n)];
        out.extend_from_slice(prefix);
        if let Some(body) = &mut self.body {
            body.fill(out, n - prefix.len());
        }
        let end = self.at + (out.len() - start) as u64;
        for place in self.flipped.iter().filter(|place| (self.at..end).contains(place)) {
            out[start + (place - self.at) as usize] ^= 0xff;
        }
        self.at = end;
    }

    /// The double SHA-256 of all that is still to come, which takes as long as that is long.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut source = self.clone();
        let mut hasher = Sha256::new();
        let mut buffer = Vec::with_capacity(HASHED);
        while source.left() > 0 {
            buffer.clear();
            source.fill(&mut buffer, HASHED);
            hasher.update(&buffer);
        }
        Sha256::digest(hasher.finalize()).into()
    }

    /// Flips the byte at this place, or the last one if there are not so many.
    pub(super) fn flip(&mut self, place: u64) {
        self.flipped.push(place.min(self.len.saturating_sub(1)));
    }

    /// Takes bytes off the end.
    pub(super) fn shorten(&mut self, bytes: u64) {
        self.len = self.len.saturating_sub(bytes).max(self.at);
    }

    /// Makes a block say that it has so many more transactions than it has.
    pub(super) fn miscount(&mut self, more: i64) {
        let Some((header, behind)) = self.prefix.split_at_checked(BlockHeader::LEN) else { return };
        let mut reader = Reader::new(behind);
        let Ok(count) = reader.compact_size() else { return };
        let mut prefix = header.to_vec();
        write_compact_size(&mut prefix, count.saturating_add_signed(more));
        prefix.extend_from_slice(reader.rest());
        self.len = self.len - self.prefix.len() as u64 + prefix.len() as u64;
        self.prefix = prefix;
    }

    /// This payload behind the header of a frame.
    pub(super) fn framed(mut self, header: &FrameHeader) -> Self {
        let mut prefix = Vec::with_capacity(header.encoded_len() + self.prefix.len());
        header.encode(&mut prefix);
        let header_len = prefix.len() as u64;
        prefix.append(&mut self.prefix);
        self.prefix = prefix;
        self.len += header_len;
        self.flipped.iter_mut().for_each(|place| *place += header_len);
        self
    }
}

/// What is hashed at once; bytes.
const HASHED: usize = 64 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testnode::generator::{Contents, Layout};
    use crate::wire::{BlockHash, Command, MerkleRoot, sha256d};

    const HEADER: BlockHeader = BlockHeader {
        version: 1,
        previous: BlockHash::ZERO,
        merkle_root: MerkleRoot::ZERO,
        time: 0,
        bits: 0,
        nonce: 0,
    };

    fn source() -> Source {
        let layout = Layout::new(5, Contents::Mixed { bytes: 200_000 }, None);
        Source::of_block(&HEADER, layout.count, layout.generator(), layout.size)
    }

    fn bytes(mut source: Source, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while source.left() > 0 {
            source.fill(&mut bytes, step);
        }
        assert_eq!(bytes.len() as u64, source.len());
        bytes
    }

    #[test]
    fn changes_are_the_same_at_every_split() {
        let honest = bytes(source(), 1 << 20);
        let mut lie = source();
        [0, 79, 85, 100_000, 199_999, 1 << 40].into_iter().for_each(|place| lie.flip(place));
        let frame = FrameHeader::new([1, 2, 3, 4], Command::BLOCK, lie.len(), [0; 4]);
        let framed = lie.clone().framed(&frame);
        let lying = bytes(lie.clone(), 1 << 20);
        let differ: Vec<_> = (0..honest.len()).filter(|i| honest[*i] != lying[*i]).collect();
        // The last one twice, which makes it honest again.
        assert_eq!(differ, [0, 79, 85, 100_000]);
        assert_eq!(lie.digest(), sha256d(&lying));
        for step in [1, 24, 80, 81, 9_999] {
            assert!(bytes(lie.clone(), step) == lying, "in steps of {step}");
            assert!(bytes(framed.clone(), step)[24..] == lying, "in steps of {step}");
        }
    }

    #[test]
    fn a_wrong_count_moves_all_behind_it() {
        let honest = bytes(source(), 1 << 20);
        let count = Reader::new(&honest[80..]).compact_size().unwrap();
        for source in [source(), Source::of_bytes(honest.clone())] {
            let mut fewer = source.clone();
            fewer.miscount(-(count as i64) + 1);
            assert!(bytes(fewer, 1_000) == [&honest[..80], &[1], &honest[83..]].concat());
            let mut more = source;
            more.miscount(1);
            assert_eq!(Reader::new(&bytes(more, 1_000)[80..]).compact_size(), Ok(count + 1));
        }
    }

    #[test]
    fn what_is_shortened_ends_early() {
        let honest = bytes(source(), 1 << 20);
        let mut short = source();
        short.shorten(1_000);
        assert!(bytes(short, 700) == honest[..199_000]);
    }
}
