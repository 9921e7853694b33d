//! Every setting: its unit, its default, and what raising it costs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Dialler, Resolver, SystemResolver};
use crate::error::ConfigError;
use crate::message::Services;
use crate::network::{ForkMarker, Network};
use crate::proto::Settings;

/// The settings of a [`Conduit`](crate::Conduit), checked once by [`Conduit::new`](crate::Conduit::new).
///
/// ```
/// use std::time::Duration;
/// use conduit::{Config, Network};
///
/// let config = Config::new(Network::Regtest)
///     .user_agent("/my-wallet:1.0/")
///     .request_timeout(Duration::from_secs(10));
/// assert!(config.worst_case_bytes() > 0);
/// ```
#[non_exhaustive]
#[derive(Clone)]
pub struct Config {
    /// The network whose peers are spoken to.
    pub network: Network,
    /// What we call ourselves in `version`, at most 256 bytes.
    ///
    /// A node bans whoever names himself with `abc`, `cash` or `bch`, in any letter case, so such a name is refused.
    /// The default is `/bsv-conduit:VERSION/`.
    pub user_agent: String,
    /// The block height announced in `version`. The default is 0; nodes then announce new blocks all the same.
    pub start_height: i32,
    /// Whether peers shall announce transactions to us. The default is true; false saves their `inv` traffic.
    pub relay: bool,

    /// How many peers are kept connected where they are found, those that were named among them; named peers are always
    /// kept. The default is 8.
    pub target_peers: usize,
    /// Whether peers are found, by DNS seeds and from what peers tell of others, though some were named. The default is
    /// false: they are found only if none was named.
    pub discover: bool,
    /// Whether nobody else than named peers is ever dialled, even if none was named. The default is false.
    pub only_named_peers: bool,
    /// The most peers held at once, named ones included. The default is 125.
    ///
    /// Each may take its shares of memory: see [`worst_case_bytes`](Self::worst_case_bytes).
    pub max_peers: usize,

    /// How long a name may take to resolve. The default is 10 s.
    pub resolve_timeout: Duration,
    /// How long a connect may take. The default is 10 s.
    pub connect_timeout: Duration,
    /// How long the handshake may take after the connect. The default is 20 s; nodes allow 60 s.
    pub handshake_timeout: Duration,
    /// The block by which a peer on our chain is told from one on another chain with the same magic; `None` asks nobody.
    /// The default is the network's: see [`Network::fork_marker`].
    pub fork_marker: Option<ForkMarker>,
    /// How long a peer may take to show that it is on our chain, before it counts as unverified. The default is 20 s.
    pub verify_timeout: Duration,
    /// Time until a peer that could not show it is asked again, and a second after it announces a block. The default is
    /// 60 s.
    pub verify_interval: Duration,
    /// Time between two pings, from which latencies come. The default is 60 s.
    pub ping_interval: Duration,
    /// A peer that sends no byte for this long after a ping is dropped. The default is 30 s.
    pub ping_timeout: Duration,
    /// A peer that takes no byte for this long while some wait is dropped. The default is 60 s.
    pub stall_timeout: Duration,
    /// A peer that we do not read for this long, because nobody takes its messages, is closed. The default is 10 min;
    /// nodes give up after 20.
    pub pause_limit: Duration,
    /// First wait before a lost peer is dialled again; doubled with each failure, with jitter. The default is 500 ms.
    pub redial_min: Duration,
    /// Longest such wait. The default is 5 min.
    pub redial_max: Duration,

    /// How long a request may take, over all peers that are asked. The default is 30 s.
    pub request_timeout: Duration,
    /// The same for `getaddr`, which nodes answer on a random timer. The default is 90 s.
    pub getaddr_timeout: Duration,
    /// How many peers are asked before a request fails; each gets its share of the timeout. The default is 3.
    pub request_attempts: usize,
    /// The most requests that may be under way at once, in bytes: each is charged the size of its message and 512
    /// bytes, and what has come for it if its reply is gathered from several messages. The default is 64 MiB.
    pub requests_limit: usize,

    /// The largest payload we accept and announce in `protoconf`, in bytes, for every command without a limit of its
    /// own. The default is 2 MiB, as the node's; at least 1 MiB. Nodes fill `inv` up to it.
    pub max_recv_payload_length: u32,
    /// Whether a second connection is opened to each peer that knows how to (`BlockPriority` of SV Node), for pings,
    /// headers and blocks, so that none of these waits behind transactions. It has shares of its own. The default is false:
    /// measured against SV Node 1.0.13 while it sends a block of 300 MB, it changes nothing. With one connection the block
    /// came at 71 to 74 MB/s and pings took 0.2 ms in the median and 7.2 s at most, as they wait behind the block; with two
    /// it was 70 to 77 MB/s, 0.2 ms and 7.4 s, as blocks and pings share the second one.
    ///
    /// The order of messages is kept on each of the two only: a pong no longer says that the peer has read what was sent
    /// to it before the ping. A peer that refuses the second connection keeps one; the loss of either is that of the peer.
    pub streams: bool,
    /// Bytes of one block that wait between its socket and its reader; a read more may come on top. The default is
    /// 4 MiB; at least 64 KiB.
    pub stream_queue_bytes: usize,
    /// The most blocks that may be streamed or downloaded at once. The default is 128.
    pub max_streams: usize,
    /// Largest payload held in memory, in bytes; a longer one is skipped. The default is 32 MiB.
    ///
    /// Each peer may hold this much at once, within the inbound pool.
    pub stream_threshold: u64,

    /// Bytes of small inbound messages, up to 64 KiB each, that every peer may hold whatever the others do. The default
    /// is 6 MiB; at least `overflow_limit` and 2 MiB more.
    pub inbound_share: usize,
    /// Bytes of larger inbound messages, for which all peers compete; each may hold `stream_threshold` of them. The
    /// default is 256 MiB; at least `stream_threshold`.
    pub inbound_pool: usize,
    /// Outbound bytes every peer may have waiting whatever the others do. The default is 2 MiB.
    pub outbound_share: usize,
    /// Outbound bytes for which all peers compete beyond their shares. The default is 64 MiB.
    pub outbound_pool: usize,
    /// Bytes of the message queue, and of each subscription. The default is 64 MiB.
    pub message_queue_bytes: usize,
    /// Messages of the message queue, and of each subscription. The default is 100,000.
    pub message_queue_items: usize,
    /// The most queues of messages, [`messages`](crate::Conduit::messages) and subscriptions together. The default is
    /// 4.
    pub max_message_queues: usize,
    /// How far behind a full message queue a reply is still found, in bytes. The default is 4 MiB.
    pub overflow_limit: usize,
    /// Events kept for each reader of [`events`](crate::Conduit::events). The default is 1,024.
    pub event_queue_items: usize,
    /// Bytes of transactions that are broadcast or held for peers that ask for them. Each is charged its size, some 950
    /// bytes, 128 for each peer that shall be told or relay it and 96 for each input; what is over gives way to what is
    /// new. The default is 64 MiB.
    pub broadcast_bytes: usize,
    /// The most such transactions. The default is 100,000.
    pub broadcast_items: usize,
    /// How long a transaction is broadcast at most, and held for peers that ask for it. The default is 15 min.
    pub broadcast_lifetime: Duration,
    /// Time until peers that were told of a transaction are told again, if its broadcast is not over. The default is 5 min.
    pub rebroadcast_interval: Duration,
    /// Transactions that a [watch](crate::Conduit::watch) remembers as delivered: at least half as many, at most so
    /// many. The default is 200,000; each costs at most 48 bytes, with what is remembered of peers that did not answer.
    pub watch_memory: usize,
    /// Announced transactions that are asked for, or wait to be, for all watches together. The default is 50,000, of at
    /// most 400 bytes each; more are dropped, the oldest first, and counted.
    pub watch_announcements: usize,
    /// How long a peer that was asked for announced transactions may be silent before another announcer is asked. The
    /// default is 10 s.
    pub watch_patience: Duration,

    /// A directory of this conduit's own, where addresses of peers and bans are kept from one run to the next; it is made
    /// if missing. `None`, the default, keeps nothing. One network's file is at most 8 MiB.
    pub data_dir: Option<PathBuf>,
    /// Whether broadcasts are kept in `data_dir`, too: then a call returns when its transaction is on disk, and the next
    /// run goes on with what is not over. It needs `data_dir`. The file takes twice the size of what is held, and 16 MiB more. The default is
    /// false.
    pub keep_broadcasts: bool,

    /// Threads that verify checksums and decode; each peer is always on the same one. The default is 1.
    pub message_threads: usize,
    /// Turns names into addresses, off the event loop. The default asks the system.
    pub resolver: Arc<dyn Resolver>,
    /// Makes the connections; `None`, the default, connects directly without blocking a thread.
    pub dialler: Option<Arc<dyn Dialler>>,
}

/// Writes one consuming setter for each field named.
macro_rules! setters {
    ($($field:ident: $type:ty),* $(,)?) => {
        $(
            #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
            #[must_use]
            pub fn $field(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            }
        )*
    };
}

impl Config {
    /// The defaults for a network.
    #[must_use]
    pub fn new(network: Network) -> Self {
        Self {
            fork_marker: network.fork_marker(),
            network,
            user_agent: concat!("/bsv-conduit:", env!("CARGO_PKG_VERSION"), "/").to_owned(),
            start_height: 0,
            relay: true,
            target_peers: 8,
            discover: false,
            only_named_peers: false,
            max_peers: 125,
            resolve_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(20),
            verify_timeout: Duration::from_secs(20),
            verify_interval: Duration::from_secs(60),
            ping_interval: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            pause_limit: Duration::from_secs(600),
            redial_min: Duration::from_millis(500),
            redial_max: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30),
            getaddr_timeout: Duration::from_secs(90),
            request_attempts: 3,
            requests_limit: 64 * MIB,
            max_recv_payload_length: 2_097_152,
            streams: false,
            stream_queue_bytes: 4 * MIB,
            max_streams: 128,
            stream_threshold: 32 * MIB as u64,
            inbound_share: 6 * MIB,
            inbound_pool: 256 * MIB,
            outbound_share: 2 * MIB,
            outbound_pool: 64 * MIB,
            message_queue_bytes: 64 * MIB,
            message_queue_items: 100_000,
            max_message_queues: 4,
            overflow_limit: 4 * MIB,
            event_queue_items: 1_024,
            broadcast_bytes: 64 * MIB,
            broadcast_items: 100_000,
            broadcast_lifetime: Duration::from_secs(900),
            rebroadcast_interval: Duration::from_secs(300),
            keep_broadcasts: false,
            watch_memory: 200_000,
            watch_announcements: 50_000,
            watch_patience: Duration::from_secs(10),
            data_dir: None,
            message_threads: 1,
            resolver: Arc::new(SystemResolver),
            dialler: None,
        }
    }

    setters! {
        start_height: i32, relay: bool, target_peers: usize, max_peers: usize, resolve_timeout: Duration,
        connect_timeout: Duration, handshake_timeout: Duration, discover: bool, only_named_peers: bool, fork_marker: Option<ForkMarker>,
        verify_timeout: Duration, verify_interval: Duration, ping_interval: Duration, ping_timeout: Duration,
        stall_timeout: Duration, pause_limit: Duration, redial_min: Duration, redial_max: Duration,
        request_timeout: Duration, getaddr_timeout: Duration, request_attempts: usize, requests_limit: usize,
        max_recv_payload_length: u32, streams: bool, stream_queue_bytes: usize, max_streams: usize, stream_threshold: u64, inbound_share: usize, inbound_pool: usize,
        outbound_share: usize, outbound_pool: usize, message_queue_bytes: usize, message_queue_items: usize,
        max_message_queues: usize, overflow_limit: usize, event_queue_items: usize, broadcast_bytes: usize,
        broadcast_items: usize, broadcast_lifetime: Duration, rebroadcast_interval: Duration, keep_broadcasts: bool, watch_memory: usize, watch_announcements: usize, watch_patience: Duration,
        message_threads: usize,
    }

    /// Sets [`user_agent`](Self#structfield.user_agent).
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Sets [`data_dir`](Self#structfield.data_dir).
    #[must_use]
    pub fn data_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(data_dir.into());
        self
    }

    /// Sets [`resolver`](Self#structfield.resolver).
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Sets [`dialler`](Self#structfield.dialler).
    #[must_use]
    pub fn dialler(mut self, dialler: impl Dialler) -> Self {
        self.dialler = Some(Arc::new(dialler));
        self
    }

    /// The most memory that queues, requests, broadcasts and watches can take together under these settings, in bytes.
    ///
    /// ```text
    ///   connections * (inbound_share + outbound_share + 2 MiB) + inbound_pool + outbound_pool
    /// + max_message_queues * max(message_queue_bytes, stream_threshold)
    /// + requests_limit + broadcast_bytes + max_streams * (stream_queue_bytes + 128 KiB)
    /// + watch_memory * 48 + watch_announcements * 400 + 2 MiB + 8 MiB
    /// ```
    ///
    /// with `connections` = `max_peers`, twice that with `streams`, and half as much again on what holds decoded messages,
    /// which can be larger than their payloads. The two mebibytes per connection are what one read may bring over a limit,
    /// the eight at the end the addresses and bans that are kept. What a caller keeps, chunks of blocks among it, the
    /// kernel's socket buffers and the
    /// program itself come on top.
    #[must_use]
    pub fn worst_case_bytes(&self) -> u64 {
        let wide = |n: usize| n as u64;
        let connections = wide(self.max_peers).saturating_mul(if self.streams { 2 } else { 1 });
        let inbound = connections
            .saturating_mul(wide(self.inbound_share).saturating_add(wide(READ_SLACK)))
            .saturating_add(wide(self.inbound_pool));
        let queues =
            wide(self.max_message_queues).saturating_mul(wide(self.message_queue_bytes).max(self.stream_threshold));
        let decoded = inbound.saturating_add(queues);
        let outbound =
            connections.saturating_mul(wide(self.outbound_share)).saturating_add(wide(self.outbound_pool));
        decoded
            .saturating_add(decoded / 2)
            .saturating_add(outbound)
            .saturating_add(wide(self.requests_limit))
            .saturating_add(wide(self.broadcast_bytes))
            .saturating_add(wide(self.max_streams).saturating_mul(wide(self.stream_queue_bytes + READ_SIZE)))
            .saturating_add(wide(self.watch_memory).saturating_mul(48))
            .saturating_add(wide(self.watch_announcements).saturating_mul(400))
            .saturating_add(wide(WATCH_CHAIN))
            .saturating_add(wide(ADDRESS_BOOK))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let agent = self.user_agent.to_ascii_lowercase();
        if let Some(word) = BANNED_AGENTS.into_iter().find(|word| agent.contains(word)) {
            return Err(ConfigError::BannedUserAgent { word });
        }
        if self.user_agent.len() > MAX_USER_AGENT {
            return Err(ConfigError::UserAgentTooLong { length: self.user_agent.len(), limit: MAX_USER_AGENT });
        }
        if self.discover && self.only_named_peers {
            return Err(ConfigError::Contradiction { setting: "discover", other: "only_named_peers" });
        }
        if self.keep_broadcasts && self.data_dir.is_none() {
            return Err(ConfigError::Missing { setting: "data_dir", needed_by: "keep_broadcasts" });
        }
        let at_least = |setting, value: u64, minimum: u64| {
            if value < minimum { Err(ConfigError::TooSmall { setting, value, minimum }) } else { Ok(()) }
        };
        at_least("max_recv_payload_length", self.max_recv_payload_length.into(), 1_048_576)?;
        at_least("stream_threshold", self.stream_threshold, self.max_recv_payload_length.into())?;
        at_least("inbound_share", self.inbound_share as u64, (self.overflow_limit + READ_SLACK) as u64)?;
        at_least("inbound_pool", self.inbound_pool as u64, self.stream_threshold)?;
        at_least("stream_queue_bytes", self.stream_queue_bytes as u64, 64 * 1_024)?;
        at_least("outbound_share", self.outbound_share as u64, 64 * 1_024)?;
        at_least("message_queue_bytes", self.message_queue_bytes as u64, 64 * 1_024)?;
        for (setting, value) in [
            ("max_peers", self.max_peers),
            ("max_streams", self.max_streams),
            ("request_attempts", self.request_attempts),
            ("message_queue_items", self.message_queue_items),
            ("max_message_queues", self.max_message_queues),
            ("event_queue_items", self.event_queue_items),
            ("watch_memory", self.watch_memory),
            ("watch_announcements", self.watch_announcements),
            ("broadcast_items", self.broadcast_items),
            ("message_threads", self.message_threads),
        ] {
            at_least(setting, value as u64, 1)?;
        }
        for (setting, value) in [
            ("resolve_timeout", self.resolve_timeout),
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("verify_timeout", self.verify_timeout),
            ("verify_interval", self.verify_interval),
            ("ping_interval", self.ping_interval),
            ("ping_timeout", self.ping_timeout),
            ("stall_timeout", self.stall_timeout),
            ("pause_limit", self.pause_limit),
            ("redial_min", self.redial_min),
            ("redial_max", self.redial_max),
            ("request_timeout", self.request_timeout),
            ("getaddr_timeout", self.getaddr_timeout),
            ("broadcast_lifetime", self.broadcast_lifetime),
            ("rebroadcast_interval", self.rebroadcast_interval),
            ("watch_patience", self.watch_patience),
        ] {
            // Instants beyond a year ahead can overflow; nobody waits that long.
            if value.is_zero() || value > MAX_DURATION {
                return Err(ConfigError::BadDuration { setting, value });
            }
        }
        Ok(())
    }

    pub(crate) fn connection_settings(&self) -> Settings {
        Settings {
            magic: self.network.magic(),
            user_agent: self.user_agent.clone(),
            // We serve no blocks (trap 18).
            services: Services::default(),
            start_height: self.start_height,
            relay: self.relay,
            max_recv_payload_length: self.max_recv_payload_length,
            streams: self.streams,
            stream_threshold: self.stream_threshold,
            handshake_timeout: self.handshake_timeout,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            stall_timeout: self.stall_timeout,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("network", &self.network)
            .field("user_agent", &self.user_agent)
            .field("max_peers", &self.max_peers)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

const MIB: usize = 1_048_576;
/// What one read may bring over a limit, with its frames' cost.
const READ_SLACK: usize = 2 * MIB;
/// What one read may bring over the limit of a block's queue.
const READ_SIZE: usize = 128 * 1_024;
/// The headers and wanted blocks of watches.
const WATCH_CHAIN: usize = 2 * MIB;
/// Ten thousand addresses and as many bans, each in several orders.
const ADDRESS_BOOK: usize = 8 * MIB;
/// What a node bans for, in any letter case (`-banclientua`).
const BANNED_AGENTS: [&str; 3] = ["abc", "cash", "bch"];
/// `MAX_SUBVERSION_LENGTH` of the node.
const MAX_USER_AGENT: usize = 256;
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(Config::new(Network::Main).check(), Ok(()));
    }

    /// The README states each default once; this keeps it true.
    #[test]
    fn the_readme_has_every_setting_with_its_default() {
        fn bytes(n: u64) -> String {
            assert_eq!(n % MIB as u64, 0);
            format!("{} MiB", n / MIB as u64)
        }
        fn time(duration: Duration) -> String {
            if duration.subsec_millis() == 0 {
                format!("{} s", duration.as_secs())
            } else {
                format!("{} ms", duration.as_millis())
            }
        }
        let c = Config::new(Network::Main);
        let rows = [
            ("user_agent", format!("`{}`", c.user_agent)),
            ("start_height", c.start_height.to_string()),
            ("relay", c.relay.to_string()),
            ("target_peers", c.target_peers.to_string()),
            ("discover", c.discover.to_string()),
            ("only_named_peers", c.only_named_peers.to_string()),
            ("max_peers", c.max_peers.to_string()),
            ("resolve_timeout", time(c.resolve_timeout)),
            ("connect_timeout", time(c.connect_timeout)),
            ("handshake_timeout", time(c.handshake_timeout)),
            ("verify_timeout", time(c.verify_timeout)),
            ("verify_interval", time(c.verify_interval)),
            ("ping_interval", time(c.ping_interval)),
            ("ping_timeout", time(c.ping_timeout)),
            ("stall_timeout", time(c.stall_timeout)),
            ("pause_limit", time(c.pause_limit)),
            ("redial_min", time(c.redial_min)),
            ("redial_max", time(c.redial_max)),
            ("request_timeout", time(c.request_timeout)),
            ("getaddr_timeout", time(c.getaddr_timeout)),
            ("request_attempts", c.request_attempts.to_string()),
            ("requests_limit", bytes(c.requests_limit as u64)),
            ("max_recv_payload_length", bytes(c.max_recv_payload_length.into())),
            ("streams", c.streams.to_string()),
            ("stream_threshold", bytes(c.stream_threshold)),
            ("stream_queue_bytes", bytes(c.stream_queue_bytes as u64)),
            ("max_streams", c.max_streams.to_string()),
            ("inbound_share", bytes(c.inbound_share as u64)),
            ("inbound_pool", bytes(c.inbound_pool as u64)),
            ("outbound_share", bytes(c.outbound_share as u64)),
            ("outbound_pool", bytes(c.outbound_pool as u64)),
            ("message_queue_bytes", bytes(c.message_queue_bytes as u64)),
            ("message_queue_items", c.message_queue_items.to_string()),
            ("max_message_queues", c.max_message_queues.to_string()),
            ("overflow_limit", bytes(c.overflow_limit as u64)),
            ("event_queue_items", c.event_queue_items.to_string()),
            ("broadcast_bytes", bytes(c.broadcast_bytes as u64)),
            ("broadcast_lifetime", time(c.broadcast_lifetime)),
            ("watch_memory", c.watch_memory.to_string()),
            ("watch_announcements", c.watch_announcements.to_string()),
            ("watch_patience", time(c.watch_patience)),
            ("data_dir", c.data_dir.as_ref().map_or("none".to_owned(), |dir| dir.display().to_string())),
            ("message_threads", c.message_threads.to_string()),
        ];
        let readme = include_str!("../README.md");
        for (setting, default) in rows {
            let row = format!("| `{setting}` | {default} |");
            assert!(readme.contains(&row), "README.md lacks the row {row}");
        }
        let gib = |config: Config| config.worst_case_bytes() as f64 / f64::from(1 << 30);
        assert_eq!(format!("{:.1}", gib(c)), "3.2");
        assert_eq!(format!("{:.1}", gib(Config::new(Network::Main).max_peers(8))), "1.6");
    }

    #[test]
    fn user_agents_that_nodes_ban_are_refused() {
        for name in ["/abcwallet/", "/MyCashier:1/", "/BCH/"] {
            let result = Config::new(Network::Main).user_agent(name).check();
            assert!(matches!(result, Err(ConfigError::BannedUserAgent { .. })), "{name}");
        }
        let long = Config::new(Network::Main).user_agent("x".repeat(257)).check();
        assert_eq!(long, Err(ConfigError::UserAgentTooLong { length: 257, limit: 256 }));
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let config = Config::new(Network::Main).overflow_limit(6 * MIB);
        assert!(matches!(config.check(), Err(ConfigError::TooSmall { setting: "inbound_share", .. })));
        let config = Config::new(Network::Main).inbound_pool(MIB);
        assert!(matches!(config.check(), Err(ConfigError::TooSmall { setting: "inbound_pool", .. })));
        let config = Config::new(Network::Main).discover(true).only_named_peers(true);
        assert!(matches!(config.check(), Err(ConfigError::Contradiction { .. })));
        let config = Config::new(Network::Main).ping_timeout(Duration::ZERO);
        assert!(matches!(config.check(), Err(ConfigError::BadDuration { setting: "ping_timeout", .. })));
    }
}
