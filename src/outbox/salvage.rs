//! Replaces a corrupt database by a new one with all intact records of the old file.

use std::{
    io::{self, Read as _, SeekFrom},
    ops::Range,
};

use memchr::memmem::Finder;
use redb::Database;

use super::{
    backlog::{FIRST_SEQUENCE, Recovered},
    error::DiskError,
    record::{HEADER, Header, Kind, MAGIC},
    storage::{Contents, Storage},
    tables::{self, Changes},
};

/// How many bytes are read from the file at once, and about how many are written in one
/// transaction.
const CHUNK_BYTES: usize = 256 << 10;
/// Longer records are ignored. No OTLP receiver accepts as much, and without a bound a corrupt
/// length could make the scan read the whole file into memory.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// Where the bytes of an intact record are in the file. Sorts by sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RecordLocation {
    sequence: u64,
    digest: u64,
    offset: u64,
    len: usize,
}

/// Sets the corrupt database aside and installs a new one in its place. The new one has no
/// checkpoint. It has every intact record in `unacknowledged`; if that is unknown, every intact
/// record that no start marker in the file names as acknowledged.
pub(super) fn replace(
    storage: &dyn Storage,
    unacknowledged: Option<Range<u64>>,
) -> Result<(Database, Recovered), DiskError> {
    let mut contents = storage.contents().map_err(redb::Error::from)?;
    let mut sequences = unacknowledged.unwrap_or(FIRST_SEQUENCE..u64::MAX);
    let locations = scan(&mut *contents, &mut sequences).map_err(redb::Error::from)?;
    let database =
        storage.create_replacement(&tables::database_builder()).map_err(redb::Error::from)?;
    let recovered = copy(&mut *contents, &locations, sequences.start, &database)?;
    storage.install_replacement().map_err(redb::Error::from)?;
    Ok((database, recovered))
}

/// Locates the intact records in `sequences`, in order. A start marker in the file raises the
/// start of `sequences`.
fn scan(
    contents: &mut dyn Contents,
    sequences: &mut Range<u64>,
) -> io::Result<Vec<RecordLocation>> {
    let mut locations = Vec::new();
    let mut window = Window::new(contents)?;
    while let Some(header) = window.next_header()? {
        if !window.is_intact(header)? {
            window.skip(1);
            continue;
        }
        match header.kind {
            Kind::Start => sequences.start = sequences.start.max(header.sequence),
            Kind::Data => locations.push(RecordLocation {
                sequence: header.sequence,
                digest: header.digest,
                offset: window.offset() + HEADER as u64,
                len: header.len,
            }),
        }
        window.skip(HEADER + header.len);
    }
    locations.retain(|location| sequences.contains(&location.sequence));
    locations.sort_unstable();
    // The database writes changed pages to a new offset, so the file can contain a record twice.
    // Two records with one sequence and different content come from a commit that was interrupted
    // and replaced by another. Both describe real changes, so both are kept.
    locations.dedup_by_key(|location| (location.sequence, location.digest));
    Ok(locations)
}

/// Copies the records in small batches: all of them together may not fit into memory.
fn copy(
    contents: &mut dyn Contents,
    locations: &[RecordLocation],
    start: u64,
    database: &Database,
) -> Result<Recovered, DiskError> {
    let mut recovered = Recovered::empty(start);
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    let mut remaining = locations.iter().peekable();
    while let Some(location) = remaining.next() {
        let mut bytes = vec![0; location.len];
        contents.seek(SeekFrom::Start(location.offset)).map_err(redb::Error::from)?;
        contents.read_exact(&mut bytes).map_err(redb::Error::from)?;
        batch_bytes += bytes.len();
        batch.push(bytes.into());
        if batch_bytes < CHUNK_BYTES && remaining.peek().is_some() {
            continue;
        }
        let first = recovered.sequences.end;
        let changes = Changes { start: Some(start), first, records: &batch, entries: &[] };
        tables::write(database, &changes)?;
        recovered.sequences.end += batch.len() as u64;
        recovered.records += batch.len();
        recovered.bytes += batch_bytes;
        batch.clear();
        batch_bytes = 0;
    }
    Ok(recovered)
}

/// The part of the file that is in memory, and the position of the scan in it.
struct Window<'a> {
    contents: &'a mut dyn Contents,
    buffer: Vec<u8>,
    /// The position of the scan, as an index into `buffer`.
    position: usize,
    /// The offset in the file of the first byte of `buffer`.
    buffer_offset: u64,
    finder: Finder<'static>,
}

impl<'a> Window<'a> {
    fn new(contents: &'a mut dyn Contents) -> io::Result<Self> {
        contents.seek(SeekFrom::Start(0))?;
        let finder = Finder::new(&MAGIC).into_owned();
        Ok(Self { contents, buffer: Vec::new(), position: 0, buffer_offset: 0, finder })
    }

    /// The position of the scan, as an offset in the file.
    fn offset(&self) -> u64 {
        self.buffer_offset + self.position as u64
    }

    fn remaining(&self) -> &[u8] {
        self.buffer.get(self.position..).unwrap_or_default()
    }

    fn skip(&mut self, count: usize) {
        self.position += count;
    }

    /// Advances to the next header, intact or not. `None` at the end of the file.
    fn next_header(&mut self) -> io::Result<Option<Header>> {
        loop {
            let Some(index) = self.finder.find(self.remaining()) else {
                // The last bytes of the buffer may be the first ones of a magic number.
                self.skip(self.remaining().len().saturating_sub(MAGIC.len() - 1));
                if !self.fill(self.remaining().len() + 1)? {
                    return Ok(None);
                }
                continue;
            };
            self.skip(index);
            if !self.fill(HEADER)? {
                return Ok(None);
            }
            if let Some(header) = Header::parse(self.remaining()) {
                return Ok(Some(header));
            }
            self.skip(1);
        }
    }

    /// Whether the record at the position of the scan, with this header, is intact.
    fn is_intact(&mut self, header: Header) -> io::Result<bool> {
        let end = HEADER + header.len;
        Ok(header.len <= RECORD_BYTES_MAX
            && self.fill(end)?
            && self.remaining().get(HEADER..end).is_some_and(|bytes| header.matches(bytes)))
    }

    /// Reads from the file until at least `count` bytes remain in the buffer. Returns false if
    /// the file has fewer.
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        if self.remaining().len() >= count {
            return Ok(true);
        }
        self.buffer.drain(..self.position);
        self.buffer_offset += self.position as u64;
        self.position = 0;
        let missing = (count - self.buffer.len()).max(CHUNK_BYTES);
        (&mut *self.contents).take(missing as u64).read_to_end(&mut self.buffer)?;
        Ok(self.buffer.len() >= count)
    }
}
