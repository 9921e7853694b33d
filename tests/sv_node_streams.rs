//! Associations with a real SV Node: what comes on which of the two connections, and the library on both.
//!
//! Sections 2.29 to 2.31 and 3.5 to 3.7 of the wire specification.

#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod support;

use conduit::message::{
    CreateStrm, Inventory, InventoryKind, Message, ProtoConf, Services, StreamAck, StreamType, Version,
};
use conduit::wire::Command;
use conduit::{GetData, GetHeaders, Network};
use sha2::{Digest, Sha256};

use support::client::{Client, config, hash_at, sole_peer, start_with};
use support::raw_peer::RawPeer;
use support::sv_node::{SvNode, wait_until};
use support::transactions::{self, Funding};
use support::{PATIENCE, blocks};

/// The two connections of an association.
struct Pair {
    general: RawPeer,
    data1: RawPeer,
}

impl Pair {
    fn open(address: std::net::SocketAddr) -> Self {
        let mut id = vec![0; 17];
        id[1..].copy_from_slice(b"sixteen bytes id");
        let mut general = RawPeer::dial(address);
        let mut version = Version::new(Services::default(), 77, "/raw peer/", 0, 0);
        version.relay = Some(true);
        version.association_id = Some(id.clone());
        general.send(&version.into());
        let Message::Version(answer) = general.expect(Command::VERSION) else { unreachable!() };
        assert_eq!(answer.association_id.as_ref(), Some(&id), "it repeats ours");
        general.send(&Message::Verack);
        general.send(&Message::ProtoConf(ProtoConf::new(2_097_152, "BlockPriority,Default")));
        let Message::ProtoConf(protoconf) = general.expect(Command::PROTOCONF) else { unreachable!() };
        assert!(protoconf.policies().any(|name| name == "BlockPriority"), "{protoconf:?}");
        let mut data1 = RawPeer::dial(address);
        let stream_type = StreamType::Data1;
        let ask = CreateStrm { association_id: id.clone(), stream_type, stream_policy: "BlockPriority".into() };
        data1.send(&Message::CreateStrm(Box::new(ask)));
        let first = data1.next().expect("an answer");
        assert_eq!(first, Message::StreamAck(StreamAck { association_id: id, stream_type }));
        Self { general, data1 }
    }
}

/// Reads up to the first message that is wanted; gives the commands before it and its own.
fn commands_up_to(peer: &mut RawPeer, wanted: impl Fn(&Message) -> bool) -> Vec<Command> {
    let mut commands = Vec::new();
    loop {
        let message = peer.next().unwrap();
        commands.push(message.command());
        if wanted(&message) {
            return commands;
        }
    }
}

fn streams(node: &SvNode) -> Vec<(String, u64)> {
    let peer = sole_peer(node);
    let streams = peer["streams"].as_array().unwrap().iter();
    let mut streams: Vec<_> = streams
        .map(|stream| (stream["streamtype"].as_str().unwrap().to_owned(), stream["bytessent"].as_u64().unwrap()))
        .collect();
    streams.sort();
    streams
}

#[test]
fn node_sends_pongs_headers_and_blocks_over_data1_whatever_asked_for_them() {
    let Some(node) = start_with(&[]) else { return };
    node.generate(3);
    let hash = hash_at(&node, 2);
    let missing = Inventory { kind: InventoryKind::Transaction, hash: [3; 32] };
    for on_data1 in [false, true] {
        let mut pair = Pair::open(node.address());
        let asked = if on_data1 { &mut pair.data1 } else { &mut pair.general };
        asked.send(&Message::Ping { nonce: 5 });
        asked.send(&Message::GetHeaders(GetHeaders::new([]).stop_at(hash)));
        asked.send(&Message::GetData(vec![Inventory::block(hash)]));
        asked.send(&Message::GetData(vec![missing]));
        asked.send(&Message::Ping { nonce: 6 });
        let is_last = |message: &Message| *message == Message::Pong { nonce: 6 };
        let expected = [Command::PONG, Command::HEADERS, Command::BLOCK, Command::PONG];
        assert_eq!(commands_up_to(&mut pair.data1, is_last), expected, "asked on data1: {on_data1}");
        // What is not of that policy comes on the other one, and nothing that is.
        let commands = commands_up_to(&mut pair.general, |message| message.command() == Command::NOTFOUND);
        assert!(!commands.iter().any(|command| expected.contains(command)), "{commands:?}");
        // A block is announced on it, too.
        let mined = node.generate(1).pop().unwrap().parse().unwrap();
        let is_news = |message: &Message| *message == Message::Inv(vec![Inventory::block(mined)]);
        assert_eq!(commands_up_to(&mut pair.data1, is_news), [Command::INV]);
    }
    node.assert_no_misbehaviour();
}

#[test]
fn loss_of_one_connection_ends_the_other() {
    let Some(node) = start_with(&[]) else { return };
    for lose_data1 in [false, true] {
        let mut pair = Pair::open(node.address());
        let (lost, left) =
            if lose_data1 { (&mut pair.data1, &mut pair.general) } else { (&mut pair.general, &mut pair.data1) };
        lost.end();
        left.wait_until_closed();
    }
}

#[test]
fn blocks_headers_and_broadcasts_work_over_both_connections_to_a_node() {
    let Some(node) = SvNode::start(blocks::options()) else { return };
    let mined = blocks::mine(&node, blocks::TEN_MB);
    let mut funding = Funding::new(&node, 2);
    let client = Client::connect(&[&node], config().streams(true));
    let joined = || client.info(client.peers[0]).streams == 2;
    wait_until("the second connection", PATIENCE, joined);
    assert_eq!(sole_peer(&node)["streampolicy"], "BlockPriority");

    for _ in 0..2 {
        let before = streams(&node);
        let mut stream = client.conduit.block(mined.hash).unwrap();
        let mut digest = Sha256::new();
        while let Some(chunk) = stream.next_chunk().unwrap() {
            digest.update(chunk.bytes());
        }
        assert_eq!(<[u8; 32]>::from(digest.finalize()), mined.digest);
        let block = client.conduit.send_request(GetData::block(mined.hash)).unwrap();
        assert_eq!(block.raw().len() as u64, mined.size);
        let headers = client.conduit.send_request(GetHeaders::new([Network::Regtest.genesis()])).unwrap();
        assert_eq!(headers.len() as u64, node.best_height());
        let raw = transactions::spend(funding.take(), 400);
        client.broadcast(&raw, 1);
        node.wait_for_mempool(&[transactions::txid(&raw)].into(), PATIENCE);
        let after = streams(&node);
        let [(data1, data1_sent), (general, general_sent)] = &after[..] else { panic!("{after:?}") };
        assert_eq!((&data1[..], &general[..]), ("DATA1", "GENERAL"));
        let [(_, data1_before), (_, general_before)] = &before[..] else { panic!("{before:?}") };
        assert!(data1_sent - data1_before > 2 * mined.size, "{before:?} {after:?}");
        assert!(general_sent - general_before < 10_000, "{before:?} {after:?}");

        // Lost, it is lost once, and all begins anew.
        client.expect_connected();
        node.disconnect_all();
        client.expect_disconnected();
        wait_until("it is back", PATIENCE, joined);
    }
    client.expect_connected();
    client.end(&[&node]);
}
