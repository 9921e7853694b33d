//! The second connection to a peer, from the offer to its end.

use super::*;
use crate::proto::AssociationId;
use crate::queue::outbound::Joins;

const ID: AssociationId = AssociationId::new(7);

/// A world with one peer that would take a second connection; gives that connection.
fn offered() -> (World, PeerId, ConnectionId) {
    let (mut world, peers) = World::connected(1);
    let (peer, first) = (peers[0], world.connection(peers[0]));
    let address = address(1).parse().unwrap();
    world.run(|engine, _| engine.handle_association(peer, first, address, ID));
    let (of, second, joins) = world.joins.pop().expect("it is joined");
    assert_eq!((of, joins), (peer, Joins { of: first, association: ID }));
    (world, peer, second)
}

/// The same once it has joined.
fn joined() -> (World, PeerId, ConnectionId) {
    let (mut world, peer, second) = offered();
    let first = world.connection(peer);
    world.run(|engine, _| engine.handle_joined(peer, first, second));
    (world, peer, second)
}

fn streams(world: &World) -> usize {
    world.engine.peers(world.now)[0].streams
}

fn ask(world: &mut World, question: Question) -> ConnectionId {
    world.ask(question);
    let (connection, _) = world.sent.pop().expect("the only peer is asked");
    connection
}

#[test]
fn pings_headers_and_blocks_take_the_second_connection_once_it_is_there() {
    let (mut world, peer, second) = offered();
    let first = world.connection(peer);
    let headers = || Question::Headers(GetHeaders::new([]));
    assert_eq!(ask(&mut world, headers()), first);
    assert_eq!(streams(&world), 1);
    world.run(|engine, _| engine.handle_joined(peer, first, second));
    assert_eq!(streams(&world), 2);
    assert_eq!(ask(&mut world, Question::Block(BlockHash::ZERO)), second);
    assert_eq!(ask(&mut world, Question::Transaction(Txid::from_wire([1; 32]))), first);
}

#[test]
fn a_second_connection_that_does_not_come_to_be_is_not_tried_again() {
    let (mut world, peer, second) = offered();
    let first = world.connection(peer);
    let reason = DisconnectReason::ClosedByPeer;
    world.run(|engine, now| engine.handle_down(now, peer, second, reason));
    let address = address(1).parse().unwrap();
    world.run(|engine, _| engine.handle_association(peer, first, address, ID));
    world.run(|engine, _| engine.handle_joined(peer, first, second));
    assert!(world.joins.is_empty() && world.closes.is_empty() && world.events.is_empty());
    assert_eq!((world.connection(peer), streams(&world)), (first, 1));
}

#[test]
fn the_loss_of_the_second_connection_is_that_of_the_peer() {
    let (mut world, peer, second) = joined();
    let first = world.connection(peer);
    world.run(|engine, now| engine.handle_down(now, peer, second, DisconnectReason::ClosedByPeer));
    assert!(world.closes.contains(&(first, DisconnectReason::ClosedByPeer)), "{:?}", world.closes);
    // What the loop tells of the first one comes later.
    world.run(|engine, now| engine.handle_down(now, peer, first, DisconnectReason::ClosedByPeer));
    let lost = |event: &&Event| matches!(event, Event::Disconnected { .. });
    assert_eq!(world.events.iter().filter(lost).count(), 1, "{:?}", world.events);
    assert_eq!(streams(&world), 0);
    let again = world.reconnect(peer);
    assert!(again != first);
    assert_eq!(streams(&world), 1);
}

#[test]
fn the_loss_of_the_first_connection_ends_the_second_whether_it_had_joined_or_not() {
    for (mut world, peer, second) in [offered(), joined()] {
        world.lose(peer);
        assert_eq!(world.closes, [(second, DisconnectReason::ClosedByPeer)]);
        world.run(|engine, now| engine.handle_down(now, peer, second, DisconnectReason::ClosedByPeer));
        let lost = |event: &&Event| matches!(event, Event::Disconnected { .. });
        assert_eq!(world.events.iter().filter(lost).count(), 1, "{:?}", world.events);
    }
}

#[test]
fn an_offer_of_a_connection_that_is_over_is_not_taken() {
    let (mut world, peers) = World::connected(1);
    let first = world.connection(peers[0]);
    world.lose(peers[0]);
    let address = address(1).parse().unwrap();
    world.run(|engine, _| engine.handle_association(peers[0], first, address, ID));
    world.run(|engine, _| engine.handle_joined(peers[0], first, ConnectionId(99)));
    assert!(world.joins.is_empty());
    assert_eq!(streams(&world), 0);
}
