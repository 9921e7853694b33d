//! Pings that show whether a peer is alive and how far away it is.
//!
//! Layer 3. Section 3.7 of the wire specification.

use std::time::{Duration, Instant};

/// The keepalive of one connection: at most one ping is out.
#[derive(Debug)]
pub(crate) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    next_ping: Instant,
    ping: Option<Ping>,
    /// When the last byte came, whatever it was.
    last_received: Instant,
    /// While we do not read, the peer cannot be judged.
    paused_at: Option<Instant>,
    part: Part,
}

/// What a connection does for the keepalive of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Pings and judges.
    Whole,
    /// Pings, but the pongs come on a second connection, behind what that is bringing; so only a later ping that the
    /// second one has sent and got back says that this one's should have come.
    Half,
    /// Neither, while it is open where the pongs come.
    Nothing,
}

#[derive(Debug)]
struct Ping {
    nonce: u64,
    /// Bytes of the outbox that go before it has wholly reached the kernel.
    bytes_ahead: usize,
    /// When it did.
    sent_at: Option<Instant>,
    /// Bytes received since, or sent with it: too many, and the round trip says nothing about distance.
    bulk: usize,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    Dead,
}

impl Keepalive {
    pub(crate) fn new(now: Instant, interval: Duration, timeout: Duration) -> Self {
        Self {
            interval,
            timeout,
            next_ping: now,
            ping: None,
            last_received: now,
            paused_at: None,
            part: Part::Whole,
        }
    }

    /// Notes a ping just queued with `bytes_ahead` urgent bytes up to its own last one.
    pub(crate) fn pinged(&mut self, now: Instant, nonce: u64, bytes_ahead: usize, bulk: usize) {
        self.ping = Some(Ping { nonce, bytes_ahead, sent_at: None, bulk });
        self.next_ping = now + self.interval;
    }

    /// Notes urgent bytes that the kernel took.
    pub(crate) fn sent(&mut self, now: Instant, urgent_bytes: usize) {
        if let Some(ping) = &mut self.ping
            && ping.sent_at.is_none()
        {
            ping.bytes_ahead = ping.bytes_ahead.saturating_sub(urgent_bytes);
            if ping.bytes_ahead == 0 {
                ping.sent_at = Some(now);
            }
        }
    }

    /// Notes bytes that came.
    pub(crate) fn received(&mut self, now: Instant, bytes: usize) {
        self.last_received = now;
        if let Some(ping) = &mut self.ping {
            ping.bulk = ping.bulk.saturating_add(bytes);
        }
    }

    /// Whether a pong answers our own ping.
    pub(crate) fn expects(&self, nonce: u64) -> bool {
        self.ping.as_ref().is_some_and(|ping| ping.nonce == nonce)
    }

    /// When the ping that is out had reached the kernel.
    pub(crate) fn sent_at(&self) -> Option<Instant> {
        self.ping.as_ref()?.sent_at
    }

    /// Takes the pong to our ping; gives the round trip if it counts as a sample.
    pub(crate) fn ponged(&mut self, now: Instant) -> Option<Duration> {
        let ping = self.ping.take()?;
        let sent_at = ping.sent_at?;
        (ping.bulk <= BULK_BYTES).then(|| now.saturating_duration_since(sent_at))
    }

    /// Stops or restarts the judgement of the peer, as we stop or restart reading.
    pub(crate) fn set_reading(&mut self, now: Instant, reading: bool) {
        if !reading {
            self.paused_at.get_or_insert(now);
        } else if self.paused_at.take().is_some() {
            // What waited in the kernel is older than `now`; the peer gets its full time again.
            self.last_received = now;
            if let Some(ping) = &mut self.ping {
                ping.bulk = usize::MAX;
            }
        }
    }

    pub(crate) fn set_part(&mut self, now: Instant, part: Part) {
        self.part = part;
        // The other one may have got the pong, so the peer gets its full time again.
        self.last_received = self.last_received.max(now);
    }

    /// The nonce of the ping that is out.
    pub(crate) fn nonce(&self) -> Option<u64> {
        self.ping.as_ref().map(|ping| ping.nonce)
    }

    pub(crate) fn due(&self, now: Instant) -> Due {
        match self.silence_deadline() {
            _ if self.part == Part::Nothing => Due::Nothing,
            Some(deadline) if now >= deadline && self.part == Part::Whole => Due::Dead,
            _ if self.ping.is_none() && now >= self.next_ping => Due::Ping,
            _ => Due::Nothing,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.ping {
            _ if self.part == Part::Nothing => None,
            None => Some(self.next_ping),
            Some(_) if self.part == Part::Half => None,
            Some(_) => self.silence_deadline(),
        }
    }

    /// Whether this one is dead although the second connection is not: that got back what it sent at `asked`.
    pub(crate) fn is_outlived(&self, asked: Instant) -> bool {
        self.part == Part::Half && self.silence_deadline().is_some_and(|deadline| asked >= deadline)
    }

    fn silence_deadline(&self) -> Option<Instant> {
        if self.paused_at.is_some() {
            return None;
        }
        let sent_at = self.ping.as_ref()?.sent_at?;
        Some(sent_at.max(self.last_received) + self.timeout)
    }
}

/// More than this in flight with a ping, and its round trip measures bandwidth.
const BULK_BYTES: usize = 64 * 1_024;
