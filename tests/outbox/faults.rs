//! What goes wrong: directories in use, damage, disks that are full, calls cut short.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::thread;
use std::time::Instant;

use conduit::error::BroadcastFailure;
use conduit::error::{ConfigError, FileFault, StartError};
use conduit::{BroadcastOptions, Conduit, Config, Event, Network};

use super::support::{PATIENCE, waits};
use super::{config, node, patient, raw, start};

#[test]
fn keeping_without_a_directory_is_an_error() {
    let refused = Conduit::new(Config::new(Network::Regtest).keep_broadcasts(true)).err();
    assert_eq!(refused, Some(ConfigError::Missing { setting: "data_dir", needed_by: "keep_broadcasts" }));
}

#[test]
fn a_second_conduit_on_the_directory_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path(), []);
    first.broadcast_transaction_with(raw(1), &patient()).unwrap();
    let second = Conduit::new(config(dir.path())).unwrap();
    for _ in 0..2 {
        assert!(matches!(second.start(), Err(StartError::BroadcastsInUse { .. })));
    }
    let refused = second.broadcast_transaction_with(raw(2), &patient()).expect_err("it is not started");
    assert_eq!((refused.reason, refused.raw), (BroadcastFailure::NotStarted, raw(2)));
    first.shutdown();
    second.start().unwrap();
    assert_eq!(second.broadcasts().len(), 1);
    second.broadcast_transaction_with(raw(2), &patient()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_fails_the_start_and_can_be_made_later() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::write(&data, "of somebody").unwrap();
    let conduit = Conduit::new(config(&data)).unwrap();
    assert!(matches!(conduit.start(), Err(StartError::Broadcasts(_))));
    fs::remove_file(&data).unwrap();
    conduit.start().unwrap();
    conduit.broadcast_transaction_with(raw(1), &patient()).unwrap();
}

#[test]
fn a_damaged_file_is_set_aside_and_its_beginning_used() {
    let dir = tempfile::tempdir().unwrap();
    let conduit = start(dir.path(), []);
    for number in 0..10 {
        conduit.broadcast_transaction_with(raw(number), &patient()).unwrap();
    }
    conduit.shutdown();
    let path = dir.path().join("outbox-regtest.log");
    let length = fs::metadata(&path).unwrap().len();
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    // Within the group of the last.
    file.seek(SeekFrom::Start(length - 100)).unwrap();
    file.write_all(&[0xa5; 50]).unwrap();
    drop(file);
    let damaged = fs::read(&path).unwrap();
    let conduit = Conduit::new(config(dir.path())).unwrap();
    let events = conduit.events();
    conduit.start().unwrap();
    let Event::SetAside { moved_to, what } = waits::next_event(&events) else { panic!("it is not told first") };
    assert_eq!((what, fs::read(moved_to).unwrap() == damaged), (FileFault::Damaged, true));
    assert_eq!(conduit.broadcasts().len(), 9);
    conduit.broadcast_transaction_with(raw(9), &patient()).unwrap();
    conduit.shutdown();
    assert_eq!(start(dir.path(), []).broadcasts().len(), 10);
}

#[test]
fn calls_that_the_shutdown_cuts_short_end_with_the_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let conduit = Conduit::new(config(dir.path()).broadcast_items(5)).unwrap();
    conduit.start().unwrap();
    for number in 0..5 {
        conduit.broadcast_transaction_with(raw(number), &patient()).unwrap();
    }
    let calls: Vec<_> = (5..8)
        .map(|number| {
            let conduit = conduit.clone();
            waits::call(move || conduit.broadcast_transaction_with(raw(number), &patient()).err())
        })
        .collect();
    conduit.shutdown();
    for (number, call) in (5..8).zip(calls) {
        let error = call.result().expect("there was no room");
        assert_eq!((error.reason, error.raw), (BroadcastFailure::Shutdown, raw(number)));
    }
    assert_eq!(start(dir.path(), []).broadcasts().len(), 5);
}

#[test]
fn start_and_shutdown_at_once_end() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..100 {
        let conduit = Conduit::new(config(dir.path())).unwrap();
        let starting = {
            let conduit = conduit.clone();
            waits::call(move || conduit.start())
        };
        let ending = waits::call(move || conduit.shutdown());
        ending.result();
        assert!(matches!(starting.result(), Ok(()) | Err(StartError::Shutdown)));
    }
    start(dir.path(), []);
}

/// One group holds what many threads call for.
#[test]
fn many_threads_share_their_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let conduit = Conduit::new(config(dir.path())).unwrap();
    conduit.start().unwrap();
    let (threads, each) = (32, 50);
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let conduit = &conduit;
            scope.spawn(move || {
                for number in 0..each {
                    conduit.broadcast_transaction_with(raw(thread * each + number), &patient()).unwrap();
                }
            });
        }
    });
    let rate = (threads * each) as f64 / began.elapsed().as_secs_f64();
    println!("{threads} threads: {rate:.0} calls per second, each on the disk");
    conduit.shutdown();
    assert_eq!(start(dir.path(), []).broadcasts().len() as u64, threads * each);
}

#[test]
fn an_iterator_of_transactions_is_kept_like_single_ones() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = [node(), node()];
    nodes[0].join(&nodes[1]).unwrap();
    let conduit = start(dir.path(), &nodes);
    let options = BroadcastOptions::new().nodes(1).deadline(PATIENCE);
    let outcomes: Vec<_> = conduit.broadcast_transactions((0..500).map(raw), options).collect();
    assert_eq!(outcomes.len(), 500);
    for outcome in outcomes {
        assert_eq!(outcome.result.unwrap().verdict.name(), "relayed");
    }
    conduit.shutdown();
    assert!(start(dir.path(), []).broadcasts().is_empty());
}
