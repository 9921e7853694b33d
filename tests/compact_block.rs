//! Blocks made of the transactions that the caller has: what is asked for, of whom, and what happens when that fails.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]
#![expect(clippy::disallowed_methods, reason = "tests take the time")]

mod support;

use std::time::{Duration, Instant};

use conduit::error::{AttemptFailure, RequestError};
use conduit::message::{Block, BlockTxn, CompactBlock, Inventory, InventoryKind, Message, Transaction};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::{BlockHash, Command, Conduit, Config, GetBlockTxn, Network, RequestOptions};
use support::PATIENCE;
use support::raw_peer::{Heard, RawListener, Reply, version};

#[test]
fn nothing_but_short_ids_is_sent_when_all_is_known() {
    let (node, block, payments) = node_with_payments();
    let conduit = connected_to(&[node.address()]);
    let strangers: Vec<_> = (500..600).map(|n| transaction(n, 150)).collect();
    let known = strangers.iter().chain(payments.iter().rev());
    assert_eq!(conduit.compact_block(block.hash(), known), Ok(block));
    assert_eq!((node.received(Command::GETDATA), node.received(Command::GETBLOCKTXN)), (1, 0));
}

#[test]
fn what_is_missing_is_asked_for() {
    let (node, block, payments) = node_with_payments();
    let conduit = connected_to(&[node.address()]);
    assert_eq!(conduit.compact_block(block.hash(), &payments[3..]), Ok(block.clone()));
    assert_eq!((node.received(Command::GETDATA), node.received(Command::GETBLOCKTXN)), (1, 1));
    // Where nothing is known, a node may give the whole in answer to that.
    assert_eq!(conduit.compact_block(block.hash(), []), Ok(block));
    assert_eq!((node.received(Command::GETDATA), node.received(Command::GETBLOCKTXN)), (2, 2));
}

#[test]
fn an_old_block_comes_whole_at_once() {
    let (node, block, payments) = node_with_payments();
    node.mine(12);
    let conduit = connected_to(&[node.address()]);
    assert_eq!(conduit.compact_block(block.hash(), &payments), Ok(block));
    assert_eq!((node.received(Command::GETDATA), node.received(Command::GETBLOCKTXN)), (1, 0));
}

#[test]
fn a_block_that_nobody_has_takes_the_time_of_one_request() {
    let (node, ..) = node_with_payments();
    let conduit = connected_to(&[node.address()]);
    let options = RequestOptions::new().timeout(Duration::from_millis(400));
    let began = Instant::now();
    let ended = conduit.compact_block_with(BlockHash::ZERO, [], &options);
    let took = began.elapsed();
    assert!(matches!(ended, Err(RequestError::TimedOut { .. })), "{ended:?}");
    assert!((Duration::from_millis(400)..Duration::from_secs(4)).contains(&took), "{took:?}");
    conduit.shutdown();
    assert_eq!(conduit.compact_block(BlockHash::ZERO, []), Err(RequestError::Shutdown));
    let idle = Conduit::new(Config::new(Network::Regtest)).unwrap();
    assert_eq!(idle.compact_block(BlockHash::ZERO, []), Err(RequestError::NotStarted));
}

#[test]
fn short_ids_that_collide_have_the_whole_block_fetched() {
    let (node, block, payments) = node_with_payments();
    let (twice, whole) = (frame(&equal_short_ids(&block)), frame(&Message::Block(block.clone())));
    let (conduit, heard) = beside(&node, move |asked| match asked {
        Asked::Compact => Reply::Send(twice.clone()),
        Asked::Whole => Reply::Send(whole.clone()),
        Asked::Transactions(_) => Reply::Nothing,
    });
    assert_eq!(conduit.compact_block(block.hash(), &payments), Ok(block));
    assert_eq!(asked_of(&heard, Command::GETBLOCKTXN), 0, "which of the two would be asked for?");
}

#[test]
fn a_known_transaction_that_has_the_short_id_of_another_does_no_harm() {
    let (node, block, payments) = node_with_payments();
    // No two transactions with one short id can be found here, so the peer gives an id of what is not in the block.
    let stranger = transaction(777, 150);
    let short = frame(&compact_of_others(&block, &payments, &stranger));
    let whole = frame(&Message::Block(block.clone()));
    let (conduit, _) = beside(&node, move |asked| match asked {
        Asked::Compact => Reply::Send(short.clone()),
        Asked::Whole => Reply::Send(whole.clone()),
        Asked::Transactions(_) => Reply::Nothing,
    });
    let known: Vec<_> = payments.iter().cloned().chain([stranger]).collect();
    assert_eq!(conduit.compact_block(block.hash(), &known), Ok(block));
}

#[test]
fn a_peer_lost_before_it_gives_what_is_missing_is_replaced() {
    let (node, block, payments) = node_with_payments();
    let compact = CompactBlock::new(&block, 9);
    let (conduit, heard) = beside(&node, move |asked| match asked {
        Asked::Compact => Reply::Send(frame(&Message::CmpctBlock(Box::new(compact.clone())))),
        Asked::Transactions(_) => Reply::Close(Vec::new()),
        Asked::Whole => Reply::Nothing,
    });
    let began = Instant::now();
    assert_eq!(conduit.compact_block(block.hash(), &payments[..4]), Ok(block));
    assert!(began.elapsed() < PATIENCE / 4, "a peer that is gone is not waited for: {:?}", began.elapsed());
    assert_eq!(asked_of(&heard, Command::GETBLOCKTXN), 1);
    assert_eq!(node.received(Command::GETBLOCKTXN), 0, "the indexes may be a lie, for which a node bans");
}

#[test]
fn a_peer_that_does_not_give_what_is_missing_leaves_time_for_the_whole_block() {
    let (node, block, payments) = node_with_payments();
    let compact = CompactBlock::new(&block, 9);
    let (conduit, _) = beside(&node, move |asked| match asked {
        Asked::Compact => Reply::Send(frame(&Message::CmpctBlock(Box::new(compact.clone())))),
        _ => Reply::Nothing,
    });
    let options = RequestOptions::new().timeout(Duration::from_secs(4));
    assert_eq!(conduit.compact_block_with(block.hash(), &payments[..4], &options), Ok(block));
}

#[test]
fn a_peer_that_gives_no_compact_form_leaves_time_for_the_whole_block() {
    let (_, block, payments) = node_with_payments();
    let whole = frame(&Message::Block(block.clone()));
    let listener = RawListener::bind();
    let address = listener.address();
    serve(listener, move |asked| match asked {
        Asked::Whole => Reply::Send(whole.clone()),
        _ => Reply::Nothing,
    });
    let conduit = connected_to(&[address]);
    let options = RequestOptions::new().timeout(Duration::from_secs(2));
    assert_eq!(conduit.compact_block_with(block.hash(), &payments, &options), Ok(block));
}

#[test]
fn a_liar_is_found_out_and_sinks_in_rank() {
    let (node, block, payments) = node_with_payments();
    let hash = block.hash();
    let compact = frame(&Message::CmpctBlock(Box::new(CompactBlock::new(&block, 9))));
    let short = frame(&Message::BlockTxn(Box::new(BlockTxn::new(hash, block.transactions().take(1)))));
    let wrong: Vec<_> = (50..70).map(|n| transaction(n, 100)).collect();
    let behind_the_end = frame(&index_gap(&block));
    let empty = frame(&Message::CmpctBlock(Box::new(CompactBlock::new(&Block::new(*block.header(), vec![]), 1))));
    let answers: [(&str, Vec<u8>, Parts); 4] = [
        ("an index behind the end", behind_the_end, Box::new(|_| Vec::new())),
        ("no transactions", empty, Box::new(|_| Vec::new())),
        ("fewer than asked for", compact.clone(), Box::new(move |_| short.clone())),
        (
            "others than asked for",
            compact,
            Box::new(move |request| {
                let count = request.indexes().len();
                let views = wrong.iter().take(count).map(Transaction::view);
                frame(&Message::BlockTxn(Box::new(BlockTxn::new(request.block_hash, views))))
            }),
        ),
    ];
    for (what, compact, transactions) in answers {
        let (conduit, heard) = beside(&node, move |asked| match asked {
            Asked::Compact => Reply::Send(compact.clone()),
            Asked::Transactions(request) => Reply::Send(transactions(request)),
            Asked::Whole => Reply::Nothing,
        });
        let options = RequestOptions::new().timeout(Duration::from_secs(4));
        let made = conduit.compact_block_with(hash, &payments[..4], &options);
        assert_eq!(made.as_ref(), Ok(&block), "{what}");
        let main = conduit.peers().into_iter().find(|peer| peer.is_main).unwrap();
        assert!(main.failures > 0, "{what}: {main:?}");
        assert_eq!(node.received(Command::GETBLOCKTXN), 0, "{what}");
        drop((conduit, heard));
    }
}

#[test]
fn a_liar_alone_ends_it_with_a_typed_error() {
    let (_, block, payments) = node_with_payments();
    let gap = frame(&index_gap(&block));
    let listener = RawListener::bind();
    let address = listener.address();
    let heard = serve(listener, move |asked| match asked {
        Asked::Compact => Reply::Send(gap.clone()),
        _ => Reply::Nothing,
    });
    let conduit = connected_to(&[address]);
    let ended = conduit.compact_block(block.hash(), &payments);
    let Err(RequestError::Failed { attempts }) = ended else { panic!("{ended:?}") };
    assert_eq!(attempts.iter().map(|attempt| attempt.failure).collect::<Vec<_>>(), [AttemptFailure::WrongAnswer]);
    assert_eq!(asked_of(&heard, Command::GETDATA), 1, "it is not asked for the whole");
}

/// The `blocktxn` that a liar gives.
type Parts = Box<dyn Fn(GetBlockTxn) -> Vec<u8> + Send>;

/// What a raw peer is asked for.
enum Asked {
    Compact,
    Transactions(GetBlockTxn),
    Whole,
}

fn serve(listener: RawListener, mut answer: impl FnMut(Asked) -> Reply + Send + 'static) -> Heard {
    listener.serve(version(), move |message| match message {
        Message::GetData(items) => match items[..] {
            [Inventory { kind: InventoryKind::CompactBlock, .. }] => answer(Asked::Compact),
            [Inventory { kind: InventoryKind::Block, .. }] => answer(Asked::Whole),
            _ => Reply::Nothing,
        },
        Message::GetBlockTxn(request) => answer(Asked::Transactions(request.clone())),
        _ => Reply::Nothing,
    })
}

/// A conduit whose main peer answers so, with an honest node beside it.
fn beside(node: &TestNode, answer: impl FnMut(Asked) -> Reply + Send + 'static) -> (Conduit, Heard) {
    let listener = RawListener::bind();
    let address = listener.address();
    let heard = serve(listener, answer);
    let conduit = connected_to(&[node.address(), address]);
    conduit.set_main_peer(address).unwrap();
    (conduit, heard)
}

fn asked_of(heard: &Heard, command: Command) -> usize {
    heard.lock().unwrap().iter().filter(|message| message.command() == command).count()
}

fn connected_to(addresses: &[std::net::SocketAddr]) -> Conduit {
    let conduit = Conduit::new(Config::new(Network::Regtest)).unwrap();
    conduit.add_peers(addresses).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(addresses.len(), PATIENCE).unwrap();
    conduit
}

/// A node whose tip has payments.
fn node_with_payments() -> (TestNode, Block, Vec<Transaction>) {
    let node = TestNode::start(TestNodeConfig::default().blocks(2)).unwrap();
    let payments: Vec<_> = (0..9).map(|n| transaction(n, 150)).collect();
    node.mine_with(payments.clone());
    let block = node.block(node.tip_height()).unwrap();
    (node, block, payments)
}

/// Short ids of which the first two are equal.
fn equal_short_ids(block: &Block) -> Message {
    let mut payload = Vec::new();
    Message::CmpctBlock(Box::new(CompactBlock::new(block, 9))).encode_payload(&mut payload);
    // Behind header, nonce and count.
    let first = 80 + 8 + 1;
    payload.copy_within(first..first + 6, first + 6);
    Message::decode(Command::CMPCTBLOCK, &payload).unwrap()
}

/// The compact form of a block, with the short id of one that is not in it in place of the last.
fn compact_of_others(block: &Block, payments: &[Transaction], stranger: &Transaction) -> Message {
    let coinbase = block.transactions().next().unwrap().to_transaction();
    let mut others = vec![coinbase];
    others.extend(payments[..payments.len() - 1].iter().cloned());
    others.push(stranger.clone());
    Message::CmpctBlock(Box::new(CompactBlock::new(&Block::new(*block.header(), others), 9)))
}

/// A compact block whose coinbase lies behind its end.
fn index_gap(block: &Block) -> Message {
    let mut payload = Vec::new();
    Message::CmpctBlock(Box::new(CompactBlock::new(block, 9))).encode_payload(&mut payload);
    let index = 80 + 8 + 1 + 6 * (block.transaction_count() - 1) + 1;
    assert_eq!(payload[index - 1..=index], [1, 0], "one is prefilled, at index 0");
    payload[index] = 200;
    Message::decode(Command::CMPCTBLOCK, &payload).unwrap()
}

fn frame(message: &Message) -> Vec<u8> {
    support::raw_peer::frame(message)
}
