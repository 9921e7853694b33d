//! `Conduit`, the handle that callers hold.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broadcast::{Broadcast, BroadcastOptions, Broadcasts, read_transaction};
use crate::config::Config;
use crate::download::{self, BlockOptions, BlockStream, Blocks, BlocksOptions, PendingBlock};
use crate::driver::{Shared, deadline_after, random_seed};
use crate::error::{
    AddPeersError, AddressError, BlockError, BroadcastError, ConfigError, RequestError, SendError, SendFailure,
    StartError, SubscribeError, WaitForPeersError,
};
use crate::message::Message;
use crate::peer::{BanInfo, PeerId, PeerInfo, ToPeerAddress};
use crate::pending::{Outcome, Pending};
use crate::queue::events::Events;
use crate::queue::message::Messages;
use crate::queue::outbound::budget::Wait;
use crate::request::{Request, RequestOptions};
use crate::stats::Stats;
use crate::watch::{Watch, Watching};
use crate::wire::{BlockHash, Command, SharedBytes, Txid};

/// A client of a Bitcoin SV network.
///
/// Clones are handles of the same conduit; when the last one is dropped, it shuts down. All methods may be called from
/// any thread at any time. Methods that wait have a deadline, from their arguments or the [`Config`], and end at once
/// when the conduit is shut down.
///
/// ```no_run
/// use conduit::{Conduit, Config, GetData, Network};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let conduit = Conduit::new(Config::new(Network::Main))?;
/// conduit.add_peers(["104.238.220.203:8333"])?;
/// conduit.start()?;
/// let block = conduit.send_request(GetData::block(Network::Main.genesis()))?;
/// println!("{} transactions", block.transaction_count());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Conduit {
    handle: Arc<Handle>,
}

/// Shuts the conduit down when the last of its owners is gone.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.shut_down(None);
    }
}

impl Conduit {
    /// Checks the settings; nothing runs yet.
    ///
    /// # Errors
    ///
    /// What the settings contradict.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self { handle: Arc::new(Handle { shared: Shared::new(config, random_seed()) }) })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Names peers that are kept connected from now on, or from the start.
    ///
    /// Text (`"1.2.3.4:8333"`, `"node.example:8333"`), pairs of host and port, and socket addresses name a peer; without
    /// a port it is the network's. A peer named twice keeps its identity. Without any, peers are found through the
    /// network's DNS seeds. Does not block.
    ///
    /// # Errors
    ///
    /// An address that is none, or more peers than [`max_peers`](Config#structfield.max_peers); none is added then.
    pub fn add_peers<A: ToPeerAddress>(
        &self,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Vec<PeerId>, AddPeersError> {
        let addresses = addresses.into_iter().map(|a| a.to_peer_address()).collect::<Result<_, _>>()?;
        self.shared().add_peers(addresses)
    }

    /// Keeps so many connections to one address from now on, or from the start; those there are count among them.
    ///
    /// Each is a peer of its own, with its own requests. An address that does not answer is dialled once at a time.
    ///
    /// # Errors
    ///
    /// As [`add_peers`](Self::add_peers).
    pub fn add_connections(&self, address: impl ToPeerAddress, count: usize) -> Result<Vec<PeerId>, AddPeersError> {
        self.shared().add_connections(address.to_peer_address()?, count)
    }

    /// Names the peer that is asked first while it is connected.
    ///
    /// When it is lost the best other takes over, with its outstanding requests, and gives way when it is back;
    /// [`MainPeerChanged`](crate::Event::MainPeerChanged) tells.
    ///
    /// # Errors
    ///
    /// As [`add_peers`](Self::add_peers).
    pub fn set_main_peer(&self, address: impl ToPeerAddress) -> Result<PeerId, AddPeersError> {
        self.shared().set_main_peer(address.to_peer_address()?)
    }

    /// The peer that is asked first now: the one set, the one that stands in for it, or, if none was set, the best.
    #[must_use]
    pub fn main_peer(&self) -> Option<PeerId> {
        self.shared().main_peer()
    }

    /// Starts the threads and dials the peers; a second call does nothing.
    ///
    /// # Errors
    ///
    /// The system refuses a thread, or the conduit is shut down.
    pub fn start(&self) -> Result<(), StartError> {
        self.shared().start()
    }

    /// Starts, and blocks until some thread shuts the conduit down.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn run(&self) -> Result<(), StartError> {
        self.start()?;
        self.shared().wait_for_shutdown();
        Ok(())
    }

    /// Starts, waits until every request that is queued has ended, and gives their outcomes in the order queued.
    ///
    /// Requests queued while it waits count too, so it ends when none is left. The conduit runs on.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn run_until_queue_empty(&self) -> Result<Vec<Outcome>, StartError> {
        self.shared().run_until_queue_empty()
    }

    /// Ends the conduit and joins its threads: every wait ends with an error that says so.
    ///
    /// What is queued for peers is dropped; [`shutdown_after_flush`](Self::shutdown_after_flush) sends it. Messages
    /// that arrived can still be taken. A second call, and one from a waker, does nothing more.
    pub fn shutdown(&self) {
        self.shared().shut_down(None);
    }

    /// Ends the conduit when connected peers have taken everything queued for them, or the time is over.
    ///
    /// A peer has taken everything when it closes its side in turn; one that does not makes this wait for the whole
    /// time. What peers still send is thrown away.
    pub fn shutdown_after_flush(&self, timeout: Duration) {
        self.shared().shut_down(Some(timeout));
    }

    /// Asks the best peers and blocks until the reply is there or the deadline over.
    ///
    /// The request goes to the next best peer when one is lost, does not have what is wanted, or does not answer in its
    /// share of the time.
    ///
    /// # Errors
    ///
    /// Why there is no reply.
    pub fn send_request<R: Request>(&self, request: R) -> Result<R::Reply, RequestError> {
        self.send_request_with(request, &RequestOptions::new())
    }

    /// As [`send_request`](Self::send_request), with a peer, time or number of attempts of its own.
    ///
    /// # Errors
    ///
    /// Why there is no reply.
    pub fn send_request_with<R: Request>(
        &self,
        request: R,
        options: &RequestOptions,
    ) -> Result<R::Reply, RequestError> {
        self.submit(request, options, true)?.wait()
    }

    /// The same, with the peer that answered.
    pub(crate) fn send_request_naming_peer<R: Request>(
        &self,
        request: R,
        options: &RequestOptions,
    ) -> (Option<PeerId>, Result<R::Reply, RequestError>) {
        match self.submit(request, options, true) {
            Ok(pending) => pending.wait_naming_peer(),
            Err(error) => (None, Err(error)),
        }
    }

    /// Queues a request, also before the start, and gives a handle to its reply. Does not block.
    ///
    /// # Errors
    ///
    /// The request makes no sense, too many are under way, or the conduit is shut down.
    pub fn send_request_nowait<R: Request>(&self, request: R) -> Result<Pending<R>, RequestError> {
        self.send_request_nowait_with(request, &RequestOptions::new())
    }

    /// As [`send_request_nowait`](Self::send_request_nowait), with a peer, time or number of attempts of its own.
    ///
    /// # Errors
    ///
    /// As [`send_request_nowait`](Self::send_request_nowait).
    pub fn send_request_nowait_with<R: Request>(
        &self,
        request: R,
        options: &RequestOptions,
    ) -> Result<Pending<R>, RequestError> {
        self.submit(request, options, false)
    }

    fn submit<R: Request>(
        &self,
        request: R,
        options: &RequestOptions,
        blocking: bool,
    ) -> Result<Pending<R>, RequestError> {
        let question = request.into_question().map_err(|error| self.shared().note_refused_request(error))?;
        let (id, slot) = self.shared().submit(question, options, blocking)?;
        Ok(Pending::new(slot, id, Arc::downgrade(self.shared())))
    }

    /// Asks the best peers for a block, and blocks until one begins to send it: its header and size are there then.
    ///
    /// The block is read from the stream, in constant memory whatever its size: see [`BlockStream`].
    ///
    /// ```no_run
    /// # fn example(conduit: &conduit::Conduit, hash: conduit::BlockHash) -> std::io::Result<()> {
    /// let mut file = std::fs::File::create("block.bin")?;
    /// std::io::copy(&mut conduit.block(hash)?, &mut file)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Why it does not come. A node that does not know a block says nothing, so that ends with
    /// [`TimedOut`](BlockError::TimedOut).
    pub fn block(&self, hash: BlockHash) -> Result<BlockStream, BlockError> {
        self.block_with(hash, &BlockOptions::new())
    }

    /// As [`block`](Self::block), with a size of chunks, a content, a proof, a peer or a time of its own.
    ///
    /// # Errors
    ///
    /// As [`block`](Self::block), and [`Invalid`](BlockError::Invalid) for options that contradict each other.
    pub fn block_with(&self, hash: BlockHash, options: &BlockOptions) -> Result<BlockStream, BlockError> {
        download::open(self.shared(), hash, options, true)?.wait()
    }

    /// Asks for a block, also before the start, and gives a handle that resolves when it begins to come. Does not block.
    ///
    /// # Errors
    ///
    /// As [`block_with`](Self::block_with), where it can be known at once.
    pub fn block_nowait(&self, hash: BlockHash, options: &BlockOptions) -> Result<PendingBlock, BlockError> {
        download::open(self.shared(), hash, options, false)
    }

    /// Fetches many blocks over all peers, and gives each once it is proven, in the order of the hashes.
    ///
    /// As [`blocks_with`](Self::blocks_with), with the options at their defaults.
    ///
    /// ```no_run
    /// # fn index(_: &conduit::message::Block) {}
    /// # fn example(conduit: &conduit::Conduit, hashes: Vec<conduit::BlockHash>) -> Result<(), conduit::BlockError> {
    /// use std::io::Read;
    /// use conduit::FetchedBlock;
    ///
    /// for block in conduit.blocks(hashes) {
    ///     match block.result? {
    ///         FetchedBlock::Whole(block) => index(&block),
    ///         FetchedBlock::Stream(mut stream) => {
    ///             while let Some(chunk) = stream.next_chunk()? {
    ///                 println!("{} bytes", chunk.bytes().len());
    ///             }
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn blocks<I: IntoIterator<Item = BlockHash>>(&self, hashes: I) -> Blocks<I::IntoIter> {
        self.blocks_with(hashes, BlocksOptions::new())
    }

    /// Fetches many blocks over all peers, within a window of bytes, in order or as they come.
    ///
    /// The result is an iterator that does the work as it is asked; its errors are those of single blocks, and it goes on
    /// behind them.
    pub fn blocks_with<I>(&self, hashes: I, options: BlocksOptions) -> Blocks<I::IntoIter>
    where
        I: IntoIterator<Item = BlockHash>,
    {
        Blocks::new(hashes.into_iter(), options, self.clone())
    }

    /// Queues a message for a peer, waiting while its outbound queue is full.
    ///
    /// `Ok` means queued, not delivered: the protocol has no receipts. A message for which nodes ban or disconnect is
    /// refused ([`SendFailure::Harmful`]); [`send_anyway`](Self::send_anyway) sends it. The wait ends when the peer takes bytes, or is
    /// dropped because it took none for [`stall_timeout`](Config#structfield.stall_timeout).
    ///
    /// Where a peer has two connections ([`streams`](Config#structfield.streams)) it takes the first one, whatever the
    /// message, so that what is sent stays in order.
    ///
    /// # Errors
    ///
    /// The message, and why it was not queued.
    pub fn send(&self, peer: PeerId, message: Message) -> Result<(), SendError<Message>> {
        self.send_waiting(peer, message, Wait::Forever)
    }

    /// Queues a message for a peer, waiting at most this long while its outbound queue is full.
    ///
    /// # Errors
    ///
    /// The message, and why it was not queued.
    pub fn send_timeout(
        &self,
        peer: PeerId,
        message: Message,
        timeout: Duration,
    ) -> Result<(), SendError<Message>> {
        self.send_waiting(peer, message, deadline_after(timeout).map_or(Wait::Forever, Wait::Until))
    }

    /// Queues a message for a peer if its outbound queue has room.
    ///
    /// # Errors
    ///
    /// The message, and why it was not queued.
    pub fn try_send(&self, peer: PeerId, message: Message) -> Result<(), SendError<Message>> {
        self.send_waiting(peer, message, Wait::No)
    }

    /// As [`send`](Self::send), also what nodes punish: see [`Harm`](crate::Harm) for what that is and what it costs.
    ///
    /// # Errors
    ///
    /// The message, and why it was not queued; never [`SendFailure::Harmful`].
    pub fn send_anyway(&self, peer: PeerId, message: Message) -> Result<(), SendError<Message>> {
        let sent = self.shared().send(peer, &message, Wait::Forever, true);
        sent.map_err(|reason| SendError { message, reason })
    }

    fn send_waiting(&self, peer: PeerId, message: Message, wait: Wait) -> Result<(), SendError<Message>> {
        self.shared().send(peer, &message, wait, false).map_err(|reason| SendError { message, reason })
    }

    /// Queues one message for many peers, encoded and hashed once; waits for each whose outbound queue is full.
    ///
    /// Gives a result for each peer, in their order.
    pub fn send_to_all(&self, peers: &[PeerId], message: &Message) -> Vec<Result<(), SendFailure>> {
        self.shared().send_to_all(peers, message, Wait::Forever)
    }

    /// The queue of messages that no request, broadcast or stream has claimed, minus handshake and keepalive.
    ///
    /// Nothing is queued until this is first called, nor after the last [`Messages`] is dropped; called before the
    /// start, nothing is missed. Every call gives a receiver of the same queue. Take what comes: when the queue is full,
    /// peers that send more are not read until there is room.
    ///
    /// # Errors
    ///
    /// Too many queues are open, or the conduit is shut down.
    pub fn messages(&self) -> Result<Messages, SubscribeError> {
        self.shared().messages()
    }

    /// A queue of its own for messages with these commands; they go to [`messages`](Self::messages) too.
    ///
    /// # Errors
    ///
    /// Too many queues are open, or the conduit is shut down.
    pub fn subscribe(&self, commands: impl IntoIterator<Item = Command>) -> Result<Messages, SubscribeError> {
        self.shared().subscribe(commands.into_iter().collect())
    }

    /// Delivers what is new on the network: transactions, blocks, headers, tips, each once though many peers announce it.
    ///
    /// Each announced transaction is asked of one peer, and of the next announcer when that one does not have it, is
    /// lost, or silent for [`watch_patience`](Config#structfield.watch_patience). What was delivered is remembered
    /// within [`watch_memory`](Config#structfield.watch_memory); a transaction that is announced again after that is
    /// delivered again. What a peer sends unasked counts, too. Several watches share what is asked.
    ///
    /// Take what comes: while the queue, of [`message_queue_bytes`](Config#structfield.message_queue_bytes), is nearly
    /// full, nothing more is asked for, and the announcements wait; those beyond
    /// [`watch_announcements`](Config#structfield.watch_announcements) are dropped and counted as
    /// [`Missed`](crate::Watched::Missed).
    ///
    /// Announcements go to [`messages`](Self::messages), too; what a watch asked for goes to watches, and to the request
    /// that may have asked for the same. A watch begins with the first block announced to it. It checks that every
    /// header has the work that its own bits claim, and that a block's transactions are those of its header. It does
    /// not check whether those bits are what the network demands, nor anything else about a block or transaction; the
    /// tip is the header with most claimed work among the last few thousand.
    ///
    /// The first 128 connections take part. Peers are told by `sendheaders` to announce blocks by their headers.
    ///
    /// # Errors
    ///
    /// Too many queues are open, watches among them, or the conduit is shut down.
    pub fn watch(&self, what: Watch) -> Result<Watching, SubscribeError> {
        self.shared().watch(what)
    }

    /// What happens to peers from now on; every call gives a reader with a queue of its own.
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared().events()
    }

    /// All peers as they stand now, best first.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared().peers()
    }

    /// What the conduit has done so far: queues and how full they were, messages and bytes each way, requests,
    /// connections, and what was dropped, each by its reason.
    ///
    /// The numbers are counted whether or not this is ever called; printing the [`Stats`] gives a table.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// Blocks until so many peers are connected and known to be on our chain.
    ///
    /// # Errors
    ///
    /// Fewer were in time, or the conduit is shut down.
    pub fn wait_for_peers(&self, count: usize, timeout: Duration) -> Result<(), WaitForPeersError> {
        self.shared().wait_for_peers(count, timeout)
    }

    /// Ends the connection to a peer and forgets it; false if it is not known.
    #[must_use = "an unknown peer is told by the result only"]
    pub fn disconnect(&self, peer: PeerId) -> bool {
        self.shared().disconnect(peer)
    }

    /// Ends the connections to a peer's host and does not dial it for as long, a year at most; false if the peer is not
    /// known.
    ///
    /// Of a peer that was named, or is on this machine, only its own address and port is meant. Bans are kept in
    /// [`data_dir`](Config#structfield.data_dir), if there is one.
    #[must_use = "an unknown peer is told by the result only"]
    pub fn ban(&self, peer: PeerId, how_long: Duration) -> bool {
        self.shared().ban(peer, how_long)
    }

    /// Lifts the ban of an address, or without a port that of a host and all its ports; false if there was none.
    ///
    /// # Errors
    ///
    /// The text is no address.
    pub fn unban(&self, address: impl ToPeerAddress) -> Result<bool, AddressError> {
        Ok(self.shared().unban(address.to_peer_address()?))
    }

    /// The bans in force.
    #[must_use]
    pub fn bans(&self) -> Vec<BanInfo> {
        self.shared().bans()
    }

    /// Announces a transaction to the best `nodes` peers, serves it to whoever asks, and listens on the others.
    ///
    /// As [`broadcast_transaction_with`](Self::broadcast_transaction_with), with the other options at their defaults.
    ///
    /// # Errors
    ///
    /// The bytes, and why they are not broadcast.
    pub fn broadcast_transaction(
        &self,
        raw: impl Into<Vec<u8>>,
        nodes: usize,
    ) -> Result<Broadcast, BroadcastError> {
        self.broadcast_transaction_with(raw, &BroadcastOptions::new().nodes(nodes))
    }

    /// Announces a transaction to the best peers, or sends it to them, serves it to whoever asks, and listens on the others.
    ///
    /// Blocks while the outbox is full, at most until the deadline, and with
    /// [`keep_broadcasts`](Config#structfield.keep_broadcasts) until the transaction is on disk. `Ok` says no more; what
    /// each peer did is told by the [`Broadcast`]. With fewer peers connected than shall be told, those that come later are
    /// told. The same transaction again joins the broadcast under way, with the larger of each number and the later of each
    /// time; once that is over it begins anew.
    ///
    /// Nodes ask for a transaction's unconfirmed parents if they lack them. Those that are broadcast themselves are served,
    /// too; others can be given with the [options](BroadcastOptions#structfield.parents). `getdata` for anything else goes
    /// to the [messages](Self::messages), and if nobody takes those, is answered by `notfound`.
    ///
    /// # Errors
    ///
    /// The bytes, and why they are not broadcast: they are not exactly one transaction, or one that nodes are sure to refuse,
    /// or there is no room.
    pub fn broadcast_transaction_with(
        &self,
        raw: impl Into<Vec<u8>>,
        options: &BroadcastOptions,
    ) -> Result<Broadcast, BroadcastError> {
        self.broadcast(raw.into(), options, deadline_after(options.deadline))
    }

    /// The same without waiting for room in the outbox.
    ///
    /// # Errors
    ///
    /// As [`broadcast_transaction_with`](Self::broadcast_transaction_with); [`Full`](crate::error::BroadcastFailure::Full) if there is no room.
    pub fn try_broadcast_transaction(
        &self,
        raw: impl Into<Vec<u8>>,
        options: &BroadcastOptions,
    ) -> Result<Broadcast, BroadcastError> {
        self.broadcast(raw.into(), options, None)
    }

    fn broadcast(
        &self,
        raw: Vec<u8>,
        options: &BroadcastOptions,
        room_until: Option<Instant>,
    ) -> Result<Broadcast, BroadcastError> {
        let raw = SharedBytes::from(raw);
        let begun = read_transaction(&raw, options)
            .and_then(|transaction| self.shared().broadcast(&transaction, options, room_until));
        begun.map_err(|reason| BroadcastError { raw: raw.to_vec(), reason })
    }

    /// Broadcasts any number of transactions, each as one that is given to
    /// [`broadcast_transaction_with`](Self::broadcast_transaction_with), and gives what becomes of each, in the order in which
    /// that is known.
    ///
    /// The result is an iterator that does the work as it is asked. It takes as many transactions from the input as there is
    /// room for, so the input may be endless; ids are announced in lots. A transaction that spends from another should come
    /// after it.
    ///
    /// ```no_run
    /// use std::io::{BufRead, stdin};
    /// use conduit::{BroadcastOptions, Conduit};
    ///
    /// # fn hex(text: &str) -> Vec<u8> { Vec::new() }
    /// # fn broadcast(conduit: &Conduit) {
    /// let transactions = stdin().lock().lines().map_while(Result::ok).map(|line| hex(&line));
    /// for outcome in conduit.broadcast_transactions(transactions, BroadcastOptions::new().nodes(3)) {
    ///     match outcome.result {
    ///         Ok(report) => println!("{}: {}", report.txid, report.verdict),
    ///         Err(error) => println!("line {}: {error}", outcome.index + 1),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn broadcast_transactions<I>(&self, transactions: I, options: BroadcastOptions) -> Broadcasts<I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<Vec<u8>>,
    {
        Broadcasts::new(transactions.into_iter(), options, self.clone())
    }

    /// The broadcasts that are not over, oldest first; also those that an earlier run left in the file.
    #[must_use]
    pub fn broadcasts(&self) -> Vec<Broadcast> {
        self.shared().broadcasts()
    }

    /// Reports transactions as mined: their broadcasts are over, with the verdict
    /// [`Mined`](crate::Verdict::Mined). Gives how many of them were being broadcast, so that all of a block's txids may be
    /// given.
    ///
    /// Nothing is checked: the block is whatever the caller trusts.
    pub fn confirm(&self, block: BlockHash, txids: impl IntoIterator<Item = Txid>) -> usize {
        self.shared().confirm(block, txids)
    }
}

impl fmt::Debug for Conduit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conduit").field("network", &self.shared().config.network).finish_non_exhaustive()
    }
}
