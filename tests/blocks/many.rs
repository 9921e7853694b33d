//! Many blocks over several peers: every one once, right, in order, within the window.

use std::collections::HashMap;
use std::time::Duration;

use conduit::testnode::{Fault, FaultKind, GeneratedBlock, TestNode};
use conduit::{BlockError, BlockHash, BlockOutcome, BlocksOptions, Command, Conduit, FetchedBlock};

use super::support::PATIENCE;
use super::{config, connect, nodes, raw, read_chunks};

fn several(nodes: &[TestNode], count: usize, bytes: std::ops::RangeInclusive<u64>) -> Vec<GeneratedBlock> {
    let blocks = GeneratedBlock::several(11, count, bytes);
    for node in nodes {
        blocks.iter().for_each(|block| node.offer(block));
    }
    blocks
}

fn hashes(blocks: &[GeneratedBlock]) -> Vec<BlockHash> {
    blocks.iter().map(GeneratedBlock::hash).collect()
}

fn is_whole(outcome: BlockOutcome, block: &GeneratedBlock) -> bool {
    outcome.hash == block.hash() && outcome.into_block().unwrap().raw()[..] == raw(block)[..]
}

#[test]
fn blocks_come_in_the_order_of_their_hashes_from_all_peers() {
    let nodes = nodes(4);
    let conduit = connect(&nodes, config());
    let blocks = several(&nodes, 120, 200..=200_000);
    let mut count = 0;
    for (outcome, block) in conduit.blocks(hashes(&blocks)).zip(&blocks) {
        assert_eq!(outcome.index, count);
        assert!(is_whole(outcome, block), "block {count}");
        count += 1;
    }
    assert_eq!(count, 120);
    let served = |node: &TestNode| node.received(conduit::Command::GETDATA);
    assert!(nodes.iter().all(|node| served(node) > 0), "{:?}", nodes.iter().map(served).collect::<Vec<_>>());
    assert_eq!(nodes.iter().map(served).sum::<u64>(), 120, "each was asked for once");
}

#[test]
fn blocks_can_come_as_they_are_there() {
    let nodes = nodes(2);
    nodes[0].set_latency(Duration::from_millis(20));
    let conduit = connect(&nodes, config());
    let blocks = several(&nodes, 60, 200..=50_000);
    let by_hash: HashMap<BlockHash, &GeneratedBlock> = blocks.iter().map(|block| (block.hash(), block)).collect();
    let mut seen = vec![false; blocks.len()];
    for outcome in conduit.blocks_with(hashes(&blocks), BlocksOptions::new().in_order(false)) {
        assert!(!std::mem::replace(&mut seen[outcome.index as usize], true), "once");
        assert_eq!(outcome.hash, blocks[outcome.index as usize].hash());
        let block = by_hash[&outcome.hash];
        assert!(is_whole(outcome, block));
    }
    assert!(seen.iter().all(|seen| *seen));
}

#[test]
fn larger_blocks_come_as_streams_in_their_place() {
    let nodes = nodes(2);
    let conduit = connect(&nodes, config());
    let blocks = several(&nodes, 40, 10_000..=3_000_000);
    let options = BlocksOptions::new().whole(500_000).window(8 << 20);
    let mut streams = 0;
    for in_order in [true, false] {
        for outcome in conduit.blocks_with(hashes(&blocks), options.clone().in_order(in_order)) {
            let block = &blocks[outcome.index as usize];
            match outcome.result.unwrap() {
                FetchedBlock::Whole(whole) => {
                    assert!(block.size() <= 500_000);
                    assert!(whole.raw()[..] == raw(block)[..]);
                }
                FetchedBlock::Stream(mut stream) => {
                    streams += 1;
                    assert_eq!(stream.size(), block.size());
                    assert!(read_chunks(&mut stream).unwrap() == raw(block));
                }
            }
        }
    }
    assert!(streams > 10, "{streams}");
}

#[test]
fn a_block_that_nobody_has_does_not_hold_up_the_others_for_long() {
    let nodes = nodes(2);
    let conduit = connect(&nodes, config());
    let blocks = several(&nodes, 20, 200..=5_000);
    let mut hashes = hashes(&blocks);
    hashes.insert(7, BlockHash::from_wire([3; 32]));
    let options = BlocksOptions::new().timeout(Duration::from_millis(300));
    let outcomes: Vec<_> = conduit.blocks_with(hashes.clone(), options).collect();
    assert_eq!(outcomes.len(), 21);
    for (outcome, hash) in outcomes.iter().zip(&hashes) {
        assert_eq!(outcome.hash, *hash);
        let unknown = matches!(outcome.result, Err(BlockError::TimedOut { at: 0, .. }));
        assert_eq!(outcome.result.is_err(), outcome.index == 7);
        assert_eq!(unknown, outcome.index == 7, "{outcome:?}");
    }
}

#[test]
fn an_endless_list_is_taken_only_as_far_as_there_is_room() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let blocks = several(&nodes, 50, 300_000..=300_000);
    let mut asked = 0;
    let endless = hashes(&blocks).into_iter().cycle().inspect(|_| asked += 1);
    let options = BlocksOptions::new().whole(1 << 20).window(6 << 20);
    let mut outcomes = conduit.blocks_with(endless, options);
    for block in blocks.iter().cycle().take(70) {
        assert!(is_whole(outcomes.next().unwrap(), block));
    }
    drop(outcomes);
    // 6 MiB hold 20 of them.
    assert!(asked <= 70 + 20, "{asked}");
}

#[test]
fn contradictions_and_shutdowns_are_told_for_each() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let blocks = several(&nodes, 3, 200..=300);
    let options = BlocksOptions::new().whole(1 << 20).window(1 << 20);
    let outcomes: Vec<_> = conduit.blocks_with(hashes(&blocks), options).map(|outcome| outcome.result).collect();
    assert!(outcomes.len() == 3 && outcomes.iter().all(|o| matches!(o, Err(BlockError::Invalid { .. }))));
    conduit.shutdown();
    let outcomes: Vec<_> = conduit.blocks(hashes(&blocks)).map(|outcome| outcome.result).collect();
    assert!(matches!(outcomes[..], [Err(BlockError::Shutdown)]), "no more are taken");
    let never_started = Conduit::new(config()).unwrap();
    let mut outcomes = never_started.blocks(hashes(&blocks)).map(|outcome| outcome.result);
    assert!(matches!(outcomes.next(), Some(Err(BlockError::NotStarted))));
}

#[test]
fn no_limit_at_all_is_a_limit_too() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let blocks = several(&nodes, 5, 1_000..=300_000);
    for whole in [usize::MAX, usize::MAX / 2, usize::MAX / 2 - (4 << 20)] {
        let options = BlocksOptions::new().whole(whole).window(usize::MAX);
        for (outcome, block) in conduit.blocks_with(hashes(&blocks), options).zip(&blocks) {
            assert!(is_whole(outcome, block));
        }
    }
}

#[test]
fn a_block_that_a_liar_called_smaller_is_gathered_all_the_same() {
    for (size, short) in [(100_000, 1), (900_000, 100_000), (900_000, 500_000)] {
        let nodes = nodes(2);
        nodes[0].inject(Fault::new(FaultKind::Shorten(short)).command(Command::BLOCK));
        let conduit = connect(&nodes, config());
        conduit.set_main_peer(nodes[0].address()).unwrap();
        let blocks = several(&nodes, 3, size..=size);
        let options = BlocksOptions::new().whole(1 << 20).window(6 << 20);
        for (outcome, block) in conduit.blocks_with(hashes(&blocks), options).zip(&blocks) {
            assert!(is_whole(outcome, block), "{size} bytes, {short} too short");
        }
    }
}

#[test]
fn one_that_a_liar_called_small_enough_comes_as_a_stream() {
    let nodes = nodes(2);
    nodes[0].inject(Fault::new(FaultKind::Shorten(500_000)).command(Command::BLOCK));
    let conduit = connect(&nodes, config());
    conduit.set_main_peer(nodes[0].address()).unwrap();
    let blocks = several(&nodes, 1, 1_400_000..=1_400_000);
    let options = BlocksOptions::new().whole(1 << 20).window(6 << 20);
    let outcome = conduit.blocks_with(hashes(&blocks), options).next().unwrap();
    let FetchedBlock::Stream(mut stream) = outcome.result.unwrap() else { panic!("it is larger than a whole") };
    assert!(read_chunks(&mut stream).unwrap() == raw(&blocks[0]));
}

/// Runs what may hang, and fails when it does.
#[track_caller]
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()).expect("somebody waits"));
    receiver.recv_timeout(limit).expect("it does not hang")
}

#[test]
fn a_large_block_before_one_that_is_waited_for_is_handed_out() {
    let nodes = nodes(2);
    // The first peer is lost with the first block when the other one is about to send a large one.
    nodes[0].inject(Fault::new(FaultKind::CloseAfter(200_000)).command(Command::BLOCK));
    nodes[1].set_latency(Duration::from_millis(300));
    let conduit = connect(&nodes, config().redial_min(PATIENCE).redial_max(PATIENCE));
    let small = several(&nodes, 1, 400_000..=400_000).remove(0);
    let large = super::offer(&nodes[1..], 9_000_000);
    let expected = [small.clone(), large.clone()];
    let done = within(PATIENCE, move || {
        conduit.set_main_peer(nodes[0].address()).unwrap();
        let options = BlocksOptions::new().whole(500_000).window(6 << 20).in_order(false);
        let mut seen = [false; 2];
        let blocks = conduit.blocks_with([small.hash(), large.hash()], options.timeout(Duration::from_secs(4)));
        for outcome in blocks {
            let index = outcome.index as usize;
            seen[index] = match outcome.result.unwrap() {
                FetchedBlock::Whole(block) => block.raw()[..] == raw(&expected[index])[..],
                FetchedBlock::Stream(mut stream) => read_chunks(&mut stream).unwrap() == raw(&expected[index]),
            };
        }
        seen
    });
    assert_eq!(done, [true; 2]);
}

#[test]
fn the_block_that_is_waited_for_gets_its_place_at_a_peer_that_is_held_up() {
    let nodes = nodes(2);
    nodes[0].inject(Fault::new(FaultKind::StallAfter(100_000)).command(Command::BLOCK));
    nodes[1].inject(Fault::new(FaultKind::Throttle(3_000_000)).command(Command::BLOCK));
    let conduit = connect(&nodes, config());
    conduit.set_main_peer(nodes[0].address()).unwrap();
    let blocks = several(&nodes, 40, 300_000..=300_000);
    let options = BlocksOptions::new().whole(300_000).window(4_800_000).timeout(Duration::from_secs(8));
    let all = hashes(&blocks);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(2_500));
            nodes[0].refuse(true);
            nodes[0].drop_connections();
        });
        for (outcome, block) in conduit.blocks_with(all, options).zip(&blocks) {
            assert!(is_whole(outcome, block));
        }
    });
}

#[test]
fn a_caller_who_takes_his_time_with_a_block_loses_none_of_the_others() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    for whole in [500_000, 200_000] {
        let blocks = several(&nodes, 12, 300_000..=300_000);
        let options = BlocksOptions::new().whole(whole).window(6 << 20).timeout(Duration::from_millis(1_500));
        for (outcome, block) in conduit.blocks_with(hashes(&blocks), options).zip(&blocks) {
            let index = outcome.index;
            if index == 0 {
                std::thread::sleep(Duration::from_millis(4_000));
            }
            match outcome.result.unwrap_or_else(|error| panic!("block {index}: {error}")) {
                FetchedBlock::Whole(whole) => assert!(whole.raw()[..] == raw(block)[..]),
                FetchedBlock::Stream(mut stream) => assert!(read_chunks(&mut stream).unwrap() == raw(block)),
            }
        }
    }
}

#[test]
fn as_many_are_asked_for_as_there_may_be_streams() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config().max_streams(1));
    let blocks = several(&nodes, 8, 1_000..=300_000);
    for (outcome, block) in conduit.blocks(hashes(&blocks)).zip(&blocks) {
        assert!(is_whole(outcome, block));
    }
    // One that is not ours leaves room for none.
    let _taken = conduit.block_nowait(BlockHash::from_wire([3; 32]), &conduit::BlockOptions::new()).unwrap();
    let outcome = conduit.blocks(hashes(&blocks)).next().unwrap();
    assert!(matches!(outcome.result, Err(BlockError::TooManyStreams { limit: 1 })));
}
