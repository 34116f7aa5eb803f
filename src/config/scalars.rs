//! Values of options that are written as one text: durations, kinds, addresses.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{kind_selector::is_group, settings::KindSelector};

/// The longest duration an option may have.
const DURATION_MAX: Duration = Duration::from_hours(24 * 366);

/// A timeout of zero is no limit
/// ([common configuration](https://opentelemetry.io/docs/specs/otel/configuration/common/#timeout)).
/// Both it and a longer timeout than the maximum become the maximum, with which clocks do not
/// overflow.
pub(super) fn no_limit_if_zero(timeout: Duration) -> Duration {
    if timeout.is_zero() { DURATION_MAX } else { timeout.min(DURATION_MAX) }
}

/// A duration with its unit: `500ms`, `5m`. Zero may be written without one.
#[derive(Clone, Copy, Debug)]
pub(super) struct HumanDuration(pub(super) Duration);

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(D::Error::custom)
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a valid duration; write 500ms, 2s, 15m or 24h");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_malformed| invalid())?;
    let duration = Duration::try_from(duration).map_err(|_negative| invalid())?;
    if duration > DURATION_MAX {
        return Err(format!("{text:?} is longer than a year; write a shorter duration"));
    }
    Ok(duration)
}

/// A share of a whole: 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratio(pub(super) f64);

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ratio = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&ratio) {
            Ok(Self(ratio))
        } else {
            Err(D::Error::custom(format!("{ratio} is not a ratio; write a number from 0 to 1")))
        }
    }
}

/// The largest request, in bytes. A smaller one could not contain the resource attributes and a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestBytes(pub(super) usize);

impl RequestBytes {
    const MIN: usize = 1 << 10;
    const MAX: usize = 1 << 30;
}

impl<'de> Deserialize<'de> for RequestBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = usize::deserialize(deserializer)?;
        if (Self::MIN..=Self::MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(D::Error::custom(format!(
                "{bytes} is not a size of requests; write a number of bytes from {} to {}",
                Self::MIN,
                Self::MAX
            )))
        }
    }
}

/// A kind, or every kind of a group.
#[derive(Clone, Debug)]
pub(super) struct Kind(pub(super) KindSelector);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        KindSelector::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A kind that can have an entry in `watch`.
#[derive(Clone, Debug)]
pub(super) struct WatchedKind(pub(super) KindSelector);

impl<'de> Deserialize<'de> for WatchedKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Kind(selector) = Kind::deserialize(deserializer)?;
        let selects_events =
            selector.selects("events.k8s.io", "Event") || selector.selects("", "Event");
        if selects_events {
            return Err(D::Error::custom(format!(
                "{selector}: Kubernetes Events cannot be watched as a kind; write events: true at \
                 the kinds whose Kubernetes Events you want"
            )));
        }
        Ok(Self(selector))
    }
}

/// The group of an API: `argoproj.io`.
#[derive(Clone, Debug)]
pub(super) struct ApiGroup(pub(super) String);

impl<'de> Deserialize<'de> for ApiGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if is_group(&text) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!(
            "{text:?} is not an API group; write what follows the kind in Kind.group, as in argoproj.io"
        )))
    }
}

/// The address of the admin server, or `none`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen(pub(super) Option<SocketAddr>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_malformed| {
            D::Error::custom(format!(
                "{text:?} is not a valid address; write 0.0.0.0:9464, or none"
            ))
        })
    }
}
