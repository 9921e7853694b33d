//! Watching: what to watch, what is delivered, and the place from which it is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{RecvError, RequestError, TryRecvError};
use crate::message::{Block, BlockHeader, Transaction};
use crate::peer::PeerId;
use crate::queue::message::Reader;

/// What [`Conduit::watch`](crate::Conduit::watch) shall deliver.
///
/// Naming nothing watches nothing, so name at least one of the four.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watch {
    /// Every transaction that a peer announces or sends, once.
    pub transactions: bool,
    /// Every new block, whole.
    pub blocks: bool,
    /// Every new header.
    pub headers: bool,
    /// Every header that becomes the end of the chain with the most work.
    pub tips: bool,
}

impl Watch {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Delivers [`Watched::Transaction`].
    #[must_use]
    pub fn transactions(mut self) -> Self {
        self.transactions = true;
        self
    }

    /// Delivers [`Watched::Block`], or [`Watched::NoBlock`] where there is none to be had.
    #[must_use]
    pub fn blocks(mut self) -> Self {
        self.blocks = true;
        self
    }

    /// Delivers [`Watched::Headers`].
    #[must_use]
    pub fn headers(mut self) -> Self {
        self.headers = true;
        self
    }

    /// Delivers [`Watched::Tip`].
    #[must_use]
    pub fn tips(mut self) -> Self {
        self.tips = true;
        self
    }

    /// Whether anything of the chain is watched.
    pub(crate) fn wants_chain(&self) -> bool {
        self.blocks || self.headers || self.tips
    }
}

/// Something new.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Watched {
    /// A transaction that was not delivered before. Nothing of it is validated.
    Transaction {
        /// Who gave it.
        peer: PeerId,
        /// The transaction.
        transaction: Transaction,
    },
    /// A new block, its merkle root checked.
    Block {
        /// Who gave it.
        peer: PeerId,
        /// The block.
        block: Block,
    },
    /// A new block that none of its announcers gave: it is above
    /// [`stream_threshold`](crate::Config#structfield.stream_threshold), or they did not answer.
    NoBlock {
        /// Its header.
        header: BlockHeader,
        /// What became of the last attempt.
        error: RequestError,
    },
    /// New headers, each behind the one before it and each delivered once.
    Headers {
        /// Who gave them.
        peer: PeerId,
        /// At least one.
        headers: Vec<BlockHeader>,
    },
    /// The header with the most work behind it so far, of those that were watched.
    Tip {
        /// Who gave it.
        peer: PeerId,
        /// The header.
        header: BlockHeader,
    },
    /// So many transactions, headers or blocks were announced and are not delivered, since the queue or the list of
    /// announcements was full; or they were too large to hold.
    Missed {
        /// How many.
        count: u64,
    },
}

/// A shared receiver of what a watch finds: clone it into as many worker threads as you like.
///
/// Each item goes to one of the clones. Iterating waits for items and ends with the conduit. When the last clone is
/// dropped the watch ends, and nothing more is asked for.
///
/// ```
/// # #[cfg(feature = "testnode")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use conduit::testnode::{TestNode, TestNodeConfig, transaction};
/// use conduit::{Conduit, Config, Network, Watch, Watched};
///
/// let node = TestNode::start(TestNodeConfig::default())?;
/// let conduit = Conduit::new(Config::new(Network::Regtest))?;
/// conduit.add_peers([node.address()])?;
/// let watching = conduit.watch(Watch::new().transactions().tips())?; // before the start, nothing is missed
/// conduit.start()?;
/// // A node announces nothing to whoever has not finished the handshake.
/// assert!(node.wait_for_connections(1, Duration::from_secs(10)));
///
/// let payment = transaction(1, 250);
/// node.submit(payment.clone());
/// match watching.recv_timeout(Duration::from_secs(10))? {
///     Watched::Transaction { transaction, .. } => assert_eq!(transaction, payment),
///     other => panic!("not the payment: {other:?}"),
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "testnode"))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct Watching {
    reader: Arc<Reader<Watched>>,
    missed: Arc<AtomicU64>,
}

impl Watching {
    pub(crate) fn new(reader: Reader<Watched>, missed: Arc<AtomicU64>) -> Self {
        Self { reader: Arc::new(reader), missed }
    }

    /// Takes the next item, waiting for it.
    ///
    /// # Errors
    ///
    /// [`RecvError`] once the conduit is shut down and every item taken.
    pub fn recv(&self) -> Result<Watched, RecvError> {
        self.reader.recv_until(None).map_err(|_| RecvError)
    }

    /// Takes the next item if there is one.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    pub fn try_recv(&self) -> Result<Watched, TryRecvError> {
        self.reader.try_recv()
    }

    /// Takes the next item, waiting for it at most this long.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]; `Empty` if none came in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Watched, TryRecvError> {
        self.reader.recv_until(crate::driver::deadline_after(timeout))
    }

    /// Items that wait in the queue.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reader.len()
    }

    /// Whether no item waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was announced and not delivered, in all: the sum of every [`Watched::Missed`], also of those to come.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Acquire)
    }
}

impl Iterator for Watching {
    type Item = Watched;

    fn next(&mut self) -> Option<Watched> {
        self.recv().ok()
    }
}
