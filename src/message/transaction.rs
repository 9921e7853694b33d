//! `tx`: a transaction, kept as its bytes and read in place.
//!
//! Sections 2.10 and 6.4 of the wire specification (the node's `src/primitives/transaction.h`).

use std::fmt;
use std::ops::Range;

use super::payload::Payload;
use crate::wire::{DecodeError, Reader, SharedBytes, Txid, sha256d, write_bytes, write_compact_size};

/// One transaction: its bytes and its txid.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | version | 4 | little-endian |
/// | inputs | 41 and more each | compact size, then per input: txid 32, index 4, script byte string, sequence 4 |
/// | outputs | 9 and more each | compact size, then per output: value 8, script byte string |
/// | lock time | 4 | little-endian |
///
/// Decoding only checks the lengths. Nothing is validated: a transaction without inputs is a value too.
#[derive(Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Exactly one transaction; every length in it is checked.
    raw: SharedBytes,
    txid: Txid,
}

impl Transaction {
    /// Takes the bytes of exactly one transaction.
    ///
    /// They are shared, or copied where sharing would hold a buffer of more than twice their size in memory.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnexpectedEnd`] if they end early, [`DecodeError::InvalidValue`] naming `transaction` if bytes
    /// are left over, and what is wrong with a compact size.
    pub fn from_raw(raw: impl Into<SharedBytes>) -> Result<Self, DecodeError> {
        let raw = raw.into();
        let mut reader = Reader::new(&raw);
        TransactionView::read(&mut reader)?;
        if !reader.is_empty() {
            return Err(DecodeError::InvalidValue { field: "transaction" });
        }
        let txid = Txid::from_wire(sha256d(&raw));
        Ok(Self { raw: raw.compacted(), txid })
    }

    /// Encodes a transaction from its parts.
    #[must_use]
    pub fn new(
        version: i32,
        inputs: &[TransactionInput<'_>],
        outputs: &[TransactionOutput<'_>],
        lock_time: u32,
    ) -> Self {
        let mut raw = Vec::new();
        raw.extend_from_slice(&version.to_le_bytes());
        write_compact_size(&mut raw, inputs.len() as u64);
        for input in inputs {
            raw.extend_from_slice(input.previous_output.txid.as_wire());
            raw.extend_from_slice(&input.previous_output.index.to_le_bytes());
            write_bytes(&mut raw, input.script_sig);
            raw.extend_from_slice(&input.sequence.to_le_bytes());
        }
        write_compact_size(&mut raw, outputs.len() as u64);
        for output in outputs {
            raw.extend_from_slice(&output.value.to_le_bytes());
            write_bytes(&mut raw, output.script_pubkey);
        }
        raw.extend_from_slice(&lock_time.to_le_bytes());
        raw.shrink_to_fit();
        let txid = Txid::from_wire(sha256d(&raw));
        Self { raw: raw.into(), txid }
    }

    /// Takes the transaction at the front of a payload whose double SHA-256 may be known, and shares its bytes.
    pub(super) fn from_payload(payload: SharedBytes, digest: Option<&[u8; 32]>) -> Result<Self, DecodeError> {
        let len = TransactionView::read(&mut Reader::new(&payload))?.raw().len();
        if len == payload.len() {
            let txid = Txid::from_wire(digest.copied().unwrap_or_else(|| sha256d(&payload)));
            return Ok(Self { raw: payload, txid });
        }
        // The digest covers the ignored bytes too, so it is not the txid.
        let raw = payload.slice(0..len).ok_or(DecodeError::UnexpectedEnd)?;
        Ok(Self { txid: Txid::from_wire(sha256d(&raw)), raw })
    }

    /// This transaction, copied if sharing would hold more than twice its size in memory.
    pub(crate) fn compacted(self) -> Self {
        Self { raw: self.raw.compacted(), txid: self.txid }
    }

    /// Bytes of the buffer that it shares.
    pub(crate) fn buffer_len(&self) -> usize {
        self.raw.buffer_len()
    }

    /// Takes the transaction that a reader of the payload has come to.
    pub(super) fn read(reader: &mut Reader<'_>, payload: Payload<'_>) -> Result<Self, DecodeError> {
        let start = payload.position(reader);
        let view = TransactionView::read(reader)?;
        Ok(Self { txid: view.txid(), raw: payload.keep(start..payload.position(reader)) })
    }

    /// Takes the transaction that fills a range within the payload.
    pub(super) fn read_exact(payload: Payload<'_>, range: Range<usize>) -> Result<Self, DecodeError> {
        let bytes = payload.bytes().get(range.clone()).ok_or(DecodeError::UnexpectedEnd)?;
        let mut reader = Reader::new(bytes);
        let view = TransactionView::read(&mut reader)?;
        if !reader.is_empty() {
            return Err(DecodeError::InvalidValue { field: "transaction" });
        }
        Ok(Self { txid: view.txid(), raw: payload.keep(range) })
    }

    /// The transaction's bytes.
    #[must_use]
    pub const fn raw(&self) -> &SharedBytes {
        &self.raw
    }

    /// The double SHA-256 of the bytes.
    #[must_use]
    pub const fn txid(&self) -> Txid {
        self.txid
    }

    /// The version number.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.view().version()
    }

    /// The inputs, in order.
    #[must_use]
    pub fn inputs(&self) -> Inputs<'_> {
        self.view().inputs()
    }

    /// The outputs, in order.
    #[must_use]
    pub fn outputs(&self) -> Outputs<'_> {
        self.view().outputs()
    }

    /// The lock time.
    #[must_use]
    pub fn lock_time(&self) -> u32 {
        self.view().lock_time()
    }

    /// Whether this is a block's first transaction: one input, which spends nothing.
    #[must_use]
    pub fn is_coinbase(&self) -> bool {
        self.view().is_coinbase()
    }

    /// The transaction as borrowed bytes.
    #[must_use]
    pub fn view(&self) -> TransactionView<'_> {
        TransactionView { raw: &self.raw }
    }
}

/// Shows txid and size; scripts may be megabytes long.
impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction({}, {} bytes)", self.txid, self.raw.len())
    }
}

/// A transaction read in place, in the bytes of its block or its message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TransactionView<'a> {
    /// Exactly one transaction; every length in it is checked.
    raw: &'a [u8],
}

impl<'a> TransactionView<'a> {
    /// The smallest transaction: no inputs, no outputs.
    pub(super) const MIN_LEN: usize = 10;

    /// Reads past one transaction, checking every length in it.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let start = reader.rest();
        reader.take(4)?;
        for _ in 0..reader.count(MIN_INPUT_LEN)? {
            reader.take(OUT_POINT_LEN)?;
            reader.bytes()?;
            reader.take(4)?;
        }
        for _ in 0..reader.count(MIN_OUTPUT_LEN)? {
            reader.take(8)?;
            reader.bytes()?;
        }
        reader.take(4)?;
        Ok(Self { raw: &start[..start.len() - reader.rest().len()] })
    }

    /// The bytes of exactly one transaction that was read before.
    pub(crate) const fn of_checked(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The transaction's bytes.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Computes the double SHA-256 of the bytes.
    #[must_use]
    pub fn txid(&self) -> Txid {
        Txid::from_wire(sha256d(self.raw))
    }

    /// The version number.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.raw.first_chunk().copied().map(i32::from_le_bytes).unwrap_or_default()
    }

    /// The inputs, in order.
    #[must_use]
    pub fn inputs(&self) -> Inputs<'a> {
        let mut reader = Reader::new(self.raw);
        // A view's lengths are checked, so neither read can fail.
        let remaining = reader.take(4).and_then(|_| reader.count(MIN_INPUT_LEN)).unwrap_or_default();
        Inputs { reader, remaining }
    }

    /// The outputs, in order.
    #[must_use]
    pub fn outputs(&self) -> Outputs<'a> {
        let mut inputs = self.inputs();
        inputs.by_ref().for_each(drop);
        let mut reader = inputs.reader;
        let remaining = reader.count(MIN_OUTPUT_LEN).unwrap_or_default();
        Outputs { reader, remaining }
    }

    /// The lock time.
    #[must_use]
    pub fn lock_time(&self) -> u32 {
        self.raw.last_chunk().copied().map(u32::from_le_bytes).unwrap_or_default()
    }

    /// Whether this is a block's first transaction: one input, which spends nothing.
    #[must_use]
    pub fn is_coinbase(&self) -> bool {
        let mut inputs = self.inputs();
        inputs.len() == 1 && inputs.next().is_some_and(|input| input.previous_output == OutPoint::NULL)
    }

    /// Copies the transaction out.
    #[must_use]
    pub fn to_transaction(&self) -> Transaction {
        self.to_transaction_of(self.txid())
    }

    /// Copies the transaction out, whose txid is known.
    pub(crate) fn to_transaction_of(self, txid: Txid) -> Transaction {
        Transaction { raw: SharedBytes::copy_from(self.raw), txid }
    }
}

/// Shows the size only: the txid would have to be computed.
impl fmt::Debug for TransactionView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionView({} bytes)", self.raw.len())
    }
}

/// An output of an earlier transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OutPoint {
    /// The transaction.
    pub txid: Txid,
    /// Which of its outputs, from 0.
    pub index: u32,
}

impl OutPoint {
    /// What a coinbase spends.
    pub const NULL: Self = Self { txid: Txid::ZERO, index: u32::MAX };
}

/// An input of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TransactionInput<'a> {
    /// The output it spends.
    pub previous_output: OutPoint,
    /// The script that unlocks it.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub script_sig: &'a [u8],
    /// The sequence number.
    pub sequence: u32,
}

/// An output of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TransactionOutput<'a> {
    /// In satoshis.
    pub value: i64,
    /// The script that locks it.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub script_pubkey: &'a [u8],
}

/// Iterates over a transaction's inputs.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    reader: Reader<'a>,
    remaining: usize,
}

impl<'a> Inputs<'a> {
    fn read(&mut self) -> Result<TransactionInput<'a>, DecodeError> {
        Ok(TransactionInput {
            previous_output: OutPoint { txid: Txid::from_wire(self.reader.array()?), index: self.reader.u32()? },
            script_sig: self.reader.bytes()?,
            sequence: self.reader.u32()?,
        })
    }
}

impl<'a> Iterator for Inputs<'a> {
    type Item = TransactionInput<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        self.read().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Inputs<'_> {}

/// Iterates over a transaction's outputs.
#[derive(Clone, Debug)]
pub struct Outputs<'a> {
    reader: Reader<'a>,
    remaining: usize,
}

impl<'a> Outputs<'a> {
    fn read(&mut self) -> Result<TransactionOutput<'a>, DecodeError> {
        Ok(TransactionOutput { value: self.reader.i64()?, script_pubkey: self.reader.bytes()? })
    }
}

impl<'a> Iterator for Outputs<'a> {
    type Item = TransactionOutput<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        self.read().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Outputs<'_> {}

/// Bytes of a txid and an index.
const OUT_POINT_LEN: usize = 36;
/// An out point, an empty script, a sequence.
const MIN_INPUT_LEN: usize = OUT_POINT_LEN + 1 + 4;
/// A value, an empty script.
const MIN_OUTPUT_LEN: usize = 8 + 1;

/// A transaction serializes as its fields with its txid in front; the txid is checked when it is read back.
#[cfg(feature = "serde")]
mod serialized {
    use serde::de::Error as _;
    use serde::ser::SerializeStruct;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{OutPoint, Transaction, TransactionInput, TransactionOutput, TransactionView};
    use crate::message::hex;
    use crate::wire::Txid;

    impl Serialize for Transaction {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serialize(self.view(), self.txid, serializer)
        }
    }

    impl Serialize for TransactionView<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serialize(*self, self.txid(), serializer)
        }
    }

    fn serialize<S: Serializer>(view: TransactionView<'_>, txid: Txid, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Transaction", 5)?;
        fields.serialize_field("txid", &txid)?;
        fields.serialize_field("version", &view.version())?;
        fields.serialize_field("inputs", &view.inputs().collect::<Vec<_>>())?;
        fields.serialize_field("outputs", &view.outputs().collect::<Vec<_>>())?;
        fields.serialize_field("lock_time", &view.lock_time())?;
        fields.end()
    }

    #[derive(Deserialize)]
    struct Fields {
        txid: Option<Txid>,
        version: i32,
        inputs: Vec<Input>,
        outputs: Vec<Output>,
        lock_time: u32,
    }

    #[derive(Deserialize)]
    struct Input {
        previous_output: OutPoint,
        #[serde(with = "hex::bytes")]
        script_sig: Vec<u8>,
        sequence: u32,
    }

    #[derive(Deserialize)]
    struct Output {
        value: i64,
        #[serde(with = "hex::bytes")]
        script_pubkey: Vec<u8>,
    }

    impl<'de> Deserialize<'de> for Transaction {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let fields = Fields::deserialize(deserializer)?;
            let inputs: Vec<_> = fields
                .inputs
                .iter()
                .map(|input| TransactionInput {
                    previous_output: input.previous_output,
                    script_sig: &input.script_sig,
                    sequence: input.sequence,
                })
                .collect();
            let outputs: Vec<_> = fields
                .outputs
                .iter()
                .map(|output| TransactionOutput { value: output.value, script_pubkey: &output.script_pubkey })
                .collect();
            let transaction = Self::new(fields.version, &inputs, &outputs, fields.lock_time);
            match fields.txid {
                Some(txid) if txid != transaction.txid => Err(D::Error::custom("txid is not that of the fields")),
                _ => Ok(transaction),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spending(outpoints: &[OutPoint]) -> Transaction {
        let input = |previous_output: &OutPoint| TransactionInput {
            previous_output: *previous_output,
            script_sig: &[],
            sequence: 0,
        };
        Transaction::new(1, &outpoints.iter().map(input).collect::<Vec<_>>(), &[], 0)
    }

    #[test]
    fn only_one_input_that_spends_nothing_makes_a_coinbase() {
        let zero_txid = OutPoint { index: 0, ..OutPoint::NULL };
        let last_index = OutPoint { txid: Txid::from_wire([1; 32]), ..OutPoint::NULL };
        assert!(spending(&[OutPoint::NULL]).is_coinbase());
        for outpoints in [&[][..], &[zero_txid], &[last_index], &[OutPoint::NULL, OutPoint::NULL]] {
            assert!(!spending(outpoints).is_coinbase(), "{outpoints:?}");
        }
    }

    #[test]
    fn a_known_digest_is_the_txid_unless_bytes_follow() {
        let transaction = spending(&[OutPoint::NULL]);
        let payload = SharedBytes::copy_from(transaction.raw());
        let digest = [7; 32];
        let trusted = Transaction::from_payload(payload, Some(&digest)).unwrap();
        assert_eq!(trusted.txid(), Txid::from_wire(digest));
        let longer = SharedBytes::from([transaction.raw(), &[0][..]].concat());
        assert_eq!(Transaction::from_payload(longer, Some(&digest)).unwrap(), transaction);
    }
}
