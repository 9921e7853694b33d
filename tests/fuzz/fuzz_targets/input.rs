//! What the targets share: how the fuzzer's bytes are read as numbers, and cut into pieces.

/// Reads numbers off the front of the fuzzer's bytes; zero where there are no more.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl<'a> Numbers<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub(crate) fn u16(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// The next `n` bytes, or what is left.
    pub(crate) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Cuts bytes into pieces whose lengths are told by `lens`, over and over; whole if it tells none.
pub(crate) fn pieces<'a>(bytes: &'a [u8], lens: &[u8]) -> Vec<&'a [u8]> {
    let mut lens = lens.iter().map(|len| 1 + usize::from(*len)).cycle();
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(lens.next().unwrap_or(rest.len()).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
