//! The file that keeps addresses and bans from one run to the next: read once, written whole.
//!
//! The text is `engine::book::file`'s; what is wrong with a file never keeps a conduit from starting.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::files::{SetAside, remove_leftovers, set_aside, sync_dir, temporary_path};
use crate::engine::book::Snapshot;
use crate::engine::book::file::label;
use crate::error::FileFault;
use crate::network::Network;

/// What was found at the start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// What the file held; `None` if there was none that could be used.
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) set_aside: Option<SetAside>,
}

/// Reads a network's file from a directory, and clears away what a killed process left half written.
///
/// Nothing there is nothing wrong. A file that cannot be used is renamed and told; what goes wrong besides is logged.
pub(crate) fn load(dir: &Path, network: &Network) -> Loaded {
    let path = path(dir, network);
    if let Err(error) = remove_leftovers(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!(target: "conduit::driver", "{}: cannot be looked through: {error}", dir.display());
    }
    let fault = match read(&path) {
        Ok(None) => return Loaded::default(),
        Ok(Some(bytes)) => match Snapshot::parse(network, &bytes) {
            Ok(snapshot) => return Loaded { snapshot: Some(snapshot), set_aside: None },
            Err(fault) => fault,
        },
        Err(fault) => fault,
    };
    // What goes wrong there is logged there.
    Loaded { snapshot: None, set_aside: set_aside(&path, fault).ok() }
}

/// Replaces a network's file: whoever reads it, even after a crash, finds the old one or the new one, whole.
///
/// Blocks until the disk has it. The directory is made if it is missing.
pub(crate) fn save(dir: &Path, network: &Network, snapshot: &Snapshot) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let path = path(dir, network);
    let temporary = temporary_path(&path);
    let written =
        write_synced(&temporary, snapshot.to_text(network).as_bytes()).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        // It may never have been made; if it was and stays, the next start removes it.
        if let Err(left) = fs::remove_file(&temporary) {
            log::debug!(target: "conduit::driver", "{}: not removed: {left}", temporary.display());
        }
        return Err(error);
    }
    // The new name is on the disk only with its directory.
    sync_dir(dir)
}

/// The file of a network: `peers-main.txt`.
pub(crate) fn path(dir: &Path, network: &Network) -> PathBuf {
    dir.join(format!("peers-{}.txt", label(network)))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The bytes of a file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, FileFault> {
    let unreadable = |error: io::Error| FileFault::Unreadable { kind: error.kind() };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(unreadable)?,
    };
    // To open anything else, such as a pipe, could block for ever.
    if !metadata.is_file() {
        return Err(FileFault::Unreadable { kind: io::ErrorKind::InvalidInput });
    }
    let too_large = |length| FileFault::TooLarge { length, limit: MAX_FILE_LEN };
    if metadata.len() > MAX_FILE_LEN {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_LEN { Err(too_large(bytes.len() as u64)) } else { Ok(Some(bytes)) }
}

/// More than the fullest book and the most bans take, which is less than 5 MiB.
const MAX_FILE_LEN: u64 = 8 * 1_048_576;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::engine::book::file::tests::snapshot;

    const NETWORK: Network = Network::Regtest;

    fn dir() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn names(dir: &TempDir) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Loads what must be set aside for `fault`, with its bytes kept.
    fn expect_set_aside(dir: &TempDir, bytes: &[u8]) -> FileFault {
        fs::write(path(dir.path(), &NETWORK), bytes).unwrap();
        let loaded = load(dir.path(), &NETWORK);
        assert_eq!(loaded.snapshot, None);
        let set_aside = loaded.set_aside.expect("a faulty file was not set aside");
        assert_eq!(fs::read(&set_aside.moved_to).unwrap(), bytes, "the original is kept");
        assert!(!path(dir.path(), &NETWORK).exists());
        assert_eq!(load(dir.path(), &NETWORK), Loaded::default(), "and does not come back");
        set_aside.what
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = dir();
        let inner = dir.path().join("made/for it");
        assert_eq!(load(&inner, &NETWORK), Loaded::default(), "nothing there is nothing wrong");
        assert!(!inner.exists(), "loading makes nothing");
        save(&inner, &NETWORK, &Snapshot::default()).unwrap();
        save(&inner, &NETWORK, &snapshot()).unwrap();
        save(&inner, &Network::Main, &Snapshot::default()).unwrap();
        assert_eq!(load(&inner, &NETWORK), Loaded { snapshot: Some(snapshot()), set_aside: None });
        let main = load(&inner, &Network::Main);
        assert_eq!(main.snapshot, Some(Snapshot::default()), "each network has its file");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn damaged_files_are_set_aside_and_kept() {
        let dir = dir();
        let good = snapshot().to_text(&NETWORK).into_bytes();
        let mut count = 0;
        for at in (0..good.len()).step_by(37).chain([good.len() - 1]) {
            assert_eq!(expect_set_aside(&dir, &good[..at]), FileFault::Damaged, "{at} bytes");
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(matches!(expect_set_aside(&dir, &flipped), FileFault::Damaged | FileFault::Version { .. }));
            count += 2;
        }
        assert!(count > 30);
        assert_eq!(names(&dir).len(), count, "none overwrote another: {:?}", names(&dir));
        fs::write(path(dir.path(), &NETWORK), good).unwrap();
        assert_eq!(load(dir.path(), &NETWORK).snapshot, Some(snapshot()));
    }

    #[test]
    fn foreign_files_are_set_aside_for_what_they_are() {
        let dir = dir();
        let text = snapshot().to_text(&Network::Main);
        assert_eq!(expect_set_aside(&dir, text.as_bytes()), FileFault::OtherNetwork);
        let newer = text.replacen("peers 1 ", "peers 2 ", 1);
        assert_eq!(expect_set_aside(&dir, newer.as_bytes()), FileFault::Version { found: 2 });
        assert_eq!(expect_set_aside(&dir, &[0xff; 100]), FileFault::Damaged);
        assert_eq!(expect_set_aside(&dir, b""), FileFault::Damaged);
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_read() {
        let dir = dir();
        let path = path(dir.path(), &NETWORK);
        // Sparse: it takes no room on the disk.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let loaded = load(dir.path(), &NETWORK);
        let what = FileFault::TooLarge { length: 1 << 40, limit: MAX_FILE_LEN };
        assert_eq!(loaded.set_aside.map(|aside| aside.what), Some(what));
        assert_eq!(loaded.snapshot, None);
    }

    #[test]
    fn a_save_that_was_killed_leaves_the_old_file() {
        let dir = dir();
        save(dir.path(), &NETWORK, &snapshot()).unwrap();
        // What a process leaves that dies before the rename: at any byte, or with all of them written.
        let new = Snapshot::default().to_text(&NETWORK);
        for length in [0, 1, new.len() / 2, new.len()] {
            write_synced(&temporary_path(&path(dir.path(), &NETWORK)), &new.as_bytes()[..length]).unwrap();
        }
        write_synced(&temporary_path(&path(dir.path(), &Network::Main)), b"of another network").unwrap();
        assert_eq!(names(&dir).len(), 6);
        assert_eq!(load(dir.path(), &NETWORK), Loaded { snapshot: Some(snapshot()), set_aside: None });
        assert_eq!(names(&dir).len(), 2, "what it left is removed: {:?}", names(&dir));
    }

    #[test]
    fn a_save_that_fails_says_so_and_leaves_nothing() {
        let dir = dir();
        // A directory with something in it cannot be replaced by a file.
        let path = path(dir.path(), &NETWORK);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("something"), "").unwrap();
        assert!(save(dir.path(), &NETWORK, &snapshot()).is_err());
        assert_eq!(names(&dir), ["peers-regtest.txt"]);
        let what = FileFault::Unreadable { kind: io::ErrorKind::InvalidInput };
        let set_aside = load(dir.path(), &NETWORK).set_aside.unwrap();
        assert_eq!(set_aside.what, what);
        assert!(set_aside.moved_to.join("something").exists());
        save(dir.path(), &NETWORK, &snapshot()).unwrap();
        assert_eq!(load(dir.path(), &NETWORK).snapshot, Some(snapshot()));
    }

    #[test]
    fn a_directory_that_is_none_is_no_error() {
        let dir = dir();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(load(&file, &NETWORK), Loaded::default());
        assert!(save(&file, &NETWORK, &snapshot()).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"");
    }
}
