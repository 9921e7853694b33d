//! Blocking, thread-based client for the Bitcoin SV peer-to-peer network.

pub mod block;
pub mod message;
pub mod wire;
