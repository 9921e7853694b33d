//! `alert`: a signed notice of old; nodes send one last to peers of old versions, and nothing listens to it.
//!
//! Section 2.38 of the wire specification (the "final alert" in the node's `src/net/net_processing.cpp`).

use super::Text;
use crate::wire::{DecodeError, Reader, write_bytes};

/// The payload of `alert`. Its signature is not checked.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | payload | 1 + n | byte string; [`details`](Self::details) reads it |
/// | signature | 1 + n | byte string |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Alert {
    /// What is signed.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub payload: Vec<u8>,
    /// In DER, by a key that is long public.
    #[cfg_attr(feature = "serde", serde(with = "super::hex::bytes"))]
    pub signature: Vec<u8>,
}

impl Alert {
    /// Reads what the notice says.
    ///
    /// # Errors
    ///
    /// What is wrong with its bytes; the message itself is whole all the same.
    pub fn details(&self) -> Result<AlertDetails, DecodeError> {
        AlertDetails::read(&mut Reader::new(&self.payload))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { payload: reader.bytes()?.to_vec(), signature: reader.bytes()?.to_vec() })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.payload);
        write_bytes(out, &self.signature);
    }
}

/// What an `alert` says.
///
/// | field | bytes | encoding |
/// |---|---|---|
/// | version | 4 | little-endian |
/// | relay until, expiration | 8 each | Unix seconds, little-endian |
/// | id, cancel | 4 each | little-endian |
/// | cancelled | 4 each | compact size, then the ids |
/// | minimum and maximum version | 4 each | little-endian |
/// | user agents | 1 + n each | compact size, then byte strings |
/// | priority | 4 | little-endian |
/// | comment, status bar, reserved | 1 + n each | byte strings |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AlertDetails {
    /// The version of the notice.
    pub version: i32,
    /// When to stop passing it on, in Unix seconds.
    pub relay_until: i64,
    /// When it ends, in Unix seconds.
    pub expiration: i64,
    /// Its number.
    pub id: i32,
    /// All notices up to this number end.
    pub cancel: i32,
    /// These notices end too.
    pub cancelled: Vec<i32>,
    /// The lowest protocol version it is for.
    pub min_version: i32,
    /// The highest.
    pub max_version: i32,
    /// The user agents it is for; all if empty.
    pub user_agents: Vec<Text>,
    /// More urgent is higher.
    pub priority: i32,
    /// For nobody's eyes.
    pub comment: Text,
    /// What users should read.
    pub status_bar: Text,
    /// Not used.
    pub reserved: Text,
}

impl AlertDetails {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: reader.i32()?,
            relay_until: reader.i64()?,
            expiration: reader.i64()?,
            id: reader.i32()?,
            cancel: reader.i32()?,
            cancelled: {
                let count = reader.count(4)?;
                reader.items(count, Reader::i32)?
            },
            min_version: reader.i32()?,
            max_version: reader.i32()?,
            user_agents: {
                // Each takes many times its least size in memory, so the list grows as they come.
                let mut agents = Vec::new();
                for _ in 0..reader.count(1)? {
                    agents.push(text(reader)?);
                }
                agents
            },
            priority: reader.i32()?,
            comment: text(reader)?,
            status_bar: text(reader)?,
            reserved: text(reader)?,
        })
    }
}

fn text(reader: &mut Reader<'_>) -> Result<Text, DecodeError> {
    Ok(Text::from_bytes(reader.bytes()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_that_cannot_be_read_is_a_message_all_the_same() {
        let alert = Alert::read(&mut Reader::new(&[3, 1, 2, 3, 1, 9])).unwrap();
        assert_eq!((&alert.payload[..], &alert.signature[..]), (&[1, 2, 3][..], &[9][..]));
        assert_eq!(alert.details(), Err(DecodeError::UnexpectedEnd));
    }
}
