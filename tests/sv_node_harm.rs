//! What a real SV Node on regtest punishes: refused where it is sent, and done to us where it is sent anyway.
//!
//! Sections 2 and 3.8 of the wire specification. Each test has nodes of its own, as some end connections for good.

mod support;

use conduit::error::{AttemptFailure, TryRecvError};
use conduit::message::{
    BlockHeader, BloomFilter, CreateStrm, FilterAdd, FilterLoad, FilterUpdate, Inventory, InventoryKind,
    NetworkAddress, ProtoConf, RejectCode, Services, StreamAck, StreamType, TimestampedAddress, Version,
};
use conduit::{
    Command, DisconnectReason, GetBlockTxn, Harm, Mempool, Message, Messages, PeerId, RequestError, Txid,
};

use support::client::{Client, assert_refused, config, hash_at, sole_peer, start_with, wait_for_message};

#[test]
fn what_the_node_would_punish_is_refused_and_the_connection_stays() {
    let Some(node) = start_with(&[]) else { return };
    let client = Client::connect(&[&node], config());
    let (conduit, peer) = (&client.conduit, client.peers[0]);
    client.expect_connected();
    let before = sole_peer(&node)["bytesrecv_per_msg"].clone();
    for (message, harm, _) in punished() {
        assert_refused(&client, message.clone(), harm);
        // Under its name alone it is no better.
        let mut payload = Vec::new();
        message.encode_payload(&mut payload);
        let unknown = Message::Unknown { command: message.command(), payload: payload.into() };
        assert_refused(&client, unknown, harm);
    }
    for name in ["extmsg", "extmsgfoo"] {
        let extended = Message::Unknown { command: Command::new(name).unwrap(), payload: vec![0; 20].into() };
        assert_refused(&client, extended, Harm::ExtendedHeader);
    }
    assert_eq!(conduit.send_request(Mempool::new()), Err(RequestError::Harmful(Harm::Mempool)));
    for message in [Message::SendHeaders, Message::SendHdrsEn] {
        conduit.send(peer, message.clone()).unwrap();
        let harm = Harm::Repeated { command: message.command() };
        assert_refused(&client, message, harm);
    }

    client.fence();
    let received = sole_peer(&node)["bytesrecv_per_msg"].clone();
    let new = received.as_object().unwrap().keys().filter(|command| before[command.as_str()].is_null());
    assert_eq!(new.collect::<Vec<_>>(), ["sendhdrsen", "sendheaders"], "that was sent");
    for command in ["version", "verack", "protoconf"] {
        assert_eq!(received[command], before[command], "{command} was sent once");
    }
    assert_eq!(client.events.try_recv(), Err(TryRecvError::Empty), "the connection was lost");
    client.end(&[&node]);
}

#[test]
fn what_is_sent_anyway_is_punished_as_we_say() {
    let Some(node) = start_with(&[]) else { return };
    node.generate(1);
    let client = Client::connect(&[&node], config());
    let (conduit, peer) = (&client.conduit, client.peers[0]);
    let messages = conduit.messages().unwrap();
    client.expect_connected();
    let is_old = client.info(peer).user_agent.unwrap().starts_with("/Bitcoin SV:1.0.");
    let mut scores: Vec<(u32, &str)> = Vec::new();
    for (message, harm, punishment) in punished() {
        let command = message.command();
        conduit.send_anyway(peer, message).unwrap();
        match punishment {
            Punishment::Loss if is_old && matches!(harm, Harm::InventoryKind { .. }) => client.fence(),
            Punishment::Loss => lose(&client),
            Punishment::Rejected(code) => {
                expect_reject(&messages, peer, command, code);
                lose(&client);
            }
            Punishment::RejectedAndScore(code, points, reason) => {
                expect_reject(&messages, peer, command, code);
                scores.push((points, reason));
                client.fence();
            }
            Punishment::Score(points, reason) => {
                scores.push((points, reason));
                client.fence();
            }
            Punishment::ScoreAndLoss(reason) => {
                scores.push((100, reason));
                lose(&client);
            }
            Punishment::Nothing => client.fence(),
        }
    }
    // A message that may be sent once, sent twice.
    for (message, reason) in
        [(Message::SendHeaders, "Invalid SendHeaders"), (Message::SendHdrsEn, "Invalid SendHdrsEn")]
    {
        conduit.send(peer, message.clone()).unwrap();
        conduit.send_anyway(peer, message).unwrap();
        scores.push((1, reason));
        client.fence();
    }

    // A question that is insisted on ends with the connection, and is not asked again.
    let lost = |result: Result<Vec<Txid>, RequestError>| match result {
        Err(RequestError::Failed { attempts }) => {
            assert_eq!(attempts.len(), 1);
            assert_eq!((attempts[0].peer, attempts[0].failure), (peer, AttemptFailure::Disconnected));
        }
        other => panic!("an insisted mempool ends in {other:?}"),
    };
    lost(conduit.send_request(Mempool::new().insist()));
    lose(&client);
    if is_old {
        // Later ones are silent about it.
        lost(conduit.send_request(Mempool::new().insist().older_than(1)));
        lose(&client);
    }
    // So does one for a transaction that the block does not have.
    let beyond = GetBlockTxn::new(hash_at(&node, node.best_height()), [1]);
    match conduit.send_request(beyond) {
        Err(RequestError::Failed { attempts }) => assert_eq!(attempts.len(), 1),
        other => panic!("a transaction behind the last one ends in {other:?}"),
    }
    scores.push((100, "out-of-bound-tx-index"));
    lose(&client);
    conduit.shutdown();

    let lines = node.misbehaviour_lines();
    assert_eq!(lines.len(), scores.len(), "{lines:#?}");
    for (line, (points, reason)) in lines.iter().zip(scores) {
        let (_, score) = line.split_once('(').unwrap();
        let (before, after) = score.split_once(") reason: ").unwrap().0.split_once(" -> ").unwrap();
        let got = after.parse::<u32>().unwrap() - before.parse::<u32>().unwrap();
        assert!(got == points && line.contains(&format!("reason: {reason}")), "{line}: not {points} {reason}");
    }
}

#[test]
fn filters_over_the_limits_cost_the_connection_also_where_filters_are_offered() {
    let Some(node) = start_with(&["-peerbloomfilters=1"]) else { return };
    let client = Client::connect(&[&node], config());
    client.expect_connected();
    let too_large = FilterLoad { filter: vec![1; 36_001], hash_functions: 1, tweak: 0, flags: 0 };
    let too_many = FilterLoad { filter: vec![1; 10], hash_functions: 51, tweak: 0, flags: 0 };
    for message in [
        Message::FilterLoad(too_large),
        Message::FilterLoad(too_many),
        Message::FilterAdd(FilterAdd { data: vec![1; 521] }),
    ] {
        assert_refused(&client, message.clone(), Harm::FilterTooLarge);
        client.conduit.send_anyway(client.peers[0], message).unwrap();
        lose(&client);
    }
    client.conduit.shutdown();
    let lines = node.misbehaviour_lines();
    let reasons = ["oversized-bloom-filter", "oversized-bloom-filter", "invalid-filteradd"];
    assert_eq!(lines.len(), reasons.len(), "{lines:#?}");
    assert!(lines.iter().zip(reasons).all(|(line, reason)| line.contains(reason)), "{lines:#?}");
}

/// What [`Harm`] warns of, and what the node does about it.
fn punished() -> Vec<(Message, Harm, Punishment)> {
    let filter = BloomFilter::new(1, 0.1, 0, FilterUpdate::None).expect("a rate below 1");
    let kind = InventoryKind::FilteredBlock;
    let header = BlockHeader::decode(&[0; BlockHeader::LEN]);
    let address = TimestampedAddress { time: 0, address: NetworkAddress::UNSPECIFIED };
    let stream = || StreamAck { association_id: vec![0; 17], stream_type: StreamType::Data1 };
    let create = CreateStrm {
        association_id: stream().association_id,
        stream_type: stream().stream_type,
        stream_policy: "Default".into(),
    };
    let unreadable = |command| Message::Unknown { command, payload: vec![0].into() };
    let handshake = |command| Harm::Handshake { command };
    let setup = |command| Harm::StreamSetup { command };
    let too_many = |command, count, limit| Harm::TooManyItems { command, count, limit };
    vec![
        (Message::Mempool { age_seconds: None }, Harm::Mempool, Punishment::Loss),
        (Message::FilterLoad(filter.into()), Harm::FilterNotOffered, Punishment::ScoreAndLoss("no-bloom-version")),
        (
            Message::FilterAdd(FilterAdd { data: vec![1] }),
            Harm::FilterNotOffered,
            Punishment::ScoreAndLoss("no-bloom-version"),
        ),
        (Message::Inv(vec![Inventory { kind, hash: [1; 32] }]), Harm::InventoryKind { kind }, Punishment::Loss),
        (Message::ProtoConf(ProtoConf::new(2_000_000, "Default")), handshake(Command::PROTOCONF), Punishment::Loss),
        (
            Message::CreateStrm(Box::new(create)),
            setup(Command::CREATESTRM),
            Punishment::Rejected(RejectCode::NonStandard),
        ),
        (Message::StreamAck(stream()), setup(Command::STREAMACK), Punishment::Rejected(RejectCode::NonStandard)),
        (
            Message::from(Version::new(Services::NONE, 1, "/again/", 0, 0)),
            handshake(Command::VERSION),
            Punishment::RejectedAndScore(RejectCode::Duplicate, 1, "multiple-version"),
        ),
        (Message::Verack, handshake(Command::VERACK), Punishment::Nothing),
        // Before it looks at the payload, too.
        (unreadable(Command::FILTERLOAD), Harm::FilterNotOffered, Punishment::ScoreAndLoss("no-bloom-version")),
        (unreadable(Command::PROTOCONF), handshake(Command::PROTOCONF), Punishment::Loss),
        (
            unreadable(Command::CREATESTRM),
            setup(Command::CREATESTRM),
            Punishment::Rejected(RejectCode::NonStandard),
        ),
        (
            Message::Headers(vec![header; 2_001]),
            too_many(Command::HEADERS, 2_001, 2_000),
            Punishment::Score(20, "too-many-headers"),
        ),
        (
            Message::Addr(vec![address; 1_001]),
            too_many(Command::ADDR, 1_001, 1_000),
            Punishment::Score(20, "oversized-addr"),
        ),
    ]
}

enum Punishment {
    Nothing,
    /// So many points, and a word about it.
    RejectedAndScore(RejectCode, u32, &'static str),
    /// So many points.
    Score(u32, &'static str),
    /// A hundred points, and with them the connection; others than loopback are banned.
    ScoreAndLoss(&'static str),
    /// The connection, for no points.
    Loss,
    /// The connection, for no points but with a word about it.
    Rejected(RejectCode),
}

/// Waits for the node's word about what was sent.
#[track_caller]
fn expect_reject(messages: &Messages, peer: PeerId, command: Command, code: RejectCode) {
    match wait_for_message(messages, peer, |message| message.command() == Command::REJECT) {
        Message::Reject(reject) => {
            assert_eq!((&*reject.message, reject.code), (command.as_str(), code), "{reject:?}");
        }
        other => panic!("{other:?} is no reject"),
    }
}

/// Waits until the node has ended the connection, and for the next one.
#[track_caller]
fn lose(client: &Client) {
    // A reset if the node left bytes unread, else an ordinary end.
    let reason = client.expect_disconnected();
    assert!(matches!(reason, DisconnectReason::ClosedByPeer | DisconnectReason::Io { .. }), "{reason:?}");
    client.expect_connected();
    client.fence();
}
