//! Blocks made of what the caller has: the compact form, then what is missing, and the whole block where that fails.
//!
//! On top of `Conduit` and its requests. Section 6.6 of the wire specification (BIP 152); `message::reconstruct` puts the
//! block together.

use std::time::{Duration, Instant};

use crate::conduit::Conduit;
use crate::driver::{deadline_after, now};
use crate::error::{AttemptFailure, RequestError};
use crate::message::{Block, CompactBlockError, PartialBlock, Reconstruction, Transaction};
use crate::peer::{PeerId, PeerState};
use crate::request::{BlockTxnReply, CompactReply, GetData, RequestOptions};
use crate::wire::BlockHash;

impl Conduit {
    /// Fetches a block most of whose transactions the caller has, and blocks until it is there.
    ///
    /// A peer gives the block's short ids, `known` gives the transactions, and those that are not among them are asked of
    /// the same peer, as its short ids tell where they are. The block that comes of it is proven by its header's merkle
    /// root. Where that does not work out, the whole block is asked for: when short ids collide, when that peer is lost,
    /// silent or wrong, and when nobody gives the compact form. Nodes give the whole from the start for a block that is
    /// more than a few below their tip.
    ///
    /// Give many more transactions than the block has, if you have them: each costs one SipHash.
    ///
    /// ```no_run
    /// use conduit::message::Transaction;
    /// use conduit::{BlockHash, Conduit};
    ///
    /// # fn mined(conduit: &Conduit, tip: BlockHash, pool: &[Transaction]) -> Result<(), conduit::RequestError> {
    /// let block = conduit.compact_block(tip, pool)?; // six bytes for each transaction in the pool
    /// println!("{} of {} transactions", block.hash(), block.transaction_count());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send_request`](Self::send_request) of the whole block. A block over
    /// [`stream_threshold`](crate::Config#structfield.stream_threshold) is given only if it needs not be sent whole.
    pub fn compact_block<'a>(
        &self,
        hash: BlockHash,
        known: impl IntoIterator<Item = &'a Transaction>,
    ) -> Result<Block, RequestError> {
        self.compact_block_with(hash, known, &RequestOptions::new())
    }

    /// As [`compact_block`](Self::compact_block), with a peer, time or number of attempts of its own.
    ///
    /// The time is for all of it. Half may go by with the compact form and half of the rest with what is missing, so that
    /// there is always some for the whole block.
    ///
    /// # Errors
    ///
    /// As [`compact_block`](Self::compact_block).
    pub fn compact_block_with<'a>(
        &self,
        hash: BlockHash,
        known: impl IntoIterator<Item = &'a Transaction>,
        options: &RequestOptions,
    ) -> Result<Block, RequestError> {
        let deadline = deadline_after(options.timeout.unwrap_or(self.shared().config.request_timeout));
        match self.rebuilt_block(hash, known, options, deadline) {
            Ok(block) => Ok(block),
            Err(Unmade::Ended(error)) => Err(error),
            Err(Unmade::AskWhole { avoid }) => {
                let options = options.clone().timeout(time_left(deadline)).avoid(avoid);
                self.send_request_with(GetData::block(hash), &options)
            }
        }
    }

    /// The block out of its compact form, or what is to be done instead.
    fn rebuilt_block<'a>(
        &self,
        hash: BlockHash,
        known: impl IntoIterator<Item = &'a Transaction>,
        options: &RequestOptions,
        deadline: Option<Instant>,
    ) -> Result<Block, Unmade> {
        let compact_options = options.clone().timeout(time_left(deadline) / 2);
        let (peer, reply) = self.send_request_naming_peer(GetData::compact_block(hash), &compact_options);
        let (peer, compact) = match (peer, reply.map_err(Unmade::from)?) {
            (_, CompactReply::Block(block)) => return Ok(block),
            (Some(peer), CompactReply::Compact(compact)) => (peer, compact),
            (None, CompactReply::Compact(_)) => return Err(Unmade::AskWhole { avoid: None }),
        };
        let partial = match compact.reconstruct(known).map_err(|error| Unmade::by(peer, hash, error))? {
            Reconstruction::Complete(block) => return Ok(block),
            Reconstruction::Partial(partial) => partial,
        };
        match self.missing_transactions(peer, &partial, time_left(deadline) / 2)? {
            BlockTxnReply::Block(block) => Ok(block),
            BlockTxnReply::Transactions(found) => {
                partial.fill(&found).map_err(|error| Unmade::by(peer, hash, error))
            }
        }
    }

    /// Asks for what is missing, only whoever gave the compact form.
    ///
    /// If its short ids are not those of the block, another one would have us banned for an index behind the block's end.
    fn missing_transactions(
        &self,
        peer: PeerId,
        partial: &PartialBlock,
        timeout: Duration,
    ) -> Result<BlockTxnReply, Unmade> {
        let is_connected = |state| matches!(state, PeerState::Ready | PeerState::Unverified);
        // Else the request would wait for it to come back.
        if !self.peers().iter().any(|info| info.id == peer && is_connected(info.state)) {
            return Err(Unmade::AskWhole { avoid: None });
        }
        let request = partial.request();
        log::debug!(
            target: "conduit::compact",
            "{peer}: block {}: {} transactions are missing", request.block_hash, request.indexes().len()
        );
        let options = RequestOptions::new().peer(peer).attempts(1).timeout(timeout);
        Ok(self.send_request_with(request, &options)?)
    }
}

/// Why no block came of a compact one.
enum Unmade {
    /// The whole is to be asked for, but not of a peer that has lied.
    AskWhole { avoid: Option<PeerId> },
    /// That would not help.
    Ended(RequestError),
}

impl Unmade {
    fn by(peer: PeerId, hash: BlockHash, error: CompactBlockError) -> Self {
        log::debug!(target: "conduit::compact", "{peer}: block {hash}: {error}");
        Self::AskWhole { avoid: (!error.is_collision()).then_some(peer) }
    }
}

impl From<RequestError> for Unmade {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoPeers => Self::AskWhole { avoid: None },
            RequestError::NotFound { attempts }
            | RequestError::TimedOut { attempts }
            | RequestError::Failed { attempts } => {
                let liar = attempts.iter().find(|attempt| attempt.failure == AttemptFailure::WrongAnswer);
                Self::AskWhole { avoid: liar.map(|attempt| attempt.peer) }
            }
            error => Self::Ended(error),
        }
    }
}

fn time_left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now().instant))
}
