//! What the outbox file holds: what became of each broadcast, in groups that are read whole or not at all.
//!
//! Layer 4, pure; `driver::outbox_file` reads and writes the bytes. Reading is total: whatever the bytes are, it ends with
//! the groups that are as they were written, or says where they end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use crate::broadcast::BroadcastOptions;
use crate::error::FileFault;
use crate::message::{RejectCode, Transaction};
use crate::network::Network;
use crate::peer::{Host, PeerAddress};
use crate::wire::{DecodeError, Reader, SharedBytes, sha256d};

/// Something to remember of a broadcast.
///
/// | kind | fields behind it |
/// |---|---|
/// | 1, hold | item, begun 8, expires 8, flags 1, nodes, listeners, relays, deadline, lifetime and fee if flagged, transaction, number of parents, parents |
/// | 2, told | item, address |
/// | 3, relayed | item, address |
/// | 4, rejected | item, address, code 1, reason |
/// | 5, over | item |
///
/// The kind is one byte. Integers with a size are little-endian; the others are numbers of seven bits a byte, the lowest
/// first, the top bit set in all but the last. A duration is a number of seconds and one of nanoseconds. Transactions and
/// texts are byte strings: their length, then the bytes. An address is 4, 6 or 0 in one byte, then 4 or 16 bytes or
/// the name, then 0, or 1 and the port in 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A transaction is to be broadcast.
    Hold(Box<Held>),
    /// A peer is told of it, and so is no witness from here on.
    Told { item: u64, address: PeerAddress },
    /// A peer announced or rejected it.
    Heard { item: u64, address: PeerAddress, said: Said },
    /// It is over.
    Over { item: u64 },
}

/// A transaction that is to be broadcast, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) item: u64,
    pub(crate) transaction: Transaction,
    pub(crate) options: BroadcastOptions,
    /// Unix time.
    pub(crate) begun: i64,
    /// Unix time.
    pub(crate) expires: i64,
}

/// What a peer said of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It announced it.
    Relayed,
    /// It refused it.
    Rejected { code: RejectCode, reason: String },
}

/// A broadcast that was not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) held: Held,
    /// Each address once, in the order of the records.
    pub(crate) told: Vec<PeerAddress>,
    pub(crate) heard: Vec<(PeerAddress, Said)>,
}

/// The broadcasts that are not over, after some records.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    items: BTreeMap<u64, Restored>,
}

/// A group under construction.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | length | 8 | little-endian; bytes of all records |
/// | count | 4 | little-endian; records |
/// | check of the head | 4 | the first of the double SHA-256 of the 12 bytes before |
/// | records | length | |
/// | check | 8 | the first of the double SHA-256 of everything before, the head included |
///
/// The head has a check of its own, so that a length that was changed is not taken for a group that was cut short.
#[derive(Debug)]
pub(crate) struct GroupBuilder {
    /// With room for the head.
    bytes: Vec<u8>,
    count: u32,
}

impl Record {
    /// The broadcast it is about.
    pub(crate) const fn item(&self) -> u64 {
        match self {
            Self::Hold(held) => held.item,
            Self::Told { item, .. } | Self::Heard { item, .. } | Self::Over { item } => *item,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hold(held) => {
                out.push(HOLD);
                held.write(out);
            }
            Self::Told { item, address } => {
                out.push(TOLD);
                write_number(out, *item);
                write_address(out, address);
            }
            Self::Heard { item, address, said: Said::Relayed } => {
                out.push(RELAYED);
                write_number(out, *item);
                write_address(out, address);
            }
            Self::Heard { item, address, said: Said::Rejected { code, reason } } => {
                out.push(REJECTED);
                write_number(out, *item);
                write_address(out, address);
                out.push((*code).into());
                write_string(out, reason.as_bytes());
            }
            Self::Over { item } => {
                out.push(OVER);
                write_number(out, *item);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            HOLD => Self::Hold(Box::new(Held::read(reader)?)),
            TOLD => Self::Told { item: read_number(reader)?, address: read_address(reader)? },
            RELAYED => {
                Self::Heard { item: read_number(reader)?, address: read_address(reader)?, said: Said::Relayed }
            }
            REJECTED => Self::Heard {
                item: read_number(reader)?,
                address: read_address(reader)?,
                said: Said::Rejected { code: reader.u8()?.into(), reason: read_text(reader)?.to_owned() },
            },
            OVER => Self::Over { item: read_number(reader)? },
            _ => return Err(DecodeError::InvalidValue { field: "kind" }),
        })
    }
}

impl Held {
    fn write(&self, out: &mut Vec<u8>) {
        let Self { item, transaction, options, begun, expires } = self;
        let BroadcastOptions {
            nodes,
            listeners,
            relays,
            direct,
            deadline,
            settle_on_reject,
            lifetime,
            fee,
            parents,
        } = options;
        write_number(out, *item);
        out.extend_from_slice(&begun.to_le_bytes());
        out.extend_from_slice(&expires.to_le_bytes());
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        out.push(
            flag(*direct, DIRECT)
                | flag(*settle_on_reject, SETTLE_ON_REJECT)
                | flag(lifetime.is_some(), HAS_LIFETIME)
                | flag(fee.is_some(), HAS_FEE),
        );
        for count in [nodes, listeners, relays] {
            write_number(out, *count as u64);
        }
        write_duration(out, *deadline);
        lifetime.iter().for_each(|lifetime| write_duration(out, *lifetime));
        fee.iter().for_each(|fee| write_number(out, *fee));
        write_string(out, transaction.raw());
        write_number(out, parents.len() as u64);
        parents.iter().for_each(|parent| write_string(out, parent));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (item, begun, expires, flags) = (read_number(reader)?, reader.i64()?, reader.i64()?, reader.u8()?);
        if flags & !(DIRECT | SETTLE_ON_REJECT | HAS_LIFETIME | HAS_FEE) != 0 {
            return Err(DecodeError::InvalidValue { field: "flags" });
        }
        let mut options = BroadcastOptions {
            nodes: read_count(reader)?,
            listeners: read_count(reader)?,
            relays: read_count(reader)?,
            direct: flags & DIRECT != 0,
            deadline: read_duration(reader)?,
            settle_on_reject: flags & SETTLE_ON_REJECT != 0,
            lifetime: if flags & HAS_LIFETIME == 0 { None } else { Some(read_duration(reader)?) },
            fee: if flags & HAS_FEE == 0 { None } else { Some(read_number(reader)?) },
            parents: Vec::new(),
        };
        let transaction = Transaction::from_raw(SharedBytes::copy_from(read_string(reader)?))?;
        // The number is a claim: nothing is set aside for it.
        for _ in 0..read_number(reader)? {
            options.parents.push(read_string(reader)?.to_vec());
        }
        Ok(Self { item, transaction, options, begun, expires })
    }
}

impl Ledger {
    /// Notes what happened next. What is said of a broadcast that is over, or never began, means nothing.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Hold(held) => {
                let restored = Restored { held: *held, told: Vec::new(), heard: Vec::new() };
                self.items.insert(restored.held.item, restored);
            }
            Record::Told { item, address } => {
                if let Some(restored) = self.items.get_mut(&item)
                    && !restored.told.contains(&address)
                {
                    restored.told.push(address);
                }
            }
            Record::Heard { item, address, said } => {
                if let Some(restored) = self.items.get_mut(&item) {
                    restored.heard.push((address, said));
                }
            }
            Record::Over { item } => {
                self.items.remove(&item);
            }
        }
    }

    /// Those that are not over, by number, which is the order in which they began.
    pub(crate) fn into_restored(self) -> Vec<Restored> {
        self.items.into_values().collect()
    }
}

impl GroupBuilder {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; GROUP_HEAD_LEN], count: 0 }
    }

    /// Adds a record, and says where in the group it lies.
    pub(crate) fn push(&mut self, record: &Record) -> Range<usize> {
        let start = self.bytes.len();
        record.write(&mut self.bytes);
        self.count += 1;
        start..self.bytes.len()
    }

    /// Adds records as they stand in another group, and says where in this one they lie.
    pub(crate) fn push_encoded(&mut self, records: &[u8], count: u32) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(records);
        self.count += count;
        start..self.bytes.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether so much is in it that a further record belongs into the next.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_GROUP
    }

    /// The bytes of the group.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = self.bytes.len() - GROUP_HEAD_LEN;
        self.bytes[..8].copy_from_slice(&(length as u64).to_le_bytes());
        self.bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        let check: [u8; 4] = check(&self.bytes[..12]);
        self.bytes[12..GROUP_HEAD_LEN].copy_from_slice(&check);
        let check: [u8; GROUP_CHECK_LEN] = check_of_group(&self.bytes);
        self.bytes.extend_from_slice(&check);
        self.bytes
    }
}

/// What a file of this network begins with.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | name | 14 | `conduit-outbox` |
/// | version | 4 | little-endian; 1 |
/// | magic | 4 | the network's |
/// | genesis | 32 | the network's, in wire order |
/// | check | 8 | the first of the double SHA-256 of everything before |
pub(crate) fn header(network: &Network) -> Vec<u8> {
    let mut header = NAME.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&network.magic());
    header.extend_from_slice(network.genesis().as_wire());
    let check: [u8; 8] = check(&header);
    header.extend_from_slice(&check);
    header
}

/// Reads the beginning of a file.
///
/// # Errors
///
/// What keeps this file from being the network's.
pub(crate) fn check_header(network: &Network, bytes: &[u8]) -> Result<(), FileFault> {
    let mut reader = Reader::new(bytes);
    if reader.take(NAME.len()) != Ok(NAME) {
        return Err(FileFault::Damaged);
    }
    // Told first, as another version may go on otherwise.
    match reader.u32() {
        Ok(VERSION) => {}
        Ok(found) => return Err(FileFault::Version { found }),
        Err(_) => return Err(FileFault::Damaged),
    }
    let Some((body, expected)) = bytes.get(..HEADER_LEN).and_then(<[u8]>::split_last_chunk::<8>) else {
        return Err(FileFault::Damaged);
    };
    if check::<8>(body) != *expected {
        return Err(FileFault::Damaged);
    }
    if bytes[..HEADER_LEN] == header(network) { Ok(()) } else { Err(FileFault::OtherNetwork) }
}

/// The bytes of a group that follow its head.
///
/// # Errors
///
/// [`DecodeError::InvalidValue`] if the head is not as it was written.
pub(crate) fn rest_of_group(head: &[u8; GROUP_HEAD_LEN]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(head);
    let (length, _count) = (reader.u64()?, reader.u32()?);
    if check::<4>(&head[..12]) != reader.array()? {
        return Err(DecodeError::InvalidValue { field: "head" });
    }
    length.checked_add(GROUP_CHECK_LEN as u64).ok_or(DecodeError::InvalidValue { field: "length" })
}

/// Holds a whole group against its check.
///
/// # Errors
///
/// [`DecodeError::InvalidValue`] if it is not as it was written.
pub(crate) fn check_group(group: &[u8]) -> Result<(), DecodeError> {
    match group.split_last_chunk() {
        Some((body, expected)) if check_of_group(body) == *expected => Ok(()),
        _ => Err(DecodeError::InvalidValue { field: "check" }),
    }
}

/// The records of a group that was checked, and where in it they lie.
///
/// # Errors
///
/// What cannot be read although it is as it was written.
pub(crate) fn read_group(group: &[u8]) -> Result<Vec<(Record, Range<usize>)>, DecodeError> {
    let mut head = Reader::new(group);
    let (length, count) = (head.u64()?, head.u32()?);
    let end = usize::try_from(length).ok().and_then(|length| GROUP_HEAD_LEN.checked_add(length));
    let bytes = end.and_then(|end| group.get(GROUP_HEAD_LEN..end)).ok_or(DecodeError::UnexpectedEnd)?;
    let mut reader = Reader::new(bytes);
    let mut records = Vec::new();
    for _ in 0..count {
        let start = GROUP_HEAD_LEN + bytes.len() - reader.rest().len();
        let record = Record::read(&mut reader)?;
        records.push((record, start..GROUP_HEAD_LEN + bytes.len() - reader.rest().len()));
    }
    if reader.is_empty() { Ok(records) } else { Err(DecodeError::InvalidValue { field: "count" }) }
}

fn check<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let digest = sha256d(bytes);
    *digest.first_chunk().expect("a check is shorter than a digest")
}

fn check_of_group(bytes: &[u8]) -> [u8; GROUP_CHECK_LEN] {
    check(bytes)
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(DecodeError::InvalidValue { field: "number" })
}

fn read_count(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    usize::try_from(read_number(reader)?).map_err(|_| DecodeError::InvalidValue { field: "number" })
}

fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    write_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn read_string<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = read_count(reader)?;
    reader.take(length)
}

fn read_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(read_string(reader)?).map_err(|_| DecodeError::InvalidValue { field: "text" })
}

fn write_duration(out: &mut Vec<u8>, duration: Duration) {
    write_number(out, duration.as_secs());
    write_number(out, duration.subsec_nanos().into());
}

fn read_duration(reader: &mut Reader<'_>) -> Result<Duration, DecodeError> {
    let (seconds, nanos) = (read_number(reader)?, read_number(reader)?);
    match u32::try_from(nanos) {
        Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(DecodeError::InvalidValue { field: "duration" }),
    }
}

fn write_address(out: &mut Vec<u8>, address: &PeerAddress) {
    match &address.host {
        Host::Ip(IpAddr::V4(ip)) => {
            out.push(IP_V4);
            out.extend_from_slice(&ip.octets());
        }
        Host::Ip(IpAddr::V6(ip)) => {
            out.push(IP_V6);
            out.extend_from_slice(&ip.octets());
        }
        Host::Name(name) => {
            out.push(HOST_NAME);
            write_string(out, name.as_bytes());
        }
    }
    match address.port {
        None => out.push(0),
        Some(port) => {
            out.push(1);
            out.extend_from_slice(&port.to_le_bytes());
        }
    }
}

fn read_address(reader: &mut Reader<'_>) -> Result<PeerAddress, DecodeError> {
    let invalid = DecodeError::InvalidValue { field: "address" };
    let host = match reader.u8()? {
        IP_V4 => Host::Ip(IpAddr::from(reader.array::<4>()?)),
        IP_V6 => Host::Ip(IpAddr::from(reader.array::<16>()?)),
        HOST_NAME => match read_text(reader)?.parse() {
            Ok(PeerAddress { host: host @ Host::Name(_), port: None }) => host,
            _ => return Err(invalid),
        },
        _ => return Err(invalid),
    };
    let port = match reader.u8()? {
        0 => None,
        1 => Some(reader.u16()?),
        _ => return Err(invalid),
    };
    Ok(PeerAddress { host, port })
}

const NAME: &[u8] = b"conduit-outbox";
const VERSION: u32 = 1;
/// The length of every header.
pub(crate) const HEADER_LEN: usize = 14 + 4 + 4 + 32 + 8;
/// The length of a group's head.
pub(crate) const GROUP_HEAD_LEN: usize = 8 + 4 + 4;
const GROUP_CHECK_LEN: usize = 8;
/// A group ends with the record that takes it here: a few syncs a second are enough for any rate, and little memory is.
const FULL_GROUP: usize = 4 * 1_048_576;

const HOLD: u8 = 1;
const TOLD: u8 = 2;
const RELAYED: u8 = 3;
const REJECTED: u8 = 4;
const OVER: u8 = 5;

const DIRECT: u8 = 1;
const SETTLE_ON_REJECT: u8 = 1 << 1;
const HAS_LIFETIME: u8 = 1 << 2;
const HAS_FEE: u8 = 1 << 3;

const HOST_NAME: u8 = 0;
const IP_V4: u8 = 4;
const IP_V6: u8 = 6;

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::message::TransactionOutput;

    /// A record that begins a broadcast of a transaction of some 70 bytes.
    pub(crate) fn hold(item: u64) -> Record {
        Record::Hold(Box::new(Held {
            item,
            transaction: transaction(item.cast_signed(), 50),
            options: BroadcastOptions::new(),
            begun: 1_700_000_000,
            expires: 1_700_000_600,
        }))
    }

    pub(crate) fn told(item: u64, address: &str) -> Record {
        Record::Told { item, address: address.parse().unwrap() }
    }

    pub(crate) fn relayed(item: u64, address: &str) -> Record {
        Record::Heard { item, address: address.parse().unwrap(), said: Said::Relayed }
    }

    pub(crate) fn rejected(item: u64, address: &str) -> Record {
        let said = Said::Rejected { code: RejectCode::Invalid, reason: "bad".to_owned() };
        Record::Heard { item, address: address.parse().unwrap(), said }
    }

    pub(crate) fn transaction(value: i64, script_len: usize) -> Transaction {
        let script = vec![0x51; script_len];
        Transaction::new(1, &[], &[TransactionOutput { value, script_pubkey: &script }], 0)
    }

    pub(crate) fn restored(records: impl IntoIterator<Item = Record>) -> Vec<Restored> {
        let mut ledger = Ledger::default();
        records.into_iter().for_each(|record| ledger.apply(record));
        ledger.into_restored()
    }

    pub(crate) fn group(records: &[Record]) -> Vec<u8> {
        let mut builder = GroupBuilder::new();
        for record in records {
            builder.push(record);
        }
        builder.finish()
    }

    fn addresses() -> impl Strategy<Value = PeerAddress> {
        let host = prop_oneof![
            any::<u32>().prop_map(|ip| Host::Ip(Ipv4Addr::from(ip).into())),
            any::<u128>().prop_map(|ip| Host::Ip(Ipv6Addr::from(ip).into())),
            "[a-z][a-z0-9._-]{0,40}".prop_map(Host::Name),
        ];
        (host, option::of(any::<u16>())).prop_map(|(host, port)| PeerAddress { host, port })
    }

    fn durations() -> impl Strategy<Value = Duration> {
        (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
    }

    fn all_options() -> impl Strategy<Value = BroadcastOptions> {
        let counts = (any::<usize>(), any::<usize>(), any::<usize>());
        let parents = vec(vec(any::<u8>(), 0..40), 0..3);
        let rest = (any::<bool>(), durations(), any::<bool>(), option::of(durations()), option::of(any::<u64>()));
        (counts, rest, parents).prop_map(|((nodes, listeners, relays), rest, parents)| {
            let (direct, deadline, settle_on_reject, lifetime, fee) = rest;
            BroadcastOptions {
                nodes,
                listeners,
                relays,
                direct,
                deadline,
                settle_on_reject,
                lifetime,
                fee,
                parents,
            }
        })
    }

    fn records() -> impl Strategy<Value = Record> {
        let item = || prop_oneof![0_u64..4, any::<u64>()];
        let said = prop_oneof![
            Just(Said::Relayed),
            (any::<u8>(), any::<String>()).prop_map(|(code, reason)| Said::Rejected { code: code.into(), reason }),
        ];
        let held = (item(), any::<i64>(), 0_usize..300, all_options(), any::<i64>(), any::<i64>());
        prop_oneof![
            held.prop_map(|(item, value, script_len, options, begun, expires)| {
                let transaction = transaction(value, script_len);
                Record::Hold(Box::new(Held { item, transaction, options, begun, expires }))
            }),
            (item(), addresses()).prop_map(|(item, address)| Record::Told { item, address }),
            (item(), addresses(), said).prop_map(|(item, address, said)| Record::Heard { item, address, said }),
            item().prop_map(|item| Record::Over { item }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_record_reads_back(records in vec(records(), 0..12)) {
            let mut builder = GroupBuilder::new();
            let places: Vec<_> = records.iter().map(|record| builder.push(record)).collect();
            let bytes = builder.finish();
            let (head, rest) = bytes.split_first_chunk().unwrap();
            prop_assert_eq!(rest_of_group(head), Ok(rest.len() as u64));
            prop_assert_eq!(check_group(&bytes), Ok(()));
            let expected: Vec<_> = records.into_iter().zip(places).collect();
            prop_assert_eq!(read_group(&bytes), Ok(expected));
        }

        /// As if whoever wrote them had made the check, too.
        #[test]
        fn arbitrary_records_are_read_or_refused(
            kind in 0_u8..7,
            bytes in vec(prop_oneof![any::<u8>(), 0_u8..8], 0..200),
            count in 0_u32..4,
        ) {
            let mut builder = GroupBuilder::new();
            builder.push_encoded(&[&[kind], &bytes[..]].concat(), count);
            if let Ok(records) = read_group(&builder.finish()) {
                let group = group(&records.iter().map(|(record, _)| record.clone()).collect::<Vec<_>>());
                let again = read_group(&group).unwrap();
                prop_assert!(again.iter().map(|(record, _)| record).eq(records.iter().map(|(record, _)| record)));
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(read_number(&mut Reader::new(&out)), Ok(number));
            for cut in 0..out.len() {
                assert_eq!(read_number(&mut Reader::new(&out[..cut])), Err(DecodeError::UnexpectedEnd));
            }
        }
        let invalid = Err(DecodeError::InvalidValue { field: "number" });
        assert_eq!(read_number(&mut Reader::new(&[[0xff; 9].as_slice(), &[2]].concat())), invalid);
        assert_eq!(read_number(&mut Reader::new(&[0x80; 20])), invalid);
    }

    #[test]
    fn what_is_over_is_not_restored() {
        let (a, b) = ("1.2.3.4:1", "node.example:2");
        let live = restored([hold(2), told(2, a), hold(1), told(1, a), told(1, b), told(1, a), relayed(1, b)]);
        assert_eq!(live.iter().map(|restored| restored.held.item).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(live[0].told, [a, b].map(|address| address.parse().unwrap()));
        assert_eq!(live[0].heard, [(b.parse().unwrap(), Said::Relayed)]);
        let over = Record::Over { item: 1 };
        assert_eq!(restored([hold(1), told(1, a), over.clone(), told(1, b), rejected(1, b)]), []);
        let again = restored([hold(1), told(1, a), over, hold(1), told(1, b)]);
        assert_eq!(again[0].told, [b.parse().unwrap()], "a number that is used again begins anew");
    }

    #[test]
    fn headers_of_other_versions_and_networks_are_told_apart() {
        let header = header(&Network::Test);
        assert_eq!(header.len(), HEADER_LEN);
        assert_eq!(check_header(&Network::Test, &header), Ok(()));
        assert_eq!(check_header(&Network::Main, &header), Err(FileFault::OtherNetwork));
        for length in 0..header.len() {
            assert_eq!(check_header(&Network::Test, &header[..length]), Err(FileFault::Damaged));
        }
        for bit in 0..header.len() * 8 {
            let mut flipped = header.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let fault = check_header(&Network::Test, &flipped).expect_err("a damaged header was read");
            assert_eq!(matches!(fault, FileFault::Version { .. }), (14..18).contains(&(bit / 8)), "{fault:?}");
        }
    }

    #[test]
    fn a_held_transaction_costs_few_bytes_more_than_its_own() {
        let Record::Hold(held) = hold(1_000_000) else { unreachable!() };
        let mut builder = GroupBuilder::new();
        let place = builder.push(&Record::Hold(held.clone()));
        assert!(place.len() - held.transaction.raw().len() <= 32, "{} bytes", place.len());
    }
}
