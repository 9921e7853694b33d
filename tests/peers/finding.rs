//! Peers that nobody named: seeds, what peers tell of others, and how many are held.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use conduit::message::{Message, Services, Version};
use conduit::testnode::{TestNode, TestNodeConfig};
use conduit::{
    Command, Conduit, DisconnectReason, Event, GetAddr, GetHeaders, Network, Ping, RequestError, RequestOptions,
};

use super::support::raw_peer::{self, RawListener, Reply};
use super::support::{PATIENCE, waits};
use super::{addresses, config, custom, hamlet, hamlet_node, nowhere, ready, until};

#[test]
fn as_many_peers_as_wanted_are_found_by_the_seeds_and_replaced_when_they_die() {
    let mut nodes = hamlet(12);
    let known = addresses(&nodes);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let resolver = {
        let (asked, known) = (asked.clone(), known.clone());
        move |host: &str, port: u16| {
            asked.lock().expect("nobody panics with it").push((host.to_owned(), port));
            Ok(if host == "one.example" { known[..6].to_vec() } else { known[6..].to_vec() })
        }
    };
    let network = custom(&["one.example", "two.example"], None);
    let conduit = Conduit::new(config(network).resolver(resolver)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(8, PATIENCE).unwrap();
    let mut names = asked.lock().unwrap().clone();
    names.sort();
    assert_eq!(names, [("one.example".to_owned(), 17_000), ("two.example".to_owned(), 17_000)]);
    let held = ready(&conduit);
    assert_eq!((held.len(), conduit.peers().len(), conduit.stats().dials), (8, 8, 8), "and no more");
    assert!(conduit.peers().iter().all(|peer| !peer.is_named));
    assert!(conduit.send_request(GetHeaders::new([Network::Regtest.genesis()])).is_ok());

    for _ in 0..3 {
        let place = nodes.iter().position(|node| held.contains(&node.address())).unwrap();
        let dead = nodes.remove(place);
        dead.stop();
        waits::until("another one has its place", || {
            let ready = ready(&conduit);
            ready.len() == 8 && !ready.contains(&dead.address())
        });
    }
    assert_eq!(conduit.peers().len(), 8);
}

#[test]
fn peers_tell_of_others() {
    let nodes = hamlet(7);
    let hub = hamlet_node(8, TestNodeConfig::default().addresses(addresses(&nodes)));
    let seed = hub.address();
    let resolver = move |_: &str, _: u16| Ok(vec![seed]);
    let network = custom(&["seed.example"], None);
    let conduit = Conduit::new(config(network).target_peers(5).resolver(resolver)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(5, PATIENCE).unwrap();
    assert_eq!(hub.received(Command::GETADDR), 1);
    assert!(ready(&conduit).contains(&seed));
    assert_eq!(conduit.stats().dials, 5);
    // A node answers once, and what it said is there for whoever asks later.
    assert_eq!(conduit.send_request(GetAddr).map(|told| told.len()), Ok(7));
    assert_eq!(hub.received(Command::GETADDR), 1);
}

#[test]
fn peers_are_found_among_addresses_that_lead_nowhere() {
    let nodes = hamlet(6);
    // Nobody listens at the first port. More failures in a row than these would make each dial wait.
    let dead = (1..=12).map(|n| SocketAddr::from(([127, 3, 0, n], 1)));
    let told: Vec<_> = dead.chain(addresses(&nodes)).collect();
    let liar = hamlet_node(11, TestNodeConfig::default().addresses(told));
    let seed = liar.address();
    let resolver = move |_: &str, _: u16| Ok(vec![seed]);
    let config =
        config(custom(&["seed.example"], None)).target_peers(7).redial_min(PATIENCE).redial_max(PATIENCE * 2);
    let conduit = Conduit::new(config.resolver(resolver)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(7, PATIENCE).unwrap();
    let mut everybody = addresses(&nodes);
    everybody.push(seed);
    everybody.sort();
    assert_eq!(ready(&conduit), everybody);
    // None more than once, as its back-off outlasts the test.
    assert!(conduit.stats().dials <= 19, "{} dials", conduit.stats().dials);
}

#[test]
fn peers_that_are_lost_all_at_once_are_held_again_when_they_are_back() {
    let nodes = hamlet(8);
    let known = addresses(&nodes);
    let resolver = move |_: &str, _: u16| Ok(known.clone());
    let conduit = Conduit::new(config(custom(&["seed.example"], None)).resolver(resolver)).unwrap();
    let events = conduit.events();
    conduit.start().unwrap();
    conduit.wait_for_peers(8, PATIENCE).unwrap();
    nodes.iter().for_each(|node| node.refuse(true));
    nodes.iter().for_each(TestNode::drop_connections);
    until(&events, |event| *event == Event::NoPeers);
    let soon = RequestOptions::new().timeout(Duration::from_millis(300));
    assert!(conduit.send_request_with(Ping, &soon).is_err());
    let request = conduit.send_request_nowait(Ping).unwrap();
    nodes.iter().for_each(|node| node.refuse(false));
    until(&events, |event| *event == Event::NetworkBack);
    assert!(request.wait().is_ok(), "it waited for whoever comes back");
    conduit.wait_for_peers(8, PATIENCE).unwrap();
    assert_eq!(ready(&conduit), addresses(&nodes));
}

#[test]
fn found_peer_that_keeps_nobody_is_not_hammered() {
    let listener = RawListener::of(&custom(&[], None));
    let address = listener.address();
    let heard = listener.serve(raw_peer::version(), |message| match message {
        // The handshake is done then.
        Message::Verack => Reply::Close(Vec::new()),
        _ => Reply::Nothing,
    });
    let resolver = move |_: &str, _: u16| Ok(vec![address]);
    let config = config(custom(&["seed.example"], None)).redial_min(Duration::from_millis(50));
    let conduit = Conduit::new(config.redial_max(PATIENCE).resolver(resolver)).unwrap();
    let begun = Instant::now();
    conduit.start().unwrap();
    let came = || heard.lock().unwrap().iter().filter(|message| message.command() == Command::VERACK).count();
    waits::until("it has closed six connections", || came() == 6);
    // Five waits of three quarters of 50, 100, 200, 400 and 800 ms.
    assert!(begun.elapsed() >= Duration::from_millis(1_162), "6 dials within {:?}", begun.elapsed());
}

#[test]
fn found_peer_that_serves_nothing_is_refused_and_a_named_one_is_not() {
    let version = || Message::from(Version::new(Services(0), 7, "/pruned/", 0, 0));
    let listener = RawListener::of(&custom(&[], None));
    let address = listener.address();
    listener.serve(version(), |_| Reply::Nothing);
    let resolver = move |_: &str, _: u16| Ok(vec![address]);
    let conduit = Conduit::new(config(custom(&["seed.example"], None)).resolver(resolver)).unwrap();
    let events = conduit.events();
    conduit.start().unwrap();
    let seen = until(&events, |event| matches!(event, Event::Refused { .. }));
    let wanted = DisconnectReason::MissingServices { services: Services(0) };
    assert!(matches!(&seen[..], [Event::Refused { reason, .. }] if *reason == wanted), "{seen:?}");
    assert!(conduit.peers().is_empty(), "it is not even remembered");
    conduit.add_peers([address]).unwrap();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert_eq!(conduit.stats().dials, 2);
}

#[test]
fn whoever_names_a_peer_gets_no_other_unless_it_is_wanted() {
    let nodes = hamlet(3);
    let hub = hamlet_node(9, TestNodeConfig::default().addresses(addresses(&nodes)));
    for wanted in [false, true] {
        let conduit = Conduit::new(config(custom(&[], None)).discover(wanted)).unwrap();
        conduit.add_peers([hub.address()]).unwrap();
        conduit.start().unwrap();
        conduit.wait_for_peers(1, PATIENCE).unwrap();
        assert_eq!(conduit.send_request(GetAddr).map(|told| told.len()), Ok(3));
        if wanted {
            conduit.wait_for_peers(4, PATIENCE).unwrap();
        } else {
            assert!(conduit.send_request(Ping).is_ok());
            assert_eq!((conduit.stats().dials, ready(&conduit)), (1, vec![hub.address()]));
        }
    }
}

#[test]
fn nobody_is_dialled_or_resolved_where_only_named_peers_are_allowed() {
    let hub = hamlet_node(10, TestNodeConfig::default().addresses(["127.0.0.1:9".parse().unwrap()]));
    let asked = Arc::new(AtomicUsize::new(0));
    let resolver = {
        let (asked, address) = (asked.clone(), hub.address());
        move |_: &str, _: u16| {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(vec![address])
        }
    };
    let network = custom(&["seed.example"], None);
    let conduit = Conduit::new(config(network).only_named_peers(true).resolver(resolver)).unwrap();
    conduit.start().unwrap();
    let soon = RequestOptions::new().timeout(Duration::from_millis(200));
    assert_eq!(conduit.send_request_with(Ping, &soon), Err(RequestError::NoPeers));
    assert_eq!((conduit.stats().dials, conduit.peers().len()), (0, 0));
    conduit.add_peers([hub.address()]).unwrap();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert_eq!(conduit.send_request(GetAddr).map(|told| told.len()), Ok(1));
    // Also if that one is not named any more.
    assert!(conduit.disconnect(conduit.peers()[0].id));
    assert_eq!(conduit.send_request_with(Ping, &soon), Err(RequestError::NoPeers));
    assert_eq!((conduit.stats().dials, conduit.peers().len(), asked.load(Ordering::SeqCst)), (1, 0, 0));
}

#[test]
fn seed_that_hangs_holds_nothing_up() {
    let nodes = hamlet(3);
    let known = addresses(&nodes);
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let resolver = move |host: &str, _: u16| {
        if host == "hangs.example" {
            // Until the test is over.
            let _ = held.lock().expect("nobody panics with it").recv();
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(known.clone())
    };
    let network = custom(&["hangs.example", "hangs.example", "works.example"], None);
    let conduit = Conduit::new(config(network.clone()).resolver(resolver)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    assert!(conduit.send_request(Ping).is_ok());
    // Neither does a named peer wait for it, nor the end.
    let named = hamlet_node(4, TestNodeConfig::default());
    conduit.add_peers([named.address()]).unwrap();
    conduit.wait_for_peers(4, PATIENCE).unwrap();
    let begun = Instant::now();
    conduit.shutdown();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(release);
}

#[test]
fn named_peers_are_held_besides_and_count_among_those_wanted() {
    let nodes = hamlet(6);
    let known = addresses(&nodes[2..]);
    let resolver = move |_: &str, _: u16| Ok(known.clone());
    let network = custom(&["seed.example"], None);
    let config = config(network).discover(true).target_peers(3).resolver(resolver);
    let conduit = Conduit::new(config).unwrap();
    conduit.add_peers(nodes[..2].iter().map(TestNode::address)).unwrap();
    conduit.start().unwrap();
    waits::until("two were named and one is found", || {
        let ready = ready(&conduit);
        ready.len() >= 3 && nodes[..2].iter().all(|node| ready.contains(&node.address()))
    });
    let found = conduit.peers().iter().filter(|peer| !peer.is_named).count();
    // A named one that is not connected yet may have been replaced.
    assert!((1..=3).contains(&found), "{:?}", conduit.peers());
}

#[test]
fn without_seeds_that_answer_nobody_is_found_and_every_call_ends() {
    let conduit = Conduit::new(config(custom(&["seed.example"], None)).resolver(nowhere)).unwrap();
    conduit.start().unwrap();
    let soon = RequestOptions::new().timeout(Duration::from_millis(200));
    assert_eq!(conduit.send_request_with(Ping, &soon), Err(RequestError::NoPeers));
    assert!(conduit.wait_for_peers(1, Duration::from_millis(10)).is_err());
    assert!(conduit.peers().is_empty());
}
