//! Cuts frames out of a byte stream that arrives in pieces of any size.
//!
//! Layer 1. Sections 1.1 to 1.4 of the wire specification.

use super::{Command, FrameError, FrameHeader};

/// Push decoder of a peer's byte stream: right at every split, and no payload byte is stored or touched here.
///
/// A frame whose payload lies in the input as a whole comes as one [`FramePart::Whole`]; any other as
/// [`FramePart::Start`], chunks, [`FramePart::End`]. Checksums are left to whoever takes the payload.
#[derive(Debug)]
pub struct FrameDecoder {
    magic: [u8; 4],
    limits: PayloadLimits,
    /// The bytes of a header that has not fully arrived.
    partial: [u8; FrameHeader::EXTENDED_LEN],
    partial_len: usize,
    /// Payload bytes still to come of the frame that was started.
    remaining: Option<u64>,
}

/// What the decoder found next.
#[derive(Debug, PartialEq, Eq)]
pub enum FramePart<'a> {
    /// A header with its whole payload.
    Whole(FrameHeader, &'a [u8]),
    /// A header whose payload follows in chunks; its length is within the limit for its command.
    Start(FrameHeader),
    /// The next bytes of the payload, never empty.
    Chunk(&'a [u8]),
    /// The payload is complete.
    End,
}

impl FrameDecoder {
    /// Starts before the first header of a stream.
    #[must_use]
    pub const fn new(magic: [u8; 4], limits: PayloadLimits) -> Self {
        Self { magic, limits, partial: [0; FrameHeader::EXTENDED_LEN], partial_len: 0, remaining: None }
    }

    /// Takes the next part from the front of `input` and moves `input` past it; `Ok(None)` when it is used up.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongMagic`], [`FrameError::BadCommand`], [`FrameError::PayloadTooLarge`], each as soon as the
    /// header is complete. The stream is lost then.
    pub fn push<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<FramePart<'a>>, FrameError> {
        if let Some(remaining) = self.remaining {
            return Ok(self.payload(remaining, input));
        }
        let Some(header) = self.header(input)? else {
            return Ok(None);
        };
        let limit = self.limits.of(header.command);
        if header.length > limit {
            return Err(FrameError::PayloadTooLarge { command: header.command, length: header.length, limit });
        }
        let whole = usize::try_from(header.length).ok().and_then(|length| input.split_at_checked(length));
        if let Some((payload, rest)) = whole {
            *input = rest;
            return Ok(Some(FramePart::Whole(header, payload)));
        }
        self.remaining = Some(header.length);
        Ok(Some(FramePart::Start(header)))
    }

    /// Whether the stream stands between two frames.
    #[must_use]
    pub const fn is_at_boundary(&self) -> bool {
        self.partial_len == 0 && self.remaining.is_none()
    }

    fn header(&mut self, input: &mut &[u8]) -> Result<Option<FrameHeader>, FrameError> {
        if self.partial_len == 0
            && let Some(header) = FrameHeader::decode(input, self.magic)?
        {
            *input = &input[header.encoded_len()..];
            return Ok(Some(header));
        }
        // The header is split over inputs: its bytes are gathered, first 24, then 44 if it is extended.
        for goal in [FrameHeader::BASIC_LEN, FrameHeader::EXTENDED_LEN] {
            let missing = goal.saturating_sub(self.partial_len).min(input.len());
            let (bytes, rest) = input.split_at(missing);
            self.partial[self.partial_len..self.partial_len + missing].copy_from_slice(bytes);
            self.partial_len += missing;
            *input = rest;
            if let Some(header) = FrameHeader::decode(&self.partial[..self.partial_len], self.magic)? {
                self.partial_len = 0;
                return Ok(Some(header));
            }
            if self.partial_len < goal {
                break;
            }
        }
        Ok(None)
    }

    fn payload<'a>(&mut self, remaining: u64, input: &mut &'a [u8]) -> Option<FramePart<'a>> {
        if remaining == 0 {
            self.remaining = None;
            return Some(FramePart::End);
        }
        let n = usize::try_from(remaining).unwrap_or(usize::MAX).min(input.len());
        if n == 0 {
            return None;
        }
        let (chunk, rest) = input.split_at(n);
        *input = rest;
        self.remaining = Some(remaining - n as u64);
        Some(FramePart::Chunk(chunk))
    }
}

/// The largest payload accepted for each command, in bytes, checked before a payload byte is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadLimits {
    /// For every command without a limit of its own: what our `protoconf` announces.
    pub general: u64,
    /// For `block`, `cmpctblock`, `blocktxn`, `hdrsen` and `merkleblock`.
    pub block: u64,
}

impl PayloadLimits {
    /// The limit for one command, as the node's `NetMsgType::GetMaxMessageLength` has it.
    ///
    /// The messages of the handshake and the keepalive are hashed in the event loop, so those are held shorter.
    #[must_use]
    pub fn of(&self, command: Command) -> u64 {
        match command {
            // A node takes no `merkleblock`; one it sends grows with the block.
            Command::BLOCK | Command::CMPCTBLOCK | Command::BLOCKTXN | Command::HDRSEN | Command::MERKLEBLOCK => {
                self.block
            }
            Command::TX | Command::DATAREFTX => MAX_TX_PAYLOAD,
            Command::PROTOCONF => MAX_PROTOCONF_PAYLOAD,
            Command::VERSION | Command::VERACK | Command::PING | Command::PONG => {
                MAX_CONTROL_PAYLOAD.min(self.general)
            }
            _ => self.general,
        }
    }
}

/// Consensus limit of a transaction (section 1.4 of the wire specification).
const MAX_TX_PAYLOAD: u64 = 1_000_000_000;
/// `MAX_PROTOCONF_PAYLOAD_SIZE` of the node.
const MAX_PROTOCONF_PAYLOAD: u64 = 1_048_576;
/// Ours: the longest valid `version` has some 500 bytes.
const MAX_CONTROL_PAYLOAD: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    const MAGIC: [u8; 4] = [0xda, 0xb5, 0xbf, 0xfa];
    const LIMITS: PayloadLimits = PayloadLimits { general: 2_097_152, block: u64::MAX };

    fn frame(command: Command, payload: &[u8]) -> Frame {
        Frame::encode(MAGIC, command, |out| out.extend_from_slice(payload))
    }

    /// Feeds `stream` in pieces of `size` bytes and puts the frames together again.
    fn collect(stream: &[u8], size: usize) -> Vec<(Command, Vec<u8>)> {
        let mut decoder = FrameDecoder::new(MAGIC, LIMITS);
        let mut frames: Vec<(Command, Vec<u8>)> = Vec::new();
        let mut ended = 0;
        for mut input in stream.chunks(size) {
            while let Some(part) = decoder.push(&mut input).expect("valid stream") {
                match part {
                    FramePart::Whole(header, payload) => {
                        frames.push((header.command, payload.to_vec()));
                        ended += 1;
                    }
                    FramePart::Start(header) => frames.push((header.command, Vec::new())),
                    FramePart::Chunk(chunk) => {
                        assert!(!chunk.is_empty());
                        frames.last_mut().expect("a chunk follows a start").1.extend_from_slice(chunk);
                    }
                    FramePart::End => ended += 1,
                }
            }
            assert!(input.is_empty(), "bytes left over at chunk size {size}");
        }
        assert!(decoder.is_at_boundary());
        assert_eq!(ended, frames.len());
        frames
    }

    #[test]
    fn frames_are_the_same_at_every_split() {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (command, payload) in [
            (Command::PING, vec![1; 8]),
            (Command::VERACK, vec![]),
            (Command::TX, (0..=255).collect()),
            (Command::PING, vec![2; 8]),
        ] {
            stream.extend_from_slice(&frame(command, &payload));
            expected.push((command, payload));
        }
        // A small extended frame in between, as the node's own unit test has it.
        FrameHeader { magic: MAGIC, command: Command::PING, length: 8, checksum: None }.encode(&mut stream);
        stream.extend_from_slice(&[3; 8]);
        expected.push((Command::PING, vec![3; 8]));
        stream.extend_from_slice(&frame(Command::VERACK, &[]));
        expected.push((Command::VERACK, vec![]));
        for size in 1..=stream.len() {
            assert_eq!(collect(&stream, size), expected, "chunk size {size}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_the_header() {
        let mut decoder = FrameDecoder::new(MAGIC, LIMITS);
        let mut bytes = Vec::new();
        FrameHeader::new(MAGIC, Command::INV, 2_097_153, [0; 4]).encode(&mut bytes);
        for byte in &bytes[..23] {
            assert_eq!(decoder.push(&mut std::slice::from_ref(byte)), Ok(None));
        }
        assert_eq!(
            decoder.push(&mut &bytes[23..]),
            Err(FrameError::PayloadTooLarge { command: Command::INV, length: 2_097_153, limit: 2_097_152 })
        );
    }

    #[test]
    fn a_block_above_four_gigabytes_is_started() {
        let mut decoder = FrameDecoder::new(MAGIC, LIMITS);
        let header = FrameHeader::new(MAGIC, Command::BLOCK, (1 << 32) + 1, [0; 4]);
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(decoder.push(&mut &bytes[..]), Ok(Some(FramePart::Start(header))));
        let chunk = vec![0; 1 << 20];
        for _ in 0..4096 {
            assert!(matches!(decoder.push(&mut &chunk[..]), Ok(Some(FramePart::Chunk(c))) if c.len() == 1 << 20));
        }
        let mut input = &chunk[..];
        assert!(matches!(decoder.push(&mut input), Ok(Some(FramePart::Chunk(c))) if c.len() == 1));
        assert_eq!(decoder.push(&mut input), Ok(Some(FramePart::End)));
        assert_eq!(input.len(), (1 << 20) - 1);
    }
}
