//! An assembly passes a block only if its bytes are the block, gives back every byte, and cuts the same at every split.
//!
//! The block is made by the fuzzer, then sent honestly or with changes, which are operations.

#![no_main]

mod input;

use conduit::block::{BlockFault, BlockProof, BlockSummary, ChunkContent, Piece, merkle_root};
use conduit::fuzzing::BlockAssembly;
use conduit::message::{Block, BlockHeader, OutPoint, Transaction, TransactionInput, TransactionOutput};
use conduit::wire::{BlockHash, MerkleRoot, Txid, sha256d};
use input::{Numbers, pieces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut numbers = Numbers(data);
    // One byte a chunk would cost most of the time.
    let chunk_size = 10 + numbers.u16() % 2_000;
    let modes = numbers.byte();
    let proof = if modes & 1 == 0 { BlockProof::Merkle } else { BlockProof::Checksum };
    let content =
        [ChunkContent::Bytes, ChunkContent::BytesAndTxids, ChunkContent::Txids][usize::from(modes >> 1) % 3];
    let has_checksum = modes & 0x80 != 0;
    let count = usize::from(numbers.byte() % 16);
    let lens = numbers.bytes(count);
    let block = block(&mut numbers);
    let sent = changed(&block, &mut numbers);

    let announced = Announced {
        hash: block.hash(),
        // A peer may lie about the size too.
        size: if modes & 0x40 == 0 { sent.len() } else { block.raw().len() } as u64,
        checksum: has_checksum.then(|| *sha256d(block.raw()).first_chunk().expect("a digest is longer")),
    };
    let run = |chunk_size, pieces: &[&[u8]]| assemble(announced, chunk_size, content, proof, pieces);
    let whole = run(chunk_size, &[&sent]);
    assert_eq!(run(chunk_size, &pieces(&sent, lens)), whole, "another result at another split");
    let other = run(chunk_size / 2, &pieces(&sent, lens));
    assert_eq!(other.result, whole.result, "another result with other chunks");
    for cut in &other.cuts {
        let same = whole.cuts.iter().find(|same| same.position == cut.position);
        assert!(same.is_none_or(|same| same.digest == cut.digest), "two digests of the same bytes");
    }

    // Without a repeated tail the header commits to one list only, so nothing else passes.
    let is_the_block = sent.starts_with(block.raw()) && announced.size == block.raw().len() as u64;
    assert_eq!(whole.result.is_ok(), is_the_block, "{:?}", whole.result);
    let Ok(summary) = &whole.result else { return };
    assert_eq!((summary.hash, summary.header), (block.hash(), *block.header()));
    assert_eq!(summary.transactions, block.transaction_count() as u64);
    let txids: Vec<_> = block.transactions().map(|transaction| transaction.txid()).collect();
    if content != ChunkContent::Txids {
        assert!(whole.bytes == block.raw()[..], "the chunks are not the block");
    }
    if content != ChunkContent::Bytes {
        assert_eq!(whole.txids, txids);
    }
});

/// What is announced before the bytes.
#[derive(Clone, Copy)]
struct Announced {
    hash: BlockHash,
    size: u64,
    checksum: Option<[u8; 4]>,
}

#[derive(Debug, PartialEq)]
struct Assembled {
    bytes: Vec<u8>,
    txids: Vec<Txid>,
    cuts: Vec<Cut>,
    result: Result<BlockSummary, BlockFault>,
}

#[derive(Debug, PartialEq)]
struct Cut {
    position: u64,
    digest: [u8; 32],
    transactions: usize,
    piece: Option<Piece>,
}

fn assemble(
    announced: Announced,
    chunk_size: usize,
    content: ChunkContent,
    proof: BlockProof,
    pieces: &[&[u8]],
) -> Assembled {
    let Announced { hash, size, checksum } = announced;
    let (mut bytes, mut txids, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
    let mut run = || {
        let mut assembly = BlockAssembly::new(hash, size, checksum, chunk_size, content, proof)?;
        for piece in pieces {
            let mut rest = *piece;
            while assembly.push(&mut rest)? {
                let chunk = assembly.chunk();
                assert!(assembly.position() - chunk.offset() <= chunk_size.max(1) as u64, "{chunk:?}");
                for transaction in chunk.transactions() {
                    // Reading it in place finds every part.
                    let view = transaction.view();
                    assert_eq!(
                        view.inputs().count() + view.outputs().count(),
                        view.inputs().len() + view.outputs().len()
                    );
                    assert!(chunk.bytes()[transaction.start..].starts_with(transaction.raw));
                }
                bytes.extend_from_slice(chunk.bytes());
                txids.extend_from_slice(chunk.txids());
                cuts.push(Cut {
                    position: assembly.position(),
                    digest: assembly.digest(),
                    transactions: chunk.transaction_count(),
                    piece: chunk.piece(),
                });
            }
        }
        assembly.finish()
    };
    let result = run();
    Assembled { bytes, txids, cuts, result }
}

/// A block of up to sixteen transactions, all different, with the right root.
fn block(numbers: &mut Numbers<'_>) -> Block {
    let count = 1 + u32::from(numbers.byte() % 16);
    let transactions: Vec<_> = (0..count).map(|number| transaction(number, numbers)).collect();
    let header = BlockHeader {
        version: 1,
        previous: BlockHash::ZERO,
        merkle_root: merkle_root(transactions.iter().map(Transaction::txid)).unwrap_or(MerkleRoot::ZERO),
        time: 0,
        bits: 0x207f_ffff,
        nonce: 0,
    };
    Block::new(header, transactions)
}

fn transaction(number: u32, numbers: &mut Numbers<'_>) -> Transaction {
    let shape = numbers.byte();
    let is_coinbase = number == 0;
    let inputs = if is_coinbase { 1 } else { usize::from(shape & 3) };
    let scripts: Vec<Vec<u8>> =
        (0..inputs + usize::from(shape >> 2 & 3)).map(|i| vec![i as u8; numbers.u16() % 600]).collect();
    let (input_scripts, output_scripts) = scripts.split_at(inputs);
    let previous_output =
        if is_coinbase { OutPoint::NULL } else { OutPoint { txid: Txid::from_wire([7; 32]), index: number } };
    let inputs: Vec<_> = input_scripts
        .iter()
        .map(|script_sig| TransactionInput { previous_output, script_sig, sequence: u32::MAX })
        .collect();
    let outputs: Vec<_> =
        output_scripts.iter().map(|script_pubkey| TransactionOutput { value: 1, script_pubkey }).collect();
    // The number makes it differ from every other.
    Transaction::new(1, &inputs, &outputs, number)
}

/// The block as a peer sends it: each operation changes something.
fn changed(block: &Block, numbers: &mut Numbers<'_>) -> Vec<u8> {
    let mut raw = block.raw().to_vec();
    while !numbers.0.is_empty() && raw.len() < 1 << 20 {
        let (operation, at) = (numbers.byte(), numbers.u16() % (raw.len() + 1));
        match operation % 6 {
            0 => {}
            1 => {
                if let Some(byte) = raw.get_mut(at) {
                    *byte ^= numbers.byte();
                }
            }
            2 => raw.truncate(at),
            3 => {
                let end = (at + numbers.u16()).min(raw.len());
                raw.drain(at..end);
            }
            4 => {
                let end = (at + numbers.u16()).min(raw.len());
                let repeated = raw[at..end].to_vec();
                raw.splice(end..end, repeated);
            }
            _ => {
                let count = usize::from(numbers.byte());
                raw.splice(at..at, numbers.bytes(count).iter().copied());
            }
        }
    }
    raw
}
