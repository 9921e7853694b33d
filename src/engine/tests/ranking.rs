//! In which order peers are asked: by what was measured, what they owe, and what the caller wants.

use super::*;
use crate::message::{Reject, RejectCode, TransactionOutput};

/// A block of some bytes, each with a hash of its own.
fn bulk(n: u32, bytes: usize) -> Block {
    let script = vec![0; bytes];
    let output = TransactionOutput { value: 0, script_pubkey: &script };
    Block::new(header_after(BlockHash::ZERO, n), vec![Transaction::new(1, &[], &[output], n)])
}

/// A peer sends a block of some bytes, so long after it was asked for.
fn measure(world: &mut World, peer: PeerId, n: u32, bytes: usize, takes: Duration) {
    let block = bulk(n, bytes);
    let request = world.ask_with(Question::Block(block.hash()), &RequestOptions::new().peer(peer));
    world.advance(takes);
    world.say(peer, Message::Block(block));
    assert!(world.result(request).is_ok());
    world.sent.clear();
}

fn latency(world: &World, peer: PeerId) -> Option<Duration> {
    world.engine.peers(world.now).into_iter().find(|info| info.id == peer).unwrap().latency
}

fn busy() -> Message {
    let (message, reason) = ("getdata".into(), "busy".into());
    Message::Reject(Box::new(Reject { message, code: RejectCode::TooBusy, reason, hash: None }))
}

fn too_busy(world: &mut World, peer: PeerId) {
    assert_eq!(world.say(peer, busy()), None);
}

fn main_peers(world: &World) -> Vec<Option<PeerId>> {
    let changed = |event: &Event| match event {
        Event::MainPeerChanged { peer, .. } => Some(*peer),
        _ => None,
    };
    world.events.iter().filter_map(changed).collect()
}

#[test]
fn the_strongest_peer_is_asked_for_blocks_and_the_nearest_for_what_is_small() {
    let (mut world, peers) = World::connected(2);
    let (near, strong) = (peers[0], peers[1]);
    for n in 0..8 {
        measure(&mut world, near, 100 + n, 200_000, SECOND);
        measure(&mut world, strong, 200 + n, 200_000, 40 * MILLISECOND);
    }
    let throughput =
        |peer| world.engine.peers(world.now).into_iter().find(|info| info.id == peer).unwrap().throughput.unwrap();
    assert!(throughput(strong) > 10 * throughput(near));
    world.ask(Question::Block(hash(1)));
    assert_eq!(world.asked(), [strong]);
    world.ask(Question::Ping);
    assert_eq!(world.asked(), [near]);
    assert_eq!(ranking(&world), [near, strong], "the order is that of small questions");
}

#[test]
fn a_peer_with_blocks_to_send_is_not_asked_for_the_next_one() {
    let (mut world, peers) = World::connected(2);
    for n in 0..4 {
        world.ask(Question::Block(hash(n)));
    }
    let asked = world.asked();
    assert_eq!(asked.iter().filter(|&&peer| peer == peers[0]).count(), 2, "{asked:?}");
}

#[test]
fn peers_as_near_as_each_other_share_the_load() {
    let (mut world, peers) = World::connected(4);
    for &peer in &peers[..3] {
        for _ in 0..100 {
            world.engine.handle_round_trip(world.now, peer, 20 * MILLISECOND);
        }
    }
    for _ in 0..100 {
        world.engine.handle_round_trip(world.now, peers[3], 500 * MILLISECOND);
    }
    let mut counts = BTreeMap::new();
    for n in 0..30 {
        let request = world.ask(Question::Transaction(txid(n)));
        let [peer] = world.asked()[..] else { panic!("one is asked") };
        world.advance(20 * MILLISECOND);
        world.say(peer, Message::Tx(transaction(n)));
        assert!(world.has_ended(request));
        *counts.entry(peer).or_insert(0) += 1;
    }
    let expected: BTreeMap<PeerId, i32> = peers[..3].iter().map(|&peer| (peer, 10)).collect();
    assert_eq!(counts, expected, "in turns, and the far one not at all");
}

#[test]
fn a_slowed_peer_loses_its_rank_within_a_second_and_its_request_after_two() {
    let (mut world, peers) = World::connected(3);
    assert_eq!(ranking(&world), peers);
    let request = world.ask(Question::Transaction(txid(1)));
    assert_eq!(world.asked(), [peers[0]]);
    world.pass(SECOND);
    assert_eq!(ranking(&world), [peers[1], peers[2], peers[0]], "before anything has failed");
    world.ask(Question::Transaction(txid(2)));
    assert_eq!(world.asked(), [peers[1]]);
    world.say(peers[1], Message::Tx(transaction(2)));
    world.pass(999 * MILLISECOND);
    assert_eq!(world.asked(), []);
    world.pass(MILLISECOND);
    assert!(world.sent().contains(&(peers[1], get_transaction(1))));
    world.say(peers[1], Message::Tx(transaction(1)));
    assert!(world.result(request).is_ok());
}

#[test]
fn a_peer_that_is_not_measured_has_more_patience() {
    let mut world = World::new(Config::new(Network::Regtest));
    let peers = [1, 2].map(|n| world.add(&address(n)));
    world.start();
    world.pass(Duration::ZERO);
    for peer in peers {
        world.connect(peer);
    }
    world.ask(Question::Ping);
    assert_eq!(world.asked().len(), 1);
    world.pass(4_999 * MILLISECOND);
    assert_eq!(world.asked(), []);
    world.pass(MILLISECOND);
    assert_eq!(world.asked().len(), 1);
}

#[test]
fn a_slow_peer_has_time_by_its_own_measure() {
    let (mut world, peers) = World::connected(2);
    for &peer in &peers {
        for _ in 0..200 {
            world.engine.handle_round_trip(world.now, peer, SECOND);
        }
    }
    world.ask(Question::Ping);
    assert_eq!(world.asked().len(), 1);
    world.pass(7 * SECOND);
    assert_eq!(world.asked(), []);
    world.pass(SECOND);
    assert_eq!(world.asked().len(), 1);
}

#[test]
fn what_lay_unread_because_of_us_is_not_measured() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(Question::Transaction(txid(1)));
    assert_eq!(world.asked(), [peers[0]]);
    world.pause(peers[0], true);
    assert_eq!(world.asked(), [peers[1]]);
    world.advance(20 * SECOND);
    world.pause(peers[0], false);
    world.say(peers[0], Message::Tx(transaction(1)));
    assert!(world.result(request).is_ok());
    assert_eq!(latency(&world, peers[0]), Some(10 * MILLISECOND));
    // What was asked since is measured again.
    world.ask_with(Question::Transaction(txid(2)), &RequestOptions::new().peer(peers[0]));
    world.advance(90 * MILLISECOND);
    world.say(peers[0], Message::Tx(transaction(2)));
    assert_eq!(latency(&world, peers[0]), Some(20 * MILLISECOND));
}

#[test]
fn a_small_answer_behind_a_block_says_nothing_about_the_way() {
    let (mut world, peers) = World::connected(1);
    let block = bulk(1, 500_000);
    world.ask(Question::Block(block.hash()));
    world.ask(Question::Transaction(txid(1)));
    world.advance(5 * SECOND);
    world.say(peers[0], Message::Block(block));
    world.say(peers[0], Message::Tx(transaction(1)));
    assert_eq!(latency(&world, peers[0]), Some(10 * MILLISECOND));
}

#[test]
fn a_block_goes_to_the_next_peer_at_once_when_one_is_too_busy() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(Question::Block(block(1).hash()));
    assert_eq!(world.asked(), [peers[0]]);
    too_busy(&mut world, peers[0]);
    assert_eq!(world.asked(), [peers[1]]);
    // It is left alone with blocks, and not blamed.
    world.ask(Question::Block(block(2).hash()));
    assert_eq!(world.asked(), [peers[1]]);
    world.ask(Question::Transaction(txid(1)));
    assert_eq!(world.asked(), [peers[0]]);
    world.say(peers[0], Message::Tx(transaction(1)));
    world.say(peers[1], Message::Block(block(1)));
    assert!(world.result(request).is_ok());
    world.pass(5 * SECOND);
    world.sent.clear();
    world.say(peers[1], Message::Block(block(2)));
    world.ask(Question::Block(block(3).hash()));
    world.ask(Question::Block(block(4).hash()));
    assert!(world.asked().contains(&peers[0]), "its time has come again");
}

#[test]
fn a_peer_that_is_alone_and_too_busy_is_asked_again_after_five_seconds() {
    let (mut world, peers) = World::connected(1);
    let options = RequestOptions::new().timeout(60 * SECOND);
    let request = world.ask_with(Question::Block(block(1).hash()), &options);
    // Longer each time.
    for wait in [5, 10, 20] {
        assert_eq!(world.asked(), peers);
        too_busy(&mut world, peers[0]);
        world.pass(wait * SECOND - MILLISECOND);
        assert_eq!(world.asked(), []);
        world.pass(MILLISECOND);
    }
    assert_eq!(world.asked(), peers);
    world.say(peers[0], Message::Block(block(1)));
    assert!(world.result(request).is_ok());
    // And from the beginning once it had room.
    world.ask_with(Question::Block(block(2).hash()), &options);
    world.asked();
    too_busy(&mut world, peers[0]);
    world.pass(5 * SECOND);
    assert_eq!(world.asked(), peers);
}

#[test]
fn whoever_was_too_busy_is_listed_when_the_time_is_over() {
    let (mut world, peers) = World::connected(2);
    let options = RequestOptions::new().timeout(4 * SECOND);
    let request = world.ask_with(Question::Block(block(1).hash()), &options);
    too_busy(&mut world, peers[0]);
    too_busy(&mut world, peers[1]);
    world.pass(3 * SECOND);
    assert!(!world.has_ended(request));
    world.pass(SECOND);
    let (Err(RequestError::TimedOut { attempts: listed }) | Err(RequestError::Failed { attempts: listed })) =
        world.result(request)
    else {
        panic!("{:?}", world.result(request))
    };
    assert_eq!(attempts(listed), peers.iter().map(|&peer| (peer, AttemptFailure::TooBusy)).collect::<Vec<_>>());
}

#[test]
fn a_busy_word_that_nobody_waits_for_is_the_callers() {
    let (mut world, peers) = World::connected(1);
    assert_eq!(world.say(peers[0], busy()), Some(busy()));
}

#[test]
fn the_next_best_peer_stands_in_for_the_main_peer_and_gives_way() {
    let (mut world, peers) = World::connected(3);
    let main = peers[2];
    assert_eq!(world.engine.main_peer(world.now), Some(peers[0]), "where none was set it is the best");
    world.run(|engine, now| engine.set_main_peer(now, main));
    assert_eq!(main_peers(&world), [Some(main)]);
    let request = world.ask(Question::Transaction(txid(1)));
    assert_eq!(world.asked(), [main]);
    world.lose(main);
    assert_eq!(world.asked(), [peers[0]], "its request goes with it");
    assert_eq!(world.engine.main_peer(world.now), Some(peers[0]));
    // It stays, also when another becomes nearer.
    for _ in 0..50 {
        world.engine.handle_round_trip(world.now, peers[1], MILLISECOND);
    }
    assert_eq!(ranking(&world)[0], peers[0]);
    world.say(peers[0], Message::Tx(transaction(1)));
    assert!(world.result(request).is_ok());
    world.lose(peers[0]);
    assert_eq!(world.engine.main_peer(world.now), Some(peers[1]));
    world.reconnect(main);
    assert_eq!(world.engine.main_peer(world.now), Some(main));
    assert_eq!(main_peers(&world), [main, peers[0], peers[1], main].map(Some));
}

#[test]
fn a_main_peer_that_is_not_read_is_stood_in_for() {
    let (mut world, peers) = World::connected(2);
    let main = peers[1];
    world.run(|engine, now| engine.set_main_peer(now, main));
    world.pause(main, true);
    assert_eq!(world.engine.main_peer(world.now), Some(peers[0]));
    world.pause(peers[0], true);
    assert_eq!(world.engine.main_peer(world.now), None);
    world.pause(main, false);
    assert_eq!(main_peers(&world), [Some(main), Some(peers[0]), None, Some(main)]);
    let listed = world.engine.peers(world.now);
    assert!(listed.iter().all(|info| info.is_main == (info.id == main)));
}

#[test]
fn a_main_peer_has_to_be_on_our_chain() {
    let mut world = World::new(Config::new(Network::Test));
    let peer = world.add("20.1.0.1");
    world.start();
    world.run(|engine, now| engine.set_main_peer(now, peer));
    world.pass(Duration::ZERO);
    world.connect(peer);
    assert_eq!((world.engine.main_peer(world.now), main_peers(&world)), (None, vec![]));
    world.show_marker(peer);
    assert_eq!((world.engine.main_peer(world.now), main_peers(&world)), (Some(peer), vec![Some(peer)]));
}
