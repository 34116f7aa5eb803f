//! `spanlink trace`: the causal tree of a trace or of an object's newest change, from a backend.

mod collect;
mod kinds;
mod options;
mod target;

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use kube::config::Kubeconfig;

use self::{
    collect::{Collected, Collector},
    target::FoundObject,
};
use super::{clock::now, runtime::block_on};
use crate::{
    backend::{Backend, BackendSettings, Window},
    causal_tree::{CausalTree, Incomplete, Printed, assemble, to_json, to_text},
    export::tree::Style,
    logging,
    trace::model::span::TraceId,
};

pub use self::{
    options::TraceOptions,
    target::{ObjectTarget, TraceTarget},
};

/// The environment variable with the bearer token: an argument would be visible to other users.
const TOKEN: &str = "SPANLINK_TRACE_TOKEN";

/// Log level without `--log`: the output is the tree.
const DEFAULT_LOG: &str = "warn";

/// Earlier changes of an object that are listed below the tree of its newest one.
const EARLIER_SHOWN: usize = 5;

/// `spanlink trace`: reads the traces that belong to the target and prints their causal tree.
///
/// # Errors
/// When the backend has no such trace or change, or cannot be asked.
pub fn trace(
    options: &TraceOptions,
    kubeconfig: Option<&Path>,
    log: Option<&str>,
) -> anyhow::Result<()> {
    let settings = settings(options)?;
    let namespace = || match &options.namespace {
        Some(namespace) => Ok(namespace.clone()),
        None => namespace_of_context(kubeconfig),
    };
    block_on(logging::during(log.or(Some(DEFAULT_LOG)), async {
        let backend = Backend::connect(settings).await?;
        match &options.target {
            TraceTarget::Trace(trace_id) => trace_by_id(options, &backend, *trace_id).await,
            TraceTarget::Object(object) => {
                newest_change(options, &backend, object, &namespace()?).await
            }
        }
    }))
}

fn settings(options: &TraceOptions) -> anyhow::Result<BackendSettings> {
    let token = match env::var(TOKEN) {
        Ok(token) => Some(token).filter(|token| !token.is_empty()),
        Err(env::VarError::NotPresent) => None,
        Err(env::VarError::NotUnicode(_)) => {
            bail!("environment variable {TOKEN} is not valid UTF-8")
        }
    };
    Ok(BackendSettings {
        url: options.url.clone(),
        kind: options.backend,
        headers: options.headers.clone(),
        tenant: options.tenant.clone(),
        token,
        ca_file: options.ca_file.clone(),
        ui_url: options.ui_url.clone(),
    })
}

/// The namespace that kubectl would take.
fn namespace_of_context(kubeconfig: Option<&Path>) -> anyhow::Result<String> {
    let file = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path)
            .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?,
        // Traces can be read without access to a cluster.
        None => Kubeconfig::read().unwrap_or_default(),
    };
    let current = file.current_context.unwrap_or_default();
    let context = file.contexts.into_iter().find(|context| context.name == current);
    let namespace = context.and_then(|context| context.context?.namespace);
    Ok(namespace.unwrap_or_else(|| "default".to_owned()))
}

async fn trace_by_id(
    options: &TraceOptions,
    backend: &Backend,
    trace_id: TraceId,
) -> anyhow::Result<()> {
    let collector = Collector::new(backend, options.since, options.traces_max, now());
    let collected = collector.collect(trace_id).await?;
    let (tree, incomplete) = tree(collected, trace_id);
    if tree.is_empty() {
        bail!(
            "{} has no trace {trace_id}: it was not sampled, is not stored yet, is older than the \
             backend keeps, or belongs to another tenant (--tenant)",
            backend.description()
        );
    }
    print(options, backend, &tree, &incomplete, &[])
}

async fn newest_change(
    options: &TraceOptions,
    backend: &Backend,
    object: &ObjectTarget,
    namespace: &str,
) -> anyhow::Result<()> {
    let now = now();
    let window = Window { from: now.minus(options.since), to: now };
    let mut collector = Collector::new(backend, options.since, options.traces_max, now);
    let search = object.search(namespace, options.cluster.as_deref());
    let changes = collector
        .find_changes(&search, window, |stored| {
            object.is_change_of(stored, namespace, options.cluster.as_deref())
        })
        .await?;
    let Some(newest) = changes.first() else {
        bail!(
            "{} has no change of {object} in namespace {namespace} within the last {}: look further \
             back (--since 24h), or in another namespace (-n) or tenant (--tenant)",
            backend.description(),
            options.since_text()
        );
    };
    let trace_id = newest.trace_id;
    let collected = collector.collect(trace_id).await?;
    let (tree, incomplete) = tree(collected, trace_id);
    print(options, backend, &tree, &incomplete, changes.get(1..).unwrap_or_default())
}

/// The tree, and what it may lack.
fn tree(collected: Collected, trace_id: TraceId) -> (CausalTree, BTreeSet<Incomplete>) {
    let Collected { spans, incomplete } = collected;
    (assemble(spans, [trace_id]), incomplete)
}

fn print(
    options: &TraceOptions,
    backend: &Backend,
    tree: &CausalTree,
    incomplete: &BTreeSet<Incomplete>,
    earlier: &[FoundObject],
) -> anyhow::Result<()> {
    let ui_link = |trace_id| backend.ui_url(trace_id);
    let mut out = io::stdout().lock();
    if options.json {
        let incomplete: Vec<Incomplete> = incomplete.iter().cloned().collect();
        let document = to_json(tree, &incomplete, &ui_link);
        return Ok(writeln!(out, "{document:#}")?);
    }
    let style = Style::for_output(&out);
    let printed = Printed {
        style,
        everything: options.all,
        why: options.why,
        // Terminals that show colours ignore links that they do not support.
        ui_link: if style.colour { Some(&ui_link) } else { None },
    };
    write!(out, "{}", to_text(tree, &printed))?;
    if !earlier.is_empty() {
        writeln!(out, "earlier changes:")?;
        for change in earlier.iter().take(EARLIER_SHOWN) {
            writeln!(out, "  {change}")?;
        }
        if let Some(more) = earlier.len().checked_sub(EARLIER_SHOWN).filter(|more| *more > 0) {
            writeln!(out, "  and {more} more")?;
        }
    }
    out.flush()?;
    for each in incomplete {
        // Standard error may be closed: then the warning is lost.
        writeln!(io::stderr(), "warning: incomplete: {each}").ok();
    }
    Ok(())
}
