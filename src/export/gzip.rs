//! Compresses requests.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

pub(super) fn gzip(request: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder
        .write_all(request)
        .and_then(|()| encoder.finish())
        .expect("writing to a Vec does not fail")
        .into()
}
