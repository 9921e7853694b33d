//! The address book: where peers may be, who told of it, what became of it, and when each may be dialled again.
//!
//! Layer 4, pure: time and randomness are passed in, and the same calls give the same answers. What may be believed of
//! an address follows section 2.3 of the wire specification (the node's `src/net/net_processing.cpp`, `src/addrman.h`).

mod bans;
mod entry;
pub(crate) mod file;
mod group;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub(crate) use bans::{Ban, BanKey, Bans};
pub(crate) use entry::{HeardAddress, SavedAddress, Source};
pub(crate) use file::Snapshot;
pub(crate) use group::AddressGroup;

use super::back_off::back_off;
use super::{Now, Random};
use crate::message::Services;
use entry::{Class, Entry, Standing, Turn};
use group::Reach;

/// The addresses of a network, at most [`MAX_ADDRESSES`] of them.
///
/// What others tell is hearsay: it is bounded for each source and all together, and what is worth least gives way. An
/// address that worked never gives way to hearsay.
#[derive(Debug)]
pub(crate) struct AddressBook {
    redial_min: Duration,
    redial_max: Duration,
    entries: BTreeMap<SocketAddr, Entry>,
    /// Always one for each entry, the first to be given up in front.
    standings: BTreeSet<Standing>,
    /// Always those of `standings` that never worked, by who told of them; no set is empty.
    shares: BTreeMap<Source, BTreeSet<Standing>>,
    /// Always the entries whose turn is `Waiting`.
    waiting: BTreeSet<(Instant, SocketAddr)>,
    /// Always the entries whose turn is `Due`, those merely heard of and those that worked.
    due: [Vec<SocketAddr>; 2],
    /// When our own network was last seen to work.
    network_worked: Option<Instant>,
    changed: bool,
}

impl AddressBook {
    /// An empty book whose addresses are dialled again after `redial_min`, doubled by each failure up to `redial_max`.
    pub(crate) fn new(redial_min: Duration, redial_max: Duration) -> Self {
        Self {
            redial_min,
            redial_max,
            entries: BTreeMap::new(),
            standings: BTreeSet::new(),
            shares: BTreeMap::new(),
            waiting: BTreeSet::new(),
            due: [Vec::new(), Vec::new()],
            network_worked: None,
            changed: false,
        }
    }

    /// Takes what the peer at `source` told, or a seed if there is none; returns how many addresses were new.
    ///
    /// Only addresses of full nodes count, and only where a peer can be. A peer is believed about addresses that reach
    /// as far as its own or farther, so that nobody on the internet makes us dial this machine or its neighbours; a seed
    /// is resolved by the user's own resolver and believed about all.
    pub(crate) fn hear(&mut self, now: Now, source: Option<IpAddr>, addresses: &[HeardAddress]) -> usize {
        let believed = source.map_or(Reach::Loopback, |ip| Reach::of(ip).unwrap_or(Reach::Global));
        let source = Source::of(source);
        let mut new = 0;
        for heard in addresses {
            let Some(address) = canonical(heard.address) else { continue };
            let is_believed = Reach::of(address.ip()).is_some_and(|reach| reach <= believed);
            if !is_believed || !heard.services.contains(Services::NETWORK) {
                continue;
            }
            let last_seen = plausible_time(now, heard.last_seen);
            if self.entries.contains_key(&address) {
                self.hear_again(address, heard.services, last_seen);
                continue;
            }
            let (services, last_worked, failures) = (heard.services, None, 0);
            let saved = SavedAddress { address, services, last_seen, last_worked, failures, source };
            new += usize::from(self.admit(Entry::new(saved)));
        }
        new
    }

    /// What is known already is only brought up to date.
    fn hear_again(&mut self, address: SocketAddr, services: Services, last_seen: i64) {
        let Some(entry) = self.entries.get(&address) else { return };
        // What a peer itself said of its services in a handshake outweighs what others say.
        let services = match entry.class() {
            Class::Heard => entry.saved.services | services,
            Class::Worked => entry.saved.services,
        };
        if last_seen > entry.saved.last_seen || services != entry.saved.services {
            self.update(address, |entry, until| {
                entry.saved.last_seen = entry.saved.last_seen.max(last_seen);
                entry.saved.services = services;
                until
            });
        }
    }

    /// Chooses an address to dial now: one whose back-off is over and that `may_dial` does not refuse.
    ///
    /// It is of none of `groups` while there is such a choice. Those that worked are preferred four times out of five,
    /// and then those that failed less.
    pub(crate) fn choose(
        &mut self,
        now: Now,
        random: &mut Random,
        groups: &BTreeSet<AddressGroup>,
        may_dial: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        self.wake(now);
        let classes = if random.next().is_multiple_of(HEARSAY_ONE_IN) {
            [Class::Heard, Class::Worked]
        } else {
            [Class::Worked, Class::Heard]
        };
        let is_crowded =
            |address: &SocketAddr| AddressGroup::of(&address.ip()).is_some_and(|group| groups.contains(&group));
        let mut crowded = None;
        for class in classes {
            if let Some(address) = self.sample(class, random, |address| !is_crowded(address) && may_dial(address)) {
                return Some(address);
            }
            // Few of the due addresses will do, so every one of them is looked at, each as likely as the others.
            let [mut free_seen, mut crowded_seen] = [0, 0];
            let [mut free, mut crowded_here] = [None, None];
            for address in self.due[class as usize].iter().filter(|address| may_dial(address)) {
                let (seen, chosen) = if is_crowded(address) {
                    (&mut crowded_seen, &mut crowded_here)
                } else {
                    (&mut free_seen, &mut free)
                };
                *seen += 1;
                if random.next().is_multiple_of(*seen) {
                    *chosen = Some(*address);
                }
            }
            if free.is_some() {
                return free;
            }
            crowded = crowded.or(crowded_here);
        }
        crowded
    }

    /// Draws a few due addresses; each failure halves the chance of an address to be taken when drawn, and whoever told of
    /// many has no better chance for that.
    fn sample(
        &self,
        class: Class,
        random: &mut Random,
        is_good: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let due = &self.due[class as usize];
        if due.is_empty() {
            return None;
        }
        (0..SAMPLES).find_map(|_| {
            let address = due[(random.next() % due.len() as u64) as usize];
            let SavedAddress { failures, source, .. } = self.entries[&address].saved;
            let share = self.shares.get(&source).filter(|_| class == Class::Heard).map_or(0, BTreeSet::len);
            let odds = (share / FAIR_SHARE).max(1) as u64;
            let is_lucky = random.next().is_multiple_of(odds << failures.min(LEAST_CHANCE));
            (is_lucky && is_good(&address)).then_some(address)
        })
    }

    /// Notes that an address was connected to and passed all checks; it is added if it was unknown.
    pub(crate) fn worked(&mut self, now: Now, address: SocketAddr, services: Services) {
        self.network_works(now);
        let Some(address) = canonical(address) else { return };
        let is_known = self.update(address, |entry, _| {
            entry.saved.services = services;
            entry.saved.last_seen = now.unix;
            entry.saved.last_worked = Some(now.unix);
            entry.saved.failures = 0;
            entry.failed_at.clear();
            None
        });
        if !is_known {
            let (last_seen, last_worked, failures) = (now.unix, Some(now.unix), 0);
            let source = Source::Us;
            self.admit(Entry::new(SavedAddress { address, services, last_seen, last_worked, failures, source }));
        }
    }

    /// Notes that a dial, a handshake or a check failed, or that the connection did not last.
    ///
    /// The address waits twice as long as the last time. It is forgotten after [`HOPELESS`] failures in a row if it
    /// never worked, or not for a week, but only once our own network was seen to work after the first of them.
    pub(crate) fn failed(&mut self, now: Now, random: &mut Random, address: SocketAddr) {
        let Some(address) = canonical(address) else { return };
        let network_worked = self.network_worked;
        let (redial_min, redial_max) = (self.redial_min, self.redial_max);
        let mut is_hopeless = false;
        self.update(address, |entry, _| {
            entry.note_failure(now.instant);
            let is_stale = entry.saved.last_worked.is_none_or(|at| at < now.unix.saturating_sub(WEEK));
            let is_its_fault =
                network_worked.is_some_and(|at| entry.failed_at.first().is_some_and(|&first| at >= first));
            is_hopeless = entry.saved.failures >= HOPELESS && is_stale && is_its_fault;
            Some(now.instant + back_off(redial_min, redial_max, entry.doublings, random.jitter()))
        });
        if is_hopeless {
            self.forget(&address);
        }
    }

    /// Notes the end of a connection that had lasted; the address is not dialled at once.
    pub(crate) fn lost(&mut self, now: Now, random: &mut Random, address: SocketAddr) {
        let Some(address) = canonical(address) else { return };
        let (redial_min, redial_max) = (self.redial_min, self.redial_max);
        self.update(address, |entry, _| {
            if entry.saved.last_worked.is_some() {
                entry.saved.last_worked = Some(now.unix);
                entry.saved.last_seen = now.unix;
            }
            entry.doublings = 0;
            Some(now.instant + back_off(redial_min, redial_max, 1, random.jitter()))
        });
    }

    /// Notes that our own network works, as a connected peer that answers shows; a handshake does so by itself.
    pub(crate) fn network_works(&mut self, now: Now) {
        self.network_worked = Some(self.network_worked.map_or(now.instant, |at| at.max(now.instant)));
    }

    /// Takes back the failures counted from `since` on, when our own network was down, and with them their waits.
    pub(crate) fn forgive(&mut self, now: Now, random: &mut Random, since: Instant) {
        let failed: Vec<SocketAddr> = self
            .entries
            .values()
            .filter(|entry| entry.failed_at.last().is_some_and(|&at| at >= since))
            .map(|entry| entry.saved.address)
            .collect();
        let (redial_min, redial_max) = (self.redial_min, self.redial_max);
        for address in failed {
            self.update(address, |entry, until| {
                entry.forgive(since);
                let wait = back_off(redial_min, redial_max, entry.doublings.max(1), random.jitter());
                until.map(|until| until.min(now.instant + wait))
            });
        }
    }

    /// Drops an address, whatever is known of it.
    pub(crate) fn forget(&mut self, address: &SocketAddr) {
        if canonical(*address).and_then(|address| self.take(&address)).is_some() {
            self.changed = true;
        }
    }

    /// When the next address that is not due yet becomes so; `None` if none waits.
    pub(crate) fn next_due(&self, now: Now) -> Option<Instant> {
        let after = now.instant + Duration::from_nanos(1);
        self.waiting.range((after, FIRST_ADDRESS)..).next().map(|&(at, _)| at)
    }

    /// Addresses known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is something to save since it was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Notes that there is something to save.
    pub(crate) fn note_changed(&mut self) {
        self.changed = true;
    }

    /// All that is worth keeping, in the order of addresses.
    pub(crate) fn snapshot(&self) -> Vec<SavedAddress> {
        self.entries.values().map(|entry| entry.saved).collect()
    }

    /// Adds what was saved, within the same bounds as what is heard; everything is due at once.
    pub(crate) fn restore(&mut self, now: Now, saved: impl IntoIterator<Item = SavedAddress>) {
        let was_changed = self.changed;
        for mut saved in saved {
            let Some(address) = canonical(saved.address).filter(|address| !self.entries.contains_key(address))
            else {
                continue;
            };
            saved.address = address;
            saved.last_seen = plausible_time(now, saved.last_seen);
            // Our clock may have been set back since.
            saved.last_worked = saved.last_worked.map(|at| at.min(now.unix));
            self.admit(Entry::new(saved));
        }
        self.changed = was_changed;
    }

    /// Adds an entry that is due, unless it is the least of a full book or a full share of its source.
    fn admit(&mut self, entry: Entry) -> bool {
        let standing = entry.standing();
        let share = self.shares.get(&entry.saved.source).filter(|_| standing.class == Class::Heard);
        let worst = match share.filter(|share| share.len() >= MAX_OF_SOURCE) {
            Some(share) => share.first(),
            None if self.entries.len() >= MAX_ADDRESSES => self.standings.first(),
            None => None,
        };
        if let Some(worst) = worst.copied() {
            if !standing.displaces(&worst) {
                return false;
            }
            self.take(&worst.address);
        }
        self.put(entry, None);
        self.changed = true;
        true
    }

    /// Changes an entry and when it becomes due; says whether there is one.
    fn update(
        &mut self,
        address: SocketAddr,
        change: impl FnOnce(&mut Entry, Option<Instant>) -> Option<Instant>,
    ) -> bool {
        let Some(mut entry) = self.take(&address) else { return false };
        let until = match entry.turn {
            Turn::Waiting(at) => Some(at),
            Turn::Due(_) => None,
        };
        let until = change(&mut entry, until);
        self.put(entry, until);
        self.changed = true;
        true
    }

    /// Makes those due whose back-off is over.
    fn wake(&mut self, now: Now) {
        while let Some(&(at, address)) = self.waiting.first().filter(|(at, _)| *at <= now.instant) {
            self.waiting.remove(&(at, address));
            let Some(entry) = self.entries.get_mut(&address) else { continue };
            let list = &mut self.due[entry.class() as usize];
            entry.turn = Turn::Due(list.len());
            list.push(address);
        }
    }

    fn put(&mut self, mut entry: Entry, until: Option<Instant>) {
        let (address, class, standing) = (entry.saved.address, entry.class(), entry.standing());
        self.standings.insert(standing);
        if class == Class::Heard {
            self.shares.entry(entry.saved.source).or_default().insert(standing);
        }
        entry.turn = match until {
            Some(at) => {
                self.waiting.insert((at, address));
                Turn::Waiting(at)
            }
            None => {
                self.due[class as usize].push(address);
                Turn::Due(self.due[class as usize].len() - 1)
            }
        };
        self.entries.insert(address, entry);
    }

    /// Removes an entry from every index; its turn is where it was.
    fn take(&mut self, address: &SocketAddr) -> Option<Entry> {
        let entry = self.entries.remove(address)?;
        let standing = entry.standing();
        self.standings.remove(&standing);
        if let Some(share) = self.shares.get_mut(&entry.saved.source) {
            share.remove(&standing);
            if share.is_empty() {
                self.shares.remove(&entry.saved.source);
            }
        }
        match entry.turn {
            Turn::Waiting(at) => {
                self.waiting.remove(&(at, *address));
            }
            Turn::Due(place) => {
                let list = &mut self.due[entry.class() as usize];
                list.swap_remove(place);
                // The last one took its place.
                if let Some(moved) = list.get(place).and_then(|moved| self.entries.get_mut(moved)) {
                    moved.turn = Turn::Due(place);
                }
            }
        }
        Some(entry)
    }
}

/// The one form of an address, mapped ones as IPv4; `None` if no peer can be there.
fn canonical(address: SocketAddr) -> Option<SocketAddr> {
    let ip = address.ip().to_canonical();
    (address.port() != 0 && Reach::of(ip).is_some()).then(|| SocketAddr::new(ip, address.port()))
}

/// What is made of the time that somebody claims to have seen an address: missing or ahead of our clock it counts as
/// five days ago, as nodes do it, and nothing counts as older than a month.
fn plausible_time(now: Now, claimed: i64) -> i64 {
    if claimed <= NO_TIME || claimed > now.unix.saturating_add(CLOCK_TOLERANCE) {
        return now.unix.saturating_sub(UNKNOWN_AGE);
    }
    claimed.clamp(now.unix.saturating_sub(OLDEST), now.unix)
}

/// Addresses in the book.
const MAX_ADDRESSES: usize = 10_000;
/// Addresses that never worked, told by one source: a /16 of IPv4, a /32 of IPv6, a loopback address, or all seeds.
const MAX_OF_SOURCE: usize = 1_000;
/// Failures in a row after which an address may be forgotten.
const HOPELESS: u32 = 10;
/// An address that worked within so many seconds is not forgotten for its failures.
const WEEK: i64 = 7 * DAY;
/// Seconds after which it makes no difference how old news is.
const OLDEST: i64 = 30 * DAY;
/// Seconds that news without a credible time count as old.
const UNKNOWN_AGE: i64 = 5 * DAY;
/// Seconds that a claimed time may be ahead of our clock.
const CLOCK_TOLERANCE: i64 = 600;
/// Claimed times up to this mean nothing.
const NO_TIME: i64 = 100_000_000;
const DAY: i64 = 24 * 3_600;
/// One choice in so many is made among those merely heard of first, so that new peers are found.
const HEARSAY_ONE_IN: u64 = 5;
/// Draws before all that are due are looked at.
const SAMPLES: usize = 32;
/// So many addresses of one source do not lower each other's chances.
const FAIR_SHARE: usize = 32;
/// The failures beyond which the chance to be taken sinks no further.
const LEAST_CHANCE: u32 = 5;
const FIRST_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
