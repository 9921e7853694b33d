//! Framing and decoding in memory, held against sha256d of the same payloads on the same core.
//!
//! `cargo bench --bench decode`, and `-- WORD` for the rows with that word in their names

mod support;

use std::hint::black_box;

use conduit::message::Message;
use conduit::wire::{FrameDecoder, FrameHeader, FramePart, PayloadLimits, SharedBytes, sha256d};
use support::payloads::{self, network};
use support::{Aim, Bench, Work, time, time_of_hashing};

fn main() {
    let bench = Bench::start("framing and decoding in memory, against sha256d of the payloads");
    let transactions = payloads::transactions(4_096).into_iter().map(Message::Tx).collect::<Vec<_>>();
    decode(&bench, "tx of 250 bytes", &transactions, 50);
    decode(&bench, "inv of 1,000", &[payloads::inv(1_000)], 1_000);
    decode(&bench, "headers of 2,000", &[Message::Headers(payloads::headers(2_000))], 200);
    decode(&bench, "block of 1 MB, tx of 250 bytes", &[payloads::block(1_000_000)], 50);
    decode(&bench, "tx of 1 MB", &[Message::Tx(payloads::transaction(0, 1_000_000))], 50);
}

fn decode(bench: &Bench, name: &str, messages: &[Message], repeat: usize) {
    if !bench.wants(name) {
        return;
    }
    let repeat = bench.amount(repeat);
    let stream = payloads::stream(messages);
    let payloads: Vec<Vec<u8>> = messages.iter().map(payloads::payload).collect();
    let total = messages.len() * repeat;
    let work = match stream.len() / messages.len() {
        900_000.. => Work::Bytes(stream.len() * repeat),
        _ => Work::Messages(total),
    };
    let medians = bench.row(
        name,
        work,
        Aim::None,
        || {
            time(|| {
                let mut receiver = Receiver::default();
                for _ in 0..repeat {
                    stream.chunks(READ_SIZE).for_each(|bytes| receiver.take(bytes));
                }
                assert_eq!(receiver.messages, total);
            })
        },
        || time_of_hashing(&payloads, repeat),
    );
    let (hash, other) = (medians.limit_each(total), medians.beyond_limit(total));
    bench.note(&format!("each: {hash:.0} ns for the hash, {other:.0} ns beyond it"));
}

/// Makes messages of bytes that arrive in pieces, as a program on the wire layer would.
struct Receiver {
    decoder: FrameDecoder,
    gathered: Option<(FrameHeader, Vec<u8>)>,
    messages: usize,
}

impl Default for Receiver {
    fn default() -> Self {
        let limits = PayloadLimits { general: 2 << 20, block: 4 << 30 };
        Self { decoder: FrameDecoder::new(network().magic(), limits), gathered: None, messages: 0 }
    }
}

impl Receiver {
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some(part) = self.decoder.push(&mut bytes).expect("the frames are right") {
            match part {
                FramePart::Whole(header, payload) => self.message(&header, SharedBytes::copy_from(payload)),
                FramePart::Start(header) => self.gathered = Some((header, Vec::new())),
                FramePart::Chunk(chunk) => {
                    let (_, gathered) = self.gathered.as_mut().expect("it was started");
                    gathered.extend_from_slice(chunk);
                }
                FramePart::End => {
                    let (header, payload) = self.gathered.take().expect("it was started");
                    self.message(&header, payload.into());
                }
            }
        }
    }

    fn message(&mut self, header: &FrameHeader, payload: SharedBytes) {
        let digest = sha256d(&payload);
        assert_eq!(header.checksum.as_ref(), digest.first_chunk());
        let message = Message::decode_shared(header.command, payload, Some(&digest));
        black_box(message.expect("it was encoded well"));
        self.messages += 1;
    }
}

/// Bytes of one read.
const READ_SIZE: usize = 64 * 1_024;
