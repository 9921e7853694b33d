//! How bytes and hashes look in serialized form: lower-case hexadecimal, hashes in display order.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::parse_hex;

struct Digits<'a>(&'a [u8]);

impl fmt::Display for Digits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Digits<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn parse<E: serde::de::Error>(text: &str) -> Result<Vec<u8>, E> {
    let mut bytes = vec![0; text.len() / 2];
    parse_hex(text, &mut bytes).map_err(E::custom)?;
    Ok(bytes)
}

/// For fields that are bytes.
pub(super) mod bytes {
    use super::*;

    pub(in crate::message) fn serialize<S: Serializer>(
        bytes: impl AsRef<[u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Digits(bytes.as_ref()).serialize(serializer)
    }

    pub(in crate::message) fn deserialize<'de, T: From<Vec<u8>>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        parse(&String::deserialize(deserializer)?).map(T::from)
    }
}

/// For fields that may be absent.
pub(super) mod optional_bytes {
    use super::*;

    pub(in crate::message) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(Digits).serialize(serializer)
    }

    pub(in crate::message) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| parse(&text)).transpose()
    }
}

/// For hashes whose kind another field tells.
pub(super) mod hash {
    use super::*;

    pub(in crate::message) fn serialize<S: Serializer>(hash: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        let mut display = *hash;
        display.reverse();
        Digits(&display).serialize(serializer)
    }

    pub(in crate::message) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let mut hash = [0; 32];
        parse_hex(&String::deserialize(deserializer)?, &mut hash).map_err(D::Error::custom)?;
        hash.reverse();
        Ok(hash)
    }
}

/// For such hashes that may be absent.
pub(super) mod optional_hash {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Hash(#[serde(with = "super::hash")] [u8; 32]);

    pub(in crate::message) fn serialize<S: Serializer>(
        hash: &Option<[u8; 32]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        hash.map(Hash).serialize(serializer)
    }

    pub(in crate::message) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        Ok(Option::<Hash>::deserialize(deserializer)?.map(|Hash(hash)| hash))
    }
}
