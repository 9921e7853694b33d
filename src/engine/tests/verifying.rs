//! Whether a peer is one for us, and what is done with it until that is known.

use super::*;
use crate::peer::BanReason;

fn config() -> Config {
    Config::new(Network::Test).verify_timeout(20 * SECOND).verify_interval(60 * SECOND)
}

/// A peer that was named, and is being checked.
fn checked(config: Config) -> (World, PeerId) {
    let mut world = World::new(config);
    let peer = world.add("20.1.0.1");
    world.start();
    world.pass(Duration::ZERO);
    world.connect(peer);
    (world, peer)
}

/// A peer that was found, and is dialled.
fn found(config: Config) -> (World, PeerId) {
    let mut world = World::new(config.target_peers(1));
    world.start();
    let [peer] = world.find(&["20.1.0.1:18333"])[..] else { panic!("it is dialled") };
    (world, peer)
}

/// Nobody is dialled for so long, although somebody tells of the peer again and again.
fn is_shunned_for(world: &mut World, time: Duration) -> bool {
    let end = world.now.instant + time;
    while world.now.instant + 60 * SECOND < end {
        world.pass(60 * SECOND);
        if !world.find(&["20.1.0.1:18333"]).is_empty() {
            return false;
        }
    }
    true
}

fn is_question(message: &Message) -> bool {
    let marker = Network::Test.fork_marker().unwrap();
    matches!(message, Message::GetHeaders(question) if question.stop == marker.marker)
}

fn has_wrong_chain(event: &Event) -> bool {
    matches!(event, Event::Refused { reason: DisconnectReason::WrongChain, .. })
}

#[test]
fn a_peer_counts_once_it_has_shown_the_marker() {
    let (mut world, peer) = checked(config());
    assert_eq!((state(&world, peer), world.engine.ready_count()), (PeerState::Checking, 0));
    let [(asked, question)] = &world.sent()[..] else { panic!("one question is asked") };
    assert!(*asked == peer && is_question(question));
    world.advance(3 * SECOND);
    world.show_marker(peer);
    assert_eq!((state(&world, peer), world.engine.ready_count()), (PeerState::Ready, 1));
    assert!(matches!(&world.events[..], [Event::Connected { took, .. }] if *took == 3 * SECOND));
}

#[test]
fn a_found_peer_on_another_chain_is_banned_and_left_alone() {
    let (mut world, peer) = found(config());
    let connection = world.connect(peer);
    assert_eq!(world.say(peer, Message::Headers(vec![foreign_header(true)])), None);
    assert_eq!(world.closes, [(connection, DisconnectReason::WrongChain)]);
    assert_eq!(world.events.iter().filter(|event| has_wrong_chain(event)).count(), 1);
    assert!(!world.events.iter().any(|event| matches!(event, Event::Connected { .. })));
    let bans = world.engine.bans(world.now);
    assert!(
        matches!(&bans[..], [ban] if ban.reason == BanReason::WrongChain && ban.address.to_string() == "20.1.0.1"),
        "{bans:?}"
    );
    let banned = |event: &Event| matches!(event, Event::Banned { ban } if *ban == bans[0]);
    assert_eq!(world.events.iter().filter(|event| banned(event)).count(), 1);
    assert!(is_shunned_for(&mut world, 86_000 * SECOND));
    world.pass(500 * SECOND);
    assert!(world.engine.bans(world.now).is_empty());
    assert_eq!(world.find(&["20.1.0.1:18333"]).len(), 1, "it may have found its way since");
}

#[test]
fn a_named_peer_on_another_chain_is_dialled_again_after_the_longest_back_off() {
    let (mut world, peer) = checked(config().redial_max(200 * SECOND));
    for _ in 0..3 {
        world.say(peer, Message::Headers(vec![foreign_header(true)]));
        assert_eq!(state(&world, peer), PeerState::Waiting);
        assert!(world.engine.bans(world.now).is_empty());
        world.pass(149 * SECOND);
        assert!(world.connects.is_empty());
        world.pass(51 * SECOND);
        world.connect(peer);
    }
    world.show_marker(peer);
    assert_eq!(state(&world, peer), PeerState::Ready);
}

#[test]
fn a_peer_that_calls_itself_by_another_chains_name_is_asked_nothing() {
    const AGENT: &str = "/Bitcoin Cash Node:28.0.1(EB32.0)/";
    let (mut world, peer) = found(config());
    let connection = world.connect_as(peer, Services::NETWORK, AGENT);
    assert!(world.sent.is_empty());
    let reason = DisconnectReason::OtherChain { user_agent: AGENT.to_owned() };
    assert_eq!(world.closes, [(connection, reason)]);
    assert!(world.engine.bans(world.now).iter().all(|ban| ban.reason == BanReason::WrongChain));
    assert_eq!(world.engine.bans(world.now).len(), 1);
    assert!(is_shunned_for(&mut world, 86_000 * SECOND));

    // Where there is no other chain, names mean nothing.
    let mut world = World::new(Config::new(Network::Regtest));
    let peer = world.add("20.1.0.1");
    world.start();
    world.pass(Duration::ZERO);
    world.connect_as(peer, Services::NETWORK, AGENT);
    assert_eq!(state(&world, peer), PeerState::Ready);
}

#[test]
fn services_count_only_for_whoever_was_not_named() {
    let (mut world, peer) = found(config());
    let connection = world.connect_as(peer, Services::NONE, "/pruned:1/");
    let reason = DisconnectReason::MissingServices { services: Services::NONE };
    assert_eq!(world.closes, [(connection, reason)]);
    assert!(world.sent.is_empty() && world.engine.bans(world.now).is_empty());
    assert_eq!(world.find(&["20.1.0.1:18333"]), [], "its back-off is not over");

    let mut world = World::new(config());
    let peer = world.add("20.1.0.1");
    world.start();
    world.pass(Duration::ZERO);
    world.connect_as(peer, Services::NONE, "/pruned:1/");
    world.show_marker(peer);
    assert_eq!(state(&world, peer), PeerState::Ready);
}

#[test]
fn an_answer_without_work_ends_the_connection_and_no_more() {
    let (mut world, peer) = found(config().redial_min(SECOND));
    let connection = world.connect(peer);
    world.say(peer, Message::Headers(vec![foreign_header(false)]));
    assert_eq!(world.closes, [(connection, DisconnectReason::BadForkAnswer)]);
    assert!(world.engine.bans(world.now).is_empty());
    assert_eq!(world.find(&["20.1.0.1:18333"]), []);
    world.pass(2 * SECOND);
    assert_eq!(world.connects.len(), 1);
}

#[test]
fn a_silent_peer_is_unverified_and_verified_by_a_later_check() {
    let (mut world, peer) = checked(config());
    world.sent.clear();
    world.pass(20 * SECOND);
    assert_eq!((state(&world, peer), world.engine.ready_count()), (PeerState::Unverified, 0));
    assert!(matches!(&world.events[..], [Event::Unverified { .. }]));
    for _ in 0..3 {
        let wait = world.jump();
        assert!(wait >= 45 * SECOND && wait <= 75 * SECOND, "{wait:?}");
        assert!(matches!(&world.sent()[..], [(asked, question)] if *asked == peer && is_question(question)));
        assert_eq!(world.jump(), 20 * SECOND);
        assert!(world.sent.is_empty());
    }
    assert_eq!(world.events.len(), 1, "it is told once");
    world.pass(75 * SECOND);
    world.show_marker(peer);
    assert_eq!((state(&world, peer), world.engine.ready_count()), (PeerState::Ready, 1));
    assert!(matches!(world.events.last(), Some(Event::Connected { .. })));
    world.sent.clear();
    world.pass(600 * SECOND);
    assert!(world.sent.is_empty(), "it is not asked any more");
}

#[test]
fn a_peer_without_headers_yet_is_unverified_at_once() {
    let (mut world, peer) = checked(config());
    world.say(peer, Message::Headers(Vec::new()));
    assert_eq!(state(&world, peer), PeerState::Unverified);
}

#[test]
fn an_announcement_of_a_block_brings_the_next_check_on() {
    let block = Inventory { kind: crate::message::InventoryKind::Block, hash: [7; 32] };
    for announced in [Message::Inv(vec![block]), Message::Headers(vec![header_after(hash(1), 1)])] {
        let (mut world, peer) = checked(config());
        world.say(peer, Message::Headers(Vec::new()));
        world.sent.clear();
        for _ in 0..5 {
            world.say(peer, announced.clone());
        }
        world.pass(SECOND);
        assert!(matches!(&world.sent()[..], [(_, question)] if is_question(question)), "one question for all");
        world.show_marker(peer);
        assert_eq!(state(&world, peer), PeerState::Ready);
    }
    // A transaction says nothing about its chain.
    let (mut world, peer) = checked(config());
    world.say(peer, Message::Headers(Vec::new()));
    world.sent.clear();
    world.say(peer, Message::Inv(vec![Inventory::transaction(txid(1))]));
    world.pass(SECOND);
    assert!(world.sent.is_empty());
}

#[test]
fn an_unverified_peer_that_turns_out_to_be_on_another_chain_is_dropped() {
    let (mut world, peer) = checked(config());
    world.say(peer, Message::Headers(Vec::new()));
    world.pass(75 * SECOND);
    let connection = world.connection(peer);
    world.say(peer, Message::Headers(vec![foreign_header(true)]));
    assert_eq!(world.closes, [(connection, DisconnectReason::WrongChain)]);
}

#[test]
fn what_a_peer_says_while_it_is_checked_is_dropped() {
    let (mut world, peer) = checked(config());
    let request = world.ask(Question::Transaction(txid(1)));
    world
        .run(|engine, now| engine.broadcast(now, &transaction(2), &[], &BroadcastOptions::new().nodes(1)))
        .unwrap();
    assert!(matches!(&world.sent()[..], [(_, question)] if is_question(question)), "and it is asked nothing else");
    for message in [
        Message::Tx(transaction(1)),
        Message::Inv(vec![Inventory::transaction(txid(3))]),
        Message::Addr(addresses(3)),
        get_transaction(2),
        Message::Headers(vec![header_after(hash(1), 1)]),
    ] {
        let unclaimed = world.run(|engine, now| {
            let connection = engine.connection_of(peer).expect("it is connected");
            engine.handle_message(now, peer, connection, message)
        });
        assert_eq!(unclaimed, None);
    }
    assert!(!world.has_ended(request) && world.serves.is_empty() && world.progress.is_empty());
    assert_eq!(state(&world, peer), PeerState::Checking);
    world.show_marker(peer);
    let sent: Vec<_> = world.sent().into_iter().map(|(_, message)| message).collect();
    assert!(sent.contains(&get_transaction(1)), "{sent:?}");
    assert!(sent.contains(&Message::Inv(vec![Inventory::transaction(txid(2))])), "{sent:?}");
}

#[test]
fn an_unverified_peer_is_told_of_transactions_and_not_asked_for_headers() {
    let (mut world, peer) = checked(config());
    world.say(peer, Message::Headers(Vec::new()));
    world.sent.clear();
    let about_chain = world.ask_with(headers(1), &RequestOptions::new().timeout(10 * SECOND));
    assert_eq!(world.sent(), []);
    world
        .run(|engine, now| engine.broadcast(now, &transaction(2), &[], &BroadcastOptions::new().nodes(1)))
        .unwrap();
    assert_eq!(world.sent(), [(peer, Message::Inv(vec![Inventory::transaction(txid(2))]))]);
    // What proves itself is asked of it, as there is nobody else.
    world.ask(Question::Transaction(txid(1)));
    assert_eq!(world.sent(), [(peer, get_transaction(1))]);
    // Whoever names it wants to hear it.
    world.ask_with(headers(1), &RequestOptions::new().peer(peer));
    assert!(matches!(&world.sent()[..], [(_, Message::GetHeaders(_))]));
    world.pass(10 * SECOND);
    assert!(matches!(world.result(about_chain), Err(RequestError::NoPeers)));
}

#[test]
fn a_check_that_finds_no_room_among_requests_is_made_later() {
    let mut world = World::new(config().requests_limit(2 * 512));
    let peer = world.add("20.1.0.1");
    let [first, second] = [Question::Ping, Question::Ping].map(|question| world.ask(question));
    world.start();
    world.pass(Duration::ZERO);
    world.connect(peer);
    assert_eq!(state(&world, peer), PeerState::Unverified);
    assert!(world.sent().iter().all(|(_, message)| matches!(message, Message::Ping { .. })));
    world.pass(30 * SECOND);
    assert!(world.has_ended(first) && world.has_ended(second));
    world.sent.clear();
    world.pass(45 * SECOND);
    assert!(matches!(&world.sent()[..], [(_, question)] if is_question(question)), "{:?}", world.sent);
    world.show_marker(peer);
    assert_eq!(state(&world, peer), PeerState::Ready);
}

#[test]
fn a_check_does_not_count_among_the_callers_requests() {
    let (mut world, peer) = checked(config());
    assert!(world.engine.open_requests().is_empty());
    world.lose(peer);
    world.reconnect(peer);
    world.show_marker(peer);
    assert!(world.outcomes.is_empty());
}

#[test]
fn found_peers_that_cannot_tell_leave_their_places_to_others() {
    let mut world = World::new(config().target_peers(1));
    world.start();
    let syncing = world.find(&["20.1.0.1:18333", "20.2.0.1:18333", "20.3.0.1:18333"]);
    let [first] = syncing[..] else { panic!("one is wanted") };
    world.connect(first);
    world.pass(21 * SECOND);
    assert_eq!(state(&world, first), PeerState::Unverified);
    let (second, ..) = world.connects[0];
    world.connect(second);
    // There are twice as many as wanted, so nobody else is dialled until one of them goes.
    world.pass(21 * SECOND);
    assert!(world.connects.is_empty());
    world.pass(120 * SECOND);
    let gone = |event: &Event| matches!(event, Event::Disconnected { reason: DisconnectReason::Unverifiable, .. });
    assert!(world.events.iter().any(gone));
    let (third, _, address) = world.connects[0];
    assert!(third != first && third != second, "{address}");
    world.connect(third);
    world.show_marker(third);
    assert_eq!(world.engine.ready_count(), 1);
}
