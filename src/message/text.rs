//! Text that a peer chose: lossless in bytes, easy to read as a string.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// Text from the network, which should be UTF-8 but need not be.
///
/// Reads as a `str` in which broken UTF-8 is replaced by U+FFFD, and encodes to the bytes it came as. `Display`
/// escapes control characters, so that a peer cannot forge lines of a log.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Text {
    text: String,
    /// The bytes where they are not UTF-8, else `None`.
    raw: Option<Vec<u8>>,
}

impl Text {
    /// Takes bytes as they are.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match String::from_utf8_lossy(bytes) {
            Cow::Borrowed(text) => Self { text: text.to_owned(), raw: None },
            Cow::Owned(text) => Self { text, raw: Some(bytes.to_vec()) },
        }
    }

    /// The text, broken UTF-8 replaced.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.text.as_bytes())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), raw: None }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, raw: None }
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.text.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.raw {
            None => fmt::Debug::fmt(&self.text, f),
            Some(raw) => write!(f, "b\"{}\"", raw.escape_ascii()),
        }
    }
}

/// A plain string where the bytes are UTF-8, else `{"hex": "..."}`.
#[cfg(feature = "serde")]
mod serialized {
    use super::Text;
    use crate::message::hex;

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Raw {
            #[serde(with = "hex::bytes")]
            hex: Vec<u8>,
        },
    }

    impl serde::Serialize for Text {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match &self.raw {
                None => serializer.serialize_str(&self.text),
                Some(raw) => Form::Raw { hex: raw.clone() }.serialize(serializer),
            }
        }
    }

    impl<'de> serde::Deserialize<'de> for Text {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(match Form::deserialize(deserializer)? {
                Form::Text(text) => text.into(),
                Form::Raw { hex } => Self::from_bytes(&hex),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_utf8_keeps_its_bytes_and_reads_replaced() {
        let text = Text::from_bytes(b"/a\xff\n/");
        assert_eq!(text.as_bytes(), b"/a\xff\n/");
        assert_eq!(text.as_str(), "/a\u{fffd}\n/");
        assert_eq!(text.to_string(), "/a\u{fffd}\\n/");
        assert_ne!(text, "/a\u{fffd}\n/");
        assert_eq!(Text::from_bytes(b"/ok/"), "/ok/");
    }
}
