//! Downloads one block of any size to a file or to standard output, proven, over as many peers as it takes.
//!
//! Run with `cargo run --release --example download_block -- --help`.

#![allow(clippy::disallowed_methods, reason = "it shows how fast it is")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use conduit::block::{Chunk, ChunkContent};
use conduit::{BlockHash, BlockOptions, BlockStream, Conduit, Config, Network, PeerAddress, PeerId};
use support::{Failure, run};
use tempfile::NamedTempFile;

const USAGE: &str = "\
Usage: download_block [options] HASH

Writes the raw block to standard output or a file, and on standard error who sends it, how far it is in a terminal, and
what came of it. A peer that is lost, stops or lies is replaced by another one, which goes on where it was. The file is
there only if the block in it is proven: by the hash of its header, and the merkle root of every transaction. Standard
output has the bytes before they are: believe them if the exit code is 0.

  --output PATH         write to this file, which is replaced if it is there [standard output]
  --txids               write the ids of the transactions instead, one a line
  --connect HOST:PORT   a peer; may be repeated [found by DNS, except on regtest]
  --network NAME        main, test, stn or regtest [main]
  --chunk BYTES         take so much at once [4194304]
  --timeout SECONDS     give up when nothing new comes for so long [60]
  --help                this text

Exit code 1: the block could not be had, written or proven. Exit code 2: bad arguments.
";

fn main() -> ExitCode {
    run(USAGE, |args| {
        let (mut hash, mut output, mut txids) = (None::<BlockHash>, None::<PathBuf>, false);
        let (mut connect, mut network) = (Vec::<PeerAddress>::new(), Network::Main);
        let mut options = BlockOptions::new().timeout(Duration::from_secs(60));
        while let Some(arg) = args.next()? {
            match arg.as_str() {
                "--output" => output = Some(args.value()?),
                "--txids" => txids = true,
                "--connect" => connect.push(args.value()?),
                "--network" => network = args.value()?,
                "--chunk" => options.chunk_size = args.value::<std::num::NonZeroUsize>()?.get(),
                "--timeout" => {
                    options.timeout = Some(Duration::from_secs(args.value::<std::num::NonZeroU32>()?.get().into()))
                }
                _ if arg.starts_with('-') || hash.is_some() => return Err(args.unknown()),
                _ => hash = Some(arg.parse().map_err(|error| Failure::Usage(format!("{arg:.70}: {error}")))?),
            }
        }
        let hash = hash.ok_or_else(|| Failure::Usage("HASH: needed here".to_owned()))?;
        if connect.is_empty() && network.seeds().is_empty() {
            return Err(Failure::Usage(format!("--connect: needed on {network}, which has no DNS seeds")));
        }
        options.content = if txids { ChunkContent::Txids } else { ChunkContent::Bytes };

        let mut out = Output::open(output.as_deref())?;
        let conduit = Conduit::new(Config::new(network))?;
        conduit.add_peers(&connect)?;
        conduit.start()?;
        let mut progress = Progress::new(&conduit);
        let written = conduit.block_with(hash, &options).map_err(Failure::from).and_then(|mut stream| {
            progress.take(&stream, 0);
            while let Some(chunk) = stream.next_chunk()? {
                let reached = chunk.offset() + chunk.bytes().len() as u64;
                out.write(chunk, txids)?;
                progress.take(&stream, reached);
            }
            Ok(stream)
        });
        progress.clear();
        let stream = match written {
            Ok(stream) => stream,
            Err(Failure::Run(error)) if is_broken_pipe(&*error) => return Ok(ExitCode::FAILURE),
            Err(failure) => return Err(failure),
        };
        out.keep()?;
        progress.end(&stream);
        Ok(ExitCode::SUCCESS)
    })
}

/// Where the block goes.
enum Output {
    Standard(BufWriter<io::Stdout>),
    /// A file beside the one that is wanted, which takes its name once it is proven, and else is taken away.
    File(BufWriter<NamedTempFile>, PathBuf),
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Standard(BufWriter::with_capacity(BUFFER, io::stdout()))) };
        if path.is_dir() {
            return Err(format!("{}: is a directory", path.display()).into());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any other file, which is less what the umask forbids.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.prefix(".block-").suffix(".part").tempfile_in(folder);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self::File(BufWriter::with_capacity(BUFFER, file), path.to_owned()))
    }

    fn write(&mut self, chunk: &Chunk, txids: bool) -> io::Result<()> {
        let out: &mut dyn Write = match self {
            Self::Standard(out) => out,
            Self::File(out, _) => out,
        };
        if txids {
            chunk.txids().iter().try_for_each(|txid| writeln!(out, "{txid}"))
        } else {
            out.write_all(chunk.bytes())
        }
    }

    /// The block is proven.
    fn keep(self) -> Result<(), Failure> {
        match self {
            Self::Standard(mut out) => out.flush()?,
            Self::File(out, path) => {
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(&path).map_err(|error| format!("{}: {}", path.display(), error.error))?;
            }
        }
        Ok(())
    }
}

/// Tells on standard error how it goes.
struct Progress<'a> {
    conduit: &'a Conduit,
    began: Instant,
    peer: Option<PeerId>,
    drawn: Option<Instant>,
    is_terminal: bool,
}

impl<'a> Progress<'a> {
    fn new(conduit: &'a Conduit) -> Self {
        Self { conduit, began: Instant::now(), peer: None, drawn: None, is_terminal: io::stderr().is_terminal() }
    }

    /// So many bytes are there.
    fn take(&mut self, stream: &BlockStream, reached: u64) {
        if self.peer != stream.peer() {
            self.peer = stream.peer();
            self.clear();
            let address = self.conduit.peers().into_iter().find(|peer| Some(peer.id) == self.peer);
            let address = address.map_or("a peer that has left".to_owned(), |peer| peer.address.to_string());
            eprintln!("{} bytes from {address}, which begins at {reached}", stream.size());
        }
        if self.is_terminal && self.drawn.is_none_or(|at| at.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            let size = stream.size().max(1);
            let bar = "=".repeat((u128::from(BAR) * u128::from(reached.min(size)) / u128::from(size)) as usize);
            let (done, all) = (reached as f64 / 1e6, size as f64 / 1e6);
            eprint!(
                "\r[{bar:<width$}] {done:.1} of {all:.1} MB, {:.1} MB/s\x1b[K",
                self.rate(reached),
                width = BAR as usize
            );
        }
    }

    /// Takes the line away before another is printed over it.
    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }

    fn end(&self, stream: &BlockStream) {
        let Some(summary) = stream.summary() else { return };
        let seconds = self.began.elapsed().as_secs_f64();
        let (size, rate) = (summary.size, self.rate(summary.size));
        let count = summary.transactions;
        eprintln!("{size} bytes and {count} transactions, proven, in {seconds:.1} s, {rate:.1} MB/s");
    }

    /// In megabytes a second.
    fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e6 / self.began.elapsed().as_secs_f64()
    }
}

/// Whether nobody reads on, as behind `head`: he knows.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Bytes written at once, where txids are.
const BUFFER: usize = 256 * 1_024;
/// Characters of the bar.
const BAR: u32 = 30;
const REDRAW: Duration = Duration::from_millis(100);
