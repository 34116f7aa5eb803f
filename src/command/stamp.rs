//! `spanlink stamp`: writes a trace context into manifests.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use nix::unistd::dup2_stdout;
use tokio::runtime::Builder;

use super::{
    caller::{self, CallerContext},
    live::{ApplyMode, LiveObjects, Verdict, Verdicts, is_answer},
    own_span::{Ended, OwnSpan},
    warning::warn,
};
use crate::{
    config::{ConfigError, settings::Settings},
    daemon,
    error_chain::ErrorChain,
    logging,
    stamp::{
        Annotations, Existing, Manifest, ManifestObject, ObjectIdentity, ObjectStamp, StampedKind,
    },
    trace::model::span::SpanStatus,
};

/// Log level without `--log`: the messages of the command are its own.
const DEFAULT_LOG: &str = "off";

/// The arguments of `spanlink stamp`.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct StampArguments {
    /// Manifests in YAML or JSON. Default: standard input.
    pub file: Option<PathBuf>,
    /// Trace context to write. Default: the environment variables TRACEPARENT and TRACESTATE.
    #[arg(long, value_name = "TRACEPARENT", conflicts_with = "span")]
    pub traceparent: Option<String>,
    /// State of the trace of --traceparent.
    #[arg(long, requires = "traceparent", value_name = "TRACESTATE")]
    pub tracestate: Option<String>,
    /// Begin a span with this name, write its context, and export it by OTLP. It is a child of
    /// TRACEPARENT, if that is set.
    #[arg(long, value_name = "NAME")]
    pub span: Option<String>,
    /// Also write the environment variable BAGGAGE.
    #[arg(long)]
    pub baggage: bool,
    /// Kinds to stamp, as Service, Deployment.apps or *.example.com. The word default stands for
    /// workloads and custom resources.
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_value = "default")]
    pub kinds: Vec<StampedKind>,
    /// Stamp only what an apply would change: the API server is asked by a dry run. Unchanged objects
    /// keep the trace context that they have in the cluster.
    #[arg(long)]
    pub only_changed: bool,
    /// The manifests are applied with server-side apply.
    #[arg(long, requires = "only_changed")]
    pub server_side: bool,
    /// Field manager of the server-side apply: kubectl, or helm for Helm 4.
    #[arg(long, requires = "server_side", default_value = "kubectl", value_name = "NAME")]
    pub field_manager: String,
    /// Context of the kubeconfig, with --only-changed.
    #[arg(long, requires = "only_changed", value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of objects without one, with --only-changed. Default: that of the context.
    #[arg(long, short, requires = "only_changed", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Also stamp the templates of Pods. A changed template restarts the Pods; with --only-changed,
    /// only templates are stamped that change anyway.
    #[arg(long)]
    pub pod_template: bool,
    /// Replace the trace context of manifests that have one. Default: keep it.
    #[arg(long)]
    pub replace: bool,
}

/// Where the written context is from.
enum Source {
    Caller(CallerContext),
    Own(OwnSpan),
}

/// Writes the manifests with a trace context to standard output. Where that fails, it writes them as
/// they are. Without a trace context it writes them as they are, too, and succeeds.
///
/// `settings` decide where a span is exported; if they are invalid, the span is not exported.
///
/// # Errors
/// When the manifests cannot be stamped without damage, or cannot be read or written.
pub fn stamp(
    settings: Result<Settings, ConfigError>,
    arguments: &StampArguments,
    kubeconfig: Option<&Path>,
    log: Option<&str>,
) -> anyhow::Result<()> {
    let source = source(arguments)?;
    let input = read(arguments.file.as_deref())?;
    let stamped = match &source {
        None => Ok(None),
        Some(source) => stamp_text(&input, source, arguments, kubeconfig).map(Some),
    };
    let output = match &stamped {
        Ok(Some(stamped)) => stamped.as_bytes(),
        Ok(None) | Err(_) => &input,
    };
    let mut out = io::stdout().lock();
    out.write_all(output).and_then(|()| out.flush()).context("cannot write standard output")?;
    drop(out);
    if let Some(Source::Own(span)) = source {
        close_standard_output();
        export(span, settings, stamped.as_ref().err(), log);
    }
    stamped.map(drop)
}

fn source(arguments: &StampArguments) -> anyhow::Result<Option<Source>> {
    if let Some(traceparent) = &arguments.traceparent {
        let caller = CallerContext::parse(traceparent, arguments.tracestate.as_deref())
            .with_context(|| format!("--traceparent {traceparent:?} is invalid"))?;
        return Ok(Some(Source::Caller(caller)));
    }
    let caller = CallerContext::from_environment().unwrap_or_else(|invalid| {
        warn(format_args!("the variable TRACEPARENT is ignored: {invalid}"));
        None
    });
    if let Some(name) = &arguments.span {
        return Ok(Some(Source::Own(OwnSpan::begin(name, caller.as_ref()))));
    }
    if caller.is_none() {
        warn(
            "there is no trace context, so the manifests stay as they are; set TRACEPARENT, run \
             spanlink exec, or use --span",
        );
    }
    Ok(caller.map(Source::Caller))
}

fn read(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let mut input = Vec::new();
    match file {
        Some(file) => {
            input = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        }
        None => {
            io::stdin().lock().read_to_end(&mut input).context("cannot read standard input")?;
        }
    }
    Ok(input)
}

fn stamp_text(
    input: &[u8],
    source: &Source,
    arguments: &StampArguments,
    kubeconfig: Option<&Path>,
) -> anyhow::Result<String> {
    let text = std::str::from_utf8(input).context("the manifests are not UTF-8")?;
    let manifest = Manifest::parse(text)?;
    let annotations = source.annotations(arguments.baggage.then(caller::baggage).flatten());
    let existing = if arguments.replace { Existing::Replace } else { Existing::Keep };
    let annotations_of = |verdict: Verdict| match verdict {
        Verdict::Changed => Some(annotations.clone()),
        Verdict::Unchanged(live) => live,
    };
    let verdicts = verdicts(&manifest, arguments, kubeconfig)?;
    let stamps: Vec<Option<ObjectStamp>> = verdicts
        .into_iter()
        .map(|verdicts| {
            let Verdicts { metadata, pod_template } = verdicts?;
            // A context in the template that is left out would restart the Pods.
            let is_template_stamped =
                arguments.pod_template || matches!(pod_template, Verdict::Unchanged(_));
            Some(ObjectStamp {
                metadata: annotations_of(metadata),
                pod_template: annotations_of(pod_template).filter(|_| is_template_stamped),
                existing,
            })
        })
        .collect();
    Ok(manifest.stamp(&stamps)?)
}

/// For each object whether it is changed; `None`: its kind is not stamped.
fn verdicts(
    manifest: &Manifest<'_>,
    arguments: &StampArguments,
    kubeconfig: Option<&Path>,
) -> anyhow::Result<Vec<Option<Verdicts>>> {
    let is_chosen = |object: &ManifestObject| {
        arguments.kinds.iter().any(|kind| kind.includes(&object.identity))
    };
    let objects = manifest.objects();
    let all_changed = || {
        let verdicts = objects.iter().map(|object| is_chosen(object).then_some(Verdicts::CHANGED));
        verdicts.collect()
    };
    if !arguments.only_changed {
        let has_template = |object: &ManifestObject| object.has_pod_template && is_chosen(object);
        if arguments.pod_template && objects.iter().any(has_template) {
            warn(
                "--pod-template without --only-changed changes every template, so that all Pods are \
                 restarted",
            );
        }
        return Ok(all_changed());
    }
    let mode = if arguments.server_side {
        ApplyMode::ServerSide { field_manager: arguments.field_manager.clone() }
    } else {
        ApplyMode::ClientSide
    };
    let (context, namespace) = (arguments.context.as_deref(), arguments.namespace.as_deref());
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let live = LiveObjects::new(kubeconfig, context, namespace, mode).await;
        let mut live = match live {
            Ok(live) => Some(live),
            Err(error) => {
                warn_unanswered(&error, None);
                return Ok(all_changed());
            }
        };
        let mut verdicts = Vec::with_capacity(objects.len());
        for (object, value) in objects.iter().zip(manifest.values()) {
            if !is_chosen(object) {
                verdicts.push(None);
                continue;
            }
            let answer = match &mut live {
                Some(live) => live.verdicts(&object.identity, &value).await,
                None => Ok(Verdicts::CHANGED),
            };
            verdicts.push(Some(answer.unwrap_or_else(|error| {
                if is_answer(&error) {
                    warn_unanswered(&error, Some(object));
                } else {
                    warn_unanswered(&error, None);
                    live = None;
                }
                Verdicts::CHANGED
            })));
        }
        Ok(verdicts)
    })
}

/// Warns that an object, or all that remain, count as changed. A trace must not prevent an apply.
fn warn_unanswered(error: &anyhow::Error, object: Option<&ManifestObject>) {
    let error = ErrorChain(&**error);
    match object {
        Some(object) => {
            let ObjectIdentity { kind, name, .. } = &object.identity;
            let name = name.as_deref().unwrap_or_default();
            warn(format_args!("{kind} {name} counts as changed: {error}"));
        }
        None => warn(format_args!("every further object counts as changed: {error}")),
    }
}

impl Source {
    fn annotations(&self, baggage: Option<String>) -> Annotations {
        match self {
            Self::Caller(caller) => {
                Annotations::new(caller.traceparent.clone(), caller.tracestate(), baggage)
            }
            Self::Own(span) => Annotations::new(span.traceparent(), span.tracestate(), baggage),
        }
    }
}

/// The reader of a pipe waits for its end, which must not wait for the export.
fn close_standard_output() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        dup2_stdout(null).ok();
    }
}

/// Exports the span. A failure is a warning.
fn export(
    span: OwnSpan,
    settings: Result<Settings, ConfigError>,
    error: Option<&anyhow::Error>,
    log: Option<&str>,
) {
    let status = match error {
        Some(error) => SpanStatus::Error(ErrorChain(&**error).to_string().into()),
        None => SpanStatus::Unset,
    };
    let ended = Ended { at: daemon::now(), attributes: Vec::new(), status };
    let exported = (|| {
        let settings = settings?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let log = log.or(Some(DEFAULT_LOG));
        runtime.block_on(logging::during(log, span.export(ended, &settings)))
    })();
    if let Err(error) = exported {
        warn(format_args!("the span of the stamp is lost: {}", ErrorChain(&*error)));
    }
}
