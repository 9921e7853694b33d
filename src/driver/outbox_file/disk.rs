//! What is asked of a disk: few operations, so that tests can let each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use crate::driver::files;

/// The operations of a disk; those of the system, unless a test says otherwise.
pub(crate) trait Disk {
    /// Makes an empty file, to be written and read.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn write_at(&self, mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    /// Blocks until the disk has the bytes, and the length.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Gives a file a second name, or, where that is not possible, makes a copy.
    fn keep(&self, path: &Path, name: &Path) -> io::Result<()> {
        if fs::hard_link(path, name).is_ok() {
            return Ok(());
        }
        fs::copy(path, name)?;
        File::open(name)?.sync_all()
    }

    /// Blocks until the disk has the names.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        files::sync_dir(dir)
    }
}

/// The system's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

impl Disk for System {}
