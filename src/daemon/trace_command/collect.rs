//! Reads every trace that belongs to a causal tree, within bounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};

use super::target::FoundObject;
use crate::{
    backend::{Backend, BackendError, ReadTrace, Window},
    causal_tree::{Incomplete, Search, StoredSpan, causing_traces, searches_for_caused},
    error_chain::ErrorChain,
    trace::model::{span::TraceId, time::Timestamp},
};

/// Links that are followed away from the first trace, in a row.
const HOPS_MAX: usize = 8;
const CONCURRENT_READS_MAX: usize = 8;
/// What a trace caused may have begun before it, where clocks differ.
const BEFORE_TRACE: Duration = Duration::from_mins(5);

/// Reads traces from a backend, each once.
pub(super) struct Collector<'a> {
    backend: &'a Backend,
    /// How long after a trace what it caused is searched.
    since: Duration,
    traces_max: usize,
    now: Timestamp,
    read: BTreeMap<TraceId, ReadTrace>,
    incomplete: BTreeSet<Incomplete>,
}

/// The spans of a causal tree, and what it may lack.
pub(super) struct Collected {
    pub(super) spans: Vec<StoredSpan>,
    pub(super) incomplete: BTreeSet<Incomplete>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        backend: &'a Backend,
        since: Duration,
        traces_max: u16,
        now: Timestamp,
    ) -> Self {
        Self {
            backend,
            since,
            traces_max: traces_max.into(),
            now,
            read: BTreeMap::new(),
            incomplete: BTreeSet::new(),
        }
    }

    /// Finds changes for which `is_wanted` holds, the newest first.
    pub(super) async fn find_changes(
        &mut self,
        search: &Search,
        window: Window,
        is_wanted: impl Fn(&StoredSpan) -> bool,
    ) -> Result<Vec<FoundObject>, BackendError> {
        let found = self.backend.search(search, window).await?;
        let limited = found.limited.into_iter();
        self.incomplete.extend(limited.map(|message| Incomplete::SearchLimited { message }));
        for (trace_id, read) in self.read_all(found.traces).await {
            self.read.insert(trace_id, read?);
        }
        let spans = self.read.values().flat_map(|read| &read.spans);
        let changes: BTreeSet<FoundObject> =
            spans.filter(|stored| is_wanted(stored)).map(FoundObject::new).collect();
        Ok(changes.into_iter().rev().collect())
    }

    /// Reads the first trace and all that are linked to it by causes.
    pub(super) async fn collect(mut self, first: TraceId) -> Result<Collected, BackendError> {
        let candidates = std::mem::take(&mut self.read);
        let mut frontier = BTreeSet::from([first]);
        for hop in 0.. {
            if frontier.is_empty() {
                break;
            }
            if hop > HOPS_MAX {
                self.incomplete.insert(Incomplete::TooManyHops { max: HOPS_MAX });
                break;
            }
            let room = self.traces_max.saturating_sub(self.read.len());
            if frontier.len() > room {
                self.incomplete.insert(Incomplete::TooManyTraces { max: self.traces_max });
                frontier = frontier.into_iter().take(room).collect();
            }
            let (known, unknown): (BTreeSet<TraceId>, BTreeSet<TraceId>) =
                frontier.iter().partition(|trace_id| candidates.contains_key(trace_id));
            let mut answers = self.read_all(unknown).await;
            answers.extend(
                known.into_iter().filter_map(|trace_id| {
                    Some((trace_id, Ok(candidates.get(&trace_id)?.clone())))
                }),
            );
            for (trace_id, answer) in answers {
                match answer {
                    Ok(read) => self.keep(trace_id, read),
                    Err(error) if hop == 0 => return Err(error),
                    Err(error) => {
                        let error = ErrorChain(&error).to_string();
                        self.incomplete.insert(Incomplete::TraceNotRead { trace_id, error });
                        self.read.insert(trace_id, ReadTrace::default());
                    }
                }
            }
            let mut next = self.find_caused(&frontier).await;
            for read in frontier.iter().filter_map(|trace_id| self.read.get(trace_id)) {
                next.extend(causing_traces(&read.spans));
            }
            next.retain(|trace_id| !self.read.contains_key(trace_id));
            frontier = next;
        }
        let spans = self.read.into_values().flat_map(|read| read.spans).collect();
        Ok(Collected { spans, incomplete: self.incomplete })
    }

    fn keep(&mut self, trace_id: TraceId, read: ReadTrace) {
        if let Some(message) = &read.partial {
            let message = message.clone();
            self.incomplete.insert(Incomplete::PartialTrace { trace_id, message });
        }
        if read.spans.is_empty() {
            self.incomplete.insert(Incomplete::TraceNotFound { trace_id });
        }
        self.read.insert(trace_id, read);
    }

    /// The traces that these traces caused.
    async fn find_caused(&mut self, traces: &BTreeSet<TraceId>) -> BTreeSet<TraceId> {
        let mut by_attributes = Vec::new();
        let mut by_links = Vec::new();
        for trace_id in traces {
            let Some(read) = self.read.get(trace_id) else { continue };
            let window = self.window(&read.spans);
            for search in searches_for_caused(*trace_id, &read.spans) {
                match search {
                    Search::Attributes(_) => by_attributes.push((*trace_id, search, window)),
                    Search::LinksTo(_) => by_links.push((*trace_id, search, window)),
                }
            }
        }
        let mut found = self.search_all(by_attributes).await;
        if !self.backend.indexes_links() {
            // Read only where attributes lead nowhere, and only from about the time of the trace: an
            // API server or a controller that continues a trace does so at once.
            by_links.retain(|(trace_id, ..)| !found.contains_key(trace_id));
            for (trace_id, _, window) in &mut by_links {
                let spans = self.read.get(trace_id).map_or(&[][..], |read| &read.spans);
                let end = spans.iter().map(|stored| stored.span.end).max();
                window.to = end.map_or(window.to, |end| window.to.min(end.plus(BEFORE_TRACE)));
            }
        }
        for (trace_id, linked) in self.search_all(by_links).await {
            found.entry(trace_id).or_default().extend(linked);
        }
        found.into_values().flatten().collect()
    }

    /// Runs searches for what traces caused, and returns what was found for each of the traces.
    async fn search_all(
        &mut self,
        searches: Vec<(TraceId, Search, Window)>,
    ) -> BTreeMap<TraceId, BTreeSet<TraceId>> {
        let backend = self.backend;
        let mut answers = stream::iter(searches)
            .map(|(trace_id, search, window)| async move {
                (trace_id, backend.search(&search, window).await)
            })
            .buffer_unordered(CONCURRENT_READS_MAX);
        let mut all: BTreeMap<TraceId, BTreeSet<TraceId>> = BTreeMap::new();
        while let Some((trace_id, answer)) = answers.next().await {
            match answer {
                Ok(found) => {
                    let caused = found.traces.into_iter().filter(|caused| *caused != trace_id);
                    for caused in caused {
                        all.entry(trace_id).or_default().insert(caused);
                    }
                    let limited = found.limited.into_iter();
                    self.incomplete
                        .extend(limited.map(|message| Incomplete::SearchLimited { message }));
                }
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    self.incomplete.insert(Incomplete::SearchFailed { error });
                }
            }
        }
        all
    }

    /// When what a trace caused may have happened.
    fn window(&self, spans: &[StoredSpan]) -> Window {
        let start = spans.iter().map(|stored| stored.span.start).min();
        let end = spans.iter().map(|stored| stored.span.end).max();
        Window {
            from: start
                .map_or_else(|| self.now.minus(self.since), |start| start.minus(BEFORE_TRACE)),
            // The clock here may be behind that of the cluster.
            to: end.unwrap_or(self.now).plus(self.since).min(self.now.plus(BEFORE_TRACE)),
        }
    }

    async fn read_all(
        &self,
        traces: BTreeSet<TraceId>,
    ) -> Vec<(TraceId, Result<ReadTrace, BackendError>)> {
        let backend = self.backend;
        stream::iter(traces)
            .map(|trace_id| async move { (trace_id, backend.trace(trace_id).await) })
            .buffer_unordered(CONCURRENT_READS_MAX)
            .collect()
            .await
    }
}
