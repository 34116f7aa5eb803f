//! Parses kinds (`Deployment.apps`, `Pod`, `apps/v1/Deployment`, `*.example.com`) and finds the
//! entries of `watch` for a kind.

use std::fmt;

use super::settings::{KindSelector, KindSettings, WatchSettings};

impl WatchSettings {
    /// The entry whose options apply to a kind: the first that names it, else the first for its group.
    pub fn entry(&self, group: &str, kind: &str) -> Option<&KindSettings> {
        let all = || self.entries(group, kind);
        all().find(|entry| entry.selector.kind.is_some()).or_else(|| all().next())
    }

    fn entries(&self, group: &str, kind: &str) -> impl Iterator<Item = &KindSettings> {
        self.kinds.iter().filter(move |entry| entry.selector.selects(group, kind))
    }

    /// The paths whose values may be exported for a kind. For Secrets there are none, whatever the
    /// configuration contains.
    pub fn values_of(&self, group: &str, kind: &str) -> &[String] {
        if (group, kind) == ("", "Secret") {
            return &[];
        }
        self.entry(group, kind).map(|entry| &*entry.values).unwrap_or_default()
    }

    /// Whether any entry for a kind asks for Kubernetes Events about its objects.
    pub fn wants_events(&self, group: &str, kind: &str) -> bool {
        let is_named = |entry: &&KindSettings| entry.selector.kind.is_some();
        let named = || self.entries(group, kind).filter(is_named);
        match named().next() {
            Some(_) => named().any(|entry| entry.events),
            None => self.entries(group, kind).any(|entry| entry.events),
        }
    }

    /// The paths of a kind below which nothing is exported or recorded: those for every kind, and
    /// those of any entry for this one.
    pub fn redacted_of<'a>(
        &'a self,
        group: &'a str,
        kind: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let of_kind = self.entries(group, kind).flat_map(|entry| &entry.redact);
        self.redact.iter().chain(of_kind).map(String::as_str)
    }
}

impl fmt::Display for KindSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind.as_deref().unwrap_or("*"), self.version.as_deref(), &*self.group) {
            (kind, Some(version), "") => write!(f, "{version}/{kind}"),
            (kind, Some(version), group) => write!(f, "{group}/{version}/{kind}"),
            (kind, None, "") => f.write_str(kind),
            (kind, None, group) => write!(f, "{kind}.{group}"),
        }
    }
}

impl KindSelector {
    /// Whether a kind matches, in any version.
    pub fn selects(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind.as_deref().is_none_or(|name| name == kind)
    }

    /// Parses a kind as `kubectl` takes it.
    ///
    /// # Errors
    /// A message with the forms that are accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "{text:?} is not a kind; write Kind.group (Deployment.apps), a core Kind (Pod), \
                 group/version/Kind (apps/v1/Deployment) or *.group (*.example.com)"
            )
        };
        let is_kind = |kind: &str| {
            kind.starts_with(|c: char| c.is_ascii_uppercase())
                && kind.chars().all(|c| c.is_ascii_alphanumeric())
        };
        let parts: Vec<&str> = text.split('/').collect();
        let (group, version, kind) = match parts.as_slice() {
            [one] => match one.split_once('.') {
                Some((_, "")) => return Err(invalid()),
                Some((kind, group)) => (group, None, kind),
                None => ("", None, *one),
            },
            [version, kind] => ("", Some(*version), *kind),
            [group, version, kind] => (*group, Some(*version), *kind),
            _ => return Err(invalid()),
        };
        let every = kind == "*" && version.is_none() && is_group(group);
        let is_right = every
            || (is_kind(kind)
                && (group.is_empty() || is_group(group))
                && version.is_none_or(|version| version.starts_with('v')));
        if !is_right {
            return Err(invalid());
        }
        Ok(Self {
            group: group.to_owned(),
            version: version.map(str::to_owned),
            kind: (!every).then(|| kind.to_owned()),
        })
    }
}

/// Whether the text can be the group of an API; the core group has no name.
pub(super) fn is_group(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    !text.is_empty() && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(String, Option<String>, Option<String>)> {
        KindSelector::parse(text).ok().map(|s| (s.group, s.version, s.kind))
    }

    #[test]
    fn kinds_are_parsed_as_kubectl_takes_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("Pod"), Some((String::new(), None, some("Pod"))));
        assert_eq!(parts("Deployment.apps"), Some(("apps".to_owned(), None, some("Deployment"))));
        assert_eq!(
            parts("apps/v1/Deployment"),
            Some(("apps".to_owned(), some("v1"), some("Deployment")))
        );
        assert_eq!(parts("v1/Pod"), Some((String::new(), some("v1"), some("Pod"))));
        assert_eq!(parts("*.example.com"), Some(("example.com".to_owned(), None, None)));
    }

    #[test]
    fn printed_kind_equals_the_parsed_text() {
        for text in ["Pod", "v1/Pod", "Deployment.apps", "apps/v1/Deployment", "*.example.com"] {
            assert_eq!(KindSelector::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_kinds_are_refused() {
        for text in ["", "pods", "*", "Pod.", "a/b/c/d", "deployment.apps", "*.Apps", "Po d"] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
