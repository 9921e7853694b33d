//! Conduit against a real SV Node.

mod support;

use std::time::Duration;

use conduit::{BlockHash, Conduit, Config, GetData, GetHeaders, Network};
use support::sv_node::{SvNode, SvNodeOptions};

#[test]
fn smoke() {
    let Some(node) = SvNode::start(SvNodeOptions::default()) else { return };
    let hashes = node.generate(10);
    let conduit = Conduit::new(Config::new(Network::Regtest)).unwrap();
    let events = conduit.events();
    conduit.add_peers([node.address()]).unwrap();
    conduit.start().unwrap();
    let r = conduit.wait_for_peers(1, Duration::from_secs(10));
    while let Ok(e) = events.try_recv() {
        println!("{e:?}");
    }
    r.unwrap();
    let headers = conduit.send_request(GetHeaders::new(vec![Network::Regtest.genesis()])).unwrap();
    assert_eq!(headers.len(), 10);
    let h: BlockHash = hashes[9].parse().unwrap();
    let block = conduit.send_request(GetData::block(h)).unwrap();
    assert_eq!(block.raw().to_vec(), node.block_bytes(&hashes[9]));
    println!("{:#?}", conduit.peers());
    conduit.shutdown();
    node.assert_no_misbehaviour();
}
