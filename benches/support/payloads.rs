//! The messages that are measured.

use conduit::message::{
    Block, BlockHeader, Inventory, Message, OutPoint, Transaction, TransactionInput, TransactionOutput,
};
use conduit::{BlockHash, MerkleRoot, Network, Txid};

/// The network that all benches speak on.
pub(crate) fn network() -> Network {
    Network::Regtest
}

/// Distinct transactions of 250 bytes.
pub(crate) fn transactions(count: usize) -> Vec<Transaction> {
    (0..count).map(|i| transaction(i, 250)).collect()
}

/// A transaction of one input and two outputs with so many bytes.
pub(crate) fn transaction(number: usize, len: usize) -> Transaction {
    let with_script = |script_len: usize| {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        let input = TransactionInput {
            previous_output: OutPoint { txid: Txid::from_wire(hash), index: 0 },
            script_sig: &vec![0x51; script_len],
            sequence: u32::MAX,
        };
        let output = TransactionOutput { value: number as i64, script_pubkey: &[0x51; 25] };
        Transaction::new(1, &[input], &[output, output], 0)
    };
    // The script's length is written in one, three or five bytes, so it is found in two steps.
    let longer = |script: usize| (script + len).saturating_sub(with_script(script).raw().len());
    let transaction = with_script(longer(longer(0)));
    assert_eq!(transaction.raw().len(), len);
    transaction
}

/// An `inv` of so many transactions.
pub(crate) fn inv(count: usize) -> Message {
    let item = |i: usize| {
        let mut hash = [0x5a; 32];
        hash[..8].copy_from_slice(&i.to_le_bytes());
        Inventory::transaction(Txid::from_wire(hash))
    };
    Message::Inv((0..count).map(item).collect())
}

/// Headers that follow each other.
pub(crate) fn headers(count: usize) -> Vec<BlockHeader> {
    let mut previous = network().genesis();
    (0..count)
        .map(|i| {
            let header = header(previous, i as u32);
            previous = header.hash();
            header
        })
        .collect()
}

/// A block of 250-byte transactions with some `len` bytes.
pub(crate) fn block(len: usize) -> Message {
    Message::Block(Block::new(header(network().genesis(), 0), transactions(len / 250)))
}

fn header(previous: BlockHash, nonce: u32) -> BlockHeader {
    BlockHeader {
        version: 1,
        previous,
        merkle_root: MerkleRoot::ZERO,
        time: 1_600_000_000,
        bits: 0x207f_ffff,
        nonce,
    }
}

/// The frames of these messages, back to back.
pub(crate) fn stream<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<u8> {
    messages.into_iter().flat_map(|message| message.to_frame(network().magic()).to_vec()).collect()
}

/// The payload of a message.
pub(crate) fn payload(message: &Message) -> Vec<u8> {
    let mut payload = Vec::new();
    message.encode_payload(&mut payload);
    payload
}
