//! Follows the frames in the bytes that a line sends, and lets the faults change them.

use std::time::Duration;

use super::faults::Treatment;
use crate::wire::{Command, FrameHeader};

/// Where in a stream of frames a line is.
#[derive(Debug)]
pub(super) struct Cutter {
    magic: [u8; 4],
    /// The part of a header that was seen.
    header: Vec<u8>,
    /// How many of these bytes left as they were; if any did, it is too late to change their frame.
    sent: usize,
    /// Payload bytes of the frame at hand that are still to come.
    left: u64,
    fate: Fate,
    /// How fast the frame at hand leaves, in bytes a second.
    rate: Option<u64>,
}

/// What becomes of the payload at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Send,
    Withhold,
    /// So many bytes are sent, and nothing ever after.
    Close(u64),
    /// The same, but the connection stays open.
    Stall(u64),
}

/// Bytes to send, so much later than those before them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) delay: Duration,
    /// How fast they leave, in bytes a second.
    pub(super) rate: Option<u64>,
    pub(super) bytes: Vec<u8>,
}

impl Cutter {
    pub(super) fn new(magic: [u8; 4]) -> Self {
        Self { magic, header: Vec::new(), sent: 0, left: 0, fate: Fate::Send, rate: None }
    }

    /// Whether the next bytes belong to a frame that is changed, so that they may not be sent as they are.
    pub(super) fn is_changing(&self) -> bool {
        self.fate != Fate::Send || self.rate.is_some() || self.sent < self.header.len()
    }

    /// Whether the end of the connection is reached.
    pub(super) fn is_at_end(&self) -> bool {
        self.fate == Fate::Close(0)
    }

    /// Whether nothing is sent ever again.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.fate, Fate::Close(0) | Fate::Stall(0))
    }

    /// Follows bytes that are sent as they are.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.payload(&mut bytes);
            let header = self.take_header(&mut bytes);
            self.sent = self.header.len();
            if header.is_some() {
                self.header.clear();
                self.sent = 0;
            }
        }
    }

    /// Cuts bytes into frames, each of which is treated as `treat` says, knowing its command and length.
    pub(super) fn cut(&mut self, mut bytes: &[u8], mut treat: impl FnMut(Command, u64) -> Treatment) -> Vec<Cut> {
        let mut cuts = vec![Cut { rate: self.rate, ..Cut::default() }];
        while !bytes.is_empty() && !self.is_over() {
            let sent = self.payload(&mut bytes);
            last(&mut cuts).extend_from_slice(sent);
            let Some(mut header) = self.take_header(&mut bytes) else { continue };
            let mut encoded = std::mem::take(&mut self.header);
            let sent = std::mem::take(&mut self.sent);
            if sent > 0 {
                last(&mut cuts).extend_from_slice(&encoded[sent..]);
                continue;
            }
            let treatment = treat(header.command, encoded.len() as u64 + header.length);
            if treatment.withhold {
                self.fate = Fate::Withhold;
                continue;
            }
            self.rate = treatment.rate;
            if !treatment.delay.is_zero() || cuts.last().is_some_and(|cut| cut.rate != self.rate) {
                cuts.push(Cut { delay: treatment.delay, rate: self.rate, bytes: Vec::new() });
            }
            if treatment.extend {
                header.checksum = None;
                encoded.clear();
                header.encode(&mut encoded);
            }
            if treatment.corrupt && !header.is_extended() {
                encoded[CHECKSUM] ^= 0xff;
            }
            let (close, stall) = (treatment.close_after, treatment.stall_after);
            if let Some(limit) = [close, stall].into_iter().flatten().min() {
                let of_header = limit.min(encoded.len() as u64);
                // At most the header's length.
                encoded.truncate(of_header as usize);
                let left = limit - of_header;
                self.fate = if close == Some(limit) { Fate::Close(left) } else { Fate::Stall(left) };
            }
            last(&mut cuts).append(&mut encoded);
        }
        cuts.retain(|cut| !cut.bytes.is_empty());
        cuts
    }

    /// Takes the payload at hand from the front; returns what of it is sent.
    fn payload<'a>(&mut self, bytes: &mut &'a [u8]) -> &'a [u8] {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let (payload, rest) = bytes.split_at(n);
        *bytes = rest;
        self.left -= n as u64;
        let sent = match &mut self.fate {
            Fate::Send => payload,
            Fate::Withhold => &[],
            Fate::Close(limit) | Fate::Stall(limit) => {
                // At most the payload's length.
                let n = (*limit).min(payload.len() as u64);
                *limit -= n;
                &payload[..n as usize]
            }
        };
        if self.left == 0 {
            self.rate = None;
            if self.fate == Fate::Withhold {
                self.fate = Fate::Send;
            }
        }
        sent
    }

    /// Takes bytes of the next header from the front; returns it once it is whole.
    fn take_header(&mut self, bytes: &mut &[u8]) -> Option<FrameHeader> {
        if self.left > 0 || bytes.is_empty() || matches!(self.fate, Fate::Close(_) | Fate::Stall(_)) {
            return None;
        }
        // A basic header first, of which the decoder may say that it is the start of an extended one.
        for whole in [FrameHeader::BASIC_LEN, FrameHeader::EXTENDED_LEN] {
            let n = whole.saturating_sub(self.header.len()).min(bytes.len());
            let (start, rest) = bytes.split_at(n);
            self.header.extend_from_slice(start);
            *bytes = rest;
            let header = FrameHeader::decode(&self.header, self.magic).expect("we encode our own headers well");
            if let Some(header) = header {
                self.left = header.length;
                return Some(header);
            }
        }
        None
    }
}

fn last(cuts: &mut Vec<Cut>) -> &mut Vec<u8> {
    if cuts.is_empty() {
        cuts.push(Cut::default());
    }
    let last = cuts.len() - 1;
    &mut cuts[last].bytes
}

/// Its first byte in a basic header.
const CHECKSUM: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    const MAGIC: [u8; 4] = [9, 8, 7, 6];

    fn frames(nonces: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        nonces.map(|nonce| Message::Ping { nonce }.to_frame(MAGIC).to_vec()).collect()
    }

    /// What leaves, frame `changed` being treated, if the bytes come in pieces of `size`.
    fn cut(stream: &[u8], size: usize, changed: u64, treatment: Treatment) -> (Vec<u8>, Cutter) {
        let mut cutter = Cutter::new(MAGIC);
        let mut number = 0;
        let mut sent = Vec::new();
        for piece in stream.chunks(size) {
            let cuts = cutter.cut(piece, |_, len| {
                assert_eq!(len, 32);
                number += 1;
                if number - 1 == changed { treatment } else { Treatment::default() }
            });
            cuts.into_iter().for_each(|cut| sent.extend(cut.bytes));
        }
        (sent, cutter)
    }

    #[test]
    fn frames_are_changed_however_the_bytes_come() {
        let stream = frames(0..3).concat();
        for size in 1..=stream.len() {
            let (sent, cutter) = cut(&stream, size, 9, Treatment::default());
            assert!(sent == stream && !cutter.is_changing());
            let (sent, _) = cut(&stream, size, 1, Treatment { withhold: true, ..Treatment::default() });
            assert_eq!(sent, [&stream[..32], &stream[64..]].concat(), "pieces of {size}");
            let (sent, _) = cut(&stream, size, 1, Treatment { corrupt: true, ..Treatment::default() });
            let mut corrupt = stream.clone();
            corrupt[32 + CHECKSUM] ^= 0xff;
            assert_eq!(sent, corrupt, "pieces of {size}");
            for limit in 0..32 {
                let close = Treatment { close_after: Some(limit), ..Treatment::default() };
                let (sent, cutter) = cut(&stream, size, 1, close);
                assert_eq!(sent, stream[..32 + limit as usize], "pieces of {size}, {limit} bytes");
                assert!(cutter.is_at_end());
                let stall = Treatment { stall_after: Some(limit), ..Treatment::default() };
                let (sent, cutter) = cut(&stream, size, 1, stall);
                assert_eq!(sent, stream[..32 + limit as usize], "pieces of {size}, {limit} bytes");
                assert!(cutter.is_over() && !cutter.is_at_end() && cutter.is_changing());
            }
            let (sent, cutter) = cut(&stream, size, 1, Treatment { extend: true, ..Treatment::default() });
            let header = FrameHeader { magic: MAGIC, command: Command::PING, length: 8, checksum: None };
            let mut extended = stream[..32].to_vec();
            header.encode(&mut extended);
            extended.extend_from_slice(&stream[32 + 24..]);
            assert_eq!(sent, extended, "pieces of {size}");
            assert!(!cutter.is_changing());
        }
    }

    #[test]
    fn only_the_frame_concerned_is_slow() {
        let list = frames(0..3);
        let stream = list.concat();
        for size in 1..=stream.len() {
            let mut cutter = Cutter::new(MAGIC);
            let (mut number, mut slow, mut fast) = (0, Vec::new(), Vec::new());
            for piece in stream.chunks(size) {
                let cuts = cutter.cut(piece, |_, _| {
                    number += 1;
                    Treatment { rate: (number == 2).then_some(5), ..Treatment::default() }
                });
                for cut in cuts {
                    assert!(matches!(cut.rate, None | Some(5)));
                    if cut.rate.is_some() { &mut slow } else { &mut fast }.extend(cut.bytes);
                }
            }
            assert_eq!((slow, fast), (list[1].clone(), [&list[0][..], &list[2]].concat()), "pieces of {size}");
        }
    }

    #[test]
    fn a_frame_that_has_begun_to_leave_is_not_changed() {
        let stream = frames(0..2).concat();
        for sent in 1..stream.len() {
            let mut cutter = Cutter::new(MAGIC);
            cutter.follow(&stream[..sent]);
            assert!(!cutter.is_changing());
            let withhold = Treatment { withhold: true, ..Treatment::default() };
            let rest: Vec<u8> =
                cutter.cut(&stream[sent..], |_, _| withhold).into_iter().flat_map(|cut| cut.bytes).collect();
            let end = sent.next_multiple_of(32);
            assert_eq!(rest, stream[sent..end], "{sent} bytes had left");
        }
    }

    #[test]
    fn a_delay_begins_with_its_frame() {
        let list = frames(0..2);
        let second = Duration::from_secs(1);
        let late = Treatment { delay: second, ..Treatment::default() };
        let mut cutter = Cutter::new(MAGIC);
        let mut first = true;
        let cuts =
            cutter.cut(&list.concat(), |_, _| if std::mem::take(&mut first) { Treatment::default() } else { late });
        let cut = |delay, frame: &Vec<u8>| Cut { delay, rate: None, bytes: frame.clone() };
        assert_eq!(cuts, [cut(Duration::ZERO, &list[0]), cut(second, &list[1])]);
    }
}
