//! Bans: whom each is for, how it ends, and how it is lifted.

use super::*;
use crate::peer::BanReason;
use crate::peer::PeerAddress;

fn ban(world: &mut World, peer: PeerId, time: Duration) {
    assert!(world.run(|engine, now| engine.ban(now, peer, time)));
}

fn unban(world: &mut World, address: &str) -> bool {
    let address: PeerAddress = address.parse().unwrap();
    world.run(|engine, now| engine.unban(now, address))
}

fn bans(world: &World) -> Vec<(String, Duration)> {
    let bans = world.engine.bans(world.now);
    assert!(bans.iter().all(|ban| ban.reason == BanReason::Requested));
    bans.into_iter().map(|ban| (ban.address.to_string(), ban.left)).collect()
}

/// Found peers at these addresses that are connected and verified.
fn found(addresses: &[&str]) -> (World, Vec<PeerId>) {
    let mut world = World::new(Config::new(Network::Test).target_peers(addresses.len()));
    world.start();
    let peers = world.find(addresses);
    assert_eq!(peers.len(), addresses.len());
    for &peer in &peers {
        world.connect(peer);
        world.show_marker(peer);
    }
    world.events.clear();
    (world, peers)
}

#[test]
fn a_found_peer_is_banned_with_its_host() {
    let addresses = ["20.1.0.1:18333", "20.1.0.1:18334", "20.2.0.1:18333"];
    let (mut world, peers) = found(&addresses);
    let at = |world: &World, text: &str| {
        let mut peers = world.engine.peers(world.now).into_iter();
        peers.find(|info| info.address.to_string() == text).map(|info| info.id)
    };
    let banned = at(&world, addresses[1]).unwrap();
    let stays = at(&world, addresses[2]).unwrap();
    ban(&mut world, banned, 1_000 * SECOND);
    assert_eq!(world.closes.len(), 2, "both ports");
    assert!(world.closes.iter().all(|(_, reason)| *reason == DisconnectReason::Banned));
    assert_eq!(bans(&world), [("20.1.0.1".to_owned(), 1_000 * SECOND)]);
    assert!(world.events.iter().any(|event| matches!(event, Event::Banned { .. })));
    assert_eq!((ranking(&world), peers.len()), (vec![stays], 3), "found peers are not kept");
    assert_eq!(world.find(&["20.1.0.1:18333", "20.1.0.1:18335"]), [], "nor another port");
    world.pass(999 * SECOND);
    assert!(world.connects.is_empty());
    assert_eq!(bans(&world), [("20.1.0.1".to_owned(), SECOND)]);
    world.pass(SECOND);
    assert_eq!(bans(&world), []);
    assert!(!world.find(&addresses).is_empty(), "the ban is over");
}

#[test]
fn a_named_peer_is_banned_by_its_port() {
    let mut world = World::new(Config::new(Network::Regtest));
    let [first, second] = ["10.0.0.1:1", "10.0.0.1:2"].map(|text| world.add(text));
    world.start();
    world.pass(Duration::ZERO);
    world.connect(first);
    world.connect(second);
    ban(&mut world, first, 100 * SECOND);
    assert_eq!((state(&world, first), state(&world, second)), (PeerState::Banned, PeerState::Ready));
    assert_eq!(bans(&world), [("10.0.0.1:1".to_owned(), 100 * SECOND)]);
    world.pass(100 * SECOND);
    world.connect(first);
    assert_eq!(bans(&world), []);
}

#[test]
fn peers_on_this_machine_are_banned_by_port() {
    let (mut world, peers) = found(&["127.0.0.1:1001", "127.0.0.1:1002"]);
    ban(&mut world, peers[0], 100 * SECOND);
    assert_eq!((world.closes.len(), world.engine.ready_count()), (1, 1));
    assert_eq!(ranking(&world), [peers[1]]);
}

#[test]
fn a_ban_that_is_lifted_lets_the_peer_be_dialled() {
    let (mut world, peers) = World::connected(2);
    ban(&mut world, peers[0], 1_000 * SECOND);
    ban(&mut world, peers[1], 1_000 * SECOND);
    world.pass(100 * SECOND);
    assert!(!unban(&mut world, "10.9.9.9"), "there is none");
    assert!(unban(&mut world, &address(1)));
    assert!(!unban(&mut world, &address(1)));
    world.pass(SECOND);
    world.connect(peers[0]);
    assert_eq!((state(&world, peers[0]), state(&world, peers[1])), (PeerState::Ready, PeerState::Banned));
    assert_eq!(bans(&world).len(), 1);
}

#[test]
fn a_host_named_without_a_port_is_freed_on_all_of_them() {
    let mut world = World::new(Config::new(Network::Regtest));
    let peers = ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1"].map(|text| world.add(text));
    world.start();
    peers.iter().for_each(|&peer| ban(&mut world, peer, 100 * SECOND));
    assert_eq!(bans(&world).len(), 3);
    assert!(unban(&mut world, "10.0.0.1:1"));
    assert_eq!(bans(&world).len(), 2);
    assert!(unban(&mut world, "10.0.0.1"));
    assert_eq!(bans(&world), [("10.0.0.2:1".to_owned(), 100 * SECOND)]);
}

#[test]
fn a_found_host_that_is_freed_is_dialled_again() {
    let (mut world, peers) = found(&["20.1.0.1:18333"]);
    ban(&mut world, peers[0], 1_000 * SECOND);
    world.pass(10 * SECOND);
    assert!(world.connects.is_empty());
    assert!(unban(&mut world, "20.1.0.1:18333"));
    world.pass(SECOND);
    assert_eq!(world.connects.len(), 1);
}

#[test]
fn a_later_ban_takes_the_place_of_an_earlier_one() {
    let (mut world, peers) = World::connected(1);
    ban(&mut world, peers[0], 1_000 * SECOND);
    ban(&mut world, peers[0], 10 * SECOND);
    assert_eq!(bans(&world), [(address(1), 10 * SECOND)]);
    world.pass(1_000 * SECOND);
    assert_eq!(world.connects.len(), 1);
}

#[test]
fn nobody_unknown_is_banned() {
    let mut world = World::new(Config::new(Network::Regtest));
    assert!(!world.run(|engine, now| engine.ban(now, PeerId(99), SECOND)));
    assert!(bans(&world).is_empty() && world.events.is_empty());
}

#[test]
fn what_could_not_be_saved_is_given_again() {
    let (mut world, peers) = World::connected(1);
    assert!(world.engine.snapshot_peers().is_none(), "nothing was found, and nobody is banned");
    world.run(|engine, now| engine.ban(now, peers[0], SECOND));
    let saved = world.engine.snapshot_peers().expect("there is a ban");
    assert_eq!(saved.bans.len(), 1);
    assert!(world.engine.snapshot_peers().is_none());
    world.engine.note_unsaved();
    assert_eq!(world.engine.snapshot_peers(), Some(saved));
}
