//! Finds the records in a file that the database cannot read any more, and begins another with them.

use std::{
    io::{self, Read as _, SeekFrom},
    ops::Range,
};

use memchr::memmem::Finder;
use redb::Database;

use super::{
    disk::{self, Changes, DiskError},
    record::{HEADER, Header, Kind, MAGIC},
    storage::{Contents, Storage},
    waiting::{FIRST, Found},
};

/// What is read, or written, at once.
const CHUNK: usize = 256 << 10;
/// Longer records are not looked for: no receiver takes as much, and a length that is wrong would
/// have the whole file read into memory.
const RECORD_MAX: usize = 16 << 20;

/// A whole record, and where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    sequence: u64,
    digest: u64,
    offset: u64,
    len: usize,
}

/// Sets the database aside. Another takes its place: without a checkpoint, with every whole record
/// of those that `wait`. Where nobody knows which wait, of those after the last acknowledgement
/// that the file tells of.
pub(super) fn replace(
    storage: &dyn Storage,
    wait: Option<Range<u64>>,
) -> Result<(Database, Found), DiskError> {
    let mut damaged = storage.bytes().map_err(redb::Error::from)?;
    let mut wait = wait.unwrap_or(FIRST..u64::MAX);
    let places = scan(&mut *damaged, &mut wait).map_err(redb::Error::from)?;
    let database = storage.begin(&disk::builder()).map_err(redb::Error::from)?;
    let found = copy(&mut *damaged, &places, wait.start, &database)?;
    storage.replace().map_err(redb::Error::from)?;
    Ok((database, found))
}

/// The records that wait, in order.
fn scan(file: &mut dyn Contents, wait: &mut Range<u64>) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut window = Window::new(file)?;
    while let Some(header) = window.next_header()? {
        if !window.has_bytes_of(header)? {
            window.skip(1);
            continue;
        }
        match header.kind {
            Kind::Begins => wait.start = wait.start.max(header.sequence),
            Kind::Waits => places.push(Place {
                sequence: header.sequence,
                digest: header.digest,
                offset: window.offset() + HEADER as u64,
                len: header.len,
            }),
        }
        window.skip(HEADER + header.len);
    }
    places.retain(|place| wait.contains(&place.sequence));
    places.sort_unstable();
    // Pages that were written anew leave copies behind. Two that differ are both kept: the commit
    // of one was cut off, but what it says is no less true.
    places.dedup_by_key(|place| (place.sequence, place.digest));
    Ok(places)
}

/// A few at a time: together they may be more than fits into memory.
fn copy(
    file: &mut dyn Contents,
    places: &[Place],
    begins: u64,
    database: &Database,
) -> Result<Found, DiskError> {
    let mut found = Found { sequences: begins..begins, records: 0, bytes: 0 };
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    let mut rest = places.iter().peekable();
    while let Some(place) = rest.next() {
        let mut bytes = vec![0; place.len];
        file.seek(SeekFrom::Start(place.offset)).map_err(redb::Error::from)?;
        file.read_exact(&mut bytes).map_err(redb::Error::from)?;
        batch_bytes += bytes.len();
        batch.push(bytes.into());
        if batch_bytes < CHUNK && rest.peek().is_some() {
            continue;
        }
        let first = found.sequences.end;
        let changes = Changes { begins: Some(begins), first, records: &batch, entries: &[] };
        disk::write(database, &changes)?;
        found.sequences.end += batch.len() as u64;
        found.records += batch.len();
        found.bytes += batch_bytes;
        batch.clear();
        batch_bytes = 0;
    }
    Ok(found)
}

/// A stretch of the file in memory, as long as it must be.
struct Window<'a> {
    file: &'a mut dyn Contents,
    held: Vec<u8>,
    /// How much of `held` is behind.
    at: usize,
    /// Of the first byte of `held`.
    held_offset: u64,
    finder: Finder<'static>,
}

impl<'a> Window<'a> {
    fn new(file: &'a mut dyn Contents) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let finder = Finder::new(&MAGIC).into_owned();
        Ok(Self { file, held: Vec::new(), at: 0, held_offset: 0, finder })
    }

    /// Where it begins.
    fn offset(&self) -> u64 {
        self.held_offset + self.at as u64
    }

    fn ahead(&self) -> &[u8] {
        self.held.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// Moves on to the next header. `None`: there is no other.
    fn next_header(&mut self) -> io::Result<Option<Header>> {
        loop {
            let Some(before) = self.finder.find(self.ahead()) else {
                // The beginning of one may stand at the end.
                self.skip(self.ahead().len().saturating_sub(MAGIC.len() - 1));
                if !self.has(self.ahead().len() + 1)? {
                    return Ok(None);
                }
                continue;
            };
            self.skip(before);
            if !self.has(HEADER)? {
                return Ok(None);
            }
            if let Some(header) = Header::read(self.ahead()) {
                return Ok(Some(header));
            }
            self.skip(1);
        }
    }

    fn has_bytes_of(&mut self, header: Header) -> io::Result<bool> {
        let end = HEADER + header.len;
        Ok(header.len <= RECORD_MAX
            && self.has(end)?
            && self.ahead().get(HEADER..end).is_some_and(|bytes| header.fits(bytes)))
    }

    /// Reads on until there are so many bytes ahead. False when the file ends before.
    fn has(&mut self, count: usize) -> io::Result<bool> {
        if self.ahead().len() >= count {
            return Ok(true);
        }
        self.held.drain(..self.at);
        self.held_offset += self.at as u64;
        self.at = 0;
        let missing = (count - self.held.len()).max(CHUNK);
        (&mut *self.file).take(missing as u64).read_to_end(&mut self.held)?;
        Ok(self.held.len() >= count)
    }
}
