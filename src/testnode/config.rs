//! What a test node is started with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::message::BlockHeader;
use crate::network::Network;

/// The settings of a [`TestNode`](super::TestNode).
///
/// ```
/// use std::time::Duration;
/// use conduit::testnode::TestNodeConfig;
///
/// let config = TestNodeConfig::default().blocks(100).latency(Duration::from_millis(20));
/// assert_eq!(config.blocks, 100);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct TestNodeConfig {
    /// The network it speaks; the default is regtest.
    ///
    /// The chain starts with that network's first block; what is mined on it has the easy proof of work of regtest.
    pub network: Network,
    /// The address it listens at, any of `127.0.0.0/8`. The default is 127.0.0.1.
    pub ip: IpAddr,
    /// The port it listens at; 0, the default, takes one that is free.
    pub port: u16,
    /// Blocks on top of the first one, mined before the node starts. The default is 10.
    ///
    /// The same number gives the same blocks on every node.
    pub blocks: u32,
    /// How long everything it sends is held back, answers, announcements and handshake alike. The default is 0.
    pub latency: Duration,
    /// What it calls itself in `version`. The default is `/Bitcoin SV:1.2.2/`, as SV Node does.
    pub user_agent: String,
    /// What `getaddr` is answered with, at most 1,000 addresses; without any there is no answer. The default is none.
    pub addresses: Vec<SocketAddr>,
    /// The largest payload it takes where the command has no limit of its own, in bytes. The default is 2 MiB.
    pub max_recv_payload_length: u32,
    /// Bytes of transactions it holds in its mempool; more are rejected as the node does when its pool is full.
    ///
    /// The default is 1 GiB.
    pub mempool_bytes: usize,
    /// Whether it serves bloom filters and says so in its services, as a node does with `-peerbloomfilters=1`.
    ///
    /// The default is false: a filter costs its sender 100 points, and so the connection.
    pub bloom: bool,
    /// Whether it answers `mempool`, as a node does with `-rejectmempoolrequest=0`; only with
    /// [`bloom`](Self::bloom), too.
    ///
    /// The default is false: asking ends the connection.
    pub mempool_requests: bool,
    /// What transactions are taken to pay, in satoshis for 1,000 bytes, because what they spend is not known.
    ///
    /// Peers whose `feefilter` is above that do not hear of them. The default is 1,000.
    pub fee_rate: i64,
    /// Whether it takes a transaction only if what it spends is there: outputs of its chain and of its mempool.
    ///
    /// A transaction that spends anything else is an orphan, as with a real node: it is kept without a word, its sender is
    /// asked for the parents that are not known, and it is taken when they come. The default is false: anything may be
    /// spent, once.
    pub checks_inputs: bool,
    /// Whether it keeps the transactions it takes, or only their ids, 32 bytes each instead of all of them.
    ///
    /// Without them it relays ids that it cannot serve, mines empty blocks and sees no double spends. The default is true.
    pub keep_transactions: bool,
    /// The header of the block by which peers of its network are told from those of other chains, as if its chain had
    /// it: `getheaders` with its parent in the locator and itself as the stop hash is answered with it alone. The default is
    /// none.
    ///
    /// So it passes for an honest peer of the main or test network, whose chains it cannot have: see
    /// [`Network::fork_marker`].
    pub marker_header: Option<BlockHeader>,
    /// Whether a peer's second connection may join its first one, as `BlockPriority` of SV Node has it. The default is true.
    pub streams: bool,
}

impl Default for TestNodeConfig {
    fn default() -> Self {
        Self {
            network: Network::Regtest,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            blocks: 10,
            latency: Duration::ZERO,
            user_agent: "/Bitcoin SV:1.2.2/".to_owned(),
            addresses: Vec::new(),
            max_recv_payload_length: 2 * 1_024 * 1_024,
            mempool_bytes: 1_024 * 1_024 * 1_024,
            bloom: false,
            mempool_requests: false,
            fee_rate: 1_000,
            checks_inputs: false,
            keep_transactions: true,
            marker_header: None,
            streams: true,
        }
    }
}

impl TestNodeConfig {
    /// Sets [`network`](Self#structfield.network).
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Sets [`ip`](Self#structfield.ip).
    #[must_use]
    pub fn ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ip = ip.into();
        self
    }

    /// Sets [`port`](Self#structfield.port).
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets [`blocks`](Self#structfield.blocks).
    #[must_use]
    pub const fn blocks(mut self, blocks: u32) -> Self {
        self.blocks = blocks;
        self
    }

    /// Sets [`latency`](Self#structfield.latency).
    #[must_use]
    pub const fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets [`user_agent`](Self#structfield.user_agent).
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Sets [`addresses`](Self#structfield.addresses).
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// Sets [`max_recv_payload_length`](Self#structfield.max_recv_payload_length).
    #[must_use]
    pub const fn max_recv_payload_length(mut self, bytes: u32) -> Self {
        self.max_recv_payload_length = bytes;
        self
    }

    /// Sets [`mempool_bytes`](Self#structfield.mempool_bytes).
    #[must_use]
    pub const fn mempool_bytes(mut self, bytes: usize) -> Self {
        self.mempool_bytes = bytes;
        self
    }

    /// Sets [`bloom`](Self#structfield.bloom).
    #[must_use]
    pub const fn bloom(mut self, on: bool) -> Self {
        self.bloom = on;
        self
    }

    /// Sets [`mempool_requests`](Self#structfield.mempool_requests).
    #[must_use]
    pub const fn mempool_requests(mut self, on: bool) -> Self {
        self.mempool_requests = on;
        self
    }

    /// Sets [`fee_rate`](Self#structfield.fee_rate).
    #[must_use]
    pub const fn fee_rate(mut self, satoshis_per_kilobyte: i64) -> Self {
        self.fee_rate = satoshis_per_kilobyte;
        self
    }

    /// Sets [`checks_inputs`](Self#structfield.checks_inputs).
    #[must_use]
    pub const fn checks_inputs(mut self, on: bool) -> Self {
        self.checks_inputs = on;
        self
    }

    /// Sets [`keep_transactions`](Self#structfield.keep_transactions).
    #[must_use]
    pub const fn keep_transactions(mut self, on: bool) -> Self {
        self.keep_transactions = on;
        self
    }

    /// Sets [`marker_header`](Self#structfield.marker_header).
    #[must_use]
    pub const fn marker_header(mut self, header: BlockHeader) -> Self {
        self.marker_header = Some(header);
        self
    }

    /// Sets [`streams`](Self#structfield.streams).
    #[must_use]
    pub const fn streams(mut self, on: bool) -> Self {
        self.streams = on;
        self
    }
}
