//! Many broadcasts at once: nothing that one peer does takes more than a look at each.

use super::*;

#[test]
fn a_peer_that_comes_asks_for_all_and_goes_is_no_search_for_each() {
    let (mut world, peers) = World::connected_with(config().broadcast_bytes(usize::MAX), 3);
    let transactions: Vec<_> = (0..MANY).map(|n| spending(&[(txid(9), n)], &[1], n)).collect();
    let mut times = Vec::new();
    let mut time = |what: &'static str, world: &mut World, work: &mut dyn FnMut(&mut World)| {
        #[expect(clippy::disallowed_methods, reason = "it is measured")]
        let begun = Instant::now();
        work(world);
        times.push((what, begun.elapsed()));
    };
    let usual = options().nodes(2);
    time("broadcast", &mut world, &mut |world| {
        for transaction in &transactions {
            world.engine.broadcast(world.now, transaction, &[], &usual).expect("there is room");
        }
    });
    world.settle();
    let down = |world: &mut World| {
        let connection = world.connection(peers[0]);
        world.engine.handle_down(world.now, peers[0], connection, DisconnectReason::ClosedByPeer);
    };
    time("lost before it asked", &mut world, &mut |world| down(world));
    world.settle();
    time("reconnected", &mut world, &mut |world| {
        world.reconnect(peers[0]);
    });
    assert_eq!(world.told().len(), 4 * transactions.len());
    let all = Message::GetData(transactions.iter().map(|tx| Inventory::transaction(tx.txid())).collect());
    let connection = world.connection(peers[0]);
    time("asked for all", &mut world, &mut |world| {
        assert_eq!(world.engine.handle_message(world.now, peers[0], connection, all.clone()), None);
    });
    time("served a half", &mut world, &mut |world| {
        for _ in 0..MANY / 2 {
            assert!(world.engine.next_to_serve(peers[0]).is_some());
            world.engine.mark_served(world.now, peers[0]);
        }
    });
    time("paused and read again", &mut world, &mut |world| {
        world.engine.handle_paused(world.now, peers[0], true);
        world.engine.handle_paused(world.now, peers[0], false);
    });
    time("lost", &mut world, &mut |world| down(world));
    world.settle();
    time("announced by another", &mut world, &mut |world| {
        world.lose(peers[1]);
        let fresh = world.add(&address(7));
        world.pass(Duration::ZERO);
        world.connect(fresh);
        let all = Message::Inv(transactions.iter().map(|tx| Inventory::transaction(tx.txid())).collect());
        world.say(fresh, all);
    });
    time("announced again", &mut world, &mut |world| world.pass(301 * SECOND));
    time("expired", &mut world, &mut |world| world.pass(900 * SECOND));
    assert_eq!(world.engine.open_broadcasts(), []);
    println!("{times:?}");
}

const MANY: u32 = 50_000;
