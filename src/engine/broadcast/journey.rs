//! How far a transaction came with each peer, and what that comes to.
//!
//! Layer 4. Section 5 of the wire specification: only an announcement by a peer that was not told is a sign of success.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broadcast::{JourneyState, PeerJourney, Verdict};
use crate::message::RejectCode;
use crate::peer::{PeerAddress, PeerId};

/// How far a transaction came with one peer.
#[derive(Clone, Debug)]
pub(super) struct Journey {
    /// `None` for a peer of an earlier run that was not connected since.
    pub(super) peer: Option<PeerId>,
    pub(super) address: Arc<PeerAddress>,
    pub(super) stage: Stage,
    /// It was chosen to be told or sent the transaction, in whatever session, and so is no witness.
    pub(super) is_told: bool,
    /// It is one of the peers that shall be told: not lost before it was sent the transaction.
    pub(super) counts: bool,
    /// Its `inv` waits to be sent.
    pub(super) is_queued: bool,
    /// It stands for whoever has this address, as the peer it was of is not known any more.
    pub(super) is_of_address: bool,
    /// What the file must have got before it is told or sent anything.
    pub(super) told_at: u64,
    pub(super) announced: Option<Instant>,
    pub(super) requested: Option<Instant>,
    pub(super) sent: Option<Instant>,
    pub(super) heard: Option<Instant>,
}

/// As [`JourneyState`], with what the caller need not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Chosen, but its `inv` waits yet.
    Chosen,
    Announced,
    Requested,
    Sent,
    Rejected(Box<(RejectCode, String)>),
    Relayed,
    NotHeard,
    BelowFeeFilter(u64),
}

/// A peer that had a transaction from us, and so is no witness if that is broadcast again.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) peer: Option<PeerId>,
    pub(super) address: Arc<PeerAddress>,
    /// As of a [`Journey`].
    pub(super) is_of_address: bool,
}

impl Journey {
    pub(super) fn new(peer: Option<PeerId>, address: Arc<PeerAddress>, stage: Stage) -> Self {
        Self {
            peer,
            address,
            stage,
            is_told: false,
            counts: false,
            is_queued: false,
            is_of_address: false,
            told_at: 0,
            announced: None,
            requested: None,
            sent: None,
            heard: None,
        }
    }

    /// It had the transaction from us before this broadcast of it began.
    pub(super) fn told_before(told: Told) -> Self {
        let Told { peer, address, is_of_address } = told;
        Self { is_told: true, is_of_address, ..Self::new(peer, address, Stage::Chosen) }
    }

    /// It was chosen to be told.
    pub(super) fn chosen(peer: PeerId, address: Arc<PeerAddress>) -> Self {
        Self { is_told: true, counts: true, ..Self::new(Some(peer), address, Stage::Chosen) }
    }

    pub(super) fn is_rejected(&self) -> bool {
        matches!(self.stage, Stage::Rejected(_))
    }

    pub(super) fn is_relayed(&self) -> bool {
        self.stage == Stage::Relayed
    }

    /// Whether it has said what it will say.
    pub(super) fn is_final(&self) -> bool {
        self.is_rejected() || self.is_relayed()
    }

    /// Nothing more is expected of a peer that was told.
    pub(super) fn give_up(&mut self) -> bool {
        let waits = matches!(self.stage, Stage::Announced | Stage::Requested | Stage::Sent);
        if waits {
            self.stage = Stage::NotHeard;
        }
        waits
    }

    /// What the caller sees; nothing before the peer was told.
    pub(super) fn public(&self, begun: Instant) -> Option<PeerJourney> {
        let state = match &self.stage {
            Stage::Chosen => return None,
            Stage::Announced => JourneyState::Announced,
            Stage::Requested => JourneyState::Requested,
            Stage::Sent => JourneyState::Sent,
            Stage::Rejected(reject) => JourneyState::Rejected { code: reject.0, reason: reject.1.clone() },
            Stage::Relayed => JourneyState::Relayed,
            Stage::NotHeard => JourneyState::NotHeard,
            Stage::BelowFeeFilter(fee_filter) => JourneyState::BelowFeeFilter { fee_filter: *fee_filter },
        };
        let since = |at: Option<Instant>| -> Option<Duration> { Some(at?.saturating_duration_since(begun)) };
        Some(PeerJourney {
            peer: self.peer,
            address: (*self.address).clone(),
            state,
            announced: since(self.announced),
            requested: since(self.requested),
            sent: since(self.sent),
            heard: since(self.heard),
        })
    }
}

/// What the journeys come to.
pub(super) fn verdict(journeys: &[Journey]) -> Verdict {
    let count = |wanted: fn(&Journey) -> bool| journeys.iter().filter(|&journey| wanted(journey)).count();
    let relayed = count(Journey::is_relayed);
    let first_reject = journeys
        .iter()
        .filter_map(|journey| match &journey.stage {
            Stage::Rejected(reject) => Some((journey.heard, reject)),
            _ => None,
        })
        .min_by_key(|&(heard, _)| heard);
    if let Some((_, reject)) = first_reject {
        let rejected = count(Journey::is_rejected);
        return if relayed > 0 {
            Verdict::Split { relayed, rejected }
        } else {
            Verdict::Rejected { by: rejected, code: reject.0, reason: reject.1.clone() }
        };
    }
    let sent = count(|journey| journey.sent.is_some());
    if relayed > 0 {
        Verdict::Relayed { by: relayed }
    } else if sent > 0 {
        Verdict::Delivered { to: sent }
    } else if count(|journey| journey.announced.is_some()) > 0 {
        Verdict::Unrequested
    } else {
        Verdict::Unannounced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        Instant::now()
    }

    fn journey(stage: Stage) -> Journey {
        let at = Some(now());
        let mut journey = Journey::chosen(PeerId(1), Arc::new("127.0.0.1:1".parse().expect("it is an address")));
        if stage != Stage::Chosen && stage != Stage::Relayed {
            journey.announced = at;
        }
        if matches!(stage, Stage::Sent | Stage::Rejected(_)) {
            journey.sent = at;
        }
        journey.heard = at;
        Journey { stage, ..journey }
    }

    fn rejected(reason: &str) -> Stage {
        Stage::Rejected(Box::new((RejectCode::Invalid, reason.to_owned())))
    }

    fn verdict_of(stages: &[Stage]) -> Verdict {
        verdict(&stages.iter().cloned().map(journey).collect::<Vec<_>>())
    }

    #[test]
    fn silence_is_never_acceptance() {
        assert_eq!(verdict_of(&[]), Verdict::Unannounced);
        assert_eq!(verdict_of(&[Stage::Chosen]), Verdict::Unannounced);
        assert_eq!(verdict_of(&[Stage::Announced, Stage::NotHeard]), Verdict::Unrequested);
        assert_eq!(verdict_of(&[Stage::Requested]), Verdict::Unrequested, "it was not sent yet");
        assert_eq!(verdict_of(&[Stage::Sent, Stage::Announced]), Verdict::Delivered { to: 1 });
        let mut given_up = [journey(Stage::Sent), journey(Stage::Announced)];
        assert!(given_up.iter_mut().all(Journey::give_up));
        assert_eq!(verdict(&given_up), Verdict::Delivered { to: 1 });
        assert_eq!(verdict_of(&[Stage::Sent, Stage::Relayed]), Verdict::Relayed { by: 1 });
    }

    #[test]
    fn the_first_reject_gives_its_words() {
        let both = [journey(rejected("first")), journey(rejected("second"))];
        let reversed = [both[1].clone(), both[0].clone()];
        let expected = Verdict::Rejected { by: 2, code: RejectCode::Invalid, reason: "first".to_owned() };
        assert_eq!(verdict(&both), expected);
        assert_eq!(verdict(&reversed), expected);
        assert_eq!(
            verdict_of(&[rejected("bad"), Stage::Relayed, Stage::Relayed]),
            Verdict::Split { relayed: 2, rejected: 1 }
        );
    }

    #[test]
    fn what_is_final_is_not_given_up() {
        for stage in [rejected("bad"), Stage::Relayed, Stage::Chosen, Stage::BelowFeeFilter(1)] {
            assert!(!journey(stage).give_up());
        }
    }
}
