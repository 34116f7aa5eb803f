//! The two tables of the quarantine: records by entry and position, and the reason of each entry.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, WriteTransaction,
};

use super::{
    database::if_exists,
    error::DiskError,
    quarantine::{Index, Move, QuarantineEntry, Refusal, Removal, Size},
    record::{self, HEADER, Kind},
};

const QUARANTINE: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("quarantine");
const REFUSALS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("refusals");
/// The key of the marker in [`REFUSALS`]. Ids begin at 1.
const MARKER_KEY: u64 = 0;

/// Which entries are in quarantine. Without it, salvage could not distinguish them
/// from entries that were retried or dropped: stale copies of those stay in free pages of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker {
    /// The newest marker has the highest.
    pub(super) version: u64,
    pub(super) next_id: u64,
    /// In ascending order.
    pub(super) ids: Vec<Range<u64>>,
}

impl Marker {
    /// A marker for these ids, given in ascending order.
    pub(super) fn new(version: u64, next_id: u64, ids: impl Iterator<Item = u64>) -> Self {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for id in ids {
            match ranges.last_mut() {
                Some(range) if range.end == id => range.end = id + 1,
                _ => ranges.push(id..id + 1),
            }
        }
        Self { version, next_id, ids: ranges }
    }

    /// Whether the entry is in quarantine. Ids that the marker was written before may be.
    pub(super) fn may_contain(&self, id: u64) -> bool {
        let after = self.ids.partition_point(|range| range.end <= id);
        id >= self.next_id || self.ids.get(after).is_some_and(|range| range.contains(&id))
    }

    fn encode(&self) -> Vec<u8> {
        let bounds = self.ids.iter().flat_map(|range| [range.start, range.end]);
        let numbers = std::iter::once(self.next_id).chain(bounds);
        let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        record::encode(Kind::QuarantineIds, self.version, &bytes)
    }

    /// The marker with this sequence and these bytes; `None` if they are not those of a marker.
    pub(super) fn from_bytes(version: u64, bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks();
        let (next_id, bounds) = chunks.split_first()?;
        let (bounds, odd) = bounds.as_chunks();
        let ids =
            bounds.iter().map(|[start, end]| u64::from_le_bytes(*start)..u64::from_le_bytes(*end));
        (rest.is_empty() && odd.is_empty()).then(|| Self {
            version,
            next_id: u64::from_le_bytes(*next_id),
            ids: ids.collect(),
        })
    }
}

/// The changes of the quarantine in one write transaction.
#[derive(Debug, Default)]
pub(super) struct QuarantineChanges<'a> {
    pub(super) moves: &'a [Move],
    /// Entries to delete, which may be those of the moves.
    pub(super) evicted: &'a [u64],
    pub(super) removal: Option<(u64, Removal)>,
    /// The entries after the changes.
    pub(super) marker: Marker,
}

impl QuarantineChanges<'_> {
    pub(super) const fn is_empty(&self) -> bool {
        self.moves.is_empty() && self.evicted.is_empty() && self.removal.is_none()
    }
}

/// The table of the queue, open for a write transaction.
pub(super) type Queue<'a> = Table<'a, u64, &'static [u8]>;

/// The tables of the quarantine, open for one write transaction.
pub(super) struct QuarantineTables<'a> {
    records: Table<'a, (u64, u32), &'static [u8]>,
    refusals: Table<'a, u64, &'static [u8]>,
}

impl<'a> QuarantineTables<'a> {
    pub(super) fn open(transaction: &'a WriteTransaction) -> Result<Self, redb::Error> {
        let records = transaction.open_table(QUARANTINE)?;
        Ok(Self { records, refusals: transaction.open_table(REFUSALS)? })
    }

    /// Copies records of the queue, which are deleted there by the acknowledgement in the same
    /// transaction. A record that is not in the queue was moved by an earlier attempt to write the
    /// same changes.
    pub(super) fn move_records(
        &mut self,
        queue: &Queue<'_>,
        moves: &[Move],
    ) -> Result<(), DiskError> {
        for Move { id, first_position, sequences, refusal } in moves {
            for (position, sequence) in (*first_position..).zip(sequences) {
                let Some(encoded) = queue.get(*sequence).map_err(redb::Error::from)? else {
                    continue;
                };
                let corrupt = DiskError::Record { sequence: *sequence };
                let (_, bytes) = record::decode(encoded.value(), Kind::Data).ok_or(corrupt)?;
                self.insert(*id, position, bytes)?;
            }
            self.insert_refusal(*id, &refusal.to_bytes())?;
        }
        Ok(())
    }

    pub(super) fn insert(
        &mut self,
        id: u64,
        position: u32,
        bytes: &[u8],
    ) -> Result<(), redb::Error> {
        let mut payload = Vec::with_capacity(4 + bytes.len());
        payload.extend(position.to_le_bytes());
        payload.extend(bytes);
        let encoded = record::encode(Kind::Quarantined, id, &payload);
        self.records.insert((id, position), &*encoded)?;
        Ok(())
    }

    pub(super) fn insert_refusal(&mut self, id: u64, refusal: &[u8]) -> Result<(), redb::Error> {
        self.refusals.insert(id, &*record::encode(Kind::Refusal, id, refusal))?;
        Ok(())
    }

    /// Writes the records of an entry to the queue, from the sequence `first` on, and deletes the
    /// entry. Returns the lengths of the records.
    pub(super) fn requeue(
        &mut self,
        id: u64,
        queue: &mut Queue<'_>,
        first: u64,
    ) -> Result<Vec<usize>, DiskError> {
        let mut lens = Vec::new();
        let rows = self.records.range((id, 0)..=(id, u32::MAX)).map_err(redb::Error::from)?;
        for (row, sequence) in rows.zip(first..) {
            let (key, encoded) = row.map_err(redb::Error::from)?;
            let bytes = decode_row(key.value(), encoded.value())?;
            let encoded = record::encode(Kind::Data, sequence, bytes);
            queue.insert(sequence, &*encoded).map_err(redb::Error::from)?;
            lens.push(bytes.len());
        }
        if lens.is_empty() {
            // An earlier attempt to write the same changes succeeded and reported an error.
            for row in queue.range(first..).map_err(redb::Error::from)? {
                let (_, encoded) = row.map_err(redb::Error::from)?;
                lens.push(encoded.value().len().saturating_sub(HEADER));
            }
        }
        self.delete(id)?;
        Ok(lens)
    }

    pub(super) fn delete(&mut self, id: u64) -> Result<(), redb::Error> {
        self.records.retain_in((id, 0)..=(id, u32::MAX), |_, _| false)?;
        self.refusals.remove(id)?;
        Ok(())
    }

    pub(super) fn write_marker(&mut self, marker: &Marker) -> Result<(), redb::Error> {
        self.refusals.insert(MARKER_KEY, &*marker.encode())?;
        Ok(())
    }
}

/// The bytes of a record in quarantine, without its position.
fn decode_row((id, position): (u64, u32), encoded: &[u8]) -> Result<&[u8], DiskError> {
    match record::decode(encoded, Kind::Quarantined) {
        Some((sequence, payload)) if sequence == id => match split_position(payload) {
            Some((stored, bytes)) if stored == position => Ok(bytes),
            _ => Err(DiskError::Quarantined { id, position }),
        },
        _ => Err(DiskError::Quarantined { id, position }),
    }
}

/// The position and the bytes in the payload of a record of the kind [`Kind::Quarantined`].
pub(super) fn split_position(payload: &[u8]) -> Option<(u32, &[u8])> {
    let (position, bytes) = payload.split_first_chunk()?;
    Some((u32::from_le_bytes(*position), bytes))
}

/// Calls `visit` with the id, the position and the bytes of each record, entry by entry.
fn for_each_record(
    database: &Database,
    mut visit: impl FnMut(u64, u32, &[u8]),
) -> Result<(), DiskError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let Some(records) = if_exists(transaction.open_table(QUARANTINE))? else { return Ok(()) };
    for row in records.iter().map_err(redb::Error::from)? {
        let (key, encoded) = row.map_err(redb::Error::from)?;
        let (id, position) = key.value();
        visit(id, position, decode_row((id, position), encoded.value())?);
    }
    Ok(())
}

/// Finds the entries in quarantine. As for the queue, every record is read.
pub(super) fn recover(database: &Database) -> Result<Index, DiskError> {
    let mut entries: BTreeMap<u64, Size> = BTreeMap::new();
    for_each_record(database, |id, position, bytes| {
        entries.entry(id).or_default().add(position, bytes.len());
    })?;
    let mut marker = Marker::default();
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    if let Some(refusals) = if_exists(transaction.open_table(REFUSALS))? {
        for row in refusals.iter().map_err(redb::Error::from)? {
            let (key, encoded) = row.map_err(redb::Error::from)?;
            let id = key.value();
            let corrupt = DiskError::Refusal { id };
            if id == MARKER_KEY {
                let decoded = record::decode(encoded.value(), Kind::QuarantineIds);
                let decoded = decoded.and_then(|(version, ids)| Marker::from_bytes(version, ids));
                marker = decoded.ok_or(corrupt)?;
            } else {
                record::decode(encoded.value(), Kind::Refusal).ok_or(corrupt)?;
            }
        }
    }
    Ok(Index::new(entries, marker.next_id, marker.version))
}

/// Calls `visit` with each entry, in the order of their ids, which is that of their times.
pub(super) fn for_each_entry(
    database: &Database,
    samples_max: usize,
    visit: &mut impl FnMut(QuarantineEntry),
) -> Result<(), DiskError> {
    let refusals = read_refusals(database)?;
    let mut current: Option<QuarantineEntry> = None;
    for_each_record(database, |id, _, bytes| {
        if current.as_ref().is_none_or(|entry| entry.id != id) {
            let refusal = refusals.get(&id).cloned().unwrap_or_else(Refusal::lost);
            let entry = QuarantineEntry { id, refusal, records: 0, bytes: 0, samples: Vec::new() };
            if let Some(complete) = current.replace(entry) {
                visit(complete);
            }
        }
        if let Some(entry) = &mut current {
            entry.records += 1;
            entry.bytes += bytes.len();
            if entry.samples.len() < samples_max {
                entry.samples.push(Bytes::copy_from_slice(bytes));
            }
        }
    })?;
    if let Some(complete) = current {
        visit(complete);
    }
    Ok(())
}

fn read_refusals(database: &Database) -> Result<BTreeMap<u64, Refusal>, DiskError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let mut found = BTreeMap::new();
    if let Some(refusals) = if_exists(transaction.open_table(REFUSALS))? {
        for row in refusals.range(MARKER_KEY + 1..).map_err(redb::Error::from)? {
            let (id, encoded) = row.map_err(redb::Error::from)?;
            if let Some((_, bytes)) = record::decode(encoded.value(), Kind::Refusal) {
                found.insert(id.value(), Refusal::from_bytes(bytes));
            }
        }
    }
    Ok(found)
}

/// Writes the changes of the quarantine. Returns the lengths of the records that are in the queue
/// again, from the sequence `first` on.
pub(super) fn write_removals(
    tables: &mut QuarantineTables<'_>,
    changes: &QuarantineChanges<'_>,
    queue: &mut Queue<'_>,
    first: u64,
) -> Result<Vec<usize>, DiskError> {
    for id in changes.evicted {
        tables.delete(*id)?;
    }
    let requeued = match changes.removal {
        Some((id, Removal::Retry)) => tables.requeue(id, queue, first)?,
        Some((id, Removal::Drop)) => {
            tables.delete(id)?;
            Vec::new()
        }
        None => Vec::new(),
    };
    tables.write_marker(&changes.marker)?;
    Ok(requeued)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_holds_ranges_of_ids_and_survives_encoding() {
        let marker = Marker::new(7, 12, [1, 2, 3, 6, 10, 11].into_iter());
        assert_eq!(marker.ids, [1..4, 6..7, 10..12]);
        let encoded = marker.encode();
        let (version, bytes) = record::decode(&encoded, Kind::QuarantineIds).unwrap();
        assert_eq!(Marker::from_bytes(version, bytes), Some(marker.clone()));
        assert_eq!(Marker::from_bytes(version, &bytes[1..]), None);
        let contained: Vec<u64> = (0..15).filter(|id| marker.may_contain(*id)).collect();
        assert_eq!(contained, [1, 2, 3, 6, 10, 11, 12, 13, 14]);
    }
}
