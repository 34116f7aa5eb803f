//! Reads the response to a gRPC request, whatever a collector or a proxy sends.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::io::Read as _;

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::{HeaderMap, StatusCode, header, response::Parts};
use http_body::Body;
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode;
use tonic::Code;

use super::{
    encode::decode_acceptance,
    response::{Acceptance, ErrorResponse, Response, ResponseCode, clean},
    retry_after::RetryAfter,
};

/// The largest message that is read: the default of gRPC's clients.
pub(super) const MESSAGE_MAX: usize = 4 << 20;

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_LEN: usize = 5;

/// Reads a response to its end.
///
/// # Errors
/// When the stream ends with an error before there is a status.
pub(super) async fn read<B>(response: http::Response<B>) -> Result<Response, B::Error>
where
    B: Body<Data = Bytes>,
{
    let (head, body) = response.into_parts();
    // A response without a message may have its status among the headers ("Trailers-Only").
    if let Some(code) = code(&head.headers) {
        return Ok(judge(code, &head, &head.headers, None));
    }
    // Only a server of gRPC has a message and trailers. A body that is not gRPC's is not read.
    if head.status != StatusCode::OK || !is_grpc(&head.headers) {
        return Ok(without_status(&head));
    }
    let mut body = std::pin::pin!(body);
    let mut message = Message::default();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                if message.append(&data) == Appended::TooLong {
                    return Ok(Response::TooLong);
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let trailers = trailers.unwrap_or_default();
    Ok(match code(&trailers) {
        Some(code) => judge(code, &head, &trailers, Some(message)),
        None => without_status(&head),
    })
}

/// The gRPC status among headers or trailers; `None` if there is none. An unknown status is `UNKNOWN`.
fn code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}

fn judge(code: Code, head: &Parts, trailers: &HeaderMap, message: Option<Message>) -> Response {
    if code != Code::Ok {
        let details = trailers.get("grpc-status-details-bin");
        let retry_after =
            details.and_then(|details| RetryAfter::from_status_details(details.as_bytes()));
        // The message is percent-encoded UTF-8. A malformed one must not change the status.
        let message = trailers
            .get("grpc-message")
            .and_then(|message| clean(&percent_decode(message.as_bytes()).decode_utf8_lossy()));
        let code = ResponseCode::Grpc(code);
        return Response::Error(ErrorResponse { code, http_status: None, retry_after, message });
    }
    // A proxy that fails may pass an old status on: its own failure counts.
    if head.status != StatusCode::OK {
        return without_status(head);
    }
    match message.unwrap_or_default().decode(&head.headers) {
        // The status alone says that the spans were accepted. A malformed message does not change it.
        Some(message) => Response::Accepted(decode_acceptance(&message).unwrap_or_default()),
        None => Response::Accepted(Acceptance::default()),
    }
}

/// Derives the status of a response that has none from its HTTP status.
///
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>
fn without_status(head: &Parts) -> Response {
    let code = match head.status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    Response::Error(ErrorResponse {
        code: ResponseCode::Grpc(code),
        http_status: Some(head.status.as_u16()),
        retry_after: RetryAfter::from_headers(&head.headers),
        message: None,
    })
}

/// A response without a content type is read as one of gRPC.
fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|content_type| content_type.as_bytes().starts_with(b"application/grpc"))
}

/// The message of a response, with its prefix, as far as it has arrived.
#[derive(Debug, Default)]
struct Message {
    received: BytesMut,
}

#[derive(Debug, PartialEq, Eq)]
enum Appended {
    Appended,
    /// The message, or all of them, exceed the limit.
    TooLong,
}

impl Message {
    fn append(&mut self, data: &[u8]) -> Appended {
        self.received.extend_from_slice(data);
        let announced = self.prefix().map_or(0, |(_, len)| len);
        if announced > MESSAGE_MAX || self.received.len() > PREFIX_LEN + MESSAGE_MAX {
            return Appended::TooLong;
        }
        Appended::Appended
    }

    /// Whether the message is compressed, and its length. `None` if the prefix has not arrived, or the
    /// body is something else.
    fn prefix(&self) -> Option<(bool, usize)> {
        let mut prefix = self.received.get(..PREFIX_LEN)?;
        let is_compressed = match prefix.get_u8() {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some((is_compressed, usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX)))
    }

    /// The bytes of the message; `None` if they are incomplete or cannot be decompressed.
    fn decode(self, headers: &HeaderMap) -> Option<Bytes> {
        let (is_compressed, len) = self.prefix()?;
        let mut message = self.received.freeze();
        message.advance(PREFIX_LEN);
        if message.len() < len {
            return None;
        }
        message.truncate(len);
        if !is_compressed {
            return Some(message);
        }
        if headers.get("grpc-encoding")?.as_bytes() != b"gzip" {
            return None;
        }
        let mut decompressed = Vec::new();
        let limit = u64::try_from(MESSAGE_MAX).unwrap_or(u64::MAX);
        GzDecoder::new(&*message).take(limit).read_to_end(&mut decompressed).ok()?;
        Some(decompressed.into())
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use crate::{
        export::{gzip::gzip, response::Disposition},
        trace::model::time::Timestamp,
    };

    const GRPC: (&str, &[u8]) = ("content-type", b"application/grpc");

    fn headers(headers: &[(&str, &[u8])]) -> HeaderMap {
        let parse = |(name, value): &(&str, &[u8])| {
            let name = http::HeaderName::try_from(*name).unwrap();
            (name, http::HeaderValue::from_bytes(value).unwrap())
        };
        headers.iter().map(parse).collect()
    }

    async fn read_parts(
        status: u16,
        head: &[(&str, &[u8])],
        body: &[&[u8]],
        trailers: &[(&str, &[u8])],
    ) -> Response {
        let data = body.iter().map(|data| Frame::data(Bytes::copy_from_slice(data)));
        let trailers = (!trailers.is_empty()).then(|| Frame::trailers(headers(trailers)));
        let frames: Vec<_> = data.chain(trailers).map(Ok::<_, Infallible>).collect();
        let mut response = http::Response::new(StreamBody::new(futures::stream::iter(frames)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        *response.headers_mut() = headers(head);
        read(response).await.unwrap()
    }

    fn message(body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[0], &len[..], body].concat()
    }

    async fn with_status(trailers: &[(&str, &[u8])]) -> ErrorResponse {
        match read_parts(200, &[GRPC], &[], trailers).await {
            Response::Error(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn status_ok_accepts_whatever_the_message_is() {
        let ok: &[(&str, &[u8])] = &[("grpc-status", b"0")];
        let empty = message(b"");
        let cut_message = message(&[0x0a, 4, 8]);
        let bodies: [&[&[u8]]; 5] =
            [&[&empty], &[], &[&empty[..3]], &[&cut_message], &[&empty[..1], &empty[1..], b"x"]];
        for body in bodies {
            let response = read_parts(200, &[GRPC], body, ok).await;
            assert_eq!(response, Response::Accepted(Acceptance::default()), "{body:?}");
        }
        let among_headers = read_parts(200, &[GRPC, ("grpc-status", b"0")], &[], &[]).await;
        assert_eq!(among_headers, Response::Accepted(Acceptance::default()));
    }

    #[tokio::test]
    async fn partial_success_is_read_from_a_message_in_pieces() {
        let message = message(&[0x0a, 5, 8, 2, 0x12, 1, b'x']);
        let pieces: Vec<&[u8]> = message.chunks(1).collect();
        let response = read_parts(200, &[GRPC], &pieces, &[("grpc-status", b"0")]).await;
        let message = Some("x".into());
        assert_eq!(
            response,
            Response::Accepted(Acceptance { rejected: 2, message, foreign: None })
        );
    }

    #[tokio::test]
    async fn response_without_a_status_has_that_of_http_whatever_its_body() {
        use Code as C;
        for (status, code) in [
            (200, C::Unknown),
            (302, C::Unknown),
            (400, C::Internal),
            (401, C::Unauthenticated),
            (403, C::PermissionDenied),
            (404, C::Unimplemented),
            (413, C::Unknown),
            (429, C::Unavailable),
            (500, C::Unknown),
            (502, C::Unavailable),
            (503, C::Unavailable),
            (504, C::Unavailable),
        ] {
            for content_type in ["text/html", "application/grpc", "application/json"] {
                let head: &[(&str, &[u8])] =
                    &[("content-type", content_type.as_bytes()), ("retry-after", b"7")];
                let response = read_parts(status, head, &[b"<html>"], &[]).await;
                let Response::Error(error) = response else { panic!("{response:?}") };
                assert_eq!(error.code, ResponseCode::Grpc(code), "{status} {content_type}");
                assert_eq!(error.http_status, Some(status));
                assert!(error.retry_after.is_some());
            }
        }
        let page = read_parts(413, &[], &[b"<html>"], &[]).await;
        assert_eq!(page.disposition(Timestamp::default()), Disposition::Split);
    }

    #[tokio::test]
    async fn status_ok_behind_an_http_error_is_that_error() {
        let response = read_parts(503, &[GRPC, ("grpc-status", b"0")], &[], &[]).await;
        assert_eq!(response.code(), ResponseCode::Grpc(Code::Unavailable));
    }

    #[tokio::test]
    async fn malformed_details_and_messages_do_not_change_the_status() {
        for (name, value) in [
            ("grpc-status-details-bin", &b"!!!"[..]),
            ("grpc-status-details-bin", b"AAAA"),
            ("grpc-status-details-bin", b"\xff\xfe"),
            ("grpc-message", b"d\xe9bord\xe9"),
            ("grpc-message", b"100%"),
            ("grpc-message", b"%zz%E9%"),
        ] {
            let error = with_status(&[("grpc-status", b"14"), (name, value)]).await;
            assert_eq!(error.code, ResponseCode::Grpc(Code::Unavailable), "{name} {value:?}");
            assert_eq!((error.http_status, error.retry_after), (None, None));
        }
        let error = with_status(&[("grpc-status", b"3"), ("grpc-message", b"caf%C3%A9%0A1")]).await;
        assert_eq!(error.message.as_deref(), Some("café 1"));
    }

    #[tokio::test]
    async fn unknown_status_is_refused() {
        for status in ["17", "-1", "", "OK", "00", "0 "] {
            let error = with_status(&[("grpc-status", status.as_bytes())]).await;
            assert_eq!(error.code, ResponseCode::Grpc(Code::Unknown), "{status:?}");
        }
    }

    #[tokio::test]
    async fn message_over_the_limit_is_not_read() {
        let ok: &[(&str, &[u8])] = &[("grpc-status", b"0")];
        let announced = [0, 0, 0x50, 0, 0];
        assert_eq!(read_parts(200, &[GRPC], &[&announced], ok).await, Response::TooLong);
        let megabyte = vec![0; 1 << 20];
        let many: Vec<&[u8]> = vec![&megabyte; 5];
        assert_eq!(read_parts(200, &[GRPC], &many, ok).await, Response::TooLong);
    }

    #[tokio::test]
    async fn compressed_message_is_decompressed_up_to_the_limit() {
        let compressed = gzip(&[0x0a, 2, 8, 7]);
        let mut body = message(&compressed);
        body[0] = 1;
        let head: &[(&str, &[u8])] = &[GRPC, ("grpc-encoding", b"gzip")];
        let ok: &[(&str, &[u8])] = &[("grpc-status", b"0")];
        let response = read_parts(200, head, &[&body], ok).await;
        let acceptance = Acceptance { rejected: 7, ..Acceptance::default() };
        assert_eq!(response, Response::Accepted(acceptance));
        let response = read_parts(200, &[GRPC], &[&body], ok).await;
        assert_eq!(response, Response::Accepted(Acceptance::default()));
    }

    #[tokio::test]
    async fn stream_that_ends_with_an_error_has_no_response() {
        let reset = futures::stream::iter([
            Ok(Frame::data(Bytes::from_static(&[0; 5]))),
            Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        ]);
        let mut response = http::Response::new(StreamBody::new(reset));
        *response.headers_mut() = headers(&[GRPC]);
        assert_eq!(read(response).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
