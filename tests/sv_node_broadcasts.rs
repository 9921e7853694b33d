//! What real nodes do about each kind of transaction, which is what the verdicts of broadcasts are built on, and the verdicts
//! that come of it: each as the README's table has it.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]
#![expect(clippy::disallowed_methods, reason = "a node's tip is old by the clock")]

mod support;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use conduit::error::BroadcastFailure;
use conduit::message::{Inventory, RejectCode, Transaction};
use conduit::{
    Broadcast, BroadcastEnd, BroadcastOptions, BroadcastReport, Command, ConflictSource, JourneyState, Message,
    Messages, PeerId, PeerJourney, Progress, Txid, Verdict,
};
use serde_json::json;
use support::PATIENCE;
use support::client::{Client, config, start_with, txid, wait_for_inventory, wait_for_message};
use support::rpc_line::RpcLine;
use support::sv_node::{SvNode, SvNodeOptions, follow, wait_until};
use support::transactions::{self, Funding};

/// Nodes A, B and C in a line, with a conduit that is connected to all of them and tells A first.
struct Line {
    nodes: Vec<SvNode>,
    client: Client,
    funding: Funding,
}

impl Line {
    fn start(options: [SvNodeOptions; 3], coins: u32) -> Option<Self> {
        let nodes = SvNode::line(&options)?;
        let funding = Funding::new(&nodes[0], coins);
        follow(&nodes);
        let client = Client::connect(&nodes.iter().collect::<Vec<_>>(), config());
        client.conduit.set_main_peer(nodes[0].address()).unwrap();
        Some(Self { nodes, client, funding })
    }

    fn broadcast(&self, raw: &[u8], options: &BroadcastOptions) -> Broadcast {
        self.client.conduit.broadcast_transaction_with(raw, options).unwrap()
    }

    fn wait_for_mempools(&self, raws: &[Vec<u8>]) {
        self.nodes.iter().for_each(|node| node.wait_for_mempool(&ids(raws), PATIENCE));
    }

    fn end(self) {
        self.client.end(&self.nodes.iter().collect::<Vec<_>>());
    }
}

/// A is told, and both others must relay.
fn through_the_line() -> BroadcastOptions {
    BroadcastOptions::new().nodes(1).listeners(2).relays(2).deadline(PATIENCE)
}

/// The same for what nothing will be heard of.
fn in_silence() -> BroadcastOptions {
    through_the_line().deadline(SILENCE)
}

fn only_told(nodes: usize, deadline: Duration) -> BroadcastOptions {
    BroadcastOptions::new().nodes(nodes).listeners(0).deadline(deadline)
}

fn journey(report: &BroadcastReport, peer: PeerId) -> &PeerJourney {
    report.peers.iter().find(|journey| journey.peer == Some(peer)).unwrap_or_else(|| panic!("{peer}: {report:?}"))
}

/// Announces transactions and returns which of them the node asks for, in one question.
fn asked_for(client: &Client, requests: &Messages, raws: &[&[u8]]) -> Vec<Txid> {
    let items = raws.iter().map(|raw| Inventory::transaction(txid(raw))).collect();
    client.conduit.send(client.peers[0], Message::Inv(items)).unwrap();
    let Message::GetData(items) = requests.recv_timeout(PATIENCE).unwrap().message else { panic!("no getdata") };
    items.iter().filter_map(Inventory::txid).collect()
}

fn push(client: &Client, raw: &[u8]) {
    let transaction = Transaction::from_raw(raw.to_vec()).unwrap();
    client.conduit.send(client.peers[0], Message::Tx(transaction)).unwrap();
}

fn ids(raws: &[Vec<u8>]) -> HashSet<String> {
    raws.iter().map(|raw| transactions::txid(raw)).collect()
}

#[test]
fn each_kind_of_transaction_is_treated_as_the_docs_say() {
    let Some(node) = SvNode::start(SvNodeOptions::strict()) else { return };
    let mut funding = Funding::new(&node, 20);
    let mined = transactions::spend(funding.take(), 300);
    node.send_raw_transaction(&mined).unwrap();
    node.generate(1);
    let premature = transactions::immature_coinbase_spend(&node);
    let client = Client::connect(&[&node], config());
    let rejects = client.conduit.subscribe([Command::REJECT]).unwrap();
    let requests = client.conduit.subscribe([Command::GETDATA]).unwrap();

    // Refused aloud, and not asked for again before the next block.
    let loud = [
        (transactions::dust(funding.take()), RejectCode::NonStandard, "dust"),
        (transactions::oversized(funding.take()), RejectCode::NonStandard, "tx-size"),
        (premature.clone(), RejectCode::Invalid, "bad-txns-premature-spend-of-coinbase"),
    ];
    for (raw, code, reason) in &loud {
        push(&client, raw);
        let Message::Reject(reject) = rejects.recv_timeout(PATIENCE).unwrap().message else { panic!("no reject") };
        assert_eq!(
            (reject.code, reject.reason.to_string().as_str(), reject.txid()),
            (*code, *reason, Some(txid(raw)))
        );
        let fresh = transactions::spend(funding.take(), 300);
        assert_eq!(asked_for(&client, &requests, &[raw, &fresh]), [txid(&fresh)], "{reason}");
    }

    // Refused in silence: a rival of what is in the mempool.
    let rivals = transactions::rivals(funding.take(), 2);
    push(&client, &rivals[0]);
    node.wait_for_mempool(&ids(&rivals[..1]), PATIENCE);
    push(&client, &rivals[1]);
    // What is known, in whatever way, is not asked for.
    let non_final = transactions::non_final(funding.take());
    push(&client, &non_final);
    wait_until("the non-final one", PATIENCE, || {
        node.non_final_mempool().contains(&transactions::txid(&non_final))
    });
    let orphan = transactions::orphan(1);
    assert_eq!(asked_for(&client, &requests, &[&orphan]), [txid(&orphan)]);
    push(&client, &orphan);
    let parent = Transaction::from_raw(orphan).unwrap().inputs().next().unwrap().previous_output.txid;
    let Message::GetData(items) = requests.recv_timeout(PATIENCE).unwrap().message else { panic!("no getdata") };
    assert_eq!(items, [Inventory::transaction(parent)]);
    let fresh = transactions::spend(funding.take(), 300);
    let known = [&mined[..], &rivals[0], &rivals[1], &non_final, &fresh];
    assert_eq!(asked_for(&client, &requests, &known), [txid(&fresh)]);

    let mempool = node.mempool();
    let is_there = |raw: &[u8]| mempool.contains(&transactions::txid(raw));
    assert!(is_there(&rivals[0]) && !is_there(&rivals[1]) && !is_there(&non_final) && !is_there(&mined));
    assert!(rejects.try_recv().is_err(), "nothing else was rejected");
    client.end(&[&node]);
}

#[test]
fn a_chain_of_orphans_ends_in_all_mempools_of_a_line() {
    let Some(nodes) = SvNode::line(&[(); 3].map(|()| SvNodeOptions::default())) else { return };
    let mut chain = transactions::chain(Funding::new(&nodes[0], 1).take(), 25);
    follow(&nodes);
    let client = Client::connect(&[&nodes[0]], config());
    chain.reverse();
    chain.iter().for_each(|raw| push(&client, raw));
    for node in &nodes {
        node.wait_for_mempool(&ids(&chain), PATIENCE);
    }
    client.end(&[&nodes[0]]);
}

#[test]
fn coins_of_many_parents_are_spent_over_one_rpc_connection() {
    let Some(node) = SvNode::start(SvNodeOptions::default()) else { return };
    let mut funding = Funding::spread(&node, 10, 20);
    let raws: Vec<_> = (0..200).map(|_| transactions::spend(funding.take(), 250)).collect();
    let mut line = RpcLine::connect(&node);
    for raw in &raws {
        assert_eq!(line.send_raw_transaction(raw), Ok(transactions::txid(raw)));
    }
    let again = line.send_raw_transaction(&raws[0]).unwrap_err();
    assert_eq!((again.code, again.message.as_str()), (Some(-27), "Transaction already in the mempool"));
    assert_eq!(node.mempool(), ids(&raws));
}

#[test]
fn nodes_with_different_rules_reject_and_relay_the_same_transaction() {
    let options = [SvNodeOptions::strict(), SvNodeOptions::default(), SvNodeOptions::default()];
    let Some(nodes) = SvNode::line(&options) else { return };
    let dust = transactions::dust(Funding::new(&nodes[0], 1).take());
    follow(&nodes);
    let client = Client::connect(&[&nodes[0], &nodes[1], &nodes[2]], config());
    let heard = client.conduit.subscribe([Command::REJECT, Command::INV]).unwrap();
    let transaction = Transaction::from_raw(dust.clone()).unwrap();
    for &peer in &client.peers[..2] {
        client.conduit.send(peer, Message::Tx(transaction.clone())).unwrap();
    }
    let reject = wait_for_message(&heard, client.peers[0], |message| message.command() == Command::REJECT);
    let Message::Reject(reject) = reject else { panic!("{reject:?}") };
    assert_eq!((reject.code, reject.txid()), (RejectCode::NonStandard, Some(txid(&dust))));
    wait_for_inventory(&heard, client.peers[2], Inventory::transaction(txid(&dust)));
    client.end(&[&nodes[0], &nodes[1], &nodes[2]]);
}

#[test]
fn a_transaction_told_to_one_end_of_a_line_is_relayed_by_the_others() {
    let Some(mut line) = Line::start([(); 3].map(|()| SvNodeOptions::default()), 1) else { return };
    let raw = transactions::spend(line.funding.take(), 250);
    let broadcast = line.broadcast(&raw, &through_the_line());
    let progress = broadcast.progress();
    let report = broadcast.wait();
    assert_eq!(report.verdict, Verdict::Relayed { by: 2 }, "{report:?}");
    assert!(!report.too_few_listeners);
    assert_eq!((report.announced(), report.requested(), report.sent()), (1, 1, 1));
    let [a, b, c] = [0, 1, 2].map(|place| journey(&report, line.client.peers[place]));
    assert_eq!(
        [&a.state, &b.state, &c.state],
        [&JourneyState::Sent, &JourneyState::Relayed, &JourneyState::Relayed]
    );
    assert!(a.announced <= a.requested && a.requested <= a.sent && a.sent.is_some(), "{a:?}");
    for witness in [b, c] {
        assert!(witness.heard >= a.sent && witness.heard <= Some(report.elapsed), "{witness:?} after {a:?}");
        assert_eq!((witness.announced, witness.requested, witness.sent), (None, None, None));
    }
    let last: Vec<_> = progress.collect();
    assert_eq!(last.last(), Some(&Progress::Over(BroadcastEnd::Relayed)));
    assert!(last.contains(&Progress::Settled(Verdict::Relayed { by: 2 })));
    line.wait_for_mempools(&[raw]);
    line.end();
}

#[test]
fn what_lax_nodes_do_about_each_kind_gives_the_verdict_that_is_promised() {
    let Some(mut line) = Line::start([(); 3].map(|()| SvNodeOptions::default()), 8) else { return };
    // Taken and relayed.
    let (dust, big) = (transactions::dust(line.funding.take()), transactions::oversized(line.funding.take()));
    let non_final = transactions::non_final(line.funding.take());
    let taken = [&dust, &big, &non_final].map(|raw| line.broadcast(raw, &through_the_line()));
    for broadcast in taken {
        assert_eq!(broadcast.wait().verdict, Verdict::Relayed { by: 2 }, "{broadcast:?}");
    }
    line.wait_for_mempools(&[dust, big]);
    for node in &line.nodes {
        assert!(node.non_final_mempool().contains(&transactions::txid(&non_final)));
    }

    // Known, in the mempool or in a block: nobody asks.
    let mined = transactions::spend(line.funding.take(), 250);
    line.nodes[0].send_raw_transaction(&mined).unwrap();
    line.nodes[0].generate(1);
    follow(&line.nodes);
    let known = transactions::spend(line.funding.take(), 250);
    line.nodes[0].send_raw_transaction(&known).unwrap();
    line.wait_for_mempools(std::slice::from_ref(&known));
    // Never accepted, and never said so: a rival of what is known, and what spends nothing that exists.
    let rivals = transactions::rivals(line.funding.take(), 2);
    line.nodes[0].send_raw_transaction(&rivals[0]).unwrap();
    line.wait_for_mempools(&rivals[..1]);
    let orphan = transactions::orphan(1);
    // Announcements of the node's own, by which they would count as relayed, are over.
    line.client.fence();
    let silent = [&mined, &known, &rivals[1], &orphan].map(|raw| line.broadcast(raw, &in_silence()));
    let pushed = line.broadcast(&transactions::orphan(2), &in_silence().direct(true));
    let malformed = transactions::malformed(line.funding.take());
    let refused = line.client.conduit.broadcast_transaction(malformed.clone(), 3).unwrap_err();
    assert!(matches!(refused.reason, BroadcastFailure::Malformed(_)), "{refused}");
    assert_eq!(refused.raw, malformed);
    let delivered = Verdict::Delivered { to: 1 };
    let verdicts = [Verdict::Unrequested, Verdict::Unrequested, delivered.clone(), delivered.clone()];
    for (broadcast, verdict) in silent.iter().zip(verdicts) {
        let report = broadcast.wait();
        assert_eq!((report.verdict, report.too_few_listeners), (verdict, false), "{:?}", report.peers);
        assert_eq!(journey(&broadcast.report(), line.client.peers[0]).state, JourneyState::NotHeard);
    }
    assert_eq!(pushed.wait().verdict, delivered);
    assert!(!line.nodes.iter().any(|node| node.mempool().contains(&transactions::txid(&rivals[1]))));
    line.end();
}

#[test]
fn what_a_strict_node_refuses_is_rejected_aloud_and_then_not_asked_for() {
    let Some(node) = SvNode::start(SvNodeOptions::strict()) else { return };
    let mut funding = Funding::new(&node, 4);
    let premature = transactions::immature_coinbase_spend(&node);
    let client = Client::connect(&[&node], config());
    let refused = [
        (transactions::dust(funding.take()), RejectCode::NonStandard, "dust"),
        (transactions::oversized(funding.take()), RejectCode::NonStandard, "tx-size"),
        (premature, RejectCode::Invalid, "bad-txns-premature-spend-of-coinbase"),
    ];
    let broadcast =
        |raw: &[u8], deadline| client.conduit.broadcast_transaction_with(raw, &only_told(1, deadline)).unwrap();
    for (raw, code, reason) in &refused {
        let first = broadcast(raw, PATIENCE);
        let verdict = Verdict::Rejected { by: 1, code: *code, reason: (*reason).to_owned() };
        assert_eq!(first.wait().verdict, verdict);
        assert_eq!(first.progress().last(), Some(Progress::Over(BroadcastEnd::Rejected)));
    }
    let again: Vec<_> = refused.iter().map(|(raw, ..)| broadcast(raw, SILENCE)).collect();
    for broadcast in again {
        assert_eq!(broadcast.wait().verdict, Verdict::Unrequested);
    }
    client.fence();
    node.assert_no_misbehaviour();

    // For this one it closes the connection, too.
    let overspend = broadcast(&transactions::overspend(funding.take()), PATIENCE).wait();
    let reason = "bad-txns-in-belowout".to_owned();
    assert_eq!(overspend.verdict, Verdict::Rejected { by: 1, code: RejectCode::Invalid, reason });
    client.conduit.shutdown();
}

#[test]
fn the_loser_of_a_double_spend_is_never_reported_as_accepted() {
    let Some(mut line) = Line::start([(); 3].map(|()| SvNodeOptions::default()), 3) else { return };
    let ours = ConflictSource::Broadcast;
    // The second after the first is everywhere.
    let rivals = transactions::rivals(line.funding.take(), 2);
    let first = line.broadcast(&rivals[0], &through_the_line().lifetime(PATIENCE));
    assert_eq!(first.wait().verdict, Verdict::Relayed { by: 2 });
    let second = line.broadcast(&rivals[1], &in_silence());
    // Both at once, one told to A by a conduit of its own, one to C.
    let twins = transactions::rivals(line.funding.take(), 2);
    let other = Client::connect(&line.nodes.iter().collect::<Vec<_>>(), config());
    other.conduit.set_main_peer(line.nodes[2].address()).unwrap();
    let at_both_ends = [
        line.broadcast(&twins[0], &in_silence()),
        other.conduit.broadcast_transaction_with(twins[1].clone(), &in_silence()).unwrap(),
    ];
    let pair = transactions::rivals(line.funding.take(), 2);
    let of_one = [0, 1].map(|place| line.broadcast(&pair[place], &in_silence()));
    let report = second.wait();
    assert_eq!(report.verdict, Verdict::Delivered { to: 1 }, "{report:?}");
    let held = line.nodes.iter().map(SvNode::mempool).collect::<Vec<_>>();
    assert!(held.iter().all(|mempool| !mempool.contains(&transactions::txid(&rivals[1]))));

    let reports = at_both_ends.map(|broadcast| broadcast.wait());
    let winners = reports.iter().filter(|report| matches!(report.verdict, Verdict::Relayed { .. })).count();
    assert!(winners <= 1, "{reports:?}");
    for (report, raw) in reports.iter().zip(&twins) {
        let holders = held.iter().filter(|mempool| mempool.contains(&transactions::txid(raw))).count();
        // Who relayed it has accepted it: never a word of more nodes than that, apart from the one that was told.
        assert!(report.relayed() < holders.max(1), "{holders} have it: {report:?}");
    }
    // Two of one conduit hear of each other at once.
    let reports = of_one.map(|broadcast| broadcast.wait());
    for (report, rival) in reports.iter().zip(pair.iter().rev()) {
        assert!(report.conflicts.iter().any(|conflict| conflict.rival == txid(rival) && conflict.source == ours));
    }
    let winner = usize::from(reports[0].verdict != Verdict::Relayed { by: 2 });
    assert_eq!(reports[winner].verdict, Verdict::Relayed { by: 2 });
    assert_eq!(reports[1 - winner].verdict, Verdict::Delivered { to: 1 });
    other.conduit.shutdown();
    line.end();
}

#[test]
fn a_chain_broadcast_children_first_is_relayed_whole() {
    let Some(mut line) = Line::start([(); 3].map(|()| SvNodeOptions::default()), 3) else { return };
    // Each by a call of its own.
    let mut chain = transactions::chain(line.funding.take(), 25);
    chain.reverse();
    let broadcasts: Vec<_> = chain.iter().map(|raw| line.broadcast(raw, &through_the_line())).collect();
    line.wait_for_mempools(&chain);
    for broadcast in broadcasts {
        assert_eq!(broadcast.wait().verdict, Verdict::Relayed { by: 2 });
    }
    // All by one.
    let mut chain = transactions::chain(line.funding.take(), 25);
    chain.reverse();
    let outcomes: Vec<_> = line.client.conduit.broadcast_transactions(chain.clone(), through_the_line()).collect();
    assert_eq!(outcomes.len(), chain.len());
    for outcome in outcomes {
        assert_eq!(outcome.result.unwrap().verdict, Verdict::Relayed { by: 2 });
    }
    line.wait_for_mempools(&chain);
    // The last one only, the others as its parents.
    let mut chain = transactions::chain(line.funding.take(), 25);
    let youngest = chain.pop().unwrap();
    let report = line.broadcast(&youngest, &through_the_line().parents(chain.clone())).wait();
    assert_eq!(report.verdict, Verdict::Relayed { by: 2 });
    chain.push(youngest);
    line.wait_for_mempools(&chain);
    line.end();
}

#[test]
fn nodes_with_different_rules_give_a_split() {
    let options = [SvNodeOptions::strict(), SvNodeOptions::default(), SvNodeOptions::default()];
    let Some(mut line) = Line::start(options, 1) else { return };
    let dust = transactions::dust(line.funding.take());
    // A rejects it; another one was told as well and takes it, and the third announces it.
    let patient = through_the_line().nodes(2).listeners(1).deadline(SILENCE).settle_on_reject(false);
    let report = line.broadcast(&dust, &patient).wait();
    assert_eq!(report.verdict, Verdict::Split { relayed: 1, rejected: 1 }, "{report:?}");
    let first = journey(&report, line.client.peers[0]);
    assert!(matches!(first.state, JourneyState::Rejected { code: RejectCode::NonStandard, .. }), "{first:?}");
    line.end();
}

#[test]
fn a_node_in_initial_download_takes_what_is_pushed() {
    let Some(mut node) = start_with(&["-maxtipage=1"]) else { return };
    let mut funding = Funding::new(&node, 2);
    // From its next start on the tip is too old.
    let best = node.rpc("getbestblockhash", json!([]));
    let tip = node.rpc("getblockheader", json!([best]))["time"].as_u64().unwrap();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    wait_until("the tip to be old", PATIENCE, || now() > tip + 2);
    node.restart();
    let client = Client::connect(&[&node], config());
    let (told, pushed) = (transactions::spend(funding.take(), 250), transactions::spend(funding.take(), 250));
    let told = client.conduit.broadcast_transaction_with(told, &only_told(1, SILENCE)).unwrap();
    let options = only_told(1, SILENCE).direct(true);
    let direct = client.conduit.broadcast_transaction_with(pushed.clone(), &options).unwrap();
    assert_eq!(direct.wait().verdict, Verdict::Delivered { to: 1 });
    assert_eq!(told.wait().verdict, Verdict::Unrequested);
    assert_eq!(node.mempool(), ids(&[pushed]));
    client.end(&[&node]);
}

#[test]
fn a_node_that_was_restarted_is_told_again() {
    let (Some(mut one), Some(two)) =
        (SvNode::start(SvNodeOptions::default()), SvNode::start(SvNodeOptions::default()))
    else {
        return;
    };
    let raw = transactions::spend(Funding::new(&one, 1).take(), 250);
    for height in 1..=one.best_height() {
        let hash = one.rpc("getblockhash", json!([height]));
        let block = one.rpc("getblock", json!([hash, 0]));
        two.rpc("submitblock", json!([block]));
    }
    // Writes the blocks to disk, unlike the transactions that come.
    one.rpc("gettxoutsetinfo", json!([]));
    let client = Client::connect(&[&one, &two], config());
    client.conduit.set_main_peer(one.address()).unwrap();
    let options = BroadcastOptions::new().nodes(1).deadline(SILENCE);
    let broadcast = client.conduit.broadcast_transaction_with(raw.clone(), &options).unwrap();
    one.wait_for_mempool(&ids(std::slice::from_ref(&raw)), PATIENCE);
    assert_eq!(broadcast.wait().verdict, Verdict::Delivered { to: 1 }, "the nodes do not know each other");

    assert!(client.conduit.ban(client.peers[0], Duration::from_secs(3_600)));
    one.kill();
    one.restart();
    assert!(one.mempool().is_empty());
    one.rpc("addnode", json!([two.address(), "add"]));
    wait_until("the nodes to shake hands", PATIENCE, || {
        one.peers_of_agent("Bitcoin SV").iter().any(|peer| peer["bytesrecv_per_msg"]["verack"].is_number())
            && two.peers_of_agent("Bitcoin SV").iter().any(|peer| peer["bytesrecv_per_msg"]["verack"].is_number())
    });
    assert!(client.conduit.unban(one.address()).unwrap());
    assert_eq!(broadcast.progress().last(), Some(Progress::Over(BroadcastEnd::Relayed)));
    assert_eq!(broadcast.report().verdict, Verdict::Relayed { by: 1 });
    for node in [&one, &two] {
        node.wait_for_mempool(&ids(std::slice::from_ref(&raw)), PATIENCE);
    }
    client.end(&[&one, &two]);
}

#[test]
fn two_thousand_transactions_end_in_all_mempools_with_a_verdict_each() {
    let Some(nodes) = SvNode::line(&[(); 3].map(|()| SvNodeOptions::fast())) else { return };
    let mut funding = Funding::spread(&nodes[0], 20, 100);
    follow(&nodes);
    let raws: Vec<_> = (0..2_000).map(|_| transactions::spend(funding.take(), 250)).collect();
    let client = Client::connect(&nodes.iter().collect::<Vec<_>>(), config());
    client.conduit.set_main_peer(nodes[0].address()).unwrap();
    let outcomes = client.conduit.broadcast_transactions(raws.clone(), through_the_line());
    let verdicts: HashMap<_, _> =
        outcomes.map(|outcome| (outcome.index, outcome.result.unwrap().verdict)).collect();
    assert_eq!(verdicts.len(), raws.len());
    assert!(verdicts.values().all(|verdict| *verdict == Verdict::Relayed { by: 2 }), "{verdicts:?}");
    nodes.iter().for_each(|node| node.wait_for_mempool(&ids(&raws), PATIENCE));
    client.end(&nodes.iter().collect::<Vec<_>>());
}

/// Far longer than a node takes to ask for what it wants.
const SILENCE: Duration = Duration::from_secs(4);
