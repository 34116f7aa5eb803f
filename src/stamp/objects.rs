//! Finds the Kubernetes objects of a document, also within lists.

use super::{
    edit::child_path,
    tree::{Content, Document, Node},
};

/// An annotation of objects that are read by a tool and never applied:
/// <https://kpt.dev/reference/annotations/local-config/>.
const LOCAL_CONFIG: &str = "config.kubernetes.io/local-config";

/// What an object says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectIdentity {
    pub api_version: String,
    pub kind: String,
    pub namespace: Option<String>,
    /// `None` for an object with `generateName`.
    pub name: Option<String>,
}

impl ObjectIdentity {
    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

/// An object of a document.
pub(super) struct Found<'tree> {
    pub(super) document: &'tree Document,
    pub(super) node: &'tree Node,
    /// The path of the object in the text.
    pub(super) path: String,
    pub(super) identity: ObjectIdentity,
}

/// Every object that can be applied, in the order of the text: of a `List`, a `ResourceList` or
/// another list its items. A document that is not an object has none.
pub(super) fn objects(document: &Document) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    collect(document, &document.root, format!("{}", document.number), None, &mut found);
    found
}

/// `list` is the API version and the kind of the items of a list, where they may lack their own.
fn collect<'tree>(
    document: &'tree Document,
    node: &'tree Node,
    path: String,
    list: Option<(&str, &str)>,
    found: &mut Vec<Found<'tree>>,
) {
    let text = |field: &str| node.get(field).and_then(Node::text);
    let api_version = text("apiVersion").or_else(|| list.map(|(api_version, _)| api_version));
    let kind = text("kind").or_else(|| list.map(|(_, kind)| kind));
    let (Some(api_version), Some(kind)) = (api_version, kind) else { return };
    if let (Some(item_kind), Some(Node { content: Content::Sequence { items, .. }, .. })) =
        (kind.strip_suffix("List"), node.get("items"))
    {
        // The items of a `List` and of a `ResourceList` have different kinds.
        let is_typed = !["", "Resource"].contains(&item_kind);
        let list = is_typed.then_some((api_version, item_kind));
        let path = child_path(&path, "items");
        for (index, item) in items.iter().enumerate() {
            collect(document, item, child_path(&path, &index.to_string()), list, found);
        }
        return;
    }
    // Without metadata there is no name, so the object cannot be applied.
    let Some(metadata) = node.get("metadata").filter(|metadata| !metadata.is_null()) else {
        return;
    };
    let annotations = metadata.get("annotations");
    let local = annotations.and_then(|annotations| annotations.get(LOCAL_CONFIG));
    if local.and_then(Node::text) == Some("true") {
        return;
    }
    let field = |name: &str| {
        let text = metadata.get(name).and_then(Node::text);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let identity = ObjectIdentity {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: field("namespace"),
        name: field("name"),
    };
    found.push(Found { document, node, path, identity });
}

/// The fields above the metadata of the template of an object's Pods; `None` for an object without
/// one.
pub(super) fn pod_template(object: &Node) -> Option<&'static [&'static str]> {
    const TEMPLATES: [&[&str]; 2] =
        [&["spec", "template"], &["spec", "jobTemplate", "spec", "template"]];
    TEMPLATES.into_iter().find(|fields| {
        let template = fields.iter().try_fold(object, |node, field| node.get(field));
        let spec = template.and_then(|template| template.get("spec"));
        spec.is_some_and(|spec| spec.get("containers").is_some())
    })
}
