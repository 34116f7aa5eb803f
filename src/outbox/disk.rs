//! The open database file. Reopens it after a failure, and replaces it if it is corrupt.

use std::{
    fmt::{self, Display, Formatter},
    ops::{ControlFlow, Range},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{PoisonError, RwLock},
};

use bytes::Bytes;
use redb::Database;

use super::{
    database::database_builder,
    error::{DiskError, panic_message},
    quarantine::QuarantineEntry,
    quarantine_tables,
    salvage::{self, Expected},
    storage::Storage,
    tables::{self, Changes, Recovered},
};

#[derive(Debug)]
pub(super) struct Disk {
    storage: Box<dyn Storage>,
    /// `None` after an attempt to reopen the file failed.
    database: RwLock<Option<Database>>,
}

/// A database that was just opened.
struct Opened {
    database: Database,
    recovered: Recovered,
    /// Why the database replaces an older file; `None` if it does not.
    corruption: Option<DiskError>,
}

impl Disk {
    /// Opens the file, and returns the records in it. If the file was corrupt and has been
    /// replaced, also returns the error.
    pub(super) fn open(
        storage: Box<dyn Storage>,
    ) -> Result<(Self, Recovered, Option<DiskError>), DiskError> {
        let Opened { database, recovered, corruption } = open(&*storage, None)?;
        Ok((Self { storage, database: RwLock::new(Some(database)) }, recovered, corruption))
    }

    /// Reopens the file: after a failure redb rejects every operation until then. `expected` are
    /// the records the file must still hold. If the file is corrupt and has been replaced,
    /// `on_replaced` is called before any reader can see the new file.
    pub(super) fn reopen(
        &self,
        expected: Expected,
        on_replaced: impl FnOnce(Recovered, DiskError),
    ) -> Result<(), DiskError> {
        let mut current = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // A file cannot be open twice, so it is closed first.
        if let Some(database) = current.take() {
            catch_panic(|| {
                drop(database);
                Ok(())
            })
            .ok();
        }
        let Opened { database, recovered, corruption } = open(&*self.storage, Some(expected))?;
        if let Some(error) = corruption {
            on_replaced(recovered, error);
        }
        *current = Some(database);
        Ok(())
    }

    /// Writes the changes. They are durable on success; after an error they may be durable or not.
    /// Returns the lengths of the records that went from quarantine to the queue.
    pub(super) fn write(&self, changes: &Changes<'_>) -> Result<Vec<usize>, DiskError> {
        self.with_database(|database| tables::write(database, changes))
    }

    /// Calls `visit` with each entry in quarantine, the oldest first.
    pub(super) fn read_quarantine(
        &self,
        samples_max: usize,
        mut visit: impl FnMut(QuarantineEntry),
    ) -> Result<(), DiskError> {
        self.with_database(|database| {
            quarantine_tables::for_each_entry(database, samples_max, &mut visit)
        })
    }

    /// Reads the oldest records in `sequences` with their sequences, as long as `fits` accepts
    /// their lengths. The file is not replaced before `then` has returned, so the sequences are
    /// valid in it.
    pub(super) fn read<R>(
        &self,
        sequences: impl FnOnce() -> Range<u64>,
        mut fits: impl FnMut(usize) -> bool,
        then: impl FnOnce(Vec<(u64, Bytes)>) -> R,
    ) -> Result<R, DiskError> {
        self.with_database(|database| {
            let mut records = Vec::new();
            tables::for_each_record(database, sequences(), |sequence, bytes| {
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
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), DiskError> {
        self.with_database(|database| {
            tables::for_each_entry(database, &mut visit).map_err(Into::into)
        })
    }

    pub(super) fn delete_checkpoint(&self) -> Result<(), DiskError> {
        self.with_database(|database| tables::delete_checkpoint(database).map_err(Into::into))
    }

    fn with_database<R>(
        &self,
        operation: impl FnOnce(&Database) -> Result<R, DiskError>,
    ) -> Result<R, DiskError> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            Some(database) => catch_panic(|| operation(database)),
            None => Err(redb::Error::DatabaseClosed.into()),
        }
    }
}

impl Display for Disk {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.storage.fmt(f)
    }
}

/// Opens the database, and replaces it if it is corrupt.
fn open(storage: &dyn Storage, expected: Option<Expected>) -> Result<Opened, DiskError> {
    let opened = catch_panic(|| {
        let database = storage.open(&database_builder()).map_err(redb::Error::from)?;
        let recovered = tables::recover(&database)?;
        Ok(Opened { database, recovered, corruption: None })
    });
    match opened {
        Err(error) if error.is_corruption() => {
            let (database, recovered) = catch_panic(|| salvage::replace(storage, expected))?;
            Ok(Opened { database, recovered, corruption: Some(error) })
        }
        opened => opened,
    }
}

/// Runs an operation on the database. redb panics on some corrupt pages; such a panic becomes an
/// error, after which the file is reopened and replaced, and the daemon stays up.
fn catch_panic<R>(operation: impl FnOnce() -> Result<R, DiskError>) -> Result<R, DiskError> {
    catch_unwind(AssertUnwindSafe(operation))
        .unwrap_or_else(|panic| Err(DiskError::Panicked(panic_message(&*panic))))
}
