//! The faults that a node can be told to have: what they are, and which of them are on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::flood::Flood;
use crate::message::RejectCode;
use crate::wire::{Command, FrameHeader};

/// A fault of a [`TestNode`](super::TestNode), from its [`inject`](super::TestNode::inject) on.
///
/// Without more said, it concerns all messages on all connections, and lasts.
///
/// ```
/// use std::time::Duration;
/// use conduit::Command;
/// use conduit::testnode::{Fault, FaultKind};
///
/// // The third connection gets its first block half a second late.
/// let late = Fault::new(FaultKind::Delay(Duration::from_millis(500))).command(Command::BLOCK).connection(2).times(1);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The messages concerned, by their command; `None` for all.
    ///
    /// [`Silence`](FaultKind::Silence), [`Idle`](FaultKind::Idle) and [`Flood`](FaultKind::Flood) concern whole
    /// connections and do not look at it. [`Falsify`](FaultKind::Falsify), [`Shorten`](FaultKind::Shorten),
    /// [`Miscount`](FaultKind::Miscount) and [`TooBusy`](FaultKind::TooBusy) concern `block` messages only.
    pub command: Option<Command>,
    /// The connection concerned: the number of those accepted before it, those of joined nodes not counted; `None` for
    /// all, joined nodes' too.
    pub connection: Option<usize>,
    /// How many messages it happens to, in all, or connections where it concerns those; `None` for no end.
    ///
    /// [`Silence`](FaultKind::Silence) lasts in any case.
    pub times: Option<u64>,
}

/// What can go wrong.
///
/// Of several faults that change one message that the node sends, all do; what comes in meets the first one only.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A message that comes in is counted and thrown away.
    Ignore,
    /// A message that comes in is counted, and answered with a `reject` whatever it says.
    Reject {
        /// The kind of fault it claims.
        code: RejectCode,
        /// Its words.
        reason: String,
    },
    /// A message that the node would send is not sent.
    Withhold,
    /// A message that the node sends, and so everything behind it, leaves so much later.
    Delay(Duration),
    /// A message that the node sends has a checksum that is wrong.
    CorruptChecksum,
    /// The connection ends once so many bytes of the messages concerned, with their headers, are sent on it since the
    /// fault began: in the middle of one, as it happens. Other messages do not count.
    CloseAfter(u64),
    /// The connection stays open, and nothing goes out on it ever again, once so many bytes are sent; counted as for
    /// [`CloseAfter`](Self::CloseAfter).
    ///
    /// The end of the fault does not undo that.
    StallAfter(u64),
    /// A message that the node sends leaves at this many bytes a second, at least one, and what is behind it waits.
    Throttle(u64),
    /// A message that the node sends has an extended header, and so no checksum, whatever its length. That is legal, but
    /// no node does so below 4 GiB.
    ExtendHeader,
    /// A block that is asked for has a wrong byte: every bit of the one at this place, from 0, is another one, or of the
    /// last if there are not so many.
    Falsify {
        /// The place of the byte.
        at: u64,
        /// Whether the checksum is that of what is sent; else it is that of the honest block.
        checksum_fits: bool,
    },
    /// A block that is asked for lacks so many bytes at its end; length and checksum are those of what is left.
    Shorten(u64),
    /// A block that is asked for says that it has so many more transactions than it has, or fewer; length and checksum are
    /// those of what is sent.
    Miscount(i64),
    /// A block that is asked for is not sent: the node says that it is too busy, as a real one whose send queues are full.
    TooBusy,
    /// The node says nothing of its own, and what comes in is counted and thrown away, pings included.
    ///
    /// What was being sent is finished, and [`send`](super::TestNode::send) and
    /// [`send_bytes`](super::TestNode::send_bytes) still do. What came meanwhile is never answered.
    Silence,
    /// The same for a connection whose handshake ends after the fault began, from that moment on.
    Idle,
    /// A connection whose handshake ends after the fault began is flooded from that moment on.
    Flood(Flood),
}

impl Fault {
    /// A fault of all messages on all connections that does not end.
    #[must_use]
    pub const fn new(kind: FaultKind) -> Self {
        Self { kind, command: None, connection: None, times: None }
    }

    /// Sets [`command`](Self#structfield.command).
    #[must_use]
    pub const fn command(mut self, command: Command) -> Self {
        self.command = Some(command);
        self
    }

    /// Sets [`connection`](Self#structfield.connection).
    #[must_use]
    pub const fn connection(mut self, number: usize) -> Self {
        self.connection = Some(number);
        self
    }

    /// Sets [`times`](Self#structfield.times).
    #[must_use]
    pub const fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }
}

/// Names a connection to the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whom {
    pub(super) line: u64,
    /// How many were accepted before it; `None` if another node is at its far end.
    pub(super) accepted: Option<usize>,
}

/// The faults that are on; read by all threads of the node. Its lock is the innermost.
#[derive(Debug, Default)]
pub(super) struct Faults {
    active: Mutex<Vec<Active>>,
    /// Always the number of `active`, to see without the lock that there are none.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Active {
    fault: Fault,
    /// The lines it acted on, and of `CloseAfter` and `StallAfter` the bytes that count.
    lines: Vec<(u64, u64)>,
}

/// What becomes of a message that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reception {
    Heed,
    Ignore,
    Reject(RejectCode, String),
}

/// What becomes of a frame that is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Treatment {
    pub(super) withhold: bool,
    pub(super) corrupt: bool,
    pub(super) delay: Duration,
    /// Bytes of it that are sent before the connection ends.
    pub(super) close_after: Option<u64>,
    /// Bytes of it that are sent before nothing else is.
    pub(super) stall_after: Option<u64>,
    /// Bytes a second.
    pub(super) rate: Option<u64>,
    /// Its header has the extended form.
    pub(super) extend: bool,
}

/// What becomes of a block that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It is sent, with these changes.
    Send(Vec<Lie>),
    TooBusy,
}

/// What is changed in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    Falsify { at: u64, checksum_fits: bool },
    Shorten(u64),
    Miscount(i64),
}

impl Faults {
    pub(super) fn inject(&self, fault: Fault) {
        let mut active = self.active.lock();
        active.push(Active { fault, lines: Vec::new() });
        self.count.store(active.len(), Ordering::SeqCst);
    }

    /// Ends the faults that `ends` names.
    pub(super) fn end(&self, mut ends: impl FnMut(&Fault) -> bool) {
        let mut active = self.active.lock();
        active.retain(|active| !ends(&active.fault));
        self.count.store(active.len(), Ordering::SeqCst);
    }

    /// Forgets a line that ended.
    pub(super) fn forget(&self, line: u64) {
        self.look((), |active| active.iter_mut().for_each(|active| active.lines.retain(|&(id, _)| id != line)));
    }

    /// Whether the node says nothing on this line.
    pub(super) fn silences(&self, whom: Whom) -> bool {
        self.look(false, |active| {
            active.iter().any(|active| match active.fault.kind {
                FaultKind::Silence => active.names(whom),
                FaultKind::Idle => active.lines.iter().any(|&(id, _)| id == whom.line),
                _ => false,
            })
        })
    }

    /// What becomes of a message that comes in.
    pub(super) fn receive(&self, whom: Whom, command: Command) -> Reception {
        self.look(Reception::Heed, |active| {
            for active in active.iter_mut().filter(|active| active.concerns(whom, command)) {
                let is_of_input = matches!(active.fault.kind, FaultKind::Ignore | FaultKind::Reject { .. });
                if is_of_input && active.take_turn() {
                    return match &active.fault.kind {
                        FaultKind::Reject { code, reason } => Reception::Reject(*code, reason.clone()),
                        _ => Reception::Ignore,
                    };
                }
            }
            Reception::Heed
        })
    }

    /// Whether any fault may change what is sent on this line.
    pub(super) fn change_output(&self, whom: Whom) -> bool {
        self.look(false, |active| active.iter().any(|active| active.is_of_output() && active.names(whom)))
    }

    /// What becomes of a frame of `len` bytes that is to be sent.
    pub(super) fn send(&self, whom: Whom, command: Command, len: u64) -> Treatment {
        self.look(Treatment::default(), |active| {
            let mut treatment = Treatment::default();
            let mut extended = active.iter_mut().filter(|active| active.fault.kind == FaultKind::ExtendHeader);
            // First, because it makes the frame longer.
            treatment.extend = extended.any(|active| active.concerns(whom, command) && active.take_turn());
            let is_basic = len <= BASIC_LEN + u64::from(u32::MAX);
            let len = if treatment.extend && is_basic { len + EXTENDED_LEN - BASIC_LEN } else { len };
            for active in active.iter_mut().filter(|active| active.concerns(whom, command)) {
                match active.fault.kind {
                    FaultKind::Withhold => treatment.withhold |= active.take_turn(),
                    FaultKind::CorruptChecksum => treatment.corrupt |= active.take_turn(),
                    FaultKind::Delay(delay) => {
                        treatment.delay += if active.take_turn() { delay } else { Duration::ZERO };
                    }
                    FaultKind::Throttle(rate) => {
                        let rate = active.take_turn().then_some(rate.max(1));
                        treatment.rate = [treatment.rate, rate].into_iter().flatten().min();
                    }
                    FaultKind::CloseAfter(limit) | FaultKind::StallAfter(limit) => {
                        let sent = active.of_line(whom.line);
                        let left = limit.saturating_sub(*sent);
                        *sent = sent.saturating_add(len);
                        if left <= len && active.take_turn() {
                            let is_close = matches!(active.fault.kind, FaultKind::CloseAfter(_));
                            let after =
                                if is_close { &mut treatment.close_after } else { &mut treatment.stall_after };
                            *after = Some(after.map_or(left, |other| other.min(left)));
                        }
                    }
                    _ => {}
                }
            }
            treatment
        })
    }

    /// What becomes of a block that was asked for.
    pub(super) fn deliver(&self, whom: Whom) -> Delivery {
        self.look(Delivery::Send(Vec::new()), |active| {
            let mut lies = Vec::new();
            for active in active.iter_mut().filter(|active| active.concerns(whom, Command::BLOCK)) {
                let lie = match active.fault.kind {
                    FaultKind::TooBusy => {
                        if active.take_turn() {
                            return Delivery::TooBusy;
                        }
                        continue;
                    }
                    FaultKind::Falsify { at, checksum_fits } => Lie::Falsify { at, checksum_fits },
                    FaultKind::Shorten(bytes) => Lie::Shorten(bytes),
                    FaultKind::Miscount(more) => Lie::Miscount(more),
                    _ => continue,
                };
                lies.extend(active.take_turn().then_some(lie));
            }
            Delivery::Send(lies)
        })
    }

    /// Notes that a handshake is done; returns the floods that begin.
    pub(super) fn establish(&self, whom: Whom) -> Vec<Flood> {
        self.look(Vec::new(), |active| {
            let mut floods = Vec::new();
            for active in active.iter_mut().filter(|active| active.names(whom)) {
                let flood = match active.fault.kind {
                    FaultKind::Idle => None,
                    FaultKind::Flood(flood) => Some(flood),
                    _ => continue,
                };
                if active.take_turn() {
                    *active.of_line(whom.line) = 0;
                    floods.extend(flood);
                }
            }
            floods
        })
    }

    fn look<T>(&self, none: T, look: impl FnOnce(&mut Vec<Active>) -> T) -> T {
        if self.count.load(Ordering::SeqCst) == 0 { none } else { look(&mut self.active.lock()) }
    }
}

impl Active {
    fn names(&self, whom: Whom) -> bool {
        self.fault.connection.is_none_or(|number| whom.accepted == Some(number))
    }

    fn concerns(&self, whom: Whom, command: Command) -> bool {
        self.names(whom) && self.fault.command.is_none_or(|other| other == command)
    }

    fn is_of_output(&self) -> bool {
        use FaultKind::{CloseAfter, CorruptChecksum, Delay, ExtendHeader, StallAfter, Throttle, Withhold};

        matches!(
            self.fault.kind,
            Withhold | Delay(_) | CorruptChecksum | CloseAfter(_) | StallAfter(_) | Throttle(_) | ExtendHeader
        )
    }

    /// Whether it happens once more.
    fn take_turn(&mut self) -> bool {
        match &mut self.fault.times {
            None => true,
            Some(0) => false,
            Some(times) => {
                *times -= 1;
                true
            }
        }
    }

    fn of_line(&mut self, line: u64) -> &mut u64 {
        let at = self.lines.iter().position(|&(id, _)| id == line).unwrap_or_else(|| {
            self.lines.push((line, 0));
            self.lines.len() - 1
        });
        &mut self.lines[at].1
    }
}

const BASIC_LEN: u64 = FrameHeader::BASIC_LEN as u64;
const EXTENDED_LEN: u64 = FrameHeader::EXTENDED_LEN as u64;

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Whom = Whom { line: 7, accepted: Some(0) };
    const JOINED: Whom = Whom { line: 8, accepted: None };

    #[test]
    fn a_fault_concerns_its_command_and_connection_as_often_as_told() {
        let faults = Faults::default();
        faults.inject(Fault::new(FaultKind::Ignore).command(Command::PING).connection(0).times(2));
        assert_eq!(faults.receive(JOINED, Command::PING), Reception::Heed);
        assert_eq!(faults.receive(FIRST, Command::TX), Reception::Heed);
        assert_eq!(faults.receive(FIRST, Command::PING), Reception::Ignore);
        assert_eq!(faults.receive(FIRST, Command::PING), Reception::Ignore);
        assert_eq!(faults.receive(FIRST, Command::PING), Reception::Heed);
    }

    #[test]
    fn what_comes_in_meets_the_first_fault_only() {
        let faults = Faults::default();
        let reject = FaultKind::Reject { code: RejectCode::Invalid, reason: "no".into() };
        faults.inject(Fault::new(reject).times(1));
        faults.inject(Fault::new(FaultKind::Ignore).times(1));
        assert_eq!(faults.receive(FIRST, Command::TX), Reception::Reject(RejectCode::Invalid, "no".into()));
        assert_eq!(faults.receive(FIRST, Command::TX), Reception::Ignore);
        assert_eq!(faults.receive(FIRST, Command::TX), Reception::Heed);
    }

    #[test]
    fn what_goes_out_meets_them_all() {
        let faults = Faults::default();
        let second = Duration::from_secs(1);
        faults.inject(Fault::new(FaultKind::Delay(second)));
        faults.inject(Fault::new(FaultKind::Delay(second)));
        faults.inject(Fault::new(FaultKind::CorruptChecksum).times(1));
        let both = Treatment { corrupt: true, delay: 2 * second, ..Treatment::default() };
        assert_eq!(faults.send(FIRST, Command::TX, 100), both);
        assert!(!faults.send(FIRST, Command::TX, 100).corrupt);
        assert!(faults.change_output(JOINED));
        faults.end(|_| true);
        assert_eq!(faults.send(FIRST, Command::TX, 100), Treatment::default());
    }

    #[test]
    fn bytes_are_counted_for_each_connection() {
        let faults = Faults::default();
        faults.inject(Fault::new(FaultKind::CloseAfter(150)).command(Command::TX));
        let close = |whom, command| faults.send(whom, command, 100).close_after;
        assert_eq!(close(FIRST, Command::TX), None);
        assert_eq!(close(JOINED, Command::TX), None);
        assert_eq!(close(FIRST, Command::PONG), None);
        assert_eq!(close(FIRST, Command::TX), Some(50));
        faults.forget(JOINED.line);
        assert_eq!(close(JOINED, Command::TX), None);
    }

    #[test]
    fn an_extended_header_counts_as_long_as_it_is() {
        let faults = Faults::default();
        faults.inject(Fault::new(FaultKind::ExtendHeader).times(1));
        faults.inject(Fault::new(FaultKind::StallAfter(150)));
        faults.inject(Fault::new(FaultKind::Throttle(9)));
        faults.inject(Fault::new(FaultKind::Throttle(7)).command(Command::TX));
        let first = faults.send(FIRST, Command::TX, 100);
        assert_eq!(first, Treatment { extend: true, rate: Some(7), ..Treatment::default() });
        let second = faults.send(FIRST, Command::BLOCK, 100);
        assert_eq!(second, Treatment { stall_after: Some(30), rate: Some(9), ..Treatment::default() });
    }

    #[test]
    fn a_block_is_changed_by_all_lies_or_not_sent() {
        let faults = Faults::default();
        faults.inject(Fault::new(FaultKind::Shorten(9)).command(Command::TX));
        faults.inject(Fault::new(FaultKind::Falsify { at: 3, checksum_fits: true }).connection(0).times(1));
        faults.inject(Fault::new(FaultKind::Miscount(-1)));
        let lies = [Lie::Falsify { at: 3, checksum_fits: true }, Lie::Miscount(-1)];
        assert_eq!(faults.deliver(JOINED), Delivery::Send(lies[1..].to_vec()));
        assert_eq!(faults.deliver(FIRST), Delivery::Send(lies.to_vec()));
        faults.inject(Fault::new(FaultKind::TooBusy).times(2));
        assert_eq!([faults.deliver(FIRST), faults.deliver(JOINED)], [Delivery::TooBusy, Delivery::TooBusy]);
        assert_eq!(faults.deliver(FIRST), Delivery::Send(lies[1..].to_vec()));
        assert!(!faults.change_output(FIRST), "these are no faults of bytes that leave");
    }

    #[test]
    fn silence_begins_at_once_and_idleness_with_the_handshake() {
        let faults = Faults::default();
        assert!(faults.establish(FIRST).is_empty());
        faults.inject(Fault::new(FaultKind::Idle).times(1));
        assert!(!faults.silences(FIRST));
        faults.establish(JOINED);
        faults.establish(FIRST);
        assert!(faults.silences(JOINED) && !faults.silences(FIRST), "once only");
        faults.inject(Fault::new(FaultKind::Silence).connection(0));
        assert!(faults.silences(FIRST));
        faults.end(|fault| fault.kind == FaultKind::Idle);
        assert!(!faults.silences(JOINED));
    }
}
