//! What an assembly makes of blocks: real, made up, and broken.

use std::time::{Duration, Instant};

use super::*;
use crate::block::samples::{
    Random, block_of, coinbase, ends_of, hash_of, part_of_real_block, raw_block, real_block, root_by_levels,
    small_block, transaction, varied_block, varied_transactions,
};
use crate::block::{Claim, MerkleError, ScanError};
use crate::message::{Block, Transaction};
use crate::wire::{MerkleRoot, Txid, sha256d};

const MERKLE: AssemblyOptions =
    AssemblyOptions { chunk_size: 1 << 16, content: ChunkContent::BytesAndTxids, proof: BlockProof::Merkle };
const CHECKSUM: AssemblyOptions =
    AssemblyOptions { content: ChunkContent::Bytes, proof: BlockProof::Checksum, ..MERKLE };

/// Everything that came out of an assembly.
#[derive(Clone, Debug, Default, PartialEq)]
struct Assembled {
    bytes: Vec<u8>,
    cuts: Vec<Cut>,
    /// Index, offset, bytes: of those that came as a whole.
    whole: Vec<(u64, u64, Vec<u8>)>,
    txids: Vec<Txid>,
    summary: Option<BlockSummary>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    position: u64,
    digest: [u8; 32],
    transactions: usize,
    piece: Option<Piece>,
}

/// What a peer announces before the bytes.
#[derive(Clone, Copy)]
struct Announced {
    hash: BlockHash,
    size: u64,
    checksum: Option<[u8; 4]>,
}

impl Announced {
    fn of(raw: &[u8]) -> Self {
        Self { hash: hash_of(raw), size: raw.len() as u64, checksum: sha256d(raw).first_chunk().copied() }
    }
}

/// Pushes pieces until they are used up, and finishes.
fn assemble<'a>(
    announced: Announced,
    options: AssemblyOptions,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Assembled, Result<(), BlockFault>) {
    let mut out = Assembled::default();
    let result = out.assemble(announced, options, pieces);
    (out, result)
}

fn assemble_whole(raw: &[u8], options: AssemblyOptions) -> (Assembled, Result<(), BlockFault>) {
    assemble(Announced::of(raw), options, [raw])
}

/// What an honest block makes.
fn honest(raw: &[u8], options: AssemblyOptions) -> Assembled {
    let (out, result) = assemble_whole(raw, options);
    assert_eq!(result, Ok(()));
    out
}

/// How a block is refused that is announced as what it is, the same at some splits and chunk sizes.
fn fault_of(raw: &[u8], options: AssemblyOptions) -> BlockFault {
    let fault = assemble_whole(raw, options).1.unwrap_err();
    for (chunk_size, len) in [(10, 100), (100, 1), (1_000, 7)] {
        let options = AssemblyOptions { chunk_size, ..options };
        let again = assemble(Announced::of(raw), options, raw.chunks(len)).1;
        assert_eq!(again, Err(fault), "chunks of {chunk_size}, pieces of {len}");
    }
    fault
}

impl Assembled {
    fn assemble<'a>(
        &mut self,
        announced: Announced,
        options: AssemblyOptions,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), BlockFault> {
        let Announced { hash, size, checksum } = announced;
        let mut assembly = Assembly::new(hash, size, checksum, options)?;
        for mut input in pieces {
            loop {
                match assembly.push(&mut input) {
                    Ok(true) => self.take_chunk(&assembly, options),
                    Ok(false) => break,
                    Err(fault) => {
                        assert_eq!(assembly.push(&mut input), Err(fault), "a fault is final");
                        assert_eq!(assembly.finish(), Err(fault));
                        return Err(fault);
                    }
                }
            }
            assert!(input.is_empty() || assembly.is_complete());
        }
        let is_complete = assembly.is_complete();
        let summary = assembly.finish()?;
        assert!(is_complete, "proven before its end");
        assert_eq!(assembly.header(), Some(&summary.header));
        assert_eq!(assembly.position(), size);
        self.summary = Some(summary);
        Ok(())
    }

    fn take_chunk(&mut self, assembly: &Assembly, options: AssemblyOptions) {
        let chunk = assembly.chunk();
        let ended: usize = self.cuts.iter().map(|cut| cut.transactions).sum();
        assert_eq!(chunk.first_index() as usize, ended, "{chunk:?}");
        assert_eq!(chunk.offset(), self.cuts.last().map_or(0, |cut| cut.position), "{chunk:?}");
        let len = (assembly.position() - chunk.offset()) as usize;
        let limit = options.chunk_size.max(1);
        assert!(0 < len && len <= limit, "{chunk:?}");
        match options.content {
            ChunkContent::Txids => {
                assert!(chunk.bytes().is_empty() && chunk.transactions().len() == 0, "{chunk:?}")
            }
            _ => assert_eq!(chunk.bytes().len(), len, "{chunk:?}"),
        }
        let has_txids = options.content != ChunkContent::Bytes;
        assert_eq!(chunk.txids().len(), if has_txids { chunk.transaction_count() } else { 0 }, "{chunk:?}");
        let transactions = chunk.transactions();
        assert_eq!(transactions.len(), transactions.clone().count(), "{chunk:?}");
        for (i, transaction) in transactions.enumerate() {
            assert!(chunk.bytes()[transaction.start..].starts_with(transaction.raw));
            assert_eq!(transaction.offset, chunk.offset() + transaction.start as u64);
            assert_eq!(transaction.index, chunk.first_index() + i as u64);
            assert_eq!(transaction.txid, chunk.txids().get(i).copied());
            let owned = transaction.to_transaction();
            assert_eq!((owned.raw(), owned.txid()), (&transaction.raw.to_vec().into(), transaction.view().txid()));
            self.whole.push((transaction.index, transaction.offset, transaction.raw.to_vec()));
        }
        self.bytes.extend_from_slice(chunk.bytes());
        self.txids.extend_from_slice(chunk.txids());
        self.cuts.push(Cut {
            position: assembly.position(),
            digest: assembly.digest(),
            transactions: chunk.transaction_count(),
            piece: chunk.piece(),
        });
        // Neither the announced size nor the growth in steps of two takes them past the chunk size.
        assert!(assembly.buffer.capacity() <= limit && assembly.chunk.bytes.capacity() <= limit, "{chunk:?}");
    }
}

/// Where a block is cut, and which of its chunks are pieces: worked out on the whole block.
fn expected_cuts(raw: &[u8], chunk_size: usize) -> Vec<(u64, Option<Piece>)> {
    let ends = ends_of(raw);
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let limit = at + chunk_size;
        let is_piece = ends.contains(&at) && !ends.iter().any(|end| (at + 1..=limit).contains(end));
        if is_piece {
            let index = ends.iter().position(|end| *end == at).unwrap();
            let (start, end) = (at, ends[index + 1]);
            while at < end {
                let next = (at + chunk_size).min(end);
                let piece = Piece { index: index as u64, offset: (at - start) as u64, is_last: next == end };
                cuts.push((next as u64, Some(piece)));
                at = next;
            }
        } else {
            at = ends.iter().copied().filter(|end| *end > at && *end <= limit).max().unwrap_or(limit);
            cuts.push((at as u64, None));
        }
    }
    cuts
}

fn txids_of(raw: &[u8]) -> Vec<Txid> {
    Block::from_raw(raw.to_vec()).unwrap().transactions().map(|transaction| transaction.txid()).collect()
}

fn numbered(count: u32) -> Vec<Transaction> {
    (0..count).map(|i| if i == 0 { coinbase(1) } else { transaction(i, &[10], &[25]) }).collect()
}

#[test]
fn the_real_block_comes_out_as_it_went_in_and_proven() {
    let raw = real_block();
    let txids = txids_of(&raw);
    for chunk_size in [500, 1 << 16, 4 << 20] {
        let out = honest(&raw, AssemblyOptions { chunk_size, ..MERKLE });
        assert!(out.bytes == raw && out.txids == txids, "chunks of {chunk_size}");
        let summary = out.summary.unwrap();
        assert_eq!((summary.hash, summary.header.hash()), (hash_of(&raw), hash_of(&raw)));
        assert_eq!((summary.size, summary.transactions), (999_887, 1_557));
        assert_eq!((summary.proof, summary.checksum_checked), (BlockProof::Merkle, false));
        assert_eq!(out.cuts.iter().any(|cut| cut.piece.is_some()), chunk_size == 500);
    }
}

#[test]
fn the_first_kilobytes_of_the_real_block_are_cut_the_same_at_every_split() {
    let raw = real_block();
    let (announced, first) = (Announced::of(&raw), &raw[..2_500]);
    let options = AssemblyOptions { chunk_size: 400, ..MERKLE };
    let expected = assemble(announced, options, [first]);
    assert_eq!(expected.1, Err(ScanError::UnexpectedEnd { at: 2_500 }.into()));
    assert!(expected.0.cuts.len() > 4);
    for at in 0..=first.len() {
        assert!(assemble(announced, options, [&first[..at], &first[at..]]) == expected, "split at {at}");
    }
    for len in 1..=first.len() {
        assert!(assemble(announced, options, first.chunks(len)) == expected, "pieces of {len}");
    }
}

#[test]
fn the_whole_real_block_is_cut_the_same_at_random_splits() {
    let raw = real_block();
    for (seed, chunk_size) in (0..).zip([900, 20_000, 100_001]) {
        for proof in [BlockProof::Merkle, BlockProof::Checksum] {
            let options = AssemblyOptions { chunk_size, proof, ..MERKLE };
            let expected = honest(&raw, options);
            assert!(expected.bytes == raw);
            let mut random = Random(seed);
            for _ in 0..2 {
                let (out, result) = assemble(Announced::of(&raw), options, random.pieces(&raw));
                assert_eq!(result, Ok(()));
                assert!(out == expected, "seed {seed}, chunks of {chunk_size}");
            }
        }
    }
}

#[test]
fn every_chunk_size_cuts_as_told() {
    let raw = varied_block();
    let ends = ends_of(&raw);
    let txids = txids_of(&raw);
    for chunk_size in (1..300).chain((300..raw.len() + 50).step_by(49)).chain([raw.len() - 1, raw.len()]) {
        let options = AssemblyOptions { chunk_size, ..MERKLE };
        let out = honest(&raw, options);
        assert!(out.bytes == raw && out.txids == txids, "chunks of {chunk_size}");
        let cuts: Vec<_> = out.cuts.iter().map(|cut| (cut.position, cut.piece)).collect();
        assert_eq!(cuts, expected_cuts(&raw, chunk_size), "chunks of {chunk_size}");
        let pieced = |index: u64| cuts.iter().any(|(_, piece)| piece.is_some_and(|piece| piece.index == index));
        let whole = ends.windows(2).zip(0..).filter(|(_, index)| !pieced(*index));
        let whole: Vec<_> =
            whole.map(|(ends, index)| (index, ends[0] as u64, raw[ends[0]..ends[1]].to_vec())).collect();
        assert_eq!(out.whole, whole, "chunks of {chunk_size}");
        assert_eq!(assemble(Announced::of(&raw), options, raw.chunks(61)), (out, Ok(())), "chunks of {chunk_size}");
    }
}

#[test]
fn a_chunk_size_of_nothing_or_everything_is_one_that_works() {
    let raw = varied_block();
    assert_eq!(honest(&raw, AssemblyOptions { chunk_size: 0, ..MERKLE }).cuts.len(), raw.len());
    assert_eq!(honest(&raw, AssemblyOptions { chunk_size: usize::MAX, ..MERKLE }).cuts.len(), 1);
}

#[test]
fn each_content_hands_out_what_it_names() {
    let raw = part_of_real_block(40);
    let txids = txids_of(&raw);
    for chunk_size in [50, 1_000, 1 << 20] {
        for proof in [BlockProof::Merkle, BlockProof::Checksum] {
            let with = |content| honest(&raw, AssemblyOptions { chunk_size, content, proof });
            let (bytes, both, only) =
                (with(ChunkContent::Bytes), with(ChunkContent::BytesAndTxids), with(ChunkContent::Txids));
            assert!(bytes.bytes == raw && bytes.txids.is_empty());
            assert!(both.bytes == raw && both.txids == txids && both.whole == bytes.whole);
            assert!(only.bytes.is_empty() && only.txids == txids);
            assert!(bytes.cuts == both.cuts && both.cuts == only.cuts);
            assert!(bytes.summary == both.summary && both.summary == only.summary);
        }
    }
}

#[test]
fn small_transactions_end_a_chunk_before_its_size() {
    let mut transactions = vec![coinbase(1)];
    transactions.extend((0..70_000).map(|i| transaction(i, &[], &[])));
    let raw = block_of(&transactions);
    for (content, len) in [(ChunkContent::Bytes, raw.len()), (ChunkContent::Txids, 10_007)] {
        let options = AssemblyOptions { chunk_size: 4 << 20, content, ..MERKLE };
        let (out, end) = assemble(Announced::of(&raw), options, raw.chunks(len));
        let counts: Vec<_> = out.cuts.iter().map(|cut| cut.transactions).collect();
        assert_eq!((counts, end), (vec![65_536, 70_001 - 65_536], Ok(())));
    }
}

#[test]
fn a_transaction_of_megabytes_comes_in_pieces_of_constant_size() {
    let large = transaction(2, &[3_000_000, 5], &[1_000_000]);
    let transactions = [coinbase(1), transaction(1, &[10], &[25]), large.clone(), transaction(3, &[10], &[25])];
    let raw = block_of(&transactions);
    let out = honest(&raw, AssemblyOptions { chunk_size: 10_000, ..MERKLE });
    assert!(out.bytes == raw && out.txids == txids_of(&raw));
    assert_eq!(out.whole.iter().map(|(index, ..)| *index).collect::<Vec<_>>(), [0, 1, 3]);
    let pieces: Vec<_> = out.cuts.iter().filter_map(|cut| cut.piece).collect();
    assert_eq!(pieces.len(), large.raw().len().div_ceil(10_000));
    for (i, piece) in pieces.iter().enumerate() {
        let is_last = i + 1 == pieces.len();
        assert_eq!(*piece, Piece { index: 2, offset: i as u64 * 10_000, is_last });
    }
}

#[test]
fn what_is_announced_costs_no_memory() {
    let raw = real_block();
    let options = AssemblyOptions { chunk_size: 64 << 20, ..MERKLE };
    let announced = Announced { size: 1 << 40, ..Announced::of(&raw) };
    let mut assembly = Assembly::new(announced.hash, announced.size, None, options).unwrap();
    let mut input = &raw[..500_000];
    assert_eq!(assembly.push(&mut input), Ok(false));
    assert!(assembly.buffer.capacity() <= 1_000_000, "{}", assembly.buffer.capacity());
}

#[test]
fn the_header_is_there_with_its_last_byte() {
    let raw = varied_block();
    let mut assembly = Assembly::new(hash_of(&raw), raw.len() as u64, None, MERKLE).unwrap();
    assert_eq!(assembly.push(&mut &raw[..79]), Ok(false));
    assert_eq!(assembly.header(), None);
    assert_eq!(assembly.push(&mut &raw[79..80]), Ok(false));
    assert_eq!(assembly.header().map(BlockHeader::hash), Some(hash_of(&raw)));
}

#[test]
fn nothing_is_taken_behind_the_end() {
    let raw = varied_block();
    let mut assembly = Assembly::new(hash_of(&raw), raw.len() as u64, None, MERKLE).unwrap();
    let longer = [&raw[..], &[1, 2, 3]].concat();
    let mut input = &longer[..];
    assert_eq!(assembly.push(&mut input), Ok(true));
    assert_eq!(input, [1, 2, 3]);
    assert!(assembly.is_complete() && assembly.finish().is_ok());
    assert_eq!(assembly.push(&mut input), Ok(false));
    assert_eq!(input, [1, 2, 3]);
}

#[test]
fn another_header_is_refused_with_its_last_byte() {
    let raw = varied_block();
    let expected = BlockHash::from_wire([5; 32]);
    let fault = BlockFault::WrongHeader { expected, got: hash_of(&raw) };
    for (len, end) in [(80, fault), (79, ScanError::UnexpectedEnd { at: 79 }.into())] {
        let announced = Announced { hash: expected, ..Announced::of(&raw) };
        assert_eq!(assemble(announced, MERKLE, [&raw[..len]]).1, Err(end));
        assert_eq!(assemble(announced, CHECKSUM, raw[..len].chunks(9)).1, Err(end));
    }
}

#[test]
fn another_merkle_root_is_refused() {
    let transactions = varied_transactions();
    let raw = block_of(&transactions);
    let got = root_by_levels(&txids_of(&raw));
    // Each transaction in its place is what the header commits to.
    let swapped = [&transactions[..2], &transactions[3..4], &transactions[2..3], &transactions[4..]].concat();
    for others in [&swapped[..], &transactions[..6]] {
        let expected = root_by_levels(&others.iter().map(Transaction::txid).collect::<Vec<_>>());
        let raw = raw_block(expected, transactions.iter().map(|transaction| &transaction.raw()[..]));
        assert_eq!(fault_of(&raw, MERKLE), BlockFault::Merkle(MerkleError::WrongRoot { expected, got }));
    }
}

#[test]
fn repeated_nodes_are_refused_at_every_level_though_the_root_is_right() {
    let mut checked = 0;
    for count in 3..=40 {
        let transactions = numbered(count);
        for level in 0..5 {
            // The last subtree of a level with an odd number of nodes, all complete, comes twice.
            let (width, len) = (1 << level, transactions.len());
            if len % width != 0 || len / width < 3 || (len / width).is_multiple_of(2) {
                continue;
            }
            let repeated = [&transactions[..], &transactions[len - width..]].concat();
            let raw = block_of(&repeated);
            assert_eq!(raw[..80], block_of(&transactions)[..80], "the header is that of the honest block");
            let fault = BlockFault::Merkle(MerkleError::RepeatedNode { level });
            assert_eq!(fault_of(&raw, MERKLE), fault, "{count} transactions, level {level}");
            checked += 1;
        }
    }
    assert_eq!(checked, 34);
}

#[test]
fn a_first_transaction_that_is_no_coinbase_is_refused_as_soon_as_it_shows() {
    let no_coinbase = BlockFault::Merkle(MerkleError::NoCoinbase);
    let mut two_inputs = coinbase(1).raw().to_vec();
    two_inputs[4] = 2;
    two_inputs.splice(5..5, [vec![0; 32], vec![0xff; 4], vec![0, 0, 0, 0, 0]].concat());
    let mut other_index = coinbase(1).raw().to_vec();
    other_index[37] = 0xfe;
    let mut other_txid = coinbase(1).raw().to_vec();
    other_txid[36] = 1;
    let firsts = [
        (two_inputs, 5),
        (other_index, 41),
        (other_txid, 41),
        (transaction(1, &[], &[]).raw().to_vec(), 5),
        (transaction(1, &[10], &[25]).raw().to_vec(), 41),
    ];
    for (first, shows_after) in firsts {
        let transactions = [Transaction::from_raw(first).unwrap(), transaction(2, &[10], &[25])];
        let raw = block_of(&transactions);
        for options in [MERKLE, CHECKSUM] {
            assert_eq!(fault_of(&raw, options), no_coinbase);
            let announced = Announced::of(&raw);
            let end = |len: usize| assemble(announced, options, [&raw[..81 + len]]).1;
            assert_eq!(end(shows_after), Err(no_coinbase));
            let missing = ScanError::UnexpectedEnd { at: 81 + shows_after as u64 - 1 };
            assert_eq!(end(shows_after - 1), Err(missing.into()));
        }
    }
}

#[test]
fn inner_nodes_shown_as_transactions_are_refused() {
    // Sixty-four bytes that are two nodes of a tree and, read the other way, a transaction.
    let nodes = |number| {
        let node = transaction(number, &[0], &[4]);
        assert_eq!(node.raw().len(), 64);
        node
    };
    let shown = [nodes(1), nodes(2), nodes(3), nodes(4)];
    let leaves: Vec<_> = shown
        .iter()
        .flat_map(|node| {
            node.raw().chunks(32).map(|leaf| Txid::from_wire(leaf.try_into().unwrap())).collect::<Vec<_>>()
        })
        .collect();
    let raw = block_of(&shown);
    let header = raw.first_chunk().map(BlockHeader::decode).unwrap();
    assert_eq!(header.merkle_root, root_by_levels(&leaves), "the header commits to eight leaves as to four nodes");
    assert_eq!(fault_of(&raw, MERKLE), BlockFault::Merkle(MerkleError::NoCoinbase));
}

#[test]
fn what_the_scanner_refuses_is_a_fault() {
    let raw = varied_block();
    let scan = BlockFault::Scan;
    let with_count = |count: &[u8]| [&raw[..80], count, &raw[81..]].concat();
    assert_eq!(fault_of(&with_count(&[0xfd, 7, 0]), MERKLE), scan(ScanError::NonCanonical { at: 80 }));
    assert_eq!(fault_of(&with_count(&[0]), MERKLE), scan(ScanError::NoTransactions));
    let lied = ScanError::CannotFit { at: 80, claim: Claim::Transactions, value: 0xffff };
    assert_eq!(fault_of(&with_count(&[0xfd, 0xff, 0xff]), MERKLE), scan(lied));
    let (at, longer) = (raw.len() as u64, [&raw[..], &[0; 3]].concat());
    assert_eq!(fault_of(&longer, MERKLE), scan(ScanError::TrailingBytes { at, count: 3 }));
    // The last output's script and the lock time no longer fit.
    let at = at - 4 - 26;
    let shorter = ScanError::CannotFit { at, claim: Claim::Script, value: 25 };
    assert_eq!(fault_of(&raw[..raw.len() - 1], MERKLE), scan(shorter));
    assert_eq!(fault_of(&raw[..80], MERKLE), scan(ScanError::TooSmall { size: 80 }));
}

#[test]
fn bytes_that_stop_early_are_not_proven() {
    let raw = small_block();
    for options in [MERKLE, CHECKSUM, AssemblyOptions { chunk_size: 50, ..MERKLE }] {
        for len in 0..raw.len() {
            let (out, end) = assemble(Announced::of(&raw), options, [&raw[..len]]);
            assert_eq!(end, Err(ScanError::UnexpectedEnd { at: len as u64 }.into()));
            assert!(raw.starts_with(&out.bytes));
        }
    }
}

#[test]
fn another_checksum_is_refused_where_it_is_the_proof() {
    let raw = varied_block();
    let Announced { checksum, .. } = Announced::of(&raw);
    let summary = honest(&raw, CHECKSUM).summary.unwrap();
    assert_eq!((summary.proof, summary.checksum_checked), (BlockProof::Checksum, true));
    assert_eq!((summary.transactions, summary.size), (7, raw.len() as u64));
    let (expected, got) = ([1, 2, 3, 4], checksum.unwrap());
    let announced = Announced { checksum: Some(expected), ..Announced::of(&raw) };
    for content in [ChunkContent::Bytes, ChunkContent::BytesAndTxids, ChunkContent::Txids] {
        let options = AssemblyOptions { content, ..CHECKSUM };
        let fault = BlockFault::WrongChecksum { expected, got };
        assert_eq!(assemble(announced, options, raw.chunks(11)).1, Err(fault));
        // The root proves more, so it is not looked at there.
        assert_eq!(assemble(announced, AssemblyOptions { content, ..MERKLE }, raw.chunks(11)).1, Ok(()));
    }
}

#[test]
fn the_checksum_alone_does_not_prove_the_transactions() {
    let transactions = varied_transactions();
    let raw =
        raw_block(MerkleRoot::from_wire([8; 32]), transactions.iter().map(|transaction| &transaction.raw()[..]));
    assert_eq!(honest(&raw, CHECKSUM).summary.unwrap().proof, BlockProof::Checksum);
    // The txids are computed for the caller, not held against the header.
    let with_txids = AssemblyOptions { content: ChunkContent::BytesAndTxids, ..CHECKSUM };
    assert_eq!(honest(&raw, with_txids).summary.unwrap().proof, BlockProof::Checksum);
    assert!(matches!(fault_of(&raw, MERKLE), BlockFault::Merkle(MerkleError::WrongRoot { .. })));
}

#[test]
fn without_a_checksum_the_root_is_the_proof() {
    let raw = varied_block();
    let announced = Announced { checksum: None, ..Announced::of(&raw) };
    let (out, end) = assemble(announced, CHECKSUM, raw.chunks(13));
    assert_eq!(end, Ok(()));
    let summary = out.summary.unwrap();
    assert_eq!((summary.proof, summary.checksum_checked), (BlockProof::Merkle, false));
    // Another peer may send the same block with its checksum.
    assert_eq!(out.cuts, honest(&raw, CHECKSUM).cuts);
    let got = root_by_levels(&txids_of(&raw));
    let expected = MerkleRoot::from_wire([8; 32]);
    let raw = raw_block(expected, varied_transactions().iter().map(|transaction| &transaction.raw()[..]));
    let announced = Announced { checksum: None, ..Announced::of(&raw) };
    let fault = BlockFault::Merkle(MerkleError::WrongRoot { expected, got });
    assert_eq!(assemble(announced, CHECKSUM, [&raw[..]]).1, Err(fault));
}

#[test]
fn digests_commit_to_every_byte_before_the_cut_and_to_none_behind() {
    let raw = small_block();
    for proof in [BlockProof::Merkle, BlockProof::Checksum] {
        for chunk_size in [1, 60] {
            let options = AssemblyOptions { chunk_size, content: ChunkContent::Bytes, proof };
            let honest = honest(&raw, options);
            let (mut same, mut different) = (0, 0);
            for at in 0..raw.len() {
                let mut flipped = raw.clone();
                flipped[at] ^= 1 << (at % 8);
                let (out, _) = assemble(Announced::of(&flipped), options, [&flipped[..]]);
                for cut in &out.cuts {
                    let Some(other) = honest.cuts.iter().find(|other| other.position == cut.position) else {
                        continue;
                    };
                    let is_before = cut.position <= at as u64;
                    assert_eq!(cut.digest == other.digest, is_before, "byte {at}, cut at {}", cut.position);
                    *if is_before { &mut same } else { &mut different } += 1;
                }
            }
            assert!(same > 100 && different > 100, "chunks of {chunk_size}: {same} {different}");
        }
    }
}

#[test]
fn digests_at_one_place_are_the_same_whatever_the_chunk_size() {
    let raw = part_of_real_block(8);
    for proof in [BlockProof::Merkle, BlockProof::Checksum] {
        let with =
            |chunk_size| honest(&raw, AssemblyOptions { chunk_size, content: ChunkContent::Txids, proof }).cuts;
        let everywhere = with(1);
        assert_eq!(everywhere.len(), raw.len());
        let mut digests: Vec<_> = everywhere.iter().map(|cut| cut.digest).collect();
        for chunk_size in [10, 81, 82, 83, 230, 231, 500, 1_000, 5_000] {
            for cut in with(chunk_size) {
                assert_eq!(cut.digest, digests[cut.position as usize - 1], "chunks of {chunk_size}");
            }
        }
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), raw.len(), "no two places have the same");
    }
}

#[test]
fn no_flipped_byte_of_a_small_block_passes() {
    let raw = small_block();
    let announced = Announced::of(&raw);
    for bit in 0..raw.len() * 8 {
        let mut flipped = raw.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        for (options, len) in
            [(MERKLE, 7), (AssemblyOptions { chunk_size: 99, ..MERKLE }, 1_000), (CHECKSUM, 1_000)]
        {
            assert!(assemble(announced, options, flipped.chunks(len)).1.is_err(), "bit {bit}");
        }
    }
}

#[test]
fn no_mutated_block_passes() {
    let (small, part) = (small_block(), part_of_real_block(15));
    for seed in 0..3_000 {
        let raw = if seed % 2 == 0 { &small } else { &part };
        let mut random = Random(seed);
        let mutated = random.mutate(raw);
        let options = AssemblyOptions { chunk_size: 16 << random.below(13), ..MERKLE };
        // As announced by a peer who means what he sends, and by one who lies about the length.
        let sizes = [mutated.len() as u64, raw.len() as u64];
        for size in sizes {
            let announced = Announced { size, ..Announced::of(raw) };
            let (_, end) = assemble(announced, options, random.pieces(&mutated));
            // What is cut off behind the announced size was not sent, as far as the block goes.
            let is_honest = mutated.starts_with(raw) && size == raw.len() as u64;
            assert_eq!(end.is_ok(), is_honest, "seed {seed}");
        }
    }
}

#[test]
fn no_mutated_copy_of_the_whole_real_block_passes() {
    let raw = real_block();
    for seed in 0..40 {
        let mut random = Random(seed);
        let mutated = random.mutate(&raw);
        let announced = Announced { size: mutated.len() as u64, ..Announced::of(&raw) };
        let options = AssemblyOptions { chunk_size: 1 << 18, content: ChunkContent::Txids, ..MERKLE };
        assert!(assemble(announced, options, random.pieces(&mutated)).1.is_err(), "seed {seed}");
    }
}

/// `cargo test --release --lib keeps_up -- --ignored --nocapture`
#[test]
#[ignore = "measures, which means something in a release build only"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn an_assembly_keeps_up_with_the_hashing_of_its_transactions() {
    let mut random = Random(1);
    let script_lens = (0..300_000).map(|i| if i % 2_000 == 1_999 { 99_900 } else { 100 + random.below(750) });
    let transactions = script_lens.zip(1..).map(|(len, number)| transaction(number, &[len], &[25, 25]));
    let transactions: Vec<_> = [coinbase(0)].into_iter().chain(transactions).collect();
    let txids = transactions.iter().map(Transaction::txid);
    let root = crate::block::merkle_root(txids).unwrap();
    let raw = raw_block(root, transactions.iter().map(|transaction| &transaction.raw()[..]));
    let options = AssemblyOptions { chunk_size: 4 << 20, content: ChunkContent::Bytes, ..MERKLE };
    let mut best = [Duration::MAX; 2];
    for _ in 0..5 {
        let start = Instant::now();
        let txids = transactions.iter().map(|transaction| transaction.view().txid());
        assert_eq!(crate::block::merkle_root(txids), Ok(root));
        best[0] = best[0].min(start.elapsed());
        let start = Instant::now();
        let mut assembly = Assembly::new(hash_of(&raw), raw.len() as u64, None, options).unwrap();
        for mut piece in raw.chunks(64 * 1_024) {
            while assembly.push(&mut piece).unwrap() {}
        }
        assert!(assembly.finish().is_ok());
        best[1] = best[1].min(start.elapsed());
    }
    let [limit, ours] = best.map(|time| raw.len() as f64 / 1e6 / time.as_secs_f64());
    println!("{ours:.0} MB/s, hashed alone {limit:.0} MB/s, ratio {:.2}", ours / limit);
}
