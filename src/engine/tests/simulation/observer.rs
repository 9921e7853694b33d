//! What holds at every step of a simulation, by books that are kept apart from the engine's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::node::Chain;
use super::{Churn, SECOND};
use crate::config::Config;
use crate::engine::book::{AddressGroup, SavedAddress, Source};
use crate::engine::{Engine, Now, fork};
use crate::error::DisconnectReason;
use crate::message::{GetHeaders, InventoryKind, Message};
use crate::peer::{PeerId, PeerState};
use crate::queue::events::Event;

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Observer {
    redial_min: Duration,
    redial_max: Duration,
    question: GetHeaders,
    pub(super) named: BTreeSet<SocketAddr>,
    pub(super) churn: Option<Churn>,
    peers: BTreeMap<PeerId, Seen>,
    histories: BTreeMap<SocketAddr, History>,
    /// Hosts that showed themselves to be on another chain, and when.
    strangers: BTreeMap<IpAddr, Instant>,
    /// When we last heard from anybody.
    heard_at: Option<Instant>,
    /// Since when, by the dials that fail, nobody can be reached.
    trouble_since: Option<Instant>,
    /// What the engine's book last held.
    pub(super) book: Vec<SavedAddress>,
    pub(super) dials: usize,
    /// The most dials in one second.
    pub(super) most_dials: usize,
    recent: Vec<Instant>,
    told_no_peers: bool,
}

/// A peer that is dialled or connected.
#[derive(Debug)]
struct Seen {
    address: SocketAddr,
    standing: Standing,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Dialled,
    Checking,
    Unverified,
    Verified,
}

/// What became of the dials of an address.
#[derive(Debug, Default)]
struct History {
    /// In a row.
    failures: Vec<Instant>,
    ended: Option<Instant>,
    /// The longest wait that can be demanded.
    limit: Duration,
    /// It was not one for us, so it need not be dialled soon.
    is_final: bool,
}

impl Observer {
    pub(super) fn new(config: &Config) -> Self {
        let marker = config.fork_marker.as_ref().expect("the network has a marker");
        Self {
            redial_min: config.redial_min,
            redial_max: config.redial_max,
            question: fork::question(marker),
            named: BTreeSet::new(),
            churn: None,
            peers: BTreeMap::new(),
            histories: BTreeMap::new(),
            strangers: BTreeMap::new(),
            heard_at: None,
            trouble_since: None,
            book: Vec::new(),
            dials: 0,
            most_dials: 0,
            recent: Vec::new(),
            told_no_peers: false,
        }
    }

    /// The engine dials: an address of the internet, not before its back-off is over, of another group than the others
    /// where there is one.
    pub(super) fn dials(
        &mut self,
        now: Now,
        peer: PeerId,
        address: SocketAddr,
        snapshot: impl FnOnce() -> Option<Vec<SavedAddress>>,
    ) {
        let is_named = self.named.contains(&address);
        let IpAddr::V4(ip) = address.ip() else { panic!("{address} was never told") };
        let is_public = !ip.is_private() && !ip.is_loopback() && !ip.is_link_local();
        assert!(is_named || is_public, "{address} is dialled because somebody on the internet told of it");
        let is_free = self.peers.values().all(|seen| seen.address != address);
        assert!(is_free && !self.peers.contains_key(&peer), "{address} is dialled twice at once");
        if let Some(&seen) = self.strangers.get(&address.ip()).filter(|_| !is_named) {
            let passed = now.instant.duration_since(seen);
            assert!(passed >= 24 * 3_600 * SECOND, "{address} is on another chain, and dialled {passed:?} later");
        }
        if let Some(history) = self.histories.get(&address) {
            let waited = history.ended.map_or(Duration::MAX, |ended| now.instant.duration_since(ended));
            let demanded = self.demanded(history);
            let failures = history.failures.len();
            assert!(waited >= demanded, "{address} failed {failures} times and is dialled after {waited:?}");
        }
        if !is_named {
            self.check_group(address, snapshot);
        }
        self.peers.insert(peer, Seen { address, standing: Standing::Dialled, since: now.instant });
        self.histories.entry(address).or_default();
        let dialled = self.peers.values().filter(|seen| seen.standing == Standing::Dialled).count();
        assert!(dialled <= 48, "{dialled} dials at once");
        self.dials += 1;
        self.recent.retain(|&at| now.instant.duration_since(at) < SECOND);
        self.recent.push(now.instant);
        self.most_dials = self.most_dials.max(self.recent.len());
    }

    /// How long an address is to be left alone at least: jitter takes a quarter of the back-off at most.
    fn demanded(&self, history: &History) -> Duration {
        let doublings = history.failures.len().saturating_sub(1).min(20) as u32;
        let doubled = self.redial_min.saturating_mul(1 << doublings).min(history.limit);
        let wait = if history.is_final { self.redial_max } else { doubled };
        wait.mul_f64(0.749)
    }

    /// No two of a group, unless every address that was never tried is of such a group, too.
    fn check_group(&mut self, address: SocketAddr, snapshot: impl FnOnce() -> Option<Vec<SavedAddress>>) {
        let found = self.peers.values().filter(|seen| !self.named.contains(&seen.address));
        let groups: BTreeSet<_> = found.filter_map(|seen| AddressGroup::of(&seen.address.ip())).collect();
        let is_crowded =
            |address: &SocketAddr| AddressGroup::of(&address.ip()).is_some_and(|group| groups.contains(&group));
        if !is_crowded(&address) {
            return;
        }
        if let Some(book) = snapshot() {
            self.book = book;
        }
        let is_choice = |other: &&SavedAddress| {
            !is_crowded(&other.address)
                && !self.histories.contains_key(&other.address)
                && !self.strangers.contains_key(&other.address.ip())
        };
        let choice = self.book.iter().find(is_choice);
        assert!(choice.is_none(), "{address} is dialled besides its neighbour, although there is {choice:?}");
    }

    pub(super) fn is_checking(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|seen| seen.standing == Standing::Checking)
    }

    pub(super) fn has_heard(&mut self, now: Now) {
        self.heard_at = Some(now.instant);
    }

    pub(super) fn is_up(&mut self, now: Now, peer: PeerId) {
        self.has_heard(now);
        // Our own network works, so what failed while nobody was connected was our fault.
        if let Some(since) = self.trouble_since.take() {
            for history in self.histories.values_mut() {
                history.failures.retain(|&at| at < since);
            }
        }
        if let Some(seen) = self.peers.get_mut(&peer) {
            (seen.standing, seen.since) = (Standing::Checking, now.instant);
        }
    }

    pub(super) fn hears(&mut self, now: Now, event: &Event) {
        match event {
            Event::Connected { peer, .. } => self.set_standing(*peer, Standing::Verified),
            Event::Unverified { peer, .. } => self.set_standing(*peer, Standing::Unverified),
            Event::Refused { peer, reason, .. } | Event::Disconnected { peer, reason, .. } => {
                self.ended(now, *peer, reason);
            }
            Event::NoPeers => {
                assert!(!std::mem::replace(&mut self.told_no_peers, true), "it was told already");
                assert!(self.peers.values().all(|seen| seen.standing != Standing::Verified));
            }
            Event::NetworkBack => assert!(std::mem::replace(&mut self.told_no_peers, false), "nobody was gone"),
            _ => {}
        }
    }

    fn set_standing(&mut self, peer: PeerId, standing: Standing) {
        let seen = self.peers.get_mut(&peer).expect("only who is connected has a standing");
        assert_ne!(seen.standing, Standing::Dialled);
        seen.standing = standing;
    }

    fn ended(&mut self, now: Now, peer: PeerId, reason: &DisconnectReason) {
        let seen = self.peers.remove(&peer).expect("it was dialled");
        let is_alone = self.peers.values().all(|seen| seen.standing == Standing::Dialled);
        let was_up = seen.standing != Standing::Dialled;
        let history = self.histories.entry(seen.address).or_default();
        let lasted = now.instant.duration_since(seen.since);
        if was_up && seen.standing != Standing::Checking && lasted >= 30 * SECOND {
            history.failures.clear();
        } else {
            history.failures.push(now.instant);
        }
        history.ended = Some(now.instant);
        // While nobody can be reached, we look more often.
        history.limit = if is_alone { self.redial_max.min(30 * SECOND) } else { self.redial_max };
        let is_stranger = matches!(reason, DisconnectReason::WrongChain | DisconnectReason::OtherChain { .. });
        history.is_final = is_stranger;
        if is_stranger {
            self.strangers.insert(seen.address.ip(), now.instant);
        }
        if !was_up {
            match is_alone {
                true => drop(self.trouble_since.get_or_insert(self.heard_at.unwrap_or(now.instant))),
                false => self.trouble_since = None,
            }
        }
    }

    /// The engine says something to a peer: nothing but the check before that has been passed.
    pub(super) fn sends(&mut self, peer: PeerId, chain: Option<Chain>, message: &Message) {
        let seen = self.peers.get(&peer).expect("only who is connected is spoken to");
        let address = seen.address;
        let is_check = matches!(message, Message::GetHeaders(question) if *question == self.question);
        assert!(chain != Some(Chain::OtherAgent), "{address} is by its name on another chain: {message:?}");
        if is_check {
            assert_ne!(seen.standing, Standing::Verified, "{address} has passed the check");
            return;
        }
        let is_right = match chain {
            // Whoever names a peer knows what it is good for.
            Some(Chain::Pruned) => self.named.contains(&address),
            chain => matches!(chain, Some(Chain::Ours | Chain::Syncing(_))),
        };
        assert!(is_right, "{address} has {chain:?} and is sent {message:?}");
        let is_transaction = |kind| matches!(kind, InventoryKind::Transaction);
        match message {
            Message::Inv(items) => {
                assert!(items.iter().all(|item| is_transaction(item.kind)));
                assert!(matches!(seen.standing, Standing::Verified | Standing::Unverified), "{address}");
            }
            Message::GetHeaders(_) | Message::GetAddr => {
                assert_eq!(seen.standing, Standing::Verified, "{address} is sent {message:?}");
            }
            // What proves itself may be asked of whoever cannot tell its chain, too.
            Message::GetData(_) | Message::Ping { .. } => {
                assert!(matches!(seen.standing, Standing::Verified | Standing::Unverified), "{address}");
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    /// The engine sees the same peers in the same state.
    pub(super) fn check_lines(&self, now: Now, engine: &Engine) {
        for info in engine.peers(now) {
            let expected = match self.peers.get(&info.id).map(|seen| seen.standing) {
                None => PeerState::Waiting,
                Some(Standing::Dialled) => PeerState::Connecting,
                Some(Standing::Checking) => PeerState::Checking,
                Some(Standing::Unverified) => PeerState::Unverified,
                Some(Standing::Verified) => PeerState::Ready,
            };
            assert_eq!(info.state, expected, "{}", info.address);
        }
    }

    /// The book is within its caps.
    pub(super) fn check_book(&mut self, book: Vec<SavedAddress>) {
        assert!(book.len() <= 10_000, "{} addresses", book.len());
        let mut shares: BTreeMap<Source, usize> = BTreeMap::new();
        for saved in book.iter().filter(|saved| saved.last_worked.is_none()) {
            *shares.entry(saved.source).or_default() += 1;
        }
        let largest = shares.iter().max_by_key(|&(_, &count)| count);
        assert!(largest.is_none_or(|(_, &count)| count <= 1_000), "{largest:?}");
        self.book = book;
    }

    /// Groups of the found peers that are connected, each as often as it occurs.
    pub(super) fn groups(&self) -> Vec<AddressGroup> {
        let up = self.peers.values().filter(|seen| seen.standing == Standing::Verified);
        let found = up.filter(|seen| !self.named.contains(&seen.address));
        found.filter_map(|seen| AddressGroup::of(&seen.address.ip())).collect()
    }
}
