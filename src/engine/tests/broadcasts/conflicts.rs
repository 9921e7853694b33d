//! Transactions that spend what one of ours spends.

use super::*;
use crate::block::merkle_root;
use crate::broadcast::{Conflict, ConflictSource};
use crate::message::{DoubleSpendFork, DsDetected, MerkleProof, ProofSubject, ProofTarget};

fn rival(n: u32) -> Transaction {
    spending(&[(txid(900), 0)], &[1], n)
}

fn conflicts(world: &mut World) -> Vec<(BroadcastId, Conflict)> {
    let conflicts = world.progress.drain(..).filter_map(|(broadcast, progress)| match progress {
        Progress::Conflict(conflict) => Some((broadcast, conflict)),
        _ => None,
    });
    conflicts.collect()
}

fn fork(transaction: &Transaction) -> DoubleSpendFork {
    let txids = [txid(99), transaction.txid()];
    let root = merkle_root(txids).unwrap();
    let header = BlockHeader { merkle_root: root, ..header_after(BlockHash::ZERO, 1) };
    let mut proof = MerkleProof::new(&txids, 1, ProofTarget::MerkleRoot(root)).unwrap();
    proof.subject = ProofSubject::Transaction(transaction.clone());
    DoubleSpendFork { headers: vec![header], proof }
}

#[test]
fn our_own_rivals_are_told_of_each_other() {
    let (mut world, peers) = World::connected(2);
    let one = world.broadcast_with(&rival(1), &options());
    let two = world.broadcast_with(&rival(2), &options());
    let conflict = |n| Conflict { rival: rival(n).txid(), source: ConflictSource::Broadcast };
    assert_eq!(conflicts(&mut world), [(one, conflict(2))]);
    assert_eq!(world.report(one).conflicts, [conflict(2)]);
    assert_eq!(world.report(two).conflicts, [conflict(1)], "it was there before anybody followed it");
    // One that is over is a rival yet.
    world.hear(peers[1], rival(1).txid());
    let three = world.broadcast_with(&rival(3), &options());
    assert_eq!(world.report(three).conflicts, [conflict(1), conflict(2)]);
    assert_eq!(conflicts(&mut world), [(two, conflict(3))]);
}

#[test]
fn a_rival_that_peers_send_is_told_once() {
    let (mut world, peers) = World::connected(2);
    let broadcast = world.broadcast_with(&rival(1), &options());
    world.say(peers[1], Message::Tx(rival(1)));
    assert_eq!(conflicts(&mut world), [], "our own is no rival of itself");
    world.say(peers[1], Message::Tx(spending(&[(txid(900), 1)], &[1], 2)));
    assert_eq!(conflicts(&mut world), [], "another output");
    let heard = spending(&[(txid(700), 3), (txid(900), 0)], &[], 2);
    for &peer in peers.iter().rev() {
        world.say(peer, Message::Tx(heard.clone()));
    }
    let source = ConflictSource::Transaction { peer: peers[1] };
    assert_eq!(conflicts(&mut world), [(broadcast, Conflict { rival: heard.txid(), source })]);
}

#[test]
fn a_notice_of_a_double_spend_counts_if_it_is_valid() {
    let (mut world, peers) = World::connected(2);
    let broadcast = world.broadcast_with(&rival(1), &options());
    let notice = DsDetected { version: 1, forks: [1, 2, 3].map(|n| fork(&rival(n))).to_vec() };
    for fault in 0..4 {
        let mut notice = notice.clone();
        match fault {
            0 => notice.version = 2,
            1 => notice.forks.truncate(1),
            2 => notice.forks[1].headers[0].merkle_root = MerkleRoot::ZERO,
            _ => notice.forks[1].proof.index = 0,
        }
        let message = Message::DsDetected(notice);
        assert_eq!(world.say(peers[0], message.clone()), Some(message));
    }
    assert_eq!(conflicts(&mut world), []);
    let message = Message::DsDetected(notice.clone());
    for &peer in &peers {
        assert_eq!(world.say(peer, message.clone()), Some(message.clone()), "it is news for everybody");
    }
    let conflict = |n: usize| {
        let source = ConflictSource::Block { peer: peers[0], block: notice.forks[n - 1].headers[0].hash() };
        (broadcast, Conflict { rival: rival(n as u32).txid(), source })
    };
    assert_eq!(conflicts(&mut world), [conflict(2), conflict(3)], "our own txid is none");
}

#[test]
fn the_first_sixteen_rivals_are_told() {
    let (mut world, peers) = World::connected(2);
    let broadcast = world.broadcast_with(&rival(0), &options());
    for n in 1..30 {
        world.say(peers[0], Message::Tx(rival(n)));
        world.say(peers[1], Message::Tx(rival(n)));
    }
    let told: Vec<_> = world.report(broadcast).conflicts.iter().map(|conflict| conflict.rival).collect();
    assert_eq!(told, (1..=16).map(|n| rival(n).txid()).collect::<Vec<_>>());
    assert_eq!(conflicts(&mut world).len(), 16);
}

#[test]
fn nobody_is_told_of_rivals_once_it_is_over() {
    let (mut world, peers) = World::connected(2);
    world.broadcast_with(&rival(1), &options());
    world.hear(peers[1], rival(1).txid());
    world.say(peers[1], Message::Tx(rival(2)));
    assert_eq!(conflicts(&mut world), []);
}
