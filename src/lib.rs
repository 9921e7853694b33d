//! Blocking, thread-based client for the Bitcoin SV peer-to-peer network.

pub mod wire;
