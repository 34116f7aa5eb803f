//! Cuts a body into lines, whatever its chunks are.

/// Lines longer than this are skipped: no object the API server stores is as large.
const LINE_MAX: usize = 8 << 20;

#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end is still to come.
    begun: Vec<u8>,
    skips: bool,
}

/// A line that was longer than any object can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    /// Calls `each` with every line that ends in this chunk.
    pub(super) fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(Result<&[u8], TooLong>)) {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (line, rest) = chunk.split_at(end);
            chunk = rest.get(1..).unwrap_or_default();
            if self.skips || self.begun.len() + line.len() > LINE_MAX {
                each(Err(TooLong));
            } else if self.begun.is_empty() {
                each(Ok(line));
            } else {
                self.begun.extend_from_slice(line);
                each(Ok(&self.begun));
            }
            self.skips = false;
            self.begun.clear();
            // One large object must not hold its memory for ever.
            if self.begun.capacity() > 256 << 10 {
                self.begun = Vec::new();
            }
        }
        if self.begun.len() + chunk.len() > LINE_MAX {
            self.skips = true;
            self.begun = Vec::new();
        } else if !self.skips {
            self.begun.extend_from_slice(chunk);
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
    fn lines_are_found_whatever_the_chunks_are() {
        let expected = vec![Some("one".to_owned()), Some(String::new()), Some("two".to_owned())];
        assert_eq!(cut(&[b"one\n\ntwo\nthr"]), expected);
        assert_eq!(cut(&[b"o", b"ne", b"\n", b"\ntw", b"o\nt"]), expected);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_is_read() {
        let long = vec![b'x'; LINE_MAX + 1];
        assert_eq!(cut(&[&long, b"xx\nnext\n"]), [None, Some("next".to_owned())]);
        assert_eq!(
            cut(&[&[long.as_slice(), b"\nnext\n"].concat()]),
            [None, Some("next".to_owned())]
        );
    }
}
