//! Reads the response to a request of OTLP over HTTP, whatever a collector or a proxy sends.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use prost::Message as _;
use tokio::time::timeout;
use tonic_types::pb;

use super::{
    encode::decode_acceptance,
    response::{Acceptance, ErrorResponse, ForeignResponse, Response, ResponseCode, clean},
    retry_after::RetryAfter,
};

/// Bytes of a body that are read. A body of OTLP has a number and a message.
const BODY_MAX: usize = 64 << 10;

/// How long the body may take after its head. The head decides; the body has only messages.
const BODY_WAIT: Duration = Duration::from_secs(1);

/// Reads a response. Its status decides about the spans, whatever the body does: it may be cut, stall,
/// or never end.
pub(super) async fn read<B>(response: http::Response<B>) -> Response
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = response.into_parts();
    let http_status = head.status.as_u16();
    if head.status.is_success() {
        let body = read_body(body).await;
        return Response::Accepted(accept(http_status, &head.headers, body.as_deref()));
    }
    let message = if is_protobuf(&content_type(&head.headers)) {
        read_body(body).await.and_then(|body| error_message(&body))
    } else {
        None
    };
    Response::Error(ErrorResponse {
        code: ResponseCode::Http(http_status),
        http_status: None,
        retry_after: RetryAfter::from_headers(&head.headers),
        message,
    })
}

/// `None` if the body is too long, is cut, or takes too long.
async fn read_body<B>(body: B) -> Option<Bytes>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = timeout(BODY_WAIT, Limited::new(body, BODY_MAX).collect()).await;
    Some(collected.ok()?.ok()?.to_bytes())
}

fn accept(http_status: u16, headers: &HeaderMap, body: Option<&[u8]>) -> Acceptance {
    let content_type = content_type(headers);
    let acceptance = body.and_then(decode_acceptance);
    let is_foreign = match (&*content_type, body) {
        (content_type, _) if is_otlp(content_type) => false,
        // Some receivers send no body, or a body of OTLP with another content type.
        (_, Some([])) | ("", None) => false,
        (content_type, Some(_)) if !content_type.starts_with("text/") => acceptance.is_none(),
        (_, Some(_) | None) => true,
    };
    if is_foreign {
        let content_type = clean(&content_type).unwrap_or_default();
        let foreign = Some(ForeignResponse { http_status, content_type });
        return Acceptance { foreign, ..Acceptance::default() };
    }
    acceptance.unwrap_or_default()
}

/// The message of an error: the body is a `google.rpc.Status`.
fn error_message(body: &[u8]) -> Option<Box<str>> {
    clean(&pb::Status::decode(body).ok()?.message)
}

fn is_otlp(content_type: &str) -> bool {
    is_protobuf(content_type) || content_type == "application/json"
}

fn is_protobuf(content_type: &str) -> bool {
    matches!(content_type, "application/x-protobuf" | "application/protobuf")
}

/// The media type in lower case, without its parameters; empty if there is none.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let text = String::from_utf8_lossy(value.unwrap_or_default());
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody, combinators::UnsyncBoxBody};

    use super::*;
    use crate::export::retry_after::RetryAfter;

    fn response(status: u16, content_type: &str, body: &[u8]) -> http::Response<Full<Bytes>> {
        let mut response = http::Response::builder().status(status);
        if !content_type.is_empty() {
            response = response.header(header::CONTENT_TYPE, content_type);
        }
        response.body(Bytes::copy_from_slice(body).into()).unwrap()
    }

    /// The body of a partial success.
    fn partial(rejected: u8, message: &str) -> Vec<u8> {
        let len = u8::try_from(message.len()).unwrap();
        let partial = [&[8, rejected, 0x12, len], message.as_bytes()].concat();
        [&[0x0a, len + 4], &*partial].concat()
    }

    async fn accepted(content_type: &str, body: &[u8]) -> Acceptance {
        match read(response(200, content_type, body)).await {
            Response::Accepted(acceptance) => acceptance,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn partial_success_has_a_number_and_a_message() {
        let body = partial(0, "use v2\nplease");
        let acceptance = accepted("application/x-protobuf", &body).await;
        let message = Some("use v2 please".into());
        assert_eq!(acceptance, Acceptance { rejected: 0, message, foreign: None });
        let acceptance = accepted("Application/X-Protobuf; charset=utf-8", &partial(3, "x")).await;
        assert_eq!(acceptance.rejected, 3);
    }

    #[tokio::test]
    async fn success_that_is_not_a_response_of_otlp_is_marked() {
        let foreign = accepted("text/html; charset=utf-8", b"<!doctype html>").await.foreign;
        let expected = ForeignResponse { http_status: 200, content_type: "text/html".into() };
        assert_eq!(foreign, Some(expected));
        assert!(accepted("text/plain", b"ok").await.foreign.is_some());
        assert!(accepted("text/html", &partial(0, "warning")).await.foreign.is_some());
        assert!(accepted("", b"<html>").await.foreign.is_some());
        for (content_type, body) in [
            ("", &b""[..]),
            ("text/plain", b""),
            ("application/json", b"{}"),
            ("application/x-protobuf", b"<html>"),
            ("", &partial(0, "warning")),
            ("application/octet-stream", &partial(0, "warning")),
        ] {
            assert_eq!(accepted(content_type, body).await.foreign, None, "{content_type} {body:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn success_delivers_whatever_the_body_does() {
        let started = tokio::time::Instant::now();
        let stalling = futures::stream::pending();
        let cut = futures::stream::iter([
            Ok(http_body::Frame::data(Bytes::from_static(b"\x0a"))),
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
        ]);
        let endless = futures::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(&[b'x'; 1000])))
        });
        let bodies: [UnsyncBoxBody<Bytes, std::io::Error>; 3] = [
            UnsyncBoxBody::new(StreamBody::new(stalling)),
            UnsyncBoxBody::new(StreamBody::new(cut)),
            UnsyncBoxBody::new(StreamBody::new(endless)),
        ];
        for body in bodies {
            let acceptance = read(http::Response::new(body)).await;
            assert_eq!(acceptance, Response::Accepted(Acceptance::default()));
        }
        assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn error_has_its_status_a_delay_and_the_message_of_a_status() {
        let status = pb::Status { message: "no such\ttenant".to_owned(), ..pb::Status::default() };
        let body = status.encode_to_vec();
        let mut head = response(400, "application/x-protobuf", &body);
        head.headers_mut().insert(header::RETRY_AFTER, "7".parse().unwrap());
        let expected = ErrorResponse {
            code: ResponseCode::Http(400),
            http_status: None,
            retry_after: Some(RetryAfter::Delay(Duration::from_secs(7))),
            message: Some("no such tenant".into()),
        };
        assert_eq!(read(head).await, Response::Error(expected));
        let page = read(response(502, "text/html", &body)).await;
        assert_eq!(page, Response::http(502, None));
    }
}
