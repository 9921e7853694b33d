//! The outbox is bounded: who finds it full waits, or gets the bytes back.

use conduit::error::BroadcastFailure;
use conduit::{BroadcastEnd, Verdict};

use super::support::waits;
use super::*;

fn full() -> (Scene, Broadcast) {
    let scene = Scene::new(config().broadcast_items(1), 0);
    let first = scene.broadcast(&payment(1), &options(1));
    (scene, first)
}

#[test]
fn without_room_the_bytes_are_given_back() {
    let (scene, first) = full();
    let two = raw(&payment(2));
    let refused = scene.conduit.try_broadcast_transaction(two.clone(), &options(1)).unwrap_err();
    assert_eq!((refused.raw, refused.reason), (two.clone(), BroadcastFailure::Full));
    let short = options(1).deadline(Duration::from_millis(20));
    let refused = scene.conduit.broadcast_transaction_with(two.clone(), &short).unwrap_err();
    assert_eq!((refused.raw, refused.reason), (two.clone(), BroadcastFailure::Full));
    // The same needs no room.
    let again = scene.conduit.try_broadcast_transaction(raw(&payment(1)), &options(1)).unwrap();
    first.cancel();
    assert_eq!(again.report().end, Some(BroadcastEnd::Cancelled));
    assert!(scene.conduit.try_broadcast_transaction(two, &options(1)).is_ok());
}

#[test]
fn who_waits_for_room_gets_it() {
    let (scene, first) = full();
    let calls: Vec<_> = (2..6)
        .map(|number| {
            let conduit = scene.conduit.clone();
            waits::call(move || conduit.broadcast_transaction_with(raw(&payment(number)), &options(1)))
        })
        .collect();
    first.cancel();
    // Each makes room for the next one.
    for _ in 2..6 {
        waits::until("the next one has got room", || scene.conduit.broadcasts().len() == 1);
        scene.conduit.broadcasts()[0].cancel();
    }
    for call in calls {
        assert_eq!(call.result().expect("room").report().end, Some(BroadcastEnd::Cancelled));
    }
}

#[test]
fn what_can_never_fit_is_too_large() {
    let scene = Scene::new(config().broadcast_bytes(1_024 * 1_024), 0);
    let refused = scene.conduit.broadcast_transaction(raw(&transaction(1, 2_000_000)), 1).unwrap_err();
    assert!(matches!(refused.reason, BroadcastFailure::TooLarge { limit: 1_048_576, .. }), "{refused}");
    assert_eq!(refused.raw.len(), 2_000_000);
}

#[test]
fn what_no_node_accepts_is_sent_to_nobody() {
    let mut scene = Scene::new(config(), 1);
    let refused = scene.conduit.broadcast_transaction(vec![1, 2, 3], 1).unwrap_err();
    assert_eq!((refused.raw, refused.reason.name()), (vec![1, 2, 3], "malformed"));
    let mut longer = raw(&payment(1));
    longer.push(0);
    assert_eq!(scene.conduit.broadcast_transaction(longer, 1).unwrap_err().reason.name(), "malformed");
    let empty = Transaction::new(1, &[], &[], 0);
    let refused = scene.conduit.broadcast_transaction(raw(&empty), 1).unwrap_err();
    assert_eq!(refused.reason, BroadcastFailure::Invalid { reason: "bad-txns-vin-empty" });
    let nobody = scene.conduit.broadcast_transaction(raw(&payment(1)), 0).unwrap_err();
    assert_eq!(nobody.reason, BroadcastFailure::NoNodes);
    let parents = options(1).parents([raw(&payment(1)), vec![7]]);
    let refused = scene.conduit.broadcast_transaction_with(raw(&payment(2)), &parents).unwrap_err();
    assert!(matches!(refused.reason, BroadcastFailure::ParentMalformed { index: 1, .. }));
    assert_eq!(scene.peers[0].raw.said(), []);
    assert!(scene.conduit.broadcasts().is_empty());
}

#[test]
fn before_the_start_nothing_is_broadcast() {
    let conduit = Conduit::new(config()).unwrap();
    let refused = conduit.broadcast_transaction(raw(&payment(1)), 1).unwrap_err();
    assert_eq!((refused.raw, refused.reason), (raw(&payment(1)), BroadcastFailure::NotStarted));
    let outcomes: Vec<_> = conduit.broadcast_transactions([raw(&payment(1))], options(1)).collect();
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].result.as_ref().unwrap_err().reason, BroadcastFailure::NotStarted);
}

#[test]
fn what_is_over_gives_way_to_what_is_new() {
    let mut scene = Scene::new(config().broadcast_items(2), 1);
    for number in 0..6 {
        let tx = payment(number);
        let broadcast = scene.broadcast(&tx, &options(1).relays(0));
        scene.deliver(0, &tx);
        assert_eq!(broadcast.wait_timeout(PATIENCE).expect("a verdict").verdict, Verdict::Delivered { to: 1 });
    }
    scene.peers[0].raw.fetch(&payment(5));
    scene.peers[0].raw.fetch(&payment(4));
    scene.peers[0].raw.ask(&[payment(0).txid()]);
    scene.peers[0].raw.expect(Command::NOTFOUND);
}
