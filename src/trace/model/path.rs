//! Compares paths of fields: `spec.template.spec.containers[web].image` is within `spec`.

pub use crate::field_path::{Segment, segments, steps};

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
    fn field_is_within_its_parents_and_any_item_within_a_star() {
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
    fn of_several_paths_the_highest_covers() {
        let paths = ["spec.secret.deep", "spec.other", "spec.secret"];
        assert_eq!(covering("spec.secret.deep.a", paths.into_iter()), Some("spec.secret"));
        assert_eq!(covering("spec", paths.into_iter()), None);
    }
}
