//! Writing the file: groups at its end, and now and then a new file with what still counts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::reading::{Ending, Groups};
use crate::driver::files::temporary_path;
use crate::engine::broadcast::record::{GroupBuilder, HEADER_LEN, Record, header};
use crate::error::FileFault;
use crate::network::Network;

/// An open file that ends with its last good group.
#[derive(Debug)]
pub(super) struct LogFile<D> {
    disk: D,
    path: PathBuf,
    file: File,
    /// The header of every file of the network.
    header: Vec<u8>,
    /// The end of the last group that is on the disk; the file is longer only while one is written.
    length: u64,
    index: Index,
    /// Whether the directory is on the disk since the file got its name; until it is, nothing in the file is.
    is_name_synced: bool,
    state: State,
    /// Dead bytes from which the file is rewritten, if they are more than the live ones.
    rewrite_from: u64,
    /// The length that the file must reach before that is tried again, after it failed.
    rewrite_again_at: u64,
    /// Keeps others from writing the file for as long as this value lives.
    _lock: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// The last group was not written, and the file is as it was before.
    Failed,
    /// What a failed group left can be neither removed nor left behind: nothing is written any more.
    Broken(io::ErrorKind),
}

/// Where the records of each broadcast lie that is not over.
#[derive(Debug, Default)]
pub(super) struct Index {
    items: BTreeMap<u64, Vec<Span>>,
    /// Always the summed length of the spans.
    live: u64,
}

/// Records that lie behind one another in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    at: u64,
    length: u64,
    count: u32,
}

impl<D: Disk> LogFile<D> {
    /// Makes a file that holds nothing yet.
    pub(super) fn create(disk: D, path: &Path, lock: File, network: &Network) -> io::Result<Self> {
        let header = header(network);
        let temporary = temporary_path(path);
        let made = disk.create(&temporary).and_then(|file| {
            disk.write_at(&file, 0, &header)?;
            disk.sync(&file)?;
            disk.rename(&temporary, path)?;
            Ok(file)
        });
        let file = made.inspect_err(|_| remove(&temporary))?;
        let mut log = Self::new(disk, path, lock, network, file, header.len() as u64, Index::default());
        log.sync_name()?;
        Ok(log)
    }

    /// Takes a file that is good up to `length`.
    pub(super) fn new(
        disk: D,
        path: &Path,
        lock: File,
        network: &Network,
        file: File,
        length: u64,
        index: Index,
    ) -> Self {
        Self {
            disk,
            path: path.to_owned(),
            file,
            header: header(network),
            length,
            index,
            is_name_synced: false,
            state: State::Good,
            rewrite_from: REWRITE_FROM,
            rewrite_again_at: 0,
            _lock: lock,
        }
    }

    /// Puts a group on the disk, whose records lie at these places in it. If that fails, the file is as it was before.
    pub(super) fn append<'a>(
        &mut self,
        records: impl Iterator<Item = (&'a Record, Range<usize>)>,
        group: GroupBuilder,
    ) -> io::Result<()> {
        if let State::Broken(kind) = self.state {
            return Err(kind.into());
        }
        let group = group.finish();
        if let Err(error) = self.write(&group) {
            self.state = State::Failed;
            if let Err(left) = self.cut().or_else(|_| self.rewrite()) {
                log::error!(target: "conduit::driver", "{}: nothing is written any more: {left}", self.path.display());
                self.state = State::Broken(left.kind());
            }
            return Err(error);
        }
        self.state = State::Good;
        for (record, place) in records {
            self.index.apply(record, Span::of_one(self.length, &place));
        }
        self.length += group.len() as u64;
        Ok(())
    }

    /// Rewrites the file when more of it is dead than alive, and much is. A failure is logged, and changes nothing.
    pub(super) fn compact_if_due(&mut self) {
        let dead = self.length - HEADER_LEN as u64 - self.index.live;
        let is_due = dead > self.rewrite_from && dead > self.index.live && self.length >= self.rewrite_again_at;
        if self.state != State::Good || !is_due {
            return;
        }
        if let Err(error) = self.rewrite() {
            log::warn!(target: "conduit::driver", "{}: not rewritten: {error}", self.path.display());
            self.rewrite_again_at = self.length + self.rewrite_from;
        }
    }

    /// Cuts off what lies behind the last good group.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.disk.set_len(&self.file, self.length)?;
        self.disk.sync(&self.file)
    }

    /// Replaces the file by one with the live records only: whoever reads it, even after a crash, finds the old one or
    /// the new one, whole.
    pub(super) fn rewrite(&mut self) -> io::Result<()> {
        let temporary = temporary_path(&self.path);
        let written = self.write_live(&temporary).and_then(|written| {
            self.disk.rename(&temporary, &self.path)?;
            Ok(written)
        });
        let (file, length, index) = written.inspect_err(|_| remove(&temporary))?;
        (self.file, self.length, self.index) = (file, length, index);
        self.is_name_synced = false;
        self.rewrite_again_at = 0;
        if let Err(error) = self.sync_name() {
            // No group counts as written until it succeeds.
            log::warn!(target: "conduit::driver", "{}: its name is not synced: {error}", self.path.display());
        }
        Ok(())
    }

    /// Puts the name of the file on the disk, if it is not there yet.
    pub(super) fn sync_name(&mut self) -> io::Result<()> {
        if !self.is_name_synced {
            if let Some(dir) = self.path.parent() {
                self.disk.sync_dir(dir)?;
            }
            self.is_name_synced = true;
        }
        Ok(())
    }

    /// Whether the last group was not written.
    pub(super) fn has_failed(&self) -> bool {
        self.state != State::Good
    }

    /// Whether nothing will be written any more.
    pub(super) const fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken(_))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn disk(&self) -> &D {
        &self.disk
    }

    fn write(&mut self, group: &[u8]) -> io::Result<()> {
        self.sync_name()?;
        self.disk.write_at(&self.file, self.length, group)?;
        self.disk.sync(&self.file)
    }

    /// Writes a new file with the live records, in their order, and syncs it.
    fn write_live(&self, temporary: &Path) -> io::Result<(File, u64, Index)> {
        let new = self.disk.create(temporary)?;
        self.disk.write_at(&new, 0, &self.header)?;
        let mut length = self.header.len() as u64;
        let mut index = Index::default();
        let mut builder = GroupBuilder::new();
        let mut spans = self.index.by_place().into_iter().peekable();
        let mut source = BufReader::with_capacity(READ_BUFFER, &self.file);
        source.seek(SeekFrom::Start(HEADER_LEN as u64))?;
        let mut groups = Groups::new(source, self.length);
        let flush = |builder: GroupBuilder, length: u64| {
            let group = builder.finish();
            self.disk.write_at(&new, length, &group)?;
            Ok::<_, io::Error>(length + group.len() as u64)
        };
        while spans.peek().is_some() {
            let group = match groups.next() {
                Ok(Some(group)) => group,
                Err(Ending::Fault(FileFault::Unreadable { kind })) => return Err(kind.into()),
                // It was good when it was written, or read.
                Ok(None) | Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            };
            let end = group.at + group.bytes.len() as u64;
            while let Some((item, span)) = spans.next_if(|(_, span)| span.at < end) {
                let bytes = span.within(&group.bytes, group.at).ok_or(io::ErrorKind::InvalidData)?;
                let place = builder.push_encoded(bytes, span.count);
                index.add(item, Span { at: length + place.start as u64, ..span });
                if builder.is_full() {
                    length = flush(std::mem::replace(&mut builder, GroupBuilder::new()), length)?;
                }
            }
        }
        if !builder.is_empty() {
            length = flush(builder, length)?;
        }
        self.disk.sync(&new)?;
        Ok((new, length, index))
    }
}

impl Index {
    /// Notes where a record lies, by the rules of [`Ledger`](crate::engine::broadcast::record::Ledger).
    pub(super) fn apply(&mut self, record: &Record, span: Span) {
        let item = record.item();
        if let Record::Hold(_) | Record::Over { .. } = record {
            let ended = self.items.remove(&item);
            self.live -= ended.iter().flatten().map(|span| span.length).sum::<u64>();
        }
        if matches!(record, Record::Hold(_)) || self.items.contains_key(&item) {
            self.add(item, span);
        }
    }

    /// Adds to what lies behind everything that is known of a broadcast.
    fn add(&mut self, item: u64, span: Span) {
        self.live += span.length;
        let spans = self.items.entry(item).or_default();
        match spans.last_mut() {
            Some(last) if last.at + last.length == span.at => {
                last.length += span.length;
                last.count += span.count;
            }
            _ => spans.push(span),
        }
    }

    /// Everything, in the order of the file.
    fn by_place(&self) -> Vec<(u64, Span)> {
        let spans = self.items.iter().flat_map(|(&item, spans)| spans.iter().map(move |&span| (item, span)));
        let mut spans: Vec<_> = spans.collect();
        spans.sort_unstable_by_key(|(_, span)| span.at);
        spans
    }
}

impl Span {
    /// A record at a place in the group that begins at `group_at`.
    pub(super) fn of_one(group_at: u64, place: &Range<usize>) -> Self {
        Self { at: group_at + place.start as u64, length: place.len() as u64, count: 1 }
    }

    /// Its bytes in the group that begins at `group_at`.
    fn within<'a>(&self, group: &'a [u8], group_at: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(self.at.checked_sub(group_at)?).ok()?;
        let end = start.checked_add(usize::try_from(self.length).ok()?)?;
        group.get(start..end)
    }
}

/// Removes what was to replace the file. If it stays, the next start removes it.
fn remove(temporary: &Path) {
    if let Err(error) = fs::remove_file(temporary) {
        log::debug!(target: "conduit::driver", "{}: not removed: {error}", temporary.display());
    }
}

/// The file is not worth being rewritten for less.
const REWRITE_FROM: u64 = 16 * 1_048_576;
const READ_BUFFER: usize = 64 * 1_024;

#[cfg(test)]
impl<D> LogFile<D> {
    /// Lets the file be rewritten for so few dead bytes.
    pub(super) fn rewrite_from(&mut self, bytes: u64) {
        self.rewrite_from = bytes;
    }

    pub(super) fn live_and_length(&self) -> (u64, u64) {
        (self.index.live, self.length)
    }
}
