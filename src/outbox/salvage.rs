//! Replaces a corrupt database by a new one with all intact records of the old file.

use std::{
    collections::BTreeMap,
    io::{self, SeekFrom},
    ops::Range,
};

use bytes::Bytes;
use redb::Database;

use super::{
    backlog::{FIRST_SEQUENCE, Unacknowledged},
    database::{begin_write, database_builder},
    error::DiskError,
    quarantine::{Index, Refusal, Size},
    quarantine_tables::{Marker, QuarantineTables, split_position},
    record::{HEADER, Kind},
    storage::{Contents, Storage},
    tables::{self, Changes, Recovered},
    window::Window,
};

/// About how many bytes are written in one transaction.
const CHUNK_BYTES: usize = 256 << 10;

/// What the file must still hold, according to the process that had it open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// The sequences of the records in the queue.
    pub(super) sequences: Range<u64>,
    /// The entries in quarantine; only the records before the position are in them.
    pub(super) quarantined: BTreeMap<u64, u32>,
    /// No entry has this id or a higher one.
    pub(super) next_id: u64,
}

/// Where the bytes of an intact record of the queue are in the file. Sorts by sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RecordLocation {
    sequence: u64,
    digest: u64,
    offset: u64,
    len: usize,
}

/// Where an intact record in quarantine is in the file. Sorts by entry and position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct QuarantinedLocation {
    id: u64,
    position: u32,
    digest: u64,
    offset: u64,
    /// Without the position, as `offset`.
    len: usize,
}

/// The intact records of a file, in order.
#[derive(Debug, Default)]
struct Found {
    queue: Vec<RecordLocation>,
    quarantined: Vec<QuarantinedLocation>,
    refusals: BTreeMap<u64, Refusal>,
    /// The newest markers: more than one if a change was interrupted and replaced by another.
    markers: Vec<Marker>,
}

impl Found {
    fn add_marker(&mut self, marker: Marker) {
        let newest = self.markers.first().map_or(0, |newest| newest.version);
        if marker.version > newest {
            self.markers.clear();
        }
        if marker.version >= newest {
            self.markers.push(marker);
        }
    }

    /// Whether the entry was neither retried nor dropped, as far as the file shows.
    fn may_contain(&self, id: u64) -> bool {
        self.markers.is_empty() || self.markers.iter().any(|marker| marker.may_contain(id))
    }
}

/// Sets the corrupt database aside and installs a new one in its place. The new one has no
/// checkpoint. It has every intact record that is `expected`. If that is unknown, it has those that
/// no marker in the file names as acknowledged, or as removed from quarantine.
pub(super) fn replace(
    storage: &dyn Storage,
    expected: Option<Expected>,
) -> Result<(Database, Recovered), DiskError> {
    let mut contents = storage.contents().map_err(redb::Error::from)?;
    let sequences = expected.as_ref().map(|expected| expected.sequences.clone());
    let mut sequences = sequences.unwrap_or(FIRST_SEQUENCE..u64::MAX);
    let mut found = scan(&mut *contents, &mut sequences).map_err(redb::Error::from)?;
    let mut quarantined = std::mem::take(&mut found.quarantined);
    quarantined.retain(|record| match &expected {
        Some(expected) => {
            expected.quarantined.get(&record.id).is_some_and(|end| record.position < *end)
        }
        None => found.may_contain(record.id),
    });
    found.quarantined = quarantined;
    let next_id = expected.map_or(0, |expected| expected.next_id);
    let next_id = found.markers.iter().map(|marker| marker.next_id).fold(next_id, u64::max);
    let version = found.markers.first().map_or(0, |marker| marker.version);
    let database = storage.create_replacement(&database_builder()).map_err(redb::Error::from)?;
    let unacknowledged = copy_queue(&mut *contents, &found.queue, sequences.start, &database)?;
    let entries = copy_quarantine(&mut *contents, &found, &database)?;
    let mut quarantine = Index::new(entries, next_id, version);
    write_marker(&mut quarantine, &database)?;
    storage.install_replacement().map_err(redb::Error::from)?;
    Ok((database, Recovered { unacknowledged, quarantine }))
}

/// Locates the intact records. Those of the queue are in `sequences`; a start marker in the file
/// raises the start of `sequences`.
fn scan(contents: &mut dyn Contents, sequences: &mut Range<u64>) -> io::Result<Found> {
    let mut found = Found::default();
    let mut window = Window::new(contents)?;
    while let Some(header) = window.next_header()? {
        if !window.is_intact(header)? {
            window.skip(1);
            continue;
        }
        let end = HEADER + header.len;
        let offset = window.offset() + HEADER as u64;
        let bytes = window.remaining().get(HEADER..end).unwrap_or_default();
        match header.kind {
            Kind::Start => sequences.start = sequences.start.max(header.sequence),
            Kind::Data => found.queue.push(RecordLocation {
                sequence: header.sequence,
                digest: header.digest,
                offset,
                len: header.len,
            }),
            Kind::Quarantined => {
                found.quarantined.extend(split_position(bytes).map(|(position, rest)| {
                    QuarantinedLocation {
                        id: header.sequence,
                        position,
                        digest: header.digest,
                        offset: offset + (header.len - rest.len()) as u64,
                        len: rest.len(),
                    }
                }));
            }
            Kind::Refusal => {
                found.refusals.insert(header.sequence, Refusal::from_bytes(bytes));
            }
            Kind::QuarantineIds => {
                if let Some(marker) = Marker::from_bytes(header.sequence, bytes) {
                    found.add_marker(marker);
                }
            }
        }
        window.skip(end);
    }
    found.queue.retain(|location| sequences.contains(&location.sequence));
    found.queue.sort_unstable();
    // The database writes changed pages to a new offset, so the file can contain a record twice.
    // Two records with one sequence and different content come from a commit that was interrupted
    // and replaced by another. Both describe real changes, so both are kept.
    found.queue.dedup_by_key(|location| (location.sequence, location.digest));
    found.quarantined.sort_unstable();
    found.quarantined.dedup_by_key(|location| (location.id, location.position, location.digest));
    Ok(found)
}

/// Copies the records in small batches: all of them together may not fit into memory.
fn copy_queue(
    contents: &mut dyn Contents,
    locations: &[RecordLocation],
    start: u64,
    database: &Database,
) -> Result<Unacknowledged, DiskError> {
    let mut copied = Unacknowledged::empty(start);
    let mut batch: Vec<Bytes> = Vec::new();
    let mut batch_bytes = 0;
    let mut remaining = locations.iter().peekable();
    while let Some(location) = remaining.next() {
        let bytes = read(contents, location.offset, location.len)?;
        batch_bytes += bytes.len();
        batch.push(bytes.into());
        if batch_bytes < CHUNK_BYTES && remaining.peek().is_some() {
            continue;
        }
        let first = copied.sequences.end;
        let changes = Changes { start: Some(start), first, records: &batch, ..Changes::default() };
        tables::write(database, &changes)?;
        copied.sequences.end += batch.len() as u64;
        copied.records += batch.len();
        copied.bytes += batch_bytes;
        batch.clear();
        batch_bytes = 0;
    }
    Ok(copied)
}

/// Copies the entries in quarantine, also in small batches. Records of an entry are numbered anew.
fn copy_quarantine(
    contents: &mut dyn Contents,
    found: &Found,
    database: &Database,
) -> Result<BTreeMap<u64, Size>, DiskError> {
    let mut entries: BTreeMap<u64, Size> = BTreeMap::new();
    let mut remaining = found.quarantined.iter().peekable();
    while remaining.peek().is_some() {
        let transaction = begin_write(database)?;
        {
            let mut tables = QuarantineTables::open(&transaction)?;
            let mut batch_bytes = 0;
            while batch_bytes < CHUNK_BYTES
                && let Some(location) = remaining.next()
            {
                let id = location.id;
                if !entries.contains_key(&id) {
                    let refusal = found.refusals.get(&id).cloned().unwrap_or_else(Refusal::lost);
                    tables.insert_refusal(id, &refusal.to_bytes())?;
                }
                let size = entries.entry(id).or_default();
                let bytes = read(contents, location.offset, location.len)?;
                tables.insert(id, size.next_position, &bytes)?;
                size.add(size.next_position, bytes.len());
                batch_bytes += bytes.len();
            }
        }
        transaction.commit().map_err(redb::Error::from)?;
    }
    Ok(entries)
}

/// A later corruption needs a marker in the new file, unless there never was an entry.
fn write_marker(quarantine: &mut Index, database: &Database) -> Result<(), DiskError> {
    if quarantine.next_id() <= 1 {
        return Ok(());
    }
    let version = quarantine.next_version();
    let ids = quarantine.entries().map(|(id, _)| id);
    let marker = Marker::new(version, quarantine.next_id(), ids);
    let transaction = begin_write(database)?;
    QuarantineTables::open(&transaction)?.write_marker(&marker)?;
    transaction.commit().map_err(redb::Error::from)?;
    Ok(())
}

fn read(contents: &mut dyn Contents, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
    let mut bytes = vec![0; len];
    contents.seek(SeekFrom::Start(offset)).map_err(redb::Error::from)?;
    contents.read_exact(&mut bytes).map_err(redb::Error::from)?;
    Ok(bytes)
}
