//! Kills a process that broadcasts, at random moments, and holds what it said against what the next one finds.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conduit::message::{Inventory, Message, RejectCode};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::wire::Txid;
use conduit::{Broadcast, BroadcastOptions, Conduit, Config, Network};

use super::PATIENCE;

/// How the nodes stand to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// They know one another: what one has, the other announces.
    Joined,
    /// They do not, and announce in every life all they have, which they have from the process only.
    Apart,
}

pub(crate) struct Kills {
    /// The test that calls, whose process is started again.
    pub(crate) test: &'static str,
    pub(crate) net: Net,
    pub(crate) lives: u64,
    /// Of each transaction.
    pub(crate) len: usize,
}

/// What the lives so far have said.
#[derive(Debug, Default)]
struct Said {
    /// Calls that had begun.
    called: BTreeSet<Txid>,
    /// Calls that had returned `Ok`.
    kept: BTreeSet<Txid>,
    /// The verdicts of those that were over.
    over: BTreeMap<Txid, String>,
}

impl Kills {
    /// Lives, is killed and lives again on one directory, and for one life in four on one of its own; gives how many files
    /// took the other's place.
    pub(crate) fn run(&self) -> usize {
        if let Ok(life) = env::var(LIFE) {
            live(&life, self.len);
        }
        let seed = env::var(SEED).map_or_else(
            |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
            |seed| seed.parse().unwrap(),
        );
        println!("{SEED}={seed}");
        let began = Instant::now();
        let nodes = [(); 2].map(|()| TestNode::start(TestNodeConfig::default()).unwrap());
        if self.net == Net::Joined {
            nodes[0].join(&nodes[1]).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let (mut said, mut random, mut files) = (Said::default(), seed | 1, BTreeSet::new());
        for life in 0..self.lives {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let after = Duration::from_micros(random % 250_000);
            let numbers: Vec<u64> =
                (0..THREADS).flat_map(|thread| (0..EACH).map(move |at| number(life, thread, at))).collect();
            for number in numbers.into_iter().filter(|number| is_bad(*number)) {
                let txid = transaction(number, self.len).txid();
                nodes.iter().for_each(|node| node.reject_transaction(txid, RejectCode::Invalid, "bad"));
            }
            if life % 4 == 3 {
                let dir = tempfile::tempdir().unwrap();
                let mut said = Said::default();
                self.live_and_die(life, dir.path(), &nodes, after, &mut said);
                self.check_what_is_left(dir.path(), &nodes, &said);
            } else {
                self.live_and_die(life, dir.path(), &nodes, after, &mut said);
                files.extend(fs_id(dir.path()));
            }
        }
        self.check_what_is_left(dir.path(), &nodes, &said);
        assert!(!said.kept.is_empty(), "no life was long enough");
        println!(
            "{} lives in {:.1} s: {} calls, {} of them Ok, {} seen over, {} files",
            self.lives,
            began.elapsed().as_secs_f64(),
            said.called.len(),
            said.kept.len(),
            said.over.len(),
            files.len()
        );
        files.len()
    }

    /// Starts the process, kills it so long after it began to work or, at times, to start, and notes what it said.
    fn live_and_die(&self, life: u64, dir: &Path, nodes: &[TestNode], after: Duration, said: &mut Said) {
        let addresses: Vec<_> = nodes.iter().map(|node| node.address().to_string()).collect();
        let mut child = Command::new(env::current_exe().unwrap())
            .args([self.test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(LIFE, format!("{life} {} {}", dir.display(), addresses.join(" ")))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(at) = line.find('@') {
                    sender.send(line[at + 1..].to_owned()).unwrap();
                }
            }
        });
        let began = Instant::now();
        let mut kill_at = if life % 5 == 4 { began + after / 8 } else { began + PATIENCE };
        let (mut is_killed, mut restored, mut is_listed) = (false, BTreeSet::new(), false);
        let before = said.kept.clone();
        loop {
            match lines.recv_timeout(kill_at.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if is_killed => panic!("it does not die"),
                Err(RecvTimeoutError::Timeout) => {
                    child.kill().unwrap();
                    is_killed = true;
                    kill_at = Instant::now() + PATIENCE;
                }
                Ok(line) => {
                    let mut words = line.splitn(3, ' ');
                    let (what, txid) = (words.next().unwrap(), words.next());
                    let txid = || txid.unwrap().parse::<Txid>().unwrap();
                    match what {
                        "listed" => {
                            is_listed = true;
                            if !is_killed {
                                kill_at = kill_at.min(Instant::now() + after);
                            }
                        }
                        "connected" if self.net == Net::Apart => echo(nodes),
                        "connected" => {}
                        "restored" => drop(restored.insert(txid())),
                        "call" => drop(said.called.insert(txid())),
                        "ok" => drop(said.kept.insert(txid())),
                        "over" => drop(said.over.insert(txid(), words.next().unwrap().to_owned())),
                        other => panic!("{other}"),
                    }
                }
            }
        }
        reader.join().unwrap();
        let status = child.wait().unwrap();
        assert!(is_killed, "it ended by itself: {status}");
        if is_listed {
            self.check(nodes, said, &before, &restored);
        }
        self.check_verdicts(nodes, said);
    }

    /// What was kept is there, or over with good reason.
    fn check(&self, nodes: &[TestNode], said: &Said, kept: &BTreeSet<Txid>, restored: &BTreeSet<Txid>) {
        for txid in kept.difference(restored) {
            let held = nodes.iter().filter(|node| node.contains(*txid)).count();
            let is_justified = match self.net {
                // It may have been over without our hearing of it.
                Net::Joined => held == nodes.len() || (held == 0 && self.is_bad(txid, said)),
                Net::Apart => held == 0 && self.is_bad(txid, said),
            };
            assert!(is_justified, "{txid} is lost; {held} nodes have it; {:?}", said.over.get(txid));
        }
        assert!(restored.is_subset(&said.called), "what nobody called for is restored");
    }

    fn check_verdicts(&self, nodes: &[TestNode], said: &Said) {
        for (txid, verdict) in &said.over {
            let held = nodes.iter().filter(|node| node.contains(*txid)).count();
            match verdict.as_str() {
                "relayed" => assert!(self.net == Net::Joined && held > 0, "{txid} is not relayed"),
                "rejected" => assert!(held == 0 && self.is_bad(txid, said), "{txid} is not rejected"),
                "delivered" => assert!(held > 0, "{txid} is not delivered"),
                other => panic!("{txid} cannot be over: {other}"),
            }
        }
    }

    fn is_bad(&self, txid: &Txid, said: &Said) -> bool {
        assert!(said.called.contains(txid));
        BAD.with_borrow_mut(|known| {
            for life in known.1..self.lives {
                for number in (0..THREADS).flat_map(|thread| (0..EACH).map(move |at| number(life, thread, at))) {
                    if is_bad(number) {
                        known.0.insert(transaction(number, self.len).txid());
                    }
                }
            }
            known.1 = self.lives;
            known.0.contains(txid)
        })
    }

    /// The same without another process.
    fn check_what_is_left(&self, dir: &Path, nodes: &[TestNode], said: &Said) {
        let conduit = Conduit::new(config(dir)).unwrap();
        conduit.start().unwrap();
        let left = conduit.broadcasts().iter().map(Broadcast::txid).collect();
        self.check(nodes, said, &said.kept, &left);
    }
}

thread_local! {
    /// The transactions that are refused, of so many lives.
    static BAD: std::cell::RefCell<(BTreeSet<Txid>, u64)> = const { std::cell::RefCell::new((BTreeSet::new(), 0)) };
}

/// Every node announces all it has.
fn echo(nodes: &[TestNode]) {
    for node in nodes {
        for lot in node.mempool().chunks(1_000) {
            node.send(&Message::Inv(lot.iter().map(|&txid| Inventory::transaction(txid)).collect()));
        }
    }
}

/// Broadcasts and says so, until it is killed.
fn live(life: &str, len: usize) -> ! {
    let mut words = life.split(' ');
    let life: u64 = words.next().unwrap().parse().unwrap();
    let dir = words.next().unwrap();
    let conduit = Conduit::new(config(dir.as_ref())).unwrap();
    conduit.start().unwrap();
    let mut open = conduit.broadcasts();
    for broadcast in &open {
        println!("@restored {}", broadcast.txid());
    }
    println!("@listed");
    let peers = conduit.add_peers(words).unwrap().len();
    conduit.wait_for_peers(peers, PATIENCE).unwrap();
    println!("@connected");
    let (sender, begun) = channel();
    for thread in 0..THREADS {
        let (conduit, sender) = (conduit.clone(), sender.clone());
        thread::spawn(move || {
            for at in 0..EACH {
                let transaction = transaction(number(life, thread, at), len);
                println!("@call {}", transaction.txid());
                let options = BroadcastOptions::new().nodes(1).deadline(PATIENCE);
                let broadcast = conduit.broadcast_transaction_with(transaction.raw().to_vec(), &options).unwrap();
                println!("@ok {}", broadcast.txid());
                sender.send(broadcast).unwrap();
            }
        });
    }
    let deadline = Instant::now() + PATIENCE * 2;
    while Instant::now() < deadline {
        open.extend(begun.try_iter());
        open.retain(|broadcast| {
            let report = broadcast.report();
            if report.end.is_some() {
                println!("@over {} {}", report.txid, report.verdict.name());
            }
            report.end.is_none()
        });
        thread::sleep(Duration::from_millis(1));
    }
    panic!("nobody killed this process");
}

fn config(dir: &Path) -> Config {
    Config::new(Network::Regtest)
        .redial_min(Duration::from_millis(20))
        .redial_max(Duration::from_millis(100))
        .only_named_peers(true)
        .broadcast_lifetime(Duration::from_secs(86_400))
        .broadcast_bytes(1 << 30)
        .data_dir(dir)
        .keep_broadcasts(true)
}

fn number(life: u64, thread: u64, at: u64) -> u64 {
    life << 32 | thread << 16 | at
}

/// One in three is refused by every node.
fn is_bad(number: u64) -> bool {
    number.is_multiple_of(3)
}

/// The file of today.
fn fs_id(dir: &Path) -> Option<u64> {
    std::fs::metadata(dir.join("outbox-regtest.log")).ok().map(|metadata| metadata.ino())
}

const LIFE: &str = "CONDUIT_TEST_LIFE";
const SEED: &str = "CONDUIT_TEST_SEED";
const THREADS: u64 = 4;
const EACH: u64 = 100;
