//! A process that is killed at any moment, again and again: what it had said to be saved is there at the next start.

use crate::support::kills::{Kills, Net};

#[test]
fn kills_lose_nothing_and_let_no_peer_that_was_told_be_a_witness() {
    Kills {
        test: "kill::kills_lose_nothing_and_let_no_peer_that_was_told_be_a_witness",
        net: Net::Apart,
        lives: 8,
        len: 250,
    }
    .run();
}

#[test]
fn kills_among_nodes_that_relay_lose_nothing() {
    Kills { test: "kill::kills_among_nodes_that_relay_lose_nothing", net: Net::Joined, lives: 8, len: 250 }.run();
}
