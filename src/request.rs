//! Requests: each question a peer can be asked, its reply, and how long and whom to ask.
//!
//! The protocol has no request ids, so replies are told by their content (section 4 of the wire specification).

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::error::RequestError;
use crate::message::{Block, BlockHeader, GetHeaders, TimestampedAddress, Transaction};
use crate::peer::PeerId;
use crate::wire::{BlockHash, Txid};

/// A question that a peer can be asked, with its reply.
///
/// | request | reply | never answered when |
/// |---|---|---|
/// | [`GetData::block`] | [`Block`], its merkle root checked | the node does not know the block: nodes keep silent then |
/// | [`GetData::transaction`] | [`Transaction`] | |
/// | [`GetData::transactions`] | a result for each id | |
/// | [`GetHeaders`] | up to 2,000 headers, none at the tip | the node is in initial block download |
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
    Transaction(Txid),
    Transactions(Vec<Txid>),
    Headers(GetHeaders),
    Addresses,
    Ping,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(hash) => write!(f, "getdata block {hash}"),
            Self::Transaction(txid) => write!(f, "getdata tx {txid}"),
            Self::Transactions(txids) => write!(f, "getdata {} tx", txids.len()),
            Self::Headers(request) if request.locator.is_empty() => write!(f, "getheaders {}", request.stop),
            Self::Headers(request) => write!(f, "getheaders after {}", request.locator[0]),
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
    /// To [`GetData::block`].
    Block(Block),
    /// To [`GetData::transaction`].
    Transaction(Transaction),
    /// To [`GetData::transactions`], in the order asked.
    Transactions(Vec<Result<Transaction, TransactionNotFound>>),
    /// To [`GetHeaders`].
    Headers(Vec<BlockHeader>),
    /// To [`GetAddr`].
    Addresses(Vec<TimestampedAddress>),
    /// To [`Ping`].
    RoundTrip(Duration),
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

/// Asks for a sign of life and takes the time.
///
/// It is a fence too: everything that the peer sent before its answer has been delivered before the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping;

/// Writes the impls of one request.
macro_rules! request {
    ($name:ident => $reply:ty, |$this:ident| $question:expr, $answer:pat => $value:expr) => {
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
                    $answer => Some($value),
                    _ => None,
                }
            }
        }
    };
}

request!(BlockRequest => Block, |this| Ok(Question::Block(this.0)), Answer::Block(block) => block);
request!(TransactionRequest => Transaction, |this| Ok(Question::Transaction(this.0)), Answer::Transaction(tx) => tx);
request!(
    TransactionsRequest => Vec<Result<Transaction, TransactionNotFound>>,
    |this| check_transactions(this.0),
    Answer::Transactions(results) => results
);
request!(GetHeaders => Vec<BlockHeader>, |this| check_headers(this), Answer::Headers(headers) => headers);
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

fn check_headers(request: GetHeaders) -> Result<Question, RequestError> {
    if request.locator.is_empty() && request.stop == BlockHash::ZERO {
        return Err(RequestError::Invalid { what: "nodes do not answer an empty locator without a stop hash" });
    }
    if request.locator.len() > MAX_LOCATOR {
        return Err(RequestError::Invalid { what: "locator is far longer than any chain needs" });
    }
    Ok(Question::Headers(request))
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
    /// How many peers are asked, each for its share of the time; `None` takes the configured number.
    pub attempts: Option<usize>,
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
}

/// Fits the least payload limit a node may have, 1 MiB of 36 bytes each.
const MAX_TRANSACTIONS: usize = 25_000;
/// Ours: a locator has some ten entries and one for each doubling of the height.
const MAX_LOCATOR: usize = 10_000;
