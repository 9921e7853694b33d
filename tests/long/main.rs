//! What takes minutes: gigabytes, millions, kills and soaks. `cargo test` compiles it and runs none of it; each is run by
//! its name, with optimisation:
//!
//! ```text
//! cargo test --release --test long -- --ignored --nocapture NAME
//! ```

#![expect(clippy::unwrap_used, reason = "the lint spares test functions, not their helpers")]
#![expect(clippy::disallowed_methods, reason = "rates are measured against the clock")]

#[cfg(target_os = "linux")]
mod blocks;
mod broadcasts;
#[cfg(unix)]
mod kill;
#[path = "../support/mod.rs"]
mod support;
mod sv_node;
mod sv_node_blocks;
mod testnode;
