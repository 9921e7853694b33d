//! What the integration tests share: a real SV Node to talk to, and transactions to feed it.
//! Tests only; the library knows nothing of it.

#![allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
#![allow(clippy::disallowed_methods, reason = "tests wait for real processes, so they read the clock")]

pub(crate) mod hex;
pub(crate) mod sv_node;
mod sv_node_binary;
pub(crate) mod transactions;
