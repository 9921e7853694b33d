//! Answers in several parts, in another form than asked for, or without an end mark.

use super::*;
use crate::block::PartialMerkleTree;
use crate::message::{
    BlockTxn, CompactBlock, GetBlockTxn, GetBlocks, InventoryKind, MerkleBlock, MerkleProof, ProofTarget,
    ProvenTransaction,
};
use crate::wire::Command;

/// A block of three transactions.
fn big_block() -> Block {
    Block::new(header_after(BlockHash::ZERO, 77), (1..=3).map(transaction).collect::<Vec<_>>())
}

/// The proof for those of its transactions that are listed.
fn proof(block: &Block, matches: &[u32]) -> Message {
    let txids: Vec<_> = block.transactions().map(|tx| tx.txid()).collect();
    let wanted: Vec<_> = matches.iter().map(|&n| txid(n)).collect();
    let tree = PartialMerkleTree::new(&txids, |_, txid| wanted.contains(&txid)).unwrap();
    Message::MerkleBlock(Box::new(MerkleBlock { header: *block.header(), tree }))
}

fn inv(ns: impl IntoIterator<Item = u32>) -> Message {
    Message::Inv(ns.into_iter().map(|n| Inventory::transaction(txid(n))).collect())
}

fn mempool(quiet: Duration) -> Question {
    Question::Mempool { age_seconds: None, quiet }
}

#[test]
fn a_filtered_block_is_complete_with_its_last_match() {
    let (mut world, peers) = World::connected(1);
    let block = big_block();
    let request = world.ask(Question::FilteredBlock(block.hash()));
    let kind = InventoryKind::FilteredBlock;
    let asked = Message::GetData(vec![Inventory { kind, hash: *block.hash().as_wire() }]);
    assert_eq!(world.sent(), [(peers[0], asked)]);
    assert_eq!(world.say(peers[0], proof(&block, &[1, 3])), None);
    assert_eq!(world.say(peers[0], Message::Tx(transaction(1))), None);
    assert!(!world.has_ended(request));
    let news = Message::Tx(transaction(2));
    assert_eq!(world.say(peers[0], news.clone()), Some(news), "it does not match");
    assert_eq!(world.say(peers[0], Message::Tx(transaction(3))), None);
    let Ok(Answer::FilteredBlock(found)) = world.result(request) else { panic!("{:?}", world.result(request)) };
    assert_eq!(found.transactions, [transaction(1), transaction(3)]);
    assert_eq!(found.merkle_block.header.hash(), block.hash());
}

#[test]
fn a_filtered_block_without_matches_is_complete_at_once() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(Question::FilteredBlock(big_block().hash()));
    world.say(peers[0], proof(&big_block(), &[]));
    assert!(matches!(world.result(request), Ok(Answer::FilteredBlock(found)) if found.transactions.is_empty()));
}

#[test]
fn matches_of_a_filtered_block_nobody_waits_for_are_no_news() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(Question::FilteredBlock(big_block().hash()));
    world.say(peers[0], proof(&big_block(), &[1, 2]));
    world.run(|engine, now| engine.cancel(now, request));
    assert_eq!(world.say(peers[0], Message::Tx(transaction(1))), None);
    assert_eq!(world.say(peers[0], Message::Tx(transaction(2))), None);
    let news = Message::Tx(transaction(2));
    assert_eq!(world.say(peers[0], news.clone()), Some(news));
}

#[test]
fn a_filtered_block_cut_short_is_asked_of_the_next_peer_as_a_whole() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(Question::FilteredBlock(big_block().hash()));
    world.say(peers[0], proof(&big_block(), &[1, 2]));
    world.say(peers[0], Message::Tx(transaction(1)));
    world.lose(peers[0]);
    world.say(peers[1], proof(&big_block(), &[1, 2]));
    world.say(peers[1], Message::Tx(transaction(1)));
    assert!(!world.has_ended(request));
    world.say(peers[1], Message::Tx(transaction(2)));
    assert!(matches!(world.result(request), Ok(Answer::FilteredBlock(found)) if found.transactions.len() == 2));
}

#[test]
fn what_gathers_for_a_filtered_block_is_charged() {
    let block = big_block();
    let (mut world, peers) = World::connected_with(Config::new(Network::Regtest).requests_limit(515), 1);
    let request = world.ask(Question::FilteredBlock(block.hash()));
    world.say(peers[0], proof(&block, &[1, 2]));
    world.say(peers[0], Message::Tx(transaction(1)));
    assert!(matches!(world.result(request), Err(RequestError::TooLarge { limit: 515, .. })));
    assert_eq!(world.say(peers[0], Message::Tx(transaction(2))), None, "the rest is no news");
    world.ask(Question::Ping);
}

#[test]
fn a_whole_block_answers_for_its_compact_form_and_its_transactions() {
    let block = big_block();
    let wanted = GetBlockTxn::new(block.hash(), [0, 2]);
    for question in [Question::CompactBlock(block.hash()), Question::BlockTransactions(wanted)] {
        let (mut world, peers) = World::connected(1);
        let request = world.ask(question.clone());
        assert!(world.engine.wants_block(peers[0], &block.hash()), "so that its merkle root is checked");
        assert_eq!(world.say(peers[0], Message::Block(block.clone())), None);
        assert_eq!(*world.result(request), Ok(Answer::Block(block.clone())), "{question}");
    }
}

#[test]
fn a_whole_block_goes_to_the_request_that_still_waits() {
    let block = big_block();
    let (mut world, peers) = World::connected(1);
    let given_up = world.ask(Question::CompactBlock(block.hash()));
    world.pass(31 * SECOND);
    assert!(matches!(world.result(given_up), Err(RequestError::TimedOut { .. })));
    let whole = world.ask(Question::Block(block.hash()));
    assert_eq!(world.say(peers[0], Message::Block(block.clone())), None);
    assert_eq!(*world.result(whole), Ok(Answer::Block(block.clone())), "a peer may never answer the other");
    let late = Message::CmpctBlock(Box::new(CompactBlock::new(&block, 5)));
    assert_eq!(world.say(peers[0], late), None, "if it does, that is no news");
}

#[test]
fn a_late_whole_block_is_not_taken_for_the_parts_that_somebody_waits_for() {
    let block = big_block();
    let (mut world, peers) = World::connected(1);
    let given_up = world.ask(Question::Block(block.hash()));
    world.run(|engine, now| engine.cancel(now, given_up));
    let parts = world.ask(Question::BlockTransactions(GetBlockTxn::new(block.hash(), [0])));
    assert_eq!(world.say(peers[0], Message::Block(block.clone())), None);
    assert!(!world.has_ended(parts));
    let found = Box::new(BlockTxn::new(block.hash(), block.transactions().take(1)));
    assert_eq!(world.say(peers[0], Message::BlockTxn(found.clone())), None);
    assert_eq!(*world.result(parts), Ok(Answer::BlockTransactions(found)));
}

#[test]
fn each_form_of_a_block_goes_to_whoever_asked_for_it() {
    let block = big_block();
    let (mut world, peers) = World::connected(1);
    let whole = world.ask(Question::Block(block.hash()));
    let compact = world.ask(Question::CompactBlock(block.hash()));
    let wanted = GetBlockTxn::new(block.hash(), [1]);
    let part = world.ask(Question::BlockTransactions(wanted));
    let found = BlockTxn::new(block.hash(), block.transactions().skip(1).take(1));
    world.say(peers[0], Message::BlockTxn(Box::new(found.clone())));
    assert_eq!(*world.result(part), Ok(Answer::BlockTransactions(Box::new(found))));
    let form = CompactBlock::new(&block, 5);
    world.say(peers[0], Message::CmpctBlock(Box::new(form.clone())));
    assert_eq!(*world.result(compact), Ok(Answer::CompactBlock(Box::new(form.clone()))));
    let news = Message::CmpctBlock(Box::new(form));
    assert_eq!(world.say(peers[0], news.clone()), Some(news), "nobody asked for it again");
    world.say(peers[0], Message::Block(block.clone()));
    assert_eq!(*world.result(whole), Ok(Answer::Block(block)));
}

#[test]
fn too_few_transactions_are_a_wrong_answer() {
    let block = big_block();
    let (mut world, peers) = World::connected(2);
    let request = world.ask(Question::BlockTransactions(GetBlockTxn::new(block.hash(), [0, 1])));
    let found = BlockTxn::new(block.hash(), block.transactions().take(1));
    world.say(peers[0], Message::BlockTxn(Box::new(found)));
    assert_eq!(world.asked(), [peers[0], peers[1]]);
    world.lose(peers[1]);
    world.pass(31 * SECOND);
    let Err(RequestError::TimedOut { attempts: list } | RequestError::Failed { attempts: list }) =
        world.result(request)
    else {
        panic!("{:?}", world.result(request))
    };
    assert_eq!(attempts(list)[0], (peers[0], AttemptFailure::WrongAnswer));
}

#[test]
fn a_proven_transaction_is_told_from_the_plain_one() {
    let (mut world, peers) = World::connected(1);
    let plain = world.ask(Question::Transaction(txid(1)));
    let proven = world.ask(Question::DataRefTransaction(txid(1)));
    let proof = MerkleProof::new(&[txid(1)], 0, ProofTarget::BlockHash(hash(1))).unwrap();
    let answer = Box::new(ProvenTransaction { transaction: transaction(1), proof });
    world.say(peers[0], Message::DataRefTx(answer.clone()));
    assert_eq!(*world.result(proven), Ok(Answer::DataRefTransaction(answer)));
    assert!(!world.has_ended(plain));
    let again = world.ask(Question::DataRefTransaction(txid(1)));
    let kind = InventoryKind::DataRefTransaction;
    world.say(peers[0], Message::NotFound(vec![Inventory { kind, hash: *txid(1).as_wire() }]));
    assert!(matches!(world.result(again), Err(RequestError::NotFound { .. })));
    assert!(!world.has_ended(plain));
}

#[test]
fn block_hashes_are_the_next_list_of_blocks_that_can_follow_the_locator() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(Question::BlockHashes(GetBlocks::new([hash(1), hash(2)])));
    world.say(peers[0], inv([9]));
    world.say(peers[0], Message::Inv(vec![Inventory::block(hash(2))]));
    assert!(!world.has_ended(request), "the locator's own blocks do not follow it");
    let list = Message::Inv(vec![Inventory::block(hash(3)), Inventory::block(hash(4))]);
    assert_eq!(world.say(peers[0], list.clone()), Some(list), "an announcement is news for everybody");
    assert_eq!(*world.result(request), Ok(Answer::BlockHashes(vec![hash(3), hash(4)])));
}

#[test]
fn the_tip_behind_the_last_of_five_hundred_blocks_is_no_list() {
    let block = big_block();
    let blocks = |hashes: Vec<BlockHash>| Message::Inv(hashes.into_iter().map(Inventory::block).collect());
    let five_hundred: Vec<BlockHash> = (0..499).map(|n| hash(1 + (n % 250) as u8)).chain([block.hash()]).collect();
    let forms = [
        (Question::Block(block.hash()), Message::Block(block.clone())),
        (Question::FilteredBlock(block.hash()), proof(&block, &[])),
        (Question::CompactBlock(block.hash()), Message::CmpctBlock(Box::new(CompactBlock::new(&block, 1)))),
    ];
    for (question, reply) in forms {
        let (mut world, peers) = World::connected(1);
        world.ask(Question::BlockHashes(GetBlocks::new([BlockHash::ZERO])));
        world.say(peers[0], blocks(five_hundred.clone()));
        world.ask(question);
        let next = world.ask(Question::BlockHashes(GetBlocks::new([block.hash()])));
        world.say(peers[0], reply);
        assert_eq!(world.say(peers[0], blocks(vec![hash(253)])), Some(blocks(vec![hash(253)])));
        assert!(!world.has_ended(next), "nodes announce their tip behind the last block that they have listed");
        world.say(peers[0], blocks(vec![hash(252), hash(253)]));
        assert_eq!(*world.result(next), Ok(Answer::BlockHashes(vec![hash(252), hash(253)])));
        // It comes once.
        let single = world.ask(Question::BlockHashes(GetBlocks::new([hash(253)])));
        world.say(peers[0], blocks(vec![hash(254)]));
        assert_eq!(*world.result(single), Ok(Answer::BlockHashes(vec![hash(254)])));
    }
}

#[test]
fn the_pool_is_told_when_no_more_of_it_comes() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(mempool(2 * SECOND));
    assert_eq!(world.sent(), [(peers[0], Message::Mempool { age_seconds: None })]);
    world.pass(5 * SECOND);
    assert_eq!(world.say(peers[0], inv([1, 2])), Some(inv([1, 2])), "it is news for everybody");
    world.pass(SECOND);
    world.say(peers[1], inv([8]));
    world.say(peers[0], inv([2, 3]));
    world.pass(SECOND + 500 * MILLISECOND);
    assert!(!world.has_ended(request));
    world.pass(SECOND);
    assert_eq!(*world.result(request), Ok(Answer::Txids(vec![txid(1), txid(2), txid(3)])));
}

#[test]
fn a_pool_that_ends_the_connection_is_asked_of_nobody_else() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(mempool(SECOND));
    world.sent();
    world.lose(peers[0]);
    assert_eq!(world.sent(), [], "the other would end its connection, too");
    world.pass(40 * SECOND);
    assert!(world.result(request).is_err());
}

#[test]
fn parts_of_a_block_for_which_a_peer_ends_the_connection_are_asked_of_nobody_else() {
    let wanted = || Question::BlockTransactions(GetBlockTxn::new(hash(1), [7]));
    let broken = DisconnectReason::Io { kind: std::io::ErrorKind::ConnectionReset };
    for reason in [DisconnectReason::ClosedByPeer, broken] {
        let (mut world, peers) = World::connected(2);
        let request = world.ask(wanted());
        world.sent();
        world.lose_for(peers[0], reason);
        assert_eq!(world.sent(), [], "for an index that the block does not have, the other would ban us, too");
        let Err(RequestError::Failed { attempts: list }) = world.result(request) else { panic!("it goes on") };
        assert_eq!(attempts(list), [(peers[0], AttemptFailure::Disconnected)]);
    }
    // A peer that was silent, or that we have left, says nothing about the question.
    let (mut world, peers) = World::connected(2);
    world.ask(wanted());
    world.sent();
    world.lose_for(peers[0], DisconnectReason::Requested);
    assert_eq!(world.sent(), [(peers[1], Message::GetBlockTxn(GetBlockTxn::new(hash(1), [7])))]);
}

#[test]
fn an_empty_pool_ends_with_the_deadline() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(mempool(SECOND));
    world.pass(31 * SECOND);
    let Err(RequestError::TimedOut { attempts: list }) = world.result(request) else { panic!("it has no answer") };
    assert_eq!(attempts(list), [(peers[0], AttemptFailure::TimedOut)]);
}

#[test]
fn a_payload_too_large_to_read_ends_the_request_it_answers() {
    let block = big_block();
    let header = block.header().encode();
    let wanted = GetBlockTxn::new(block.hash(), [1]);
    let cases = [
        (Question::FilteredBlock(block.hash()), Command::MERKLEBLOCK, header.to_vec()),
        (Question::CompactBlock(block.hash()), Command::CMPCTBLOCK, header.to_vec()),
        (Question::CompactBlock(block.hash()), Command::BLOCK, header.to_vec()),
        (Question::BlockTransactions(wanted), Command::BLOCKTXN, block.hash().as_wire().to_vec()),
        (Question::DataRefTransaction(txid(1)), Command::DATAREFTX, Vec::new()),
        (Question::EnrichedHeaders(crate::message::GetHdrsEn::new([hash(1)])), Command::HDRSEN, Vec::new()),
    ];
    for (question, command, start) in cases {
        let (mut world, peers) = World::connected(1);
        let request = world.ask(question);
        let connection = world.connection(peers[0]);
        world.run(|engine, now| engine.handle_oversized(now, peers[0], connection, command, 1 << 40, &start));
        assert!(matches!(world.result(request), Err(RequestError::TooLarge { .. })), "{command}");
        assert_eq!(world.closes, [], "{command} was asked for");
        world.run(|engine, now| engine.handle_oversized(now, peers[0], connection, command, 1 << 40, &start));
        assert_eq!(world.closes.len(), 1, "{command} was not asked for again");
    }
}
