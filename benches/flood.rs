//! A flood of messages from one peer, decoded and delivered to one worker, held against sha256d on one core.
//!
//! `cargo bench --bench flood`, and `-- WORD` for the rows with that word in their names

mod support;

use std::hint::black_box;

use conduit::message::Message;
use support::peer::{Source, connect};
use support::threads::Usage;
use support::{Aim, Bench, Work, payloads, time, time_of_hashing};

fn main() {
    let bench = Bench::start("a flood from one peer to one worker, against sha256d on one core");
    let transactions: Vec<Message> = payloads::transactions(4_096).into_iter().map(Message::Tx).collect();
    let hashed: Vec<Vec<u8>> = transactions.iter().map(payloads::payload).collect();
    flood(&bench, "tx of 250 bytes", &transactions, 1, &hashed, 75, Aim::AtLeast(0.6));

    let headers = payloads::headers(2_000);
    let hashed: Vec<Vec<u8>> = headers.iter().map(|header| header.encode().to_vec()).collect();
    let messages = [Message::Headers(headers)];
    flood(&bench, "headers, 2,000 a message; a header", &messages, 2_000, &hashed, 250, Aim::AtLeast(0.5));

    let inv = [payloads::inv(1_000)];
    let hashed = [payloads::payload(&inv[0])];
    flood(&bench, "inv of 1,000", &inv, 1, &hashed, 2_000, Aim::None);
}

/// Sends `messages`, `repeat` times; each counts as `items`. The limit hashes each of `hashed`.
fn flood(
    bench: &Bench,
    name: &str,
    messages: &[Message],
    items: usize,
    hashed: &[Vec<u8>],
    repeat: usize,
    aim: Aim,
) {
    if !bench.wants(name) {
        return;
    }
    let repeat = bench.amount(repeat);
    let total = messages.len() * repeat;
    let source = Source::new(payloads::stream(messages));
    let (conduit, _) = connect(&[source.address]);
    let queue = conduit.messages().expect("the first queue opens");
    let mut rounds = 0;
    let mut usage = Usage::default();
    let medians = bench.row(
        name,
        Work::Messages(total * items),
        aim,
        || {
            rounds += 1;
            usage.during(|| {
                time(|| {
                    source.send(repeat);
                    for _ in 0..total {
                        let incoming = queue.recv().expect("the conduit lives");
                        assert_eq!(incoming.message.command(), messages[0].command());
                        black_box(incoming);
                    }
                })
            })
        },
        || time_of_hashing(hashed, repeat),
    );
    let hash = medians.limit_each(total);
    bench.note(&format!("each message: the limit {hash:.0} ns; by thread: {}", usage.each(total * rounds)));
    conduit.shutdown();
}
