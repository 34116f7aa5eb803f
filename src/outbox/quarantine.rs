//! The quarantine in numbers: records that a receiver refused for good, in entries with a reason.
//!
//! The records themselves are in the file. This index decides which entry a refused record joins, and
//! which entries have to go when the quarantine is full; the writer thread then changes the file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::backlog::InFlight;

/// The most entries. Each is at most one per minute and reason, so this is a bound for the memory of
/// the index, and about a week of refusals.
const ENTRIES_MAX: usize = 10_000;
/// An entry accepts further records with the same reason for this long, so that a receiver that
/// refuses everything leaves one entry per minute and not one per request.
const ENTRY_DURATION_MILLIS: u64 = 60_000;
/// Between two log lines about evictions.
const REPORT_INTERVAL_MILLIS: u64 = 60_000;
/// An entry with as many records accepts no more: an entry is moved in one transaction.
const ENTRY_RECORDS_MAX: usize = 2048;
/// The longest code and the longest message, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Why, and when, a receiver or the exporter refused records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    unix_millis: u64,
    code: String,
    message: String,
}

impl Refusal {
    /// A refusal at a time in milliseconds since the Unix epoch. `code` is a word such as
    /// `INVALID_ARGUMENT`; `message` may be empty. Both come from outside: control characters become
    /// spaces, and what exceeds 200 characters is cut off.
    pub fn new(unix_millis: u64, code: &str, message: &str) -> Self {
        Self { unix_millis, code: cleaned(code), message: cleaned(message) }
    }

    /// In milliseconds since the Unix epoch.
    pub const fn unix_millis(&self) -> u64 {
        self.unix_millis
    }

    pub fn code(&self) -> &str {
        &self.code
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    fn has_reason_of(&self, other: &Self) -> bool {
        self.code == other.code && self.message == other.message
    }

    /// The bytes that the file stores.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Serializing two strings and a number into a vector cannot fail.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// A reason that cannot be read must not keep the records from being listed and retried.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_else(|_undecodable| Self::lost())
    }

    /// The refusal of records whose reason was lost.
    pub(super) fn lost() -> Self {
        Self::new(0, "unknown", "the reason was lost when the outbox file was corrupt")
    }
}

fn cleaned(text: &str) -> String {
    let cleaned: String = text
        .chars()
        .take(TEXT_CHARS_MAX)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    cleaned.trim().to_owned()
}

/// Records of one acknowledgement that were refused for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of the acknowledged records: 0 is the oldest. In ascending order.
    pub indices: Vec<usize>,
    pub refusal: Refusal,
}

/// What happens to an entry that is removed from quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Its records go to the end of the queue, with the same bytes.
    Retry,
    /// Its records are deleted.
    Drop,
}

impl Removal {
    /// The label `action` of `spanlink_quarantine_removed_spans_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Drop => "drop",
        }
    }
}

/// Which entries to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    All,
    Ids(Vec<u64>),
}

/// What was removed from quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub entries: usize,
    pub records: usize,
    /// Ids that no entry has.
    pub missing: Vec<u64>,
}

/// An entry as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineEntry {
    /// Unique in this file; ids are never used again.
    pub id: u64,
    pub refusal: Refusal,
    pub records: usize,
    pub bytes: usize,
    /// Its oldest records.
    pub samples: Vec<bytes::Bytes>,
}

/// The size of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// The position of the next record that joins the entry.
    pub(super) next_position: u32,
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Size {
    pub(super) fn add(&mut self, position: u32, len: usize) {
        self.next_position = self.next_position.max(position.saturating_add(1));
        self.records += 1;
        self.bytes += len;
    }
}

/// Records of the queue that become the newest ones of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) id: u64,
    pub(super) first_position: u32,
    /// In ascending order.
    pub(super) sequences: Vec<u64>,
    pub(super) refusal: Refusal,
}

/// Every entry in quarantine. It is ahead of the file by the changes that are not written yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    entries: BTreeMap<u64, Size>,
    records: usize,
    bytes: usize,
    next_id: u64,
    /// Of the newest marker in the file.
    version: u64,
    /// The entry that was created last by this process, as long as it exists.
    newest: Option<(u64, Refusal)>,
    unreported_evictions: usize,
    /// The time of the last report, in milliseconds since the Unix epoch.
    last_report: Option<u64>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            records: 0,
            bytes: 0,
            next_id: 1,
            version: 0,
            newest: None,
            unreported_evictions: 0,
            last_report: None,
        }
    }
}

impl Index {
    pub(super) fn new(entries: BTreeMap<u64, Size>, next_id: u64, version: u64) -> Self {
        let records = entries.values().map(|size| size.records).sum();
        let bytes = entries.values().map(|size| size.bytes).sum();
        let after_last = entries.keys().next_back().map_or(1, |id| id.saturating_add(1));
        let next_id = next_id.max(after_last);
        Self { entries, records, bytes, next_id, version, ..Self::default() }
    }

    pub(super) const fn records(&self) -> usize {
        self.records
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(super) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, Size)> {
        self.entries.iter().map(|(id, size)| (*id, *size))
    }

    /// Adds refused records, given in ascending order.
    pub(super) fn add(&mut self, refused: &[InFlight], refusal: Refusal) -> Move {
        let (id, refusal) = self.entry_for(refusal);
        let size = self.entries.entry(id).or_default();
        let first_position = size.next_position;
        for (position, record) in (first_position..).zip(refused) {
            size.add(position, record.len);
            self.records += 1;
            self.bytes += record.len;
        }
        let sequences = refused.iter().map(|record| record.sequence).collect();
        Move { id, first_position, sequences, refusal }
    }

    /// The entry that records with this refusal join, with the refusal that began it.
    fn entry_for(&mut self, refusal: Refusal) -> (u64, Refusal) {
        if let Some((id, first)) = &self.newest {
            let has_room =
                self.entries.get(id).is_some_and(|size| size.records < ENTRY_RECORDS_MAX);
            let age = refusal.unix_millis.abs_diff(first.unix_millis);
            if has_room && age < ENTRY_DURATION_MILLIS && refusal.has_reason_of(first) {
                return (*id, first.clone());
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        self.newest = Some((id, refusal.clone()));
        (id, refusal)
    }

    /// Removes the oldest entries until the others fit, and returns the removed ones.
    pub(super) fn evict(&mut self, bytes_max: usize) -> Vec<(u64, Size)> {
        let mut evicted = Vec::new();
        while self.bytes > bytes_max || self.entries.len() > ENTRIES_MAX {
            let Some(id) = self.entries.keys().next().copied() else { break };
            evicted.extend(self.remove(id).map(|size| (id, size)));
        }
        evicted
    }

    /// Adds evicted records to those that were not reported. Returns their number if a report is due:
    /// a minute after the last one, or without a time.
    pub(super) fn report_evictions(
        &mut self,
        records: usize,
        unix_millis: Option<u64>,
    ) -> Option<usize> {
        self.unreported_evictions += records;
        if let Some(now) = unix_millis {
            let is_recent = |last: u64| now.abs_diff(last) < REPORT_INTERVAL_MILLIS;
            if self.last_report.is_some_and(is_recent) {
                return None;
            }
            self.last_report = Some(now);
        }
        Some(std::mem::take(&mut self.unreported_evictions))
    }

    /// Removes the oldest entries until they have as many bytes as the entries of these moves, and
    /// returns the removed ones.
    pub(super) fn evict_for(&mut self, moves: &[Move]) -> Vec<(u64, Size)> {
        let ids: BTreeSet<u64> = moves.iter().map(|moved| moved.id).collect();
        let needed: usize =
            ids.iter().filter_map(|id| self.entries.get(id)).map(|size| size.bytes).sum();
        self.evict(self.bytes.saturating_sub(needed))
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Size> {
        let size = self.entries.remove(&id)?;
        self.records -= size.records;
        self.bytes -= size.bytes;
        if self.newest.as_ref().is_some_and(|(newest, _)| *newest == id) {
            self.newest = None;
        }
        Some(size)
    }

    /// Removes the selected entries, and returns them with the ids that no entry has.
    pub(super) fn select(&mut self, selection: &Selection) -> (Vec<(u64, Size)>, Vec<u64>) {
        let ids: Vec<u64> = match selection {
            Selection::All => self.entries.keys().copied().collect(),
            Selection::Ids(ids) => ids.clone(),
        };
        let (mut removed, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            match self.remove(id) {
                Some(size) => removed.push((id, size)),
                // An id that is given twice is not missing.
                None if removed.iter().any(|(removed, _)| *removed == id) => {}
                None => missing.push(id),
            }
        }
        (removed, missing)
    }
}

/// Changes of the quarantine that the file does not have yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Each is written together with the acknowledgement of its records.
    pub(super) moves: Vec<Move>,
    /// Entries that are deleted because the quarantine is full.
    pub(super) evicted: Vec<u64>,
    /// Entries that are retried or dropped, one per transaction.
    pub(super) removals: VecDeque<(u64, Removal)>,
}

impl Pending {
    /// Adds the moves and evictions of `later`.
    pub(super) fn take_from(&mut self, later: &mut Self) {
        self.moves.append(&mut later.moves);
        self.evicted.append(&mut later.evicted);
    }

    /// The sequence of the oldest record to be moved.
    pub(super) fn first_sequence(&self) -> Option<u64> {
        self.moves.iter().filter_map(|moved| moved.sequences.first()).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(lens: &[usize]) -> Vec<InFlight> {
        (1..).zip(lens).map(|(sequence, len)| InFlight { sequence, len: *len }).collect()
    }

    fn refusal(unix_millis: u64, code: &str) -> Refusal {
        Refusal::new(unix_millis, code, "")
    }

    #[test]
    fn refusals_with_one_reason_share_an_entry_for_a_minute() {
        let mut index = Index::default();
        let mut id_of = |at, code| index.add(&records(&[1]), refusal(at, code)).id;
        assert_eq!(id_of(0, "400"), 1);
        assert_eq!(id_of(59_999, "400"), 1);
        assert_eq!(id_of(60_000, "400"), 2);
        assert_eq!(id_of(60_001, "401"), 3);
        assert_eq!(id_of(60_002, "400"), 4);
        let moved = index.add(&records(&[1; 2048]), refusal(60_003, "400"));
        assert_eq!((moved.id, moved.first_position, moved.sequences.len()), (4, 1, 2048));
        assert_eq!(index.add(&records(&[1]), refusal(60_004, "400")).id, 5);
    }

    #[test]
    fn full_quarantine_loses_its_oldest_entries() {
        let mut index = Index::default();
        for code in ["1", "2", "3"] {
            index.add(&records(&[10, 20]), refusal(0, code));
        }
        assert_eq!(index.evict(90), []);
        let evicted: Vec<u64> = index.evict(59).into_iter().map(|(id, _)| id).collect();
        assert_eq!(evicted, [1, 2]);
        assert_eq!((index.records(), index.bytes()), (2, 30));
        assert_eq!(index.evict(0).len(), 1);
        assert_eq!(index.add(&records(&[1]), refusal(0, "3")).id, 4);
    }

    #[test]
    fn evictions_are_reported_once_a_minute() {
        let mut index = Index::default();
        assert_eq!(index.report_evictions(1, Some(0)), Some(1));
        assert_eq!(index.report_evictions(2, Some(59_999)), None);
        assert_eq!(index.report_evictions(3, Some(60_000)), Some(5));
        assert_eq!(index.report_evictions(4, None), Some(4));
    }

    #[test]
    fn selection_names_the_ids_that_no_entry_has() {
        let mut index = Index::default();
        index.add(&records(&[10]), refusal(0, "1"));
        index.add(&records(&[10]), refusal(0, "2"));
        let (removed, missing) = index.select(&Selection::Ids(vec![2, 2, 7]));
        assert_eq!((removed.len(), missing), (1, vec![7]));
        assert_eq!(index.select(&Selection::All).0.len(), 1);
        assert_eq!((index.records(), index.bytes()), (0, 0));
    }

    #[test]
    fn texts_of_a_receiver_are_cut_and_freed_of_control_characters() {
        let refusal = Refusal::new(7, "400", &("a\nb\u{1b}[31m".to_owned() + &"é".repeat(300)));
        assert!(refusal.message().starts_with("a b [31mé"));
        assert_eq!(refusal.message().chars().count(), 200);
        assert_eq!(Refusal::from_bytes(&refusal.to_bytes()), refusal);
        assert_eq!(Refusal::from_bytes(b"\xff").code(), "unknown");
    }
}
