//! The outbox is bounded in bytes and in items; what is over gives way, what is open never.

use super::*;

/// So many broadcasts that are over and served on.
fn relayed(world: &mut World, peer: PeerId, ns: impl IntoIterator<Item = u32>) {
    for n in ns {
        world.broadcast(n, 1);
        world.hear(peer, txid(n));
    }
}

fn held(world: &mut World, peer: PeerId, ns: impl IntoIterator<Item = u32>) -> Vec<u32> {
    ns.into_iter().filter(|&n| world.say(peer, get_transaction(n)).is_none()).collect()
}

#[test]
fn those_over_give_way_the_oldest_first() {
    let (mut world, peers) = World::connected_with(config().broadcast_items(4), 3);
    relayed(&mut world, peers[1], 1..=4);
    assert_eq!(held(&mut world, peers[2], 1..=4), [1, 2, 3, 4]);
    world.broadcast(5, 1);
    assert_eq!(held(&mut world, peers[2], 1..=5), [2, 3, 4, 5]);
    // Begun anew, it is not the oldest any more.
    relayed(&mut world, peers[1], [2]);
    world.broadcast(6, 1);
    assert_eq!(held(&mut world, peers[2], 1..=6), [2, 4, 5, 6]);
    world.broadcast(7, 1);
    world.broadcast(8, 1);
    assert_eq!(held(&mut world, peers[2], 1..=8), [5, 6, 7, 8]);
    assert_eq!(world.try_broadcast(&transaction(9), &options()), Err(BroadcastFailure::Full));
    assert_eq!(held(&mut world, peers[2], 1..=9), [5, 6, 7, 8], "open ones never give way");
}

#[test]
fn nothing_gives_way_for_what_does_not_fit_all_the_same() {
    let (mut world, peers) = World::connected_with(config().broadcast_items(3), 3);
    world.broadcast(0, 1);
    relayed(&mut world, peers[1], 1..=2);
    let parents: Vec<_> = (10..12).map(|n| raw(&transaction(n))).collect();
    let refused = world.try_broadcast(&transaction(3), &options().parents(parents));
    assert_eq!(refused, Err(BroadcastFailure::Full));
    assert_eq!(held(&mut world, peers[2], 0..=2), [0, 1, 2]);
    let parents: Vec<_> = (10..13).map(|n| raw(&transaction(n))).collect();
    let refused = world.try_broadcast(&transaction(3), &options().parents(parents));
    assert!(matches!(refused, Err(BroadcastFailure::TooLarge { .. })), "it never fits: {refused:?}");
}

#[test]
fn what_is_needed_does_not_give_way() {
    let (mut world, peers) = World::connected_with(config().broadcast_items(3), 3);
    relayed(&mut world, peers[1], 1..=3);
    world.broadcast_with(&transaction(4), &options().parents([raw(&transaction(1)), raw(&transaction(2))]));
    assert_eq!(held(&mut world, peers[2], 1..=4), [1, 2, 4]);
    assert_eq!(world.try_broadcast(&transaction(5), &options()), Err(BroadcastFailure::Full));
    // One that is held already needs no item of its own.
    world.broadcast(1, 1);
}

#[test]
fn bytes_bound_it_too() {
    let (mut world, peers) = World::connected_with(config().broadcast_bytes(4_000), 3);
    relayed(&mut world, peers[1], 1..=4);
    world.broadcast(5, 1);
    world.broadcast(6, 1);
    world.broadcast(7, 1);
    assert_eq!(world.try_broadcast(&transaction(8), &options()), Err(BroadcastFailure::Full));
    let large = spending(&[(txid(900), 0)], &[0; 500], 1);
    let refused = world.try_broadcast(&large, &options());
    assert!(matches!(refused, Err(BroadcastFailure::TooLarge { bytes: 4_500.., limit: 4_000 })), "{refused:?}");
    // What begins anew is charged what an open one is.
    world.run(|engine, now| engine.confirm(now, hash(1), [txid(5), txid(6), txid(7)]));
    relayed(&mut world, peers[1], 10..20);
    for n in 10..20 {
        world.broadcast(n, 1);
        world.hear(peers[1], txid(n));
    }
}

#[test]
fn there_is_room_while_something_gives_way() {
    let (mut world, peers) = World::connected_with(config().broadcast_items(3), 3);
    assert!(world.engine.outbox_has_room());
    let parents = [raw(&transaction(2)), raw(&transaction(3))];
    let broadcast = world.broadcast_with(&transaction(1), &options().parents(parents));
    assert!(!world.engine.outbox_has_room(), "parents of what is open stay");
    world.hear(peers[1], txid(1));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
    assert!(world.engine.outbox_has_room());

    let (mut world, peers) = World::connected_with(config().broadcast_bytes(3_000), 2);
    assert!(world.engine.outbox_has_room(), "as much as there will ever be");
    world.broadcast(1, 1);
    assert!(!world.engine.outbox_has_room());
    world.hear(peers[1], txid(1));
    assert!(world.engine.outbox_has_room());
}

#[test]
fn a_second_call_that_brings_parents_needs_room_for_them() {
    let (mut world, peers) = World::connected_with(config().broadcast_items(2), 2);
    let broadcast = world.broadcast(1, 1);
    let parents = |count: u32| (10..10 + count).map(|n| raw(&transaction(n))).collect::<Vec<_>>();
    let refused = world.try_broadcast(&transaction(1), &options().parents(parents(2)));
    assert_eq!(refused, Err(BroadcastFailure::Full));
    assert_eq!(world.broadcast_with(&transaction(1), &options().parents(parents(1))), broadcast);
    assert_eq!(held(&mut world, peers[0], [10, 11]), [10]);
}

#[test]
fn what_gave_way_before_its_turn_is_not_sent() {
    let (mut world, peers) = World::connected_with(config().broadcast_items(2), 3);
    relayed(&mut world, peers[1], 1..=2);
    assert_eq!(held(&mut world, peers[2], 1..=2), [1, 2]);
    world.broadcast(3, 1);
    assert_eq!(world.served(peers[2]), [txid(2)]);
}
