//! What the vectors prove, computed again: roots, proofs, short ids, filters, digests.

use conduit::block::{PartialMerkleTree, PartialTreeError};
use conduit::message::{
    Block, BloomFilter, CompactBlock, DoubleSpendError, EnrichedHeader, FilterLoad, FilterUpdate, MerkleProof,
    Message, ProofError, ProofNode, ProofSubject, ProofTarget, Reconstruction, Transaction,
};
use conduit::wire::{BlockHash, Txid};
use serde_json::{Value, json};

use super::{bytes, hex, message, vector, vectors};

fn nine_transactions() -> Block {
    let Message::Block(block) = message(&vector("block_nine_transactions")) else { panic!("not a block") };
    block
}

fn txids(block: &Block) -> Vec<Txid> {
    block.transactions().map(|transaction| transaction.txid()).collect()
}

fn enriched(name: &str) -> Vec<EnrichedHeader> {
    let Message::HdrsEn(items) = message(&vector(name)) else { panic!("not hdrsen") };
    items
}

#[test]
fn no_command_is_left_without_a_type() {
    let vectors = vectors("messages.json");
    assert_eq!(vectors.len(), 65);
    let mut commands: Vec<_> =
        vectors.iter().map(|vector| vector["command"].as_str().unwrap().to_owned()).collect();
    commands.sort();
    commands.dedup();
    // All 38 of the specification but extmsg, which is framing, and alert.
    assert_eq!(commands.len(), 38);
    for vector in &vectors {
        let message = message(vector);
        assert!(!matches!(message, Message::Unknown { .. }), "{}", vector["name"]);
    }
}

#[test]
fn a_merkle_block_proves_its_matches() {
    let Message::MerkleBlock(block) = message(&vector("merkleblock_bip37_sample")) else {
        panic!("no merkleblock")
    };
    assert_eq!(block.tree.extract().unwrap().root, block.header.merkle_root);
    let mut forged = block.clone();
    forged.tree.hashes[1][0] ^= 1;
    assert!(matches!(forged.matches(), Err(PartialTreeError::WrongRoot { .. })));

    let nine = nine_transactions();
    let txids = txids(&nine);
    let tree = PartialMerkleTree::new(&txids, |i, _| i == 3 || i == 8).unwrap();
    let found = tree.extract().unwrap();
    assert_eq!(found.root, nine.header().merkle_root);
    assert_eq!(found.matches, [(3, txids[3]), (8, txids[8])]);
}

#[test]
fn enriched_headers_prove_their_coinbase() {
    let two = enriched("hdrsen_blocks_1_and_2");
    assert_eq!(two[0].verify(), Ok(()));
    assert_eq!(two[1].verify(), Err(ProofError::Missing));
    let [nine] = &enriched("hdrsen_nine_tx_block")[..] else { panic!("one header") };
    assert_eq!(nine.verify(), Ok(()));

    // The node repeats the real hash here, where the proof made of the block may say so in short.
    let block = nine_transactions();
    let target = ProofTarget::BlockHash(block.hash());
    let made = MerkleProof::new(&txids(&block), 0, target).unwrap();
    let proof = &nine.coinbase.as_ref().unwrap().proof;
    assert_eq!(made.with_repeated_hashes(), *proof);
    assert_eq!(proof.fold(), Ok(block.header().merkle_root));
}

#[test]
fn each_flaw_of_an_enriched_header_is_named() {
    let [nine] = &enriched("hdrsen_nine_tx_block")[..] else { panic!("one header") };
    let block = nine_transactions();
    let others: Vec<Transaction> = block.transactions().map(|view| view.to_transaction()).collect();
    let broken = |change: &dyn Fn(&mut EnrichedHeader)| {
        let mut item = nine.clone();
        change(&mut item);
        item.verify().unwrap_err()
    };
    assert_eq!(broken(&|item| item.coinbase = None), ProofError::Missing);
    let coinbase = |item: &mut EnrichedHeader, change: &dyn Fn(&mut MerkleProof)| {
        change(&mut item.coinbase.as_mut().unwrap().proof);
    };
    assert_eq!(
        broken(&|item| coinbase(item, &|proof| proof.subject = ProofSubject::Txid(others[1].txid()))),
        ProofError::WrongTransaction
    );
    assert_eq!(broken(&|item| coinbase(item, &|proof| proof.index = 1)), ProofError::NotTheCoinbase);
    assert_eq!(
        broken(&|item| {
            let proven = item.coinbase.as_mut().unwrap();
            proven.transaction = others[1].clone();
            proven.proof.subject = ProofSubject::Txid(others[1].txid());
        }),
        ProofError::NotTheCoinbase
    );
    assert_eq!(
        broken(&|item| coinbase(item, &|proof| proof.target = ProofTarget::BlockHash(BlockHash::ZERO))),
        ProofError::WrongTarget
    );
    assert_eq!(
        broken(&|item| coinbase(item, &|proof| proof.nodes.truncate(3))),
        ProofError::WrongDepth { expected: 4, got: 3 }
    );
    assert_eq!(broken(&|item| item.transaction_count = 8), ProofError::WrongDepth { expected: 3, got: 4 });
    assert_eq!(broken(&|item| item.transaction_count = 0), ProofError::WrongDepth { expected: 0, got: 4 });
    let wrong = broken(&|item| coinbase(item, &|proof| proof.nodes[2] = ProofNode::Hash([7; 32])));
    assert!(matches!(wrong, ProofError::WrongRoot { .. }), "{wrong:?}");
    let info = broken(&|item| {
        let mut info = item.coinbase.clone().unwrap();
        info.proof.nodes.clear();
        item.miner_info = Some(info);
    });
    assert!(matches!(info, ProofError::WrongRoot { .. }), "{info:?}");
}

#[test]
fn a_dataref_transaction_is_proven_with_duplicates() {
    let Message::DataRefTx(proven) = message(&vector("datareftx_with_duplicate_nodes")) else { panic!() };
    let block = nine_transactions();
    assert_eq!(proven.verify(block.header()), Ok(()));
    assert_eq!(proven.proof.nodes[..3], [ProofNode::Duplicate; 3]);
    let target = ProofTarget::BlockHash(block.hash());
    let made = MerkleProof::new(&txids(&block), 8, target).unwrap();
    assert_eq!(made, proven.proof);
    let repeated = made.clone().with_repeated_hashes();
    assert_ne!(repeated, made);
    assert_eq!(repeated.verify(block.header()), Ok(()));
    assert_eq!(MerkleProof::from_bytes(&made.to_bytes()), Ok(made));
}

/// The form that the published standard gives such a proof.
#[test]
fn a_proof_in_json_is_that_of_the_standard() {
    let Message::DataRefTx(proven) = message(&vector("datareftx_with_duplicate_nodes")) else { panic!() };
    let expected = json!({
        "index": 8,
        "txOrId": "74d681e0e03bafa802c8aa084379aa98d9fcd632ddc2ed9782b586ec87451f20",
        "targetType": "hash",
        "target": "0000000000013b8ab2cd513b0261a14096412195a72a0c4827d229dcc7e0f7af",
        "nodes": ["*", "*", "*", "660af9921e9e17eba1106409c93aeec1b390bff99b0c25499da1b9c0e9aa56bc"],
        "proofType": "branch",
        "composite": false,
    });
    assert_eq!(serde_json::to_value(&proven.proof).unwrap(), expected);
    let read = |json: &Value| serde_json::from_value::<MerkleProof>(json.clone());
    assert_eq!(read(&expected).unwrap(), proven.proof);

    // What the standard lets out has its usual value.
    let mut short = expected.clone();
    for field in ["targetType", "proofType", "composite"] {
        short.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(read(&short).unwrap(), proven.proof);

    let with = |field: &str, value: Value| {
        let mut json = expected.clone();
        json[field] = value;
        json
    };
    for refused in [
        with("proofType", "tree".into()),
        with("composite", true.into()),
        with("targetType", "header".into()),
        with("target", "00".into()),
        with("txOrId", "0011".into()),
        with("nodes", json!(["+"])),
        with("nodes", json!(vec!["*"; 33])),
        with("index", (-1).into()),
    ] {
        assert!(read(&refused).is_err(), "{refused}");
    }

    let block = nine_transactions();
    let whole = proven.transaction.clone();
    for (target, name) in [
        (ProofTarget::Header(Box::new(*block.header())), "header"),
        (ProofTarget::MerkleRoot(block.header().merkle_root), "merkleRoot"),
    ] {
        let mut proof = proven.proof.clone();
        proof.target = target;
        proof.subject = ProofSubject::Transaction(whole.clone());
        let json = serde_json::to_value(&proof).unwrap();
        assert_eq!(json["targetType"], name);
        assert_eq!(json["txOrId"], hex(whole.raw()));
        assert_eq!(read(&json).unwrap(), proof);
        assert_eq!(proof.verify(block.header()), Ok(()));
        assert_eq!(MerkleProof::from_bytes(&proof.to_bytes()).unwrap(), proof);
    }
}

#[test]
fn compact_blocks_are_made_and_completed_from_the_real_block() {
    let block = nine_transactions();
    let all: Vec<Transaction> = block.transactions().map(|view| view.to_transaction()).collect();
    let nonce = 81_985_529_216_486_895;
    let Message::CmpctBlock(first) = message(&vector("cmpctblock_coinbase_prefilled")) else { panic!() };
    assert_eq!(CompactBlock::new(&block, nonce), *first);
    assert_eq!(first.reconstruct(&all), Ok(Reconstruction::Complete(block.clone())));

    let Message::CmpctBlock(three) = message(&vector("cmpctblock_three_prefilled")) else { panic!() };
    let prefilled: Vec<u32> = three.prefilled().map(|(index, _)| index).collect();
    assert_eq!(prefilled.len(), 3);
    assert_eq!(CompactBlock::with_prefilled(&block, nonce, |index| prefilled.contains(&index)), *three);

    // The transactions that the vectors of getblocktxn and blocktxn are about are two of the same block.
    let Message::GetBlockTxn(request) = message(&vector("getblocktxn_differential")) else { panic!() };
    let Message::BlockTxn(answer) = message(&vector("blocktxn_two")) else { panic!() };
    assert_eq!((request.block_hash, answer.block_hash()), (block.hash(), block.hash()));
    let given: Vec<Txid> = answer.transactions().map(|transaction| transaction.txid()).collect();
    let known = all.iter().filter(|transaction| !given.contains(&transaction.txid()));
    let Ok(Reconstruction::Partial(partial)) = first.reconstruct(known) else { panic!("two are missing") };
    assert_eq!(partial.missing().collect::<Vec<_>>(), [1, 8]);
    assert_eq!(partial.fill(&answer), Ok(block));
}

#[test]
fn filters_are_those_of_the_node() {
    let vector = vector("filterload_three_elements_tweaked");
    let Message::FilterLoad(load) = message(&vector) else { panic!("not filterload") };
    let elements: Vec<Vec<u8>> =
        vector["payload_fields"]["contains"].as_array().unwrap().iter().map(bytes).collect();
    assert_eq!(elements.len(), 3);
    let made = |tweak| {
        let mut filter = BloomFilter::new(3, 0.01, tweak, FilterUpdate::All).unwrap();
        elements.iter().for_each(|element| filter.insert(element).unwrap());
        filter
    };
    assert!(load.is_within_limits());
    let filter = BloomFilter::try_from(load.clone()).unwrap();
    assert_eq!(made(load.tweak), filter);
    assert!(elements.iter().all(|element| filter.contains(element)));
    let mut other = elements[0].clone();
    other[0] ^= 0x80;
    assert!(!filter.contains(&other));
    assert_eq!(FilterLoad::from(made(0)).filter, [0x61, 0x4e, 0x9b]);
}

#[test]
fn the_digest_of_an_answer_to_a_challenge_is_that_signed() {
    let vector = vector("authresp");
    let Message::AuthResp(answer) = message(&vector) else { panic!("not authresp") };
    let fields = &vector["payload_fields"];
    assert_eq!(hex(answer.signed_digest(&bytes(&fields["challenge"]))), fields["signed_digest"]);
}

#[test]
fn the_final_alert_can_be_read() {
    let Message::Alert(alert) = message(&vector("alert_final")) else { panic!("not an alert") };
    let details = alert.details().unwrap();
    assert_eq!(details.status_bar, "URGENT: Alert key compromised, upgrade required");
    assert_eq!((details.version, details.relay_until), (1, 0));
    assert_eq!((details.id, details.cancel, details.priority), (i32::MAX, i32::MAX - 1, i32::MAX));
    assert_eq!(details.cancelled, [i32::MAX]);
    assert_eq!((details.min_version, details.max_version), (0, i32::MAX));
    assert!(details.user_agents.is_empty());
}

#[test]
fn a_double_spend_notice_keeps_every_rule_or_names_the_one_it_breaks() {
    let Message::DsDetected(notice) = message(&vector("dsdetected_two_forks")) else { panic!("not dsdetected") };
    assert_eq!(notice.check(), Ok(()));
    let broken = |change: &dyn Fn(&mut conduit::message::DsDetected)| {
        let mut notice = notice.clone();
        change(&mut notice);
        notice.check().unwrap_err()
    };
    assert_eq!(broken(&|notice| notice.version = 2), DoubleSpendError::UnknownVersion { version: 2 });
    assert_eq!(broken(&|notice| notice.forks.truncate(1)), DoubleSpendError::TooFewForks { count: 1 });
    assert_eq!(broken(&|notice| notice.forks[1].headers.clear()), DoubleSpendError::NoHeaders { fork: 1 });
    assert_eq!(broken(&|notice| notice.forks[0].headers.swap(0, 1)), DoubleSpendError::BrokenChain { fork: 0 });
    assert_eq!(broken(&|notice| notice.forks[0].headers.truncate(1)), DoubleSpendError::NoCommonBlock { fork: 1 });
    assert_eq!(
        broken(&|notice| notice.forks[1].proof.subject = ProofSubject::Txid(notice.forks[1].proof.txid())),
        DoubleSpendError::NoTransaction { fork: 1 }
    );
    assert_eq!(broken(&|notice| notice.forks[1].proof.index = 0), DoubleSpendError::Coinbase { fork: 1 });
    let target = |error| DoubleSpendError::BadProof { fork: 1, error };
    assert_eq!(
        broken(&|notice| notice.forks[1].proof.target = ProofTarget::BlockHash(BlockHash::ZERO)),
        target(ProofError::WrongTarget)
    );
    assert!(matches!(
        broken(&|notice| notice.forks[1].proof.nodes[0] = ProofNode::Hash([7; 32])),
        DoubleSpendError::BadProof { fork: 1, error: ProofError::WrongRoot { .. } }
    ));
    assert_eq!(
        broken(&|notice| notice.forks[1] = notice.forks[0].clone()),
        DoubleSpendError::SameTransaction { fork: 1 }
    );
}
