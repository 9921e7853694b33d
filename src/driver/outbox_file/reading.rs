//! Reading a file of broadcasts, and making good what is wrong with it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::disk::Disk;
use super::log_file::{Index, LogFile, Span};
use super::{lock_path, path};
use crate::driver::files::{SetAside, free_name, remove_leftovers, set_aside};
use crate::engine::broadcast::record::{
    GROUP_HEAD_LEN, HEADER_LEN, Ledger, Restored, check_group, check_header, read_group, rest_of_group,
};
use crate::error::{FileFault, StartError};
use crate::network::Network;

/// The groups of a file, each whole and as it was written.
#[derive(Debug)]
pub(super) struct Groups<R> {
    source: R,
    /// Where the next group begins.
    at: u64,
    length: u64,
}

/// A group and where it begins.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// Why no further group is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The file ends within a group, as it does when its writer was killed.
    Torn,
    /// A group is not as it was written, or cannot be read.
    Fault(FileFault),
}

/// What is in a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) ledger: Ledger,
    pub(super) index: Index,
    /// The bytes that were read; the end of the last good group.
    pub(super) length: u64,
    /// Why that is not the end; `None` if it is.
    pub(super) ending: Option<Ending>,
}

/// The open file, what is in it, and what was set aside for it.
pub(super) type Opened<D> = (LogFile<D>, Vec<Restored>, Option<SetAside>);

/// As [`OutboxFile::open`](super::OutboxFile::open), on any disk.
pub(super) fn open<D: Disk>(disk: D, dir: &Path, network: &Network) -> Result<Opened<D>, StartError> {
    make_dir(&disk, dir).map_err(StartError::Broadcasts)?;
    let path = path(dir, network);
    let lock = lock(&path)?;
    open_locked(disk, &path, lock, network).map_err(StartError::Broadcasts)
}

fn open_locked<D: Disk>(disk: D, path: &Path, lock: File, network: &Network) -> io::Result<Opened<D>> {
    if let Err(error) = remove_leftovers(path) {
        log::warn!(target: "conduit::driver", "{}: leftovers are not removed: {error}", path.display());
    }
    let mut file = match open_existing(path, network) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok((LogFile::create(disk, path, lock, network)?, Vec::new(), None)),
        Err(fault) => {
            let aside = set_aside(path, fault)?;
            return Ok((LogFile::create(disk, path, lock, network)?, Vec::new(), Some(aside)));
        }
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(HEADER_LEN as u64))?;
    let Contents { ledger, index, length: good, ending } = read(BufReader::new(&file), length);
    let mut log = LogFile::new(disk, path, lock, network, file, good, index);
    let aside = match ending {
        None => None,
        Some(Ending::Torn) => {
            log.cut()?;
            let cut = length - good;
            log::warn!(target: "conduit::driver", "{}: {cut} bytes cut off that a kill left", path.display());
            None
        }
        Some(Ending::Fault(what)) => {
            let moved_to = free_name(path);
            log.disk().keep(path, &moved_to)?;
            log.rewrite()?;
            let (old, new) = (path.display(), moved_to.display());
            log::warn!(target: "conduit::driver", "{old}: used to byte {good}, as {what} there; it is kept as {new}");
            Some(SetAside { moved_to, what })
        }
    };
    // A killed process may have left before it could say so of the name.
    log.sync_name()?;
    Ok((log, ledger.into_restored(), aside))
}

/// Reads what follows the header of a file of `length` bytes.
pub(super) fn read(source: impl Read, length: u64) -> Contents {
    let mut groups = Groups::new(source, length);
    let mut contents = Contents { length: HEADER_LEN as u64, ..Contents::default() };
    loop {
        let group = match groups.next() {
            Ok(Some(group)) => group,
            Ok(None) => return contents,
            Err(ending) => return Contents { ending: Some(ending), ..contents },
        };
        let Ok(records) = read_group(&group.bytes) else {
            return Contents { ending: Some(Ending::Fault(FileFault::Damaged)), ..contents };
        };
        for (record, place) in records {
            contents.index.apply(&record, Span::of_one(group.at, &place));
            contents.ledger.apply(record);
        }
        contents.length = groups.at;
    }
}

impl<R: Read> Groups<R> {
    /// Begins behind the header, where the source must stand; `length` is that of the file.
    pub(super) fn new(source: R, length: u64) -> Self {
        Self { source, at: HEADER_LEN as u64, length }
    }

    /// The next group, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Group>, Ending> {
        let at = self.at;
        let left = self.length.saturating_sub(at);
        if left == 0 {
            return Ok(None);
        }
        let Some(behind_head) = left.checked_sub(GROUP_HEAD_LEN as u64) else { return Err(Ending::Torn) };
        let mut head = [0; GROUP_HEAD_LEN];
        self.source.read_exact(&mut head).map_err(Ending::unreadable)?;
        let rest = rest_of_group(&head).map_err(|_| Ending::Fault(FileFault::Damaged))?;
        if rest > behind_head {
            return Err(Ending::Torn);
        }
        let mut bytes = head.to_vec();
        // It grows as bytes are read.
        self.source.by_ref().take(rest).read_to_end(&mut bytes).map_err(Ending::unreadable)?;
        check_group(&bytes).map_err(|_| Ending::Fault(FileFault::Damaged))?;
        self.at += bytes.len() as u64;
        Ok(Some(Group { at, bytes }))
    }
}

impl Ending {
    fn unreadable(error: io::Error) -> Self {
        Self::Fault(FileFault::Unreadable { kind: error.kind() })
    }
}

/// Opens a file whose header is the network's; `None` if there is none.
fn open_existing(path: &Path, network: &Network) -> Result<Option<File>, FileFault> {
    let unreadable = |error: io::Error| FileFault::Unreadable { kind: error.kind() };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        // To open anything else, such as a pipe, could block for ever.
        Ok(metadata) if !metadata.is_file() => {
            return Err(FileFault::Unreadable { kind: io::ErrorKind::InvalidInput });
        }
        Ok(_) => {}
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(unreadable)?;
    let mut header = Vec::new();
    (&file).take(HEADER_LEN as u64).read_to_end(&mut header).map_err(unreadable)?;
    check_header(network, &header)?;
    Ok(Some(file))
}

/// Takes the lock, which ends with the process at the latest.
fn lock(path: &Path) -> Result<File, StartError> {
    let path = lock_path(path);
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(StartError::Broadcasts)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::BroadcastsInUse { lock: path }),
        Err(TryLockError::Error(error)) => Err(StartError::Broadcasts(error)),
    }
}

/// Makes a directory whose name is on the disk, too.
fn make_dir(disk: &impl Disk, dir: &Path) -> io::Result<()> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(dir)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        disk.sync_dir(parent)?;
    }
    Ok(())
}
