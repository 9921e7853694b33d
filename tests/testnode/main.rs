//! The test node over raw blocking sockets: what it answers, what it announces, how it fails on command.
//!
//! The peer here is made by hand of the public wire and message layers, so nothing of the library's own connections is
//! between the test and the node.

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]
#![expect(clippy::disallowed_methods, reason = "tests over sockets take time")]

mod answers;
mod basics;
mod blocks;
mod breaches;
mod broadcasts;
mod faults;
#[allow(dead_code, reason = "it is shared, and not all of it is needed here")]
#[path = "../support/own_process.rs"]
mod own_process;
mod peer;
mod wishes;

use peer::PATIENCE;
