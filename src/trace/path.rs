//! Names fields of objects: `spec.template.spec.containers[web].image`.
//!
//! List items go by their map key. Keys of maps that have dots in them stand in brackets too:
//! `metadata.labels[example.com/team]`.

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment<'a> {
    Field(&'a str),
    /// In brackets: a list item's map key, or a field. `*` stands for any.
    Item(&'a str),
}

impl Segment<'_> {
    pub fn is_any(self) -> bool {
        self == Self::Item("*")
    }
}

/// `a.b[c].d`, step by step.
pub fn segments(path: &str) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(item) = rest.strip_prefix('[') {
            let (key, after) = item.split_once(']').unwrap_or((item, ""));
            segments.push(Segment::Item(key));
            rest = after.strip_prefix('.').unwrap_or(after);
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            segments.push(Segment::Field(field));
            rest = after.strip_prefix('.').unwrap_or(after);
        }
    }
    segments
}

/// Whether `field` is `path` or below it. `[*]` in `path` stands for any item.
pub fn is_within(field: &str, path: &str) -> bool {
    let (field, path) = (segments(field), segments(path));
    let is_same = |(at, of): (&Segment<'_>, &Segment<'_>)| match (at, of) {
        (Segment::Item(_), Segment::Item("*")) => true,
        (Segment::Item(at), Segment::Item(of)) | (Segment::Field(at), Segment::Field(of)) => {
            at == of
        }
        (Segment::Item(_), Segment::Field(_)) | (Segment::Field(_), Segment::Item(_)) => false,
    };
    field.len() >= path.len() && field.iter().zip(&path).all(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_within_what_is_above_it_and_any_item_within_a_star() {
        let image = "spec.template.spec.containers[web].image";
        for path in ["spec", image, "spec.template", "spec.template.spec.containers[*].image"] {
            assert!(is_within(image, path), "{path}");
        }
        for path in ["spec.temp", "spec.template.spec.containers[other]", "spec.*", "status"] {
            assert!(!is_within(image, path), "{path}");
        }
        assert!(!is_within("spec", image));
    }
}
