//! Objects in the words of an expression: its fields and its literals, in many combinations.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

/// What an expression mentions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocabulary {
    /// Paths of fields, such as `status.health.status`.
    scalars: BTreeSet<String>,
    /// Paths of fields over which it loops or whose size it reads.
    lists: BTreeSet<String>,
    /// Fields of the items of lists.
    item_fields: BTreeSet<String>,
    words: BTreeSet<String>,
}

const ROOTS: [&str; 4] = ["metadata", "spec", "status", "data"];
const LIST_FUNCTIONS: [&str; 6] = ["all", "exists", "exists_one", "filter", "map", "size"];

impl Vocabulary {
    /// Adds what `expression` mentions.
    pub(crate) fn add(&mut self, expression: &str) {
        let mut rest = expression;
        while let Some(first) = rest.chars().next() {
            if first == '"' || first == '\'' {
                let mut parts = rest.splitn(3, first).skip(1);
                let (word, after) = (parts.next().unwrap(), parts.next().unwrap());
                self.words.insert(word.to_owned());
                rest = after;
            } else if first.is_ascii_alphabetic() || first == '_' {
                let is_part = |c: char| c.is_ascii_alphanumeric() || "._?".contains(c);
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let (path, after) = rest.split_at(end);
                self.add_path(&path.replace('?', ""), after.starts_with('('));
                rest = after;
            } else {
                rest = rest.strip_prefix(first).unwrap();
            }
        }
    }

    fn add_path(&mut self, path: &str, is_called: bool) {
        let Some((root, field)) = path.split_once('.') else { return };
        if !ROOTS.contains(&root) {
            // The variable of a loop has one letter.
            if root.len() == 1 && !is_called {
                self.item_fields.insert(field.to_owned());
            }
            return;
        }
        match path.rsplit_once('.') {
            Some((of, function)) if is_called => {
                let is_list = LIST_FUNCTIONS.contains(&function);
                let paths = if is_list { &mut self.lists } else { &mut self.scalars };
                if of.contains('.') {
                    paths.insert(of.to_owned());
                }
            }
            _ => {
                self.scalars.insert(path.to_owned());
            }
        }
    }

    /// Objects of `api_version` and `kind`, each with some of the fields.
    pub(crate) fn objects(
        &self,
        api_version: &str,
        kind: &str,
    ) -> impl Strategy<Value = Value> + use<> {
        let scalars = self.scalars.difference(&self.lists).cloned().collect::<Vec<_>>();
        let lists = self.lists.iter().cloned().collect::<Vec<_>>();
        let values =
            prop::collection::vec(prop::option::weighted(0.8, self.value()), scalars.len());
        let items = prop::collection::vec(self.item(), 0..4).prop_map(Value::from);
        // A field that should be a list may be anything.
        let items = prop_oneof![19 => items, 1 => self.value()];
        let items = prop::collection::vec(prop::option::weighted(0.9, items), lists.len());
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        (values, items, 1..4_i64, prop::option::weighted(0.5, an_observed_generation())).prop_map(
            move |(values, items, generation, observed)| {
                let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {
                    "name": "one", "namespace": "shop", "uid": "u", "resourceVersion": "1",
                    "generation": generation}});
                let present = scalars.iter().zip(values).chain(lists.iter().zip(items));
                for (path, value) in present {
                    if let Some(value) = value
                        && path != "metadata.generation"
                        && path != "metadata.name"
                    {
                        put(&mut object, path, value);
                    }
                }
                if let Some(observed) = observed {
                    put(&mut object, "status.observedGeneration", observed);
                }
                object
            },
        )
    }

    fn value(&self) -> BoxedStrategy<Value> {
        let words = self.words.iter().cloned().chain([String::new(), "Enchanted".into()]);
        prop_oneof![
            12 => select(words.collect::<Vec<_>>()).prop_map(Value::from),
            6 => (0..4_i64).prop_map(Value::from),
            3 => prop::bool::ANY.prop_map(Value::from),
            2 => select(vec![json!([]), json!({}), json!({"a": "b"}), json!(["x"]), json!(1.5)]),
        ]
        .boxed()
    }

    fn item(&self) -> BoxedStrategy<Value> {
        let fields: Vec<String> = self.item_fields.iter().cloned().collect();
        let statuses = select(vec!["True", "False", "Unknown"]).prop_map(Value::from);
        let values = prop::collection::vec(
            (prop::option::weighted(0.9, self.value()), statuses),
            fields.len(),
        );
        values
            .prop_map(move |values| {
                let present = fields.iter().zip(values).filter_map(|(field, (value, status))| {
                    let value = if field == "status" { Some(status) } else { value };
                    Some((field, value?))
                });
                let mut item = json!({});
                present.for_each(|(field, value)| put(&mut item, field, value));
                item
            })
            .boxed()
    }
}

/// Numbers around the generation, and numbers written as text, as some APIs have them.
fn an_observed_generation() -> impl Strategy<Value = Value> + use<> {
    prop_oneof![
        6 => (0..5_i64).prop_map(Value::from),
        1 => (0..5_i64).prop_map(|number| json!(number.to_string())),
    ]
}

/// Sets a field and the objects around it; a value that stands in the way stays.
fn put(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let Some(fields) = place.as_object_mut() else { return };
        if parts.peek().is_none() {
            fields.entry(part).or_insert(value);
            return;
        }
        place = fields.entry(part).or_insert_with(|| Value::Object(Map::new()));
    }
}
