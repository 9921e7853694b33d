//! Announced transactions: each is asked of one announcer at a time until one gives it.
//!
//! Layer 4. Sections 2.4, 2.5 and 4.1 of the wire specification: a node answers `getdata` in order, with `tx` or `notfound`.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::seen::Seen;
use crate::message::Inventory;
use crate::peer::{ConnectionId, IdMap, PeerId};
use crate::wire::Txid;

/// The announced transactions that were not delivered, and the memory of those that were.
#[derive(Debug)]
pub(super) struct Transactions {
    /// How long a peer may be silent.
    patience: Duration,
    /// The most of `wanted`.
    limit: usize,
    wanted: HashMap<Txid, Wanted>,
    seen: Seen,
    /// What was asked of a connection and is not waited for; its late answer is ours all the same.
    given_up: Seen,
    /// By number: the connections that take part, at most as many as an [`Announcers`] has bits.
    slots: Vec<Option<Slot>>,
    numbers: IdMap<ConnectionId, u8>,
    /// Always the summed `outstanding` of the slots.
    outstanding: usize,
    /// Always the summed `waiting` of the slots.
    waiting: usize,
    /// The size of large transactions of late: jumps up, and sinks by a 64th with each smaller one.
    large: usize,
    /// Where the next distribution of room begins.
    turn: usize,
}

/// A set of slots.
type Announcers = u128;

/// A transaction that was announced and not delivered.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    announced: Announcers,
    /// Those that were asked, a subset of `announced`.
    tried: Announcers,
    /// The slot that is asked, or in whose line it waits; one of `announced`.
    at: u8,
    asked: bool,
}

/// A connection, what it is asked and what waits to be asked of it.
#[derive(Debug)]
struct Slot {
    peer: PeerId,
    connection: ConnectionId,
    /// We do not read it, so it is asked nothing.
    paused: bool,
    /// It was silent for too long, and has not answered since.
    late: bool,
    /// What waits, oldest first, among what does not any more.
    line: VecDeque<Txid>,
    waiting: usize,
    /// What was asked and when, in that order, among what is answered.
    asked: VecDeque<(Txid, Instant)>,
    outstanding: usize,
    /// When it last answered, or was asked while nothing was outstanding.
    since: Instant,
    timer: Option<Instant>,
}

/// What a transaction that arrived is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// It is to be delivered.
    pub(super) is_new: bool,
    /// It answers what we asked.
    pub(super) is_ours: bool,
}

impl Transactions {
    pub(super) fn new(patience: Duration, limit: usize, memory: usize) -> Self {
        Self {
            patience,
            limit,
            wanted: HashMap::new(),
            seen: Seen::new(memory),
            given_up: Seen::new(memory),
            slots: Vec::new(),
            numbers: IdMap::default(),
            outstanding: 0,
            waiting: 0,
            large: 0,
            turn: 0,
        }
    }

    /// Begins with an empty memory.
    pub(super) fn start(&mut self, secret: [u64; 2]) {
        self.seen.reset(secret);
        if self.given_up.is_empty() {
            self.given_up.reset(secret);
        }
    }

    /// Forgets everything but what late answers are told by.
    pub(super) fn end(&mut self) {
        for (txid, wanted) in std::mem::take(&mut self.wanted) {
            self.give_up(&txid, wanted.tried);
        }
        for slot in self.slots.iter_mut().flatten() {
            (slot.line, slot.waiting) = (VecDeque::new(), 0);
            (slot.asked, slot.outstanding) = (VecDeque::new(), 0);
        }
        (self.outstanding, self.waiting) = (0, 0);
        self.seen.reset([0; 2]);
    }

    /// Whether no answer can be ours.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.given_up.is_empty()
    }

    /// What was asked and not answered.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// What waits to be asked.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// What the room for one transaction is reckoned with before its size is known.
    pub(super) fn expected_len(&self) -> usize {
        self.large.max(LEAST_EXPECTED)
    }

    // Connections.

    /// A connection takes part, if a slot is free.
    pub(super) fn add(&mut self, now: Instant, peer: PeerId, connection: ConnectionId) {
        let slot = Slot {
            peer,
            connection,
            paused: false,
            late: false,
            line: VecDeque::new(),
            waiting: 0,
            asked: VecDeque::new(),
            outstanding: 0,
            since: now,
            timer: None,
        };
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        match self.slots.get_mut(free) {
            Some(place) => *place = Some(slot),
            None if free < Announcers::BITS as usize => self.slots.push(Some(slot)),
            None => return,
        }
        self.numbers.insert(connection, free as u8);
    }

    /// A connection is lost: what it was asked, and what waited for it, goes to other announcers.
    ///
    /// Gives the instant its timer was set to.
    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Instant> {
        let number = self.numbers.remove(&connection)?;
        let slot = self.slots[usize::from(number)].take()?;
        self.outstanding -= slot.outstanding;
        self.waiting -= slot.waiting;
        let bit = 1 << number;
        // In their order: what was asked before what waits.
        for txid in slot.asked.iter().map(|(txid, _)| txid).chain(&slot.line) {
            if let Some(wanted) = self.wanted.get_mut(txid)
                && wanted.at == number
                && wanted.announced & bit != 0
            {
                wanted.announced &= !bit;
                wanted.tried &= !bit;
                self.move_on(txid);
            }
        }
        for wanted in self.wanted.values_mut() {
            wanted.announced &= !bit;
            wanted.tried &= !bit;
        }
        slot.timer
    }

    /// A connection is not read any more, or is again.
    pub(super) fn set_paused(&mut self, connection: ConnectionId, paused: bool) {
        let Some(number) = self.number_of(connection) else { return };
        let Some(slot) = self.slot(number) else { return };
        slot.paused = paused;
        if paused {
            for txid in std::mem::take(&mut slot.line) {
                if self.wanted.get(&txid).is_some_and(|wanted| wanted.at == number && !wanted.asked) {
                    self.leave_line(number);
                    self.move_on(&txid);
                }
            }
        }
    }

    fn number_of(&self, connection: ConnectionId) -> Option<u8> {
        self.numbers.get(&connection).copied()
    }

    fn slot_of(&mut self, connection: ConnectionId) -> Option<&mut Slot> {
        let number = self.number_of(connection)?;
        self.slot(number)
    }

    fn slot(&mut self, number: u8) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(number))?.as_mut()
    }

    // Announcements.

    /// Takes an `inv`. `is_asked` tells what a request has asked of this connection, whose answer serves us, too; `room`
    /// is how many may be asked, with those that are. Gives how many announcements were dropped for want of room.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        items: &[Inventory],
        is_asked: impl Fn(&Txid) -> bool,
        room: usize,
    ) -> usize {
        let mut dropped = 0;
        let Some(number) = self.number_of(connection) else { return dropped };
        let bit: Announcers = 1 << number;
        for txid in items.iter().filter_map(super::announced_transaction) {
            if let Some(&wanted) = self.wanted.get(&txid) {
                if wanted.announced & bit == 0 && !self.was_given_up(&txid, connection) {
                    self.note_announced(&txid, number);
                    if !wanted.asked && room > self.outstanding {
                        self.take_over(&txid, number);
                    }
                }
                continue;
            }
            if self.seen.contains(self.seen.transaction(&txid)) || self.was_given_up(&txid, connection) {
                continue;
            }
            if self.wanted.len() >= self.limit {
                dropped += 1;
                if !self.drop_oldest() {
                    continue;
                }
            }
            let asked = room > self.outstanding && is_asked(&txid);
            let tried = if asked { bit } else { 0 };
            self.wanted.insert(txid, Wanted { announced: bit, tried, at: number, asked });
            if asked {
                self.note_asked(now, number, txid);
            } else {
                self.line_up(&txid, number);
            }
        }
        dropped
    }

    fn note_announced(&mut self, txid: &Txid, number: u8) {
        if let Some(wanted) = self.wanted.get_mut(txid) {
            wanted.announced |= 1 << number;
        }
    }

    /// Lets a transaction that waits for another peer wait for this one, if it has room.
    fn take_over(&mut self, txid: &Txid, number: u8) {
        let Some(slot) = self.slot(number) else { return };
        if slot.paused || slot.outstanding + slot.waiting >= MOST_OUTSTANDING {
            return;
        }
        if let Some(wanted) = self.wanted.get(txid) {
            self.leave_line(wanted.at);
            self.line_up(txid, number);
        }
    }

    /// Drops the oldest announcement that waits for the peer for which most wait; false if none waits.
    fn drop_oldest(&mut self) -> bool {
        let most =
            self.slots.iter().enumerate().max_by_key(|(_, slot)| slot.as_ref().map_or(0, |slot| slot.waiting));
        let Some(number) = most.map(|(number, _)| number as u8) else { return false };
        match self.pop_waiting(number) {
            Some(txid) => {
                if let Some(wanted) = self.wanted.remove(&txid) {
                    self.give_up(&txid, wanted.tried);
                }
                true
            }
            None => false,
        }
    }

    // Lines.

    fn line_up(&mut self, txid: &Txid, number: u8) {
        let Some(wanted) = self.wanted.get_mut(txid) else { return };
        (wanted.at, wanted.asked) = (number, false);
        let Some(slot) = self.slots.get_mut(usize::from(number)).and_then(Option::as_mut) else { return };
        slot.line.push_back(*txid);
        slot.waiting += 1;
        self.waiting += 1;
        if slot.line.len() > 2 * slot.waiting + SLACK {
            let wanted = &self.wanted;
            let waits = |txid: &Txid| wanted.get(txid).is_some_and(|wanted| wanted.at == number && !wanted.asked);
            // One that left and came back stands in the line twice, and then its first place counts.
            let mut once = std::collections::HashSet::new();
            slot.line.retain(|txid| waits(txid) && once.insert(*txid));
        }
    }

    /// Notes that something waits there no more; its place in the line is passed over later.
    fn leave_line(&mut self, number: u8) {
        if let Some(slot) = self.slot(number) {
            slot.waiting -= 1;
            self.waiting -= 1;
        }
    }

    /// Takes the first that waits for this peer.
    fn pop_waiting(&mut self, number: u8) -> Option<Txid> {
        let slot = self.slots.get_mut(usize::from(number))?.as_mut()?;
        while let Some(txid) = slot.line.pop_front() {
            if self.wanted.get(&txid).is_some_and(|wanted| wanted.at == number && !wanted.asked) {
                slot.waiting -= 1;
                self.waiting -= 1;
                return Some(txid);
            }
        }
        None
    }

    // Asking.

    /// Chooses what to ask of each peer now, `room` in all with what is outstanding; tells `send` of it.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        room: usize,
        mut send: impl FnMut(PeerId, ConnectionId, Vec<Inventory>),
    ) {
        let mut room = room.saturating_sub(self.outstanding);
        let count = self.slots.len();
        let begin = self.turn;
        for offset in 0..count {
            let number = (begin + offset) % count;
            if room == 0 {
                // Whoever had nothing this time begins the next time.
                self.turn = number;
                return;
            }
            let items = self.ask_slot(now, number as u8, room);
            room -= items.len();
            if let Some(slot) = self.slots[number].as_ref()
                && !items.is_empty()
            {
                send(slot.peer, slot.connection, items);
            }
        }
    }

    fn ask_slot(&mut self, now: Instant, number: u8, room: usize) -> Vec<Inventory> {
        let mut items = Vec::new();
        let Some(slot) = self.slots.get(usize::from(number)).and_then(Option::as_ref) else { return items };
        // Asked for many together, not one by one as the answers come.
        let is_low = slot.outstanding <= MOST_OUTSTANDING / 2;
        if slot.paused || slot.waiting == 0 || !is_low {
            return items;
        }
        let most = room.min(MOST_OUTSTANDING - slot.outstanding);
        items.reserve(most.min(slot.waiting));
        while items.len() < most
            && let Some(txid) = self.pop_waiting(number)
        {
            if let Some(wanted) = self.wanted.get_mut(&txid) {
                wanted.tried |= 1 << number;
                wanted.asked = true;
            }
            self.note_asked(now, number, txid);
            items.push(Inventory::transaction(txid));
        }
        items
    }

    fn note_asked(&mut self, now: Instant, number: u8, txid: Txid) {
        let Some(slot) = self.slots.get_mut(usize::from(number)).and_then(Option::as_mut) else { return };
        if slot.outstanding == 0 {
            slot.since = now;
        }
        slot.outstanding += 1;
        self.outstanding += 1;
        slot.asked.push_back((txid, now));
        if slot.asked.len() > 2 * slot.outstanding + SLACK {
            let wanted = &self.wanted;
            let is_out = |txid: &Txid| wanted.get(txid).is_some_and(|wanted| wanted.at == number && wanted.asked);
            slot.asked.retain(|(txid, _)| is_out(txid));
        }
    }

    /// Notes that the slot's answer is not waited for any more.
    fn note_done(&mut self, number: u8) {
        if let Some(slot) = self.slot(number) {
            slot.outstanding -= 1;
            self.outstanding -= 1;
        }
        let Some(slot) = self.slots.get_mut(usize::from(number)).and_then(Option::as_mut) else { return };
        while let Some((txid, _)) = slot.asked.front()
            && !self.wanted.get(txid).is_some_and(|wanted| wanted.at == number && wanted.asked)
        {
            slot.asked.pop_front();
        }
    }

    /// The peer it was asked of has not given it: it is another announcer's turn, or it is forgotten.
    fn move_on(&mut self, txid: &Txid) {
        let Some(&wanted) = self.wanted.get(txid) else { return };
        let left = wanted.announced & !wanted.tried;
        let burden = |number: &u8| {
            let slot = self.slots[usize::from(*number)].as_ref()?;
            Some((slot.paused, slot.late, slot.outstanding + slot.waiting))
        };
        let next = (0..self.slots.len() as u8)
            .filter(|number| left & (1 << number) != 0)
            .filter_map(|number| Some((burden(&number)?, number)))
            .min();
        match next {
            Some((_, number)) => self.line_up(txid, number),
            None => {
                self.wanted.remove(txid);
                self.give_up(txid, wanted.tried);
            }
        }
    }

    /// Remembers whom we asked, for late answers and so as not to ask again.
    fn give_up(&mut self, txid: &Txid, tried: Announcers) {
        let numbers = (0..self.slots.len()).filter(|number| tried & (1 << number) != 0);
        for slot in numbers.filter_map(|number| self.slots[number].as_ref()) {
            self.given_up.insert(self.given_up.transaction_of(txid, slot.connection));
        }
    }

    fn was_given_up(&self, txid: &Txid, connection: ConnectionId) -> bool {
        !self.given_up.is_empty() && self.given_up.contains(self.given_up.transaction_of(txid, connection))
    }

    // Answers.

    /// A transaction came; `is_claimed` says that a request had asked for it, `has_room` that room is left beside what
    /// is outstanding.
    pub(super) fn arrive(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        txid: &Txid,
        len: usize,
        is_claimed: bool,
        has_room: bool,
    ) -> Arrival {
        let number = self.number_of(connection);
        let bit: Announcers = number.map_or(0, |number| 1 << number);
        let was_given_up = self.was_given_up(txid, connection);
        if let Some(wanted) = self.wanted.get(txid)
            && !wanted.asked
            && wanted.tried & bit == 0
            && !was_given_up
            && !has_room
        {
            // No room is kept for what was not asked, and it will be.
            return Arrival { is_new: false, is_ours: false };
        }
        let Some(wanted) = self.wanted.remove(txid) else {
            let is_ours = was_given_up;
            let seen = self.seen.transaction(txid);
            // What only a request asked for is no news.
            let is_new = (is_ours || !is_claimed) && !self.seen.contains(seen);
            if is_new {
                self.seen.insert(seen);
            }
            return Arrival { is_new, is_ours };
        };
        let was_asked = wanted.tried & bit != 0;
        if was_asked && let Some(number) = number {
            self.note_progress(now, number);
        }
        if wanted.asked {
            self.note_done(wanted.at);
        } else {
            self.leave_line(wanted.at);
        }
        let mut late = wanted.tried;
        if was_asked && !is_claimed {
            late &= !bit;
        }
        self.give_up(txid, late);
        self.seen.insert(self.seen.transaction(txid));
        self.large = len.max(self.large - self.large / 64);
        Arrival { is_new: true, is_ours: was_asked || was_given_up }
    }

    /// A peer does not have a transaction; true if we had asked it.
    pub(super) fn lacks(&mut self, now: Instant, connection: ConnectionId, txid: &Txid) -> bool {
        let Some(number) = self.number_of(connection) else { return false };
        let Some(&wanted) = self.wanted.get(txid) else { return self.was_given_up(txid, connection) };
        if wanted.tried & (1 << number) == 0 {
            return self.was_given_up(txid, connection);
        }
        self.note_progress(now, number);
        if wanted.asked && wanted.at == number {
            self.drop_ask(txid);
            self.note_done(number);
            self.move_on(txid);
        }
        true
    }

    /// A transaction is too large to be held; true if we had asked this connection for one.
    ///
    /// Nodes answer in the order asked, so it is taken for the first.
    pub(super) fn is_too_large(&mut self, now: Instant, connection: ConnectionId) -> bool {
        let Some(number) = self.number_of(connection) else { return false };
        self.note_progress(now, number);
        let Some(slot) = self.slots[usize::from(number)].as_mut() else { return false };
        let wanted = &self.wanted;
        let is_out = |txid: &Txid| wanted.get(txid).is_some_and(|wanted| wanted.at == number && wanted.asked);
        let Some(txid) = slot.asked.iter().map(|&(txid, _)| txid).find(is_out) else { return false };
        if let Some(wanted) = self.wanted.remove(&txid) {
            self.note_done(number);
            self.give_up(&txid, wanted.tried);
            self.seen.insert(self.seen.transaction(&txid));
        }
        true
    }

    /// Marks a transaction as asked of nobody, before it moves on.
    fn drop_ask(&mut self, txid: &Txid) {
        if let Some(wanted) = self.wanted.get_mut(txid) {
            wanted.asked = false;
        }
    }

    fn note_progress(&mut self, now: Instant, number: u8) {
        if let Some(slot) = self.slot(number) {
            slot.since = now;
            slot.late = false;
        }
    }

    // Time.

    /// A peer sends something large, behind which its answers wait.
    pub(super) fn note_busy(&mut self, now: Instant, connection: ConnectionId) {
        if let Some(slot) = self.slot_of(connection) {
            slot.since = now;
        }
    }

    /// The connections whose timers are to be set: none is set and something is outstanding.
    pub(super) fn timers(&mut self, mut set: impl FnMut(ConnectionId, &mut Option<Instant>, Instant)) {
        for slot in self.slots.iter_mut().flatten() {
            if slot.timer.is_none() && slot.outstanding > 0 {
                let due = slot.due(self.patience);
                set(slot.connection, &mut slot.timer, due);
            }
        }
    }

    /// A timer fired: a peer that was silent for too long is not waited for.
    pub(super) fn due(&mut self, now: Instant, connection: ConnectionId) {
        let patience = self.patience;
        let Some(number) = self.number_of(connection) else { return };
        let Some(slot) = self.slot(number) else { return };
        slot.timer = None;
        if slot.outstanding == 0 || now < slot.due(patience) {
            return;
        }
        slot.late = true;
        for (txid, _) in std::mem::take(&mut slot.asked) {
            if self.wanted.get(&txid).is_some_and(|wanted| wanted.at == number && wanted.asked) {
                self.drop_ask(&txid);
                self.note_done(number);
                self.move_on(&txid);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) -> Vec<(ConnectionId, Instant)> {
        assert!(self.wanted.len() <= self.limit);
        let all =
            || self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number as u8, slot.as_ref()?)));
        assert_eq!(self.numbers.len(), all().count());
        let living = all().fold(0, |living: Announcers, (number, _)| living | 1 << number);
        for (txid, wanted) in &self.wanted {
            assert_eq!(wanted.announced & !living, 0, "{txid}: announced by who is gone");
            assert_eq!(wanted.tried & !wanted.announced, 0, "{txid}: asked of who did not announce it");
            assert_ne!(wanted.announced & (1 << wanted.at), 0, "{txid} is asked of an announcer");
            assert_eq!(wanted.asked, wanted.tried & (1 << wanted.at) != 0, "{txid} waits for who was not asked");
            assert!(!self.seen.contains(self.seen.transaction(txid)), "{txid} was delivered");
        }
        let mut timers = Vec::new();
        for (number, slot) in all() {
            assert_eq!(self.numbers.get(&slot.connection), Some(&number));
            let count = |asked| self.wanted.values().filter(|w| w.at == number && w.asked == asked).count();
            assert_eq!(slot.outstanding, count(true));
            assert_eq!(slot.waiting, count(false));
            assert!(slot.outstanding <= MOST_OUTSTANDING.max(slot.asked.len()));
            assert!(slot.line.len() <= 2 * slot.waiting + SLACK + self.limit);
            let is_out =
                |(txid, _): &&(Txid, Instant)| self.wanted.get(txid).is_some_and(|w| w.at == number && w.asked);
            assert_eq!(slot.asked.iter().filter(is_out).count(), slot.outstanding);
            assert!(slot.outstanding == 0 || slot.timer.is_some(), "{:?} is not waited for endlessly", slot.peer);
            timers.extend(slot.timer.map(|at| (slot.connection, at)));
        }
        assert_eq!(self.outstanding, all().map(|(_, slot)| slot.outstanding).sum::<usize>());
        assert_eq!(self.waiting, all().map(|(_, slot)| slot.waiting).sum::<usize>());
        timers
    }

    /// Whether something waits for a peer that could be asked.
    #[cfg(test)]
    pub(super) fn could_ask(&self) -> bool {
        self.slots.iter().flatten().any(|s| !s.paused && s.waiting > 0 && s.outstanding <= MOST_OUTSTANDING / 2)
    }
}

impl Slot {
    /// When it has been silent for too long, or the oldest ask is too old however much else it answers.
    fn due(&self, patience: Duration) -> Instant {
        let silent = self.since + patience;
        self.asked.front().map_or(silent, |&(_, asked_at)| silent.min(asked_at + LONGEST_WAIT * patience))
    }
}

/// What may be outstanding at one peer: its `getdata` are far below every peer's limit.
const MOST_OUTSTANDING: usize = 4_096;
/// Stale entries a list may have beside the others.
const SLACK: usize = 64;
/// How often the patience an ask may take, while the peer answers others.
const LONGEST_WAIT: u32 = 6;
/// What a transaction is expected to need at least, in bytes.
const LEAST_EXPECTED: usize = 1_024;
