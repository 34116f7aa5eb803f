//! A simulated disk in memory, with power losses, failures and corruption.

use std::{
    fmt::{self, Display, Formatter},
    io::{self, Cursor, ErrorKind},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::super::storage::{Contents, Storage};

/// A disk writes each sector completely or not at all.
const SECTOR: usize = 512;

/// Cheap to clone; every clone is the same disk. Renames are durable at once.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedDisk {
    names: Arc<Mutex<Names>>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Names {
    current: Option<Arc<Mutex<File>>>,
    replacement: Option<Arc<Mutex<File>>>,
    damaged: Option<Arc<Mutex<File>>>,
}

/// The failures to come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// How many changes and syncs succeed before the power loss; after it, none does.
    pub(super) power_for: Option<usize>,
    /// How many of the next changes and syncs fail.
    pub(super) writes: usize,
    /// How many of the next reads fail.
    pub(super) reads: usize,
    /// The size in bytes beyond which a file cannot grow.
    pub(super) space: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct File {
    /// The content in the page cache.
    cached: Vec<u8>,
    /// The content on the disk, to which a power loss may add any part of `unsynced`.
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl SimulatedDisk {
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        let file = File { synced: bytes.clone(), cached: bytes, unsynced: Vec::new() };
        let disk = Self::default();
        lock(&disk.names).current = Some(Arc::new(Mutex::new(file)));
        disk
    }

    pub(super) fn fail(&self, faults: Faults) {
        *lock(&self.faults) = faults;
    }

    pub(super) fn faults_left(&self) -> Faults {
        *lock(&self.faults)
    }

    /// The content of the database file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let names = lock(&self.names);
        names.current.as_ref().map(|file| lock(file).cached.clone()).unwrap_or_default()
    }

    /// The content of the corrupt file that was set aside.
    pub(super) fn damaged(&self) -> Option<Vec<u8>> {
        lock(&self.names).damaged.as_ref().map(|file| lock(file).cached.clone())
    }

    /// Changes the file while a database has it open.
    pub(super) fn damage(&self, damage: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = &lock(&self.names).current {
            damage(&mut lock(file).cached);
        }
    }

    /// The disk after a power loss. `is_kept` decides for each unsynced sector whether it was
    /// written.
    pub(super) fn after_power_loss(&self, mut is_kept: impl FnMut() -> bool) -> Self {
        let names = lock(&self.names);
        let Some(file) = names.current.as_deref() else { return Self::default() };
        let file = lock(file);
        let mut bytes = file.synced.clone();
        let mut len = bytes.len();
        for change in &file.unsynced {
            match change {
                Change::Len(new) if is_kept() => len = *new,
                Change::Len(_) => {}
                Change::Write { offset, bytes: written } => {
                    for (offset, sector) in sectors(*offset, written) {
                        if is_kept() {
                            Change::Write { offset, bytes: sector.to_vec() }.apply(&mut bytes);
                        }
                    }
                }
            }
        }
        // Bytes beyond the end of the file are lost.
        bytes.resize(len, 0);
        Self::from_bytes(bytes)
    }

    fn database(
        &self,
        file: &Arc<Mutex<File>>,
        builder: &Builder,
    ) -> Result<Database, DatabaseError> {
        let (file, faults) = (Arc::clone(file), Arc::clone(&self.faults));
        builder.create_with_backend(OpenFile { file, faults })
    }
}

impl Storage for SimulatedDisk {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let current = lock(&self.names).current.clone();
        if let Some(current) = current {
            return self.database(&current, builder);
        }
        let database = self.create_replacement(builder)?;
        let mut names = lock(&self.names);
        names.current = names.replacement.take();
        Ok(database)
    }

    fn contents(&self) -> io::Result<Box<dyn Contents>> {
        Ok(Box::new(Cursor::new(self.bytes())))
    }

    fn create_replacement(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let replacement = Arc::default();
        lock(&self.names).replacement = Some(Arc::clone(&replacement));
        self.database(&replacement, builder)
    }

    fn install_replacement(&self) -> io::Result<()> {
        let mut names = lock(&self.names);
        names.damaged = names.current.take();
        names.current = names.replacement.take();
        Ok(())
    }
}

impl Display for SimulatedDisk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

/// Splits a write at the boundaries of sectors.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut parts = Vec::new();
    let (mut position, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let (part, remainder) = rest.split_at((SECTOR - position % SECTOR).min(rest.len()));
        parts.push((position, part));
        position += part.len();
        rest = remainder;
    }
    parts
}

impl Change {
    fn end(&self) -> usize {
        match self {
            Self::Len(len) => *len,
            Self::Write { offset, bytes } => offset + bytes.len(),
        }
    }

    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Len(len) => file.resize(*len, 0),
            Self::Write { offset, bytes } => {
                let end = self.end();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

/// An open file of the disk.
#[derive(Debug)]
struct OpenFile {
    file: Arc<Mutex<File>>,
    faults: Arc<Mutex<Faults>>,
}

/// The outcome of a change or a sync.
enum Outcome {
    Done,
    Failed,
    /// The power was lost during the operation.
    PowerLost,
}

impl OpenFile {
    fn next_outcome(&self) -> Outcome {
        let mut faults = lock(&self.faults);
        if let Some(left) = &mut faults.power_for {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => return Outcome::PowerLost,
            }
        }
        if count_down(&mut faults.writes) { Outcome::Failed } else { Outcome::Done }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        if lock(&self.faults).space.is_some_and(|space| space < change.end()) {
            return Err(ErrorKind::StorageFull.into());
        }
        let outcome = self.next_outcome();
        let mut file = lock(&self.file);
        match outcome {
            Outcome::Done => {
                change.apply(&mut file.cached);
                file.unsynced.push(change);
                Ok(())
            }
            Outcome::Failed => Err(io::Error::other("failed")),
            Outcome::PowerLost => {
                file.unsynced.push(change);
                Err(io::Error::other("no power"))
            }
        }
    }
}

fn count_down(left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.file).cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if count_down(&mut lock(&self.faults).reads) {
            return Err(io::Error::other("unreadable"));
        }
        let offset = to_usize(offset)?;
        let file = lock(&self.file);
        let bytes = file.cached.get(offset..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(to_usize(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let outcome = self.next_outcome();
        let mut file = lock(&self.file);
        match outcome {
            Outcome::Done => {
                for change in mem::take(&mut file.unsynced) {
                    change.apply(&mut file.synced);
                }
                Ok(())
            }
            // Like Linux: after a failed sync, the next one takes the unwritten pages for clean.
            Outcome::Failed => {
                file.unsynced.clear();
                Err(io::Error::other("failed"))
            }
            Outcome::PowerLost => Err(io::Error::other("no power")),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = to_usize(offset)?;
        self.change(Change::Write { offset, bytes: bytes.to_vec() })
    }
}

fn to_usize(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
