//! Layer 2 under generated input: everything round-trips, nothing panics, nothing is allocated on a peer's word.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use conduit::message::{
    AuthCh, Block, BlockHeader, GetHeaders, Inventory, InventoryKind, Message, NetworkAddress, OutPoint, ProtoConf,
    Reject, RejectCode, SendCmpct, Services, Text, TimestampedAddress, Transaction, TransactionInput,
    TransactionOutput, Version,
};
use conduit::wire::{BlockHash, Command, FrameHeader, MerkleRoot, SharedBytes, Txid, checksum, sha256d};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const MAGIC: [u8; 4] = [0xda, 0xb5, 0xbf, 0xfa];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_round_trips(message in message()) {
        let mut payload = Vec::new();
        message.encode_payload(&mut payload);
        prop_assert_eq!(&Message::decode(message.command(), &payload).unwrap(), &message);
        let digest = sha256d(&payload);
        let shared = Message::decode_shared(message.command(), SharedBytes::from(payload.clone()), Some(&digest));
        prop_assert_eq!(&shared.unwrap(), &message);

        let frame = message.to_frame(MAGIC);
        let header = FrameHeader::decode(&frame, MAGIC).unwrap().unwrap();
        prop_assert_eq!(header, FrameHeader::new(MAGIC, message.command(), payload.len() as u64, checksum(&payload)));
        prop_assert_eq!(frame.payload(), &payload[..]);
    }

    #[test]
    fn every_message_round_trips_through_json(message in message()) {
        let text = serde_json::to_string(&message).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Message>(&text).unwrap(), &message, "{}", text);
    }

    #[test]
    fn arbitrary_payloads_are_decoded_or_refused(command in command(), payload in vec(any::<u8>(), 0..2_000)) {
        check_decoding(command, &payload);
    }

    /// Small bytes make short counts, which get further than random ones do.
    #[test]
    fn arbitrary_payloads_of_small_bytes_are_decoded_or_refused(
        command in command(),
        payload in vec(select(&[0, 0, 0, 1, 1, 2, 3, 10, 41, 0xfc, 0xfd, 0xfe, 0xff][..]), 0..400),
    ) {
        check_decoding(command, &payload);
    }

    #[test]
    fn messages_with_broken_bytes_are_decoded_or_refused(message in message(), breaks in vec(any::<Break>(), 1..5)) {
        let mut payload = Vec::new();
        message.encode_payload(&mut payload);
        check_decoding(message.command(), &broken(payload, &breaks));
    }

    #[test]
    fn real_payloads_with_broken_bytes_are_decoded_or_refused(
        (command, payload) in select(vectors()),
        breaks in vec(any::<Break>(), 1..5),
    ) {
        check_decoding(command, &broken(payload, &breaks));
    }
}

/// The largest count in front of little: what is reserved must follow what came.
#[test]
fn a_count_alone_allocates_nothing() {
    for command in commands() {
        for prefix in 0..100 {
            for count in [&[0xfe, 0xff, 0xff, 0xff, 0xff][..], &[0xfd, 0xff, 0xff], &[0xfc]] {
                let mut payload = vec![0; prefix];
                payload.extend_from_slice(count);
                payload.resize(payload.len() + 64, 1);
                check_decoding(command, &payload);
            }
        }
    }
}

/// Decoding must not panic, must allocate in proportion to the payload, and must read back what it encodes.
fn check_decoding(command: Command, payload: &[u8]) {
    let mut decoded = None;
    let allocated = allocation_counter::measure(|| decoded = Some(Message::decode(command, payload)));
    // An addr item of 30 bytes takes 44 in memory, broken UTF-8 four times itself; 512 covers reference counts.
    let allowed = 4 * payload.len() as u64 + 512;
    assert!(allocated.bytes_total <= allowed, "{command}: {allocated:?} for {} bytes", payload.len());

    let shared = SharedBytes::copy_from(payload);
    let mut decoded_shared = None;
    let allocated =
        allocation_counter::measure(|| decoded_shared = Some(Message::decode_shared(command, shared, None)));
    assert!(allocated.bytes_total <= allowed, "{command}: {allocated:?} for {} bytes", payload.len());
    assert_eq!(decoded, decoded_shared);

    let Some(Ok(message)) = decoded else { return };
    assert_eq!(message.command(), command);
    let mut encoded = Vec::new();
    message.encode_payload(&mut encoded);
    assert_eq!(Message::decode(command, &encoded).as_ref(), Ok(&message));
    read_in_place(&message);
}

/// Walks what is read only when asked for.
fn read_in_place(message: &Message) {
    match message {
        Message::Tx(transaction) => {
            let inputs: Vec<_> = transaction.inputs().collect();
            let outputs: Vec<_> = transaction.outputs().collect();
            assert_eq!(transaction.inputs().len(), inputs.len());
            assert_eq!(transaction.outputs().len(), outputs.len());
            let rebuilt = Transaction::new(transaction.version(), &inputs, &outputs, transaction.lock_time());
            assert_eq!(rebuilt, *transaction);
        }
        Message::Block(block) => {
            assert_eq!(block.transactions().count(), block.transaction_count());
            let transactions: Vec<_> = block.transactions().map(|view| view.to_transaction()).collect();
            assert_eq!(Block::new(*block.header(), transactions), *block);
            let _ = block.check_merkle_root();
        }
        _ => {}
    }
}

/// One mistake in a payload.
#[derive(Clone, Debug)]
enum Break {
    Set(Index, u8),
    Cut(Index),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
}

impl Arbitrary for Break {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        prop_oneof![
            4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            1 => any::<Index>().prop_map(Self::Cut),
            1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            1 => any::<Index>().prop_map(Self::Remove),
            1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Self::Repeat(from, to)),
        ]
        .boxed()
    }
}

fn broken(mut payload: Vec<u8>, breaks: &[Break]) -> Vec<u8> {
    for each in breaks {
        let len = payload.len();
        match each {
            Break::Insert(at, byte) => payload.insert(at.index(len + 1), *byte),
            _ if len == 0 => {}
            Break::Set(at, byte) => payload[at.index(len)] = *byte,
            Break::Cut(at) => payload.truncate(at.index(len)),
            Break::Remove(at) => drop(payload.remove(at.index(len))),
            Break::Repeat(from, to) => {
                let (from, to) = (from.index(len), to.index(len));
                payload.extend_from_within(from.min(to)..from.max(to));
            }
        }
    }
    payload
}

fn vectors() -> Vec<(Command, Vec<u8>)> {
    let path = format!("{}/tests/data/messages.json", env!("CARGO_MANIFEST_DIR"));
    let vectors: Vec<serde_json::Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    vectors
        .iter()
        .map(|vector| {
            let hex = vector["message_hex"].as_str().unwrap();
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            let magic = *bytes.first_chunk().unwrap();
            let header = FrameHeader::decode(&bytes, magic).unwrap().unwrap();
            (header.command, bytes[header.encoded_len()..].to_vec())
        })
        .collect()
}

/// Every command of the vectors, and one that nobody defines.
fn commands() -> Vec<Command> {
    let mut commands: Vec<Command> = vectors().into_iter().map(|(command, _)| command).collect();
    commands.push(Command::new("nonsense").unwrap());
    commands.sort();
    commands.dedup();
    commands
}

fn command() -> impl Strategy<Value = Command> {
    select(commands())
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        version().prop_map(Message::from),
        Just(Message::Verack),
        any::<u64>().prop_map(|nonce| Message::Ping { nonce }),
        any::<u64>().prop_map(|nonce| Message::Pong { nonce }),
        protoconf().prop_map(Message::ProtoConf),
        vec(inventory(), 0..300).prop_map(Message::Inv),
        vec(inventory(), 0..20).prop_map(Message::GetData),
        vec(inventory(), 0..20).prop_map(Message::NotFound),
        transaction().prop_map(Message::Tx),
        (header(), vec(transaction(), 0..8))
            .prop_map(|(header, transactions)| Message::Block(Block::new(header, transactions))),
        getheaders().prop_map(Message::GetHeaders),
        vec(header(), 0..300).prop_map(Message::Headers),
        Just(Message::GetAddr),
        vec(timestamped_address(), 0..300).prop_map(Message::Addr),
        reject().prop_map(Message::from),
        Just(Message::SendHeaders),
        any::<i64>().prop_map(|satoshis_per_kilobyte| Message::FeeFilter { satoshis_per_kilobyte }),
        (any::<bool>(), any::<u64>())
            .prop_map(|(announce, version)| Message::SendCmpct(SendCmpct { announce, version })),
        (any::<u32>(), vec(any::<u8>(), 0..100))
            .prop_map(|(version, challenge)| Message::AuthCh(AuthCh { version, challenge })),
        ("[ -~]{8,12}", vec(any::<u8>(), 0..100)).prop_map(|(command, payload)| Message::Unknown {
            // The prefix keeps it from being one that has a type.
            command: Command::new(&format!("?{}", &command[..8])).unwrap(),
            payload: payload.into(),
        }),
    ]
}

fn version() -> impl Strategy<Value = Version> {
    let whole = (
        (any::<i32>(), any::<u64>(), any::<i64>(), address(), address(), any::<u64>()),
        text(256),
        any::<i32>(),
        option::of((any::<bool>(), option::of(vec(any::<u8>(), 0..=129)))),
    )
        .prop_map(
            |((version, services, timestamp, receiver, sender, nonce), user_agent, start_height, rest)| {
                let mut message = Version::new(Services(services), nonce, user_agent, start_height, timestamp);
                message.version = version;
                message.receiver = receiver;
                message.sender = sender;
                message.relay = rest.as_ref().map(|(relay, _)| *relay);
                message.association_id = rest.and_then(|(_, id)| id);
                message
            },
        );
    // Shortened ones come only from the wire.
    (whole, select(vec![None, Some(46), Some(80)])).prop_map(|(whole, cut)| {
        let Some(cut) = cut else { return whole };
        let mut payload = Vec::new();
        Message::from(whole).encode_payload(&mut payload);
        match Message::decode(Command::VERSION, &payload[..cut]) {
            Ok(Message::Version(shortened)) => *shortened,
            other => panic!("{other:?}"),
        }
    })
}

fn text(limit: usize) -> impl Strategy<Value = Text> {
    prop_oneof![
        vec(any::<u8>(), 0..=limit).prop_map(|bytes| Text::from_bytes(&bytes)),
        "[ -~]{0,12}".prop_map(Text::from),
    ]
}

fn address() -> impl Strategy<Value = NetworkAddress> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()),
        Just(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ];
    (any::<u64>(), ip, any::<u16>()).prop_map(|(services, ip, port)| NetworkAddress {
        services: Services(services),
        ip,
        port,
    })
}

fn timestamped_address() -> impl Strategy<Value = TimestampedAddress> {
    (any::<u32>(), address()).prop_map(|(time, address)| TimestampedAddress { time, address })
}

fn protoconf() -> impl Strategy<Value = ProtoConf> {
    (ProtoConf::MIN_RECV_PAYLOAD_LENGTH.., option::of(text(650))).prop_map(
        |(max_recv_payload_length, stream_policies)| ProtoConf { max_recv_payload_length, stream_policies },
    )
}

fn inventory() -> impl Strategy<Value = Inventory> {
    let kind = prop_oneof![(0_u32..8).prop_map(InventoryKind::from), any::<u32>().prop_map(InventoryKind::from)];
    (kind, any::<[u8; 32]>()).prop_map(|(kind, hash)| Inventory { kind, hash })
}

fn header() -> impl Strategy<Value = BlockHeader> {
    (any::<i32>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(version, previous, merkle_root, time, bits, nonce)| BlockHeader {
            version,
            previous: BlockHash::from_wire(previous),
            merkle_root: MerkleRoot::from_wire(merkle_root),
            time,
            bits,
            nonce,
        },
    )
}

fn getheaders() -> impl Strategy<Value = GetHeaders> {
    (any::<u32>(), vec(any::<[u8; 32]>(), 0..40), any::<[u8; 32]>()).prop_map(|(version, locator, stop)| {
        let locator: Vec<_> = locator.into_iter().map(BlockHash::from_wire).collect();
        let mut request = GetHeaders::new(locator).stop_at(BlockHash::from_wire(stop));
        request.version = version;
        request
    })
}

fn reject() -> impl Strategy<Value = Reject> {
    (text(12), any::<u8>(), text(111), option::of(any::<[u8; 32]>()))
        .prop_map(|(message, code, reason, hash)| Reject { message, code: RejectCode::from(code), reason, hash })
}

fn transaction() -> impl Strategy<Value = Transaction> {
    // Scripts on both sides of the sizes at which their length takes more bytes.
    let script = || prop_oneof![vec(any::<u8>(), 0..120), vec(any::<u8>(), 250..260)];
    let input = (any::<[u8; 32]>(), any::<u32>(), script(), any::<u32>());
    let output = (any::<i64>(), script());
    (any::<i32>(), vec(input, 0..5), vec(output, 0..5), any::<u32>()).prop_map(
        |(version, inputs, outputs, lock_time)| {
            let inputs: Vec<_> = inputs
                .iter()
                .map(|(txid, index, script_sig, sequence)| TransactionInput {
                    previous_output: OutPoint { txid: Txid::from_wire(*txid), index: *index },
                    script_sig,
                    sequence: *sequence,
                })
                .collect();
            let outputs: Vec<_> = outputs
                .iter()
                .map(|(value, script_pubkey)| TransactionOutput { value: *value, script_pubkey })
                .collect();
            Transaction::new(version, &inputs, &outputs, lock_time)
        },
    )
}
