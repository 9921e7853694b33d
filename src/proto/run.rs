//! Frames back to back, as they go to a socket.
//!
//! Layer 3.

/// Small frames in one buffer, so that a thousand of them cost one slice at the socket.
#[derive(Debug, Default)]
pub(crate) struct FrameRun {
    bytes: Vec<u8>,
    /// The offset at which each frame ends.
    ends: Vec<u32>,
}

impl FrameRun {
    /// A run closed at this size, so that what it holds is freed as it is sent.
    pub(crate) const LIMIT: usize = 64 * 1_024;

    /// A run with room for so many bytes, at most [`LIMIT`](Self::LIMIT).
    pub(crate) fn with_capacity(bytes: usize, frames: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes.min(Self::LIMIT)), ends: Vec::with_capacity(frames) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Frames in the run.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether a frame of `len` bytes may be added.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.bytes.len() + len <= Self::LIMIT
    }

    /// Adds the one frame of `len` bytes that `write` appends.
    pub(crate) fn push(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.reserve(len);
        let before = self.bytes.len();
        write(&mut self.bytes);
        debug_assert_eq!(self.bytes.len(), before + len);
        // A run is far shorter than 4 GiB.
        self.ends.push(self.bytes.len() as u32);
    }

    /// Adds all frames of another run.
    pub(crate) fn append(&mut self, other: &Self) {
        self.reserve(other.bytes.len());
        let before = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    /// Gives back room that frames did not fill, so that a run takes little more than what is charged for it.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > self.bytes.len() + self.bytes.len() / 4 {
            self.bytes.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
    }

    /// Frames that lie before `offset` as a whole.
    pub(crate) fn frames_before(&self, offset: usize) -> usize {
        self.ends.partition_point(|&end| end as usize <= offset)
    }

    /// The end of the frame that `offset` lies in; `offset` itself if a frame begins there.
    pub(crate) fn frame_end(&self, offset: usize) -> usize {
        if offset == 0 {
            return 0;
        }
        let i = self.ends.partition_point(|&end| (end as usize) < offset);
        self.ends.get(i).map_or(offset, |&end| end as usize)
    }

    fn reserve(&mut self, len: usize) {
        if self.bytes.capacity() - self.bytes.len() < len {
            // A burst fills the run, so few steps lead from one frame to its full size.
            let room = Self::LIMIT.saturating_sub(self.bytes.len()).max(len);
            self.bytes.reserve_exact((self.bytes.len() * GROWTH).clamp(len, room));
            self.ends.reserve(self.ends.len() * GROWTH);
        }
    }
}

/// How many times its size a run that is full is grown by.
const GROWTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lengths: &[usize]) -> FrameRun {
        let mut run = FrameRun::default();
        for (i, &len) in lengths.iter().enumerate() {
            run.push(len, |out| out.resize(out.len() + len, i as u8));
        }
        run
    }

    #[test]
    fn the_end_of_a_frame_is_found_from_every_byte_of_it() {
        let mut joined = run(&[3, 1]);
        joined.append(&run(&[4]));
        assert_eq!(joined.bytes(), [0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(joined.count(), 3);
        let ends: Vec<_> = (0..=8).map(|offset| joined.frame_end(offset)).collect();
        assert_eq!(ends, [0, 3, 3, 3, 4, 8, 8, 8, 8]);
    }

    #[test]
    fn a_run_holds_little_more_than_its_frames() {
        let mut run = run(&[300; 20]);
        run.shrink();
        assert!(run.bytes.capacity() <= run.bytes.len() * 5 / 4);
        assert!(run.has_room(FrameRun::LIMIT - 6_000) && !run.has_room(FrameRun::LIMIT - 5_999));
    }
}
