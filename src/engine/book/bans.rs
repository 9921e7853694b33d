//! The bans: whom we do not connect to, until when and why.
//!
//! Layer 4, pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Now;
use crate::peer::{BanReason, Host, PeerAddress};

/// Whom a ban is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BanKey {
    /// Every port of a host.
    Host(IpAddr),
    /// One peer, by address and port.
    Peer(PeerAddress),
}

impl BanKey {
    /// What a ban of this peer covers: its host, but only itself if it was named or is on this machine, where many
    /// peers share an address.
    pub(crate) fn of(address: &PeerAddress, is_named: bool) -> Self {
        match address.host {
            Host::Ip(ip) if !is_named && !ip.to_canonical().is_loopback() => Self::Host(ip.to_canonical()),
            _ => Self::Peer(address.clone()),
        }
    }
}

/// How long a ban lasts, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    /// Unix seconds of its end.
    pub(crate) until: i64,
    pub(crate) reason: BanReason,
}

/// The bans in force, at most [`MAX_BANS`] of them.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    bans: BTreeMap<BanKey, Ban>,
    /// Always one for each of `bans`, by reason, the soonest to end in front.
    by_end: [BTreeSet<(i64, BanKey)>; 3],
    changed: bool,
}

impl Bans {
    /// Bans until a Unix time, in place of an earlier ban of the same key.
    ///
    /// If there are too many, the one soonest to end is lifted, one that nobody requested before one that the caller did.
    pub(crate) fn ban(&mut self, key: BanKey, until_unix: i64, reason: BanReason) {
        self.unban(&key);
        if self.bans.len() >= MAX_BANS {
            let soonest = self.by_end.iter().find_map(BTreeSet::first).map(|(_, key)| key.clone());
            soonest.map(|key| self.unban(&key));
        }
        self.by_end[reason as usize].insert((until_unix, key.clone()));
        self.bans.insert(key, Ban { until: until_unix, reason });
        self.changed = true;
    }

    /// The ban in force for a peer. A named peer is banned only by address and port, another one also by its host.
    pub(crate) fn is_banned(&self, now: Now, address: &PeerAddress, is_named: bool) -> Option<Ban> {
        if self.bans.is_empty() {
            return None;
        }
        let in_force = |key: &BanKey| self.bans.get(key).copied().filter(|ban| ban.until > now.unix);
        let host = match BanKey::of(address, is_named) {
            BanKey::Peer(_) => None,
            host => in_force(&host),
        };
        host.or_else(|| in_force(&BanKey::Peer(address.clone())))
    }

    /// Lifts a ban; says which it was.
    pub(crate) fn unban(&mut self, key: &BanKey) -> Option<Ban> {
        let (key, ban) = self.bans.remove_entry(key)?;
        self.by_end[ban.reason as usize].remove(&(ban.until, key));
        self.changed = true;
        Some(ban)
    }

    /// Lifts the bans that have ended; returns them, the first to end first within each reason.
    pub(crate) fn expire(&mut self, now: Now) -> Vec<(BanKey, Ban)> {
        let mut ended = Vec::new();
        for i in 0..self.by_end.len() {
            while let Some((_, key)) = self.by_end[i].first().filter(|(until, _)| *until <= now.unix).cloned() {
                ended.extend(self.unban(&key).map(|ban| (key, ban)));
            }
        }
        ended
    }

    /// The bans, ended ones included until they are made to expire, in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&BanKey, &Ban)> {
        self.bans.iter()
    }

    /// Bans held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bans.len()
    }

    /// Whether there is something to save since it was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// All that is worth keeping.
    pub(crate) fn snapshot(&self) -> Vec<(BanKey, Ban)> {
        self.bans.iter().map(|(key, ban)| (key.clone(), *ban)).collect()
    }

    /// Adds what was saved and has not ended meanwhile; bans that are here already stay as they are.
    pub(crate) fn restore(&mut self, now: Now, saved: impl IntoIterator<Item = (BanKey, Ban)>) {
        let was_changed = self.changed;
        for (key, ban) in saved {
            if ban.until > now.unix && !self.bans.contains_key(&key) {
                self.ban(key, ban.until, ban.reason);
            }
        }
        self.changed = was_changed;
    }
}

/// Bans held at once.
const MAX_BANS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::super::tests::start;
    use super::*;

    fn peer(text: &str) -> PeerAddress {
        text.parse().unwrap()
    }

    fn host(n: usize) -> BanKey {
        BanKey::Host(std::net::Ipv4Addr::from(0x0100_0000 + n as u32).into())
    }

    fn check(bans: &Bans) {
        let listed: usize = bans.by_end.iter().map(BTreeSet::len).sum();
        assert_eq!(bans.len(), listed);
        for (key, ban) in bans.iter() {
            assert!(bans.by_end[ban.reason as usize].contains(&(ban.until, key.clone())), "{key:?}");
        }
        assert!(bans.len() <= MAX_BANS);
    }

    #[test]
    fn a_host_is_banned_on_all_its_ports_and_a_named_peer_on_one() {
        let (now, mut bans) = (start(), Bans::default());
        bans.ban(BanKey::of(&peer("1.2.3.4:8333"), false), now.unix + 10, BanReason::WrongChain);
        let ban = Some(Ban { until: now.unix + 10, reason: BanReason::WrongChain });
        assert_eq!(bans.is_banned(now, &peer("1.2.3.4:8333"), false), ban);
        assert_eq!(bans.is_banned(now, &peer("1.2.3.4:9999"), false), ban);
        assert_eq!(bans.is_banned(now, &peer("[::ffff:1.2.3.4]:9999"), false), ban);
        assert_eq!(bans.is_banned(now, &peer("1.2.3.5:8333"), false), None);
        assert_eq!(bans.is_banned(now, &peer("1.2.3.4:8333"), true), None, "named peers have bans of their own");

        for named in ["1.2.4.4:8333", "node.example:8333"] {
            bans.ban(BanKey::of(&peer(named), true), now.unix + 10, BanReason::Requested);
            assert!(bans.is_banned(now, &peer(named), true).is_some());
            assert!(bans.is_banned(now, &peer(named), false).is_some());
        }
        assert_eq!(bans.is_banned(now, &peer("1.2.4.4:9999"), false), None);
        assert_eq!(bans.is_banned(now, &peer("node.example:9999"), true), None);
        check(&bans);
    }

    #[test]
    fn peers_on_this_machine_are_banned_by_port() {
        let (now, mut bans) = (start(), Bans::default());
        bans.ban(BanKey::of(&peer("127.0.0.1:1000"), false), now.unix + 10, BanReason::Requested);
        assert!(bans.is_banned(now, &peer("127.0.0.1:1000"), false).is_some());
        assert!(bans.is_banned(now, &peer("127.0.0.1:1000"), true).is_some());
        assert_eq!(bans.is_banned(now, &peer("127.0.0.1:1001"), false), None);
    }

    #[test]
    fn bans_end_at_their_time() {
        let (now, mut bans) = (start(), Bans::default());
        bans.ban(host(1), now.unix + 20, BanReason::Requested);
        bans.ban(host(2), now.unix + 10, BanReason::WrongChain);
        bans.ban(host(1), now.unix + 30, BanReason::WrongChain);
        check(&bans);
        assert_eq!(bans.len(), 2);
        let at = |seconds| Now { unix: now.unix + seconds, ..now };
        assert_eq!(bans.expire(at(9)), []);
        assert!(bans.is_banned(at(9), &peer("1.0.0.2:1"), false).is_some());
        assert_eq!(bans.is_banned(at(10), &peer("1.0.0.2:1"), false), None, "ended, though not made to expire");
        let ended = Ban { until: now.unix + 10, reason: BanReason::WrongChain };
        assert_eq!(bans.expire(at(10)), [(host(2), ended)]);
        assert!(bans.unban(&host(1)).is_some());
        assert_eq!((bans.unban(&host(1)), bans.len()), (None, 0));
        check(&bans);
    }

    #[test]
    fn too_many_bans_lift_the_soonest_to_end_and_requested_ones_last() {
        let (now, mut bans) = (start(), Bans::default());
        bans.ban(host(0), now.unix + 1, BanReason::Requested);
        for n in 1..=MAX_BANS + 5 {
            bans.ban(host(n), now.unix + 10 + n as i64, BanReason::WrongChain);
        }
        check(&bans);
        assert_eq!(bans.len(), MAX_BANS);
        let kept: Vec<BanKey> = bans.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(kept[..2], [host(0), host(7)]);
    }

    #[test]
    fn saved_bans_come_back_unless_they_ended() {
        let (now, mut bans) = (start(), Bans::default());
        bans.ban(host(1), now.unix + 20, BanReason::Requested);
        bans.ban(host(2), now.unix + 10, BanReason::WrongChain);
        assert!(bans.take_changed() && !bans.take_changed());
        let mut restored = Bans::default();
        restored.restore(Now { unix: now.unix + 10, ..now }, bans.snapshot());
        assert_eq!(restored.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&host(1)]);
        assert!(!restored.take_changed());
        check(&restored);
    }
}
