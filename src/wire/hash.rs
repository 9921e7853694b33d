//! Double SHA-256 and the three kinds of hash made with it, kept in wire order and displayed reversed.
//!
//! Layer 1. Section 6.2 of the wire specification.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::ParseHashError;

/// SHA-256 applied twice, in the order the digest is computed (wire order).
#[must_use]
pub fn sha256d(data: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(data)).into()
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 32]);

        impl $name {
            /// All 32 bytes zero: "none" where the protocol needs a hash.
            pub const ZERO: Self = Self([0; 32]);

            /// Takes the 32 bytes in wire order.
            #[must_use]
            pub const fn from_wire(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Reads display hex, for constants: a mistake does not compile. Other text is parsed by [`FromStr`].
            ///
            /// # Panics
            ///
            /// Called at run time, if `hex` is not 64 lower-case hexadecimal digits.
            #[must_use]
            pub const fn from_display(hex: &'static str) -> Self {
                Self(const_hash(hex.as_bytes()))
            }

            /// The 32 bytes in wire order, the reverse of what is displayed.
            #[must_use]
            pub const fn as_wire(&self) -> &[u8; 32] {
                &self.0
            }
        }

        /// Writes the 64 hexadecimal digits in display order.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0_u8; 64];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.iter().rev()) {
                    pair[0] = HEX_DIGITS[usize::from(byte >> 4)];
                    pair[1] = HEX_DIGITS[usize::from(byte & 15)];
                }
                f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        /// Reads 64 hexadecimal digits in display order.
        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, ParseHashError> {
                let mut bytes = [0; 32];
                parse_hex(text, &mut bytes)?;
                bytes.reverse();
                Ok(Self(bytes))
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_type! {
    /// Identifies a transaction: double SHA-256 of its serialization.
    Txid
}
hash_type! {
    /// Identifies a block: double SHA-256 of its 80-byte header.
    BlockHash
}
hash_type! {
    /// Commits a block header to its list of transactions.
    MerkleRoot
}

/// Fills `bytes` from twice as many hexadecimal digits, in the order written.
pub(crate) fn parse_hex(text: &str, bytes: &mut [u8]) -> Result<(), ParseHashError> {
    let digits = text.as_bytes();
    if digits.len() != bytes.len() * 2 {
        return Err(ParseHashError::Length { got: digits.len(), expected: bytes.len() * 2 });
    }
    for (i, (byte, pair)) in bytes.iter_mut().zip(digits.chunks_exact(2)).enumerate() {
        let digit =
            |k: usize| char::from(pair[k]).to_digit(16).ok_or(ParseHashError::Digit { position: i * 2 + k });
        // Two digits below 16 always fit a byte.
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Ok(())
}

/// Reads display hex into wire order while compiling; what is wrong fails the build.
const fn const_hash(hex: &[u8]) -> [u8; 32] {
    const fn digit(c: u8) -> u8 {
        match c {
            b'0'..=b'9' => c - b'0',
            b'a'..=b'f' => c - b'a' + 10,
            _ => panic!("not a lower-case hexadecimal digit"),
        }
    }
    assert!(hex.len() == 64, "a hash has 64 digits");
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[31 - i] = digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]);
        i += 1;
    }
    bytes
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";

    #[test]
    fn display_and_parse_are_reversed_hex() {
        let hash: BlockHash = GENESIS.parse().unwrap();
        assert_eq!(hash.as_wire()[0], 0x6f);
        assert_eq!(hash.as_wire()[31], 0);
        assert_eq!(hash.to_string(), GENESIS);
        assert_eq!(format!("{hash:?}"), format!("BlockHash({GENESIS})"));
        assert_eq!(GENESIS.to_uppercase().parse(), Ok(hash));
    }

    #[test]
    fn bad_text_is_refused_with_its_place() {
        assert_eq!("00".parse::<Txid>(), Err(ParseHashError::Length { got: 2, expected: 64 }));
        let bad = GENESIS.replace("19d6", "19g6");
        assert_eq!(bad.parse::<Txid>(), Err(ParseHashError::Digit { position: 12 }));
    }

    #[test]
    fn sha256d_of_nothing_starts_with_the_empty_checksum() {
        assert_eq!(sha256d(&[])[..4], [0x5d, 0xf6, 0xe0, 0xe2]);
    }
}
