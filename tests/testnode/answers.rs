//! What the test node answers when it is asked for headers, blocks in every form and transactions of them.

use conduit::message::{
    Block, BlockTxn, BloomFilter, EnrichedHeader, FilterUpdate, GetBlockTxn, GetBlocks, GetHdrsEn, GetHeaders,
    Inventory, InventoryKind, Message, OutPoint, ProofNode, ProtoConf, Reconstruction, Transaction,
    TransactionInput, TransactionOutput,
};
use conduit::testnode::{TestNode, TestNodeConfig, spend, transaction};
use conduit::wire::{BlockHash, Command, Txid};

use super::peer::{PATIENCE, Peer, mined, version};

fn start(blocks: u32) -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(blocks)).unwrap()
}

fn transactions(numbers: std::ops::Range<u64>) -> Vec<Transaction> {
    numbers.map(|number| transaction(number, 200)).collect()
}

fn item(kind: InventoryKind, block: &Block) -> Inventory {
    Inventory { kind, hash: *block.hash().as_wire() }
}

fn getdata(kind: InventoryKind, block: &Block) -> Message {
    Message::GetData(vec![item(kind, block)])
}

fn unknown_block() -> BlockHash {
    BlockHash::from_wire([9; 32])
}

/// What the node says to one message.
fn answer(peer: &mut Peer, question: &Message) -> Vec<Message> {
    peer.send(question);
    peer.said()
}

fn enriched(peer: &mut Peer, request: GetHdrsEn) -> Option<Vec<EnrichedHeader>> {
    let said = answer(peer, &Message::GetHdrsEn(request));
    assert!(said.len() <= 1, "{} messages", said.len());
    said.into_iter().next().map(|message| {
        let Message::HdrsEn(items) = message else { panic!("{} is no hdrsen", message.command()) };
        items
    })
}

#[test]
fn a_filtered_block_without_a_filter_has_every_transaction_behind_it() {
    let node = start(3);
    let others = transactions(0..6);
    node.mine_with(others.clone());
    let block = node.block(4).unwrap();
    let mut peer = Peer::connect(&node);
    let said = answer(&mut peer, &getdata(InventoryKind::FilteredBlock, &block));
    let Message::MerkleBlock(proof) = &said[0] else { panic!("{said:?}") };
    assert_eq!(proof.header, *block.header());
    let txids: Vec<Txid> = block.transactions().map(|transaction| transaction.txid()).collect();
    let proven: Vec<Txid> = proof.matches().unwrap().into_iter().map(|(_, txid)| txid).collect();
    assert_eq!(proven, txids);
    let sent: Vec<Message> = block.transactions().map(|each| Message::Tx(each.to_transaction())).collect();
    assert_eq!(said[1..], sent);
}

#[test]
fn a_filtered_block_has_the_matches_only_in_block_order() {
    let node = TestNode::start(TestNodeConfig::default().bloom(true)).unwrap();
    let mut all = transactions(0..20);
    // Spends an output of one that matches by its data, which the filter learns on the way.
    let script = [&[20][..], &[0xab; 20]].concat();
    let paying = Transaction::new(
        1,
        &[all[0].inputs().next().unwrap()].map(|input| TransactionInput {
            previous_output: OutPoint { index: 7, ..input.previous_output },
            ..input
        }),
        &[TransactionOutput { value: 1, script_pubkey: &script }],
        0,
    );
    let spending = spend(&[OutPoint { txid: paying.txid(), index: 0 }], 1);
    all.insert(5, paying.clone());
    all.insert(12, spending.clone());
    node.mine_with(all.clone());
    let block = node.block(node.tip_height()).unwrap();

    let mut filter = BloomFilter::new(10, 1e-9, 5, FilterUpdate::All).unwrap();
    filter.insert(&[0xab; 20]).unwrap();
    filter.insert(all[17].txid().as_wire()).unwrap();
    let mut peer = Peer::connect(&node);
    peer.send(&Message::FilterLoad(filter.into()));
    let expected = [paying, spending, all[17].clone()];
    for _ in 0..2 {
        let said = answer(&mut peer, &getdata(InventoryKind::FilteredBlock, &block));
        let Message::MerkleBlock(proof) = &said[0] else { panic!("{said:?}") };
        // The coinbase is at 0.
        let matches: Vec<_> = [6, 13, 18].into_iter().zip(expected.iter().map(Transaction::txid)).collect();
        assert_eq!(proof.matches().unwrap(), matches);
        assert_eq!(said[1..], expected.clone().map(Message::Tx));
    }
    // Whole again once the filter is gone.
    peer.send(&Message::FilterClear);
    let said = answer(&mut peer, &getdata(InventoryKind::FilteredBlock, &block));
    assert_eq!(said.len(), 1 + block.transaction_count());
}

#[test]
fn a_compact_block_is_made_of_the_last_six_and_others_come_whole() {
    let node = start(10);
    let pool = transactions(0..8);
    node.mine_with(pool.clone());
    let block = node.block(11).unwrap();
    let mut peer = Peer::connect(&node);
    for depth in 0..=6 {
        let said = answer(&mut peer, &getdata(InventoryKind::CompactBlock, &block));
        match &said[..] {
            [Message::CmpctBlock(compact)] if depth <= 5 => {
                assert_eq!(compact.prefilled().map(|(index, _)| index).collect::<Vec<_>>(), [0]);
                assert_eq!(compact.short_ids().len(), 8);
                let Ok(Reconstruction::Complete(made)) = compact.reconstruct(&pool) else { panic!("incomplete") };
                assert_eq!(made, block);
            }
            [Message::Block(whole)] if depth == 6 => assert_eq!(*whole, block),
            _ => panic!("{depth} below the tip: {said:?}"),
        }
        node.mine(1);
        assert_eq!(peer.recv().command(), Command::INV);
    }
}

#[test]
fn a_dataref_transaction_is_there_once_it_is_told_of() {
    let node = start(3);
    let others = transactions(0..4);
    node.mine_with(others.clone());
    node.mine(2);
    let block = node.block(4).unwrap();
    let wanted = others[3].txid();
    let item = Inventory { kind: InventoryKind::DataRefTransaction, hash: *wanted.as_wire() };
    let mut peer = Peer::connect(&node);
    assert_eq!(answer(&mut peer, &Message::GetData(vec![item])), [Message::NotFound(vec![item])]);
    assert!(!node.add_dataref(transaction(99, 200).txid()), "not in the chain");
    assert!(node.add_dataref(wanted));
    let said = answer(&mut peer, &Message::GetData(vec![item]));
    let [Message::DataRefTx(proven)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(proven.transaction, others[3]);
    assert_eq!(proven.verify(block.header()), Ok(()));
    // The last of five: what has no sibling is written as a hash of zeros.
    assert_eq!((proven.proof.index, proven.proof.nodes[0]), (4, ProofNode::Duplicate));
}

#[test]
fn what_is_missing_is_told_at_the_end_of_a_pass_whatever_the_form() {
    let node = start(10);
    let [deep, tip] = [2, 10].map(|height| node.block(height).unwrap());
    let missing: Vec<Inventory> =
        transactions(0..3).iter().map(|transaction| Inventory::transaction(transaction.txid())).collect();
    let flagged = Inventory { kind: InventoryKind::Other(0x4000_0002), ..item(InventoryKind::Block, &deep) };
    let filtered = item(InventoryKind::FilteredBlock, &deep);
    let unknown = [InventoryKind::Block, InventoryKind::FilteredBlock, InventoryKind::CompactBlock]
        .map(|kind| Inventory { kind, hash: *unknown_block().as_wire() });
    let mut peer = Peer::connect(&node);
    let mut items =
        vec![missing[0], filtered, missing[1], flagged, item(InventoryKind::CompactBlock, &tip), missing[2]];
    items.extend(unknown);
    let said = answer(&mut peer, &Message::GetData(items));
    let commands: Vec<Command> = said.iter().map(Message::command).collect();
    let expected = [
        Command::MERKLEBLOCK,
        Command::TX,
        Command::NOTFOUND,
        Command::CMPCTBLOCK,
        Command::NOTFOUND,
        Command::NOTFOUND,
    ];
    assert_eq!(commands, expected);
    assert_eq!(said[2], Message::NotFound(vec![missing[0]]));
    assert_eq!(said[4], Message::NotFound(vec![missing[1]]));
    assert_eq!(said[5], Message::NotFound(vec![missing[2]]));
    for item in unknown {
        assert!(answer(&mut peer, &Message::GetData(vec![item])).is_empty());
    }
}

#[test]
fn transactions_of_a_block_are_given_and_all_of_them_as_a_block() {
    let node = start(3);
    node.mine_with(transactions(0..9));
    let block = node.block(4).unwrap();
    let mut peer = Peer::connect(&node);
    let mut ask = |hash, indexes: &[u32]| answer(&mut peer, &Message::GetBlockTxn(GetBlockTxn::new(hash, indexes)));
    for indexes in [&[0][..], &[3, 4, 9], &[1, 2, 3, 4, 5, 6, 7, 8, 9], &[]] {
        let picked = (0..).zip(block.transactions()).filter(|(index, _)| indexes.contains(index));
        let expected = BlockTxn::new(block.hash(), picked.map(|(_, transaction)| transaction));
        assert_eq!(ask(block.hash(), indexes), [Message::BlockTxn(Box::new(expected))]);
    }
    let all: Vec<u32> = (0..10).collect();
    assert_eq!(ask(block.hash(), &all), [Message::Block(block.clone())], "more than 99 %");
    assert!(ask(unknown_block(), &[0]).is_empty());
    node.mine(10);
    assert_eq!(peer.recv().command(), Command::INV);
    let request = Message::GetBlockTxn(GetBlockTxn::new(block.hash(), vec![1]));
    assert_eq!(answer(&mut peer, &request)[0].command(), Command::BLOCKTXN, "10 below the tip");
    node.mine(1);
    assert_eq!(peer.recv().command(), Command::INV);
    assert_eq!(answer(&mut peer, &request), [Message::Block(block)], "11 below the tip");
}

#[test]
fn an_index_out_of_the_block_ends_the_connection() {
    let node = start(3);
    node.mine_with(transactions(0..9));
    let mut peer = Peer::connect(&node);
    peer.send(&Message::GetBlockTxn(GetBlockTxn::new(node.block_hash(4).unwrap(), vec![2, 10])));
    peer.assert_closed();
    assert_eq!(node.score(0), 100);
}

#[test]
fn getblocks_lists_five_hundred_and_tells_the_tip_behind_the_last() {
    let node = start(1_205);
    let at = |height| node.block_hash(height).unwrap();
    let mut peer = Peer::connect(&node);
    let mut ask = |request: GetBlocks| {
        let said = answer(&mut peer, &Message::GetBlocks(request));
        assert!(said.len() <= 1, "{said:?}");
        said.into_iter().next()
    };
    let inv =
        |from: u32, to: u32| Some(Message::Inv((from..=to).map(|height| Inventory::block(at(height))).collect()));
    assert_eq!(ask(GetBlocks::new([at(1_203)])), inv(1_204, 1_205));
    assert_eq!(ask(GetBlocks::new([at(5)]).stop_at(at(9))), inv(6, 8), "the stop is not listed");
    assert_eq!(ask(GetBlocks::new([at(5)]).stop_at(at(6))), None);
    assert_eq!(ask(GetBlocks::new([at(1_205)])), None, "nothing to list");
    assert_eq!(ask(GetBlocks::new([])), inv(1, 500));
    assert_eq!(ask(GetBlocks::new([unknown_block(), at(300)])), inv(301, 800));
    // The list before was followed by this one, so its end means nothing any more.
    let fetch = |height| Message::GetData(vec![Inventory::block(at(height))]);
    let block = |height| Message::Block(node.block(height).unwrap());
    let tip = Message::Inv(vec![Inventory::block(at(1_205))]);
    assert_eq!(answer(&mut peer, &fetch(500)), [block(500)]);
    assert_eq!(answer(&mut peer, &fetch(799)), [block(799)]);
    assert_eq!(answer(&mut peer, &fetch(800)), [block(800), tip]);
    assert_eq!(answer(&mut peer, &fetch(800)), [block(800)], "once");
}

#[test]
fn enriched_headers_are_answered_row_by_row_with_proven_coinbases() {
    let node = start(2_005);
    node.mine_with(transactions(0..6));
    let mut peer = Peer::connect(&node);
    let at = |height| node.block_hash(height).unwrap();
    let mut ask = |request| enriched(&mut peer, request);
    let hashes = |items: Option<Vec<EnrichedHeader>>| {
        items.map(|items| items.iter().map(|item| item.header.hash()).collect::<Vec<_>>())
    };
    let range = |from: u32, to: u32| Some((from..=to).map(at).collect::<Vec<_>>());
    assert_eq!(hashes(ask(GetHdrsEn::new([at(0)]))), range(1, 2_000));
    assert_eq!(hashes(ask(GetHdrsEn::new([unknown_block(), at(5)]).stop_at(at(9)))), range(6, 9));
    assert_eq!(hashes(ask(GetHdrsEn::new([at(2_006)]))), Some(vec![]));
    assert_eq!(hashes(ask(GetHdrsEn::new([]).stop_at(at(0)))), range(0, 0));
    assert_eq!(ask(GetHdrsEn::new([])), None);
    let last = ask(GetHdrsEn::new([at(2_000)])).unwrap();
    assert_eq!(hashes(Some(last.clone())), range(2_001, 2_006));
    for item in &last {
        assert_eq!(item.verify(), Ok(()));
        let is_tip = item.header.hash() == at(2_006);
        assert_eq!((item.no_more_headers, item.transaction_count), (is_tip, if is_tip { 7 } else { 1 }));
        assert_eq!(item.miner_info, None);
        let coinbase = item.coinbase.as_ref().unwrap();
        assert_eq!(coinbase.proof.index, 0);
        assert!(!coinbase.proof.nodes.contains(&ProofNode::Duplicate), "a coinbase is never without a sibling");
    }
}

#[test]
fn enriched_headers_end_where_the_peer_takes_no_more() {
    let node = start(1);
    let mut miner = Peer::connect(&node);
    let mut tip = node.block(1).unwrap();
    for tag in 0..12 {
        let input =
            TransactionInput { previous_output: OutPoint::NULL, script_sig: &[tag; 100_000], sequence: u32::MAX };
        let output = TransactionOutput { value: 1, script_pubkey: &[0x51] };
        tip = mined(&tip, vec![Transaction::new(1, &[input], &[output], 0)]);
        miner.send(&Message::Block(tip.clone()));
    }
    // Once a ping behind them is answered, the last one is announced: nobody who comes later hears of it.
    assert_eq!(miner.said().len(), 12);
    assert_eq!(node.tip_height(), 13);
    let ask = |limit: Option<u32>| {
        let mut peer = Peer::connect_as(&node, version(), false);
        if let Some(limit) = limit {
            peer.send(&Message::ProtoConf(ProtoConf::new(limit, "Default")));
        }
        let items = enriched(&mut peer, GetHdrsEn::new([node.block_hash(1).unwrap()])).unwrap();
        assert!(items.iter().all(|item| item.verify().is_ok()));
        items
    };
    let all = ask(Some(2_097_152));
    assert_eq!(all.len(), 12);
    assert!(all[11].no_more_headers);
    let some = ask(Some(1_048_576));
    assert!(!some[some.len() - 1].no_more_headers);
    let len = |items: &[EnrichedHeader]| {
        let mut payload = Vec::new();
        Message::HdrsEn(items.to_vec()).encode_payload(&mut payload);
        payload.len()
    };
    assert_eq!(some, all[..some.len()]);
    assert!(len(&some) <= 1_048_576 && len(&all[..some.len() + 1]) > 1_048_576, "{} items", some.len());
    assert_eq!(ask(None), all[..1], "without our protoconf a reply holds one");
}

#[test]
fn header_that_stands_for_a_chain_is_shown_to_whoever_asks_for_it_by_its_parent() {
    let honest = || TestNode::start(TestNodeConfig::default().blocks(3)).unwrap();
    // Of a chain that the node does not have.
    let elsewhere = honest();
    elsewhere.mine_branch(1, 4);
    let marker = elsewhere.header(4).unwrap();
    let node = TestNode::start(TestNodeConfig::default().blocks(3).marker_header(marker)).unwrap();
    let mut peer = Peer::connect(&node);
    let mut ask = |request: GetHeaders| match answer(&mut peer, &Message::GetHeaders(request)).as_slice() {
        [Message::Headers(headers)] => headers.clone(),
        other => panic!("no headers, but {other:?}"),
    };
    let genesis = node.block_hash(0).unwrap();
    let own: Vec<_> = (1..=3).map(|height| node.header(height).unwrap()).collect();
    assert_eq!(ask(GetHeaders::new([marker.previous, genesis]).stop_at(marker.hash())), [marker]);
    // Anything else is answered by its chain.
    assert_eq!(ask(GetHeaders::new([genesis]).stop_at(marker.hash())), own);
    assert_eq!(ask(GetHeaders::new([marker.previous])), own);
    assert_eq!(ask(GetHeaders::new([genesis])), own);
}

#[test]
fn in_initial_download_headers_are_not_answered_but_blocks_are() {
    let node = start(20);
    let mut peer = Peer::connect(&node);
    node.initial_download(true);
    assert_eq!(peer.recv(), Message::FeeFilter { satoshis_per_kilobyte: 9_577_383 });
    let genesis = node.block_hash(0).unwrap();
    peer.send(&Message::GetHeaders(GetHeaders::new([genesis])));
    peer.send(&Message::GetHdrsEn(GetHdrsEn::new([genesis])));
    let payment = transaction(1, 200);
    let announced = Message::Inv(vec![Inventory::transaction(payment.txid())]);
    peer.send(&announced);
    assert!(peer.said().is_empty());
    let said = answer(&mut peer, &Message::GetBlocks(GetBlocks::new([genesis])));
    assert_eq!(said[0].command(), Command::INV);
    let block = node.block(7).unwrap();
    assert_eq!(answer(&mut peer, &getdata(InventoryKind::Block, &block)), [Message::Block(block)]);
    // A question about a block that is announced, and a transaction that comes unasked, are heeded all the same.
    let unknown = Message::Inv(vec![Inventory::block(unknown_block())]);
    assert_eq!(answer(&mut peer, &unknown)[0].command(), Command::GETHEADERS);
    let mut late = Peer::connect(&node);
    assert_eq!(late.said(), [Message::FeeFilter { satoshis_per_kilobyte: 9_577_383 }]);
    peer.send(&Message::Tx(payment.clone()));
    assert!(node.wait_for_transaction(payment.txid(), PATIENCE));
    assert_eq!(late.recv(), announced);
    node.mine(1);
    assert!(peer.said().is_empty(), "no blocks are announced");

    node.initial_download(false);
    for peer in [&mut peer, &mut late] {
        assert_eq!(peer.recv(), Message::FeeFilter { satoshis_per_kilobyte: 0 });
        let said = answer(peer, &Message::GetHeaders(GetHeaders::new([genesis])));
        let [Message::Headers(headers)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(headers.len(), 21);
    }
    assert!(Peer::connect(&node).said().is_empty(), "nothing has to be said to who comes later");
}
