//! A disk in memory that loses power and fails at will.

use std::{
    fmt::{self, Display, Formatter},
    io::{self, Cursor, ErrorKind},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::super::storage::{Contents, Storage};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Cheap to clone; every clone is the same disk. The names of files are durable at once.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedDisk {
    names: Arc<Mutex<Names>>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Names {
    current: Option<Arc<Mutex<File>>>,
    begun: Option<Arc<Mutex<File>>>,
    aside: Option<Arc<Mutex<File>>>,
}

/// What is to fail.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// So many changes and syncs go well still; then the power is away, and nothing does.
    pub(super) power_for: Option<usize>,
    /// So many of the next changes and syncs fail.
    pub(super) writes: usize,
    /// So many of the next reads fail.
    pub(super) reads: usize,
    /// Nothing goes beyond this.
    pub(super) space: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct File {
    /// As the page cache has it.
    cached: Vec<u8>,
    /// As it is without power, but for some of `unsynced`.
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl SimulatedDisk {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
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

    /// The file as its readers see it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let names = lock(&self.names);
        names.current.as_ref().map(|file| lock(file).cached.clone()).unwrap_or_default()
    }

    /// What was set aside as damaged.
    pub(super) fn aside(&self) -> Option<Vec<u8>> {
        lock(&self.names).aside.as_ref().map(|file| lock(file).cached.clone())
    }

    /// Changes the file behind the back of who has it open.
    pub(super) fn damage(&self, damage: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = &lock(&self.names).current {
            damage(&mut lock(file).cached);
        }
    }

    /// The disk when the power comes back: `chance` says of each sector that was not synced
    /// whether it was written.
    pub(super) fn after_power_loss(&self, mut chance: impl FnMut() -> bool) -> Self {
        let names = lock(&self.names);
        let Some(file) = names.current.as_deref() else { return Self::default() };
        let file = lock(file);
        let mut bytes = file.synced.clone();
        let mut len = bytes.len();
        for change in &file.unsynced {
            match change {
                Change::Len(new) if chance() => len = *new,
                Change::Len(_) => {}
                Change::Write { offset, bytes: written } => {
                    for (offset, sector) in sectors(*offset, written) {
                        if chance() {
                            Change::Write { offset, bytes: sector.to_vec() }.apply(&mut bytes);
                        }
                    }
                }
            }
        }
        // What is behind the end of the file is lost with it.
        bytes.resize(len, 0);
        Self::of(bytes)
    }

    fn database(
        &self,
        file: &Arc<Mutex<File>>,
        builder: &Builder,
    ) -> Result<Database, DatabaseError> {
        let (file, faults) = (Arc::clone(file), Arc::clone(&self.faults));
        builder.create_with_backend(Opened { file, faults })
    }
}

impl Storage for SimulatedDisk {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let current = lock(&self.names).current.clone();
        if let Some(current) = current {
            return self.database(&current, builder);
        }
        let database = self.begin(builder)?;
        let mut names = lock(&self.names);
        names.current = names.begun.take();
        Ok(database)
    }

    fn bytes(&self) -> io::Result<Box<dyn Contents>> {
        Ok(Box::new(Cursor::new(Self::bytes(self))))
    }

    fn begin(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let begun = Arc::default();
        lock(&self.names).begun = Some(Arc::clone(&begun));
        self.database(&begun, builder)
    }

    fn replace(&self) -> io::Result<()> {
        let mut names = lock(&self.names);
        names.aside = names.current.take();
        names.current = names.begun.take();
        Ok(())
    }
}

impl Display for SimulatedDisk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

/// The parts of a write that are written each for itself.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut parts = Vec::new();
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at((SECTOR - at % SECTOR).min(rest.len()));
        parts.push((at, part));
        at += part.len();
        rest = behind;
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

/// A file of the disk, opened.
#[derive(Debug)]
struct Opened {
    file: Arc<Mutex<File>>,
    faults: Arc<Mutex<Faults>>,
}

/// What became of a change or a sync.
enum Fate {
    Done,
    Failed,
    /// The power went away meanwhile.
    CutOff,
}

impl Opened {
    fn fate(&self) -> Fate {
        let mut faults = lock(&self.faults);
        if let Some(left) = &mut faults.power_for {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => return Fate::CutOff,
            }
        }
        if fails(&mut faults.writes) { Fate::Failed } else { Fate::Done }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        if lock(&self.faults).space.is_some_and(|space| space < change.end()) {
            return Err(ErrorKind::StorageFull.into());
        }
        let fate = self.fate();
        let mut file = lock(&self.file);
        match fate {
            Fate::Done => {
                change.apply(&mut file.cached);
                file.unsynced.push(change);
                Ok(())
            }
            Fate::Failed => Err(ErrorKind::StorageFull.into()),
            Fate::CutOff => {
                file.unsynced.push(change);
                Err(io::Error::other("no power"))
            }
        }
    }
}

fn fails(left: &mut usize) -> bool {
    let fails = *left > 0;
    *left = left.saturating_sub(1);
    fails
}

impl StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.file).cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if fails(&mut lock(&self.faults).reads) {
            return Err(io::Error::other("unreadable"));
        }
        let offset = place(offset)?;
        let file = lock(&self.file);
        let bytes = file.cached.get(offset..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(place(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let fate = self.fate();
        let mut file = lock(&self.file);
        match fate {
            Fate::Done => {
                for change in mem::take(&mut file.unsynced) {
                    change.apply(&mut file.synced);
                }
                Ok(())
            }
            // As Linux does: what a failed sync did not write, the next takes for written.
            Fate::Failed => {
                file.unsynced.clear();
                Err(ErrorKind::StorageFull.into())
            }
            Fate::CutOff => Err(io::Error::other("no power")),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = place(offset)?;
        self.change(Change::Write { offset, bytes: bytes.to_vec() })
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
