//! Blocking, thread-based client for the Bitcoin SV peer-to-peer network.

pub mod block;
pub mod message;
pub mod wire;

mod config;
mod driver;
mod error;
mod network;
mod peer;
mod proto;
mod queue;

pub use config::Config;
pub use network::{CustomNetwork, Network};
