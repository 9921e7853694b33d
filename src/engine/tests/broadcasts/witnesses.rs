//! Who shows that a transaction was relayed, and who does not.

use super::*;
use crate::peer::PeerAddress;

#[test]
fn a_told_peer_that_echoes_is_no_witness() {
    let (mut world, peers) = World::connected(2);
    let broadcast = world.broadcast_with(&transaction(1), &options().nodes(2));
    world.hear(peers[0], txid(1));
    world.deliver(peers[0], txid(1));
    world.hear(peers[0], txid(1));
    assert_eq!(world.report(broadcast).verdict, Verdict::Delivered { to: 1 });
    assert_eq!(world.report(broadcast).listeners, 0);
}

#[test]
fn a_peer_that_asked_without_being_told_is_no_witness() {
    let (mut world, peers) = World::connected(3);
    let broadcast = world.broadcast(1, 1);
    world.say(peers[1], get_transaction(1));
    world.hear(peers[1], txid(1));
    world.serve(peers[1], 1);
    world.hear(peers[1], txid(1));
    let report = world.report(broadcast);
    assert_eq!((report.verdict, report.listeners), (Verdict::Delivered { to: 1 }, 1));
    // But its reject counts as any that was sent it.
    world.reject(peers[1], txid(1), "bad");
    assert_eq!(world.verdict(broadcast), rejected(1, "bad"));
    assert_eq!(world.end(broadcast), None, "the one that was told has not");
}

#[test]
fn a_witness_that_asks_afterwards_stays_one() {
    let (mut world, peers) = World::connected(3);
    let broadcast = world.broadcast_with(&transaction(1), &options().relays(2));
    world.hear(peers[1], txid(1));
    world.deliver(peers[1], txid(1));
    assert_eq!(world.reject(peers[1], txid(1), "bad"), None);
    assert_eq!(world.report(broadcast).verdict, Verdict::Relayed { by: 1 });
}

#[test]
fn a_told_peer_is_no_witness_in_its_next_session() {
    let (mut world, peers) = World::connected(2);
    let broadcast = world.broadcast_with(&transaction(1), &options().relays(2));
    world.announced();
    world.lose(peers[0]);
    assert_eq!(world.told(), [(peers[1], txid(1))]);
    world.reconnect(peers[0]);
    assert_eq!(world.told(), [(peers[0], txid(1))], "told again");
    for &peer in &peers {
        world.hear(peer, txid(1));
    }
    let report = world.report(broadcast);
    assert_eq!((report.verdict, report.listeners), (Verdict::Unrequested, 0));
}

#[test]
fn a_peer_that_is_forgotten_and_found_again_is_no_witness() {
    let (mut world, peers) = World::connected(2);
    let broadcast = world.broadcast(1, 1);
    world.announced();
    world.run(|engine, now| assert!(engine.disconnect(now, peers[0])));
    assert_eq!(world.told(), [(peers[1], txid(1))]);
    let again = world.add(&address(1));
    assert_ne!(again, peers[0]);
    world.reconnect(again);
    assert_eq!(world.told(), [(again, txid(1))], "told again");
    world.hear(again, txid(1));
    let report = world.report(broadcast);
    assert_eq!((report.verdict, report.listeners), (Verdict::Unrequested, 0));
    let journeys: Vec<_> = report.peers.iter().map(|journey| journey.peer).collect();
    assert_eq!(journeys, [Some(again), Some(peers[1])], "it is one journey");
}

#[test]
fn another_connection_to_a_told_node_is_a_witness() {
    let mut world = World::new(config());
    let at: PeerAddress = address(1).parse().unwrap();
    let peers = world.run(|engine, now| engine.add_connections(now, at, 2)).unwrap();
    world.start();
    world.pass(Duration::ZERO);
    peers.iter().for_each(|&peer| {
        world.reconnect(peer);
    });
    let broadcast = world.broadcast(1, 1);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    assert_eq!(world.report(broadcast).listeners, 1);
    world.hear(peers[1], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
}

#[test]
fn peers_that_are_not_known_to_be_on_our_chain_are_told_and_are_no_witnesses() {
    let (mut world, peers) = World::connected_with(Config::new(Network::Test), 3);
    let broadcast = world.broadcast_with(&transaction(1), &options().nodes(2).deadline(800 * SECOND));
    assert_eq!(world.told(), [], "they are being checked");
    world.hear(peers[0], txid(1));
    world.show_marker(peers[0]);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    assert_eq!(world.report(broadcast).listeners, 0);
    // It has no headers that far.
    world.say(peers[1], Message::Headers(Vec::new()));
    assert_eq!(state(&world, peers[1]), PeerState::Unverified);
    assert_eq!(world.told(), [(peers[1], txid(1))]);
    world.say(peers[2], Message::Headers(Vec::new()));
    world.hear(peers[2], txid(1));
    let report = world.report(broadcast);
    assert_eq!((report.verdict, report.listeners), (Verdict::Unrequested, 0));
    world.sent.clear();
    while !world.sent.iter().any(|(connection, _)| world.owners[connection] == peers[2]) {
        world.jump();
    }
    world.show_marker(peers[2]);
    assert_eq!(world.report(broadcast).listeners, 1);
    world.hear(peers[2], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
}

#[test]
fn paused_peers_are_no_listeners() {
    let (mut world, peers) = World::connected(3);
    let broadcast = world.broadcast(1, 1);
    assert_eq!(world.report(broadcast).listeners, 2);
    world.pause(peers[1], true);
    assert_eq!(world.report(broadcast).listeners, 1);
    world.pause(peers[0], true);
    assert_eq!(world.report(broadcast).listeners, 1, "a told one was none");
    world.pause(peers[1], false);
    assert_eq!(world.report(broadcast).listeners, 2);
    world.pause(peers[2], true);
    world.lose(peers[2]);
    assert_eq!(world.report(broadcast).listeners, 1);
}

#[test]
fn who_had_it_before_it_began_anew_is_no_witness() {
    let (mut world, peers) = World::connected(4);
    let broadcast = world.broadcast(1, 1);
    world.announced();
    world.hear(peers[1], txid(1));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
    // Served from what is held on, and told before.
    world.deliver(peers[2], txid(1));
    world.pause(peers[0], true);
    world.broadcast(1, 1);
    world.pause(peers[0], false);
    assert_eq!(world.told(), [(peers[1], txid(1))]);
    assert_eq!(world.report(broadcast).listeners, 1);
    world.hear(peers[0], txid(1));
    world.hear(peers[2], txid(1));
    assert_eq!(world.verdict(broadcast), None);
    world.hear(peers[3], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
}

#[test]
fn who_was_served_it_as_a_parent_is_no_witness() {
    let (mut world, peers) = World::connected(3);
    let parent = spending(&[(txid(50), 0)], &[1], 1);
    let child = spending(&[(parent.txid(), 0)], &[1], 2);
    world.broadcast_with(&child, &options().parents([raw(&parent)]));
    world.deliver(peers[1], parent.txid());
    let broadcast = world.broadcast_with(&parent, &options());
    world.hear(peers[1], parent.txid());
    assert_eq!(world.verdict(broadcast), None);
    world.hear(peers[2], parent.txid());
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
}

#[test]
fn blocks_and_others_transactions_say_nothing() {
    let (mut world, peers) = World::connected(2);
    let broadcast = world.broadcast(1, 1);
    let block = Inventory::block(BlockHash::from_wire(*txid(1).as_wire()));
    world.say(peers[1], Message::Inv(vec![block, Inventory::transaction(txid(2))]));
    assert_eq!(world.verdict(broadcast), None);
    assert_eq!(world.reject(peers[0], txid(2), "bad"), Some(reject(txid(2), "bad")));
}
