//! How a socket comes to be: connected here without blocking, or by a caller's dialler.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use super::EventLoop;
use super::socket::{Open, Socket, Stage, count_control};
use crate::error::DisconnectReason;
use crate::peer::{ConnectionId, PeerAddress, PeerId};
use crate::proto::{AssociationId, Connection, KeepalivePart, Link};
use crate::queue::inbound::Inbound;
use crate::queue::link::LinkState;
use crate::queue::outbound::Joins;

impl EventLoop {
    pub(super) fn connect(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: PeerId,
        address: PeerAddress,
        joins: Option<Joins>,
    ) {
        let deadline = now + self.shared.config.connect_timeout;
        let stage = if self.shared.config.dialler.is_some() {
            Stage::Dialling { deadline }
        } else {
            // Names come here resolved.
            let connected = address.socket_addr().ok_or(io::ErrorKind::InvalidInput.into());
            match connected.and_then(TcpStream::connect) {
                Ok(stream) => Stage::Connecting { stream, deadline },
                Err(error) => return self.refuse(id, peer, DisconnectReason::Dial { kind: error.kind() }),
            }
        };
        let mut socket = Socket {
            peer,
            address,
            stage,
            joins,
            second: None,
            timer: None,
            is_unread: false,
            is_unwritten: false,
        };
        if let Stage::Connecting { stream, .. } = &mut socket.stage
            && let Err(error) = register(&self.poll, stream, id)
        {
            return self.refuse(id, peer, DisconnectReason::Dial { kind: error.kind() });
        }
        if let Some(Joins { of, .. }) = joins {
            // It may be lost already.
            let Some(first) = self.sockets.get_mut(&of) else {
                return self.refuse(id, peer, DisconnectReason::Requested);
            };
            first.second = Some(id);
        }
        self.sockets.insert(id, socket);
        self.rearm(id);
    }

    /// Goes on with a connection that the caller's dialler made.
    pub(super) fn adopt(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: PeerId,
        result: Result<std::net::TcpStream, DisconnectReason>,
    ) {
        // It may have been given up on meanwhile.
        let Some(Socket { address, joins, stage: Stage::Dialling { .. }, .. }) = self.sockets.get(&id) else {
            return;
        };
        let (address, joins) = (address.clone(), *joins);
        let adopted = result.and_then(|stream| {
            let dial_error = |error: io::Error| DisconnectReason::Dial { kind: error.kind() };
            stream.set_nonblocking(true).map_err(dial_error)?;
            let mut stream = TcpStream::from_std(stream);
            register(&self.poll, &mut stream, id).map_err(dial_error)?;
            Ok(stream)
        });
        match adopted {
            Ok(stream) => self.open_connection(now, id, peer, address, stream, joins),
            Err(reason) => self.close(id, reason),
        }
    }

    /// A connection that never was one.
    pub(super) fn refuse(&self, connection: ConnectionId, peer: PeerId, reason: DisconnectReason) {
        self.shared.tell_message_thread_of(peer, Inbound::Down { connection, peer, reason });
    }

    /// A connect is done when the socket has no error and knows its peer (mio's rule).
    pub(super) fn finish_connect(&mut self, now: Instant, id: ConnectionId) {
        let Some(Socket { stage: Stage::Connecting { stream, .. }, peer, address, .. }) = self.sockets.get(&id)
        else {
            return;
        };
        let (peer, address) = (*peer, address.clone());
        let failed = match stream.take_error() {
            Ok(None) => match stream.peer_addr() {
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
                Err(error) => Some(error.kind()),
            },
            Ok(Some(error)) | Err(error) => Some(error.kind()),
        };
        if let Some(kind) = failed {
            return self.close(id, DisconnectReason::Dial { kind });
        }
        let Some(mut socket) = self.sockets.remove(&id) else { return };
        self.forget_timer(id, &mut socket);
        if let Stage::Connecting { stream, .. } = socket.stage {
            self.open_connection(now, id, peer, address, stream, socket.joins);
        }
    }

    pub(super) fn open_connection(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: PeerId,
        address: PeerAddress,
        stream: TcpStream,
        joins: Option<Joins>,
    ) {
        if let Some(mut dialling) = self.sockets.remove(&id) {
            self.forget_timer(id, &mut dialling);
        }
        // Requests are small and waited for.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!(target: "conduit::driver", "{peer}: no TCP_NODELAY: {error}");
        }
        let nonce = self.random.next();
        let settings = self.settings.clone();
        // Nobody told us the address behind a name that a proxy resolved, and the peer knows its own.
        let remote = address.socket_addr().unwrap_or(NOWHERE);
        let unix = crate::driver::now().unix;
        let mut open = match joins {
            None => {
                let random = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
                let association = settings.streams.then(|| AssociationId::new(random));
                let connection = Connection::new(settings, Link::Outbound, remote, nonce, association, now, unix);
                Open::new(stream, connection, LinkState::new(id))
            }
            Some(Joins { of, association }) => {
                let Some(first) = self.open(of) else {
                    return self.refuse(id, peer, DisconnectReason::Requested);
                };
                first.connection.set_keepalive(now, KeepalivePart::Nothing);
                let ping = first.connection.ping_out();
                let mut connection = Connection::join(settings, remote, nonce, association, ping, now);
                for &(hash, stream) in first.connection.expected() {
                    connection.expect_block(hash, stream);
                }
                let second = Open::new(stream, connection, LinkState::beside(id, &first.link));
                Open { primary: of, wanted: first.wanted, blocks: first.blocks.beside(), ..second }
            }
        };
        self.shared.outbound.budget.open(id);
        self.shared.inbound_budget.open(id);
        count_control(&self.shared, &mut open);
        let stage = Stage::Open(Box::new(open));
        log::debug!(target: "conduit::driver", "{peer}: connected to {address}");
        let (timer, is_unread, is_unwritten) = (None, false, true);
        self.sockets
            .insert(id, Socket { peer, address, stage, joins, second: None, timer, is_unread, is_unwritten });
        self.unwritten.push(id);
        self.rearm(id);
    }
}

fn register(poll: &Poll, stream: &mut TcpStream, id: ConnectionId) -> io::Result<()> {
    // Ids count up from one, so the waker's token is never theirs.
    poll.registry().register(stream, Token(id.0 as usize), Interest::READABLE | Interest::WRITABLE)
}

/// Where a peer is that is dialled by a name which only the dialler resolves.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
