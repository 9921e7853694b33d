//! The scanner finds the same at every split, and what a plain parser of the whole block finds.

#![no_main]

mod input;

use conduit::block::{BlockScanner, Boundary, ScanError};
use conduit::message::Block;
use input::{Numbers, pieces};
use libfuzzer_sys::fuzz_target;

// Layout: count of piece lengths, these lengths, then the block behind a header of zeros, which no scanner looks at.
fuzz_target!(|data: &[u8]| {
    let mut numbers = Numbers(data);
    let count = usize::from(numbers.byte() % 16);
    let lens = numbers.bytes(count);
    let raw = [&[0; 80], numbers.0].concat();

    let whole = scan(raw.len() as u64, &[&raw]);
    assert_eq!(scan(raw.len() as u64, &pieces(&raw, lens)), whole, "another result at another split");
    assert_eq!(scan(raw.len() as u64, &pieces(&raw, &[0])), whole, "another result byte by byte");

    let block = Block::from_raw(raw.clone()).ok().filter(|block| block.transaction_count() > 0);
    assert_eq!(whole.1.is_ok(), block.is_some(), "{:?}", whole.1);
    let Some(block) = block else { return };
    let count = block.transaction_count();
    let mut at = raw.len() - block.transactions().map(|transaction| transaction.raw().len()).sum::<usize>();
    let mut expected = vec![(80, Boundary::Header), (at as u64, Boundary::Count(count as u64))];
    for (i, transaction) in block.transactions().enumerate() {
        at += transaction.raw().len();
        expected.push((at as u64, if i + 1 == count { Boundary::End } else { Boundary::Transaction }));
    }
    assert_eq!(whole.0, expected);
});

type Found = (Vec<(u64, Boundary)>, Result<(), ScanError>);

fn scan(size: u64, pieces: &[&[u8]]) -> Found {
    let mut found = Vec::new();
    let mut scanner = match BlockScanner::new(size) {
        Ok(scanner) => scanner,
        Err(error) => return (found, Err(error)),
    };
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match scanner.scan(rest) {
                Err(error) => {
                    assert_eq!(scanner.scan(rest), Err(error), "a refusal is final");
                    return (found, Err(error));
                }
                Ok((taken, boundary)) => {
                    assert!(taken == rest.len() || boundary.is_some(), "bytes left without a boundary");
                    found.extend(boundary.map(|boundary| (scanner.position(), boundary)));
                    rest = &rest[taken..];
                }
            }
        }
    }
    (found, scanner.finish())
}
