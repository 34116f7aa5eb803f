//! Texts that cannot be stamped without damage.

use super::{plain, stamp};
use crate::stamp::Existing;

fn refusal(text: &str) -> String {
    stamp(text, &plain(Existing::Replace)).unwrap_err().to_string()
}

#[test]
fn refusals_name_document_line_and_field() {
    for (text, expected) in [
        (
            "x: 1\n---\nx: &a {b: c}\nkind: Pod\napiVersion: v1\nmetadata:\n  annotations: *a\n",
            "document 2, line 7: metadata.annotations is an alias of another value; write the value itself",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata:\n  annotations: &a\n    b: c\nspec: *a\n",
            "document 1, line 5: metadata.annotations has an anchor that an alias refers to; a stamp would \
             change the other value, too",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata: &m {name: a}\nspec: *m\n",
            "document 1, line 3: metadata has an anchor that an alias refers to; a stamp would change the \
             other value, too",
        ),
        (
            "kind: Pod\napiVersion: v1\nx: &x {annotations: {a: b}}\nmetadata:\n  <<: *x\n",
            "document 1, line 5: metadata merges another mapping (<<), which may contain the key; write \
             annotations itself",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata:\n  annotations: [a]\n",
            "document 1, line 4: metadata.annotations is not a mapping",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata:\n  annotations: {}\n  annotations: {}\n",
            "document 1, line 5: metadata.annotations occurs twice",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata:\n  annotations:\n    tracing.k8s.io/traceparent: |\n      a\n",
            "document 1, line 5: tracing.k8s.io/traceparent is written in a form that cannot be changed in \
             place; write it on one line",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata:\n  ? annotations\n",
            "document 1, line 4: metadata.annotations is written in a form that cannot be changed in \
             place; write it on one line",
        ),
    ] {
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_line() {
    let text = "a: 1\n---\nb: [\n";
    assert!(refusal(text).starts_with("document 2, line 3: this is neither YAML nor JSON: "));
    let template = "kind: Pod\nmetadata: {{ .Values.metadata }}\n  x: {{ y }}\n";
    assert!(refusal(template).starts_with("document 1, line "), "{}", refusal(template));
}

#[test]
fn refusal_in_the_second_value_of_a_json_stream_has_its_place() {
    let text =
        "{}\n\n{\"kind\": \"Pod\", \"apiVersion\": \"v1\",\n \"metadata\": {\"annotations\": 1}}";
    let expected = "document 2, line 4: metadata.annotations is not a mapping";
    assert_eq!(refusal(text), expected);
}
