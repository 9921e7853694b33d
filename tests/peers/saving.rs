//! What is kept from one run to the next, and what becomes of a file that is damaged.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conduit::error::FileFault;
use conduit::testnode::TestNode;
use conduit::{BanReason, Conduit, Config, Event, Network, Ping};
use tempfile::TempDir;

use super::support::{PATIENCE, waits};
use super::{addresses, config, custom, hamlet, nowhere, ready, until};

#[test]
fn addresses_that_worked_are_dialled_at_the_next_start_without_the_seeds() {
    let nodes = hamlet(3);
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir, &nodes);
    let asked = Arc::new(AtomicUsize::new(0));
    let resolver = {
        let asked = asked.clone();
        move |host: &str, port: u16| {
            asked.fetch_add(1, Ordering::SeqCst);
            nowhere(host, port)
        }
    };
    let conduit = Conduit::new(settings(&dir).resolver(resolver)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    assert_eq!(ready(&conduit), addresses(&nodes));
    assert_eq!((conduit.stats().dials, asked.load(Ordering::SeqCst)), (3, 0), "the book has its chance first");
    conduit.shutdown();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "one file, and nothing half written");
}

#[test]
fn saved_addresses_are_kept_and_not_dialled_where_only_named_peers_are_allowed() {
    let nodes = hamlet(2);
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir, &nodes);
    let conduit = Conduit::new(settings(&dir).only_named_peers(true).resolver(nowhere)).unwrap();
    conduit.add_peers([nodes[0].address()]).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(1, PATIENCE).unwrap();
    assert!(conduit.send_request(Ping).is_ok());
    assert_eq!((conduit.stats().dials, ready(&conduit)), (1, vec![nodes[0].address()]));
    conduit.shutdown();
    let conduit = Conduit::new(settings(&dir).resolver(nowhere)).unwrap();
    conduit.start().unwrap();
    conduit.wait_for_peers(2, PATIENCE).unwrap();
}

#[test]
fn book_of_addresses_that_are_all_dead_does_not_keep_the_seeds_from_being_asked() {
    let (old, new) = (hamlet(2), hamlet(3));
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir, &old);
    old.iter().for_each(TestNode::stop);
    let conduit = start(&dir, &new);
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    assert_eq!(ready(&conduit), addresses(&new));
}

#[test]
fn ban_survives_a_restart_and_its_end_too() {
    let nodes = hamlet(3);
    let dir = tempfile::tempdir().unwrap();
    let conduit = start(&dir, &nodes);
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    let banned = conduit.peers()[0].clone();
    assert!(conduit.ban(banned.id, Duration::from_secs(3_600)));
    conduit.shutdown();

    let others: Vec<_> =
        addresses(&nodes).into_iter().filter(|&address| banned.address.socket_addr() != Some(address)).collect();
    let conduit = start(&dir, &nodes);
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let bans = conduit.bans();
    assert!(
        matches!(&bans[..], [ban] if ban.address == banned.address && ban.reason == BanReason::Requested),
        "{bans:?}"
    );
    assert_eq!((ready(&conduit), conduit.stats().dials), (others, 2));
    assert_eq!(conduit.unban(banned.address), Ok(true));
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    conduit.shutdown();

    let conduit = start(&dir, &nodes);
    conduit.wait_for_peers(3, PATIENCE).unwrap();
    assert!(conduit.bans().is_empty());
}

#[test]
fn ban_is_on_the_disk_soon_after_it_was_asked_for() {
    let nodes = hamlet(2);
    let dir = tempfile::tempdir().unwrap();
    let conduit = start(&dir, &nodes);
    conduit.wait_for_peers(2, PATIENCE).unwrap();
    let banned = conduit.peers()[0].clone();
    assert!(conduit.ban(banned.id, Duration::from_secs(3_600)));
    // Whatever becomes of this process then.
    waits::until("the file names it", || {
        let text = fs::read_dir(&dir).unwrap().flatten().find_map(|file| fs::read_to_string(file.path()).ok());
        text.is_some_and(|text| {
            text.lines().any(|line| line.starts_with("ban ") && line.contains(&banned.address.to_string()))
        })
    });
}

#[test]
fn damaged_file_is_set_aside_and_told_and_the_peers_are_found_anew() {
    let nodes = hamlet(2);
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir, &nodes);
    let file = the_file(&dir);
    let good = fs::read(&file).unwrap();
    let cuts = (0..good.len()).step_by(good.len() / 10).map(|at| good[..at].to_vec());
    let flips = (0..good.len()).step_by(good.len() / 10).chain([good.len() - 1]).map(|at| {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        flipped
    });
    let mut count = 0;
    for damaged in cuts.chain(flips) {
        fs::write(&file, &damaged).unwrap();
        let conduit = Conduit::new(settings(&dir).resolver(seeds(&nodes))).unwrap();
        let events = conduit.events();
        conduit.start().unwrap();
        let seen = until(&events, |event| matches!(event, Event::SetAside { .. }));
        let Some(Event::SetAside { moved_to, what }) = seen.last() else { panic!("{seen:?}") };
        assert!(matches!(what, FileFault::Damaged | FileFault::Version { .. }), "{what:?}");
        assert_eq!(fs::read(moved_to).unwrap(), damaged, "it is kept");
        conduit.wait_for_peers(2, PATIENCE).unwrap();
        conduit.shutdown();
        fs::remove_file(moved_to).unwrap();
        assert_eq!(the_file(&dir), file, "a new one is in its place");
        count += 1;
    }
    assert!(count >= 20, "only {count}");
}

#[test]
fn file_of_another_network_is_not_believed() {
    let nodes = hamlet(1);
    let dir = tempfile::tempdir().unwrap();
    let text = format!("bsv-conduit peers 1 main e3e1f3e8 {}\n", Network::Main.genesis());
    first_run(&dir, &nodes);
    let file = the_file(&dir);
    fs::write(&file, text).unwrap();
    let conduit = Conduit::new(settings(&dir).resolver(seeds(&nodes))).unwrap();
    let events = conduit.events();
    conduit.start().unwrap();
    let seen = until(&events, |event| matches!(event, Event::SetAside { .. }));
    let Some(Event::SetAside { moved_to, .. }) = seen.last() else { panic!("{seen:?}") };
    assert!(moved_to.exists());
    conduit.wait_for_peers(1, PATIENCE).unwrap();
}

#[test]
fn directory_that_cannot_be_written_keeps_nobody_from_working() {
    let nodes = hamlet(2);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "of somebody").unwrap();
    for data_dir in [file.clone(), file.join("below")] {
        let config = config(network()).data_dir(data_dir).resolver(seeds(&nodes));
        let conduit = Conduit::new(config).unwrap();
        let events = conduit.events();
        conduit.start().unwrap();
        conduit.wait_for_peers(2, PATIENCE).unwrap();
        assert!(conduit.send_request(Ping).is_ok());
        conduit.shutdown();
        let seen: Vec<_> = std::iter::from_fn(|| events.recv().ok()).collect();
        assert!(!seen.iter().any(|event| matches!(event, Event::SetAside { .. })), "{seen:?}");
        assert_eq!(fs::read(&file).unwrap(), b"of somebody");
    }
}

fn network() -> Network {
    custom(&["seed.example"], None)
}

fn settings(dir: &TempDir) -> Config {
    config(network()).data_dir(dir.path())
}

/// A resolver whose every name leads to these nodes.
fn seeds(nodes: &[TestNode]) -> impl conduit::Resolver {
    let known = addresses(nodes);
    move |_: &str, _: u16| Ok(known.clone())
}

fn start(dir: &TempDir, nodes: &[TestNode]) -> Conduit {
    let conduit = Conduit::new(settings(dir).resolver(seeds(nodes))).unwrap();
    conduit.start().unwrap();
    conduit
}

/// Finds the nodes and remembers them.
fn first_run(dir: &TempDir, nodes: &[TestNode]) {
    let conduit = start(dir, nodes);
    conduit.wait_for_peers(nodes.len(), PATIENCE).unwrap();
    conduit.shutdown();
}

#[track_caller]
fn the_file(dir: &TempDir) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    file.clone()
}
