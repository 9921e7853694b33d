//! Each verdict, and the order of events that leads to it.

use std::time::Duration;

use conduit::message::RejectCode;
use conduit::wire::BlockHash;
use conduit::{BroadcastEnd, JourneyState, Progress, Verdict};

use super::*;

/// Long enough for what comes before it on a loaded machine.
const SHORT: Duration = Duration::from_secs(3);

fn rejected(by: usize, reason: &str) -> Verdict {
    Verdict::Rejected { by, code: RejectCode::Invalid, reason: reason.to_owned() }
}

#[test]
fn what_a_peer_announces_that_was_not_told_is_relayed() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1));
    let progress = broadcast.progress();
    scene.join();
    scene.deliver(0, &tx);
    until_state(&progress, scene.peers[0].id, |state| *state == JourneyState::Sent);
    scene.peers[0].raw.announce(tx.txid());
    assert_eq!(scene.peers[0].raw.said(), [], "its own word counts for nothing");
    assert_eq!(broadcast.try_wait(), None);
    scene.peers[1].raw.announce(tx.txid());
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!((report.txid, &report.verdict), (tx.txid(), &Verdict::Relayed { by: 1 }));
    assert_eq!((report.announced(), report.requested(), report.sent(), report.relayed()), (1, 1, 1, 1));
    assert_eq!((report.rejected(), report.not_heard(), report.listeners), (0, 0, 1));
    assert!(!report.too_few_listeners);
    let times = [report.first_announced(), report.first_requested(), report.first_sent(), report.first_relayed()];
    assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{times:?}");
    assert!(report.first_relayed() <= Some(report.elapsed) && report.first_rejected().is_none());
    let last: Vec<_> = progress.collect();
    assert!(
        matches!(&last[0], Progress::Peer(j) if j.peer == Some(scene.peers[1].id) && j.state == JourneyState::Relayed)
    );
    assert_eq!(last[1..], [Progress::Settled(Verdict::Relayed { by: 1 }), Progress::Over(BroadcastEnd::Relayed)]);
    assert_eq!(broadcast.report().end, Some(BroadcastEnd::Relayed));
}

#[test]
fn progress_tells_each_step_in_its_order() {
    let (mut scene, tx) = (Scene::new(config(), 0), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1));
    let progress = broadcast.progress();
    scene.join();
    scene.deliver(0, &tx);
    scene.peers[0].raw.reject(tx.txid(), "bad");
    let steps: Vec<_> = until(&progress, |item| matches!(item, Progress::Over(_)));
    let names: Vec<_> = steps
        .iter()
        .map(|step| match step {
            Progress::Peer(journey) => journey.state.to_string(),
            other => format!("{other:?}").split(['(', ' ']).next().unwrap().to_owned(),
        })
        .collect();
    assert_eq!(names, ["announced", "requested", "sent", "rejected with 0x10 invalid: bad", "Settled", "Over"]);
    assert_eq!(broadcast.report().verdict, rejected(1, "bad"));
    // Who comes late is told how it stands and how it ended.
    let late: Vec<_> = broadcast.progress().collect();
    assert_eq!(late[..], steps[3..]);
}

#[test]
fn the_first_reject_gives_the_verdict_and_what_comes_later_is_in_the_report() {
    let (mut scene, tx) = (Scene::new(config(), 2), payment(1));
    let broadcast = scene.broadcast(&tx, &options(2));
    scene.join();
    scene.deliver(0, &tx);
    scene.deliver(1, &tx);
    scene.peers[1].raw.reject(tx.txid(), "one");
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!((&report.verdict, report.end), (&rejected(1, "one"), None));
    let progress = broadcast.progress();
    scene.peers[2].raw.announce(tx.txid());
    until(&progress, |item| *item == Progress::Over(BroadcastEnd::Relayed));
    assert_eq!(broadcast.report().verdict, Verdict::Split { relayed: 1, rejected: 1 });
    assert_eq!(broadcast.wait(), report, "the verdict stays");
}

#[test]
fn without_settling_on_a_reject_it_takes_one_of_each() {
    let (mut scene, tx) = (Scene::new(config(), 2), payment(1));
    let broadcast = scene.broadcast(&tx, &options(2).settle_on_reject(false));
    let progress = broadcast.progress();
    scene.deliver(0, &tx);
    scene.deliver(1, &tx);
    scene.peers[0].raw.reject(tx.txid(), "one");
    until_state(&progress, scene.peers[0].id, |state| matches!(state, JourneyState::Rejected { .. }));
    assert_eq!(broadcast.try_wait(), None);
    scene.peers[1].raw.reject(tx.txid(), "two");
    assert_eq!(broadcast.wait_timeout(PATIENCE).expect("a verdict").verdict, rejected(2, "one"));
    assert_eq!(progress.last(), Some(Progress::Over(BroadcastEnd::Rejected)));
}

#[test]
fn some_reject_it_and_others_relay_it() {
    let (mut scene, tx) = (Scene::new(config(), 2), payment(1));
    let broadcast = scene.broadcast(&tx, &options(2).settle_on_reject(false));
    let progress = broadcast.progress();
    scene.join();
    scene.deliver(0, &tx);
    scene.deliver(1, &tx);
    scene.peers[1].raw.reject(tx.txid(), "one");
    until_state(&progress, scene.peers[1].id, |state| matches!(state, JourneyState::Rejected { .. }));
    scene.peers[2].raw.announce(tx.txid());
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!(report.verdict, Verdict::Split { relayed: 1, rejected: 1 });
}

#[test]
fn so_many_relays_are_waited_for_as_are_wanted() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1).relays(2));
    let progress = broadcast.progress();
    scene.join();
    scene.join();
    scene.deliver(0, &tx);
    scene.peers[1].raw.announce(tx.txid());
    until_state(&progress, scene.peers[1].id, |state| *state == JourneyState::Relayed);
    assert_eq!(broadcast.try_wait(), None);
    assert_eq!(broadcast.report().verdict, Verdict::Relayed { by: 1 });
    scene.peers[2].raw.announce(tx.txid());
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!((&report.verdict, report.too_few_listeners), (&Verdict::Relayed { by: 2 }, false));
}

#[test]
fn silence_is_delivered_at_the_deadline_and_no_more() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1).deadline(SHORT));
    scene.deliver(0, &tx);
    let report = broadcast.wait();
    assert_eq!((&report.verdict, report.not_heard(), report.end), (&Verdict::Delivered { to: 1 }, 1, None));
    assert!(report.elapsed >= SHORT);
    assert!(report.too_few_listeners, "nobody was there to listen");
    // It is announced and listened for on.
    scene.join();
    scene.peers[1].raw.announce(tx.txid());
    assert_eq!(broadcast.progress().last(), Some(Progress::Over(BroadcastEnd::Relayed)));
    assert_eq!(broadcast.report().verdict, Verdict::Relayed { by: 1 });
}

#[test]
fn what_nobody_asks_for_is_unrequested() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1).deadline(SHORT).listeners(0));
    scene.peers[0].raw.expect_announced(&[tx.txid()]);
    let report = broadcast.wait();
    assert_eq!((&report.verdict, report.announced(), report.requested()), (&Verdict::Unrequested, 1, 0));
    assert_eq!(report.peers[0].state, JourneyState::NotHeard);
}

#[test]
fn without_peers_it_is_unannounced_and_told_to_the_first_that_comes() {
    let (mut scene, tx) = (Scene::new(config(), 0), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1).deadline(Duration::from_millis(20)));
    let report = broadcast.wait();
    assert_eq!((&report.verdict, report.end, report.listeners), (&Verdict::Unannounced, None, 0));
    assert!(report.too_few_listeners && report.peers.is_empty());
    scene.join();
    scene.deliver(0, &tx);
    assert_eq!(broadcast.wait(), report);
}

#[test]
fn with_no_relay_wanted_it_is_over_once_all_are_sent_it() {
    let (mut scene, tx) = (Scene::new(config(), 2), payment(1));
    let broadcast = scene.broadcast(&tx, &options(2).relays(0));
    let progress = broadcast.progress();
    scene.deliver(1, &tx);
    until_state(&progress, scene.peers[1].id, |state| *state == JourneyState::Sent);
    assert_eq!(broadcast.try_wait(), None);
    scene.deliver(0, &tx);
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!(report.verdict, Verdict::Delivered { to: 2 });
    assert_eq!(progress.last(), Some(Progress::Over(BroadcastEnd::Delivered)));
    // It is served on.
    scene.join();
    scene.peers[2].raw.fetch(&tx);
}

#[test]
fn too_few_listeners_are_told_of() {
    for (listeners, too_few) in [(1, false), (2, true)] {
        let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
        let broadcast = scene.broadcast(&tx, &options(1).listeners(listeners));
        scene.join();
        scene.deliver(0, &tx);
        scene.peers[1].raw.announce(tx.txid());
        let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
        assert_eq!((report.listeners, report.too_few_listeners), (1, too_few));
    }
}

#[test]
fn direct_ones_come_unasked() {
    let (mut scene, tx) = (Scene::new(config(), 2), payment(1));
    let broadcast = scene.broadcast(&tx, &options(2).direct(true).relays(0));
    for peer in &mut scene.peers {
        // The first message but for pings is the transaction itself.
        let message = loop {
            match peer.raw.next().expect("a message") {
                Message::Tx(transaction) => break transaction,
                Message::Inv(_) => panic!("it was announced"),
                _ => {}
            }
        };
        assert_eq!(message, tx);
    }
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!((&report.verdict, report.requested(), report.sent()), (&Verdict::Delivered { to: 2 }, 0, 2));
}

#[test]
fn what_the_caller_found_in_a_block_is_mined() {
    let (scene, block) = (Scene::new(config(), 0), BlockHash::from_wire([7; 32]));
    let broadcasts = [1, 2, 3].map(|n| scene.broadcast(&payment(n), &options(1)));
    let mined = [1, 2, 9].map(|n| payment(n).txid());
    assert_eq!(scene.conduit.confirm(block, mined), 2);
    for broadcast in &broadcasts[..2] {
        let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
        assert_eq!((report.verdict, report.end), (Verdict::Mined { block }, Some(BroadcastEnd::Mined)));
    }
    assert_eq!(broadcasts[2].try_wait(), None);
    let open: Vec<_> = scene.conduit.broadcasts().iter().map(Broadcast::txid).collect();
    assert_eq!(open, [payment(3).txid()]);
    assert_eq!(scene.conduit.confirm(block, mined), 0);
}

#[test]
fn what_is_cancelled_is_over_and_not_served_any_more() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1));
    let progress = broadcast.progress();
    scene.peers[0].raw.expect_announced(&[tx.txid()]);
    broadcast.cancel();
    broadcast.cancel();
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!(report.verdict, Verdict::Unrequested);
    let all: Vec<_> = progress.collect();
    let end = [Progress::Settled(Verdict::Unrequested), Progress::Over(BroadcastEnd::Cancelled)];
    assert_eq!(all[all.len() - 2..], end);
    scene.peers[0].raw.ask(&[tx.txid()]);
    assert_eq!(scene.peers[0].raw.expect(Command::NOTFOUND), Message::NotFound(inventory(&[tx.txid()])));
    assert!(scene.conduit.broadcasts().is_empty());
}

#[test]
fn what_outlives_its_lifetime_is_expired() {
    let scene = Scene::new(config(), 0);
    let broadcast = scene.broadcast(&payment(1), &options(1).lifetime(Duration::from_millis(20)));
    assert_eq!(broadcast.progress().last(), Some(Progress::Over(BroadcastEnd::Expired)));
    assert_eq!(broadcast.report().verdict, Verdict::Unannounced);
}
