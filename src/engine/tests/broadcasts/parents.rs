//! Parents: held for their children, served to who lacks them, announced before them.

use super::*;

/// A chain of three, the first spending what nobody here has.
fn chain() -> [Transaction; 3] {
    let first = spending(&[(txid(900), 0)], &[3], 1);
    let second = spending(&[(first.txid(), 0)], &[2], 2);
    let third = spending(&[(second.txid(), 0)], &[1], 3);
    [first, second, third]
}

fn get(transaction: &Transaction) -> Message {
    Message::GetData(vec![Inventory::transaction(transaction.txid())])
}

#[test]
fn parents_are_served_and_not_announced() {
    let (mut world, peers) = World::connected(1);
    let [first, second, third] = chain();
    let broadcast = world.broadcast_with(&third, &options().parents([raw(&first), raw(&second)]));
    assert_eq!(world.told(), [(peers[0], third.txid())]);
    for parent in [&second, &first] {
        world.deliver(peers[0], parent.txid());
    }
    assert_eq!(world.report(broadcast).sent(), 0, "they are no broadcasts");
    assert_eq!(world.engine.open_broadcasts().len(), 1);
    assert_eq!(world.run(|engine, now| engine.confirm(now, hash(1), [first.txid()])), 0);
}

#[test]
fn parents_are_held_while_a_child_is_open_and_then_give_way() {
    let config = config().broadcast_items(4).broadcast_lifetime(50 * SECOND);
    let (mut world, peers) = World::connected_with(config, 2);
    let [first, second, third] = chain();
    let other = spending(&[(first.txid(), 1)], &[], 9);
    let long = options().lifetime(1_000 * SECOND);
    let one = world.broadcast_with(&third, &long.clone().parents([raw(&first), raw(&second)]));
    let two = world.broadcast_with(&other, &long.parents([raw(&first)]));
    let full = Err(BroadcastFailure::Full);
    assert_eq!(world.try_broadcast(&transaction(1), &options()), full);
    world.run(|engine, now| engine.cancel_broadcast(now, one));
    world.broadcast(1, 1);
    assert_eq!(world.try_broadcast(&transaction(2), &options()).map(|_| ()), Ok(()), "the second gave way");
    assert!(world.say(peers[0], get(&second)).is_some());
    assert_eq!(world.try_broadcast(&transaction(3), &options()), full, "the first has a child yet");
    world.pass(200 * SECOND);
    world.deliver(peers[0], first.txid());
    world.run(|engine, now| engine.cancel_broadcast(now, two));
    world.pass(1_000 * SECOND);
    assert!(world.say(peers[0], get(&first)).is_some(), "nobody needs it");
}

#[test]
fn an_ended_broadcast_is_held_while_a_child_needs_it() {
    let (mut world, peers) = World::connected(2);
    let [first, second, _] = chain();
    let parent = world.broadcast_with(&first, &options());
    let child = world.broadcast_with(&second, &options().parents([raw(&first)]));
    world.run(|engine, now| engine.cancel_broadcast(now, parent));
    assert_eq!(world.end(parent), Some(BroadcastEnd::Cancelled));
    world.deliver(peers[0], first.txid());
    world.run(|engine, now| engine.cancel_broadcast(now, child));
    // It gives way once it must, or when its time is up.
    world.pass(1_000 * SECOND);
    assert!(world.say(peers[0], get(&first)).is_some());
}

#[test]
fn a_parent_asked_for_before_it_is_there_is_sent_when_it_comes() {
    for order in 0..4 {
        let (mut world, peers) = World::connected(2);
        let [first, second, third] = chain();
        world.broadcast_with(&third, &options());
        let ask = |world: &mut World, parent: &Transaction| {
            assert_eq!(world.say(peers[0], get(parent)), Some(get(parent)), "it is answered as not found, too");
        };
        match order {
            // The node walks up as far as it can.
            0 => {
                ask(&mut world, &second);
                world.broadcast_with(&second, &options());
                assert_eq!(world.served(peers[0]), [second.txid()]);
                ask(&mut world, &first);
                world.broadcast_with(&first, &options());
                assert_eq!(world.served(peers[0]), [first.txid()]);
            }
            // Nothing of ours spends the first, so that this is no question for a parent.
            1 => {
                ask(&mut world, &first);
                world.broadcast_with(&second, &options());
                world.broadcast_with(&first, &options());
                assert_eq!(world.served(peers[0]), []);
            }
            // It comes as a parent, not as a broadcast.
            2 => {
                ask(&mut world, &second);
                let other = spending(&[(second.txid(), 1)], &[], 7);
                world.broadcast_with(&other, &options().parents([raw(&first), raw(&second)]));
                assert_eq!(world.served(peers[0]), [second.txid()]);
            }
            // It comes with a second call for the child.
            _ => {
                ask(&mut world, &second);
                ask(&mut world, &second);
                let again = options().parents([raw(&first), raw(&second), raw(&second)]);
                world.broadcast_with(&third, &again);
                world.broadcast_with(&third, &again);
                assert_eq!(world.served(peers[0]), [second.txid()], "once");
            }
        }
        assert_eq!(world.served(peers[1]), []);
    }
}

#[test]
fn a_lost_peer_does_not_get_what_it_asked_for_in_vain() {
    let (mut world, peers) = World::connected(1);
    let [first, second, _] = chain();
    world.broadcast_with(&second, &options());
    world.say(peers[0], get(&first));
    world.lose(peers[0]);
    world.reconnect(peers[0]);
    world.broadcast_with(&first, &options());
    assert_eq!(world.served(peers[0]), []);
}

#[test]
fn only_the_last_parents_asked_for_in_vain_are_remembered() {
    let (mut world, peers) = World::connected(1);
    let parents: Vec<_> = (0..300).map(|n| spending(&[(txid(900), n)], &[1], n)).collect();
    let spent: Vec<_> = parents.iter().map(|parent| (parent.txid(), 0)).collect();
    world.broadcast_with(&spending(&spent, &[1], 1), &options());
    let items = parents.iter().map(|parent| Inventory::transaction(parent.txid())).collect();
    world.say(peers[0], Message::GetData(items));
    for parent in &parents {
        world.broadcast_with(parent, &options());
    }
    let expected: Vec<_> = parents[300 - 256..].iter().map(Transaction::txid).collect();
    assert_eq!(world.served(peers[0]), expected);
}

#[test]
fn children_that_began_first_are_told_to_a_new_peer_behind_their_parents() {
    let mut world = World::new(config());
    let peer = world.add(&address(1));
    world.start();
    world.pass(Duration::ZERO);
    let [first, second, third] = chain();
    let wide = spending(&[(second.txid(), 5), (third.txid(), 0), (first.txid(), 9), (third.txid(), 1)], &[], 4);
    for transaction in [&wide, &transaction(7), &third, &first, &second] {
        world.broadcast_with(transaction, &options());
    }
    world.connect(peer);
    let order = [&first, &second, &third, &wide, &transaction(7)].map(|transaction| (peer, transaction.txid()));
    assert_eq!(world.told(), order);
    world.lose(peer);
    world.reconnect(peer);
    assert_eq!(world.told(), order);
}

#[test]
fn parents_are_announced_again_before_their_children() {
    let config = config().rebroadcast_interval(100 * SECOND);
    let (mut world, peers) = World::connected_with(config, 1);
    let [first, second, third] = chain();
    for transaction in [&third, &second, &first] {
        world.broadcast_with(transaction, &options());
        world.pass(100 * MILLISECOND);
    }
    assert_eq!(world.told().len(), 3);
    let order = [&first, &second, &third].map(|transaction| (peers[0], transaction.txid()));
    for _ in 0..2 {
        world.pass(101 * SECOND);
        assert_eq!(world.told(), order);
    }
}

#[test]
fn parents_named_twice_or_as_their_own_child_are_held_once() {
    let (mut world, peers) = World::connected(1);
    let [first, second, _] = chain();
    let broadcast = world.broadcast_with(&second, &options().parents([raw(&first), raw(&first), raw(&second)]));
    world.deliver(peers[0], first.txid());
    world.run(|engine, now| engine.cancel_broadcast(now, broadcast));
    assert!(world.say(peers[0], get(&second)).is_some());
}

#[test]
fn a_long_chain_is_ordered_without_recursion() {
    let mut world = World::new(config());
    let peer = world.add(&address(1));
    world.start();
    world.pass(Duration::ZERO);
    let mut chain = vec![spending(&[(txid(900), 0)], &[1], 0)];
    for n in 1..20_000 {
        let next = spending(&[(chain[chain.len() - 1].txid(), 0)], &[1], n);
        chain.push(next);
    }
    for transaction in chain.iter().rev() {
        world.engine.broadcast(world.now, transaction, &[], &options()).expect("there is room");
    }
    world.connect(peer);
    let told: Vec<_> = world.told().into_iter().map(|(_, txid)| txid).collect();
    assert_eq!(told, chain.iter().map(Transaction::txid).collect::<Vec<_>>());
}
