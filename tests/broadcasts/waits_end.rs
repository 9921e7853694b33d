//! Nobody waits for ever: futures, progress and waits end with the verdict, and all of them with the conduit.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use conduit::error::BroadcastFailure;
use conduit::{BroadcastEnd, Verdict};

use super::support::waits;
use super::*;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future in this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}

#[test]
fn futures_of_one_broadcast_resolve_in_all_threads() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1));
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let broadcast = broadcast.clone();
            waits::call(move || block_on(broadcast))
        })
        .collect();
    scene.deliver(0, &tx);
    assert!(calls.iter().all(waits::Call::is_blocked));
    scene.peers[0].raw.reject(tx.txid(), "bad");
    for call in calls {
        assert!(matches!(call.result().verdict, Verdict::Rejected { by: 1, .. }));
    }
    assert!(matches!(block_on(broadcast).verdict, Verdict::Rejected { by: 1, .. }), "ready at once");
}

#[test]
fn shutdown_ends_every_wait() {
    let (mut scene, tx) = (Scene::new(config().broadcast_items(1), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1));
    scene.peers[0].raw.expect_announced(&[tx.txid()]);
    let with = |work: fn(Broadcast) -> Option<BroadcastEnd>| {
        let broadcast = broadcast.clone();
        waits::call(move || work(broadcast))
    };
    let ends = [
        with(|broadcast| broadcast.wait().end),
        with(|broadcast| broadcast.wait_timeout(PATIENCE)?.end),
        with(|broadcast| block_on(broadcast).end),
    ];
    let progress = with(|broadcast| match broadcast.progress().last() {
        Some(Progress::Over(end)) => Some(end),
        other => panic!("{other:?} is last"),
    });
    let conduit = scene.conduit.clone();
    let room = waits::call(move || conduit.broadcast_transaction_with(raw(&payment(2)), &options(1)));
    let conduit = scene.conduit.clone();
    let many = waits::call(move || {
        conduit.broadcast_transactions([raw(&tx), raw(&payment(3))], options(1)).collect::<Vec<_>>()
    });
    scene.conduit.shutdown();
    for end in ends {
        // The verdict was given by the end, or just before it.
        assert!(matches!(end.result(), None | Some(BroadcastEnd::Shutdown)));
    }
    assert_eq!(progress.result(), Some(BroadcastEnd::Shutdown));
    assert_eq!(room.result().unwrap_err().reason, BroadcastFailure::Shutdown);
    many.result();
    let report = broadcast.report();
    assert_eq!((report.end, report.verdict), (Some(BroadcastEnd::Shutdown), Verdict::Unrequested));
    assert!(scene.conduit.broadcasts().is_empty());
    let refused = scene.conduit.broadcast_transaction(raw(&payment(4)), 1).unwrap_err();
    assert_eq!(refused.reason, BroadcastFailure::Shutdown);
    drop(scene);
    broadcast.cancel();
    assert_eq!(broadcast.progress().last(), Some(Progress::Over(BroadcastEnd::Shutdown)));
}

#[test]
fn a_handle_outlives_its_conduit() {
    let scene = Scene::new(config(), 0);
    let broadcast = scene.broadcast(&payment(1), &options(1));
    let call = waits::call({
        let broadcast = broadcast.clone();
        move || broadcast.wait().verdict
    });
    drop(scene);
    assert_eq!(call.result(), Verdict::Unannounced);
    assert_eq!(broadcast.report().end, Some(BroadcastEnd::Shutdown));
}
