//! The wire specification's test vectors: every frame at every split, field by field, and encoded back.
//!
//! All 65 frames, with two exceptions: the ping in an extended frame is encoded back into a basic one, and fields that
//! tell how a vector was made are checked in `contents`.
//!
//! Layers 1 and 2. The data and its origin are in `tests/data`.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod contents;
mod fields;

use std::fs;
use std::net::{IpAddr, SocketAddr};

use conduit::block::{MerkleError, merkle_root};
use conduit::message::{
    Block, BlockHeader, Inventory, InventoryKind, Message, NetworkAddress, Services, Text, Transaction,
    TransactionInput, TransactionOutput,
};
use conduit::wire::{
    Command, DecodeError, FrameDecoder, FrameError, FrameHeader, FramePart, PayloadLimits, SharedBytes, Txid,
    checksum, sha256d,
};
use fields::fields_of;
use serde_json::{Value, json};

const LIMITS: PayloadLimits = PayloadLimits { general: 2_097_152, block: u64::MAX };
const MAINNET: [u8; 4] = [0xe3, 0xe1, 0xf3, 0xe8];

#[test]
fn every_frame_is_the_same_at_every_split() {
    for vector in vectors("messages.json") {
        let bytes = bytes(&vector["message_hex"]);
        let magic = magic(&vector);
        let name = &vector["name"];
        let (header, payload) = frame(magic, &bytes, bytes.len()).expect("valid frame");
        assert_eq!(header.command.as_str(), vector["command"], "{name}");
        assert_eq!(header.length, payload.len() as u64, "{name}");
        match header.checksum {
            Some(sum) => assert_eq!(sum, checksum(&payload), "{name}"),
            None => assert_eq!(name, "extmsg_small_ping"),
        }
        for size in 1..=bytes.len() {
            let split = frame(magic, &bytes, size).expect("valid frame");
            assert_eq!(split, (header, payload.clone()), "{name}, chunk size {size}");
        }
    }
}

#[test]
fn every_message_encodes_back_byte_for_byte() {
    for vector in vectors("messages.json") {
        let bytes = bytes(&vector["message_hex"]);
        let magic = magic(&vector);
        let name = &vector["name"];
        let (header, payload) = frame(magic, &bytes, bytes.len()).expect("valid frame");
        let message = Message::decode(header.command, &payload).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(message.command(), header.command, "{name}");
        let mut encoded = Vec::new();
        message.encode_payload(&mut encoded);
        assert_eq!(encoded, payload, "{name}");
        let frame = message.to_frame(magic);
        if header.is_extended() {
            // A small payload goes back into a basic frame.
            assert_eq!(frame.len(), bytes.len() - 20, "{name}");
            assert_eq!(FrameHeader::decode(&frame, magic).unwrap().unwrap().checksum, Some(checksum(&payload)));
        } else {
            assert_eq!(*frame, *bytes, "{name}");
        }
        let digest = sha256d(&payload);
        let shared = Message::decode_shared(header.command, SharedBytes::from(payload), Some(&digest));
        assert_eq!(shared.as_ref(), Ok(&message), "{name}");
    }
}

#[test]
fn every_message_has_the_fields_of_its_vector() {
    for vector in vectors("messages.json") {
        let fields = &vector["payload_fields"];
        let mut expected = fields.clone();
        if vector["name"] == "extmsg_small_ping" {
            // The rest describes its frame.
            expected = json!({ "nonce": fields["nonce"] });
        }
        // What a filter was made of and what a digest is over are not in the message; `contents` checks them.
        let elsewhere: &[&str] = match vector["command"].as_str().unwrap() {
            "filterload" => &["contains"],
            "authresp" => &["challenge", "signed_digest"],
            _ => &[],
        };
        for field in elsewhere {
            assert!(expected.as_object_mut().unwrap().remove(*field).is_some(), "{}: {field}", vector["name"]);
        }
        assert_eq!(without_nulls(fields_of(&message(&vector))), without_nulls(expected), "{}", vector["name"]);
    }
}

#[test]
fn the_vectors_serialize_to_json_and_back() {
    for vector in vectors("messages.json") {
        let message = message(&vector);
        let text = serde_json::to_string(&message).unwrap();
        let back: Message =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}: {text}", vector["name"]));
        assert_eq!(back, message, "{}: {text}", vector["name"]);
    }
}

#[test]
fn json_shows_names_and_display_hex() {
    let json = |name: &str| serde_json::to_value(message(&vector(name))).unwrap();
    assert_eq!(json("verack_mainnet"), json!({ "command": "verack" }));
    assert_eq!(
        json("notfound_tx"),
        json!({ "command": "notfound", "payload": [{
            "kind": "transaction",
            "hash": "f9fc751cb7dc372406a9f8d738d5e6f8f63bab71986a39cf36ee70ee17036d07",
        }] })
    );
    assert_eq!(
        json("reject_block_high_hash")["payload"],
        json!({
            "message": "block",
            "code": "invalid",
            "reason": "high-hash",
            "hash": "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
        })
    );
    let version = json("version_sv_node_dialling_out");
    assert_eq!(version["payload"]["association_id"], "00c9a646d3e4b54f1fa1b2c3d4e5f60718");
    assert_eq!(version["payload"]["user_agent"], "/Bitcoin SV:1.2.2/");
    assert_eq!(version["payload"]["receiver"], json!({ "services": 33, "ip": "18.197.12.34", "port": 8333 }));
    let tx = json("tx_block_170_payment");
    assert_eq!(tx["payload"]["txid"], "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16");
    assert_eq!(tx["payload"]["outputs"][0]["value"], 1_000_000_000);
    let compact = json("cmpctblock_coinbase_prefilled");
    assert_eq!(compact["command"], "cmpctblock");
    assert_eq!(compact["payload"]["short_ids"][0], "d7c49fcf84b6");
    assert_eq!(compact["payload"]["prefilled"][0]["index"], 0);
    assert_eq!(
        compact["payload"]["prefilled"][0]["transaction"]["txid"],
        "ef1d870d24c85b89d92ad50f4631026f585d6a34e972eaf427475e5d60acf3a3"
    );
    assert_eq!(json("mempool_with_age"), json!({ "command": "mempool", "payload": { "age_seconds": 3_600 } }));
    assert_eq!(json("filterclear"), json!({ "command": "filterclear" }));
    assert_eq!(json("streamack_data1")["payload"]["stream_type"], "data1");
    assert_eq!(
        json("filterload_three_elements_tweaked")["payload"],
        json!({ "filter": "ce4299", "hash_functions": 5, "tweak": 2_147_483_649_u32, "flags": 1 })
    );
    let merkle = json("merkleblock_bip37_sample");
    assert_eq!(merkle["payload"]["tree"]["flags"], "1d");
    assert_eq!(
        merkle["payload"]["tree"]["hashes"][1],
        "652b0aa4cf4f17bdb31f7a1d308331bba91f3b3cbf8f39c9cb5e19d4015b9f01"
    );
    let block = json("block_genesis_mainnet");
    assert_eq!(block["payload"]["hash"], "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f");
    assert_eq!(block["payload"]["header"]["time"], 1_231_006_505);
}

#[test]
fn json_that_contradicts_itself_is_refused() {
    for (name, field) in [("tx_block_170_payment", "txid"), ("block_genesis_mainnet", "hash")] {
        let mut json = serde_json::to_value(message(&vector(name))).unwrap();
        json["payload"][field] = Value::from("00".repeat(32));
        assert!(serde_json::from_value::<Message>(json).is_err(), "{name}");
    }
    let mut request = serde_json::to_value(message(&vector("getblocktxn_differential"))).unwrap();
    request["payload"]["indexes"] = json!([2, 1]);
    assert!(serde_json::from_value::<Message>(request).is_err());
    let mut compact = serde_json::to_value(message(&vector("cmpctblock_three_prefilled"))).unwrap();
    compact["payload"]["prefilled"][2]["index"] = 0.into();
    assert!(serde_json::from_value::<Message>(compact).is_err());
    let mut revocation = serde_json::to_value(message(&vector("revokemid"))).unwrap();
    revocation["payload"]["miner_id_signature"] = "00".repeat(256).into();
    assert!(serde_json::from_value::<Message>(revocation).is_err());
}

#[test]
fn text_that_is_not_utf8_survives_json() {
    let text = Text::from_bytes(b"/\xfe/");
    let json = serde_json::to_string(&text).unwrap();
    assert_eq!(json, r#"{"hex":"2ffe2f"}"#);
    assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text);
}

#[test]
fn edge_cases_end_as_they_should_at_every_split() {
    let cases = vectors("edge_cases.json");
    assert_eq!(cases.len(), 12);
    for case in &cases {
        let bytes = bytes(&case["message_hex"]);
        let name = case["name"].as_str().unwrap();
        for size in 1..=bytes.len() {
            let context = format!("{name}, chunk size {size}");
            let outcome = frame(MAINNET, &bytes, size);
            match name {
                "extended_header_block_4gib_plus_1_header_only" => {
                    let expected = FrameHeader {
                        magic: MAINNET,
                        command: Command::BLOCK,
                        length: (1 << 32) + 1,
                        checksum: None,
                    };
                    assert_eq!(outcome, Ok((expected, vec![])), "{context}");
                }
                "ping_bad_checksum" => {
                    let (header, payload) = outcome.expect("whole frame");
                    assert_ne!(header.checksum, Some(checksum(&payload)), "{context}");
                }
                "ping_command_garbage_after_nul" => {
                    let got = *b"ping\0\0B\0\0\0\0\0";
                    assert_eq!(outcome, Err(FrameError::BadCommand { got }), "{context}");
                }
                "ping_btc_mainnet_magic" => {
                    let got = [0xf9, 0xbe, 0xb4, 0xd9];
                    assert_eq!(outcome, Err(FrameError::WrongMagic { got }), "{context}");
                }
                "inv_length_field_oversized_header_only" => {
                    let (length, limit) = (2_097_153, 2_097_152);
                    let expected = FrameError::PayloadTooLarge { command: Command::INV, length, limit };
                    assert_eq!(outcome, Err(expected), "{context}");
                }
                _ => {
                    let (header, payload) = outcome.expect("whole frame");
                    assert_eq!(header.checksum, Some(checksum(&payload)), "{context}");
                    check_edge_case(name, &Message::decode(header.command, &payload));
                }
            }
        }
    }
}

fn check_edge_case(name: &str, decoded: &Result<Message, DecodeError>) {
    let error = match name {
        "inv_non_canonical_count" => DecodeError::NonCanonicalCompactSize,
        "inv_count_above_32_bits" => DecodeError::CompactSizeTooLarge { value: 1 << 32 },
        "protoconf_zero_fields" => DecodeError::InvalidValue { field: "number_of_fields" },
        "protoconf_limit_below_1mib" => DecodeError::InvalidValue { field: "max_recv_payload_length" },
        "ping_short_payload" => DecodeError::UnexpectedEnd,
        "inv_type_filtered_block" => {
            assert!(
                matches!(decoded, Ok(Message::Inv(items)) if items[..] == [Inventory {
                    kind: InventoryKind::FilteredBlock,
                    hash: items[0].hash,
                }]),
                "{decoded:?}"
            );
            return;
        }
        "getheaders_with_trailing_bytes" => {
            let Ok(Message::GetHeaders(request)) = decoded else { panic!("{decoded:?}") };
            assert_eq!(request.locator.len(), 1);
            return;
        }
        other => panic!("edge case {other} is not covered"),
    };
    assert_eq!(decoded.as_ref(), Err(&error), "{name}");
}

/// A cut inside a field is an error; only whole groups of `version` may be missing, and they stay missing.
#[test]
fn version_may_end_only_between_its_groups() {
    for (name, boundaries) in [
        // The lengths after the receiver, the nonce, the user agent, the start height, the relay byte, the whole.
        ("version_sv_node_dialling_out", vec![46, 80, 99, 103, 104, 122]),
        ("version_sv_node_reply_null_association", vec![46, 80, 99, 103, 104, 105]),
    ] {
        let payload = payload_of(&vector(name));
        for cut in 0..=payload.len() {
            let decoded = Message::decode(Command::VERSION, &payload[..cut]);
            if boundaries.contains(&cut) {
                let message = decoded.unwrap_or_else(|e| panic!("{name} cut at {cut}: {e}"));
                let mut encoded = Vec::new();
                message.encode_payload(&mut encoded);
                assert_eq!(encoded, payload[..cut], "{name} cut at {cut}");
                let json = serde_json::to_string(&message).unwrap();
                assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message);
            } else {
                assert_eq!(decoded, Err(DecodeError::UnexpectedEnd), "{name} cut at {cut}");
            }
        }
        let mut longer = payload.clone();
        longer.extend_from_slice(b"tail");
        assert_eq!(Message::decode(Command::VERSION, &longer), Message::decode(Command::VERSION, &payload));
    }
}

#[test]
fn mempool_is_empty_or_says_whether_an_age_follows() {
    let decode = |payload: &[u8]| Message::decode(Command::MEMPOOL, payload);
    assert_eq!(decode(&[]), Ok(Message::Mempool { age_seconds: None }));
    assert_eq!(decode(&[0]), Ok(Message::Mempool { age_seconds: None }));
    assert_eq!(decode(&[0, 1, 2, 3]), Ok(Message::Mempool { age_seconds: None }));
    let aged = [1, 0x10, 0x0e, 0, 0, 0, 0, 0, 0];
    assert_eq!(decode(&aged), Ok(Message::Mempool { age_seconds: Some(3_600) }));
    for cut in 1..aged.len() {
        assert_eq!(decode(&aged[..cut]), Err(DecodeError::UnexpectedEnd), "cut at {cut}");
    }
}

/// No field of any message is cut without notice, and bytes behind the last field change nothing.
#[test]
fn short_payloads_are_errors_and_tails_are_ignored() {
    for vector in vectors("messages.json") {
        let (command, payload) = (command(&vector), payload_of(&vector));
        let whole = Message::decode(command, &payload).unwrap();
        // `version` and `mempool` have tests of their own: they may end early.
        if matches!(whole, Message::Unknown { .. } | Message::Version(_) | Message::Mempool { .. }) {
            continue;
        }
        // One byte short of the hash that may end a `reject`.
        let longer = [&payload[..], &[0xff; 31]].concat();
        assert_eq!(Message::decode(command, &longer).as_ref(), Ok(&whole), "{}", vector["name"]);
        let digest = sha256d(&longer);
        let shared = Message::decode_shared(command, longer.into(), Some(&digest));
        assert_eq!(shared.as_ref(), Ok(&whole), "{}", vector["name"]);
        let required = match &whole {
            Message::Reject(reject) if reject.hash.is_some() => payload.len() - 32,
            _ => payload.len(),
        };
        for cut in 0..required {
            let decoded = Message::decode(command, &payload[..cut]);
            assert_eq!(decoded, Err(DecodeError::UnexpectedEnd), "{} cut at {cut}", vector["name"]);
        }
    }
}

#[test]
fn counts_and_lengths_over_the_limits_are_refused() {
    let decode = |command, payload: &[u8]| Message::decode(command, payload).unwrap_err();
    let list = |count: u16, item_len: usize| {
        let mut payload = vec![0xfd];
        payload.extend_from_slice(&count.to_le_bytes());
        payload.resize(3 + usize::from(count) * item_len, 0);
        payload
    };
    assert!(Message::decode(Command::HEADERS, &list(2_000, 81)).is_ok());
    let error = DecodeError::TooManyItems { count: 2_001, limit: 2_000 };
    assert_eq!(decode(Command::HEADERS, &list(2_001, 81)), error);
    assert!(Message::decode(Command::ADDR, &list(1_000, 30)).is_ok());
    assert_eq!(decode(Command::ADDR, &list(1_001, 30)), DecodeError::TooManyItems { count: 1_001, limit: 1_000 });
    // The count of a list is a claim: 0xffffffff items without their bytes.
    for command in [Command::INV, Command::HEADERS, Command::ADDR] {
        assert_eq!(decode(command, &[0xfe, 0xff, 0xff, 0xff, 0xff]), DecodeError::UnexpectedEnd);
    }

    let version = payload_of(&vector("version_client_relay_off_no_association"));
    let agent = |len: u16| {
        let mut payload = version[..80].to_vec();
        payload.push(0xfd);
        payload.extend_from_slice(&len.to_le_bytes());
        payload.resize(payload.len() + usize::from(len), b'a');
        payload
    };
    assert!(Message::decode(Command::VERSION, &agent(256)).is_ok());
    let error = DecodeError::FieldTooLong { field: "user_agent", length: 257, limit: 256 };
    assert_eq!(decode(Command::VERSION, &agent(257)), error);
    let id = |len: u8| [&version[..], &[len], &vec![0; usize::from(len)]].concat();
    assert!(Message::decode(Command::VERSION, &id(129)).is_ok());
    let error = DecodeError::FieldTooLong { field: "association_id", length: 130, limit: 129 };
    assert_eq!(decode(Command::VERSION, &id(130)), error);

    let policies =
        |len: u16| [&[2, 0, 0, 0x10, 0, 0xfd][..], &len.to_le_bytes(), &vec![b'a'; usize::from(len)]].concat();
    assert!(Message::decode(Command::PROTOCONF, &policies(650)).is_ok());
    let error = DecodeError::FieldTooLong { field: "stream_policies", length: 651, limit: 650 };
    assert_eq!(decode(Command::PROTOCONF, &policies(651)), error);

    let reject = |message: usize, reason: usize| {
        let (message, reason) = (vec![b'm'; message], vec![b'r'; reason]);
        [&[message.len() as u8][..], &message, &[0x10, reason.len() as u8], &reason].concat()
    };
    assert!(Message::decode(Command::REJECT, &reject(12, 111)).is_ok());
    let error = DecodeError::FieldTooLong { field: "message", length: 13, limit: 12 };
    assert_eq!(decode(Command::REJECT, &reject(13, 0)), error);
    let error = DecodeError::FieldTooLong { field: "reason", length: 112, limit: 111 };
    assert_eq!(decode(Command::REJECT, &reject(2, 112)), error);
}

#[test]
fn a_reject_names_what_it_refuses() {
    let Message::Reject(tx) = message(&vector("reject_tx_double_spend")) else { panic!("not a reject") };
    assert_eq!(tx.txid(), "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16".parse().ok());
    assert_eq!(tx.block_hash(), None);
    assert_eq!(tx.code.to_string(), "0x12 duplicate");
    let Message::Reject(block) = message(&vector("reject_block_high_hash")) else { panic!("not a reject") };
    assert_eq!(block.txid(), None);
    assert_eq!(block.block_hash(), "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048".parse().ok());
    let Message::Reject(bare) = message(&vector("reject_malformed_tx_without_hash")) else {
        panic!("not a reject")
    };
    assert_eq!(bare.txid(), None);
}

#[test]
fn the_real_block_parses_and_its_transactions_are_proven() {
    let block = real_block();
    assert_eq!(block.transaction_count(), 1_557);
    assert_eq!(block.transactions().len(), 1_557);
    assert_eq!(block.transactions().count(), 1_557);
    assert_eq!(block.check_merkle_root(), Ok(()));
    assert!(block.transactions().next().unwrap().is_coinbase());
    assert!(block.transactions().skip(1).all(|transaction| !transaction.is_coinbase()));

    let transactions: Vec<_> = block.transactions().map(|view| view.to_transaction()).collect();
    assert_eq!(Block::new(*block.header(), transactions.clone()), block);
    let json = serde_json::to_string(&block).unwrap();
    assert_eq!(serde_json::from_str::<Block>(&json).unwrap(), block);
    for transaction in &transactions {
        assert_eq!(rebuilt(transaction), *transaction);
        assert_eq!(Transaction::from_raw(transaction.raw().clone()).unwrap().txid(), transaction.txid());
    }
}

#[test]
fn the_nine_transaction_block_has_the_right_txids() {
    let vector = vector("block_nine_transactions");
    let Message::Block(block) = message(&vector) else { panic!("not a block") };
    let expected: Vec<Txid> = vector["payload_fields"]["transactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|transaction| transaction["txid"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(block.transactions().map(|transaction| transaction.txid()).collect::<Vec<_>>(), expected);
    assert_eq!(block.check_merkle_root(), Ok(()));
    assert_eq!(merkle_root(expected), Ok(block.header().merkle_root));
}

/// Repeating the tail of an odd level keeps the merkle root (CVE-2012-2459).
#[test]
fn a_block_with_a_repeated_tail_is_refused() {
    let block = real_block();
    let transactions: Vec<_> = block.transactions().map(|view| view.to_transaction()).collect();
    // 1557 leaves, 779 nodes above, 390, 195, ...: the levels 0, 1 and 3 are odd.
    let mut longer = transactions.clone();
    longer.push(transactions[1_556].clone());
    let mutated = Block::new(*block.header(), longer);
    assert_eq!(mutated.hash(), block.hash());
    assert_eq!(mutated.check_merkle_root(), Err(MerkleError::RepeatedNode { level: 0 }));

    let nine = vector("block_nine_transactions");
    let Message::Block(nine) = message(&nine) else { panic!("not a block") };
    let six: Vec<_> = nine.transactions().take(6).map(|view| view.to_transaction()).collect();
    let header =
        BlockHeader { merkle_root: merkle_root(six.iter().map(Transaction::txid)).unwrap(), ..*nine.header() };
    assert_eq!(Block::new(header, six.clone()).check_merkle_root(), Ok(()));
    let eight = [&six[..], &six[4..]].concat();
    let mutated = Block::new(header, eight);
    assert_eq!(mutated.check_merkle_root(), Err(MerkleError::RepeatedNode { level: 1 }));
}

#[test]
fn a_block_of_other_transactions_is_refused() {
    let block = real_block();
    let transactions: Vec<_> = block.transactions().map(|view| view.to_transaction()).collect();
    let check = |transactions: Vec<Transaction>| Block::new(*block.header(), transactions).check_merkle_root();
    assert_eq!(check(vec![]), Err(MerkleError::NoTransactions));
    assert_eq!(check(transactions[1..].to_vec()), Err(MerkleError::NoCoinbase));
    let mut swapped = transactions.clone();
    swapped.swap(5, 6);
    assert!(matches!(check(swapped), Err(MerkleError::WrongRoot { expected, got }) if expected != got));
    assert!(matches!(check(transactions[..1_556].to_vec()), Err(MerkleError::WrongRoot { .. })));
}

#[test]
fn a_transaction_is_exactly_its_bytes() {
    let raw = payload_of(&vector("tx_block_170_payment"));
    let transaction = Transaction::from_raw(raw.clone()).unwrap();
    assert_eq!(**transaction.raw(), *raw);
    assert_eq!(transaction.txid().to_string(), "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16");
    assert_eq!(rebuilt(&transaction), transaction);
    let mut longer = raw.clone();
    longer.push(0);
    assert_eq!(Transaction::from_raw(longer), Err(DecodeError::InvalidValue { field: "transaction" }));
    assert_eq!(Transaction::from_raw(raw[..raw.len() - 1].to_vec()), Err(DecodeError::UnexpectedEnd));
}

/// A transaction in a batch of many frames must not hold the whole batch in memory.
#[test]
fn small_parts_of_large_buffers_are_copied_out() {
    let raw = payload_of(&vector("tx_block_170_payment"));
    let digest = sha256d(&raw);
    let buffer_len = |batch_len: usize| {
        let mut batch = raw.clone();
        batch.resize(batch_len, 0);
        batch.shrink_to_fit();
        let payload = SharedBytes::from(batch).slice(0..raw.len()).unwrap();
        let message = Message::decode_shared(Command::TX, payload, Some(&digest)).unwrap();
        let Message::Tx(transaction) = message else { panic!("not a transaction") };
        assert_eq!(**transaction.raw(), *raw);
        transaction.raw().buffer_len()
    };
    assert_eq!(buffer_len(raw.len() * 2), raw.len() * 2);
    assert_eq!(buffer_len(raw.len() * 3), raw.len());
}

#[test]
fn addresses_read_as_ipv4_where_they_are() {
    let mapped: IpAddr = "::ffff:1.2.3.4".parse().unwrap();
    let address = NetworkAddress::from(SocketAddr::new(mapped, 8333));
    assert_eq!(address.socket_addr(), ([1, 2, 3, 4], 8333).into());
    assert_eq!(address, NetworkAddress::new(Services::NONE, ([1, 2, 3, 4], 8333).into()));
}

fn vectors(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn vector(name: &str) -> Value {
    vectors("messages.json").into_iter().find(|vector| vector["name"] == name).expect("a vector of that name")
}

fn real_block() -> Block {
    let path = format!("{}/tests/data/mainnet-block-413567.bin", env!("CARGO_MANIFEST_DIR"));
    Block::from_raw(fs::read(path).unwrap()).unwrap()
}

fn magic(vector: &Value) -> [u8; 4] {
    match vector["network"].as_str().unwrap() {
        "mainnet" => MAINNET,
        "testnet" => [0xf4, 0xe5, 0xf3, 0xf4],
        "stn" => [0xfb, 0xce, 0xc4, 0xf9],
        "regtest" => [0xda, 0xb5, 0xbf, 0xfa],
        other => panic!("no such network: {other}"),
    }
}

fn command(vector: &Value) -> Command {
    Command::new(vector["command"].as_str().unwrap()).unwrap()
}

fn payload_of(vector: &Value) -> Vec<u8> {
    let bytes = bytes(&vector["message_hex"]);
    frame(magic(vector), &bytes, bytes.len()).expect("valid frame").1
}

fn message(vector: &Value) -> Message {
    Message::decode(command(vector), &payload_of(vector)).unwrap_or_else(|e| panic!("{}: {e}", vector["name"]))
}

/// Pushes `bytes` through a decoder in chunks of `size`; gives the one header and what came of its payload.
fn frame(magic: [u8; 4], bytes: &[u8], size: usize) -> Result<(FrameHeader, Vec<u8>), FrameError> {
    let mut decoder = FrameDecoder::new(magic, LIMITS);
    let mut frame: Option<(FrameHeader, Vec<u8>)> = None;
    for mut input in bytes.chunks(size) {
        while let Some(part) = decoder.push(&mut input)? {
            match part {
                FramePart::Whole(header, payload) => {
                    assert!(frame.replace((header, payload.to_vec())).is_none(), "one frame");
                }
                FramePart::Start(header) => assert!(frame.replace((header, vec![])).is_none(), "one frame"),
                FramePart::Chunk(chunk) => frame.as_mut().expect("a start first").1.extend_from_slice(chunk),
                FramePart::End => {}
            }
        }
        assert!(input.is_empty(), "bytes left over at chunk size {size}");
    }
    Ok(frame.expect("the header is complete"))
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn display(mut hash: [u8; 32]) -> String {
    hash.reverse();
    hex(hash)
}

fn rebuilt(transaction: &Transaction) -> Transaction {
    let inputs: Vec<TransactionInput<'_>> = transaction.inputs().collect();
    let outputs: Vec<TransactionOutput<'_>> = transaction.outputs().collect();
    Transaction::new(transaction.version(), &inputs, &outputs, transaction.lock_time())
}

/// Without absent fields, which the vectors leave out or write as null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(name, field)| (name, without_nulls(field)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
