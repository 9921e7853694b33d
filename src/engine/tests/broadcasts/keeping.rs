//! The outbox file: nothing is told to peers before it is on disk, and an earlier run goes on.

use super::*;
use crate::engine::broadcast::record::{Held, Restored, Said};
use crate::peer::PeerAddress;

fn with_file(peers: u8) -> (World, Vec<PeerId>) {
    let (mut world, peers) = World::connected(peers);
    world.engine.restore_broadcasts(world.now, Vec::new());
    (world, peers)
}

impl World {
    fn saved(&mut self, through: u64) {
        self.run(|engine, now| engine.handle_saved(now, through, &[], None));
    }

    fn kinds(&mut self) -> Vec<(&'static str, u64)> {
        let kinds = self.records.drain(..).map(|record| match record {
            Record::Hold(held) => ("hold", held.item),
            Record::Told { item, .. } => ("told", item),
            Record::Heard { item, said: Said::Relayed, .. } => ("relayed", item),
            Record::Heard { item, .. } => ("rejected", item),
            Record::Over { item } => ("over", item),
        });
        kinds.collect()
    }
}

/// A broadcast as the file holds it.
fn restored(item: u64, transaction: &Transaction, options: BroadcastOptions) -> Restored {
    let (begun, expires) = (START_UNIX - 100, START_UNIX + 500);
    let held = Held { item, transaction: transaction.clone(), options, begun, expires };
    Restored { held, told: Vec::new(), heard: Vec::new() }
}

fn at(n: u8) -> PeerAddress {
    address(n).parse().unwrap()
}

#[test]
fn nothing_is_announced_before_it_is_saved_and_then_in_order() {
    let (mut world, peers) = with_file(2);
    let one = world.broadcast(1, 2);
    let two = world.broadcast(2, 1);
    let of = |one: BroadcastId, kinds: &[&'static str]| kinds.iter().map(|&kind| (kind, one.0)).collect::<Vec<_>>();
    assert_eq!(world.kinds(), [of(one, &["hold", "told", "told"]), of(two, &["hold", "told"])].concat());
    assert_eq!((world.told(), world.saved.clone()), (vec![], vec![]));
    world.saved(1);
    assert_eq!((world.told(), world.saved.clone()), (vec![], vec![one]), "who is told is not on disk yet");
    world.saved(2);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    world.saved(4);
    assert_eq!(world.told(), [(peers[1], txid(1))]);
    assert_eq!(world.saved, [one, two]);
    world.saved(3);
    assert_eq!(world.told(), [], "what comes late changes nothing");
    world.saved(5);
    assert_eq!(world.told(), [(peers[0], txid(2))]);
}

#[test]
fn a_peer_lost_and_back_is_not_told_before_that_is_saved() {
    let (mut world, peers) = with_file(1);
    world.broadcast(1, 1);
    world.lose(peers[0]);
    world.reconnect(peers[0]);
    assert_eq!(world.told(), []);
    world.saved(1);
    assert_eq!(world.told(), []);
    world.saved(3);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
}

#[test]
fn told_again_waits_for_what_was_recorded_before() {
    let (mut world, peers) = World::connected_with(config().rebroadcast_interval(10 * SECOND), 2);
    world.engine.restore_broadcasts(world.now, Vec::new());
    world.broadcast(1, 1);
    // It asks, and so it is told, but does not count; both wait for the file.
    world.say(peers[1], get_transaction(1));
    world.pass(10 * SECOND);
    assert_eq!(world.told(), []);
    world.saved(1);
    assert_eq!((world.told(), world.served(peers[1])), (vec![], vec![]));
    world.saved(2);
    assert_eq!((world.told(), world.served(peers[1])), (vec![(peers[0], txid(1))], vec![]));
    world.saved(3);
    assert_eq!(world.told(), [(peers[1], txid(1))]);
    assert_eq!(world.served(peers[1]), [txid(1)]);
}

#[test]
fn nothing_is_served_before_it_is_saved() {
    let (mut world, peers) = with_file(2);
    let parent = spending(&[(txid(900), 0)], &[1], 1);
    let child = spending(&[(parent.txid(), 0)], &[1], 2);
    let broadcast = world.broadcast_with(&child, &options().parents([raw(&parent)]));
    for transaction in [&parent, &child] {
        for &peer in &peers {
            assert_eq!(world.say(peer, Message::GetData(vec![Inventory::transaction(transaction.txid())])), None);
        }
    }
    assert_eq!((world.served(peers[0]), world.served(peers[1])), (vec![], vec![]));
    world.saved(1);
    assert_eq!(world.saved, [broadcast]);
    assert_eq!(world.served(peers[0]), [parent.txid()], "the parent comes with the child");
    world.saved(2);
    assert_eq!(world.served(peers[0]), [child.txid()]);
    assert_eq!(world.served(peers[1]), [parent.txid()]);
    assert_eq!(world.kinds().last(), Some(&("told", broadcast.0)), "who asks was told, too");
    world.saved(3);
    assert_eq!(world.served(peers[1]), [child.txid()]);
}

#[test]
fn nothing_is_pushed_before_it_is_saved() {
    let (mut world, peers) = with_file(1);
    world.broadcast_with(&transaction(1), &options().direct(true));
    world.saved(1);
    assert_eq!(world.served(peers[0]), []);
    world.saved(2);
    assert_eq!(world.served(peers[0]), [txid(1)]);
}

#[test]
fn what_peers_say_and_every_end_but_shutdown_is_recorded() {
    let (mut world, peers) = with_file(3);
    let ids = [1, 2, 3, 4, 5].map(|n| world.broadcast_with(&transaction(n), &options().relays(2)));
    world.kinds();
    world.saved(99);
    world.deliver(peers[0], txid(1));
    world.hear(peers[1], txid(1));
    world.hear(peers[0], txid(1));
    world.reject(peers[0], txid(1), "bad");
    world.reject(peers[0], txid(1), "bad");
    assert_eq!(world.kinds(), [("relayed", ids[0].0), ("rejected", ids[0].0)]);
    world.hear(peers[2], txid(1));
    world.run(|engine, now| engine.cancel_broadcast(now, ids[1]));
    world.run(|engine, now| engine.confirm(now, hash(1), [txid(3)]));
    let over = |n: usize| ("over", ids[n].0);
    assert_eq!(world.kinds(), [("relayed", ids[0].0), over(0), over(1), over(2)]);
    world.run(|engine, now| engine.fail_all(now, &RequestError::Shutdown));
    assert_eq!(world.kinds(), [], "what is open goes on with the next start");
}

#[test]
fn what_the_file_could_not_take_is_lost_and_never_saved() {
    let (mut world, peers) = with_file(2);
    let parent = spending(&[(txid(900), 0)], &[1], 1);
    let child = spending(&[(parent.txid(), 0)], &[1], 2);
    let lost = world.broadcast_with(&parent, &options());
    let kept = world.broadcast_with(&child, &options().parents([raw(&parent)]));
    let gone = world.broadcast_with(&transaction(3), &options());
    assert_eq!(world.engine.saved_broadcasts(), [], "nobody has them yet but who waits for the file");
    let items = [lost.0, gone.0];
    world.run(|engine, now| engine.handle_saved(now, 6, &items, Some(std::io::ErrorKind::StorageFull)));
    assert_eq!(world.lost, [lost, gone]);
    assert_eq!(world.saved, [kept]);
    assert_eq!(world.told(), [(peers[0], child.txid())]);
    assert!(world.say(peers[0], get_transaction(3)).is_some());
    world.deliver(peers[0], parent.txid());
    assert_eq!(world.engine.open_broadcasts(), [(kept, child.txid())]);
    assert_eq!(world.engine.saved_broadcasts(), [(kept, child.txid())]);
    // It can be tried again.
    let again = world.broadcast(3, 1);
    assert_ne!(again, gone);
    world.saved(8);
    assert_eq!(world.saved, [kept, again]);
}

#[test]
fn what_the_file_had_before_it_broke_goes_on_without_it() {
    let (mut world, peers) = with_file(2);
    let broadcast = world.broadcast(1, 1);
    world.saved(2);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    let fault = Some(std::io::ErrorKind::StorageFull);
    world.run(|engine, now| engine.handle_saved(now, 9, &[broadcast.0], fault));
    assert_eq!(world.lost, []);
    world.hear(peers[1], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
}

#[test]
fn who_was_told_before_it_began_anew_is_recorded_again() {
    let (mut world, peers) = with_file(3);
    let broadcast = world.broadcast(1, 1);
    world.saved(2);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    world.hear(peers[1], txid(1));
    world.kinds();
    world.broadcast(1, 2);
    let expected = ["hold", "told", "told", "told"].map(|kind| (kind, broadcast.0));
    assert_eq!(world.kinds(), expected);
    let addresses = [peers[0], peers[0], peers[1]];
    assert_eq!(world.told(), []);
    world.saved(99);
    assert_eq!(world.told(), [(addresses[0], txid(1)), (addresses[2], txid(1))]);
}

#[test]
fn told_peers_of_the_earlier_run_are_no_witnesses_on_any_connection() {
    let mut world = World::new(config());
    let mut earlier = restored(7, &transaction(1), options().relays(1));
    earlier.told = vec![at(1), at(3), at(3)];
    world.engine.restore_broadcasts(world.now, vec![earlier]);
    let broadcast = world.engine.open_broadcasts()[0].0;
    world.engine.follow_broadcast(world.now, broadcast);
    let peers = world.run(|engine, now| engine.add_connections(now, at(1), 2)).unwrap();
    let others = [2, 3].map(|n| world.add(&address(n)));
    assert!(others[0].0 > 7, "ids go on");
    world.start();
    world.pass(Duration::ZERO);
    for &peer in peers.iter().chain(&others) {
        world.reconnect(peer);
    }
    world.saved(99);
    // As it was told it is told again; only one counts.
    let mut told = world.told();
    told.sort_unstable();
    assert_eq!(told, [peers[0], peers[1], others[1]].map(|peer| (peer, txid(1))));
    assert_eq!(world.report(broadcast).listeners, 1);
    for peer in [peers[0], peers[1], others[1]] {
        world.hear(peer, txid(1));
    }
    assert_eq!(world.verdict(broadcast), None);
    world.hear(others[0], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
    assert_eq!(world.kinds().last(), Some(&("over", 7)));
}

#[test]
fn what_was_heard_in_the_earlier_run_counts() {
    let mut world = World::new(config());
    let peers = [1, 2, 3].map(|n| world.add(&address(n)));
    let mut earlier = restored(7, &transaction(1), options().relays(2));
    earlier.told = vec![at(1)];
    let words = Said::Rejected { code: RejectCode::Invalid, reason: "bad".to_owned() };
    earlier.heard = vec![(at(1), words), (at(2), Said::Relayed)];
    world.engine.restore_broadcasts(world.now, vec![earlier]);
    world.start();
    let broadcast = world.engine.open_broadcasts()[0].0;
    world.engine.follow_broadcast(world.now, broadcast);
    let report = world.report(broadcast);
    assert_eq!(report.verdict, Verdict::Split { relayed: 1, rejected: 1 });
    assert_eq!(report.elapsed, Duration::ZERO);
    assert!(report.peers.iter().all(|journey| journey.peer.is_none() && journey.heard.is_none()));
    world.pass(Duration::ZERO);
    peers.iter().for_each(|&peer| {
        world.connect(peer);
    });
    world.saved(99);
    assert_eq!(world.told(), [(peers[2], txid(1))], "the others have said what they will say");
    world.hear(peers[1], txid(1));
    assert_eq!(world.end(broadcast), None, "it was counted");
    world.hear(peers[2], txid(1));
    assert_eq!(world.end(broadcast), None, "it was told");
    let late = world.add(&address(4));
    world.pass(Duration::ZERO);
    world.connect(late);
    world.hear(late, txid(1));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
}

#[test]
fn what_was_enough_in_the_earlier_run_ends_at_once() {
    let mut world = World::new(config());
    let mut earlier = restored(7, &transaction(1), options());
    earlier.heard = vec![(at(2), Said::Relayed)];
    world.run(|engine, now| engine.restore_broadcasts(now, vec![earlier]));
    assert_eq!(world.verdict(BroadcastId(7)), Some(Verdict::Relayed { by: 1 }));
    assert_eq!(world.end(BroadcastId(7)), Some(BroadcastEnd::Relayed));
    assert_eq!(world.kinds(), [("over", 7)]);
}

#[test]
fn what_expired_meanwhile_ends_at_once_and_the_rest_on_time() {
    let mut world = World::new(config());
    let mut expired = restored(3, &transaction(1), options());
    expired.held.expires = START_UNIX - 1;
    let later = restored(4, &transaction(2), options());
    world.run(|engine, now| engine.restore_broadcasts(now, vec![expired, later]));
    world.pass(Duration::ZERO);
    assert_eq!(world.verdict(BroadcastId(3)), Some(Verdict::Unannounced));
    assert_eq!(world.end(BroadcastId(3)), Some(BroadcastEnd::Expired));
    assert_eq!(world.kinds(), [("over", 3)]);
    world.pass(499 * SECOND);
    assert_eq!(world.end(BroadcastId(4)), None);
    world.pass(SECOND);
    assert_eq!(world.end(BroadcastId(4)), Some(BroadcastEnd::Expired));
}

#[test]
fn parents_come_back_with_their_children_whatever_their_ids() {
    let (mut world, peers) = World::connected(1);
    let parent = spending(&[(txid(900), 0)], &[1], 1);
    let other = spending(&[(txid(901), 0)], &[1], 1);
    let child = spending(&[(parent.txid(), 0), (other.txid(), 0)], &[1], 2);
    let parents = options().parents([raw(&parent), raw(&other)]);
    // The parent began after the child, and ids between are free.
    let earlier = vec![
        restored(1_001, &child, parents),
        restored(1_002, &transaction(3), options()),
        restored(1_003, &parent, options()),
        restored(1_004, &parent, options()),
    ];
    world.run(|engine, now| engine.restore_broadcasts(now, earlier));
    let open: Vec<_> = world.engine.open_broadcasts().into_iter().map(|(id, _)| id.0).collect();
    assert_eq!(open, [1_001, 1_002, 1_003]);
    assert_eq!(world.kinds(), [("over", 1_004)], "it was there twice");
    let expected = [&parent, &other, &child].map(Transaction::txid);
    let items = expected.map(Inventory::transaction).to_vec();
    assert_eq!(world.say(peers[0], Message::GetData(items)), None);
    world.saved(99);
    assert_eq!(world.served(peers[0]), expected);
    assert!(world.broadcast(4, 1).0 > 1_004);
}
