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

impl<'a> Segment<'a> {
    pub fn is_any(self) -> bool {
        self == Self::Item("*")
    }

    pub fn name(self) -> &'a str {
        let (Self::Field(name) | Self::Item(name)) = self;
        name
    }
}

/// `a.b[c].d`, step by step.
pub fn segments(path: &str) -> Vec<Segment<'_>> {
    steps(path).into_iter().map(|(segment, _)| segment).collect()
}

/// Each step, and the path that leads to it: `b` of `a.b[c].d` is at `a.b`.
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

/// Whether `field` is `path` or below it. `[*]` in `path` stands for anything; `data[a]` is `data.a`.
pub fn is_within(field: &str, path: &str) -> bool {
    let (field, path) = (segments(field), segments(path));
    let is_same = |(at, of): (&Segment<'_>, &Segment<'_>)| of.is_any() || at.name() == of.name();
    field.len() >= path.len() && field.iter().zip(&path).all(is_same)
}

/// The highest of `paths` that `field` is within.
pub fn covering<'p>(field: &str, paths: impl Iterator<Item = &'p str>) -> Option<&'p str> {
    paths.filter(|path| is_within(field, path)).min_by_key(|path| segments(path).len())
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
        assert!(is_within("data.a", "data[a]") && is_within("data.a", "data[*]"));
        assert!(!is_within("data[tls.key]", "data.tls.key"));
    }

    #[test]
    fn every_step_has_a_path_that_leads_to_it() {
        let path = "spec.ports[http].labels[example.com/team].to";
        let places: Vec<&str> = steps(path).into_iter().map(|(_, place)| place).collect();
        let expected = [
            "spec",
            "spec.ports",
            "spec.ports[http]",
            "spec.ports[http].labels",
            "spec.ports[http].labels[example.com/team]",
            path,
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn of_several_paths_the_highest_covers() {
        let paths = ["spec.secret.deep", "spec.other", "spec.secret"];
        assert_eq!(covering("spec.secret.deep.a", paths.into_iter()), Some("spec.secret"));
        assert_eq!(covering("spec", paths.into_iter()), None);
    }
}
