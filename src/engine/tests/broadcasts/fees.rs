//! Peers that ask for more than a transaction pays are not told of it.

use super::*;

fn fee_filter(satoshis_per_kilobyte: i64) -> Message {
    Message::FeeFilter { satoshis_per_kilobyte }
}

/// Spends an output that no transaction held has.
fn paying(n: u32) -> Transaction {
    spending(&[(txid(900), 0)], &[1_000], n)
}

fn below(peer: PeerId, fee_filter: u64) -> (PeerId, JourneyState) {
    (peer, JourneyState::BelowFeeFilter { fee_filter })
}

#[test]
fn a_known_fee_below_a_filter_leaves_the_peer_out() {
    let (mut world, peers) = World::connected(3);
    let transaction = paying(1);
    let len = transaction.raw().len() as u64;
    // Just below and exactly the rate it pays.
    world.say(peers[0], fee_filter(1_001));
    world.say(peers[1], fee_filter(1_000));
    let broadcast = world.broadcast_with(&transaction, &options().nodes(2).fee(len));
    assert_eq!(world.told(), [(peers[1], transaction.txid()), (peers[2], transaction.txid())]);
    assert_eq!(world.report(broadcast).peers[0].state, JourneyState::BelowFeeFilter { fee_filter: 1_001 });
    assert_eq!(world.report(broadcast).listeners, 1, "it was not told");
    // It may have heard of it elsewhere, and may ask.
    world.deliver(peers[0], transaction.txid());
    assert_eq!(world.report(broadcast).peers[0].state, Sent);
}

#[test]
fn a_left_out_peer_that_announces_it_is_a_witness() {
    let (mut world, peers) = World::connected(2);
    world.say(peers[0], fee_filter(5_000));
    let broadcast = world.broadcast_with(&paying(1), &options().fee(1));
    world.hear(peers[0], paying(1).txid());
    assert_eq!(world.verdict(broadcast), Some(Verdict::Relayed { by: 1 }));
}

#[test]
fn an_unknown_fee_leaves_nobody_out() {
    let (mut world, peers) = World::connected(1);
    world.say(peers[0], fee_filter(1_000_000));
    world.broadcast_with(&paying(1), &options());
    assert_eq!(world.told(), [(peers[0], paying(1).txid())]);
}

#[test]
fn the_fee_follows_from_parents_that_are_held() {
    let (mut world, peers) = World::connected(1);
    let parents = [spending(&[(txid(900), 0)], &[500, 700], 1), spending(&[(txid(901), 0)], &[300], 2)];
    let spent = [(parents[0].txid(), 1), (parents[0].txid(), 0), (parents[1].txid(), 0)];
    let size = spending(&spent, &[0, 0], 0).raw().len() as i64;
    // It pays 500 of 1,500.
    let rate = 500_000 / size;
    for (n, filter, is_told) in [(1, rate, true), (2, rate + 1, false)] {
        let child = spending(&spent, &[600, 400], n);
        world.say(peers[0], fee_filter(filter));
        world.broadcast_with(&child, &options().parents([raw(&parents[0]), raw(&parents[1])]));
        assert_eq!(world.told().len(), usize::from(is_told), "{filter}");
    }
    // One of what it spends is not known, or is not there, or it pays out more than it spends.
    world.say(peers[0], fee_filter(1_000_000));
    for (n, spent, paid) in [
        (3, [(parents[0].txid(), 0), (txid(800), 0)], 1),
        (4, [(parents[0].txid(), 0), (parents[0].txid(), 2)], 1),
        (5, [(parents[0].txid(), 0), (parents[0].txid(), 1)], 1_201),
        (6, [(parents[0].txid(), 0), (parents[0].txid(), 1)], i64::MAX),
    ] {
        let child = spending(&spent, &[paid, 0], n);
        world.broadcast_with(&child, &options());
        assert_eq!(world.told(), [(peers[0], child.txid())], "{n}");
    }
}

#[test]
fn a_lowered_filter_lets_the_peer_be_told_at_once() {
    let (mut world, peers) = World::connected(1);
    world.say(peers[0], fee_filter(9_577_383));
    let broadcast = world.broadcast_with(&paying(1), &options().fee(10));
    assert_eq!(world.told(), []);
    assert_eq!(world.receipts(), [], "nothing was told to whoever follows it later");
    world.say(peers[0], fee_filter(0));
    assert_eq!(world.told(), [(peers[0], paying(1).txid())]);
    assert_eq!(world.report(broadcast).peers[0].state, Announced);
}

#[test]
fn a_peer_that_lowers_its_filter_again_and_again_has_to_wait() {
    let config = config().rebroadcast_interval(100 * SECOND);
    let (mut world, peers) = World::connected_with(config, 1);
    world.say(peers[0], fee_filter(9_000_000));
    world.broadcast_with(&paying(1), &options().fee(10));
    world.say(peers[0], fee_filter(8_000_000));
    world.say(peers[0], fee_filter(0));
    assert_eq!(world.told(), []);
    world.pass(100 * SECOND);
    assert_eq!(world.told(), [(peers[0], paying(1).txid())]);
}

#[test]
fn what_is_no_rate_changes_nothing() {
    let (mut world, peers) = World::connected(1);
    world.say(peers[0], fee_filter(5_000));
    for nonsense in [-1, i64::MIN, 2_100_000_000_000_001] {
        world.say(peers[0], fee_filter(nonsense));
    }
    world.broadcast_with(&paying(1), &options().fee(0));
    assert_eq!(world.told(), []);
    assert_eq!(world.engine.peers(world.now)[0].fee_filter, Some(5_000));
}

#[test]
fn a_peer_told_before_it_named_its_filter_is_not_told_again() {
    let config = config().rebroadcast_interval(100 * SECOND);
    let (mut world, peers) = World::connected_with(config, 2);
    let broadcast = world.broadcast_with(&paying(1), &options().fee(10));
    assert_eq!(world.told(), [(peers[0], paying(1).txid())]);
    world.say(peers[0], fee_filter(9_000_000));
    world.pass(100 * SECOND);
    assert_eq!(world.told(), []);
    assert_eq!(world.report(broadcast).listeners, 1, "it was told all the same");
    assert!(!world.receipts().contains(&below(peers[0], 9_000_000)));
}

#[test]
fn with_all_filters_above_the_fee_all_are_left_out() {
    let (mut world, peers) = World::connected(9);
    peers[..8].iter().for_each(|&peer| drop(world.say(peer, fee_filter(5_000))));
    let broadcast = world.broadcast_with(&paying(1), &options().fee(0));
    assert_eq!(world.told(), [(peers[8], paying(1).txid())], "the last of all");
    assert_eq!(world.report(broadcast).peers.len(), 9);
}
