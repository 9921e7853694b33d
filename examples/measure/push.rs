//! `push`: transactions to every peer, unasked, as fast as they are taken.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use conduit::message::{Message, Transaction};
use conduit::testnode::transaction;
use conduit::{Conduit, PeerId, Ping, RequestOptions};
use serde_json::{Value, json};

use super::support::Failure;
use super::support::process::Span;
use super::{Options, why};

pub(crate) fn run(options: &Options) -> Result<Value, Failure> {
    let count = options.count()?;
    let size = options.size()?;
    let (conduit, peers, events) = options.conduit()?;
    conduit.start()?;
    let losses = options.wait_for_all(&conduit, events)?;

    let (batches, prepared) = produce(count, size)?;
    let span = Span::start();
    for message in batches.into_iter().flatten() {
        send(&conduit, &peers, &message).map_err(|error| why(&losses, &error))?;
    }
    let fences: Vec<_> = peers
        .iter()
        .map(|&peer| {
            conduit.send_request_nowait_with(Ping, &RequestOptions::new().peer(peer).timeout(options.timeout))
        })
        .collect::<Result<_, _>>()?;
    for fence in fences {
        fence.wait().map_err(|error| why(&losses, &error))?;
    }
    let (seconds, cpu_seconds) = span.end();

    let messages = count * peers.len() as u64;
    Ok(json!({
        "mode": "push",
        "messages": messages,
        "bytes": messages * (FRAME_HEADER_LEN + size as u64),
        "seconds": seconds,
        "per_second": messages as f64 / seconds,
        "cpu_seconds": cpu_seconds,
        "peers": peers.len(),
        "prepared": prepared,
    }))
}

/// Sends one message to every peer: the call that is measured.
fn send(conduit: &Conduit, peers: &[PeerId], message: &Message) -> Result<(), String> {
    for (peer, result) in peers.iter().zip(conduit.send_to_all(peers, message)) {
        result.map_err(|error| format!("{peer}: {error}"))?;
    }
    Ok(())
}

/// Makes the messages on a thread of its own, ahead of who takes them; returns once all are made or no more fit, and
/// says how many there are then.
pub(crate) fn produce(count: u64, size: usize) -> Result<(Receiver<Vec<Message>>, u64), Failure> {
    let each = size + OVERHEAD;
    let batch = (BATCH_BYTES / each).max(1) as u64;
    let (sender, receiver) = sync_channel((MEMORY / (each * batch as usize)).max(1));
    let (ready, is_ready) = sync_channel(1);
    thread::Builder::new().name("measure-make".into()).spawn(move || make(count, size, batch, &sender, &ready))?;
    let prepared = is_ready.recv().map_err(|_| "the thread that makes transactions is gone")?;
    Ok((receiver, prepared))
}

fn make(count: u64, size: usize, batch: u64, sender: &SyncSender<Vec<Message>>, ready: &SyncSender<u64>) {
    let template = transaction(0, size).raw().to_vec();
    // A node that is measured twice shall not know them already.
    let run = RandomState::new().hash_one(()).to_le_bytes();
    let mut first = 0;
    while first < count {
        let next = count.min(first + batch);
        let messages: Vec<_> = (first..next).map(|number| Message::Tx(numbered(&template, number, run))).collect();
        if let Err(std::sync::mpsc::TrySendError::Full(messages)) = sender.try_send(messages) {
            // It hears of the first time only, and hangs up when it had enough.
            let _ = ready.try_send(first);
            if sender.send(messages).is_err() {
                return;
            }
        }
        first = next;
    }
    let _ = ready.try_send(count);
}

/// The template, spending an output that no other number of any other run spends.
fn numbered(template: &[u8], number: u64, run: [u8; 8]) -> Transaction {
    let mut raw = template.to_vec();
    raw[SPENT..SPENT + 8].copy_from_slice(&number.to_le_bytes());
    raw[SPENT + 8..SPENT + 16].copy_from_slice(&run);
    Transaction::from_raw(raw).expect("the template is a transaction, and no length in it changed")
}

/// Where the id of the first transaction spent begins: behind the version and the number of inputs.
const SPENT: usize = 5;
pub(crate) const FRAME_HEADER_LEN: u64 = 24;
/// What a message takes beyond its bytes, about.
const OVERHEAD: usize = 128;
const BATCH_BYTES: usize = 256 * 1_024;
/// Bytes of transactions that wait at most, to be sent.
const MEMORY: usize = 512 * 1_024 * 1_024;
