//! The thirteen promises that Conduit makes, each kept over real sockets.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]

mod support;

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use conduit::message::Message;
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::{
    BroadcastOptions, BroadcastReport, Command, Conduit, Config, CustomNetwork, Event, ForkMarker, ForkPoint,
    GetAddr, GetData, GetHeaders, Incoming, JourneyState, Network, PeerState, Ping, Request, RequestError,
    RequestOptions, Txid, Verdict,
};
use support::{PATIENCE, headers, own_process, waits};

#[test]
fn s01_every_network_is_spoken_by_its_name_and_a_custom_one_by_its_numbers() {
    let custom = CustomNetwork {
        name: "hamlet".to_owned(),
        magic: *b"haml",
        port: 17_000,
        seeds: vec!["seed.example".to_owned()],
        genesis: Network::Regtest.genesis(),
        fork_marker: None,
    };
    let named = ["main", "test", "stn", "regtest"].map(|name| name.parse::<Network>().unwrap());
    for network in named.into_iter().chain([Network::Custom(custom.into())]) {
        let honest = TestNodeConfig::default().marker_header(headers::test_marker());
        let node = TestNode::start(honest.network(network.clone()).blocks(2)).unwrap();
        let stranger = TestNode::start(TestNodeConfig::default().network(other_than(&network))).unwrap();
        // The nodes of these networks have blocks that a test node has not, so it is asked for its own.
        let marker = match network {
            Network::Main | Network::Scaling => {
                let one = node.block_hash(1).unwrap();
                Some(ForkMarker::new([ForkPoint::followed_by(network.genesis(), one)], one, 1))
            }
            _ => network.fork_marker(),
        };
        let conduit = Conduit::new(config(network.clone()).fork_marker(marker)).unwrap();
        let events = conduit.events();
        let ids = conduit.add_peers([node.address(), stranger.address()]).unwrap();
        conduit.start().unwrap();
        waits::reason_of(&events, ids[1]);
        conduit.wait_for_peers(1, PATIENCE).unwrap();
        let headers = conduit.send_request(GetHeaders::new([network.genesis()])).unwrap();
        assert_eq!(headers.last().map(|header| header.hash()), node.block_hash(2), "{network}");
    }
}

#[test]
fn s02_peers_are_named_before_or_after_the_start_or_found() {
    let nodes = [node(), node(), node()];
    let named = Conduit::new(regtest()).unwrap();
    named.add_peers([("127.0.0.1", nodes[0].address().port())]).unwrap();
    named.start().unwrap();
    named.add_peers([nodes[1].address()]).unwrap();
    named.wait_for_peers(2, PATIENCE).unwrap();

    let (address, asked) = (nodes[2].address(), Arc::new(Mutex::new(Vec::new())));
    let seeds = CustomNetwork {
        name: "seeded".to_owned(),
        magic: Network::Regtest.magic(),
        port: address.port(),
        seeds: vec!["seed.example".to_owned()],
        genesis: Network::Regtest.genesis(),
        fork_marker: None,
    };
    let resolver = {
        let asked = asked.clone();
        move |host: &str, _port: u16| {
            asked.lock().expect("nobody panics with it").push(host.to_owned());
            Ok(vec![address])
        }
    };
    let found = Conduit::new(Config::new(Network::Custom(seeds.into())).resolver(resolver)).unwrap();
    found.start().unwrap();
    found.wait_for_peers(1, PATIENCE).unwrap();
    assert_eq!(*asked.lock().unwrap(), ["seed.example"]);
    assert_eq!(found.peers()[0].address.socket_addr(), Some(address));
}

#[test]
fn s03_the_main_peer_is_asked_first_and_the_best_one_while_it_is_gone() {
    let (near, main) = (node(), node());
    main.set_latency(Duration::from_millis(20));
    let conduit = Conduit::new(regtest()).unwrap();
    let near_id = conduit.add_peers([near.address()]).unwrap()[0];
    let main_id = conduit.set_main_peer(main.address()).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let asked = |node: &TestNode| node.received(Command::GETHEADERS);
    let ask = || conduit.send_request(GetHeaders::new([Network::Regtest.genesis()])).map(drop);

    let before = [asked(&main), asked(&near)];
    ask().unwrap();
    assert_eq!([asked(&main), asked(&near)], [before[0] + 1, before[1]], "slow as it is, it is the main one");
    assert!(conduit.peers().iter().any(|peer| peer.id == main_id && peer.is_main));
    let events = conduit.events();
    main.refuse(true);
    main.drop_connections();
    waits::reason_of(&events, main_id);
    ask().unwrap();
    assert_eq!(asked(&near), before[1] + 1);
    main.refuse(false);
    waits::connected(&events, main_id);
    ask().unwrap();
    assert_eq!(asked(&near), before[1] + 1, "it is the main one again");
    assert_ne!(main_id, near_id);
}

#[test]
fn s04_a_request_queued_before_the_start_goes_out_after_the_handshake() {
    let node = node();
    let conduit = Conduit::new(regtest()).unwrap();
    let block = conduit.send_request_nowait(GetData::block(node.block_hash(3).unwrap())).unwrap();
    conduit.add_peers([node.address()]).unwrap();
    let block = block.try_wait().expect_err("nothing runs yet");
    assert_eq!(node.received(Command::GETDATA), 0);
    conduit.start().unwrap();
    assert_eq!(block.wait().ok(), node.block(3));
}

#[test]
fn s05_run_until_queue_empty_tells_the_outcome_of_every_request_as_json() {
    let node = node();
    let conduit = Conduit::new(regtest()).unwrap();
    conduit.add_peers([node.address()]).unwrap();
    let hash = node.block_hash(1).unwrap();
    let missing = transaction(9, 100).txid();
    drop(conduit.send_request_nowait(GetData::block(hash)).unwrap());
    drop(conduit.send_request_nowait(GetData::transaction(missing)).unwrap());
    let outcomes = conduit.run_until_queue_empty().unwrap();
    let json = serde_json::to_value(&outcomes).unwrap();
    assert_eq!(json[0]["request"], format!("getdata block {hash}"));
    assert_eq!(json[0]["outcome"], "ok");
    assert_eq!(json[0]["peer"], node.address().to_string());
    assert_eq!(json[0]["reply"]["block"]["header"]["previous"], node.block_hash(0).unwrap().to_string());
    assert_eq!(json[1]["outcome"], "not_found");
    assert_eq!(json.as_array().map(Vec::len), Some(2));
}

#[test]
fn s06_a_worker_runs_for_the_life_of_the_program_and_its_threads_ask() {
    let known: SocketAddr = "10.1.2.3:8333".parse().unwrap();
    let node = TestNode::start(TestNodeConfig::default().blocks(BLOCKS).addresses([known])).unwrap();
    let conduit = Conduit::new(regtest()).unwrap();
    conduit.add_peers([node.address()]).unwrap();
    assert_eq!(conduit.send_request(Ping), Err(RequestError::NotStarted), "rather than wait for ever");
    let life = {
        let conduit = conduit.clone();
        waits::call(move || conduit.run())
    };
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    for round in 0..2 {
        let addresses = conduit.send_request(GetAddr).unwrap();
        let addresses: Vec<_> = addresses.iter().map(|entry| entry.address.socket_addr()).collect();
        assert_eq!(addresses, [known], "round {round}");
    }
    assert_eq!(node.received(Command::GETADDR), 1, "a node answers once for each connection");
    assert!(life.is_blocked());
    conduit.shutdown();
    assert!(life.result().is_ok());
}

#[test]
fn s07_a_broadcast_announces_serves_and_tells_what_became_of_it() {
    let nodes = [node(), node(), node()];
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        nodes[one].join(&nodes[other]).unwrap();
    }
    let conduit = connected(regtest(), &nodes);
    let payment = transaction(7, 250);
    let options = BroadcastOptions::new().nodes(1).relays(2);
    let broadcast = conduit.broadcast_transaction_with(payment.raw().to_vec(), &options).unwrap();
    let count = |report: &BroadcastReport, wanted: JourneyState| {
        report.peers.iter().filter(|peer| peer.state == wanted).count()
    };
    // The one that is told asks for it and is sent it; it reaches the others, which announce it to us.
    let report = broadcast.wait();
    assert_eq!(count(&report, JourneyState::Relayed), 2, "{report:?}");
    assert_eq!(report.verdict, Verdict::Relayed { by: 2 }, "{report:?}");
    assert_eq!(count(&report, JourneyState::Sent), 1, "{report:?}");
    assert!(nodes.iter().all(|node| node.contains(payment.txid())));
}

#[test]
fn s08_the_message_queue_gives_command_and_message_to_any_number_of_workers() {
    let node = node();
    let conduit = Conduit::new(regtest()).unwrap();
    let messages = conduit.messages().unwrap();
    let id = conduit.add_peers([node.address()]).unwrap()[0];
    conduit.start().unwrap();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    let count = 3_000;
    let expected: HashSet<Txid> = (0..count).map(|n| transaction(n, 100).txid()).collect();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let messages = messages.clone();
            thread::spawn(move || {
                let tx = |Incoming { peer, message }: Incoming| match (message.command(), message) {
                    (Command::TX, Message::Tx(tx)) => Some((peer, tx.txid())),
                    _ => None,
                };
                messages.filter_map(tx).collect::<Vec<_>>()
            })
        })
        .collect();
    for n in 0..count {
        node.send(&Message::Tx(transaction(n, 100)));
    }
    // The reply to a ping comes after everything that was sent before it.
    conduit.send_request(Ping).unwrap();
    conduit.shutdown();
    let taken: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    assert_eq!(taken.len(), expected.len(), "each once");
    assert!(taken.iter().all(|(peer, _)| *peer == id));
    assert_eq!(taken.into_iter().map(|(_, txid)| txid).collect::<HashSet<_>>(), expected);
}

#[test]
fn s09_two_threads_serve_all_peers() {
    if !own_process::is_alone("s09_two_threads_serve_all_peers") {
        return;
    }
    let nodes: Vec<TestNode> = (0..20).map(|_| node()).collect();
    let conduit = connected(regtest(), &nodes);
    for node in &nodes {
        conduit.send_request(GetData::block(node.block_hash(1).unwrap())).unwrap();
    }
    assert_eq!(own_process::conduit_threads(), ["conduit-io", "conduit-message"]);
}

#[test]
fn s10_peers_are_sorted_by_latency_and_the_order_decides_who_is_asked() {
    let nodes = [node(), node(), node()];
    let latencies = [240, 1, 120].map(Duration::from_millis);
    for (node, latency) in nodes.iter().zip(latencies) {
        node.set_latency(latency);
    }
    let conduit = connected(regtest(), &nodes);
    for peer in conduit.peers() {
        conduit.send_request_with(Ping, &RequestOptions::new().peer(peer.id)).unwrap();
    }
    waits::until("every latency is known", || conduit.peers().iter().all(|peer| peer.latency.is_some()));
    let order: Vec<_> = conduit.peers().iter().map(|peer| peer.address.socket_addr()).collect();
    assert_eq!(order, [1, 2, 0].map(|n: usize| Some(nodes[n].address())));
    assert!(conduit.peers().is_sorted_by_key(|peer| peer.latency));
    conduit.send_request(GetData::block(nodes[0].block_hash(1).unwrap())).unwrap();
    assert_eq!([0, 1, 2].map(|n: usize| nodes[n].received(Command::GETDATA)), [0, 1, 0]);
}

/// An executor in ten lines.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let (waker, mut future) = (Waker::from(Arc::new(Unpark(thread::current()))), pin!(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}

#[test]
fn s11_every_handle_blocks_polls_waits_so_long_and_is_a_future() {
    async fn ask<R: Request>(conduit: &Conduit, request: R) -> Result<R::Reply, RequestError> {
        conduit.send_request_nowait(request)?.await
    }
    let nodes = [node(), node()];
    nodes[0].join(&nodes[1]).unwrap();
    let conduit = connected(regtest(), &nodes);
    let hash = nodes[0].block_hash(2).unwrap();

    let block = block_on(async {
        let headers = ask(&conduit, GetHeaders::new([Network::Regtest.genesis()])).await?;
        ask(&conduit, GetData::block(headers[1].hash())).await
    });
    assert_eq!(block.ok(), nodes[0].block(2));
    let report = block_on(conduit.broadcast_transaction(transaction(1, 200).raw().to_vec(), 1).unwrap());
    assert_eq!(report.verdict, Verdict::Relayed { by: 1 });

    nodes.iter().for_each(|node| node.silence(true));
    let pending = conduit.send_request_nowait(GetData::block(hash)).unwrap();
    let pending = pending.try_wait().expect_err("the nodes are silent");
    let pending = pending.wait_timeout(Duration::from_millis(20)).expect_err("the nodes are silent");
    nodes.iter().for_each(|node| node.silence(false));
    pending.cancel();
    let block = conduit.send_request(GetData::block(nodes[0].block_hash(3).unwrap()));
    assert_eq!(block.ok(), nodes[0].block(3));
}

#[test]
fn s12_more_than_two_hundred_transactions_a_second_go_to_several_nodes_at_once() {
    let nodes = [node(), node(), node()];
    let conduit = connected(regtest(), &nodes);
    let payments: Vec<_> = (0..2_000).map(|n| transaction(n, 250)).collect();
    let begin = Instant::now();
    for payment in &payments {
        conduit.broadcast_transaction(payment.raw().to_vec(), nodes.len()).unwrap();
    }
    for node in &nodes {
        assert!(payments.iter().all(|payment| node.wait_for_transaction(payment.txid(), PATIENCE)));
    }
    // Ten seconds would be the rate; it takes a tenth of one.
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn s13_connections_are_maintained_by_something_light() {
    let manifest = include_str!("../Cargo.toml");
    let dependencies = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let required = dependencies.lines().filter(|line| line.contains('=') && !line.contains("optional"));
    assert_eq!(required.count(), 6);

    let nodes = [node(), node()];
    let conduit = connected(regtest(), &nodes);
    let events = conduit.events();
    for round in 1..=3 {
        // The one that is asked goes away before it answers; the other one is asked, and the first one comes back.
        let asked = &nodes[round as usize % 2];
        let id = conduit.set_main_peer(asked.address()).unwrap();
        asked.ignore(Command::GETDATA);
        let hash = asked.block_hash(round).unwrap();
        let before = asked.received(Command::GETDATA);
        let pending = conduit.send_request_nowait(GetData::block(hash)).unwrap();
        assert!(asked.wait_for_received(Command::GETDATA, before + 1, PATIENCE));
        asked.drop_connections();
        assert_eq!(pending.wait().ok(), asked.block(round));
        waits::reason_of(&events, id);
        waits::connected(&events, id);
        asked.heed(Command::GETDATA);
    }
    assert!(conduit.peers().iter().all(|peer| peer.state == PeerState::Ready));
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, Event::Missed { .. }));
    }
}

fn node() -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(BLOCKS)).expect("a test node starts")
}

fn regtest() -> Config {
    config(Network::Regtest)
}

fn config(network: Network) -> Config {
    Config::new(network).redial_min(Duration::from_millis(20)).redial_max(Duration::from_millis(100))
}

/// A network whose magic is another.
fn other_than(network: &Network) -> Network {
    if *network == Network::Main { Network::Test } else { Network::Main }
}

fn connected(config: Config, nodes: &[TestNode]) -> Conduit {
    let conduit = Conduit::new(config).expect("the settings hold");
    conduit.add_peers(nodes.iter().map(TestNode::address)).expect("addresses are addresses");
    conduit.start().expect("it starts");
    conduit.wait_for_peers(nodes.len(), PATIENCE).expect("the peers connect");
    conduit
}

const BLOCKS: u32 = 5;
