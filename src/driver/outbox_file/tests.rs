//! A disk that fails, or a process that is killed, at every single step; and every prefix and flipped bit of a file.

use std::cell::Cell;
use std::fs::{self, File};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tempfile::TempDir;

use super::reading::{Contents, Ending, read};
use super::*;
use crate::engine::broadcast::record::tests::{group, hold, rejected, relayed, restored, told};
use crate::engine::broadcast::record::{HEADER_LEN, header};
use crate::error::FileFault;

const NETWORK: Network = Network::Regtest;
const A: &str = "1.2.3.4:8333";
const B: &str = "[2001:db8::1]:8333";

/// A disk some of whose operations fail, and which is quick, as it syncs nothing.
#[derive(Clone, Debug, Default)]
struct TestDisk {
    plan: Rc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    steps: Cell<usize>,
    renames: Cell<usize>,
    /// Whether something was written that was not synced.
    is_file_dirty: Cell<bool>,
    /// Whether a file was renamed and its directory not synced.
    is_dir_dirty: Cell<bool>,
    /// Steps that fail.
    fails: Range<usize>,
    /// The step at which the process ends.
    killed: Option<usize>,
}

/// What a killed process unwinds with.
struct Killed;

impl TestDisk {
    fn new(fails: Range<usize>, killed: Option<usize>) -> Self {
        Self { plan: Rc::new(Plan { fails, killed, ..Plan::default() }) }
    }

    fn step(&self) -> io::Result<()> {
        let step = self.plan.steps.replace(self.plan.steps.get() + 1);
        if self.plan.killed == Some(step) {
            resume_unwind(Box::new(Killed));
        }
        if self.plan.fails.contains(&step) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        System.create(path)
    }

    /// One that fails, or is killed, has written a part.
    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.plan.is_file_dirty.set(true);
        System.write_at(file, at, &bytes[..bytes.len() / 2])?;
        self.step()?;
        System.write_at(file, at, bytes)
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        self.step()?;
        self.plan.is_file_dirty.set(true);
        System.set_len(file, length)
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        self.step()?;
        self.plan.is_file_dirty.set(false);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        assert!(!self.plan.is_file_dirty.get(), "what replaces the file is whole on the disk");
        self.plan.is_dir_dirty.set(true);
        self.plan.renames.set(self.plan.renames.get() + 1);
        System.rename(from, to)
    }

    fn keep(&self, path: &Path, name: &Path) -> io::Result<()> {
        self.step()?;
        System.keep(path, name)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.step()?;
        self.plan.is_dir_dirty.set(false);
        Ok(())
    }
}

/// What a writer was told.
#[derive(Debug, Default)]
struct Told {
    through: u64,
    lost: BTreeSet<u64>,
    is_broken: bool,
}

impl Told {
    fn note(&mut self, result: &SaveResult) {
        assert!(result.through >= self.through, "{result:?} after {self:?}");
        assert!(result.error.is_some() || result.lost.is_empty(), "{result:?}");
        self.through = result.through;
        self.lost.extend(&result.lost);
    }

    /// Whether a file holds what it must, and at most what was begun besides.
    fn allows(&self, found: &[Restored], records: &[Record]) -> bool {
        let through = usize::try_from(self.through).unwrap();
        let kept = |record: &&Record| !self.lost.contains(&record.item());
        (through..=records.len()).any(|end| restored(records[..end].iter().filter(kept).cloned()) == found)
    }
}

/// Groups in which something is dead soon.
fn batches() -> Vec<Vec<Record>> {
    let over = |item| Record::Over { item };
    vec![
        vec![hold(1), hold(2)],
        vec![told(1, A), told(2, A), hold(3)],
        vec![relayed(1, B), over(1)],
        vec![hold(4), told(3, A)],
        vec![over(2), hold(5), told(4, B)],
        vec![over(3), rejected(4, A)],
        vec![told(5, A), relayed(5, B), hold(6), over(4)],
        vec![told(6, B)],
        vec![hold(7), over(6), told(7, A)],
    ]
}

fn open_on<D: Disk>(disk: D, dir: &TempDir) -> reading::Opened<D> {
    reading::open(disk, dir.path(), &NETWORK).unwrap()
}

fn quick() -> TestDisk {
    TestDisk::new(0..0, None)
}

fn file(dir: &TempDir) -> PathBuf {
    path(dir.path(), &NETWORK)
}

/// Writes all batches, as the thread does, until all is answered.
fn write_all(disk: &TestDisk, dir: &TempDir, told: &mut Told) {
    let (log, found, aside) = open_on(disk.clone(), dir);
    assert_eq!((found, aside), (vec![], None));
    let mut saver = Saver::new(log);
    saver.log.rewrite_from(100);
    let save = |saver: &mut Saver<TestDisk>, told: &mut Told| {
        let result = saver.save();
        told.note(&result);
        told.is_broken = saver.log.is_broken();
        let plan = &disk.plan;
        assert!(told.is_broken || !plan.is_file_dirty.get(), "{result:?} without a sync");
        assert!(result.error.is_some() || !plan.is_dir_dirty.get(), "{result:?} without its name");
        saver.log.compact_if_due();
    };
    for batch in batches() {
        for record in batch {
            saver.last += 1;
            saver.pending.push_back((saver.last, record));
        }
        save(&mut saver, told);
    }
    for _ in 0..disk.plan.fails.len() {
        if saver.pending.is_empty() {
            break;
        }
        save(&mut saver, told);
    }
    assert!(saver.pending.is_empty(), "{told:?}");
    assert_eq!(told.through, saver.last);
}

/// The steps up to the first group, and all.
fn count_steps() -> (usize, usize) {
    let disk = quick();
    let dir = tempfile::tempdir().unwrap();
    drop(open_on(disk.clone(), &dir));
    let opened = disk.plan.steps.get();
    let disk = quick();
    let (dir, mut told) = (tempfile::tempdir().unwrap(), Told::default());
    write_all(&disk, &dir, &mut told);
    assert!(disk.plan.renames.get() >= 3, "it is rewritten on the way: {disk:?}");
    assert_eq!(told.lost, BTreeSet::new());
    let (_, found, _) = open_on(quick(), &dir);
    assert_eq!(found, restored(batches().concat()));
    (opened, disk.plan.steps.get())
}

#[test]
fn a_disk_that_fails_at_any_step_loses_what_it_says_and_no_more() {
    let (first, end) = count_steps();
    let records = batches().concat();
    let (mut lost, mut broken) = (0, 0);
    for start in first..end {
        for count in (1..10).chain([1_000]) {
            let disk = TestDisk::new(start..start + count, None);
            let (dir, mut told) = (tempfile::tempdir().unwrap(), Told::default());
            write_all(&disk, &dir, &mut told);
            let (_, found, aside) = open_on(quick(), &dir);
            assert_eq!(aside, None, "steps {start}, {count}");
            if told.is_broken {
                broken += 1;
                // What had been said to be saved was saved then; what was lost later cannot be told apart here.
                let any = (0..=records.len()).any(|end| restored(records[..end].iter().cloned()) == found);
                let kept = records.iter().filter(|record| !told.lost.contains(&record.item()));
                let kept = restored(kept.cloned());
                assert!(any || kept.iter().all(|item| found.contains(item)), "steps {start}, {count}: {told:?}");
            } else {
                assert!(told.allows(&found, &records), "steps {start}, {count}: {told:?}, {found:?}");
            }
            lost += told.lost.len();
        }
    }
    assert!(lost > 100 && broken > 10, "{lost} lost, {broken} broken");
}

#[test]
fn a_kill_at_any_step_loses_nothing_that_was_said_to_be_saved() {
    let (first, end) = count_steps();
    let records = batches().concat();
    // Undisturbed, and after a step that failed.
    for failed in std::iter::once(0).chain(first..end) {
        let fails = if failed == 0 { 0..0 } else { failed..failed + 1 };
        for killed in failed.. {
            let disk = TestDisk::new(fails.clone(), Some(killed));
            let (dir, mut told) = (tempfile::tempdir().unwrap(), Told::default());
            let ended = catch_unwind(AssertUnwindSafe(|| write_all(&disk, &dir, &mut told)));
            let (_, found, aside) = open_on(quick(), &dir);
            assert_eq!(aside, None, "failed {failed}, killed {killed}");
            assert!(told.allows(&found, &records), "failed {failed}, killed {killed}: {told:?}, {found:?}");
            let names = fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(names, 2, "log and lock, and no leftovers");
            match ended {
                Ok(()) => break,
                Err(cause) => assert!(cause.is::<Killed>(), "failed {failed}, killed {killed}"),
            }
        }
    }
}

/// A file of the batches, and where each of its groups ends.
fn written() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header(&NETWORK);
    let mut ends = Vec::new();
    for batch in batches() {
        bytes.extend_from_slice(&group(&batch));
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// What so many batches leave.
fn after(count: usize) -> Vec<Restored> {
    restored(batches()[..count].concat())
}

#[test]
fn every_prefix_gives_its_whole_groups_and_can_be_gone_on_with() {
    let (bytes, ends) = written();
    for length in HEADER_LEN..=bytes.len() {
        let whole = ends.iter().filter(|&&end| end <= length).count();
        let good = if whole == 0 { HEADER_LEN } else { ends[whole - 1] };
        let Contents { ledger, length: read_to, ending, .. } = read(&bytes[HEADER_LEN..length], length as u64);
        assert_eq!(ledger.into_restored(), after(whole), "{length} bytes");
        assert_eq!(read_to, good as u64);
        assert_eq!(ending, (good < length).then_some(Ending::Torn), "{length} bytes");

        if length % 7 != 0 && !ends.contains(&length) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(&dir), &bytes[..length]).unwrap();
        let (log, found, aside) = open_on(quick(), &dir);
        assert_eq!((found, aside), (after(whole), None), "{length} bytes");
        assert_eq!(fs::read(file(&dir)).unwrap(), bytes[..good], "{length} bytes");
        let mut saver = Saver::new(log);
        saver.pending.push_back((1, hold(100)));
        saver.last = 1;
        assert_eq!(saver.save(), SaveResult { through: 1, lost: vec![], error: None });
        drop(saver);
        let mut expected = after(whole);
        expected.extend(restored([hold(100)]));
        assert_eq!(open_on(quick(), &dir).1, expected, "{length} bytes");
    }
}

#[test]
fn every_flipped_bit_leaves_the_groups_before_it() {
    let (mut bytes, ends) = written();
    for bit in HEADER_LEN * 8..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let whole = ends.iter().filter(|&&end| end <= bit / 8).count();
        let Contents { ledger, ending, .. } = read(&bytes[HEADER_LEN..], bytes.len() as u64);
        assert_eq!(ending, Some(Ending::Fault(FileFault::Damaged)), "bit {bit}");
        assert_eq!(ledger.into_restored(), after(whole), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Opens a file that must be set aside, and again after a kill at each step of that.
fn expect_set_aside(bytes: &[u8], what: FileFault, expected: &[Restored]) {
    for killed in (0..).map(Some) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(&dir), bytes).unwrap();
        let disk = TestDisk::new(0..0, killed);
        let open = || reading::open(disk, dir.path(), &NETWORK).map(|(_, found, aside)| (found, aside));
        let opened = catch_unwind(AssertUnwindSafe(open));
        if let Ok(opened) = &opened {
            let (found, aside) = opened.as_ref().unwrap();
            assert_eq!((&found[..], aside.as_ref().map(|aside| aside.what)), (expected, Some(what)));
        }
        let (_, found, _) = open_on(quick(), &dir);
        assert_eq!(found, expected, "killed at {killed:?}");
        let kept = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut kept = kept.filter(|path| path.to_str().unwrap().contains(".damaged-"));
        assert!(kept.any(|path| fs::read(path).unwrap() == bytes), "killed at {killed:?}, the original is kept");
        assert_eq!(open_on(quick(), &dir).2, None, "and does not come back");
        if opened.is_ok() {
            return;
        }
    }
}

#[test]
fn a_damaged_file_is_kept_and_its_beginning_used() {
    let (bytes, ends) = written();
    for at in [HEADER_LEN, ends[2] + 3, ends[4] + 30, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let whole = ends.iter().filter(|&&end| end <= at).count();
        expect_set_aside(&damaged, FileFault::Damaged, &after(whole));
    }
}

#[test]
fn a_foreign_file_is_kept_and_not_used() {
    let (bytes, _) = written();
    let body = &bytes[HEADER_LEN..];
    expect_set_aside(&[&header(&Network::Main), body].concat(), FileFault::OtherNetwork, &[]);
    expect_set_aside(&bytes[..HEADER_LEN - 1], FileFault::Damaged, &[]);
    expect_set_aside(b"", FileFault::Damaged, &[]);
    let mut newer = bytes.clone();
    newer[14] = 2;
    expect_set_aside(&newer, FileFault::Version { found: 2 }, &[]);
}

#[test]
fn a_file_is_rewritten_when_most_of_it_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let disk = quick();
    let mut saver = Saver::new(open_on(disk.clone(), &dir).0);
    saver.log.rewrite_from(10_000);
    let mut longest = 0;
    for item in 1..=2_000 {
        saver.last += 1;
        saver.pending.push_back((saver.last, hold(item)));
        if item > 20 {
            saver.last += 1;
            saver.pending.push_back((saver.last, Record::Over { item: item - 20 }));
        }
        assert_eq!(saver.save().through, saver.last);
        longest = longest.max(saver.log.live_and_length().1);
        saver.log.compact_if_due();
    }
    let renames = disk.plan.renames.get();
    assert!((5..100).contains(&renames), "{renames}");
    assert!(longest < 20_000, "{longest}");
    drop(saver);
    let (log, found, _) = open_on(quick(), &dir);
    assert_eq!(found, restored((1_981..=2_000).map(hold)));
    let live = log.live_and_length().0;
    assert_eq!(live, 20 * u64::try_from(group(&[hold(2_000)]).len() - 24).unwrap());
}

#[test]
fn a_second_one_cannot_open_the_file_until_the_first_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("made/for it");
    let (first, _, _) = OutboxFile::open(&inner, &NETWORK).unwrap();
    match OutboxFile::open(&inner, &NETWORK) {
        Err(StartError::BroadcastsInUse { lock }) => assert_eq!(lock, inner.join("outbox-regtest.log.lock")),
        other => panic!("{:?}", other.map(|(_, found, _)| found)),
    }
    assert!(OutboxFile::open(&inner, &Network::Main).is_ok(), "each network has its file");
    first.append(vec![hold(1)]);
    first.close();
    first.run(|_| {});
    let (_, found, _) = OutboxFile::open(&inner, &NETWORK).unwrap();
    assert_eq!(found, restored([hold(1)]), "though the first is not dropped");
}

#[test]
fn a_directory_that_is_none_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(OutboxFile::open(&file, &NETWORK), Err(StartError::Broadcasts(_))));
}

#[test]
fn what_many_threads_append_is_on_the_disk_when_the_thread_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (outbox, _, _) = OutboxFile::open(dir.path(), &NETWORK).unwrap();
    let outbox = Arc::new(outbox);
    let (sender, results) = crossbeam_channel::unbounded();
    let runner = outbox.clone();
    let thread = std::thread::spawn(move || runner.run(|result| sender.send(result).unwrap()));
    let appenders: Vec<_> = (0..4)
        .map(|n| {
            let outbox = outbox.clone();
            std::thread::spawn(move || {
                (0..250).map(|i| outbox.append(vec![hold(n * 250 + i), told(n * 250 + i, A)])).max()
            })
        })
        .collect();
    let last = appenders.into_iter().filter_map(|appender| appender.join().unwrap()).max();
    assert_eq!(last, Some(2_000));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut through = 0;
    while through < 2_000 {
        let result = results.recv_deadline(deadline).unwrap();
        assert!(result.through > through && result.error.is_none() && result.lost.is_empty(), "{result:?}");
        through = result.through;
    }
    outbox.append(vec![Record::Over { item: 7 }]);
    outbox.close();
    assert_eq!(outbox.append(vec![Record::Over { item: 8 }]), 2_001, "not taken any more");
    thread.join().unwrap();
    let (_, found, _) = OutboxFile::open(dir.path(), &NETWORK).unwrap();
    assert_eq!(found.len(), 999);
    assert!(found.iter().all(|restored| restored.told.len() == 1));
}

/// Lets a thread write what was appended before the file was closed.
fn run_closed(fails: Range<usize>, records: Vec<Record>) -> (Vec<SaveResult>, Vec<Restored>) {
    let dir = tempfile::tempdir().unwrap();
    let first = {
        let disk = quick();
        drop(open_on(disk.clone(), &tempfile::tempdir().unwrap()));
        disk.plan.steps.get()
    };
    let disk = TestDisk::new(first + fails.start..first + fails.end, None);
    let outbox = OutboxFile::new(open_on(disk, &dir).0);
    outbox.append(records);
    outbox.close();
    let mut results = Vec::new();
    outbox.run(|result| results.push(result));
    (results, open_on(quick(), &dir).1)
}

#[test]
fn a_closed_file_saves_what_the_failure_did_not_lose() {
    let error = Some(io::ErrorKind::StorageFull);
    let records = vec![told(1, A), hold(2), Record::Over { item: 1 }, told(2, A)];
    let lost = SaveResult { through: 0, lost: vec![2], error };
    let (results, found) = run_closed(0..1, records.clone());
    assert_eq!(results, [lost.clone(), SaveResult { through: 4, lost: vec![], error: None }]);
    assert_eq!(found, []);
    let (results, _) = run_closed(0..0, records.clone());
    assert_eq!(results, [SaveResult { through: 4, lost: vec![], error: None }]);
    let (results, _) = run_closed(0..1_000, records);
    assert_eq!(results, [SaveResult { through: 4, lost: vec![1, 2], error }], "nothing works any more");
}

#[test]
fn more_than_one_group_holds_is_written_in_several() {
    let big = |item| {
        let Record::Hold(mut held) = hold(item) else { unreachable!() };
        held.options.parents = vec![vec![0; 3 * 1_048_576]];
        Record::Hold(held)
    };
    let records: Vec<_> = (1..=5).map(big).collect();
    let (results, found) = run_closed(0..0, records.clone());
    let through: Vec<_> = results.iter().map(|result| result.through).collect();
    assert_eq!(through, [2, 4, 5]);
    assert_eq!(found, restored(records.clone()));
    // The first sync fails: only what was in that group is lost.
    let (results, found) = run_closed(1..2, records.clone());
    assert_eq!(results[0].lost, [1, 2]);
    assert_eq!(results[0].through, 2);
    assert_eq!(found, restored(records[2..].to_vec()));
}
