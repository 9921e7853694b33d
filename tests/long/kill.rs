//! A hundred kills each: of a process that broadcasts, that rewrites its file, that starts.

use crate::support::kills::{Kills, Net};

#[test]
#[ignore = "long"]
fn a_hundred_kills_with_nodes_apart() {
    Kills { test: "kill::a_hundred_kills_with_nodes_apart", net: Net::Apart, lives: 100, len: 250 }.run();
}

#[test]
#[ignore = "long"]
fn a_hundred_kills_with_nodes_that_relay() {
    Kills { test: "kill::a_hundred_kills_with_nodes_that_relay", net: Net::Joined, lives: 100, len: 250 }.run();
}

#[test]
#[ignore = "long"]
fn a_hundred_kills_while_the_file_is_rewritten_often() {
    let kills = Kills {
        test: "kill::a_hundred_kills_while_the_file_is_rewritten_often",
        net: Net::Joined,
        lives: 100,
        len: 100_000,
    };
    assert!(kills.run() > 1, "the file was never rewritten");
}
