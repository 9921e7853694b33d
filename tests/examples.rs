//! The example programs as a user starts them: what they print, how they end, and what they say to bad arguments.
//!
//! `cargo test` builds them beside the tests.

#![expect(clippy::disallowed_methods, reason = "tests of processes take time")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use conduit::message::{Block, Inventory};
use conduit::testnode::{BlockPlan, Fault, FaultKind, GeneratedBlock, TestNode, TestNodeConfig, transaction};
use serde_json::Value;

use support::PATIENCE;
use support::hex::encode as hex;
use support::program::{Program, measure, number, run, run_for_bytes};
use support::waits;

/// The example test node, until its standard input ends, and where it listens.
fn node(args: &[&str]) -> (Program, String) {
    let program = Program::start("testnode", &[args, &["--until-eof"]].concat());
    let address = listening(&program);
    (program, address)
}

fn listening(program: &Program) -> String {
    let line = program.line();
    line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned()
}

#[test]
fn push_reaches_every_peer_and_says_how_fast() {
    let nodes = [0; 2].map(|_| TestNode::start(TestNodeConfig::default()).unwrap());
    let [one, two] = nodes.each_ref().map(|node| node.address().to_string());
    let args = ["push", "--count", "500", "--size", "250", "--connect", &one, "--connect", &two];
    let fields = ["mode", "messages", "bytes", "seconds", "per_second", "cpu_seconds", "peers", "prepared"];
    let report = measure(&args, &fields);
    assert_eq!((number(&report, "messages"), number(&report, "peers")), (1_000.0, 2.0));
    assert_eq!(number(&report, "bytes"), 1_000.0 * 274.0);
    assert!(number(&report, "seconds") > 0.0);
    let rate = 1_000.0 / number(&report, "seconds");
    assert!((number(&report, "per_second") / rate - 1.0).abs() < 1e-6);
    for node in &nodes {
        // They were distinct and real, or the node would not have them.
        assert_eq!(node.mempool().len(), 500);
    }
}

#[test]
fn a_test_node_makes_blocks_of_any_size_and_lies_about_them() {
    let args = ["--block", "bytes=300000,seed=3", "--block", "count=5,size=10,giant=9000,unchecked"];
    let faults = ["--fault", "forge=100,times=1", "--fault", "extend,command=block,times=1"];
    let (mut program, address) = node(&[&args[..], &faults].concat());
    program.write("block count=3,size=60\n");
    let plans = [
        BlockPlan::of_size(3, 300_000),
        BlockPlan::of_count(0, 5, 10).giant(9_000).without_checksum(),
        BlockPlan::of_count(0, 3, 60),
    ];
    let blocks = plans.map(GeneratedBlock::new);
    for block in &blocks {
        let line = format!("block {} {} {}", block.hash(), block.size(), block.transaction_count());
        assert_eq!(program.line(), line);
    }
    let conduit = conduit::Conduit::new(conduit::Config::new(conduit::Network::Regtest)).unwrap();
    let messages = conduit.subscribe([conduit::Command::BLOCK]).unwrap();
    let peer = conduit.add_peers([address.as_str()]).unwrap()[0];
    conduit.start().unwrap();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    let mut honest = Vec::new();
    blocks[0].reader().read_to_end(&mut honest).unwrap();
    let mut lie = honest.clone();
    // In the middle of the id that a coinbase spends.
    lie[100] ^= 0xff;
    for wanted in [lie, honest] {
        let item = Inventory::block(blocks[0].hash());
        conduit.send(peer, conduit::Message::GetData(vec![item])).unwrap();
        let conduit::Message::Block(block) = messages.recv_timeout(PATIENCE).unwrap().message else { panic!() };
        assert!(block.raw()[..] == wanted);
    }
    conduit.shutdown();
    assert_eq!(program.end(), (Some(0), vec![], String::new()));
}

/// A block, its bytes, two nodes that have it, and their addresses.
fn two_with_a_block(bytes: u64) -> (GeneratedBlock, Vec<u8>, [TestNode; 2], [String; 2]) {
    let block = GeneratedBlock::new(BlockPlan::of_size(7, bytes).giant(bytes / 10));
    let mut raw = Vec::new();
    block.reader().read_to_end(&mut raw).expect("it is in memory");
    let nodes = [0; 2].map(|_| TestNode::start(TestNodeConfig::default()).expect("loopback has a free port"));
    nodes.iter().for_each(|node| node.offer(&block));
    let addresses = nodes.each_ref().map(|node| node.address().to_string());
    (block, raw, nodes, addresses)
}

#[test]
fn download_block_goes_on_with_another_peer() {
    let (block, raw, nodes, [one, two]) = two_with_a_block(3_000_000);
    nodes[0].inject(Fault::new(FaultKind::StallAfter(1_600_000)).command(conduit::Command::BLOCK));
    // So that the first one is asked first.
    nodes[1].refuse(true);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block");
    let hash = block.hash().to_string();
    let args = ["--network", "regtest", "--connect", &one, "--connect", &two, "--chunk", "100000"];
    let args = [&args[..], &["--output", path.to_str().unwrap(), &hash]].concat();
    let mut program = Program::start("download_block", &args);
    waits::until("half of it is written, to a file of another name", || {
        let written = |file: std::fs::DirEntry| file.path() != path && file.metadata().unwrap().len() > 1_000_000;
        folder.path().read_dir().unwrap().any(|file| written(file.unwrap()))
    });
    nodes[1].refuse(false);
    assert!(nodes[1].wait_for_connections(1, PATIENCE));
    nodes[0].drop_connections();
    let (code, lines, complaints) = program.end();
    assert_eq!((code, lines.len()), (Some(0), 0), "{complaints}");
    assert!(std::fs::read(&path).unwrap() == raw);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing else is left");
    let told: Vec<_> = complaints.lines().collect();
    let size = raw.len();
    assert_eq!(told.len(), 3, "{complaints}");
    assert_eq!(told[0], format!("{size} bytes from {one}, which begins at 0"));
    assert!(told[1].starts_with(&format!("{size} bytes from {two}, which begins at 1")), "{complaints}");
    let count = block.transaction_count();
    assert!(told[2].starts_with(&format!("{size} bytes and {count} transactions, proven, in ")), "{complaints}");
}

#[test]
fn download_block_writes_bytes_or_ids_to_standard_output() {
    let (block, raw, _nodes, [one, _]) = two_with_a_block(2_000_000);
    let hash = block.hash().to_string();
    let args = ["--network", "regtest", "--connect", &one, "--chunk", "30000", &hash];
    let (code, written, complaints) = run_for_bytes("download_block", &args);
    assert_eq!(code, Some(0), "{complaints}");
    assert!(written == raw);
    let (code, lines, complaints) = run("download_block", &[&args[..], &["--txids"]].concat());
    assert_eq!(code, Some(0), "{complaints}");
    let txids = Block::from_raw(raw).unwrap().transactions().map(|tx| tx.txid().to_string()).collect::<Vec<_>>();
    assert_eq!(lines, txids);
}

#[test]
fn download_block_leaves_nothing_that_is_not_proven() {
    let (block, raw, nodes, [one, two]) = two_with_a_block(1_000_000);
    let hash = block.hash().to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block");
    let args = ["--network", "regtest", "--connect", &one, "--timeout", "2", "--chunk", "10000"];
    let args = [&args[..], &["--output", path.to_str().unwrap(), &hash]].concat();
    for fault in [FaultKind::CloseAfter(500_000), FaultKind::Falsify { at: 990_000, checksum_fits: true }] {
        std::fs::write(&path, "an older one").unwrap();
        nodes[0].inject(Fault::new(fault.clone()).command(conduit::Command::BLOCK));
        let (code, _, complaints) = run("download_block", &args);
        assert_eq!(code, Some(1), "{fault:?}: {complaints}");
        let error = complaints.lines().last().unwrap();
        assert!(error.starts_with("error: ") && error.contains(&one), "{fault:?}: {complaints}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "an older one", "{fault:?}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "{fault:?}: nothing else is left");
        nodes[0].clear_faults();
    }
    let (code, _, complaints) = run("download_block", &args);
    assert_eq!(code, Some(0), "{complaints}");
    assert!(std::fs::read(&path).unwrap() == raw);

    let nowhere = folder.path().join("no/such/folder");
    let args = ["--network", "regtest", "--connect", &two, "--output", nowhere.to_str().unwrap(), &hash];
    let (code, _, complaints) = run("download_block", &args);
    assert_eq!(code, Some(1));
    assert!(complaints.starts_with(&format!("error: {}: ", nowhere.display())), "{complaints}");
}

#[test]
fn a_block_is_measured_to_its_proven_end() {
    let (block, raw, nodes, [one, two]) = two_with_a_block(3_000_000);
    let hash = block.hash().to_string();
    let fields = [
        "mode",
        "bytes",
        "transactions",
        "seconds",
        "mb_per_second",
        "cpu_seconds",
        "peak_rss_bytes",
        "merkle_ok",
        "peers",
    ];
    let args = ["block", "--hash", &hash, "--connect", &one];
    for more in [&[][..], &["--chunk", "50000", "--connect", &two], &["--slow"]] {
        let report = measure(&[&args[..], more].concat(), &fields);
        assert_eq!(number(&report, "bytes"), raw.len() as f64, "{report}");
        assert_eq!(number(&report, "transactions"), block.transaction_count() as f64, "{report}");
        assert_eq!(report["merkle_ok"], true, "{report}");
        let seconds = number(&report, "seconds");
        assert!((number(&report, "mb_per_second") * seconds - raw.len() as f64 / 1e6).abs() < 1e-6, "{report}");
        // Three megabytes, 20 ms for each of the MiB in them.
        assert!(more != ["--slow"] || seconds > 0.05, "{report}");
    }
    nodes[0].inject(Fault::new(FaultKind::CloseAfter(1_000_000)).command(conduit::Command::BLOCK));
    let ended = run("measure", &[&args[..], &["--timeout", "600"]].concat());
    assert_eq!(ended, (Some(1), vec![], format!("error: {one}: lost: closed by the peer\n")));
}

#[test]
fn push_into_a_sink_ends_with_its_pong() {
    let (mut node, address) = node(&["--sink"]);
    let args = ["push", "--count", "20000", "--size", "62", "--connect", &address];
    let fields = ["mode", "messages", "bytes", "seconds", "per_second", "cpu_seconds", "peers", "prepared"];
    assert_eq!(number(&measure(&args, &fields), "messages"), 20_000.0);
    assert_eq!(node.end(), (Some(0), vec![], String::new()));
}

#[test]
fn broadcast_is_measured_until_all_have_asked_or_one_has_relayed() {
    let (mut row, one) = node(&["--nodes", "2"]);
    let two = listening(&row);
    let fields = [
        "mode",
        "transactions",
        "sent",
        "bytes",
        "seconds",
        "per_second",
        "mb_per_second",
        "cpu_seconds",
        "peak_rss_bytes",
        "peers",
        "nodes",
        "prepared",
        "relayed",
        "delivered",
        "rejected",
        "others",
        "verdict_p50_ms",
        "verdict_p99_ms",
    ];
    let args = ["broadcast", "--count", "2000", "--size", "250", "--connect", &one];
    // Nodes that know each other ask each other, too: those that are all told do not.
    let (mut alone, three) = node(&[]);
    let told = (["--connect", &two, "--nodes", "1"], 2_000.0, 2_000.0);
    let all = (["--connect", &three, "--nodes", "2"], 0.0, 4_000.0);
    for (more, relayed, sent) in [told, all] {
        let report = measure(&[&args[..], &more].concat(), &fields);
        assert_eq!((number(&report, "transactions"), number(&report, "peers")), (2_000.0, 2.0), "{report}");
        assert_eq!((number(&report, "relayed"), number(&report, "delivered")), (relayed, 2_000.0 - relayed));
        assert_eq!((number(&report, "sent"), number(&report, "bytes")), (sent, sent * 274.0), "{report}");
        assert!(number(&report, "verdict_p50_ms") <= number(&report, "verdict_p99_ms"), "{report}");
    }
    for node in [&mut row, &mut alone] {
        assert_eq!(node.end(), (Some(0), vec![], String::new()));
    }
    let (code, _, text) = run("measure", &[&args[..], &["--nodes", "3"]].concat());
    assert_eq!((code, text.contains("--nodes 3: there are 1 peers")), (Some(2), true), "{text}");
}

#[test]
fn receive_takes_a_flood_from_its_first_message_on() {
    for (kind, size, items, frame) in [("tx", 250, 1, 274), ("inv", 300, 300, 10_827), ("headers", 5, 5, 430)] {
        let (_node, address) = node(&["--flood", &format!("{kind}:1000:{size}")]);
        // One less is lost, and this would not end.
        let args = ["receive", "--count", "1000", "--connect", &address];
        let fields = [
            "mode",
            "messages",
            "items",
            "bytes",
            "seconds",
            "per_second",
            "mb_per_second",
            "cpu_seconds",
            "peak_rss_bytes",
            "peers",
            "others",
        ];
        let report = measure(&args, &fields);
        assert_eq!(number(&report, "messages"), 1_000.0);
        assert_eq!(number(&report, "items"), 1_000.0 * f64::from(items), "{kind}");
        assert_eq!(number(&report, "bytes"), 1_000.0 * f64::from(frame), "{kind}");
        assert!(report["others"].as_object().unwrap().contains_key("sendheaders"), "{report}");
        if cfg!(target_os = "linux") {
            assert!(number(&report, "peak_rss_bytes") > 1e6 && number(&report, "cpu_seconds") >= 0.0);
        }
    }
}

#[test]
fn round_trips_are_timed_one_by_one() {
    let (node, address) = node(&["--mempool", "1"]);
    let line = node.line();
    let txid = line.strip_prefix("transaction ").unwrap();
    let fields = ["mode", "count", "p50_us", "p99_us", "max_us", "seconds", "cpu_seconds", "peers"];
    let base = ["round-trips", "--count", "100", "--connect", &address, "--what"];
    for what in [&["ping"][..], &["tx", "--txid", txid]] {
        let report = measure(&[&base, what].concat(), &fields);
        let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|field| number(&report, field));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max && max <= number(&report, "seconds") * 1e6);
    }
}

#[test]
fn idle_connections_to_one_address_are_all_held_and_weighed() {
    let (_node, address) = node(&[]);
    let args = ["idle", "--peers", "20", "--seconds", "1", "--connect", &address];
    let fields = ["mode", "peers", "connected", "seconds", "cpu_seconds", "rss_bytes", "rss_per_peer_bytes"];
    let report = measure(&args, &fields);
    assert_eq!((number(&report, "peers"), number(&report, "connected")), (20.0, 20.0));
    assert!(number(&report, "seconds") >= 1.0);
    if cfg!(target_os = "linux") {
        assert!(number(&report, "rss_bytes") > 1e6 && number(&report, "cpu_seconds") >= 0.0);
        // What twenty connections share weighs more than they do, but not this much.
        assert!(number(&report, "rss_per_peer_bytes") < 1e6, "{report}");
    }
}

#[test]
fn hold_tells_what_becomes_of_each_connection_and_dials_once() {
    let (mut node, address) = node(&[]);
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
    let mut hold = Program::start("measure", &["hold"]);
    let event = |report: &Value| {
        let text = |field: &str| report[field].as_str().map(str::to_owned);
        assert_eq!(report.as_object().unwrap().len(), 3, "{report}");
        (text("event").unwrap(), text("peer").unwrap(), text("reason").is_some())
    };
    let (_, port) = address.rsplit_once(':').unwrap();
    hold.write(&format!("{port}\n"));
    assert_eq!(event(&hold.json()), ("connected".into(), address.clone(), false));
    hold.write(&format!("{nobody}\n"));
    assert_eq!(event(&hold.json()), ("disconnected".into(), nobody, true));
    hold.write("no address\n");
    assert_eq!(event(&hold.json()), ("disconnected".into(), "no address".into(), true));
    node.write("drop\n");
    assert_eq!(event(&hold.json()), ("disconnected".into(), address, true));
    // The first redial of a peer that is kept comes within a second.
    assert!(hold.lines.recv_timeout(Duration::from_millis(1_500)).is_err(), "it was dialled again");
    assert_eq!(hold.end(), (Some(0), vec![], String::new()), "the end is no event");
}

#[test]
fn measuring_ends_when_a_peer_is_lost() {
    let (_node, address) = node(&["--fault", "command=pong,close=8"]);
    for args in
        [&["push", "--count", "10", "--size", "100"][..], &["round-trips", "--count", "1", "--what", "ping"]]
    {
        let ended = run("measure", &[args, &["--connect", &address, "--timeout", "600"]].concat());
        assert_eq!(ended, (Some(1), vec![], format!("error: {address}: lost: closed by the peer\n")));
    }
    let (mut node, address) = self::node(&["--flood", "tx:5:100"]);
    let mut receive = Program::start("measure", &["receive", "--count", "6", "--connect", &address]);
    let connected = Instant::now();
    // Until the connection is there, there is none to drop.
    while receive.child.try_wait().unwrap().is_none() {
        assert!(connected.elapsed() < PATIENCE);
        node.write("drop\n");
        thread::sleep(Duration::from_millis(50));
    }
    let (code, lines, complaints) = receive.end();
    assert_eq!((code, lines.len()), (Some(1), 0));
    assert!(complaints.contains(&address), "{complaints}");
}

#[test]
fn the_test_node_obeys_its_options_and_its_standard_input() {
    let (mut node, address) = node(&["--nodes", "2", "--blocks", "3", "--latency", "1ms"]);
    let other = listening(&node);
    assert_ne!(address, other);
    node.write(
        "mine 2\nfault delay=1ms,times=3\nclear\nflood tx:1:100\nrefuse on\nread off\nnonsense\nfault slow\n",
    );
    let (code, lines, complaints) = node.end();
    assert_eq!((code, lines.len()), (Some(0), 0));
    let complaints: Vec<_> = complaints.lines().collect();
    let wanted = ["error: nonsense: no such command", "error: fault slow: slow: no such fault"];
    assert_eq!(complaints, wanted);
}

#[test]
fn the_test_node_mines_and_pays_by_itself() {
    let (_node, address) = node(&["--tx-per-second", "200", "--mine-every", "50ms"]);
    let conduit = conduit::Conduit::new(conduit::Config::new(conduit::Network::Regtest)).unwrap();
    let messages = conduit.messages().unwrap();
    conduit.add_peers([address.as_str()]).unwrap();
    conduit.start().unwrap();
    let (mut payments, mut blocks) = (0, 0);
    while payments < 20 || blocks < 2 {
        match messages.recv_timeout(PATIENCE).unwrap().message {
            conduit::Message::Inv(items) => {
                payments += items.iter().filter(|item| item.txid().is_some()).count();
                blocks += items.iter().filter(|item| item.txid().is_none()).count();
            }
            conduit::Message::Headers(_) => blocks += 1,
            _ => {}
        }
    }
}

#[test]
fn broadcast_tells_what_became_of_each_transaction() {
    let (mut node, address) = node(&["--nodes", "2"]);
    let other = listening(&node);
    let (one, two) = (transaction(1, 100), transaction(2, 100));
    let args = ["--network", "regtest", "--connect", &address, "--connect", &other, "--nodes", "1"];
    let mut program = Program::start("broadcast", &args);
    program.write(&format!("{}\n\n{}\n", hex(one.raw()), hex(two.raw())));
    let (code, lines, complaints) = program.end();
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{lines:?}");
    for transaction in [&one, &two] {
        let verdict = format!("{} relayed by 1 that were not told", transaction.txid());
        assert!(lines.contains(&verdict), "{lines:?}");
    }
    assert_eq!(lines.iter().filter(|line| line.starts_with("  127.0.0.1:")).count(), 4, "{lines:?}");
    let summary = lines.last().unwrap();
    assert!(summary.starts_with("2 transactions in ") && summary.contains(": 2 relayed, 0 rejected"), "{summary}");

    node.write("fault command=tx,reject=0x10:bad-one\n");
    let three = transaction(3, 100);
    let (code, lines, _) = run("broadcast", &[&args[..], &[&hex(three.raw())]].concat());
    assert_eq!(code, Some(1), "{lines:?}");
    assert_eq!(lines[0], format!("{} rejected by 1: 0x10 invalid: bad-one", three.txid()));
}

/// The names of an object's fields, in their order.
fn names(line: &str) -> Vec<String> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(line).expect("an object");
    let mut names: Vec<_> = object.keys().cloned().collect();
    names.sort_unstable_by_key(|name| line.find(&format!("\"{name}\":")));
    names
}

const SUMMARY: [&str; 12] = [
    "bad_lines",
    "delivered",
    "errors",
    "peak_rss_bytes",
    "per_second",
    "rejected",
    "relayed",
    "seconds",
    "split",
    "transactions",
    "unannounced",
    "unrequested",
];

#[test]
fn broadcast_goes_on_behind_bad_lines_and_writes_json() {
    let (_node, address) = node(&["--nodes", "2"]);
    let other = listening(&_node);
    let one = transaction(1, 100);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "xyz\n{}\r\n0011\n \n{}", hex(one.raw()), &hex(one.raw())[1..]).unwrap();
    let path = file.path().to_str().unwrap();
    let args = ["--network", "regtest", "--connect", &address, "--connect", &other, "--nodes", "1", "--json"];
    let (code, lines, complaints) = run("broadcast", &[&args[..], &["--file", path]].concat());
    assert_eq!(code, Some(1), "{lines:?}");
    let bad = ["line 1: 'x' is no hexadecimal digit", "line 5: an odd number of hexadecimal digits"];
    assert_eq!(complaints.lines().collect::<Vec<_>>(), bad);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let of = |index: u64| -> &String {
        lines.iter().find(|line| line.starts_with(&format!("{{\"index\":{index},"))).unwrap()
    };
    let wanted = [
        "index",
        "txid",
        "verdict",
        "text",
        "announced",
        "requested",
        "sent",
        "relayed",
        "rejected",
        "not_heard",
        "conflicts",
        "listeners",
        "too_few_listeners",
        "milliseconds",
    ];
    assert_eq!(names(of(0)), wanted);
    let good: Value = serde_json::from_str(of(0)).unwrap();
    assert_eq!((&good["txid"], &good["verdict"]), (&one.txid().to_string().into(), &"relayed".into()));
    assert_eq!(names(of(1)), ["index", "error", "text"]);
    assert!(of(1).contains("\"error\":\"malformed\""), "{}", of(1));
    assert_eq!(names(&lines[2]), SUMMARY);
    let summary: Value = serde_json::from_str(&lines[2]).unwrap();
    for (field, count) in [("transactions", 2.0), ("relayed", 1.0), ("errors", 1.0), ("bad_lines", 2.0)] {
        assert_eq!(number(&summary, field), count, "{field}");
    }
}

#[test]
fn broadcast_keeps_what_is_not_over_in_its_folder() {
    let (_node, address) = node(&[]);
    let folder = tempfile::tempdir().unwrap();
    let args = ["--network", "regtest", "--connect", &address, "--data-dir", folder.path().to_str().unwrap()];
    // Nobody is there to relay it.
    let tx = hex(transaction(1, 100).raw());
    let (code, lines, complaints) = run("broadcast", &[&args[..], &["--deadline", "1", &tx]].concat());
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{lines:?}");
    assert!(lines[0].ends_with(" sent to 1, and nothing heard, which is no acceptance"), "{lines:?}");
    let kept: u64 = folder.path().read_dir().unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(kept > 100, "{kept} bytes are kept");
}

#[test]
fn broadcast_takes_any_number_of_transactions_in_little_memory() {
    const COUNT: u64 = 20_000;
    let (mut node, address) = node(&["--nodes", "2"]);
    let other = listening(&node);
    let args = ["--network", "regtest", "--connect", &address, "--connect", &other, "--nodes", "1", "--json"];
    let mut program = Program::start("broadcast", &args);
    let mut input = program.child.stdin.take().unwrap();
    let writing = thread::spawn(move || {
        for number in 0..COUNT {
            writeln!(input, "{}", hex(transaction(number, 2_000).raw())).unwrap();
        }
    });
    let mut relayed = 0;
    for _ in 0..COUNT {
        relayed += u64::from(program.json()["verdict"] == "relayed");
    }
    writing.join().unwrap();
    let summary = program.json();
    assert_eq!((relayed, number(&summary, "relayed"), number(&summary, "transactions")), (COUNT, 2e4, 2e4));
    let (code, lines, complaints) = program.end();
    assert_eq!((code, lines, complaints.as_str()), (Some(0), vec![], ""));
    // The outbox takes 64 MiB, the queues and the program the rest; the input alone is 80 MB.
    if let Some(peak) = summary["peak_rss_bytes"].as_f64() {
        assert!(peak < 200e6, "{peak} bytes");
    }
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn watch_prints_each_transaction_once_and_ends_at_its_count() {
    let (_node, address) = node(&["--tx-per-second", "200"]);
    let args = ["--network", "regtest", "--connect", &address, "--transactions", "--count", "50"];
    let (code, mut lines, statistics) = run("watch", &args);
    assert_eq!(code, Some(0), "{statistics}");
    assert!(lines.iter().all(|line| line.starts_with("tx ") && line.ends_with(" 250 bytes")), "{lines:?}");
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 50);
    assert!(statistics.starts_with("50 transactions, 12500 bytes; missed 0; peak memory "), "{statistics}");
}

#[test]
fn peers_prints_a_line_for_each_peer_each_second_when_piped() {
    let (_node, address) = node(&["--blocks", "7"]);
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
    let args = ["--network", "regtest", "--peer", &address, "--peer", &nobody, "--seconds", "2"];
    let (code, lines, complaints) = run("peers", &args);
    assert_eq!((code, complaints.as_str()), (Some(0), ""));
    assert!(lines[0].starts_with("seconds  address ") && lines[0].ends_with("  user agent"), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
    let last = |peer: &str| lines.iter().rfind(|line| line.contains(peer)).unwrap_or_else(|| panic!("{lines:?}"));
    let words: Vec<_> = last(&address).split_whitespace().collect();
    assert_eq!(words[..4], ["2", &address, "ready", "7"], "{lines:?}");
    assert!(last(&address).ends_with("/Bitcoin SV:1.2.2/"), "{lines:?}");
    let words: Vec<_> = last(&nobody).split_whitespace().collect();
    assert!(["waiting", "connecting"].contains(&words[2]) && words.ends_with(&["-"]), "{lines:?}");
}

#[test]
fn peers_ends_when_nobody_reads_it_any_more() {
    let (_node, address) = node(&[]);
    let mut program = Program::start("peers", &["--network", "regtest", "--peer", &address]);
    // Its lines are read by a thread of the test, which ends after the first one that nobody takes.
    program.lines = std::sync::mpsc::channel().1;
    assert_eq!(program.end(), (Some(0), vec![], String::new()));
}

#[test]
fn help_goes_to_standard_output() {
    for name in ["measure", "testnode", "broadcast", "watch", "peers"] {
        for flag in ["--help", "-h"] {
            let (code, lines, complaints) = run(name, &[flag]);
            assert!(lines[0].starts_with(&format!("Usage: {name}")), "{lines:?}");
            assert!(lines.iter().any(|line| line.contains("--help")));
            assert!(lines.iter().all(|line| line.chars().count() <= 120));
            assert_eq!((code, complaints.as_str()), (Some(0), ""));
        }
    }
}

const HASH: &str = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";

#[test]
fn bad_arguments_are_named() {
    let peer = "127.0.0.1:1";
    let cases: &[(&str, &[&str], &str)] = &[
        ("measure", &[], "MODE: needed here"),
        ("measure", &["fly"], "fly: no such argument"),
        ("measure", &["push", "--count", "1"], "--connect: needed here"),
        ("measure", &["push", "--connect", "nowhere:port"], "--connect nowhere:port: "),
        ("measure", &["push", "--connect", peer, "--connect", peer], "--connect 127.0.0.1:1: named twice"),
        ("measure", &["push", "--connect", peer, "--size", "250"], "--count: needed here"),
        ("measure", &["push", "--connect", peer, "--count", "many"], "--count many: "),
        ("measure", &["push", "--connect", peer, "--count", "0"], "--count 0: at least 1"),
        ("measure", &["push", "--connect", peer, "--count", "1"], "--size: needed here"),
        (
            "measure",
            &["push", "--connect", peer, "--count", "1", "--size", "61"],
            "--size 61: a transaction has at least 62 bytes",
        ),
        ("measure", &["receive", "--connect", peer, "--count"], "--count: its value is missing"),
        ("measure", &["receive", "--connect", peer, "--speed", "1"], "--speed: no such argument"),
        ("measure", &["round-trips", "--connect", peer, "--count", "1"], "--what: needed here"),
        ("measure", &["round-trips", "--connect", peer, "--what", "tea"], "--what tea: expected ping or tx"),
        ("measure", &["round-trips", "--connect", peer, "--what", "tx", "--count", "1"], "--txid: needed here"),
        ("measure", &["round-trips", "--txid", "12"], "--txid 12: "),
        ("measure", &["idle", "--connect", peer, "--seconds", "1"], "--peers: needed here"),
        ("measure", &["idle", "--connect", peer, "--peers", "1"], "--seconds: needed here"),
        ("measure", &["idle", "--connect", peer, "--peers", "0", "--seconds", "1"], "--peers 0: at least 1"),
        ("measure", &["block", "--connect", peer], "--hash: needed here"),
        ("measure", &["block", "--hash", "12"], "--hash 12: "),
        ("measure", &["block", "--chunk", "0"], "--chunk 0: "),
        ("download_block", &["--connect", peer], "HASH: needed here"),
        ("download_block", &["--connect", peer, "12"], "12: "),
        ("download_block", &["--network", "regtest", HASH], "--connect: needed on regtest"),
        ("download_block", &["--connect", peer, HASH, "more"], "more: no such argument"),
        ("download_block", &["--timeout", "0"], "--timeout 0: "),
        ("measure", &["hold", "--connect", peer], "--connect 127.0.0.1:1: hold reads"),
        ("measure", &["hold", "--network", "moon"], "--network moon: no network \"moon\""),
        ("measure", &["hold", "--timeout", "0"], "--timeout: from 1 second"),
        ("watch", &["--network", "regtest"], "--connect: needed on regtest"),
        ("watch", &["--count", "some"], "--count some: "),
        ("peers", &["--network", "regtest"], "--peer: needed on regtest"),
        ("peers", &["--proxy", "localhost"], "--proxy localhost: "),
        ("peers", &["--seconds", "-1"], "--seconds -1: "),
        ("testnode", &["--port", "70000"], "--port 70000: "),
        ("testnode", &["--latency", "5"], "--latency 5: a unit is missing"),
        ("testnode", &["--fault", "command=block"], "--fault command=block: no kind of fault"),
        ("testnode", &["--fault", "idle,silence"], "--fault idle,silence: silence: one kind"),
        ("testnode", &["--fault", "reject=300"], "--fault reject=300: "),
        ("testnode", &["--flood", "tx:many:250"], "--flood tx:many:250: "),
        ("testnode", &["--flood", "cats:1:2"], "--flood cats:1:2: expected tx, inv or headers"),
        ("testnode", &["--fault", "stall"], "--fault stall: stall: its value is missing"),
        ("testnode", &["--block", "size=9"], "--block size=9: expected bytes, or count and size"),
        ("testnode", &["--block", "bytes=9,cats"], "--block bytes=9,cats: cats: nothing that is known"),
        ("testnode", &["--nodes", "0"], "--nodes 0: "),
        ("testnode", &["stop"], "stop: no such argument"),
        ("broadcast", &["--network", "regtest", "00"], "--connect: needed on regtest"),
        ("broadcast", &["--connect", peer, "0x00"], "0x00: 'x' is no hexadecimal digit"),
        ("broadcast", &["--connect", peer, "000"], "000: an odd number"),
        ("broadcast", &["--nodes", "0"], "--nodes 0: "),
        ("broadcast", &["--deadline", "-1"], "--deadline -1: "),
        (
            "broadcast",
            &["--connect", peer, "--file", "list", "00"],
            "--file: transactions are given as arguments, too",
        ),
    ];
    for (name, args, start) in cases {
        let (code, lines, text) = run(name, args);
        assert_eq!(code, Some(2), "{name} {args:?}: {text}");
        assert!(text.starts_with(start), "{name} {args:?}: {text}");
        assert!(text.contains(&format!("Usage: {name}")), "{name} {args:?}: {text}");
        assert!(lines.is_empty(), "{name} {args:?}");
    }
}

#[test]
fn what_fails_later_is_told_with_exit_code_1() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
    let (code, _, text) = run("measure", &["push", "--count", "1", "--size", "100", "--connect", &nobody]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with(&format!("error: {nobody}: not connected: ")), "{text}");

    let gone = ["--network", "regtest", "--connect", &nobody, "--file", "/nowhere/list"];
    let (code, _, text) = run("broadcast", &gone);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("error: /nowhere/list: "), "{text}");

    let (_node, address) = node(&[]);
    let (_, port) = address.rsplit_once(':').unwrap();
    let (code, _, text) = run("testnode", &["--port", port]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with(&format!("error: cannot listen at 127.0.0.1 port {port}: ")), "{text}");
}
