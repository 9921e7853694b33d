//! The same transaction again: it joins what is under way, and begins anew once that is over.

use std::thread;

use conduit::{BroadcastEnd, Verdict};

use super::*;

#[test]
fn threads_that_broadcast_the_same_share_one_broadcast() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let conduit = &scene.conduit;
    let broadcasts: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| conduit.broadcast_transaction_with(raw(&tx), &options(1)).unwrap()))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(scene.conduit.broadcasts().len(), 1);
    scene.deliver(0, &tx);
    assert_eq!(scene.peers[0].raw.said(), [], "it was announced once");
    scene.join();
    scene.peers[1].raw.announce(tx.txid());
    let reports: Vec<_> = broadcasts.iter().map(|b| b.wait_timeout(PATIENCE).expect("a verdict")).collect();
    assert_eq!(reports[0].verdict, Verdict::Relayed { by: 1 });
    assert!(reports.iter().all(|report| *report == reports[0]));
    assert!(broadcasts.iter().all(|b| b.progress().last() == Some(Progress::Over(BroadcastEnd::Relayed))));
}

#[test]
fn who_joins_gets_the_larger_number_and_the_later_time() {
    let (mut scene, tx) = (Scene::new(config(), 2), payment(1));
    let short = Duration::from_millis(300);
    let first = scene.broadcast(&tx, &options(1).deadline(short));
    let second = scene.broadcast(&tx, &options(2).relays(2));
    scene.deliver(0, &tx);
    scene.deliver(1, &tx);
    assert_eq!(first.wait_timeout(2 * short), None, "it has the time of the second");
    for place in [2, 3] {
        scene.join();
        assert_eq!(first.try_wait(), None);
        scene.peers[place].raw.announce(tx.txid());
    }
    let report = second.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!((&report.verdict, report.sent()), (&Verdict::Relayed { by: 2 }, 2));
    assert_eq!(first.wait(), report);
}

#[test]
fn once_over_it_begins_anew_and_the_old_handle_keeps_its_end() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let old = scene.broadcast(&tx, &options(1).relays(0));
    scene.deliver(0, &tx);
    assert_eq!(old.wait_timeout(PATIENCE).expect("a verdict").verdict, Verdict::Delivered { to: 1 });
    let before = old.report();
    assert_eq!(before.end, Some(BroadcastEnd::Delivered));

    let new = scene.broadcast(&tx, &options(1));
    scene.peers[0].raw.expect_announced(&[tx.txid()]);
    assert_eq!((new.try_wait(), new.report().end), (None, None));
    assert_eq!(old.report(), before);
    old.cancel();
    assert_eq!(scene.conduit.broadcasts().len(), 1, "an old handle does not end the new one");
    scene.join();
    scene.peers[1].raw.announce(tx.txid());
    assert_eq!(new.wait_timeout(PATIENCE).expect("a verdict").verdict, Verdict::Relayed { by: 1 });
    assert_eq!(old.report(), before);
    assert_eq!(old.progress().last(), Some(Progress::Over(BroadcastEnd::Delivered)));
}
