//! Blocks of a real SV Node, from a few hundred bytes to megabytes; those of hundreds of megabytes are in `tests/long`.

#![expect(clippy::disallowed_methods, reason = "it is told how long things took")]

mod support;

use std::time::Instant;

use conduit::GetData;
use sha2::{Digest, Sha256};

use support::blocks::{self, MinedBlock};
use support::client::{Client, config};
use support::sv_node::SvNode;

#[test]
fn a_node_mines_blocks_of_a_kilobyte_and_of_ten_megabytes() {
    let Some(node) = SvNode::start(blocks::options()) else { return };
    let began = Instant::now();
    let mined = [blocks::ONE_KB, blocks::TEN_MB].map(|lots| blocks::mine(&node, lots));
    println!("mined in {:?}: {mined:?}", began.elapsed());
    assert!((900..1_100).contains(&mined[0].size) && mined[0].transactions == 2, "{mined:?}");
    assert!((9_900_000..10_500_000).contains(&mined[1].size) && mined[1].transactions == 4_032, "{mined:?}");

    let client = Client::connect(&[&node], config());
    for MinedBlock { hash, size, digest, .. } in mined {
        let block = client.conduit.send_request(GetData::block(hash)).unwrap();
        assert_eq!(block.raw().len() as u64, size);
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(block.raw())));
    }
    client.end(&[&node]);
}
