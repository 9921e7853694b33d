//! A restart goes on where the last run was.

use std::time::{Duration, Instant};

use conduit::message::{Inventory, Message, OutPoint, RejectCode};
use conduit::testnode::{TestNode, TestNodeConfig, spend, transaction};
use conduit::wire::Command;
use conduit::{BroadcastEnd, BroadcastOptions, Ping, RequestOptions, Verdict};

use super::support::{PATIENCE, waits};
use super::{node, patient, raw, start};

#[test]
fn what_no_peer_was_told_is_announced_and_served_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let conduit = start(dir.path(), []);
    let txids: Vec<_> =
        (0..20).map(|number| conduit.broadcast_transaction_with(raw(number), &patient()).unwrap().txid()).collect();
    conduit.shutdown();
    let nodes = [node(), node()];
    let conduit = start(dir.path(), &nodes);
    let handles = conduit.broadcasts();
    assert_eq!(handles.iter().map(conduit::Broadcast::txid).collect::<Vec<_>>(), txids);
    for handle in &handles {
        let id = handle.txid();
        waits::until("one has it", || nodes.iter().any(|node| node.contains(id)));
        let listener = nodes.iter().find(|node| !node.contains(id)).expect("one is told");
        listener.send(&Message::Inv(vec![Inventory::transaction(id)]));
        let report = handle.wait_timeout(PATIENCE).expect("a verdict in time");
        assert_eq!(report.verdict, Verdict::Relayed { by: 1 });
    }
    waits::until("all are over", || conduit.broadcasts().is_empty());
}

#[test]
fn peers_that_were_told_are_no_witnesses_after_the_restart_and_relays_heard_before_count() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = [node(), node()];
    let conduit = start(dir.path(), &nodes);
    let id = transaction(1, 250).txid();
    let options = patient().relays(2).nodes(1);
    conduit.broadcast_transaction_with(raw(1), &options).unwrap();
    waits::until("one has it", || nodes.iter().any(|node| node.contains(id)));
    let (told, other) = if nodes[0].contains(id) { (&nodes[0], &nodes[1]) } else { (&nodes[1], &nodes[0]) };
    let inv = Message::Inv(vec![Inventory::transaction(id)]);
    other.send(&inv);
    waits::until("the other is heard", || conduit.broadcasts()[0].report().relayed() == 1);
    conduit.shutdown();

    let conduit = start(dir.path(), &nodes);
    let [broadcast] = &conduit.broadcasts()[..] else { panic!("it is not restored") };
    assert_eq!(broadcast.report().relayed(), 1, "what was heard is known");
    for _ in 0..2 {
        told.send(&inv);
        other.send(&inv);
    }
    // Answered behind the others.
    for peer in conduit.peers() {
        conduit.send_request_with(Ping, &RequestOptions::new().peer(peer.id)).unwrap();
    }
    assert_eq!((broadcast.report().relayed(), broadcast.try_wait()), (1, None));
    let third = node();
    conduit.add_peers([third.address()]).unwrap();
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    // The one that was told is told again, so the third listens.
    waits::until("the third has heard that it is connected", || third.send(&inv) == 1);
    let report = broadcast.wait_timeout(PATIENCE).expect("a second relay is enough");
    assert_eq!((report.verdict, report.end), (Verdict::Relayed { by: 2 }, Some(BroadcastEnd::Relayed)));
    assert!(!third.contains(id));
}

#[test]
fn what_is_over_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = [node(), node()];
    nodes[0].join(&nodes[1]).unwrap();
    let bad = transaction(2, 250).txid();
    nodes.iter().for_each(|node| node.reject_transaction(bad, RejectCode::Invalid, "bad"));
    let conduit = start(dir.path(), &nodes);
    let all: Vec<_> =
        (1..=2).map(|number| conduit.broadcast_transaction_with(raw(number), &patient()).unwrap()).collect();
    let ends = |wanted: &[BroadcastEnd]| {
        waits::until("they are over", || all.iter().all(|broadcast| broadcast.report().end.is_some()));
        assert_eq!(all.iter().map(|broadcast| broadcast.report().end.unwrap()).collect::<Vec<_>>(), wanted);
    };
    ends(&[BroadcastEnd::Relayed, BroadcastEnd::Rejected]);
    nodes.iter().for_each(|node| node.silence(true));
    let [open, mined, cancelled] =
        [3, 4, 5].map(|number| conduit.broadcast_transaction_with(raw(number), &patient()).unwrap());
    assert_eq!(conduit.confirm(nodes[0].block_hash(1).unwrap(), [mined.txid()]), 1);
    cancelled.cancel();
    let sent = nodes.iter().map(|node| node.received(Command::INV)).sum::<u64>();
    assert!(sent > 0);
    conduit.shutdown();
    assert_eq!(open.report().end, Some(BroadcastEnd::Shutdown));
    let conduit = start(dir.path(), []);
    let left: Vec<_> = conduit.broadcasts().iter().map(conduit::Broadcast::txid).collect();
    assert_eq!(left, [open.txid()]);
}

#[test]
fn lifetimes_go_on_while_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    let conduit = start(dir.path(), []);
    let begun = Instant::now();
    let lifetime = Duration::from_secs(2);
    for (number, lifetime) in [(1, lifetime), (2, Duration::from_secs(3_600))] {
        conduit.broadcast_transaction_with(raw(number), &patient().lifetime(lifetime)).unwrap();
    }
    conduit.shutdown();
    // The clock of the file has whole seconds.
    std::thread::sleep((lifetime + Duration::from_secs(1)).saturating_sub(begun.elapsed()));
    let conduit = start(dir.path(), []);
    let restarted = Instant::now();
    waits::until("the short one is over", || conduit.broadcasts().len() == 1);
    assert!(restarted.elapsed() < lifetime, "it had its time");
    assert_eq!(conduit.broadcasts()[0].txid(), transaction(2, 250).txid());
}

#[test]
fn parents_and_options_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let node = TestNode::start(TestNodeConfig::default().checks_inputs(true)).unwrap();
    let coin = node.block(1).unwrap().transactions().next().unwrap().txid();
    let parent = spend(&[OutPoint { txid: coin, index: 0 }], 2);
    let child = spend(&[OutPoint { txid: parent.txid(), index: 0 }], 1);
    let conduit = start(dir.path(), []);
    let options = BroadcastOptions::new().nodes(1).relays(0).direct(true).parents([parent.raw().to_vec()]);
    conduit.broadcast_transaction_with(child.raw().to_vec(), &options).unwrap();
    conduit.shutdown();
    let conduit = start(dir.path(), [&node]);
    assert!(node.wait_for_transaction(child.txid(), PATIENCE), "its parent was served");
    assert!(node.contains(parent.txid()));
    assert_eq!(node.received(Command::INV), 0, "it was pushed");
    waits::until("nothing is waited for", || conduit.broadcasts().is_empty());
}
