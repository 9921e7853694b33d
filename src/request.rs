//! Requests: each question a peer can be asked, its reply, and how long and whom to ask.
//!
//! The protocol has no request ids, so replies are told by their content (section 4 of the wire specification).

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::error::{Harm, RequestError};
use crate::message::{
    Block, BlockHeader, BlockTxn, CompactBlock, EnrichedHeader, GetBlockTxn, GetBlocks, GetHdrsEn, GetHeaders,
    MerkleBlock, ProvenTransaction, TimestampedAddress, Transaction,
};
use crate::peer::PeerId;
use crate::wire::{BlockHash, Txid};

/// A question that a peer can be asked, with its reply.
///
/// | request | reply | never answered when |
/// |---|---|---|
/// | [`GetData::block`] | [`Block`], its merkle root checked | the node does not know the block: nodes keep silent then |
/// | [`GetData::filtered_block`] | [`FilteredBlock`], its partial merkle tree checked | the same |
/// | [`GetData::compact_block`] | [`CompactReply`]: the compact form, or the whole block | the same |
/// | [`GetBlockTxn`] | [`BlockTxnReply`]: the transactions, or the whole block | the same; nodes ban for an index beyond it |
/// | [`GetData::transaction`] | [`Transaction`] | |
/// | [`GetData::transactions`] | a result for each id | |
/// | [`GetData::dataref_transaction`] | [`ProvenTransaction`] | |
/// | [`GetHeaders`] | up to 2,000 headers, none at the tip | the node is in initial block download |
/// | [`GetHdrsEn`] | up to 2,000 [`EnrichedHeader`]s, the coinbases proven | the same, and by nodes before 1.0.13 |
/// | [`GetBlocks`] | up to 500 block hashes | there is none to list |
/// | [`Mempool`] | txids | the pool is empty; most nodes end the connection |
/// | [`GetAddr`] | addresses | the node knows none |
/// | [`Ping`] | the round-trip time | |
///
/// Implemented here only.
pub trait Request: sealed::Sealed + Send {
    /// What a peer answers.
    type Reply: Send + 'static;
}

pub(crate) mod sealed {
    use super::{Answer, Question, RequestError};

    /// What the engine needs of a request; outside the public API.
    pub trait Sealed {
        #[doc(hidden)]
        fn into_question(self) -> Result<Question, RequestError>;
        #[doc(hidden)]
        fn reply(answer: Answer) -> Option<<Self as super::Request>::Reply>
        where
            Self: super::Request;
    }
}

/// A question as the engine keeps it.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Question {
    Block(BlockHash),
    FilteredBlock(BlockHash),
    CompactBlock(BlockHash),
    BlockTransactions(GetBlockTxn),
    Transaction(Txid),
    Transactions(Vec<Txid>),
    DataRefTransaction(Txid),
    Headers(GetHeaders),
    EnrichedHeaders(GetHdrsEn),
    BlockHashes(GetBlocks),
    Mempool { age_seconds: Option<i64>, quiet: Duration },
    Addresses,
    Ping,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut after = |command: &str, locator: &[BlockHash], stop: &BlockHash| match locator {
            [] => write!(f, "{command} {stop}"),
            [newest, ..] => write!(f, "{command} after {newest}"),
        };
        match self {
            Self::Headers(request) => after("getheaders", &request.locator, &request.stop),
            Self::EnrichedHeaders(request) => after("gethdrsen", &request.locator, &request.stop),
            Self::BlockHashes(request) => after("getblocks", &request.locator, &request.stop),
            Self::Block(hash) => write!(f, "getdata block {hash}"),
            Self::FilteredBlock(hash) => write!(f, "getdata filtered block {hash}"),
            Self::CompactBlock(hash) => write!(f, "getdata compact block {hash}"),
            Self::BlockTransactions(request) => {
                write!(f, "getblocktxn {} of {}", request.indexes().len(), request.block_hash)
            }
            Self::Transaction(txid) => write!(f, "getdata tx {txid}"),
            Self::Transactions(txids) => write!(f, "getdata {} tx", txids.len()),
            Self::DataRefTransaction(txid) => write!(f, "getdata dataref tx {txid}"),
            Self::Mempool { .. } => f.write_str("mempool"),
            Self::Addresses => f.write_str("getaddr"),
            Self::Ping => f.write_str("ping"),
        }
    }
}

/// The reply to any request, as [`Outcome`](crate::Outcome) reports it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Answer {
    /// To [`GetData::block`], and to whoever asked for parts of it.
    Block(Block),
    /// To [`GetData::filtered_block`].
    FilteredBlock(Box<FilteredBlock>),
    /// To [`GetData::compact_block`].
    CompactBlock(Box<CompactBlock>),
    /// To [`GetBlockTxn`].
    BlockTransactions(Box<BlockTxn>),
    /// To [`GetData::transaction`].
    Transaction(Transaction),
    /// To [`GetData::transactions`], in the order asked.
    Transactions(Vec<Result<Transaction, TransactionNotFound>>),
    /// To [`GetData::dataref_transaction`].
    DataRefTransaction(Box<ProvenTransaction>),
    /// To [`GetHeaders`].
    Headers(Vec<BlockHeader>),
    /// To [`GetHdrsEn`].
    EnrichedHeaders(Vec<EnrichedHeader>),
    /// To [`GetBlocks`].
    BlockHashes(Vec<BlockHash>),
    /// To [`Mempool`].
    Txids(Vec<Txid>),
    /// To [`GetAddr`].
    Addresses(Vec<TimestampedAddress>),
    /// To [`Ping`].
    RoundTrip(Duration),
}

/// The parts of a block that match the filter loaded at the peer; the reply to [`GetData::filtered_block`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FilteredBlock {
    /// The header and the proof; its matches are those of `transactions`, and its root is the header's.
    pub merkle_block: MerkleBlock,
    /// The matching transactions, in block order.
    pub transactions: Vec<Transaction>,
}

/// The reply to [`GetData::compact_block`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum CompactReply {
    /// The compact form; what it leaves out is asked for with [`GetBlockTxn`].
    Compact(Box<CompactBlock>),
    /// The whole block, its merkle root checked: a node sends it for a block more than a few below its tip.
    Block(Block),
}

/// The reply to [`GetBlockTxn`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum BlockTxnReply {
    /// As many transactions as were asked for. Only putting the block together proves that they are the right ones.
    Transactions(Box<BlockTxn>),
    /// The whole block, its merkle root checked: a node sends it for a block more than ten below its tip, or if almost
    /// all of it was asked for.
    Block(Block),
}

/// No peer that was asked has this transaction to give.
///
/// A node gives only what it relayed in the last 15 minutes; never what is in a block alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TransactionNotFound {
    /// The transaction asked for.
    pub txid: Txid,
}

impl fmt::Display for TransactionNotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {} not found", self.txid)
    }
}

impl std::error::Error for TransactionNotFound {}

/// Constructors of the requests that travel as `getdata`.
#[derive(Clone, Copy, Debug)]
pub struct GetData;

impl GetData {
    /// Asks for a block.
    ///
    /// A node that does not know it says nothing, so the request ends with
    /// [`TimedOut`](RequestError::TimedOut) then.
    #[must_use]
    pub fn block(hash: BlockHash) -> BlockRequest {
        BlockRequest(hash)
    }

    /// Asks for the transactions of a block that match the filter, with the proof that they are in it.
    ///
    /// The filter is the one that `filterload` set at the peer; a peer without one sends every transaction of the block.
    /// So name the peer in the [`RequestOptions`].
    #[must_use]
    pub fn filtered_block(hash: BlockHash) -> FilteredBlockRequest {
        FilteredBlockRequest(hash)
    }

    /// Asks for the compact form of a block, for which a node may give the whole.
    #[must_use]
    pub fn compact_block(hash: BlockHash) -> CompactBlockRequest {
        CompactBlockRequest(hash)
    }

    /// Asks for a transaction that a miner's coinbase refers to, with the proof that it is in a block.
    ///
    /// Nodes without miner ids, which is most, do not have any. The proof names the block by its hash, so checking it
    /// takes that header: [`ProvenTransaction::verify`].
    #[must_use]
    pub fn dataref_transaction(txid: Txid) -> DataRefTransactionRequest {
        DataRefTransactionRequest(txid)
    }

    /// Asks for a transaction that nodes have lately relayed.
    #[must_use]
    pub fn transaction(txid: Txid) -> TransactionRequest {
        TransactionRequest(txid)
    }

    /// Asks for many transactions at once, 25,000 at most.
    #[must_use]
    pub fn transactions(txids: impl IntoIterator<Item = Txid>) -> TransactionsRequest {
        TransactionsRequest(txids.into_iter().collect())
    }
}

/// Made by [`GetData::block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRequest(BlockHash);

/// Made by [`GetData::filtered_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilteredBlockRequest(BlockHash);

/// Made by [`GetData::compact_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactBlockRequest(BlockHash);

/// Made by [`GetData::dataref_transaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRefTransactionRequest(Txid);

/// Made by [`GetData::transaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionRequest(Txid);

/// Made by [`GetData::transactions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionsRequest(Vec<Txid>);

/// Asks for addresses of other peers.
///
/// A node answers once per connection and on a random timer, half a minute on average, so addresses that the peer has
/// already sent satisfy it too, and its default deadline is
/// [`getaddr_timeout`](crate::Config#structfield.getaddr_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetAddr;

/// Asks for the ids of the transactions that a node holds in its pool.
///
/// A node that does not allow it, and by default none does, ends the connection: the request is refused with
/// [`RequestError::Harmful`] unless you [`insist`](Self::insist). It is asked of one peer; name it in the
/// [`RequestOptions`]. The answer is announcements without an end mark, so it is taken to be complete when none has come
/// for [`quiet`](Self::quiet); they are delivered as messages, too. An empty pool draws no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mempool {
    age_seconds: Option<i64>,
    quiet: Duration,
    insists: bool,
}

impl Mempool {
    /// Asks for all transactions.
    #[must_use]
    pub fn new() -> Self {
        Self { age_seconds: None, quiet: Duration::from_secs(1), insists: false }
    }

    /// Asks for those at least so old; only peers that the node has named for it are answered (1.2.0 and later).
    #[must_use]
    pub fn older_than(mut self, seconds: i64) -> Self {
        self.age_seconds = Some(seconds);
        self
    }

    /// How long no announcement comes when all have come; a second by default.
    #[must_use]
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// Asks although the peer may end the connection.
    #[must_use]
    pub fn insist(mut self) -> Self {
        self.insists = true;
        self
    }
}

impl Default for Mempool {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks for a sign of life and takes the time.
///
/// It is a fence too: everything that the peer sent before its answer has been delivered before the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping;

/// Writes the impls of one request.
macro_rules! request {
    ($name:ident => $reply:ty, |$this:ident| $question:expr, $($answer:pat => $value:expr),+) => {
        impl Request for $name {
            type Reply = $reply;
        }

        impl sealed::Sealed for $name {
            fn into_question(self) -> Result<Question, RequestError> {
                let $this = self;
                $question
            }

            fn reply(answer: Answer) -> Option<$reply> {
                match answer {
                    $($answer => Some($value),)+
                    _ => None,
                }
            }
        }
    };
}

request!(BlockRequest => Block, |this| Ok(Question::Block(this.0)), Answer::Block(block) => block);
request!(
    FilteredBlockRequest => FilteredBlock,
    |this| Ok(Question::FilteredBlock(this.0)),
    Answer::FilteredBlock(block) => *block
);
request!(
    CompactBlockRequest => CompactReply,
    |this| Ok(Question::CompactBlock(this.0)),
    Answer::CompactBlock(block) => CompactReply::Compact(block),
    Answer::Block(block) => CompactReply::Block(block)
);
request!(
    GetBlockTxn => BlockTxnReply,
    |this| check_block_transactions(this),
    Answer::BlockTransactions(transactions) => BlockTxnReply::Transactions(transactions),
    Answer::Block(block) => BlockTxnReply::Block(block)
);
request!(TransactionRequest => Transaction, |this| Ok(Question::Transaction(this.0)), Answer::Transaction(tx) => tx);
request!(
    TransactionsRequest => Vec<Result<Transaction, TransactionNotFound>>,
    |this| check_transactions(this.0),
    Answer::Transactions(results) => results
);
request!(
    DataRefTransactionRequest => ProvenTransaction,
    |this| Ok(Question::DataRefTransaction(this.0)),
    Answer::DataRefTransaction(transaction) => *transaction
);
request!(
    GetHeaders => Vec<BlockHeader>,
    |this| check_locator(&this.locator, this.stop).map(|()| Question::Headers(this)),
    Answer::Headers(headers) => headers
);
request!(
    GetHdrsEn => Vec<EnrichedHeader>,
    |this| check_locator(&this.locator, this.stop).map(|()| Question::EnrichedHeaders(this)),
    Answer::EnrichedHeaders(headers) => headers
);
request!(
    GetBlocks => Vec<BlockHash>,
    |this| check_locator_len(&this.locator).map(|()| Question::BlockHashes(this)),
    Answer::BlockHashes(hashes) => hashes
);
request!(Mempool => Vec<Txid>, |this| check_mempool(this), Answer::Txids(txids) => txids);
request!(
    GetAddr => Vec<TimestampedAddress>,
    |_this| Ok(Question::Addresses),
    Answer::Addresses(addresses) => addresses
);
request!(Ping => Duration, |_this| Ok(Question::Ping), Answer::RoundTrip(time) => time);

fn check_transactions(txids: Vec<Txid>) -> Result<Question, RequestError> {
    if txids.is_empty() {
        return Err(RequestError::Invalid { what: "no transaction is named" });
    }
    if txids.len() > MAX_TRANSACTIONS {
        return Err(RequestError::Invalid { what: "more transactions than every node takes in one message" });
    }
    if txids.iter().collect::<HashSet<_>>().len() < txids.len() {
        return Err(RequestError::Invalid { what: "a transaction is named twice" });
    }
    Ok(Question::Transactions(txids))
}

fn check_block_transactions(request: GetBlockTxn) -> Result<Question, RequestError> {
    if request.indexes().is_empty() {
        return Err(RequestError::Invalid { what: "no index is named" });
    }
    Ok(Question::BlockTransactions(request))
}

fn check_locator(locator: &[BlockHash], stop: BlockHash) -> Result<(), RequestError> {
    if locator.is_empty() && stop == BlockHash::ZERO {
        return Err(RequestError::Invalid { what: "nodes do not answer an empty locator without a stop hash" });
    }
    check_locator_len(locator)
}

fn check_locator_len(locator: &[BlockHash]) -> Result<(), RequestError> {
    if locator.len() > MAX_LOCATOR {
        return Err(RequestError::Invalid { what: "locator is far longer than any chain needs" });
    }
    Ok(())
}

fn check_mempool(request: Mempool) -> Result<Question, RequestError> {
    if !request.insists {
        return Err(RequestError::Harmful(Harm::Mempool));
    }
    Ok(Question::Mempool { age_seconds: request.age_seconds, quiet: request.quiet })
}

/// Whom to ask and how long.
///
/// ```
/// use std::time::Duration;
/// use conduit::RequestOptions;
///
/// let options = RequestOptions::new().timeout(Duration::from_secs(5)).attempts(2);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// The only peer to ask, also if it has to be waited for; `None` asks the best ones.
    ///
    /// Once the peer is [disconnected](crate::Conduit::disconnect), nobody is left to ask and the request ends at once.
    pub peer: Option<PeerId>,
    /// How long the request may take, from the start if it is queued before; `None` takes the configured time.
    pub timeout: Option<Duration>,
    /// How many peers are asked, each for its share of the time; `None` takes the configured number, for [`Mempool`] one.
    pub attempts: Option<usize>,
    /// A peer that has answered wrongly, and so is not asked.
    pub(crate) avoid: Option<PeerId>,
}

impl RequestOptions {
    /// The configured time and attempts, of the best peers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks this peer only.
    #[must_use]
    pub fn peer(mut self, peer: PeerId) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Ends the request after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks at most this many peers.
    #[must_use]
    pub fn attempts(mut self, attempts: usize) -> Self {
        self.attempts = Some(attempts);
        self
    }

    pub(crate) fn avoid(mut self, peer: Option<PeerId>) -> Self {
        self.avoid = peer;
        self
    }
}

/// Fits the least payload limit a node may have, 1 MiB of 36 bytes each.
const MAX_TRANSACTIONS: usize = 25_000;
/// Ours: a locator has some ten entries and one for each doubling of the height.
const MAX_LOCATOR: usize = 10_000;
