//! How a transaction is to be broadcast.

use std::time::Duration;

/// How a transaction is to be broadcast, and when that is enough.
///
/// ```
/// use std::time::Duration;
/// use conduit::BroadcastOptions;
///
/// let options = BroadcastOptions::new().nodes(3).relays(2).deadline(Duration::from_secs(5));
/// assert!(!options.direct);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct BroadcastOptions {
    /// How many peers are told, the best first; all others listen. At least 1; the default is 5.
    pub nodes: usize,
    /// How many peers shall be there to listen; with fewer the report says
    /// [`too_few_listeners`](super::BroadcastReport#structfield.too_few_listeners). The default is 1.
    pub listeners: usize,
    /// How many peers that were not told must announce the transaction before it counts as relayed and is no longer
    /// announced. The default is 1.
    ///
    /// With 0 nobody is waited for: the broadcast ends, as [`Delivered`](super::Verdict::Delivered), as soon as it was
    /// sent to as many peers as shall be told. For callers to whom the rate matters more than the outcome.
    pub relays: usize,
    /// Whether the transaction is sent without being announced and asked for. The default is false.
    ///
    /// It saves a round trip and reaches nodes in initial block download, which ask for nothing; it costs the bytes where
    /// a peer has the transaction already.
    pub direct: bool,
    /// When the verdict is given at the latest, from the call. The default is 20 s.
    pub deadline: Duration,
    /// Whether the first reject gives the verdict; otherwise it takes one from every peer that was told. The default is
    /// true.
    pub settle_on_reject: bool,
    /// How long the transaction is held, announced again to peers that come later, and served to those that ask; `None`,
    /// the default, takes [`broadcast_lifetime`](crate::Config#structfield.broadcast_lifetime).
    pub lifetime: Option<Duration>,
    /// What the transaction pays, in satoshis, if the caller knows. It is not announced to peers whose `feefilter` asks for
    /// more. The default is `None`: then the fee is computed where the parents are held, and no peer is left out otherwise.
    pub fee: Option<u64>,
    /// Raw unconfirmed transactions that this one spends from, each before those that spend from it. They are not
    /// announced, but served to a peer that asks for them because it lacks them. The default is none.
    pub parents: Vec<Vec<u8>>,
}

impl BroadcastOptions {
    /// Five nodes are told, one relay or reject gives the verdict, or 20 s without either.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: 5,
            listeners: 1,
            relays: 1,
            direct: false,
            deadline: Duration::from_secs(20),
            settle_on_reject: true,
            lifetime: None,
            fee: None,
            parents: Vec::new(),
        }
    }

    /// Tells so many peers.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Wants so many peers to listen.
    #[must_use]
    pub fn listeners(mut self, listeners: usize) -> Self {
        self.listeners = listeners;
        self
    }

    /// Takes so many relays for success; 0 waits for none.
    #[must_use]
    pub fn relays(mut self, relays: usize) -> Self {
        self.relays = relays;
        self
    }

    /// Sends the transaction without announcing it, or not.
    #[must_use]
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Gives the verdict after this time at the latest.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Lets the first reject give the verdict, or only the last.
    #[must_use]
    pub fn settle_on_reject(mut self, settle_on_reject: bool) -> Self {
        self.settle_on_reject = settle_on_reject;
        self
    }

    /// Holds the transaction for so long.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Says what the transaction pays, in satoshis.
    #[must_use]
    pub fn fee(mut self, satoshis: u64) -> Self {
        self.fee = Some(satoshis);
        self
    }

    /// Serves these raw transactions to peers that lack them.
    #[must_use]
    pub fn parents(mut self, parents: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.parents = parents.into_iter().collect();
        self
    }
}

impl Default for BroadcastOptions {
    fn default() -> Self {
        Self::new()
    }
}
