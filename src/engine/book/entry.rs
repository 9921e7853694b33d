//! One address of the book: what is known of it, and how it stands against the others.
//!
//! Layer 4.

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Instant;

use super::group::AddressGroup;
use crate::message::{Services, TimestampedAddress};

/// An address as somebody told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeardAddress {
    pub(crate) address: SocketAddr,
    pub(crate) services: Services,
    /// Unix seconds, as claimed.
    pub(crate) last_seen: i64,
}

impl HeardAddress {
    /// What a seed gave: of unknown age, and meant to be a full node.
    pub(crate) fn of_seed(address: SocketAddr) -> Self {
        Self { address, services: Services::NETWORK, last_seen: 0 }
    }
}

impl From<&TimestampedAddress> for HeardAddress {
    fn from(told: &TimestampedAddress) -> Self {
        Self { address: told.address.socket_addr(), services: told.address.services, last_seen: told.time.into() }
    }
}

/// Who first told of an address; each source has its share of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// We ourselves: it worked before anybody told of it.
    Us,
    /// A DNS seed; all seeds are one source.
    Seed,
    /// A peer on this machine.
    Loopback(IpAddr),
    /// A peer of this group.
    Group(AddressGroup),
}

impl Source {
    /// The source that a peer counts as; `None` is a seed.
    pub(super) fn of(peer: Option<IpAddr>) -> Self {
        match peer.map(|ip| ip.to_canonical()) {
            None => Self::Seed,
            Some(ip) => AddressGroup::of(&ip).map_or(Self::Loopback(ip), Self::Group),
        }
    }
}

/// Writes `us`, `seed`, the loopback address, or the group.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Us => f.write_str("us"),
            Self::Seed => f.write_str("seed"),
            Self::Loopback(ip) => ip.fmt(f),
            Self::Group(group) => group.fmt(f),
        }
    }
}

impl FromStr for Source {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "us" => Ok(Self::Us),
            "seed" => Ok(Self::Seed),
            _ if text.contains('/') => text.parse().map(Self::Group),
            _ => text.parse::<IpAddr>().ok().filter(IpAddr::is_loopback).map(Self::Loopback).ok_or(()),
        }
    }
}

/// An address as the file keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SavedAddress {
    pub(crate) address: SocketAddr,
    pub(crate) services: Services,
    /// Unix seconds.
    pub(crate) last_seen: i64,
    /// Unix seconds of the last time that it was connected; `None` if it never was.
    pub(crate) last_worked: Option<i64>,
    /// Dials that failed since it last worked.
    pub(crate) failures: u32,
    pub(crate) source: Source,
}

/// An address of the book.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) saved: SavedAddress,
    /// How often the wait before the next dial has doubled. Unlike the failures these end only with a connection that
    /// lasted, so that a peer which accepts everyone and keeps no one is not dialled at every turn.
    pub(super) doublings: u32,
    /// When it failed, the latest `FAILURES_REMEMBERED` times in a row: what can be forgiven.
    pub(super) failed_at: Vec<Instant>,
    /// True while it is in the book.
    pub(super) turn: Turn,
}

impl Entry {
    pub(super) fn new(saved: SavedAddress) -> Self {
        let doublings = saved.failures;
        Self { saved, doublings, failed_at: Vec::new(), turn: Turn::Due(0) }
    }

    pub(super) fn class(&self) -> Class {
        if self.saved.last_worked.is_some() { Class::Worked } else { Class::Heard }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            class: self.class(),
            failures: Reverse(self.saved.failures),
            time: self.saved.last_worked.unwrap_or(self.saved.last_seen),
            address: self.saved.address,
        }
    }

    pub(super) fn note_failure(&mut self, now: Instant) {
        self.saved.failures = self.saved.failures.saturating_add(1);
        self.doublings = self.doublings.saturating_add(1);
        if self.failed_at.len() == FAILURES_REMEMBERED {
            self.failed_at.remove(0);
        }
        self.failed_at.push(now);
    }

    /// Takes back the failures from `since` on; says whether there were any.
    pub(super) fn forgive(&mut self, since: Instant) -> bool {
        let kept = self.failed_at.partition_point(|&at| at < since);
        // If every remembered one is forgiven, so are those before it that are not remembered any more.
        let all = kept == 0 && self.failed_at.len() == FAILURES_REMEMBERED;
        let forgiven = if all { u32::MAX } else { (self.failed_at.len() - kept) as u32 };
        self.failed_at.truncate(kept);
        self.saved.failures = self.saved.failures.saturating_sub(forgiven);
        self.doublings = self.doublings.saturating_sub(forgiven);
        forgiven > 0
    }
}

/// Where an entry is kept until it is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its back-off ends then.
    Waiting(Instant),
    /// It may be dialled; its place in the list of its class.
    Due(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Others told of it.
    Heard,
    /// We were connected to it.
    Worked,
}

/// Orders entries by how easily they are given up; the least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    pub(super) class: Class,
    failures: Reverse<u32>,
    /// When it last worked, or was last seen if it never did.
    time: i64,
    pub(super) address: SocketAddr,
}

impl Standing {
    /// Whether a newcomer of this standing takes the place of the worst. Hearsay has to be better; what works has
    /// just done so, and need not.
    pub(super) fn displaces(&self, worst: &Self) -> bool {
        let worth = |standing: &Self| (standing.class, standing.failures, standing.time);
        match self.class {
            Class::Heard => worth(self) > worth(worst),
            Class::Worked => worth(self) >= worth(worst),
        }
    }
}

/// More than it takes for an address that never worked to be forgotten.
const FAILURES_REMEMBERED: usize = 12;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sources_read_back() {
        for text in ["us", "seed", "127.0.0.1", "::1", "1.2.0.0/16", "2a00:1::/32"] {
            assert_eq!(text.parse::<Source>().map(|source| source.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "Seed", "1.2.3.4", "1.2.0.0/8"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }

    #[test]
    fn failures_from_a_time_on_are_taken_back() {
        let start = crate::engine::book::tests::start().instant;
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut entry = Entry::new(SavedAddress {
            address: "1.2.3.4:8333".parse().unwrap(),
            services: Services::NETWORK,
            last_seen: 0,
            last_worked: None,
            failures: 2,
            source: Source::Seed,
        });
        (0..5).for_each(|seconds| entry.note_failure(at(seconds)));
        assert!(!entry.forgive(at(5)));
        assert_eq!((entry.saved.failures, entry.doublings), (7, 7));
        assert!(entry.forgive(at(2)));
        assert_eq!((entry.saved.failures, entry.doublings), (4, 4));
        assert!(entry.forgive(at(0)));
        assert_eq!((entry.saved.failures, entry.doublings), (2, 2), "those of an earlier run stay");
        (0..100).for_each(|seconds| entry.note_failure(at(seconds)));
        assert_eq!(entry.failed_at.len(), FAILURES_REMEMBERED);
        assert!(entry.forgive(at(0)));
        assert_eq!(entry.saved.failures, 0);
    }
}
