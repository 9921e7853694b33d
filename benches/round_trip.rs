//! Request and reply, one at a time, held against blocking `std` sockets with the same bytes.
//!
//! Waking a thread on another core is most of a round trip across two, so all of it is measured on one core too.
//!
//! `cargo bench --bench round_trip`

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use conduit::message::{Inventory, Message};
use conduit::{GetData, Ping};
use support::payloads::{self, network};
use support::peer::{answering, connect, dial};
use support::threads::Usage;
use support::{Aim, Bench, Work, is_pinned, median_call, run_pinned_too};

fn main() {
    let bench = Bench::start("request and reply, one at a time, against blocking std sockets; medians");
    run_pinned_too();
    let cores = if is_pinned() { "one core" } else { "two cores" };
    let count = bench.amount(3_000);

    let transaction = payloads::transaction(1, 250);
    let txid = transaction.txid();
    let magic = network().magic();
    let answer = Message::Tx(transaction).to_frame(magic).to_vec();
    let getdata = Message::GetData(vec![Inventory::transaction(txid)]).to_frame(magic).to_vec();
    let ping = Message::Ping { nonce: 1 }.to_frame(magic).to_vec();

    let (conduit, _) = connect(&[answering(true, answer.clone())]);
    let mut plain = dial(answering(false, answer.clone()));
    let usage = |whose: &str, exchange: &mut dyn FnMut()| {
        let mut usage = Usage::default();
        usage.during(|| (0..count).for_each(|_| exchange()));
        bench.note(&format!("{whose}, by thread: {}", usage.each(count)));
    };

    let mut request = || {
        let got = conduit.send_request(GetData::transaction(txid)).expect("the peer answers");
        assert_eq!(got.txid(), txid);
    };
    bench.row(
        &format!("getdata of a 250-byte tx, {cores}"),
        Work::Latency,
        Aim::AtMost(3.0),
        || median_call(count, &mut request),
        || median_call(count, || exchange(&mut plain, &getdata, answer.len())),
    );
    usage("ours", &mut request);
    usage("the limit", &mut || exchange(&mut plain, &getdata, answer.len()));

    bench.row(
        &format!("ping, {cores}"),
        Work::Latency,
        Aim::AtMost(3.0),
        || {
            median_call(count, || {
                conduit.send_request(Ping).expect("the peer answers");
            })
        },
        || median_call(count, || exchange(&mut plain, &ping, ping.len())),
    );
    conduit.shutdown();
}

/// Sends a request and reads its answer, which has a known length.
fn exchange(stream: &mut TcpStream, request: &[u8], answer_len: usize) {
    let mut answer = [0; 1_024];
    stream.write_all(request).expect("the peer reads");
    stream.read_exact(&mut answer[..answer_len]).expect("the peer answers");
}
