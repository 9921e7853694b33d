//! What readers of blocks ask of a conduit.

use std::sync::Arc;

use super::shared::{Phase, Shared};
use crate::engine::DownloadOptions;
use crate::error::BlockError;
use crate::peer::{ConnectionId, PeerId, StreamId};
use crate::proto::ProtocolError;
use crate::queue::block::BlockQueue;
use crate::queue::outbound::Command;
use crate::wire::BlockHash;

impl Shared {
    /// Begins a download into a queue; `blocking` refuses what could only wait for a start.
    pub(crate) fn open_download(
        self: &Arc<Self>,
        hash: BlockHash,
        options: DownloadOptions,
        queue: Arc<BlockQueue>,
        blocking: bool,
    ) -> Result<StreamId, BlockError> {
        self.enter(|core, now| {
            let opened = match core.phase {
                Phase::Over { crashed: true } => Err(BlockError::Crashed),
                Phase::Over { crashed: false } => Err(BlockError::Shutdown),
                Phase::New if blocking => Err(BlockError::NotStarted),
                _ => core.engine.open_download(now, hash, options, queue),
            };
            if let Err(error) = &opened {
                core.happened.note_block(error.name());
            }
            opened
        })
    }

    /// The reader has the block, or is gone; `outcome` is counted.
    pub(crate) fn close_download(self: &Arc<Self>, stream: StreamId, queue: &BlockQueue, outcome: &'static str) {
        let resumed = queue.close();
        self.enter(|core, now| {
            core.happened.note_block(outcome);
            core.engine.close_download(now, stream);
        });
        self.resume_block(resumed);
    }

    /// The reader has come to where a peer was lost.
    pub(crate) fn go_on_with_download(self: &Arc<Self>, stream: StreamId, lost: ConnectionId) {
        self.enter(|core, now| core.engine.go_on_with_download(now, stream, lost));
    }

    /// The reader has found a peer out; what it still sends is thrown away.
    pub(crate) fn blame_for_block(
        self: &Arc<Self>,
        stream: StreamId,
        peer: PeerId,
        connection: ConnectionId,
        error: ProtocolError,
    ) {
        log::warn!(target: "conduit::driver", "{peer}: {error}");
        self.enter(|core, now| core.engine.blame_for_block(now, stream, peer, connection, error));
    }

    /// Lets a connection go on whose block has found room.
    pub(crate) fn resume_block(&self, connection: Option<ConnectionId>) {
        if let Some(connection) = connection {
            self.command(Command::ResumeBlock { connection });
        }
    }
}
