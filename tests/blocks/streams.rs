//! A stream in all its forms, and what ends it.

use std::future::Future;
use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use conduit::block::{BlockProof, ChunkContent};
use conduit::message::Block;
use conduit::testnode::{BlockPlan, GeneratedBlock};
use conduit::{BlockError, BlockHash, BlockOptions, Conduit, GetData, Ping, RequestOptions, Txid};

use super::support::{PATIENCE, waits};
use super::{config, connect, nodes, offer, raw, read_chunks};

/// Every size from the smallest through those about one read, one queue and several chunks.
const SIZES: [u64; 8] = [151, 1_000, 65_536, 131_000, 140_000, 1_000_000, 4_300_000, 13_000_000];

#[test]
fn a_block_of_any_size_is_streamed_as_it_is() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    for size in SIZES {
        let block = offer(&nodes, size);
        let mut stream = conduit.block(block.hash()).unwrap();
        assert_eq!((stream.header(), stream.size(), stream.hash()), (block.header(), block.size(), block.hash()));
        assert_eq!(stream.summary(), None);
        assert!(read_chunks(&mut stream).unwrap() == raw(&block), "{size} bytes");
        let summary = stream.summary().unwrap();
        assert_eq!(summary.transactions, block.transaction_count());
        assert_eq!((summary.size, summary.proof), (block.size(), BlockProof::Merkle));
        assert_eq!(stream.next_chunk().map(|chunk| chunk.is_none()), Ok(true), "it stays at its end");
    }
}

#[test]
fn bytes_transactions_and_the_whole_are_other_forms_of_the_same() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let block = offer(&nodes, 1_500_000);
    let expected = raw(&block);
    let options = BlockOptions::new().chunk_size(70_000);
    let open = |options: &BlockOptions| conduit.block_with(block.hash(), options).unwrap();

    let mut read = Vec::new();
    open(&options).read_to_end(&mut read).unwrap();
    assert!(read == expected);

    assert!(open(&options).into_vec(block.size()).unwrap() == expected);
    let too_large = open(&options).into_vec(block.size() - 1);
    assert_eq!(too_large, Err(BlockError::TooLarge { size: block.size(), limit: block.size() - 1 }));

    let whole = Block::from_raw(expected).unwrap();
    let txids: Vec<Txid> = whole.transactions().map(|view| view.txid()).collect();
    let mut transactions = open(&options).transactions(200_000);
    let owned: Vec<_> = transactions.by_ref().map(Result::unwrap).collect();
    assert!(transactions.summary().is_some());
    assert!(owned.iter().map(|tx| tx.txid()).eq(txids.iter().copied()));
    assert!(owned.iter().zip(whole.transactions()).all(|(owned, view)| owned.raw()[..] == *view.raw()));
    let mut limited = open(&options).transactions(99_999);
    let error = limited.find_map(Result::err);
    assert!(matches!(error, Some(BlockError::TransactionTooLarge { limit: 99_999, .. })), "{error:?}");
    assert!(limited.next().is_none());

    let mut stream = open(&options.clone().content(ChunkContent::Txids));
    let mut seen = Vec::new();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        assert!(chunk.bytes().is_empty());
        seen.extend_from_slice(chunk.txids());
    }
    assert_eq!(seen, txids);

    let mut stream = open(&options.clone().content(ChunkContent::BytesAndTxids));
    let mut seen = Vec::new();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        seen.extend(chunk.transactions().map(|transaction| transaction.txid.unwrap()));
        if chunk.piece().is_some_and(|piece| piece.is_last) {
            seen.extend_from_slice(chunk.txids());
        }
    }
    assert_eq!(seen, txids);
    // One after the other from the same connection: nothing was lost on the way.
    assert_eq!(nodes[0].connections(), 1);
}

#[test]
fn a_reader_of_bytes_goes_on_in_the_chunk_that_was_handed_out() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let block = offer(&nodes, 300_000);
    let mut stream = conduit.block_with(block.hash(), &BlockOptions::new().chunk_size(50_000)).unwrap();
    let first = stream.next_chunk().unwrap().unwrap().bytes().len();
    let mut bytes = vec![0; first];
    stream.read_exact(&mut bytes).unwrap();
    stream.read_to_end(&mut bytes).unwrap();
    assert!(bytes == raw(&block));
    assert!(stream.summary().is_some());
}

#[test]
fn a_checksum_proves_the_bytes_and_nothing_else() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let block = offer(&nodes, 300_000);
    let options = BlockOptions::new().proof(BlockProof::Checksum);
    let mut stream = conduit.block_with(block.hash(), &options).unwrap();
    assert!(read_chunks(&mut stream).unwrap() == raw(&block));
    let summary = stream.summary().unwrap();
    assert_eq!((summary.proof, summary.checksum_checked), (BlockProof::Checksum, true));

    let block = GeneratedBlock::new(BlockPlan::of_size(5, 300_000).without_checksum());
    nodes[0].offer(&block);
    let failed = conduit.block_with(block.hash(), &options).unwrap().into_vec(u64::MAX);
    assert!(matches!(failed, Err(BlockError::Failed { at: 0, .. })), "{failed:?}");
    waits::until("the peer is back", || nodes[0].connections() == 1);
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    // Where everything is hashed, nobody needs the checksum.
    assert!(conduit.block(block.hash()).unwrap().into_vec(u64::MAX).unwrap() == raw(&block));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let hash = offer(&nodes, 1_000).hash();
    for options in [
        BlockOptions::new().chunk_size(0),
        BlockOptions::new().timeout(Duration::ZERO),
        BlockOptions::new().proof(BlockProof::Checksum).content(ChunkContent::Txids),
    ] {
        let error = conduit.block_with(hash, &options).unwrap_err();
        assert!(matches!(error, BlockError::Invalid { .. }), "{error:?}");
    }
    let mut stream = conduit.block(hash).unwrap();
    stream.next_chunk().unwrap();
    assert!(matches!(stream.into_vec(1_000_000), Err(BlockError::Invalid { .. })));
    let mut stream = conduit.block_with(hash, &BlockOptions::new().content(ChunkContent::Txids)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert!(matches!(stream.into_vec(1_000_000), Err(BlockError::Invalid { .. })));
}

#[test]
fn who_cannot_be_asked_is_told_at_once_and_an_unknown_block_at_its_deadline() {
    let conduit = Conduit::new(config()).unwrap();
    let hash = BlockHash::from_wire([7; 32]);
    assert_eq!(conduit.block(hash).unwrap_err(), BlockError::NotStarted);
    let pending = conduit.block_nowait(hash, &BlockOptions::new()).unwrap();
    assert_eq!(conduit.block_nowait(hash, &BlockOptions::new()).unwrap().hash(), hash);
    conduit.shutdown();
    assert_eq!(pending.wait().unwrap_err(), BlockError::Shutdown);
    assert_eq!(conduit.block(hash).unwrap_err(), BlockError::Shutdown);

    let nodes = nodes(2);
    let conduit = connect(&nodes, config());
    let options = BlockOptions::new().timeout(Duration::from_millis(200));
    let error = conduit.block_with(hash, &options).unwrap_err();
    let BlockError::TimedOut { at: 0, attempts } = error else { panic!("{error:?}") };
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    // Neither is worse for it.
    assert_eq!((nodes[0].connections(), nodes[1].connections()), (1, 1));
}

#[test]
fn a_block_asked_for_before_the_start_comes_after_it() {
    let nodes = nodes(1);
    let block = offer(&nodes, 10_000);
    let conduit = Conduit::new(config()).unwrap();
    let pending = conduit.block_nowait(block.hash(), &BlockOptions::new()).unwrap();
    let pending = pending.try_wait().unwrap_err().wait_timeout(Duration::from_millis(1)).unwrap_err();
    conduit.add_peers([nodes[0].address()]).unwrap();
    conduit.start().unwrap();
    assert!(pending.wait().unwrap().into_vec(10_100).unwrap() == raw(&block));
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_stream_can_be_polled_by_any_executor() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let block = offer(&nodes, 3_000_000);
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut pending = pin!(conduit.block_nowait(block.hash(), &BlockOptions::new().chunk_size(100_000)).unwrap());
    let mut stream = loop {
        match pending.as_mut().poll(&mut context) {
            Poll::Ready(stream) => break stream.unwrap(),
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    };
    assert!(matches!(pending.as_mut().poll(&mut context), Poll::Ready(Err(BlockError::Invalid { .. }))));
    let mut bytes = Vec::new();
    loop {
        match stream.poll_next_chunk(&mut context) {
            Poll::Ready(chunk) => match chunk.unwrap() {
                Some(chunk) => bytes.extend_from_slice(chunk.bytes()),
                None => break,
            },
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
    assert!(bytes == raw(&block));
}

#[test]
fn a_slow_reader_stops_the_socket_of_his_peer_and_nothing_else() {
    let nodes = nodes(2);
    let conduit = connect(&nodes, config().stream_queue_bytes(256 * 1024));
    let block = GeneratedBlock::new(BlockPlan::of_size(1, 40_000_000).without_checksum());
    nodes[0].offer(&block);
    let peers = conduit.peers();
    let of = |node: usize| peers.iter().find(|peer| peer.address == nodes[node].address().into()).unwrap().id;
    let stream_options = BlockOptions::new().peer(of(0)).chunk_size(64 * 1024).timeout(Duration::from_millis(500));
    let mut stream = conduit.block_with(block.hash(), &stream_options).unwrap();
    stream.next_chunk().unwrap();
    let received = || conduit.stats().bytes_received;
    let mut before = 0;
    waits::until("nothing more is read", || {
        thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut before, received()) == received()
    });
    assert!(received() < 20_000_000, "it goes no further than the queues: {}", received());
    for _ in 0..100 {
        conduit.send_request_with(Ping, &RequestOptions::new().peer(of(1))).unwrap();
    }
    // Longer than the time in which something new must come: it is the reader's.
    thread::sleep(Duration::from_millis(1_200));
    let rest = {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    };
    assert!(raw(&block).ends_with(&rest));
    conduit.send_request_with(Ping, &RequestOptions::new().peer(of(0))).unwrap();
    assert_eq!(nodes[0].connections(), 1);
}

#[test]
fn a_dropped_stream_frees_its_peer_by_skipping_a_little_and_closing_at_much() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config().stream_queue_bytes(64 * 1024));
    let events = conduit.events();
    let small = offer(&nodes, 3_000_000);
    let other = offer(&nodes, 20_000);
    let stream = conduit.block_with(small.hash(), &BlockOptions::new().chunk_size(10_000)).unwrap();
    drop(stream);
    // Behind what is skipped on the same connection.
    assert!(conduit.block(other.hash()).unwrap().into_vec(30_000).unwrap() == raw(&other));
    assert!(events.try_recv().is_err(), "nobody was disconnected");

    let large = GeneratedBlock::new(BlockPlan::of_size(3, 60_000_000).without_checksum());
    nodes[0].offer(&large);
    drop(conduit.block(large.hash()).unwrap());
    let counted = conduit.stats().blocks;
    assert_eq!((counted["abandoned"], counted["proven"]), (2, 1), "{counted:?}");
    let reason = waits::reason_of(&events, conduit.peers()[0].id);
    assert_eq!(reason, conduit::DisconnectReason::BlockAbandoned);
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert!(conduit.block(other.hash()).unwrap().into_vec(30_000).unwrap() == raw(&other));
}

#[test]
fn a_request_and_a_stream_for_one_block_each_get_it() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let block = offer(&nodes, 200_000);
    let request = conduit.send_request_nowait(GetData::block(block.hash())).unwrap();
    let streams: Vec<_> =
        (0..3).map(|_| conduit.block_nowait(block.hash(), &BlockOptions::new()).unwrap()).collect();
    let second = conduit.send_request_nowait(GetData::block(block.hash())).unwrap();
    for stream in streams {
        assert!(stream.wait().unwrap().into_vec(300_000).unwrap() == raw(&block));
    }
    assert!(request.wait().unwrap().raw()[..] == raw(&block)[..]);
    assert!(second.wait().unwrap().raw()[..] == raw(&block)[..]);
    let outstanding = || conduit.peers()[0].outstanding_requests;
    waits::until("nothing is outstanding", || outstanding() == 0);
}

#[test]
fn shutting_down_ends_a_stream_in_the_middle() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config().stream_queue_bytes(64 * 1024));
    let block = GeneratedBlock::new(BlockPlan::of_size(3, 60_000_000).without_checksum());
    nodes[0].offer(&block);
    let mut stream = conduit.block_with(block.hash(), &BlockOptions::new().chunk_size(100_000)).unwrap();
    stream.next_chunk().unwrap();
    conduit.shutdown();
    let error = loop {
        match stream.next_chunk() {
            Ok(chunk) => assert!(chunk.is_some()),
            Err(error) => break error,
        }
    };
    assert_eq!(error, BlockError::Shutdown);
    assert_eq!(stream.next_chunk().unwrap_err(), BlockError::Shutdown);
}

#[test]
fn so_many_streams_and_no_more() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config().max_streams(2));
    let hash = offer(&nodes, 1_000).hash();
    let unknown = BlockHash::from_wire([9; 32]);
    let ask = || conduit.block_nowait(unknown, &BlockOptions::new());
    let (first, _second) = (ask().unwrap(), ask().unwrap());
    assert_eq!(conduit.block(hash).unwrap_err(), BlockError::TooManyStreams { limit: 2 });
    drop(first);
    conduit.block(hash).unwrap();
}

#[test]
fn a_block_that_becomes_known_is_had_though_it_was_asked_for_in_vain() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config());
    let options = BlockOptions::new().timeout(Duration::from_secs(2));
    for n in 0..2 {
        let block = GeneratedBlock::new(BlockPlan::of_size(70 + n, 100_000));
        let in_vain = options.clone().timeout(Duration::from_millis(100));
        assert!(matches!(conduit.block_with(block.hash(), &in_vain), Err(BlockError::TimedOut { .. })));
        nodes[0].offer(&block);
        if n == 0 {
            assert!(conduit.block_with(block.hash(), &options).unwrap().into_vec(200_000).unwrap() == raw(&block));
        } else {
            let options = RequestOptions::new().timeout(Duration::from_secs(2));
            let got = conduit.send_request_with(GetData::block(block.hash()), &options).unwrap();
            assert!(got.raw()[..] == raw(&block)[..]);
        }
    }
}

#[test]
fn a_conduit_that_is_dropped_before_its_start_ends_what_waits_for_it() {
    let conduit = Conduit::new(config()).unwrap();
    let pending = conduit.block_nowait(BlockHash::from_wire([7; 32]), &BlockOptions::new()).unwrap();
    drop(conduit);
    let ended = pending.wait_timeout(PATIENCE).expect("it ends");
    assert_eq!(ended.unwrap_err(), BlockError::Shutdown);
}

/// Looks at the conduit when it is woken, as an executor may that polls at once.
struct Looks(Conduit, std::sync::atomic::AtomicUsize);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(self.0.peers().len(), std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_waker_may_use_the_conduit() {
    let nodes = nodes(1);
    let block = offer(&nodes, 10_000);
    let conduit = Conduit::new(config()).unwrap();
    let looks = Arc::new(Looks(conduit.clone(), 0.into()));
    let waker: Waker = looks.clone().into();
    let mut pending = Box::pin(conduit.block_nowait(block.hash(), &BlockOptions::new()).unwrap());
    assert!(pending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let address = nodes[0].address();
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        conduit.add_peers([address]).unwrap();
        conduit.start().unwrap();
        conduit.wait_for_peers(1, PATIENCE).unwrap();
        sender.send(pending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready())
    });
    receiver.recv_timeout(PATIENCE / 3).expect("nobody waits for himself");
}

#[test]
fn a_large_block_that_comes_too_late_costs_the_connection_and_the_rest_of_one_is_skipped() {
    let nodes = nodes(1);
    let conduit = connect(&nodes, config().stream_queue_bytes(64 * 1024));
    let events = conduit.events();
    let block = offer(&nodes, 6_000_000);
    let mut stream = conduit.block_with(block.hash(), &BlockOptions::new().chunk_size(100_000)).unwrap();
    stream.read_exact(&mut vec![0; 5_000_000]).unwrap();
    drop(stream);
    let other = offer(&nodes, 20_000);
    assert!(conduit.block(other.hash()).unwrap().into_vec(30_000).unwrap() == raw(&other));
    assert!(events.try_recv().is_err(), "there was little left of it");

    nodes[0].set_latency(Duration::from_millis(200));
    let late = conduit.block_nowait(block.hash(), &BlockOptions::new()).unwrap();
    waits::until("it was asked for", || nodes[0].received(conduit::Command::GETDATA) == 3);
    drop(late);
    let reason = waits::reason_of(&events, conduit.peers()[0].id);
    assert_eq!(reason, conduit::DisconnectReason::BlockAbandoned);
}
