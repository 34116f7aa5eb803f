//! How to reach a backend.

use std::path::PathBuf;

use clap::ValueEnum;
use reqwest::Url;

/// Which API the backend has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    /// Jaeger's API v3.
    Jaeger,
    /// The HTTP API of Grafana Tempo 2.7 or newer.
    Tempo,
}

/// How to reach a backend.
#[derive(Clone, Debug)]
pub struct BackendSettings {
    /// Its address, with the path before `/api`: also a data source behind Grafana's proxy.
    pub url: Url,
    /// `None`: found out by requests.
    pub kind: Option<BackendKind>,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// Sent as `x-tenant` to Jaeger, as `X-Scope-OrgID` to Tempo.
    pub tenant: Option<String>,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Address of a trace in a UI, with `{trace_id}`. `None`: derived from `url`.
    pub ui_url: Option<String>,
}

impl BackendKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Jaeger => "Jaeger",
            Self::Tempo => "Tempo",
        }
    }

    /// The header that names the tenant.
    pub(super) const fn tenant_header(self) -> &'static str {
        match self {
            Self::Jaeger => "x-tenant",
            Self::Tempo => "x-scope-orgid",
        }
    }
}
