//! The little of scripts that a bloom filter looks at: the data they push, and the two forms it updates for.
//!
//! Section 6.6 of the wire specification (the node's `src/script/script.h`, `src/script/standard.cpp`).

/// Iterates over the operations of a script: each opcode with the data it pushes. Ends where the script is cut short.
#[derive(Clone)]
pub(super) struct Operations<'a> {
    rest: &'a [u8],
}

impl<'a> Operations<'a> {
    pub(super) const fn new(script: &'a [u8]) -> Self {
        Self { rest: script }
    }

    /// The data pushed that is not empty.
    pub(super) fn pushed(self) -> impl Iterator<Item = &'a [u8]> {
        self.map(|(_, data)| data).filter(|data| !data.is_empty())
    }
}

impl<'a> Iterator for Operations<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (opcode, rest) = self.rest.split_first()?;
        let length_bytes = match *opcode {
            PUSHDATA1 => 1,
            PUSHDATA2 => 2,
            PUSHDATA4 => 4,
            _ => 0,
        };
        let (length, rest) = rest.split_at_checked(length_bytes)?;
        let length = match *opcode {
            direct @ 0..PUSHDATA1 => usize::from(direct),
            _ => length.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        };
        let (data, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((*opcode, data))
    }
}

/// Whether a script pays to a public key or to a bare multisignature, the forms that spend without naming what matched.
pub(super) fn is_public_key_or_multisig(script: &[u8]) -> bool {
    let mut operations = Operations::new(script);
    let Some((first, data)) = operations.next() else { return false };
    if is_public_key(data) {
        return operations.next().is_some_and(|(opcode, _)| opcode == CHECKSIG) && operations.rest.is_empty();
    }
    let Some(required) = small_number(first) else { return false };
    let mut keys = 0;
    for (opcode, data) in operations.by_ref() {
        if is_public_key(data) {
            keys += 1;
            continue;
        }
        let is_count = small_number(opcode) == Some(keys) && (1..=keys).contains(&required);
        return is_count
            && operations.next().is_some_and(|(opcode, _)| opcode == CHECKMULTISIG)
            && operations.rest.is_empty();
    }
    false
}

/// By its length and first byte, as nodes tell.
fn is_public_key(data: &[u8]) -> bool {
    match data.first() {
        Some(2 | 3) => data.len() == 33,
        Some(4 | 6 | 7) => data.len() == 65,
        _ => false,
    }
}

/// The number of `OP_1` to `OP_16`.
fn small_number(opcode: u8) -> Option<usize> {
    (OP_1..=OP_16).contains(&opcode).then(|| usize::from(opcode - OP_1) + 1)
}

const PUSHDATA1: u8 = 0x4c;
const PUSHDATA2: u8 = 0x4d;
const PUSHDATA4: u8 = 0x4e;
const OP_1: u8 = 0x51;
const OP_16: u8 = 0x60;
const CHECKSIG: u8 = 0xac;
const CHECKMULTISIG: u8 = 0xae;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_of_every_form_are_found_until_the_script_is_cut_short() {
        let pushed = |script: &[u8]| Operations::new(script).pushed().map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(pushed(&[2, 7, 8, 0x76, 0, 0x4c, 1, 9]), [vec![7, 8], vec![9]]);
        assert_eq!(pushed(&[0x4d, 2, 0, 5, 6, 0x4e, 1, 0, 0, 0, 4]), [vec![5, 6], vec![4]]);
        assert_eq!(pushed(&[1, 7, 3, 1, 2]), [vec![7]]);
        for cut in [&[0x4c][..], &[0x4d, 1], &[0x4e, 1, 0, 0], &[0x4e, 0xff, 0xff, 0xff, 0xff, 1]] {
            assert!(pushed(cut).is_empty(), "{cut:?}");
        }
    }

    #[test]
    fn only_public_keys_and_bare_multisignatures_are_told_apart() {
        let key = [&[33, 2][..], &[9; 32]].concat();
        let long = [&[65, 4][..], &[9; 64]].concat();
        let script = |parts: &[&[u8]]| is_public_key_or_multisig(&parts.concat());
        assert!(script(&[&key, &[CHECKSIG]]));
        assert!(script(&[&long, &[CHECKSIG]]));
        assert!(script(&[&[OP_1], &key, &long, &[OP_1 + 1, CHECKMULTISIG]]));
        assert!(!script(&[&key]));
        assert!(!script(&[&key, &[CHECKSIG, CHECKSIG]]));
        assert!(!script(&[&[33, 5], &[9; 32], &[CHECKSIG]]));
        assert!(!script(&[&[OP_1 + 2], &key, &long, &[OP_1 + 1, CHECKMULTISIG]]));
        assert!(!script(&[&[OP_1], &key, &[OP_1 + 1, CHECKMULTISIG]]));
        assert!(!script(&[&[OP_1], &key, &[OP_1, CHECKSIG]]));
        assert!(!script(&[&[0x76, 0xa9, 20], &[7; 20], &[0x88, CHECKSIG]]));
        assert!(!script(&[]));
    }
}
