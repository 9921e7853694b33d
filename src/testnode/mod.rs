//! A small Bitcoin node in the same process, to test programs with (feature `testnode`).
//!
//! It has a chain of its own with real proof of work, a mempool, and answers every message over real loopback sockets as
//! SV Node 1.2.2 does, in milliseconds less: headers, plain and enriched; blocks, whole, filtered, compact or their single
//! transactions; transactions, addresses, pings. It announces what is new as each peer asked for it, keeps bloom and fee
//! filters, and gives points, rejects and hangs up as a node does. And it fails on command: it refuses, goes silent, drops connections, stops reading, answers late, sends garbage, floods; and any
//! [`Fault`] on the connection, and to the message, of your choice. A [`GeneratedBlock`] of any size takes hardly any memory.
//!
//! ```
//! use std::time::Duration;
//! use conduit::testnode::{TestNode, TestNodeConfig, transaction};
//!
//! # fn main() -> std::io::Result<()> {
//! let node = TestNode::start(TestNodeConfig::default().blocks(100))?;
//! let other = TestNode::start(TestNodeConfig::default())?;
//! node.join(&other)?; // 90 blocks behind, the other one fetches them now
//! assert!(other.wait_for_height(100, Duration::from_secs(10)));
//!
//! let payment = transaction(1, 250);
//! assert!(node.submit(payment.clone()));
//! assert!(other.wait_for_transaction(payment.txid(), Duration::from_secs(10)));
//!
//! let hashes = other.mine(1); // with the payment in it
//! assert!(node.wait_for_height(101, Duration::from_secs(10)));
//! assert_eq!(node.block_hash(101), Some(hashes[0]));
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//!
//! It checks no scripts, and unless [told to](TestNodeConfig::checks_inputs) not whether what is spent exists, and so accepts
//! any transaction that is well formed, spends nothing twice and is no coinbase; what transactions pay is what it [is told](TestNode::set_fee_rate). It is in initial block
//! download only [on command](TestNode::initial_download), and takes every tip for recent.
//!
//! It serves a transaction for as long as it knows it where a node does so for 15 minutes after relaying it, asks the next
//! announcer at once where a node waits for a minute, and answers `mempool` at once where a node waits for its next turn.
//!
//! It has no associations, so that no stream joins one, and no identities of miners: `authresp` is always refused,
//! `revokemid` ignored, and `datareftx` there is for transactions it [is told of](TestNode::add_dataref). It bans no
//! address, whatever it is.
//!
//! It is built on the same pure layers as the library, with sockets and threads of its own: two threads at most for each
//! connection, so it is no model of a server for thousands of peers.

mod chain;
mod config;
mod cutter;
mod faults;
mod flood;
mod forms;
mod generated;
mod generator;
mod line;
mod node;
mod notice;
mod orphans;
mod peer;
mod pool;
mod session;
mod sieve;
mod source;
mod switches;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::message::{
    Block, BlockHeader, Message, OutPoint, RejectCode, Transaction, TransactionInput, TransactionOutput,
};
use crate::wire::{BlockHash, Command, Txid, compact_size_len, sha256d};
use chain::{Chain, OP_TRUE};
pub use config::TestNodeConfig;
pub use faults::{Fault, FaultKind};
pub use flood::Flood;
pub use generated::{BlockPlan, GeneratedBlock, GeneratedReader};
use node::{News, Node};
pub use notice::double_spend_notice;
use pool::Verdict;

/// A small node on a loopback address; see the [module](self) for what it does.
///
/// All methods may be called from any thread at any moment. Unless their description says so, they wait for nothing but a
/// lock that is held for moments. Dropping it stops it, as [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct TestNode {
    node: Arc<Node>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// Start and end.
impl TestNode {
    /// Starts a node, which listens when this returns.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the address is not one of `127.0.0.0/8` or `::1`, or if the
    /// network is a custom one with a first block of its own; else what the system says about the socket or the thread.
    pub fn start(config: TestNodeConfig) -> io::Result<Self> {
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
        if !config.ip.is_loopback() {
            return Err(invalid("a test node listens at loopback addresses only"));
        }
        let chain = Chain::new(&config.network, config.blocks)
            .ok_or_else(|| invalid("the first block of this network is not known"))?;
        let listener = TcpListener::bind((config.ip, config.port))?;
        let node = Arc::new(Node::new(config, listener.local_addr()?, chain));
        let accepting = thread::Builder::new().name("testnode-accept".to_owned()).spawn({
            let node = Arc::clone(&node);
            move || node.accept_on(&listener)
        })?;
        Ok(Self { node, accepting: Mutex::new(Some(accepting)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.node.address
    }

    /// Stops listening, ends all connections and waits for all its threads to end, which takes milliseconds.
    ///
    /// A second call does nothing. What the node knows can still be asked for.
    pub fn stop(&self) {
        self.node.switches.set_stopped(true);
        let mut accepting = self.accepting.lock();
        if let Some(thread) = accepting.take() {
            // A call that nobody expects wakes the accepting thread. If none gets through, the thread is left alone.
            let woken =
                (0..WAKE_ATTEMPTS).any(|_| TcpStream::connect_timeout(&self.node.address, WAKE_TIMEOUT).is_ok());
            if woken {
                // A panic of the thread is printed by itself; there is nothing to add.
                let _ = thread.join();
            }
        }
        self.node.end();
    }
}

/// Its chain.
impl TestNode {
    /// The height of the newest block; the first block has height 0.
    #[must_use]
    pub fn tip_height(&self) -> u32 {
        self.node.world.lock().chain.height()
    }

    /// The hash of the block at this height of the active chain.
    #[must_use]
    pub fn block_hash(&self, height: u32) -> Option<BlockHash> {
        self.node.world.lock().chain.hash_at(height)
    }

    /// The block at this height of the active chain, copied.
    #[must_use]
    pub fn block(&self, height: u32) -> Option<Block> {
        let chain = &self.node.world.lock().chain;
        chain.block(&chain.hash_at(height)?)
    }

    /// The header at this height of the active chain.
    #[must_use]
    pub fn header(&self, height: u32) -> Option<BlockHeader> {
        let chain = &self.node.world.lock().chain;
        chain.header(&chain.hash_at(height)?)
    }

    /// Mines `count` blocks, the mempool into the first of them, and announces them.
    ///
    /// A peer that is known to have the block before gets them as it asked: one as `cmpctblock`, up to eight as `headers` or
    /// `hdrsen`; any other gets an `inv` of the tip. The blocks follow from the chain and the transactions alone, so two nodes that have the same
    /// of both mine the same.
    pub fn mine(&self, count: u32) -> Vec<BlockHash> {
        let pool: Vec<_> = self.node.world.lock().pool.list().into_iter().cloned().collect();
        let mut transactions = Some(pool);
        self.mine_blocks((0..count).map(|_| transactions.take().unwrap_or_default()))
    }

    /// Mines and announces one block with exactly these transactions behind its coinbase, whatever they are.
    ///
    /// One that is given twice is mined once.
    pub fn mine_with(&self, transactions: Vec<Transaction>) -> BlockHash {
        self.mine_blocks(std::iter::once(transactions))[0]
    }

    /// Mines `count` empty blocks on the one at `height`, beside those that follow it; empty if there is no such block.
    ///
    /// Once the branch is longer than the chain, it is the chain, and announced: a reorganisation. The transactions of
    /// the blocks that left go back to the mempool.
    pub fn mine_branch(&self, height: u32, count: u32) -> Vec<BlockHash> {
        let branch = self.node.world.lock().chain.mine_branch(height, count);
        let Some((hashes, added)) = branch else { return Vec::new() };
        self.node.after_blocks(added);
        hashes
    }

    /// Serves this block from now on to whoever asks for it by its hash, making it as it leaves.
    ///
    /// It is no part of the chain: it is neither announced nor in any `headers`. Compact, too, it is sent whole, and
    /// filtered not at all. A peer that does not read holds up no other, and costs less than a megabyte, unless there
    /// is a [latency](Self::set_latency), which holds back what is made for so long.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use conduit::testnode::{GeneratedBlock, TestNode, TestNodeConfig};
    ///
    /// let nodes = [TestNode::start(TestNodeConfig::default())?, TestNode::start(TestNodeConfig::default())?];
    /// for block in GeneratedBlock::several(1, 10, 1_000..=1_000_000) {
    ///     nodes.iter().for_each(|node| node.offer(&block));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn offer(&self, block: &GeneratedBlock) {
        self.node.world.lock().offered.insert(block.hash(), block.clone());
    }

    /// Waits until the active chain is at least this high; false if it is not at the end of `timeout`.
    #[must_use]
    pub fn wait_for_height(&self, height: u32, timeout: Duration) -> bool {
        self.node.wait(deadline(timeout), |world| world.chain.height() >= height)
    }

    fn mine_blocks(&self, blocks: impl Iterator<Item = Vec<Transaction>>) -> Vec<BlockHash> {
        let mut hashes = Vec::new();
        let mut added = Vec::new();
        for transactions in blocks {
            let (hash, what) = self.node.world.lock().chain.mine(transactions);
            hashes.push(hash);
            added.push(what);
        }
        self.node.after_blocks(added);
        hashes
    }
}

/// Its mempool.
impl TestNode {
    /// The transactions in the mempool, in the order they came.
    #[must_use]
    pub fn mempool(&self) -> Vec<Txid> {
        self.node.world.lock().pool.list().into_iter().map(Transaction::txid).collect()
    }

    /// How many transactions are in the mempool.
    #[must_use]
    pub fn mempool_len(&self) -> usize {
        self.node.world.lock().pool.len()
    }

    /// Waits until the mempool has at least this many transactions; false if it has not at the end of `timeout`.
    #[must_use]
    pub fn wait_for_mempool(&self, count: usize, timeout: Duration) -> bool {
        self.node.wait(deadline(timeout), |world| world.pool.len() >= count)
    }

    /// Whether the mempool has the transaction.
    #[must_use]
    pub fn contains(&self, txid: Txid) -> bool {
        self.node.world.lock().pool.contains(&txid)
    }

    /// Waits until the mempool has the transaction; false if it has not at the end of `timeout`.
    #[must_use]
    pub fn wait_for_transaction(&self, txid: Txid, timeout: Duration) -> bool {
        self.node.wait(deadline(timeout), |world| world.pool.contains(&txid))
    }

    /// Gives it a transaction as if it came from elsewhere: all connections that want transactions hear of it.
    ///
    /// False if the mempool did not take it, for whatever reason it would not take it from a peer.
    pub fn submit(&self, transaction: Transaction) -> bool {
        let txid = transaction.txid();
        let mut world = self.node.world.lock();
        let fee_rate = world.fee_rate;
        let accepted = world.pool.offer(&transaction, fee_rate, None) == Verdict::Accepted;
        let adopted = if accepted { world.pool.adopt(txid) } else { Vec::new() };
        let asked = world.asked.remove(&txid);
        self.node.changed.notify_all();
        drop(world);
        if accepted {
            let announcers = asked.map(|asked| asked.announcers).unwrap_or_default();
            let mut news = vec![News { transaction, fee_rate, from: None, announcers }];
            self.node.settle_orphans(adopted, &mut news);
            self.node.announce_transactions(&news);
        }
        accepted
    }

    /// While on, does not ask for this transaction when peers announce it, but [counts](Self::overlooked) that. It takes it
    /// all the same if it comes.
    ///
    /// So it asks when a test says so, late, twice or without having been told: by [`send`](Self::send) of a `getdata`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use conduit::message::{Inventory, Message};
    /// # use conduit::testnode::{TestNode, TestNodeConfig, transaction};
    /// # fn main() -> std::io::Result<()> {
    /// # let node = TestNode::start(TestNodeConfig::default())?;
    /// let payment = transaction(1, 250).txid();
    /// node.overlook(payment, true);
    /// // Announced here, and then:
    /// # let announced =
    /// node.wait_for_overlooked(payment, 1, Duration::from_millis(10));
    /// # assert!(!announced);
    /// node.send(&Message::GetData(vec![Inventory::transaction(payment)]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn overlook(&self, txid: Txid, on: bool) {
        let overlooked = &mut self.node.world.lock().overlooked;
        if on {
            overlooked.entry(txid).or_insert(0);
        } else {
            overlooked.remove(&txid);
        }
    }

    /// How many times peers announced this transaction since it is [overlooked](Self::overlook).
    #[must_use]
    pub fn overlooked(&self, txid: Txid) -> u64 {
        self.node.world.lock().overlooked.get(&txid).copied().unwrap_or(0)
    }

    /// Waits until a transaction that is [overlooked](Self::overlook) was announced so many times since; false if it was
    /// not within `timeout`.
    #[must_use]
    pub fn wait_for_overlooked(&self, txid: Txid, count: u64, timeout: Duration) -> bool {
        self.node.wait(deadline(timeout), |world| world.overlooked.get(&txid).is_some_and(|n| *n >= count))
    }

    /// Takes all transactions that come from now on to pay this much for 1,000 bytes.
    ///
    /// The node cannot know: it has no unspent outputs. Peers whose `feefilter` is above that do not hear of them.
    pub fn set_fee_rate(&self, satoshis_per_kilobyte: i64) {
        self.node.world.lock().fee_rate = satoshis_per_kilobyte;
    }

    /// Has `datareftx` for a transaction of its chain from now on; false if the active chain does not hold it.
    ///
    /// A real node has them for transactions that a miner's coinbase refers to. Without any, `getdata` for one is answered
    /// with `notfound`.
    pub fn add_dataref(&self, txid: Txid) -> bool {
        let mut world = self.node.world.lock();
        let proven = world.chain.block_with(&txid).and_then(|block| forms::proven(&block, &txid));
        let is_there = proven.is_some();
        world.datarefs.extend(proven.map(|proven| (txid, proven)));
        is_there
    }

    /// Rejects every new transaction from now on with this code and reason; `None` ends that.
    ///
    /// As with a real node, what is rejected once is not looked at again before the next block or the next call of this.
    pub fn reject_transactions(&self, with: Option<(RejectCode, &str)>) {
        let with = with.map(|(code, reason)| (code, reason.to_owned()));
        self.node.world.lock().pool.refuse_all(with);
    }

    /// Rejects this transaction if it comes.
    pub fn reject_transaction(&self, txid: Txid, code: RejectCode, reason: &str) {
        self.node.world.lock().pool.refuse(txid, code, reason.to_owned());
    }
}

/// Its connections.
impl TestNode {
    /// How many peers have finished the handshake; joined nodes do not count.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.node.world.lock().connections()
    }

    /// Waits until exactly `count` peers have finished the handshake; false if that does not happen within `timeout`.
    #[must_use]
    pub fn wait_for_connections(&self, count: usize, timeout: Duration) -> bool {
        self.node.wait(deadline(timeout), |world| world.connections() == count)
    }

    /// How many messages of this command came, on all connections since the start, joined nodes' included.
    ///
    /// A message counts when it is complete, before it is acted upon, and also if it is ignored.
    #[must_use]
    pub fn received(&self, command: Command) -> u64 {
        self.node.world.lock().received.get(&command).copied().unwrap_or(0)
    }

    /// Waits until at least `count` messages of this command came; false if they did not within `timeout`.
    #[must_use]
    pub fn wait_for_received(&self, command: Command, count: u64, timeout: Duration) -> bool {
        self.node.wait(deadline(timeout), |world| world.received.get(&command).copied().unwrap_or(0) >= count)
    }

    /// The misbehaviour score of a connection, also after its end.
    ///
    /// Connections are numbered as in [`Fault::connection`](Fault#structfield.connection). At 100 the node ends it; it bans
    /// nobody, as a real one does not ban loopback addresses.
    #[must_use]
    pub fn score(&self, connection: usize) -> u32 {
        self.node.world.lock().scores.get(&connection).copied().unwrap_or(0)
    }

    /// While on, the node is in initial block download, as a real one is until its newest block is recent.
    ///
    /// It does not answer `getheaders` and `gethdrsen`, takes no notice of transactions in `inv`, announces no blocks, and
    /// sends a `feefilter` that nothing passes; with the end of it one of [its own](Self::set_fee_filter). Everything else goes on.
    pub fn initial_download(&self, on: bool) {
        self.node.switches.set_syncing(on);
        self.node.lines(true).iter().for_each(|line| line.tell_fee_filter());
    }

    /// Wants to hear only of transactions that pay this much for 1,000 bytes: tells its peers so by `feefilter`, and later
    /// ones right after the handshake. It is 0 in the beginning, which needs no word.
    ///
    /// It takes transactions that pay less all the same; see [`reject_transactions`](Self::reject_transactions).
    pub fn set_fee_filter(&self, satoshis_per_kilobyte: i64) {
        self.node.switches.set_fee_filter(satoshis_per_kilobyte);
        self.node.lines(true).iter().for_each(|line| line.tell_fee_filter());
    }

    /// Sends a message to all peers, one after the other; returns to how many. Joined nodes get nothing.
    ///
    /// It waits while a peer does not take what is queued for it, a megabyte at most: a flood is as fast as its slowest
    /// reader, and memory stays bounded.
    pub fn send(&self, message: &Message) -> usize {
        let frame = message.to_frame(self.node.magic);
        self.node.lines(false).into_iter().filter(|line| line.send(frame.clone())).count()
    }

    /// Sends bytes as they are to all peers, between two messages; waits and counts as [`send`](Self::send) does.
    ///
    /// They may be several frames, broken ones, or none at all.
    pub fn send_bytes(&self, bytes: &[u8]) -> usize {
        self.node.lines(false).into_iter().filter(|line| line.send_bytes(bytes)).count()
    }

    /// Links this node to another one, so that each hears of the other's transactions and blocks and fetches them.
    ///
    /// It returns when the handshake between them is done. The one with the shorter chain fetches the other's blocks
    /// from then on; mempools are not compared. The link survives [`drop_connections`](Self::drop_connections).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a node and itself, [`TimedOut`](io::ErrorKind::TimedOut) after
    /// 10 s, as with one that is silent or refuses; else what the system says about the connection.
    pub fn join(&self, other: &Self) -> io::Result<()> {
        self.node.join(&other.node)
    }
}

/// Its faults.
impl TestNode {
    /// Holds back everything it sends for this long, from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.node.switches.set_latency(latency);
    }

    /// While on, accepts connections and closes them at once without a byte, as a node that bans. Others live on.
    pub fn refuse(&self, on: bool) {
        self.node.switches.set_refusing(on);
    }

    /// While on, says nothing, to joined nodes neither: what comes in is counted and thrown away, pings included.
    ///
    /// A handshake begun in silence fails; connections made before go on when it ends. This is
    /// [`FaultKind::Silence`] on every connection.
    pub fn silence(&self, on: bool) {
        let silence = Fault::new(FaultKind::Silence);
        // Never twice.
        self.node.switches.faults.end(|fault| *fault == silence);
        if on {
            self.inject(silence);
        }
    }

    /// Throws away every message of this command that comes in, after counting it: [`FaultKind::Ignore`].
    pub fn ignore(&self, command: Command) {
        self.heed(command);
        self.inject(Fault::new(FaultKind::Ignore).command(command));
    }

    /// Ends what [`ignore`](Self::ignore) began.
    pub fn heed(&self, command: Command) {
        let ignored = Fault::new(FaultKind::Ignore).command(command);
        self.node.switches.faults.end(|fault| *fault == ignored);
    }

    /// Has a fault from now on.
    pub fn inject(&self, fault: Fault) {
        self.node.switches.faults.inject(fault);
    }

    /// Ends all faults that [`inject`](Self::inject), [`ignore`](Self::ignore) and [`silence`](Self::silence) began.
    ///
    /// Floods under way go on, and so does the time of what is delayed.
    pub fn clear_faults(&self) {
        self.node.switches.faults.end(|_| true);
    }

    /// Begins to flood all peers; returns how many. Joined nodes get nothing.
    ///
    /// It waits for nothing. Each peer has a flood of its own, beside what the node says otherwise.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub fn flood(&self, flood: Flood) -> io::Result<usize> {
        let lines = self.node.lines(false);
        lines.iter().try_for_each(|line| self.node.flood(line, flood))?;
        Ok(lines.len())
    }

    /// While on, reads nothing, so that the kernel's buffers fill and the peers' sends stall. It still sends.
    pub fn stop_reading(&self, on: bool) {
        self.node.switches.set_not_reading(on);
        self.node.wake_lines();
    }

    /// Ends all connections of peers at once and without a word; those of joined nodes stay. New ones are accepted.
    ///
    /// When it returns, none of them counts any more.
    pub fn drop_connections(&self) {
        self.node.drop_peers();
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A well-formed transaction of `len` bytes, 62 at least, that is the same for the same numbers and spends what no other
/// number's does.
///
/// Test nodes accept it, real ones do not know the output it spends.
///
/// ```
/// use conduit::testnode::transaction;
///
/// assert_eq!(transaction(7, 250).raw().len(), 250);
/// assert_eq!(transaction(7, 250), transaction(7, 250));
/// assert_ne!(transaction(7, 250), transaction(8, 250));
/// ```
#[must_use]
pub fn transaction(number: u64, len: usize) -> Transaction {
    let script_len = |len: usize| {
        (1..=9).find_map(|field| {
            let script = len.checked_sub(TRANSACTION_LEN + field)?;
            // Where no script gives the length, the next shorter one is taken.
            (compact_size_len(script as u64) <= field).then_some(script)
        })
    };
    let len = len.max(TRANSACTION_LEN + 1 + DATA_ONLY.len());
    let script_len = script_len(len).unwrap_or(DATA_ONLY.len());
    let rest = len - TRANSACTION_LEN - compact_size_len(script_len as u64) - script_len;
    let mut script_pubkey = DATA_ONLY.to_vec();
    script_pubkey.resize(script_len, 0);
    let previous_output = OutPoint { txid: Txid::from_wire(sha256d(&number.to_le_bytes())), index: 0 };
    Transaction::new(
        1,
        &[TransactionInput { previous_output, script_sig: &vec![0; rest], sequence: u32::MAX }],
        &[TransactionOutput { value: 0, script_pubkey: &script_pubkey }],
        0,
    )
}

/// A transaction that spends these outputs and pays `value` satoshis to whoever comes first, as coinbases here do.
///
/// ```
/// use conduit::message::OutPoint;
/// use conduit::testnode::{spend, transaction};
///
/// let parent = transaction(1, 100);
/// let child = spend(&[OutPoint { txid: parent.txid(), index: 0 }], 1);
/// assert_eq!(child.inputs().next().unwrap().previous_output.txid, parent.txid());
/// ```
#[must_use]
pub fn spend(outputs: &[OutPoint], value: i64) -> Transaction {
    let input = |&previous_output| TransactionInput { previous_output, script_sig: &[], sequence: u32::MAX };
    let inputs: Vec<_> = outputs.iter().map(input).collect();
    Transaction::new(1, &inputs, &[TransactionOutput { value, script_pubkey: &[OP_TRUE] }], 0)
}

#[expect(clippy::disallowed_methods, reason = "the node has threads of its own, which read the clock")]
fn now() -> Instant {
    Instant::now()
}

/// The instant this far ahead, or one that nobody waits for.
fn deadline(timeout: Duration) -> Instant {
    now() + timeout.min(YEAR)
}

/// The wall clock in Unix seconds.
#[expect(clippy::disallowed_methods, reason = "the node has threads of its own, which read the clock")]
fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

const LOG: &str = "conduit::testnode";
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const WAKE_ATTEMPTS: usize = 5;
const WAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// `OP_FALSE OP_RETURN`: an output that holds data and no money.
const DATA_ONLY: [u8; 2] = [0x00, 0x6a];
/// A transaction of one input and one output, without its scripts and the length of the second.
const TRANSACTION_LEN: usize = 59;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_have_the_length_asked_for() {
        for len in (62..700).chain(65_550..65_620) {
            assert_eq!(transaction(1, len).raw().len(), len);
        }
        assert_eq!(transaction(1, 0).raw().len(), 62);
    }
}
