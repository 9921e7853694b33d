//! Bans by the caller: whom they hit, how they are told, how they end.

use std::time::Duration;

use conduit::testnode::{TestNode, TestNodeConfig};
use conduit::{
    BanReason, Command, Conduit, DisconnectReason, Event, GetData, PeerState, Ping, RequestError, RequestOptions,
};

use super::support::{PATIENCE, waits};
use super::{
    addresses, config, connect, connects, count, custom, hamlet, info, loses, node, ready, regtest, until,
};

#[test]
fn ban_ends_all_connections_to_an_address_until_it_is_lifted() {
    let (node, other) = (node(), node());
    let (conduit, events, ids) = connect(regtest(), [&node, &other]);
    let three = conduit.add_connections(node.address(), 3).unwrap();
    assert_eq!(three[0], ids[0], "the one there is counts");
    conduit.wait_for_peers(4, PATIENCE).unwrap();
    assert!(node.wait_for_connections(3, PATIENCE));
    drop(until(&events, connects(three[2])));

    assert!(conduit.ban(three[1], Duration::from_secs(3_600)));
    let mut ended = Vec::new();
    let mut banned = None;
    while ended.len() < 3 {
        match waits::next_event(&events) {
            Event::Disconnected { peer, reason: DisconnectReason::Banned, address } => {
                assert_eq!(address.socket_addr(), Some(node.address()));
                ended.push(peer);
            }
            Event::Banned { ban } => banned = Some(ban),
            Event::Connected { .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    ended.sort();
    assert_eq!(ended, three);
    let ban = banned.expect("it is told before its consequences");
    assert_eq!(ban.address.socket_addr(), Some(node.address()), "on this machine only the address is meant");
    assert!(ban.reason == BanReason::Requested);
    let bans = conduit.bans();
    assert_eq!(bans.len(), 1);
    assert!(bans[0].left <= ban.left && bans[0].left > Duration::from_secs(3_500), "{bans:?}");
    assert!(node.wait_for_connections(0, PATIENCE));
    assert!(three.iter().all(|&id| info(&conduit, id).state == PeerState::Banned));
    assert_eq!(ready(&conduit), [other.address()]);
    // Nobody is dialled who is banned, whoever asks for it.
    let dials = conduit.stats().dials;
    let options = RequestOptions::new().peer(three[0]).timeout(Duration::from_millis(300));
    assert_eq!(conduit.send_request_with(Ping, &options), Err(RequestError::NoPeers));
    assert_eq!(conduit.add_peers([node.address()]).unwrap(), [three[0]]);
    assert_eq!(conduit.stats().dials, dials);

    assert_eq!(conduit.unban(other.address()), Ok(false), "it was not banned");
    assert_eq!(conduit.unban(node.address()), Ok(true));
    conduit.wait_for_peers(4, PATIENCE).unwrap();
    assert!(conduit.bans().is_empty());
    assert!(node.wait_for_connections(3, PATIENCE));
}

#[test]
fn requests_of_a_peer_that_is_banned_go_to_the_next() {
    let (one, other) = (node(), node());
    one.ignore(Command::GETDATA);
    let (conduit, _, ids) = connect(regtest(), [&one, &other]);
    conduit.set_main_peer(one.address()).unwrap();
    let pending = conduit.send_request_nowait(GetData::block(one.block_hash(2).unwrap())).unwrap();
    assert!(one.wait_for_received(Command::GETDATA, 1, PATIENCE));
    assert!(conduit.ban(ids[0], Duration::from_secs(3_600)));
    assert_eq!(pending.wait().ok(), other.block(2));
    assert_eq!(conduit.main_peer(), Some(ids[1]));
}

#[test]
fn ban_ends_by_itself() {
    let node = node();
    let (conduit, events, ids) = connect(regtest(), [&node]);
    drop(until(&events, connects(ids[0])));
    assert!(conduit.ban(ids[0], Duration::from_secs(1)));
    drop(until(&events, loses(ids[0])));
    assert_eq!(conduit.bans().len(), 1);
    drop(until(&events, connects(ids[0])));
    assert!(conduit.bans().is_empty());
    assert_eq!(count(&conduit, PeerState::Ready), 1);
}

#[test]
fn found_peer_that_is_banned_gives_its_place_to_another() {
    let nodes = hamlet(4);
    let known = addresses(&nodes);
    let network = custom(&["seed.example"], None);
    let resolver = move |_: &str, _: u16| Ok(known.clone());
    let conduit = Conduit::new(config(network).target_peers(3).resolver(resolver)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    let first = ready(&conduit);
    let banned = conduit.peers()[0].clone();
    assert!(conduit.ban(banned.id, Duration::from_secs(3_600)));
    waits::until("another one has its place", || ready(&conduit).len() == 3);
    assert!(!ready(&conduit).contains(&banned.address.socket_addr().unwrap()));
    assert_eq!(ready(&conduit).iter().filter(|address| first.contains(address)).count(), 2);
    assert!(conduit.peers().iter().all(|peer| peer.id != banned.id), "it is forgotten");
    assert!(!conduit.ban(banned.id, Duration::from_secs(1)), "so it cannot be banned again");
    // A host alone stands for all its ports.
    let host = banned.address.socket_addr().unwrap().ip().to_string();
    assert_eq!((conduit.unban("127.9.9.9"), conduit.unban(&host)), (Ok(false), Ok(true)));
    assert!(conduit.bans().is_empty());
}

#[test]
fn found_peer_on_another_chain_is_banned_and_never_used() {
    let wrong = TestNodeConfig::default().network(custom(&[], None)).blocks(0);
    let wrong = TestNode::start(wrong).unwrap();
    wrong.mine_branch(0, 9);
    let nodes = hamlet(2);
    let mut known = addresses(&nodes);
    known.push(wrong.address());
    let network = custom(&["seed.example"], Some(super::marker_of(&nodes[0])));
    let resolver = move |_: &str, _: u16| Ok(known.clone());
    let conduit = Conduit::new(config(network).resolver(resolver)).unwrap();
    let events = conduit.events();
    conduit.start().unwrap();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let seen = until(&events, |event| matches!(event, Event::Refused { .. }));
    let refused = |event: &Event| match event {
        Event::Refused { address, reason, .. } => Some((address.socket_addr(), reason.clone())),
        _ => None,
    };
    assert_eq!(seen.iter().find_map(refused), Some((Some(wrong.address()), DisconnectReason::WrongChain)));
    let banned = |event: &Event| matches!(event, Event::Banned { ban } if ban.reason == BanReason::WrongChain);
    assert!(seen.iter().any(banned), "{seen:?}");
    let bans = conduit.bans();
    assert!(matches!(&bans[..], [ban] if ban.reason == BanReason::WrongChain), "{bans:?}");
    assert_eq!(bans[0].address.socket_addr(), Some(wrong.address()));
    assert_eq!(ready(&conduit), addresses(&nodes));
    // Of three that were found each was dialled once, though eight are wanted.
    assert_eq!(conduit.stats().dials, 3);
    assert!(wrong.wait_for_connections(0, PATIENCE));
}
