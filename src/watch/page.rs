//! Cuts a page of a list into its items while it arrives: never more than one is held.

use super::lines::TooLong;

/// Longer items are skipped: no object the API server stores is as large.
const ITEM_MAX: usize = 8 << 20;
/// Of a page without its items; the rest of more than that is not kept.
const REST_MAX: usize = 64 << 10;

/// Follows the text by quotes and brackets alone.
#[derive(Debug, Default)]
pub(super) struct Page {
    depth: usize,
    text: Text,
    /// The text begun last at the top level: a key when a colon follows.
    key: Vec<u8>,
    /// The value of `items` is being read.
    in_items: bool,
    item: Vec<u8>,
    item_is_too_long: bool,
    /// Everything but the items.
    rest: Vec<u8>,
}

/// Where brackets mean nothing.
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
                    // One large object must not hold its memory for ever.
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
    fn items_are_cut_whatever_the_chunks_and_the_order_of_keys_are() {
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
    fn no_items_are_no_items() {
        for text in [r#"{"items":null,"a":1}"#, r#"{"items":[]}"#, r#"{"a":"items"}"#, "nonsense"] {
            assert_eq!(cut(text, 3), (Vec::new(), text.to_owned()));
        }
    }

    #[test]
    fn an_item_that_is_too_long_is_skipped_and_the_next_is_cut() {
        let long = "x".repeat(ITEM_MAX);
        let (items, _) = cut(&format!(r#"{{"items":[{{"a":"{long}"}},{{"b":1}}]}}"#), 1 << 20);
        assert_eq!(items, ["too long", r#"{"b":1}"#]);
    }
}
