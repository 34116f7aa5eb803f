//! `spanlink trace` against Tempo's and Jaeger's documented answers.

use std::process::{Command, Output};

use expect_test::expect;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use serde_json::Value;

use crate::scripted_backend::{Api, ScriptedBackend, Stored, hex};

const APPLIED: &str = "0af7651916cd43dd8448eb211c80319c";

/// The spans of a recorded rollout, as the daemon exports them.
async fn rollout() -> Vec<ResourceSpans> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let recording = format!("{folder}/annotate-then-set-image/history.jsonl");
    let output = run(spanlink(&["replay", &recording, "--to", "json"])).await;
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let request = |line: &str| {
        serde_json::from_str::<ExportTraceServiceRequest>(line).unwrap().resource_spans
    };
    lines.lines().flat_map(request).collect()
}

fn spanlink(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spanlink"));
    for name in ["URL", "TOKEN", "TENANT", "BACKEND", "CA_FILE", "UI_URL"] {
        command.env_remove(format!("SPANLINK_TRACE_{name}"));
    }
    command.args(arguments).env("NO_COLOR", "1");
    command
}

/// Runs the command beside the server, which is on this thread.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn trace(backend: &ScriptedBackend, arguments: &[&str]) -> Output {
    // Recordings are old, so the time that is searched must reach back to them.
    let url = backend.url();
    let arguments = [&["trace", "--since", "20000d", "--url", &url], arguments].concat();
    run(spanlink(&arguments)).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The annotated trace of the recording, with a span of the client that wrote the annotation.
fn annotated(spans: &[ResourceSpans]) -> (String, ResourceSpans) {
    let all =
        spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans);
    let updates = all.filter(|span| span.name == "update Deployment");
    let linked = updates.max_by_key(|span| span.start_time_unix_nano).unwrap();
    let link = &linked.links[0];
    let service = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue("kubectl".to_owned())) }),
        ..KeyValue::default()
    };
    let span = Span {
        trace_id: link.trace_id.clone(),
        span_id: link.span_id.clone(),
        name: "kubectl apply".to_owned(),
        start_time_unix_nano: linked.start_time_unix_nano - 300_000_000,
        end_time_unix_nano: linked.start_time_unix_nano + 100_000_000,
        ..Span::default()
    };
    let resource = ResourceSpans {
        resource: Some(Resource { attributes: vec![service], ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    };
    (hex(&link.trace_id), resource)
}

/// A rollout and the trace of the client that applied it.
async fn stored() -> (String, Stored) {
    let mut spans = rollout().await;
    let (id, client) = annotated(&spans);
    spans.push(client);
    (id, Stored { spans, ..Stored::default() })
}

/// Without what differs between runs and machines.
fn stable(tree: &str) -> String {
    let number = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    let words = |line: &str| {
        let kept = line.split(' ').filter(|word| !number(word)).collect::<Vec<_>>();
        kept.join(" ").trim_end().to_owned()
    };
    tree.lines().map(|line| words(line) + "\n").collect()
}

#[tokio::test]
async fn tree_across_traces_is_the_same_from_tempo_and_from_jaeger() {
    let mut trees = Vec::new();
    for api in [Api::Tempo, Api::Jaeger] {
        let (id, stored) = stored().await;
        let backend = ScriptedBackend::start(api, stored).await;
        let output = trace(&backend, &[&id]).await;
        assert_eq!(text(&output.stderr), "", "{api:?}");
        assert_eq!(output.status.code(), Some(0));
        trees.push(text(&output.stdout));
    }
    assert_eq!(trees[0], trees[1]);
    expect![[r#"
        kubectl apply (kubectl)  trace
        ├─ update Deployment annotate-then-set-image/web -> converged  [context  (metadata)  trace
        └─ update Deployment annotate-then-set-image/web -> converged  (longest: Pod start)  [context  {spec.template.spec.containers[web].image by kubectl-set}  trace
           ├─ create ReplicaSet -> converged
           │  └─ create Pod -> converged
           ├─ update ReplicaSet -> converged  {spec.replicas by kube-controller-manager}
           │  └─ delete Pod -> deleted
           ├─ update ReplicaSet -> converged  {spec.replicas by kube-controller-manager}
           │  └─ create Pod -> converged
           └─ update ReplicaSet -> converged  {spec.replicas by kube-controller-manager}
              └─ delete Pod -> deleted

        spans in traces, from the first start to the last end; changes: converged, deleted
        slowest: Pod start
    "#]].assert_eq(&stable(&trees[0]));
}

#[tokio::test]
async fn newest_change_of_an_object_is_found_by_every_name_of_its_kind() {
    for api in [Api::Tempo, Api::Jaeger] {
        let (id, stored) = stored().await;
        let backend = ScriptedBackend::start(api, stored).await;
        for kind in ["deploy", "deployments.apps", "Deployment"] {
            let object = format!("{kind}/web");
            let output = trace(&backend, &[&object, "-n", "annotate-then-set-image"]).await;
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let tree = text(&output.stdout);
            assert!(tree.starts_with("kubectl apply (kubectl)"), "{tree}");
            assert!(tree.contains(&format!("trace {id}")), "{tree}");
            // The create, and the change of annotations alone.
            let (_, earlier) = tree.split_once("earlier changes:\n").unwrap();
            let earlier: Vec<&str> = earlier.lines().collect();
            assert!(earlier[0].contains("update g2"), "{tree}");
            assert!(earlier[1].contains("create g1"), "{tree}");
        }
        let output = trace(&backend, &["deploy/web", "-n", "elsewhere"]).await;
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(error.contains("no change of Deployment/web in namespace elsewhere"), "{error}");
    }
}

#[tokio::test]
async fn part_of_a_trace_is_printed_with_a_warning() {
    let (id, mut stored) = stored().await;
    let reason = "trace exceeds max size (max bytes: 5000000)";
    stored.partial.insert(id.clone(), reason.to_owned());
    stored.partial_search = Some("2 of 9 blocks were not searched".to_owned());
    let backend = ScriptedBackend::start(Api::Tempo, stored).await;
    let output = trace(&backend, &[&id]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        text(&output.stderr),
        format!(
            "warning: incomplete: the backend returned only a part of trace {id}: {reason}\n\
             warning: incomplete: a search was answered in part: Tempo searched only a part: 2 of 9 \
             blocks were not searched\n"
        )
    );
    let output = trace(&backend, &[&id, "--json"]).await;
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["complete"], false);
    assert_eq!(document["incomplete"][0]["reason"], "partial_trace");
    assert_eq!(text(&output.stderr), "");
}

#[tokio::test]
async fn trace_that_is_not_there_ends_with_code_1_and_what_to_do() {
    for api in [Api::Tempo, Api::Jaeger] {
        let backend = ScriptedBackend::start(api, stored().await.1).await;
        let output = trace(&backend, &[APPLIED]).await;
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            text(&output.stderr),
            format!(
                "spanlink: {api:?} at {} has no trace {APPLIED}: it was not sampled, is not stored \
                 yet, is older than the backend keeps, or belongs to another tenant (--tenant)\n",
                backend.url()
            )
        );
    }
}

#[tokio::test]
async fn annotated_trace_that_was_not_sampled_is_named_and_its_changes_are_printed() {
    let spans = rollout().await;
    let (id, _client) = annotated(&spans);
    let backend = ScriptedBackend::start(Api::Tempo, Stored { spans, ..Stored::default() }).await;
    let output = trace(&backend, &[&id]).await;
    assert_eq!(output.status.code(), Some(0));
    let tree = text(&output.stdout);
    let first = format!("(annotated trace, not in the backend)  trace {id}");
    assert_eq!(tree.lines().next(), Some(&*first), "{tree}");
    assert!(tree.contains("create Pod"), "{tree}");
    assert!(text(&output.stderr).contains("is not in the backend: it was not sampled"));
}

#[tokio::test]
async fn tenant_is_sent_in_the_header_of_each_backend_and_a_wrong_one_is_named() {
    for api in [Api::Tempo, Api::Jaeger] {
        let (id, mut stored) = stored().await;
        stored.tenant = Some("shop".to_owned());
        let backend = ScriptedBackend::start(api, stored).await;
        let kind = format!("{api:?}").to_lowercase();
        let right = trace(&backend, &[&id, "--backend", &kind, "--tenant", "shop"]).await;
        assert_eq!(right.status.code(), Some(0), "{right:?}");
        let wrong = trace(&backend, &[&id, "--backend", &kind, "--tenant", "pay"]).await;
        assert_eq!(wrong.status.code(), Some(1));
        assert!(text(&wrong.stderr).contains(", tenant pay has no trace"), "{wrong:?}");
        let none = trace(&backend, &[&id, "--backend", &kind]).await;
        assert_eq!(none.status.code(), Some(1));
        let error = text(&none.stderr);
        assert!(
            error.contains("refused the request (401): no org id: check the tenant"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn grafana_proxy_is_used_with_a_token_and_a_login_page_is_explained() {
    let (id, mut stored) = stored().await;
    stored.token = Some("secret".to_owned());
    stored.base = "/api/datasources/proxy/uid/abc".to_owned();
    let backend = ScriptedBackend::start(Api::Tempo, stored).await;
    let url = format!("{}/api/datasources/proxy/uid/abc/", backend.url());
    let with_token = |token: &'static str| {
        let mut command = spanlink(&["trace", &id, "--url", &url, "--since", "20000d", "--json"]);
        command.env("SPANLINK_TRACE_TOKEN", token);
        run(command)
    };
    let right = with_token("secret").await;
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    let document: Value = serde_json::from_slice(&right.stdout).unwrap();
    let link = document["traces"][0]["url"].as_str().unwrap();
    assert!(link.starts_with(&format!("{}/explore?", backend.url())), "{link}");
    let wrong = with_token("").await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("redirected to /login: this is usually a login page"));
}

#[tokio::test]
async fn server_that_is_neither_backend_is_named_with_what_to_write() {
    let stored = Stored { base: "/elsewhere".to_owned(), ..Stored::default() };
    let backend = ScriptedBackend::start(Api::Tempo, stored).await;
    let output = trace(&backend, &[APPLIED]).await;
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("neither the API of Jaeger (/api/v3/services) nor"), "{error}");
    let url = backend.url();
    drop(backend);
    let output = run(spanlink(&["trace", APPLIED, "--url", &url])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot reach http://127.0.0.1:"), "{output:?}");
}

#[tokio::test]
async fn wrong_argument_ends_with_code_2_before_anything_is_sent() {
    for arguments in [
        &["trace", "web"][..],
        &["trace", "deploy/web", "--url", "localhost"],
        &["trace", "deploy/web", "--since", "soon"],
        &["trace", "deploy/web", "--header", "no colon"],
        &["trace", "deploy/web", "--traces-max", "0"],
    ] {
        let output = run(spanlink(arguments)).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[tokio::test]
async fn traces_beyond_the_limit_are_counted_as_missing() {
    let (id, stored) = stored().await;
    let backend = ScriptedBackend::start(Api::Tempo, stored).await;
    let output = trace(&backend, &[&id, "--traces-max", "1"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let warnings = text(&output.stderr);
    assert!(warnings.contains("the limit of 1 was reached"), "{warnings}");
    assert!(backend.searches().iter().any(|search| search.contains("link:traceID")));
}
