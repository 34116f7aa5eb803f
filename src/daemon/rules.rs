//! Maps the settings to the rules of the trace.

use crate::{
    config::settings::{
        ContextSampling, ConvergesSettings, KindSelector, Layout as LayoutSetting, MetadataChanges,
        OwnerMarkSettings, OwnerSettings, Settings, SpanNames as SpanNamesSetting, Stale, Startup,
    },
    trace::{
        model::{id::Layout, object::GroupKind, path::segments},
        rules::status_field::StatusFieldRule,
        rules::{
            Ignore, KindRules, Limits as ConvergenceLimits, OptionalLinks, OwnerField, Rules,
            SpanNames, sampling::Sampling,
        },
    },
};

/// The rules of the trace that follow from the settings.
pub fn rules(settings: &Settings) -> Rules {
    let boxed = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    let mut rules = Rules {
        limits: ConvergenceLimits {
            settle: settings.trace.settle,
            deadline: settings.trace.deadline,
            stuck_after: settings.trace.stuck_after,
            evidence: settings.trace.evidence,
        },
        owner_wait: settings.trace.owner_wait,
        layout: match settings.trace.layout {
            LayoutSetting::Cascade => Layout::Cascade,
            LayoutSetting::Linked => Layout::Linked,
            LayoutSetting::Joined => Layout::Joined,
        },
        project: settings.trace.projection,
        span_names: match settings.trace.span_names {
            SpanNamesSetting::Kind => SpanNames::Kind,
            SpanNamesSetting::Object => SpanNames::Object,
        },
        cascade_max: settings.trace.cascade_max,
        sampling: Sampling {
            by_context: settings.trace.sampling.contexts == ContextSampling::Follow,
            ratio: settings.trace.sampling.ratio,
        },
        ignores_metadata: settings.trace.metadata_changes == MetadataChanges::Ignore,
        links: OptionalLinks {
            stale: settings.trace.stale == Stale::Mark,
            previous: settings.trace.previous,
        },
        redact: boxed(&settings.watch.redact),
        owner_fields: settings.watch.owners.iter().filter_map(owner_field).collect(),
        report_existing: settings.trace.startup == Startup::Report,
        ..Rules::default()
    };
    for entry in &settings.watch.kinds {
        let kind = KindRules {
            service: entry.service.as_deref().map(Into::into),
            settle: entry.settle,
            deadline: entry.deadline,
            owner_wait: entry.owner_wait,
            stuck_after: entry.stuck_after,
            evidence: entry.evidence,
            episodes: entry.episodes,
            ignore: Ignore {
                fields: boxed(&entry.ignore.fields),
                managers: boxed(&entry.ignore.managers),
            },
            status_field: match &entry.converges {
                Some(ConvergesSettings::Field(rule)) => Some(StatusFieldRule {
                    condition: condition_of(&rule.field),
                    current: boxed(&rule.current),
                    failed: boxed(&rule.failed),
                }),
                Some(ConvergesSettings::Cel(_)) | None => None,
            },
            redact: settings
                .watch
                .redacted_of(&entry.selector.group, entry.selector.kind.as_deref().unwrap_or("*"))
                .map(Into::into)
                .collect(),
        };
        // The decoder of objects uses the first entry for a kind as well.
        match &entry.selector.kind {
            Some(name) => {
                rules.kinds.entry(GroupKind::new(&entry.selector.group, name)).or_insert(kind);
            }
            None => {
                rules.groups.entry(entry.selector.group.as_str().into()).or_insert(kind);
            }
        }
    }
    rules
}

/// The condition that a status field belongs to: `Ready` of `status.conditions[Ready].status`.
fn condition_of(field: &str) -> Option<Box<str>> {
    match segments(field).as_slice() {
        [_, conditions, kind, _] if conditions.name() == "conditions" => Some(kind.name().into()),
        _ => None,
    }
}

fn owner_field(row: &OwnerSettings) -> Option<OwnerField> {
    let OwnerMarkSettings::Field { managers, .. } = &row.mark else { return None };
    let kind =
        |selector: &KindSelector| Some(GroupKind::new(&selector.group, selector.kind.as_deref()?));
    Some(OwnerField {
        owner: kind(row.owner.as_ref()?)?,
        child: row.child.as_ref().and_then(kind),
        managers: managers.iter().map(|manager| manager.as_str().into()).collect(),
    })
}
