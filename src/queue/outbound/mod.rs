//! The outbound queue: what the event loop is told to do, and above all to send.

pub(crate) mod budget;
mod open_run;

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::block::BlockQueue;
use super::link::LinkState;
use crate::error::DisconnectReason;
use crate::peer::{ConnectionId, PeerAddress, PeerId, StreamId};
use crate::proto::{AssociationId, FrameRun, Tally};
use crate::wire::{self, BlockHash, Frame};
use budget::Budget;
use open_run::OpenRun;

/// What the event loop is told to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Make a connection.
    Connect { connection: ConnectionId, peer: PeerId, address: PeerAddress },
    /// Make a connection that joins another one.
    Join { connection: ConnectionId, peer: PeerId, address: PeerAddress, joins: Joins },
    /// Go on with a connection that the caller's dialler made, or failed to make.
    Adopt { connection: ConnectionId, peer: PeerId, result: Result<std::net::TcpStream, DisconnectReason> },
    /// Send a frame whose bytes are charged to the connection.
    Send { connection: ConnectionId, frame: Frame },
    /// Send one frame over several connections, charged to each.
    SendAll { connections: Vec<ConnectionId>, frame: Frame },
    /// Send small frames over several connections, charged to each.
    SendRun { connections: Arc<[ConnectionId]>, run: Arc<FrameRun>, commands: Tally },
    /// End a connection.
    Close { connection: ConnectionId, reason: DisconnectReason },
    /// Read a connection, and the one that joins it, or leave its bytes in the kernel, as its messages are taken.
    SetReading { connection: ConnectionId, reading: bool },
    /// The inbound budget has room for it again.
    Resume { connection: ConnectionId },
    /// Put the next block with this hash, from the connection or the one that joins it, into the queue of a stream.
    ExpectBlock { connection: ConnectionId, hash: BlockHash, stream: StreamId, queue: Arc<BlockQueue> },
    /// Put no blocks into queues any more that do not wait for this connection, or the one that joins it.
    ForgetBlocks { connection: ConnectionId },
    /// A stream that it fills, or the connection that joins it, has room again, or is gone.
    ResumeBlock { connection: ConnectionId },
    /// End everything, at once or when all frames have left, at the latest at the given instant.
    Shutdown { flush_until: Option<Instant> },
}

/// What a second connection joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joins {
    pub(crate) of: ConnectionId,
    pub(crate) association: AssociationId,
}

/// The queue itself: commands in the order given, and the budget of the frames among them.
///
/// A stream of small frames for the same peers does not go through the channel one by one: callers write them into one
/// run of bytes, which the loop takes with everything that is in it by then, and each of the peers sends from.
#[derive(Debug)]
pub(crate) struct Outbound {
    sender: Sender<Command>,
    pub(crate) budget: Budget,
    open: Mutex<OpenRun>,
}

/// A frame that is to be copied into a run.
pub(crate) struct SmallFrame<'a> {
    pub(crate) command: wire::Command,
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Outbound {
    pub(crate) fn new(share: usize, pool: usize) -> (Self, Receiver<Command>) {
        // What has a size is bounded by the budget, the rest by the number of connections.
        let (sender, receiver) = crossbeam_channel::unbounded();
        (Self { sender, budget: Budget::new(share, pool), open: Mutex::default() }, receiver)
    }

    /// Queues a command behind everything that was queued before.
    pub(crate) fn push(&self, command: Command) {
        let mut open = self.open.lock();
        self.close_run(&mut open);
        self.send(command);
    }

    /// Queues commands behind everything that was queued before.
    pub(crate) fn extend(&self, commands: impl IntoIterator<Item = Command>) {
        commands.into_iter().for_each(|command| self.push(command));
    }

    /// Charges and queues a frame for these peers, if it can go into the run for them; if not, nothing has happened.
    ///
    /// It cannot the first time these peers follow others, nor when one of them is gone, full or takes no such frame.
    pub(crate) fn push_small(
        &self,
        peers: &[PeerId],
        link: impl Fn(&PeerId) -> Option<Arc<LinkState>>,
        frame: &SmallFrame<'_>,
    ) -> bool {
        let len = frame.header.len() + frame.payload.len();
        let mut open = self.open.lock();
        if !open.is_for(peers) {
            self.close_run(&mut open);
            open.turn_to(peers);
            return false;
        }
        if !open.find_links(link) || !open.takes(frame.command, frame.payload.len()) {
            return false;
        }
        if !open.has_room(len) {
            self.close_run(&mut open);
        }
        if !open.charge(&self.budget, send_cost(len)) {
            return false;
        }
        open.push(frame.command, len, |out| {
            out.extend_from_slice(frame.header);
            out.extend_from_slice(frame.payload);
        });
        true
    }

    /// Puts the run that callers are writing into the queue, for the loop to take.
    pub(crate) fn flush(&self) {
        self.close_run(&mut self.open.lock());
    }

    fn close_run(&self, open: &mut OpenRun) {
        if let Some((connections, run, commands)) = open.take(&self.budget) {
            self.send(Command::SendRun { connections, run, commands });
        }
    }

    fn send(&self, command: Command) {
        // The receiver is dropped when the loop has ended, which wants nothing any more.
        drop(self.sender.send(command));
    }
}

/// What a frame of `len` bytes is charged in the outbound queue, bytes.
pub(crate) const fn send_cost(len: usize) -> usize {
    len + COMMAND_COST
}

/// Larger payloads are cheaper shared than copied.
pub(crate) const SMALL_PAYLOAD: usize = 4_096;

/// What a frame costs in the outbound queue besides its bytes, until the loop has taken it.
pub(crate) const COMMAND_COST: usize = 128;

#[cfg(test)]
mod tests {
    use super::budget::Wait;
    use super::*;

    const SHARE: usize = 100_000;

    struct Scene {
        outbound: Outbound,
        receiver: Receiver<Command>,
        links: Vec<Arc<LinkState>>,
    }

    impl Scene {
        fn new(share: usize) -> Self {
            let (outbound, receiver) = Outbound::new(share, 0);
            let links: Vec<_> = (1..=3).map(|id| Arc::new(LinkState::new(ConnectionId(id)))).collect();
            links.iter().for_each(|link| outbound.budget.open(link.connection));
            Self { outbound, receiver, links }
        }

        /// Queues a frame of one letter; the peers are places in the list of links.
        fn push(&self, peers: &[u64], letter: u8) -> bool {
            let peers: Vec<_> = peers.iter().map(|&n| PeerId(n)).collect();
            let frame = SmallFrame { command: wire::Command::TX, header: b":", payload: &[letter] };
            self.outbound.push_small(&peers, |peer| self.links.get(peer.0 as usize).cloned(), &frame)
        }

        /// What the loop takes: connections and bytes of each command.
        fn taken(&self) -> Vec<(Vec<u64>, String)> {
            self.outbound.flush();
            let taken = self.receiver.try_iter().map(|command| match command {
                Command::SendRun { connections, run, commands } => {
                    assert_eq!(commands.total(), run.count() as u64);
                    let text = String::from_utf8(run.bytes().to_vec()).unwrap();
                    (connections.iter().map(|c| c.0).collect(), text)
                }
                Command::Resume { connection } => (vec![connection.0], "resume".to_owned()),
                other => panic!("{other:?}"),
            });
            taken.collect()
        }

        fn room(&self, link: usize) -> usize {
            let fits = |&n: &usize| {
                let connection = self.links[link].connection;
                let fits = self.outbound.budget.charge(connection, n, Wait::No).is_ok();
                if fits {
                    self.outbound.budget.release(connection, n, 1);
                }
                fits
            };
            (0..=SHARE).rev().find(fits).unwrap()
        }
    }

    #[test]
    fn frames_for_the_same_peers_share_a_run_from_the_second_on() {
        let scene = Scene::new(SHARE);
        let queued: Vec<bool> = b"abcd".iter().map(|&letter| scene.push(&[0, 2], letter)).collect();
        assert_eq!(queued, [false, true, true, true]);
        assert_eq!(scene.taken(), [(vec![1, 3], ":b:c:d".to_owned())]);
        // The next run needs no first one.
        assert!(scene.push(&[0, 2], b'e'));
        assert_eq!(scene.taken(), [(vec![1, 3], ":e".to_owned())]);
        assert_eq!(scene.taken(), []);
    }

    #[test]
    fn everything_is_taken_in_the_order_queued() {
        let scene = Scene::new(SHARE);
        scene.push(&[0], b'a');
        assert!(scene.push(&[0], b'b'));
        scene.outbound.push(Command::Resume { connection: ConnectionId(9) });
        assert!(scene.push(&[0], b'c'));
        assert!(!scene.push(&[0, 1], b'd'));
        assert!(scene.push(&[0, 1], b'e'));
        let expected = [(vec![1], ":b"), (vec![9], "resume"), (vec![1], ":c"), (vec![1, 2], ":e")];
        assert_eq!(scene.taken(), expected.map(|(connections, text)| (connections, text.to_owned())));
    }

    #[test]
    fn frames_are_charged_to_each_and_what_was_charged_ahead_is_given_back() {
        let scene = Scene::new(SHARE);
        assert_eq!([(); 4].map(|()| scene.push(&[0, 1], b'x')), [false, true, true, true]);
        assert!(scene.room(0) < SHARE - 3 * send_cost(2));
        scene.taken();
        assert_eq!(
            [0, 1, 2].map(|link| scene.room(link)),
            [SHARE - 3 * send_cost(2), SHARE - 3 * send_cost(2), SHARE]
        );
    }

    #[test]
    fn a_full_peer_refuses_the_frame_for_all_and_nobody_is_charged() {
        let scene = Scene::new(2 * send_cost(2));
        let queued: Vec<bool> = b"abcd".iter().map(|&letter| scene.push(&[0, 1], letter)).collect();
        assert_eq!(queued, [false, true, true, false]);
        scene.outbound.budget.release(ConnectionId(1), send_cost(2), 0);
        assert!(!scene.push(&[0, 1], b'e'), "the second is full");
        assert_eq!(scene.taken(), [(vec![1, 2], ":b:c".to_owned())]);
        assert_eq!([0, 1].map(|link| scene.room(link)), [send_cost(2), 0]);
    }

    #[test]
    fn a_connection_that_is_over_is_looked_up_again() {
        let mut scene = Scene::new(SHARE);
        scene.push(&[0], b'a');
        assert!(scene.push(&[0], b'b'));
        scene.links[0].closed.store(true, std::sync::atomic::Ordering::Release);
        assert!(!scene.push(&[0], b'c'), "the run is for a connection that is over");
        scene.links[0] = Arc::new(LinkState::new(ConnectionId(7)));
        scene.outbound.budget.open(ConnectionId(7));
        assert_eq!(scene.taken(), [(vec![1], ":b".to_owned())]);
        assert!(scene.push(&[0], b'd'));
        assert_eq!(scene.taken(), [(vec![7], ":d".to_owned())]);
    }

    #[test]
    fn a_peer_that_takes_no_frames_sends_all_of_them_the_long_way() {
        let scene = Scene::new(SHARE);
        scene.push(&[0, 1], b'a');
        scene.links[1].paused.store(true, std::sync::atomic::Ordering::Release);
        assert!(!scene.push(&[0, 1], b'b'));
        scene.links[1].paused.store(false, std::sync::atomic::Ordering::Release);
        assert!(scene.push(&[0, 1], b'c'));
    }
}
