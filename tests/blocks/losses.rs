//! Peers that are lost, stop or lie in the middle of a block, and what the reader notices of it.

use std::thread;
use std::time::{Duration, Instant};

use conduit::error::{AttemptFailure, ProtocolError};
use conduit::testnode::{Fault, FaultKind, GeneratedBlock, TestNode};
use conduit::{BlockError, BlockOptions, Command, Conduit, Config, DisconnectReason, Events, PeerId};

use super::support::{PATIENCE, waits};
use super::{config, connect, nodes, offer, raw, read_chunks};

/// Nodes of which the first is always asked first, a block that all have, and a fault of the first.
struct Scene {
    nodes: Vec<TestNode>,
    conduit: Conduit,
    events: Events,
    block: GeneratedBlock,
    first: PeerId,
}

fn scene(count: usize, bytes: u64, fault: FaultKind) -> Scene {
    scene_with(count, bytes, fault, config())
}

fn scene_with(count: usize, bytes: u64, fault: FaultKind, config: Config) -> Scene {
    let nodes = nodes(count);
    nodes[0].inject(Fault::new(fault).command(Command::BLOCK));
    let conduit = connect(&nodes, config);
    let events = conduit.events();
    let first = conduit.set_main_peer(nodes[0].address()).unwrap();
    let block = offer(&nodes, bytes);
    Scene { nodes, conduit, events, block, first }
}

fn options() -> BlockOptions {
    BlockOptions::new().chunk_size(100_000)
}

impl Scene {
    fn asked(&self, node: usize) -> u64 {
        self.nodes[node].received(Command::GETDATA)
    }

    #[track_caller]
    fn assert_streamed(&self, options: &BlockOptions) {
        let mut stream = self.conduit.block_with(self.block.hash(), options).unwrap();
        assert!(read_chunks(&mut stream).unwrap() == raw(&self.block));
        assert_eq!(stream.summary().unwrap().transactions, self.block.transaction_count());
    }

    #[track_caller]
    fn assert_gathered(&self, options: &BlockOptions) {
        let stream = self.conduit.block_with(self.block.hash(), options).unwrap();
        assert!(stream.into_vec(self.block.size()).unwrap() == raw(&self.block));
    }
}

#[test]
fn a_reader_does_not_notice_that_his_peer_is_lost() {
    for cut in [24, 50, 104, 105, 99_000, 150_000, 1_234_567, 1_999_990] {
        let scene = scene(2, 2_000_000, FaultKind::CloseAfter(cut));
        scene.assert_streamed(&options());
        assert_eq!((scene.asked(0), scene.asked(1)), (1, 1), "cut at {cut}");
    }
}

#[test]
fn nor_that_it_stops_in_the_middle() {
    let scene = scene(2, 2_000_000, FaultKind::StallAfter(1_000_000));
    scene.assert_streamed(&options().timeout(Duration::from_millis(600)));
    let reason = waits::reason_of(&scene.events, scene.first);
    assert_eq!(reason, DisconnectReason::Protocol(ProtocolError::BlockStalled));
}

#[test]
fn nor_that_it_never_begins() {
    let scene = scene(2, 200_000, FaultKind::Withhold);
    let begun = Instant::now();
    scene.assert_streamed(&options().timeout(Duration::from_millis(600)));
    assert!(begun.elapsed() < Duration::from_millis(600) + PATIENCE / 2);
    assert_eq!((scene.asked(0), scene.asked(1)), (1, 1));
}

#[test]
fn a_lie_behind_what_was_handed_out_is_mended_by_another_peer() {
    let lie = FaultKind::Falsify { at: 1_990_000, checksum_fits: true };
    let scene = scene(2, 2_000_000, lie);
    scene.assert_streamed(&options());
    let reason = waits::reason_of(&scene.events, scene.first);
    assert!(matches!(reason, DisconnectReason::Protocol(ProtocolError::BadBlock(_))), "{reason}");
    // It is not asked for that block again, whoever else fails.
    conduit_is_whole(&scene);
    scene.nodes[1].inject(Fault::new(FaultKind::Withhold));
    let options = options().timeout(Duration::from_millis(300));
    let stream = scene.conduit.block_with(scene.block.hash(), &options);
    assert!(stream.is_ok() || matches!(stream, Err(BlockError::TimedOut { .. })), "{stream:?}");
}

fn conduit_is_whole(scene: &Scene) {
    scene.conduit.wait_for_peers(scene.nodes.len(), PATIENCE).unwrap();
}

#[test]
fn a_lie_in_what_was_handed_out_ends_the_stream_but_not_who_gathers() {
    let lie = FaultKind::Falsify { at: 250_000, checksum_fits: true };
    let scene = scene(2, 2_000_000, lie);
    let mut stream = scene.conduit.block_with(scene.block.hash(), &options()).unwrap();
    let error = read_chunks(&mut stream).unwrap_err();
    let BlockError::Diverged { at } = error else { panic!("{error:?}") };
    assert!((100_000..=250_000).contains(&at), "{at}");
    assert_eq!(stream.next_chunk().unwrap_err(), error);
    assert_eq!(stream.summary(), None);
    conduit_is_whole(&scene);
    scene.assert_gathered(&options());
}

#[test]
fn every_kind_of_false_block_costs_its_peer_the_connection() {
    for fault in [
        FaultKind::Falsify { at: 100, checksum_fits: true },
        FaultKind::Falsify { at: 100, checksum_fits: false },
        FaultKind::Falsify { at: 290_000, checksum_fits: true },
        FaultKind::Shorten(1),
        FaultKind::Shorten(100_000),
        FaultKind::Miscount(1),
        FaultKind::Miscount(-1),
    ] {
        let scene = scene(2, 300_000, fault.clone());
        // Nothing is handed out before the last chunk, which is the first.
        scene.assert_streamed(&BlockOptions::new());
        let reason = waits::reason_of(&scene.events, scene.first);
        assert!(matches!(reason, DisconnectReason::Protocol(ProtocolError::BadBlock(_))), "{fault:?}: {reason}");
        conduit_is_whole(&scene);
        scene.assert_gathered(&options());
    }
}

#[test]
fn another_blocks_header_is_nobodys_answer() {
    // The hash is another one then, so it is not the block that was asked for.
    let scene = scene(2, 300_000, FaultKind::Falsify { at: 10, checksum_fits: true });
    scene.assert_streamed(&BlockOptions::new().timeout(Duration::from_secs(1)));
}

#[test]
fn who_lied_before_he_was_lost_is_found_out_when_the_block_is_proven() {
    let scene = scene(2, 2_000_000, FaultKind::Falsify { at: 250_000, checksum_fits: true });
    scene.nodes[0].inject(Fault::new(FaultKind::StallAfter(1_000_000)).command(Command::BLOCK).times(1));
    let options = options().timeout(Duration::from_millis(600));
    scene.assert_gathered(&options);
    let reason = waits::reason_of(&scene.events, scene.first);
    assert_eq!(reason, DisconnectReason::Protocol(ProtocolError::BlockStalled));
}

#[test]
fn when_nobody_is_left_the_error_says_how_far_it_came_and_who_failed() {
    let scene = scene_with(2, 1_000_000, FaultKind::CloseAfter(600_000), config().redial_min(PATIENCE));
    scene.nodes[1]
        .inject(Fault::new(FaultKind::Falsify { at: 700_000, checksum_fits: true }).command(Command::BLOCK));
    let options = options().timeout(Duration::from_millis(500));
    let mut stream = scene.conduit.block_with(scene.block.hash(), &options).unwrap();
    let error = read_chunks(&mut stream).unwrap_err();
    let (at, attempts) = match &error {
        BlockError::Failed { at, attempts } | BlockError::TimedOut { at, attempts } => (*at, attempts),
        other => panic!("{other:?}"),
    };
    assert!((500_000..1_000_000).contains(&at), "{at}");
    let failure = |node: usize| {
        let address = scene.nodes[node].address().into();
        attempts.iter().find(|attempt| attempt.address == address).map(|attempt| attempt.failure)
    };
    assert_eq!(failure(0), Some(AttemptFailure::Disconnected), "{error}");
    assert_eq!(failure(1), Some(AttemptFailure::WrongAnswer), "{error}");
}

#[test]
fn a_peer_that_is_always_lost_is_given_up_in_the_end() {
    let scene = scene(1, 1_000_000, FaultKind::CloseAfter(600_000));
    let mut stream = scene.conduit.block_with(scene.block.hash(), &options()).unwrap();
    let error = read_chunks(&mut stream).unwrap_err();
    let BlockError::Failed { at, attempts } = error else { panic!("{error:?}") };
    assert!((400_000..600_000).contains(&at), "{at}");
    assert_eq!(attempts.len(), 1);
    assert_eq!(scene.asked(0), 3, "it had three chances");
}

#[test]
fn a_lost_peer_that_comes_back_may_finish() {
    let scene = scene(1, 1_000_000, FaultKind::CloseAfter(600_000));
    let mut stream = scene.conduit.block_with(scene.block.hash(), &options()).unwrap();
    stream.next_chunk().unwrap();
    scene.nodes[0].clear_faults();
    scene.nodes[0].drop_connections();
    let mut rest = Vec::new();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        rest.extend_from_slice(chunk.bytes());
    }
    assert!(raw(&scene.block).ends_with(&rest));
    assert!(stream.summary().is_some());
}

#[test]
fn a_peer_without_room_is_passed_over_or_asked_again() {
    let scene = scene(2, 200_000, FaultKind::TooBusy);
    let begun = Instant::now();
    scene.assert_streamed(&options());
    assert!(begun.elapsed() < Duration::from_secs(4), "the other one is asked at once");
    assert_eq!((scene.asked(0), scene.asked(1)), (1, 1));
}

#[test]
fn small_blocks_behind_extended_headers_are_as_good() {
    for bytes in [300, 70_000, 3_000_000] {
        let scene = scene(1, bytes, FaultKind::ExtendHeader);
        scene.assert_streamed(&options());
        scene.assert_gathered(&options());
        // There is no checksum then, so the tree is the proof.
        scene.assert_streamed(&options().proof(conduit::block::BlockProof::Checksum));
    }
}

#[test]
fn a_slow_peer_that_goes_on_is_not_left() {
    let scene = scene(2, 300_000, FaultKind::Throttle(200_000));
    scene.assert_streamed(&options().timeout(Duration::from_millis(800)));
    assert_eq!((scene.asked(0), scene.asked(1)), (1, 0));
}

#[test]
fn a_reader_that_is_slow_when_his_peer_is_lost_goes_on_later() {
    let config = config().stream_queue_bytes(64 * 1024);
    let scene = scene_with(2, 2_000_000, FaultKind::CloseAfter(1_500_000), config);
    let options = options().timeout(Duration::from_millis(300));
    let mut stream = scene.conduit.block_with(scene.block.hash(), &options).unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        bytes.extend_from_slice(chunk.bytes());
        if (4..6).contains(&(bytes.len() / 100_000)) {
            scene.nodes[0].drop_connections();
            thread::sleep(Duration::from_millis(500));
        }
    }
    assert!(bytes == raw(&scene.block));
}
