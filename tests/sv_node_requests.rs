//! Every request against a real SV Node on regtest, what the node announces on demand, and the programs that ask it.
//!
//! Sections 2 and 4 of the wire specification. Every wait has a deadline and ends with an event.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]
#![expect(clippy::disallowed_methods, reason = "nodes want addresses of late")]

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use conduit::error::AttemptFailure;
use conduit::message::{
    Block, BlockHeader, BloomFilter, FilterAdd, FilterLoad, FilterUpdate, Inventory, NetworkAddress, OutPoint,
    Reconstruction, SendCmpct, Services, TimestampedAddress, Transaction, TransactionInput, TransactionOutput,
};
use conduit::{
    BlockHash, BlockTxnReply, Command, CompactReply, FilteredBlock, GetAddr, GetBlockTxn, GetBlocks, GetData,
    GetHdrsEn, GetHeaders, Harm, Mempool, Message, Network, Ping, RequestError, RequestOptions, Txid,
};
use serde_json::json;

use support::client::{
    Client, assert_refused, config, failures, hash_at, hashes, start_with, stored, txid, wait_for_message,
};
use support::program::{Program, measure, number, run};
use support::raw_peer::RawListener;
use support::sv_node::{SvNode, wait_until};
use support::transactions::{self, Coin, Funding};
use support::{PATIENCE, hex};

// Blocks.

#[test]
fn a_block_comes_whole_filtered_compact_and_in_parts() {
    let Some(node) = start_with(&[]) else { return };
    let mut funding = Funding::new(&node, 20);
    node.generate(12);
    let client = Client::connect(&[&node], config());
    let raws: Vec<_> = (0..20).map(|i| transactions::spend(funding.take(), 200 + i)).collect();
    let relayed = relay(&node, &client, &raws);
    let tip = hashes(&node.generate(1))[0];
    let block = stored(&node, tip);
    let txids: Vec<Txid> = block.transactions().map(|transaction| transaction.txid()).collect();
    assert_eq!(txids.len(), 21);

    // Without a filter everything matches.
    let filtered = client.conduit.send_request(GetData::filtered_block(tip)).unwrap();
    assert_matches(&filtered, &block, &txids);

    // The coinbase comes with the short ids, and known transactions are recognized by them.
    let compact = match client.conduit.send_request(GetData::compact_block(tip)).unwrap() {
        CompactReply::Compact(compact) => compact,
        CompactReply::Block(_) => panic!("the tip comes whole"),
    };
    assert_eq!(compact.header(), block.header());
    let prefilled: Vec<_> = compact.prefilled().map(|(index, coinbase)| (index, coinbase.txid())).collect();
    assert_eq!(prefilled, [(0, txids[0])]);
    let key = compact.short_id_key();
    assert!(compact.short_ids().iter().copied().eq(txids[1..].iter().map(|txid| key.short_id(*txid))));
    let known: Vec<Transaction> = raws.iter().map(|raw| Transaction::from_raw(raw.clone()).unwrap()).collect();
    assert_eq!(compact.reconstruct(&known).unwrap(), Reconstruction::Complete(block.clone()));

    // What is not known is asked for.
    for known in [&known[..7], &[]] {
        let Reconstruction::Partial(partial) = compact.reconstruct(known).unwrap() else { panic!("it is whole") };
        let request = partial.request();
        assert_eq!(request.indexes().len(), 20 - known.len());
        let BlockTxnReply::Transactions(rest) = client.conduit.send_request(request).unwrap() else {
            panic!("parts of the tip come as the whole")
        };
        assert_eq!(partial.fill(&rest).unwrap(), block);
    }
    // For all of them, nodes before 1.1.0 give them one by one, later ones the block.
    match client.conduit.send_request(GetBlockTxn::new(tip, Vec::from_iter(0..21))).unwrap() {
        BlockTxnReply::Transactions(all) => {
            assert!(all.transactions().map(|transaction| transaction.txid()).eq(txids.iter().copied()));
        }
        BlockTxnReply::Block(whole) => assert_eq!(whole, block),
    }

    // Below the tip there is a depth from which on a whole block comes.
    for (depth, is_compact, is_partial) in
        [(0, true, true), (5, true, true), (6, false, true), (10, false, true), (11, false, false)]
    {
        let hash = hash_at(&node, node.best_height() - depth);
        match client.conduit.send_request(GetData::compact_block(hash)).unwrap() {
            CompactReply::Compact(compact) => assert!(is_compact && compact.header().hash() == hash, "{depth}"),
            CompactReply::Block(whole) => assert!(!is_compact && whole == stored(&node, hash), "{depth}"),
        }
        match client.conduit.send_request(GetBlockTxn::new(hash, [0])).unwrap() {
            BlockTxnReply::Transactions(found) => assert!(is_partial && found.block_hash() == hash, "{depth}"),
            BlockTxnReply::Block(whole) => assert!(!is_partial && whole == stored(&node, hash), "{depth}"),
        }
    }

    // Under load each request gets the reply of its own, whatever was asked before and after.
    let mut checks: Vec<Box<dyn FnOnce()>> = Vec::new();
    let genesis = Network::Regtest.genesis();
    let height = node.best_height() as usize;
    let unknown = Txid::from_wire([0xab; 32]);
    for round in 0..ROUNDS {
        let wanted = relayed[round % relayed.len()];
        let (block, txids) = (block.clone(), txids.clone());
        let whole = client.conduit.send_request_nowait(GetData::block(tip)).unwrap();
        let one = client.conduit.send_request_nowait(GetData::transaction(wanted)).unwrap();
        let filtered = client.conduit.send_request_nowait(GetData::filtered_block(tip)).unwrap();
        let mixed = client.conduit.send_request_nowait(GetData::transactions([wanted, unknown])).unwrap();
        let compact = client.conduit.send_request_nowait(GetData::compact_block(tip)).unwrap();
        let dataref = client.conduit.send_request_nowait(GetData::dataref_transaction(wanted)).unwrap();
        let part = round % 21;
        let parts = client.conduit.send_request_nowait(GetBlockTxn::new(tip, [part as u32])).unwrap();
        let headers = client.conduit.send_request_nowait(GetHeaders::new([genesis])).unwrap();
        let enriched = client.conduit.send_request_nowait(GetHdrsEn::new([genesis])).unwrap();
        let hashes = client.conduit.send_request_nowait(GetBlocks::new([genesis])).unwrap();
        let ping = client.conduit.send_request_nowait(Ping).unwrap();
        checks.push(Box::new(move || {
            assert_eq!(whole.wait().unwrap(), block);
            assert_eq!(one.wait().unwrap().txid(), wanted);
            assert_matches(&filtered.wait().unwrap(), &block, &txids);
            let mixed = mixed.wait().unwrap();
            let found: Vec<_> = mixed.iter().map(|result| result.as_ref().map(Transaction::txid)).collect();
            assert!(found[0] == Ok(wanted) && found[1].is_err() && found.len() == 2, "{found:?}");
            let CompactReply::Compact(compact) = compact.wait().unwrap() else { panic!("the tip comes whole") };
            assert_eq!(compact.header(), block.header());
            assert!(matches!(dataref.wait(), Err(RequestError::NotFound { .. })));
            let BlockTxnReply::Transactions(parts) = parts.wait().unwrap() else { panic!("it comes whole") };
            assert!(parts.transactions().map(|transaction| transaction.txid()).eq([txids[part]]));
            assert_eq!(headers.wait().unwrap().len(), height);
            assert_eq!(enriched.wait().unwrap().len(), height);
            assert_eq!(hashes.wait().unwrap().len(), height);
            assert!(ping.wait().unwrap() > Duration::ZERO);
        }));
    }
    // The last ones first, so that replies lie about when they are asked for.
    checks.into_iter().rev().for_each(|check| check());

    // Replies that nobody waits for any more are no news, and are not taken for those to the next request.
    let messages = client.conduit.messages().unwrap();
    for _ in 0..10 {
        client.conduit.send_request_nowait(GetData::block(tip)).unwrap().cancel();
        client.conduit.send_request_nowait(GetData::filtered_block(tip)).unwrap().cancel();
        client.conduit.send_request_nowait(GetData::compact_block(tip)).unwrap().cancel();
        client.conduit.send_request_nowait(GetBlockTxn::new(tip, [1, 2])).unwrap().cancel();
        client.conduit.send_request_nowait(GetData::transaction(relayed[0])).unwrap().cancel();
        client.conduit.send_request_nowait(GetData::dataref_transaction(relayed[0])).unwrap().cancel();
        client.conduit.send_request_nowait(GetHeaders::new([genesis])).unwrap().cancel();
        client.conduit.send_request_nowait(GetHdrsEn::new([genesis])).unwrap().cancel();
        client.conduit.send_request_nowait(GetBlocks::new([genesis])).unwrap().cancel();
        let filtered = client.conduit.send_request_nowait(GetData::filtered_block(tip)).unwrap();
        let parts = client.conduit.send_request_nowait(GetBlockTxn::new(tip, [3])).unwrap();
        let headers = client.conduit.send_request_nowait(GetHeaders::new([genesis])).unwrap();
        let enriched = client.conduit.send_request_nowait(GetHdrsEn::new([genesis])).unwrap();
        let hashes = client.conduit.send_request_nowait(GetBlocks::new([genesis])).unwrap();
        assert_matches(&filtered.wait().unwrap(), &block, &txids);
        let BlockTxnReply::Transactions(parts) = parts.wait().unwrap() else { panic!("it comes whole") };
        assert!(parts.transactions().map(|transaction| transaction.txid()).eq([txids[3]]));
        assert_eq!(headers.wait().unwrap().len(), height);
        assert_eq!(enriched.wait().unwrap().len(), height);
        assert_eq!(hashes.wait().unwrap().len(), height);
    }
    client.fence();
    for incoming in std::iter::from_fn(|| messages.try_recv().ok()) {
        assert_eq!(incoming.message.command(), Command::INV, "lists of hashes are news for everybody");
    }

    // About what it does not know, it is silent, or says so.
    let brief = RequestOptions::new().timeout(Duration::from_millis(400));
    let unknown_block = BlockHash::from_wire([0xab; 32]);
    let filtered = client.conduit.send_request_nowait_with(GetData::filtered_block(unknown_block), &brief);
    let compact = client.conduit.send_request_nowait_with(GetData::compact_block(unknown_block), &brief);
    let parts = client.conduit.send_request_nowait_with(GetBlockTxn::new(unknown_block, [0]), &brief);
    let silence = [(client.peers[0], AttemptFailure::TimedOut)];
    assert_eq!(failures(filtered.unwrap().wait()), silence);
    assert_eq!(failures(compact.unwrap().wait()), silence);
    assert_eq!(failures(parts.unwrap().wait()), silence);
    let absent = client.conduit.send_request(GetData::dataref_transaction(unknown));
    assert!(matches!(absent, Err(RequestError::NotFound { .. })), "{absent:?}");
    assert_eq!(failures(absent), [(client.peers[0], AttemptFailure::NotFound)]);
    client.end(&[&node]);
}

// The chain.

#[test]
fn the_chain_is_walked_with_proven_coinbases_and_by_hashes() {
    let Some(node) = start_with(&[]) else { return };
    let mut chain = hashes(&node.generate(2_003));
    let mut funding = Funding::new(&node, 21);
    chain.push(hash_at(&node, 2_004));
    // Trees of every shape up to seven leaves, and so coinbases with proofs of every length up to three.
    for count in 1..=6 {
        for _ in 0..count {
            node.send_raw_transaction(&transactions::spend(funding.take(), 200)).unwrap();
        }
        chain.push(hashes(&node.generate(1))[0]);
    }
    let genesis = Network::Regtest.genesis();
    // Two thousand items are within the limit that we announce.
    let client = Client::connect(&[&node], config());
    let ask = |request| client.conduit.send_request(request).unwrap();

    let first = ask(GetHdrsEn::new([genesis]));
    let second = ask(GetHdrsEn::new([first.last().unwrap().header.hash(), genesis]));
    let at_tip = ask(GetHdrsEn::new([second.last().unwrap().header.hash(), genesis]));
    assert_eq!([first.len(), second.len(), at_tip.len()], [2_000, 10, 0]);
    let all = [first, second].concat();
    assert!(all.iter().map(|item| item.header.hash()).eq(chain.iter().copied()));
    for item in &all {
        item.verify().unwrap();
        assert_eq!(item.no_more_headers, item.header.hash() == chain[2_009]);
        assert_eq!(item.miner_info, None);
    }
    let counts: Vec<u32> = all.iter().map(|item| item.transaction_count).collect();
    assert_eq!(counts[2_002..], [1, 2, 2, 3, 4, 5, 6, 7]);
    for item in &all[1_995..] {
        let block = node.rpc("getblock", json!([item.header.hash().to_string(), 1]));
        let txids = block["tx"].as_array().unwrap();
        assert_eq!(txids.len(), item.transaction_count as usize);
        assert_eq!(txids[0], item.coinbase.as_ref().unwrap().transaction.txid().to_string());
    }
    // The stop hash is the last one of the reply, and without a locator the only one.
    let five = ask(GetHdrsEn::new([genesis]).stop_at(chain[4]));
    assert!(five.iter().map(|item| item.header.hash()).eq(chain[..5].iter().copied()));
    for hash in [genesis, chain[2_007]] {
        let one = ask(GetHdrsEn::new([]).stop_at(hash));
        assert_eq!(one.iter().map(|item| item.header.hash()).collect::<Vec<_>>(), [hash]);
        one[0].verify().unwrap();
    }

    // Hashes come by five hundreds, up to the stop hash but without it.
    let ask = |request| client.conduit.send_request(request).unwrap();
    assert_eq!(ask(GetBlocks::new([genesis])), chain[..500]);
    assert_eq!(ask(GetBlocks::new([chain[499], genesis])), chain[500..1_000]);
    assert_eq!(ask(GetBlocks::new([chain[1_999], genesis])), chain[2_000..]);
    assert_eq!(ask(GetBlocks::new([genesis]).stop_at(chain[4])), chain[..4]);
    // The 500th block is followed by an `inv` of the tip, which is no answer to what is asked behind it.
    let messages = client.conduit.messages().unwrap();
    for form in 0..3 {
        assert_eq!(ask(GetBlocks::new([genesis])), chain[..500]);
        let last = chain[499];
        match form {
            0 => drop(client.conduit.send_request_nowait(GetData::block(last)).unwrap()),
            1 => drop(client.conduit.send_request_nowait(GetData::filtered_block(last)).unwrap()),
            _ => drop(client.conduit.send_request_nowait(GetData::compact_block(last)).unwrap()),
        }
        assert_eq!(ask(GetBlocks::new([last])), chain[500..1_000], "form {form}");
        let cue = Message::Inv(vec![Inventory::block(chain[2_009])]);
        wait_for_message(&messages, client.peers[0], |message| *message == cue);
    }
    // A locator that says nothing is one from the genesis block, and so is none.
    assert_eq!(ask(GetBlocks::new([BlockHash::from_wire([0xab; 32])])), chain[..500]);
    assert_eq!(ask(GetBlocks::new([])), chain[..500]);
    // With nothing to list there is no answer.
    let brief = RequestOptions::new().timeout(Duration::from_millis(400));
    let result = client.conduit.send_request_with(GetBlocks::new([chain[2_009]]), &brief);
    assert_eq!(failures(result), [(client.peers[0], AttemptFailure::TimedOut)]);
    client.end(&[&node]);
}

#[test]
fn enriched_headers_stop_short_of_the_size_that_we_accept() {
    let Some(node) = start_with(&[]) else { return };
    let mut chain = hashes(&node.generate(3));
    for _ in 0..3 {
        chain.push(mine_large_coinbase(&node, 400_000));
    }
    chain.extend(hashes(&node.generate(2)));
    let client = Client::connect(&[&node], config().max_recv_payload_length(1_048_576));

    let mut locator = vec![Network::Regtest.genesis()];
    let mut lengths = Vec::new();
    while *locator.last().unwrap() != chain[7] {
        let items = client.conduit.send_request(GetHdrsEn::new([*locator.last().unwrap()])).unwrap();
        items.iter().for_each(|item| item.verify().unwrap());
        assert!(items.iter().all(|item| item.no_more_headers == (item.header.hash() == chain[7])));
        lengths.push(items.len());
        locator.extend(items.iter().map(|item| item.header.hash()));
    }
    assert_eq!(locator[1..], chain);
    assert_eq!(lengths, [5, 3], "as many as fit");
    client.end(&[&node]);
}

// Addresses.

/// A node has addresses to tell once a peer that it dialled has told it some. It answers on a random timer, half a
/// minute on average and one for each connection, so many are asked and the first answers will do.
#[test]
fn addresses_are_told_that_the_node_has_heard_of() {
    let Some(node) = start_with(&[]) else { return };
    let listener = RawListener::bind();
    node.rpc("addnode", json!([listener.address(), "onetry"]));
    let mut teller = listener.accept();
    teller.shake_hands();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32;
    // In networks of their own, or the node would keep only some.
    let told: Vec<TimestampedAddress> = (0..200)
        .map(|i| {
            let address = SocketAddr::from(([50 + i, 60, 70, 80], 8_000 + u16::from(i)));
            TimestampedAddress { time: now, address: NetworkAddress::new(Services::NETWORK, address) }
        })
        .collect();
    teller.send(&Message::Addr(told.clone()));
    teller.ping(1);

    let clients: Vec<Client> = (0..ADDRESS_SEEKERS).map(|_| Client::connect(&[&node], config())).collect();
    let (sender, answers) = mpsc::channel();
    for (at, client) in (0..).zip(&clients) {
        let pending = client.conduit.send_request_nowait(GetAddr).unwrap();
        let sender = sender.clone();
        // The request ends with its conduit, and so does the thread.
        thread::spawn(move || drop(sender.send((at, pending.wait()))));
    }
    for _ in 0..3 {
        let (at, answer) = answers.recv_timeout(PATIENCE).unwrap();
        let answer: Vec<TimestampedAddress> = answer.unwrap();
        assert!(answer.len() <= told.len() * 23 / 100, "{} addresses", answer.len());
        for found in answer {
            let told = told.iter().find(|told| told.address == found.address);
            // The node takes off two hours for what is hearsay.
            let time = told.unwrap_or_else(|| panic!("nobody told of {found:?}")).time;
            assert!(time - found.time <= 7_200, "{found:?}");
        }
        // A second request has the same answer, without a message.
        let client: &Client = &clients[at];
        assert!(!client.conduit.send_request(GetAddr).unwrap().is_empty());
    }
    for client in &clients {
        client.end(&[&node]);
    }
}

// Initial block download.

#[test]
fn a_node_that_still_downloads_answers_some_and_whom_it_trusts() {
    // No tip is young enough for these. Without a second block, the genesis block would be withheld, too.
    let old = "-maxtipage=-100000";
    let (Some(node), Some(trusting)) = (start_with(&[old]), start_with(&[old, "-whitelist=127.0.0.1"])) else {
        return;
    };
    let genesis = Network::Regtest.genesis();
    let mined = hashes(&node.generate(2));
    let client = Client::connect(&[&node], config());
    let brief = RequestOptions::new().timeout(Duration::from_millis(400));
    let headers = client.conduit.send_request_nowait_with(GetHeaders::new([genesis]), &brief).unwrap();
    let enriched = client.conduit.send_request_nowait_with(GetHdrsEn::new([genesis]), &brief).unwrap();
    let silence = [(client.peers[0], AttemptFailure::TimedOut)];
    assert_eq!(failures(headers.wait()), silence);
    assert_eq!(failures(enriched.wait()), silence);
    assert_eq!(client.conduit.send_request(GetBlocks::new([genesis])).unwrap(), mined);
    for hash in [genesis, mined[1]] {
        let block = client.conduit.send_request(GetData::block(hash)).unwrap();
        assert_eq!(block, stored(&node, hash));
        let filtered = client.conduit.send_request(GetData::filtered_block(hash)).unwrap();
        assert_matches(&filtered, &block, &[block.transactions().next().unwrap().txid()]);
    }
    client.end(&[&node]);

    let mined = hashes(&trusting.generate(2));
    let client = Client::connect(&[&trusting], config());
    let headers = client.conduit.send_request(GetHeaders::new([genesis])).unwrap();
    assert!(headers.iter().map(BlockHeader::hash).eq(mined.iter().copied()));
    let enriched = client.conduit.send_request(GetHdrsEn::new([genesis])).unwrap();
    assert!(enriched.iter().map(|item| item.header).eq(headers));
    // It tells its pool, too, although it offers no filters and others are refused.
    let raw = transactions::spend(Funding::new(&trusting, 1).take(), 200);
    trusting.send_raw_transaction(&raw).unwrap();
    let quiet = Duration::from_millis(500);
    assert_eq!(client.conduit.send_request(Mempool::new().insist().quiet(quiet)).unwrap(), [txid(&raw)]);
    client.end(&[&trusting]);
}

// The pool and filters.

#[test]
fn the_pool_is_told_to_whom_the_node_allows_it_and_filters_pick() {
    // What is sent to the node while nobody is connected must not be announced to who connects right after.
    let options = ["-peerbloomfilters=1", "-rejectmempoolrequest=0", "-txnpropagationfreq=1"];
    let Some(node) = start_with(&options) else { return };
    let mut funding = Funding::new(&node, 12);
    let client = Client::connect(&[&node], config());
    let (conduit, peer) = (&client.conduit, client.peers[0]);
    assert!(client.info(peer).services.unwrap().contains(Services::BLOOM));

    assert_eq!(conduit.send_request(Mempool::new()), Err(RequestError::Harmful(Harm::Mempool)));
    let pool = || Mempool::new().insist().quiet(Duration::from_millis(700));
    let brief = RequestOptions::new().timeout(Duration::from_millis(700));
    let empty = conduit.send_request_with(pool(), &brief);
    assert_eq!(failures(empty), [(peer, AttemptFailure::TimedOut)], "an empty pool draws no answer");
    client.end(&[&node]);

    // Nobody is there to relay these to. The last two are a pair of which the second spends the first.
    let mut raws: Vec<_> = (0..9).map(|i| transactions::spend(funding.take(), 200 + i)).collect();
    let [marked, child] = marked_pair(funding.take());
    raws.extend([marked.raw().to_vec(), child.raw().to_vec()]);
    let txids: Vec<Txid> = raws.iter().map(|raw| txid(raw)).collect();
    raws.iter().for_each(|raw| assert!(node.send_raw_transaction(raw).is_ok()));
    let client = Client::connect(&[&node], config());
    let (conduit, peer) = (&client.conduit, client.peers[0]);
    let unrelayed = conduit.send_request(GetData::transaction(txids[0]));
    assert_eq!(failures(unrelayed), [(peer, AttemptFailure::NotFound)]);

    // A filter holds for the pool, too.
    let mut filter = BloomFilter::new(10, 1e-9, 1, FilterUpdate::None).unwrap();
    filter.insert(txids[3].as_wire()).unwrap();
    conduit.send(peer, Message::FilterLoad(filter.clone().into())).unwrap();
    assert_eq!(conduit.send_request(pool()).unwrap(), [txids[3]]);
    conduit.send(peer, Message::FilterClear).unwrap();
    let all: HashSet<String> = conduit.send_request(pool()).unwrap().iter().map(Txid::to_string).collect();
    assert_eq!(all, node.mempool());
    assert_eq!(all.len(), txids.len());
    // Whom the pool was told, it is given to.
    let told = conduit.send_request(GetData::transactions(txids.clone())).unwrap();
    assert!(told.iter().map(|result| result.as_ref().unwrap().txid()).eq(txids.iter().copied()));

    let tip = hashes(&node.generate(1))[0];
    let block = stored(&node, tip);
    let ask = || conduit.send_request(GetData::filtered_block(tip)).unwrap();
    let load = |filter: &BloomFilter| conduit.send(peer, Message::FilterLoad(filter.clone().into())).unwrap();
    let add = |data: &[u8]| conduit.send(peer, Message::FilterAdd(FilterAdd { data: data.to_vec() })).unwrap();
    let view = |raw: &[u8]| Transaction::from_raw(raw.to_vec()).unwrap();
    // By txid; then by what a transaction spends as well.
    load(&filter);
    assert_matches(&ask(), &block, &[txids[3]]);
    let spent = view(&raws[5]).inputs().next().unwrap().previous_output;
    add(&[&spent.txid.as_wire()[..], &spent.index.to_le_bytes()].concat());
    assert_matches(&ask(), &block, &[txids[3], txids[5]]);
    // By what an output pushes; what spends it matches if the filter learns the outpoint, and it does not from scripts
    // that are none of its kind.
    for (update, wanted) in [
        (FilterUpdate::None, &[marked.txid()][..]),
        (FilterUpdate::PublicKeys, &[marked.txid()]),
        (FilterUpdate::All, &[marked.txid(), child.txid()]),
    ] {
        let mut filter = BloomFilter::new(10, 1e-9, 2, update).unwrap();
        filter.insert(MARK).unwrap();
        load(&filter);
        assert_matches(&ask(), &block, wanted);
        // Our own filter agrees with the node's about every transaction.
        let ours = block.transactions().filter(|transaction| filter.matches(*transaction));
        assert!(ours.map(|transaction| transaction.txid()).eq(wanted.iter().copied()), "{update:?}");
    }
    // An element that is in no block, and an addition that is.
    let mut nothing = BloomFilter::new(10, 1e-9, 3, FilterUpdate::None).unwrap();
    nothing.insert(b"in no block").unwrap();
    load(&nothing);
    assert_matches(&ask(), &block, &[]);
    add(block.transactions().next().unwrap().txid().as_wire());
    assert_matches(&ask(), &block, &[block.transactions().next().unwrap().txid()]);
    // The largest that is allowed, with everything in it that there is.
    let mut large = BloomFilter::new(1_000_000, 1e-9, 4, FilterUpdate::All).unwrap();
    assert_eq!(large.as_filter_load().filter.len(), FilterLoad::MAX_FILTER_LEN);
    txids.iter().for_each(|txid| large.insert(txid.as_wire()).unwrap());
    load(&large);
    assert_matches(&ask(), &block, &txids);
    // Without one, everything matches again.
    conduit.send(peer, Message::FilterClear).unwrap();
    let everything: Vec<Txid> = block.transactions().map(|transaction| transaction.txid()).collect();
    assert_matches(&ask(), &block, &everything);

    // What is over the limits is not sent.
    let oversized = FilterLoad { filter: vec![1; FilterLoad::MAX_FILTER_LEN + 1], ..large.into() };
    let too_long = FilterAdd { data: vec![1; FilterAdd::MAX_DATA_LEN + 1] };
    for message in [Message::FilterLoad(oversized), Message::FilterAdd(too_long)] {
        assert_refused(&client, message, Harm::FilterTooLarge);
    }
    client.end(&[&node]);
}

/// A transaction whose output pushes [`MARK`], and one that spends it.
fn marked_pair(coin: Coin) -> [Transaction; 2] {
    let spend = |previous_output: OutPoint, value: u64, script_pubkey: &[u8]| {
        let input = TransactionInput { previous_output, script_sig: &[], sequence: u32::MAX };
        let output = TransactionOutput { value: value as i64, script_pubkey };
        Transaction::new(1, &[input], &[output], 0)
    };
    let outpoint = OutPoint { txid: Txid::from_wire(coin.txid), index: coin.index };
    // Pushed, dropped, and true instead.
    let script = [&[MARK.len() as u8], MARK, &[0x75, 0x51]].concat();
    let marked = spend(outpoint, coin.value - 1_000, &script);
    let child = spend(OutPoint { txid: marked.txid(), index: 0 }, coin.value - 2_000, &[0x51]);
    [marked, child]
}

// Announcements.

#[test]
fn blocks_are_announced_in_the_form_asked_for() {
    let Some(node) = start_with(&[]) else { return };
    let mut funding = Funding::new(&node, 12);
    let mut tip = hash_at(&node, node.best_height());
    let clients: [Client; 4] = std::array::from_fn(|_| Client::connect(&[&node], config()));
    let queues = clients.each_ref().map(|client| client.conduit.messages().unwrap());
    let [enriched, compact, headers, plain] = &clients;
    let high_bandwidth = Message::SendCmpct(SendCmpct { announce: true, version: 1 });
    for (client, message) in
        [(enriched, Message::SendHdrsEn), (compact, high_bandwidth), (headers, Message::SendHeaders)]
    {
        client.conduit.send(client.peers[0], message).unwrap();
        // It announces in these forms only if it believes that we know the block before.
        assert_eq!(client.conduit.send_request(GetHeaders::new([tip])).unwrap(), []);
    }

    for count in [3, 0, 5] {
        let raws: Vec<_> = (0..count).map(|i| transactions::spend(funding.take(), 200 + i)).collect();
        relay(&node, plain, &raws);
        let mined = hashes(&node.generate(1))[0];
        let block = stored(&node, mined);
        let [enriched, compact, headers, plain] =
            [0, 1, 2, 3].map(|at| wait_for_message(&queues[at], clients[at].peers[0], is_block_news));

        let Message::HdrsEn(items) = enriched else { panic!("announced by {enriched:?}") };
        assert_eq!(items.iter().map(|item| item.header).collect::<Vec<_>>(), [*block.header()]);
        items[0].verify().unwrap();
        assert_eq!(items[0].transaction_count as usize, block.transaction_count());
        assert!(items[0].no_more_headers);
        let coinbase = block.transactions().next().unwrap().to_transaction();
        assert_eq!(items[0].coinbase.as_ref().unwrap().transaction, coinbase);

        let Message::CmpctBlock(short) = compact else { panic!("announced by {compact:?}") };
        assert_eq!((short.header(), short.short_ids().len()), (block.header(), raws.len()));
        let known: Vec<_> = raws.iter().map(|raw| Transaction::from_raw(raw.clone()).unwrap()).collect();
        assert_eq!(short.reconstruct(&known).unwrap(), Reconstruction::Complete(block.clone()));

        let Message::Headers(list) = headers else { panic!("announced by {headers:?}") };
        assert_eq!(list, [*block.header()]);
        assert_eq!(list[0].previous, tip);

        assert_eq!(plain, Message::Inv(vec![Inventory::block(mined)]));
        tip = mined;
    }

    // An announced block is at hand at once, in whatever form; the announcement is not taken for a reply.
    for client in &clients {
        assert_eq!(client.conduit.send_request(GetHdrsEn::new([tip])).unwrap(), []);
        assert_eq!(client.conduit.send_request(GetData::block(tip)).unwrap(), stored(&node, tip));
    }
    // So is a branch that takes over, from the fork on; several blocks at once have no compact form.
    node.rpc("invalidateblock", json!([tip.to_string()]));
    let branch = hashes(&node.generate(2));
    let forms = [Command::HDRSEN, Command::CMPCTBLOCK, Command::HEADERS, Command::INV];
    for ((client, queue), form) in clients.iter().zip(&queues).zip(forms) {
        let mut heard = Vec::new();
        while heard.last() != Some(&branch[1]) {
            let news = wait_for_message(queue, client.peers[0], is_block_news);
            let is_short = matches!(form, Command::CMPCTBLOCK | Command::INV);
            assert!(news.command() == form || (is_short && news.command() == Command::INV), "{news:?}");
            heard.extend(announced_blocks(&news));
        }
        if matches!(form, Command::HDRSEN | Command::HEADERS) {
            assert_eq!(heard, branch);
        }
    }
    for client in &clients {
        client.end(&[&node]);
    }
}

fn is_block_news(message: &Message) -> bool {
    !announced_blocks(message).is_empty()
}

fn announced_blocks(message: &Message) -> Vec<BlockHash> {
    match message {
        Message::Inv(items) => items.iter().filter_map(Inventory::block_hash).collect(),
        Message::Headers(headers) => headers.iter().map(BlockHeader::hash).collect(),
        Message::HdrsEn(items) => items.iter().map(|item| item.header.hash()).collect(),
        Message::CmpctBlock(block) => vec![block.header().hash()],
        Message::Block(block) => vec![block.hash()],
        _ => Vec::new(),
    }
}

// Programs.

#[test]
fn the_example_programs_do_with_real_nodes_what_they_say() {
    let Some(nodes) = SvNode::joined(2) else { return };
    let [near, far] = &nodes[..] else { panic!("two were asked for") };
    let mut funding = Funding::new(near, 3);
    wait_until("the other node to follow", PATIENCE, || near.best_height() == far.best_height());
    let address = near.address().to_string();

    // A transaction is announced to the other node, which makes it one that can be asked for.
    let raw = transactions::spend(funding.take(), 200);
    let both = ["--network", "regtest", "--connect", &address, "--connect", &far.address().to_string()];
    let args = [&both[..], &["--nodes", "1"]].concat();
    let (code, lines, complaints) = run("broadcast", &[&args[..], &[&hex::encode(&raw)]].concat());
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{lines:?}");
    assert_eq!(lines[0], format!("{} relayed by 1 that were not told", txid(&raw)));
    assert_eq!(lines.len(), 4, "a summary comes last: {lines:?}");
    assert!(near.mempool().contains(&txid(&raw).to_string()));
    let early = transactions::immature_coinbase_spend(near);
    let (code, lines, complaints) = run("broadcast", &[&args[..], &[&hex::encode(&early)]].concat());
    assert_eq!((code, complaints.as_str()), (Some(1), ""), "{lines:?}");
    let reason = "0x10 invalid: bad-txns-premature-spend-of-coinbase";
    assert_eq!(lines[0], format!("{} rejected by 1: {reason}", txid(&early)));

    let fields = ["mode", "count", "p50_us", "p99_us", "max_us", "seconds", "cpu_seconds", "peers"];
    let base = ["round-trips", "--count", "100", "--connect", &address, "--what"];
    for what in [&["ping"][..], &["tx", "--txid", &txid(&raw).to_string()]] {
        let report = measure(&[&base, what].concat(), &fields);
        assert_eq!((number(&report, "count"), number(&report, "peers")), (100.0, 1.0));
        assert!(number(&report, "p50_us") > 0.0);
    }
    let absent = txid(&transactions::spend(funding.take(), 200)).to_string();
    let (code, lines, complaints) = run("measure", &[&base[..], &["tx", "--txid", &absent]].concat());
    assert_eq!((code, lines.len()), (Some(1), 0));
    assert!(complaints.contains("does not have it"), "{complaints}");

    // Blocks are announced one by one, when the one before has been.
    let mut program = Program::start("measure", &["receive", "--count", "5", "--connect", &address]);
    let announced = || {
        let peers = near.rpc("getpeerinfo", json!([]));
        let ours =
            peers.as_array().unwrap().iter().find(|peer| peer["subver"].as_str().unwrap().contains("conduit"))?;
        let is_ready = ours["bytesrecv_per_msg"]["pong"].is_number();
        is_ready.then(|| ours["bytessent_per_msg"]["inv"].as_u64().unwrap_or(0))
    };
    wait_until("the program to connect", PATIENCE, || announced().is_some());
    for count in 1..=4 {
        near.generate(1);
        wait_until("the announcement", PATIENCE, || announced() == Some(count * 61));
    }
    near.generate(1);
    let report = program.json();
    assert_eq!((number(&report, "messages"), number(&report, "items")), (5.0, 5.0));
    assert_eq!(number(&report, "bytes"), 5.0 * 61.0);
    assert!(report["others"].as_object().unwrap().contains_key("authch"), "{report}");
    assert_eq!(program.end(), (Some(0), vec![], String::new()));
    for node in &nodes {
        node.assert_no_misbehaviour();
    }
}

/// Has the node take a block of ours, with a coinbase of a little more than `size` bytes.
fn mine_large_coinbase(node: &SvNode, size: usize) -> BlockHash {
    let best = hash_at(node, node.best_height());
    let tip = *stored(node, best).header();
    // Coinbases must differ, and this one's script is as long as it has to be.
    let script_sig = &best.as_wire()[..8];
    let padding = [&[0x00, 0x6a][..], &vec![0; size]].concat();
    let input = TransactionInput { previous_output: OutPoint::NULL, script_sig, sequence: u32::MAX };
    let outputs = [TransactionOutput { value: 0, script_pubkey: &padding }];
    let coinbase = Transaction::new(1, &[input], &outputs, 0);
    let merkle_root = conduit::block::merkle_root([coinbase.txid()]).unwrap();
    let mut header = BlockHeader { previous: best, merkle_root, time: tip.time + 1, nonce: 0, ..tip };
    // Every second hash is below the target.
    while header.hash().as_wire()[31] > 0x7e {
        header.nonce += 1;
    }
    let block = Block::new(header, vec![coinbase]);
    assert_eq!(node.rpc("submitblock", json!([hex::encode(block.raw())])), json!(null));
    block.hash()
}

/// Has the node take transactions and waits until it has announced them all, so that it will give them.
#[track_caller]
fn relay(node: &SvNode, client: &Client, raws: &[Vec<u8>]) -> Vec<Txid> {
    let announced = client.conduit.subscribe([Command::INV]).unwrap();
    for raw in raws {
        node.send_raw_transaction(raw).unwrap();
    }
    let txids: Vec<Txid> = raws.iter().map(|raw| txid(raw)).collect();
    let mut missing = txids.clone();
    while !missing.is_empty() {
        let Message::Inv(items) = wait_for_message(&announced, client.peers[0], |_| true) else {
            panic!("only inv was subscribed to")
        };
        missing.retain(|txid| !items.contains(&Inventory::transaction(*txid)));
    }
    txids
}

/// A filtered block is proven and has exactly these transactions of the block, in block order.
#[track_caller]
fn assert_matches(filtered: &FilteredBlock, block: &Block, wanted: &[Txid]) {
    assert_eq!(filtered.merkle_block.header, *block.header());
    assert_eq!(filtered.merkle_block.tree.total_transactions as usize, block.transaction_count());
    let proven = filtered.merkle_block.matches().unwrap();
    let places = (0..).zip(block.transactions().map(|transaction| transaction.txid()));
    assert!(places.filter(|(_, txid)| wanted.contains(txid)).eq(proven));
    let whole = block.transactions().filter(|transaction| wanted.contains(&transaction.txid()));
    assert!(whole.map(|transaction| transaction.to_transaction()).eq(filtered.transactions.iter().cloned()));
    assert_eq!(filtered.transactions.len(), wanted.len());
}

const MARK: &[u8] = b"a mark in a script";
/// So that the first of them is answered in about a second.
const ADDRESS_SEEKERS: usize = 24;
/// How often everything is asked at once.
const ROUNDS: usize = 60;
