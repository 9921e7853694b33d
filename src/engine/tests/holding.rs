//! How peers are held: how many there are, how many are dialled at once, and where they are found.

use std::collections::BTreeSet;

use super::*;

fn config() -> Config {
    Config::new(Network::Regtest).redial_min(SECOND)
}

/// So many connections to one address.
fn connections(world: &mut World, count: usize) -> Vec<PeerId> {
    let address = address(1).parse().unwrap();
    world.run(|engine, now| engine.add_connections(now, address, count)).unwrap()
}

/// Lets time pass until somebody is dialled; gives how long that was.
fn until_dialled(world: &mut World) -> Duration {
    let mut passed = Duration::ZERO;
    while world.connects.is_empty() {
        passed += world.jump();
    }
    passed
}

#[test]
fn an_address_without_a_connection_is_dialled_once_at_a_time() {
    let mut world = World::new(config());
    let peers = connections(&mut world, 5);
    assert_eq!(peers.iter().collect::<BTreeSet<_>>().len(), 5);
    world.start();
    for failures in 0..3 {
        world.pass(10 * SECOND);
        assert_eq!(world.connects.len(), 1, "after {failures} failures");
        let (peer, ..) = world.connects[0];
        world.refuse(peer);
        assert!(world.connects.is_empty());
    }
    until_dialled(&mut world);
    let (first, ..) = world.connects[0];
    world.connect(first);
    // One that failed itself has a little longer to wait.
    world.pass(SECOND);
    assert_eq!(world.connects.len(), 4, "it can be reached, so the others follow");
    for (peer, ..) in world.connects.clone() {
        world.connect(peer);
    }
    assert_eq!(world.engine.ready_count(), 5);
}

#[test]
fn the_back_off_is_that_of_the_address() {
    let mut world = World::new(config());
    connections(&mut world, 3);
    world.start();
    world.pass(Duration::ZERO);
    for expected in [1, 2, 4, 8] {
        let (peer, ..) = world.connects[0];
        world.refuse(peer);
        let wait = until_dialled(&mut world);
        let expected = expected * SECOND;
        assert!(wait >= expected.mul_f64(0.75) && wait <= expected.mul_f64(1.25), "{wait:?} for {expected:?}");
    }
}

#[test]
fn connections_that_drop_together_come_back_behind_one() {
    let mut world = World::new(config());
    let peers = connections(&mut world, 10);
    world.start();
    world.pass(Duration::ZERO);
    world.connect(peers[0]);
    world.pass(Duration::ZERO);
    for &peer in &peers[1..] {
        world.connect(peer);
    }
    world.pass(60 * SECOND);
    peers.iter().for_each(|&peer| world.lose(peer));
    let wait = until_dialled(&mut world);
    assert!(wait <= SECOND.mul_f64(2.25), "ten losses by one cause are one failure: {wait:?}");
    assert_eq!(world.connects.len(), 1);
    world.pass(20 * SECOND);
    assert_eq!(world.connects.len(), 1, "the others wait for it");
    let (first, ..) = world.connects[0];
    world.connect(first);
    world.pass(Duration::ZERO);
    assert_eq!(world.connects.len(), 9);
}

#[test]
fn no_more_than_48_are_dialled_at_once() {
    let mut world = World::new(config());
    for n in 0..100 {
        world.add(&address(n));
    }
    world.start();
    world.pass(Duration::ZERO);
    assert_eq!(world.connects.len(), 48);
    let mut seen: BTreeSet<PeerId> = world.connects.iter().map(|&(peer, ..)| peer).collect();
    // One that succeeds makes room as one that fails does.
    for n in 0..52 {
        let (peer, ..) = world.connects[0];
        if n % 2 == 0 {
            world.connect(peer);
        } else {
            world.refuse(peer)
        }
        world.pass(Duration::ZERO);
        assert_eq!(world.connects.len(), 48);
        seen.extend(world.connects.iter().map(|&(peer, ..)| peer));
    }
    assert_eq!(seen.len(), 100, "everybody had a turn before anybody had two");
}

#[test]
fn connections_to_one_address_are_not_dialled_all_at_once() {
    let mut world = World::new(config().max_peers(300));
    let peers = connections(&mut world, 300);
    world.start();
    world.pass(Duration::ZERO);
    world.connect(peers[0]);
    world.pass(Duration::ZERO);
    let mut most = 0;
    while let Some(&(peer, ..)) = world.connects.first() {
        most = most.max(world.connects.len());
        world.connect(peer);
        world.pass(Duration::ZERO);
    }
    assert_eq!((world.engine.ready_count(), most), (300, 48));
}

#[test]
fn connections_beyond_the_limit_of_peers_are_refused() {
    let mut world = World::new(config().max_peers(4));
    world.add(&address(9));
    let address: crate::peer::PeerAddress = address(1).parse().unwrap();
    let (four, three) = (address.clone(), address);
    let refused = world.run(|engine, now| engine.add_connections(now, four, 4));
    assert_eq!(refused, Err(crate::error::AddPeersError::TooManyPeers { wanted: 5, limit: 4 }));
    let peers = world.run(|engine, now| engine.add_connections(now, three.clone(), 2)).unwrap();
    // Those there are count.
    let more = world.run(|engine, now| engine.add_connections(now, three, 3)).unwrap();
    assert_eq!(more[..2], peers);
    assert_eq!(world.engine.peers(world.now).len(), 4);
}

#[test]
fn nobody_is_found_who_was_not_named_if_only_those_are_wanted() {
    let mut world = World::new(Config::new(Network::Test).only_named_peers(true));
    world.start();
    world.pass(600 * SECOND);
    assert_eq!(world.seeds.len(), 0);
    assert_eq!(world.find(&["20.1.0.1:18333"]), []);
    let named = world.add("20.2.0.1");
    world.pass(Duration::ZERO);
    world.connect(named);
    world.show_marker(named);
    assert!(!world.sent().iter().any(|(_, message)| *message == Message::GetAddr));
    world.say(named, Message::Addr(told(&["20.3.0.1:18333", "20.4.0.1:18333"])));
    world.pass(600 * SECOND);
    assert_eq!(ranking(&world), [named]);
}

/// What a peer tells of others.
fn told(addresses: &[&str]) -> Vec<TimestampedAddress> {
    let address = |text: &&str| NetworkAddress::new(Services::NETWORK, text.parse().unwrap());
    addresses.iter().map(|text| TimestampedAddress { time: 1_700_000_000, address: address(text) }).collect()
}

#[test]
fn others_are_found_besides_named_peers_if_that_is_wanted() {
    let mut world = World::new(Config::new(Network::Test).discover(true).target_peers(3));
    let [good, dead] = ["20.1.0.1", "20.2.0.1"].map(|text| world.add(text));
    world.start();
    world.pass(Duration::ZERO);
    assert_eq!(world.seeds.len(), 3);
    world.connect(good);
    world.show_marker(good);
    world.refuse(dead);
    let found = world.find(&["20.3.0.1:18333", "20.4.0.1:18333", "20.5.0.1:18333", "20.1.0.1:18333"]);
    assert_eq!(found.len(), 2, "the one that is named and connected counts, the one that is not does not");
    for &peer in &found {
        world.connect(peer);
        world.show_marker(peer);
    }
    assert_eq!(world.engine.ready_count(), 3);
    world.connects.clear();
    // The named one is back: nobody is dropped for it.
    world.pass(2 * SECOND);
    world.connect(dead);
    world.show_marker(dead);
    assert_eq!(world.engine.ready_count(), 4);
    // A found one that is lost need not be replaced now.
    world.lose(found[0]);
    world.pass(600 * SECOND);
    assert!(world.connects.is_empty());
}

#[test]
fn a_verified_peer_is_asked_once_for_others_and_its_answer_is_ours() {
    let mut world = World::new(Config::new(Network::Test).target_peers(4));
    world.start();
    let [peer] = world.find(&["20.1.0.1:18333"])[..] else { panic!("one is found") };
    world.connect(peer);
    world.sent.clear();
    world.show_marker(peer);
    assert_eq!(world.sent(), [(peer, Message::GetAddr)]);
    // That is how a node makes itself known.
    let own = Message::Addr(told(&["20.1.0.1:18333"]));
    assert_eq!(world.say(peer, own.clone()), Some(own));
    let list = told(&["20.2.0.1:18333", "20.3.0.1:18333", "20.4.0.1:18333", "20.5.0.1:18333"]);
    assert_eq!(world.say(peer, Message::Addr(list.clone())), None);
    world.pass(Duration::ZERO);
    assert_eq!(world.connects.len(), 3, "up to the target");
    let unasked = Message::Addr(told(&["20.6.0.1:18333", "20.7.0.1:18333"]));
    assert_eq!(world.say(peer, unasked.clone()), Some(unasked), "unasked it is for the caller");
    assert_eq!(world.sent(), []);
}

#[test]
fn the_callers_question_for_addresses_is_answered_by_what_we_asked_for() {
    let mut world = World::new(Config::new(Network::Test));
    world.start();
    let [peer] = world.find(&["20.1.0.1:18333"])[..] else { panic!("one is found") };
    world.connect(peer);
    world.show_marker(peer);
    world.sent.clear();
    let request = world.ask(Question::Addresses);
    assert_eq!(world.sent(), [], "a node answers once");
    let list = told(&["20.2.0.1:18333", "20.3.0.1:18333"]);
    assert_eq!(world.say(peer, Message::Addr(list.clone())), None);
    assert!(matches!(world.result(request), Ok(Answer::Addresses(got)) if *got == list));
}

#[test]
fn a_found_peer_is_replaced_by_another() {
    let mut world = World::new(Config::new(Network::Test).target_peers(1));
    world.start();
    let [first] = world.find(&["20.1.0.1:18333", "20.2.0.1:18333"])[..] else { panic!("one is dialled") };
    let [(.., one)] = world.connects[..] else { panic!("one is dialled") };
    world.refuse(first);
    world.pass(Duration::ZERO);
    let [(second, _, other)] = world.connects[..] else { panic!("one is dialled") };
    assert!(first != second && one != other);
    assert_eq!(ranking(&world), [second], "the first is forgotten but for its address");
    world.connect(second);
    world.show_marker(second);
    world.pass(600 * SECOND);
    assert_eq!((world.connects.len(), world.engine.ready_count()), (0, 1));
}

#[test]
fn two_of_a_group_are_held_only_where_there_is_no_choice() {
    let mut world = World::new(Config::new(Network::Test).target_peers(3));
    world.start();
    let addresses = ["20.1.0.1:18333", "20.1.0.2:18333", "20.1.0.3:18333", "20.2.0.1:18333", "20.3.0.1:18333"];
    assert_eq!(world.find(&addresses).len(), 3);
    let groups: BTreeSet<_> =
        world.connects.iter().map(|(.., address)| address.ip().to_string()[..4].to_owned()).collect();
    assert_eq!(groups.len(), 3);
    let others: Vec<PeerId> = world
        .connects
        .iter()
        .filter(|(.., address)| !address.ip().to_string().starts_with("20.1."))
        .map(|&(peer, ..)| peer)
        .collect();
    others.into_iter().for_each(|peer| world.refuse(peer));
    world.pass(Duration::ZERO);
    assert_eq!(world.connects.len(), 3, "rather two neighbours than none");
}

#[test]
fn a_dial_while_nobody_can_be_reached_is_forgiven_at_once_when_somebody_is() {
    let mut world = World::new(config().redial_max(300 * SECOND).target_peers(2));
    let peers: Vec<PeerId> = (1..=4).map(|n| world.add(&address(n))).collect();
    world.start();
    world.pass(Duration::ZERO);
    for _ in 0..6 {
        for &peer in &peers {
            while !world.connects.iter().any(|&(dialled, ..)| dialled == peer) {
                world.jump();
            }
            world.refuse(peer);
        }
    }
    let failures = |world: &World| world.engine.peers(world.now).iter().map(|info| info.failures).max();
    assert!(failures(&world) >= Some(5));
    until_dialled(&mut world);
    let (first, ..) = world.connects[0];
    world.connect(first);
    assert_eq!(failures(&world), Some(0));
    world.pass(SECOND.mul_f64(1.25));
    assert_eq!(world.connects.iter().filter(|&&(peer, ..)| peer != first).count(), 3, "all are dialled again");
}

#[test]
fn dials_that_all_fail_at_once_do_not_go_through_the_book_in_a_rush() {
    let mut world = World::new(Config::new(Network::Test).target_peers(4));
    world.start();
    let [first] = world.find(&["20.1.0.1:18333"])[..] else { panic!("one is found") };
    world.connect(first);
    world.show_marker(first);
    // Our link is down, and the connection lingers.
    let many: Vec<SocketAddr> = (2..250).map(|n| SocketAddr::from(([20, n, 0, 1], 18_333))).collect();
    world.run(|engine, now| engine.handle_seeds(now, &many));
    let (mut dials, end) = (0, world.now.instant + 60 * SECOND);
    world.pass(Duration::ZERO);
    while world.now.instant < end {
        for (peer, ..) in world.connects.clone() {
            world.refuse(peer);
            dials += 1;
        }
        world.pass(Duration::ZERO);
        if world.connects.is_empty() {
            world.jump();
        }
    }
    assert!((60..200).contains(&dials), "{dials} dials in a minute, where three are missing");
    // Whoever answers is met by the usual zeal.
    while world.connects.is_empty() {
        world.jump();
    }
    let (back, ..) = world.connects[0];
    world.connect(back);
    world.show_marker(back);
    world.pass(Duration::ZERO);
    assert_eq!((world.engine.ready_count(), world.connects.len()), (2, 2));
}
