//! A receiver on 127.0.0.1 that answers with scripted bytes, as collectors, proxies and login pages do.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use spanlink::config::settings::Protocol;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) type Headers = Vec<(&'static str, Vec<u8>)>;

/// The answer to one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    /// HTTP/2 only.
    pub(crate) trailers: Headers,
    pub(crate) end: End,
    /// Bytes of the connection after which it is closed.
    pub(crate) cut: Option<usize>,
}

/// What follows the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    Complete,
    /// The body is announced longer than it is, and the connection stays open.
    Stall,
    /// The stream or connection is reset.
    Reset,
}

impl Answer {
    pub(crate) fn new(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Self {
        Self { status, headers: bytes_of(headers), body: body.to_vec(), ..Self::default() }
    }

    /// A response of gRPC with its status in trailers.
    pub(crate) fn grpc(trailers: &[(&'static str, &str)], body: &[u8]) -> Self {
        let head = Self::new(200, &[("content-type", "application/grpc")], body);
        Self { trailers: bytes_of(trailers), ..head }
    }

    /// The request is accepted.
    pub(crate) fn accept(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Grpc => Self::grpc(&[("grpc-status", "0")], &[0; 5]),
            Protocol::HttpProtobuf => {
                Self::new(200, &[("content-type", "application/x-protobuf")], b"")
            }
        }
    }

    pub(crate) fn with_end(self, end: End) -> Self {
        Self { end, ..self }
    }
}

fn bytes_of(headers: &[(&'static str, &str)]) -> Headers {
    headers.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect()
}

/// Answers the request of this number, from 0, with this message.
type Script = Arc<dyn Fn(usize, &[u8]) -> Answer + Send + Sync>;

#[derive(Debug)]
pub(crate) struct AnsweringReceiver {
    pub(crate) address: SocketAddr,
    /// The encoded messages of all requests.
    pub(crate) requests: Arc<Mutex<Vec<Bytes>>>,
    accepting: JoinHandle<()>,
}

impl AnsweringReceiver {
    pub(crate) async fn start(
        protocol: Protocol,
        script: impl Fn(usize, &[u8]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let (script, received): (Script, _) = (Arc::new(script), Arc::clone(&requests));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection =
                    Connection { script: Arc::clone(&script), received: Arc::clone(&received) };
                tokio::spawn(async move {
                    // A connection ends with an error when the script or the client cuts it.
                    match protocol {
                        Protocol::Grpc => connection.serve_http2(stream).await.ok(),
                        Protocol::HttpProtobuf => connection.serve_http1(stream).await.ok(),
                    }
                });
            }
        });
        Self { address, requests, accepting }
    }

    /// The messages of the requests that arrived so far.
    pub(crate) fn received(&self) -> Vec<Bytes> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for AnsweringReceiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Connection {
    script: Script,
    received: Arc<Mutex<Vec<Bytes>>>,
}

impl Connection {
    fn answer(&self, message: &Bytes) -> Answer {
        let number = {
            let mut received = self.received.lock().unwrap();
            received.push(message.clone());
            received.len() - 1
        };
        (self.script)(number, message)
    }

    /// Serves one request per connection.
    async fn serve_http1(self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut content_length = 0;
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 2 {
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                content_length = value.trim().parse().map_err(io::Error::other)?;
            }
            line.clear();
        }
        let mut body = vec![0; content_length];
        stream.read_exact(&mut body).await?;
        let answer = self.answer(&body.into());
        let mut stream = stream.into_inner();
        if let Some(cut) = answer.cut {
            let bytes = http1(&answer);
            stream.write_all(&bytes[..cut.min(bytes.len())]).await?;
            return Ok(());
        }
        stream.write_all(&http1(&answer)).await?;
        match answer.end {
            End::Complete => stream.shutdown().await,
            End::Stall => {
                stream.read_u8().await?;
                Ok(())
            }
            End::Reset => {
                // A socket that is closed with unread or unsent data is reset.
                socket_linger(&stream)?;
                Ok(())
            }
        }
    }

    async fn serve_http2(self, stream: TcpStream) -> Result<(), h2::Error> {
        // The cut is that of the first answer, which is the only one of a connection with a cut.
        let cut = (self.script)(self.received.lock().unwrap().len(), b"").cut;
        let stream = CutStream { stream, left: cut.unwrap_or(usize::MAX) };
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(request) = connection.accept().await {
            let (request, mut respond) = request?;
            let connection =
                Self { script: Arc::clone(&self.script), received: Arc::clone(&self.received) };
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut message = Vec::new();
                while let Some(data) = body.data().await {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    message.extend_from_slice(&data);
                }
                let message = message.get(5..).map(Bytes::copy_from_slice).unwrap_or_default();
                let answer = connection.answer(&message);
                let mut head = http::Response::new(());
                *head.status_mut() = http::StatusCode::from_u16(answer.status).unwrap();
                *head.headers_mut() = header_map(&answer.headers);
                let ends = answer.end == End::Complete;
                let (has_body, has_trailers) =
                    (!answer.body.is_empty(), !answer.trailers.is_empty());
                let mut stream = respond.send_response(head, ends && !has_body && !has_trailers)?;
                if has_body {
                    stream.send_data(answer.body.into(), ends && !has_trailers)?;
                }
                match answer.end {
                    End::Complete if has_trailers => {
                        stream.send_trailers(header_map(&answer.trailers))?;
                    }
                    End::Complete => {}
                    End::Stall => tokio::time::sleep(Duration::from_mins(1)).await,
                    End::Reset => stream.send_reset(h2::Reason::INTERNAL_ERROR),
                }
                Ok::<_, h2::Error>(())
            });
        }
        Ok(())
    }
}

fn socket_linger(stream: &TcpStream) -> io::Result<()> {
    #[expect(deprecated, reason = "the duration is zero, which does not block")]
    stream.set_linger(Some(Duration::ZERO))
}

fn http1(answer: &Answer) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {} Scripted\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    let missing = if answer.end == End::Complete { 0 } else { 10 };
    let length = answer.body.len() + missing;
    bytes.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
    bytes.extend_from_slice(&answer.body);
    bytes
}

fn header_map(headers: &Headers) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        })
        .collect()
}

/// A connection that breaks once so many bytes were written.
struct CutStream {
    stream: TcpStream,
    left: usize,
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let len = bytes.len().min(self.left);
        if len == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, &bytes[..len]);
        if let Poll::Ready(Ok(written)) = written {
            self.left -= written;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
