//! The arguments of `spanlink trace`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use reqwest::Url;

use super::target::TraceTarget;
use crate::backend::BackendKind;

/// Arguments of `spanlink trace`. The token is read from the environment variable
/// `SPANLINK_TRACE_TOKEN`.
#[derive(Args, Clone, Debug)]
pub struct TraceOptions {
    /// Trace id or traceparent, or an object as kubectl takes it: deploy/web. Of an object, the tree of
    /// its newest change.
    #[arg(value_name = "ID|KIND/NAME")]
    pub target: TraceTarget,
    /// Namespace of the object. Default: that of the kubeconfig's context.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Address of Jaeger or Tempo. A data source of Grafana:
    /// <https://GRAFANA/api/datasources/proxy/uid/UID>.
    #[arg(long, env = "SPANLINK_TRACE_URL", default_value = "http://localhost:16686", value_parser = url)]
    pub url: Url,
    /// API of the backend. Default: found out by requests.
    #[arg(long, env = "SPANLINK_TRACE_BACKEND", value_enum)]
    pub backend: Option<BackendKind>,
    /// Tenant: the header x-tenant for Jaeger, X-Scope-OrgID for Tempo.
    #[arg(long, env = "SPANLINK_TRACE_TENANT")]
    pub tenant: Option<String>,
    /// Header of every request, such as 'X-Api-Key: abc'. May be repeated. For a bearer token, set
    /// `SPANLINK_TRACE_TOKEN` instead.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// PEM file of the authorities to trust instead of the system's.
    #[arg(long, env = "SPANLINK_TRACE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Time to search: for an object before now, for an id around its trace.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub since: Duration,
    /// Only changes in this cluster (k8s.cluster.name), if the backend stores several.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Traces to read at most.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub traces_max: u16,
    /// Print phases, and spans of others that led to no change, too.
    #[arg(long)]
    pub all: bool,
    /// Print the rule that gave each change its cause, and whether another cause fitted as well.
    #[arg(long)]
    pub why: bool,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
    /// Address of a trace in a UI, with `{trace_id}` in it, for links. Default: Jaeger's, or Grafana's
    /// behind its proxy.
    #[arg(long, env = "SPANLINK_TRACE_UI_URL", value_name = "URL")]
    pub ui_url: Option<String>,
}

impl TraceOptions {
    /// `1h`
    pub(super) fn since_text(&self) -> String {
        let seconds = self.since.as_secs();
        match seconds {
            0..60 => format!("{seconds}s"),
            60..3600 => format!("{}m", seconds / 60),
            _ => format!("{}h", seconds / 3600),
        }
    }
}

fn url(text: &str) -> Result<Url, String> {
    let example = "write it as http://jaeger:16686";
    let url: Url = text.parse().map_err(|error| format!("{error}; {example}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(example.to_owned());
    }
    Ok(url)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// `90s`, `15m`, `24h`, `7d`
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || "write 90s, 15m, 24h or 7d".to_owned();
    let span: jiff::Span = text.parse().map_err(|_malformed| invalid())?;
    let duration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_without_fixed_length| invalid())?;
    let duration = Duration::try_from(duration).map_err(|_negative| invalid())?;
    if duration.is_zero() { Err(invalid()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_positive_and_has_a_fixed_length() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(7 * 24)));
        for invalid in ["", "0s", "-1h", "1mo", "soon"] {
            duration(invalid).unwrap_err();
        }
    }

    #[test]
    fn url_and_header_are_checked_before_anything_is_sent() {
        assert_eq!(url("https://grafana/x").unwrap().path(), "/x");
        url("localhost:16686").unwrap_err();
        url("file:///etc").unwrap_err();
        let pair = ("X-Key".to_owned(), "a:b".to_owned());
        assert_eq!(header("X-Key: a:b"), Ok(pair));
        header("X-Key").unwrap_err();
    }
}
