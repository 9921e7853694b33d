//! Where peers are found, and how many are held.
//!
//! Layer 4. Only if no peer was named, or the caller wants it so: then seeds are asked, and peers tell of others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Engine, Peer, Standing, State};
use crate::config::Config;
use crate::engine::back_off::back_off;
use crate::engine::book::{AddressBook, AddressGroup, HeardAddress};
use crate::engine::{Action, Now, Timer};
use crate::error::DisconnectReason;
use crate::message::{Message, TimestampedAddress};
use crate::peer::{Host, PeerAddress, PeerId};
use crate::queue::events::Event;

/// What is known of addresses to be dialled, and of our own network.
#[derive(Debug)]
pub(in crate::engine) struct Finding {
    pub(super) book: AddressBook,
    /// When to look again for peers.
    pub(in crate::engine) timer: Option<Instant>,
    /// When seeds may be asked again, and how often they were without avail.
    seeds_at: Option<Instant>,
    seeds_asked: u32,
    /// No address of the book is dialled before this.
    dial_at: Option<Instant>,
    /// Dials that failed in a row, whoever was dialled.
    failed_in_a_row: u32,
    /// When we last heard from anybody.
    heard_at: Option<Instant>,
    trouble: Trouble,
    /// That there are no peers was told, and not taken back.
    told_no_peers: bool,
}

/// Dials that failed in a row, whoever was dialled: if nobody can be reached, the fault is ours.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    dials: u32,
    /// Some of the addresses that failed.
    addresses: BTreeSet<PeerAddress>,
}

impl Trouble {
    /// Whether so many dials to different peers failed, and no other succeeded, that our own network must be down.
    fn is_outage(&self, config: &Config) -> bool {
        self.addresses.len() >= MANY_ADDRESSES && self.dials as usize >= 2 * config.target_peers
    }
}

impl Finding {
    pub(in crate::engine) fn new(book: AddressBook) -> Self {
        Self {
            book,
            timer: None,
            seeds_at: None,
            seeds_asked: 0,
            dial_at: None,
            failed_in_a_row: 0,
            heard_at: None,
            trouble: Trouble::default(),
            told_no_peers: false,
        }
    }
}

impl Engine {
    pub(in crate::engine) fn start_peers(&mut self, now: Now) {
        for (&id, peer) in &mut self.peers {
            Self::set_timer(&mut self.timers, &mut peer.timer, Timer::Peer(id), Some(now.instant));
        }
        self.hold(now);
    }

    /// Whether others than named peers may be dialled.
    fn may_find(&self) -> bool {
        let is_wanted = self.config.discover || !self.peers.values().any(|peer| peer.named);
        self.started && !self.over && is_wanted && !self.config.only_named_peers
    }

    /// Found peers that are wanted besides those there are.
    fn missing(&self) -> usize {
        let counts = |peer: &&Peer| match (&peer.state, peer.session()) {
            (_, Some(session)) => session.standing != Standing::Unverified,
            (State::Connecting { .. }, None) => true,
            // A named one may wait for long; a found one is about to be dialled.
            _ => !peer.named,
        };
        let held = self.peers.values().filter(counts).count();
        let found = self.peers.values().filter(|peer| !peer.named).count();
        // However many turn out to be unverified, there is an end to it.
        let most = (self.config.target_peers * 2).saturating_sub(found);
        let room = self.config.max_peers.saturating_sub(self.peers.len());
        self.config.target_peers.saturating_sub(held).min(most).min(room)
    }

    /// Whether a peer that cannot be verified holds the place of one that perhaps could be.
    pub(super) fn is_in_the_way(&self, id: PeerId) -> bool {
        let is_found = self.peers.get(&id).is_some_and(|peer| !peer.named);
        let found = self.peers.values().filter(|peer| !peer.named).count();
        let are_too_few = self.ready < self.config.target_peers && found >= self.config.target_peers * 2;
        is_found && are_too_few && self.finding.book.len() > self.peers.len()
    }

    /// Dials until `target_peers` are held, or looks for more to dial.
    pub(in crate::engine) fn hold(&mut self, now: Now) {
        if !self.may_find() {
            self.set_finding_timer(None);
            return;
        }
        let mut missing = self.missing();
        let mut next = None;
        if self.finding.dial_at.is_none_or(|at| at <= now.instant) {
            while missing > 0 && self.dial_found(now) {
                missing -= 1;
            }
        } else {
            next = self.finding.dial_at;
        }
        // With an old book there may be nobody left where it says.
        if missing > 0 || (self.ready == 0 && self.config.target_peers > 0) {
            if self.finding.seeds_at.is_none_or(|at| at <= now.instant) {
                self.ask_seeds(now);
            }
            next = [next, self.finding.seeds_at].into_iter().flatten().min();
        }
        if missing > 0 {
            let due = self.finding.book.next_due(now);
            let due = due.map(|due| self.finding.dial_at.map_or(due, |at| at.max(due)));
            next = [next, due].into_iter().flatten().min();
        }
        self.set_finding_timer(next);
    }

    fn set_finding_timer(&mut self, at: Option<Instant>) {
        Self::set_timer(&mut self.timers, &mut self.finding.timer, Timer::Finding, at);
    }

    /// Dials an address of the book; false if there is none.
    fn dial_found(&mut self, now: Now) -> bool {
        let found = self.peers.values().filter(|peer| !peer.named).filter_map(|peer| match peer.address.host {
            Host::Ip(ip) => AddressGroup::of(&ip),
            Host::Name(_) => None,
        });
        let groups = found.collect();
        let (dialling, bans) = (&self.dialling, &self.bans);
        let may_dial = |address: &SocketAddr| {
            let address = PeerAddress::from(*address);
            !dialling.knows(&address) && bans.is_banned(now, &address, false).is_none()
        };
        let Some(address) = self.finding.book.choose(now, &mut self.random, &groups, may_dial) else {
            return false;
        };
        self.add_peer(now, address.into(), false);
        true
    }

    fn ask_seeds(&mut self, now: Now) {
        let port = self.config.network.port();
        let seeds: Vec<String> = self.config.network.seeds().into_iter().map(str::to_owned).collect();
        let is_first = self.finding.seeds_asked == 0;
        self.finding.seeds_asked += 1;
        let wait = back_off(SEED_INTERVAL, LONGEST_SEED_INTERVAL, self.finding.seeds_asked, 1.0);
        // A book that is not empty has its chance first.
        let is_early = is_first && !self.finding.book.is_empty();
        self.finding.seeds_at = (!seeds.is_empty()).then(|| now.instant + if is_early { BOOK_TIME } else { wait });
        if is_early {
            return;
        }
        for host in seeds {
            if self.dials_names {
                // Behind a proxy a seed is a peer like any other, at an address that only the proxy learns.
                let address = PeerAddress { host: Host::Name(host), port: Some(port) };
                if !self.dialling.knows(&address) && self.peers.len() < self.config.max_peers {
                    self.add_peer(now, address, false);
                }
            } else {
                self.actions.push_back(Action::ResolveSeed { host, port });
            }
        }
    }

    /// Takes what a seed gave.
    pub(crate) fn handle_seeds(&mut self, now: Now, addresses: &[SocketAddr]) {
        // Whoever named a peer meanwhile wants no others.
        if !self.may_find() {
            return;
        }
        let heard: Vec<_> = addresses.iter().copied().map(HeardAddress::of_seed).collect();
        self.finding.book.hear(now, None, &heard);
        self.hold(now);
        self.save_later(now);
    }

    /// Takes what a peer tells of others.
    pub(in crate::engine) fn hear_addresses(&mut self, now: Now, id: PeerId, addresses: &[TimestampedAddress]) {
        if !self.may_find() {
            return;
        }
        let Some(peer) = self.peers.get(&id) else { return };
        let Host::Ip(source) = peer.address.host else { return };
        let heard: Vec<_> = addresses.iter().map(HeardAddress::from).collect();
        if self.finding.book.hear(now, Some(source), &heard) > 0 {
            self.hold(now);
            self.save_later(now);
        }
    }

    /// Asks a peer that has just been verified for addresses, while few are known.
    pub(super) fn discover_from(&mut self, id: PeerId) {
        if !self.may_find() || self.finding.book.len() >= ENOUGH_ADDRESSES {
            return;
        }
        let Some(session) = self.peers.get_mut(&id).and_then(Peer::session_mut) else { return };
        // A node answers the first `getaddr` only (trap of section 2.14).
        if !std::mem::replace(&mut session.asked_addresses, true) {
            session.discovers = true;
            let action = Action::Send { connection: session.connection, message: Message::GetAddr };
            self.actions.push_back(action);
        }
    }

    /// A found peer has passed all checks.
    pub(super) fn note_found_worked(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get(&id).filter(|peer| !peer.named) else { return };
        if let (Some(address), Some(session)) = (peer.address.socket_addr(), peer.session()) {
            self.finding.book.worked(now, address, session.version.services);
            self.save_later(now);
        }
        self.finding.seeds_asked = 1;
    }

    /// A found peer is lost, or could not be connected.
    pub(super) fn note_found_lost(
        &mut self,
        now: Now,
        address: &PeerAddress,
        lasted: bool,
        reason: &DisconnectReason,
    ) {
        let Some(address) = address.socket_addr() else { return };
        let book = &mut self.finding.book;
        if let Some(instant) = self.finding.heard_at {
            book.network_works(Now { instant, ..now });
        }
        if matches!(reason, DisconnectReason::WrongChain | DisconnectReason::OtherChain { .. }) {
            book.forget(&address);
        } else if lasted {
            book.lost(now, &mut self.random, address);
        } else if !reason.is_ours() {
            book.failed(now, &mut self.random, address);
        }
        self.save_later(now);
    }

    /// A dial failed: if all do, it is our own network.
    pub(super) fn note_dial_failed(&mut self, now: Now, address: &PeerAddress) {
        let is_alone = self.peers.values().all(|peer| peer.session().is_none());
        let finding = &mut self.finding;
        finding.failed_in_a_row = finding.failed_in_a_row.saturating_add(1);
        let trouble = &mut finding.trouble;
        if is_alone {
            // Those connections that were lost in silence took a while to be given up.
            trouble.since.get_or_insert(finding.heard_at.unwrap_or(now.instant));
            trouble.dials = trouble.dials.saturating_add(1);
            if trouble.addresses.len() < MANY_ADDRESSES {
                trouble.addresses.insert(address.clone());
            }
        } else {
            // Others can be reached, so the fault is that peer's.
            *trouble = Trouble::default();
        }
        // Not to go through the whole book while nobody can be reached, or nobody of whom somebody told.
        let rounds = finding.failed_in_a_row / self.config.target_peers.max(1) as u32;
        if rounds >= 2 {
            let longest = if is_alone { LONGEST_OUTAGE_WAIT } else { LONGEST_DIAL_WAIT };
            let wait = back_off(self.config.redial_min, longest, rounds - 1, self.random.jitter());
            finding.dial_at = Some(now.instant + wait);
        }
    }

    /// The longest wait before a peer is dialled again; while nobody can be reached, we look more often.
    pub(super) fn longest_back_off(&self) -> Duration {
        let is_outage = self.finding.trouble.is_outage(&self.config);
        if is_outage { LONGEST_OUTAGE_WAIT.min(self.config.redial_max) } else { self.config.redial_max }
    }

    /// A peer has said something, so our own network works at this moment.
    pub(in crate::engine) fn note_heard(&mut self, now: Now) {
        self.finding.heard_at = Some(now.instant);
    }

    /// A peer has answered: our own network works, and if it did not, nobody is blamed for it.
    pub(super) fn network_works(&mut self, now: Now) {
        self.note_heard(now);
        let trouble = std::mem::take(&mut self.finding.trouble);
        self.finding.dial_at = None;
        self.finding.failed_in_a_row = 0;
        self.finding.book.network_works(now);
        if let Some(since) = trouble.since.filter(|_| trouble.is_outage(&self.config)) {
            self.finding.book.forgive(now, &mut self.random, since);
            self.forgive_dials(now, since);
        }
    }

    pub(super) fn tell_no_peers(&mut self) {
        if !std::mem::replace(&mut self.finding.told_no_peers, true) {
            self.actions.push_back(Action::Event(Event::NoPeers));
        }
    }

    pub(super) fn tell_if_back(&mut self) {
        if std::mem::take(&mut self.finding.told_no_peers) {
            self.actions.push_back(Action::Event(Event::NetworkBack));
        }
    }
}

/// Time between two looks at the seeds while peers are missing; doubled each time, up to the longest.
const SEED_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_SEED_INTERVAL: Duration = Duration::from_secs(3_600);
/// How long a book that was saved has before the seeds are asked.
const BOOK_TIME: Duration = Duration::from_secs(10);
/// The longest wait while nobody at all can be reached.
const LONGEST_OUTAGE_WAIT: Duration = Duration::from_secs(30);
/// The longest wait between dials of found peers while some are connected.
const LONGEST_DIAL_WAIT: Duration = Duration::from_secs(2);
/// So many different addresses do not fail together by chance.
const MANY_ADDRESSES: usize = 3;
/// With so many addresses known, peers are not asked for more.
const ENOUGH_ADDRESSES: usize = 1_000;
