//! The end of a conduit: every wait ends at once, no thread stays behind, whatever is going on.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]

mod support;

use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use conduit::error::{
    AddPeersError, BroadcastFailure, RecvError, RequestError, SendFailure, StartError, SubscribeError, TryRecvError,
};
use conduit::message::{Block, Message};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::wire::Command;
use conduit::{
    BroadcastEnd, Conduit, Config, DisconnectReason, Event, GetData, Network, PeerId, Ping, RequestOptions,
};
use support::raw_peer::{RawListener, RawPeer};
use support::{PATIENCE, own_process, waits};

#[test]
fn every_wait_ends_at_once_and_no_thread_is_left() {
    if !own_process::is_alone("every_wait_ends_at_once_and_no_thread_is_left") {
        return;
    }
    let (conduit, id, _raw, _listener) = raw_scene(config().outbound_share(64 * 1_024).outbound_pool(0));
    let messages = conduit.messages().unwrap();
    let events = conduit.events();
    let broadcast = conduit.broadcast_transaction(transaction(1, 100).raw().to_vec(), 5).unwrap();
    assert_eq!(own_process::conduit_threads(), ["conduit-io", "conduit-message"]);
    fill_the_way_out(&conduit, id);
    while !matches!(events.try_recv(), Err(TryRecvError::Empty)) {}

    let begun = Arc::new(Barrier::new(13));
    macro_rules! blocked {
        (|$conduit:ident| $call:expr) => {{
            let ($conduit, begun) = (conduit.clone(), begun.clone());
            waits::call(move || {
                begun.wait();
                $call
            })
        }};
    }
    let filling = Message::Tx(transaction(2, 60_000));
    let sending = blocked!(|conduit| conduit.send(id, filling).map_err(|error| error.reason));
    let filling = Message::Tx(transaction(3, 60_000));
    let sending_for = blocked!(|conduit| conduit.send_timeout(id, filling, PATIENCE).map_err(|error| error.reason));
    let receiving = blocked!(|_conduit| {
        let messages = messages;
        (messages.recv(), messages.recv_timeout(PATIENCE), messages.try_recv())
    });
    let watching = blocked!(|_conduit| std::iter::from_fn(|| events.recv().ok()).collect::<Vec<_>>());
    let requesting = blocked!(|conduit| conduit.send_request(GetData::transaction(transaction(9, 100).txid())));
    let to_nobody = conduit.add_peers(["127.0.0.1:1"]).unwrap()[0];
    let requesting_nobody =
        blocked!(|conduit| conduit.send_request_with(Ping, &RequestOptions::new().peer(to_nobody)));
    let queued = conduit.send_request_nowait(Ping).unwrap();
    let waiting = blocked!(|_conduit| queued.wait());
    let queued = conduit.send_request_nowait(Ping).unwrap();
    let waiting_for = blocked!(|_conduit| queued.wait_timeout(PATIENCE).expect("it ends before"));
    let waiting_for_peers = blocked!(|conduit| conduit.wait_for_peers(100, PATIENCE));
    let running = blocked!(|conduit| conduit.run());
    let running_empty = blocked!(|conduit| conduit.run_until_queue_empty());
    let broadcasting = blocked!(|_conduit| broadcast.wait());
    begun.wait();
    // Most of them are in their call now; for those that are not, the outcome is the same.
    waits::until("all are blocked", || sending.is_blocked() && running.is_blocked() && watching.is_blocked());

    let began = Instant::now();
    conduit.shutdown();
    assert!(began.elapsed() < AT_ONCE);
    no_thread_is_left();
    assert_eq!(sending.result_within(AT_ONCE), Err(SendFailure::Shutdown));
    assert_eq!(sending_for.result_within(AT_ONCE), Err(SendFailure::Shutdown));
    let shutdown = (Err(RecvError), Err(TryRecvError::Shutdown), Err(TryRecvError::Shutdown));
    assert_eq!(receiving.result_within(AT_ONCE), shutdown);
    let seen = watching.result_within(AT_ONCE);
    let last = seen.last().expect("the connected peer is lost");
    assert!(
        matches!(last, Event::Disconnected { peer, reason: DisconnectReason::Shutdown, .. } if *peer == id),
        "{seen:?}"
    );
    assert_eq!(requesting.result_within(AT_ONCE), Err(RequestError::Shutdown));
    assert_eq!(requesting_nobody.result_within(AT_ONCE), Err(RequestError::Shutdown));
    assert_eq!(waiting.result_within(AT_ONCE), Err(RequestError::Shutdown));
    assert_eq!(waiting_for.result_within(AT_ONCE), Err(RequestError::Shutdown));
    let too_few = waiting_for_peers.result_within(AT_ONCE).unwrap_err();
    assert!(too_few.shutdown && too_few.wanted == 100);
    assert!(matches!(running.result_within(AT_ONCE), Ok(()) | Err(StartError::Shutdown)));
    match running_empty.result_within(AT_ONCE) {
        Ok(outcomes) => {
            assert!(outcomes.iter().all(|outcome| outcome.result == Err(RequestError::Shutdown)));
        }
        Err(error) => assert!(matches!(error, StartError::Shutdown)),
    }
    assert_eq!(broadcasting.result_within(AT_ONCE).end, Some(BroadcastEnd::Shutdown));
    everything_says_shutdown(&conduit, id);
}

#[test]
fn nothing_is_left_of_a_hundred_conduits() {
    if !own_process::is_alone("nothing_is_left_of_a_hundred_conduits") {
        return;
    }
    let node = node();
    for round in 0..100 {
        let conduit = Conduit::new(config().message_threads(3)).unwrap();
        conduit.add_peers([node.address()]).unwrap();
        conduit.start().unwrap();
        if round % 2 == 0 {
            conduit.wait_for_peers(1, PATIENCE).unwrap();
            assert!(conduit.send_request(Ping).is_ok());
        }
        match round % 4 {
            0 | 1 => conduit.shutdown(),
            2 => conduit.shutdown_after_flush(PATIENCE),
            _ => drop(conduit),
        }
        no_thread_is_left();
    }
    assert!(node.wait_for_connections(0, PATIENCE));
    let sockets = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(sockets < 50, "{sockets} file descriptors left");
}

#[test]
fn a_conduit_that_was_never_started_ends_its_waits_too() {
    let conduit = Conduit::new(config()).unwrap();
    let id = conduit.add_peers([("127.0.0.1", 1)]).unwrap()[0];
    let messages = conduit.messages().unwrap();
    let events = conduit.events();
    let queued = conduit.send_request_nowait(Ping).unwrap();
    let waiting = waits::call(move || queued.wait());
    let receiving = waits::call(move || messages.recv());
    let watching = waits::call(move || events.recv());
    let peers = waits::call({
        let conduit = conduit.clone();
        move || conduit.wait_for_peers(1, PATIENCE)
    });
    conduit.shutdown();
    assert_eq!(waiting.result_within(AT_ONCE), Err(RequestError::Shutdown));
    assert_eq!(receiving.result_within(AT_ONCE), Err(RecvError));
    assert_eq!(watching.result_within(AT_ONCE), Err(RecvError));
    assert!(peers.result_within(AT_ONCE).unwrap_err().shutdown);
    everything_says_shutdown(&conduit, id);
}

#[test]
fn what_arrived_before_the_shutdown_can_still_be_taken() {
    let conduit = Conduit::new(config()).unwrap();
    let messages = conduit.messages().unwrap();
    let listener = RawListener::bind();
    conduit.add_peers([listener.address()]).unwrap();
    conduit.start().unwrap();
    let mut raw = listener.shake_hands();
    let sent: Vec<_> = (0..10).map(|n| Message::Tx(transaction(n, 100))).collect();
    sent.iter().for_each(|message| raw.send(message));
    waits::until("they are there", || messages.len() == 10);
    conduit.shutdown();
    let got: Vec<_> = messages.map(|incoming| incoming.message).collect();
    assert_eq!(got, sent);
}

#[test]
fn many_threads_can_shut_down_at_once() {
    if !own_process::is_alone("many_threads_can_shut_down_at_once") {
        return;
    }
    for _ in 0..20 {
        let (conduit, id, _raw, _listener) = raw_scene(config());
        let begin = Arc::new(Barrier::new(8));
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (conduit, begin) = (conduit.clone(), begin.clone());
                waits::call(move || {
                    begin.wait();
                    conduit.shutdown();
                })
            })
            .collect();
        calls.into_iter().for_each(|call| call.result_within(AT_ONCE));
        no_thread_is_left();
        everything_says_shutdown(&conduit, id);
    }
}

#[test]
fn a_waker_on_our_own_thread_can_shut_down() {
    if !own_process::is_alone("a_waker_on_our_own_thread_can_shut_down") {
        return;
    }
    // A pong is taken in the event loop, a block by the message thread.
    for round in 0..10 {
        let (conduit, id, mut raw, _listener) = raw_scene(config());
        let messages = conduit.messages().unwrap();
        let events = conduit.events();
        let (told, woken) = mpsc::channel();
        let handle = conduit.clone();
        let waker = waker(move || {
            handle.shutdown();
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            told.send(name).expect("the test waits");
        });
        if round % 2 == 0 {
            poll_once(&mut conduit.send_request_nowait(Ping).unwrap(), &waker);
            let Message::Ping { nonce } = raw.expect(Command::PING) else { unreachable!() };
            raw.send(&Message::Pong { nonce });
        } else {
            poll_once(&mut conduit.send_request_nowait(GetData::block(genesis().hash())).unwrap(), &waker);
            raw.expect(Command::GETDATA);
            raw.send(&Message::Block(genesis()));
        }
        let name = woken.recv_timeout(PATIENCE).expect("the waker shuts down and returns");
        assert!(name.starts_with("conduit-"), "{name}");
        no_thread_is_left();
        waits::call(move || messages.count()).result();
        let events = waits::call(move || std::iter::from_fn(|| events.recv().ok()).collect::<Vec<_>>()).result();
        let reason = DisconnectReason::Shutdown;
        assert!(matches!(&events[..], [Event::Disconnected { reason: r, .. }] if *r == reason), "{events:?}");
        everything_says_shutdown(&conduit, id);
    }
}

#[test]
fn the_last_handle_can_be_dropped_by_a_waker() {
    if !own_process::is_alone("the_last_handle_can_be_dropped_by_a_waker") {
        return;
    }
    for _ in 0..10 {
        let (conduit, _, mut raw, _listener) = raw_scene(config());
        let messages = conduit.messages().unwrap();
        let (told, woken) = mpsc::channel();
        let mut pending = conduit.send_request_nowait(Ping).unwrap();
        let handle = Mutex::new(Some(conduit));
        let waker = waker(move || {
            drop(handle.lock().expect("nobody panics").take());
            told.send(()).expect("the test waits");
        });
        poll_once(&mut pending, &waker);
        let Message::Ping { nonce } = raw.expect(Command::PING) else { unreachable!() };
        raw.send(&Message::Pong { nonce });
        woken.recv_timeout(PATIENCE).expect("the drop returns");
        no_thread_is_left();
        waits::call(move || messages.count()).result();
    }
}

#[test]
fn the_last_handle_dropped_shuts_down() {
    if !own_process::is_alone("the_last_handle_dropped_shuts_down") {
        return;
    }
    let node = node();
    let conduit = connected(config(), &node);
    let (messages, events) = (conduit.messages().unwrap(), conduit.events());
    let clone = conduit.clone();
    drop(conduit);
    assert!(clone.send_request(Ping).is_ok());
    drop(clone);
    no_thread_is_left();
    assert!(node.wait_for_connections(0, PATIENCE));
    waits::call(move || messages.count()).result_within(AT_ONCE);
    waits::call(move || std::iter::from_fn(|| events.recv().ok()).count()).result_within(AT_ONCE);
}

#[test]
fn a_flush_delivers_everything_queued_to_a_slow_reader() {
    let (conduit, id, mut raw, _listener) = raw_scene(config().outbound_share(8 * MIB));
    let sent: Vec<_> = (0..100).map(|n| Message::Tx(transaction(n, 60_000))).collect();
    for message in &sent {
        conduit.send(id, message.clone()).unwrap();
    }
    let ending = waits::call(move || conduit.shutdown_after_flush(PATIENCE));
    // The reader has his say as well, though nobody listens any more.
    for message in sent {
        assert_eq!(raw.expect(Command::TX), message);
        raw.send(&Message::Ping { nonce: 1 });
    }
    raw.wait_until_closed();
    drop(raw);
    ending.result_within(AT_ONCE);
}

#[test]
fn a_flush_to_whoever_does_not_read_ends_in_time() {
    let (conduit, id, raw, _listener) = raw_scene(config().outbound_share(64 * 1_024).outbound_pool(0));
    fill_the_way_out(&conduit, id);
    let began = Instant::now();
    conduit.shutdown_after_flush(Duration::from_millis(300));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(began.elapsed() < AT_ONCE);
    drop(raw);
}

#[test]
fn a_flush_before_the_handshake_waits_for_it() {
    let listener = RawListener::bind();
    let conduit = Conduit::new(config()).unwrap();
    conduit.add_peers([listener.address()]).unwrap();
    conduit.start().unwrap();
    let raw = listener.accept();
    let began = Instant::now();
    conduit.shutdown_after_flush(PATIENCE);
    assert!(began.elapsed() < AT_ONCE, "nothing is queued for it");
    drop(raw);
}

#[test]
fn nobody_waits_for_a_dialler_or_a_resolver_that_hangs() {
    let (dialling, dialled) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let conduit = Conduit::new(config().dialler(move |_: SocketAddr, _: Duration| -> io::Result<TcpStream> {
        dialling.send(()).expect("the test waits");
        let _: Result<(), _> = released.lock().expect("nobody panics").recv();
        Err(io::ErrorKind::ConnectionAborted.into())
    }))
    .unwrap();
    let events = conduit.events();
    conduit.add_peers(["127.0.0.1:1"]).unwrap();
    conduit.start().unwrap();
    dialled.recv_timeout(PATIENCE).unwrap();
    let began = Instant::now();
    conduit.shutdown();
    assert!(began.elapsed() < AT_ONCE);
    assert!(matches!(events.recv(), Ok(Event::Refused { reason: DisconnectReason::Shutdown, .. })));
    assert_eq!(events.recv(), Err(RecvError));
    drop(release);

    let (resolving, resolved) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let conduit = Conduit::new(config().resolver(move |_: &str, _: u16| -> io::Result<Vec<SocketAddr>> {
        resolving.send(()).expect("the test waits");
        let _: Result<(), _> = released.lock().expect("nobody panics").recv();
        Ok(vec![])
    }))
    .unwrap();
    conduit.add_peers(["node.example:8333"]).unwrap();
    conduit.start().unwrap();
    resolved.recv_timeout(PATIENCE).unwrap();
    let began = Instant::now();
    conduit.shutdown();
    assert!(began.elapsed() < AT_ONCE);
    drop(release);
}

#[test]
fn a_dialler_or_a_resolver_that_hangs_is_given_up() {
    let short = Duration::from_millis(200);
    let hang = || std::thread::park_timeout(PATIENCE * 2);
    let conduit = Conduit::new(config().connect_timeout(short).dialler(move |_: SocketAddr, _: Duration| {
        hang();
        Err::<TcpStream, _>(io::ErrorKind::Other.into())
    }))
    .unwrap();
    let reason = DisconnectReason::Dial { kind: io::ErrorKind::TimedOut };
    assert_eq!(first_reason(&conduit, "127.0.0.1:1"), reason);

    let conduit = Conduit::new(config().resolve_timeout(short).resolver(move |_: &str, _: u16| {
        hang();
        Ok(vec![])
    }))
    .unwrap();
    let reason = DisconnectReason::Resolve { kind: io::ErrorKind::TimedOut };
    assert_eq!(first_reason(&conduit, "node.example:8333"), reason);
}

#[test]
fn a_panic_in_a_resolver_or_a_dialler_is_contained() {
    let node = node();
    let config = || config().redial_min(Duration::from_millis(20)).redial_max(Duration::from_millis(20));
    let has_panicked = AtomicBool::new(false);
    let address = node.address();
    let conduit = Conduit::new(config().resolver(move |host: &str, port: u16| {
        assert_eq!((host, port), ("node.example", 18_444));
        assert!(has_panicked.swap(true, Ordering::SeqCst), "planted by the test");
        Ok(vec![address])
    }))
    .unwrap();
    // The name of the peer without a port has that of the network.
    assert_eq!(first_reason(&conduit, "node.example"), DisconnectReason::HookPanicked);
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert!(conduit.send_request(Ping).is_ok());

    let has_panicked = AtomicBool::new(false);
    let conduit = Conduit::new(config().dialler(move |address: SocketAddr, timeout: Duration| {
        assert!(has_panicked.swap(true, Ordering::SeqCst), "planted by the test");
        TcpStream::connect_timeout(&address, timeout)
    }))
    .unwrap();
    assert_eq!(first_reason(&conduit, &node.address().to_string()), DisconnectReason::HookPanicked);
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert!(conduit.send_request(Ping).is_ok());
}

#[test]
fn errors_of_hooks_and_of_the_system_are_told() {
    let kind = io::ErrorKind::HostUnreachable;
    let conduit = Conduit::new(config().resolver(move |_: &str, _: u16| Err(kind.into()))).unwrap();
    assert_eq!(first_reason(&conduit, "node.example:1"), DisconnectReason::Resolve { kind });
    let conduit = Conduit::new(config().resolver(|_: &str, _: u16| Ok(vec![]))).unwrap();
    let kind = io::ErrorKind::NotFound;
    assert_eq!(first_reason(&conduit, "node.example:1"), DisconnectReason::Resolve { kind });
    let kind = io::ErrorKind::PermissionDenied;
    let conduit =
        Conduit::new(config().dialler(move |_: SocketAddr, _: Duration| Err::<TcpStream, _>(kind.into()))).unwrap();
    assert_eq!(first_reason(&conduit, "127.0.0.1:1"), DisconnectReason::Dial { kind });
    let kind = io::ErrorKind::ConnectionRefused;
    // At an address of its own, or another test might listen at the port by then.
    let free = std::net::TcpListener::bind("127.77.7.77:0").unwrap().local_addr().unwrap();
    let conduit = Conduit::new(config()).unwrap();
    assert_eq!(first_reason(&conduit, &free.to_string()), DisconnectReason::Dial { kind });
}

#[test]
fn the_next_address_of_a_name_has_its_turn_after_a_failure() {
    let node = node();
    let good = node.address();
    let bad = std::net::TcpListener::bind("127.77.7.77:0").unwrap().local_addr().unwrap();
    let conduit = Conduit::new(
        config().redial_min(Duration::from_millis(20)).resolver(move |_: &str, _: u16| Ok(vec![bad, good])),
    )
    .unwrap();
    let kind = io::ErrorKind::ConnectionRefused;
    assert_eq!(first_reason(&conduit, "node.example:1"), DisconnectReason::Dial { kind });
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert!(conduit.send_request(Ping).is_ok());
}

#[test]
fn connections_are_made_by_the_dialler_given() {
    let node = node();
    let dials = Arc::new(AtomicUsize::new(0));
    let (count, real) = (dials.clone(), node.address());
    let conduit = Conduit::new(config().dialler(move |address: SocketAddr, timeout: Duration| {
        count.fetch_add(1, Ordering::SeqCst);
        assert_eq!(address, SocketAddr::from(([192, 0, 2, 1], 8_333)));
        // As a proxy would.
        TcpStream::connect_timeout(&real, timeout)
    }))
    .unwrap();
    conduit.add_peers(["192.0.2.1:8333"]).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert_eq!(conduit.send_request(GetData::block(node.block_hash(1).unwrap())).ok(), node.block(1));
    assert_eq!(dials.load(Ordering::SeqCst), 1);
}

#[test]
fn peers_at_ipv6_addresses_are_peers() {
    let Ok(node) = TestNode::start(TestNodeConfig::default().ip(Ipv6Addr::LOCALHOST)) else {
        println!("not tested: this machine has no IPv6 loopback");
        return;
    };
    let conduit = connected(config(), &node);
    assert_eq!(conduit.send_request(GetData::block(node.block_hash(1).unwrap())).ok(), node.block(1));
    assert_eq!(conduit.peers()[0].address, node.address().into());
}

/// The system still lists a thread for a moment when it has been joined.
#[track_caller]
fn no_thread_is_left() {
    waits::until("no thread is left", || own_process::conduit_threads().is_empty());
}

/// What a conduit that is shut down says to everything.
#[track_caller]
fn everything_says_shutdown(conduit: &Conduit, id: PeerId) {
    let began = Instant::now();
    assert!(matches!(conduit.start(), Err(StartError::Shutdown)));
    assert!(matches!(conduit.run(), Err(StartError::Shutdown)));
    assert!(matches!(conduit.run_until_queue_empty(), Err(StartError::Shutdown)));
    assert_eq!(conduit.add_peers(["127.0.0.1:1"]), Err(AddPeersError::Shutdown));
    assert_eq!(conduit.set_main_peer("127.0.0.1:1"), Err(AddPeersError::Shutdown));
    assert_eq!(conduit.send_request(Ping), Err(RequestError::Shutdown));
    assert_eq!(conduit.send_request_nowait(Ping).map(drop), Err(RequestError::Shutdown));
    let reason = |result: Result<(), conduit::SendError<Message>>| result.map_err(|error| error.reason);
    assert_eq!(reason(conduit.send(id, Message::GetAddr)), Err(SendFailure::Shutdown));
    assert_eq!(reason(conduit.try_send(id, Message::GetAddr)), Err(SendFailure::Shutdown));
    assert_eq!(conduit.send_to_all(&[id], &Message::GetAddr), [Err(SendFailure::Shutdown)]);
    let broadcast = conduit.broadcast_transaction(transaction(1, 100).raw().to_vec(), 1);
    assert_eq!(broadcast.map(drop).expect_err("it is over").reason, BroadcastFailure::Shutdown);
    assert_eq!(conduit.messages().map(drop), Err(SubscribeError::Shutdown));
    assert_eq!(conduit.subscribe([Command::TX]).map(drop), Err(SubscribeError::Shutdown));
    assert_eq!(conduit.events().recv(), Err(RecvError));
    assert!(conduit.wait_for_peers(1, PATIENCE).expect_err("it is over").shutdown);
    conduit.shutdown();
    conduit.shutdown_after_flush(PATIENCE);
    assert!(began.elapsed() < AT_ONCE);
}

/// Starts, and tells why this peer was not connected.
fn first_reason(conduit: &Conduit, peer: &str) -> DisconnectReason {
    let events = conduit.events();
    let id = conduit.add_peers([peer]).expect("an address")[0];
    conduit.start().expect("it starts");
    waits::reason_of(&events, id)
}

/// A conduit connected to one raw peer.
fn raw_scene(config: Config) -> (Conduit, PeerId, RawPeer, RawListener) {
    let listener = RawListener::bind();
    let conduit = Conduit::new(config).expect("the settings hold");
    let id = conduit.add_peers([listener.address()]).expect("an address")[0];
    conduit.start().expect("it starts");
    let raw = listener.shake_hands();
    conduit.wait_for_peers(1, PATIENCE).expect("the handshake is done");
    (conduit, id, raw, listener)
}

fn connected(config: Config, node: &TestNode) -> Conduit {
    let conduit = Conduit::new(config).expect("the settings hold");
    conduit.add_peers([node.address()]).expect("an address");
    conduit.start().expect("it starts");
    conduit.wait_for_peers(1, PATIENCE).expect("the node answers");
    conduit
}

/// Fills the kernel's buffers towards a peer that is not reading, and our own queue behind them.
fn fill_the_way_out(conduit: &Conduit, id: PeerId) {
    let filling = Message::Tx(transaction(1, 60_000));
    while conduit.send_timeout(id, filling.clone(), Duration::from_millis(200)).is_ok() {}
}

/// Leaves the waker with a future that cannot be ready yet.
fn poll_once<F: Future + Unpin>(future: &mut F, waker: &Waker) {
    assert!(Pin::new(future).poll(&mut Context::from_waker(waker)).is_pending());
}

/// The first block of the network, as any node has it.
fn genesis() -> Block {
    node().block(0).expect("every chain has one")
}

fn waker(wake: impl Fn() + Send + Sync + 'static) -> Waker {
    struct Calls<F>(F);
    impl<F: Fn() + Send + Sync> Wake for Calls<F> {
        fn wake(self: Arc<Self>) {
            self.0();
        }
    }
    Waker::from(Arc::new(Calls(wake)))
}

fn node() -> TestNode {
    TestNode::start(TestNodeConfig::default()).expect("a test node starts")
}

fn config() -> Config {
    Config::new(Network::Regtest).redial_min(PATIENCE * 10).redial_max(PATIENCE * 10)
}

/// Far less than any timeout that a wait could have run into.
const AT_ONCE: Duration = Duration::from_secs(10);
const MIB: usize = 1_048_576;
