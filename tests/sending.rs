//! What is sent arrives whole and in the order sent, whichever way it takes through the conduit.

mod support;

use conduit::message::Message;
use conduit::testnode::transaction;
use conduit::wire::Command;
use conduit::{Conduit, Config, Network, Ping, RequestOptions, Txid};
use support::PATIENCE;
use support::raw_peer::{RawListener, RawPeer};

#[test]
fn messages_arrive_in_the_order_sent_however_they_are_addressed() {
    let conduit = Conduit::new(Config::new(Network::Regtest)).unwrap();
    let listeners = [RawListener::bind(), RawListener::bind()];
    let ids = conduit.add_peers(listeners.iter().map(RawListener::address)).unwrap();
    conduit.start().unwrap();
    let mut peers = listeners.each_ref().map(RawListener::shake_hands);
    conduit.wait_for_peers(2, PATIENCE).unwrap();

    let mut expected: [Vec<Sent>; 2] = Default::default();
    let mut pings = Vec::new();
    for n in 0..2_000 {
        let len = if n % 97 == 0 { 20_000 } else { 100 + n as usize % 300 };
        let message = Message::Tx(transaction(n, len));
        let sent = Sent::of(&message).expect("it is a transaction");
        match n / 10 % 4 {
            // Streams for both, for one, for each in turn, for one with questions in between.
            0 => {
                assert!(conduit.send_to_all(&ids, &message).iter().all(Result::is_ok));
                expected.iter_mut().for_each(|list| list.push(sent));
            }
            1 => {
                conduit.send(ids[0], message).unwrap();
                expected[0].push(sent);
            }
            2 => {
                let to = n as usize % 2;
                conduit.send(ids[to], message).unwrap();
                expected[to].push(sent);
            }
            _ => {
                conduit.send(ids[1], message).unwrap();
                pings.push(conduit.send_request_nowait_with(Ping, &RequestOptions::new().peer(ids[1])).unwrap());
                expected[1].extend([sent, Sent::Ping]);
            }
        }
    }
    for (peer, expected) in peers.iter_mut().zip(expected) {
        for (n, expected) in expected.iter().enumerate() {
            assert_eq!(next(peer), *expected, "message {n}");
        }
    }
    pings.into_iter().for_each(drop);
    conduit.shutdown();
}

/// What a peer is to get.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sent {
    Tx(Txid),
    Ping,
}

impl Sent {
    fn of(message: &Message) -> Option<Self> {
        match message {
            Message::Tx(transaction) => Some(Self::Tx(transaction.txid())),
            Message::Ping { .. } => Some(Self::Ping),
            _ => None,
        }
    }
}

fn next(peer: &mut RawPeer) -> Sent {
    loop {
        let message = peer.next().expect("a message in time");
        assert_ne!(message.command(), Command::VERSION, "one connection each");
        if let Some(sent) = Sent::of(&message) {
            return sent;
        }
    }
}
