//! What all connections of a node share: its chain, its mempool, who is connected; and what is told to everybody.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::chain::{Added, Chain};
use super::config::TestNodeConfig;
use super::faults::Whom;
use super::flood::Flood;
use super::forms;
use super::generated::GeneratedBlock;
use super::line::Line;
use super::orphans::Orphan;
use super::peer::Peer;
use super::pool::{Pool, Verdict};
use super::session::Session;
use super::switches::Switches;
use super::{LOG, now, unix};
use crate::message::{Inventory, Message, ProvenTransaction, Reject, Services, Transaction};
use crate::proto::{AssociationId, Connection, Link, Settings, Stream, stream_of};
use crate::wire::{BlockHash, Command, Txid};

/// The node behind a `TestNode`, shared by its threads.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) config: TestNodeConfig,
    pub(super) magic: [u8; 4],
    pub(super) address: SocketAddr,
    pub(super) switches: Arc<Switches>,
    /// Held for moments only: never while a socket is read or written.
    pub(super) world: Mutex<World>,
    /// Told whenever the world changes.
    pub(super) changed: Condvar,
}

/// What the node knows.
#[derive(Debug)]
pub(super) struct World {
    pub(super) chain: Chain,
    pub(super) pool: Pool,
    /// Transactions asked for.
    pub(super) asked: HashMap<Txid, Asked>,
    /// Transactions that are not asked for, on command, and how many times they were announced since.
    pub(super) overlooked: HashMap<Txid, u64>,
    /// What transactions are taken to pay from now on, in satoshis for 1,000 bytes.
    pub(super) fee_rate: i64,
    /// Transactions that `datareftx` has.
    pub(super) datarefs: HashMap<Txid, ProvenTransaction>,
    /// Blocks beside the chain that are made when they are asked for.
    pub(super) offered: HashMap<BlockHash, GeneratedBlock>,
    /// The digests of the notices of double spends that came.
    pub(super) double_spends: HashSet<[u8; 32]>,
    /// The misbehaviour scores that are not 0, by the number of the connection.
    pub(super) scores: HashMap<usize, u32>,
    /// How many messages came of each command.
    pub(super) received: HashMap<Command, u64>,
    lines: HashMap<u64, Registered>,
    /// The first lines of associations, by what those are called.
    pub(super) associations: HashMap<AssociationId, u64>,
    next_line: u64,
    /// How many connections of peers were accepted.
    accepted: usize,
    /// The far ends of connections that another node is about to make to join us.
    joining: HashSet<SocketAddr>,
    /// Readers and floods.
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Registered {
    line: Arc<Line>,
    established: bool,
    joined: bool,
}

/// Who announced a transaction that is not here yet, and which of them was asked for it.
#[derive(Debug)]
pub(super) struct Asked {
    /// The lines that announced it, in the order they did.
    pub(super) announcers: Vec<u64>,
    /// The place of the one that was asked last; those before it failed.
    pub(super) at: usize,
    pub(super) since: Instant,
}

/// A transaction to be announced, and which lines know it already.
#[derive(Debug)]
pub(super) struct News {
    pub(super) transaction: Transaction,
    /// What it pays, in satoshis for 1,000 bytes.
    pub(super) fee_rate: i64,
    pub(super) from: Option<u64>,
    pub(super) announcers: Vec<u64>,
}

impl Asked {
    pub(super) fn is_asked(&self, line: u64) -> bool {
        self.announcers.get(self.at) == Some(&line)
    }
}

impl Node {
    pub(super) fn new(config: TestNodeConfig, address: SocketAddr, chain: Chain) -> Self {
        let switches = Arc::new(Switches::default());
        switches.set_latency(config.latency);
        let mut pool = Pool::new(&config);
        if config.checks_inputs {
            // The coinbases can be spent.
            let hashes = (0..=chain.height()).filter_map(|height| chain.hash_at(height));
            hashes.filter_map(|hash| chain.block(&hash)).for_each(|block| pool.block_joined(&block));
        }
        let world = World {
            chain,
            pool,
            asked: HashMap::new(),
            overlooked: HashMap::new(),
            fee_rate: config.fee_rate,
            datarefs: HashMap::new(),
            offered: HashMap::new(),
            double_spends: HashSet::new(),
            scores: HashMap::new(),
            received: HashMap::new(),
            lines: HashMap::new(),
            associations: HashMap::new(),
            next_line: 0,
            accepted: 0,
            joining: HashSet::new(),
            threads: Vec::new(),
        };
        let magic = config.network.magic();
        Self { config, magic, address, switches, world: Mutex::new(world), changed: Condvar::new() }
    }

    /// The accepting thread.
    pub(super) fn accept_on(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.switches.is_stopped() {
                return;
            }
            match accepted {
                // The stream is dropped, and so closed without a byte.
                Ok(_) if self.switches.is_refusing() => {}
                Ok((stream, remote)) => {
                    if let Err(error) = self.open(stream, remote, Link::Inbound) {
                        log::warn!(target: LOG, "{remote}: cannot be served: {error}");
                    }
                }
                Err(error) => {
                    log::warn!(target: LOG, "accept: {error}");
                    // Out of file descriptors, most likely: asking again at once would only burn the core.
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    /// Begins to serve a connection; returns its number.
    pub(super) fn open(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr, link: Link) -> io::Result<u64> {
        let mut world = self.world.lock();
        if self.switches.is_stopped() {
            return Err(io::Error::other("the node is stopped"));
        }
        let settings = self.settings(world.chain.height());
        let nonce = RandomState::new().build_hasher().finish();
        let limits = settings.payload_limits();
        let proto = Connection::new(Arc::new(settings), link, remote, nonce, None, now(), unix());
        let id = world.next_line;
        world.next_line += 1;
        let is_peer = link == Link::Inbound && !world.joining.contains(&remote);
        let whom = Whom { line: id, accepted: is_peer.then_some(world.accepted) };
        world.accepted += usize::from(is_peer);
        let line = Line::new(whom, stream, remote, self.magic, proto, Arc::clone(&self.switches))?;
        let session = Session::new(Arc::clone(self), Arc::clone(&line), link, limits);
        let reader = thread::Builder::new().name("testnode-read".to_owned()).spawn(move || session.run())?;
        world.keep_thread(reader);
        world.lines.insert(id, Registered { line, established: false, joined: link == Link::Outbound });
        Ok(id)
    }

    fn settings(&self, height: u32) -> Settings {
        Settings {
            magic: self.magic,
            user_agent: self.config.user_agent.clone(),
            services: self.services(),
            start_height: i32::try_from(height).unwrap_or(i32::MAX),
            relay: true,
            max_recv_payload_length: self.config.max_recv_payload_length,
            streams: self.config.streams,
            // Whatever a block's size is, the node takes it.
            stream_threshold: u64::MAX,
            handshake_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(120),
            ping_timeout: NODE_TIMEOUT,
            stall_timeout: NODE_TIMEOUT,
        }
    }

    fn services(&self) -> Services {
        let services = Services::NETWORK | Services::BITCOIN_CASH;
        if self.config.bloom { services | Services::BLOOM } else { services }
    }

    /// Notes that a connection's handshake is done.
    pub(super) fn established(&self, line: &Arc<Line>) -> io::Result<()> {
        // Before the connection counts: it is idle, if it is to be, for whoever sees it.
        let floods = self.switches.faults.establish(line.whom);
        let mut world = self.world.lock();
        let joining = world.joining.remove(&line.remote);
        if let Some(registered) = world.lines.get_mut(&line.whom.line) {
            registered.established = true;
            registered.joined |= joining;
        }
        self.changed.notify_all();
        drop(world);
        floods.into_iter().try_for_each(|flood| self.flood(line, flood))
    }

    /// Begins to flood a line.
    pub(super) fn flood(&self, line: &Arc<Line>, flood: Flood) -> io::Result<()> {
        let line = Arc::clone(line);
        let thread = thread::Builder::new().name("testnode-flood".to_owned()).spawn(move || flood.run(&line))?;
        self.world.lock().keep_thread(thread);
        Ok(())
    }

    /// Forgets a connection that ended; what it was asked for is asked of others.
    pub(super) fn closed(&self, line: &Line) {
        self.switches.faults.forget(line.whom.line);
        let mut world = self.world.lock();
        world.lines.remove(&line.whom.line);
        world.associations.retain(|_, first| *first != line.whom.line);
        let unanswered: Vec<Txid> =
            world.asked.iter().filter(|(_, asked)| asked.is_asked(line.whom.line)).map(|(txid, _)| *txid).collect();
        let asked: Vec<_> = unanswered.into_iter().filter_map(|txid| world.ask_another(&txid)).collect();
        self.changed.notify_all();
        drop(world);
        for (line, txid) in asked {
            line.send_now(&Message::GetData(vec![Inventory::transaction(txid)]));
        }
    }

    /// All connections with a finished handshake; those of joined nodes only if asked for.
    pub(super) fn lines(&self, joined_too: bool) -> Vec<Arc<Line>> {
        let world = self.world.lock();
        let lines = world.lines.values().filter(|line| line.established && (joined_too || !line.joined));
        lines.map(|registered| Arc::clone(&registered.line)).collect()
    }

    /// Makes every waiting thread look at the switches again.
    pub(super) fn wake_lines(&self) {
        let lines: Vec<_> = self.world.lock().lines.values().map(|line| Arc::clone(&line.line)).collect();
        lines.iter().for_each(|line| line.wake());
    }

    /// Tells all connections of new transactions, except those who know them.
    pub(super) fn announce_transactions(&self, news: &[News]) {
        if news.is_empty() {
            return;
        }
        for line in self.lines(true).into_iter().filter(|line| !line.is_silent()) {
            let id = line.whom.line;
            let unknown = news.iter().filter(|news| news.from != Some(id) && !news.announcers.contains(&id));
            line.announce(unknown, false);
        }
    }

    /// Announces orphans that were taken in, and rejects those that were not to whom they came from.
    pub(super) fn settle_orphans(&self, adopted: Vec<(Orphan, Verdict)>, news: &mut Vec<News>) {
        for (Orphan { transaction, fee_rate, from }, verdict) in adopted {
            match verdict {
                Verdict::Accepted => news.push(News { transaction, fee_rate, from, announcers: Vec::new() }),
                Verdict::Rejected(code, reason, _) => {
                    let world = self.world.lock();
                    let line = from.and_then(|id| world.lines.get(&id)).map(|line| Arc::clone(&line.line));
                    drop(world);
                    let hash = Some(*transaction.txid().as_wire());
                    let (message, reason) = (Command::TX.as_str().into(), reason.into());
                    if let Some(line) = line {
                        line.send_now(&Reject { message, code, reason, hash }.into());
                    }
                }
                // It waits on, or is a rival of one that came meanwhile.
                Verdict::Orphaned(_) | Verdict::Dropped => {}
            }
        }
    }

    /// Tells all connections of blocks that joined the active chain, in the way each asked for.
    pub(super) fn announce_blocks(&self, joined: &[BlockHash]) {
        let Some(tip) = joined.last() else { return };
        if self.switches.is_syncing() {
            return;
        }
        let lines: Vec<_> = self.lines(true).into_iter().filter(|line| !line.is_silent()).collect();
        let world = self.world.lock();
        // Decided and queued in one go, or a header could overtake the one before it.
        lines.iter().for_each(|line| world.queue_announcement(line, joined, tip));
        drop(world);
        for line in lines {
            line.flush();
            if let Some(second) = line.second() {
                second.flush();
            }
        }
    }

    /// Takes note of blocks that were added one after the other; announces those that joined the active chain.
    pub(super) fn after_blocks(&self, added: impl IntoIterator<Item = Added>) {
        let mut announced = Vec::new();
        let mut world = self.world.lock();
        let World { chain, pool, fee_rate, .. } = &mut *world;
        for added in added {
            let Added::Tip { left, joined } = added else { continue };
            let block = |hash: &BlockHash| chain.block(hash).expect("blocks are never forgotten");
            left.iter().for_each(|hash| pool.block_left(&block(hash), *fee_rate));
            joined.iter().for_each(|hash| pool.block_joined(&block(hash)));
            announced.extend(joined);
        }
        self.changed.notify_all();
        drop(world);
        self.announce_blocks(&announced);
    }

    /// Ends the connections of all peers.
    pub(super) fn drop_peers(&self) {
        let mut world = self.world.lock();
        let World { lines, joining, .. } = &mut *world;
        let dropped: Vec<_> =
            lines.extract_if(|_, line| !line.joined && !joining.contains(&line.line.remote)).collect();
        self.changed.notify_all();
        drop(world);
        dropped.iter().for_each(|(_, line)| line.line.close());
    }

    /// Links this node to another one, as its peer.
    pub(super) fn join(self: &Arc<Self>, other: &Self) -> io::Result<()> {
        if self.address == other.address {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a node cannot join itself"));
        }
        let deadline = now() + JOIN_TIMEOUT;
        let stream = TcpStream::connect_timeout(&other.address, JOIN_TIMEOUT)?;
        let local = stream.local_addr()?;
        // Nothing is sent before the other one knows who calls.
        other.world.lock().joining.insert(local);
        let id = self.open(stream, other.address, Link::Outbound)?;
        let ours = self.wait(deadline, |world| world.lines.get(&id).is_none_or(|line| line.established));
        let theirs = ours
            && other.wait(deadline, |world| {
                world.lines.values().any(|line| line.line.remote == local && line.established)
            });
        other.world.lock().joining.remove(&local);
        if theirs && self.world.lock().lines.contains_key(&id) {
            return Ok(());
        }
        if let Some(line) = self.world.lock().lines.get(&id) {
            line.line.close();
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the nodes did not shake hands"))
    }

    /// Waits until `done` or the deadline; says which.
    pub(super) fn wait(&self, deadline: Instant, mut done: impl FnMut(&mut World) -> bool) -> bool {
        let mut world = self.world.lock();
        loop {
            if done(&mut world) {
                return true;
            }
            if self.changed.wait_until(&mut world, deadline).timed_out() {
                return done(&mut world);
            }
        }
    }

    /// Ends everything and waits for all threads but the accepting one.
    pub(super) fn end(&self) {
        let (lines, threads) = {
            let mut world = self.world.lock();
            let lines: Vec<_> = world.lines.values().map(|line| Arc::clone(&line.line)).collect();
            (lines, std::mem::take(&mut world.threads))
        };
        lines.iter().for_each(|line| line.close());
        for thread in threads {
            // A panic is printed by its thread; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl World {
    pub(super) fn connections(&self) -> usize {
        self.lines.values().filter(|line| line.established && !line.joined).count()
    }

    /// The first line of an association.
    pub(super) fn first_line(&self, association: &AssociationId) -> Option<Arc<Line>> {
        let registered = self.lines.get(self.associations.get(association)?)?;
        Some(Arc::clone(&registered.line))
    }

    /// Keeps a thread, to be joined at the end, and lets go of those that have ended.
    fn keep_thread(&mut self, thread: JoinHandle<()>) {
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
    }

    /// Gives a request that got no answer to another one who announced the transaction; `None` if there is none.
    pub(super) fn ask_another(&mut self, txid: &Txid) -> Option<(Arc<Line>, Txid)> {
        let asked = self.asked.get_mut(txid)?;
        while asked.at + 1 < asked.announcers.len() {
            asked.at += 1;
            if let Some(registered) = self.lines.get(&asked.announcers[asked.at]) {
                asked.since = now();
                return Some((Arc::clone(&registered.line), *txid));
            }
        }
        self.asked.remove(txid);
        None
    }

    fn queue_announcement(&self, line: &Line, joined: &[BlockHash], tip: &BlockHash) {
        let mut state = line.state();
        if state.closed || !state.peer.hears_of_height(self.chain.height()) {
            return;
        }
        let message = match self.announcement(&state.peer, joined, line.whom.line) {
            Some(message) => {
                state.peer.best = *tip;
                message
            }
            None => Message::Inv(vec![Inventory::block(*tip)]),
        };
        let frame = message.to_frame(line.magic);
        match &state.second {
            Some(second) if stream_of(&message) == Stream::Data1 => second.state().proto.send(now(), frame),
            _ => state.proto.send(now(), frame),
        }
    }

    /// The blocks in the form the peer asked for; `None` where a node falls back to an `inv` of the tip (section 4.3).
    fn announcement(&self, peer: &Peer, joined: &[BlockHash], line: u64) -> Option<Message> {
        let headers: Vec<_> = joined.iter().filter_map(|hash| self.chain.header(hash)).collect();
        let first = headers.first()?;
        let knows_parent = self.chain.is_active(&peer.best)
            && self.chain.height_of(&peer.best) >= self.chain.height_of(&first.previous);
        if headers.len() > MAX_ANNOUNCED_HEADERS || !knows_parent {
            return None;
        }
        if let [hash] = joined
            && peer.compact
            && peer.version >= COMPACT_VERSION
        {
            return self.chain.block(hash).map(|block| forms::compact(&block, line));
        }
        if peer.headers {
            return Some(Message::Headers(headers));
        }
        if !peer.enriched {
            return None;
        }
        let blocks = joined.iter().filter_map(|hash| self.chain.block(hash));
        let items = blocks.map(|block| forms::enriched(&block, block.hash() == self.chain.tip()));
        let items = forms::up_to_limit(items, peer.payload_limit);
        let fits = items.len() == joined.len() && peer.payload_limit > 0;
        fits.then_some(Message::HdrsEn(items))
    }
}

/// `-p2ptimeout` of the node: for a pong, and for a peer that takes nothing.
const NODE_TIMEOUT: Duration = Duration::from_secs(20 * 60);
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// `SHORT_IDS_BLOCKS_VERSION` of the node, with which it sends compact blocks unasked.
const COMPACT_VERSION: i32 = 70_015;
/// `MAX_BLOCKS_TO_ANNOUNCE` of the node.
const MAX_ANNOUNCED_HEADERS: usize = 8;
