//! Downloads: who is asked for a block, and when another one is.

use super::*;
use crate::engine::DownloadOptions;
use crate::error::{BlockError, ProtocolError};
use crate::message::{InventoryKind, Reject, RejectCode};
use crate::peer::BanReason;
use crate::queue::block::{Part, Pushed};

/// A download as its reader sees it.
struct Reader {
    id: StreamId,
    hash: BlockHash,
    queue: Arc<BlockQueue>,
}

const TIMEOUT: Duration = Duration::from_secs(16);

fn download(world: &mut World, n: u8) -> Reader {
    download_with(world, n, None).unwrap()
}

fn download_with(world: &mut World, n: u8, peer: Option<PeerId>) -> Result<Reader, BlockError> {
    let queue = Arc::new(BlockQueue::new(1_000));
    let options = DownloadOptions { peer, timeout: TIMEOUT };
    let hash = hash(n);
    let id = world.run(|engine, now| engine.open_download(now, hash, options, queue.clone()))?;
    Ok(Reader { id, hash, queue })
}

impl Reader {
    /// Why nothing comes any more, if that is so.
    fn failure(&self) -> Option<BlockError> {
        std::iter::from_fn(|| self.queue.try_take()).find_map(|(part, _)| match part {
            Part::Failed(error) => Some(error),
            _ => None,
        })
    }

    fn close(&self, world: &mut World) {
        self.queue.close();
        world.run(|engine, now| engine.close_download(now, self.id));
    }

    /// Comes to where the peer was lost.
    fn go_on(&self, world: &mut World) {
        let mut parts = std::iter::from_fn(|| self.queue.try_take()).map(|(part, _)| part);
        let lost = parts.find_map(|part| if let Part::Lost(connection) = part { Some(connection) } else { None });
        world.run(|engine, now| engine.go_on_with_download(now, self.id, lost.expect("one was lost")));
    }
}

impl World {
    /// Who was asked for a block since the last look; the event loop must know of each.
    fn asked_for(&mut self, reader: &Reader) -> Vec<PeerId> {
        let item = Inventory { kind: InventoryKind::Block, hash: *reader.hash.as_wire() };
        let wanted = Message::GetData(vec![item]);
        let (mine, others) =
            std::mem::take(&mut self.sent).into_iter().partition(|(_, message)| *message == wanted);
        self.sent = others;
        let mine: Vec<(ConnectionId, Message)> = mine;
        for (connection, _) in &mine {
            assert!(self.expected.iter().any(|e| (e.connection, e.stream) == (*connection, reader.id)));
        }
        mine.into_iter().map(|(connection, _)| self.owners[&connection]).collect()
    }

    /// The event loop sees the block begin.
    fn begin(&mut self, peer: PeerId, reader: &Reader, size: u64) -> bool {
        let connection = self.connection(peer);
        let at = self.expected.iter().position(|e| (e.connection, e.stream) == (connection, reader.id));
        let expected = self.expected.remove(at.expect("the block was asked for"));
        assert_eq!(expected.hash, reader.hash);
        let wanted = expected.queue.begin(connection, peer, size, None);
        self.run(|engine, now| engine.handle_block_began(now, peer, connection, reader.id, size, wanted));
        wanted
    }

    fn bytes(&mut self, peer: PeerId, reader: &Reader, len: usize) -> Pushed {
        reader.queue.push(self.connection(peer), vec![0; len])
    }

    fn end_block(&mut self, peer: PeerId, reader: &Reader) {
        let connection = self.connection(peer);
        reader.queue.end(connection);
        self.run(|engine, now| engine.handle_block_ended(now, peer, connection, reader.id, &reader.hash));
    }

    /// The event loop's part of a loss comes first.
    fn lose_in_block(&mut self, peer: PeerId, reader: &Reader) {
        reader.queue.lose(self.connection(peer));
        self.lose(peer);
    }
}

#[test]
fn the_best_peer_is_asked_once_and_then_the_block_is_the_readers() {
    let (mut world, peers) = World::connected(3);
    let reader = download(&mut world, 1);
    assert_eq!(world.asked_for(&reader), [peers[0]]);
    assert!(world.begin(peers[0], &reader, 2_000));
    assert_eq!(world.bytes(peers[0], &reader, 2_000), Pushed::Full);
    world.end_block(peers[0], &reader);
    world.pass(10 * TIMEOUT);
    assert_eq!(world.asked_for(&reader), []);
    assert_eq!(reader.failure(), None, "what the reader takes his time with is his");
    reader.close(&mut world);
    assert!(world.engine.peers(world.now).iter().all(|peer| peer.outstanding_requests == 0));
}

#[test]
fn before_the_start_nothing_is_asked_and_no_time_runs() {
    let mut world = World::new(Config::new(Network::Regtest));
    let peer = world.add(&address(1));
    let reader = download(&mut world, 1);
    world.advance(10 * TIMEOUT);
    world.start();
    world.pass(Duration::ZERO);
    world.connect(peer);
    assert_eq!(world.asked_for(&reader), [peer]);
}

#[test]
fn a_peer_that_never_begins_has_its_share_of_the_time_and_its_late_block_is_not_wanted() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    assert_eq!(world.asked_for(&reader), [peers[0]]);
    world.pass(TIMEOUT / 2);
    assert_eq!(world.asked_for(&reader), [peers[1]]);
    assert!(!world.begin(peers[0], &reader, 2_000));
    assert!(world.begin(peers[1], &reader, 2_000));
    world.end_block(peers[1], &reader);
    world.end_block(peers[0], &reader);
    reader.close(&mut world);
    assert!(world.engine.peers(world.now).iter().all(|peer| peer.outstanding_requests == 0));
}

#[test]
fn an_unknown_block_ends_at_the_deadline_with_everybody_asked() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    world.pass(TIMEOUT);
    let Some(BlockError::TimedOut { at: 0, attempts: failed }) = reader.failure() else {
        panic!("it has not ended")
    };
    assert_eq!(attempts(&failed), [(peers[0], AttemptFailure::TimedOut), (peers[1], AttemptFailure::TimedOut)]);

    let mut world = World::new(Config::new(Network::Regtest));
    world.start();
    let reader = download(&mut world, 1);
    world.pass(TIMEOUT);
    assert_eq!(reader.failure(), Some(BlockError::NoPeers));
}

#[test]
fn a_peer_lost_before_it_began_is_replaced_at_once() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    assert_eq!(world.asked_for(&reader), [peers[0]]);
    world.lose(peers[0]);
    assert_eq!(world.asked_for(&reader), [peers[1]]);
}

#[test]
fn a_peer_lost_in_the_middle_is_replaced_when_the_reader_has_come_to_it() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    world.asked_for(&reader);
    world.begin(peers[0], &reader, 2_000);
    world.bytes(peers[0], &reader, 500);
    world.lose_in_block(peers[0], &reader);
    world.pass(4 * TIMEOUT);
    assert_eq!(world.asked_for(&reader), []);
    reader.go_on(&mut world);
    assert_eq!(world.asked_for(&reader), [peers[1]]);
}

#[test]
fn whoever_was_lost_with_the_block_is_the_last_resort_and_three_times_are_enough() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    let mut asked = Vec::new();
    for _ in 0..6 {
        let next = world.asked_for(&reader);
        let [peer] = next[..] else { panic!("{next:?}") };
        asked.push(peer);
        world.begin(peer, &reader, 2_000);
        world.lose_in_block(peer, &reader);
        reader.go_on(&mut world);
        world.reconnect(peer);
    }
    assert_eq!((asked[0], asked[1]), (peers[0], peers[1]));
    assert_eq!(asked.iter().filter(|&&peer| peer == peers[0]).count(), 3);
    assert_eq!(world.asked_for(&reader), []);
    assert!(matches!(reader.failure(), Some(BlockError::Failed { .. })));
}

#[test]
fn a_peer_that_stops_is_closed_but_not_one_whose_bytes_the_reader_leaves() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    world.asked_for(&reader);
    world.begin(peers[0], &reader, 100_000);
    for _ in 0..20 {
        assert_ne!(world.bytes(peers[0], &reader, 1_100), Pushed::Unwanted);
        world.pass(TIMEOUT / 4);
        // He takes his time, and then everything.
        while reader.queue.try_take().is_some() {}
    }
    assert!(world.closes.is_empty());
    world.pass(TIMEOUT);
    let stalled = DisconnectReason::Protocol(ProtocolError::BlockStalled);
    assert!(world.closes.iter().any(|(_, reason)| *reason == stalled), "{:?}", world.closes);
    assert_eq!(world.asked_for(&reader), [], "the reader has to come to it");
    reader.queue.lose(world.closes[0].0);
    reader.go_on(&mut world);
    assert_eq!(world.asked_for(&reader), [peers[1]]);
}

#[test]
fn a_trickle_is_no_progress() {
    let (mut world, peers) = World::connected(1);
    let reader = download(&mut world, 1);
    world.asked_for(&reader);
    world.begin(peers[0], &reader, 100_000);
    for _ in 0..40 {
        if world.closes.is_empty() {
            world.bytes(peers[0], &reader, 1);
        }
        while reader.queue.try_take().is_some() {}
        world.pass(TIMEOUT / 20);
    }
    assert!(!world.closes.is_empty());
}

#[test]
fn a_peer_without_room_is_left_alone_for_a_while_and_asked_again() {
    let (mut world, peers) = World::connected(1);
    let reader = download(&mut world, 1);
    assert_eq!(world.asked_for(&reader), [peers[0]]);
    let (message, reason) = ("getdata".into(), "full".into());
    let busy = Reject { message, code: RejectCode::TooBusy, reason, hash: None };
    assert_eq!(world.say(peers[0], Message::Reject(Box::new(busy))), None);
    world.pass(4 * SECOND);
    assert_eq!(world.asked_for(&reader), []);
    world.pass(2 * SECOND);
    assert_eq!(world.asked_for(&reader), [peers[0]]);
    assert!(world.begin(peers[0], &reader, 2_000));
}

#[test]
fn whoever_lies_is_closed_and_not_asked_for_the_block_again() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    world.asked_for(&reader);
    world.begin(peers[0], &reader, 2_000);
    let connection = world.connection(peers[0]);
    reader.queue.discard(connection);
    world.run(|engine, now| {
        engine.blame_for_block(now, reader.id, peers[0], connection, ProtocolError::ForgedBlock)
    });
    assert_eq!(world.closes, [(connection, DisconnectReason::Protocol(ProtocolError::ForgedBlock))]);
    assert_eq!(world.asked_for(&reader), [peers[1]]);
    assert_eq!(world.engine.bans(world.now), [], "it was named");
    world.reconnect(peers[0]);
    world.lose(peers[1]);
    world.pass(SECOND / 10);
    assert_eq!(world.asked_for(&reader), []);
}

#[test]
fn a_found_peer_that_lies_is_banned_for_a_day() {
    let mut world = World::new(Config::new(Network::Regtest));
    world.start();
    let found = world.find(&["20.1.0.1:18444"]);
    let peer = found[0];
    let connection = world.connect(peer);
    let reader = download(&mut world, 1);
    assert_eq!(world.asked_for(&reader), [peer]);
    world.begin(peer, &reader, 2_000);
    reader.queue.discard(connection);
    world.run(|engine, now| engine.blame_for_block(now, reader.id, peer, connection, ProtocolError::ForgedBlock));
    let bans = world.engine.bans(world.now);
    assert!(matches!(&bans[..], [ban] if ban.reason == BanReason::BadBlock), "{bans:?}");
}

#[test]
fn each_peer_is_asked_for_as_much_as_keeps_it_busy_and_the_rest_waits_for_its_turn() {
    let (mut world, peers) = World::connected(2);
    let readers: Vec<Reader> = (1..=10).map(|n| download(&mut world, n)).collect();
    let asked: Vec<_> = readers.iter().map(|reader| world.asked_for(reader)).collect();
    let of = |peer: PeerId| asked.iter().filter(|asked| **asked == [peer]).count();
    assert!(of(peers[0]) >= 2 && of(peers[1]) >= 2, "{asked:?}");
    let waiting: Vec<&Reader> =
        readers.iter().zip(&asked).filter(|(_, asked)| asked.is_empty()).map(|(r, _)| r).collect();
    assert!(!waiting.is_empty());
    // As long as the others go on, their time does not run.
    let first = readers.iter().zip(&asked).filter(|(_, asked)| !asked.is_empty());
    let mut served: Vec<(&Reader, PeerId)> = first.map(|(reader, asked)| (reader, asked[0])).collect();
    served.dedup_by_key(|(_, peer)| *peer);
    for peer in &peers {
        let (reader, _) = served.iter().find(|(_, asked)| asked == peer).expect("it was asked");
        world.begin(*peer, reader, 1_000_000);
    }
    for _ in 0..12 {
        for &(reader, peer) in &served {
            world.bytes(peer, reader, 900 + 200);
            while reader.queue.try_take().is_some() {}
        }
        world.pass(TIMEOUT / 4);
    }
    for reader in &waiting {
        assert_eq!(reader.failure(), None);
    }
    let (reader, peer) = served[0];
    world.end_block(peer, reader);
    assert_eq!(world.asked_for(waiting[0]), [peer]);
}

#[test]
fn only_the_peer_that_was_named_is_asked() {
    let (mut world, peers) = World::connected(2);
    let reader = download_with(&mut world, 1, Some(peers[1])).unwrap();
    assert_eq!(world.asked_for(&reader), [peers[1]]);
    world.run(|engine, now| engine.disconnect(now, peers[1]));
    assert!(matches!(reader.failure(), Some(BlockError::Failed { .. } | BlockError::NoPeers)));
    let reader = download_with(&mut world, 2, Some(peers[1])).unwrap();
    assert_eq!(reader.failure(), Some(BlockError::NoPeers));
}

#[test]
fn a_peer_whose_messages_nobody_takes_is_replaced_before_it_begins() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    assert_eq!(world.asked_for(&reader), [peers[0]]);
    world.pause(peers[0], true);
    assert_eq!(world.asked_for(&reader), [peers[1]]);
    world.pause(peers[0], false);
    assert!(world.begin(peers[1], &reader, 2_000));
}

#[test]
fn the_end_of_everything_is_told_to_every_reader() {
    let (mut world, peers) = World::connected(1);
    let readers: Vec<Reader> = (1..=5).map(|n| download(&mut world, n)).collect();
    world.begin(peers[0], &readers[0], 2_000);
    world.run(|engine, now| engine.fail_all(now, &RequestError::Crashed));
    for reader in &readers {
        assert_eq!(reader.failure(), Some(BlockError::Crashed));
    }
}

#[test]
fn a_request_and_a_download_of_one_block_do_not_take_each_others_answers() {
    let (mut world, peers) = World::connected(1);
    let block = block(1);
    let request = world.ask(Question::Block(block.hash()));
    let queue = Arc::new(BlockQueue::new(1_000));
    let options = DownloadOptions { peer: None, timeout: TIMEOUT };
    let (hash, opened) = (block.hash(), queue.clone());
    let id = world.run(|engine, now| engine.open_download(now, hash, options, opened)).unwrap();
    let reader = Reader { id, hash, queue };
    world.begin(peers[0], &reader, 200);
    world.end_block(peers[0], &reader);
    assert!(!world.has_ended(request));
    assert_eq!(world.say(peers[0], Message::Block(block)), None);
    assert!(world.result(request).is_ok());
    reader.close(&mut world);
    assert_eq!(world.engine.peers(world.now)[0].outstanding_requests, 0);
}

#[test]
fn a_peer_that_stops_three_times_has_had_three_chances() {
    let (mut world, peers) = World::connected(1);
    let reader = download(&mut world, 1);
    for chance in 1..=3 {
        assert_eq!(world.asked_for(&reader), [peers[0]], "chance {chance}");
        world.begin(peers[0], &reader, 100_000);
        let connection = world.connection(peers[0]);
        world.pass(TIMEOUT + SECOND);
        assert_eq!(world.closes.len(), chance);
        reader.queue.lose(connection);
        world.reconnect(peers[0]);
        reader.go_on(&mut world);
    }
    assert_eq!(world.asked_for(&reader), []);
}

#[test]
fn a_block_that_has_begun_to_come_is_not_asked_of_another_before_the_engine_hears_of_it() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    assert_eq!(world.asked_for(&reader), [peers[0]]);
    // The event loop has seen it, and whoever tells the engine is slow.
    let connection = world.connection(peers[0]);
    assert!(reader.queue.begin(connection, peers[0], 2_000, None));
    assert_eq!(reader.queue.push(connection, vec![0; 500]), Pushed::Room);
    world.pass(TIMEOUT / 2);
    assert_eq!(world.asked_for(&reader), []);
    assert_eq!(reader.queue.push(connection, vec![0; 100]), Pushed::Room);
}

#[test]
fn what_one_peer_did_is_not_held_against_the_one_that_is_at_it_by_now() {
    for has_lied in [true, false] {
        let (mut world, peers) = World::connected(2);
        let reader = download(&mut world, 1);
        assert_eq!(world.asked_for(&reader), [peers[0]]);
        let connection = world.connection(peers[0]);
        // The event loop is ahead of who tells the engine.
        assert!(reader.queue.begin(connection, peers[0], 2_000, None));
        if has_lied {
            reader.queue.end(connection);
        } else {
            reader.queue.lose(connection);
        }
        world.lose(peers[0]);
        assert_eq!(world.asked_for(&reader), [peers[1]]);
        assert!(world.begin(peers[1], &reader, 2_000));
        if has_lied {
            reader.queue.discard(connection);
            let lie = ProtocolError::ForgedBlock;
            world.run(|engine, now| engine.blame_for_block(now, reader.id, peers[0], connection, lie));
        } else {
            reader.go_on(&mut world);
        }
        assert_eq!(reader.failure(), None);
        assert_eq!(world.bytes(peers[1], &reader, 500), Pushed::Room);
    }
}

#[test]
fn a_request_that_is_answered_makes_room_for_a_download() {
    let (mut world, peers) = World::connected(1);
    let blocks: Vec<_> = (1..=2).map(block).collect();
    let requests: Vec<_> = blocks.iter().map(|block| world.ask(Question::Block(block.hash()))).collect();
    let reader = download(&mut world, 9);
    assert_eq!(world.asked_for(&reader), []);
    for (block, request) in blocks.into_iter().zip(requests) {
        assert_eq!(world.say(peers[0], Message::Block(block)), None);
        assert!(world.result(request).is_ok());
    }
    assert_eq!(world.asked_for(&reader), [peers[0]]);
}

#[test]
fn a_download_that_is_closed_makes_room_for_the_next() {
    let (mut world, peers) = World::connected(1);
    let readers: Vec<Reader> = (1..=4).map(|n| download(&mut world, n)).collect();
    assert_eq!(world.asked_for(&readers[2]), []);
    readers[0].close(&mut world);
    assert_eq!(world.asked_for(&readers[2]), [peers[0]]);
    world.begin(peers[0], &readers[1], 2_000);
    readers[1].close(&mut world);
    assert_eq!(world.asked_for(&readers[3]), [peers[0]]);
    assert_eq!(world.engine.peers(world.now)[0].outstanding_requests, 2);
}

#[test]
fn a_peer_that_waits_for_the_reader_is_not_slow() {
    let (mut world, peers) = World::connected(2);
    let reader = download(&mut world, 1);
    world.asked_for(&reader);
    world.begin(peers[0], &reader, 100_000);
    assert_eq!(world.bytes(peers[0], &reader, 2_000), Pushed::Full);
    world.pass(10 * TIMEOUT);
    assert_eq!(reader.failure(), None);
    assert_eq!(world.closes, []);
    // Now it is its turn, and it does nothing.
    world.pass(TIMEOUT);
    assert_eq!(world.closes.len(), 1);
}

#[test]
fn whoever_was_lost_with_the_block_is_asked_after_the_others_however_good_it_is() {
    let (mut world, peers) = World::connected(2);
    world.run(|engine, now| engine.set_main_peer(now, peers[0]));
    let reader = download(&mut world, 1);
    assert_eq!(world.asked_for(&reader), [peers[0]]);
    world.begin(peers[0], &reader, 2_000);
    world.lose_in_block(peers[0], &reader);
    world.reconnect(peers[0]);
    reader.go_on(&mut world);
    assert_eq!(world.asked_for(&reader), [peers[1]]);
}
