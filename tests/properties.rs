//! Layer 2 under generated input: everything round-trips, nothing panics, nothing is allocated on a peer's word.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use conduit::block::{PartialMerkleTree, merkle_root};
use conduit::message::{
    Alert, AuthCh, AuthResp, Block, BlockHeader, BlockTxn, BloomFilter, CompactBlock, CreateStrm, DoubleSpendFork,
    DsDetected, EnrichedHeader, FilterAdd, FilterLoad, FilterUpdate, GetBlockTxn, GetBlocks, GetHdrsEn, GetHeaders,
    Inventory, InventoryKind, MerkleBlock, MerkleProof, Message, NetworkAddress, OutPoint, ProofNode, ProofSubject,
    ProofTarget, ProtoConf, ProvenTransaction, Reconstruction, Reject, RejectCode, RevokeMid, SendCmpct, Services,
    Signature, StreamAck, StreamType, Text, TimestampedAddress, Transaction, TransactionInput, TransactionOutput,
    Version,
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

    #[test]
    fn a_bloom_filter_never_misses_what_it_holds(
        elements in vec(vec(any::<u8>(), 0..60), 1..100),
        room in 1_u32..200,
        rate in 0.000_001..0.999,
        tweak in any::<u32>(),
    ) {
        let mut filter = BloomFilter::new(room, rate, tweak, FilterUpdate::All).unwrap();
        for element in &elements {
            filter.insert(element).unwrap();
        }
        let received = BloomFilter::try_from(FilterLoad::from(filter.clone())).unwrap();
        for element in &elements {
            prop_assert!(filter.contains(element) && received.contains(element));
        }
    }

    #[test]
    fn a_filter_with_a_part_of_a_transaction_matches_it(transaction in spending(), part in any::<Index>()) {
        let mut parts = vec![transaction.txid().as_wire().to_vec()];
        for input in transaction.inputs() {
            let outpoint = input.previous_output;
            parts.push([&outpoint.txid.as_wire()[..], &outpoint.index.to_le_bytes()].concat());
        }
        let mut filter = BloomFilter::new(10, 0.001, 0, FilterUpdate::None).unwrap();
        filter.insert(&parts[part.index(parts.len())]).unwrap();
        prop_assert!(filter.matches(transaction.view()));
    }

    #[test]
    fn a_partial_tree_gives_back_any_matches(matches in vec(any::<bool>(), 1..200)) {
        let txids: Vec<_> = (0..matches.len()).map(|i| Txid::from_wire(sha256d(&i.to_le_bytes()))).collect();
        let tree = PartialMerkleTree::new(&txids, |i, _| matches[i]).unwrap();
        let found = tree.extract().unwrap();
        prop_assert_eq!(found.root, merkle_root(txids.clone()).unwrap());
        let expected: Vec<_> = (0..).zip(txids).filter(|(i, _)| matches[*i as usize]).collect();
        prop_assert_eq!(found.matches, expected);
    }

    #[test]
    fn any_transaction_of_a_block_is_proven(count in 1_usize..200, index in any::<Index>(), repeated in any::<bool>()) {
        let txids: Vec<_> = (0..count).map(|i| Txid::from_wire(sha256d(&i.to_le_bytes()))).collect();
        let root = merkle_root(txids.clone()).unwrap();
        let proof = MerkleProof::new(&txids, index.index(count), ProofTarget::MerkleRoot(root)).unwrap();
        let proof = if repeated { proof.with_repeated_hashes() } else { proof };
        prop_assert_eq!(proof.fold(), Ok(root));
        prop_assert_eq!(&MerkleProof::from_bytes(&proof.to_bytes()).unwrap(), &proof);
        let text = serde_json::to_string(&proof).unwrap();
        prop_assert_eq!(&serde_json::from_str::<MerkleProof>(&text).unwrap(), &proof);
    }

    /// Whatever is known and prefilled, the block comes back, at once or after one answer.
    #[test]
    fn a_compact_block_becomes_the_block_again(
        others in vec((spending(), any::<bool>(), any::<bool>()), 0..30),
        nonce in any::<u64>(),
    ) {
        let input = TransactionInput { previous_output: OutPoint::NULL, script_sig: &[1, 2], sequence: 0 };
        let mut all = vec![Transaction::new(1, &[input], &[], 0)];
        all.extend(others.iter().map(|(transaction, _, _)| transaction.clone()));
        let mut header = BlockHeader::decode(&[7; 80]);
        header.merkle_root = merkle_root(all.iter().map(Transaction::txid)).unwrap();
        let block = Block::new(header, all.clone());
        let prefilled = |index: u32| index == 0 || others[index as usize - 1].1;
        let compact = CompactBlock::with_prefilled(&block, nonce, prefilled);
        prop_assert_eq!(compact.transaction_count(), all.len());
        let known = others.iter().filter(|(_, _, known)| *known).map(|(transaction, _, _)| transaction);
        match compact.reconstruct(known).unwrap() {
            Reconstruction::Complete(complete) => prop_assert_eq!(complete, block),
            Reconstruction::Partial(partial) => {
                let request = partial.request();
                let wanted = request.indexes().iter().map(|index| all[*index as usize].view());
                let answer = BlockTxn::new(request.block_hash, wanted);
                prop_assert_eq!(partial.fill(&answer).unwrap(), block);
            }
        }
    }
}

/// The least bytes on the wire for the most in memory.
#[test]
fn the_smallest_items_stay_within_the_allowance() {
    let bare = Transaction::new(1, &[], &[], 0);
    let header = BlockHeader::decode(&[7; 80]);
    let txid = ProofSubject::Txid(bare.txid());
    let whole = ProofSubject::Transaction(bare.clone());
    for subject in [txid, whole] {
        let target = ProofTarget::MerkleRoot(MerkleRoot::ZERO);
        let proof = MerkleProof { index: 0, subject, target, nodes: vec![] };
        let proven = ProvenTransaction { transaction: bare.clone(), proof: proof.clone() };
        for miner_info in [None, Some(Box::new(proven.clone()))] {
            let item = EnrichedHeader {
                header,
                transaction_count: 1,
                no_more_headers: false,
                coinbase: Some(Box::new(proven.clone())),
                miner_info,
            };
            check_message(&Message::HdrsEn(vec![item; 1_000]));
        }
        let fork = DoubleSpendFork { headers: vec![header], proof };
        check_message(&Message::DsDetected(DsDetected { version: 1, forks: vec![fork; 1_000] }));
    }
    let block = Block::new(header, vec![bare.clone(); 1_000]);
    check_message(&Message::CmpctBlock(Box::new(CompactBlock::with_prefilled(&block, 0, |_| true))));
    check_message(&Message::CmpctBlock(Box::new(CompactBlock::with_prefilled(&block, 0, |_| false))));
    check_message(&Message::BlockTxn(Box::new(BlockTxn::new(block.hash(), block.transactions()))));
    let indexes: Vec<u32> = (0..1_000).collect();
    check_message(&Message::GetBlockTxn(GetBlockTxn::new(block.hash(), indexes)));
}

fn check_message(message: &Message) {
    let mut payload = Vec::new();
    message.encode_payload(&mut payload);
    check_decoding(message.command(), &payload);
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
        Message::MerkleBlock(block) => drop(block.matches()),
        Message::CmpctBlock(block) => {
            assert_eq!(block.prefilled().count(), block.prefilled().len());
            let _ = block.reconstruct([]);
        }
        Message::BlockTxn(answer) => assert_eq!(answer.transactions().count(), answer.transactions().len()),
        Message::HdrsEn(items) => {
            for item in items {
                let _ = item.verify();
            }
        }
        Message::DataRefTx(proven) => {
            let _ = proven.proof.fold();
        }
        Message::DsDetected(notice) => {
            let _ = notice.check();
        }
        Message::Alert(alert) => drop(alert.details()),
        Message::FilterLoad(load) => {
            let filter = BloomFilter::try_from(load.clone());
            assert_eq!(filter.is_ok(), load.is_within_limits());
            let _ = filter.map(|filter| filter.contains(b"anything"));
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
        locator_message(),
        vec(enriched_header(), 0..5).prop_map(Message::HdrsEn),
        Just(Message::SendHdrsEn),
        option::of(any::<i64>()).prop_map(|age_seconds| Message::Mempool { age_seconds }),
        (vec(any::<u8>(), 0..100), any::<u32>(), any::<u32>(), any::<u8>()).prop_map(
            |(filter, hash_functions, tweak, flags)| {
                Message::FilterLoad(FilterLoad { filter, hash_functions, tweak, flags })
            }
        ),
        vec(any::<u8>(), 0..600).prop_map(|data| Message::FilterAdd(FilterAdd { data })),
        Just(Message::FilterClear),
        (header(), any::<u32>(), vec(any::<[u8; 32]>(), 0..30), vec(any::<u8>(), 0..20)).prop_map(
            |(header, total_transactions, hashes, flags)| {
                let tree = PartialMerkleTree { total_transactions, hashes, flags };
                Message::MerkleBlock(Box::new(MerkleBlock { header, tree }))
            }
        ),
        (header(), vec((transaction(), any::<bool>()), 0..8), any::<u64>()).prop_map(|(header, items, nonce)| {
            let block = Block::new(header, items.iter().map(|(transaction, _)| transaction.clone()).collect());
            let is_prefilled = |index: u32| items[index as usize].1;
            Message::CmpctBlock(Box::new(CompactBlock::with_prefilled(&block, nonce, is_prefilled)))
        }),
        (any::<[u8; 32]>(), vec(prop_oneof![0_u32..1_000, any::<u32>()], 0..50)).prop_map(|(hash, indexes)| {
            Message::GetBlockTxn(GetBlockTxn::new(BlockHash::from_wire(hash), indexes))
        }),
        (any::<[u8; 32]>(), vec(transaction(), 0..8)).prop_map(|(hash, transactions)| {
            let views = transactions.iter().map(Transaction::view);
            Message::BlockTxn(Box::new(BlockTxn::new(BlockHash::from_wire(hash), views)))
        }),
        proven().prop_map(|proven| Message::DataRefTx(Box::new(proven))),
        rare_message(),
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

/// One that spends something, as every real one does.
fn spending() -> impl Strategy<Value = Transaction> {
    (any::<[u8; 32]>(), any::<u32>(), vec(any::<u8>(), 0..50), vec(any::<u8>(), 0..50)).prop_map(
        |(txid, index, script_sig, script_pubkey)| {
            let previous_output = OutPoint { txid: Txid::from_wire(txid), index };
            let input = TransactionInput { previous_output, script_sig: &script_sig, sequence: 1 };
            let output = TransactionOutput { value: 5, script_pubkey: &script_pubkey };
            Transaction::new(1, &[input], &[output], 0)
        },
    )
}

fn locator_message() -> impl Strategy<Value = Message> {
    (getheaders(), any::<bool>()).prop_map(|(GetHeaders { version, locator, stop }, enriched)| {
        if enriched {
            Message::GetHdrsEn(GetHdrsEn { version, locator, stop })
        } else {
            Message::GetBlocks(GetBlocks { version, locator, stop })
        }
    })
}

/// A proof in the form that messages hold: no header as target.
fn proof() -> impl Strategy<Value = MerkleProof> {
    let subject = prop_oneof![
        any::<[u8; 32]>().prop_map(|txid| ProofSubject::Txid(Txid::from_wire(txid))),
        spending().prop_map(ProofSubject::Transaction),
    ];
    let target = (any::<[u8; 32]>(), any::<bool>()).prop_map(|(hash, is_root)| {
        if is_root {
            ProofTarget::MerkleRoot(MerkleRoot::from_wire(hash))
        } else {
            ProofTarget::BlockHash(BlockHash::from_wire(hash))
        }
    });
    let node = prop_oneof![any::<[u8; 32]>().prop_map(ProofNode::from), Just(ProofNode::Duplicate)];
    (any::<u32>(), subject, target, vec(node, 0..=32)).prop_map(|(index, subject, target, nodes)| MerkleProof {
        index,
        subject,
        target,
        nodes,
    })
}

fn proven() -> impl Strategy<Value = ProvenTransaction> {
    (transaction(), proof()).prop_map(|(transaction, proof)| ProvenTransaction { transaction, proof })
}

fn enriched_header() -> impl Strategy<Value = EnrichedHeader> {
    let part = || option::of(proven().prop_map(Box::new));
    (header(), any::<u32>(), any::<bool>(), part(), part()).prop_map(
        |(header, transaction_count, no_more_headers, coinbase, miner_info)| EnrichedHeader {
            header,
            transaction_count,
            no_more_headers,
            coinbase,
            miner_info,
        },
    )
}

fn rare_message() -> impl Strategy<Value = Message> {
    let key = || vec(any::<u8>(), 33).prop_map(|key| <[u8; 33]>::try_from(key).unwrap());
    let signature = || vec(any::<u8>(), 0..=255).prop_map(|bytes| Signature::new(bytes).unwrap());
    let bytes = || vec(any::<u8>(), 0..100);
    let id = || vec(any::<u8>(), 0..=129);
    let fork = (vec(header(), 1..4), proof()).prop_map(|(headers, proof)| DoubleSpendFork { headers, proof });
    prop_oneof![
        (id(), any::<u8>(), text(64)).prop_map(|(association_id, stream_type, stream_policy)| {
            let stream_type = StreamType::from(stream_type);
            Message::CreateStrm(Box::new(CreateStrm { association_id, stream_type, stream_policy }))
        }),
        (id(), any::<u8>()).prop_map(|(association_id, stream_type)| {
            Message::StreamAck(StreamAck { association_id, stream_type: StreamType::from(stream_type) })
        }),
        (any::<u16>(), vec(fork, 0..4))
            .prop_map(|(version, forks)| Message::DsDetected(DsDetected { version, forks })),
        (any::<u32>(), key(), key(), key(), signature(), signature()).prop_map(
            |(version, revocation_key, miner_id, revocation_message, revocation_signature, miner_id_signature)| {
                Message::RevokeMid(Box::new(RevokeMid {
                    version,
                    revocation_key,
                    miner_id,
                    revocation_message,
                    revocation_signature,
                    miner_id_signature,
                }))
            }
        ),
        (bytes(), any::<u64>(), bytes()).prop_map(|(public_key, client_nonce, signature)| {
            Message::AuthResp(Box::new(AuthResp { public_key, client_nonce, signature }))
        }),
        (bytes(), bytes()).prop_map(|(payload, signature)| Message::Alert(Alert { payload, signature })),
    ]
}
