//! What the integration tests share: a real SV Node, a client of it and transactions to feed it, raw sockets that
//! speak as told, the example programs, and waits that end. Tests only; the library knows nothing of it.

#![allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
#![allow(clippy::disallowed_methods, reason = "tests wait for real processes, so they read the clock")]
#![allow(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]

pub(crate) mod blocks;
pub(crate) mod client;
pub(crate) mod headers;
pub(crate) mod hex;
#[cfg(unix)]
pub(crate) mod kills;
pub(crate) mod own_process;
pub(crate) mod program;
pub(crate) mod raw_peer;
pub(crate) mod rpc_line;
pub(crate) mod sv_node;
mod sv_node_binary;
pub(crate) mod transactions;
pub(crate) mod waits;

/// How long a test waits for what must happen: far more than it takes on a loaded machine.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
