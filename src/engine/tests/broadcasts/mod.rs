//! How transactions are announced and served, and what is told of it.

mod conflicts;
mod fees;
mod keeping;
mod load;
mod parents;
mod room;
mod telling;
mod verdicts;
mod witnesses;

use super::*;
use crate::broadcast::{BroadcastEnd, BroadcastOptions, JourneyState, Verdict};
use crate::error::BroadcastFailure;
use crate::message::{OutPoint, Reject, RejectCode, TransactionInput, TransactionOutput};

use JourneyState::{Announced, Rejected, Relayed, Requested, Sent};

fn config() -> Config {
    Config::new(Network::Regtest)
}

impl World {
    fn broadcast(&mut self, n: u32, nodes: usize) -> BroadcastId {
        self.broadcast_with(&transaction(n), &BroadcastOptions::new().nodes(nodes))
    }

    fn broadcast_with(&mut self, transaction: &Transaction, options: &BroadcastOptions) -> BroadcastId {
        self.try_broadcast(transaction, options).expect("there is room for the transaction")
    }

    /// Lets what is gathered be announced, and gives what was sent since the last look.
    fn announced(&mut self) -> Vec<(PeerId, Message)> {
        self.pass(10 * MILLISECOND);
        self.sent()
    }

    /// What peers did since the last look.
    fn receipts(&mut self) -> Vec<(PeerId, JourneyState)> {
        let journeys = self.progress.drain(..).filter_map(|(_, progress)| match progress {
            Progress::Peer(journey) => Some((journey.peer?, journey.state)),
            _ => None,
        });
        journeys.collect()
    }

    fn verdict(&self, broadcast: BroadcastId) -> Option<Verdict> {
        self.settled.get(&broadcast).map(|report| report.verdict.clone())
    }

    fn end(&self, broadcast: BroadcastId) -> Option<BroadcastEnd> {
        self.over.get(&broadcast).and_then(|report| report.end)
    }

    fn report(&self, broadcast: BroadcastId) -> BroadcastReport {
        self.engine.broadcast_report(self.now, broadcast).expect("it is open")
    }

    /// A peer asks for a transaction and is sent it.
    fn deliver(&mut self, peer: PeerId, txid: Txid) {
        assert_eq!(self.say(peer, Message::GetData(vec![Inventory::transaction(txid)])), None);
        assert_eq!(self.serve(peer, 1), 1, "it is sent");
    }

    /// A peer announces a transaction.
    fn hear(&mut self, peer: PeerId, txid: Txid) {
        self.say(peer, Message::Inv(vec![Inventory::transaction(txid)]));
    }

    fn reject(&mut self, peer: PeerId, txid: Txid, reason: &str) -> Option<Message> {
        self.say(peer, reject(txid, reason))
    }

    /// What each peer was told since the last look, in order.
    fn told(&mut self) -> Vec<(PeerId, Txid)> {
        let mut told = Vec::new();
        for (peer, message) in self.announced() {
            match message {
                Message::Inv(items) => {
                    told.extend(items.iter().filter_map(Inventory::txid).map(|txid| (peer, txid)))
                }
                // It is checked.
                Message::GetHeaders(_) => {}
                other => panic!("not an announcement: {other:?}"),
            }
        }
        told
    }

    /// Gives up to so many transactions that a peer is sent.
    fn served(&mut self, peer: PeerId) -> Vec<Txid> {
        let mut served = Vec::new();
        while let Some(next) = self.engine.next_to_serve(peer) {
            let raw = next.payload().to_vec();
            served.push(Transaction::from_raw(raw).expect("it is one").txid());
            self.engine.mark_served(self.now, peer);
        }
        self.settle();
        served
    }

    /// Sends a peer what it asked for, at most so much.
    fn serve(&mut self, peer: PeerId, most: usize) -> usize {
        let mut served = 0;
        while served < most && self.engine.next_to_serve(peer).is_some() {
            self.engine.mark_served(self.now, peer);
            served += 1;
        }
        self.settle();
        served
    }
}

fn options() -> BroadcastOptions {
    BroadcastOptions::new().nodes(1)
}

fn reject(txid: Txid, reason: &str) -> Message {
    let hash = Some(*txid.as_wire());
    Message::Reject(Box::new(Reject {
        message: "tx".into(),
        code: RejectCode::Invalid,
        reason: reason.into(),
        hash,
    }))
}

fn rejected(by: usize, reason: &str) -> Option<Verdict> {
    Some(Verdict::Rejected { by, code: RejectCode::Invalid, reason: reason.to_owned() })
}

/// A transaction that spends these outputs, and has outputs of these values.
fn spending(outputs: &[(Txid, u32)], values: &[i64], n: u32) -> Transaction {
    let input = |&(txid, index): &(Txid, u32)| TransactionInput {
        previous_output: OutPoint { txid, index },
        script_sig: &[],
        sequence: 0,
    };
    let inputs: Vec<_> = outputs.iter().map(input).collect();
    let outputs: Vec<_> = values.iter().map(|&value| TransactionOutput { value, script_pubkey: &[] }).collect();
    Transaction::new(1, &inputs, &outputs, n)
}

fn raw(transaction: &Transaction) -> Vec<u8> {
    transaction.raw().to_vec()
}

fn announcement(ns: impl IntoIterator<Item = u32>) -> Message {
    Message::Inv(ns.into_iter().map(|n| Inventory::transaction(txid(n))).collect())
}

#[test]
fn the_best_peers_are_told_and_the_others_listen() {
    let (mut world, peers) = World::connected(5);
    world.pause(peers[1], true);
    let broadcast = world.broadcast(1, 2);
    assert_eq!(world.sent(), [(peers[0], announcement([1])), (peers[2], announcement([1]))]);
    assert_eq!(world.receipts(), [(peers[0], Announced), (peers[2], Announced)]);
    assert_eq!(world.engine.broadcast_report(world.now, broadcast).unwrap().listeners, 2);
}

#[test]
fn a_transaction_is_served_once_for_each_time_it_is_asked() {
    let (mut world, peers) = World::connected(1);
    world.broadcast(1, 1);
    world.receipts();
    assert_eq!(world.say(peers[0], get_transaction(1)), None);
    assert_eq!(world.serves, peers);
    let served = world.engine.next_to_serve(peers[0]).unwrap();
    assert_eq!(served.payload(), &transaction(1).raw()[..]);
    assert_eq!(world.receipts(), [(peers[0], Requested)], "it is sent only when it found room");
    // Asked again before its turn came.
    assert_eq!(world.say(peers[0], get_transaction(1)), None);
    assert_eq!(world.serve(peers[0], 9), 1);
    assert_eq!(world.receipts(), [(peers[0], Sent)]);
    assert_eq!(world.say(peers[0], get_transaction(1)), None);
    assert_eq!(world.serve(peers[0], 9), 1);
    assert_eq!(world.receipts(), [(peers[0], Requested), (peers[0], Sent)]);
}

#[test]
fn what_is_not_held_is_for_the_caller() {
    let (mut world, peers) = World::connected(1);
    let nothing = get_transaction(2);
    assert_eq!(world.say(peers[0], nothing.clone()), Some(nothing));
    world.broadcast(1, 1);
    let (held, block) = (Inventory::transaction(txid(1)), Inventory::block(hash(1)));
    let other = Inventory::transaction(txid(2));
    let unclaimed = world.say(peers[0], Message::GetData(vec![other, held, block]));
    assert_eq!(unclaimed, Some(Message::GetData(vec![other, block])));
    assert_eq!(world.serve(peers[0], 9), 1);
}

#[test]
fn transactions_are_served_in_the_order_asked() {
    let (mut world, peers) = World::connected(1);
    for n in 0..5 {
        world.broadcast(n, 1);
    }
    let items = [3, 0, 4].map(|n| Inventory::transaction(txid(n))).to_vec();
    world.say(peers[0], Message::GetData(items));
    for n in [3, 0, 4] {
        let served = world.engine.next_to_serve(peers[0]).unwrap();
        assert_eq!(served.payload(), &transaction(n).raw()[..]);
        world.engine.mark_served(world.now, peers[0]);
    }
    assert!(world.engine.next_to_serve(peers[0]).is_none());
}

#[test]
fn a_reject_is_told_by_its_transaction() {
    let (mut world, peers) = World::connected(2);
    world.broadcast(1, 1);
    let reject = |n| {
        let hash = Some(*txid(n).as_wire());
        let reject = Reject { message: "tx".into(), code: RejectCode::Invalid, reason: "bad".into(), hash };
        Message::Reject(Box::new(reject))
    };
    assert_eq!(world.say(peers[0], reject(1)), Some(reject(1)), "it was not sent it");
    world.say(peers[0], get_transaction(1));
    world.serve(peers[0], 1);
    assert_eq!(world.say(peers[1], reject(1)), Some(reject(1)), "nor was the other");
    world.receipts();
    assert_eq!(world.say(peers[0], reject(1)), None);
    let expected = Rejected { code: RejectCode::Invalid, reason: "bad".to_owned() };
    assert_eq!(world.receipts(), [(peers[0], expected)]);
    assert_eq!(world.say(peers[0], reject(2)), Some(reject(2)));
}

#[test]
fn only_peers_that_were_not_told_show_that_it_was_relayed() {
    let (mut world, peers) = World::connected(3);
    world.broadcast(1, 1);
    world.say(peers[1], get_transaction(1));
    world.receipts();
    for &peer in &peers {
        let news = announcement([7, 1]);
        assert_eq!(world.say(peer, news.clone()), Some(news), "an announcement is news for everybody");
    }
    assert_eq!(world.receipts(), [(peers[2], Relayed)]);
}

#[test]
fn a_peer_lost_before_it_asked_is_replaced() {
    let (mut world, peers) = World::connected(3);
    world.broadcast(1, 2);
    world.say(peers[1], get_transaction(1));
    world.serve(peers[1], 1);
    world.announced();
    world.lose(peers[0]);
    assert_eq!(world.announced(), [(peers[2], announcement([1]))]);
    world.lose(peers[1]);
    world.reconnect(peers[0]);
    assert_eq!(world.announced(), [(peers[0], announcement([1]))], "it may have lost what it heard");
    world.reconnect(peers[1]);
    assert_eq!(world.announced(), [(peers[1], announcement([1]))]);
}

#[test]
fn a_broadcast_under_way_is_joined() {
    let (mut world, peers) = World::connected(3);
    let first = world.broadcast(1, 1);
    assert_eq!(world.broadcast(1, 1), first);
    assert_eq!(world.announced(), [(peers[0], announcement([1]))]);
    assert_eq!(world.broadcast(1, 3), first);
    assert_eq!(world.announced(), [(peers[1], announcement([1])), (peers[2], announcement([1]))]);
    world.pass(1_000 * SECOND);
    assert_eq!(world.end(first), Some(BroadcastEnd::Expired));
}

#[test]
fn a_broadcast_ends_with_its_lifetime() {
    let (mut world, peers) = World::connected_with(config().broadcast_lifetime(100 * SECOND), 1);
    let broadcast = world.broadcast(1, 1);
    world.say(peers[0], get_transaction(1));
    world.pass(100 * SECOND);
    assert_eq!(world.end(broadcast), Some(BroadcastEnd::Expired));
    assert!(world.engine.next_to_serve(peers[0]).is_none(), "it was over before its turn came");
    assert!(world.say(peers[0], get_transaction(1)).is_some());
    assert_ne!(world.broadcast(1, 1), broadcast);
}

#[test]
fn the_bytes_of_all_broadcasts_are_bounded() {
    let config = config().broadcast_bytes(3_000).broadcast_lifetime(100 * SECOND);
    let (mut world, _) = World::connected_with(config, 1);
    world.broadcast(1, 1);
    world.broadcast(2, 1);
    assert_eq!(world.try_broadcast(&transaction(3), &BroadcastOptions::new()), Err(BroadcastFailure::Full));
    world.broadcast(1, 1);
    world.pass(100 * SECOND);
    world.broadcast(3, 1);
}

#[test]
fn one_getdata_that_names_a_transaction_twice_is_served_once() {
    let (mut world, peers) = World::connected(1);
    world.broadcast(1, 1);
    world.receipts();
    let item = Inventory::transaction(txid(1));
    assert_eq!(world.say(peers[0], Message::GetData(vec![item; 1_000])), None);
    assert_eq!(world.serve(peers[0], 9), 1);
    assert_eq!(world.receipts(), [(peers[0], Requested), (peers[0], Sent)]);
}

#[test]
fn many_transactions_are_asked_for_one_by_one_without_a_search() {
    let (mut world, peers) = World::connected(1);
    let transactions: Vec<_> = (0..50_000).map(transaction).collect();
    for transaction in &transactions {
        world
            .engine
            .broadcast(world.now, transaction, &[], &BroadcastOptions::new().nodes(1))
            .expect("there is room for the transaction");
    }
    let connection = world.connection(peers[0]);
    for transaction in &transactions {
        let message = Message::GetData(vec![Inventory::transaction(transaction.txid())]);
        assert_eq!(world.engine.handle_message(world.now, peers[0], connection, message), None);
    }
    assert_eq!(world.serve(peers[0], usize::MAX), 50_000);
}

#[test]
fn a_peer_lost_before_it_was_sent_what_it_asked_is_replaced() {
    let (mut world, peers) = World::connected(2);
    for n in 1..=3 {
        world.broadcast(n, 1);
    }
    world.say(peers[0], Message::GetData([1, 2].map(|n| Inventory::transaction(txid(n))).to_vec()));
    assert_eq!(world.serve(peers[0], 1), 1);
    world.announced();
    world.lose(peers[0]);
    assert_eq!(world.announced(), [(peers[1], announcement([2, 3]))], "the first was sent");
}

#[test]
fn a_new_peer_is_told_what_too_few_were() {
    let mut world = World::new(config());
    let peers = [1, 2].map(|n| world.add(&address(n)));
    world.start();
    world.pass(Duration::ZERO);
    world.broadcast(1, 1);
    world.broadcast(2, 2);
    assert_eq!(world.sent(), []);
    world.connect(peers[0]);
    let told = |world: &mut World| {
        let items = world.announced().into_iter().flat_map(|(_, message)| match message {
            Message::Inv(items) => items,
            other => panic!("not an announcement: {other:?}"),
        });
        items.filter_map(|item| item.txid()).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world), [txid(1), txid(2)]);
    world.connect(peers[1]);
    assert_eq!(told(&mut world), [txid(2)]);
}

#[test]
fn many_transactions_are_announced_together() {
    let mut world = World::new(config());
    let peers = [1, 2].map(|n| world.add(&address(n)));
    world.start();
    world.pass(Duration::ZERO);
    for n in 0..2_500 {
        world
            .engine
            .broadcast(world.now, &transaction(n), &[], &BroadcastOptions::new().nodes(1))
            .expect("there is room for the transaction");
    }
    let lots = [announcement(0..1_000), announcement(1_000..2_000), announcement(2_000..2_500)];
    world.connect(peers[0]);
    assert_eq!(world.sent(), lots.clone().map(|lot| (peers[0], lot)));
    world.connect(peers[1]);
    world.lose(peers[0]);
    assert_eq!(world.sent(), lots.map(|lot| (peers[1], lot)));
}

#[test]
fn a_peer_that_is_read_again_is_told_what_too_few_were() {
    let (mut world, peers) = World::connected(2);
    world.pause(peers[1], true);
    world.broadcast(1, 2);
    assert_eq!(world.announced(), [(peers[0], announcement([1]))]);
    world.pause(peers[1], false);
    assert_eq!(world.announced(), [(peers[1], announcement([1]))]);
}
