//! When a receiver permits a retry: `RetryInfo` of gRPC, `Retry-After` of HTTP.

use std::time::{Duration, UNIX_EPOCH};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue, header};
use prost::Message as _;
use tonic_types::pb;

use crate::trace::model::time::Timestamp;

/// The earliest time of a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    Delay(Duration),
    /// A point in time by the receiver's clock, which is unknown: ours is compared with it.
    At(Timestamp),
}

impl RetryAfter {
    /// The delay from `now`; zero if the time has passed.
    pub fn delay(self, now: Timestamp) -> Duration {
        match self {
            Self::Delay(delay) => delay,
            Self::At(at) => at.since(now),
        }
    }

    /// Reads `Retry-After`: seconds, or a date in any of HTTP's three formats. A date is compared with
    /// the `Date` of the same response where there is one, because the clock of the receiver may differ
    /// from ours. `None` if there is no such header, or its value has another form.
    /// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let value = text(header::RETRY_AFTER)?.trim();
        if let Some(delay) = parse_seconds(value) {
            return Some(Self::Delay(delay));
        }
        let at = parse_date(value)?;
        Some(match text(header::DATE).and_then(parse_date) {
            Some(date) => Self::Delay(at.since(date)),
            None => Self::At(at),
        })
    }

    /// Reads the `RetryInfo` among the details of a gRPC status; a delay of zero if it has none. `None`
    /// if there is no such detail, or the value of `grpc-status-details-bin` is malformed: a status with
    /// malformed details is a status without details.
    pub(super) fn from_status_details(details: &[u8]) -> Option<Self> {
        // gRPC's binary headers are base64, with or without padding.
        // https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
        const BINARY_HEADER: GeneralPurpose = GeneralPurpose::new(
            &alphabet::STANDARD,
            GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent)
                .with_decode_allow_trailing_bits(true),
        );
        let status = pb::Status::decode(&*BINARY_HEADER.decode(details).ok()?).ok()?;
        let retry_info = status.details.iter().find_map(|detail| {
            let is_retry_info = detail.type_url.rsplit('/').next() == Some("google.rpc.RetryInfo");
            is_retry_info.then(|| pb::RetryInfo::decode(&*detail.value).ok()).flatten()
        })?;
        let delay = retry_info.retry_delay.unwrap_or_default();
        // A negative delay has passed already.
        let seconds = Duration::from_secs(u64::try_from(delay.seconds).unwrap_or(0));
        let nanos = Duration::from_nanos(u64::try_from(delay.nanos).unwrap_or(0));
        Some(Self::Delay(seconds.saturating_add(nanos)))
    }
}

/// HTTP permits whole seconds. Some receivers send fractions.
fn parse_seconds(text: &str) -> Option<Duration> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && text.starts_with(|c: char| c.is_ascii_digit());
    if !is_number {
        return None;
    }
    let seconds: f64 = text.parse().ok()?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// Parses `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` and
/// `Sun Nov  6 08:49:37 1994`.
/// <https://www.rfc-editor.org/rfc/rfc9110#http.date>
fn parse_date(text: &str) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    let since_epoch = date.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD_NO_PAD;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, date.parse().unwrap());
        }
        // 1994-11-06T08:49:00Z.
        let now = Timestamp::from_nanos(784_111_740_000_000_000);
        Some(RetryAfter::from_headers(&headers)?.delay(now))
    }

    #[test]
    fn retry_after_in_seconds_is_a_delay_of_any_size() {
        let after = |value: &str| retry_after(value, None);
        assert_eq!(after("120"), Some(Duration::from_mins(2)));
        assert_eq!(after(" 0 "), Some(Duration::ZERO));
        assert_eq!(after("1.5"), Some(Duration::from_millis(1_500)));
        assert_eq!(after(&"9".repeat(400)), Some(Duration::MAX));
        for malformed in ["soon", "-5", "", "1e3", "0x10", "NaN", "inf", ".", "1.2.3", "1 s"] {
            assert_eq!(after(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn date_of_any_format_is_compared_with_the_date_of_the_response() {
        let date = Some("Sun, 06 Nov 1994 08:49:07 GMT");
        for value in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(retry_after(value, date), Some(Duration::from_secs(30)), "{value}");
        }
        let past = retry_after("Sun, 06 Nov 1994 08:00:00 GMT", date);
        assert_eq!(past, Some(Duration::ZERO));
    }

    #[test]
    fn date_is_compared_with_our_clock_if_the_response_has_no_date() {
        for date in [None, Some("yesterday")] {
            let delay = retry_after("Sun, 06 Nov 1994 08:49:37 GMT", date);
            assert_eq!(delay, Some(Duration::from_secs(37)));
        }
        let farthest = retry_after("Fri, 31 Dec 9999 23:59:59 GMT", None);
        assert!(farthest.unwrap() > Duration::from_hours(24 * 365 * 100));
    }

    #[test]
    fn retry_info_is_found_among_the_status_details() {
        let details = |delay| {
            let mut details = ErrorDetails::with_retry_info(delay);
            details.add_help_link("", "");
            let status = tonic::Status::with_error_details(tonic::Code::Unavailable, "", details);
            BASE64_STANDARD_NO_PAD.encode(status.details())
        };
        let from = |details: &str| RetryAfter::from_status_details(details.as_bytes());
        let delay = Duration::from_millis(2_500);
        assert_eq!(from(&details(Some(delay))), Some(RetryAfter::Delay(delay)));
        assert_eq!(from(&details(None)), Some(RetryAfter::Delay(Duration::ZERO)));
        let padded = details(Some(delay)) + "=";
        assert!(from(&padded).is_some() || from(&(padded + "=")).is_some());
    }

    #[test]
    fn malformed_details_are_no_details() {
        for details in ["", "!!!", "////", "CAgSAXga", "é", "AAAA===="] {
            assert_eq!(RetryAfter::from_status_details(details.as_bytes()), None, "{details}");
        }
        let with_delay = |seconds, nanos| {
            let mut delay = pb::RetryInfo::default();
            delay.retry_delay.get_or_insert_default().seconds = seconds;
            delay.retry_delay.get_or_insert_default().nanos = nanos;
            let details = ErrorDetails::with_retry_info(None);
            let status = tonic::Status::with_error_details(tonic::Code::Unavailable, "", details);
            let mut status = pb::Status::decode(status.details()).unwrap();
            status.details[0].value = delay.encode_to_vec();
            let details = BASE64_STANDARD_NO_PAD.encode(status.encode_to_vec());
            RetryAfter::from_status_details(details.as_bytes())
        };
        assert_eq!(with_delay(-5, -1), Some(RetryAfter::Delay(Duration::ZERO)));
        let longest = Duration::from_secs(i64::MAX.unsigned_abs());
        assert_eq!(with_delay(i64::MAX, 0), Some(RetryAfter::Delay(longest)));
    }
}
