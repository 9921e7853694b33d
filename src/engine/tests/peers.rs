//! Which peers are dialled, when, and in which order they are asked.

use super::*;
use crate::error::AddPeersError;

fn config() -> Config {
    Config::new(Network::Regtest)
}

#[test]
fn peers_are_dialled_at_the_start_and_not_before() {
    let mut world = World::new(config());
    let first = world.add("10.0.0.1:1");
    let second = world.add("10.0.0.2");
    assert_eq!(world.engine.poll_timeout(), None);
    world.start();
    world.pass(Duration::ZERO);
    assert_eq!(world.dialled(first).unwrap().1, "10.0.0.1:1".parse().unwrap());
    assert_eq!(world.dialled(second).unwrap().1, "10.0.0.2:18444".parse().unwrap());
    let third = world.add("10.0.0.3:1");
    world.pass(Duration::ZERO);
    assert!(world.dialled(third).is_some());
    assert_eq!(world.engine.ready_count(), 0);
    assert!(world.seeds.is_empty());
}

#[test]
fn the_same_address_is_the_same_peer() {
    let mut world = World::new(config().max_peers(2));
    let first = world.add("10.0.0.1");
    assert_eq!(world.add("10.0.0.1:18444"), first);
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.2"].map(|text| text.parse().unwrap()).to_vec();
    let result = world.run(|engine, now| engine.add_peers(now, addresses));
    assert_eq!(result, Err(AddPeersError::TooManyPeers { wanted: 3, limit: 2 }));
    assert_eq!(ranking(&world), [first]);
}

#[test]
fn back_off_begins_anew_after_a_lasting_connection_only() {
    let mut world = World::new(config().redial_min(SECOND));
    let peer = world.add(&address(1));
    world.start();
    world.jump();
    for _ in 0..4 {
        world.refuse(peer);
        world.jump();
    }
    world.connect(peer);
    world.pass(20 * SECOND);
    world.lose(peer);
    assert!(world.jump() >= 12 * SECOND, "a short connection is one more failure");
    world.connect(peer);
    world.pass(31 * SECOND);
    world.lose(peer);
    assert!(world.jump() <= 2 * SECOND);
}

#[test]
fn names_are_resolved_and_their_addresses_take_turns() {
    let mut world = World::new(config());
    let peer = world.add("node.example");
    world.start();
    world.jump();
    let found = vec!["10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap()];
    for expected in [found[0], found[1], found[0]] {
        let (resolved, connection, name) = world.resolves.pop().expect("the name is resolved");
        assert_eq!((resolved, name.as_str()), (peer, "node.example:18444"));
        assert_eq!(world.dialled(peer), None);
        let answer = Ok(found.clone());
        world.run(|engine, now| engine.handle_resolved(now, peer, connection, answer));
        assert_eq!(world.connects.last(), Some(&(peer, connection, expected)));
        world.refuse(peer);
        world.jump();
    }
}

#[test]
fn a_name_without_addresses_is_tried_again() {
    let mut world = World::new(config());
    let peer = world.add("node.example");
    world.start();
    world.jump();
    let busy = Err(DisconnectReason::Resolve { kind: std::io::ErrorKind::ResourceBusy });
    for answer in [Ok(Vec::new()), busy] {
        let (_, connection, _) = world.resolves.pop().expect("the name is resolved");
        world.run(|engine, now| engine.handle_resolved(now, peer, connection, answer));
        assert_eq!(state(&world, peer), PeerState::Waiting);
        world.jump();
    }
    assert_eq!(world.events.len(), 2);
    assert_eq!(world.resolves.len(), 1);
}

#[test]
fn a_resolver_that_takes_too_long_is_given_up_and_its_late_answer_ignored() {
    let mut world = World::new(config().resolve_timeout(7 * SECOND));
    let peer = world.add("node.example");
    world.start();
    world.jump();
    let (_, first, _) = world.resolves.pop().unwrap();
    assert_eq!(world.jump(), 7 * SECOND);
    let reason = DisconnectReason::Resolve { kind: std::io::ErrorKind::TimedOut };
    assert!(matches!(&world.events[..], [Event::Refused { reason: got, .. }] if *got == reason));
    let answer = || Ok(vec!["10.0.0.1:1".parse().unwrap()]);
    world.run(|engine, now| engine.handle_resolved(now, peer, first, answer()));
    world.jump();
    world.run(|engine, now| engine.handle_resolved(now, peer, first, answer()));
    assert!(world.connects.is_empty());
    let (_, second, _) = world.resolves.pop().unwrap();
    world.run(|engine, now| engine.handle_resolved(now, peer, second, answer()));
    // The same answer twice is one dial.
    world.run(|engine, now| engine.handle_resolved(now, peer, second, answer()));
    assert_eq!(world.connects.len(), 1);
    world.connect(peer);
    assert_eq!(state(&world, peer), PeerState::Ready);
}

#[test]
fn a_disconnected_peer_is_forgotten() {
    let (mut world, peers) = World::connected(1);
    let connection = world.connection(peers[0]);
    assert!(world.run(|engine, now| engine.disconnect(now, peers[0])));
    assert_eq!(world.closes, [(connection, DisconnectReason::Requested)]);
    let requested = DisconnectReason::Requested;
    assert!(
        matches!(&world.events[..], [Event::Disconnected { reason, .. }, Event::NoPeers] if *reason == requested)
    );
    // The loop reports it too.
    world.run(|engine, now| engine.handle_down(now, peers[0], connection, DisconnectReason::Requested));
    assert_eq!(world.events.len(), 2);
    assert!(world.engine.peers(world.now).is_empty());
    assert!(!world.run(|engine, now| engine.disconnect(now, peers[0])));
    assert_ne!(world.add(&address(1)), peers[0]);
}

#[test]
fn a_peer_can_be_disconnected_while_it_waits_or_connects() {
    let mut world = World::new(config());
    let [waiting, connecting, resolving] = ["10.0.0.1", "10.0.0.2", "node.example"].map(|text| world.add(text));
    world.start();
    world.pass(Duration::ZERO);
    world.refuse(waiting);
    let (connection, _) = world.dialled(connecting).unwrap();
    let (_, resolver, _) = world.resolves.pop().unwrap();
    for peer in [waiting, connecting, resolving] {
        assert!(world.run(|engine, now| engine.disconnect(now, peer)));
    }
    assert_eq!(world.closes.iter().map(|close| close.0).collect::<Vec<_>>(), [connection, resolver]);
    let version = Box::new(Version::new(Services::NETWORK, 1, "/late:1/", 1, 1));
    world.run(|engine, now| engine.handle_up(now, connecting, connection, version));
    world.run(|engine, now| engine.handle_resolved(now, resolving, resolver, Ok(Vec::new())));
    assert_eq!(world.engine.ready_count(), 0);
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn a_banned_peer_is_not_dialled_until_the_ban_ends() {
    let (mut world, peers) = World::connected(1);
    let peer = peers[0];
    let connection = world.connection(peer);
    assert!(world.run(|engine, now| engine.ban(now, peer, 1_000 * SECOND)));
    assert_eq!(world.closes, [(connection, DisconnectReason::Banned)]);
    assert_eq!(state(&world, peer), PeerState::Banned);
    world.pass(999 * SECOND);
    assert!(world.connects.is_empty());
    world.pass(SECOND);
    world.connect(peer);
    assert_eq!(state(&world, peer), PeerState::Ready);
}

#[test]
fn a_ban_holds_whatever_the_peer_was_doing() {
    let mut world = World::new(config());
    let [waiting, connecting, resolving] = ["10.0.0.1", "10.0.0.2", "node.example"].map(|text| world.add(text));
    world.start();
    world.pass(Duration::ZERO);
    world.refuse(waiting);
    for peer in [waiting, connecting, resolving] {
        assert!(world.run(|engine, now| engine.ban(now, peer, 100 * SECOND)));
        assert_eq!(state(&world, peer), PeerState::Banned);
    }
    world.connects.clear();
    world.resolves.clear();
    world.pass(99 * SECOND);
    assert!(world.connects.is_empty() && world.resolves.is_empty());
    world.pass(SECOND);
    assert_eq!((world.connects.len(), world.resolves.len()), (2, 1));
}

#[test]
fn seeds_are_asked_only_when_no_peer_is_named() {
    let mut world = World::new(Config::new(Network::Test).target_peers(3));
    world.start();
    assert_eq!(world.seeds.len(), 3);
    assert_eq!(world.seeds[0], "testnet-seed.bitcoinsv.io:18333");
    // They have nothing, and are asked again.
    world.run(|engine, now| engine.handle_seeds(now, &[]));
    assert_eq!(world.jump(), 60 * SECOND);
    assert_eq!(world.seeds.len(), 6);
    let found = (1..9).map(|n| SocketAddr::from(([20, n, 0, 1], 8333))).collect::<Vec<_>>();
    world.run(|engine, now| engine.handle_seeds(now, &found));
    world.run(|engine, now| engine.handle_seeds(now, &found));
    assert_eq!(world.engine.peers(world.now).len(), 3);
    world.pass(Duration::ZERO);
    for peer in ranking(&world) {
        world.connect(peer);
        world.show_marker(peer);
    }
    assert_eq!(world.engine.ready_count(), 3);
    world.pass(3_600 * SECOND);
    assert_eq!(world.seeds.len(), 6);

    let mut world = World::new(Config::new(Network::Test));
    world.add("10.0.0.1");
    world.start();
    assert!(world.seeds.is_empty());
}

#[test]
fn what_seeds_give_too_late_is_not_dialled() {
    let mut world = World::new(Config::new(Network::Main));
    world.start();
    let named = world.add("10.0.0.1");
    world.run(|engine, now| engine.handle_seeds(now, &["10.0.0.2:8333".parse().unwrap()]));
    assert_eq!(ranking(&world), [named]);
}

#[test]
fn seeds_do_not_pass_the_limit_of_peers() {
    let mut world = World::new(Config::new(Network::Main).target_peers(8).max_peers(2));
    world.start();
    let found: Vec<_> = (1..9).map(|n| SocketAddr::from(([10, 0, 0, n], 8333))).collect();
    world.run(|engine, now| engine.handle_seeds(now, &found));
    assert_eq!(world.engine.peers(world.now).len(), 2);
}

#[test]
fn found_peer_that_keeps_nobody_is_dialled_ever_more_rarely() {
    let mut world = World::new(config().redial_min(Duration::from_secs(1)).redial_max(Duration::from_secs(100)));
    world.start();
    world.run(|engine, now| engine.handle_seeds(now, &[SocketAddr::from(([10, 0, 0, 1], 8333))]));
    let mut waits = Vec::new();
    // The last time it stays for long.
    for stays in [0, 0, 0, 0, 0, 0, 60, 0] {
        let begun = world.now.instant;
        while world.connects.is_empty() {
            world.jump();
        }
        waits.push((world.now.instant - begun).as_secs_f64());
        let peer = world.connects[0].0;
        world.connect(peer);
        assert_eq!(state(&world, peer), PeerState::Ready);
        world.pass(Duration::from_secs(stays));
        world.lose(peer);
        assert_eq!(world.engine.peers(world.now).len(), 0, "it is forgotten until it is dialled");
    }
    for (wait, expected) in waits.into_iter().zip([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 1.0]) {
        assert!((expected * 0.75..=expected * 1.25).contains(&wait), "{wait} for {expected}");
    }
}

#[test]
fn the_nearest_peer_is_the_best() {
    let (mut world, peers) = World::connected(3);
    assert_eq!(ranking(&world), peers);
    for _ in 0..50 {
        world.engine.handle_round_trip(world.now, peers[2], MILLISECOND);
    }
    assert_eq!(ranking(&world), [peers[2], peers[0], peers[1]]);
    world.lose(peers[2]);
    assert_eq!(ranking(&world), [peers[0], peers[1], peers[2]]);
}

#[test]
fn load_sends_requests_to_the_next_peer() {
    let (mut world, peers) = World::connected(2);
    for n in 0..24 {
        world.ask(Question::Transaction(txid(n)));
    }
    let asked = world.asked();
    let count = |peer| asked.iter().filter(|&&asked| asked == peer).count();
    // Twice as far, so half as busy or less.
    assert!(count(peers[1]) > 0 && count(peers[0]) > count(peers[1]), "{asked:?}");
}

#[test]
fn a_peer_that_fails_is_asked_last() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(Question::Transaction(txid(1)));
    world.pass(2 * SECOND);
    assert_eq!(world.asked(), peers);
    world.say(peers[1], Message::Tx(transaction(1)));
    assert!(world.result(request).is_ok());
    world.engine.handle_round_trip(world.now, peers[1], 10 * MILLISECOND);
    assert_eq!(ranking(&world), [peers[1], peers[0]]);
    // A success makes up for it.
    let options = RequestOptions::new().peer(peers[0]);
    world.ask_with(Question::Transaction(txid(2)), &options);
    world.say(peers[0], Message::Tx(transaction(2)));
    assert_eq!(ranking(&world), peers);
}

#[test]
fn a_peer_that_has_become_slow_is_not_what_its_better_days_make_it() {
    let (mut world, peers) = World::connected(2);
    for _ in 0..50 {
        world.engine.handle_round_trip(world.now, peers[0], MILLISECOND / 10);
        world.engine.handle_round_trip(world.now, peers[1], 100 * MILLISECOND);
    }
    assert_eq!(ranking(&world), peers);
    let request = world.ask(Question::Transaction(txid(1)));
    world.pass(Duration::from_secs(3));
    assert_eq!(world.asked(), peers);
    world.say(peers[1], Message::Tx(transaction(1)));
    assert!(world.result(request).is_ok());
    assert_eq!(ranking(&world), [peers[1], peers[0]], "a thousand times slower than it was");
    // Each of its pongs speaks for it a little.
    world.engine.handle_round_trip(world.now, peers[0], MILLISECOND / 10);
    assert_eq!(ranking(&world), [peers[1], peers[0]]);
    (0..20).for_each(|_| world.engine.handle_round_trip(world.now, peers[0], MILLISECOND / 10));
    assert_eq!(ranking(&world), peers);
}

#[test]
fn the_main_peer_is_asked_first_while_it_can_be() {
    let (mut world, peers) = World::connected(3);
    let main = peers[2];
    world.run(|engine, now| engine.set_main_peer(now, main));
    assert_eq!(ranking(&world), [main, peers[0], peers[1]]);
    world.ask(Question::Ping);
    assert_eq!(world.asked(), [main]);
    world.lose(main);
    assert_eq!(world.asked(), [peers[0]], "its request goes elsewhere");
    world.ask(Question::Ping);
    assert_eq!(world.asked().len(), 1);
    world.reconnect(main);
    world.ask(Question::Ping);
    assert_eq!(world.asked(), [main]);
    world.pause(main, true);
    world.asked();
    let request = world.ask(Question::Ping);
    assert!(!world.has_ended(request) && !world.asked().contains(&main));
    world.pause(main, false);
    world.ask(Question::Ping);
    assert_eq!(world.asked(), [main]);
}

#[test]
fn what_belongs_to_an_earlier_connection_is_ignored() {
    let (mut world, peers) = World::connected(1);
    let peer = peers[0];
    let earlier = world.connection(peer);
    world.lose(peer);
    world.reconnect(peer);
    let request = world.ask(Question::Transaction(txid(1)));
    world.run(|engine, now| engine.handle_down(now, peer, earlier, DisconnectReason::ClosedByPeer));
    assert_eq!(world.engine.ready_count(), 1);
    let late = Message::Tx(transaction(1));
    assert!(world.run(|engine, now| engine.handle_message(now, peer, earlier, late)).is_some());
    assert!(!world.has_ended(request));
}

#[test]
fn a_main_peer_that_is_disconnected_is_one_no_more() {
    for waits in [false, true] {
        let (mut world, peers) = World::connected(1);
        world.run(|engine, now| engine.set_main_peer(now, peers[0]));
        if waits {
            world.lose(peers[0]);
        }
        world.run(|engine, now| engine.disconnect(now, peers[0]));
        let again = world.add(&address(1));
        assert!(!world.engine.peers(world.now)[0].is_main);
        assert_ne!(again, peers[0]);
    }
}

#[test]
fn back_off_doubles_with_jitter_up_to_its_limit() {
    let mut world = World::new(config().redial_min(SECOND).redial_max(10 * SECOND));
    let peer = world.add(&address(1));
    world.start();
    world.jump();
    let mut waits = Vec::new();
    for expected in [1, 2, 4, 8, 10, 10, 10] {
        world.refuse(peer);
        let wait = world.jump();
        let expected = expected * SECOND;
        assert!(wait >= expected.mul_f64(0.75) && wait <= expected.mul_f64(1.25), "{wait:?} for {expected:?}");
        assert!(wait <= 10 * SECOND, "{wait:?} is over the limit");
        waits.push(wait);
    }
    assert!(waits[0] != SECOND, "there is jitter");
    assert_eq!(world.events.iter().filter(|event| matches!(event, Event::Refused { .. })).count(), 7);
}

#[test]
fn a_ban_of_any_length_holds() {
    let (mut world, peers) = World::connected(1);
    world.run(|engine, now| engine.ban(now, peers[0], Duration::MAX));
    assert_eq!(state(&world, peers[0]), PeerState::Banned);
    world.pass(365 * 24 * 3_600 * SECOND);
    assert!(world.connects.is_empty());
    assert_eq!(state(&world, peers[0]), PeerState::Banned);
}

#[test]
fn a_ban_before_the_start_holds() {
    let mut world = World::new(config());
    let peer = world.add(&address(1));
    world.run(|engine, now| engine.ban(now, peer, 100 * SECOND));
    world.start();
    world.pass(99 * SECOND);
    assert!(world.connects.is_empty());
    world.pass(SECOND);
    world.connect(peer);
}

#[test]
fn an_announcement_has_an_unverified_peer_checked_again() {
    let config = Config::new(Network::Test).verify_timeout(5 * SECOND).verify_interval(600 * SECOND);
    let mut world = World::new(config);
    let peer = world.add("10.0.0.1:18333");
    world.start();
    world.pass(Duration::ZERO);
    world.connect(peer);
    let checks = |world: &mut World| {
        world.sent().iter().filter(|(_, message)| matches!(message, Message::GetHeaders(_))).count()
    };
    let announce = |world: &mut World, n| {
        world.say(peer, Message::Inv(vec![Inventory::block(BlockHash::from_wire([n; 32]))]));
    };
    assert_eq!((checks(&mut world), state(&world, peer)), (1, PeerState::Checking));
    world.pass(6 * SECOND);
    assert_eq!(state(&world, peer), PeerState::Unverified);
    // Many announcements are one question, though the first was never answered.
    (1..4).for_each(|n| announce(&mut world, n));
    world.pass(2 * SECOND);
    assert_eq!(checks(&mut world), 1);
    // One that comes while it is asked is not forgotten.
    announce(&mut world, 4);
    world.pass(4 * SECOND);
    assert_eq!(checks(&mut world), 0);
    world.pass(SECOND);
    assert_eq!(checks(&mut world), 1);
    world.show_marker(peer);
    assert_eq!(state(&world, peer), PeerState::Ready);
}

#[test]
fn a_check_waits_for_a_callers_question_that_is_not_given_up() {
    let config = Config::new(Network::Test).verify_timeout(SECOND).verify_interval(600 * SECOND);
    let mut world = World::new(config);
    let peer = world.add("10.0.0.1:18333");
    world.start();
    world.pass(Duration::ZERO);
    world.connect(peer);
    world.pass(40 * SECOND);
    assert_eq!(state(&world, peer), PeerState::Unverified);
    let options = RequestOptions::new().peer(peer).timeout(2 * SECOND);
    world.ask_with(headers(1), &options);
    world.pass(3 * SECOND);
    world.sent();
    world.say(peer, Message::Inv(vec![Inventory::block(BlockHash::from_wire([7; 32]))]));
    world.pass(26 * SECOND);
    assert_eq!(world.sent(), [], "its answer may still be on the way");
    world.pass(2 * SECOND);
    assert!(matches!(&world.sent()[..], [(_, Message::GetHeaders(_))]));
}
