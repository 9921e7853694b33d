//! Conduit against a real SV Node on regtest, one behaviour a test.
//!
//! Every wait has a deadline and ends with an event: a reply, a pong, an announcement, or what the node says over RPC.

#![expect(clippy::disallowed_methods, reason = "requests are timed")]
#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod support;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use conduit::error::{AttemptFailure, SendFailure, TryRecvError};
use conduit::message::{BlockHeader, Inventory, RejectCode, Services};
use conduit::{
    BlockHash, BroadcastReport, Command, Conduit, DisconnectReason, Event, GetAddr, GetData, GetHeaders,
    JourneyState, Message, Network, PeerId, PeerState, Ping, RequestError, RequestOptions, TransactionNotFound,
    Txid, Verdict,
};
use serde_json::{Value, json};

use support::PATIENCE;
use support::client::{Client, config, failures, hashes, sole_peer, txid, wait_for_inventory, wait_for_message};
use support::sv_node::{SvNode, SvNodeOptions, wait_until};
use support::transactions::{self, Funding};

// Peers.

#[test]
fn a_node_connects_and_is_listed_with_its_latency() {
    let Some(node) = start() else { return };
    node.generate(3);
    let client = Client::dial(&[&node], config());

    let Event::Connected { peer, address, user_agent, took } = client.next_event() else {
        panic!("the first event is not that of the connection")
    };
    let network = node.rpc("getnetworkinfo", json!([]));
    assert_eq!((peer, address), (client.peers[0], node.address().into()));
    assert_eq!(json!(user_agent), network["subversion"]);
    assert!(took > Duration::ZERO && took < PATIENCE, "the handshake took {took:?}");

    // The first ping leaves with the handshake.
    wait_until("the latency", PATIENCE, || client.info(peer).latency.is_some());
    let info = client.info(peer);
    let services = u64::from_str_radix(network["localservices"].as_str().unwrap(), 16).unwrap();
    assert_eq!(info.address, node.address().into());
    assert_eq!(info.state, PeerState::Ready);
    assert_eq!(info.user_agent, Some(user_agent));
    assert_eq!(info.services, Some(Services(services)));
    assert_eq!(info.start_height, Some(3));
    assert_eq!((info.outstanding_requests, info.failures, info.is_main), (0, 0, false));
    client.end(&[&node]);
}

#[test]
fn the_node_sees_us_as_we_introduce_ourselves() {
    let Some(node) = start() else { return };
    let config = config().user_agent("/interop:1.0/").start_height(7).max_recv_payload_length(1_500_000);
    let client = Client::connect(&[&node], config);

    // The node pings whoever has finished the handshake, and notes how long the pong took.
    wait_until("the pong to the node's ping", PATIENCE, || sole_peer(&node)["pingtime"].is_number());
    let seen = sole_peer(&node);
    assert_eq!(seen["subver"], "/interop:1.0/");
    assert_eq!(seen["version"], 70_016);
    assert_eq!(seen["services"], "0000000000000000", "we serve nothing");
    assert_eq!(seen["relaytxes"], true);
    assert_eq!(seen["inbound"], true);
    assert_eq!(seen["startingheight"], 7);
    assert_eq!(seen["streampolicy"], "Default");
    assert_eq!(seen["banscore"], 0);
    let received = seen["bytesrecv_per_msg"].as_object().unwrap();
    let mut commands: Vec<&str> = received.keys().map(String::as_str).collect();
    commands.sort_unstable();
    assert_eq!(commands, ["ping", "pong", "protoconf", "verack", "version"], "we send nothing unasked");
    assert!(node.log().contains("proposed max message size: 1500000"), "protoconf is understood");
    client.end(&[&node]);
}

// Requests.

#[test]
fn headers_are_fetched_up_to_the_tip() {
    let Some(node) = start() else { return };
    let mined = hashes(&node.generate(2_010));
    let genesis = Network::Regtest.genesis();
    let client = Client::connect(&[&node], config());
    let ask = |request| client.conduit.send_request(request).unwrap();

    // The most that fit one reply, then the rest, then nothing: that is the tip.
    let first = ask(GetHeaders::new(vec![genesis]));
    let second = ask(GetHeaders::new(vec![first.last().unwrap().hash(), genesis]));
    let at_tip = ask(GetHeaders::new(vec![second.last().unwrap().hash(), genesis]));
    assert_eq!([first.len(), second.len(), at_tip.len()], [2_000, 10, 0]);
    let all: Vec<BlockHeader> = [first, second].concat();
    assert!(all.iter().map(BlockHeader::hash).eq(mined.iter().copied()));
    assert!(
        all.iter().map(|header| header.previous).eq([genesis].into_iter().chain(mined.iter().copied()).take(2_010))
    );

    // Without a locator it is the one header that is named.
    for hash in [genesis, mined[1_000]] {
        let one = ask(GetHeaders::new(vec![]).stop_at(hash));
        assert_eq!(one.iter().map(BlockHeader::hash).collect::<Vec<_>>(), [hash]);
    }
    // The stop hash is the last one of the reply.
    let five = ask(GetHeaders::new(vec![genesis]).stop_at(mined[4]));
    assert!(five.iter().map(BlockHeader::hash).eq(mined[..5].iter().copied()));
    client.end(&[&node]);
}

#[test]
fn blocks_come_as_the_node_stores_them() {
    let Some(node) = start() else { return };
    let mut funding = Funding::new(&node, 2);
    let client = Client::connect(&[&node], config());

    // A transaction of several megabytes, on its way to the node over the same connection.
    let large = transactions::spend(funding.take(), LARGE);
    let small = transactions::spend(funding.take(), 500);
    for raw in [&large, &small] {
        let broadcast = client.broadcast(raw, 1);
        wait_until("the transaction in the mempool", PATIENCE, || {
            node.mempool().contains(&transactions::txid(raw))
        });
        assert_eq!(broadcast.report().verdict, Verdict::Delivered { to: 1 });
    }
    let large_block = hashes(&node.generate(1))[0];
    let height = node.best_height();
    let funding_block = node.rpc("getblockhash", json!([height - 1])).as_str().unwrap().parse().unwrap();

    // All are asked for at once.
    let wanted: [(BlockHash, usize); 3] = [(Network::Regtest.genesis(), 1), (funding_block, 2), (large_block, 3)];
    let pending = wanted.map(|(hash, _)| client.conduit.send_request_nowait(GetData::block(hash)).unwrap());
    for ((hash, transaction_count), pending) in wanted.into_iter().zip(pending) {
        let block = pending.wait().unwrap();
        assert_eq!(block.hash(), hash);
        assert_eq!(block.transaction_count(), transaction_count);
        assert!(**block.raw() == *node.block_bytes(&hash.to_string()), "block {hash} differs");
        if hash == large_block {
            assert!(block.raw().len() > LARGE);
            assert!(block.transactions().any(|transaction| transaction.txid() == txid(&large)));
        }
    }
    client.end(&[&node]);
}

#[test]
fn transactions_are_given_in_the_order_asked_also_if_some_are_unknown() {
    let Some(node) = start() else { return };
    let mut funding = Funding::new(&node, 3);
    let client = Client::connect(&[&node], config());
    let peer = client.peers[0];

    let missing = Txid::from_wire([0xab; 32]);
    match client.conduit.send_request(GetData::transaction(missing)) {
        Err(RequestError::NotFound { attempts }) => {
            assert_eq!(attempts.len(), 1);
            assert_eq!((attempts[0].peer, attempts[0].failure), (peer, AttemptFailure::NotFound));
            assert_eq!(attempts[0].address, node.address().into());
        }
        other => panic!("an unknown transaction ends in {other:?}"),
    }

    // A node gives what it has announced to somebody, so each is waited for.
    let announced = client.conduit.subscribe([Command::INV]).unwrap();
    let raws: Vec<Vec<u8>> = (0..3).map(|_| transactions::spend(funding.take(), 300)).collect();
    for raw in &raws {
        node.send_raw_transaction(raw).unwrap();
        wait_for_inventory(&announced, peer, Inventory::transaction(txid(raw)));
    }
    let one = client.conduit.send_request(GetData::transaction(txid(&raws[0]))).unwrap();
    assert_eq!(**one.raw(), *raws[0]);

    let absent = [[1; 32], [2; 32]].map(Txid::from_wire);
    let asked = [txid(&raws[2]), absent[0], txid(&raws[0]), absent[1], txid(&raws[1])];
    let results = client.conduit.send_request(GetData::transactions(asked)).unwrap();
    let got: Vec<Result<&[u8], TransactionNotFound>> =
        results.iter().map(|result| result.as_ref().map(|tx| &**tx.raw()).map_err(|&missing| missing)).collect();
    let not_found = |txid| Err(TransactionNotFound { txid });
    assert_eq!(got, [Ok(&*raws[2]), not_found(absent[0]), Ok(&*raws[0]), not_found(absent[1]), Ok(&*raws[1])]);
    client.end(&[&node]);
}

#[test]
fn an_unknown_block_times_out_when_its_time_is_over() {
    let Some(node) = start() else { return };
    node.generate(1);
    let client = Client::connect(&[&node], config());

    let timeout = Duration::from_millis(700);
    let asked = Instant::now();
    let result = client.conduit.send_request_with(unknown_block(), &RequestOptions::new().timeout(timeout));
    let took = asked.elapsed();
    assert_eq!(failures(result), [(client.peers[0], AttemptFailure::TimedOut)]);
    assert!(took >= timeout && took < timeout * 10, "it took {took:?}");

    // Nothing is left behind that a later request could stumble over.
    let headers = client.conduit.send_request(GetHeaders::new(vec![Network::Regtest.genesis()])).unwrap();
    assert_eq!(headers.len(), 1);
    client.end(&[&node]);
}

#[test]
fn a_request_goes_on_to_the_peer_that_has_the_answer() {
    let (Some(ignorant), Some(wise)) = (start(), start()) else { return };
    // Each knows a chain of its own.
    ignorant.generate(1);
    let block = hashes(&wise.generate(2))[1];
    let client = Client::connect(&[&ignorant, &wise], config());
    client.conduit.set_main_peer(ignorant.address()).unwrap();
    assert!(client.info(client.peers[0]).is_main);

    // The main peer is silent about the block, and the other one is asked when its share of the time is over.
    let timeout = Duration::from_secs(8);
    let asked = Instant::now();
    let options = RequestOptions::new().timeout(timeout);
    let answer = client.conduit.send_request_with(GetData::block(block), &options).unwrap();
    let took = asked.elapsed();
    assert!(took >= timeout / 2 && took < timeout, "it took {took:?}");
    assert_eq!(**answer.raw(), *wise.block_bytes(&block.to_string()));

    // About a transaction it says that it does not have it, and so do both.
    let result = client.conduit.send_request(GetData::transaction(Txid::from_wire([0xab; 32])));
    let both: Vec<_> = client.peers.iter().map(|&peer| (peer, AttemptFailure::NotFound)).collect();
    assert!(matches!(result, Err(RequestError::NotFound { .. })), "{result:?}");
    assert_eq!(failures(result), both);
    client.end(&[&ignorant, &wise]);
}

#[test]
fn a_ping_is_answered_and_a_node_without_addresses_is_not_waited_for_too_long() {
    let Some(node) = start() else { return };
    let client = Client::connect(&[&node], config());

    let asked = Instant::now();
    let round_trip = client.conduit.send_request(Ping).unwrap();
    assert!(round_trip > Duration::ZERO && round_trip <= asked.elapsed(), "{round_trip:?}");

    // The second one is not even sent: a node answers the first of a connection only.
    let options = RequestOptions::new().timeout(Duration::from_millis(500));
    for _ in 0..2 {
        let result = client.conduit.send_request_with(GetAddr, &options);
        assert_eq!(failures(result), [(client.peers[0], AttemptFailure::TimedOut)]);
    }
    client.conduit.send_request(Ping).unwrap();
    assert_eq!(sole_peer(&node)["bytesrecv_per_msg"]["getaddr"], 24);
    client.end(&[&node]);
}

#[test]
fn a_queue_filled_before_the_start_is_worked_off_and_reported_in_order() {
    let Some(node) = start() else { return };
    let mined = hashes(&node.generate(3));
    let genesis = Network::Regtest.genesis();
    let conduit = Conduit::new(config()).unwrap();
    conduit.add_peers([node.address()]).unwrap();

    let missing = Txid::from_wire([0xab; 32]);
    let short = RequestOptions::new().timeout(Duration::from_secs(3));
    let headers = conduit.send_request_nowait(GetHeaders::new(vec![genesis])).unwrap();
    // Nobody keeps these: the outcomes tell.
    drop(conduit.send_request_nowait_with(unknown_block(), &short).unwrap());
    drop(conduit.send_request_nowait(GetData::transaction(missing)).unwrap());
    drop(conduit.send_request_nowait(GetData::block(mined[2])).unwrap());
    drop(conduit.send_request_nowait(Ping).unwrap());
    let outcomes = conduit.run_until_queue_empty().unwrap();

    let text = serde_json::to_string(&outcomes).unwrap();
    assert!(text.starts_with(r#"[{"request":"getheaders after "#), "{text}");
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    let column = |name: &str| list.iter().map(|outcome| outcome[name].clone()).collect::<Vec<_>>();
    for (outcome, entry) in outcomes.iter().zip(&list) {
        assert_eq!(entry.as_object().unwrap().len(), 5, "{entry}");
        let milliseconds = entry["milliseconds"].as_f64().unwrap();
        assert!((milliseconds - outcome.took.as_secs_f64() * 1_000.0).abs() < 0.001, "{milliseconds}");
    }
    let address = node.address().to_string();
    assert_eq!(
        column("request"),
        [
            format!("getheaders after {genesis}"),
            format!("getdata block {UNKNOWN}"),
            format!("getdata tx {missing}"),
            format!("getdata block {}", mined[2]),
            "ping".to_owned(),
        ]
    );
    assert_eq!(column("outcome"), ["ok", "timed_out", "not_found", "ok", "ok"]);
    assert_eq!(json!(column("peer")), json!([address, null, null, address, address]));
    let reply = column("reply");
    assert_eq!(reply[0]["headers"].as_array().unwrap().len(), 3);
    assert_eq!(reply[0]["headers"][0]["previous"], genesis.to_string());
    assert_eq!(reply[1], format!("timed out: {address} did not answer in time"));
    assert_eq!(reply[2], format!("not found: {address} does not have it"));
    assert_eq!(reply[3]["block"]["hash"], mined[2].to_string());
    assert_eq!(reply[3]["block"]["transactions"].as_array().unwrap().len(), 1);
    assert!(reply[4]["round_trip"].is_object(), "{}", reply[4]);
    assert!(outcomes[1].took >= Duration::from_secs(3));

    // A handle has the reply all the same, and an empty queue is worked off at once.
    assert_eq!(headers.wait().unwrap().len(), 3);
    assert_eq!(conduit.run_until_queue_empty().unwrap().len(), 0);
    conduit.shutdown();
    node.assert_no_misbehaviour();
}

// Broadcasts.

#[test]
fn a_transaction_told_to_one_node_is_relayed_by_the_other() {
    let Some((first, second)) = joined_pair() else { return };
    let raw = transactions::spend(fund_both(&first, &second).take(), 400);
    let client = Client::connect(&[&first, &second], config());
    client.conduit.set_main_peer(first.address()).unwrap();

    let broadcast = client.broadcast(&raw, 1);
    assert_eq!(broadcast.txid(), txid(&raw));
    let report = broadcast.wait();
    assert_eq!(report.verdict, Verdict::Relayed { by: 1 }, "{report:?}");
    assert_eq!(report.listeners, 1);
    let states = [(client.peers[0], JourneyState::Sent), (client.peers[1], JourneyState::Relayed)];
    assert_eq!(receipts(&report), states);
    for node in [&first, &second] {
        assert!(node.mempool().contains(&transactions::txid(&raw)));
    }
    client.end(&[&first, &second]);
}

#[test]
fn a_reject_is_tied_to_its_transaction() {
    let Some(node) = start() else { return };
    let good = transactions::spend(Funding::new(&node, 1).take(), 400);
    let bad = transactions::immature_coinbase_spend(&node);
    let client = Client::connect(&[&node], config());
    let messages = client.conduit.messages().unwrap();

    let good_broadcast = client.broadcast(&good, 1);
    let bad_broadcast = client.broadcast(&bad, 1);
    let report = bad_broadcast.wait();
    assert_eq!(report.txid, txid(&bad));
    let Verdict::Rejected { by: 1, code, reason } = report.verdict.clone() else { panic!("{report:?}") };
    assert_eq!((code, u8::from(code)), (RejectCode::Invalid, 0x10));
    assert_eq!(reason, "bad-txns-premature-spend-of-coinbase");
    assert_eq!(receipts(&report), [(client.peers[0], JourneyState::Rejected { code, reason })]);

    // The other one is accepted, which nobody says: no second node is there to relay it.
    wait_until("the good transaction in the mempool", PATIENCE, || {
        node.mempool().contains(&transactions::txid(&good))
    });
    client.fence();
    let report = good_broadcast.report();
    assert_eq!(report.verdict, Verdict::Delivered { to: 1 });
    assert_eq!((report.listeners, report.end), (0, None));
    // The broadcast has the reject, so it is no news for anybody else.
    let mut rest = std::iter::from_fn(|| messages.try_recv().ok());
    assert!(rest.all(|incoming| incoming.message.command() != Command::REJECT));
    assert!(!node.mempool().contains(&transactions::txid(&bad)));
    client.end(&[&node]);
}

#[test]
fn a_peer_that_closes_over_a_transaction_is_dialled_again() {
    let Some(node) = start() else { return };
    let raw = transactions::overspend(Funding::new(&node, 1).take());
    let client = Client::connect(&[&node], config());
    client.expect_connected();

    let report = client.broadcast(&raw, 1).wait();
    let code = RejectCode::Invalid;
    let reason = "bad-txns-in-belowout".to_owned();
    assert_eq!(report.verdict, Verdict::Rejected { by: 1, code, reason });
    assert_eq!(client.expect_disconnected(), DisconnectReason::ClosedByPeer);

    // A score of 100 bans nobody from loopback, and the transaction is not offered again.
    client.expect_connected();
    let headers = GetHeaders::new(vec![Network::Regtest.genesis()]);
    assert_eq!(client.conduit.send_request(headers).unwrap().len() as u64, node.best_height());
    let received = &sole_peer(&node)["bytesrecv_per_msg"];
    assert!(received["getheaders"].is_number() && received["inv"].is_null(), "{received}");
    client.conduit.shutdown();
    let complaints = node.misbehaviour_lines();
    let is_expected = |line: &String| line.contains("(0 -> 100)") && line.contains("bad-txns-in-belowout");
    assert!(complaints.len() == 1 && complaints.iter().all(is_expected), "{complaints:#?}");
}

// Messages.

#[test]
fn workers_and_subscribers_hear_what_the_network_announces() {
    let Some((near, far)) = joined_pair() else { return };
    let raw = transactions::spend(fund_both(&near, &far).take(), 400);
    let client = Client::connect(&[&near], config());
    let peer = client.peers[0];

    let messages = client.conduit.messages().unwrap();
    let subscription = client.conduit.subscribe([Command::INV]).unwrap();
    let (sender, heard) = mpsc::channel();
    // The iterator ends with the conduit, and so does the thread.
    let worker = thread::spawn(move || messages.for_each(|incoming| drop(sender.send(incoming))));
    let hear = |wanted: Inventory| loop {
        let incoming = heard.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{wanted:?}: {error}"));
        if matches!(&incoming.message, Message::Inv(items) if items.contains(&wanted)) {
            assert_eq!(incoming.peer, peer);
            return;
        }
    };

    // Both happen at the node that we are not connected to.
    far.send_raw_transaction(&raw).unwrap();
    let transaction = Inventory::transaction(txid(&raw));
    hear(transaction);
    let block = Inventory::block(hashes(&far.generate(1))[0]);
    hear(block);
    wait_for_inventory(&subscription, peer, transaction);
    wait_for_inventory(&subscription, peer, block);

    client.end(&[&near, &far]);
    // What is left in the queues can still be taken; then they are over.
    let end = std::iter::repeat_with(|| heard.recv_timeout(PATIENCE)).find_map(Result::err);
    assert_eq!(end, Some(mpsc::RecvTimeoutError::Disconnected));
    worker.join().unwrap();
    let end = std::iter::repeat_with(|| subscription.recv_timeout(PATIENCE)).find_map(Result::err);
    assert_eq!(end, Some(TryRecvError::Shutdown));
}

#[test]
fn blocks_are_announced_by_headers_once_asked_for() {
    let Some(node) = start() else { return };
    let tip = hashes(&node.generate(1))[0];
    let client = Client::connect(&[&node], config());
    let peer = client.peers[0];
    let messages = client.conduit.messages().unwrap();

    // What a caller sends by himself is answered to him.
    client.conduit.send(peer, Message::Ping { nonce: 42 }).unwrap();
    wait_for_message(&messages, peer, |message| *message == Message::Pong { nonce: 42 });

    client.conduit.try_send(peer, Message::SendHeaders).unwrap();
    // The node announces by headers only if it believes that we know the block before.
    assert_eq!(client.conduit.send_request(GetHeaders::new(vec![tip])).unwrap(), []);
    let mut previous = tip;
    for _ in 0..2 {
        let mined = hashes(&node.generate(1))[0];
        let is_announcement =
            |message: &Message| matches!(message.command(), Command::HEADERS | Command::INV | Command::BLOCK);
        match wait_for_message(&messages, peer, is_announcement) {
            Message::Headers(headers) => {
                let links: Vec<_> = headers.iter().map(|header| (header.previous, header.hash())).collect();
                assert_eq!(links, [(previous, mined)]);
            }
            other => panic!("a block is announced by {other:?}"),
        }
        previous = mined;
    }
    client.end(&[&node]);
}

// Loss and return.

#[test]
fn requests_survive_the_death_of_a_node_or_end_properly() {
    let Some(mut node) = start() else { return };
    let block = hashes(&node.generate(2))[1];
    // Writes the blocks to disk, so that they outlive the kill.
    node.rpc("gettxoutsetinfo", json!([]));
    let bytes = node.block_bytes(&block.to_string());
    let client = Client::connect(&[&node], config());
    let peer = client.peers[0];
    client.expect_connected();

    let timeout = Duration::from_secs(4);
    let asked = Instant::now();
    let options = RequestOptions::new().timeout(timeout);
    let short = client.conduit.send_request_nowait_with(unknown_block(), &options).unwrap();
    let long = client.conduit.send_request_nowait(unknown_block()).unwrap();
    assert_eq!(client.info(peer).outstanding_requests, 2);

    node.kill();
    // A reset if the node left bytes unread, else an ordinary end.
    let reason = client.expect_disconnected();
    assert!(matches!(reason, DisconnectReason::ClosedByPeer | DisconnectReason::Io { .. }), "{reason:?}");
    let info = client.info(peer);
    assert_ne!(info.state, PeerState::Ready);
    assert_eq!((info.user_agent, info.outstanding_requests), (None, 0));

    // While it is down, a request waits for its return, or for its own end.
    let issued_while_down = client.conduit.send_request_nowait(GetData::block(block)).unwrap();
    let hurried = RequestOptions::new().timeout(Duration::from_millis(300));
    assert_eq!(client.conduit.send_request_with(Ping, &hurried), Err(RequestError::NoPeers));
    let unsent = client.conduit.send(peer, Message::SendHeaders).unwrap_err();
    assert_eq!((unsent.message, unsent.reason), (Message::SendHeaders, SendFailure::Disconnected));
    assert_eq!(failures(short.wait()), [(peer, AttemptFailure::Disconnected)]);
    assert!(asked.elapsed() >= timeout);

    node.restart();
    client.expect_connected();
    assert_eq!(**issued_while_down.wait().unwrap().raw(), *bytes);
    client.conduit.send_request(Ping).unwrap();
    // What was outstanding is asked again, as there is time left.
    assert_eq!(client.info(peer).outstanding_requests, 1);
    long.cancel();
    assert_eq!(client.info(peer).outstanding_requests, 0);
    client.end(&[&node]);
}

fn start() -> Option<SvNode> {
    SvNode::start(SvNodeOptions::default())
}

fn joined_pair() -> Option<(SvNode, SvNode)> {
    let [first, second]: [SvNode; 2] = SvNode::joined(2)?.try_into().ok().expect("two were asked for");
    Some((first, second))
}

/// One coin, of which both nodes know.
fn fund_both(first: &SvNode, second: &SvNode) -> Funding {
    let funding = Funding::new(first, 1);
    wait_until("the other node to follow", PATIENCE, || first.best_height() == second.best_height());
    funding
}

fn receipts(report: &BroadcastReport) -> Vec<(PeerId, JourneyState)> {
    report.peers.iter().filter_map(|journey| Some((journey.peer?, journey.state.clone()))).collect()
}

fn unknown_block() -> conduit::BlockRequest {
    GetData::block(UNKNOWN.parse().unwrap())
}

const UNKNOWN: &str = "abababababababababababababababababababababababababababababababab";
const LARGE: usize = 4_000_000;
