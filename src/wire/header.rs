//! The two headers of a frame, 24 bytes and 44 bytes (`extmsg`), and the checksum.
//!
//! Layer 1. Sections 1.1 and 1.2 of the wire specification (the node's `src/protocol.cpp`).

use byteorder::{ByteOrder, LittleEndian};

use super::{Command, FrameError, sha256d};

/// A frame's header.
///
/// Basic, for payloads up to 0xffffffff bytes:
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | magic | 4 | as the network defines it |
/// | command | 12 | ASCII, padded with zeros |
/// | length | 4 | little-endian |
/// | checksum | 4 | first bytes of the payload's double SHA-256 |
///
/// Extended, since protocol version 70016: the command is `extmsg`, length is all ones, checksum zero; then follow
/// the real command (12 bytes) and a 64-bit little-endian length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FrameHeader {
    /// The network's four bytes.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::array"))]
    pub magic: [u8; 4],
    /// The real command, also in an extended header.
    pub command: Command,
    /// Bytes of payload that follow.
    pub length: u64,
    /// `None` in an extended header: nothing protects the payload there.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::optional_array"))]
    pub checksum: Option<[u8; 4]>,
}

impl FrameHeader {
    /// Bytes of a basic header.
    pub const BASIC_LEN: usize = 24;
    /// Bytes of an extended header.
    pub const EXTENDED_LEN: usize = 44;

    /// The header for a payload of `length` bytes: basic where its length fits, extended above.
    #[must_use]
    pub fn new(magic: [u8; 4], command: Command, length: u64, checksum: [u8; 4]) -> Self {
        let checksum = (length <= u64::from(u32::MAX)).then_some(checksum);
        Self { magic, command, length, checksum }
    }

    /// The encoded basic header of a payload whose double SHA-256 is known.
    pub(crate) fn basic(magic: [u8; 4], command: Command, length: u32, digest: &[u8; 32]) -> [u8; Self::BASIC_LEN] {
        let mut header = [0; Self::BASIC_LEN];
        header[..4].copy_from_slice(&magic);
        header[4..16].copy_from_slice(command.as_wire());
        header[16..20].copy_from_slice(&length.to_le_bytes());
        header[20..].copy_from_slice(&digest[..4]);
        header
    }

    /// Whether the header has the 44-byte form.
    #[must_use]
    pub const fn is_extended(&self) -> bool {
        self.checksum.is_none()
    }

    /// Bytes this header takes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        if self.is_extended() { Self::EXTENDED_LEN } else { Self::BASIC_LEN }
    }

    /// Appends the header in its form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.magic);
        if let Some(checksum) = self.checksum {
            out.extend_from_slice(self.command.as_wire());
            // Basic headers are only made for lengths of 32 bits.
            out.extend_from_slice(&(self.length as u32).to_le_bytes());
            out.extend_from_slice(&checksum);
        } else {
            out.extend_from_slice(Command::EXTMSG.as_wire());
            out.extend_from_slice(&u32::MAX.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(self.command.as_wire());
            out.extend_from_slice(&self.length.to_le_bytes());
        }
    }

    /// Reads a header from the start of `bytes`; `Ok(None)` if more bytes are needed.
    ///
    /// The filler fields of an extended header are not looked at, as the node does not either.
    ///
    /// # Errors
    ///
    /// [`FrameError::WrongMagic`], [`FrameError::BadCommand`].
    pub fn decode(bytes: &[u8], magic: [u8; 4]) -> Result<Option<Self>, FrameError> {
        let Some(basic) = bytes.first_chunk::<{ Self::BASIC_LEN }>() else {
            return Ok(None);
        };
        if basic[..4] != magic {
            return Err(FrameError::WrongMagic { got: [basic[0], basic[1], basic[2], basic[3]] });
        }
        let command = read_command(&basic[4..16])?;
        if command != Command::EXTMSG {
            return Ok(Some(Self {
                magic,
                command,
                length: u64::from(LittleEndian::read_u32(&basic[16..20])),
                checksum: Some([basic[20], basic[21], basic[22], basic[23]]),
            }));
        }
        let Some(extended) = bytes.first_chunk::<{ Self::EXTENDED_LEN }>() else {
            return Ok(None);
        };
        Ok(Some(Self {
            magic,
            command: read_command(&extended[24..36])?,
            length: LittleEndian::read_u64(&extended[36..44]),
            checksum: None,
        }))
    }
}

/// The first four bytes of the payload's double SHA-256.
#[must_use]
pub fn checksum(payload: &[u8]) -> [u8; 4] {
    let digest = sha256d(payload);
    [digest[0], digest[1], digest[2], digest[3]]
}

/// Takes the twelve bytes of a command field.
fn read_command(field: &[u8]) -> Result<Command, FrameError> {
    let mut got = [0; 12];
    got.copy_from_slice(field);
    Command::from_wire(got).ok_or(FrameError::BadCommand { got })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = [0xe3, 0xe1, 0xf3, 0xe8];

    #[test]
    fn the_form_follows_the_length() {
        for (length, encoded_len) in [(0, 24), (0xffff_ffff, 24), (0x1_0000_0000, 44), (u64::MAX, 44)] {
            let header = FrameHeader::new(MAGIC, Command::BLOCK, length, [1, 2, 3, 4]);
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            assert_eq!(bytes.len(), encoded_len);
            assert_eq!(header.encoded_len(), encoded_len);
            for cut in 0..bytes.len() {
                assert_eq!(FrameHeader::decode(&bytes[..cut], MAGIC), Ok(None));
            }
            assert_eq!(FrameHeader::decode(&bytes, MAGIC), Ok(Some(header)));
        }
    }

    #[test]
    fn only_the_exact_command_is_extended() {
        let longer = Command::new("extmsgfoo").unwrap();
        let header = FrameHeader::new(MAGIC, longer, 7, [0; 4]);
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(FrameHeader::decode(&bytes, MAGIC), Ok(Some(header)));
    }
}
