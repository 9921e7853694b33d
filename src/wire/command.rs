//! The command field of a frame's header: up to twelve printable characters, padded with zeros.
//!
//! Layer 1. Section 1.1 of the wire specification (the node's `src/protocol.cpp`).

use std::fmt;

/// Names the kind of a message on the wire.
///
/// Twelve bytes: printable ASCII (0x20..=0x7e), then zeros to the end. All zeros is legal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command([u8; 12]);

impl Command {
    /// Makes a command from its name; `None` if it is over twelve characters or not printable ASCII.
    #[must_use]
    pub const fn new(name: &str) -> Option<Self> {
        let name = name.as_bytes();
        if name.len() > 12 {
            return None;
        }
        let mut bytes = [0; 12];
        let mut i = 0;
        while i < name.len() {
            bytes[i] = name[i];
            i += 1;
        }
        // A zero inside the name is caught here too: it would only shorten the command.
        match Self::from_wire(bytes) {
            Some(command) if command.len() == name.len() => Some(command),
            _ => None,
        }
    }

    /// Takes the header's twelve bytes; `None` if they break the field's rules.
    #[must_use]
    pub const fn from_wire(bytes: [u8; 12]) -> Option<Self> {
        let mut ended = false;
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                0 => ended = true,
                0x20..=0x7e if !ended => {}
                _ => return None,
            }
            i += 1;
        }
        Some(Self(bytes))
    }

    /// The twelve bytes as they stand in a header.
    #[must_use]
    pub const fn as_wire(&self) -> &[u8; 12] {
        &self.0
    }

    /// The name without its padding.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only printable ASCII gets in, so this is always text.
        std::str::from_utf8(&self.0[..self.len()]).unwrap_or_default()
    }

    /// The place of a command of SV Node's among [`KNOWN`](Self::KNOWN); `None` of any other.
    pub(crate) fn index(&self) -> Option<usize> {
        index_of(self.key())
    }

    /// The twelve bytes as one number.
    const fn key(&self) -> u128 {
        let mut key = 0;
        let mut i = 0;
        while i < self.0.len() {
            key = key << 8 | self.0[i] as u128;
            i += 1;
        }
        key
    }

    const fn len(&self) -> usize {
        let mut n = 0;
        while n < self.0.len() && self.0[n] != 0 {
            n += 1;
        }
        n
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({:?})", self.as_str())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Command {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Command {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&name).ok_or_else(|| serde::de::Error::custom("not a command of at most 12 printable characters"))
    }
}

macro_rules! commands {
    ($($name:ident = $text:literal;)*) => {
        /// The commands that SV Node defines (section 2 of the wire specification).
        impl Command {
            $(
                #[doc = concat!("The command `", $text, "`.")]
                pub const $name: Self = match Self::new($text) {
                    Some(command) => command,
                    None => panic!("command names are checked when compiled"),
                };
            )*

            /// All of them.
            pub(crate) const KNOWN: &'static [Self] = &[$(Self::$name),*];
        }

        mod keys {
            $(pub(super) const $name: u128 = super::Command::$name.key();)*
        }

        #[allow(clippy::upper_case_acronyms, reason = "named as the commands are")]
        enum Index {
            $($name),*
        }

        // Numbers are compared in a few steps, where names would be one by one.
        const fn index_of(key: u128) -> Option<usize> {
            match key {
                $(keys::$name => Some(Index::$name as usize),)*
                _ => None,
            }
        }
    };
}

commands! {
    VERSION = "version";
    VERACK = "verack";
    ADDR = "addr";
    INV = "inv";
    GETDATA = "getdata";
    MERKLEBLOCK = "merkleblock";
    GETBLOCKS = "getblocks";
    GETHEADERS = "getheaders";
    GETHDRSEN = "gethdrsen";
    TX = "tx";
    HEADERS = "headers";
    HDRSEN = "hdrsen";
    BLOCK = "block";
    GETADDR = "getaddr";
    MEMPOOL = "mempool";
    PING = "ping";
    PONG = "pong";
    NOTFOUND = "notfound";
    FILTERLOAD = "filterload";
    FILTERADD = "filteradd";
    FILTERCLEAR = "filterclear";
    REJECT = "reject";
    SENDHEADERS = "sendheaders";
    SENDHDRSEN = "sendhdrsen";
    FEEFILTER = "feefilter";
    SENDCMPCT = "sendcmpct";
    CMPCTBLOCK = "cmpctblock";
    GETBLOCKTXN = "getblocktxn";
    BLOCKTXN = "blocktxn";
    PROTOCONF = "protoconf";
    CREATESTRM = "createstrm";
    STREAMACK = "streamack";
    DSDETECTED = "dsdetected";
    EXTMSG = "extmsg";
    REVOKEMID = "revokemid";
    AUTHCH = "authch";
    AUTHRESP = "authresp";
    DATAREFTX = "datareftx";
    ALERT = "alert";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_read_back() {
        assert_eq!(Command::PING.as_wire(), b"ping\0\0\0\0\0\0\0\0");
        assert_eq!(Command::from_wire(*b"ping\0\0\0\0\0\0\0\0"), Some(Command::PING));
        assert_eq!(Command::PING.to_string(), "ping");
        assert_eq!(Command::new("twelve chars").map(|c| c.to_string()).as_deref(), Some("twelve chars"));
        assert_eq!(Command::from_wire([0; 12]).map(|c| c.to_string()).as_deref(), Some(""));
    }

    #[test]
    fn every_known_command_has_its_index() {
        for (index, command) in Command::KNOWN.iter().enumerate() {
            assert_eq!(command.index(), Some(index), "{command}");
        }
        for other in ["", "txs", "twelve chars"] {
            assert_eq!(Command::new(other).expect("a legal name").index(), None);
        }
    }

    #[test]
    fn broken_fields_are_refused() {
        assert_eq!(Command::from_wire(*b"ping\0\0B\0\0\0\0\0"), None);
        assert_eq!(Command::from_wire(*b"pi\x1fg\0\0\0\0\0\0\0\0"), None);
        assert_eq!(Command::from_wire(*b"pi\x7fg\0\0\0\0\0\0\0\0"), None);
        assert_eq!(Command::new("thirteen char"), None);
        assert_eq!(Command::new("a\0b"), None);
        assert_eq!(Command::new("\u{e9}"), None);
    }
}
