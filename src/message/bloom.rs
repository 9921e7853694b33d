//! Bloom filters over transactions: made by whoever asks, matched by whoever serves.
//!
//! Section 6.6 of the wire specification (BIP 37; the node's `src/bloom.cpp`, `src/hash.cpp`).

use std::error::Error;
use std::f64::consts::LN_2;
use std::fmt;

use super::script::{Operations, is_public_key_or_multisig};
use super::{FilterAdd, FilterLoad, OutPoint, TransactionView};

/// A set that may take in what was never added, but never misses what was.
///
/// A `filterload` carries it to a node, which then announces only the transactions that match.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "FilterLoad", try_from = "FilterLoad"))]
pub struct BloomFilter {
    /// Within the limits, always.
    load: FilterLoad,
}

impl BloomFilter {
    /// A filter for so many elements, of which other data matches with this probability.
    ///
    /// `tweak` makes filters of the same elements differ from one peer to the next.
    ///
    /// # Errors
    ///
    /// [`FilterError::NoElements`]; [`FilterError::BadRate`] unless the rate lies between 0 and 1. A filter that would
    /// be over the limits of nodes is made as large as they allow, and takes in more than asked for.
    pub fn new(
        elements: u32,
        false_positive_rate: f64,
        tweak: u32,
        update: FilterUpdate,
    ) -> Result<Self, FilterError> {
        if elements == 0 {
            return Err(FilterError::NoElements);
        }
        if !(false_positive_rate > 0.0 && false_positive_rate < 1.0) {
            return Err(FilterError::BadRate);
        }
        // Casts cut off fractions, as the node does. At least one byte, because an empty filter takes in everything.
        let bits = -f64::from(elements) * false_positive_rate.ln() / (LN_2 * LN_2);
        let len = ((bits as usize).min(FilterLoad::MAX_FILTER_LEN * 8) / 8).max(1);
        let bits_per_element = len * 8 / elements as usize;
        let functions = (bits_per_element as f64 * LN_2) as u32;
        let hash_functions = functions.clamp(1, FilterLoad::MAX_HASH_FUNCTIONS);
        Ok(Self { load: FilterLoad { filter: vec![0; len], hash_functions, tweak, flags: update.into() } })
    }

    /// Adds an element: a txid or an outpoint in wire order, or data that a script pushes.
    ///
    /// # Errors
    ///
    /// [`FilterError::ElementTooLong`].
    pub fn insert(&mut self, element: &[u8]) -> Result<(), FilterError> {
        if element.len() > FilterAdd::MAX_DATA_LEN {
            return Err(FilterError::ElementTooLong { length: element.len() });
        }
        self.set(element);
        Ok(())
    }

    /// Whether an element may have been added; an empty filter says so of everything.
    #[must_use]
    pub fn contains(&self, element: &[u8]) -> bool {
        let filter = &self.load.filter;
        if filter.is_empty() {
            return true;
        }
        // Without functions nothing can be missed; a filter without bits has nothing, as nodes see it.
        element.len() <= FilterAdd::MAX_DATA_LEN
            && self.bits(element).all(|bit| filter[bit >> 3] >> (bit & 7) & 1 == 1)
            && filter.iter().any(|byte| *byte != 0)
    }

    /// Whether a transaction matches; what of it the filter should know from now on is added.
    ///
    /// A transaction matches by its txid, by data that a script of its outputs or inputs pushes, or by an outpoint that
    /// it spends. Of outputs that match, the outpoint is added as the filter's [`update`](Self::update) says.
    pub fn matches(&mut self, transaction: TransactionView<'_>) -> bool {
        if self.load.filter.is_empty() {
            return true;
        }
        let txid = transaction.txid();
        let mut matches = self.contains(txid.as_wire());
        for (index, output) in (0..).zip(transaction.outputs()) {
            if !Operations::new(output.script_pubkey).pushed().any(|data| self.contains(data)) {
                continue;
            }
            matches = true;
            let is_added = match self.update() {
                FilterUpdate::None => false,
                FilterUpdate::All => true,
                FilterUpdate::PublicKeys => is_public_key_or_multisig(output.script_pubkey),
            };
            if is_added {
                self.set(&outpoint_bytes(OutPoint { txid, index }));
            }
        }
        matches
            || transaction.inputs().any(|input| {
                self.contains(&outpoint_bytes(input.previous_output))
                    || Operations::new(input.script_sig).pushed().any(|data| self.contains(data))
            })
    }

    /// What a match adds to the filter.
    #[must_use]
    pub fn update(&self) -> FilterUpdate {
        match self.load.flags & 3 {
            1 => FilterUpdate::All,
            2 => FilterUpdate::PublicKeys,
            _ => FilterUpdate::None,
        }
    }

    /// The filter as the payload of a `filterload`.
    #[must_use]
    pub const fn as_filter_load(&self) -> &FilterLoad {
        &self.load
    }

    fn set(&mut self, element: &[u8]) {
        if self.load.filter.is_empty() {
            return;
        }
        for i in 0..self.load.hash_functions {
            let bit = self.bit(i, element);
            self.load.filter[bit >> 3] |= 1 << (bit & 7);
        }
    }

    /// The bits of an element, in a filter that has any.
    fn bits(&self, element: &[u8]) -> impl Iterator<Item = usize> {
        (0..self.load.hash_functions).map(move |i| self.bit(i, element))
    }

    fn bit(&self, function: u32, element: &[u8]) -> usize {
        let seed = function.wrapping_mul(0xfba4_c795).wrapping_add(self.load.tweak);
        murmur3(seed, element) as usize % (self.load.filter.len() * 8)
    }
}

/// The filter that a peer has sent.
impl TryFrom<FilterLoad> for BloomFilter {
    type Error = FilterError;

    fn try_from(load: FilterLoad) -> Result<Self, FilterError> {
        if load.is_within_limits() {
            Ok(Self { load })
        } else {
            Err(FilterError::OverLimits { bytes: load.filter.len(), hash_functions: load.hash_functions })
        }
    }
}

impl From<BloomFilter> for FilterLoad {
    fn from(filter: BloomFilter) -> Self {
        filter.load
    }
}

/// What a match adds to a bloom filter, so that spending what matched matches too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum FilterUpdate {
    /// Nothing.
    None,
    /// The outpoint of every output that matches.
    All,
    /// Those that pay to a public key or a bare multisignature.
    PublicKeys,
}

impl From<FilterUpdate> for u8 {
    fn from(update: FilterUpdate) -> Self {
        match update {
            FilterUpdate::None => 0,
            FilterUpdate::All => 1,
            FilterUpdate::PublicKeys => 2,
        }
    }
}

/// Why there is no such bloom filter.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// A filter for no elements at all.
    NoElements,
    /// A rate of false positives that is not between 0 and 1.
    BadRate,
    /// An element that no filter takes; nodes ban for it.
    ElementTooLong {
        /// Its length in bytes; 520 are allowed.
        length: usize,
    },
    /// A filter that nodes ban for: of more than 36,000 bytes or 50 hash functions.
    OverLimits {
        /// The filter's size in bytes.
        bytes: usize,
        /// How many hash functions it has.
        hash_functions: u32,
    },
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoElements => f.write_str("bloom filter for no elements"),
            Self::BadRate => f.write_str("rate of false positives is not between 0 and 1"),
            Self::ElementTooLong { length } => {
                write!(f, "element of {length} bytes is over the limit of {}", FilterAdd::MAX_DATA_LEN)
            }
            Self::OverLimits { bytes, hash_functions } => {
                write!(f, "bloom filter of {bytes} bytes and {hash_functions} hash functions is over the limits")
            }
        }
    }
}

impl Error for FilterError {}

fn outpoint_bytes(outpoint: OutPoint) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[..32].copy_from_slice(outpoint.txid.as_wire());
    bytes[32..].copy_from_slice(&outpoint.index.to_le_bytes());
    bytes
}

/// MurmurHash3, the variant for x86 of 32 bits.
fn murmur3(seed: u32, data: &[u8]) -> u32 {
    let mix = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (words, tail) = data.as_chunks::<4>();
    let mut hash = seed;
    for word in words {
        hash = (hash ^ mix(u32::from_le_bytes(*word))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    hash ^= mix(tail.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)));
    // The length counts modulo 2^32.
    hash ^= data.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Transaction, TransactionInput, TransactionOutput};
    use crate::wire::Txid;

    #[test]
    fn murmur3_gives_the_published_values() {
        assert_eq!(murmur3(0, b""), 0);
        assert_eq!(murmur3(1, b""), 0x514e_28b7);
        assert_eq!(murmur3(0xffff_ffff, b""), 0x81f1_6f39);
        assert_eq!(murmur3(0, &[0xff; 4]), 0x7629_3b50);
        assert_eq!(murmur3(0, &[0x21, 0x43, 0x65, 0x87]), 0xf55b_516b);
        assert_eq!(murmur3(0, &[0x21, 0x43, 0x65]), 0x7e4a_8634);
        assert_eq!(murmur3(0, &[0x21, 0x43]), 0xa0f7_b07a);
        assert_eq!(murmur3(0, &[0x21]), 0x7266_1cf4);
    }

    #[test]
    fn sizes_follow_the_formula_up_to_the_limits() {
        let size = |elements, rate| {
            let filter = BloomFilter::new(elements, rate, 0, FilterUpdate::None).unwrap();
            (filter.load.filter.len(), filter.load.hash_functions)
        };
        assert_eq!(size(3, 0.01), (3, 5));
        assert_eq!(size(1_000_000, 0.000_1), (36_000, 1));
        assert_eq!(size(1, 1e-300), (179, 50));
        assert_eq!(size(1, 0.99), (1, 5));
        let refused = |elements, rate| BloomFilter::new(elements, rate, 0, FilterUpdate::None);
        assert_eq!(refused(0, 0.1), Err(FilterError::NoElements));
        for rate in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(1, rate), Err(FilterError::BadRate), "{rate}");
        }
    }

    #[test]
    fn what_is_over_the_limits_is_refused() {
        let load = |len, hash_functions| FilterLoad { filter: vec![0; len], hash_functions, tweak: 0, flags: 0 };
        assert!(BloomFilter::try_from(load(36_000, 50)).is_ok());
        let over = |bytes, hash_functions| Err(FilterError::OverLimits { bytes, hash_functions });
        assert_eq!(BloomFilter::try_from(load(36_001, 50)), over(36_001, 50));
        assert_eq!(BloomFilter::try_from(load(36_000, 51)), over(36_000, 51));
        let mut filter = BloomFilter::new(10, 0.01, 0, FilterUpdate::None).unwrap();
        assert_eq!(filter.insert(&[7; 520]), Ok(()));
        assert!(filter.contains(&[7; 520]));
        assert_eq!(filter.insert(&[7; 521]), Err(FilterError::ElementTooLong { length: 521 }));
        assert!(!filter.contains(&[7; 521]));
    }

    #[test]
    fn an_empty_filter_takes_in_everything_and_one_without_bits_nothing() {
        let filter = |filter, hash_functions| {
            BloomFilter::try_from(FilterLoad { filter, hash_functions, tweak: 0, flags: 1 }).unwrap()
        };
        let transaction = Transaction::new(1, &[], &[], 0);
        let mut everything = filter(vec![], 7);
        assert!(everything.contains(b"x") && everything.matches(transaction.view()));
        everything.insert(b"x").unwrap();
        let mut nothing = filter(vec![0; 3], 0);
        assert!(!nothing.contains(b"x") && !nothing.matches(transaction.view()));
        assert!(filter(vec![1], 0).contains(b"x"));
    }

    #[test]
    fn a_transaction_matches_by_its_parts_and_what_spends_a_match_follows() {
        let key_hash = [7; 20];
        let pay_to_hash = [&[0x76, 0xa9, 20][..], &key_hash, &[0x88, 0xac]].concat();
        let key = [&[2][..], &[9; 32]].concat();
        let pay_to_key = [&[33][..], &key, &[0xac]].concat();
        let spent = OutPoint { txid: Txid::from_wire([3; 32]), index: 5 };
        let input = |previous_output, script_sig| TransactionInput { previous_output, script_sig, sequence: 0 };
        let output = |script_pubkey| TransactionOutput { value: 1, script_pubkey };
        let first = Transaction::new(
            1,
            &[input(spent, &[2, 0xaa, 0xbb])],
            &[output(&[]), output(&pay_to_hash), output(&pay_to_key)],
            0,
        );
        let next = |index| Transaction::new(1, &[input(OutPoint { txid: first.txid(), index }, &[])], &[], 0);
        let filter = |elements: &[&[u8]], update| {
            let mut filter = BloomFilter::new(10, 1e-9, 5, update).unwrap();
            elements.iter().for_each(|element| filter.insert(element).unwrap());
            filter
        };
        let matches = |element: &[u8]| filter(&[element], FilterUpdate::None).matches(first.view());
        assert!(matches(first.txid().as_wire()));
        assert!(matches(&key_hash));
        assert!(matches(&outpoint_bytes(spent)));
        assert!(matches(&[0xaa, 0xbb]));
        assert!(!matches(b"something else"));
        assert!(!matches(&outpoint_bytes(OutPoint { index: 4, ..spent })));

        for (update, followed) in [
            (FilterUpdate::None, [false, false, false]),
            (FilterUpdate::All, [false, true, true]),
            (FilterUpdate::PublicKeys, [false, false, true]),
        ] {
            let mut filter = filter(&[&key_hash, &key], update);
            assert_eq!(filter.update(), update);
            assert!(!filter.matches(next(1).view()));
            assert!(filter.matches(first.view()));
            assert_eq!([0, 1, 2].map(|index| filter.matches(next(index).view())), followed, "{update:?}");
        }
    }
}
