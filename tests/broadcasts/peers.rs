//! Peers that come, go, want a fee, ask for parents, and say what is not about us.

use conduit::message::OutPoint;
use conduit::testnode::spend;
use conduit::{JourneyState, Messages, Verdict};

use super::support::waits;
use super::*;

fn child_of(parent: &Transaction) -> Transaction {
    spend(&[OutPoint { txid: parent.txid(), index: 0 }], 1)
}

/// The next message that nobody else has claimed.
#[track_caller]
fn next(messages: &Messages) -> Message {
    messages.recv_timeout(PATIENCE).expect("a message").message
}

#[test]
fn who_is_back_is_told_again() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1));
    for _ in 0..3 {
        let peer = &mut scene.peers[0];
        peer.raw.expect_announced(&[tx.txid()]);
        peer.raw.end();
        peer.raw = peer.listener.shake_hands();
    }
    scene.deliver(0, &tx);
    scene.join();
    scene.peers[1].raw.announce(tx.txid());
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert_eq!((&report.verdict, report.peers.len()), (&Verdict::Relayed { by: 1 }, 2));
}

#[test]
fn who_was_told_is_no_witness_when_it_is_back() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1));
    let progress = broadcast.progress();
    scene.deliver(0, &tx);
    until_state(&progress, scene.peers[0].id, |state| *state == JourneyState::Sent);
    let peer = &mut scene.peers[0];
    peer.raw.end();
    peer.raw = peer.listener.shake_hands();
    peer.raw.announce(tx.txid());
    peer.raw.said();
    scene.join();
    scene.peers[1].raw.announce(tx.txid());
    assert_eq!(broadcast.wait_timeout(PATIENCE).expect("a verdict").verdict, Verdict::Relayed { by: 1 });
}

#[test]
fn who_is_lost_before_it_was_sent_is_replaced() {
    let (mut scene, tx) = (Scene::new(config(), 2), payment(1));
    let broadcast = scene.broadcast(&tx, &options(1));
    let progress = broadcast.progress();
    let told = until(&progress, |item| matches!(item, Progress::Peer(_)));
    let Some(Progress::Peer(journey)) = told.last() else { unreachable!() };
    let lost = scene.peers.iter().position(|peer| Some(peer.id) == journey.peer).expect("one of them");
    assert!(scene.conduit.disconnect(scene.peers[lost].id));
    let other = 1 - lost;
    scene.deliver(other, &tx);
    until_state(&progress, scene.peers[other].id, |state| *state == JourneyState::Sent);
}

#[test]
fn who_comes_later_is_told_while_too_few_are() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let broadcast = scene.broadcast(&tx, &options(2).relays(0));
    scene.deliver(0, &tx);
    assert_eq!(broadcast.try_wait(), None);
    scene.join();
    scene.deliver(1, &tx);
    assert_eq!(broadcast.wait_timeout(PATIENCE).expect("a verdict").verdict, Verdict::Delivered { to: 2 });
    scene.join();
    assert_eq!(scene.peers[2].raw.said(), []);
}

#[test]
fn rejects_that_are_not_about_ours_go_to_the_messages() {
    let (mut scene, [tx, theirs]) = (Scene::new(config(), 1), [1, 2].map(payment));
    let messages = scene.conduit.messages().unwrap();
    let broadcast = scene.broadcast(&tx, &options(1));
    scene.join();
    scene.deliver(0, &tx);
    scene.peers[0].raw.reject(theirs.txid(), "not ours");
    assert_eq!(next(&messages), reject(theirs.txid(), "not ours"));
    scene.peers[1].raw.reject(tx.txid(), "not sent it");
    assert_eq!(next(&messages), reject(tx.txid(), "not sent it"));
    assert_eq!((broadcast.report().rejected(), broadcast.try_wait()), (0, None));
    scene.peers[0].raw.reject(tx.txid(), "ours");
    let report = broadcast.wait_timeout(PATIENCE).expect("a verdict");
    assert!(matches!(&report.verdict, Verdict::Rejected { by: 1, reason, .. } if reason == "ours"));
    assert!(messages.try_recv().is_err(), "the broadcast has claimed it");
}

#[test]
fn who_asks_for_a_higher_fee_is_not_told() {
    let (mut scene, tx) = (Scene::new(config(), 1), payment(1));
    let info = |scene: &Scene| scene.conduit.peers().into_iter().find(|peer| peer.id == scene.peers[0].id).unwrap();
    assert_eq!(info(&scene).fee_filter, None);
    scene.peers[0].raw.send(&Message::FeeFilter { satoshis_per_kilobyte: 5_000 });
    waits::until("the filter is known", || info(&scene).fee_filter == Some(5_000));
    let cheap = scene.broadcast(&tx, &options(2).fee(999));
    let report = cheap.report();
    assert_eq!(report.peers[0].state, JourneyState::BelowFeeFilter { fee_filter: 5_000 });
    assert_eq!((report.announced(), report.verdict), (0, Verdict::Unannounced));
    // One that pays, and one of which nobody knows what it pays, are told.
    let others = [2, 3].map(payment);
    let _paying = scene.broadcast(&others[0], &options(1).fee(1_000));
    scene.peers[0].raw.expect_announced(&[others[0].txid()]);
    let _unknown = scene.broadcast(&others[1], &options(1));
    scene.peers[0].raw.expect_announced(&[others[1].txid()]);
    // It asks for less.
    scene.peers[0].raw.send(&Message::FeeFilter { satoshis_per_kilobyte: 4_995 });
    scene.peers[0].raw.expect_announced(&[tx.txid()]);
}

#[test]
fn parents_are_served_and_not_announced() {
    let grandparent = payment(1);
    let parent = child_of(&grandparent);
    let child = child_of(&parent);
    let mut scene = Scene::new(config(), 1);
    let broadcast = scene.broadcast(&child, &options(1).parents([raw(&grandparent), raw(&parent)]));
    scene.deliver(0, &child);
    scene.peers[0].raw.fetch(&parent);
    scene.peers[0].raw.fetch(&grandparent);
    assert_eq!(scene.peers[0].raw.said(), []);
    assert_eq!(broadcast.report().peers.len(), 1);
    broadcast.cancel();
    scene.peers[0].raw.ask(&[child.txid()]);
    scene.peers[0].raw.expect(Command::NOTFOUND);
}

#[test]
fn children_may_come_first() {
    let mut chain = vec![payment(1)];
    (0..5).for_each(|n| chain.push(child_of(&chain[n])));
    for link in 1..chain.len() {
        let mut scene = Scene::new(config(), 1);
        let _child = scene.broadcast(&chain[link], &options(1));
        scene.peers[0].raw.expect_announced(&[chain[link].txid()]);
        scene.peers[0].raw.fetch(&chain[link]);
        // As a node that takes it for an orphan.
        scene.peers[0].raw.ask(&[chain[link - 1].txid()]);
        assert_eq!(
            scene.peers[0].raw.expect(Command::NOTFOUND),
            Message::NotFound(inventory(&[chain[link - 1].txid()]))
        );
        // What it asked for in vain comes as soon as we have it, with or without its announcement.
        let _parent = scene.broadcast(&chain[link - 1], &options(1));
        assert_eq!(scene.peers[0].raw.expect(Command::TX), Message::Tx(chain[link - 1].clone()));
    }
}

#[test]
fn an_orphan_chain_reaches_a_node_that_checks_children_first() {
    let node = TestNode::start(TestNodeConfig::default().blocks(2).checks_inputs(true)).unwrap();
    let coinbase = node.block(1).unwrap().transactions().next().unwrap().txid();
    let mut chain = vec![spend(&[OutPoint { txid: coinbase, index: 0 }], 1)];
    (0..24).for_each(|n| chain.push(child_of(&chain[n])));
    let conduit = connected(config(), std::slice::from_ref(&node));
    for link in chain.iter().rev() {
        let _broadcast = conduit.broadcast_transaction_with(raw(link), &options(1)).unwrap();
    }
    assert!(node.wait_for_mempool(chain.len(), PATIENCE), "{} came", node.mempool_len());
}

#[test]
fn what_we_lack_is_not_found_unless_somebody_takes_the_question() {
    let (mut scene, [ours, unknown]) = (Scene::new(config(), 1), [1, 2].map(payment));
    let _broadcast = scene.broadcast(&ours, &options(1));
    scene.peers[0].raw.expect_announced(&[ours.txid()]);
    scene.peers[0].raw.ask(&[unknown.txid(), ours.txid()]);
    let mut answers = [scene.peers[0].raw.next().unwrap(), scene.peers[0].raw.next().unwrap()];
    answers.sort_by_key(|answer| answer.command() == Command::TX);
    assert_eq!(answers, [Message::NotFound(inventory(&[unknown.txid()])), Message::Tx(ours.clone())]);

    let messages = scene.conduit.messages().unwrap();
    scene.peers[0].raw.ask(&[unknown.txid(), ours.txid()]);
    assert_eq!(scene.peers[0].raw.expect(Command::TX), Message::Tx(ours));
    assert_eq!(next(&messages), Message::GetData(inventory(&[unknown.txid()])));
    assert_eq!(scene.peers[0].raw.said(), []);
}
