//! Rivals: transactions heard of that spend what one of ours spends.

use conduit::message::OutPoint;
use conduit::testnode::{double_spend_notice, spend};
use conduit::wire::BlockHash;
use conduit::{Conflict, ConflictSource, Verdict};

use super::*;

fn rivals() -> [Transaction; 2] {
    let spent = OutPoint { txid: payment(9).txid(), index: 0 };
    [1, 2].map(|value| spend(&[spent], value))
}

#[track_caller]
fn conflict(broadcast: &Broadcast) -> (Txid, ConflictSource) {
    let all = until(&broadcast.progress(), |item| matches!(item, Progress::Conflict(_)));
    let Some(Progress::Conflict(Conflict { rival, source, .. })) = all.last() else { unreachable!() };
    let conflicts = broadcast.report().conflicts;
    assert_eq!((conflicts.len(), conflicts[0].rival, &conflicts[0].source), (1, *rival, source));
    (*rival, source.clone())
}

#[test]
fn a_rival_that_a_peer_sends_is_told() {
    let [ours, theirs] = rivals();
    let mut scene = Scene::new(config(), 1);
    let broadcast = scene.broadcast(&ours, &options(1));
    let peer = scene.peers[0].id;
    // Itself and what spends something else is no rival.
    for sent in [&ours, &payment(3), &theirs] {
        scene.peers[0].raw.send(&Message::Tx(sent.clone()));
    }
    assert_eq!(conflict(&broadcast), (theirs.txid(), ConflictSource::Transaction { peer }));
    assert_eq!(broadcast.try_wait(), None);
    broadcast.cancel();
    assert_eq!(broadcast.wait().conflicts.len(), 1);
}

#[test]
fn a_rival_in_a_block_is_told_if_it_is_proven() {
    let [ours, theirs] = rivals();
    let mut scene = Scene::new(config(), 1);
    let messages = scene.conduit.messages().unwrap();
    let broadcast = scene.broadcast(&ours, &options(1));
    let peer = scene.peers[0].id;
    let notice = double_spend_notice(BlockHash::from_wire([1; 32]), &[ours.clone(), theirs.clone()]);
    let block = notice.forks[1].headers[0].hash();
    let mut unproven = notice.clone();
    unproven.forks[1].headers[0].merkle_root = conduit::MerkleRoot::ZERO;
    scene.peers[0].raw.send(&Message::DsDetected(unproven.clone()));
    assert_eq!(messages.recv_timeout(PATIENCE).unwrap().message, Message::DsDetected(unproven));
    assert_eq!(broadcast.report().conflicts, []);
    scene.peers[0].raw.send(&Message::DsDetected(notice));
    assert_eq!(conflict(&broadcast), (theirs.txid(), ConflictSource::Block { peer, block }));
}

#[test]
fn rivals_of_our_own_know_of_each_other() {
    let scene = Scene::new(config(), 0);
    let [one, two] = rivals().map(|rival| (scene.broadcast(&rival, &options(1)), rival.txid()));
    assert_eq!(conflict(&one.0), (two.1, ConflictSource::Broadcast));
    assert_eq!(conflict(&two.0), (one.1, ConflictSource::Broadcast));
    assert_eq!(one.0.report().verdict, Verdict::Unannounced);
}
