//! What every order of events comes to: one verdict, one end.

use super::*;

/// Told to the first so many of the peers; the others listen.
fn begin(peers: u8, options: BroadcastOptions) -> (World, Vec<PeerId>, BroadcastId) {
    let (mut world, peers) = World::connected(peers);
    let broadcast = world.broadcast_with(&transaction(1), &options);
    world.announced();
    (world, peers, broadcast)
}

#[test]
fn as_many_relays_as_wanted_end_it() {
    let (mut world, peers, broadcast) = begin(4, options().relays(2));
    world.deliver(peers[0], txid(1));
    world.hear(peers[1], txid(1));
    world.hear(peers[1], txid(1));
    assert_eq!((world.verdict(broadcast), world.end(broadcast)), (None, None), "one peer is one witness");
    assert_eq!(world.report(broadcast).verdict, Verdict::Relayed { by: 1 });
    world.pass(SECOND);
    world.hear(peers[2], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 2 }));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
    let report = &world.over[&broadcast];
    assert_eq!((report.announced(), report.requested(), report.sent(), report.relayed()), (1, 1, 1, 2));
    assert_eq!(report.first_relayed(), Some(10 * MILLISECOND));
    assert_eq!(report.elapsed, 10 * MILLISECOND + SECOND);
    assert_eq!(report.peers.iter().map(|journey| journey.peer.unwrap()).collect::<Vec<_>>(), peers[..3]);
    assert_eq!(report.listeners, 3);
}

#[test]
fn it_is_relayed_before_anybody_asked() {
    let (mut world, peers, broadcast) = begin(2, options());
    world.hear(peers[1], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
    // It is served on to whoever asks late, which changes nothing.
    world.deliver(peers[0], txid(1));
    assert!(world.reject(peers[0], txid(1), "late").is_some());
    assert_eq!(world.over[&broadcast].sent(), 0);
}

#[test]
fn a_relay_after_a_reject_is_a_split_in_the_report_only() {
    let (mut world, peers, broadcast) = begin(3, options().nodes(2));
    world.deliver(peers[0], txid(1));
    assert_eq!(world.reject(peers[0], txid(1), "bad"), None);
    assert_eq!(world.verdict(broadcast), rejected(1, "bad"));
    assert_eq!(world.end(broadcast), None, "the other may take it");
    world.hear(peers[2], txid(1));
    assert_eq!(world.verdict(broadcast), rejected(1, "bad"));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
    assert_eq!(world.over[&broadcast].verdict, Verdict::Split { relayed: 1, rejected: 1 });
    let settled = world.progress.iter().filter(|(_, progress)| matches!(progress, Progress::Settled(_)));
    assert_eq!(settled.count(), 1);
}

#[test]
fn a_reject_after_a_relay_is_a_split() {
    let (mut world, peers, broadcast) = begin(4, options().relays(2));
    world.deliver(peers[0], txid(1));
    world.hear(peers[1], txid(1));
    world.reject(peers[0], txid(1), "bad");
    assert_eq!(world.verdict(broadcast), Some(Verdict::Split { relayed: 1, rejected: 1 }));
    assert_eq!(world.end(broadcast), None, "some node has it, so it is not rejected by all");
    world.hear(peers[2], txid(1));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
    assert_eq!(world.over[&broadcast].verdict, Verdict::Split { relayed: 2, rejected: 1 });
}

#[test]
fn without_settle_on_reject_the_verdict_waits_for_all() {
    let (mut world, peers, broadcast) = begin(3, options().nodes(2).settle_on_reject(false));
    for &peer in &peers[..2] {
        assert_eq!(world.verdict(broadcast), None);
        world.deliver(peer, txid(1));
        world.reject(peer, txid(1), &format!("{peer:?}"));
    }
    assert_eq!(world.verdict(broadcast), rejected(2, &format!("{:?}", peers[0])));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Rejected));
}

#[test]
fn all_have_rejected_it_though_one_is_lost_whatever_comes_first() {
    for lost_first in [true, false] {
        let (mut world, peers, broadcast) = begin(2, options().nodes(2).settle_on_reject(false));
        world.deliver(peers[0], txid(1));
        if lost_first {
            world.lose(peers[1]);
        }
        world.reject(peers[0], txid(1), "bad");
        if !lost_first {
            world.lose(peers[1]);
        }
        assert_eq!(world.end(broadcast), Some(BroadcastEnd::Rejected));
    }
}

#[test]
fn a_peer_that_was_sent_it_and_is_lost_has_not_rejected_it() {
    let (mut world, peers, broadcast) = begin(2, options().nodes(2).settle_on_reject(false));
    for &peer in &peers {
        world.deliver(peer, txid(1));
    }
    world.lose(peers[1]);
    assert_eq!(world.report(broadcast).not_heard(), 1, "its connection ended");
    world.reject(peers[0], txid(1), "bad");
    assert_eq!(world.end(broadcast), None);
    world.pass(20 * SECOND);
    assert_eq!(world.verdict(broadcast), rejected(1, "bad"));
}

#[test]
fn another_is_told_in_place_of_a_lost_one_and_must_reject_it_too() {
    let (mut world, peers, broadcast) = begin(3, options().nodes(2).settle_on_reject(false));
    world.deliver(peers[0], txid(1));
    world.reject(peers[0], txid(1), "bad");
    world.lose(peers[1]);
    assert_eq!(world.told(), [(peers[2], txid(1))]);
    assert_eq!(world.end(broadcast), None);
    world.deliver(peers[2], txid(1));
    world.reject(peers[2], txid(1), "bad");
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Rejected));
    assert_eq!(world.verdict(broadcast), rejected(2, "bad"));
}

#[test]
fn the_deadline_gives_the_verdict_at_every_stage() {
    // Nobody is there.
    let mut world = World::new(config());
    world.start();
    let broadcast = world.broadcast(1, 1);
    world.pass(20 * SECOND - MILLISECOND);
    assert_eq!(world.verdict(broadcast), None);
    world.pass(MILLISECOND);
    assert_eq!(world.verdict(broadcast), Some(Verdict::Unannounced));
    assert_eq!(world.end(broadcast), None, "it is announced to whoever comes later");

    // Chosen, but the announcement waits: here for the file.
    let (mut world, _) = World::connected(1);
    world.engine.restore_broadcasts(world.now, Vec::new());
    let broadcast = world.broadcast(1, 1);
    world.pass(20 * SECOND);
    assert_eq!(world.verdict(broadcast), Some(Verdict::Unannounced));
    assert_eq!(world.settled[&broadcast].peers, []);

    for (stage, expected) in
        [Verdict::Unrequested, Verdict::Unrequested, Verdict::Delivered { to: 1 }].into_iter().enumerate()
    {
        let (mut world, peers, broadcast) = begin(1, options());
        if stage > 0 {
            world.say(peers[0], get_transaction(1));
        }
        if stage > 1 {
            world.serve(peers[0], 1);
        }
        world.pass(20 * SECOND);
        assert_eq!(world.verdict(broadcast), Some(expected));
        assert_eq!(world.end(broadcast), None);
        let journey = &world.settled[&broadcast].peers[0];
        assert_eq!(journey.state, JourneyState::NotHeard);
        assert_eq!((journey.requested.is_some(), journey.sent.is_some()), (stage > 0, stage > 1));
        assert_eq!(world.receipts().last(), Some(&(peers[0], JourneyState::NotHeard)));
    }
}

#[test]
fn what_is_heard_after_the_verdict_goes_into_the_report() {
    let (mut world, peers, broadcast) = begin(3, options().nodes(2).relays(2));
    world.pass(20 * SECOND);
    assert_eq!(world.verdict(broadcast), Some(Verdict::Unrequested));
    world.receipts();
    world.deliver(peers[0], txid(1));
    assert_eq!(world.receipts(), [(peers[0], Requested), (peers[0], Sent)]);
    assert_eq!(world.report(broadcast).verdict, Verdict::Delivered { to: 1 });
    world.hear(peers[2], txid(1));
    assert_eq!(world.report(broadcast).verdict, Verdict::Relayed { by: 1 });
    world.reject(peers[0], txid(1), "bad");
    assert_eq!(world.report(broadcast).verdict, Verdict::Split { relayed: 1, rejected: 1 });
    assert_eq!(world.verdict(broadcast), Some(Verdict::Unrequested), "the verdict stays");
}

#[test]
fn without_relays_it_is_over_once_enough_were_sent_it() {
    let (mut world, peers, broadcast) = begin(3, options().nodes(2).relays(0));
    world.deliver(peers[0], txid(1));
    assert_eq!(world.verdict(broadcast), None);
    world.deliver(peers[1], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Delivered { to: 2 }));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Delivered));
}

#[test]
fn without_relays_a_relay_is_noted_and_does_not_end_it() {
    let (mut world, peers, broadcast) = begin(2, options().relays(0));
    world.hear(peers[1], txid(1));
    assert_eq!((world.verdict(broadcast), world.end(broadcast)), (None, None));
    world.deliver(peers[0], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Delivered));
}

#[test]
fn without_relays_and_with_too_few_peers_it_is_over_at_the_deadline() {
    let (mut world, peers, broadcast) = begin(1, options().nodes(2).relays(0));
    world.deliver(peers[0], txid(1));
    assert_eq!(world.end(broadcast), None, "another may come");
    world.pass(20 * SECOND);
    assert_eq!(world.verdict(broadcast), Some(Verdict::Delivered { to: 1 }));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Delivered));
}

#[test]
fn without_relays_the_first_sent_after_the_deadline_ends_it() {
    let (mut world, peers, broadcast) = begin(1, options().nodes(2).relays(0));
    world.pass(20 * SECOND);
    assert_eq!(world.verdict(broadcast), Some(Verdict::Unrequested));
    assert_eq!(world.end(broadcast), None, "nobody has it yet");
    world.deliver(peers[0], txid(1));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Delivered));
}

#[test]
fn with_relays_the_deadline_never_ends_it() {
    let (mut world, peers, broadcast) = begin(1, options());
    world.deliver(peers[0], txid(1));
    world.pass(21 * SECOND);
    assert_eq!(world.verdict(broadcast), Some(Verdict::Delivered { to: 1 }));
    assert_eq!(world.end(broadcast), None);
}

#[test]
fn too_few_listeners_are_told_with_the_verdict() {
    for (wanted, relays, too_few) in [(1, 1, false), (2, 1, false), (3, 1, true), (1, 2, false), (1, 3, true)] {
        let (mut world, peers, broadcast) = begin(3, options().listeners(wanted).relays(relays));
        assert_eq!(world.report(broadcast).too_few_listeners, too_few);
        world.deliver(peers[0], txid(1));
        world.pass(20 * SECOND);
        let report = &world.settled[&broadcast];
        assert_eq!((report.listeners, report.too_few_listeners), (2, too_few), "{wanted}, {relays}");
    }
}

#[test]
fn listeners_lost_after_the_verdict_do_not_change_what_it_rested_on() {
    let (mut world, peers, broadcast) = begin(2, options());
    world.pass(20 * SECOND);
    world.lose(peers[1]);
    let report = world.report(broadcast);
    assert_eq!((report.listeners, report.too_few_listeners), (0, false));
}

#[test]
fn confirmed_and_cancelled_at_every_stage() {
    for confirmed in [true, false] {
        for stage in 0..6 {
            let (mut world, peers, broadcast) = begin(3, options().nodes(2).relays(2));
            if stage > 0 {
                world.say(peers[0], get_transaction(1));
            }
            if stage > 1 {
                world.serve(peers[0], 1);
            }
            match stage {
                3 => world.hear(peers[2], txid(1)),
                4 => drop(world.reject(peers[0], txid(1), "bad")),
                5 => world.pass(20 * SECOND),
                _ => {}
            }
            let before = world.verdict(broadcast);
            assert_eq!(before.is_some(), stage > 3);
            let live = world.report(broadcast).verdict;
            if confirmed {
                let txids = [txid(7), txid(1), txid(1)];
                let count = world.run(|engine, now| engine.confirm(now, hash(9), txids));
                assert_eq!(count, 1, "each once");
            } else {
                world.run(|engine, now| engine.cancel_broadcast(now, broadcast));
                world.run(|engine, now| engine.cancel_broadcast(now, broadcast));
            }
            let last = if confirmed { Verdict::Mined { block: hash(9) } } else { live };
            let end = if confirmed { BroadcastEnd::Mined } else { BroadcastEnd::Cancelled };
            assert_eq!(world.over[&broadcast].verdict, last);
            assert_eq!(world.end(broadcast), Some(end));
            assert_eq!(world.verdict(broadcast), before.or(Some(last)));
            assert!(world.say(peers[0], get_transaction(1)).is_some(), "it is not held any more");
        }
    }
}

#[test]
fn joining_before_the_verdict_asks_for_the_more_of_both() {
    let (mut world, peers, broadcast) = begin(4, options());
    world.pass(10 * SECOND);
    let more = options().relays(2).listeners(3).settle_on_reject(false).lifetime(2_000 * SECOND);
    assert_eq!(world.broadcast_with(&transaction(1), &more), broadcast);
    assert_eq!(world.broadcast_with(&transaction(1), &options().deadline(SECOND)), broadcast);
    world.hear(peers[1], txid(1));
    assert_eq!(world.verdict(broadcast), None, "the second caller wants two");
    world.deliver(peers[0], txid(1));
    world.reject(peers[0], txid(1), "bad");
    world.pass(19 * SECOND);
    assert_eq!(world.verdict(broadcast), None, "its deadline is the later one");
    world.pass(SECOND);
    assert_eq!(world.verdict(broadcast), Some(Verdict::Split { relayed: 1, rejected: 1 }));
    assert!(!world.settled[&broadcast].too_few_listeners);
    world.pass(1_979 * SECOND);
    assert_eq!(world.end(broadcast), None);
    world.pass(SECOND);
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Expired));
}

#[test]
fn joining_after_the_verdict_gets_it_at_once() {
    let (mut world, peers, broadcast) = begin(3, options().deadline(SECOND));
    world.pass(SECOND);
    assert_eq!(world.broadcast_with(&transaction(1), &options().nodes(2)), broadcast);
    let (report, is_settled) = world.engine.follow_broadcast(world.now, broadcast).unwrap();
    assert!(is_settled);
    assert_eq!(report.verdict, Verdict::Unrequested);
    assert_eq!(world.told(), [(peers[1], txid(1))], "it goes on");
    world.pass(30 * SECOND);
}

#[test]
fn what_is_over_begins_anew_with_a_verdict_of_its_own() {
    let (mut world, peers, broadcast) = begin(3, options());
    world.hear(peers[1], txid(1));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
    world.pass(SECOND);
    assert_eq!(world.broadcast_with(&transaction(1), &options()), broadcast);
    assert_eq!(world.told(), [(peers[0], txid(1))]);
    let report = world.report(broadcast);
    assert_eq!((report.verdict, report.elapsed), (Verdict::Unrequested, 10 * MILLISECOND));
    world.hear(peers[2], txid(1));
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Relayed));
}

#[test]
fn its_lifetime_is_the_callers_or_else_the_settings() {
    let (mut world, _) = World::connected_with(config().broadcast_lifetime(100 * SECOND), 1);
    let usual = world.broadcast(1, 1);
    let long = world.broadcast_with(&transaction(2), &options().lifetime(300 * SECOND));
    let short = world.broadcast_with(&transaction(3), &options().lifetime(5 * SECOND));
    world.pass(5 * SECOND);
    assert_eq!(world.verdict(short), Some(Verdict::Unrequested), "a deadline beyond the lifetime ends with it");
    assert_eq!(world.end(short), Some(BroadcastEnd::Expired));
    world.pass(95 * SECOND);
    assert_eq!(world.end(usual), Some(BroadcastEnd::Expired));
    world.pass(199 * SECOND);
    assert_eq!(world.end(long), None);
    world.pass(SECOND);
    assert_eq!(world.end(long), Some(BroadcastEnd::Expired));
}

#[test]
fn shutdown_gives_every_verdict() {
    let (mut world, _, broadcast) = begin(1, options());
    let other = world.broadcast(2, 1);
    world.run(|engine, now| engine.fail_all(now, &RequestError::Shutdown));
    for broadcast in [broadcast, other] {
        assert_eq!(world.end(broadcast), Some(BroadcastEnd::Shutdown));
        assert_eq!(world.verdict(broadcast), Some(Verdict::Unrequested));
    }
}
