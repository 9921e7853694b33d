//! A block of 300 MB that a real SV Node has mined, with transactions larger than any chunk in it.

use std::time::Instant;

use crate::support::blocks;
use crate::support::sv_node::SvNode;

#[test]
#[ignore = "long"]
fn a_block_of_three_hundred_megabytes_is_streamed_as_the_node_has_it() {
    let Some(node) = SvNode::start(blocks::options()) else { return };
    let began = Instant::now();
    let mined = blocks::mine(&node, blocks::THREE_HUNDRED_MB);
    println!("{} bytes, {} transactions, mined in {:.1?}", mined.size, mined.transactions, began.elapsed());
    println!("a bare socket reads it in {:.1?}", blocks::read_by_bare_socket(&node, &mined));
    for (way, connections) in blocks::WAYS {
        let client = blocks::connect(&node, connections);
        for _ in 0..2 {
            blocks::stream(&node, &client, &mined).print(way);
        }
        client.end(&[&node]);
    }
}
