//! Checks the option `attributes`: which annotations and labels become attributes of spans.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{file::Attributes, settings::AttributeSettings};

/// Attributes that may be configured. Each may be an attribute of every span of a chain.
const MAX_ATTRIBUTES: usize = 16;

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The derived function of `remote = "Self"`.
        let attributes = Self::deserialize(deserializer)?;
        attributes.check().map(|()| attributes).map_err(D::Error::custom)
    }
}

impl Attributes {
    /// Returns what to do about an entry that cannot be an attribute.
    fn check(&self) -> Result<(), String> {
        let count = self.from_annotations.len() + self.from_labels.len();
        if count > MAX_ATTRIBUTES {
            return Err(format!(
                "{count} attributes are configured, and the most are {MAX_ATTRIBUTES}"
            ));
        }
        for (key, attribute) in self.from_annotations.iter().chain(&self.from_labels) {
            if key.is_empty() || attribute.is_empty() {
                return Err("neither a key nor the attribute it becomes can be empty; write \
                            example.com/team: team"
                    .to_owned());
            }
            if attribute.starts_with("spanlink.") {
                return Err(format!(
                    "{attribute:?} is a name of spanlink's own attributes; write another one"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn settings(self) -> AttributeSettings {
        let Self { from_annotations, from_labels } = self;
        AttributeSettings { from_annotations, from_labels }
    }
}
