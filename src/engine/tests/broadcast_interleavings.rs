//! Broadcasts, peers, the outbox file, restarts and time in any order: an observer of its own holds every report against
//! what was really said and sent.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use super::*;
use crate::broadcast::{BroadcastEnd, JourneyState, Verdict};
use crate::engine::broadcast::record::{Held, Restored, Said};
use crate::message::{OutPoint, Reject, RejectCode, TransactionInput, TransactionOutput};
use crate::network::CustomNetwork;
use crate::peer::PeerAddress;

/// One thing that a caller, a peer, the file or time does. Small numbers stand for peers, transactions and places.
#[derive(Clone, Debug)]
enum Step {
    Begin(Begin),
    Cancel(u8),
    Confirm(u8),
    /// The file has got so many more records, or could not take them.
    Save {
        most: u8,
        fails: bool,
    },
    /// The process ends, killed or not, and goes on from what the file has.
    Restart {
        killed: bool,
    },
    Add(u8),
    Forget(u8),
    Up(u8),
    Down(u8),
    Pause(u8, bool),
    /// A peer answers whether it is on our chain: it is, or cannot tell.
    Check(u8, bool),
    Ask(u8, u8),
    Serve(u8, u8),
    Announce(u8, u8),
    Reject(u8, u8),
    /// A peer asks for one that is open, and refuses it once it has it.
    Refuse(u8, u8),
    FeeFilter(u8, u8),
    Transaction(u8, u8),
    Pass(u16),
    Jump,
}

#[derive(Clone, Debug)]
struct Begin {
    n: u8,
    nodes: u8,
    relays: u8,
    direct: bool,
    settle_on_reject: bool,
    deadline: u8,
    lifetime: Option<u8>,
    fee: bool,
    parents: bool,
}

fn begin() -> impl Strategy<Value = Step> {
    let numbers = (0..TRANSACTIONS, 1..4_u8, 0..4_u8, 1..30_u8, proptest::option::of(1..120_u8));
    let flags = (proptest::bool::weighted(0.2), any::<bool>(), any::<bool>(), any::<bool>());
    (numbers, flags).prop_map(
        |((n, nodes, relays, deadline, lifetime), (direct, settle_on_reject, fee, parents))| {
            Step::Begin(Begin { n, nodes, relays, direct, settle_on_reject, deadline, lifetime, fee, parents })
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS;
    let pair = (0..PEERS, 0..TRANSACTIONS);
    prop_oneof![
        8 => begin(),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => (0..TRANSACTIONS).prop_map(Step::Confirm),
        10 => (0..20_u8, proptest::bool::weighted(0.05)).prop_map(|(most, fails)| Step::Save { most, fails }),
        1 => any::<bool>().prop_map(|killed| Step::Restart { killed }),
        2 => peer.clone().prop_map(Step::Add),
        1 => peer.clone().prop_map(Step::Forget),
        12 => any::<u8>().prop_map(Step::Up),
        4 => peer.clone().prop_map(Step::Down),
        4 => (peer.clone(), any::<bool>()).prop_map(|(peer, paused)| Step::Pause(peer, paused)),
        6 => (peer.clone(), proptest::bool::weighted(0.8)).prop_map(|(peer, is_right)| Step::Check(peer, is_right)),
        16 => pair.clone().prop_map(|(peer, n)| Step::Ask(peer, n)),
        16 => (peer.clone(), 1..4_u8).prop_map(|(peer, most)| Step::Serve(peer, most)),
        10 => pair.clone().prop_map(|(peer, n)| Step::Announce(peer, n)),
        8 => pair.clone().prop_map(|(peer, n)| Step::Reject(peer, n)),
        8 => (peer.clone(), 1..TRANSACTIONS).prop_map(|(peer, n)| Step::Refuse(peer, n)),
        2 => (peer, 0..3_u8).prop_map(|(peer, rate)| Step::FeeFilter(peer, rate)),
        1 => pair.prop_map(|(peer, n)| Step::Transaction(peer, n)),
        4 => (0..9_000_u16).prop_map(Step::Pass),
        4 => Just(Step::Jump),
    ]
}

/// What peers did with one transaction.
#[derive(Debug, Default)]
struct Seen {
    /// Addresses that had it from us, by `inv` or whole, since it is held, in whatever run.
    had: BTreeSet<PeerAddress>,
    /// Those that announced it before they had it from us.
    witnesses: BTreeSet<PeerAddress>,
    /// Those that rejected it after they were sent it.
    rejecters: BTreeSet<PeerAddress>,
    /// In this run.
    announced_to: BTreeSet<PeerAddress>,
    sent_to: BTreeSet<PeerAddress>,
}

/// A world and all that a careful observer remembers of it.
struct Play {
    world: World,
    checked: bool,
    /// Whether there is a file.
    kept: bool,
    transactions: Vec<Transaction>,
    seen: BTreeMap<Txid, Seen>,
    /// What was seen of items that are not held any more, and are in the file yet.
    retired: BTreeMap<u64, Seen>,
    /// The broadcasts of this run that have begun.
    begun: BTreeSet<BroadcastId>,
    /// Those whose last report was looked at.
    judged: BTreeSet<BroadcastId>,
    /// Records that the file has not got, numbered.
    pending: VecDeque<(u64, Record)>,
    recorded: u64,
    /// What the file holds.
    file: BTreeMap<u64, Restored>,
    /// Who was told by the records of this run, on disk or not.
    told: BTreeSet<(u64, PeerAddress)>,
    tally: BTreeMap<&'static str, u64>,
    log: Vec<String>,
}

impl Play {
    fn new(checked: bool, kept: bool) -> Self {
        let mut play = Self {
            world: World::new(config(checked)),
            checked,
            kept,
            transactions: transactions(),
            seen: BTreeMap::new(),
            retired: BTreeMap::new(),
            begun: BTreeSet::new(),
            judged: BTreeSet::new(),
            pending: VecDeque::new(),
            recorded: 0,
            file: BTreeMap::new(),
            told: BTreeSet::new(),
            tally: BTreeMap::new(),
            log: Vec::new(),
        };
        play.start(Vec::new());
        play
    }

    fn start(&mut self, restored: Vec<Restored>) {
        self.world.log = Some(Vec::new());
        for n in 0..PEERS {
            self.world.add(&address(n));
        }
        if self.kept {
            self.tally("restored", restored.len());
            for restored in &restored {
                self.begun.insert(BroadcastId(restored.held.item));
                self.told.extend(restored.told.iter().map(|address| (restored.held.item, address.clone())));
            }
            self.world.run(|engine, now| engine.restore_broadcasts(now, restored));
        }
        self.world.start();
    }

    fn tally(&mut self, what: &'static str, count: usize) {
        *self.tally.entry(what).or_default() += count as u64;
    }

    fn peer(&self, n: u8) -> Option<PeerId> {
        let address: PeerAddress = address(n).parse().unwrap();
        let peers = self.world.engine.peers(self.world.now);
        peers.into_iter().find(|info| info.address == address).map(|info| info.id)
    }

    fn up(&self, n: u8) -> Option<(PeerId, PeerAddress)> {
        let peer = self.peer(n).filter(|&peer| self.world.engine.connection_of(peer).is_some())?;
        Some((peer, address(n).parse().unwrap()))
    }

    fn run(&mut self, step: &Step) {
        self.take(step);
        self.observe();
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Begin(ref begin) => self.begin(begin),
            Step::Cancel(at) => {
                let open = self.world.engine.open_broadcasts();
                if let Some(&(broadcast, _)) = open.get(usize::from(at) % open.len().max(1)) {
                    self.world.run(|engine, now| engine.cancel_broadcast(now, broadcast));
                    assert_eq!(self.world.over[&broadcast].end, Some(BroadcastEnd::Cancelled));
                }
            }
            Step::Confirm(n) => {
                let txid = self.transactions[usize::from(n)].txid();
                let open: Vec<_> = self.open(txid).into_iter().collect();
                let count = self.world.run(|engine, now| engine.confirm(now, hash(1), [txid]));
                assert_eq!(count, open.len());
                for broadcast in open {
                    assert_eq!(self.world.over[&broadcast].verdict, Verdict::Mined { block: hash(1) });
                }
            }
            Step::Save { most, fails } => self.save(most.into(), fails),
            Step::Restart { killed } => self.restart(killed),
            Step::Add(n) => drop(self.world.add(&address(n))),
            Step::Forget(n) => {
                if let Some(peer) = self.peer(n) {
                    self.world.run(|engine, now| engine.disconnect(now, peer));
                }
            }
            Step::Up(at) => {
                let connects = &self.world.connects;
                if !connects.is_empty() {
                    let (peer, connection, _) = connects[usize::from(at) % connects.len()];
                    let version = Box::new(Version::new(Services::NETWORK, 1, "/scripted:1.0/", 1, 1));
                    self.world.run(|engine, now| engine.handle_up(now, peer, connection, version));
                }
            }
            Step::Down(n) => {
                if let Some((peer, _)) = self.up(n) {
                    self.world.lose(peer);
                }
            }
            Step::Pause(n, paused) => {
                if let Some((peer, _)) = self.up(n) {
                    self.world.pause(peer, paused);
                }
            }
            Step::Check(n, is_right) => {
                if let Some((peer, _)) = self.up(n).filter(|_| self.checked) {
                    let headers = if is_right { vec![marker_header()] } else { Vec::new() };
                    self.world.say(peer, Message::Headers(headers));
                }
            }
            Step::Ask(n, item) => {
                if let Some((peer, address)) = self.up(n) {
                    let txid = self.pick(item, |seen| seen.had.contains(&address));
                    self.world.say(peer, Message::GetData(vec![Inventory::transaction(txid)]));
                }
            }
            Step::Serve(n, most) => {
                if let Some((peer, address)) = self.up(n) {
                    self.serve(peer, &address, most.into());
                }
            }
            Step::Announce(n, item) => {
                if let Some((peer, address)) = self.up(n) {
                    let txid = self.pick(item, |seen| item == 1 || !seen.had.contains(&address));
                    self.announce(peer, address, txid);
                }
            }
            Step::Reject(n, item) => {
                if let Some((peer, address)) = self.up(n) {
                    let txid = self.pick(item, |seen| seen.sent_to.contains(&address));
                    let hash = Some(*txid.as_wire());
                    let (code, reason) = (RejectCode::Invalid, "bad".into());
                    let reject = Message::Reject(Box::new(Reject { message: "tx".into(), code, reason, hash }));
                    let seen = self.seen.entry(txid).or_default();
                    let may_count = seen.sent_to.contains(&address);
                    if may_count {
                        seen.rejecters.insert(address);
                    }
                    let is_claimed = self.world.say(peer, reject).is_none();
                    let is_heard = state_is_heard(&self.world, peer);
                    assert!(!is_claimed || may_count || !is_heard, "a reject was claimed of what was not sent");
                }
            }
            Step::Refuse(n, item) => {
                for step in [Step::Ask(n, item), Step::Save { most: 40, fails: false }, Step::Serve(n, 9)] {
                    self.take(&step);
                }
                self.take(&Step::Reject(n, item));
            }
            Step::FeeFilter(n, rate) => {
                if let Some((peer, _)) = self.up(n) {
                    let satoshis_per_kilobyte = i64::from(rate) * 100_000;
                    self.world.say(peer, Message::FeeFilter { satoshis_per_kilobyte });
                }
            }
            Step::Transaction(n, item) => {
                if let Some((peer, _)) = self.up(n) {
                    self.world.say(peer, Message::Tx(self.transactions[usize::from(item)].clone()));
                }
            }
            Step::Pass(milliseconds) => self.world.pass(u32::from(milliseconds) * MILLISECOND),
            Step::Jump => {
                if self.world.engine.poll_timeout().is_some() {
                    self.world.jump();
                }
            }
        }
    }

    /// A transaction by its number, or mostly one that is open and of which that holds.
    fn pick(&self, n: u8, holds: impl Fn(&Seen) -> bool) -> Txid {
        let open: Vec<_> = self.world.engine.open_broadcasts().into_iter().map(|(_, txid)| txid).collect();
        let open: Vec<_> = open.into_iter().filter(|txid| self.seen.get(txid).is_some_and(&holds)).collect();
        let any = self.transactions[usize::from(n)].txid();
        if n == 0 { any } else { open.get(usize::from(n) % open.len().max(1)).copied().unwrap_or(any) }
    }

    fn open(&self, txid: Txid) -> Option<BroadcastId> {
        self.world.engine.open_broadcasts().into_iter().find(|&(_, open)| open == txid).map(|(id, _)| id)
    }

    fn begin(&mut self, begin: &Begin) {
        let transaction = self.transactions[usize::from(begin.n)].clone();
        let mut options = BroadcastOptions::new()
            .nodes(begin.nodes.into())
            .relays(begin.relays.into())
            .direct(begin.direct)
            .settle_on_reject(begin.settle_on_reject)
            .deadline(u32::from(begin.deadline) * SECOND);
        options.lifetime = begin.lifetime.map(|seconds| u32::from(seconds) * SECOND);
        options.fee = begin.fee.then_some(1);
        if begin.parents && (1..4).contains(&begin.n) {
            // Each of the first four spends from the one before.
            options = options.parents(self.transactions[..begin.n.into()].iter().map(|tx| tx.raw().to_vec()));
        }
        let open = self.open(transaction.txid());
        match self.world.try_broadcast(&transaction, &options) {
            Ok(broadcast) => {
                assert!(open.is_none_or(|open| open == broadcast), "what is open is joined");
                self.judged.remove(&broadcast);
                let is_anew = open.is_none() && !self.begun.insert(broadcast);
                self.tally("joined", usize::from(open.is_some()));
                self.tally("begun anew", usize::from(is_anew));
            }
            Err(error) => {
                assert_eq!(error, BroadcastFailure::Full);
                self.tally("full", 1);
            }
        }
    }

    fn serve(&mut self, peer: PeerId, address: &PeerAddress, most: usize) {
        for _ in 0..most {
            let Some(served) = self.world.engine.next_to_serve(peer) else { break };
            let txid = Transaction::from_raw(served.payload().to_vec()).expect("it is one").txid();
            if let Some(broadcast) = self.open(txid).filter(|_| self.kept) {
                let held = self.file.get(&broadcast.0).expect("it is on disk before it is sent");
                let relayed = held.heard.iter().any(|(heard, said)| heard == address && *said == Said::Relayed);
                let was_witness = self.seen.get(&txid).is_some_and(|seen| seen.witnesses.contains(address));
                assert!(relayed || was_witness || held.told.contains(address), "and so is who gets it");
            }
            let seen = self.seen.entry(txid).or_default();
            seen.had.insert(address.clone());
            seen.sent_to.insert(address.clone());
            self.world.engine.mark_served(self.world.now, peer);
            self.tally("served", 1);
            if self.open(txid).is_none() {
                self.tally("served though not open", 1);
            }
            self.world.settle();
        }
    }

    fn announce(&mut self, peer: PeerId, address: PeerAddress, txid: Txid) {
        let open = self.open(txid);
        let is_verified = self.world.engine.is_verified(peer);
        let seen = self.seen.entry(txid).or_default();
        let is_stranger = !seen.had.contains(&address);
        if is_stranger && is_verified && open.is_some() {
            seen.witnesses.insert(address.clone());
        }
        self.world.say(peer, Message::Inv(vec![Inventory::transaction(txid)]));
        let Some(broadcast) = open else { return };
        self.drain_records();
        let report = self.world.engine.broadcast_report(self.world.now, broadcast);
        let report = report.unwrap_or_else(|| self.world.over[&broadcast].clone());
        let journey = report.peers.iter().find(|journey| journey.address == address);
        let is_relayed = journey.is_some_and(|journey| journey.state == JourneyState::Relayed);
        if !is_stranger && !self.seen[&txid].witnesses.contains(&address) {
            assert!(!is_relayed, "it had it from us");
            self.tally("echo", 1);
        }
        // With a file the records say who was chosen.
        let is_chosen = self.told.contains(&(broadcast.0, address));
        let was_sent = journey.is_some_and(|journey| journey.requested.is_some());
        let is_rejected = journey.is_some_and(|journey| matches!(journey.state, JourneyState::Rejected { .. }));
        if self.kept && is_verified && is_stranger && !is_chosen && !was_sent && !is_rejected {
            assert!(is_relayed, "a witness is heard");
            self.tally("witness", 1);
        }
    }

    /// The file takes the next records, as the real one does.
    fn save(&mut self, most: usize, fails: bool) {
        self.drain_records();
        let taken = most.min(self.pending.len());
        let mut lost: BTreeSet<u64> = BTreeSet::new();
        if fails {
            let holds = self.pending.iter().take(taken).filter_map(|(_, record)| match record {
                Record::Hold(held) => Some(held.item),
                _ => None,
            });
            lost.extend(holds);
            self.pending.retain(|(_, record)| !lost.contains(&item(record)));
        } else {
            for (_, record) in self.pending.drain(..taken).collect::<Vec<_>>() {
                apply(&mut self.file, record);
            }
        }
        let through = self.pending.front().map_or(self.recorded, |(number, _)| number - 1);
        self.tally("lost", lost.len());
        let lost: Vec<_> = lost.into_iter().collect();
        let open: BTreeSet<_> = self.world.engine.open_broadcasts().into_iter().map(|(id, _)| id.0).collect();
        self.world.lost.clear();
        let fault = fails.then_some(io::ErrorKind::StorageFull);
        if self.kept {
            self.world.run(|engine, now| engine.handle_saved(now, through, &lost, fault));
            let told: Vec<_> = self.world.lost.iter().map(|broadcast| broadcast.0).collect();
            assert_eq!(told, lost.into_iter().filter(|item| open.contains(item)).collect::<Vec<_>>());
        }
        for &BroadcastId(item) in &self.world.lost {
            self.begun.remove(&BroadcastId(item));
            // Its verdict may have been given; there is no end to come.
            self.world.settled.remove(&BroadcastId(item));
        }
        let saved = std::mem::take(&mut self.world.saved);
        assert!(saved.iter().all(|broadcast| !self.world.lost.contains(broadcast)));
        self.tally("saved", saved.len());
    }

    fn drain_records(&mut self) {
        for record in self.world.records.drain(..) {
            assert!(self.kept, "nobody keeps {record:?}");
            self.recorded += 1;
            match &record {
                Record::Hold(held) => self.told.retain(|(item, _)| *item != held.item),
                Record::Told { item, address } => drop(self.told.insert((*item, address.clone()))),
                _ => {}
            }
            self.pending.push_back((self.recorded, record));
        }
    }

    fn restart(&mut self, killed: bool) {
        self.drain_records();
        if killed {
            self.tally("killed", 1);
        } else {
            self.world.run(Engine::end_broadcasts);
            assert_eq!(self.world.records, [], "nothing is recorded of a shutdown");
            assert_eq!(self.world.engine.open_broadcasts(), []);
            self.check_ended();
            self.check_reports();
            self.save(usize::MAX, false);
        }
        self.log.extend(self.world.log.take().unwrap_or_default());
        let now = self.world.now;
        self.world = World::new(config(self.checked));
        self.world.started = now.instant - Duration::from_secs((now.unix - START_UNIX) as u64);
        self.world.now = now;
        self.begun.clear();
        self.judged.clear();
        self.pending.clear();
        self.told.clear();
        self.recorded = 0;
        let restored: Vec<_> = if self.kept { self.file.values().cloned().collect() } else { Vec::new() };
        // Of what the file does not hold nothing is remembered.
        let mut seen = std::mem::take(&mut self.seen);
        let mut retired = std::mem::take(&mut self.retired);
        for Restored { held, .. } in &restored {
            let txid = held.transaction.txid();
            let of_item = retired.remove(&held.item).or_else(|| seen.remove(&txid));
            self.seen.insert(txid, of_item.unwrap_or_default());
        }
        for seen in self.seen.values_mut() {
            seen.sent_to.clear();
            seen.announced_to.clear();
        }
        self.start(restored);
    }

    /// Notes what was sent, and holds all reports against what was said.
    fn observe(&mut self) {
        self.drain_records();
        for (connection, message) in std::mem::take(&mut self.world.sent) {
            let Message::Inv(items) = message else { continue };
            let peer = self.world.owners[&connection];
            let info = self.world.engine.peers(self.world.now).into_iter().find(|info| info.id == peer);
            // Forgotten in the same step.
            let Some(address) = info.map(|info| info.address) else { continue };
            assert!(!items.is_empty());
            for txid in items.iter().filter_map(Inventory::txid) {
                self.tally("announced", 1);
                let seen = self.seen.entry(txid).or_default();
                seen.announced_to.insert(address.clone());
                if !seen.had.insert(address.clone()) {
                    self.tally("announced again", 1);
                }
                if self.kept {
                    let held = self.file.values().find(|restored| restored.held.transaction.txid() == txid);
                    let held = held.expect("it is on disk before it is announced");
                    assert!(held.told.contains(&address), "and so is who is told");
                }
            }
        }
        self.check_reports();
        for (txid, seen) in std::mem::take(&mut self.seen) {
            if self.world.engine.holds(&txid) {
                self.seen.insert(txid, seen);
                continue;
            }
            // The file may not know yet that it is over, and come back to it.
            let kept = self.file.values().find(|restored| restored.held.transaction.txid() == txid);
            if let Some(kept) = kept {
                self.retired.insert(kept.held.item, seen);
            }
        }
    }

    fn check_reports(&mut self) {
        let engine = &self.world.engine;
        let open = engine.open_broadcasts();
        let live: Vec<_> = open.iter().filter_map(|&(id, _)| engine.broadcast_report(self.world.now, id)).collect();
        let ended = |id: &&BroadcastId| !self.judged.contains(id);
        let ended: Vec<_> = self.world.over.keys().filter(ended).copied().collect();
        for report in &live {
            self.check_report(report, true);
        }
        for broadcast in ended {
            self.judged.insert(broadcast);
            let report = self.world.over[&broadcast].clone();
            self.check_report(&report, false);
            let what = match (&report.verdict, report.end) {
                (Verdict::Unannounced, _) => "unannounced",
                (Verdict::Unrequested, _) => "unrequested",
                (Verdict::Delivered { .. }, Some(BroadcastEnd::Delivered)) => "delivered, over",
                (Verdict::Delivered { .. }, _) => "delivered",
                (Verdict::Relayed { .. }, _) => "relayed",
                (Verdict::Rejected { .. }, Some(BroadcastEnd::Rejected)) => "rejected by all",
                (Verdict::Rejected { .. }, _) => "rejected",
                (Verdict::Split { .. }, _) => "split",
                (Verdict::Mined { .. }, _) => "mined",
            };
            self.tally(what, 1);
        }
    }

    fn check_report(&self, report: &BroadcastReport, is_open: bool) {
        let default = Seen::default();
        let seen = self.seen.get(&report.txid).unwrap_or(&default);
        let mut addresses = BTreeSet::new();
        for journey in &report.peers {
            let address = &journey.address;
            assert!(addresses.insert(address), "one journey for each peer: {report:?}");
            match &journey.state {
                JourneyState::Relayed => {
                    assert!(seen.witnesses.contains(address), "nobody unsuspected announced it: {report:?}")
                }
                JourneyState::Rejected { code: RejectCode::Invalid, reason } if reason == "bad" => {
                    assert!(seen.rejecters.contains(address), "it was not rejected: {report:?}");
                }
                JourneyState::Rejected { .. } => panic!("nobody said so: {report:?}"),
                JourneyState::Sent => assert!(journey.sent.is_some()),
                JourneyState::Requested => assert!(journey.requested.is_some()),
                JourneyState::Announced => assert!(journey.announced.is_some()),
                JourneyState::BelowFeeFilter { fee_filter } => assert!(*fee_filter > 0),
                JourneyState::NotHeard => {}
            }
            assert!(journey.announced.is_none() || seen.announced_to.contains(address), "{report:?}");
            assert!(journey.sent.is_none() || seen.sent_to.contains(address), "{report:?}");
        }
        let (relayed, rejected, sent) = (report.relayed(), report.rejected(), report.sent());
        let expected = match (relayed, rejected, sent, report.announced()) {
            (0, 0, 0, 0) => Verdict::Unannounced,
            (0, 0, 0, _) => Verdict::Unrequested,
            (0, 0, to, _) => Verdict::Delivered { to },
            (by, 0, ..) => Verdict::Relayed { by },
            (0, by, ..) => Verdict::Rejected { by, code: RejectCode::Invalid, reason: "bad".to_owned() },
            (relayed, rejected, ..) => Verdict::Split { relayed, rejected },
        };
        assert!(report.verdict == expected || matches!(report.verdict, Verdict::Mined { .. }), "{report:?}");
        assert_eq!(report.end.is_none(), is_open);
        match report.end {
            Some(BroadcastEnd::Relayed) => assert!(relayed > 0),
            Some(BroadcastEnd::Rejected) => assert!(rejected > 0 && relayed == 0),
            Some(BroadcastEnd::Delivered) => assert!(sent > 0),
            _ => {}
        }
        if is_open {
            let ready = (0..PEERS).filter_map(|n| self.up(n));
            let ready = ready.filter(|&(peer, _)| state(&self.world, peer) == PeerState::Ready);
            let untold = ready.filter(|(_, address)| !seen.had.contains(address)).count();
            // A witness that was sent it listens yet.
            let most = untold + seen.witnesses.len();
            assert!(report.listeners <= most, "{} listen of {most}: {report:?}", report.listeners);
        }
    }

    /// Whatever has begun and is not open has a verdict and an end.
    fn check_ended(&self) {
        let open: BTreeSet<_> = self.world.engine.open_broadcasts().into_iter().map(|(id, _)| id).collect();
        for broadcast in &self.begun {
            let (is_settled, is_over) =
                (self.world.settled.contains_key(broadcast), self.world.over.contains_key(broadcast));
            assert_ne!(open.contains(broadcast), is_over, "{broadcast:?} ends once");
            assert!(is_settled || !is_over, "{broadcast:?} has a verdict");
        }
    }

    fn finish(&mut self) {
        self.save(usize::MAX, false);
        self.observe();
        self.check_ended();
        self.world.pass(300 * SECOND);
        self.observe();
        assert_eq!(self.world.engine.open_broadcasts(), []);
        self.check_ended();
        self.save(usize::MAX, false);
        assert_eq!(self.file, BTreeMap::new(), "nothing is left in the file");
        self.log.extend(self.world.log.take().unwrap_or_default());
    }
}

fn state_is_heard(world: &World, peer: PeerId) -> bool {
    state(world, peer) != PeerState::Checking
}

fn config(checked: bool) -> Config {
    let unmarked = CustomNetwork {
        name: "unmarked".to_owned(),
        magic: [1, 2, 3, 4],
        port: 8333,
        seeds: Vec::new(),
        genesis: hash(0),
        fork_marker: None,
    };
    let network = if checked { Network::Test } else { Network::Custom(std::sync::Arc::new(unmarked)) };
    Config::new(network)
        .broadcast_items(6)
        .broadcast_lifetime(60 * SECOND)
        .rebroadcast_interval(15 * SECOND)
        .max_peers(PEERS.into())
}

/// A chain of four, two rivals, and two of no kin.
fn transactions() -> Vec<Transaction> {
    let spending = |txid, n| {
        let input = TransactionInput { previous_output: OutPoint { txid, index: 0 }, script_sig: &[], sequence: 0 };
        Transaction::new(1, &[input], &[TransactionOutput { value: 1, script_pubkey: &[] }], n)
    };
    let mut all = vec![spending(txid(900), 0)];
    for n in 1..4 {
        let next = spending(all[all.len() - 1].txid(), n);
        all.push(next);
    }
    all.extend([spending(txid(901), 4), spending(txid(901), 5), transaction(6), transaction(7)]);
    assert_eq!(all.len(), TRANSACTIONS.into());
    all
}

fn item(record: &Record) -> u64 {
    match record {
        Record::Hold(held) => held.item,
        Record::Told { item, .. } | Record::Heard { item, .. } | Record::Over { item } => *item,
    }
}

/// The records by the rules of the file: a broadcast is there from its hold to its end.
fn apply(file: &mut BTreeMap<u64, Restored>, record: Record) {
    match record {
        Record::Hold(held) => {
            let held: Held = *held;
            file.insert(held.item, Restored { held, told: Vec::new(), heard: Vec::new() });
        }
        Record::Told { item, address } => {
            if let Some(restored) = file.get_mut(&item).filter(|restored| !restored.told.contains(&address)) {
                restored.told.push(address);
            }
        }
        Record::Heard { item, address, said } => {
            if let Some(restored) = file.get_mut(&item) {
                restored.heard.push((address, said));
            }
        }
        Record::Over { item } => drop(file.remove(&item)),
    }
}

/// Runs the steps and gives everything the engine did, and how often what was seen.
fn play(steps: &[Step], checked: bool, kept: bool) -> (Vec<String>, BTreeMap<&'static str, u64>) {
    let mut play = Play::new(checked, kept);
    for step in steps {
        play.run(step);
    }
    play.finish();
    (play.log, play.tally)
}

#[test]
fn each_broadcast_gets_one_true_verdict_and_ends_once_whatever_happens() {
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    let tally = std::cell::RefCell::new(&mut seen);
    let mut runner = TestRunner::new(config);
    let strategy = (any::<bool>(), proptest::bool::weighted(0.7), vec(step(), 1..200));
    let result = runner.run(&strategy, |(checked, kept, mut steps)| {
        // Most peers are there from the beginning.
        let ups =
            (0..PEERS).flat_map(|n| [Step::Jump, Step::Up(0), Step::Up(1), Step::Up(n), Step::Check(n, true)]);
        steps.splice(0..0, ups.collect::<Vec<_>>());
        let (log, counts) = play(&steps, checked, kept);
        // The same steps do the same again: nothing hangs on the order of a hash map.
        prop_assert_eq!(log, play(&steps, checked, kept).0);
        let mut tally = tally.borrow_mut();
        counts.into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, value)) => panic!("{reason}\n{value:?}"),
        Err(error) => panic!("{error}"),
    }
    println!("{seen:?}");
    for what in ALL {
        assert!(seen.get(what).is_some_and(|&count| count > 0), "{what} was not reached: {seen:?}");
    }
}

const CASES: u32 = 64;
const PEERS: u8 = 6;
const TRANSACTIONS: u8 = 8;
/// What must be seen for the test to say anything; what is rarer is printed only.
const ALL: [&str; 19] = [
    "announced",
    "announced again",
    "begun anew",
    "delivered",
    "echo",
    "joined",
    "killed",
    "mined",
    "rejected",
    "rejected by all",
    "relayed",
    "restored",
    "saved",
    "served",
    "served though not open",
    "split",
    "unannounced",
    "unrequested",
    "witness",
];
