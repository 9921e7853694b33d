//! What the files of a directory have in common: names that nothing has yet, and how what cannot be used is kept.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::FileFault;

/// A file that was not used, or not whole, and is kept under another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetAside {
    pub(crate) moved_to: PathBuf,
    pub(crate) what: FileFault,
}

/// Gives a file that cannot be used another name, and tells why.
pub(super) fn set_aside(path: &Path, what: FileFault) -> io::Result<SetAside> {
    let moved_to = free_name(path);
    let result = fs::rename(path, &moved_to);
    let path = path.display();
    match result {
        Ok(()) => {
            log::warn!(target: "conduit::driver", "{path}: not used, since {what}; it is kept as {}", moved_to.display());
            Ok(SetAside { moved_to, what })
        }
        Err(error) => {
            log::warn!(target: "conduit::driver", "{path}: not used, since {what}, nor set aside: {error}");
            Err(error)
        }
    }
}

/// A name for what is set aside that nothing has yet.
pub(super) fn free_name(path: &Path) -> PathBuf {
    let first = with_suffix(path, &format!(".damaged-{}", super::now().unix));
    let others = (2..).map(|n: u64| with_suffix(&first, &format!("-{n}")));
    // A link that leads nowhere has a name, too.
    let is_free = |path: &PathBuf| fs::symlink_metadata(path).is_err();
    std::iter::once(first.clone()).chain(others).find(is_free).unwrap_or(first)
}

/// A name for what shall replace a file, which nobody else uses at the same time, in this process or another.
pub(super) fn temporary_path(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    with_suffix(path, &format!("{TEMPORARY}{}-{n}", std::process::id()))
}

/// Removes what a killed process left that was to replace this file.
pub(super) fn remove_leftovers(path: &Path) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = with_suffix(Path::new(name), TEMPORARY);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_os_str().as_encoded_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Puts the names in a directory on the disk, which can be opened for this only on Unix.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

const TEMPORARY: &str = ".tmp-";
