//! Several connections to one address: how they are made, and come back when all are lost at once.

use std::time::{Duration, Instant};

use conduit::error::AddPeersError;
use conduit::{Conduit, PeerState, Ping, RequestOptions};

use super::support::PATIENCE;
use super::support::raw_peer::{RawListener, RawPeer};
use super::{count, node, regtest};

#[test]
fn three_hundred_connections_dropped_at_once_come_back_in_turns() {
    let node = node();
    let config = regtest().max_peers(MANY).redial_min(MIN).redial_max(MAX);
    let conduit = Conduit::new(config.handshake_timeout(PATIENCE)).unwrap();
    let ids = conduit.add_connections(node.address(), MANY).unwrap();
    assert_eq!(ids.len(), MANY);
    conduit.start().unwrap();
    conduit.wait_for_peers(MANY, PATIENCE).unwrap();
    assert!(node.wait_for_connections(MANY, PATIENCE));
    assert_eq!(conduit.stats().dials, MANY as u64);

    node.drop_connections();
    let most = most_dials_until(&conduit, |conduit| conduit.stats().connects == 2 * MANY as u64);
    assert!(most <= MOST_DIALS, "{most} at once");
    conduit.wait_for_peers(MANY, PATIENCE).unwrap();
    assert!(node.wait_for_connections(MANY, PATIENCE));
    assert_eq!(conduit.stats().dials, 2 * MANY as u64, "one dial for each that was lost");

    // While the node takes nobody, one dial finds out for all of them, once in each back-off.
    node.refuse(true);
    let begun = Instant::now();
    node.drop_connections();
    let before = conduit.stats().dials;
    let most = most_dials_until(&conduit, |conduit| conduit.stats().dials >= before + 6);
    assert_eq!(most, 1);
    // Six waits of three quarters of 100, 200, 400, 400, 400 and 400 ms.
    assert!(begun.elapsed() >= Duration::from_millis(1_425), "6 dials within {:?}", begun.elapsed());
    node.refuse(false);
    let most = most_dials_until(&conduit, |conduit| count(conduit, PeerState::Ready) == MANY);
    assert!(most <= MOST_DIALS, "{most} at once");
    for &id in [&ids[0], &ids[MANY - 1]] {
        assert!(conduit.send_request_with(Ping, &RequestOptions::new().peer(id)).is_ok());
    }
}

#[test]
fn no_more_than_48_are_dialled_at_once_and_one_alone_where_nobody_is_connected() {
    let listener = RawListener::bind();
    let conduit = Conduit::new(regtest().max_peers(100).handshake_timeout(PATIENCE * 2)).unwrap();
    conduit.add_connections(listener.address(), 100).unwrap();
    conduit.start().unwrap();
    let mut first = listener.accept();
    assert_eq!((conduit.stats().dials, count(&conduit, PeerState::Connecting)), (1, 1));
    first.shake_hands();
    let mut peers: Vec<_> = (0..MOST_DIALS).map(|_| listener.accept()).collect();
    assert_eq!((conduit.stats().dials, count(&conduit, PeerState::Connecting)), (49, MOST_DIALS));
    // Each that is done leaves its place to one other.
    peers[..10].iter_mut().for_each(RawPeer::shake_hands);
    conduit.wait_for_peers(11, PATIENCE).unwrap();
    peers.extend((0..10).map(|_| listener.accept()));
    assert_eq!((conduit.stats().dials, count(&conduit, PeerState::Connecting)), (59, MOST_DIALS));
}

#[test]
fn connections_count_among_the_peers_and_more_than_those_are_refused() {
    let node = node();
    let conduit = Conduit::new(regtest().max_peers(5)).unwrap();
    let first = conduit.add_peers([node.address()]).unwrap();
    let too_many = AddPeersError::TooManyPeers { wanted: 6, limit: 5 };
    assert_eq!(conduit.add_connections(node.address(), 6), Err(too_many));
    assert_eq!(conduit.peers().len(), 1, "none was added");
    let five = conduit.add_connections(node.address(), 5).unwrap();
    assert_eq!((five.len(), five[0]), (5, first[0]));
    assert_eq!(conduit.add_connections(node.address(), 2).unwrap(), five[..2], "there are enough");
    conduit.start().unwrap();
    conduit.wait_for_peers(5, PATIENCE).unwrap();
    // One that is not wanted any more does not come back, the others stay.
    assert!(conduit.disconnect(five[3]));
    assert!(node.wait_for_connections(4, PATIENCE));
    assert_eq!((conduit.peers().len(), conduit.stats().dials), (4, 5));
}

/// The most dials under way at once, as often as one can look, until something holds.
#[track_caller]
fn most_dials_until(conduit: &Conduit, holds: impl Fn(&Conduit) -> bool) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut most = 0;
    while !holds(conduit) {
        assert!(Instant::now() < deadline, "not in time: {}", conduit.stats());
        most = most.max(count(conduit, PeerState::Connecting));
        std::thread::yield_now();
    }
    most
}

const MANY: usize = 300;
const MOST_DIALS: usize = 48;
const MIN: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_millis(400);
