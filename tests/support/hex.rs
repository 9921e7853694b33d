//! Hex as the node's RPC speaks it: lower case, no separators.

use std::fmt::Write;

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    text
}

/// Panics on anything but pairs of hex digits.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of hex digits");
    pairs.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

fn digit(ascii: u8) -> u8 {
    let value = char::from(ascii).to_digit(16);
    value.expect("a hex digit") as u8
}
