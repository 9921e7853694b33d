//! How requests are asked, moved and ended.

use super::*;
use crate::request::TransactionNotFound;

use AttemptFailure::{Disconnected, NotFound, TimedOut, WrongAnswer};

fn config() -> Config {
    Config::new(Network::Regtest)
}

fn transactions(ns: impl IntoIterator<Item = u32>) -> Question {
    Question::Transactions(ns.into_iter().map(txid).collect())
}

/// Which transactions of an answer were found, in the order asked.
fn found(result: &Result<Answer, RequestError>) -> Vec<Result<Txid, TransactionNotFound>> {
    match result {
        Ok(Answer::Transactions(results)) => {
            results.iter().map(|result| result.as_ref().map(Transaction::txid).map_err(|error| *error)).collect()
        }
        other => panic!("not an answer for transactions: {other:?}"),
    }
}

// Replies.

#[test]
fn each_question_is_sent_and_ends_with_its_reply() {
    let (mut world, peers) = World::connected(1);
    let peer = peers[0];
    let block = block(1);
    let header = header_after(hash(1), 1);
    let addresses = addresses(3);
    let questions = [
        (Question::Transaction(txid(1)), Message::Tx(transaction(1)), Answer::Transaction(transaction(1))),
        (Question::Block(block.hash()), Message::Block(block.clone()), Answer::Block(block)),
        (headers(1), Message::Headers(vec![header]), Answer::Headers(vec![header])),
        (Question::Addresses, Message::Addr(addresses.clone()), Answer::Addresses(addresses)),
    ];
    for (question, reply, answer) in questions {
        let request = world.ask(question);
        assert_eq!(world.asked(), [peer]);
        world.pass(SECOND);
        assert!(!world.has_ended(request));
        assert_eq!(world.say(peer, reply.clone()), None);
        assert_eq!(world.result(request), &Ok(answer));
        let outcome = &world.outcomes[&request];
        assert_eq!(outcome.took, SECOND);
        assert_eq!(outcome.peer, Some(address(1).parse().unwrap()));
        // What nobody asked for any more is news.
        assert_eq!(world.say(peer, reply.clone()), Some(reply));
    }
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn a_ping_gives_the_round_trip() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(Question::Ping);
    let sent = world.sent();
    let [(_, Message::Ping { nonce })] = sent[..] else { panic!("not a ping: {sent:?}") };
    world.pass(20 * MILLISECOND);
    let other = Message::Pong { nonce: !nonce };
    assert_eq!(world.say(peers[0], other.clone()), Some(other));
    assert_eq!(world.say(peers[0], Message::Pong { nonce }), None);
    assert_eq!(world.result(request), &Ok(Answer::RoundTrip(20 * MILLISECOND)));
}

#[test]
fn two_requests_for_the_same_are_both_answered() {
    let (mut world, peers) = World::connected(1);
    let single = world.ask(Question::Transaction(txid(1)));
    let many = world.ask(transactions([1, 2]));
    assert_eq!(world.asked().len(), 2);
    world.say(peers[0], Message::Tx(transaction(1)));
    assert!(world.has_ended(single) && !world.has_ended(many));
    world.say(peers[0], Message::Tx(transaction(1)));
    world.say(peers[0], Message::Tx(transaction(2)));
    assert_eq!(found(world.result(many)), [Ok(txid(1)), Ok(txid(2))]);
}

// Whom to ask.

#[test]
fn not_found_moves_a_request_to_the_next_peer() {
    let (mut world, peers) = World::connected(3);
    let request = world.ask(Question::Transaction(txid(1)));
    for &peer in &peers {
        assert_eq!(world.sent(), [(peer, get_transaction(1))]);
        assert!(!world.has_ended(request));
        assert_eq!(world.say(peer, not_found([1])), None);
    }
    let Err(RequestError::NotFound { attempts: list }) = world.result(request) else { panic!("all said so") };
    assert_eq!(attempts(list), peers.iter().map(|&peer| (peer, NotFound)).collect::<Vec<_>>());
}

#[test]
fn the_attempts_bound_how_many_peers_are_asked() {
    for (options, expected) in [(RequestOptions::new().attempts(2), 2), (RequestOptions::new(), 3)] {
        let (mut world, peers) = World::connected(5);
        let request = world.ask_with(Question::Transaction(txid(1)), &options);
        for &peer in &peers[..expected] {
            assert_eq!(world.asked(), [peer]);
            world.say(peer, not_found([1]));
        }
        assert_eq!(world.asked(), []);
        assert!(
            matches!(world.result(request), Err(RequestError::NotFound { attempts }) if attempts.len() == expected)
        );
    }
}

#[test]
fn a_lost_peer_costs_no_attempt() {
    let (mut world, peers) = World::connected(4);
    let request = world.ask_with(Question::Transaction(txid(1)), &RequestOptions::new().attempts(1));
    for &peer in &peers[..3] {
        assert_eq!(world.asked(), [peer]);
        world.lose(peer);
    }
    assert_eq!(world.asked(), [peers[3]]);
    world.say(peers[3], Message::Tx(transaction(1)));
    assert!(world.result(request).is_ok());
}

#[test]
fn a_request_waits_for_a_peer_when_all_are_lost() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(Question::Transaction(txid(1)));
    world.lose(peers[0]);
    assert!(!world.has_ended(request));
    world.asked();
    world.reconnect(peers[0]);
    assert_eq!(world.asked(), peers);
    world.say(peers[0], Message::Tx(transaction(1)));
    assert!(world.result(request).is_ok());
}

#[test]
fn an_attempt_has_its_share_of_the_time_and_a_late_answer_counts() {
    let (mut world, peers) = World::connected(3);
    let block = block(1);
    let request = world.ask(Question::Block(block.hash()));
    assert_eq!(world.asked(), [peers[0]]);
    assert_eq!(world.jump(), 10 * SECOND);
    assert_eq!(world.asked(), [peers[1]]);
    assert_eq!(world.jump(), 10 * SECOND);
    assert_eq!(world.asked(), [peers[2]]);
    assert_eq!(world.say(peers[0], Message::Block(block.clone())), None);
    assert_eq!(world.result(request), &Ok(Answer::Block(block.clone())));
    // The others' answers are nobody's, but no news either.
    assert_eq!(world.say(peers[1], Message::Block(block.clone())), None);
    assert_eq!(world.say(peers[2], Message::Block(block)), None);
}

#[test]
fn without_a_peer_a_request_ends_at_its_deadline() {
    let mut world = World::new(config());
    world.start();
    let request = world.ask(Question::Ping);
    assert_eq!(world.jump(), 30 * SECOND);
    assert_eq!(world.result(request), &Err(RequestError::NoPeers));
    let request = world.ask(Question::Addresses);
    assert_eq!(world.jump(), 90 * SECOND);
    assert_eq!(world.result(request), &Err(RequestError::NoPeers));
}

#[test]
fn the_deadline_of_a_queued_request_runs_from_the_start() {
    let mut world = World::new(config());
    let peer = world.add(&address(1));
    let request = world.ask(Question::Ping);
    assert_eq!(world.engine.open_requests(), [request]);
    world.now.instant += 1_000 * SECOND;
    world.start();
    world.pass(10 * SECOND);
    world.connect(peer);
    assert_eq!(world.asked(), [peer]);
    world.pass(20 * SECOND);
    assert!(matches!(world.result(request), Err(RequestError::TimedOut { .. })));
    assert_eq!(world.outcomes[&request].took, 30 * SECOND);
}

#[test]
fn timeouts_of_any_length_are_taken() {
    let (mut world, _) = World::connected(1);
    let at_once = world.ask_with(Question::Ping, &RequestOptions::new().timeout(Duration::ZERO));
    let never = world.ask_with(Question::Ping, &RequestOptions::new().timeout(Duration::MAX));
    world.jump();
    assert!(matches!(world.result(at_once), Err(RequestError::TimedOut { .. })));
    world.jump();
    assert!(matches!(world.result(never), Err(RequestError::TimedOut { .. })));
}

// Headers.

#[test]
fn a_peer_is_asked_for_headers_once_at_a_time() {
    let (mut world, peers) = World::connected(2);
    let requests = [1, 2, 3].map(|n| world.ask(headers(n)));
    assert_eq!(world.asked(), peers, "the second goes elsewhere, the third waits");
    assert_eq!(world.say(peers[1], Message::Headers(vec![header_after(hash(2), 1)])), None);
    assert!(world.result(requests[1]).is_ok());
    assert_eq!(world.asked(), [peers[1]]);
    world.say(peers[1], Message::Headers(vec![header_after(hash(3), 1)]));
    assert!(world.result(requests[2]).is_ok());
    assert!(!world.has_ended(requests[0]));
}

#[test]
fn headers_that_do_not_connect_answer_nothing() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(headers(1));
    let announced = Message::Headers(vec![header_after(hash(9), 1)]);
    assert_eq!(world.say(peers[0], announced.clone()), Some(announced));
    assert!(!world.has_ended(request));
    assert_eq!(world.say(peers[0], Message::Headers(Vec::new())), None);
    assert_eq!(world.result(request), &Ok(Answer::Headers(Vec::new())));
}

#[test]
fn an_empty_locator_is_answered_by_the_header_it_names() {
    let (mut world, peers) = World::connected(1);
    let header = header_after(hash(5), 5);
    let request = world.ask(Question::Headers(GetHeaders::new([]).stop_at(header.hash())));
    let other = Message::Headers(vec![header_after(hash(5), 6)]);
    assert_eq!(world.say(peers[0], other.clone()), Some(other));
    assert_eq!(world.say(peers[0], Message::Headers(vec![header])), None);
    assert_eq!(world.result(request), &Ok(Answer::Headers(vec![header])));
}

#[test]
fn headers_of_a_request_that_ended_do_not_answer_the_next() {
    let (mut world, peers) = World::connected(1);
    let first = world.ask(headers(1));
    world.run(|engine, now| engine.cancel(now, first));
    world.asked();
    let second = world.ask(headers(1));
    assert_eq!(world.asked(), [], "two replies could not be told apart");
    assert_eq!(world.say(peers[0], Message::Headers(vec![header_after(hash(1), 1)])), None);
    assert!(!world.has_ended(second));
    assert_eq!(world.asked(), peers);
    world.say(peers[0], Message::Headers(Vec::new()));
    assert_eq!(world.result(second), &Ok(Answer::Headers(Vec::new())));
}

// Addresses.

#[test]
fn known_addresses_answer_at_once() {
    let (mut world, peers) = World::connected(2);
    let gossip = Message::Addr(addresses(2));
    assert_eq!(world.say(peers[1], gossip.clone()), Some(gossip));
    let request = world.ask(Question::Addresses);
    assert_eq!(world.result(request), &Ok(Answer::Addresses(addresses(2))));
    assert_eq!(world.outcomes[&request].peer, Some(address(2).parse().unwrap()));
}

#[test]
fn getaddr_is_sent_once_for_each_connection() {
    let (mut world, peers) = World::connected(1);
    let options = RequestOptions::new().timeout(SECOND);
    let first = world.ask_with(Question::Addresses, &options);
    assert_eq!(world.sent(), [(peers[0], Message::GetAddr)]);
    world.pass(SECOND);
    assert!(world.has_ended(first));
    let others = [world.ask(Question::Addresses), world.ask(Question::Addresses)];
    assert_eq!(world.sent(), []);
    // An empty list is no answer.
    world.say(peers[0], Message::Addr(Vec::new()));
    assert!(!world.has_ended(others[0]));
    assert_eq!(world.say(peers[0], Message::Addr(addresses(1))), None);
    assert!(others.iter().all(|&request| world.result(request).is_ok()));
    world.lose(peers[0]);
    world.reconnect(peers[0]);
    world.ask(Question::Addresses);
    assert_eq!(world.sent(), [(peers[0], Message::GetAddr)]);
}

// Many transactions.

#[test]
fn transactions_are_given_in_the_order_asked() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(transactions([3, 1, 2]));
    for n in [1, 2, 3] {
        assert_eq!(world.say(peers[0], Message::Tx(transaction(n))), None);
    }
    assert_eq!(found(world.result(request)), [3, 1, 2].map(|n| Ok(txid(n))));
}

#[test]
fn what_one_peer_lacks_is_asked_of_the_next() {
    let (mut world, peers) = World::connected(3);
    let request = world.ask(transactions([1, 2, 3, 4]));
    world.asked();
    world.say(peers[0], Message::Tx(transaction(3)));
    assert_eq!(world.say(peers[0], not_found([1, 2, 4])), None);
    let missing = Message::GetData([1, 2, 4].map(|n| Inventory::transaction(txid(n))).to_vec());
    assert_eq!(world.sent(), [(peers[1], missing)]);
    world.say(peers[1], not_found([1]));
    world.say(peers[1], Message::Tx(transaction(2)));
    world.say(peers[1], not_found([4]));
    let missing = Message::GetData([1, 4].map(|n| Inventory::transaction(txid(n))).to_vec());
    assert_eq!(world.sent(), [(peers[2], missing)]);
    world.say(peers[2], Message::Tx(transaction(1)));
    world.say(peers[2], not_found([4]));
    let missing = TransactionNotFound { txid: txid(4) };
    assert_eq!(found(world.result(request)), [Ok(txid(1)), Ok(txid(2)), Ok(txid(3)), Err(missing)]);
}

#[test]
fn transactions_that_came_before_a_loss_are_kept() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(transactions([1, 2]));
    world.say(peers[0], Message::Tx(transaction(1)));
    world.asked();
    world.lose(peers[0]);
    assert_eq!(world.sent(), [(peers[1], Message::GetData(vec![Inventory::transaction(txid(2))]))]);
    world.say(peers[1], Message::Tx(transaction(2)));
    assert_eq!(found(world.result(request)), [Ok(txid(1)), Ok(txid(2))]);
}

#[test]
fn transactions_nobody_has_are_each_not_found() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(transactions([1, 2]));
    let stranger = Inventory::transaction(txid(9));
    let both = Message::NotFound(vec![Inventory::transaction(txid(2)), stranger, Inventory::transaction(txid(1))]);
    assert_eq!(world.say(peers[0], both), Some(Message::NotFound(vec![stranger])));
    let missing = |n| Err(TransactionNotFound { txid: txid(n) });
    assert_eq!(found(world.result(request)), [missing(1), missing(2)]);
}

// Ends of another kind.

#[test]
fn a_reply_over_the_threshold_ends_its_request() {
    let (mut world, peers) = World::connected(1);
    let connection = world.connection(peers[0]);
    let header = header_after(BlockHash::ZERO, 1);
    let block = world.ask(Question::Block(header.hash()));
    let other = world.ask(Question::Block(hash(9)));
    let tx = world.ask(Question::Transaction(txid(1)));
    let length = 1 << 40;
    let limit = config().stream_threshold;
    world.run(|engine, now| {
        engine.handle_oversized(now, peers[0], connection, crate::wire::Command::BLOCK, length, &header.encode());
    });
    assert_eq!(world.result(block), &Err(RequestError::TooLarge { length, limit }));
    world.run(|engine, now| {
        engine.handle_oversized(now, peers[0], connection, crate::wire::Command::TX, length, &[]);
    });
    assert_eq!(world.result(tx), &Err(RequestError::TooLarge { length, limit }));
    assert!(!world.has_ended(other) && world.closes.is_empty());
    // Nobody asked for this one.
    world.run(|engine, now| {
        engine.handle_oversized(now, peers[0], connection, crate::wire::Command::TX, length, &[]);
    });
    assert_eq!(world.closes.len(), 1);
}

#[test]
fn an_answer_that_is_wrong_is_asked_of_the_next_peer() {
    use crate::proto::ProtocolError;
    let (mut world, peers) = World::connected(3);
    let block = block(1);
    let request = world.ask(Question::Block(block.hash()));
    assert!(world.engine.wants_block(peers[0], &block.hash()));
    world.lose_for(peers[0], ProtocolError::BadMerkleRoot.into());
    assert_eq!(world.asked(), peers[..2]);
    world.lose(peers[1]);
    assert_eq!(world.asked(), [peers[2]]);
    world.pass(30 * SECOND);
    let Err(RequestError::TimedOut { attempts: list }) = world.result(request) else { panic!("it timed out") };
    assert_eq!(attempts(list), [(peers[0], WrongAnswer), (peers[1], Disconnected), (peers[2], TimedOut)]);

    let (mut world, peers) = World::connected(1);
    let request = world.ask(headers(1));
    world.lose_for(peers[0], ProtocolError::DisconnectedHeaders.into());
    let Err(RequestError::Failed { attempts: list }) = world.result(request) else { panic!("it failed") };
    assert_eq!(attempts(list), [(peers[0], WrongAnswer)]);
}

#[test]
fn a_cancelled_request_ends_at_once() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(Question::Transaction(txid(1)));
    world.run(|engine, now| engine.cancel(now, request));
    assert_eq!(world.result(request), &Err(RequestError::Cancelled));
    world.run(|engine, now| engine.cancel(now, request));
    assert_eq!(world.say(peers[0], Message::Tx(transaction(1))), None);
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn late_answers_of_ended_requests_are_no_news() {
    let (mut world, peers) = World::connected(1);
    let block = block(3);
    let questions =
        [Question::Transaction(txid(1)), transactions([2, 4]), Question::Block(block.hash()), headers(1)];
    let options = RequestOptions::new().timeout(SECOND);
    let requests = questions.map(|question| world.ask_with(question, &options));
    world.say(peers[0], Message::Tx(transaction(4)));
    world.pass(SECOND);
    assert!(requests.iter().all(|&request| world.has_ended(request)));
    let answers = [
        Message::Tx(transaction(1)),
        not_found([2]),
        Message::Block(block),
        Message::Headers(vec![header_after(hash(1), 1)]),
    ];
    for answer in answers {
        assert_eq!(world.say(peers[0], answer.clone()), None);
        assert_eq!(world.say(peers[0], answer.clone()), Some(answer), "only one was owed");
    }
}

#[test]
fn what_a_silent_peer_owes_is_not_remembered_for_ever() {
    let (mut world, peers) = World::connected(1);
    for lot in 0..30 {
        let request = world.ask(transactions(lot * 1_000..(lot + 1) * 1_000));
        world.run(|engine, now| engine.cancel(now, request));
    }
    // The last ones are still known.
    assert_eq!(world.say(peers[0], Message::Tx(transaction(29_999))), None);
    let forgotten = Message::Tx(transaction(1));
    assert_eq!(world.say(peers[0], forgotten.clone()), Some(forgotten));
}

#[test]
fn requests_beyond_the_limit_are_refused() {
    let (mut world, peers) = World::connected_with(config().requests_limit(2 * 512), 1);
    let first = world.ask(Question::Ping);
    world.ask(Question::Ping);
    let refused = world.run(|engine, now| engine.submit(now, Question::Ping, &RequestOptions::new()));
    assert_eq!(refused, Err(RequestError::TooManyRequests));
    world.run(|engine, now| engine.cancel(now, first));
    world.ask(Question::Ping);
    world.lose(peers[0]);
    world.pass(30 * SECOND);
    assert_eq!(world.outcomes.len(), 3);
}

#[test]
fn everything_ends_when_the_conduit_does() {
    let (mut world, peers) = World::connected(2);
    let requests = [world.ask(Question::Ping), world.ask(headers(1)), world.ask(transactions([1, 2]))];
    world.lose(peers[0]);
    world.run(|engine, now| engine.fail_all(now, &RequestError::Shutdown));
    assert!(requests.iter().all(|&request| world.result(request) == &Err(RequestError::Shutdown)));
    assert_eq!(world.engine.open_requests(), []);
}

// Peers whose messages nobody takes.

#[test]
fn a_paused_peer_is_not_asked_while_there_is_another() {
    let (mut world, peers) = World::connected(2);
    world.pause(peers[0], true);
    let request = world.ask(Question::Transaction(txid(1)));
    assert_eq!(world.asked(), [peers[1]]);
    world.say(peers[1], Message::Tx(transaction(1)));
    assert!(world.result(request).is_ok());
}

#[test]
fn requests_end_at_once_when_every_peer_is_paused() {
    let (mut world, peers) = World::connected(2);
    let requests = [
        world.ask(Question::Transaction(txid(1))),
        world.ask_with(Question::Ping, &RequestOptions::new().peer(peers[1])),
    ];
    world.pause(peers[1], true);
    assert_eq!(world.result(requests[1]), &Err(RequestError::MessageQueueFull));
    world.pause(peers[0], true);
    assert_eq!(world.result(requests[0]), &Err(RequestError::MessageQueueFull));
    let new = world.ask(Question::Transaction(txid(2)));
    assert_eq!(world.result(new), &Err(RequestError::MessageQueueFull));
    world.pause(peers[0], false);
    let new = world.ask(Question::Transaction(txid(2)));
    assert!(!world.has_ended(new));
}

#[test]
fn a_pinned_request_asks_its_peer_only() {
    let (mut world, peers) = World::connected(3);
    let options = RequestOptions::new().peer(peers[1]);
    let request = world.ask_with(Question::Transaction(txid(1)), &options);
    assert_eq!(world.asked(), [peers[1]]);
    world.lose(peers[1]);
    assert_eq!(world.asked(), []);
    world.reconnect(peers[1]);
    assert_eq!(world.asked(), [peers[1]]);
    world.say(peers[1], not_found([1]));
    assert_eq!(world.asked(), []);
    assert!(matches!(world.result(request), Err(RequestError::NotFound { attempts }) if attempts.len() == 1));
}

#[test]
fn a_request_times_out_and_names_whom_it_asked() {
    let (mut world, peers) = World::connected(3);
    let options = RequestOptions::new().timeout(9 * SECOND);
    let request = world.ask_with(Question::Block(hash(1)), &options);
    world.pass(3 * SECOND);
    world.say(peers[1], Message::Ping { nonce: 1 });
    world.pass(4 * SECOND);
    world.lose(peers[1]);
    world.pass(2 * SECOND);
    let Err(RequestError::TimedOut { attempts: list }) = world.result(request) else { panic!("it timed out") };
    assert_eq!(attempts(list), [(peers[0], TimedOut), (peers[1], Disconnected), (peers[2], TimedOut)]);
    assert_eq!(world.outcomes[&request].took, 9 * SECOND);
}

#[test]
fn a_late_word_of_a_peer_takes_the_place_of_its_silence() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(Question::Transaction(txid(1)));
    world.pass(15 * SECOND);
    assert_eq!(world.asked(), peers);
    world.say(peers[0], not_found([1]));
    world.say(peers[1], not_found([1]));
    let Err(RequestError::NotFound { attempts: list }) = world.result(request) else { panic!("all said so") };
    assert_eq!(attempts(list), [(peers[0], NotFound), (peers[1], NotFound)]);
}

#[test]
fn a_peer_that_said_no_is_not_asked_again() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(Question::Transaction(txid(1)));
    world.say(peers[0], not_found([1]));
    world.lose(peers[0]);
    world.reconnect(peers[0]);
    world.asked();
    world.say(peers[1], not_found([1]));
    assert_eq!(world.asked(), []);
    assert!(matches!(world.result(request), Err(RequestError::NotFound { .. })));
}

#[test]
fn a_late_notfound_does_not_speak_for_the_peer_asked_next() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(transactions([1, 2]));
    world.pass(15 * SECOND);
    assert_eq!(world.asked(), peers);
    world.say(peers[0], not_found([1, 2]));
    world.say(peers[1], Message::Tx(transaction(1)));
    assert!(!world.has_ended(request), "the second peer still owes one");
    world.say(peers[1], Message::Tx(transaction(2)));
    assert_eq!(found(world.result(request)), [Ok(txid(1)), Ok(txid(2))]);
}

#[test]
fn transactions_may_come_from_two_peers_at_once() {
    let (mut world, peers) = World::connected(2);
    let request = world.ask(transactions([1, 2]));
    world.pass(15 * SECOND);
    world.say(peers[1], Message::Tx(transaction(1)));
    world.say(peers[0], Message::Tx(transaction(1)));
    world.say(peers[1], not_found([2]));
    assert!(!world.has_ended(request), "the first peer may still have it");
    world.say(peers[0], Message::Tx(transaction(2)));
    assert_eq!(found(world.result(request)), [Ok(txid(1)), Ok(txid(2))]);
}

#[test]
fn an_attempt_that_timed_out_is_not_given_back_by_a_loss() {
    let (mut world, peers) = World::connected(3);
    let request = world.ask_with(Question::Transaction(txid(1)), &RequestOptions::new().attempts(2));
    world.pass(15 * SECOND);
    world.say(peers[1], not_found([1]));
    assert_eq!(world.asked(), peers[..2]);
    world.lose(peers[0]);
    assert_eq!(world.asked(), []);
    let Err(RequestError::Failed { attempts: list }) = world.result(request) else {
        panic!("both attempts failed")
    };
    assert_eq!(attempts(list), [(peers[0], Disconnected), (peers[1], NotFound)]);
}

#[test]
fn a_peer_that_is_disconnected_is_listed_among_the_asked() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask(Question::Ping);
    world.run(|engine, now| engine.disconnect(now, peers[0]));
    world.pass(30 * SECOND);
    let Err(RequestError::TimedOut { attempts: list }) = world.result(request) else { panic!("it timed out") };
    assert_eq!(attempts(list), [(peers[0], Disconnected)]);
}

#[test]
fn a_request_pinned_to_an_unknown_peer_ends_at_once() {
    let (mut world, peers) = World::connected(2);
    let pinned = RequestOptions::new().peer(peers[0]);
    world.lose(peers[0]);
    let waits = world.ask_with(Question::Ping, &pinned);
    assert!(!world.has_ended(waits));
    world.run(|engine, now| engine.disconnect(now, peers[0]));
    assert_eq!(world.result(waits), &Err(RequestError::NoPeers));
    let new = world.ask_with(Question::Ping, &pinned);
    assert_eq!(world.result(new), &Err(RequestError::NoPeers));

    let pinned = RequestOptions::new().peer(peers[1]);
    let asked = world.ask_with(Question::Ping, &pinned);
    world.run(|engine, now| engine.disconnect(now, peers[1]));
    let Err(RequestError::Failed { attempts: list }) = world.result(asked) else { panic!("its peer is gone") };
    assert_eq!(attempts(list), [(peers[1], Disconnected)]);

    let mut world = World::new(config());
    let peer = world.add(&address(1));
    let queued = world.ask_with(Question::Ping, &RequestOptions::new().peer(peer));
    world.run(|engine, now| engine.disconnect(now, peer));
    assert!(!world.has_ended(queued), "nothing ends before the start");
    world.start();
    assert_eq!(world.result(queued), &Err(RequestError::NoPeers));
}

#[test]
fn a_request_to_a_peer_that_is_paused_goes_to_another() {
    let (mut world, peers) = World::connected(2);
    let first = world.ask(Question::Transaction(txid(1)));
    let second = world.ask(Question::Transaction(txid(2)));
    world.asked();
    world.pause(peers[0], true);
    assert_eq!(world.asked(), [peers[1], peers[1]]);
    world.say(peers[1], Message::Tx(transaction(1)));
    assert!(world.result(first).is_ok());
    // What lay behind the full queue comes after all.
    world.pause(peers[0], false);
    assert_eq!(world.say(peers[0], Message::Tx(transaction(2))), None);
    assert_eq!(world.say(peers[0], Message::Tx(transaction(1))), None);
    assert!(world.result(second).is_ok());
}

#[test]
fn a_request_ends_when_only_paused_peers_could_answer_it() {
    let (mut world, peers) = World::connected(3);
    let not_found_elsewhere = world.ask_with(Question::Transaction(txid(1)), &RequestOptions::new().attempts(2));
    world.pause(peers[0], true);
    assert!(!world.has_ended(not_found_elsewhere));
    world.say(peers[1], not_found([1]));
    assert_eq!(world.result(not_found_elsewhere), &Err(RequestError::MessageQueueFull));

    let lost_elsewhere = world.ask(Question::Transaction(txid(2)));
    let asked_twice = world.ask(Question::Transaction(txid(3)));
    world.pass(15 * SECOND);
    world.pause(peers[1], true);
    assert!(!world.has_ended(lost_elsewhere) && !world.has_ended(asked_twice));
    world.lose(peers[2]);
    assert_eq!(world.result(lost_elsewhere), &Err(RequestError::MessageQueueFull));
    assert_eq!(world.result(asked_twice), &Err(RequestError::MessageQueueFull));
}

#[test]
fn a_request_that_waits_ends_when_every_peer_is_paused() {
    let (mut world, peers) = World::connected(1);
    let asked = world.ask(headers(1));
    let waits = world.ask(headers(2));
    world.pause(peers[0], true);
    assert_eq!(world.result(asked), &Err(RequestError::MessageQueueFull));
    assert_eq!(world.result(waits), &Err(RequestError::MessageQueueFull));
}

#[test]
fn a_paused_peer_is_not_blamed_for_its_silence() {
    let (mut world, peers) = World::connected(2);
    world.ask(Question::Block(hash(1)));
    world.pause(peers[0], true);
    world.pass(30 * SECOND);
    let failures = |world: &World, peer| {
        world.engine.peers(world.now).into_iter().find(|info| info.id == peer).map(|info| info.failures)
    };
    assert_eq!(failures(&world, peers[0]), Some(0));
    assert_eq!(failures(&world, peers[1]), Some(1));
}

#[test]
fn a_peer_that_connects_late_takes_over_from_a_silent_one() {
    let mut world = World::new(config());
    let peers = [1, 2, 3].map(|n| world.add(&address(n)));
    let queued = world.ask(Question::Block(hash(1)));
    world.start();
    world.pass(Duration::ZERO);
    world.connect(peers[0]);
    assert_eq!(world.asked(), [peers[0]]);
    world.pass(SECOND);
    world.connect(peers[1]);
    assert_eq!(world.asked(), [], "the first has its share of the time");
    world.pass(15 * SECOND);
    assert_eq!(world.asked(), [peers[1]]);
    world.pass(5 * SECOND);
    world.connect(peers[2]);
    world.pass(8 * SECOND);
    assert_eq!(world.asked(), [peers[2]]);
    world.pass(SECOND);
    let Err(RequestError::TimedOut { attempts: list }) = world.result(queued) else { panic!("it timed out") };
    assert_eq!(attempts(list), peers.map(|peer| (peer, TimedOut)));
}

#[test]
fn a_peer_that_connects_after_all_were_silent_is_asked_at_once() {
    let (mut world, peers) = World::connected(2);
    let third = world.add(&address(3));
    world.pass(Duration::ZERO);
    let request = world.ask(Question::Block(hash(1)));
    world.pass(15 * SECOND);
    assert_eq!(world.asked(), peers);
    world.lose(peers[1]);
    world.connect(third);
    assert_eq!(world.asked(), [third]);
    assert!(!world.has_ended(request));
}

#[test]
fn a_wrong_answer_is_blamed_on_the_requests_it_answered() {
    use crate::proto::ProtocolError;
    let (mut world, peers) = World::connected(1);
    world.pass(60 * SECOND);
    let block = world.ask(Question::Block(hash(1)));
    let other = world.ask(Question::Transaction(txid(1)));
    world.lose_for(peers[0], ProtocolError::BadMerkleRoot.into());
    assert!(matches!(world.result(block), Err(RequestError::Failed { .. })));
    assert!(!world.has_ended(other), "it was merely lost");
    assert_eq!(world.engine.peers(world.now)[0].failures, 1, "however long the connection lasted");
    world.asked();
    world.reconnect(peers[0]);
    assert_eq!(world.sent(), [(peers[0], get_transaction(1))]);
}

#[test]
fn a_peer_that_never_gave_headers_is_asked_again_after_a_while() {
    let (mut world, peers) = World::connected(1);
    let first = world.ask(headers(1));
    world.pass(10 * SECOND);
    world.run(|engine, now| engine.cancel(now, first));
    world.asked();
    let options = RequestOptions::new().timeout(60 * SECOND);
    let second = world.ask_with(headers(2), &options);
    world.pass(19 * SECOND);
    assert_eq!(world.asked(), []);
    world.pass(SECOND);
    assert_eq!(world.asked(), peers);
    world.say(peers[0], Message::Headers(vec![header_after(hash(2), 1)]));
    assert!(world.result(second).is_ok());
}

#[test]
fn requests_that_wait_for_headers_learn_when_the_peer_is_given_up() {
    let (mut world, peers) = World::connected(1);
    let silent = world.ask_with(headers(1), &RequestOptions::new().timeout(5 * SECOND));
    let options = RequestOptions::new().timeout(60 * SECOND);
    let waiting = [world.ask_with(headers(2), &options), world.ask_with(headers(3), &options)];
    world.pass(5 * SECOND);
    assert!(world.has_ended(silent));
    assert_eq!(world.asked(), peers);
    world.pass(25 * SECOND);
    assert_eq!(world.asked(), peers);
    world.say(peers[0], Message::Headers(vec![header_after(hash(2), 1)]));
    world.say(peers[0], Message::Headers(vec![header_after(hash(3), 1)]));
    assert!(waiting.iter().all(|&request| world.result(request).is_ok()));
}

#[test]
fn many_requests_for_headers_wait_without_work() {
    let (mut world, peers) = World::connected(1);
    let options = RequestOptions::new();
    let requests: Vec<_> = (0..5_000)
        .map(|n| {
            let stop = header_after(hash(1), n).hash();
            let question = Question::Headers(GetHeaders::new([]).stop_at(stop));
            world.engine.submit(world.now, question, &options).expect("there is room for the request")
        })
        .collect();
    let connection = world.connection(peers[0]);
    for n in 0..5_000 {
        let reply = Message::Headers(vec![header_after(hash(1), n)]);
        assert_eq!(world.engine.handle_message(world.now, peers[0], connection, reply), None);
    }
    world.settle();
    assert!(requests.iter().all(|&request| world.result(request).is_ok()));
}

#[test]
fn a_late_pong_is_no_news() {
    let (mut world, peers) = World::connected(1);
    let request = world.ask_with(Question::Ping, &RequestOptions::new().timeout(SECOND));
    let sent = world.sent();
    let [(_, Message::Ping { nonce })] = sent[..] else { panic!("not a ping: {sent:?}") };
    world.pass(SECOND);
    assert!(world.has_ended(request));
    let pong = Message::Pong { nonce };
    assert_eq!(world.say(peers[0], pong.clone()), None);
    assert_eq!(world.say(peers[0], pong.clone()), Some(pong));
}

#[test]
fn a_notfound_that_names_one_twice_answers_one() {
    let (mut world, peers) = World::connected(1);
    world.ask(Question::Transaction(txid(1)));
    assert_eq!(world.say(peers[0], not_found([1, 1])), Some(not_found([1])));
}

#[test]
fn a_transaction_over_the_threshold_is_the_one_asked_first() {
    let (mut world, peers) = World::connected(1);
    let ended = world.ask(Question::Transaction(txid(1)));
    world.run(|engine, now| engine.cancel(now, ended));
    let first = world.ask(Question::Transaction(txid(2)));
    let last = world.ask(transactions([3, 4, 5]));
    let connection = world.connection(peers[0]);
    let oversized = |world: &mut World| {
        world.run(|engine, now| {
            engine.handle_oversized(now, peers[0], connection, crate::wire::Command::TX, 1 << 40, &[]);
        });
    };
    oversized(&mut world);
    assert!(!world.has_ended(first), "it was that of the request that has ended");
    oversized(&mut world);
    assert!(matches!(world.result(first), Err(RequestError::TooLarge { .. })));
    world.say(peers[0], Message::Tx(transaction(3)));
    oversized(&mut world);
    assert!(matches!(world.result(last), Err(RequestError::TooLarge { .. })));
    assert_eq!(world.say(peers[0], Message::Tx(transaction(5))), None, "it was asked for too");
    let never_came = Message::Tx(transaction(4));
    assert_eq!(world.say(peers[0], never_came.clone()), Some(never_came));
}

#[test]
fn many_requests_end_without_a_search_for_each() {
    let (mut world, _) = World::connected(1);
    let options = RequestOptions::new();
    for n in 0..40_000 {
        let question = if n % 2 == 0 { Question::Ping } else { Question::Addresses };
        world.engine.submit(world.now, question, &options).expect("there is room for the request");
    }
    world.run(|engine, now| engine.fail_all(now, &RequestError::Shutdown));
    assert_eq!(world.outcomes.len(), 40_000);
}

#[test]
fn headers_that_time_out_at_one_peer_are_asked_of_another_once_it_is_free() {
    let (mut world, peers) = World::connected(2);
    let silent = world.ask(headers(1));
    let long = RequestOptions::new().timeout(100 * SECOND).peer(peers[1]);
    let other = world.ask_with(headers(2), &long);
    assert_eq!(world.asked(), peers);
    world.pass(20 * SECOND);
    assert_eq!(world.asked(), [], "the second peer is busy");
    world.say(peers[1], Message::Headers(vec![header_after(hash(2), 1)]));
    assert!(world.result(other).is_ok());
    assert_eq!(world.asked(), [peers[1]]);
    world.say(peers[1], Message::Headers(vec![header_after(hash(1), 1)]));
    assert!(world.result(silent).is_ok());
}

#[test]
fn not_found_waits_for_a_peer_that_is_dialled_for_the_first_time() {
    for comes in [true, false] {
        let mut world = World::new(config());
        let [first, second] = [address(1), address(2)].map(|text| world.add(&text));
        world.start();
        world.pass(Duration::ZERO);
        world.connect(first);
        let request = world.ask(Question::Transaction(txid(1)));
        world.say(first, not_found([1]));
        assert!(!world.has_ended(request), "the other one may have it");
        if comes {
            world.connect(second);
            assert_eq!(world.asked(), [first, second]);
            world.say(second, Message::Tx(transaction(1)));
            assert!(world.result(request).is_ok());
        } else {
            world.refuse(second);
            assert!(matches!(world.result(request), Err(RequestError::NotFound { .. })));
        }
        // One that has failed is not waited for.
        if !comes {
            world.jump();
            let request = world.ask(Question::Transaction(txid(2)));
            world.say(first, not_found([2]));
            assert!(world.has_ended(request));
        }
    }
}
