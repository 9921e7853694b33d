//! Whether a peer is on our chain: who passes, who is refused, who cannot tell.

use std::time::Duration;

use conduit::message::{Message, Services, Version};
use conduit::testnode::{TestNode, TestNodeConfig, transaction};
use conduit::{
    Command, Conduit, DisconnectReason, Event, GetData, GetHeaders, JourneyState, Network, PeerState, Ping,
    RequestError, RequestOptions,
};

use super::support::raw_peer::{RawListener, Reply};
use super::support::{PATIENCE, headers, waits};
use super::{config, connects, custom, info, loses, marker_of, until, wait_for_state};

#[test]
fn honest_peer_of_the_test_network_is_used() {
    let honest = TestNodeConfig::default().network(Network::Test).blocks(3).marker_header(headers::test_marker());
    let node = TestNode::start(honest).unwrap();
    let conduit = Conduit::new(config(Network::Test)).unwrap();
    let events = conduit.events();
    let id = conduit.add_peers([node.address()]).unwrap()[0];
    conduit.start().unwrap();
    assert_eq!(until(&events, connects(id)).len(), 1);
    assert_eq!(info(&conduit, id).state, PeerState::Ready);
    let found = conduit.send_request(GetHeaders::new([Network::Test.genesis()])).unwrap();
    assert_eq!(found.last().map(|header| header.hash()), node.block_hash(3));
    assert_eq!(node.received(Command::GETHEADERS), 2, "one to check it, one that was asked for");
}

#[test]
fn peer_of_bch_is_refused_on_the_main_network_and_asked_for_nothing_else() {
    let network = Network::Main;
    let listener = RawListener::of(&network);
    let address = listener.address();
    let answer = Message::Headers(vec![headers::bch_556767()]).to_frame(network.magic()).to_vec();
    let version = Version::new(Services::NETWORK, 7, "/Bitcoin SV:1.2.2/", 900_000, 0);
    let heard = listener.serve(version.into(), move |message| match message {
        Message::GetHeaders(_) => Reply::Send(answer.clone()),
        _ => Reply::Nothing,
    });
    let conduit = Conduit::new(config(network.clone()).redial_max(PATIENCE)).unwrap();
    let events = conduit.events();
    let id = conduit.add_peers([address]).unwrap()[0];
    let asked = conduit.send_request_nowait(GetData::block(network.genesis())).unwrap();
    let pinged = conduit.send_request_nowait_with(Ping, &RequestOptions::new().peer(id)).unwrap();
    conduit.start().unwrap();
    let seen = until(&events, loses(id));
    let [Event::Refused { reason: DisconnectReason::WrongChain, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(info(&conduit, id).state, PeerState::Waiting);
    assert_eq!((conduit.stats().dials, conduit.bans().len()), (1, 0), "a named peer is not banned");
    assert!(asked.try_wait().is_err() && pinged.try_wait().is_err(), "they wait for another peer");

    let heard = heard.lock().unwrap().clone();
    let marker = network.fork_marker().unwrap();
    let locator: Vec<_> = marker.locator.iter().map(|point| point.hash).collect();
    let check = Message::GetHeaders(GetHeaders::new(locator).stop_at(marker.marker));
    assert_eq!(heard.iter().filter(|message| **message == check).count(), 1);
    let greetings = [Command::VERSION, Command::VERACK, Command::PROTOCONF, Command::PING];
    let others: Vec<_> = heard.iter().filter(|message| !greetings.contains(&message.command())).collect();
    assert_eq!(others, [&check]);
}

#[test]
fn peer_that_names_software_of_another_chain_is_refused_unasked() {
    let agent = "/Bitcoin Cash Node:27.0.0/";
    let node = TestNodeConfig::default().network(Network::Main).user_agent(agent);
    let node = TestNode::start(node).unwrap();
    let conduit = Conduit::new(config(Network::Main).redial_max(PATIENCE)).unwrap();
    let events = conduit.events();
    let id = conduit.add_peers([node.address()]).unwrap()[0];
    conduit.start().unwrap();
    let seen = until(&events, loses(id));
    let [Event::Refused { reason, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(*reason, DisconnectReason::OtherChain { user_agent: agent.to_owned() });
    assert!(node.wait_for_connections(0, PATIENCE));
    assert_eq!(node.received(Command::GETHEADERS), 0);
}

#[test]
fn chains_that_part_after_the_first_block_are_told_apart_both_ways() {
    let node = |blocks| {
        let config = TestNodeConfig::default().network(custom(&[], None)).blocks(blocks);
        TestNode::start(config).unwrap()
    };
    let (one, other) = (node(3), node(0));
    assert_eq!(other.mine_branch(0, 4).len(), 4);
    assert_ne!(one.block_hash(1), other.block_hash(1));
    for (right, wrong) in [(&one, &other), (&other, &one)] {
        let network = custom(&[], Some(marker_of(right)));
        let conduit = Conduit::new(config(network.clone()).redial_max(PATIENCE)).unwrap();
        let events = conduit.events();
        let ids = conduit.add_peers([right.address(), wrong.address()]).unwrap();
        let before = wrong.received(Command::GETHEADERS);
        conduit.start().unwrap();
        let mut seen = vec![waits::next_event(&events), waits::next_event(&events)];
        seen.sort_by_key(|event| matches!(event, Event::Refused { .. }));
        let [Event::Connected { peer: used, .. }, Event::Refused { peer: refused, reason, .. }] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((*used, *refused, reason), (ids[0], ids[1], &DisconnectReason::WrongChain));
        assert_eq!(info(&conduit, ids[0]).state, PeerState::Ready);
        let found = conduit.send_request(GetHeaders::new([network.genesis()])).unwrap();
        assert_eq!(found.last().map(|header| header.hash()), right.block_hash(right.tip_height()));
        assert_eq!(wrong.received(Command::GETHEADERS), before + 1, "the check alone");
    }
}

#[test]
fn node_in_initial_download_is_told_of_transactions_and_not_asked_for_headers_until_it_can_answer() {
    let node = TestNode::start(TestNodeConfig::default().network(custom(&[], None)).blocks(3)).unwrap();
    node.initial_download(true);
    let network = custom(&[], Some(marker_of(&node)));
    // It is asked again when it announces a block.
    let config = config(network.clone()).verify_timeout(Duration::from_millis(200)).verify_interval(PATIENCE * 2);
    let conduit = Conduit::new(config).unwrap();
    let events = conduit.events();
    let id = conduit.add_peers([node.address()]).unwrap()[0];
    let payment = transaction(1, 200);
    conduit.start().unwrap();
    let broadcast = conduit.broadcast_transaction(payment.raw().to_vec(), 1).unwrap();
    let seen = until(&events, |event| matches!(event, Event::Unverified { .. }));
    assert!(matches!(seen[..], [Event::Unverified { peer, .. }] if peer == id), "{seen:?}");
    assert_eq!(info(&conduit, id).state, PeerState::Unverified);
    assert!(conduit.wait_for_peers(1, Duration::ZERO).is_err(), "it does not count");
    assert!(node.wait_for_received(Command::INV, 1, PATIENCE));
    let report = broadcast.report();
    assert_eq!(report.peers.iter().map(|peer| peer.state.clone()).collect::<Vec<_>>(), [JourneyState::Announced]);

    let soon = RequestOptions::new().timeout(Duration::from_millis(300));
    let asked = conduit.send_request_with(GetHeaders::new([network.genesis()]), &soon);
    assert_eq!(asked, Err(RequestError::NoPeers));
    assert_eq!(node.received(Command::GETHEADERS), 1, "the check alone");
    // What proves itself is asked of it, as there is nobody else.
    assert_eq!(conduit.send_request(GetData::block(node.block_hash(2).unwrap())).ok(), node.block(2));

    node.initial_download(false);
    let hash = node.mine(1)[0];
    until(&events, connects(id));
    assert_eq!(info(&conduit, id).state, PeerState::Ready);
    let found = conduit.send_request(GetHeaders::new([network.genesis()])).unwrap();
    assert_eq!(found.last().map(|header| header.hash()), Some(hash));
}

#[test]
fn peer_that_could_not_tell_is_asked_again_after_a_while() {
    let node = TestNode::start(TestNodeConfig::default().network(custom(&[], None)).blocks(3)).unwrap();
    node.ignore(Command::GETHEADERS);
    let config = config(custom(&[], Some(marker_of(&node))));
    let soon = Duration::from_millis(100);
    let conduit = Conduit::new(config.verify_timeout(soon).verify_interval(soon)).unwrap();
    let events = conduit.events();
    let id = conduit.add_peers([node.address()]).unwrap()[0];
    conduit.start().unwrap();
    assert!(node.wait_for_received(Command::GETHEADERS, 3, PATIENCE), "it is asked again and again");
    assert_eq!(info(&conduit, id).state, PeerState::Unverified);
    node.heed(Command::GETHEADERS);
    let seen = until(&events, connects(id));
    assert_eq!(seen.len(), 2, "told once that it could not tell: {seen:?}");
    wait_for_state(&conduit, id, PeerState::Ready);
}
