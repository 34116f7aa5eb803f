//! Splits a page of a list into its items while it arrives, and holds one item at a time: a page of
//! 250 Pods in memory is several megabytes for each kind that is listed.

use super::lines::TooLong;

/// Longer items are skipped: the API server stores no object of this size.
const ITEM_MAX: usize = 8 << 20;
/// Bytes kept of a page without its items.
const REST_MAX: usize = 64 << 10;

/// Tracks quotes and brackets, without parsing values.
#[derive(Debug, Default)]
pub(super) struct Page {
    depth: usize,
    text: Text,
    /// The latest string at the top level: a key where a colon follows.
    key: Vec<u8>,
    /// The value of `items` is being read.
    in_items: bool,
    item: Vec<u8>,
    item_is_too_long: bool,
    /// Everything but the items.
    rest: Vec<u8>,
}

/// Position relative to a string, in which brackets have no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    Escaped,
}

impl Page {
    /// Calls `each` with every item that ends in this chunk.
    pub(super) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(Result<&[u8], TooLong>)) {
        for &byte in chunk {
            let was_in_item = self.in_items && self.depth > 2;
            let is_outside = self.text == Text::Outside;
            let opens = is_outside && matches!(byte, b'{' | b'[');
            let closes = is_outside && matches!(byte, b'}' | b']');
            let is_items_bracket = (closes && self.depth == 2) || (opens && self.depth == 1);
            if opens {
                self.in_items |= self.depth == 1 && byte == b'[' && self.key == b"items";
                self.depth += 1;
            } else if closes {
                self.depth = self.depth.saturating_sub(1);
            }
            let in_item = self.in_items && self.depth > 2;
            if was_in_item || in_item {
                self.keep_of_item(byte);
                if !in_item {
                    each(if self.item_is_too_long { Err(TooLong) } else { Ok(&self.item) });
                    self.item_is_too_long = false;
                    self.item.clear();
                    // Free the memory of one large object.
                    if self.item.capacity() > 256 << 10 {
                        self.item = Vec::new();
                    }
                }
            } else if (!self.in_items || is_items_bracket) && self.rest.len() < REST_MAX {
                self.rest.push(byte);
            }
            if closes && self.depth == 1 {
                self.in_items = false;
            }
            self.follow_text(byte);
        }
    }

    /// The page without its items.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }

    fn keep_of_item(&mut self, byte: u8) {
        if self.item.len() < ITEM_MAX {
            self.item.push(byte);
        } else {
            self.item_is_too_long = true;
        }
    }

    fn follow_text(&mut self, byte: u8) {
        match (self.text, byte) {
            (Text::Outside, b'"') => {
                self.text = Text::Inside;
                if self.depth == 1 {
                    self.key.clear();
                }
            }
            (Text::Escaped, _) => self.text = Text::Inside,
            (Text::Inside, b'\\') => self.text = Text::Escaped,
            (Text::Inside, b'"') => self.text = Text::Outside,
            (Text::Inside, _) if self.depth == 1 && self.key.len() < 16 => self.key.push(byte),
            (Text::Outside | Text::Inside, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, chunk: usize) -> (Vec<String>, String) {
        let mut page = Page::default();
        let mut items = Vec::new();
        for chunk in text.as_bytes().chunks(chunk) {
            page.feed(chunk, |item| {
                items.push(String::from_utf8_lossy(item.unwrap_or(b"too long")).into_owned());
            });
        }
        (items, String::from_utf8_lossy(page.rest()).into_owned())
    }

    #[test]
    fn items_do_not_depend_on_chunks_or_order_of_keys() {
        let one = r#"{"metadata":{"name":"a\"]}"},"items":[1]}"#;
        let head = r#""kind":"PodList","metadata":{"resourceVersion":"7","items":[{"x":1}]}"#;
        for text in [
            format!(r#"{{{head},"items":[{one},{{"b":[{{}}]}}]}}"#),
            format!("{{\"items\":[\n {one},\n {{\"b\":[{{}}]}}\n],{head}}}"),
        ] {
            for chunk in [1, 2, 7, 1000] {
                let (items, rest) = cut(&text, chunk);
                assert_eq!(items, [one, r#"{"b":[{}]}"#]);
                let rest: serde_json::Value = serde_json::from_str(&rest).unwrap();
                assert_eq!(rest["metadata"]["resourceVersion"], "7");
                assert_eq!(rest["items"], serde_json::json!([]));
            }
        }
    }

    #[test]
    fn page_without_items_yields_none() {
        for text in [r#"{"items":null,"a":1}"#, r#"{"items":[]}"#, r#"{"a":"items"}"#, "nonsense"] {
            assert_eq!(cut(text, 3), (Vec::new(), text.to_owned()));
        }
    }

    #[test]
    fn too_long_item_is_skipped_and_next_is_read() {
        let long = "x".repeat(ITEM_MAX);
        let (items, _) = cut(&format!(r#"{{"items":[{{"a":"{long}"}},{{"b":1}}]}}"#), 1 << 20);
        assert_eq!(items, ["too long", r#"{"b":1}"#]);
    }
}
