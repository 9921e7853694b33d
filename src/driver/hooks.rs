//! Where callers can put their own: name resolution and dialling.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

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
/// Called on a thread of its own, so it may block; the conduit waits no longer than `timeout` and goes on without the
/// connection. A panic counts as a failure to connect.
pub trait Dialler: Send + Sync + 'static {
    /// A connection to `address`, in blocking or non-blocking mode.
    ///
    /// # Errors
    ///
    /// Whatever keeps the connection from being made.
    fn dial(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream>;
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
    fn dial(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        self(address, timeout)
    }
}
