//! The tables of queue and checkpoint: records keyed by sequence, and the entries of the checkpoint.
//! Writes them and those of the quarantine in one transaction.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase as _, TableDefinition, WriteTransaction};

use super::{
    backlog::{FIRST_SEQUENCE, Unacknowledged},
    commit::Entry,
    database::{begin_write, if_exists},
    error::DiskError,
    quarantine::Index,
    quarantine_tables::{self, QuarantineChanges, QuarantineTables, Queue, write_removals},
    record::{self, Kind},
};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// The key of the start marker in [`RECORDS`]. The marker keeps sequences from starting over when
/// every record is acknowledged. It is stored beside the oldest records, on a page that an
/// acknowledgement writes anyway.
const START_KEY: u64 = 0;
const CHECKPOINT: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("checkpoint");

/// The records that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) unacknowledged: Unacknowledged,
    pub(super) quarantine: Index,
}

/// The content of one write transaction.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// The new sequence of the oldest unacknowledged record; `None` if it is unchanged.
    pub(super) start: Option<u64>,
    /// The sequence of the first of `records`; the others follow without gaps.
    pub(super) first: u64,
    pub(super) records: &'a [Bytes],
    pub(super) entries: &'a [Entry],
    pub(super) quarantine: QuarantineChanges<'a>,
}

/// Finds the unacknowledged records. Reads every record at each start: counts that were stored
/// beside the records could disagree with them.
pub(super) fn recover(database: &Database) -> Result<Recovered, DiskError> {
    let start = read_start(database)?.unwrap_or(FIRST_SEQUENCE);
    let mut unacknowledged = Unacknowledged::empty(start);
    for_each_record(database, FIRST_SEQUENCE..u64::MAX, |sequence, bytes| {
        if unacknowledged.records == 0 {
            unacknowledged.sequences.start = sequence;
        }
        unacknowledged.sequences.end = sequence + 1;
        unacknowledged.records += 1;
        unacknowledged.bytes += bytes.len();
        ControlFlow::Continue(())
    })?;
    Ok(Recovered { unacknowledged, quarantine: quarantine_tables::recover(database)? })
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

/// Writes all changes in one transaction. They are durable on return. Writing the same changes again
/// after an error has no further effect, even if they had become durable. Returns the lengths of the
/// records that went from quarantine to the queue; their sequences follow those of the new records.
pub(super) fn write(database: &Database, changes: &Changes<'_>) -> Result<Vec<usize>, DiskError> {
    let transaction = begin_write(database)?;
    let requeued = write_records(&transaction, changes)?;
    write_entries(&transaction, changes.entries)?;
    transaction.commit().map_err(redb::Error::from)?;
    Ok(requeued)
}

fn write_records(
    transaction: &WriteTransaction,
    changes: &Changes<'_>,
) -> Result<Vec<usize>, DiskError> {
    let Changes { start, first, records, entries: _, quarantine } = changes;
    if start.is_none() && records.is_empty() && quarantine.is_empty() {
        return Ok(Vec::new());
    }
    let mut queue = transaction.open_table(RECORDS).map_err(redb::Error::from)?;
    let mut tables = None;
    if !quarantine.is_empty() {
        let tables = tables.insert(QuarantineTables::open(transaction)?);
        // The acknowledgement below deletes the records that are moved.
        tables.move_records(&queue, quarantine.moves)?;
    }
    if let Some(start) = *start {
        acknowledge(&mut queue, start)?;
    }
    let mut next = *first;
    for bytes in *records {
        let encoded = record::encode(Kind::Data, next, bytes);
        queue.insert(next, &*encoded).map_err(redb::Error::from)?;
        next += 1;
    }
    match &mut tables {
        Some(tables) => write_removals(tables, quarantine, &mut queue, next),
        None => Ok(Vec::new()),
    }
}

fn acknowledge(queue: &mut Queue<'_>, start: u64) -> Result<(), redb::Error> {
    queue.retain_in(FIRST_SEQUENCE..start, |_, _| false)?;
    queue.insert(START_KEY, &*record::encode(Kind::Start, start, &[]))?;
    Ok(())
}

fn write_entries(transaction: &WriteTransaction, changes: &[Entry]) -> Result<(), redb::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut entries = transaction.open_table(CHECKPOINT)?;
    for Entry { key, value } in changes {
        match value {
            Some(value) => entries.insert(&**key, &**value)?,
            None => entries.remove(&**key)?,
        };
    }
    Ok(())
}

/// Deletes every entry of the checkpoint. They are durably gone on return.
pub(super) fn delete_checkpoint(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin_write(database)?;
    transaction.delete_table(CHECKPOINT)?;
    transaction.commit()?;
    Ok(())
}
