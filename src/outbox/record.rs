//! A record as it stands in the file: it says itself where it begins and whether it is whole.
//!
//! Neither the pages it stands in nor the database around them are needed to tell, so records can
//! be found in a file that nothing else can be read of.

use std::hash::Hasher as _;

use xxhash_rust::xxh3::Xxh3;

/// Begins every record. Not UTF-8, so no text that someone wrote into an object looks like it.
pub(super) const MAGIC: [u8; 7] = *b"\xff\xfespan\xff";
/// Magic, kind, sequence, length, digest.
pub(super) const HEADER: usize = MAGIC.len() + 1 + 8 + 4 + 8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes that wait for export.
    Waits,
    /// No bytes: its sequence is that of the oldest record not acknowledged.
    Begins,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Waits => b'w',
            Self::Begins => b'b',
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            b'w' => Some(Self::Waits),
            b'b' => Some(Self::Begins),
            _ => None,
        }
    }
}

/// All of a record but its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) sequence: u64,
    pub(super) len: usize,
    pub(super) digest: u64,
}

impl Header {
    fn new(kind: Kind, sequence: u64, bytes: &[u8]) -> Self {
        let mut header = Self { kind, sequence, len: bytes.len(), digest: 0 };
        header.digest = header.digest_of(bytes);
        header
    }

    fn digest_of(self, bytes: &[u8]) -> u64 {
        let mut hasher = Xxh3::new();
        hasher.write(&[self.kind.byte()]);
        hasher.write(&self.sequence.to_le_bytes());
        hasher.write(bytes);
        hasher.digest()
    }

    /// The header at the beginning of `bytes`, if there is one.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (kind, rest) = rest.split_first()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let digest = rest.first_chunk()?;
        Some(Self {
            kind: Kind::of(*kind)?,
            sequence: u64::from_le_bytes(*sequence),
            len: u32::from_le_bytes(*len).try_into().ok()?,
            digest: u64::from_le_bytes(*digest),
        })
    }

    /// Whether these are the bytes it was made for.
    pub(super) fn fits(self, bytes: &[u8]) -> bool {
        self.len == bytes.len() && self.digest == self.digest_of(bytes)
    }
}

/// What is written of a record.
pub(super) fn encode(kind: Kind, sequence: u64, bytes: &[u8]) -> Vec<u8> {
    let header = Header::new(kind, sequence, bytes);
    let mut written = Vec::with_capacity(HEADER + bytes.len());
    written.extend(MAGIC);
    written.push(kind.byte());
    written.extend(sequence.to_le_bytes());
    // The database takes no value of 4 GiB either.
    written.extend(u32::try_from(header.len).unwrap_or(u32::MAX).to_le_bytes());
    written.extend(header.digest.to_le_bytes());
    written.extend(bytes);
    written
}

/// The bytes of the record `written`, if it is whole and of this kind.
pub(super) fn decode(written: &[u8], kind: Kind) -> Option<(u64, &[u8])> {
    let header = Header::read(written)?;
    let bytes = written.get(HEADER..)?;
    (header.kind == kind && header.fits(bytes)).then_some((header.sequence, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let written = encode(Kind::Waits, 7, b"span");
        assert_eq!(written.len(), HEADER + 4);
        assert_eq!(decode(&written, Kind::Waits), Some((7, &b"span"[..])));
        assert_eq!(decode(&written, Kind::Begins), None);
    }

    #[test]
    fn a_record_with_any_bit_changed_or_any_byte_missing_is_not_whole() {
        let written = encode(Kind::Waits, 7, b"span");
        for at in 0..written.len() * 8 {
            let mut damaged = written.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode(&damaged, Kind::Waits), None, "bit {at}");
        }
        for len in 0..written.len() {
            assert_eq!(decode(&written[..len], Kind::Waits), None, "{len} bytes");
        }
    }
}
