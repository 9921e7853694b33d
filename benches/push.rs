//! Sending 250-byte `tx` to five peers, held against loopback TCP of the same bytes from one thread.
//!
//! `cargo bench --bench push`

mod support;

use std::io::Write;
use std::net::TcpStream;

use conduit::message::{Message, Transaction};
use support::peer::{Sinks, connect, dial};
use support::threads::Usage;
use support::{Aim, Bench, Work, payloads, time};

fn main() {
    let bench = Bench::start("250-byte tx to each of five peers, against loopback TCP of the same bytes");
    let transactions = payloads::transactions(DISTINCT);
    let raw: Vec<Vec<u8>> = transactions.iter().map(|transaction| transaction.raw().to_vec()).collect();
    let messages: Vec<Message> = transactions.into_iter().map(Message::Tx).collect();
    let stream = payloads::stream(&messages);
    let repeat = bench.amount(50);

    let sinks = Sinks::new(PEERS, true);
    let (conduit, peers) = connect(&sinks.addresses);
    let plain_sinks = Sinks::new(PEERS, false);
    let mut plain: Vec<TcpStream> = plain_sinks.addresses.iter().map(|&address| dial(address)).collect();

    let mut limit = || {
        plain_sinks.expect(stream.len() * repeat);
        time(|| {
            for _ in 0..repeat {
                for chunk in stream.chunks(WRITE_SIZE) {
                    plain.iter_mut().for_each(|peer| peer.write_all(chunk).expect("the sink reads"));
                }
            }
            plain_sinks.wait();
        })
    };
    let send = |message: &Message| {
        let results = conduit.send_to_all(&peers, message);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    };
    let sent = || sinks.expect(stream.len() * repeat);
    let total = DISTINCT * repeat;

    let mut usage = Usage::default();
    let mut rounds = 0;
    bench.row(
        "tx that has its txid",
        Work::Messages(total),
        Aim::AtLeast(0.5),
        || {
            sent();
            rounds += 1;
            usage.during(|| {
                time(|| {
                    (0..repeat).for_each(|_| messages.iter().for_each(send));
                    sinks.wait();
                })
            })
        },
        &mut limit,
    );
    bench.note(&format!("each to five, by thread: {}", usage.each(total * rounds)));
    let mut usage = Usage::default();
    usage.during(&mut limit);
    bench.note(&format!("the limit, by thread: {}", usage.each(total)));

    bench.row(
        "tx of raw bytes, hashed once",
        Work::Messages(total),
        Aim::None,
        || {
            sent();
            time(|| {
                for raw in raw.iter().cycle().take(total) {
                    send(&Message::Tx(Transaction::from_raw(raw.clone()).expect("it is one")));
                }
                sinks.wait();
            })
        },
        &mut limit,
    );
    conduit.shutdown();
}

const PEERS: usize = 5;
/// Transactions made in advance.
const DISTINCT: usize = 4_096;
/// Bytes of the plain writer's writes; larger ones are not faster.
const WRITE_SIZE: usize = 64 * 1_024;
