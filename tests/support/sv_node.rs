//! A real Bitcoin SV Node on regtest: started on free loopback ports, driven over JSON-RPC,
//! and stopped when it goes out of scope, in a panic too.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{hex, sv_node_binary};

/// A running node with a data folder of its own.
///
/// Never keep one in a `static`: those are not dropped, and the process would outlive the tests.
pub(crate) struct SvNode {
    binary: PathBuf,
    options: SvNodeOptions,
    /// `None` once killed or stopped.
    process: Option<Child>,
    folder: TempDir,
    address: SocketAddr,
    rpc_address: SocketAddr,
    agent: ureq::Agent,
}

/// How a node differs from the usual one.
#[derive(Clone, Debug)]
pub(crate) struct SvNodeOptions {
    /// Further command-line arguments; they come last, so they win.
    pub(crate) args: Vec<String>,
    /// Peers that the node itself dials; none by default.
    pub(crate) connect: Vec<SocketAddr>,
    /// Whether the log tells of every message, on by default. Wrong magic is logged only then.
    pub(crate) debug: bool,
}

impl SvNodeOptions {
    /// A node as fast as it is on the main network.
    ///
    /// On regtest it looks through its whole mempool after every transaction that comes from a peer, unless told not to: 100
    /// a second instead of 10,000. And it does not log every message.
    pub(crate) fn fast() -> Self {
        Self { args: vec!["-checkmempool=0".to_owned()], debug: false, ..Self::default() }
    }

    /// A node that keeps to the rules of the main network for standard transactions, and takes 100,000 bytes at most.
    ///
    /// It takes spends of OP_TRUE outputs all the same.
    pub(crate) fn strict() -> Self {
        let args = ["-acceptnonstdtxn=0", "-maxtxsizepolicy=100000"];
        Self { args: args.map(str::to_owned).to_vec(), ..Self::default() }
    }
}

impl Default for SvNodeOptions {
    fn default() -> Self {
        Self { args: Vec::new(), connect: Vec::new(), debug: true }
    }
}

/// What the node answered instead of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RpcError {
    /// The node's error code; `None` if it gave no JSON answer at all.
    pub(crate) code: Option<i64>,
    pub(crate) message: String,
}

impl SvNode {
    /// The node's program, fetched on first use; `None` if the tests against it are to be skipped.
    ///
    /// # Panics
    ///
    /// If there is no program to be had.
    pub(crate) fn binary() -> Option<PathBuf> {
        // The failure is kept as well: dozens of tests that each wait for a dead network help nobody.
        static BINARY: OnceLock<Result<Option<PathBuf>, String>> = OnceLock::new();
        match BINARY.get_or_init(sv_node_binary::find) {
            Ok(binary) => binary.clone(),
            Err(reason) => panic!(
                "no SV Node to test against: {reason}\n\
                 CONDUIT_SV_NODE=/path/to/bitcoind names one, CONDUIT_SV_NODE=skip skips these tests"
            ),
        }
    }

    /// Starts a node and waits until it answers; `None` only if these tests are skipped.
    ///
    /// # Panics
    ///
    /// If the node does not start.
    pub(crate) fn start(options: SvNodeOptions) -> Option<Self> {
        let binary = Self::binary()?;
        for _ in 0..PORT_ATTEMPTS {
            let mut node = Self::prepare(binary.clone(), options.clone());
            match node.launch() {
                Ok(()) => return Some(node),
                Err(LaunchError::PortTaken) => {}
                Err(LaunchError::Failed(reason)) => panic!("SV Node did not start: {reason}"),
            }
        }
        panic!("SV Node found its ports taken {PORT_ATTEMPTS} times");
    }

    /// Starts `count` nodes and has the first dial all others, so that two of the others are two hops apart.
    ///
    /// They are still in initial block download, where a node asks for no transactions: mine a block and
    /// wait for it on all of them first.
    pub(crate) fn joined(count: usize) -> Option<Vec<Self>> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Self::start(SvNodeOptions::default())?);
        }
        if let [hub, others @ ..] = nodes.as_slice() {
            for other in others {
                hub.rpc("addnode", json!([other.address, "add"]));
            }
            wait_until("the nodes to shake hands", START_DEADLINE, || {
                hub.ready_peers() == others.len() && others.iter().all(|other| other.ready_peers() == 1)
            });
        }
        Some(nodes)
    }

    /// Starts nodes that stand in a line, each with the next one for its peer, and brings them out of initial block
    /// download.
    ///
    /// What the first one mines later comes to the others in its time: [`follow`] waits for it.
    pub(crate) fn line(options: &[SvNodeOptions]) -> Option<Vec<Self>> {
        let nodes: Option<Vec<_>> = options.iter().map(|options| Self::start(options.clone())).collect();
        let nodes = nodes?;
        for pair in nodes.windows(2) {
            // In initial block download a node fetches blocks from a peer that it has dialled.
            pair[1].rpc("addnode", json!([pair[0].address, "add"]));
        }
        wait_until("the nodes to shake hands", START_DEADLINE, || {
            let neighbours = |place| usize::from(place > 0) + usize::from(place + 1 < nodes.len());
            nodes.iter().enumerate().all(|(place, node)| node.ready_peers() == neighbours(place))
        });
        nodes[0].generate(1);
        follow(&nodes);
        Some(nodes)
    }

    /// Where it listens for peers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for RPC.
    pub(crate) fn rpc_address(&self) -> SocketAddr {
        self.rpc_address
    }

    /// The process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Calls a method that must succeed.
    #[track_caller]
    pub(crate) fn rpc(&self, method: &str, params: Value) -> Value {
        match self.try_rpc(method, params) {
            Ok(result) => result,
            Err(error) => panic!("SV Node, RPC {method}: {error}"),
        }
    }

    pub(crate) fn try_rpc(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.call(method, params, RPC_DEADLINE)
    }

    /// Mines blocks to the node's own wallet and returns their hashes.
    pub(crate) fn generate(&self, count: u32) -> Vec<String> {
        let address = self.rpc("getnewaddress", json!([]));
        strings(&self.rpc("generatetoaddress", json!([count, address])))
    }

    pub(crate) fn best_height(&self) -> u64 {
        let height = self.rpc("getblockcount", json!([]));
        height.as_u64().expect("a height")
    }

    /// The raw block of this hash (display order).
    pub(crate) fn block_bytes(&self, hash: &str) -> Vec<u8> {
        let block = self.rpc("getblock", json!([hash, 0]));
        hex::decode(block.as_str().expect("a block in hex"))
    }

    /// What the node serves without RPC, started with `-rest`.
    pub(crate) fn rest(&self, path: &str) -> impl Read + use<> {
        let url = format!("http://{}{path}", self.rpc_address);
        let response = self.agent.get(url).config().timeout_global(Some(RPC_DEADLINE)).build().call();
        let response = response.unwrap_or_else(|error| panic!("SV Node, {path}: {error}"));
        assert!(response.status().is_success(), "SV Node, {path}: {}", response.status());
        response.into_body().into_with_config().limit(u64::MAX).reader()
    }

    /// The ids of all transactions in the mempool.
    pub(crate) fn mempool(&self) -> HashSet<String> {
        strings(&self.rpc("getrawmempool", json!([])))
    }

    /// The ids of all transactions that wait to become final; they are not in the mempool.
    pub(crate) fn non_final_mempool(&self) -> HashSet<String> {
        strings(&self.rpc("getrawnonfinalmempool", json!([])))
    }

    /// Waits until all these transactions are in the mempool.
    ///
    /// # Panics
    ///
    /// If some are not before the deadline; it says how many.
    #[track_caller]
    pub(crate) fn wait_for_mempool(&self, txids: &HashSet<String>, deadline: Duration) {
        let end = Instant::now() + deadline;
        loop {
            // The whole list is long, so it is fetched only when it can be complete.
            let size = self.rpc("getmempoolinfo", json!([]))["size"].as_u64().expect("a number");
            let is_late = Instant::now() >= end;
            if size >= txids.len() as u64 || is_late {
                let missing = txids.difference(&self.mempool()).count();
                if missing == 0 {
                    return;
                }
                assert!(!is_late, "{missing} of {} not in the mempool after {deadline:?}", txids.len());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Hands the node a transaction and returns its id, or the reason why it is refused.
    pub(crate) fn send_raw_transaction(&self, raw: &[u8]) -> Result<String, RpcError> {
        let txid = self.try_rpc("sendrawtransaction", json!([hex::encode(raw)]))?;
        Ok(txid.as_str().expect("a transaction id").to_owned())
    }

    /// Refuses new connections from this address; on loopback that is every peer.
    pub(crate) fn set_ban(&self, peer: IpAddr, time: Duration) {
        self.rpc("setban", json!([peer, "add", time.as_secs()]));
    }

    pub(crate) fn clear_bans(&self) {
        self.rpc("clearbanned", json!([]));
    }

    /// Ends the connections of this moment; who dials again is let in.
    pub(crate) fn disconnect_all(&self) {
        for peer in self.peers() {
            // A peer that left by itself in between is an error here, and what was wanted.
            let _ = self.try_rpc("disconnectnode", json!(["", peer["id"]]));
        }
    }

    /// Ends the connections of peers that call themselves so; who dials again is let in.
    pub(crate) fn disconnect_agent(&self, agent: &str) {
        for peer in self.peers_of_agent(agent) {
            // As above.
            let _ = self.try_rpc("disconnectnode", json!(["", peer["id"]]));
        }
    }

    /// The peers whose user agent has this in it.
    pub(crate) fn peers_of_agent(&self, agent: &str) -> Vec<Value> {
        let is_meant = |peer: &Value| peer["subver"].as_str().is_some_and(|name| name.contains(agent));
        self.peers().into_iter().filter(is_meant).collect()
    }

    /// Has the process stand still, with its connections open, until it is thawed. RPC has no answer then.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Ends the process at once, without a word to its peers.
    ///
    /// All blocks and transactions since its start are lost, unless RPC `gettxoutsetinfo`, which writes the
    /// blocks to disk, was called before.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Pooled connections to the dead process would fail the first calls to the next one.
            self.agent = new_agent();
            // Killing fails only for a process that has ended.
            let _ = process.kill();
            process.wait().expect("our own child can be waited for");
        }
    }

    /// Stops the node if it still runs, and starts it again with the same ports and data.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match self.launch() {
                Ok(()) => return,
                // Somebody's passing connection may hold the port for a moment.
                Err(LaunchError::PortTaken) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
                Err(LaunchError::PortTaken) => {
                    panic!("SV Node did not restart: its ports stay taken")
                }
                Err(LaunchError::Failed(reason)) => panic!("SV Node did not restart: {reason}"),
            }
        }
    }

    /// Ends the process in its own way, with everything written to disk, and kills it if that takes too long.
    pub(crate) fn stop(&mut self) {
        if self.process.is_some() && self.call("stop", json!([]), STOP_DEADLINE).is_ok() {
            // The node waits two seconds for idle RPC connections: the old pool closes its own.
            self.agent = new_agent();
            let deadline = Instant::now() + STOP_DEADLINE;
            while self.exited().is_none() && Instant::now() < deadline {
                thread::sleep(POLL_INTERVAL);
            }
        }
        self.kill();
    }

    /// All that the node logged so far, earlier runs included.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.folder.path().join("regtest/bitcoind.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The log's lines about peers that were scored, or banned for what they sent.
    pub(crate) fn misbehaviour_lines(&self) -> Vec<String> {
        let log = self.log();
        let marked = |line: &&str| MISBEHAVIOUR.iter().any(|mark| line.contains(mark));
        log.lines().filter(marked).map(str::to_owned).collect()
    }

    /// Fails if any peer was ever scored or banned for what it sent.
    #[track_caller]
    pub(crate) fn assert_no_misbehaviour(&self) {
        let lines = self.misbehaviour_lines();
        assert!(lines.is_empty(), "SV Node complains of a peer:\n{}", lines.join("\n"));
    }

    fn prepare(binary: PathBuf, options: SvNodeOptions) -> Self {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let [address, rpc_address] = free_addresses();
        Self {
            binary,
            options,
            process: None,
            folder: tempfile::Builder::new().prefix("sv-node-").tempdir_in(parent).expect("a folder"),
            address,
            rpc_address,
            agent: new_agent(),
        }
    }

    /// Starts the process and waits until it answers.
    fn launch(&mut self) -> Result<(), LaunchError> {
        let stderr_path = self.folder.path().join("stderr");
        let child = Command::new(&self.binary)
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr_path).expect("a file for stderr"))
            .spawn()
            .map_err(|error| LaunchError::Failed(format!("{}: {error}", self.binary.display())))?;
        self.process = Some(child);

        let deadline = Instant::now() + START_DEADLINE;
        // Whoever holds the RPC port instead may never answer: each probe has a deadline of its own.
        while self.call("getblockcount", json!([]), PROBE_DEADLINE).is_err() {
            if let Some(status) = self.exited() {
                self.process = None;
                let stderr = fs::read_to_string(&stderr_path).unwrap_or_default();
                if PORT_TAKEN.iter().any(|mark| stderr.contains(mark)) {
                    return Err(LaunchError::PortTaken);
                }
                return Err(LaunchError::Failed(format!("{status}: {stderr}")));
            }
            if Instant::now() > deadline {
                self.kill();
                let reason = format!("no answer in {START_DEADLINE:?}; its log ends\n{}", self.log_tail());
                return Err(LaunchError::Failed(reason));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = FIXED_ARGUMENTS.iter().copied().map(str::to_owned).collect();
        arguments.push(format!("-datadir={}", self.folder.path().display()));
        arguments.push(format!("-port={}", self.address.port()));
        arguments.push(format!("-rpcport={}", self.rpc_address.port()));
        arguments.push(format!("-rpcpassword={}", self.password()));
        if self.options.debug {
            arguments.push("-debug=net".to_owned());
        }
        if self.options.connect.is_empty() {
            arguments.push("-connect=0".to_owned());
        }
        arguments.extend(self.options.connect.iter().map(|peer| format!("-connect={peer}")));
        arguments.extend(self.options.args.iter().cloned());
        arguments
    }

    /// Differs for every node: one that lost the race for its RPC port must not take the winner's answers
    /// for its own.
    pub(crate) fn password(&self) -> String {
        let name = self.folder.path().file_name().expect("a temporary folder has a name");
        name.to_string_lossy().into_owned()
    }

    fn call(&self, method: &str, params: Value, deadline: Duration) -> Result<Value, RpcError> {
        let unanswered = |error: ureq::Error| RpcError { code: None, message: error.to_string() };
        let url = format!("http://u:{}@{}/", self.password(), self.rpc_address);
        let request = json!({ "id": 0, "method": method, "params": params }).to_string();
        let post = self.agent.post(url).config().timeout_global(Some(deadline)).build();
        let mut response = post.send(request).map_err(unanswered)?;
        // ureq stops at 10 MB unless told otherwise; a block in hex may pass that.
        let body = response.body_mut().with_config().limit(u64::MAX).read_to_string();
        let body = body.map_err(unanswered)?;
        let Ok(mut reply) = serde_json::from_str::<Value>(&body) else {
            // A wrong password or a full work queue is answered without JSON.
            return Err(RpcError { code: None, message: format!("{}: {body}", response.status()) });
        };
        match &reply["error"] {
            Value::Null => Ok(reply["result"].take()),
            error => Err(RpcError {
                code: error["code"].as_i64(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            }),
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid().expect("the node runs");
        let status = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill can be run");
        assert!(status.success(), "kill {signal}: {status}");
    }

    fn peers(&self) -> Vec<Value> {
        match self.rpc("getpeerinfo", json!([])) {
            Value::Array(peers) => peers,
            other => panic!("getpeerinfo gave {other}"),
        }
    }

    /// How many peers have finished the handshake.
    fn ready_peers(&self) -> usize {
        self.peers().iter().filter(|peer| peer["bytesrecv_per_msg"]["verack"].is_number()).count()
    }

    fn exited(&mut self) -> Option<std::process::ExitStatus> {
        let process = self.process.as_mut()?;
        process.try_wait().expect("our own child can be asked for")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for SvNode {
    fn drop(&mut self) {
        if thread::panicking() {
            // The folder goes now, and what the node thought of its peer is often the explanation.
            eprintln!("the log of SV Node {} ends:\n{}", self.address, self.log_tail());
        }
        self.stop();
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} (code {code})", self.message),
            None => write!(f, "no answer: {}", self.message),
        }
    }
}

impl std::error::Error for RpcError {}

/// Waits until the condition holds.
///
/// For what only another process knows, and does not tell: the condition is asked again and again.
///
/// # Panics
///
/// If it does not hold before the deadline.
#[track_caller]
pub(crate) fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "waited {deadline:?} in vain for {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Waits until all nodes have the blocks that the first one has now.
#[track_caller]
pub(crate) fn follow(nodes: &[SvNode]) {
    let height = nodes.first().expect("a node to follow").best_height();
    wait_until("the other nodes to follow", START_DEADLINE, || {
        nodes.iter().all(|node| node.best_height() >= height)
    });
}

enum LaunchError {
    PortTaken,
    Failed(String),
}

/// Two loopback addresses that are free, or were a moment ago.
fn free_addresses() -> [SocketAddr; 2] {
    // Both are held at once, so that they differ.
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound socket has an address"))
}

fn new_agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        // The node sends its errors as JSON with status 500.
        .http_status_as_error(false)
        // Else a proxy named in the environment would be asked for loopback, too.
        .proxy(None)
        .build()
        .new_agent()
}

fn strings<C: FromIterator<String>>(list: &Value) -> C {
    let list = list.as_array().expect("a list");
    list.iter().map(|entry| entry.as_str().expect("a list of strings").to_owned()).collect()
}

const FIXED_ARGUMENTS: [&str; 17] = [
    "-regtest",
    "-server",
    "-listen=1",
    "-bind=127.0.0.1",
    // Else RPC listens on ::1 as well, and the node runs on without us if another has 127.0.0.1.
    "-rpcbind=127.0.0.1",
    "-rpcallowip=127.0.0.1",
    "-rpcuser=u",
    "-dnsseed=0",
    "-txindex=1",
    // Without these two it refuses to start.
    "-excessiveblocksize=10GB",
    "-maxstackmemoryusageconsensus=1GB",
    "-minminingtxfee=0.00000001",
    // No limit of 1 MB on transactions, from the first block on.
    "-genesisactivationheight=1",
    "-maxtxsizepolicy=1000000000",
    "-blockmaxsize=4GB",
    "-maxmempool=8GB",
    // A fresh wallet makes 2,000 keys otherwise, which is most of its starting time.
    "-keypool=1",
];

/// What the node says on stderr when the P2P port, or the RPC port, is in use.
const PORT_TAKEN: [&str; 2] = ["Unable to bind to", "Unable to start HTTP server"];

/// A score; a ban for a header that announces too much; a ban for wrong magic.
const MISBEHAVIOUR: [&str; 3] = ["Misbehaving: ", ", banning peer=", "INVALID MESSAGESTART"];

const PORT_ATTEMPTS: usize = 5;
const START_DEADLINE: Duration = Duration::from_secs(60);
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
const RPC_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 40;
