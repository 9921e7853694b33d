//! Blocks of a real SV Node, from a few hundred bytes to megabytes; those of hundreds of megabytes are in `tests/long`.

mod support;

use conduit::message::Transaction;
use sha2::{Digest, Sha256};

use support::blocks::{self, MinedBlock};
use support::client::{Client, config, hashes, sole_peer, stored};
use support::program::{measure, number, run_for_bytes};
use support::sv_node::SvNode;
use support::transactions::{self, Funding};

#[test]
fn blocks_of_a_kilobyte_and_of_ten_megabytes_are_streamed_as_the_node_has_them() {
    let Some(node) = SvNode::start(blocks::options()) else { return };
    let mined = [blocks::ONE_KB, blocks::TEN_MB].map(|lots| blocks::mine(&node, lots));
    assert!((900..1_100).contains(&mined[0].size) && mined[0].transactions == 2, "{mined:?}");
    assert!((9_900_000..10_500_000).contains(&mined[1].size) && mined[1].transactions == 4_032, "{mined:?}");
    for (way, connections) in blocks::WAYS {
        let client = blocks::connect(&node, connections);
        for block in &mined {
            blocks::stream(&node, &client, block).print(way);
        }
        // As a whole, too, which the reader need not cut.
        for MinedBlock { hash, size, digest, .. } in mined {
            let raw = client.conduit.block(hash).unwrap().into_vec(size).unwrap();
            assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(raw)));
        }
        client.end(&[&node]);
    }
}

#[test]
fn a_real_block_is_downloaded_and_measured_by_the_programs() {
    let Some(node) = SvNode::start(blocks::options()) else { return };
    let MinedBlock { hash, size, digest, transactions } = blocks::mine(&node, blocks::TEN_MB);
    let address = node.address().to_string();
    let hash = hash.to_string();
    let args = ["--network", "regtest", "--connect", &address, &hash];
    let (code, raw, complaints) = run_for_bytes("download_block", &args);
    assert_eq!((code, <[u8; 32]>::from(Sha256::digest(raw))), (Some(0), digest), "{complaints}");
    let fields = [
        "mode",
        "bytes",
        "transactions",
        "seconds",
        "mb_per_second",
        "cpu_seconds",
        "peak_rss_bytes",
        "merkle_ok",
        "peers",
    ];
    let report = measure(&["block", "--hash", &hash, "--connect", &address], &fields);
    assert_eq!((number(&report, "bytes"), number(&report, "transactions")), (size as f64, transactions as f64));
    assert_eq!(report["merkle_ok"], true);
    node.assert_no_misbehaviour();
}

#[test]
fn a_mined_block_is_made_of_the_transactions_that_were_in_the_pool() {
    let Some(node) = SvNode::start(blocks::options()) else { return };
    let mut funding = Funding::new(&node, 50);
    node.generate(12);
    let raws: Vec<_> = (0..50).map(|i| transactions::spend(funding.take(), 200 + i)).collect();
    raws.iter().for_each(|raw| assert_eq!(node.send_raw_transaction(raw), Ok(transactions::txid(raw))));
    let tip = hashes(&node.generate(1))[0];
    let block = stored(&node, tip);
    let pool: Vec<_> = raws.into_iter().map(|raw| Transaction::from_raw(raw).unwrap()).collect();
    let client = Client::connect(&[&node], config());

    let sent = |kind: &str| sole_peer(&node)["bytessent_per_msg"][kind].as_u64().unwrap_or(0);
    assert_eq!(client.conduit.compact_block(tip, &pool).as_ref(), Ok(&block));
    assert!(sent("cmpctblock") > 0, "its short ids were sent");
    assert_eq!((sent("blocktxn"), sent("block")), (0, 0), "and nothing else");
    assert_eq!(client.conduit.compact_block(tip, &pool[..40]).as_ref(), Ok(&block));
    let parts = sent("blocktxn");
    assert!((2_000..3_000).contains(&parts), "ten transactions, not {parts} bytes");
    assert_eq!(client.conduit.compact_block(tip, []).as_ref(), Ok(&block));
    client.end(&[&node]);
}
