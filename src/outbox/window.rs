//! Reads a corrupt file from its beginning to its end, from one intact record to the next.

use std::io::{self, Read as _, SeekFrom};

use memchr::memmem::Finder;

use super::{
    record::{HEADER, Header, MAGIC},
    storage::Contents,
};

/// How many bytes are read from the file at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Longer records are ignored. No OTLP receiver accepts as much, and without a bound a corrupt
/// length could make the scan read the whole file into memory.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// The part of the file that is in memory, and the position of the scan in it.
pub(super) struct Window<'a> {
    contents: &'a mut dyn Contents,
    buffer: Vec<u8>,
    /// The position of the scan, as an index into `buffer`.
    position: usize,
    /// The offset in the file of the first byte of `buffer`.
    buffer_offset: u64,
    finder: Finder<'static>,
}

impl<'a> Window<'a> {
    pub(super) fn new(contents: &'a mut dyn Contents) -> io::Result<Self> {
        contents.seek(SeekFrom::Start(0))?;
        let finder = Finder::new(&MAGIC).into_owned();
        Ok(Self { contents, buffer: Vec::new(), position: 0, buffer_offset: 0, finder })
    }

    /// The position of the scan, as an offset in the file.
    pub(super) fn offset(&self) -> u64 {
        self.buffer_offset + self.position as u64
    }

    pub(super) fn remaining(&self) -> &[u8] {
        self.buffer.get(self.position..).unwrap_or_default()
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.position += count;
    }

    /// Advances to the next header, intact or not. `None` at the end of the file.
    pub(super) fn next_header(&mut self) -> io::Result<Option<Header>> {
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
    pub(super) fn is_intact(&mut self, header: Header) -> io::Result<bool> {
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
