//! What the test node does about peers that break the rules: points, rejects, ends of connections.

use std::io::Write;

use conduit::Network;
use conduit::message::{
    AuthCh, AuthResp, Block, BlockHeader, BlockTxn, CompactBlock, CreateStrm, GetBlockTxn, GetHeaders, Inventory,
    InventoryKind, Message, OutPoint, ProofTarget, ProtoConf, Reject, RejectCode, Services, StreamAck, StreamType,
    Transaction, TransactionInput, TransactionOutput, Version,
};
use conduit::testnode::{Fault, FaultKind, TestNode, TestNodeConfig, double_spend_notice, spend, transaction};
use conduit::wire::{BlockHash, Command, Frame, MerkleRoot, SharedBytes, Txid};

use super::peer::{Peer, mined, version, without_relay};

fn start(blocks: u32) -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(blocks)).unwrap()
}

fn raw(command: Command, payload: Vec<u8>) -> Message {
    Message::Unknown { command, payload: SharedBytes::from(payload) }
}

/// The command, the code and the reason of a reject that names no hash.
fn reject_of(message: Message) -> (String, RejectCode, String) {
    let Message::Reject(reject) = message else { panic!("{message:?} is no reject") };
    let Reject { message, code, reason, hash } = *reject;
    assert_eq!(hash, None);
    (message.to_string(), code, reason.to_string())
}

fn reject(command: &str, code: RejectCode, reason: &str) -> (String, RejectCode, String) {
    (command.to_owned(), code, reason.to_owned())
}

fn malformed(command: &str) -> (String, RejectCode, String) {
    reject(command, RejectCode::Malformed, "error parsing message")
}

fn createstrm(association_id: &[u8], stream_type: u8) -> Message {
    let association_id = association_id.to_vec();
    let stream_type = StreamType::from(stream_type);
    Message::CreateStrm(Box::new(CreateStrm { association_id, stream_type, stream_policy: "".into() }))
}

#[test]
fn what_comes_before_its_time_is_lost_and_costs_a_point() {
    let node = start(3);
    let mut peer = Peer::dial(&node, &Network::Regtest);
    let ask = Message::GetHeaders(GetHeaders::new([BlockHash::ZERO]));
    let protoconf = Message::ProtoConf(ProtoConf::new(1_048_576, "Default"));
    peer.send_all(&[Message::Verack, Message::Ping { nonce: 1 }, ask.clone()]);
    peer.send(&Message::from(version()));
    let first: Vec<Command> = (0..3).map(|_| peer.recv().command()).collect();
    assert_eq!(first, [Command::VERSION, Command::VERACK, Command::PROTOCONF]);
    peer.send_all(&[Message::Ping { nonce: 2 }, ask.clone(), protoconf.clone()]);
    peer.send(&Message::Verack);
    peer.until(Command::PING);
    // Lost, so this one is the first.
    peer.send(&protoconf);
    assert!(peer.said().is_empty());
    assert_eq!(node.score(0), 6);
    peer.send(&ask);
    assert_eq!(peer.said().len(), 1);
}

#[test]
fn a_second_version_is_rejected_and_a_second_verack_greeted_again() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    peer.send(&Message::from(version()));
    let said = peer.said();
    assert_eq!(said.len(), 1);
    let duplicate = reject("version", RejectCode::Duplicate, "Duplicate version message");
    assert_eq!(reject_of(said[0].clone()), duplicate);
    peer.send(&Message::Verack);
    let said: Vec<Command> = peer.said().iter().map(Message::command).collect();
    assert_eq!(said, [Command::AUTHCH, Command::SENDHEADERS, Command::SENDCMPCT]);
    assert_eq!(node.score(0), 1);
}

#[test]
fn a_bad_version_is_rejected_with_a_code_of_its_own() {
    let node = start(1);
    let mut peer = Peer::dial(&node, &Network::Regtest);
    let mut payload = Vec::new();
    Message::from(version()).encode_payload(&mut payload);
    payload.truncate(60);
    peer.send(&raw(Command::VERSION, payload));
    let (command, code, _) = reject_of(peer.recv());
    assert_eq!((command.as_str(), code), ("version", RejectCode::StreamSetup));
    peer.assert_closed();

    let mut peer = Peer::dial(&node, &Network::Regtest);
    let mut old = version();
    old.version = 31_799;
    peer.send(&Message::from(old));
    let obsolete = reject("version", RejectCode::Obsolete, "Version must be 31800 or greater");
    assert_eq!(reject_of(peer.recv()), obsolete);
    peer.assert_closed();
}

#[test]
fn programs_of_other_chains_are_turned_away_without_a_byte() {
    let node = start(1);
    for (number, agent) in ["/Bitcoin ABC:0.1/", "/cashier:1.0/", "/some:1(BcH)/"].into_iter().enumerate() {
        let mut peer = Peer::dial(&node, &Network::Regtest);
        peer.send(&Message::from(Version::new(Services::NONE, 77, agent, 0, 0)));
        assert_eq!(peer.next(), None, "{agent}");
        assert_eq!(node.score(number), 100);
    }
}

#[test]
fn a_second_protoconf_and_a_bad_one_end_the_connection_without_a_word() {
    let node = start(1);
    let short = {
        let mut payload = vec![1];
        payload.extend_from_slice(&1_048_575_u32.to_le_bytes());
        raw(Command::PROTOCONF, payload)
    };
    let good = Message::ProtoConf(ProtoConf::new(1_048_576, "Default"));
    for (number, messages) in
        [vec![good.clone(), good], vec![short], vec![raw(Command::PROTOCONF, vec![0])]].into_iter().enumerate()
    {
        let mut peer = Peer::connect_as(&node, version(), false);
        peer.send_all(&messages);
        assert_eq!(peer.next(), None);
        assert_eq!(node.score(number), 0);
    }
}

#[test]
fn an_inventory_of_any_other_kind_ends_the_connection() {
    let node = start(1);
    for (number, kind) in [0, 3, 4, 5, 0x4000_0001].into_iter().enumerate() {
        let mut peer = Peer::connect(&node);
        peer.send(&Message::Inv(vec![Inventory { kind: InventoryKind::from(kind), hash: [1; 32] }]));
        peer.assert_closed();
        assert_eq!(node.score(number), 0);
    }
}

#[test]
fn streams_are_not_to_be_had() {
    let node = start(1);
    let ack = Message::StreamAck(StreamAck { association_id: vec![0; 17], stream_type: StreamType::Data1 });
    for (message, command, reason) in [
        (createstrm(&[0; 17], 2), "createstrm", "Invalid createstream scenario"),
        (ack.clone(), "streamack", "Invalid streamack"),
    ] {
        let mut peer = Peer::connect(&node);
        peer.send(&message);
        assert_eq!(reject_of(peer.recv()), reject(command, RejectCode::NonStandard, reason));
        peer.assert_closed();
    }
    // As the first message of a connection, which is what it is for.
    for (message, reason) in [
        (createstrm(&[0; 17], 2), "No node found with association ID 00000000-0000-0000-0000-000000000000"),
        (createstrm(&[], 2), "NULL association ID"),
        (createstrm(&[0; 17], 6), "StreamType out of range"),
        (raw(Command::CREATESTRM, vec![7]), "Badly formatted message"),
    ] {
        let mut peer = Peer::dial(&node, &Network::Regtest);
        peer.send(&message);
        assert_eq!(reject_of(peer.recv()), reject("createstrm", RejectCode::StreamSetup, reason));
        peer.assert_closed();
    }
    let mut peer = Peer::dial(&node, &Network::Regtest);
    peer.send(&ack);
    assert_eq!(peer.next(), None);
    // Between version and verack it is as after both.
    let mut peer = Peer::dial(&node, &Network::Regtest);
    peer.send_all(&[Message::from(version()), ack]);
    peer.until(Command::PROTOCONF);
    assert_eq!(reject_of(peer.recv()), reject("streamack", RejectCode::NonStandard, "Invalid streamack"));
    peer.assert_closed();
}

#[test]
fn nobody_proves_an_identity_to_the_node() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    peer.send(&Message::AuthCh(AuthCh { version: 1, challenge: vec![1; 32] }));
    peer.send(&raw(Command::AUTHCH, vec![1]));
    assert!(peer.said().is_empty(), "a challenge is ignored");
    let response = AuthResp { public_key: vec![2; 33], client_nonce: 3, signature: vec![4; 70] };
    let response = Message::AuthResp(Box::new(response));
    for message in [response.clone(), raw(Command::AUTHRESP, vec![90])] {
        peer.send(&message);
        let miner = "Public ip address does not match the one advertised in the miner info document.";
        assert_eq!(reject_of(peer.recv()), reject("authresp", RejectCode::AuthConnSetup, miner));
    }
    // These were four; six are no flood.
    peer.send_all(&[response.clone(), response.clone()]);
    assert_eq!(peer.said().len(), 2);
    assert_eq!(node.score(0), 0);
    peer.send(&response);
    assert_eq!(peer.said().len(), 1);
    assert_eq!(node.score(0), 10);
}

#[test]
fn a_notice_of_a_double_spend_is_relayed_once_if_it_proves_one() {
    let node = start(3);
    let mut peer = Peer::connect(&node);
    let mut other = Peer::connect(&node);
    let spent = OutPoint { txid: Txid::from_wire([5; 32]), index: 0 };
    let common = node.block_hash(2).unwrap();
    let rivals = [spend(&[spent], 1), spend(&[spent], 2)];
    let notice = double_spend_notice(common, &rivals);
    peer.send_all(&[Message::DsDetected(notice.clone()), Message::DsDetected(notice.clone())]);
    assert!(peer.said().is_empty());
    assert_eq!(other.said(), [Message::DsDetected(notice.clone())]);
    assert_eq!(node.score(0), 0);

    let mut alone = notice.clone();
    alone.forks.truncate(1);
    let mut no_work = notice.clone();
    no_work.forks[0].headers[0].bits = 0x0300_0001;
    let mut wrong_root = notice;
    wrong_root.forks[1].proof.target = ProofTarget::MerkleRoot(MerkleRoot::ZERO);
    let bad = [alone, no_work, wrong_root].map(Message::DsDetected);
    for (points, message) in (1..).zip([&bad[..], &[raw(Command::DSDETECTED, vec![1, 0, 9])]].concat()) {
        peer.send(&message);
        assert!(peer.said().is_empty(), "not rejected");
        assert_eq!(node.score(0), points * 10);
    }
    assert!(other.said().is_empty());
}

#[test]
fn what_cannot_be_read_is_rejected_where_a_node_reads_it() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    for command in [Command::GETDATA, Command::GETBLOCKS, Command::GETBLOCKTXN, Command::FEEFILTER, Command::PING] {
        peer.send(&raw(command, vec![9, 9]));
        let said = peer.said();
        assert_eq!(said.len(), 1, "{command}");
        assert_eq!(reject_of(said[0].clone()), malformed(command.as_str()));
    }
    let silent = [
        Command::MERKLEBLOCK,
        Command::HDRSEN,
        Command::DATAREFTX,
        Command::NOTFOUND,
        Command::REVOKEMID,
        Command::PONG,
    ];
    for command in silent {
        peer.send(&raw(command, vec![9, 9]));
        assert!(peer.said().is_empty(), "{command}");
    }
    assert_eq!(node.score(0), 0);
    // A count of 2^32, which no message has.
    peer.send(&raw(Command::GETDATA, vec![0xff, 0, 0, 0, 0, 1, 0, 0, 0]));
    assert_eq!(reject_of(peer.recv()), malformed("getdata"));
    assert!(peer.said().is_empty());
    assert_eq!(node.score(0), 1);
}

#[test]
fn too_many_items_and_headers_out_of_nowhere_cost_points() {
    let node = start(1);
    let mut peer = Peer::connect(&node);
    let lengthy = |command, item: usize, count: u16| {
        let mut payload = vec![0xfd];
        payload.extend_from_slice(&count.to_le_bytes());
        payload.resize(3 + usize::from(count) * item, 0);
        raw(command, payload)
    };
    peer.send(&lengthy(Command::HEADERS, 81, 2_001));
    assert!(peer.said().is_empty());
    peer.send(&lengthy(Command::ADDR, 30, 1_001));
    assert!(peer.said().is_empty());
    assert_eq!(node.score(0), 40);
    let header = |nonce| BlockHeader {
        version: 1,
        previous: BlockHash::from_wire([3; 32]),
        merkle_root: MerkleRoot::ZERO,
        time: 0,
        bits: 0x207f_ffff,
        nonce,
    };
    peer.send(&Message::Headers((0..7).map(header).collect()));
    assert_eq!(peer.said()[0].command(), Command::GETHEADERS, "it may be an announcement");
    assert_eq!(node.score(0), 40);
    peer.send(&Message::Headers((0..8).map(header).collect()));
    assert!(peer.said().is_empty());
    assert_eq!(node.score(0), 50);
}

#[test]
fn a_hundred_points_end_the_connection_and_are_its_own() {
    let node = start(1);
    let mut good = Peer::connect(&node);
    let mut bad = Peer::connect(&node);
    bad.send(&Message::SendHeaders);
    for _ in 0..99 {
        bad.send(&Message::SendHeaders);
    }
    assert!(bad.said().is_empty());
    assert_eq!(node.score(1), 99);
    bad.send(&Message::SendHeaders);
    bad.assert_closed();
    assert_eq!((node.score(0), node.score(1), node.score(2)), (0, 100, 0));
    assert!(good.said().is_empty());
    assert!(Peer::connect(&node).said().is_empty(), "nobody is banned at a loopback address");
}

/// A block on top of the tip with these transactions, as a stranger mines it.
fn block_on_top(node: &TestNode, others: &[Transaction]) -> Block {
    let input = TransactionInput { previous_output: OutPoint::NULL, script_sig: &[1, 9], sequence: u32::MAX };
    let coinbase = Transaction::new(1, &[input], &[TransactionOutput { value: 1, script_pubkey: &[0x51] }], 0);
    let mut transactions = vec![coinbase];
    transactions.extend_from_slice(others);
    mined(&node.block(node.tip_height()).unwrap(), transactions)
}

fn compact(block: &Block) -> Message {
    Message::CmpctBlock(Box::new(CompactBlock::new(block, 5)))
}

#[test]
fn a_compact_block_is_put_together_from_the_mempool_and_what_is_asked_for() {
    let node = start(3);
    let payments: Vec<_> = (0..4).map(|number| transaction(number, 200)).collect();
    let mut peer = Peer::connect_as(&node, without_relay(), true);
    assert!(node.submit(payments[0].clone()) && node.submit(payments[2].clone()));
    let block = block_on_top(&node, &payments);
    let inv = |block: &Block| Message::Inv(vec![Inventory::block(block.hash())]);
    let given = |block: &Block, indexes: &[u32]| {
        let picked = (0..).zip(block.transactions()).filter(|(index, _)| indexes.contains(index));
        Message::BlockTxn(Box::new(BlockTxn::new(block.hash(), picked.map(|(_, each)| each))))
    };
    peer.send_all(&[given(&block, &[2, 4]), compact(&block)]);
    assert_eq!(
        peer.said(),
        [Message::GetBlockTxn(GetBlockTxn::new(block.hash(), vec![2, 4]))],
        "unasked ones are lost"
    );
    peer.send(&given(&block, &[2, 4]));
    assert_eq!(peer.said(), [inv(&block)]);
    assert_eq!(node.block(4), Some(block.clone()));
    peer.send(&compact(&block));
    assert!(peer.said().is_empty(), "known");
    // All of it is there, so nothing is asked for.
    let next = block_on_top(&node, &[]);
    peer.send(&compact(&next));
    assert_eq!(peer.said(), [inv(&next)]);
    assert_eq!(node.tip_height(), 5);
    // Wrong transactions may be an accident of short ids.
    let third = block_on_top(&node, &[transaction(10, 200), transaction(11, 200)]);
    peer.send(&compact(&third));
    assert_eq!(peer.said(), [Message::GetBlockTxn(GetBlockTxn::new(third.hash(), vec![1, 2]))]);
    let other = block_on_top(&node, &[transaction(11, 200), transaction(10, 200)]);
    let swapped = BlockTxn::new(third.hash(), other.transactions().skip(1));
    peer.send(&Message::BlockTxn(Box::new(swapped)));
    assert_eq!(peer.said(), [Message::GetData(vec![Inventory::block(third.hash())])]);
    peer.send(&Message::Block(third.clone()));
    assert_eq!(peer.said(), [inv(&third)]);
    assert_eq!(node.score(0), 0);
}

#[test]
fn a_compact_block_that_chance_does_not_explain_costs_points() {
    let node = start(3);
    let block = block_on_top(&node, &[transaction(1, 200), transaction(2, 200)]);
    let mut peer = Peer::connect(&node);
    let stranger = mined(&block, vec![transaction(3, 200)]);
    peer.send(&compact(&stranger));
    assert_eq!(peer.said()[0].command(), Command::GETHEADERS, "of another chain, it may be");
    let no_work = Block::new(BlockHeader { bits: 0x0300_0001, ..*block.header() }, vec![transaction(1, 200)]);
    peer.send(&compact(&no_work));
    assert!(peer.said().is_empty());
    assert_eq!(node.score(0), 50);
    peer.send(&compact(&block));
    assert_eq!(peer.recv().command(), Command::GETBLOCKTXN);
    peer.send(&Message::BlockTxn(Box::new(BlockTxn::new(block.hash(), block.transactions().take(1)))));
    peer.assert_closed();
    assert_eq!(node.score(0), 150);
    let mut empty = Peer::connect(&node);
    empty.send(&compact(&Block::new(*block.header(), Vec::new())));
    empty.assert_closed();
    assert_eq!(node.score(1), 100);
    assert_eq!(node.tip_height(), 3);
}

#[test]
fn a_busy_node_says_so_on_command() {
    let node = start(3);
    let words = "Max blocks' downloading size exceeded.";
    let hash = node.block_hash(2).unwrap();
    let getdata = Message::GetData(vec![Inventory::block(hash)]);
    for (message, command) in [
        (getdata.clone(), Command::GETDATA),
        (Message::GetBlockTxn(GetBlockTxn::new(hash, vec![0])), Command::GETBLOCKTXN),
    ] {
        let busy = FaultKind::Reject { code: RejectCode::TooBusy, reason: words.to_owned() };
        node.inject(Fault::new(busy).command(command).times(1));
        let mut peer = Peer::connect(&node);
        peer.send(&message);
        assert_eq!(reject_of(peer.recv()), reject("getdata", RejectCode::TooBusy, words), "{command}");
        peer.send(&message);
        assert_eq!(peer.recv(), Message::Block(node.block(2).unwrap()), "the next time it is not");
    }
}

#[test]
fn what_is_out_of_turn_does_not_depend_on_how_the_bytes_are_cut() {
    let node = start(1);
    let magic = Network::Regtest.magic();
    let services = Version::new(Services::NONE, 77, "/raw/", 0, 0);
    let messages = [
        Message::GetAddr,
        Message::from(services.clone()),
        Message::Ping { nonce: 1 },
        Message::Verack,
        Message::from(services),
        Message::Tx(transaction(1, 70)),
    ];
    let frames: Vec<Frame> = messages.iter().map(|message| message.to_frame(magic)).collect();
    let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.to_vec()).collect();
    for (number, cut) in (1..stream.len()).step_by(3).enumerate() {
        let mut peer = Peer::dial(&node, &Network::Regtest);
        peer.stream.write_all(&stream[..cut]).unwrap();
        peer.stream.write_all(&stream[cut..]).unwrap();
        peer.until(Command::PING);
        let duplicate = reject("version", RejectCode::Duplicate, "Duplicate version message");
        assert_eq!(reject_of(peer.recv()), duplicate, "cut at {cut}");
        assert!(peer.said().is_empty());
        assert_eq!(node.score(number), 3, "cut at {cut}");
    }
}
