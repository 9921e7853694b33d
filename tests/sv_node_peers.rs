//! Peers that look after themselves, against real SV Nodes on regtest: bans, evictions, deaths, other chains, initial
//! block download, finding.
//!
//! Sections 2, 4 and 6 of the wire specification. Every wait has a deadline and ends with an event, or with what the
//! node says over RPC.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]
#![expect(clippy::disallowed_methods, reason = "back-offs are held against the clock")]

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conduit::message::{Inventory, OutPoint, Transaction, TransactionInput, TransactionOutput};
use conduit::{
    BanReason, BlockHash, Command, Conduit, Config, CustomNetwork, DisconnectReason, Event, Events, ForkMarker,
    ForkPoint, GetData, GetHeaders, JourneyState, Message, Network, PeerState, Ping, RequestError, RequestOptions,
    Txid,
};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use support::client::{Client, config, hash_at, hashes, start_with, stored, txid};
use support::sv_node::{SvNode, wait_until};
use support::transactions::{self, Funding};
use support::{PATIENCE, hex, waits};

// Bans and evictions.

#[test]
fn requests_go_on_while_one_node_bans_us_another_evicts_us_and_all_are_gone_for_a_while() {
    let Some(nodes) = SvNode::joined(3) else { return };
    let [steady, banning, evicting] = &nodes[..] else { panic!("three were asked for") };
    let mut funding = Funding::new(steady, 1);
    wait_until("the other nodes to follow", PATIENCE, || {
        nodes.iter().all(|node| node.best_height() == steady.best_height())
    });
    let all = [steady, banning, evicting];
    let client = Client::connect(&all, config().redial_min(REDIAL_MIN).redial_max(REDIAL_MAX));
    let [steady_id, banning_id, evicting_id] = client.peers[..] else { panic!("three were named") };
    // The node would dial it again, and be counted with us.
    steady.rpc("addnode", json!([banning.address(), "remove"]));

    // A node gives what it has announced.
    let raw = transactions::spend(funding.take(), 300);
    let announced = client.peers.iter().map(|_| client.conduit.subscribe([Command::INV]).unwrap());
    let announced: Vec<_> = announced.collect();
    steady.send_raw_transaction(&raw).unwrap();
    for (messages, peer) in announced.iter().zip(&client.peers) {
        let is_meant = |message: &Message| matches!(message, Message::Inv(items) if items.contains(&Inventory::transaction(txid(&raw))));
        waits::until("the announcement", || {
            std::iter::from_fn(|| messages.try_recv().ok())
                .any(|incoming| incoming.peer == *peer && is_meant(&incoming.message))
        });
    }
    drop(announced);
    let mut history = History::new(&client.events);
    let tip = hash_at(steady, steady.best_height());
    let traffic = Traffic::start(&client.conduit, Some(txid(&raw)), tip);
    traffic.wait_for_more();

    // Banned by the one that is asked first.
    client.conduit.set_main_peer(banning.address()).unwrap();
    traffic.wait_for_more();
    let banned_at = Instant::now();
    banning.set_ban(LOOPBACK, BAN);
    let lost = history.until(|event| matches!(event, Event::Disconnected { peer, .. } if *peer == banning_id));
    assert!(is_closed(&lost), "{lost:?}");
    for _ in 0..8 {
        let refused = history.until(|event| matches!(event, Event::Refused { peer, .. } if *peer == banning_id));
        assert!(is_closed(&refused), "{refused:?}");
    }
    traffic.wait_for_more();
    assert_ne!(client.conduit.main_peer(), Some(banning_id));
    let turned_away = || banning.log().matches("dropped (banned)").count();
    wait_until("the node to tell of it", PATIENCE, || turned_away() >= 8);
    let dials = turned_away();
    assert!(least_time(dials - 1) <= banned_at.elapsed(), "{dials} dials in {:?}", banned_at.elapsed());

    // Evicted, again and again, by the one that is asked first.
    client.conduit.set_main_peer(evicting.address()).unwrap();
    traffic.wait_for_more();
    let evicted_at = Instant::now();
    for _ in 0..EVICTIONS {
        evicting.disconnect_agent(OURS);
        let lost = history.until(|event| matches!(event, Event::Disconnected { peer, .. } if *peer == evicting_id));
        assert!(is_closed(&lost), "{lost:?}");
        history.until(|event| matches!(event, Event::Connected { peer, .. } if *peer == evicting_id));
        traffic.wait_for_more();
        assert_eq!(client.conduit.main_peer(), Some(evicting_id), "it is the first again");
    }
    assert!(least_time(EVICTIONS - 1) <= evicted_at.elapsed(), "{:?}", evicted_at.elapsed());

    // With nobody left, requests wait.
    for node in [steady, evicting] {
        node.set_ban(LOOPBACK, BAN);
    }
    history.until(|event| *event == Event::NoPeers);
    for _ in 0..3 {
        history.until(|event| matches!(event, Event::Refused { peer, .. } if *peer == steady_id));
    }
    let is_dial = |event: &&Event| matches!(event, Event::Refused { peer, .. } if *peer == banning_id);
    let dials = history.seen.iter().filter(is_dial).count();
    assert!(least_time(dials - 1) <= banned_at.elapsed(), "{dials} dials in {:?}", banned_at.elapsed());
    let connections = |id| {
        let is_one = |event: &&Event| matches!(event, Event::Connected { peer, .. } if *peer == id);
        history.seen.iter().filter(is_one).count()
    };
    assert_eq!((connections(steady_id), connections(banning_id), connections(evicting_id)), (1, 1, 1 + EVICTIONS));
    let stalled = traffic.counts();
    for node in all {
        node.clear_bans();
    }
    history.until(|event| *event == Event::NetworkBack);
    traffic.wait_for_more();
    client.conduit.wait_for_peers(3, PATIENCE).unwrap();
    traffic.wait_for_more();

    let counts = traffic.stop();
    assert!(counts.iter().zip(stalled).all(|(count, before)| *count > before), "{counts:?}");
    assert!(history.seen.iter().all(|event| !matches!(event, Event::Missed { .. })));
    client.end(&all);
}

#[test]
fn requests_go_on_while_a_full_node_evicts_one_connection_for_the_next() {
    // It takes thirty odd; whoever comes then makes it end another's connection, the youngest first.
    let Some(full) = start_with(&["-maxconnections=40"]) else { return };
    let tip = hashes(&full.generate(1))[0];
    let config = config().redial_min(REDIAL_MIN).redial_max(REDIAL_MAX).event_queue_items(100_000);
    let conduit = Conduit::new(config).unwrap();
    let events = conduit.events();
    assert_eq!(conduit.add_connections(full.address(), SEATS).unwrap().len(), SEATS);
    let started = Instant::now();
    conduit.start().unwrap();
    conduit.wait_for_peers(20, PATIENCE).unwrap();
    let mut history = History::new(&events);
    let traffic = Traffic::start(&conduit, None, tip);
    for _ in 0..3 {
        for _ in 0..5 {
            let lost = history.until(|event| matches!(event, Event::Disconnected { .. }));
            assert!(is_closed(&lost), "{lost:?}");
        }
        traffic.wait_for_more();
    }
    traffic.stop();

    // Those that wait, wait for the back-off of the address that they have in common.
    let is_dial = |event: &&Event| matches!(event, Event::Connected { .. } | Event::Refused { .. });
    let dials = history.seen.iter().filter(is_dial).count();
    let rounds = (0..).take_while(|&rounds| least_time(rounds) <= started.elapsed()).count();
    assert!(dials <= SEATS * (rounds + 1), "{dials} dials in {:?}", started.elapsed());
    assert!(history.seen.iter().all(|event| !matches!(event, Event::NoPeers | Event::Missed { .. })));
    conduit.shutdown();
    full.assert_no_misbehaviour();
}

// Deaths in the middle of a reply.

#[test]
fn block_whose_sender_is_killed_in_the_middle_comes_whole_from_another_node() {
    let Some((mut first, second, tip)) = pair_with_block_of(10_000_000) else { return };
    // Else it would not have the block after its first death.
    first.rpc("gettxoutsetinfo", json!([]));
    let block = stored(&second, tip);
    let proxy = Proxy::start(first.address());
    let client = connect_through(&proxy, &second, config());
    let [first_id, second_id] = client.peers[..] else { panic!("two were named") };
    let mut history = History::new(&client.events);

    for middle in [100, 1_000_000, 9_999_000] {
        assert_eq!(client.conduit.main_peer(), Some(first_id), "it is asked first");
        proxy.hold_after(middle);
        let conduit = client.conduit.clone();
        let call = waits::call(move || conduit.send_request(GetData::block(tip)));
        proxy.wait_until_held();
        assert!(call.is_blocked());
        assert_eq!(client.info(first_id).outstanding_requests, 1);

        let killed = Instant::now();
        first.kill();
        proxy.cut();
        assert_eq!(call.result().as_ref(), Ok(&block), "after {middle} bytes of it");
        assert!(killed.elapsed() < PATIENCE / 3, "no wait for its share of the time: {:?}", killed.elapsed());
        let lost = history.until(|event| matches!(event, Event::Disconnected { peer, .. } if *peer == first_id));
        assert!(is_closed(&lost), "{lost:?}");
        assert_eq!(client.conduit.main_peer(), Some(second_id));

        first.restart();
        history.until(|event| matches!(event, Event::Connected { peer, .. } if *peer == first_id));
    }
    // The block can be had from the first one, too.
    let options = RequestOptions::new().peer(first_id);
    assert_eq!(client.conduit.send_request_with(GetData::block(tip), &options).as_ref(), Ok(&block));
    client.end(&[&first, &second]);
}

#[test]
fn block_whose_sender_hangs_in_the_middle_comes_from_another_node_within_the_time() {
    let Some((first, second, tip)) = pair_with_block_of(10_000_000) else { return };
    let block = stored(&second, tip);
    let proxy = Proxy::start(first.address());
    let client = connect_through(&proxy, &second, config());
    let [first_id, _] = client.peers[..] else { panic!("two were named") };
    let messages = client.conduit.subscribe([Command::BLOCK]).unwrap();
    assert_eq!(client.conduit.main_peer(), Some(first_id), "it is asked first");

    proxy.hold_after(1_000_000);
    let timeout = Duration::from_secs(12);
    let asked = Instant::now();
    let conduit = client.conduit.clone();
    let options = RequestOptions::new().timeout(timeout);
    let call = waits::call(move || conduit.send_request_with(GetData::block(tip), &options));
    proxy.wait_until_held();
    first.freeze();
    // Some is on its way already.
    proxy.hold_after(2_000_000);
    assert_eq!(call.result().as_ref(), Ok(&block));
    let took = asked.elapsed();
    assert!(took >= timeout / 2 && took < timeout, "it took {took:?}");

    // What comes late is no news, and no fault.
    first.thaw();
    proxy.go_on();
    client.fence();
    assert!(messages.try_recv().is_err(), "the rest of the reply is not for anybody");
    let events: Vec<Event> = std::iter::from_fn(|| client.events.try_recv().ok()).collect();
    let is_lost = |event: &Event| matches!(event, Event::Disconnected { .. } | Event::Refused { .. });
    assert!(!events.iter().any(is_lost), "{events:?}");
    drop(messages);
    client.end(&[&first, &second]);
}

// The fork check.

#[test]
fn fork_check_lets_in_the_node_on_our_chain_and_refuses_the_other_both_ways() {
    let (Some(one), Some(other)) = (start_with(&[]), start_with(&[])) else { return };
    one.generate(2);
    other.generate(5);
    for (ours, foreign) in [(&one, &other), (&other, &one)] {
        let block1 = hash_at(ours, 1);
        assert_ne!(block1, hash_at(foreign, 1));
        let config = checking(block1).redial_min(REDIAL_MAX).redial_max(REDIAL_MAX).verify_timeout(PATIENCE);
        let started = Instant::now();
        let client = Client::dial(&[ours, foreign], config);
        let [ours_id, foreign_id] = client.peers[..] else { panic!("two were named") };
        let mut history = History::new(&client.events);
        for _ in 0..3 {
            let refused = history.until(|event| matches!(event, Event::Refused { .. }));
            let reason = DisconnectReason::WrongChain;
            assert_eq!(refused, Event::Refused { peer: foreign_id, address: foreign.address().into(), reason });
        }
        assert!(started.elapsed() >= REDIAL_MAX * 2 * 3 / 4, "with a back-off: {:?}", started.elapsed());

        client.conduit.wait_for_peers(1, PATIENCE).unwrap();
        assert_eq!(client.info(ours_id).state, PeerState::Ready);
        let headers = client.conduit.send_request(GetHeaders::new([Network::Regtest.genesis()])).unwrap();
        assert_eq!((headers.len() as u64, headers[0].hash()), (ours.best_height(), block1));
        let elsewhere = RequestOptions::new().peer(foreign_id).timeout(Duration::from_millis(300));
        assert_eq!(client.conduit.send_request_with(Ping, &elsewhere), Err(RequestError::NoPeers));
        // Nodes never hear why.
        client.conduit.shutdown();
        for node in [ours, foreign] {
            node.assert_no_misbehaviour();
        }
    }
    // Whoever knows no marker takes both.
    let client = Client::connect(&[&one, &other], config());
    client.end(&[&one, &other]);
}

#[test]
fn node_in_initial_block_download_is_unverified_and_used_once_it_mined() {
    let (Some(synced), Some(syncing)) = (start_with(&[]), start_with(&[])) else { return };
    // A block two days old, young only by the clock of the node that mined it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    synced.rpc("setmocktime", json!([now - 48 * 3_600]));
    let block1 = hashes(&synced.generate(1))[0];
    synced.rpc("setmocktime", json!([0]));
    let raw_block = hex::encode(&synced.block_bytes(&block1.to_string()));
    assert_eq!(syncing.rpc("submitblock", json!([raw_block])), Value::Null);
    assert_eq!(syncing.best_height(), 1);

    let config = || checking(block1).verify_timeout(Duration::from_secs(5));
    let started = Instant::now();
    let asking = Client::dial(&[&syncing], config().user_agent("/asking/").verify_interval(Duration::from_secs(1)));
    let waiting = Client::dial(&[&syncing], config().user_agent("/waiting/").verify_interval(PATIENCE * 10));
    let choosing =
        Client::dial(&[&syncing, &synced], config().user_agent("/choosing/").verify_interval(PATIENCE * 10));
    choosing.conduit.set_main_peer(syncing.address()).unwrap();
    let mut histories = [&waiting, &choosing, &asking].map(|client| History::new(&client.events));
    for (client, history) in [&waiting, &choosing, &asking].into_iter().zip(&mut histories) {
        let peer = client.peers[0];
        let unverified = history.until(|event| matches!(event, Event::Unverified { .. }));
        assert_eq!(unverified, Event::Unverified { peer, address: syncing.address().into() });
        assert_eq!(client.info(peer).state, PeerState::Unverified);
    }
    assert!(asking.conduit.wait_for_peers(1, Duration::ZERO).is_err(), "it does not count");
    choosing.conduit.wait_for_peers(1, PATIENCE).unwrap();

    // Nobody asks it for headers, not even first.
    let genesis = Network::Regtest.genesis();
    let brief = RequestOptions::new().timeout(Duration::from_millis(500));
    let unasked = GetHeaders::new([block1, genesis]);
    for client in [&asking, &waiting] {
        assert_eq!(client.conduit.send_request_with(unasked.clone(), &brief), Err(RequestError::NoPeers));
    }
    assert_eq!(choosing.conduit.send_request(unasked).unwrap(), []);
    assert_eq!(choosing.conduit.main_peer(), Some(choosing.peers[1]));
    // What proves itself it may give.
    assert_eq!(waiting.conduit.send_request(GetData::block(block1)), Ok(stored(&synced, block1)));

    // It is told of transactions, though it does not care for them yet.
    let raw = stray_transaction();
    for client in [&asking, &waiting] {
        let broadcast = client.broadcast(&raw, 1);
        client.fence();
        let report = broadcast.report();
        let receipts: Vec<_> = report.peers.iter().map(|receipt| (receipt.peer, &receipt.state)).collect();
        assert_eq!(receipts, [(Some(client.peers[0]), &JourneyState::Announced)]);
    }
    for agent in ["/asking/", "/waiting/"] {
        assert_eq!(received(&syncing, agent, "inv"), 61, "{agent}");
    }
    assert_eq!(asking.info(asking.peers[0]).state, PeerState::Unverified);

    // It can tell, and announces a block, for which it is asked again before its time.
    let block2 = hashes(&syncing.generate(1))[0];
    for (client, history) in [&waiting, &choosing, &asking].into_iter().zip(&mut histories) {
        let peer = client.peers[0];
        history.until(|event| matches!(event, Event::Connected { peer: connected, .. } if *connected == peer));
        assert!(started.elapsed() < PATIENCE * 10, "{:?}", started.elapsed());
        assert_eq!(client.info(peer).state, PeerState::Ready);
        let options = RequestOptions::new().peer(peer);
        let headers = client.conduit.send_request_with(GetHeaders::new([genesis]), &options).unwrap();
        assert_eq!(headers.iter().map(|header| header.hash()).collect::<Vec<_>>(), [block1, block2]);
        let is_of_check = |event: &&Event| matches!(event, Event::Unverified { .. });
        assert_eq!(history.seen.iter().filter(is_of_check).count(), 1, "{:?}", history.seen);
        let is_lost = |event: &Event| matches!(event, Event::Refused { .. } | Event::Disconnected { .. });
        assert!(!history.seen.iter().any(is_lost), "{:?}", history.seen);
    }
    assert_eq!(choosing.conduit.main_peer(), Some(choosing.peers[0]), "it is the first again");
    for agent in ["/waiting/", "/choosing/"] {
        let asked = received(&syncing, agent, "getheaders");
        assert_eq!(asked, 3 * CHECK_LEN, "{agent}: two checks and a request");
    }
    // A silent node is asked again, whatever it left unanswered.
    assert!(received(&syncing, "/asking/", "getheaders") >= 3 * CHECK_LEN);
    asking.end(&[&syncing]);
    waiting.end(&[&syncing]);
    choosing.end(&[&syncing, &synced]);
}

// Finding.

#[test]
fn node_is_found_by_a_seed_asked_for_addresses_once_and_found_again_in_the_file() {
    let Some(node) = start_with(&[]) else { return };
    node.generate(2);
    let block1 = hash_at(&node, 1);
    let folder = tempfile::tempdir().unwrap();
    let asked: Arc<Mutex<Vec<(String, u16)>>> = Arc::default();
    let address = node.address();
    let resolver = {
        let asked = asked.clone();
        move |host: &str, port: u16| {
            asked.lock().push((host.to_owned(), port));
            Ok(vec![address])
        }
    };
    let client = Client::dial(&[], checking(block1).data_dir(folder.path()).resolver(resolver));
    let Event::Connected { peer, address: found, .. } = client.next_event() else { panic!("not connected") };
    assert_eq!(found, address.into());
    assert_eq!(*asked.lock(), [("seed.example".to_owned(), 18_555)]);
    assert!(!client.info(peer).is_named);
    wait_until("the question for addresses", PATIENCE, || received(&node, OURS, "getaddr") == 24);

    // It stays, and does not ask again.
    let until = Instant::now() + Duration::from_secs(4);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let event = client.events.recv_timeout(left);
        assert!(event.is_err(), "{event:?}");
    }
    client.conduit.send_request(Ping).unwrap();
    assert_eq!(client.conduit.send_request(GetHeaders::new([Network::Regtest.genesis()])).unwrap().len(), 2);
    assert_eq!(client.conduit.peers().len(), 1);
    assert_eq!(node.peers_of_agent(OURS).len(), 1);
    assert_eq!(received(&node, OURS, "getaddr"), 24);
    assert_eq!(asked.lock().len(), 1, "peers are enough of a source");
    client.conduit.shutdown();
    let saved = saved_text(folder.path());
    assert!(saved.contains(&address.to_string()), "{saved}");

    // The next run needs no seed.
    wait_until("the node to see us go", PATIENCE, || node.peers_of_agent(OURS).is_empty());
    let resolver = |_: &str, _: u16| Err(std::io::ErrorKind::NotFound.into());
    let client = Client::dial(&[], checking(block1).data_dir(folder.path()).resolver(resolver));
    let Event::Connected { address: found, .. } = client.next_event() else { panic!("not connected") };
    assert_eq!(found, address.into());
    client.conduit.send_request(Ping).unwrap();
    client.conduit.shutdown();
    assert!(saved_text(folder.path()).contains(&address.to_string()));

    // One that turns out to be on another chain is forgotten, and not dialled for long.
    let elsewhere = BlockHash::from_wire([0xab; 32]);
    let client = Client::dial(&[], checking(elsewhere).data_dir(folder.path()).resolver(resolver));
    let mut history = History::new(&client.events);
    let refused = history.until(|event| matches!(event, Event::Refused { .. }));
    assert!(matches!(refused, Event::Refused { reason: DisconnectReason::WrongChain, .. }), "{refused:?}");
    let bans = client.conduit.bans();
    assert!(
        bans.len() == 1 && bans[0].reason == BanReason::WrongChain && bans[0].address == address.into(),
        "{bans:?}"
    );
    client.conduit.shutdown();
    node.assert_no_misbehaviour();
}

/// Events as they came.
struct History<'a> {
    events: &'a Events,
    seen: Vec<Event>,
}

impl<'a> History<'a> {
    fn new(events: &'a Events) -> Self {
        Self { events, seen: Vec::new() }
    }

    /// The next event that is wanted; those before it are kept.
    #[track_caller]
    fn until(&mut self, is_wanted: impl Fn(&Event) -> bool) -> Event {
        // A node in initial block download is asked every thirty seconds.
        let deadline = Instant::now() + PATIENCE * 2;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if is_wanted(&event) {
                        return event;
                    }
                }
                Err(error) => panic!("{error}; until then: {:?}", self.seen),
            }
        }
    }
}

/// Threads that ask without a pause, and end with the first failure.
struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Vec<Arc<AtomicUsize>>,
    threads: Vec<JoinHandle<Result<(), RequestError>>>,
}

impl Traffic {
    /// Asks for the chain, for this block at its tip, and for a transaction.
    fn start(conduit: &Conduit, txid: Option<Txid>, block: BlockHash) -> Self {
        let mut traffic = Self { stop: Arc::default(), answered: Vec::new(), threads: Vec::new() };
        let genesis = Network::Regtest.genesis();
        if let Some(txid) = txid {
            traffic.ask(conduit, move |conduit| {
                conduit.send_request(GetData::transaction(txid)).map(|found| assert_eq!(found.txid(), txid))
            });
        }
        traffic.ask(conduit, move |conduit| {
            conduit.send_request(GetData::block(block)).map(|found| assert_eq!(found.hash(), block))
        });
        traffic.ask(conduit, move |conduit| {
            let headers = conduit.send_request(GetHeaders::new([genesis]));
            headers.map(|headers| assert_eq!(headers.last().map(|header| header.hash()), Some(block)))
        });
        traffic.ask(conduit, |conduit| conduit.send_request(Ping).map(drop));
        traffic
    }

    fn ask(&mut self, conduit: &Conduit, question: impl Fn(&Conduit) -> Result<(), RequestError> + Send + 'static) {
        let (conduit, stop, answered) = (conduit.clone(), self.stop.clone(), Arc::<AtomicUsize>::default());
        self.answered.push(answered.clone());
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                question(&conduit)?;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }));
    }

    fn counts(&self) -> Vec<usize> {
        self.answered.iter().map(|answered| answered.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every thread has had some more answers.
    #[track_caller]
    fn wait_for_more(&self) {
        let before = self.counts();
        waits::until("answers to every kind of request", || {
            let ended = self.threads.iter().any(JoinHandle::is_finished);
            ended || self.counts().iter().zip(&before).all(|(count, before)| *count >= before + 5)
        });
        // Why is told by `stop`.
        assert!(!self.threads.iter().any(JoinHandle::is_finished), "a request failed");
    }

    /// How many requests of each kind were answered; none of them may have failed.
    #[track_caller]
    fn stop(mut self) -> Vec<usize> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
        self.counts()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            eprintln!("a thread of requests ended with {:?}", thread.join());
        }
    }
}

/// Hands bytes on between us and a node, and stops doing so where it is told.
struct Proxy {
    address: SocketAddr,
    flow: Arc<Flow>,
}

#[derive(Default)]
struct Flow {
    state: Mutex<FlowState>,
    changed: Condvar,
}

#[derive(Default)]
struct FlowState {
    /// Bytes from the node that may still pass; `None` for all.
    left: Option<usize>,
    is_held: bool,
    open: Vec<TcpStream>,
}

impl Proxy {
    fn start(node: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let flow: Arc<Flow> = Arc::default();
        let shared = flow.clone();
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without the node our side is closed, too.
                if let Ok(node) = TcpStream::connect(node) {
                    shared.join(client, node);
                }
            }
        });
        Self { address, flow }
    }

    /// Lets so many bytes more from the node pass.
    fn hold_after(&self, bytes: usize) {
        self.flow.state.lock().left = Some(bytes);
        self.flow.changed.notify_all();
    }

    #[track_caller]
    fn wait_until_held(&self) {
        let mut state = self.flow.state.lock();
        let deadline = Instant::now() + PATIENCE;
        while !state.is_held {
            assert!(!self.flow.changed.wait_until(&mut state, deadline).timed_out(), "not so many bytes come");
        }
    }

    fn go_on(&self) {
        self.flow.state.lock().left = None;
        self.flow.changed.notify_all();
    }

    /// Ends all connections, and lets bytes of later ones pass.
    fn cut(&self) {
        for stream in self.flow.state.lock().open.drain(..) {
            // The other side may have been faster.
            drop(stream.shutdown(Shutdown::Both));
        }
        self.go_on();
    }
}

impl Flow {
    fn join(self: &Arc<Self>, client: TcpStream, node: TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().expect("a file descriptor");
        self.state.lock().open.extend([clone(&client), clone(&node)]);
        let (from_client, to_node) = (clone(&client), clone(&node));
        thread::spawn(move || copy(from_client, to_node, |wanted| wanted));
        let flow = self.clone();
        thread::spawn(move || copy(node, client, |wanted| flow.admit(wanted)));
    }

    /// Waits until bytes may pass, and says how many of those that are wanted.
    fn admit(&self, wanted: usize) -> usize {
        let mut state = self.state.lock();
        while state.left == Some(0) {
            state.is_held = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
        state.is_held = false;
        let admitted = state.left.map_or(wanted, |left| left.min(wanted));
        state.left = state.left.map(|left| left - admitted);
        admitted
    }
}

/// Copies until either side ends, then ends both.
fn copy(mut from: TcpStream, mut to: TcpStream, admit: impl Fn(usize) -> usize) {
    let mut buffer = vec![0; 64 * 1_024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(admit(rest.len()));
            rest = if to.write_all(now).is_ok() { later } else { break };
        }
        if !rest.is_empty() {
            break;
        }
    }
    for stream in [from, to] {
        // The other direction may have been faster.
        drop(stream.shutdown(Shutdown::Both));
    }
}

/// Two nodes with a block of one transaction of this size besides the coinbase, and its hash.
fn pair_with_block_of(size: usize) -> Option<(SvNode, SvNode, BlockHash)> {
    let [first, second]: [SvNode; 2] = SvNode::joined(2)?.try_into().ok().expect("two were asked for");
    let raw = transactions::spend(Funding::new(&first, 1).take(), size);
    first.send_raw_transaction(&raw).unwrap();
    let tip = hashes(&first.generate(1))[0];
    wait_until("the other node to follow", PATIENCE, || first.best_height() == second.best_height());
    Some((first, second, tip))
}

/// A client of a node behind a proxy, which is the main peer, and of another node.
fn connect_through(proxy: &Proxy, other: &SvNode, config: Config) -> Client {
    let conduit = Conduit::new(config).unwrap();
    let events = conduit.events();
    let main = conduit.set_main_peer(proxy.address).unwrap();
    let others = conduit.add_peers([other.address()]).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let client = Client { conduit, events, peers: [vec![main], others].concat() };
    client.fence();
    client
}

/// Settings for a network like regtest, told from others by its first block, with a seed of its own.
fn checking(block1: BlockHash) -> Config {
    let genesis = Network::Regtest.genesis();
    let network = CustomNetwork {
        name: "hamlet".to_owned(),
        magic: Network::Regtest.magic(),
        port: 18_555,
        seeds: vec!["seed.example".to_owned()],
        genesis,
        fork_marker: Some(ForkMarker::new([ForkPoint::followed_by(genesis, block1)], block1, 1)),
    };
    Config::new(Network::Custom(network.into())).handshake_timeout(PATIENCE).request_timeout(PATIENCE)
}

/// The connection was ended by the other side, in one of the ways in which that shows.
fn is_closed(event: &Event) -> bool {
    let (Event::Disconnected { reason, .. } | Event::Refused { reason, .. }) = event else { return false };
    matches!(reason, DisconnectReason::ClosedByPeer | DisconnectReason::Io { .. })
}

/// The time that so many back-offs after a loss take at least; the first is as long as the second if it was a lasting
/// connection, so that they are one fewer than the dials.
fn least_time(dials: usize) -> Duration {
    let waits = (0..dials).map(|dial| REDIAL_MAX.min(REDIAL_MIN * (1 << dial.min(10))));
    waits.sum::<Duration>() * 3 / 4
}

/// Bytes that the node got from the peer that calls itself so, by this command.
fn received(node: &SvNode, agent: &str, command: &str) -> u64 {
    let peers = node.peers_of_agent(agent);
    let [peer] = &peers[..] else { panic!("{} peers {agent}", peers.len()) };
    peer["bytesrecv_per_msg"][command].as_u64().unwrap_or(0)
}

/// A transaction that no node can know the inputs of.
fn stray_transaction() -> Vec<u8> {
    let previous_output = OutPoint { txid: Txid::from_wire([0xab; 32]), index: 0 };
    let input = TransactionInput { previous_output, script_sig: &[], sequence: u32::MAX };
    let output = TransactionOutput { value: 1, script_pubkey: &[0x51] };
    Transaction::new(1, &[input], &[output], 0).raw().to_vec()
}

/// The only file in the folder.
fn saved_text(folder: &Path) -> String {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    std::fs::read_to_string(file).unwrap()
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BAN: Duration = Duration::from_secs(600);
/// In every user agent that is not set.
const OURS: &str = "/bsv-conduit:";
const REDIAL_MIN: Duration = Duration::from_millis(100);
const REDIAL_MAX: Duration = Duration::from_secs(1);
const EVICTIONS: usize = 6;
/// Connections wanted of a node that does not take so many.
const SEATS: usize = 60;
/// A `getheaders` with one hash and a stop hash, header and all.
const CHECK_LEN: u64 = 24 + 4 + 1 + 32 + 32;
