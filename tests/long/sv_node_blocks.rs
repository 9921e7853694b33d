//! A block of 300 MB that a real SV Node has mined.

use std::time::Instant;

use crate::support::blocks;
use crate::support::sv_node::SvNode;

#[test]
#[ignore = "long"]
fn a_node_mines_a_block_of_three_hundred_megabytes() {
    let Some(node) = SvNode::start(blocks::options()) else { return };
    let began = Instant::now();
    let mined = blocks::mine(&node, blocks::THREE_HUNDRED_MB);
    println!("mined in {:?}: {mined:?}", began.elapsed());
}
