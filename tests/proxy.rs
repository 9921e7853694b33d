//! Peers behind a SOCKS5 proxy: real sockets, a proxy of the test's own, the embedded node behind it.

#![allow(clippy::disallowed_methods, reason = "tests take the time")]
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

mod support;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use conduit::testnode::{TestNode, TestNodeConfig};
use conduit::{
    Conduit, Config, Dialler, DisconnectReason, Event, GetData, Network, PeerAddress, PeerState, Ping, Socks5,
};
use parking_lot::Mutex;
use support::{PATIENCE, waits};

#[test]
fn peer_at_an_address_is_reached_through_the_proxy() {
    let node = node();
    let proxy = Proxy::start(Proxy::default());
    let conduit = start(Socks5::new(proxy.address), &node.address().to_string());
    assert_eq!(conduit.send_request(GetData::block(node.block_hash(3).unwrap())).ok(), node.block(3));
    let expected = Dialled { login: None, host: node.address().ip().to_string(), port: node.address().port() };
    assert_eq!(proxy.dialled(), [expected]);
}

#[test]
fn name_that_only_the_proxy_knows_is_resolved_by_it_alone() {
    let node = node();
    let proxy = Proxy::start(Proxy::default().knows("hidden.onion", node.address()));
    let conduit = start(Socks5::new(proxy.address), "hidden.onion:8444");
    assert_eq!(conduit.send_request(GetData::block(node.block_hash(3).unwrap())).ok(), node.block(3));
    assert_eq!(proxy.dialled(), [Dialled { login: None, host: "hidden.onion".to_owned(), port: 8_444 }]);
    assert_eq!(conduit.peers()[0].address.to_string(), "hidden.onion:8444");
    // A lost connection comes back the same way, and a name without a port has the network's.
    node.drop_connections();
    waits::until("the peer is dialled again", || proxy.dialled().len() == 2);
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert!(conduit.send_request(Ping).is_ok());
    assert_eq!(proxy.dialled()[1], proxy.dialled()[0]);

    let proxy = Proxy::start(Proxy::default().knows("hidden.onion", node.address()));
    let conduit = start(Socks5::new(proxy.address), "hidden.onion");
    assert!(conduit.send_request(Ping).is_ok());
    assert_eq!(proxy.dialled()[0].port, Network::Regtest.port());
}

#[test]
fn user_name_and_password_are_given_to_a_proxy_that_asks() {
    let node = node();
    let login = Some(("me".to_owned(), "secret".to_owned()));
    let proxy = Proxy::start(Proxy { login: login.clone(), ..Proxy::default() });
    let conduit = start(Socks5::new(proxy.address).credentials("me", "secret"), &node.address().to_string());
    assert!(conduit.send_request(Ping).is_ok());
    assert_eq!(proxy.dialled()[0].login, login);

    let reason = DisconnectReason::Dial { kind: ErrorKind::PermissionDenied };
    let wrong = Socks5::new(proxy.address).credentials("me", "guess");
    assert_eq!(first_refusal(wrong, PATIENCE), reason);
    assert_eq!(first_refusal(Socks5::new(proxy.address), PATIENCE), reason);
    assert_eq!(proxy.dialled().len(), 1, "nothing is dialled without the login");
    // One that asks for none is not told.
    let open = Proxy::start(Proxy::default());
    let conduit = start(Socks5::new(open.address).credentials("me", "secret"), &node.address().to_string());
    assert!(conduit.send_request(Ping).is_ok());
    assert_eq!(open.dialled()[0].login, None);
}

#[test]
fn each_isolated_connection_has_a_name_of_its_own() {
    let node = node();
    let proxy = Proxy::start(Proxy { any_login: true, ..Proxy::default() });
    let dialler = Socks5::new(proxy.address).isolate();
    for _ in 0..2 {
        dialler.dial(&node.address().into(), PATIENCE).unwrap();
    }
    let logins: Vec<_> = proxy.dialled().into_iter().map(|dialled| dialled.login.unwrap()).collect();
    assert_ne!(logins[0], logins[1]);
}

#[test]
fn every_refusal_of_the_proxy_has_its_kind() {
    for (reply, kind) in [
        (1, ErrorKind::Other),
        (2, ErrorKind::PermissionDenied),
        (3, ErrorKind::NetworkUnreachable),
        (4, ErrorKind::HostUnreachable),
        (5, ErrorKind::ConnectionRefused),
        (6, ErrorKind::TimedOut),
        (7, ErrorKind::Unsupported),
        (8, ErrorKind::Unsupported),
        (9, ErrorKind::Other),
        (0xf4, ErrorKind::Other),
    ] {
        // With and without the address behind the refusal.
        for answer in [vec![5, reply], vec![5, reply, 0, 1], vec![5, reply, 0, 1, 0, 0, 0, 0, 0, 0]] {
            let is_whole = answer.len() > 2;
            let error = dial_script([vec![5, 0], answer]).unwrap_err();
            assert_eq!(error.kind(), if is_whole { kind } else { ErrorKind::UnexpectedEof }, "{reply}: {error}");
            assert!(!is_whole || error.to_string().contains(&format!("reply {reply}")), "{error}");
        }
    }
    // A conduit is told the kind.
    let proxy = Proxy::start(Proxy::default());
    let reason = DisconnectReason::Dial { kind: ErrorKind::HostUnreachable };
    assert_eq!(first_refusal(Socks5::new(proxy.address), PATIENCE), reason);
}

#[test]
fn answers_that_are_no_socks5_are_errors() {
    let bound_to = |kind: u8| vec![5, 0, 0, kind, 0, 0, 0, 0, 0, 0];
    for (script, kind, words) in [
        (vec![b"HTTP/1.1 400 Bad Request\r\n".to_vec()], ErrorKind::InvalidData, "version 72"),
        (vec![vec![4, 0]], ErrorKind::InvalidData, "version 4"),
        (vec![vec![5, 0xff]], ErrorKind::PermissionDenied, "none of the logins"),
        (vec![vec![5, 1]], ErrorKind::InvalidData, "method 1"),
        (vec![vec![5, 2]], ErrorKind::InvalidData, "method 2"),
        (vec![vec![5, 0], vec![4, 0, 0, 1]], ErrorKind::InvalidData, "version 4"),
        (vec![vec![5, 0], bound_to(0)], ErrorKind::InvalidData, "type 0"),
        (vec![vec![5, 0], bound_to(2)], ErrorKind::InvalidData, "type 2"),
        (vec![vec![5, 0], bound_to(0xff)], ErrorKind::InvalidData, "type 255"),
        (vec![vec![]], ErrorKind::UnexpectedEof, "ended the connection"),
        (vec![vec![5]], ErrorKind::UnexpectedEof, "ended the connection"),
        (vec![vec![5, 0], vec![]], ErrorKind::UnexpectedEof, "ended the connection"),
        (vec![vec![5, 0], vec![5, 0, 0, 1, 1, 2, 3]], ErrorKind::UnexpectedEof, "ended the connection"),
        (vec![vec![5, 0], vec![5, 0, 0, 3, 255, 1, 2]], ErrorKind::UnexpectedEof, "ended the connection"),
    ] {
        let error = dial_script(script.clone()).unwrap_err();
        assert_eq!(error.kind(), kind, "{script:?}: {error}");
        assert!(error.to_string().contains(words), "{script:?}: {error}");
    }
    let nobody = TcpListener::bind("127.77.7.77:0").unwrap().local_addr().unwrap();
    let error = Socks5::new(nobody).dial(&peer("192.0.2.1:1"), PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains("the proxy at"), "{error}");
}

#[test]
fn bytes_behind_the_longest_bound_address_are_the_peers() {
    let mut answers = vec![vec![5, 0, 0, 1, 1, 2, 3, 4, 5, 6], [vec![5, 0, 0, 4], vec![0; 18]].concat()];
    for len in [0_u8, 1, 255] {
        answers.push([vec![5, 0, 0, 3, len], vec![7; usize::from(len) + 2]].concat());
    }
    for mut answer in answers {
        answer.extend(b"peer");
        let mut stream = dial_script([vec![5, 0], answer]).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"peer");
    }
}

#[test]
fn proxy_that_says_nothing_is_given_up_at_the_timeout() {
    let timeout = Duration::from_millis(300);
    for silent in [Manner::Silent, Manner::SilentAfterRequest] {
        let proxy = Proxy::start(Proxy { manner: silent, ..Proxy::default() });
        ends_in_time(timeout, || Socks5::new(proxy.address).dial(&peer("192.0.2.1:1"), timeout));
        let reason = DisconnectReason::Dial { kind: ErrorKind::TimedOut };
        assert_eq!(first_refusal(Socks5::new(proxy.address), timeout), reason);
    }
}

#[test]
fn proxy_that_drips_bytes_gains_no_time() {
    let timeout = Duration::from_millis(300);
    let proxy = Proxy::start(Proxy { manner: Manner::Drip, ..Proxy::default() });
    ends_in_time(timeout, || Socks5::new(proxy.address).dial(&peer("192.0.2.1:1"), timeout));
    let reason = DisconnectReason::Dial { kind: ErrorKind::TimedOut };
    assert_eq!(first_refusal(Socks5::new(proxy.address), timeout), reason);
}

#[test]
fn login_that_cannot_be_written_is_never_sent() {
    let proxy = Proxy::start(Proxy::default());
    for (user, password) in [("", "secret".to_owned()), ("me", "x".repeat(256))] {
        let dialler = Socks5::new(proxy.address).credentials(user, password);
        let error = dialler.dial(&peer("192.0.2.1:1"), PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(proxy.dialled(), []);
}

fn node() -> TestNode {
    TestNode::start(TestNodeConfig::default().blocks(5)).unwrap()
}

fn peer(text: &str) -> PeerAddress {
    text.parse().unwrap()
}

/// A configuration under which nothing may be resolved on this machine.
fn config(dialler: Socks5) -> Config {
    Config::new(Network::Regtest)
        .redial_min(Duration::from_millis(20))
        .redial_max(Duration::from_millis(20))
        .resolver(|host: &str, _: u16| -> io::Result<Vec<SocketAddr>> {
            // A panic here would be taken for a failure to resolve, and a redial could still succeed.
            eprintln!("{host} was resolved on this machine");
            std::process::abort();
        })
        .dialler(dialler)
}

/// A conduit that is connected to the peer through the proxy.
fn start(dialler: Socks5, peer: &str) -> Conduit {
    let conduit = Conduit::new(config(dialler)).unwrap();
    conduit.add_peers([peer]).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert_eq!(conduit.peers()[0].state, PeerState::Ready);
    conduit
}

/// Why a peer whose name the proxy does not know is refused.
#[track_caller]
fn first_refusal(dialler: Socks5, connect_timeout: Duration) -> DisconnectReason {
    let conduit = Conduit::new(config(dialler).connect_timeout(connect_timeout)).unwrap();
    let events = conduit.events();
    conduit.add_peers(["unknown.example:1"]).unwrap();
    conduit.start().unwrap();
    match events.recv_timeout(PATIENCE).unwrap() {
        Event::Refused { reason, .. } => reason,
        other => panic!("not refused, but {other:?}"),
    }
}

/// The dial ends as too late, not before the timeout and not long after it.
#[track_caller]
fn ends_in_time(timeout: Duration, dial: impl FnOnce() -> io::Result<TcpStream>) {
    let began = Instant::now();
    assert_eq!(dial().unwrap_err().kind(), ErrorKind::TimedOut);
    let took = began.elapsed();
    // A drip of two seconds a byte would take minutes.
    assert!((timeout..timeout + Duration::from_secs(5)).contains(&took), "{took:?}");
}

/// Dials through a proxy that answers each message with the next of these, and then ends its side.
fn dial_script(answers: impl Into<Vec<Vec<u8>>>) -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = answers.into();
    let proxy = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for answer in answers {
            // Each message of the dialler is one write.
            assert!(stream.read(&mut [0; 512]).unwrap() > 0);
            stream.write_all(&answer).unwrap();
        }
        // The dialler may have hung up over the last answer.
        drop(stream.shutdown(Shutdown::Write));
        // Until the dialler has ended, too: closing now could take from it what it has not read.
        drop(stream.read_to_end(&mut Vec::new()));
    });
    let result = Socks5::new(address).dial(&peer("192.0.2.1:1"), PATIENCE);
    if let Ok(stream) = &result {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    if result.is_err() {
        proxy.join().unwrap();
    }
    result
}

/// A SOCKS5 server.
struct Proxy {
    address: SocketAddr,
    /// The login it asks for.
    login: Option<(String, String)>,
    /// It asks for a login and takes any.
    any_login: bool,
    /// The names it can resolve.
    names: HashMap<String, SocketAddr>,
    manner: Manner,
    dialled: Arc<Mutex<Vec<Dialled>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Forward,
    /// Takes the connection and says nothing.
    Silent,
    /// Says nothing once it knows where to.
    SilentAfterRequest,
    /// Sends a long answer byte by byte.
    Drip,
}

/// What it was asked for.
#[derive(Clone, Debug, PartialEq)]
struct Dialled {
    login: Option<(String, String)>,
    host: String,
    port: u16,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            login: None,
            any_login: false,
            names: HashMap::new(),
            manner: Manner::Forward,
            dialled: Arc::default(),
        }
    }
}

impl Proxy {
    fn knows(mut self, name: &str, address: SocketAddr) -> Self {
        self.names.insert(name.to_owned(), address);
        self
    }

    fn start(mut self) -> Arc<Self> {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        let proxy = Arc::new(self);
        let served = proxy.clone();
        // Its threads end with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let proxy = served.clone();
                thread::spawn(move || proxy.serve(stream));
            }
        });
        proxy
    }

    fn dialled(&self) -> Vec<Dialled> {
        self.dialled.lock().clone()
    }

    /// Ends when either side does, or the client says what is not foreseen.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        if self.manner == Manner::Silent {
            return client.read_to_end(&mut Vec::new()).map(drop);
        }
        let [_, count] = read(&mut client)?;
        let mut methods = vec![0; count.into()];
        client.read_exact(&mut methods)?;
        let asks = self.any_login || self.login.is_some();
        let method = if asks { 2 } else { 0 };
        if !methods.contains(&method) {
            return client.write_all(&[5, 0xff]);
        }
        client.write_all(&[5, method])?;
        let login = if asks {
            let [_] = read(&mut client)?;
            let login = (text(&mut client)?, text(&mut client)?);
            if !self.any_login && self.login.as_ref() != Some(&login) {
                return client.write_all(&[1, 1]);
            }
            client.write_all(&[1, 0])?;
            Some(login)
        } else {
            None
        };
        let [version, command, _, kind] = read(&mut client)?;
        assert_eq!((version, command), (5, 1));
        let (host, known) = match kind {
            1 => {
                let ip = std::net::IpAddr::from(read::<4>(&mut client)?);
                (ip.to_string(), None)
            }
            3 => {
                let name = text(&mut client)?;
                let known = self.names.get(&name).copied();
                (name, known)
            }
            _ => panic!("no test has an address of type {kind}"),
        };
        let port = u16::from_be_bytes(read(&mut client)?);
        match self.manner {
            Manner::SilentAfterRequest => return client.read_to_end(&mut Vec::new()).map(drop),
            Manner::Drip => return drip(&mut client),
            Manner::Forward | Manner::Silent => {}
        }
        let to = if kind == 3 { known } else { host.parse().ok().map(|ip| SocketAddr::new(ip, port)) };
        let Some(to) = to else { return client.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]) };
        self.dialled.lock().push(Dialled { login, host, port });
        let server = TcpStream::connect(to)?;
        client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80])?;
        let (from, back) = (server.try_clone()?, client.try_clone()?);
        thread::spawn(move || pass_on(from, back));
        pass_on(client, server);
        Ok(())
    }
}

/// A name of the greatest length, a byte every 50 ms, until nobody listens.
fn drip(client: &mut TcpStream) -> io::Result<()> {
    let answer = [[5, 0, 0, 3, 255].as_slice(), &[b'x'; 257]].concat();
    for byte in answer {
        client.write_all(&[byte])?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Passes bytes on until one side ends, and ends both.
fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    // How it ended does not matter: the other side hears of it.
    drop(io::copy(&mut from, &mut to));
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A text behind its length.
fn text(stream: &mut TcpStream) -> io::Result<String> {
    let [len] = read(stream)?;
    let mut bytes = vec![0; len.into()];
    stream.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}
