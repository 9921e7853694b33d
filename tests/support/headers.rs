//! Headers of real chains, by which peers are told apart, each with its network and height.

use conduit::message::BlockHeader;

use super::hex;

/// The block of the test network at height 1,377,549: its fork marker.
pub(crate) fn test_marker() -> BlockHeader {
    read(
        "00000020b9ea0b497adc73aff2e3d2c3663db12bdf4f8d612d3317e76700000000000000b1e1eda1767dc2e6fdb63e82d570461d\
         a2daa2f4fd9fe375ebce93f5b180a6f5ae7e285faef5021a7f406d4d",
    )
}

/// The block of BCH at height 556,767, where ours is the fork marker of the main network.
pub(crate) fn bch_556767() -> BlockHeader {
    read(
        "0000002022938d4ece739b34d65de82f58c72c7a80d09bde4fd9020100000000000000004419fd3ebb093486e3a662ec67455bf1\
         ff06ec9052e59aba4d1b6bbd0511f31ca8b4ed5bdb1f021881f61ee9",
    )
}

fn read(text: &str) -> BlockHeader {
    BlockHeader::decode(&hex::decode(text).try_into().expect("80 bytes"))
}
