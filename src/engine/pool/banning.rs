//! Whom we do not connect to: bans by the caller, and hosts remembered to be on another chain.
//!
//! Layer 4.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Engine, Peer};
use crate::engine::book::{Ban, BanKey};
use crate::engine::{Action, LONGEST, Now};
use crate::error::DisconnectReason;
use crate::peer::{BanInfo, BanReason, PeerAddress, PeerId};
use crate::queue::events::Event;

impl Engine {
    /// Ends the connections to a peer's host and does not dial it for as long, a year at most. Of a named peer, or one
    /// on this machine, only its own address is meant.
    pub(crate) fn ban(&mut self, now: Now, id: PeerId, how_long: Duration) -> bool {
        let Some(peer) = self.peers.get(&id) else { return false };
        let key = BanKey::of(&peer.address, peer.named);
        self.ban_key(now, key, how_long, BanReason::Requested);
        true
    }

    /// Lifts the bans of an address, and of its host; says whether there was one.
    pub(crate) fn unban(&mut self, now: Now, address: PeerAddress) -> bool {
        let has_port = address.port.is_some();
        let address = address.or_port(self.config.network.port());
        let host = BanKey::of(&address, false);
        let lifted = self.bans.unban(&host).is_some() | self.bans.unban(&BanKey::Peer(address.clone())).is_some();
        let others = self.bans.iter().map(|(key, _)| key);
        let others =
            others.filter(|key| matches!(key, BanKey::Peer(peer) if peer.host == address.host && !has_port));
        let others: Vec<BanKey> = others.cloned().collect();
        for key in &others {
            self.bans.unban(key);
        }
        let is_lifted = lifted || !others.is_empty();
        if is_lifted {
            self.dial_banned(now);
            self.hold(now);
            self.save_soon(now);
        }
        is_lifted
    }

    /// The bans in force.
    pub(crate) fn bans(&self, now: Now) -> Vec<BanInfo> {
        let in_force = self.bans.iter().filter(|(_, ban)| ban.until > now.unix);
        in_force.map(|(key, ban)| info(now, key, ban)).collect()
    }

    /// When the ban of a peer ends, if there is one.
    pub(super) fn banned_until(&self, now: Now, peer: &Peer) -> Option<Instant> {
        let ban = self.bans.is_banned(now, &peer.address, peer.named)?;
        Some(now.instant + left(now, &ban))
    }

    /// A peer has shown that it is on another chain: it is not dialled again soon.
    pub(super) fn remember_wrong_chain(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        // Whoever was named is dialled again whatever it is, and with it the longest back-off is enough.
        if !peer.named {
            let key = BanKey::of(&peer.address, false);
            self.ban_key(now, key, WRONG_CHAIN_TIME, BanReason::WrongChain);
        }
    }

    /// A peer has sent a block that is none: it is not dialled again for a day.
    pub(in crate::engine) fn remember_liar(&mut self, now: Now, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else { return };
        // Whoever was named is the caller's choice, and not asked again for that block.
        if !peer.named {
            let key = BanKey::of(&peer.address, false);
            self.ban_key(now, key, LIAR_TIME, BanReason::BadBlock);
        }
    }

    fn ban_key(&mut self, now: Now, key: BanKey, how_long: Duration, reason: BanReason) {
        let seconds = i64::try_from(how_long.min(LONGEST).as_secs_f64().ceil() as u64).unwrap_or(i64::MAX);
        let ban = Ban { until: now.unix.saturating_add(seconds), reason };
        self.bans.expire(now);
        self.bans.ban(key.clone(), ban.until, reason);
        self.actions.push_back(Action::Event(Event::Banned { ban: info(now, &key, &ban) }));
        self.save_soon(now);
        if reason == BanReason::Requested {
            let is_meant = |(&id, peer): (&PeerId, &Peer)| {
                self.bans.is_banned(now, &peer.address, peer.named).is_some().then_some(id)
            };
            for id in self.peers.iter().filter_map(is_meant).collect::<Vec<_>>() {
                self.end_banned(now, id);
            }
        }
    }

    fn end_banned(&mut self, now: Now, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            // Only a named one is to be dialled again.
            peer.removed |= !peer.named;
        }
        self.end_connection(now, id, DisconnectReason::Banned);
        // One that waits learns of it when its time has come.
        if let Some(peer) = self.peers.get(&id)
            && self.started
            && !self.dialling.is_held_back(id, &peer.address)
        {
            let until = self.banned_until(now, peer);
            self.wait_until(id, until.unwrap_or(now.instant));
        }
    }

    /// Peers whose ban was lifted are dialled.
    fn dial_banned(&mut self, now: Now) {
        let waiting = self.peers.iter().filter(|(_, peer)| peer.is_waiting() && peer.timer.is_some());
        for id in waiting.map(|(&id, _)| id).collect::<Vec<_>>() {
            // Whose back-off is not over is made to wait for it again.
            self.wait_until(id, now.instant);
        }
    }
}

fn info(now: Now, key: &BanKey, ban: &Ban) -> BanInfo {
    let address = match key {
        BanKey::Host(ip) => host(*ip),
        BanKey::Peer(address) => address.clone(),
    };
    BanInfo { address, left: left(now, ban), reason: ban.reason }
}

fn host(ip: IpAddr) -> PeerAddress {
    PeerAddress { host: crate::peer::Host::Ip(ip), port: None }
}

fn left(now: Now, ban: &Ban) -> Duration {
    Duration::from_secs(u64::try_from(ban.until.saturating_sub(now.unix)).unwrap_or(0))
}

/// How long a host that is on another chain is left alone.
const WRONG_CHAIN_TIME: Duration = Duration::from_secs(24 * 3_600);
/// How long a host that sent a false block is left alone.
const LIAR_TIME: Duration = Duration::from_secs(24 * 3_600);
