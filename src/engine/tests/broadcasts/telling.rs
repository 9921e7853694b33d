//! Who is told, when, how often, and over again.

use super::*;

#[test]
fn told_peers_are_told_again_while_nothing_was_heard() {
    let config = config().rebroadcast_interval(100 * SECOND);
    let (mut world, peers) = World::connected_with(config, 2);
    let broadcast = world.broadcast_with(&transaction(1), &options().lifetime(350 * SECOND));
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    world.deliver(peers[0], txid(1));
    for _ in 0..3 {
        world.pass(89 * SECOND);
        assert_eq!(world.told(), []);
        world.pass(11 * SECOND);
        assert_eq!(world.told(), [(peers[0], txid(1))]);
    }
    world.pass(100 * SECOND);
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Expired));
    assert_eq!(world.told(), []);
}

#[test]
fn who_rejected_or_relayed_it_is_not_told_again() {
    let config = config().rebroadcast_interval(100 * SECOND);
    let (mut world, peers) = World::connected_with(config, 3);
    world.broadcast_with(&transaction(1), &options().nodes(2).relays(2));
    world.told();
    world.deliver(peers[0], txid(1));
    world.reject(peers[0], txid(1), "bad");
    world.hear(peers[2], txid(1));
    world.pass(100 * SECOND);
    assert_eq!(world.told(), [(peers[1], txid(1))]);
    for &peer in &peers {
        world.lose(peer);
        world.reconnect(peer);
    }
    assert_eq!(world.told(), [(peers[1], txid(1))]);
}

#[test]
fn the_count_of_told_peers_is_never_exceeded() {
    let (mut world, peers) = World::connected(4);
    let broadcast = world.broadcast(1, 2);
    world.told();
    world.lose(peers[0]);
    assert_eq!(world.told(), [(peers[2], txid(1))]);
    world.reconnect(peers[0]);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    // It was told in vain and does not count: those that do make two already.
    world.deliver(peers[1], txid(1));
    world.deliver(peers[2], txid(1));
    world.lose(peers[2]);
    assert_eq!(world.report(broadcast).listeners, 1);
    assert_eq!(world.told(), []);
}

#[test]
fn a_paused_peer_is_not_told_until_it_is_read_and_then_as_in_a_new_session() {
    let (mut world, peers) = World::connected_with(Config::new(Network::Test), 2);
    world.show_marker(peers[0]);
    world.broadcast(1, 1);
    world.broadcast(2, 2);
    assert_eq!(world.told(), [(peers[0], txid(1)), (peers[0], txid(2))]);
    world.lose(peers[0]);
    world.pause(peers[1], true);
    world.show_marker(peers[1]);
    assert_eq!(world.told(), [], "it would not be heard");
    world.pause(peers[1], false);
    assert_eq!(world.told(), [(peers[1], txid(1)), (peers[1], txid(2))]);
    // It was told before, is lost, and is not read when it is back.
    world.deliver(peers[1], txid(1));
    world.lose(peers[1]);
    while world.connects.is_empty() || !world.connects.iter().any(|&(peer, ..)| peer == peers[1]) {
        world.jump();
    }
    world.connect(peers[1]);
    world.pause(peers[1], true);
    world.show_marker(peers[1]);
    assert_eq!(world.told(), []);
    world.pause(peers[1], false);
    assert_eq!(world.told(), [(peers[1], txid(1)), (peers[1], txid(2))]);
    world.pause(peers[1], true);
    world.pause(peers[1], false);
    assert_eq!(world.told(), [], "once for each session");
}

#[test]
fn what_a_paused_peer_was_told_is_not_heard_of() {
    let config = config().rebroadcast_interval(100 * SECOND);
    let (mut world, peers) = World::connected_with(config, 3);
    let broadcast = world.broadcast(1, 2);
    world.deliver(peers[1], txid(1));
    let states = |world: &World| -> Vec<_> {
        world.report(broadcast).peers.into_iter().map(|journey| journey.state).collect()
    };
    world.pause(peers[0], true);
    world.pause(peers[1], true);
    assert_eq!(states(&world), [JourneyState::NotHeard, JourneyState::NotHeard]);
    world.pause(peers[1], false);
    assert_eq!(states(&world), [JourneyState::NotHeard, Sent]);
    world.told();
    world.pass(100 * SECOND);
    assert_eq!(world.told(), [(peers[1], txid(1)), (peers[2], txid(1))], "another in place of one that cannot ask");
}

#[test]
fn direct_ones_are_sent_at_once_and_announced_when_they_are_told_again() {
    let config = config().rebroadcast_interval(100 * SECOND);
    let (mut world, peers) = World::connected_with(config, 2);
    let broadcast = world.broadcast_with(&transaction(1), &options().direct(true));
    assert_eq!(world.sent(), []);
    assert_eq!(world.serves, [peers[0]]);
    assert_eq!(world.served(peers[0]), [txid(1)]);
    let report = world.report(broadcast);
    assert_eq!((report.announced(), report.requested(), report.sent()), (0, 0, 1));
    assert_eq!(report.verdict, Verdict::Delivered { to: 1 });
    assert_eq!(report.listeners, 1);
    assert_eq!(world.reject(peers[0], txid(1), "bad"), None);
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Rejected));

    let broadcast = world.broadcast_with(&transaction(2), &options().direct(true));
    world.lose(peers[0]);
    assert_eq!(world.told(), []);
    assert_eq!(world.served(peers[1]), [txid(2)], "the first was not sent it");
    world.reconnect(peers[0]);
    assert_eq!(world.told(), [(peers[0], txid(2))]);
    world.pass(101 * SECOND);
    assert_eq!(world.told(), [(peers[0], txid(2)), (peers[1], txid(2))]);
    assert_eq!(world.end(broadcast), None);
}

#[test]
fn direct_ones_that_wait_are_not_sent_once_they_are_over() {
    let (mut world, peers) = World::connected(2);
    world.engine.restore_broadcasts(world.now, Vec::new());
    let broadcast = world.broadcast_with(&transaction(1), &options().direct(true));
    world.hear(peers[1], txid(1));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
    world.run(|engine, now| engine.handle_saved(now, 9, &[], None));
    assert_eq!((world.told(), world.served(peers[0])), (vec![], vec![]));
}

#[test]
fn what_waits_from_before_it_began_anew_is_not_announced_twice() {
    let (mut world, peers) = World::connected(3);
    world.engine.restore_broadcasts(world.now, Vec::new());
    world.broadcast(1, 1);
    world.hear(peers[1], txid(1));
    world.broadcast(1, 1);
    world.run(|engine, now| engine.handle_saved(now, 99, &[], None));
    assert_eq!(world.told(), [(peers[0], txid(1))]);
}

#[test]
fn a_peer_that_asks_before_its_announcement_was_sent_is_told_once() {
    let (mut world, peers) = World::connected(1);
    // Announcements are gathered for a moment behind this one.
    world.broadcast(0, 1);
    world.sent();
    world.broadcast(1, 1);
    assert_eq!(world.sent(), []);
    world.deliver(peers[0], txid(1));
    world.broadcast(1, 1);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    assert_eq!(world.told(), []);
}

#[test]
fn a_few_ids_are_gathered_and_a_lot_is_not_waited_for() {
    let (mut world, peers) = World::connected(1);
    world.broadcast(0, 1);
    assert_eq!(world.sent(), [(peers[0], announcement([0]))]);
    for n in 1..=1_000 {
        assert_eq!(world.sent(), []);
        world.broadcast(n, 1);
    }
    assert_eq!(world.sent(), [(peers[0], announcement(1..=1_000))]);
    world.broadcast(1_001, 1);
    world.pass(4 * MILLISECOND);
    assert_eq!(world.sent(), []);
    world.pass(MILLISECOND);
    assert_eq!(world.sent(), [(peers[0], announcement([1_001]))]);
}
