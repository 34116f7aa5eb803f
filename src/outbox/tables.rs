//! The two tables of the database: records keyed by sequence, and the entries of the checkpoint.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase as _, TableDefinition,
    TableError, WriteTransaction,
};

use super::{
    backlog::{FIRST_SEQUENCE, Recovered},
    commit::Entry,
    error::DiskError,
    record::{self, Kind},
};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// The key of the start marker in [`RECORDS`]. The marker keeps sequences from starting over when
/// every record is acknowledged. It is stored beside the oldest records, on a page that an
/// acknowledgement writes anyway.
const START_KEY: u64 = 0;
const CHECKPOINT: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("checkpoint");

/// redb's page cache. At most half of it holds pages to be written, the rest pages that were read.
/// One export batch and its commits fit, and the system's page cache holds the other pages, so a
/// larger cache would only add to the memory of the daemon.
const CACHE_BYTES: usize = 2 << 20;

/// The content of one write transaction.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    /// The new sequence of the oldest unacknowledged record; `None` if it is unchanged.
    pub(super) start: Option<u64>,
    /// The sequence of the first of `records`; the others follow without gaps.
    pub(super) first: u64,
    pub(super) records: &'a [Bytes],
    pub(super) entries: &'a [Entry],
}

/// The settings with which every database file is opened or created.
pub(super) fn database_builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // By default redb trusts a file that another program changed; with this it fails to open.
    builder.set_check_integrity_on_open(true);
    builder
}

/// Finds the unacknowledged records. Reads every record at each start: counts that were stored
/// beside the records could disagree with them.
pub(super) fn recover(database: &Database) -> Result<Recovered, DiskError> {
    let mut recovered = Recovered::empty(read_start(database)?.unwrap_or(FIRST_SEQUENCE));
    for_each_record(database, FIRST_SEQUENCE..u64::MAX, |sequence, bytes| {
        if recovered.records == 0 {
            recovered.sequences.start = sequence;
        }
        recovered.sequences.end = sequence + 1;
        recovered.records += 1;
        recovered.bytes += bytes.len();
        ControlFlow::Continue(())
    })?;
    Ok(recovered)
}

fn read_start(database: &Database) -> Result<Option<u64>, DiskError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let Some(records) = if_exists(transaction.open_table(RECORDS))? else { return Ok(None) };
    let Some(encoded) = records.get(START_KEY).map_err(redb::Error::from)? else {
        return Ok(None);
    };
    match record::decode(encoded.value(), Kind::Start) {
        Some((sequence, _)) => Ok(Some(sequence)),
        None => Err(DiskError::Record { sequence: START_KEY }),
    }
}

/// Calls `visit` with the sequence and the bytes of each record in `sequences`, oldest first,
/// until it breaks.
pub(super) fn for_each_record(
    database: &Database,
    sequences: Range<u64>,
    mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<(), DiskError> {
    let transaction: ReadTransaction = database.begin_read().map_err(redb::Error::from)?;
    let Some(records) = if_exists(transaction.open_table(RECORDS))? else { return Ok(()) };
    for record in records.range(sequences).map_err(redb::Error::from)? {
        let (key, encoded) = record.map_err(redb::Error::from)?;
        let key = key.value();
        match record::decode(encoded.value(), Kind::Data) {
            Some((sequence, bytes)) if sequence == key => {
                if visit(sequence, bytes).is_break() {
                    break;
                }
            }
            _ => return Err(DiskError::Record { sequence: key }),
        }
    }
    Ok(())
}

/// Calls `visit` with each key and value of the checkpoint.
pub(super) fn for_each_entry(
    database: &Database,
    visit: &mut impl FnMut(&[u8], &[u8]),
) -> Result<(), redb::Error> {
    let transaction = database.begin_read()?;
    let Some(entries) = if_exists(transaction.open_table(CHECKPOINT))? else { return Ok(()) };
    for entry in redb::ReadableTable::iter(&entries)? {
        let (key, value) = entry?;
        visit(key.value(), value.value());
    }
    Ok(())
}

/// The first write to a table creates it; until then it is empty.
fn if_exists<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // Without two phases redb takes a corrupt newest commit for an interrupted one, and silently
    // returns to the commit before it.
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Writes all changes in one transaction. They are durable on return.
pub(super) fn write(database: &Database, changes: &Changes<'_>) -> Result<(), redb::Error> {
    let transaction = begin_write(database)?;
    if changes.start.is_some() || !changes.records.is_empty() {
        let mut records = transaction.open_table(RECORDS)?;
        if let Some(start) = changes.start {
            records.retain_in(FIRST_SEQUENCE..start, |_, _| false)?;
            records.insert(START_KEY, &*record::encode(Kind::Start, start, &[]))?;
        }
        for (sequence, bytes) in (changes.first..).zip(changes.records) {
            records.insert(sequence, &*record::encode(Kind::Data, sequence, bytes))?;
        }
    }
    if !changes.entries.is_empty() {
        let mut entries = transaction.open_table(CHECKPOINT)?;
        for Entry { key, value } in changes.entries {
            match value {
                Some(value) => entries.insert(&**key, &**value)?,
                None => entries.remove(&**key)?,
            };
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Deletes every entry of the checkpoint. They are durably gone on return.
pub(super) fn delete_checkpoint(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin_write(database)?;
    transaction.delete_table(CHECKPOINT)?;
    transaction.commit()?;
    Ok(())
}
