//! What is waiting for the socket of one peer: two lanes, the urgent one first at every frame boundary.
//!
//! Layer 3.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use super::run::FrameRun;
use crate::wire::Frame;

/// The bytes one peer has yet to take.
///
/// Small frames are copied into one run, so that a thousand of them cost one slice at the socket; large ones are
/// shared as they are.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    urgent: VecDeque<Frame>,
    /// Bytes of the first urgent frame that the socket took.
    urgent_sent: usize,
    /// Always the summed length of `urgent`, less `urgent_sent`.
    urgent_bytes: usize,
    normal: VecDeque<Part>,
    /// Bytes of the first part that the socket took.
    normal_sent: usize,
    /// Always the summed length of `normal`, less `normal_sent`.
    normal_bytes: usize,
    /// Normal frames stay here until the handshake is done.
    open: bool,
}

/// What the socket took of each lane, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) urgent: usize,
    pub(crate) normal: usize,
    /// Normal frames whose last byte it took.
    pub(crate) frames: usize,
}

#[derive(Debug)]
enum Part {
    /// One large frame.
    Frame(Frame),
    /// Small frames, for this peer alone.
    Own(FrameRun),
    /// Small frames that other peers have yet to take, too.
    Shared(Arc<FrameRun>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(frame) => frame,
            Self::Own(run) => run.bytes(),
            Self::Shared(run) => run.bytes(),
        }
    }

    /// Frames that lie before `offset` as a whole.
    fn frames_before(&self, offset: usize) -> usize {
        match self {
            Self::Frame(frame) => usize::from(offset >= frame.len()),
            Self::Own(run) => run.frames_before(offset),
            Self::Shared(run) => run.frames_before(offset),
        }
    }

    /// The end of the frame that `offset` lies in; `offset` itself if a frame begins there.
    fn frame_end(&self, offset: usize) -> usize {
        match self {
            Self::Frame(_) if offset == 0 => 0,
            Self::Frame(frame) => frame.len(),
            Self::Own(run) => run.frame_end(offset),
            Self::Shared(run) => run.frame_end(offset),
        }
    }
}

impl Outbox {
    /// Lets normal frames go.
    pub(crate) fn open(&mut self) {
        self.open = true;
    }

    /// Queues a frame that goes before all normal ones.
    pub(crate) fn push_urgent(&mut self, frame: Frame) {
        self.urgent_bytes += frame.len();
        self.urgent.push_back(frame);
    }

    /// Queues a frame behind those that wait.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.normal_bytes += frame.len();
        if frame.len() > COPY_LIMIT {
            self.normal.push_back(Part::Frame(frame));
        } else {
            self.add_to_run(frame.len(), |run| run.push(frame.len(), |out| out.extend_from_slice(&frame)));
        }
    }

    /// Queues frames that go to other peers, too, behind those that wait.
    pub(crate) fn push_run(&mut self, run: Arc<FrameRun>) {
        let len = run.bytes().len();
        self.normal_bytes += len;
        if len > COPY_LIMIT {
            self.normal.push_back(Part::Shared(run));
        } else {
            self.add_to_run(len, |own| own.append(&run));
        }
    }

    /// Adds to the last part, if it is a run of this peer's with room, or to a new one.
    fn add_to_run(&mut self, len: usize, add: impl FnOnce(&mut FrameRun)) {
        if let Some(Part::Own(run)) = self.normal.back_mut()
            && run.has_room(len)
        {
            return add(run);
        }
        let mut run = FrameRun::default();
        add(&mut run);
        self.normal.push_back(Part::Own(run));
    }

    /// Bytes that may go to the socket now.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.urgent_bytes + if self.open { self.normal_bytes } else { 0 }
    }

    pub(crate) fn urgent_bytes(&self) -> usize {
        self.urgent_bytes
    }

    /// All normal bytes not yet sent, also those held back by the handshake.
    #[cfg(any(test, feature = "testnode"))]
    pub(crate) fn normal_bytes(&self) -> usize {
        self.normal_bytes
    }

    /// Fills `slices` with the next bytes for the socket; returns how many slices were filled.
    pub(crate) fn pending<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut parts = self.parts();
        let mut filled = 0;
        for slot in slices {
            let Some(part) = parts.next() else { break };
            *slot = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    /// Forgets the first `n` bytes of what [`pending`](Self::pending) gave.
    pub(crate) fn mark_sent(&mut self, n: usize) -> Sent {
        debug_assert!(n <= self.pending_bytes(), "more sent than was pending");
        let mut left = n;
        let mut sent = Sent::default();
        // The same order as in `parts`: the rest of a begun frame, the urgent lane, the normal lane.
        let begun = self.begun_len().min(left);
        sent.frames += self.advance_normal(begun);
        left -= begun;
        sent.normal += begun;
        sent.urgent = left.min(self.urgent_bytes);
        self.advance_urgent(sent.urgent);
        left -= sent.urgent;
        sent.frames += self.advance_normal(left);
        sent.normal += left;
        sent
    }

    /// Bytes of a normal frame that the socket took in part; nothing may come in between.
    fn begun_len(&self) -> usize {
        match self.normal.front() {
            Some(part) if !self.urgent.is_empty() => part.frame_end(self.normal_sent) - self.normal_sent,
            _ => 0,
        }
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let begun = self.begun_len();
        let start = self.normal_sent;
        let first: &[u8] = self.normal.front().map_or(&[], |part| &part.bytes()[start..]);
        let (first, rest) = first.split_at(begun);
        let urgent = self
            .urgent
            .iter()
            .enumerate()
            .map(|(i, frame)| if i == 0 { &frame[self.urgent_sent..] } else { &frame[..] });
        let normal = std::iter::once(rest).chain(self.normal.iter().skip(1).map(Part::bytes));
        let normal = normal.take(if self.open { usize::MAX } else { 0 });
        std::iter::once(first).chain(urgent).chain(normal).filter(|part| !part.is_empty())
    }

    fn advance_urgent(&mut self, n: usize) {
        self.urgent_bytes -= n;
        self.urgent_sent += n;
        while let Some(frame) = self.urgent.front()
            && self.urgent_sent >= frame.len()
        {
            self.urgent_sent -= frame.len();
            self.urgent.pop_front();
        }
    }

    /// Forgets normal bytes; returns how many frames end among them.
    fn advance_normal(&mut self, n: usize) -> usize {
        if n == 0 {
            return 0;
        }
        // Those of the first part that had left before are not counted again.
        let mut frames = 0;
        let before = self.normal.front().map_or(0, |part| part.frames_before(self.normal_sent));
        self.normal_bytes -= n;
        self.normal_sent += n;
        while let Some(part) = self.normal.front() {
            frames += part.frames_before(self.normal_sent);
            if self.normal_sent < part.bytes().len() {
                break;
            }
            self.normal_sent -= part.bytes().len();
            self.normal.pop_front();
        }
        if self.normal.is_empty() {
            // An idle peer keeps no memory for a burst that is over.
            self.normal = VecDeque::new();
        }
        frames - before
    }
}

/// Up to this size, frames and shared runs are copied into the run of this peer; larger ones are cheaper shared.
const COPY_LIMIT: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Command;

    fn frame(fill: u8, len: usize) -> Frame {
        Frame::encode([0; 4], Command::TX, |out| out.resize(out.len() + len, fill))
    }

    /// Queues some frames alone, and some in runs with those after them.
    fn push_all(outbox: &mut Outbox, frames: &[Frame]) {
        let mut rest = frames;
        for n in [1, 2, 0, 3].into_iter().cycle() {
            let (these, others) = rest.split_at(rest.len().min(n));
            match these {
                [] => {}
                [frame] => outbox.push(frame.clone()),
                _ => {
                    let mut run = FrameRun::default();
                    these.iter().for_each(|f| run.push(f.len(), |out| out.extend_from_slice(f)));
                    outbox.push_run(Arc::new(run));
                }
            }
            rest = others;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// Takes at most `n` bytes, as a socket would.
    fn take(outbox: &mut Outbox, n: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = outbox.pending(&mut slices);
        let mut bytes = Vec::new();
        for slice in &slices[..filled] {
            bytes.extend_from_slice(&slice[..slice.len().min(n - bytes.len())]);
        }
        outbox.mark_sent(bytes.len());
        bytes
    }

    #[test]
    fn bytes_come_in_order_whatever_the_socket_takes() {
        let frames: Vec<Frame> = [10, 0, 300, 5_000, 300, 70_000, 20, 300, 4_000, 300, 9]
            .iter()
            .enumerate()
            .map(|(i, &n)| frame(i as u8, n))
            .collect();
        let expected: Vec<u8> = frames.iter().flat_map(|f| f.to_vec()).collect();
        for step in [7, 24, 1_000, 65_536, 1_000_000] {
            let mut outbox = Outbox::default();
            outbox.open();
            push_all(&mut outbox, &frames);
            let mut got = Vec::new();
            while outbox.pending_bytes() > 0 {
                got.extend(take(&mut outbox, step));
            }
            assert_eq!(got, expected, "step {step}");
            assert_eq!(outbox.normal_bytes(), 0);
        }
    }

    #[test]
    fn an_urgent_frame_goes_at_the_next_frame_boundary() {
        let small = [frame(1, 100), frame(2, 100), frame(3, 5_000), frame(4, 100)];
        let pong = frame(9, 8);
        let total: usize = small.iter().map(|f| f.len()).sum();
        for cut in 0..=total {
            let mut outbox = Outbox::default();
            outbox.open();
            push_all(&mut outbox, &small);
            let mut got = Vec::new();
            while got.len() < cut {
                let want = cut - got.len();
                got.extend(take(&mut outbox, want));
            }
            outbox.push_urgent(pong.clone());
            while outbox.pending_bytes() > 0 {
                got.extend(take(&mut outbox, 33));
            }
            // Where the cut falls within a frame, that frame is finished first.
            let mut expected = Vec::new();
            let mut urgent_done = false;
            for f in &small {
                if !urgent_done && expected.len() >= cut {
                    expected.extend_from_slice(&pong);
                    urgent_done = true;
                }
                expected.extend_from_slice(f);
            }
            if !urgent_done {
                expected.extend_from_slice(&pong);
            }
            assert_eq!(got, expected, "cut at {cut}");
        }
    }

    #[test]
    fn normal_frames_wait_for_the_handshake() {
        let mut outbox = Outbox::default();
        outbox.push(frame(1, 10));
        assert_eq!(outbox.pending_bytes(), 0);
        assert!(take(&mut outbox, 100).is_empty());
        outbox.push_urgent(frame(2, 0));
        assert_eq!(take(&mut outbox, 100), frame(2, 0).to_vec());
        outbox.open();
        assert_eq!(take(&mut outbox, 100), frame(1, 10).to_vec());
    }
}
