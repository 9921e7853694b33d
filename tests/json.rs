//! How what callers see looks as JSON: hashes in display order, bytes as digits, errors as their text.
//!
//! The JSON of messages is held against the vectors, in `tests/vectors`.

use std::sync::Arc;
use std::time::Duration;

use conduit::error::{DisconnectReason, ProtocolError, RequestError, SendFailure};
use conduit::message::{BloomFilter, FilterUpdate, Inventory, Message, OutPoint, RejectCode};
use conduit::testnode::{TestNode, TestNodeConfig, spend, transaction};
use conduit::wire::{Command, FrameHeader, SharedBytes};
use conduit::{
    Answer, BroadcastOptions, Conduit, Config, CustomNetwork, Event, FilteredBlock, ForkMarker, ForkPoint, Harm,
    MerkleRoot, Network, PeerAddress, TransactionNotFound,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

#[track_caller]
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, expected: Value) {
    let json = serde_json::to_value(value).expect("a value serializes");
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<T>(json).expect("it reads back"), *value);
}

#[test]
fn networks_are_named_and_custom_ones_described() {
    there_and_back(&Network::Scaling, json!("stn"));
    let custom = CustomNetwork {
        name: "hamlet".to_owned(),
        magic: [0xda, 0xb5, 0, 1],
        port: 17_000,
        seeds: vec!["seed.example".to_owned()],
        genesis: Network::Main.genesis(),
        fork_marker: Some(ForkMarker::new([ForkPoint::new(Network::Main.genesis())], Network::Test.genesis(), 1)),
    };
    let expected = json!({
        "name": "hamlet",
        "magic": "dab50001",
        "port": 17_000,
        "seeds": ["seed.example"],
        "genesis": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
        "fork_marker": {
            "locator": [{"hash": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f", "next": null}],
            "marker": "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
            "height": 1,
        },
    });
    let mut unmarked = expected.clone();
    unmarked.as_object_mut().map(|fields| fields.remove("fork_marker"));
    let unmarked: Network = serde_json::from_value(unmarked).unwrap();
    assert_eq!(unmarked.fork_marker(), None);
    there_and_back(&Network::Custom(Arc::new(custom)), expected);
    assert!(serde_json::from_value::<Network>(json!("hamlet")).is_err());
}

#[test]
fn frames_bytes_and_filters_are_digits() {
    there_and_back(&SharedBytes::from(vec![0, 0xff]), json!("00ff"));
    let mut header = FrameHeader::new([1, 2, 3, 4], Command::PING, 8, [5, 6, 7, 8]);
    let written = |checksum| json!({"magic": "01020304", "command": "ping", "length": 8, "checksum": checksum});
    there_and_back(&header, written(json!("05060708")));
    header.checksum = None;
    there_and_back(&header, written(Value::Null));
    let mut filter = BloomFilter::new(1, 0.01, 7, FilterUpdate::All).unwrap();
    filter.insert(&[1]).unwrap();
    let json = serde_json::to_value(&filter).unwrap();
    assert_eq!((&json["tweak"], &json["flags"]), (&json!(7), &json!(1)));
    assert_eq!(serde_json::from_value::<BloomFilter>(json.clone()).unwrap(), filter);
    let mut over = json;
    over["hash_functions"] = json!(51);
    assert!(serde_json::from_value::<BloomFilter>(over).is_err(), "nodes would ban for it");
}

#[test]
fn events_name_what_happened_and_errors_say_why() {
    let address: PeerAddress = "127.0.0.1:8333".parse().unwrap();
    let reason = DisconnectReason::Protocol(ProtocolError::BadMerkleRoot);
    let text = reason.to_string();
    let json = serde_json::to_value(Event::Missed { count: 3 }).unwrap();
    assert_eq!(json, json!({"event": "missed", "count": 3}));
    assert_eq!(serde_json::to_value(&reason).unwrap(), json!(text));
    assert_eq!(serde_json::to_value(&address).unwrap(), json!("127.0.0.1:8333"));
    assert_eq!(serde_json::to_value(RequestError::NoPeers).unwrap(), json!("no peer could be asked"));
    let harm = SendFailure::Harmful(Harm::Mempool);
    assert_eq!(serde_json::to_value(harm).unwrap(), json!("nodes end the connection for mempool"));
    assert_eq!(serde_json::to_value(Harm::Mempool).unwrap(), json!("mempool"));
}

#[test]
fn answers_are_named_by_what_they_hold() {
    let tx = transaction(1, 100);
    let missing = TransactionNotFound { txid: tx.txid() };
    let json = serde_json::to_value(Answer::Transactions(vec![Ok(tx.clone()), Err(missing)])).unwrap();
    assert_eq!(json["transactions"][1]["Err"]["txid"], tx.txid().to_string());
    let tree = conduit::block::PartialMerkleTree::new(&[tx.txid()], |_, _| true).unwrap();
    let header = conduit::message::BlockHeader {
        version: 1,
        previous: Network::Main.genesis(),
        merkle_root: MerkleRoot::ZERO,
        time: 1,
        bits: 2,
        nonce: 3,
    };
    let merkle_block = conduit::message::MerkleBlock { header, tree };
    let block = FilteredBlock { merkle_block, transactions: vec![tx.clone()] };
    let json = serde_json::to_value(Answer::FilteredBlock(Box::new(block))).unwrap();
    assert_eq!(json["filtered_block"]["merkle_block"]["tree"]["hashes"][0], tx.txid().to_string());
    let headers = serde_json::to_value(Answer::Headers(vec![header])).unwrap();
    assert_eq!(headers["headers"][0]["previous"], Network::Main.genesis().to_string());
}

#[test]
fn broadcasts_are_told_step_by_step() {
    let node = TestNode::start(TestNodeConfig::default().blocks(1)).unwrap();
    let conduit = Conduit::new(Config::new(Network::Regtest)).unwrap();
    let id = conduit.add_peers([node.address()]).unwrap()[0];
    conduit.start().unwrap();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    let spent = OutPoint { txid: transaction(1, 100).txid(), index: 0 };
    let [ours, rival] = [1, 2].map(|value| spend(&[spent], value));
    node.reject_transaction(ours.txid(), RejectCode::NonStandard, "dust");
    node.overlook(ours.txid(), true);
    let options = BroadcastOptions::new().nodes(1).deadline(PATIENCE);
    let broadcast = conduit.broadcast_transaction_with(ours.raw().to_vec(), &options).unwrap();
    let progress = broadcast.progress();
    assert!(node.wait_for_overlooked(ours.txid(), 1, PATIENCE));
    let other = conduit.broadcast_transaction_with(rival.raw().to_vec(), &options).unwrap();
    node.send(&Message::GetData(vec![Inventory::transaction(ours.txid())]));

    let report = broadcast.wait_timeout(PATIENCE).unwrap();
    let mut json = serde_json::to_value(&report).unwrap();
    let journey = json["peers"][0].take();
    let rejected = json!({"rejected": {"code": "non_standard", "reason": "dust"}});
    let verdict = json!({"rejected": {"by": 1, "code": "non_standard", "reason": "dust"}});
    let conflict = json!({"rival": rival.txid().to_string(), "source": "broadcast"});
    let elapsed = json["elapsed"].take();
    assert!(elapsed["secs"].is_u64() && elapsed["nanos"].is_u64(), "{elapsed}");
    let expected = json!({
        "txid": ours.txid().to_string(),
        "verdict": verdict,
        "peers": [null],
        "listeners": 0,
        "too_few_listeners": true,
        "conflicts": [conflict],
        "elapsed": null,
        "end": "rejected",
    });
    assert_eq!(json, expected);
    assert_eq!((&journey["state"], &journey["peer"]), (&rejected, &serde_json::to_value(id).unwrap()));
    assert_eq!(journey["address"], node.address().to_string());
    for time in ["announced", "requested", "sent", "heard"] {
        assert!(journey[time]["nanos"].is_u64(), "{journey}");
    }

    let steps: Vec<_> = progress.map(|step| serde_json::to_value(step).unwrap()).collect();
    assert!(steps.contains(&json!({"peer": journey})) && steps.contains(&json!({"conflict": conflict})));
    assert_eq!(steps[steps.len() - 2..], [json!({"settled": verdict}), json!({"over": "rejected"})]);
    other.cancel();
    assert_eq!(serde_json::to_value(other.report()).unwrap()["end"], "cancelled");
}

#[test]
fn outcomes_are_flat_lines() {
    let conduit = Conduit::new(Config::new(Network::Regtest)).unwrap();
    conduit.start().unwrap();
    let options = BroadcastOptions::new().deadline(Duration::from_millis(1));
    let payment = transaction(1, 100);
    let input = [payment.raw().to_vec(), vec![1, 2, 3]];
    let mut outcomes: Vec<_> = conduit.broadcast_transactions(input, options).collect();
    outcomes.sort_by_key(|outcome| outcome.index);
    let mut first = serde_json::to_value(&outcomes[0]).unwrap();
    let milliseconds = first["milliseconds"].take().as_f64().unwrap();
    assert!((1.0..60_000.0).contains(&milliseconds), "{milliseconds}");
    let expected = json!({
        "index": 0,
        "txid": payment.txid().to_string(),
        "verdict": "unannounced",
        "text": "no peer was told",
        "announced": 0,
        "requested": 0,
        "sent": 0,
        "relayed": 0,
        "rejected": 0,
        "not_heard": 0,
        "conflicts": 0,
        "listeners": 0,
        "too_few_listeners": true,
        "milliseconds": null,
    });
    assert_eq!(first, expected);
    let second = serde_json::to_value(&outcomes[1]).unwrap();
    let text = outcomes[1].result.as_ref().unwrap_err().to_string();
    assert_eq!(second, json!({"index": 1, "error": "malformed", "text": text}));
}
