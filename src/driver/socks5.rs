//! A dialler that connects through a SOCKS5 proxy, such as Tor, which resolves names, too.
//!
//! Part of the driver: blocking sockets, on the threads of the hooks. RFC 1928, with the user names of RFC 1929.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::hooks::Dialler;
use crate::peer::PeerAddress;

/// Connects through a SOCKS5 proxy.
///
/// Names are given to the proxy as they are, so none is resolved on this machine. What keeps a connection from being made
/// is an [`io::Error`] whose kind tells it apart: the proxy's own answers as far as there is a kind for them
/// (`ConnectionRefused`, `HostUnreachable`, `NetworkUnreachable`, `PermissionDenied`, `Unsupported`, `TimedOut`), `InvalidData`
/// for what is no SOCKS5, `UnexpectedEof` for a proxy that hangs up, and `TimedOut` for one that is not done in time,
/// however it spends it.
///
/// ```no_run
/// use conduit::{Conduit, Config, Network, Socks5};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tor = Socks5::new("127.0.0.1:9050".parse()?).isolate();
/// let conduit = Conduit::new(Config::new(Network::Main).dialler(tor))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Socks5 {
    proxy: SocketAddr,
    login: Login,
}

#[derive(Clone)]
enum Login {
    None,
    Password {
        user: String,
        password: String,
    },
    /// A new name for each connection.
    Isolated,
}

impl Socks5 {
    /// A proxy that asks for no login.
    #[must_use]
    pub const fn new(proxy: SocketAddr) -> Self {
        Self { proxy, login: Login::None }
    }

    /// Logs in, if the proxy asks for it; each of 1 to 255 bytes, or no connection is made.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Login::Password { user: user.into(), password: password.into() };
        self
    }

    /// Logs in under a new random name for each connection, for which Tor uses a circuit of its own.
    #[must_use]
    pub fn isolate(mut self) -> Self {
        self.login = Login::Isolated;
        self
    }
}

impl Dialler for Socks5 {
    fn dial(&self, address: &PeerAddress, timeout: Duration) -> io::Result<TcpStream> {
        // All that can be wrong on our side is found before anything is sent.
        let request = request(address)?;
        let login = match &self.login {
            Login::None => None,
            Login::Password { user, password } => Some(login(user, password)?),
            Login::Isolated => {
                let name = format!("conduit-{:016x}", super::random_seed());
                Some(login(&name, &name)?)
            }
        };
        let methods: &[u8] = match self.login {
            Login::None => &[NO_LOGIN],
            Login::Password { .. } => &[NO_LOGIN, PASSWORD],
            // Without a name there is nothing to isolate by.
            Login::Isolated => &[PASSWORD],
        };
        let mut line = Line::connect(self.proxy, timeout)?;
        let method = line.choose(methods)?;
        if let Some(login) = login
            && method == PASSWORD
        {
            line.log_in(&login)?;
        }
        line.request(&request)?;
        line.release()
    }

    fn resolves_names(&self) -> bool {
        true
    }
}

/// Tells no password.
impl fmt::Debug for Socks5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Socks5");
        debug.field("proxy", &self.proxy);
        match &self.login {
            Login::None => {}
            Login::Password { user, .. } => {
                debug.field("user", user);
            }
            Login::Isolated => {
                debug.field("isolate", &true);
            }
        }
        debug.finish_non_exhaustive()
    }
}

/// The connection to the proxy while it is talked to, and the instant by which that must end.
struct Line {
    stream: TcpStream,
    deadline: Instant,
}

impl Line {
    fn connect(proxy: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let deadline = super::deadline_after(timeout).ok_or(ErrorKind::InvalidInput)?;
        if timeout.is_zero() {
            return Err(too_late());
        }
        let stream = TcpStream::connect_timeout(&proxy, timeout).map_err(|error| {
            io::Error::new(error.kind(), format!("the proxy at {proxy} is not reached: {error}"))
        })?;
        // Each message is waited for.
        stream.set_nodelay(true)?;
        Ok(Self { stream, deadline })
    }

    /// Offers ways to log in; the one the proxy chose.
    fn choose(&mut self, methods: &[u8]) -> io::Result<u8> {
        let mut offer = vec![VERSION, methods.len() as u8];
        offer.extend_from_slice(methods);
        self.write(&offer)?;
        let [version, method] = self.read()?;
        check_version(version)?;
        match method {
            NONE_ACCEPTABLE => {
                let message = "the proxy accepts none of the logins offered";
                Err(io::Error::new(ErrorKind::PermissionDenied, message))
            }
            method if methods.contains(&method) => Ok(method),
            method => Err(invalid(format!("the proxy chose login method {method}, which was not offered"))),
        }
    }

    fn log_in(&mut self, login: &[u8]) -> io::Result<()> {
        self.write(login)?;
        // Some proxies write their SOCKS version into the first byte, so it tells nothing.
        let [_, status] = self.read()?;
        if status != 0 {
            let message = format!("the proxy refused user name and password (status {status})");
            return Err(io::Error::new(ErrorKind::PermissionDenied, message));
        }
        Ok(())
    }

    fn request(&mut self, request: &[u8]) -> io::Result<()> {
        self.write(request)?;
        let [version, reply, _, kind] = self.read()?;
        check_version(version)?;
        // What follows a refusal is of no use, and not every proxy sends it.
        if reply != 0 {
            return Err(refusal(reply));
        }
        // The address the proxy dialled from. Not one byte more: what follows is the peer's.
        match kind {
            IPV4 => self.read::<{ 4 + 2 }>().map(drop),
            IPV6 => self.read::<{ 16 + 2 }>().map(drop),
            NAME => {
                let [len] = self.read()?;
                let mut bound = [0; u8::MAX as usize + 2];
                self.fill(&mut bound[..usize::from(len) + 2])
            }
            kind => Err(invalid(format!("the proxy named an address of the unknown type {kind}"))),
        }
    }

    /// The connection, which leads to the peer from now on.
    fn release(self) -> io::Result<TcpStream> {
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)?;
        Ok(self.stream)
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads so many bytes. The time that is left is measured before each read, so that single bytes gain nothing.
    fn fill(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(bytes) {
                Ok(0) => {
                    let message = "the proxy ended the connection in the middle of its answer";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
                }
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) => passing(error)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) => passing(error)?,
            }
        }
        Ok(())
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(too_late()) } else { Ok(left) }
    }
}

/// The request to connect to an address.
fn request(address: &PeerAddress) -> io::Result<Vec<u8>> {
    let invalid_input = |message| io::Error::new(ErrorKind::InvalidInput, message);
    let port = address.port().ok_or_else(|| invalid_input("the address has no port"))?;
    let mut request = vec![VERSION, CONNECT, 0];
    match (address.host_name(), address.socket_addr().map(|address| address.ip().to_canonical())) {
        (Some(name), _) => {
            let len = u8::try_from(name.len()).map_err(|_| invalid_input("the name is too long for SOCKS5"))?;
            request.extend([NAME, len]);
            request.extend_from_slice(name.as_bytes());
        }
        (None, Some(IpAddr::V4(ip))) => {
            request.push(IPV4);
            request.extend(ip.octets());
        }
        (None, Some(IpAddr::V6(ip))) => {
            request.push(IPV6);
            request.extend(ip.octets());
        }
        (None, None) => return Err(invalid_input("the address has no host")),
    }
    request.extend(port.to_be_bytes());
    Ok(request)
}

/// The message of RFC 1929.
fn login(user: &str, password: &str) -> io::Result<Vec<u8>> {
    let mut login = vec![LOGIN_VERSION];
    for (what, text) in [("user name", user), ("password", password)] {
        let len = u8::try_from(text.len()).ok().filter(|&len| len > 0).ok_or_else(|| {
            let message = format!("the proxy's {what} has {} bytes, where 1 to 255 are possible", text.len());
            io::Error::new(ErrorKind::InvalidInput, message)
        })?;
        login.push(len);
        login.extend_from_slice(text.as_bytes());
    }
    Ok(login)
}

fn check_version(version: u8) -> io::Result<()> {
    if version == VERSION {
        Ok(())
    } else {
        Err(invalid(format!("no SOCKS5 proxy: it answers with version {version}")))
    }
}

/// What a reply other than "succeeded" says (section 6 of RFC 1928).
fn refusal(reply: u8) -> io::Error {
    let (kind, message) = match reply {
        1 => (ErrorKind::Other, "general failure"),
        2 => (ErrorKind::PermissionDenied, "not allowed by its rules"),
        3 => (ErrorKind::NetworkUnreachable, "network unreachable"),
        4 => (ErrorKind::HostUnreachable, "host unreachable"),
        5 => (ErrorKind::ConnectionRefused, "connection refused"),
        6 => (ErrorKind::TimedOut, "time to live expired"),
        7 => (ErrorKind::Unsupported, "it does not connect for others"),
        8 => (ErrorKind::Unsupported, "it does not know this type of address"),
        _ => (ErrorKind::Other, "a reason of its own"),
    };
    io::Error::new(kind, format!("the proxy did not connect: {message} (reply {reply})"))
}

/// Lets an error pass after which the same is to be tried again.
fn passing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        // Both stand for a read or write that took too long.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(too_late()),
        kind => Err(io::Error::new(kind, format!("the connection to the proxy failed: {error}"))),
    }
}

fn too_late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "the proxy has not connected in time")
}

fn invalid(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_layout_of_the_standard() {
        let request = |text: &str| request(&text.parse().unwrap());
        assert_eq!(request("1.2.3.4:258").unwrap(), [5, 1, 0, 1, 1, 2, 3, 4, 1, 2]);
        let mut v6 = vec![5, 1, 0, 4, 0x20, 1, 0xd, 0xb8];
        v6.extend([0; 11]);
        v6.extend([1, 0x20, 0x8d]);
        assert_eq!(request("[2001:db8::1]:8333").unwrap(), v6);
        // A mapped address is an IPv4 address.
        assert_eq!(request("[::ffff:1.2.3.4]:258").unwrap(), request("1.2.3.4:258").unwrap());
        assert_eq!(request("a.onion:258").unwrap(), *b"\x05\x01\x00\x03\x07a.onion\x01\x02");
        assert_eq!(request("a.onion").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(request("1.2.3.4").unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn logins_have_the_layout_of_the_standard() {
        assert_eq!(login("me", "secret").unwrap(), *b"\x01\x02me\x06secret");
        let longest = "x".repeat(255);
        assert_eq!(login(&longest, &longest).unwrap().len(), 3 + 2 * 255);
        for (user, password) in [("", "secret"), ("me", ""), (&*"x".repeat(256), "secret")] {
            assert_eq!(login(user, password).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn debug_tells_no_password() {
        let proxy = Socks5::new("127.0.0.1:9050".parse().unwrap()).credentials("me", "secret");
        let text = format!("{proxy:?}");
        assert!(text.contains("127.0.0.1:9050") && text.contains("me") && !text.contains("secret"), "{text}");
    }
}
