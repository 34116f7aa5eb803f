//! The client of either backend.

use super::{
    answer::{Found, ReadTrace, Window},
    error::BackendError,
    http::{HttpClient, shown},
    jaeger::Jaeger,
    settings::{BackendKind, BackendSettings},
    tempo::Tempo,
    ui,
};
use crate::{causal_tree::Search, trace::model::span::TraceId};

/// A client of one backend.
#[derive(Debug)]
pub struct Backend {
    client: Client,
    settings: BackendSettings,
}

#[derive(Debug)]
enum Client {
    Jaeger(Jaeger),
    Tempo(Tempo),
}

impl Backend {
    /// Creates a client. If the settings do not name the kind of the backend, both APIs are tried.
    ///
    /// # Errors
    /// When the settings are invalid, the backend cannot be reached or refuses the request, or neither
    /// API answers.
    pub async fn connect(settings: BackendSettings) -> Result<Self, BackendError> {
        let http = |kind| HttpClient::new(&settings, kind);
        let client = match settings.kind {
            Some(BackendKind::Jaeger) => Client::Jaeger(Jaeger::new(http(BackendKind::Jaeger)?)),
            Some(BackendKind::Tempo) => Client::Tempo(Tempo::new(http(BackendKind::Tempo)?)),
            None => {
                let jaeger = Jaeger::new(http(BackendKind::Jaeger)?);
                let tempo = Tempo::new(http(BackendKind::Tempo)?);
                if jaeger.is_there().await? {
                    Client::Jaeger(jaeger)
                } else if tempo.is_there().await? {
                    Client::Tempo(tempo)
                } else {
                    return Err(BackendError::Unknown { url: shown(&settings.url) });
                }
            }
        };
        Ok(Self { client, settings })
    }

    /// Reads one trace. A trace that the backend does not have is empty.
    ///
    /// # Errors
    /// When the backend cannot be reached, refuses the request, or answers with something else.
    pub async fn trace(&self, trace_id: TraceId) -> Result<ReadTrace, BackendError> {
        match &self.client {
            Client::Jaeger(jaeger) => jaeger.trace(trace_id).await,
            Client::Tempo(tempo) => tempo.trace(trace_id).await,
        }
    }

    /// Whether a search for links costs no more than another one. Without it, the traces of the window
    /// are read.
    pub const fn indexes_links(&self) -> bool {
        matches!(self.client, Client::Tempo(_))
    }

    /// Finds traces in a window of time.
    ///
    /// # Errors
    /// As [`trace`](Self::trace).
    pub async fn search(&self, search: &Search, window: Window) -> Result<Found, BackendError> {
        match &self.client {
            Client::Jaeger(jaeger) => jaeger.search(search, window).await,
            Client::Tempo(tempo) => tempo.search(search, window).await,
        }
    }

    /// The address of a trace in the backend's UI, if there is one.
    pub fn ui_url(&self, trace_id: TraceId) -> Option<String> {
        match &self.settings.ui_url {
            Some(template) => Some(template.replace("{trace_id}", &trace_id.to_string())),
            None => ui::url(&self.settings.url, self.kind(), trace_id),
        }
    }

    const fn kind(&self) -> BackendKind {
        match self.client {
            Client::Jaeger(_) => BackendKind::Jaeger,
            Client::Tempo(_) => BackendKind::Tempo,
        }
    }

    /// `Tempo at http://tempo:3200, tenant shop`, for messages.
    pub fn description(&self) -> String {
        let kind = self.kind().name();
        let tenant = self.settings.tenant.as_ref();
        let tenant = tenant.map_or_else(String::new, |tenant| format!(", tenant {tenant}"));
        format!("{kind} at {}{tenant}", shown(&self.settings.url))
    }
}
