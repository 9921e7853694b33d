//! Two connections face to face in memory, with time as a variable.

mod associations;

use std::ops::Range;
use std::time::Duration;

use super::*;
use crate::message::{Reject, RejectCode};
use crate::wire::{PayloadLimits, SharedBytes};

const MAGIC: [u8; 4] = [0xda, 0xb5, 0xbf, 0xfa];
const UNIX: i64 = 1_700_000_000;
const THRESHOLD: u64 = 300_000;
const SECOND: Duration = Duration::from_secs(1);

fn connection(link: Link, nonce: u64, now: Instant) -> Connection {
    Connection::new(settings(false), link, remote(), nonce, None, now, UNIX)
}

fn remote() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 18_444))
}

fn settings(streams: bool) -> Arc<Settings> {
    Arc::new(Settings {
        streams,
        magic: MAGIC,
        user_agent: "/test/".to_owned(),
        services: Services::NONE,
        start_height: 7,
        relay: true,
        max_recv_payload_length: 2_097_152,
        stream_threshold: THRESHOLD,
        handshake_timeout: 20 * SECOND,
        ping_interval: 60 * SECOND,
        ping_timeout: 30 * SECOND,
        stall_timeout: 40 * SECOND,
    })
}

fn frame(message: &Message) -> Frame {
    message.to_frame(MAGIC)
}

fn version(nonce: u64) -> Version {
    Version::new(Services::NONE, nonce, "/peer/", 0, UNIX)
}

fn unknown(name: &str, payload: Vec<u8>) -> Frame {
    let command = Command::new(name).unwrap();
    frame(&Message::Unknown { command, payload: SharedBytes::from(payload) })
}

/// Takes at most `n` of the bytes that wait for the socket.
fn take(now: Instant, connection: &mut Connection, n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < n && connection.pending_bytes() > 0 {
        let mut slices = [IoSlice::new(&[]); 4];
        let filled = connection.pending(&mut slices);
        let before = bytes.len();
        for slice in &slices[..filled] {
            bytes.extend_from_slice(&slice[..slice.len().min(n - bytes.len())]);
        }
        connection.mark_sent(now, bytes.len() - before);
    }
    bytes
}

fn take_messages(now: Instant, connection: &mut Connection) -> Vec<Message> {
    messages(&take(now, connection, usize::MAX))
}

fn messages(mut stream: &[u8]) -> Vec<Message> {
    let limits = PayloadLimits { general: 1 << 24, block: 1 << 24 };
    let mut decoder = FrameDecoder::new(MAGIC, limits);
    let mut messages = Vec::new();
    while let Some(part) = decoder.push(&mut stream).unwrap() {
        let FramePart::Whole(header, payload) = part else { panic!("half a frame") };
        messages.push(Message::decode(header.command, payload).unwrap());
    }
    messages
}

fn commands(messages: &[Message]) -> Vec<Command> {
    messages.iter().map(Message::command).collect()
}

fn give(now: Instant, connection: &mut Connection, frame: &[u8]) -> Result<(), ProtocolError> {
    let mut input = frame;
    let result = connection.handle_bytes(now, UNIX, &mut input);
    assert!(result.is_err() || input.is_empty(), "bytes left over");
    result
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

/// The frames among the events, as command and payload.
fn frames(events: &[Event]) -> Vec<(Command, Vec<u8>)> {
    let batches = events.iter().filter_map(|event| match event {
        Event::Frames(batch) => Some(batch),
        _ => None,
    });
    batches
        .flat_map(|batch| batch.frames.iter().map(|f| (f.command, batch.bytes[f.payload.clone()].to_vec())))
        .collect()
}

/// One end with its handshake done and its first ping answered; the next ping is due at `now` + 60 s.
fn established(now: Instant) -> Connection {
    let mut connection = connection(Link::Inbound, 1, now);
    give(now, &mut connection, &frame(&Message::from(version(2)))).unwrap();
    give(now, &mut connection, &frame(&Message::Verack)).unwrap();
    answer_ping(now, &mut connection);
    let events = events(&mut connection);
    assert!(matches!(events[..], [Event::Established(_), Event::RoundTrip(_)]), "{events:?}");
    connection
}

fn answer_ping(now: Instant, connection: &mut Connection) {
    let sent = take_messages(now, connection);
    let Some(Message::Ping { nonce }) = sent.last() else { panic!("no ping in {sent:?}") };
    give(now, connection, &frame(&Message::Pong { nonce: *nonce })).unwrap();
}

/// Small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.next() as usize % range.len()
    }
}

/// Two connections face to face, and the bytes between them.
struct Pair {
    now: Instant,
    random: Random,
    ends: [Connection; 2],
    /// Bytes on the way to each end.
    wires: [Vec<u8>; 2],
    /// All bytes that ever were.
    written: [Vec<u8>; 2],
    events: [Vec<Event>; 2],
}

impl Pair {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let ends = [connection(Link::Outbound, 1, now), connection(Link::Inbound, 2, now)];
        Self {
            now,
            random: Random(seed),
            ends,
            wires: Default::default(),
            written: Default::default(),
            events: Default::default(),
        }
    }

    /// Moves a few bytes, cut anywhere.
    fn step(&mut self, seed: u64) {
        let from = self.random.within(0..2);
        let to = 1 - from;
        let largest = 1 << self.random.within(0..17);
        let n = self.random.within(1..largest + 1);
        let bytes = take(self.now, &mut self.ends[from], n);
        self.written[to].extend_from_slice(&bytes);
        self.wires[to].extend(bytes);
        let n = self.random.within(0..self.wires[to].len() + 1);
        let mut input = &self.wires[to][..n];
        let end = &mut self.ends[to];
        end.handle_bytes(self.now, UNIX, &mut input).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let taken = n - input.len();
        self.wires[to].drain(..taken);
        self.events[to].extend(events(end));
        if let Some(room) = end.wants_room() {
            assert!(!end.wants_read(), "seed {seed}");
            assert!(room > 65_536, "seed {seed}");
            end.grant_room();
            assert_eq!(end.reserved(), room, "seed {seed}");
        }
    }

    fn run(&mut self, seed: u64) {
        while self.ends.iter().any(|end| end.pending_bytes() > 0) || self.wires.iter().any(|w| !w.is_empty()) {
            self.step(seed);
        }
    }
}

#[test]
fn the_handshake_has_the_same_order_at_every_cut() {
    for seed in 0..300 {
        let mut pair = Pair::new(seed);
        pair.run(seed);
        for (written, side) in pair.written.iter().zip(["dialled", "dialling"]) {
            let sent = messages(written);
            let ours: Vec<_> = commands(&sent).into_iter().filter(|command| *command != Command::PONG).collect();
            let order = [Command::VERSION, Command::VERACK, Command::PROTOCONF, Command::PING];
            assert_eq!(ours, order, "seed {seed}: what the {side} side got");
            let Message::ProtoConf(protoconf) = &sent[2] else { panic!("seed {seed}: {sent:?}") };
            assert_eq!(protoconf.policies().collect::<Vec<_>>(), ["Default"]);
            assert_eq!(protoconf.max_recv_payload_length, 2_097_152);
        }
        for (end, events) in pair.ends.iter().zip(&pair.events) {
            assert!(end.is_established(), "seed {seed}");
            let count = |of: fn(&Event) -> bool| events.iter().filter(|event| of(event)).count();
            assert_eq!(count(|event| matches!(event, Event::Established(_))), 1, "seed {seed}");
            assert_eq!(count(|event| matches!(event, Event::Limits(_))), 1, "seed {seed}");
            assert_eq!(count(|event| matches!(event, Event::RoundTrip(_))), 1, "seed {seed}");
            assert_eq!(events.len(), 3, "seed {seed}");
        }
    }
}

#[test]
fn frames_of_all_sizes_arrive_whole_and_in_order_both_ways() {
    for seed in 0..40 {
        let mut pair = Pair::new(seed);
        let mut sent: [Vec<(Command, Vec<u8>)>; 2] = Default::default();
        for i in 0..30_u8 {
            let from = pair.random.within(0..2);
            let largest = 1 << pair.random.within(0..18);
            let payload = vec![i; pair.random.within(0..largest)];
            let frame = unknown("data", payload.clone());
            sent[1 - from].push((frame.command(), payload));
            // The first ones are queued before the handshake.
            let now = pair.now;
            pair.ends[from].send(now, frame);
            for _ in 0..pair.random.within(0..6) {
                pair.step(seed);
            }
        }
        pair.run(seed);
        for (to, sent) in sent.iter().enumerate() {
            assert!(frames(&pair.events[to]) == *sent, "seed {seed}: what end {to} got is not what was sent");
            let first = commands(&messages(&pair.written[to])).into_iter().position(|c| c.as_str() == "data");
            assert!(first.is_none_or(|first| first >= 3), "seed {seed}: a frame before the handshake");
            assert_eq!(pair.ends[to].queued_bytes(), 0, "seed {seed}");
            assert_eq!(pair.ends[to].reserved(), 0, "seed {seed}");
        }
    }
}

#[test]
fn nothing_but_version_is_sent_before_the_version_of_the_peer() {
    let now = Instant::now();
    let mut dialling = connection(Link::Outbound, 1, now);
    dialling.send(now, unknown("early", vec![1; 10]));
    let sent = take_messages(now, &mut dialling);
    let [Message::Version(ours)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((ours.nonce, ours.start_height, ours.relay), (1, 7, Some(true)));
    assert_eq!((ours.timestamp, ours.user_agent.as_str()), (UNIX, "/test/"));
    assert_eq!(ours.receiver.socket_addr(), SocketAddr::from(([127, 0, 0, 1], 18_444)));

    let mut dialled = connection(Link::Inbound, 2, now);
    dialled.send(now, unknown("early", vec![1; 10]));
    assert_eq!(dialled.pending_bytes(), 0);
    assert!(dialled.queued_bytes() > 10);
    give(now, &mut dialled, &frame(&Message::from(version(3)))).unwrap();
    let burst = [Command::VERSION, Command::VERACK, Command::PROTOCONF];
    assert_eq!(commands(&take_messages(now, &mut dialled)), burst);
    give(now, &mut dialled, &frame(&Message::Verack)).unwrap();
    let rest = commands(&take_messages(now, &mut dialled));
    assert_eq!(rest, [Command::PING, Command::new("early").unwrap()]);
}

#[test]
fn a_large_payload_waits_for_room_and_then_arrives_whole() {
    let now = Instant::now();
    let payload: Vec<u8> = (0..200_000).map(|i| (i % 251) as u8).collect();
    let stream = [unknown("small", vec![9; 5]).to_vec(), unknown("large", payload.clone()).to_vec()].concat();
    for size in [1_000, 4_096, 70_000] {
        let mut connection = established(now);
        let mut seen = Vec::new();
        let mut granted = false;
        let mut input = &stream[..];
        while !input.is_empty() {
            let mut piece = &input[..size.min(input.len())];
            let before = piece.len();
            connection.handle_bytes(now, UNIX, &mut piece).unwrap();
            input = &input[before - piece.len()..];
            seen.extend(events(&mut connection));
            if let Some(room) = connection.wants_room() {
                assert!(!granted, "asked twice");
                assert_eq!(room, payload.len());
                assert!(!connection.wants_read());
                let mut more = input;
                connection.handle_bytes(now, UNIX, &mut more).unwrap();
                assert_eq!(more.len(), input.len(), "nothing is taken without room");
                connection.grant_room();
                granted = true;
                assert!(connection.wants_read());
                assert_eq!(connection.reserved(), payload.len());
            }
        }
        assert!(granted, "size {size}");
        let expected =
            vec![(Command::new("small").unwrap(), vec![9; 5]), (Command::new("large").unwrap(), payload.clone())];
        assert!(frames(&seen) == expected, "size {size}");
        let Some(Event::Frames(batch)) = seen.last() else { panic!("size {size}") };
        assert_eq!((batch.reserved, connection.reserved()), (payload.len(), 0));
    }
}

#[test]
fn a_payload_above_the_threshold_is_skipped_and_the_stream_goes_on() {
    let now = Instant::now();
    let payload: Vec<u8> = (0..400_000).map(|i| (i % 253) as u8).collect();
    let stream = [
        unknown("before", vec![1; 5]).to_vec(),
        unknown("huge", payload.clone()).to_vec(),
        unknown("after", vec![2; 5]).to_vec(),
    ]
    .concat();
    for size in [50, 10_000, 1_000_000] {
        let mut connection = established(now);
        let mut seen = Vec::new();
        for piece in stream.chunks(size) {
            give(now, &mut connection, piece).unwrap();
            assert_eq!((connection.wants_room(), connection.reserved()), (None, 0));
            seen.extend(events(&mut connection));
        }
        let [Event::Frames(before), Event::Oversized { command, length, start }, Event::Frames(after)] = &seen[..]
        else {
            panic!("size {size}: {seen:?}")
        };
        assert_eq!((before.frames[0].command.as_str(), after.frames[0].command.as_str()), ("before", "after"));
        assert_eq!((command.as_str(), *length), ("huge", 400_000));
        assert_eq!(start[..], payload[..80]);
    }
}

#[test]
fn frames_before_a_fault_are_still_delivered() {
    let now = Instant::now();
    let mut connection = established(now);
    let stream = [unknown("good", vec![1; 5]).to_vec(), frame(&Message::from(version(3))).to_vec()].concat();
    assert_eq!(give(now, &mut connection, &stream), Err(ProtocolError::DuplicateVersion));
    assert_eq!(frames(&events(&mut connection)), [(Command::new("good").unwrap(), vec![1; 5])]);
}

#[test]
fn every_wrong_order_has_its_error() {
    let now = Instant::now();
    let hello = frame(&Message::from(version(9)));
    let mut obsolete = version(9);
    obsolete.version = 31_799;
    let protoconf = frame(&Message::ProtoConf(crate::message::ProtoConf::new(1_048_576, "Default")));
    let refusal = frame(&Message::from(Reject {
        message: "version".into(),
        code: RejectCode::Obsolete,
        reason: "Version must be 31800 or greater".into(),
        hash: None,
    }));
    let refused =
        ProtocolError::Refused { code: RejectCode::Obsolete, reason: "Version must be 31800 or greater".into() };
    let before_version = |command| ProtocolError::BeforeVersion { command };
    let cases: Vec<(&str, Vec<Frame>, ProtocolError)> = vec![
        ("verack first", vec![frame(&Message::Verack)], before_version(Command::VERACK)),
        ("ping first", vec![frame(&Message::Ping { nonce: 1 })], before_version(Command::PING)),
        ("protoconf first", vec![protoconf.clone()], before_version(Command::PROTOCONF)),
        ("inv first", vec![frame(&Message::Inv(vec![]))], before_version(Command::INV)),
        ("two versions", vec![hello.clone(), hello.clone()], ProtocolError::DuplicateVersion),
        (
            "a version after the handshake",
            vec![hello.clone(), frame(&Message::Verack), hello.clone()],
            ProtocolError::DuplicateVersion,
        ),
        ("two protoconfs", vec![hello.clone(), protoconf.clone(), protoconf], ProtocolError::DuplicateProtoConf),
        ("obsolete", vec![frame(&Message::from(obsolete))], ProtocolError::ObsoleteVersion { version: 31_799 }),
        ("own nonce", vec![frame(&Message::from(version(1)))], ProtocolError::SelfConnection),
        ("refused at once", vec![refusal.clone()], refused.clone()),
        ("refused after version", vec![hello, refusal], refused),
    ];
    for link in [Link::Inbound, Link::Outbound] {
        for (name, frames, error) in &cases {
            let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.to_vec()).collect();
            for size in [1, 13, stream.len()] {
                let mut connection = connection(link, 1, now);
                let result = stream.chunks(size).try_for_each(|piece| give(now, &mut connection, piece));
                assert_eq!(result, Err(error.clone()), "{name}, {link:?}, pieces of {size}");
            }
        }
    }
}

#[test]
fn messages_between_version_and_verack_are_dropped() {
    let now = Instant::now();
    let mut connection = connection(Link::Outbound, 1, now);
    give(now, &mut connection, &frame(&Message::from(version(2)))).unwrap();
    give(now, &mut connection, &unknown("sendaddrv2", vec![])).unwrap();
    give(now, &mut connection, &frame(&Message::Verack)).unwrap();
    give(now, &mut connection, &frame(&Message::Verack)).unwrap();
    let events = events(&mut connection);
    assert!(matches!(events[..], [Event::Established(_)]), "{events:?}");
}

#[test]
fn broken_control_messages_end_the_connection() {
    let now = Instant::now();
    let mut bytes = frame(&Message::from(version(2))).to_vec();
    bytes[30] ^= 1;
    let result = give(now, &mut connection(Link::Inbound, 1, now), &bytes);
    assert!(matches!(result, Err(ProtocolError::Frame(FrameError::BadChecksum { .. }))), "{result:?}");
    let short = Frame::encode(MAGIC, Command::PING, |out| out.push(1));
    let result = give(now, &mut established(now), &short);
    assert!(matches!(result, Err(ProtocolError::Malformed { command: Command::PING, .. })), "{result:?}");
}

#[test]
fn a_handshake_that_takes_too_long_ends() {
    let start = Instant::now();
    for link in [Link::Inbound, Link::Outbound] {
        let mut connection = connection(link, 1, start);
        let due = connection.poll_timeout().unwrap();
        assert_eq!(due, start + 20 * SECOND);
        // A version alone does not put it off.
        give(due - SECOND, &mut connection, &frame(&Message::from(version(2)))).unwrap();
        assert_eq!(connection.handle_timeout(due - Duration::from_nanos(1)), Ok(()));
        assert_eq!(connection.handle_timeout(due), Err(ProtocolError::HandshakeTimeout));
    }
}

#[test]
fn pings_go_out_on_schedule_and_measure_the_distance() {
    let start = Instant::now();
    let mut connection = established(start);
    let mut due = start;
    for _ in 0..3 {
        due += 60 * SECOND;
        assert_eq!(connection.poll_timeout(), Some(due));
        assert_eq!(connection.handle_timeout(due - Duration::from_nanos(1)), Ok(()));
        assert_eq!(connection.pending_bytes(), 0);
        assert_eq!(connection.handle_timeout(due), Ok(()));
        let sent = take_messages(due, &mut connection);
        let [Message::Ping { nonce }] = sent[..] else { panic!("{sent:?}") };
        // A pong of another nonce is the caller's.
        give(due + SECOND, &mut connection, &frame(&Message::Pong { nonce: !nonce })).unwrap();
        give(due + 2 * SECOND, &mut connection, &frame(&Message::Pong { nonce })).unwrap();
        let events = events(&mut connection);
        assert!(matches!(events[..], [Event::Frames(_), Event::RoundTrip(d)] if d == 2 * SECOND), "{events:?}");
    }
}

#[test]
fn a_peer_that_is_silent_after_a_ping_is_dropped() {
    let start = Instant::now();
    let mut connection = established(start);
    let mut now = connection.poll_timeout().unwrap();
    connection.handle_timeout(now).unwrap();
    // Not sent yet, it cannot be answered: only the stall counts.
    assert_eq!(connection.poll_timeout(), Some(now + 40 * SECOND));
    take(now, &mut connection, usize::MAX);
    assert_eq!(connection.poll_timeout(), Some(now + 30 * SECOND));
    // Any byte puts it off: the pong may be behind a big block.
    now += 29 * SECOND;
    give(now, &mut connection, &unknown("any", vec![])).unwrap();
    assert_eq!(connection.poll_timeout(), Some(now + 30 * SECOND));
    now += 30 * SECOND;
    assert_eq!(connection.handle_timeout(now), Err(ProtocolError::PingTimeout));
}

#[test]
fn a_peer_that_takes_nothing_is_dropped() {
    let start = Instant::now();
    let mut connection = established(start);
    connection.send(start + SECOND, unknown("data", vec![0; 1_000]));
    connection.send(start + 2 * SECOND, unknown("data", vec![0; 1_000]));
    assert_eq!(connection.poll_timeout(), Some(start + 41 * SECOND));
    // A single byte is progress.
    take(start + 30 * SECOND, &mut connection, 1);
    assert_eq!(connection.handle_timeout(start + 69 * SECOND), Ok(()));
    assert_eq!(connection.handle_timeout(start + 70 * SECOND), Err(ProtocolError::Stalled));
}

#[test]
fn a_pause_of_ours_is_not_held_against_the_peer() {
    let start = Instant::now();
    let mut connection = established(start);
    let pinged = connection.poll_timeout().unwrap();
    connection.handle_timeout(pinged).unwrap();
    let sent = take_messages(pinged, &mut connection);
    let [Message::Ping { nonce }] = sent[..] else { panic!("{sent:?}") };
    connection.set_reading(pinged + 10 * SECOND, false);
    assert_eq!(connection.poll_timeout(), None);
    assert_eq!(connection.handle_timeout(pinged + 1_000 * SECOND), Ok(()));
    let resumed = pinged + 1_000 * SECOND;
    connection.set_reading(resumed, true);
    assert_eq!(connection.poll_timeout(), Some(resumed + 30 * SECOND));
    // What the pong measures now is the pause.
    give(resumed + SECOND, &mut connection, &frame(&Message::Pong { nonce })).unwrap();
    assert!(events(&mut connection).is_empty());
    assert_eq!(connection.handle_timeout(resumed + 30 * SECOND), Ok(()));
}

#[test]
fn a_round_trip_with_much_in_flight_says_nothing_about_distance() {
    let start = Instant::now();
    for (ahead, behind, counts) in [(0, 1_000, true), (0, 65_600, false), (65_600, 0, false), (1_000, 0, true)] {
        let mut connection = established(start);
        connection.send(start, unknown("data", vec![0; ahead]));
        let due = start + 60 * SECOND;
        // The stall deadline lies before the ping's: a byte puts it off.
        connection.mark_sent(due, 1);
        connection.handle_timeout(due).unwrap();
        let stream = take(due, &mut connection, usize::MAX);
        let at = stream.windows(4).rposition(|bytes| bytes == b"ping").unwrap();
        let nonce = u64::from_le_bytes(stream[at + 20..at + 28].try_into().unwrap());
        let pong = [unknown("data", vec![0; behind]).to_vec(), frame(&Message::Pong { nonce }).to_vec()].concat();
        give(due + SECOND, &mut connection, &pong).unwrap();
        let measured = events(&mut connection).iter().any(|event| matches!(event, Event::RoundTrip(_)));
        assert_eq!(measured, counts, "{ahead} bytes ahead, {behind} behind");
    }
}

#[test]
fn a_pinger_who_takes_no_pongs_is_not_read() {
    let now = Instant::now();
    let mut connection = established(now);
    let ping = frame(&Message::Ping { nonce: 5 });
    let stream = ping.repeat(10_000);
    let mut input = &stream[..];
    connection.handle_bytes(now, UNIX, &mut input).unwrap();
    assert!(!connection.wants_read());
    assert!(!input.is_empty(), "the rest stays where it is");
    let held = connection.pending_bytes();
    assert!((64 * 1_024..64 * 1_024 + 100).contains(&held), "{held} bytes of pongs");
    // Once they are taken, reading goes on, and no ping is lost.
    let mut pongs = 0;
    while !input.is_empty() || connection.pending_bytes() > 0 {
        pongs += take(now, &mut connection, usize::MAX).len() / ping.len();
        assert!(connection.wants_read());
        connection.handle_bytes(now, UNIX, &mut input).unwrap();
    }
    assert_eq!(pongs, 10_000);
}

/// The payload of a `block` of this size, whose header differs by `n`.
fn block(n: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| if at < 80 { n } else { at as u8 }).collect()
}

fn hash_of(block: &[u8]) -> BlockHash {
    BlockHash::from_wire(sha256d(&block[..80]))
}

fn block_frame(payload: &[u8]) -> Frame {
    Frame::encode(MAGIC, Command::BLOCK, |out| out.extend_from_slice(payload))
}

/// What the events say, blocks for streams put together again, in order.
fn told(events: &[Event], told: &mut Vec<(String, Vec<u8>)>) {
    for event in events {
        match event {
            Event::BlockBegin { stream, length, .. } => told.push((format!("{stream:?} begins, {length}"), vec![])),
            Event::BlockBytes { bytes } => told.last_mut().expect("it has begun").1.extend_from_slice(bytes),
            Event::BlockEnd { stream } => told.push((format!("{stream:?} ends"), vec![])),
            Event::Oversized { length, start, .. } => told.push((format!("skipped, {length}"), start.clone())),
            Event::Frames(batch) => {
                for frame in &batch.frames {
                    told.push((frame.command.to_string(), batch.bytes[frame.payload.clone()].to_vec()));
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn blocks_that_streams_wait_for_go_to_them_at_every_cut_and_others_do_not() {
    let now = Instant::now();
    // Wanted; small; of the same hash once more; one whose room must be asked for; one over the threshold; too short to
    // be a block.
    let wanted = block(1, 70_000);
    let others = [block(2, 500), wanted.clone(), block(3, 100_000), block(4, 400_000), block(5, 60), block(6, 80)];
    let mut bytes = frame(&Message::Inv(vec![])).to_vec();
    bytes.extend_from_slice(&block_frame(&wanted));
    others.iter().for_each(|block| bytes.extend_from_slice(&block_frame(block)));
    let mut extended = Vec::new();
    let header = FrameHeader { magic: MAGIC, command: Command::BLOCK, length: 90, checksum: None };
    header.encode(&mut extended);
    extended.extend_from_slice(&block(7, 90));
    bytes.extend_from_slice(&extended);

    let mut first = None;
    for cut in [7, 23, 24, 25, 79, 80, 81, 103, 104, 105, 4_096, 69_999, 131_072, usize::MAX] {
        let mut connection = established(now);
        connection.expect_block(hash_of(&wanted), StreamId(1));
        connection.expect_block(hash_of(&block(7, 90)), StreamId(2));
        connection.expect_block(hash_of(&block(8, 90)), StreamId(3));
        let mut all = Vec::new();
        for mut piece in bytes.chunks(cut.min(bytes.len())) {
            while !piece.is_empty() {
                connection.handle_bytes(now, UNIX, &mut piece).unwrap();
                if connection.wants_room().is_some() {
                    connection.grant_room();
                }
                told(&events(&mut connection), &mut all);
            }
        }
        assert!(matches!(connection.payload, Payload::None), "cut at {cut}");
        assert_eq!(connection.expected, [(hash_of(&block(8, 90)), StreamId(3))]);
        let first = first.get_or_insert_with(|| all.clone());
        assert!(all == *first, "cut at {cut}");
    }
    let names: Vec<String> = first.unwrap().into_iter().map(|(name, _)| name).collect();
    let begins = |stream: u64, len| format!("StreamId({stream}) begins, {len}");
    let expected = [
        "inv".to_owned(),
        begins(1, 70_000),
        "StreamId(1) ends".to_owned(),
        "block".to_owned(),
        "block".to_owned(),
        "block".to_owned(),
        "skipped, 400000".to_owned(),
        "block".to_owned(),
        "block".to_owned(),
        begins(2, 90),
        "StreamId(2) ends".to_owned(),
    ];
    assert_eq!(names, expected);
}

#[test]
fn two_streams_for_one_block_each_get_one_and_who_asked_last_is_first() {
    let now = Instant::now();
    let wanted = block(1, 1_000);
    let mut connection = established(now);
    connection.expect_block(hash_of(&wanted), StreamId(5));
    connection.expect_block(hash_of(&wanted), StreamId(4));
    let frames = block_frame(&wanted).repeat(3);
    give(now, &mut connection, &frames).unwrap();
    let mut all = Vec::new();
    told(&events(&mut connection), &mut all);
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["StreamId(4) begins, 1000", "StreamId(4) ends", "StreamId(5) begins, 1000", "StreamId(5) ends", "block"];
    assert_eq!(names, expected);
    assert!(all[0].1 == wanted && all[2].1 == wanted);
}
