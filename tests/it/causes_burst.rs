//! Many updates before a controller has seen the first: which of them it acts on varies, what follows
//! from which does not.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spanlink::trace::model::span::{Role, Span};

use crate::{
    causes::rolled_out,
    scene::{Scene, image_patch, stamped},
    span_tree,
};

/// Concurrent requests: more of them would only conflict with each other.
const AT_ONCE: usize = 4;

/// Patches a Deployment once per stamp, each time with another image. Returns the stamps
/// in the order of their generations.
async fn patched(name: &str, stamps: &str) -> Result<(Scene<'static>, Vec<char>)> {
    let scene = rolled_out(name).await?;
    let deployments = scene.api("apps/v1", "Deployment").await?;
    let params = PatchParams { field_manager: Some("a-test".to_owned()), ..PatchParams::default() };
    // A request made before opens the connection.
    deployments.get("web").await?;
    let patch = async |stamp: char| {
        let mut patch = image_patch(&format!("web:{stamp}"));
        patch["metadata"] = json!({ "annotations": stamped(stamp) });
        let answer = deployments.patch("web", &params, &Patch::Strategic(&patch)).await?;
        anyhow::Ok((answer.metadata.generation, stamp))
    };
    let answers = stream::iter(stamps.chars()).map(patch).buffer_unordered(AT_ONCE);
    let mut written: Vec<_> = answers.try_collect().await?;
    written.sort_unstable();
    let generations: Vec<_> = written.iter().map(|(generation, _)| *generation).collect();
    let expected: Vec<_> = (2..).take(written.len()).map(Some).collect();
    ensure!(generations == expected, "generations {generations:?}");
    Ok((scene, written.into_iter().map(|(_, stamp)| stamp).collect()))
}

/// The expected heads: each patch is one, and supersedes the one before. One that was not
/// superseded yet when a status observed it bears the contexts of all that were observed with it.
fn expected(stamps: &[char], history: &[Value]) -> String {
    let mut text = "create Deployment web g1 -> converged  [context 1…]\n".to_owned();
    let together = observed_together(history);
    for (before, stamp) in (1..).zip(stamps) {
        let is_last = before == stamps.len();
        let outcome = if is_last { "converged" } else { "superseded" };
        let supersedes = match before {
            1 => String::new(),
            before => format!("  [supersedes: update Deployment web g{before}]"),
        };
        let generation = before + 1;
        let context = |of: usize| format!("  [context {}…]", stamps[of - 2]);
        let together = together.get(&generation).into_iter().flatten();
        let swallowed = together.map(|of| context(*of)).collect::<Vec<_>>().concat();
        text += &[
            &format!("update Deployment web g{generation} -> {outcome}  [context {stamp}…]"),
            &*supersedes,
            &*swallowed,
            "  {spec.template.spec.containers[web].image by a-test}\n",
        ]
        .concat();
    }
    text
}

/// Which generations were observed in one step, by the last of them.
fn observed_together(history: &[Value]) -> BTreeMap<usize, Vec<usize>> {
    let mut together = BTreeMap::new();
    let mut before = 1;
    let objects = history.iter().map(|line| &line["object"]);
    for object in objects.filter(|object| object["kind"] == "Deployment") {
        let number = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        let observed = number(&object["status"]["observedGeneration"]).unwrap_or(0);
        if observed > before + 1 && number(&object["metadata"]["generation"]) == Some(observed) {
            together.insert(observed, (before + 1..=observed).collect());
        }
        before = before.max(observed);
    }
    together
}

/// The lines of heads, and nothing below them.
fn heads(tree: &str) -> String {
    let heads = tree.lines().filter(|line| !line.starts_with(' '));
    heads.flat_map(|line| [line, "\n"]).collect()
}

/// Every change of a ReplicaSet and of a Pod has one span, below the right parent.
fn each_follows_from_its_own(scene: &Scene<'_>) -> Result<()> {
    let spans = scene.recorder.spans();
    let history = scene.recorder.lines()?;
    let changes: Vec<&Span> = spans.iter().filter(|span| span.role == Role::Change).collect();
    let mut tree: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for span in changes.iter().filter(|span| *span.object.kind.kind != *"Deployment") {
        let kind: &str = &span.object.kind.kind;
        *tree.entry((kind, &span.object.name)).or_default() += 1;
        let parent = changes.iter().find(|it| Some(it.span_id) == span.parent);
        let parent = parent.with_context(|| format!("a head: {span:?}"))?;
        if kind == "ReplicaSet" && wants_more(span, &history) {
            // The template that it was made from, whatever was asked for since.
            let image = &written(span, &history)?["spec"]["template"]["spec"]["containers"][0];
            let stamp =
                span_tree::attribute(parent, "spanlink.context.trace_id").unwrap_or_default();
            let image_of_stamp = format!("web:{}", stamp.chars().next().unwrap_or_default());
            ensure!(image["image"] == *image_of_stamp, "{image} under {parent:?}");
        } else {
            let of_owner = changes.iter().filter(|it| it.object.uid == parent.object.uid);
            let before = of_owner.filter(|it| version(it) < version(span));
            let newest = before.max_by_key(|it| version(it)).context("none before")?;
            ensure!(newest.span_id == parent.span_id, "{span:?} is not under {newest:?}");
        }
    }
    // No more and no less than was written.
    let mut expected: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in &history {
        let object = &line["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        if matches!(kind, "ReplicaSet" | "Pod") {
            // A Pod's second is its deletion.
            expected.insert((kind, name), usize::try_from(generation)?);
        }
    }
    ensure!(tree == expected, "exported {tree:?}, written {expected:?}");
    Ok(())
}

fn version(span: &Span) -> u64 {
    let version = span_tree::attribute(span, "k8s.object.resource_version").unwrap_or_default();
    version.parse().unwrap_or_default()
}

/// The object as this change left it.
fn written<'a>(change: &Span, history: &'a [Value]) -> Result<&'a Value> {
    let version = version(change).to_string();
    let mut objects = history.iter().map(|line| &line["object"]);
    let found = objects.find(|object| object["metadata"]["resourceVersion"] == *version);
    found.with_context(|| format!("nothing of version {version}"))
}

/// Created, or scaled up: there are more from then on.
fn wants_more(change: &Span, history: &[Value]) -> bool {
    let replicas = |generation: u64| {
        let mut objects = history.iter().map(|line| &line["object"]);
        let found = objects.find(|object| {
            object["metadata"]["name"] == *change.object.name
                && object["metadata"]["generation"] == generation
        });
        found.and_then(|object| object["spec"]["replicas"].as_i64()).unwrap_or(-1)
    };
    let generation = span_tree::attribute(change, "spanlink.generation").unwrap_or_default();
    let generation: u64 = generation.parse().unwrap_or_default();
    replicas(generation) > replicas(generation - 1)
}

#[tokio::test]
async fn each_replicaset_of_six_quick_patches_is_below_its_patch() -> Result<()> {
    let (scene, stamps) = patched("six-patches", "234567").await?;
    let tree = scene.tree().await?;
    assert_eq!(heads(&tree), expected(&stamps, &scene.recorder.lines()?));
    each_follows_from_its_own(&scene)
}

#[tokio::test]
async fn each_replicaset_of_ten_quick_patches_is_below_its_patch() -> Result<()> {
    let (scene, stamps) = patched("ten-patches", "23456789ab").await?;
    let tree = scene.tree().await?;
    assert_eq!(heads(&tree), expected(&stamps, &scene.recorder.lines()?));
    each_follows_from_its_own(&scene)
}
