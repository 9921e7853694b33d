//! A conduit that is connected to real nodes, and what tests of it wait for.

use std::time::{Duration, Instant};

use conduit::error::{AttemptFailure, SendFailure};
use conduit::message::{Block, Inventory};
use conduit::{
    BlockHash, Broadcast, Conduit, Config, DisconnectReason, Event, Events, Harm, Message, Messages, Network,
    PeerId, PeerInfo, Ping, RequestError, RequestOptions, Txid,
};
use serde_json::{Value, json};

use super::sv_node::{SvNode, SvNodeOptions};
use super::{PATIENCE, transactions};

/// A conduit that keeps nodes connected.
pub(crate) struct Client {
    pub(crate) conduit: Conduit,
    pub(crate) events: Events,
    /// In the order of the nodes.
    pub(crate) peers: Vec<PeerId>,
}

impl Client {
    /// Starts to dial the nodes.
    pub(crate) fn dial(nodes: &[&SvNode], config: Config) -> Self {
        let conduit = Conduit::new(config).unwrap();
        let events = conduit.events();
        let peers = conduit.add_peers(nodes.iter().map(|node| node.address())).unwrap();
        conduit.start().unwrap();
        Self { conduit, events, peers }
    }

    /// Waits until the nodes, too, have finished the handshake: from then on they announce to us.
    pub(crate) fn connect(nodes: &[&SvNode], config: Config) -> Self {
        let client = Self::dial(nodes, config);
        client.conduit.wait_for_peers(nodes.len(), PATIENCE).unwrap();
        client.fence();
        client
    }

    /// Waits until every node has dealt with all that was sent to it, and all that it sent before has been delivered.
    pub(crate) fn fence(&self) {
        for &peer in &self.peers {
            self.conduit.send_request_with(Ping, &RequestOptions::new().peer(peer)).unwrap();
        }
    }

    /// Ends the conduit; none of the nodes must have had reason to complain.
    #[track_caller]
    pub(crate) fn end(&self, nodes: &[&SvNode]) {
        self.fence();
        self.conduit.shutdown();
        for node in nodes {
            node.assert_no_misbehaviour();
        }
    }

    pub(crate) fn info(&self, peer: PeerId) -> PeerInfo {
        self.conduit.peers().into_iter().find(|info| info.id == peer).expect("the peer is known")
    }

    pub(crate) fn broadcast(&self, raw: &[u8], nodes: usize) -> Broadcast {
        self.conduit.broadcast_transaction(raw, nodes).unwrap()
    }

    /// The next event of a single peer.
    #[track_caller]
    pub(crate) fn next_event(&self) -> Event {
        loop {
            match self.events.recv_timeout(PATIENCE).expect("an event") {
                // They follow from the others.
                Event::NoPeers | Event::NetworkBack => {}
                event => return event,
            }
        }
    }

    /// Waits until the only peer is connected; dials that failed before, and that there is nobody, are passed over.
    #[track_caller]
    pub(crate) fn expect_connected(&self) {
        loop {
            match self.next_event() {
                Event::NoPeers => {}
                Event::Refused { peer, .. } if peer == self.peers[0] => {}
                Event::Connected { peer, .. } if peer == self.peers[0] => return,
                other => panic!("not connected, but {other:?}"),
            }
        }
    }

    /// The next event is the loss of the only peer, for the reason given; that there was somebody again is passed over.
    #[track_caller]
    pub(crate) fn expect_disconnected(&self) -> DisconnectReason {
        loop {
            match self.next_event() {
                Event::NetworkBack => {}
                Event::Disconnected { peer, reason, .. } if peer == self.peers[0] => return reason,
                other => panic!("not disconnected, but {other:?}"),
            }
        }
    }
}

/// Patient, as the machine may be busy, but quick to dial again.
pub(crate) fn config() -> Config {
    Config::new(Network::Regtest)
        .handshake_timeout(PATIENCE)
        .request_timeout(PATIENCE)
        .redial_min(Duration::from_millis(50))
        .redial_max(Duration::from_millis(500))
}

/// The one peer of a node, by RPC.
pub(crate) fn sole_peer(node: &SvNode) -> Value {
    let mut peers = node.rpc("getpeerinfo", json!([]));
    assert_eq!(peers.as_array().map(Vec::len), Some(1), "{peers}");
    peers[0].take()
}

/// Waits for the next message that is wanted, and passes over all others.
#[track_caller]
pub(crate) fn wait_for_message(messages: &Messages, from: PeerId, wanted: impl Fn(&Message) -> bool) -> Message {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let incoming = messages.recv_timeout(left).expect("the message comes in time");
        if wanted(&incoming.message) {
            assert_eq!(incoming.peer, from);
            return incoming.message;
        }
    }
}

#[track_caller]
pub(crate) fn wait_for_inventory(messages: &Messages, from: PeerId, wanted: Inventory) {
    wait_for_message(messages, from, |message| matches!(message, Message::Inv(items) if items.contains(&wanted)));
}

/// Who was asked in vain, of a request that ended for that.
#[track_caller]
pub(crate) fn failures<T: std::fmt::Debug>(result: Result<T, RequestError>) -> Vec<(PeerId, AttemptFailure)> {
    match result {
        Err(RequestError::TimedOut { attempts } | RequestError::NotFound { attempts }) => {
            attempts.iter().map(|attempt| (attempt.peer, attempt.failure)).collect()
        }
        other => panic!("the request ended with {other:?}"),
    }
}

pub(crate) fn hashes(displayed: &[String]) -> Vec<BlockHash> {
    displayed.iter().map(|hash| hash.parse().unwrap()).collect()
}

pub(crate) fn txid(raw: &[u8]) -> Txid {
    transactions::txid(raw).parse().unwrap()
}

/// A node that is started with these arguments besides the usual ones.
pub(crate) fn start_with(args: &[&str]) -> Option<SvNode> {
    SvNode::start(SvNodeOptions { args: args.iter().map(|&arg| arg.to_owned()).collect(), ..Default::default() })
}

/// The message is not sent for the reason given, and is given back.
#[track_caller]
pub(crate) fn assert_refused(client: &Client, message: Message, harm: Harm) {
    let refused = client.conduit.send(client.peers[0], message.clone()).unwrap_err();
    assert_eq!((refused.message, refused.reason), (message, SendFailure::Harmful(harm)));
}

/// The block as the node has it.
pub(crate) fn stored(node: &SvNode, hash: BlockHash) -> Block {
    let block = Block::from_raw(node.block_bytes(&hash.to_string())).unwrap();
    assert_eq!(block.hash(), hash);
    block
}

pub(crate) fn hash_at(node: &SvNode, height: u64) -> BlockHash {
    node.rpc("getblockhash", json!([height])).as_str().unwrap().parse().unwrap()
}
