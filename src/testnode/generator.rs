//! Makes the transactions of a block one after the other, at any split, many times faster than they can be hashed.
//!
//! Pure. Sections 6.1 and 6.4 of the wire specification.

use std::sync::OnceLock;

use crate::engine::Random;
use crate::wire::{compact_size_len, write_compact_size};

/// What a block holds behind its coinbase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Transactions of all sizes, so many bytes with header, count and coinbase.
    Mixed { bytes: u64 },
    /// So many transactions, the coinbase among them, of one size.
    Equal { count: u64, size: u64 },
}

/// How a block divides into transactions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    seed: u64,
    contents: Contents,
    giant: Option<u64>,
    coinbase_len: u64,
    /// Bytes behind the coinbase; for transactions of one size it does not matter.
    body: u64,
    /// All transactions.
    pub(super) count: u64,
    /// The whole block, bytes.
    pub(super) size: u64,
}

/// Writes a block's transactions.
#[derive(Clone, Debug)]
pub(super) struct Generator {
    seed: u64,
    sizes: Sizes,
    coinbase_len: u64,
    /// Transactions begun.
    begun: u64,
    count: u64,
    /// The transaction at hand: what lies before its long script, that script, and four bytes more.
    head: Vec<u8>,
    script_len: u64,
    script_start: u64,
    tail: [u8; 4],
    /// Bytes of it that are written.
    at: u64,
}

/// The sizes of the transactions behind a coinbase.
#[derive(Clone, Debug)]
struct Sizes {
    random: Random,
    phase: u64,
    contents: Contents,
    giant: Option<u64>,
    left: u64,
    /// The giant's turn comes when so many bytes, or transactions, are left besides it.
    half: u64,
    index: u64,
}

impl Layout {
    pub(super) fn new(seed: u64, contents: Contents, giant: Option<u64>) -> Self {
        let giant = giant.map(|giant| giant.max(SHORTEST));
        match contents {
            Contents::Equal { count, size } => {
                let (count, size) = (count.max(1), if size < SHORTEST { EMPTY } else { size });
                let giant = giant.filter(|_| count > 1);
                let body = match giant {
                    Some(giant) => giant + (count - 2) * size,
                    None => (count - 1) * size,
                };
                let total = HEADER + compact_size_len(count) as u64 + COINBASE + body;
                let contents = Contents::Equal { count, size };
                Self { seed, contents, giant, coinbase_len: COINBASE, body, count, size: total }
            }
            Contents::Mixed { bytes } => {
                let mut size = bytes.max(HEADER + 1 + COINBASE + giant.map_or(0, |giant| giant + 4));
                loop {
                    let found = [(1, 0xfc), (3, 0xffff), (5, 0xffff_ffff)].into_iter().find_map(|(len, most)| {
                        let layout = Self::mixed(seed, size, len, giant)?;
                        let count = 1 + layout.sizes().take(most).count() as u64;
                        (compact_size_len(count) as u64 == len).then_some(Self { count, ..layout })
                    });
                    if let Some(layout) = found {
                        return layout;
                    }
                    // A few bytes more or less of the count make one transaction less or more: no size fits.
                    size += 1;
                }
            }
        }
    }

    /// The division of a block whose count takes `count_len` bytes.
    fn mixed(seed: u64, size: u64, count_len: u64, giant: Option<u64>) -> Option<Self> {
        let rest = size.checked_sub(HEADER + count_len + COINBASE)?;
        let room = rest.checked_sub(giant.unwrap_or(0))?;
        // What no transaction fits in is the coinbase's.
        let extra = if room < SHORTEST { room } else { 0 };
        let contents = Contents::Mixed { bytes: size };
        Some(Self { seed, contents, giant, coinbase_len: COINBASE + extra, body: rest - extra, count: 0, size })
    }

    fn sizes(&self) -> Sizes {
        let mut random = Random::new(self.seed);
        let phase = random.next() % LARGE_EVERY;
        let (left, half) = match self.contents {
            Contents::Mixed { .. } => (self.body, (self.body - self.giant.unwrap_or(0)) / 2),
            Contents::Equal { count, .. } => (count - 1, (count - 1) / 2),
        };
        Sizes { random, phase, contents: self.contents, giant: self.giant, left, half, index: 0 }
    }

    pub(super) fn generator(&self) -> Generator {
        Generator {
            seed: self.seed,
            sizes: self.sizes(),
            coinbase_len: self.coinbase_len,
            begun: 0,
            count: self.count,
            head: Vec::with_capacity(HEAD_LEN),
            script_len: 0,
            script_start: 0,
            tail: [0; 4],
            at: 0,
        }
    }
}

/// The length of a transaction, and a number to choose its contents with.
impl Iterator for Sizes {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        if self.left == 0 {
            return None;
        }
        let random = self.random.next();
        self.index += 1;
        let len = match self.contents {
            Contents::Mixed { .. } => {
                let room = self.left - self.giant.unwrap_or(0);
                let len = match self.giant {
                    Some(giant) if room <= self.half => {
                        self.giant = None;
                        giant
                    }
                    _ => {
                        let is_large = (self.index + self.phase).is_multiple_of(LARGE_EVERY);
                        let usual = SMALL + (((random & 0xffff_ffff) * SMALL_RANGE) >> 32);
                        let len = if is_large { LARGE } else { usual };
                        // Nothing is left that would be too little for one more.
                        if room < len + SMALL { room } else { len }
                    }
                };
                self.left -= len;
                len
            }
            Contents::Equal { size, .. } => {
                self.left -= 1;
                if self.left <= self.half { self.giant.take().unwrap_or(size) } else { size }
            }
        };
        Some((len, random))
    }
}

impl Generator {
    /// Appends at most `limit` bytes, fewer only at the end of the block.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, limit: usize) {
        let end = out.len() + limit;
        while out.len() < end && self.begin() {
            self.part(out, end - out.len());
        }
    }

    /// Begins the next transaction if the one at hand is over; false if it was the last.
    pub(super) fn begin(&mut self) -> bool {
        if self.left() > 0 {
            return true;
        }
        if self.begun == self.count {
            return false;
        }
        let index = self.begun;
        self.begun += 1;
        self.at = 0;
        self.head.clear();
        self.tail = [0; 4];
        if index == 0 {
            self.begin_coinbase();
        } else {
            let (len, random) = self.sizes.next().expect("the layout has counted them");
            self.begin_usual(index, len, random >> 32);
        }
        true
    }

    /// Appends bytes of the transaction at hand, at most `limit`.
    pub(super) fn part(&mut self, out: &mut Vec<u8>, limit: usize) {
        let end = out.len() + limit;
        while out.len() < end && self.left() > 0 {
            let room = end - out.len();
            let (at, head_len) = (self.at, self.head.len() as u64);
            let bytes = if at < head_len {
                &self.head[at as usize..]
            } else if at < head_len + self.script_len {
                let place = at - head_len;
                let within = place % STRETCH;
                let start = (self.script_start + place / STRETCH * STRIDE) % TABLE + within;
                let n = (STRETCH - within).min(head_len + self.script_len - at);
                &table()[start as usize..(start + n) as usize]
            } else {
                &self.tail[(at - head_len - self.script_len) as usize..]
            };
            let bytes = &bytes[..bytes.len().min(room)];
            out.extend_from_slice(bytes);
            self.at += bytes.len() as u64;
        }
    }

    /// Bytes of the transaction at hand that are still to come.
    pub(super) fn left(&self) -> u64 {
        let len = if self.begun == 0 { 0 } else { self.head.len() as u64 + self.script_len + 4 };
        len - self.at
    }

    fn begin_coinbase(&mut self) {
        let head = &mut self.head;
        head.extend_from_slice(&1_u32.to_le_bytes());
        head.push(1);
        head.extend_from_slice(&[0; 32]);
        head.extend_from_slice(&[0xff; 4]);
        // One push of eight bytes.
        head.extend_from_slice(&[9, 8]);
        head.extend_from_slice(&self.seed.to_le_bytes());
        head.extend_from_slice(&[0xff; 4]);
        head.push(1);
        head.extend_from_slice(&5_000_000_000_u64.to_le_bytes());
        self.script_len = self.coinbase_len - COINBASE;
        self.script_start = 0;
        write_compact_size(head, self.script_len);
    }

    fn begin_usual(&mut self, index: u64, len: u64, script_start: u64) {
        let head = &mut self.head;
        if len < SHORTEST {
            // Neither inputs nor outputs; version and lock time tell one from the other.
            head.extend_from_slice(&(1 + (index >> 32) as u32).to_le_bytes());
            head.extend_from_slice(&[0, 0]);
            self.script_len = 0;
            self.tail = (index as u32).to_le_bytes();
            return;
        }
        // Where no script gives the length, the next shorter one is taken, and the input's script has the rest.
        let fields = [1, 3, 5, 9].map(|field: u64| (field, (len - SHORTEST + 1).checked_sub(field)));
        let fit = fields.into_iter().find_map(|(field, script)| {
            let script = script?;
            let needed = compact_size_len(script) as u64;
            (needed <= field).then(|| (script, field - needed))
        });
        let (script_len, rest) = fit.expect("nine bytes are enough for any length");
        head.extend_from_slice(&1_u32.to_le_bytes());
        head.push(1);
        head.extend_from_slice(&index.to_le_bytes());
        head.extend_from_slice(&self.seed.to_le_bytes());
        head.extend_from_slice(&[0x5a; 16]);
        head.extend_from_slice(&0_u32.to_le_bytes());
        // At most eight.
        head.push(rest as u8);
        head.extend_from_slice(&[0; 8][..rest as usize]);
        head.extend_from_slice(&[0xff; 4]);
        head.push(1);
        head.extend_from_slice(&0_u64.to_le_bytes());
        write_compact_size(head, script_len);
        self.script_len = script_len;
        self.script_start = script_start;
    }
}

/// Random bytes, the same in every process, of which scripts are copied.
fn table() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut random = Random::new(TABLE);
        let mut bytes: Vec<u8> = (0..TABLE / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        // So that a stretch that begins near the end need not be cut.
        bytes.extend_from_within(..STRETCH as usize);
        bytes
    })
}

const HEADER: u64 = 80;
/// The shortest coinbase here.
const COINBASE: u64 = 69;
/// A transaction without inputs and outputs.
const EMPTY: u64 = 10;
/// A transaction with one input and one output whose scripts are empty.
pub(super) const SHORTEST: u64 = 60;
/// Usual transactions have from 250 to 1,000 bytes.
const SMALL: u64 = 250;
const SMALL_RANGE: u64 = 751;
const LARGE: u64 = 100_000;
const LARGE_EVERY: u64 = 2_000;
/// Random bytes there are; small enough for a core's own cache.
const TABLE: u64 = 256 * 1_024;
/// What is copied in one piece at most.
const STRETCH: u64 = 64 * 1_024;
/// From the start of one stretch to that of the next in the same script; odd, so that they begin everywhere.
const STRIDE: u64 = STRETCH + 7_919;
/// What lies before a script at most.
const HEAD_LEN: usize = 72;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::message::Transaction;

    fn all(layout: &Layout, step: usize) -> Vec<u8> {
        let mut generator = layout.generator();
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            generator.fill(&mut bytes, step);
            assert!(bytes.len() - before <= step);
            if bytes.len() - before < step {
                return bytes;
            }
        }
    }

    /// The raw transactions, each of which is read by the library.
    fn transactions(layout: &Layout) -> Vec<Vec<u8>> {
        let mut generator = layout.generator();
        let mut list = Vec::new();
        while generator.begin() {
            let mut raw = Vec::new();
            generator.part(&mut raw, usize::MAX);
            let read = Transaction::from_raw(raw.clone()).expect("well formed");
            assert_eq!(&read.raw()[..], raw, "all of it is one transaction");
            list.push(raw);
        }
        list
    }

    fn check(layout: &Layout) -> Vec<Vec<u8>> {
        let list = transactions(layout);
        let bytes: usize = list.iter().map(Vec::len).sum();
        assert_eq!(list.len() as u64, layout.count, "{layout:?}");
        assert_eq!(80 + compact_size_len(layout.count) as u64 + bytes as u64, layout.size, "{layout:?}");
        assert_eq!(list.iter().collect::<HashSet<_>>().len(), list.len(), "all differ");
        list
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_splits() {
        let layout = Layout::new(7, Contents::Mixed { bytes: 300_000 }, Some(150_000));
        let whole = all(&layout, usize::MAX / 2);
        assert_eq!(whole, transactions(&layout).concat());
        for step in [1, 7, 59, 1_000, 65_536, 70_001] {
            assert!(all(&layout, step) == whole, "in steps of {step}");
        }
    }

    #[test]
    fn a_mixed_block_has_the_size_asked_for() {
        for bytes in (150..2_000).chain([10_000, 123_456, 1_000_003, 45_000_000]) {
            let layout = Layout::new(bytes, Contents::Mixed { bytes }, None);
            assert_eq!(layout.size, bytes);
            check(&layout);
        }
        assert_eq!(Layout::new(0, Contents::Mixed { bytes: 0 }, None).size, 150);
    }

    #[test]
    fn the_sizes_around_a_longer_count_are_near_enough() {
        // 252 transactions of 675 bytes are some 170 kB, give or take a few.
        for bytes in (150_000..190_000).step_by(37) {
            let layout = Layout::new(1, Contents::Mixed { bytes }, None);
            assert!((bytes..bytes + 8).contains(&layout.size), "{bytes}");
            assert_eq!(1 + layout.sizes().count() as u64, layout.count);
        }
    }

    #[test]
    fn a_usual_block_has_the_usual_mix() {
        let list = check(&Layout::new(3, Contents::Mixed { bytes: 4_000_000 }, None));
        let large = list.iter().filter(|raw| raw.len() == 100_000).count();
        let small: Vec<_> = list.iter().map(Vec::len).filter(|len| (250..=1_000).contains(len)).collect();
        assert!(large.abs_diff(list.len() / 2_000) <= 1, "{large} of {}", list.len());
        // All but the coinbase and the last one.
        assert!(small.len() + large + 2 >= list.len());
        let mean = small.iter().sum::<usize>() / small.len();
        assert!((600..650).contains(&mean), "{mean}");
    }

    #[test]
    fn transactions_of_one_size_are_as_many_as_asked_for() {
        for (count, size) in
            [(1, 10), (2, 10), (253, 10), (70_000, 10), (300, 60), (300, 313), (300, 314), (9, 70_000)]
        {
            let list = check(&Layout::new(1, Contents::Equal { count, size }, None));
            assert_eq!(list.len() as u64, count);
            assert!(list[1..].iter().all(|raw| raw.len() as u64 == size));
        }
    }

    #[test]
    fn a_giant_lies_in_the_middle() {
        for contents in [
            Contents::Mixed { bytes: 5_000_000 },
            Contents::Mixed { bytes: 0 },
            Contents::Equal { count: 100, size: 10 },
            Contents::Equal { count: 2, size: 100 },
        ] {
            let list = check(&Layout::new(9, contents, Some(2_000_000)));
            let place = list.iter().position(|raw| raw.len() == 2_000_000).expect("it is there");
            let around = place.abs_diff(list.len() / 2);
            assert!(around * 10 <= list.len(), "{place} of {}", list.len());
        }
    }
}
