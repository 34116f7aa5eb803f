//! The format of one record in the file: a header with a checksum, then the bytes.
//!
//! A record can be found and verified without the database around it, so that intact records can
//! be salvaged from a file that the database cannot open.

use std::hash::Hasher as _;

use xxhash_rust::xxh3::Xxh3;

/// The first bytes of every record. They are invalid UTF-8, so no text of a Kubernetes object can
/// contain them.
pub(super) const MAGIC: [u8; 7] = *b"\xff\xfespan\xff";
/// The length of a header in bytes: magic, kind, sequence, length, digest.
pub(super) const HEADER: usize = MAGIC.len() + 1 + 8 + 4 + 8;

/// The uses of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An encoded span in the queue.
    Data,
    /// A marker without bytes; its sequence is that of the oldest unacknowledged record.
    Start,
    /// An encoded span in quarantine, after its position in the entry; its sequence is the id of the
    /// entry.
    Quarantined,
    /// The reason of an entry in quarantine; its sequence is the id of the entry.
    Refusal,
    /// A marker with the ids of all entries in quarantine; the marker with the highest sequence is
    /// the newest.
    QuarantineIds,
}

impl Kind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Data => b'w',
            Self::Start => b'b',
            Self::Quarantined => b'q',
            Self::Refusal => b'r',
            Self::QuarantineIds => b'i',
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'w' => Some(Self::Data),
            b'b' => Some(Self::Start),
            b'q' => Some(Self::Quarantined),
            b'r' => Some(Self::Refusal),
            b'i' => Some(Self::QuarantineIds),
            _ => None,
        }
    }
}

/// All fields of a record except its bytes.
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
        hasher.write(&[self.kind.to_byte()]);
        hasher.write(&self.sequence.to_le_bytes());
        hasher.write(bytes);
        hasher.digest()
    }

    /// Parses the header that `bytes` starts with. `None` if `bytes` starts with anything else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (kind, rest) = rest.split_first()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let digest = rest.first_chunk()?;
        Some(Self {
            kind: Kind::from_byte(*kind)?,
            sequence: u64::from_le_bytes(*sequence),
            len: u32::from_le_bytes(*len).try_into().ok()?,
            digest: u64::from_le_bytes(*digest),
        })
    }

    /// Whether `bytes` have the length and the checksum of this header.
    pub(super) fn matches(self, bytes: &[u8]) -> bool {
        self.len == bytes.len() && self.digest == self.digest_of(bytes)
    }
}

/// The bytes to write for one record.
pub(super) fn encode(kind: Kind, sequence: u64, bytes: &[u8]) -> Vec<u8> {
    let header = Header::new(kind, sequence, bytes);
    let mut encoded = Vec::with_capacity(HEADER + bytes.len());
    encoded.extend(MAGIC);
    encoded.push(kind.to_byte());
    encoded.extend(sequence.to_le_bytes());
    // The database rejects values of 4 GiB or more.
    encoded.extend(u32::try_from(header.len).unwrap_or(u32::MAX).to_le_bytes());
    encoded.extend(header.digest.to_le_bytes());
    encoded.extend(bytes);
    encoded
}

/// The sequence and the bytes of an encoded record. `None` if the record is corrupt or of another
/// kind.
pub(super) fn decode(encoded: &[u8], kind: Kind) -> Option<(u64, &[u8])> {
    let header = Header::parse(encoded)?;
    let bytes = encoded.get(HEADER..)?;
    (header.kind == kind && header.matches(bytes)).then_some((header.sequence, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_returns_the_encoded_record() {
        let encoded = encode(Kind::Data, 7, b"span");
        assert_eq!(encoded.len(), HEADER + 4);
        assert_eq!(decode(&encoded, Kind::Data), Some((7, &b"span"[..])));
        assert_eq!(decode(&encoded, Kind::Start), None);
    }

    #[test]
    fn a_record_with_any_bit_flipped_or_any_byte_missing_is_corrupt() {
        let encoded = encode(Kind::Data, 7, b"span");
        for bit in 0..encoded.len() * 8 {
            let mut corrupt = encoded.clone();
            corrupt[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&corrupt, Kind::Data), None, "bit {bit}");
        }
        for len in 0..encoded.len() {
            assert_eq!(decode(&encoded[..len], Kind::Data), None, "{len} bytes");
        }
    }
}
