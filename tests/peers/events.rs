//! What is told of the peers as a whole.

use conduit::testnode::{TestNode, TestNodeConfig};
use conduit::{DisconnectReason, Event, Ping};

use super::support::{PATIENCE, waits};
use super::{connect, connects, node, regtest, until};

#[test]
fn the_loss_of_the_last_peer_is_told_and_that_somebody_is_back() {
    let (one, other) = (node(), node());
    let (conduit, events, ids) = connect(regtest(), [&one, &other]);
    let seen = [waits::next_event(&events), waits::next_event(&events)];
    assert!(seen.iter().all(|event| matches!(event, Event::Connected { .. })), "{seen:?}");
    let port = one.address().port();
    one.stop();
    let seen = until(&events, |event| matches!(event, Event::Disconnected { .. }));
    assert!(!seen.contains(&Event::NoPeers), "there is another one: {seen:?}");
    other.stop();
    let seen = until(&events, |event| *event == Event::NoPeers);
    let last = &seen[seen.len() - 2];
    assert!(matches!(last, Event::Disconnected { peer, .. } if *peer == ids[1]), "right after the loss: {seen:?}");

    let again = TestNode::start(TestNodeConfig::default().port(port)).unwrap();
    let seen = until(&events, |event| *event == Event::NetworkBack);
    let is_news = |event: &&Event| !matches!(event, Event::Refused { .. });
    let news: Vec<_> = seen.iter().filter(is_news).collect();
    assert!(matches!(news[..], [Event::Connected { peer, .. }, Event::NetworkBack] if *peer == ids[0]), "{seen:?}");
    assert!(conduit.send_request(Ping).is_ok());

    // And once more, each of them once.
    again.drop_connections();
    let seen = until(&events, |event| *event == Event::NetworkBack);
    assert_eq!(seen.iter().filter(|event| **event == Event::NoPeers).count(), 1, "{seen:?}");
    conduit.shutdown();
    let rest: Vec<_> = std::iter::from_fn(|| events.recv().ok()).collect();
    assert!(!rest.contains(&Event::NoPeers), "the end was asked for: {rest:?}");
    let end = |event: &Event| matches!(event, Event::Disconnected { reason: DisconnectReason::Shutdown, .. });
    assert_eq!(rest.iter().filter(|event| end(event)).count(), 1, "{rest:?}");
}

#[test]
fn connecting_tells_who_it_is_and_how_long_it_took() {
    let node = TestNode::start(TestNodeConfig::default().user_agent("/someone:1/")).unwrap();
    let (_conduit, events, ids) = connect(regtest(), [&node]);
    let seen = until(&events, connects(ids[0]));
    let [Event::Connected { address, user_agent, took, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((address.socket_addr(), user_agent.as_str()), (Some(node.address()), "/someone:1/"));
    assert!(!took.is_zero() && *took < PATIENCE, "{took:?}");
}

#[test]
fn slow_reader_is_told_how_much_it_missed() {
    let nodes = [node(), node(), node()];
    let (conduit, events, _) = connect(regtest().event_queue_items(2), &nodes);
    assert_eq!(waits::next_event(&events), Event::Missed { count: 1 });
    assert!(matches!(waits::next_event(&events), Event::Connected { .. }));
    assert!(matches!(waits::next_event(&events), Event::Connected { .. }));
    assert!(events.try_recv().is_err());
    assert_eq!(conduit.stats().drops.events, 1);
}
