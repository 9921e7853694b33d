//! Answers: what a peer says is given to the request that waits for it.
//!
//! Layer 4. Section 4 of the wire specification: there are no request ids, so answers are told by their content.

use std::collections::HashSet;

use super::gathering::Gathered;
use super::outstanding::{BlockForm, BlockReply, Walk};
use super::request::RequestId;
use super::{Engine, LONGEST, Now};
use crate::error::{AttemptFailure, RequestError};
use crate::message::{
    Block, BlockHeader, BlockTxn, CompactBlock, EnrichedHeader, Inventory, InventoryKind, MerkleBlock,
    ProvenTransaction, TimestampedAddress, Transaction,
};
use crate::peer::{ConnectionId, PeerId};
use crate::request::{Answer, Question};
use crate::wire::{BlockHash, Command, Txid, sha256d};

impl Engine {
    /// Whether a block was asked of this peer, also by a request that has ended.
    pub(crate) fn wants_block(&self, peer: PeerId, hash: &BlockHash) -> bool {
        let session = self.peers.get(&peer).and_then(|peer| peer.session());
        session.is_some_and(|session| session.outstanding.wants_block(hash))
    }

    /// Takes a transaction somebody asked for; gives it back if nobody did.
    pub(super) fn answer_transaction(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        transaction: Transaction,
    ) -> Option<Transaction> {
        let Some(session) = self.session_mut(peer, connection) else { return Some(transaction) };
        let txid = transaction.txid();
        // Those of a filtered block come right behind it, so they are told first.
        let transaction = match session.outstanding.gather(transaction) {
            Ok(gathered) => {
                self.take_gathered(now, peer, gathered);
                return None;
            }
            Err(transaction) => transaction,
        };
        let Some(session) = self.session_mut(peer, connection) else { return Some(transaction) };
        match session.outstanding.take_transaction(&txid) {
            None => Some(transaction),
            Some(None) => None,
            Some(Some(id)) => {
                self.transaction_found(now, id, peer, connection, transaction);
                None
            }
        }
    }

    fn transaction_found(
        &mut self,
        now: Now,
        id: RequestId,
        peer: PeerId,
        connection: ConnectionId,
        transaction: Transaction,
    ) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        // It is already, unless the request came while it was decoded.
        let transaction = transaction.compacted();
        let txids = match &request.question {
            Question::Transactions(txids) => txids,
            _ => return self.complete(now, id, Some(peer), Ok(Answer::Transaction(transaction))),
        };
        let len = transaction.raw().len();
        request.found.insert(transaction.txid(), transaction);
        if request.found.len() == txids.len() {
            // In the order asked.
            let results = txids.iter().filter_map(|txid| request.found.remove(txid)).map(Ok).collect();
            self.complete(now, id, Some(peer), Ok(Answer::Transactions(results)));
        } else if self.charge_found(now, id, len) {
            self.not_found(now, id, peer, connection);
        }
    }

    /// Something is missing: once the peer has answered for everything it was asked, it is another's turn.
    fn not_found(&mut self, now: Now, id: RequestId, peer: PeerId, connection: ConnectionId) {
        if self.session_mut(peer, connection).is_some_and(|session| session.outstanding.owes(id)) {
            return;
        }
        self.note_answer(peer, true);
        self.leave_peer(now, id, peer, AttemptFailure::NotFound);
    }

    /// A peer has answered, but not the question: the next one is asked.
    fn leave_peer(&mut self, now: Now, id: RequestId, peer: PeerId, failure: AttemptFailure) {
        self.note_failure(now, id, peer, failure);
        let Some(request) = self.requests.get_mut(&id) else { return };
        let was_current = request.asked.last().is_some_and(|last| last.peer == peer);
        request.asked.retain(|asked| asked.peer != peer);
        if was_current || request.asked.is_empty() {
            self.ask(now, id);
        }
    }

    /// Takes what a peer said it does not have; gives back the items nobody asked for.
    pub(super) fn answer_not_found(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        items: Vec<Inventory>,
    ) -> Vec<Inventory> {
        let mut unclaimed = Vec::new();
        for item in items {
            let taken = item.txid().and_then(|txid| {
                let outstanding = &mut self.session_mut(peer, connection)?.outstanding;
                match item.kind {
                    InventoryKind::DataRefTransaction => outstanding.take_dataref(&txid),
                    _ => outstanding.take_transaction(&txid),
                }
            });
            match taken {
                None => unclaimed.push(item),
                Some(None) => {}
                Some(Some(id)) => self.not_found(now, id, peer, connection),
            }
        }
        unclaimed
    }

    /// Takes a block somebody asked for, or for parts of it; gives it back if nobody did.
    pub(super) fn answer_block(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        block: Block,
    ) -> Option<Block> {
        match self.take_block(peer, connection, &block.hash(), BlockReply::Whole) {
            None => Some(block),
            Some((_, request)) => {
                self.watch_block(peer, &block);
                self.answer(now, peer, request, || Answer::Block(block));
                None
            }
        }
    }

    /// Takes a compact block somebody asked for; gives it back if nobody did.
    pub(super) fn answer_compact_block(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        block: Box<CompactBlock>,
    ) -> Option<Box<CompactBlock>> {
        match self.take_block(peer, connection, &block.header().hash(), BlockReply::Compact) {
            None => Some(block),
            Some((_, request)) => {
                self.answer(now, peer, request, || Answer::CompactBlock(block));
                None
            }
        }
    }

    /// Takes the transactions of a block that somebody asked for; gives them back if nobody did.
    pub(super) fn answer_block_transactions(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        found: Box<BlockTxn>,
    ) -> Option<Box<BlockTxn>> {
        match self.take_block(peer, connection, &found.block_hash(), BlockReply::Transactions) {
            None => Some(found),
            Some((BlockForm::Transactions(wanted), request)) if found.transactions().len() == wanted => {
                self.answer(now, peer, request, || Answer::BlockTransactions(found));
                None
            }
            Some((_, request)) => {
                if let Some(id) = request {
                    self.leave_peer(now, id, peer, AttemptFailure::WrongAnswer);
                }
                None
            }
        }
    }

    /// Takes a filtered block somebody asked for, its tree checked; gives it back if nobody did.
    pub(super) fn answer_filtered_block(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        block: Box<MerkleBlock>,
    ) -> Option<Box<MerkleBlock>> {
        let txids = block.tree.checked_matches();
        let Some(session) = self.session_mut(peer, connection) else { return Some(block) };
        match session.outstanding.take_filtered(block, txids) {
            Err(block) => Some(block),
            Ok(gathered) => {
                self.take_gathered(now, peer, gathered);
                None
            }
        }
    }

    fn take_gathered(&mut self, now: Now, peer: PeerId, gathered: Option<Gathered>) {
        match gathered {
            None => {}
            Some(Gathered::More { request, len }) => {
                self.charge_found(now, request, len);
            }
            Some(Gathered::Complete { request, block }) => {
                self.complete(now, request, Some(peer), Ok(Answer::FilteredBlock(block)));
            }
        }
    }

    fn take_block(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        hash: &BlockHash,
        reply: BlockReply,
    ) -> Option<(BlockForm, Option<RequestId>)> {
        let session = self.session_mut(peer, connection)?;
        let taken = session.outstanding.take_block(hash, reply);
        if taken.is_some() {
            session.refusals = 0;
        }
        taken
    }

    /// Ends a request with its answer, if it has not ended yet.
    fn answer(&mut self, now: Now, peer: PeerId, request: Option<RequestId>, answer: impl FnOnce() -> Answer) {
        if let Some(id) = request {
            self.complete(now, id, Some(peer), Ok(answer()));
        }
    }

    /// Takes a transaction with its proof that somebody asked for; gives it back if nobody did.
    pub(super) fn answer_dataref(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        proven: Box<ProvenTransaction>,
    ) -> Option<Box<ProvenTransaction>> {
        let txid = proven.transaction.txid();
        match self.session_mut(peer, connection).and_then(|s| s.outstanding.take_dataref(&txid)) {
            None => Some(proven),
            Some(request) => {
                self.answer(now, peer, request, || Answer::DataRefTransaction(proven));
                None
            }
        }
    }

    /// Takes headers that answer the request in flight; gives them back if they do not.
    pub(super) fn answer_headers(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        headers: Vec<BlockHeader>,
    ) -> Option<Vec<BlockHeader>> {
        let Some(session) = self.session_mut(peer, connection) else { return Some(headers) };
        let Some(request) = session.outstanding.take_headers(Walk::Headers, headers.first()) else {
            return Some(headers);
        };
        self.answer(now, peer, request, || Answer::Headers(headers));
        self.ask_waiting_for(now, Walk::Headers);
        None
    }

    /// Takes enriched headers that answer the request in flight; gives them back if they do not.
    pub(super) fn answer_enriched_headers(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        headers: Vec<EnrichedHeader>,
    ) -> Option<Vec<EnrichedHeader>> {
        let Some(session) = self.session_mut(peer, connection) else { return Some(headers) };
        let first = headers.first().map(|item| &item.header);
        let Some(request) = session.outstanding.take_headers(Walk::EnrichedHeaders, first) else {
            return Some(headers);
        };
        self.answer(now, peer, request, || Answer::EnrichedHeaders(headers));
        self.ask_waiting_for(now, Walk::EnrichedHeaders);
        None
    }

    /// Tells requests that are answered by announcements, which stay news for everybody else.
    pub(super) fn answer_inventory(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        items: &[Inventory],
    ) {
        let Some(session) = self.session_mut(peer, connection) else { return };
        if items.iter().all(|item| item.kind == InventoryKind::Block) {
            let hashes: Vec<BlockHash> = items.iter().filter_map(Inventory::block_hash).collect();
            if let Some(request) = session.outstanding.take_block_hashes(&hashes) {
                self.answer(now, peer, request, || Answer::BlockHashes(hashes));
                self.ask_waiting_for(now, Walk::BlockHashes);
            }
            return;
        }
        for id in session.outstanding.mempool_requests() {
            let txids = items.iter().filter(|item| item.kind == InventoryKind::Transaction);
            let txids: Vec<Txid> = txids.filter_map(Inventory::txid).collect();
            if txids.is_empty() || !self.charge_found(now, id, txids.len() * 32) {
                continue;
            }
            let Some(request) = self.requests.get_mut(&id) else { continue };
            request.heard.extend(txids);
            if let Question::Mempool { quiet, .. } = request.question {
                self.set_attempt_deadline(id, now.instant + quiet.min(LONGEST));
            }
        }
    }

    /// No announcement has come for a while, so the pool is taken to have been told.
    pub(super) fn complete_mempool(&mut self, now: Now, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let mut txids = std::mem::take(&mut request.heard);
        let mut seen = HashSet::with_capacity(txids.len());
        txids.retain(|txid| seen.insert(*txid));
        let peer = request.asked.last().map(|asked| asked.peer);
        self.complete(now, id, peer, Ok(Answer::Txids(txids)));
    }

    /// Keeps the addresses a peer sent; true if somebody had asked for them.
    pub(super) fn answer_addresses(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        addresses: &[TimestampedAddress],
    ) -> bool {
        let Some(session) = self.session_mut(peer, connection) else { return false };
        if addresses.is_empty() {
            return false;
        }
        session.addresses = addresses.to_vec();
        // One alone is how a node makes itself known.
        let is_discovered = addresses.len() > 1 && std::mem::take(&mut session.discovers);
        let requests = session.outstanding.take_addresses();
        self.hear_addresses(now, peer, addresses);
        for &id in &requests {
            self.complete(now, id, Some(peer), Ok(Answer::Addresses(addresses.to_vec())));
        }
        is_discovered || !requests.is_empty()
    }

    /// Takes the pong to a caller's ping; false if it is nobody's.
    pub(super) fn answer_ping(&mut self, now: Now, peer: PeerId, connection: ConnectionId, nonce: u64) -> bool {
        let Some(session) = self.session_mut(peer, connection) else { return false };
        let Some((request, sent_at)) = session.outstanding.take_ping(nonce) else { return false };
        if let Some(id) = request {
            let round_trip = now.instant.saturating_duration_since(sent_at);
            self.complete(now, id, Some(peer), Ok(Answer::RoundTrip(round_trip)));
        }
        true
    }

    /// A reply over the stream threshold is being skipped; `start` has its first bytes. False if nobody asked for it.
    pub(super) fn answer_too_large(
        &mut self,
        now: Now,
        peer: PeerId,
        connection: ConnectionId,
        command: Command,
        length: u64,
        start: &[u8],
    ) -> bool {
        let limit = self.config.stream_threshold;
        let Some(session) = self.session_mut(peer, connection) else { return false };
        let outstanding = &mut session.outstanding;
        let header_hash = || BlockHash::from_wire(sha256d(start));
        let mut take_block = |hash, reply| outstanding.take_block(&hash, reply).map(|(_, request)| request);
        let taken = match command {
            Command::BLOCK => take_block(header_hash(), BlockReply::Whole),
            Command::MERKLEBLOCK => take_block(header_hash(), BlockReply::Filtered),
            Command::CMPCTBLOCK => take_block(header_hash(), BlockReply::Compact),
            Command::BLOCKTXN => start
                .first_chunk()
                .and_then(|hash| take_block(BlockHash::from_wire(*hash), BlockReply::Transactions)),
            Command::HDRSEN => outstanding.take_unread_walk(Walk::EnrichedHeaders),
            // The id of a transaction is not in its first bytes; nodes answer in the order asked.
            Command::TX => outstanding.take_first_transaction(),
            Command::DATAREFTX => outstanding.take_first_dataref(),
            _ => None,
        };
        if let Some(Some(id)) = taken {
            self.complete(now, id, Some(peer), Err(RequestError::TooLarge { length, limit }));
        }
        taken.is_some()
    }
}
