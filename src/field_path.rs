//! Splits the paths of fields into segments: `spec.template.spec.containers[web].image`.
//!
//! The items of a list go by their map key, in brackets. So do keys of a map that contain dots:
//! `metadata.labels[example.com/team]`. This grammar is the one of the configuration, of recordings
//! and of the trace.

/// One segment of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    /// The name of a field.
    Field(&'a str),
    /// In brackets: the map key of a list item, or a field. `*` matches any.
    Item(&'a str),
}

impl<'a> Segment<'a> {
    pub fn is_any(self) -> bool {
        self == Self::Item("*")
    }

    pub fn name(self) -> &'a str {
        let (Self::Field(name) | Self::Item(name)) = self;
        name
    }
}

/// The segments of `a.b[c].d`, in order.
pub fn segments(path: &str) -> Vec<Segment<'_>> {
    steps(path).into_iter().map(|(segment, _)| segment).collect()
}

/// Each segment, and the path that ends with it: `b` of `a.b[c].d` comes with `a.b`.
pub fn steps(path: &str) -> Vec<(Segment<'_>, &str)> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (segment, after) = if let Some(item) = rest.strip_prefix('[') {
            let (key, after) = item.split_once(']').unwrap_or((item, ""));
            (Segment::Item(key), after)
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            (Segment::Field(field), after)
        };
        let end = path.len() - after.len();
        steps.push((segment, path.get(..end).unwrap_or(path)));
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

/// Whether `path` is written by the grammar: it begins with a field, no name is empty, and every
/// bracket is closed. Then printing its segments gives the same text again.
pub fn is_well_formed(path: &str) -> bool {
    let mut printed = String::with_capacity(path.len());
    for segment in segments(path) {
        match segment {
            Segment::Field(name) if name.is_empty() || name.contains(']') => return false,
            Segment::Item("") => return false,
            Segment::Item(_) if printed.is_empty() => return false,
            Segment::Field(name) => {
                if !printed.is_empty() {
                    printed.push('.');
                }
                printed.push_str(name);
            }
            Segment::Item(key) => {
                printed.push('[');
                printed.push_str(key);
                printed.push(']');
            }
        }
    }
    !printed.is_empty() && printed == path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_segment_comes_with_the_path_that_ends_with_it() {
        let path = "spec.ports[http].labels[example.com/team].to";
        let prefixes: Vec<&str> = steps(path).into_iter().map(|(_, prefix)| prefix).collect();
        let expected = [
            "spec",
            "spec.ports",
            "spec.ports[http]",
            "spec.ports[http].labels",
            "spec.ports[http].labels[example.com/team]",
            path,
        ];
        assert_eq!(prefixes, expected);
    }

    #[test]
    fn well_formed_paths_are_names_between_dots_with_keys_in_brackets() {
        for path in ["spec", "status.a.b", "a[b].c", "a[b][c]", "metadata.labels[example.com/x].y"]
        {
            assert!(is_well_formed(path), "{path}");
        }
        for path in
            ["", ".", "a.", ".a", "a..b", "a[", "a[b", "a[]", "[a]", "a[b]c", "a]b", "a.[b]"]
        {
            assert!(!is_well_formed(path), "{path}");
        }
    }
}
