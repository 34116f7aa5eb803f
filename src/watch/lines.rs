//! Splits a body into lines, independent of its chunks.

/// Longer lines are skipped: the API server stores no object of this size.
const LINE_MAX: usize = 8 << 20;

#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line that continues in the next chunk.
    partial: Vec<u8>,
    skips: bool,
}

/// A line exceeds the size of any object that the API server stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    /// Calls `each` with every line that ends in this chunk.
    pub(super) fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(Result<&[u8], TooLong>)) {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (line, rest) = chunk.split_at(end);
            chunk = rest.get(1..).unwrap_or_default();
            if self.skips || self.partial.len() + line.len() > LINE_MAX {
                each(Err(TooLong));
            } else if self.partial.is_empty() {
                each(Ok(line));
            } else {
                self.partial.extend_from_slice(line);
                each(Ok(&self.partial));
            }
            self.skips = false;
            self.partial.clear();
            // Free the memory of one large object.
            if self.partial.capacity() > 256 << 10 {
                self.partial = Vec::new();
            }
        }
        if self.partial.len() + chunk.len() > LINE_MAX {
            self.skips = true;
            self.partial = Vec::new();
        } else if !self.skips {
            self.partial.extend_from_slice(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Option<String>> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, |line| {
                found.push(line.ok().map(|line| String::from_utf8_lossy(line).into_owned()));
            });
        }
        found
    }

    #[test]
    fn lines_do_not_depend_on_chunks() {
        let expected = vec![Some("one".to_owned()), Some(String::new()), Some("two".to_owned())];
        assert_eq!(cut(&[b"one\n\ntwo\nthr"]), expected);
        assert_eq!(cut(&[b"o", b"ne", b"\n", b"\ntw", b"o\nt"]), expected);
    }

    #[test]
    fn too_long_line_is_skipped_and_next_is_read() {
        let long = vec![b'x'; LINE_MAX + 1];
        assert_eq!(cut(&[&long, b"xx\nnext\n"]), [None, Some("next".to_owned())]);
        assert_eq!(
            cut(&[&[long.as_slice(), b"\nnext\n"].concat()]),
            [None, Some("next".to_owned())]
        );
    }
}
