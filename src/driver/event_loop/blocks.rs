//! Blocks that streams wait for on one connection, and the one that is coming.

use std::sync::Arc;

use crate::error::DisconnectReason;
use crate::peer::{ConnectionId, IdMap, PeerId, StreamId};
use crate::queue::block::{BlockQueue, Pushed};
use crate::wire::BlockHash;

/// Where the blocks of one connection go.
#[derive(Default)]
pub(super) struct BlockIntake {
    expected: IdMap<StreamId, Arc<BlockQueue>>,
    coming: Option<Coming>,
}

/// A block whose payload has begun.
pub(super) struct Incoming {
    pub(super) stream: StreamId,
    pub(super) hash: BlockHash,
    pub(super) length: u64,
    pub(super) checksum: Option<[u8; 4]>,
}

struct Coming {
    hash: BlockHash,
    /// `None` if it is read and thrown away.
    queue: Option<Arc<BlockQueue>>,
    /// Bytes that have not come.
    left: u64,
}

impl BlockIntake {
    /// The same streams wait for blocks from a connection that joins this one.
    pub(super) fn beside(&self) -> Self {
        Self { expected: self.expected.clone(), coming: None }
    }

    pub(super) fn expect(&mut self, stream: StreamId, queue: Arc<BlockQueue>) {
        self.expected.insert(stream, queue);
    }

    pub(super) fn expects(&self, stream: StreamId) -> bool {
        self.expected.contains_key(&stream)
    }

    /// The block of a stream has come elsewhere.
    pub(super) fn forget(&mut self, stream: StreamId) {
        self.expected.remove(&stream);
    }

    /// Whether what is coming has somewhere to go.
    pub(super) fn has_room(&self, connection: ConnectionId) -> bool {
        let queue = self.coming.as_ref().and_then(|coming| coming.queue.as_ref());
        queue.is_none_or(|queue| !queue.is_full_of(connection))
    }

    /// Whether those that nobody waits for any more should be forgotten.
    pub(super) fn has_many(&self) -> bool {
        self.expected.len() > MANY_EXPECTED
    }

    pub(super) fn forget_closed(&mut self) {
        self.expected.retain(|_, queue| !queue.is_closed());
    }

    pub(super) fn forget_who_wait_for_another(&mut self, connection: ConnectionId) {
        self.expected.retain(|_, queue| queue.asked() == Some(connection));
    }

    /// A block begins; tells whether its stream wants it.
    pub(super) fn begin(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        block: Incoming,
    ) -> Result<bool, DisconnectReason> {
        let Incoming { stream, hash, length, checksum } = block;
        let queue = self.expected.remove(&stream).filter(|queue| queue.begin(connection, peer, length, checksum));
        let wanted = queue.is_some();
        self.coming = Some(Coming { hash, queue, left: length });
        if wanted || length <= SKIP_LIMIT { Ok(wanted) } else { Err(DisconnectReason::BlockAbandoned) }
    }

    /// Takes the next bytes; false if the connection is not to be read until it is told to go on.
    pub(super) fn push(&mut self, connection: ConnectionId, bytes: Vec<u8>) -> Result<bool, DisconnectReason> {
        let Some(coming) = &mut self.coming else { return Ok(true) };
        coming.left = coming.left.saturating_sub(bytes.len() as u64);
        let Some(queue) = &coming.queue else { return Ok(true) };
        match queue.push(connection, bytes) {
            Pushed::Room => return Ok(true),
            Pushed::Full => return Ok(false),
            Pushed::Unwanted => coming.queue = None,
        }
        // What is left of it is read and thrown away, if that is quicker than a new connection.
        if coming.left <= SKIP_LIMIT { Ok(true) } else { Err(DisconnectReason::BlockAbandoned) }
    }

    /// The block is complete; gives its hash.
    pub(super) fn end(&mut self, connection: ConnectionId) -> Option<BlockHash> {
        let coming = self.coming.take()?;
        if let Some(queue) = coming.queue {
            queue.end(connection);
        }
        Some(coming.hash)
    }

    /// The connection ends.
    pub(super) fn lose(&self, connection: ConnectionId) {
        if let Some(queue) = self.coming.as_ref().and_then(|coming| coming.queue.as_ref()) {
            queue.lose(connection);
        }
    }
}

/// The most bytes of a block that are read though nobody wants them; for more the connection is made anew.
const SKIP_LIMIT: u64 = 4 * 1_024 * 1_024;
const MANY_EXPECTED: usize = 256;
