//! Where callers can put their own: name resolution and dialling.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use crate::error::DisconnectReason;
use crate::peer::{ConnectionId, PeerAddress, PeerId};
use crate::queue::inbound::Inbound;
use crate::queue::outbound::Command;

/// Turns names into addresses.
///
/// Called on a thread of its own, so it may block; the conduit waits no longer than
/// [`resolve_timeout`](crate::Config#structfield.resolve_timeout) and goes on without the answer. A panic counts as a
/// failure to resolve.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`, best first, with `port` filled in.
    ///
    /// # Errors
    ///
    /// Whatever keeps the name from being resolved.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Makes connections, in place of a direct connect: through a proxy, from a chosen address.
///
/// [`Socks5`](crate::Socks5) is one. A closure that takes a [`SocketAddr`] and a timeout is one, too.
///
/// Called on a thread of its own, so it may block; the conduit waits no longer than `timeout` and goes on without the
/// connection. A panic counts as a failure to connect.
pub trait Dialler: Send + Sync + 'static {
    /// A connection to `address`, in blocking or non-blocking mode.
    ///
    /// The address has a port. Its host is a name only if [`resolves_names`](Self::resolves_names) says so.
    ///
    /// # Errors
    ///
    /// Whatever keeps the connection from being made. Its kind is told in [`DisconnectReason::Dial`], all of it in the log.
    fn dial(&self, address: &PeerAddress, timeout: Duration) -> io::Result<TcpStream>;

    /// Whether it takes names and has them resolved at the far end, as a proxy does; then no name is resolved here, and
    /// the [`Resolver`] is never asked for a peer. Asked once, when the conduit is made; the default is false.
    fn resolves_names(&self) -> bool {
        false
    }
}

/// Asks the system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (host, port).to_socket_addrs().map(Iterator::collect)
    }
}

impl<F> Resolver for F
where
    F: Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
{
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self(host, port)
    }
}

impl<F> Dialler for F
where
    F: Fn(SocketAddr, Duration) -> io::Result<TcpStream> + Send + Sync + 'static,
{
    fn dial(&self, address: &PeerAddress, timeout: Duration) -> io::Result<TcpStream> {
        let address = address.socket_addr().ok_or(io::ErrorKind::InvalidInput)?;
        self(address, timeout)
    }
}

/// Asks the caller's resolver for a peer's addresses, on a thread of its own.
pub(super) fn resolve(shared: &Arc<Shared>, peer: PeerId, connection: ConnectionId, host: String, port: u16) {
    let resolver = shared.config.resolver.clone();
    spawn(
        shared,
        "conduit-resolve",
        |kind| DisconnectReason::Resolve { kind },
        move || resolver.resolve(&host, port).map_err(|error| DisconnectReason::Resolve { kind: error.kind() }),
        move |shared, result| {
            shared.tell_message_thread_of(peer, Inbound::Resolved { peer, connection, result });
        },
    );
}

/// Asks the caller's resolver for peers, on a thread of its own; not while it still thinks about the same seed.
pub(super) fn resolve_seed(shared: &Arc<Shared>, host: String, port: u16) {
    if !shared.seeds_asked().lock().insert(host.clone()) {
        return;
    }
    let seed = host.clone();
    let resolver = shared.config.resolver.clone();
    spawn(
        shared,
        "conduit-resolve",
        |kind| DisconnectReason::Resolve { kind },
        move || {
            let result = resolver.resolve(&host, port);
            result.map_err(|error| {
                log::info!(target: "conduit::driver", "seed {host} does not resolve: {error}");
                DisconnectReason::Resolve { kind: error.kind() }
            })
        },
        move |shared, result| {
            shared.seeds_asked().lock().remove(&seed);
            if let Ok(addresses) = result {
                shared.enter(|core, now| core.engine.handle_seeds(now, &addresses));
            }
        },
    );
}

/// Lets the caller's dialler make a connection, on a thread of its own.
pub(super) fn dial(
    shared: &Arc<Shared>,
    dialler: Arc<dyn Dialler>,
    peer: PeerId,
    connection: ConnectionId,
    address: PeerAddress,
) {
    let timeout = shared.config.connect_timeout;
    spawn(
        shared,
        "conduit-dial",
        |kind| DisconnectReason::Dial { kind },
        move || {
            dialler.dial(&address, timeout).map_err(|error| {
                log::debug!(target: "conduit::driver", "{peer}: {address} is not reached: {error}");
                DisconnectReason::Dial { kind: error.kind() }
            })
        },
        move |shared, result| shared.command(Command::Adopt { connection, peer, result }),
    );
}

/// Saves what is known of peers, on a thread of its own, as a disk may take its time.
pub(super) fn save_peers(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    let spawned = std::thread::Builder::new().name("conduit-save".to_owned()).spawn(move || {
        if let Some(shared) = weak.upgrade() {
            shared.save_peers();
        }
    });
    if let Err(error) = spawned {
        log::warn!(target: "conduit::driver", "peers are not saved: {error}");
    }
}

/// Runs a hook on a thread that owns nothing of ours, so that a shutdown need not wait for it.
fn spawn<T: Send + 'static>(
    shared: &Arc<Shared>,
    name: &str,
    refused: fn(io::ErrorKind) -> DisconnectReason,
    hook: impl FnOnce() -> Result<T, DisconnectReason> + Send + 'static,
    finish: impl FnOnce(&Arc<Shared>, Result<T, DisconnectReason>) + Send + 'static,
) {
    // Hooks that hang must not pile up without bound.
    if shared.hooks().fetch_add(1, Ordering::AcqRel) >= MAX_HOOKS {
        shared.hooks().fetch_sub(1, Ordering::AcqRel);
        finish(shared, Err(refused(io::ErrorKind::ResourceBusy)));
        return;
    }
    let weak = Arc::downgrade(shared);
    let finish = Arc::new(Mutex::new(Some(finish)));
    let to_run = finish.clone();
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(hook)).unwrap_or_else(|_| {
            log::error!(target: "conduit::driver", "a resolver or dialler of the caller's panicked");
            Err(DisconnectReason::HookPanicked)
        });
        if let Some(shared) = weak.upgrade() {
            shared.hooks().fetch_sub(1, Ordering::AcqRel);
            if let Some(finish) = to_run.lock().take() {
                finish(&shared, result);
            }
        }
    });
    if let Err(error) = spawned
        && let Some(finish) = finish.lock().take()
    {
        shared.hooks().fetch_sub(1, Ordering::AcqRel);
        finish(shared, Err(refused(error.kind())));
    }
}

/// Resolver and dialler threads at once.
const MAX_HOOKS: usize = 64;
