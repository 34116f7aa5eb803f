//! The outbox's file: records by their sequence, and the checkpoint's entries by their keys.

use std::{
    any::Any,
    error::Error,
    ops::{ControlFlow, Range},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase as _, TableDefinition,
    TableError,
};

use super::{
    queue::Entry,
    record::{self, Kind},
    salvage,
    storage::Storage,
    waiting::{FIRST, Found},
};

/// Key 0 is no record that waits: it says where they begin, so that sequences never start over. It
/// stands beside the oldest records, on a page that an acknowledgement writes anyway.
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
const BEGINS: u64 = 0;
const CHECKPOINT: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("checkpoint");

/// What redb may keep of the file in memory. Half of it at most holds pages still to be written,
/// the rest pages that were read; a batch for export and its commits fit, and the daemon's own
/// memory is not much more. The system's page cache has the others.
const CACHE_BYTES: usize = 2 << 20;

/// What went wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the database failed")]
    Database(#[from] redb::Error),
    #[error("the database panicked: {0}")]
    Panicked(String),
    #[error("record {sequence} is not whole")]
    Record { sequence: u64 },
}

impl DiskError {
    /// Whether it is what the file holds that is wrong, and not how it is reached.
    pub(super) fn is_damage(&self) -> bool {
        use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match self {
            Self::Panicked(_) | Self::Record { .. } => true,
            // Also in a header that says the file is larger than it is, or of another kind.
            Self::Database(redb::Error::Io(error)) => {
                matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
            }
            Self::Database(error) => matches!(
                error,
                redb::Error::Corrupted(_)
                    | redb::Error::RepairAborted
                    | redb::Error::UpgradeRequired(_)
                    | redb::Error::TableTypeMismatch { .. }
                    | redb::Error::TypeDefinitionChanged { .. }
                    | redb::Error::TableIsMultimap(_)
            ),
        }
    }
}

/// An error and all below it, for where one gives up or tries again.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What is written in one transaction.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    /// Where records begin from then on, if that changes.
    pub(super) begins: Option<u64>,
    /// The sequence of the first of these.
    pub(super) first: u64,
    pub(super) records: &'a [Bytes],
    pub(super) entries: &'a [Entry],
}

/// A file that was damaged, and replaced.
#[derive(Debug)]
pub(super) struct Damaged {
    pub(super) error: DiskError,
}

#[derive(Debug)]
pub(super) struct Disk {
    storage: Box<dyn Storage>,
    /// `None` while it could not be opened again.
    database: RwLock<Option<Database>>,
}

impl Disk {
    /// The file, what waits in it, and whether it replaces a damaged one.
    pub(super) fn open(
        storage: Box<dyn Storage>,
    ) -> Result<(Self, Found, Option<Damaged>), DiskError> {
        let (database, found, damaged) = open(&*storage, None)?;
        Ok((Self { storage, database: RwLock::new(Some(database)) }, found, damaged))
    }

    /// After a failure redb serves nothing more from a file until it is opened again. `wait` is
    /// what is known to wait in it. `replaced` is told, before anyone can read it, what waits in
    /// a file that replaces a damaged one.
    pub(super) fn reopen(
        &self,
        wait: Range<u64>,
        replaced: impl FnOnce(Found, Damaged),
    ) -> Result<(), DiskError> {
        let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first: the same file cannot be open twice.
        if let Some(database) = current.take() {
            caught(|| {
                drop(database);
                Ok(())
            })
            .ok();
        }
        let (database, found, damaged) = open(&*self.storage, Some(wait))?;
        if let Some(damaged) = damaged {
            replaced(found, damaged);
        }
        *current = Some(database);
        Ok(())
    }

    /// Durable when it returns, or, where it fails, perhaps.
    pub(super) fn write(&self, changes: &Changes<'_>) -> Result<(), DiskError> {
        self.with(|database| write(database, changes).map_err(Into::into))
    }

    /// The oldest of these records with their sequences, as many as `fits` says by their lengths.
    /// `then` is called while the file is still the one they are of.
    pub(super) fn read<R>(
        &self,
        sequences: impl FnOnce() -> Range<u64>,
        mut fits: impl FnMut(usize) -> bool,
        then: impl FnOnce(Vec<(u64, Bytes)>) -> R,
    ) -> Result<R, DiskError> {
        self.with(|database| {
            let mut records = Vec::new();
            each_record(database, sequences(), |sequence, bytes| {
                if fits(bytes.len()) {
                    records.push((sequence, Bytes::copy_from_slice(bytes)));
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            Ok(then(records))
        })
    }

    pub(super) fn read_checkpoint(
        &self,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), DiskError> {
        self.with(|database| each_entry(database, &mut each).map_err(Into::into))
    }

    pub(super) fn forget_checkpoint(&self) -> Result<(), DiskError> {
        self.with(|database| forget_checkpoint(database).map_err(Into::into))
    }

    fn with<R>(
        &self,
        work: impl FnOnce(&Database) -> Result<R, DiskError>,
    ) -> Result<R, DiskError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database: &RwLockReadGuard<'_, Option<Database>> = &database;
        match &**database {
            Some(database) => caught(|| work(database)),
            None => Err(redb::Error::DatabaseClosed.into()),
        }
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.storage.fmt(f)
    }
}

/// Runs what touches the database. redb panics on some pages that are not as it wrote them; that
/// is a file to be set aside, and no reason to stop. Whatever panicked is opened anew.
pub(super) fn caught<R>(work: impl FnOnce() -> Result<R, DiskError>) -> Result<R, DiskError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(DiskError::Panicked(panic_text(&*panic))))
}

pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no text").to_owned()
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // A file that something else has changed fails then, where redb would trust it otherwise.
    builder.set_check_integrity_on_open(true);
    builder
}

fn open(
    storage: &dyn Storage,
    wait: Option<Range<u64>>,
) -> Result<(Database, Found, Option<Damaged>), DiskError> {
    let opened = caught(|| {
        let database = storage.open(&builder()).map_err(redb::Error::from)?;
        let found = find(&database)?;
        Ok((database, found))
    });
    match opened {
        Ok((database, found)) => Ok((database, found, None)),
        Err(error) if error.is_damage() => {
            let (database, found) = caught(|| salvage::replace(storage, wait))?;
            Ok((database, found, Some(Damaged { error })))
        }
        Err(error) => Err(error),
    }
}

/// What waits. Reads every record, which a start can afford: there are no numbers kept beside the
/// records that could differ from them.
fn find(database: &Database) -> Result<Found, DiskError> {
    let mut found = Found { sequences: FIRST..FIRST, records: 0, bytes: 0 };
    if let Some(begins) = begins(database)? {
        found.sequences = begins..begins;
    }
    each_record(database, FIRST..u64::MAX, |sequence, bytes| {
        if found.records == 0 {
            found.sequences.start = sequence;
        }
        found.sequences.end = sequence + 1;
        found.records += 1;
        found.bytes += bytes.len();
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn begins(database: &Database) -> Result<Option<u64>, DiskError> {
    let read = database.begin_read().map_err(redb::Error::from)?;
    let Some(records) = existing(read.open_table(RECORDS))? else { return Ok(None) };
    let Some(written) = records.get(BEGINS).map_err(redb::Error::from)? else { return Ok(None) };
    match record::decode(written.value(), Kind::Begins) {
        Some((sequence, _)) => Ok(Some(sequence)),
        None => Err(DiskError::Record { sequence: BEGINS }),
    }
}

fn each_record(
    database: &Database,
    sequences: Range<u64>,
    mut each: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<(), DiskError> {
    let read: ReadTransaction = database.begin_read().map_err(redb::Error::from)?;
    let Some(records) = existing(read.open_table(RECORDS))? else { return Ok(()) };
    for record in records.range(sequences).map_err(redb::Error::from)? {
        let (key, written) = record.map_err(redb::Error::from)?;
        let sequence = key.value();
        match record::decode(written.value(), Kind::Waits) {
            Some((own, bytes)) if own == sequence => {
                if each(sequence, bytes).is_break() {
                    break;
                }
            }
            _ => return Err(DiskError::Record { sequence }),
        }
    }
    Ok(())
}

fn each_entry(database: &Database, each: &mut impl FnMut(&[u8], &[u8])) -> Result<(), redb::Error> {
    let read = database.begin_read()?;
    let Some(entries) = existing(read.open_table(CHECKPOINT))? else { return Ok(()) };
    for entry in redb::ReadableTable::iter(&entries)? {
        let (key, value) = entry?;
        each(key.value(), value.value());
    }
    Ok(())
}

/// A table is there once something was written to it.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn begin_write(database: &Database) -> Result<redb::WriteTransaction, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    // Without it, a newest commit that was damaged passes for one that was cut off, and redb goes
    // back to the one before, without a word.
    write.set_two_phase_commit(true);
    Ok(write)
}

pub(super) fn write(database: &Database, changes: &Changes<'_>) -> Result<(), redb::Error> {
    let write = begin_write(database)?;
    if changes.begins.is_some() || !changes.records.is_empty() {
        let mut records = write.open_table(RECORDS)?;
        if let Some(begins) = changes.begins {
            records.retain_in(FIRST..begins, |_, _| false)?;
            records.insert(BEGINS, &*record::encode(Kind::Begins, begins, &[]))?;
        }
        for (sequence, bytes) in (changes.first..).zip(changes.records) {
            records.insert(sequence, &*record::encode(Kind::Waits, sequence, bytes))?;
        }
    }
    if !changes.entries.is_empty() {
        let mut entries = write.open_table(CHECKPOINT)?;
        for Entry { key, value } in changes.entries {
            match value {
                Some(value) => entries.insert(&**key, &**value)?,
                None => entries.remove(&**key)?,
            };
        }
    }
    write.commit()?;
    Ok(())
}

fn forget_checkpoint(database: &Database) -> Result<(), redb::Error> {
    let write = begin_write(database)?;
    write.delete_table(CHECKPOINT)?;
    write.commit()?;
    Ok(())
}
