//! Two connections to one peer: who may open the second, and what becomes of it.

use super::*;

const ID: AssociationId = AssociationId::new(34);

fn dialled(now: Instant) -> Connection {
    Connection::new(settings(true), Link::Outbound, remote(), 1, Some(ID), now, UNIX)
}

fn joining(now: Instant, stray_ping: Option<u64>) -> Connection {
    Connection::join(settings(true), remote(), 1, ID, stray_ping, now)
}

/// The associations that a connection tells of once the peer has said all this.
fn told(id: Option<&[u8]>, policies: &str) -> Vec<AssociationId> {
    let now = Instant::now();
    let mut connection = dialled(now);
    let mut version = version(2);
    version.relay = Some(true);
    version.association_id = id.map(<[u8]>::to_vec);
    give(now, &mut connection, &frame(&Message::from(version))).unwrap();
    give(now, &mut connection, &frame(&Message::Verack)).unwrap();
    give(now, &mut connection, &frame(&Message::ProtoConf(ProtoConf::new(2_097_152, policies)))).unwrap();
    associations(&mut connection)
}

fn associations(connection: &mut Connection) -> Vec<AssociationId> {
    let ids = events(connection).into_iter().filter_map(|event| match event {
        Event::Association(id) => Some(id),
        _ => None,
    });
    ids.collect()
}

fn ack(id: AssociationId, stream_type: StreamType) -> Frame {
    frame(&Message::StreamAck(StreamAck { association_id: id.as_bytes().to_vec(), stream_type }))
}

#[test]
fn the_version_names_an_association_and_the_protoconf_the_policies() {
    let now = Instant::now();
    let mut connection = dialled(now);
    let sent = take_messages(now, &mut connection);
    let [Message::Version(ours)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(ours.association_id.as_deref(), Some(ID.as_bytes()));
    give(now, &mut connection, &frame(&Message::from(version(2)))).unwrap();
    let sent = take_messages(now, &mut connection);
    let [Message::Verack, Message::ProtoConf(protoconf)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(protoconf.policies().collect::<Vec<_>>(), ["BlockPriority", "Default"]);
}

#[test]
fn a_peer_that_repeats_the_id_and_knows_the_policy_may_be_joined() {
    assert_eq!(told(Some(ID.as_bytes()), "BlockPriority,Default"), [ID]);
    assert_eq!(told(Some(ID.as_bytes()), "Default,BlockPriority"), [ID]);
}

#[test]
fn no_other_peer_is_joined() {
    assert_eq!(told(Some(ID.as_bytes()), "Default"), []);
    assert_eq!(told(Some(ID.as_bytes()), "BlockPriorityToo"), []);
    assert_eq!(told(Some(AssociationId::new(43).as_bytes()), "BlockPriority,Default"), []);
    assert_eq!(told(Some(&[0]), "BlockPriority,Default"), []);
    assert_eq!(told(Some(&[]), "BlockPriority,Default"), []);
    assert_eq!(told(None, "BlockPriority,Default"), []);
}

#[test]
fn a_protoconf_before_the_verack_counts_from_then_on() {
    let now = Instant::now();
    let mut connection = dialled(now);
    let mut theirs = version(2);
    theirs.relay = Some(true);
    theirs.association_id = Some(ID.as_bytes().to_vec());
    give(now, &mut connection, &frame(&Message::from(theirs))).unwrap();
    let protoconf = ProtoConf::new(2_097_152, "BlockPriority,Default");
    give(now, &mut connection, &frame(&Message::ProtoConf(protoconf))).unwrap();
    assert_eq!(associations(&mut connection), []);
    give(now, &mut connection, &frame(&Message::Verack)).unwrap();
    assert_eq!(associations(&mut connection), [ID]);
    give(now, &mut connection, &frame(&Message::Verack)).unwrap();
    assert_eq!(associations(&mut connection), []);
}

#[test]
fn a_second_connection_asks_and_says_nothing_else_until_it_is_accepted() {
    let now = Instant::now();
    let mut connection = joining(now, None);
    connection.send(now, frame(&Message::GetAddr));
    let sent = take_messages(now, &mut connection);
    let [Message::CreateStrm(ask)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((&ask.association_id[..], ask.stream_type), (ID.as_bytes(), StreamType::Data1));
    assert_eq!(&*ask.stream_policy, "BlockPriority");
    assert_eq!(connection.poll_timeout(), Some(now + 20 * SECOND));

    give(now, &mut connection, &ack(ID, StreamType::Data1)).unwrap();
    assert!(connection.is_established());
    assert!(matches!(events(&mut connection)[..], [Event::Joined]));
    let sent = commands(&take_messages(now, &mut connection));
    assert_eq!(sent, [Command::PING, Command::GETADDR]);
    give(now, &mut connection, &frame(&Message::Ping { nonce: 9 })).unwrap();
    assert_eq!(take_messages(now, &mut connection), [Message::Pong { nonce: 9 }]);
    give(now, &mut connection, &frame(&Message::GetAddr)).unwrap();
    assert_eq!(frames(&events(&mut connection)), [(Command::GETADDR, Vec::new())]);
}

#[test]
fn a_second_connection_ends_with_anything_but_its_acknowledgement() {
    let now = Instant::now();
    let error_of = |bytes: &[u8]| give(now, &mut joining(now, None), bytes).unwrap_err();
    let wrong = |command| ProtocolError::NoStreamAck { command };
    let other = AssociationId::new(43);
    assert_eq!(error_of(&ack(other, StreamType::Data1)), wrong(Command::STREAMACK));
    assert_eq!(error_of(&ack(ID, StreamType::General)), wrong(Command::STREAMACK));
    assert_eq!(error_of(&frame(&Message::from(version(2)))), wrong(Command::VERSION));
    assert_eq!(error_of(&frame(&Message::Ping { nonce: 1 })), wrong(Command::PING));
    let reject =
        Reject { message: "createstrm".into(), code: RejectCode::StreamSetup, reason: "no".into(), hash: None };
    let refused = ProtocolError::Refused { code: RejectCode::StreamSetup, reason: "no".to_owned() };
    assert_eq!(error_of(&frame(&reject.into())), refused);
}

#[test]
fn a_second_connection_that_is_not_acknowledged_times_out() {
    let now = Instant::now();
    let mut connection = joining(now, None);
    assert_eq!(connection.handle_timeout(now + 19 * SECOND), Ok(()));
    assert_eq!(connection.handle_timeout(now + 20 * SECOND), Err(ProtocolError::HandshakeTimeout));
}

#[test]
fn a_joined_connection_takes_no_second_handshake() {
    let now = Instant::now();
    let joined = || {
        let mut connection = joining(now, None);
        give(now, &mut connection, &ack(ID, StreamType::Data1)).unwrap();
        connection
    };
    assert_eq!(give(now, &mut joined(), &frame(&Message::from(version(2)))), Err(ProtocolError::DuplicateVersion));
    let protoconf = Message::ProtoConf(ProtoConf::new(2_097_152, "Default"));
    assert_eq!(give(now, &mut joined(), &frame(&protoconf)), Err(ProtocolError::DuplicateProtoConf));
}

#[test]
fn keepalive_rests_while_a_second_connection_opens_and_goes_on_if_it_does_not() {
    let now = Instant::now();
    let mut first = established(now);
    let later = now + 60 * SECOND;
    first.handle_timeout(later).unwrap();
    let sent = take_messages(later, &mut first);
    let [Message::Ping { nonce }] = sent[..] else { panic!("{sent:?}") };
    first.set_keepalive(later, Part::Nothing);
    assert_eq!(first.ping_out(), Some(nonce));
    assert_eq!(first.poll_timeout(), None);
    let late = later + 500 * SECOND;
    assert_eq!(first.handle_timeout(late), Ok(()));
    assert_eq!(take_messages(late, &mut first), []);

    first.set_keepalive(late, Part::Whole);
    assert_eq!(first.handle_timeout(late + 29 * SECOND), Ok(()));
    assert_eq!(first.handle_timeout(late + 30 * SECOND), Err(ProtocolError::PingTimeout));
}

/// A first connection that another one has joined, its ping just sent.
fn joined_and_pinging(now: Instant) -> (Connection, u64) {
    let mut first = established(now);
    first.set_keepalive(now, Part::Half);
    assert_eq!(first.poll_timeout(), Some(now + 60 * SECOND));
    let due = now + 60 * SECOND;
    first.handle_timeout(due).unwrap();
    let sent = take_messages(due, &mut first);
    let [Message::Ping { nonce }] = sent[..] else { panic!("{sent:?}") };
    (first, nonce)
}

#[test]
fn the_pong_to_the_first_ones_ping_may_come_on_the_second() {
    let now = Instant::now();
    let (mut first, nonce) = joined_and_pinging(now);
    let mut second = joining(now, None);
    give(now, &mut second, &ack(ID, StreamType::Data1)).unwrap();
    second.set_stray_ping(Some(nonce));
    let pong = frame(&Message::Pong { nonce });
    give(now, &mut second, &pong).unwrap();
    let events = events(&mut second);
    assert!(matches!(events[..], [Event::Joined, Event::StrayPong { nonce: n }] if n == nonce), "{events:?}");
    give(now, &mut second, &pong).unwrap();
    assert_eq!(frames(&super::events(&mut second)).len(), 1, "another one is a caller's");

    let later = now + 61 * SECOND;
    first.take_stray_pong(later, nonce + 1);
    assert_eq!(first.ping_out(), Some(nonce), "that was no pong to this one");
    first.take_stray_pong(later, nonce);
    assert_eq!((first.ping_out(), first.poll_timeout()), (None, Some(now + 120 * SECOND)));
    assert_eq!(first.note_other_pong(now + 500 * SECOND), Ok(()));
}

#[test]
fn a_joined_connection_tells_when_it_had_sent_what_came_back() {
    let now = Instant::now();
    let mut second = joining(now, None);
    give(now, &mut second, &ack(ID, StreamType::Data1)).unwrap();
    let (sent, back) = (now + SECOND, now + 100 * SECOND);
    let messages = take_messages(sent, &mut second);
    let Some(Message::Ping { nonce }) = messages.last() else { panic!("{messages:?}") };
    give(back, &mut second, &frame(&Message::Pong { nonce: *nonce })).unwrap();
    let events = events(&mut second);
    let [Event::Joined, Event::Ponged { asked }, Event::RoundTrip(_)] = events[..] else { panic!("{events:?}") };
    assert_eq!(asked, sent);
}

#[test]
fn a_first_connection_is_dead_once_the_second_got_back_what_it_sent_long_after_the_ping() {
    let now = Instant::now();
    let (mut first, _) = joined_and_pinging(now);
    let sent = now + 60 * SECOND;
    // By itself it never is: the pong may be behind a block.
    assert_eq!(first.poll_timeout(), None);
    assert_eq!(first.handle_timeout(sent + 900 * SECOND), Ok(()));
    assert_eq!(take_messages(sent, &mut first), [], "one ping is out");
    assert_eq!(first.note_other_pong(sent + 29 * SECOND), Ok(()));
    assert_eq!(first.note_other_pong(sent + 30 * SECOND), Err(ProtocolError::PingTimeout));
    // Any byte is a sign of life, and what we do not read is none of its silence.
    give(sent + 20 * SECOND, &mut first, &frame(&Message::GetAddr)).unwrap();
    assert_eq!(first.note_other_pong(sent + 49 * SECOND), Ok(()));
    assert_eq!(first.note_other_pong(sent + 50 * SECOND), Err(ProtocolError::PingTimeout));
    first.set_reading(sent + 21 * SECOND, false);
    assert_eq!(first.note_other_pong(sent + 900 * SECOND), Ok(()));
}

#[test]
fn a_ping_that_has_not_left_says_nothing_about_the_first_connection() {
    let now = Instant::now();
    let mut first = established(now);
    first.set_keepalive(now, Part::Half);
    first.handle_timeout(now + 60 * SECOND).unwrap();
    assert_eq!(first.note_other_pong(now + 900 * SECOND), Ok(()), "it waits for the socket");
    take_messages(now + 61 * SECOND, &mut first);
    assert_eq!(first.note_other_pong(now + 91 * SECOND), Err(ProtocolError::PingTimeout));
}

#[test]
fn who_is_dialled_repeats_the_id_if_it_knows_associations() {
    let answer = |streams: bool, id: &[u8]| {
        let now = Instant::now();
        let mut connection = Connection::new(settings(streams), Link::Inbound, remote(), 1, None, now, UNIX);
        let mut theirs = version(2);
        theirs.relay = Some(true);
        theirs.association_id = Some(id.to_vec());
        give(now, &mut connection, &frame(&Message::from(theirs))).unwrap();
        let sent = take_messages(now, &mut connection);
        let Some(Message::Version(ours)) = sent.first() else { panic!("{sent:?}") };
        (ours.association_id.clone(), associations(&mut connection))
    };
    assert_eq!(answer(true, ID.as_bytes()), (Some(ID.as_bytes().to_vec()), vec![ID]));
    assert_eq!(answer(false, ID.as_bytes()), (None, Vec::new()));
    assert_eq!(answer(true, &[]), (None, Vec::new()));
}
