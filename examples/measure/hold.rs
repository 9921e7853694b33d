//! `hold`: connects to whatever standard input names, and holds the connections.

use std::io::{self, BufRead, BufReader, Write};
use std::thread;

use conduit::{Conduit, DisconnectReason, Event, Events, PeerAddress};
use serde_json::json;

use super::Options;
use super::support::Failure;

pub(crate) fn run(options: Options) -> Result<(), Failure> {
    let config = options.config().max_peers(MOST_PEERS).event_queue_items(EVENTS);
    let conduit = Conduit::new(config)?;
    let events = conduit.events();
    conduit.start()?;
    let told = thread::Builder::new().name("measure-tell".into()).spawn({
        let conduit = conduit.clone();
        move || tell(&conduit, &events)
    })?;

    let mut input = BufReader::new(io::stdin());
    let mut line = String::new();
    let mut addresses = Vec::new();
    while input.read_line(&mut line)? > 0 {
        match read_peer(line.trim()) {
            _ if line.trim().is_empty() => {}
            Ok(address) => addresses.push(address),
            Err(reason) => say("disconnected", line.trim(), Some(&reason))?,
        }
        line.clear();
        // Those that came in one go are added in one.
        if !input.buffer().contains(&b'\n') {
            add(&conduit, std::mem::take(&mut addresses))?;
        }
    }
    add(&conduit, addresses)?;
    conduit.shutdown();
    told.join().map_err(|_| "the thread that tells the events panicked")??;
    Ok(())
}

fn add(conduit: &Conduit, addresses: Vec<PeerAddress>) -> io::Result<()> {
    let Err(error) = conduit.add_peers(&addresses) else { return Ok(()) };
    let reason = error.to_string();
    addresses.iter().try_for_each(|address| say("disconnected", &address.to_string(), Some(&reason)))
}

/// A line of standard input: an address with a port, or a port of this machine.
fn read_peer(text: &str) -> Result<PeerAddress, String> {
    let text = if text.parse::<u16>().is_ok() { format!("127.0.0.1:{text}") } else { text.to_owned() };
    let address: PeerAddress = text.parse().map_err(|error| format!("{error}"))?;
    if address.port().is_none() { Err("a port is missing".into()) } else { Ok(address) }
}

/// Tells every event until the conduit is shut down.
fn tell(conduit: &Conduit, events: &Events) -> io::Result<()> {
    while let Ok(event) = events.recv() {
        match event {
            Event::Connected { address, .. } => say("connected", &address.to_string(), None)?,
            // The end that standard input asked for.
            Event::Disconnected { reason: DisconnectReason::Shutdown, .. }
            | Event::Refused { reason: DisconnectReason::Shutdown, .. } => {}
            Event::Disconnected { peer, address, reason } | Event::Refused { peer, address, reason } => {
                // Forgotten, so that it is not dialled again; nothing to do if it is already.
                let _ = conduit.disconnect(peer);
                say("disconnected", &address.to_string(), Some(&reason.to_string()))?;
            }
            // They follow from the others.
            Event::NoPeers | Event::NetworkBack => {}
            Event::Missed { count } => eprintln!("{count} events were lost: standard output is read too slowly"),
            // It says nothing of one connection.
            _ => {}
        }
    }
    Ok(())
}

fn say(event: &str, peer: &str, reason: Option<&str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", json!({ "event": event, "peer": peer, "reason": reason }))?;
    out.flush()
}

/// More than there are ports; file descriptors end first.
const MOST_PEERS: usize = 100_000;
/// Two for each of these peers.
const EVENTS: usize = 200_000;
