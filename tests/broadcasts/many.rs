//! Many from one iterator, and what becomes of each.

use std::collections::HashMap;
use std::sync::mpsc;

use conduit::error::BroadcastFailure;
use conduit::{BroadcastOutcome, Verdict};

use super::support::waits;
use super::*;

/// All outcomes, in a thread of their own, by their place in the input.
fn outcomes<I>(broadcasts: I) -> waits::Call<HashMap<u64, BroadcastOutcome>>
where
    I: Iterator<Item = BroadcastOutcome> + Send + 'static,
{
    waits::call(move || {
        let mut all = HashMap::new();
        for outcome in broadcasts {
            let twice = all.insert(outcome.index, outcome);
            assert_eq!(twice, None, "each has one outcome");
        }
        all
    })
}

fn verdict(outcome: &BroadcastOutcome) -> &Verdict {
    &outcome.result.as_ref().expect("it was broadcast").verdict
}

#[test]
fn thousands_pass_through_a_small_outbox_and_are_relayed() {
    let nodes = [node(), node()];
    nodes[0].join(&nodes[1]).unwrap();
    let conduit = connected(config().broadcast_items(50), &nodes);
    let broadcasts = conduit.broadcast_transactions((0..5_000).map(|n| raw(&payment(n))), options(1));
    let all = outcomes(broadcasts).result();
    assert_eq!(all.len(), 5_000);
    for outcome in all.values() {
        assert_eq!(*verdict(outcome), Verdict::Relayed { by: 1 });
    }
    assert!(nodes.iter().all(|node| node.mempool_len() == 5_000));
}

#[test]
fn outcomes_come_in_the_order_of_verdicts() {
    let mut scene = Scene::new(config(), 1);
    let conduit = scene.conduit.clone();
    let (sender, came) = mpsc::channel();
    let call = waits::call(move || {
        let mut broadcasts = conduit.broadcast_transactions((0..3).map(|n| raw(&payment(n))), options(1));
        assert_eq!((broadcasts.submitted(), broadcasts.in_flight()), (0, 0));
        broadcasts.by_ref().for_each(|outcome| sender.send(outcome.index).unwrap());
        (broadcasts.submitted(), broadcasts.in_flight(), broadcasts.next())
    });
    waits::until("all are under way", || scene.conduit.broadcasts().len() == 3);
    scene.join();
    for index in [2, 0, 1] {
        // Whom of the two the peers' order had told is no matter.
        let tx = payment(index);
        let told = scene.peers[0].id;
        let broadcast = scene.conduit.broadcasts().into_iter().find(|b| b.txid() == tx.txid()).unwrap();
        until_state(&broadcast.progress(), told, |state| *state == JourneyState::Announced);
        scene.peers[1].raw.announce(tx.txid());
        assert_eq!(came.recv_timeout(PATIENCE), Ok(index));
    }
    assert_eq!(call.result(), (3, 0, None));
}

#[test]
fn malformed_input_and_duplicates_have_outcomes_too() {
    let nodes = [node(), node()];
    nodes[0].join(&nodes[1]).unwrap();
    let conduit = connected(config(), &nodes);
    let one = raw(&payment(1));
    let input = vec![one.clone(), vec![7], one.clone(), Vec::new(), one, raw(&payment(2))];
    let all = outcomes(conduit.broadcast_transactions(input, options(1))).result();
    assert_eq!(all.len(), 6);
    for index in [1, 3] {
        let error = all[&index].result.as_ref().unwrap_err();
        assert_eq!(error.reason.name(), "malformed");
    }
    assert_eq!(all[&1].result.as_ref().unwrap_err().raw, [7]);
    for index in [0, 2, 4, 5] {
        // The second time it may be known by then, so that nobody asks for it.
        assert!(all[&index].result.is_ok());
    }
    assert_eq!(*verdict(&all[&0]), Verdict::Relayed { by: 1 });
    assert_eq!(*verdict(&all[&5]), Verdict::Relayed { by: 1 });
}

#[test]
fn without_room_for_as_long_as_the_deadline_they_are_given_back() {
    let scene = Scene::new(config().broadcast_items(1), 0);
    let _first = scene.broadcast(&payment(1), &options(1));
    let short = options(1).deadline(Duration::from_millis(20));
    let input = [2, 3].map(|number| raw(&payment(number)));
    let all = outcomes(scene.conduit.broadcast_transactions(input.clone(), short)).result();
    for (index, raw) in (0..).zip(input) {
        let error = all[&index].result.as_ref().unwrap_err();
        assert_eq!((&error.raw, &error.reason), (&raw, &BroadcastFailure::Full));
    }
}

#[test]
fn room_that_others_make_is_heard_of() {
    let scene = Scene::new(config().broadcast_items(1), 0);
    let first = scene.broadcast(&payment(1), &options(1));
    let conduit = scene.conduit.clone();
    let call = outcomes(conduit.broadcast_transactions([raw(&payment(2))], options(1)));
    first.cancel();
    let second = || scene.conduit.broadcasts().into_iter().find(|broadcast| broadcast.txid() == payment(2).txid());
    waits::until("the second has got room", || second().is_some());
    assert!(call.is_blocked());
    scene.conduit.shutdown();
    assert_eq!(*verdict(&call.result()[&0]), Verdict::Unannounced);
}

#[test]
fn a_shutdown_in_the_middle_gives_each_one_taken_its_outcome() {
    let scene = Scene::new(config().broadcast_items(10), 0);
    let conduit = scene.conduit.clone();
    let (sender, taken) = mpsc::channel();
    let input = (0..1_000_u64).map(move |number| {
        sender.send(number).unwrap();
        raw(&payment(number))
    });
    let call = outcomes(conduit.broadcast_transactions(input, options(1)));
    waits::until("it is full", || scene.conduit.broadcasts().len() == 10);
    scene.conduit.shutdown();
    let all = call.result();
    assert_eq!(all.len(), taken.iter().count());
    assert!((10..20).contains(&all.len()), "{} were taken", all.len());
    for (index, outcome) in &all {
        match &outcome.result {
            Ok(report) => assert_eq!(report.verdict, Verdict::Unannounced),
            Err(error) => {
                assert!(*index >= 10);
                assert_eq!((&error.raw, &error.reason), (&raw(&payment(*index)), &BroadcastFailure::Shutdown));
            }
        }
    }
}

#[test]
fn a_slow_input_holds_up_outcomes_and_no_broadcasts() {
    let nodes = [node(), node()];
    nodes[0].join(&nodes[1]).unwrap();
    let conduit = connected(config(), &nodes);
    let (sender, input) = mpsc::channel();
    let call = outcomes(conduit.broadcast_transactions(input, options(1)));
    for number in 0..5 {
        sender.send(raw(&payment(number))).unwrap();
        assert!(nodes.iter().all(|node| node.wait_for_transaction(payment(number).txid(), PATIENCE)));
        assert!(call.is_blocked());
    }
    drop(sender);
    let all = call.result();
    assert!(all.len() == 5 && all.values().all(|outcome| *verdict(outcome) == Verdict::Relayed { by: 1 }));
}

#[test]
fn what_is_under_way_goes_on_without_its_iterator() {
    let mut scene = Scene::new(config(), 1);
    let conduit = scene.conduit.clone();
    let input = [raw(&payment(1)), vec![0]];
    // The second has its outcome at once, so the first is under way.
    let mut broadcasts = conduit.broadcast_transactions(input, options(1).relays(0));
    assert_eq!(broadcasts.next().map(|outcome| outcome.index), Some(1));
    assert_eq!((broadcasts.submitted(), broadcasts.in_flight()), (2, 1));
    drop(broadcasts);
    scene.deliver(0, &payment(1));
    waits::until("it is over", || scene.conduit.broadcasts().is_empty());
}
