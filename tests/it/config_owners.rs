//! Claims about the option `causes.owners`.

use expect_test::expect;

use crate::config_file::refuses;

#[test]
fn incomplete_and_contradictory_marks_are_refused() {
    let entry = |options: &str| format!("causes:\n  owners:\n    - {{{options}}}\n");
    refuses(
        &entry("child: Pod, name: 'metadata.labels[a]'"),
        expect![
            "spanlink.yaml:3:7: an entry needs the kind that has the children, as in owner: Kafka.kafka.strimzi.io"
        ],
    );
    refuses(
        &entry("owner: '*.example.com', name: 'metadata.labels[a]'"),
        expect![
            "spanlink.yaml:3:7: *.example.com is not one kind; write the kind, or in kind the path of the label with it"
        ],
    );
    refuses(
        &entry("owner: Widget.example.com, kind: 'metadata.labels[a]'"),
        expect!["spanlink.yaml:3:7: namespace and kind need name, the path of the owner's name"],
    );
    refuses(
        &entry("owner: Widget.example.com, name: 'metadata.labels[a]', field: spec.part"),
        expect![
            "spanlink.yaml:3:7: name and field exclude each other: the child names its owner, or the owner its child"
        ],
    );
    refuses(
        &entry("owner: Widget.example.com, name: 'metadata.labels[a]', managers: [operator]"),
        expect![
            "spanlink.yaml:3:7: managers need field: a label or an annotation has a field manager of its own"
        ],
    );
    refuses(
        &entry("owner: Widget.example.com, name: 'metadata.labels[*]'"),
        expect![[
            r#"spanlink.yaml:3:41: "metadata.labels[*]" cannot name an owner; write the path of one label, annotation or field: metadata.labels[example.com/owner], spec.owner.name"#
        ]],
    );
    refuses(
        &entry("owner: Widget.example.com, name: metadata.name"),
        expect![[
            r#"spanlink.yaml:3:41: "metadata.name" cannot name an owner; write the path of one label, annotation or field: metadata.labels[example.com/owner], spec.owner.name"#
        ]],
    );
}
