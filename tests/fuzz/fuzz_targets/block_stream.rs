//! A block over several peers, who may lie and be lost at any byte: only the block that was asked for is proven, what is
//! handed out never changes, and nobody honest is blamed.
//!
//! The script is made by the fuzzer: bytes that come, losses, other peers, reads; the rules are the library's own model.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| conduit::fuzzing::run_transfer(script));
