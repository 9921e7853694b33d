//! Finds where the transactions of a block end, in bytes that arrive in pieces of any size.
//!
//! Pure; depends on `wire` only. Sections 2.13, 6.1, 6.4 and 6.5 of the wire specification (the node's
//! `src/primitives/block.h`, `src/primitives/transaction.h`, `src/serialize.h`).

use std::error::Error;
use std::fmt;

/// Finds the boundaries in the payload of a `block`, at any split, and stores none of it.
///
/// Every count and length is held against the bytes that are left the moment it is read, so a lie never costs more
/// than the bytes before it. What is between the boundaries is not looked at: scripts are jumped over.
///
/// ```
/// use conduit::block::{BlockScanner, Boundary};
///
/// # let header = [0; 80];
/// # let transaction = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// let block = [&header[..], &[2], &transaction, &transaction].concat();
/// let mut scanner = BlockScanner::new(block.len() as u64)?;
/// let mut found = Vec::new();
/// for mut piece in block.chunks(7) {
///     while !piece.is_empty() {
///         let (taken, boundary) = scanner.scan(piece)?;
///         piece = &piece[taken..];
///         found.extend(boundary.map(|boundary| (scanner.position(), boundary)));
///     }
/// }
/// scanner.finish()?;
/// let expected = [
///     (80, Boundary::Header),
///     (81, Boundary::Count(2)),
///     (91, Boundary::Transaction),
///     (101, Boundary::End),
/// ];
/// assert_eq!(found, expected);
/// # Ok::<(), conduit::block::ScanError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockScanner {
    /// Bytes taken so far.
    position: u64,
    /// Bytes of the payload that nothing read so far calls for. Each count and length takes its share at once, so
    /// bytes that only follow do not change it, and what remains at the end is left over.
    slack: u64,
    /// Bytes to jump over before `next`.
    skip: u64,
    next: Next,
    /// Transactions that have not ended.
    transactions: u64,
    /// Inputs of this transaction whose script's length was not read, or else outputs.
    items: u64,
    /// The bytes of a compact size that has not fully arrived.
    partial: [u8; MAX_COMPACT_SIZE_LEN],
    partial_len: usize,
    error: Option<ScanError>,
}

/// A place in a block that its scanner stops at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// The header's 80 bytes end here.
    Header,
    /// The count of transactions ends here, and this is it.
    Count(u64),
    /// A transaction ends here, and others follow.
    Transaction,
    /// The last transaction ends here, and the payload with it.
    End,
}

impl BlockScanner {
    /// Starts before the first byte of a payload that is announced to have `size` bytes.
    ///
    /// # Errors
    ///
    /// [`ScanError::TooSmall`].
    pub const fn new(size: u64) -> Result<Self, ScanError> {
        let Some(slack) = size.checked_sub(MIN_BLOCK_LEN) else {
            return Err(ScanError::TooSmall { size });
        };
        Ok(Self {
            position: 0,
            slack,
            skip: HEADER_LEN,
            next: Next::Header,
            transactions: 0,
            items: 0,
            partial: [0; MAX_COMPACT_SIZE_LEN],
            partial_len: 0,
            error: None,
        })
    }

    /// Takes bytes from the front of `input` up to the first boundary, or all of them if there is none.
    ///
    /// Gives how many were taken. Nothing is taken behind the end of the payload.
    ///
    /// # Errors
    ///
    /// What cannot be true of this payload; every later call says the same.
    pub fn scan(&mut self, input: &[u8]) -> Result<(usize, Option<Boundary>), ScanError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.scan_checked(input).inspect_err(|error| self.error = Some(*error))
    }

    /// Where the next byte belongs in the payload.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Whether the last transaction ended, and the payload with it.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// Confirms that no byte is missing, once there are no more to scan.
    ///
    /// # Errors
    ///
    /// [`ScanError::UnexpectedEnd`], or what an earlier call refused.
    pub const fn finish(&self) -> Result<(), ScanError> {
        match self.error {
            Some(error) => Err(error),
            None if self.is_complete() => Ok(()),
            None => Err(ScanError::UnexpectedEnd { at: self.position }),
        }
    }

    fn scan_checked(&mut self, input: &[u8]) -> Result<(usize, Option<Boundary>), ScanError> {
        if self.next == Next::InputCount
            && self.skip == VERSION_LEN
            && let Some((taken, slack)) = self.whole_transaction(input)?
        {
            self.slack = slack;
            self.position += taken as u64;
            return Ok((taken, Some(self.end_transaction()?)));
        }
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            if self.skip > rest.len() as u64 {
                self.skip -= rest.len() as u64;
                self.position += rest.len() as u64;
                return Ok((input.len(), None));
            }
            // It is at most the length of a slice.
            let skip = self.skip as usize;
            self.skip = 0;
            self.position += skip as u64;
            taken += skip;
            let boundary = match self.next {
                Next::Nothing => return Ok((taken, None)),
                Next::Header => {
                    self.next = Next::TransactionCount;
                    Some(Boundary::Header)
                }
                Next::TransactionEnd => Some(self.end_transaction()?),
                _ => {
                    let (n, value) = self.compact_size(&input[taken..])?;
                    taken += n;
                    let Some(value) = value else { return Ok((taken, None)) };
                    self.claim(value)?
                }
            };
            if boundary.is_some() {
                return Ok((taken, boundary));
            }
        }
    }

    /// Reads past a transaction that lies in the input as a whole; gives its length, and the slack behind it.
    fn whole_transaction(&self, input: &[u8]) -> Result<Option<(usize, u64)>, ScanError> {
        let mut walk = Walk { input, at: 0, position: self.position, slack: self.slack };
        walk.skip(VERSION_LEN);
        let Some(inputs) = walk.compact_size(Claim::Inputs)? else { return Ok(None) };
        for _ in 0..inputs {
            walk.skip(OUT_POINT_LEN);
            let Some(script) = walk.compact_size(Claim::Script)? else { return Ok(None) };
            walk.skip(script + SEQUENCE_LEN);
        }
        let Some(outputs) = walk.compact_size(Claim::Outputs)? else { return Ok(None) };
        for _ in 0..outputs {
            walk.skip(VALUE_LEN);
            let Some(script) = walk.compact_size(Claim::Script)? else { return Ok(None) };
            walk.skip(script);
        }
        walk.skip(LOCK_TIME_LEN);
        Ok((walk.at <= input.len()).then_some((walk.at, walk.slack)))
    }

    /// Gathers a compact size; gives the bytes taken, and the value if that was its last byte.
    fn compact_size(&mut self, input: &[u8]) -> Result<(usize, Option<CompactSize>), ScanError> {
        let Some(&first) = self.partial[..self.partial_len].first().or(input.first()) else {
            return Ok((0, None));
        };
        let at = self.position - self.partial_len as u64;
        let len = encoded_len(first);
        if len as u64 - 1 > self.slack {
            return Err(ScanError::UnexpectedEnd { at });
        }
        let n = (len - self.partial_len).min(input.len());
        self.partial[self.partial_len..self.partial_len + n].copy_from_slice(&input[..n]);
        self.partial_len += n;
        if self.partial_len < len {
            self.position += n as u64;
            return Ok((n, None));
        }
        self.partial_len = 0;
        let size = CompactSize::read(&self.partial[..len], at)?;
        self.position += n as u64;
        Ok((n, Some(size)))
    }

    /// Takes in what a compact size claims, and finds what comes behind it.
    fn claim(&mut self, size: CompactSize) -> Result<Option<Boundary>, ScanError> {
        let value = size.value;
        match self.next {
            Next::TransactionCount => {
                self.slack = size.slack_behind(Claim::Transactions, self.slack)?;
                if value == 0 {
                    return Err(ScanError::NoTransactions);
                }
                self.transactions = value;
                (self.skip, self.next) = (VERSION_LEN, Next::InputCount);
                return Ok(Some(Boundary::Count(value)));
            }
            Next::InputCount => {
                self.slack = size.slack_behind(Claim::Inputs, self.slack)?;
                self.items = value;
                (self.skip, self.next) =
                    if value == 0 { (0, Next::OutputCount) } else { (OUT_POINT_LEN, Next::InputScript) };
            }
            Next::InputScript => {
                self.slack = size.slack_behind(Claim::Script, self.slack)?;
                self.items -= 1;
                let rest = value + SEQUENCE_LEN;
                (self.skip, self.next) = match self.items {
                    0 => (rest, Next::OutputCount),
                    _ => (rest + OUT_POINT_LEN, Next::InputScript),
                };
            }
            Next::OutputCount => {
                self.slack = size.slack_behind(Claim::Outputs, self.slack)?;
                self.items = value;
                (self.skip, self.next) = match value {
                    0 => (LOCK_TIME_LEN, Next::TransactionEnd),
                    _ => (VALUE_LEN, Next::OutputScript),
                };
            }
            Next::OutputScript => {
                self.slack = size.slack_behind(Claim::Script, self.slack)?;
                self.items -= 1;
                (self.skip, self.next) = match self.items {
                    0 => (value + LOCK_TIME_LEN, Next::TransactionEnd),
                    _ => (value + VALUE_LEN, Next::OutputScript),
                };
            }
            Next::Header | Next::TransactionEnd | Next::Nothing => {}
        }
        Ok(None)
    }

    /// Stands behind the last byte of a transaction.
    fn end_transaction(&mut self) -> Result<Boundary, ScanError> {
        self.transactions -= 1;
        if self.transactions > 0 {
            (self.skip, self.next) = (VERSION_LEN, Next::InputCount);
            return Ok(Boundary::Transaction);
        }
        if self.slack > 0 {
            return Err(ScanError::TrailingBytes { at: self.position, count: self.slack });
        }
        (self.skip, self.next) = (0, Next::Nothing);
        Ok(Boundary::End)
    }
}

/// What stands behind the bytes that are jumped over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The header was jumped over.
    Header,
    TransactionCount,
    InputCount,
    InputScript,
    OutputCount,
    OutputScript,
    /// The lock time was jumped over.
    TransactionEnd,
    /// The last transaction ended.
    Nothing,
}

/// What a compact size in a block counts.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The transactions of the block.
    Transactions,
    /// The inputs of a transaction.
    Inputs,
    /// The outputs of a transaction.
    Outputs,
    /// The bytes of a script.
    Script,
}

impl Claim {
    /// The fewest bytes that one of these takes.
    const fn min_len(self) -> u64 {
        match self {
            Self::Transactions => MIN_TRANSACTION_LEN,
            Self::Inputs => MIN_INPUT_LEN,
            Self::Outputs => MIN_OUTPUT_LEN,
            Self::Script => 1,
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transactions => "transactions",
            Self::Inputs => "inputs",
            Self::Outputs => "outputs",
            Self::Script => "bytes of script",
        })
    }
}

/// A compact size that was read.
#[derive(Clone, Copy, Debug)]
struct CompactSize {
    value: u64,
    /// Where it stands in the payload.
    at: u64,
    /// Its bytes but the first, which was called for before.
    more_bytes: u64,
}

impl CompactSize {
    /// Reads all bytes of a compact size.
    fn read(bytes: &[u8], at: u64) -> Result<Self, ScanError> {
        let mut wide = [0; 8];
        let (value, smallest) = match bytes {
            [small] => (u64::from(*small), 0),
            [_, rest @ ..] => {
                wide[..rest.len()].copy_from_slice(rest);
                let smallest = match rest.len() {
                    2 => 0xfd,
                    4 => 0x1_0000,
                    _ => 0x1_0000_0000,
                };
                (u64::from_le_bytes(wide), smallest)
            }
            [] => return Err(ScanError::UnexpectedEnd { at }),
        };
        if value < smallest {
            return Err(ScanError::NonCanonical { at });
        }
        if value > MAX_COMPACT_SIZE {
            return Err(ScanError::CompactSizeTooLarge { at, value });
        }
        Ok(Self { value, at, more_bytes: bytes.len() as u64 - 1 })
    }

    /// Takes from the slack what this claims at least.
    const fn slack_behind(self, claim: Claim, slack: u64) -> Result<u64, ScanError> {
        // 32 bits of value, so no product is too large.
        let called_for = self.more_bytes + self.value * claim.min_len();
        match slack.checked_sub(called_for) {
            Some(slack) => Ok(slack),
            None => Err(ScanError::CannotFit { at: self.at, claim, value: self.value }),
        }
    }
}

/// Reads a transaction in one go.
struct Walk<'a> {
    input: &'a [u8],
    /// The next byte in the input; may be past its end.
    at: usize,
    /// Where the input belongs in the payload.
    position: u64,
    slack: u64,
}

impl Walk<'_> {
    /// Goes on; past the input the next read finds nothing.
    #[inline]
    fn skip(&mut self, len: u64) {
        self.at = self.at.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
    }

    /// The next compact size; `None` if it is not in the input as a whole.
    #[inline]
    fn compact_size(&mut self, claim: Claim) -> Result<Option<u64>, ScanError> {
        let Some(&first) = self.input.get(self.at) else { return Ok(None) };
        if first < 0xfd {
            let called_for = u64::from(first) * claim.min_len();
            if let Some(slack) = self.slack.checked_sub(called_for) {
                self.slack = slack;
                self.at += 1;
                return Ok(Some(u64::from(first)));
            }
        }
        self.long_compact_size(first, claim)
    }

    #[cold]
    fn long_compact_size(&mut self, first: u8, claim: Claim) -> Result<Option<u64>, ScanError> {
        let at = self.position + self.at as u64;
        let len = encoded_len(first);
        if len as u64 - 1 > self.slack {
            return Err(ScanError::UnexpectedEnd { at });
        }
        let Some(bytes) = self.input.get(self.at..self.at + len) else { return Ok(None) };
        let size = CompactSize::read(bytes, at)?;
        self.slack = size.slack_behind(claim, self.slack)?;
        self.at += len;
        Ok(Some(size.value))
    }
}

/// Why a payload is not a block.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// The payload is smaller than a header and a count.
    TooSmall {
        /// Its announced size in bytes.
        size: u64,
    },
    /// The count of transactions is zero.
    NoTransactions,
    /// The payload ends inside a field.
    UnexpectedEnd {
        /// Where the field begins, or where the bytes ended.
        at: u64,
    },
    /// A compact size is not in its shortest form.
    NonCanonical {
        /// Where it stands in the payload.
        at: u64,
    },
    /// A compact size is over 0xffffffff, which no node accepts.
    CompactSizeTooLarge {
        /// Where it stands in the payload.
        at: u64,
        /// The value read.
        value: u64,
    },
    /// What a count or length claims does not fit in the payload with all that was claimed before.
    CannotFit {
        /// Where it stands in the payload.
        at: u64,
        /// What it counts.
        claim: Claim,
        /// How many.
        value: u64,
    },
    /// Bytes are left over behind the last transaction.
    TrailingBytes {
        /// Where they begin.
        at: u64,
        /// How many.
        count: u64,
    },
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { size } => write!(f, "block of {size} bytes has no room for header and count"),
            Self::NoTransactions => f.write_str("block without transactions"),
            Self::UnexpectedEnd { at } => write!(f, "block ends inside a field at byte {at}"),
            Self::NonCanonical { at } => write!(f, "compact size at byte {at} is not in its shortest form"),
            Self::CompactSizeTooLarge { at, value } => {
                write!(f, "compact size {value} at byte {at} is over 0xffffffff")
            }
            Self::CannotFit { at, claim, value } => {
                write!(f, "the rest of the block has no room for {value} {claim}, claimed at byte {at}")
            }
            Self::TrailingBytes { at, count } => {
                write!(f, "{count} bytes behind the last transaction at byte {at}")
            }
        }
    }
}

impl Error for ScanError {}

/// Bytes of the compact size that begins with this one.
const fn encoded_len(first: u8) -> usize {
    match first {
        0xfd => 3,
        0xfe => 5,
        0xff => 9,
        _ => 1,
    }
}

const MAX_COMPACT_SIZE_LEN: usize = 9;
/// The largest compact size the node reads (`MAX_SIZE` in `src/serialize.h`).
const MAX_COMPACT_SIZE: u64 = 0xffff_ffff;
const HEADER_LEN: u64 = 80;
const VERSION_LEN: u64 = 4;
/// A txid and an index.
const OUT_POINT_LEN: u64 = 36;
const SEQUENCE_LEN: u64 = 4;
const VALUE_LEN: u64 = 8;
const LOCK_TIME_LEN: u64 = 4;
/// An out point, an empty script, a sequence.
const MIN_INPUT_LEN: u64 = OUT_POINT_LEN + 1 + SEQUENCE_LEN;
/// A value, an empty script.
const MIN_OUTPUT_LEN: u64 = VALUE_LEN + 1;
/// No inputs, no outputs.
const MIN_TRANSACTION_LEN: u64 = VERSION_LEN + 1 + 1 + LOCK_TIME_LEN;
/// A header and a count in one byte.
const MIN_BLOCK_LEN: u64 = HEADER_LEN + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::samples::{
        Random, ends_of, part_of_real_block, real_block, small_block, transaction, varied_block,
    };
    use crate::message::Block;
    use crate::wire::{sha256d, write_compact_size};

    type Found = (Vec<(u64, Boundary)>, Result<(), ScanError>);

    /// The boundaries that are found, and what ends it.
    fn scan<'a>(size: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> Found {
        let mut found = Vec::new();
        let mut scanner = match BlockScanner::new(size) {
            Ok(scanner) => scanner,
            Err(error) => return (found, Err(error)),
        };
        for mut piece in pieces {
            while !piece.is_empty() {
                let before = scanner.position();
                match scanner.scan(piece) {
                    Err(error) => {
                        assert_eq!(scanner.scan(piece), Err(error), "a refusal is final");
                        assert_eq!(scanner.finish(), Err(error));
                        return (found, Err(error));
                    }
                    Ok((taken, boundary)) => {
                        assert_eq!(scanner.position(), before + taken as u64);
                        assert!(taken == piece.len() || boundary.is_some(), "bytes left without a boundary");
                        found.extend(boundary.map(|boundary| (scanner.position(), boundary)));
                        piece = &piece[taken..];
                    }
                }
                if scanner.is_complete() {
                    assert_eq!(scanner.scan(&[0; 9]), Ok((0, None)), "nothing is taken behind the end");
                    return (found, scanner.finish());
                }
            }
        }
        (found, scanner.finish())
    }

    fn scan_whole(raw: &[u8]) -> Found {
        scan(raw.len() as u64, [raw])
    }

    fn scan_bytewise(raw: &[u8]) -> Found {
        scan(raw.len() as u64, raw.chunks(1))
    }

    /// What a parser of the whole block finds.
    fn boundaries_of(raw: &[u8]) -> Vec<(u64, Boundary)> {
        let ends = ends_of(raw);
        let mut found = vec![(80, Boundary::Header), (ends[0] as u64, Boundary::Count(ends.len() as u64 - 1))];
        found.extend(ends[1..].iter().map(|end| (*end as u64, Boundary::Transaction)));
        found.last_mut().unwrap().1 = Boundary::End;
        found
    }

    /// One transaction with these bytes for the script of its only input and what follows.
    fn block_with(count: &[u8], transactions: &[u8]) -> Vec<u8> {
        [&[9; 80], count, transactions].concat()
    }

    #[test]
    fn the_first_kilobytes_of_the_real_block_scan_the_same_at_every_split() {
        let raw = real_block();
        let (size, first) = (raw.len() as u64, &raw[..6_000]);
        let mut expected = boundaries_of(&raw);
        expected.retain(|(at, _)| *at <= first.len() as u64);
        assert!(expected.len() > 10, "{expected:?}");
        let ends = Err(ScanError::UnexpectedEnd { at: first.len() as u64 });
        for at in 0..=first.len() {
            assert_eq!(scan(size, [&first[..at], &first[at..]]), (expected.clone(), ends), "split at {at}");
        }
        for len in 1..=first.len() {
            assert_eq!(scan(size, first.chunks(len)), (expected.clone(), ends), "pieces of {len}");
        }
    }

    #[test]
    fn the_whole_real_block_scans_the_same_at_random_splits() {
        let raw = real_block();
        let expected = (boundaries_of(&raw), Ok(()));
        assert_eq!(expected.0.len(), 2 + 1_557);
        for seed in 0..12 {
            assert_eq!(scan(raw.len() as u64, Random(seed).pieces(&raw)), expected, "seed {seed}");
        }
    }

    #[test]
    fn every_form_of_a_transaction_scans_the_same_at_every_split() {
        let raw = varied_block();
        let expected = (boundaries_of(&raw), Ok(()));
        for at in 0..=raw.len() {
            assert_eq!(scan(raw.len() as u64, [&raw[..at], &raw[at..]]), expected, "split at {at}");
        }
        for len in 1..=raw.len() {
            assert_eq!(scan(raw.len() as u64, raw.chunks(len)), expected, "pieces of {len}");
        }
    }

    #[test]
    fn counts_and_lengths_of_every_width_are_read() {
        for outputs in [0xfc, 0xfd, 0x100, 0x1_0001] {
            let spending = transaction(1, &[0x1_0000, 0xffff], &vec![0; outputs]);
            let raw = block_with(&[1], spending.raw());
            let expected =
                vec![(80, Boundary::Header), (81, Boundary::Count(1)), (raw.len() as u64, Boundary::End)];
            assert_eq!(scan_whole(&raw), (expected.clone(), Ok(())), "{outputs} outputs");
            assert_eq!(scan_bytewise(&raw), (expected, Ok(())), "{outputs} outputs");
        }
    }

    #[test]
    fn each_lie_is_refused_with_its_last_byte_and_the_same_at_every_split() {
        let minimal = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let version = &minimal[..4];
        let with_input = |script_len: &[u8], rest: usize| {
            block_with(&[1], &[version, &[1], &[7; 36], script_len, &vec![0; rest]].concat())
        };
        let with_output = |script_len: &[u8], rest: usize| {
            block_with(&[1], &[version, &[0, 1], &[7; 8], script_len, &vec![0; rest]].concat())
        };
        let cannot_fit = |at, claim, value| ScanError::CannotFit { at, claim, value };
        let end = |at| ScanError::UnexpectedEnd { at };
        let wide = [0xff, 0, 0, 0, 0, 1, 0, 0, 0];
        // What is wrong, and the bytes that have to be there to tell.
        let cases: Vec<(&str, Vec<u8>, ScanError, usize)> = vec![
            ("zero transactions", block_with(&[0], &[]), ScanError::NoTransactions, 81),
            ("zero transactions, bytes behind", block_with(&[0], &minimal), ScanError::NoTransactions, 81),
            ("one too many", block_with(&[2], &[0; 19]), cannot_fit(80, Claim::Transactions, 2), 81),
            (
                "billions",
                block_with(&[0xfe, 0xff, 0xff, 0xff, 0xff], &[0; 99]),
                cannot_fit(80, Claim::Transactions, 0xffff_ffff),
                85,
            ),
            (
                "count of 64 bits",
                block_with(&wide, &[0; 99]),
                ScanError::CompactSizeTooLarge { at: 80, value: 1 << 32 },
                89,
            ),
            ("longer count", block_with(&[0xfd, 1, 0], &minimal), ScanError::NonCanonical { at: 80 }, 83),
            (
                "much longer count",
                block_with(&[0xfe, 1, 0, 0, 0], &minimal),
                ScanError::NonCanonical { at: 80 },
                85,
            ),
            (
                "longest count",
                block_with(&[0xff, 1, 0, 0, 0, 0, 0, 0, 0], &minimal),
                ScanError::NonCanonical { at: 80 },
                89,
            ),
            ("no room for the count", block_with(&[0xfd], &[0]), end(80), 81),
            (
                "one input too many",
                block_with(&[1], &[version, &[1], &[0; 45]].concat()),
                cannot_fit(85, Claim::Inputs, 1),
                86,
            ),
            (
                "longer count of inputs",
                block_with(&[1], &[version, &[0xfd, 0, 0], &[0; 9]].concat()),
                ScanError::NonCanonical { at: 85 },
                88,
            ),
            (
                "no room for the count of inputs",
                block_with(&[1], &[version, &[0xff], &[0; 12]].concat()),
                end(85),
                86,
            ),
            ("script of an input", with_input(&[10], 9 + 9), cannot_fit(122, Claim::Script, 10), 123),
            (
                "long script of an input",
                with_input(&[0xfd, 0xfd, 0], 9 + 252),
                cannot_fit(122, Claim::Script, 253),
                125,
            ),
            (
                "longer length of a script",
                with_input(&[0xfd, 0xfc, 0], 9 + 252),
                ScanError::NonCanonical { at: 122 },
                125,
            ),
            ("no room for the length of a script", with_input(&[0xfe], 12), end(122), 123),
            (
                "one output too many",
                block_with(&[1], &[version, &[0, 2], &[0; 21]].concat()),
                cannot_fit(86, Claim::Outputs, 2),
                87,
            ),
            (
                "longer count of outputs",
                block_with(&[1], &[version, &[0, 0xfd, 0, 0], &[0; 9]].concat()),
                ScanError::NonCanonical { at: 86 },
                89,
            ),
            ("script of an output", with_output(&[2], 4 + 1), cannot_fit(95, Claim::Script, 2), 96),
            ("no room for the length of an output's script", with_output(&[0xfe], 4), end(95), 96),
            (
                "byte left over",
                block_with(&[1], &[&minimal[..], &[0]].concat()),
                ScanError::TrailingBytes { at: 91, count: 1 },
                91,
            ),
            (
                "transaction left over",
                block_with(&[1], &[minimal, minimal].concat()),
                ScanError::TrailingBytes { at: 91, count: 10 },
                91,
            ),
            (
                "a later transaction takes the room",
                block_with(&[2], &[version, &[0, 1], &[0; 8], &[1, 5], &[0; 13]].concat()),
                cannot_fit(95, Claim::Script, 1),
                96,
            ),
        ];
        for (name, raw, error, told_at) in cases {
            for len in 1..=raw.len() {
                assert_eq!(scan(raw.len() as u64, raw.chunks(len)).1, Err(error), "{name}, pieces of {len}");
            }
            assert_eq!(scan(raw.len() as u64, [&raw[..told_at]]).1, Err(error), "{name} told too late");
            let before = scan(raw.len() as u64, [&raw[..told_at - 1]]).1;
            assert_eq!(before, Err(end(told_at as u64 - 1)), "{name} told too early");
        }
    }

    #[test]
    fn a_payload_without_room_for_header_and_count_is_refused() {
        for size in [0, 1, 79, 80] {
            assert_eq!(BlockScanner::new(size).unwrap_err(), ScanError::TooSmall { size });
        }
        assert!(BlockScanner::new(81).is_ok());
    }

    #[test]
    fn a_payload_that_stops_early_is_not_complete() {
        let raw = varied_block();
        for len in 0..raw.len() {
            let (found, end) = scan(raw.len() as u64, [&raw[..len]]);
            assert_eq!(end, Err(ScanError::UnexpectedEnd { at: len as u64 }));
            assert!(found.iter().all(|(_, boundary)| *boundary != Boundary::End));
        }
    }

    #[test]
    fn a_block_announced_smaller_or_larger_is_refused() {
        let raw = varied_block();
        for size in 0..raw.len() as u64 {
            assert!(scan(size, [&raw[..size as usize]]).1.is_err(), "{size}");
        }
        let (at, count) = (raw.len() as u64, 3);
        assert_eq!(scan(at + count, [&raw[..]]).1, Err(ScanError::TrailingBytes { at, count }));
    }

    #[test]
    fn sizes_beyond_32_bits_are_counted_right() {
        // Three transactions of 2 GB each; only their lengths are real.
        let script = 2_000_000_000;
        let mut front = vec![1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9];
        write_compact_size(&mut front, script);
        let transaction_len = front.len() as u64 + script + 4;
        let size = 81 + 3 * transaction_len;
        let mut scanner = BlockScanner::new(size).unwrap();
        let mut found = Vec::new();
        let mut take = |mut bytes: &[u8]| {
            while !bytes.is_empty() {
                let (taken, boundary) = scanner.scan(bytes).unwrap();
                found.extend(boundary.map(|boundary| (scanner.position(), boundary)));
                bytes = &bytes[taken..];
            }
        };
        take(&block_with(&[3], &[]));
        let zeros = vec![0; 1_000_000];
        for _ in 0..3 {
            take(&front);
            (0..script / 1_000_000).for_each(|_| take(&zeros));
            take(&[0; 4]);
        }
        let expected = [
            (80, Boundary::Header),
            (81, Boundary::Count(3)),
            (81 + transaction_len, Boundary::Transaction),
            (81 + 2 * transaction_len, Boundary::Transaction),
            (size, Boundary::End),
        ];
        assert_eq!(found, expected);
        assert_eq!(scanner.finish(), Ok(()));
    }

    #[test]
    fn mutated_blocks_are_refused_or_scanned_as_the_decoder_of_whole_blocks_does() {
        let small = small_block();
        let flipped = (0..small.len() * 8).map(|bit| {
            let mut raw = small.clone();
            raw[bit / 8] ^= 1 << (bit % 8);
            raw
        });
        let part = part_of_real_block(6);
        let mutated = (0..3_000).map(|seed| Random(seed).mutate(if seed % 2 == 0 { &small } else { &part }));
        let (mut passed, mut refused) = (0, 0);
        for (i, raw) in flipped.chain(mutated).enumerate() {
            let whole = scan_whole(&raw);
            assert_eq!(scan_bytewise(&raw), whole, "mutant {i}");
            assert_eq!(scan(raw.len() as u64, Random(i as u64).pieces(&raw)), whole, "mutant {i}");
            let is_block = Block::from_raw(raw.clone()).is_ok_and(|block| block.transaction_count() > 0);
            assert_eq!(whole.1.is_ok(), is_block, "mutant {i}: {:?}", whole.1);
            if is_block {
                assert_eq!(whole.0, boundaries_of(&raw), "mutant {i}");
                passed += 1;
            } else {
                refused += 1;
            }
        }
        assert!(passed > 1_000 && refused > 1_000, "{passed} {refused}");
    }

    #[test]
    fn bytes_that_are_no_block_are_refused_the_same_at_every_split() {
        for seed in 0..2_000 {
            let mut random = Random(seed);
            // Small numbers make small counts, which get further.
            let bytes = (0..random.below(400)).map(|_| [0, 0, 0, 1, 1, 2, 3, 9, 0xfd, 0xff][random.below(10)]);
            let bytes: Vec<u8> = bytes.collect();
            let raw = [&[0; 80][..], &bytes].concat();
            assert_eq!(scan_whole(&raw), scan_bytewise(&raw), "seed {seed}");
            let noise: Vec<u8> =
                raw.iter().zip((0..).flat_map(|i: u64| sha256d(&i.to_le_bytes()))).map(|(a, b)| a ^ b).collect();
            assert_eq!(scan_whole(&noise), scan_bytewise(&noise), "seed {seed}");
        }
    }
}
