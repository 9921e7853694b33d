//! A node of the simulated network: where it is, which chain it is on, how it behaves, and what it answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::{foreign_header, header_after, marker_header, transaction};
use super::{Dice, Knowledge};
use crate::message::{
    BlockHeader, GetHeaders, Inventory, InventoryKind, Message, NetworkAddress, Services, TimestampedAddress,
    Version,
};
use crate::network::Network;

/// A node, up or down.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) address: SocketAddr,
    pub(super) chain: Chain,
    pub(super) tells: Tells,
    /// The way there and back.
    pub(super) latency: Duration,
    pub(super) is_up: bool,
    /// It ends each connection after so long.
    pub(super) keeps_for: Option<Duration>,
}

/// What a node shows of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    Ours,
    /// It has another block where ours has the marker.
    Other,
    /// It calls itself by the name of another chain's software.
    OtherAgent,
    /// In initial block download until so long after the start: it answers no `getheaders`, and then is on our chain.
    Syncing(Duration),
    /// It answers with a header that has no work.
    Nonsense,
    /// It is on our chain but keeps no blocks.
    Pruned,
}

/// What a node tells of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    /// Some of the nodes there are.
    Truth,
    /// A flood of addresses where nobody is.
    Dead,
    /// A flood of addresses of our own network, and of this machine.
    Private,
    /// The addresses of nodes on another chain, again and again.
    OtherChain,
}

impl Node {
    pub(super) fn version(&self) -> Version {
        let agent = match self.chain {
            Chain::OtherAgent => "/Bitcoin Cash Node:28.0.1(EB32.0)/",
            _ => "/Bitcoin SV:1.2.2/",
        };
        let services = if self.chain == Chain::Pruned { Services::NONE } else { Services::NETWORK };
        Version::new(services, 1, agent, 1_700_000, 1_700_000_000)
    }

    /// Whether it can become one of ours.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.chain, Chain::Ours | Chain::Syncing(_))
    }

    /// What it says to a message, and how long after it came.
    pub(super) fn answer(
        &self,
        message: &Message,
        elapsed: Duration,
        known: &Knowledge,
        dice: &mut Dice,
    ) -> Option<(Duration, Message)> {
        let answer = match message {
            Message::GetHeaders(question) => Message::Headers(vec![self.header(question, elapsed)?]),
            Message::GetData(items) => answer_data(items, known)?,
            // What is announced to it is news to it.
            Message::Inv(items) => Message::GetData(items.clone()),
            Message::Ping { nonce } => Message::Pong { nonce: *nonce },
            Message::GetAddr => {
                let wait = Duration::from_millis(1_000 + dice.below(20_000));
                return Some((self.latency + wait, Message::Addr(self.addresses(known, dice))));
            }
            _ => return None,
        };
        Some((self.latency.mul_f64(0.9 + dice.below(40) as f64 / 100.0), answer))
    }

    fn header(&self, question: &GetHeaders, elapsed: Duration) -> Option<BlockHeader> {
        let marker = Network::Test.fork_marker().expect("the test network has a marker");
        if question.stop != marker.marker {
            return Some(header_after(question.locator[0], 1));
        }
        match self.chain {
            Chain::Syncing(until) if elapsed < until => None,
            Chain::Ours | Chain::Syncing(_) | Chain::Pruned => Some(marker_header()),
            Chain::Other | Chain::OtherAgent => Some(foreign_header(true)),
            Chain::Nonsense => Some(foreign_header(false)),
        }
    }

    /// What it tells of others, something else each time.
    pub(super) fn addresses(&self, known: &Knowledge, dice: &mut Dice) -> Vec<TimestampedAddress> {
        let told: Vec<SocketAddr> = match self.tells {
            Tells::Truth => (0..60).map(|_| dice.pick(&known.nodes)).collect(),
            Tells::Dead => (0..FLOOD)
                .map(|_| if dice.one_in(2) { dice.pick(&known.dead) } else { public_address(dice) })
                .collect(),
            Tells::Private => (0..FLOOD)
                .map(|n| {
                    let [a, b] = [[10, 0], [127, 0], [192, 168], [169, 254]][n % 4];
                    let [c, d] = [dice.below(250), 1 + dice.below(250)].map(|n| n as u8);
                    (Ipv4Addr::new(a, b, c, d), PORT).into()
                })
                .collect(),
            Tells::OtherChain => known.others.clone(),
        };
        // Whoever lies about addresses lies about times.
        let is_liar = self.tells != Tells::Truth;
        let time = if is_liar { u32::MAX } else { 1_700_000_000 - dice.below(500_000) as u32 };
        let tell = |address| TimestampedAddress { time, address: NetworkAddress::new(Services::NETWORK, address) };
        told.into_iter().map(tell).collect()
    }
}

fn answer_data(items: &[Inventory], known: &Knowledge) -> Option<Message> {
    let first = items.first()?;
    let n = match first.kind {
        InventoryKind::Transaction => first.txid().and_then(|txid| known.transactions.get(&txid).copied()),
        _ => None,
    };
    Some(n.map_or_else(|| Message::NotFound(items.to_vec()), |n| Message::Tx(transaction(n))))
}

/// An address of the internet, anywhere.
pub(super) fn public_address(dice: &mut Dice) -> SocketAddr {
    let [a, b, c, d] =
        [20 + dice.below(60), dice.below(256), dice.below(256), 1 + dice.below(250)].map(|n| n as u8);
    (Ipv4Addr::new(a, b, c, d), PORT).into()
}

/// Addresses in one `addr`: the most a node sends.
const FLOOD: usize = 1_000;
pub(super) const PORT: u16 = 18_333;
