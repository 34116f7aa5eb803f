//! An OTLP receiver on 127.0.0.1 that replies as scripted and keeps the requests it received.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use prost::Message as _;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::codec::CompressionEncoding;
use tonic_types::{ErrorDetails, StatusExt as _};

/// The reply to one request. After the last scripted reply, every request is accepted.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Accept,
    /// A partial success.
    Reject(i64),
    /// A status, with `RetryInfo`.
    Grpc(tonic::Code, Option<Duration>),
    /// A status, with `Retry-After`.
    Http(u16, Option<&'static str>),
    /// The request is accepted, but no response is sent.
    None,
}

/// A request that was received, whatever the reply was.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) request: ExportTraceServiceRequest,
    pub(crate) headers: BTreeMap<String, String>,
    /// Whether the script accepts it. The sender may have received no response.
    pub(crate) accepted: bool,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Script {
    replies: Mutex<VecDeque<Reply>>,
    /// Connections to cut after their first bytes.
    cuts: Mutex<usize>,
    received: Mutex<Vec<Received>>,
    /// Notified of every request.
    arrived: Notify,
}

/// The certificate and key of a server, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls {
    pub(crate) cert: String,
    pub(crate) key: String,
    /// The authority of client certificates, if the server requires them.
    pub(crate) client_ca: Option<String>,
}

impl Receiver {
    pub(crate) async fn grpc(
        replies: impl IntoIterator<Item = Reply>,
        tls: Option<ServerTls>,
    ) -> Self {
        let (script, listener) = bind(replies).await;
        let address = listener.local_addr().unwrap();
        let (accepting, connections) = accept(listener, Arc::clone(&script));
        let service = TraceServiceServer::from_arc(Arc::clone(&script))
            .accept_compressed(CompressionEncoding::Gzip);
        let mut server = tonic::transport::Server::builder();
        if let Some(tls) = tls {
            let mut config = tonic::transport::ServerTlsConfig::new()
                .identity(tonic::transport::Identity::from_pem(tls.cert, tls.key));
            if let Some(ca) = tls.client_ca {
                config = config.client_ca_root(tonic::transport::Certificate::from_pem(ca));
            }
            server = server.tls_config(config).unwrap();
        }
        let router = server.add_service(service);
        let incoming = UnboundedReceiverStream::new(connections).map(Ok::<_, io::Error>);
        let serving =
            tokio::spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });
        Self { address, script, tasks: vec![accepting, serving] }
    }

    pub(crate) async fn http(
        replies: impl IntoIterator<Item = Reply>,
        tls: Option<ServerTls>,
    ) -> Self {
        let (script, listener) = bind(replies).await;
        let address = listener.local_addr().unwrap();
        let (accepting, connections) = accept(listener, Arc::clone(&script));
        let app =
            axum::Router::new().route("/v1/traces", post(traces)).with_state(Arc::clone(&script));
        let serving = match tls {
            None => tokio::spawn(async move {
                axum::serve(Plain { connections, address }, app).await.unwrap();
            }),
            Some(tls) => {
                let acceptor = acceptor(&tls);
                tokio::spawn(async move {
                    axum::serve(Encrypted { connections, address, acceptor }, app).await.unwrap();
                })
            }
        };
        Self { address, script, tasks: vec![accepting, serving] }
    }

    /// Replaces the replies to come.
    pub(crate) fn reply_with(&self, replies: impl IntoIterator<Item = Reply>) {
        *self.script.replies.lock().unwrap() = replies.into_iter().collect();
    }

    /// Closes each of the next `connections` after its first bytes.
    pub(crate) fn cut_connections(&self, connections: usize) {
        *self.script.cuts.lock().unwrap() = connections;
    }

    pub(crate) fn cuts_left(&self) -> usize {
        *self.script.cuts.lock().unwrap()
    }

    /// The requests that were accepted so far.
    pub(crate) fn accepted(&self) -> Vec<Received> {
        let received = self.script.received.lock().unwrap();
        received.iter().filter(|request| request.accepted).cloned().collect()
    }

    /// Waits until at least `count` requests were received, and returns all.
    pub(crate) async fn requests(&self, count: usize) -> Vec<Received> {
        loop {
            let arrived = self.script.arrived.notified();
            {
                let received = self.script.received.lock().unwrap();
                if received.len() >= count {
                    return received.clone();
                }
            }
            arrived.await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn bind(replies: impl IntoIterator<Item = Reply>) -> (Arc<Script>, TcpListener) {
    let replies = Mutex::new(replies.into_iter().collect());
    let script = Arc::new(Script { replies, ..Script::default() });
    (script, TcpListener::bind("127.0.0.1:0").await.unwrap())
}

fn accept(
    listener: TcpListener,
    script: Arc<Script>,
) -> (JoinHandle<()>, mpsc::UnboundedReceiver<TcpStream>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let cut = {
                let mut cuts = script.cuts.lock().unwrap();
                let cut = *cuts > 0;
                *cuts = cuts.saturating_sub(1);
                cut
            };
            if cut {
                stream.read_u8().await.ok();
            } else {
                sender.send(stream).ok();
            }
        }
    });
    (task, receiver)
}

impl Script {
    fn receive(
        &self,
        request: ExportTraceServiceRequest,
        headers: BTreeMap<String, String>,
    ) -> Reply {
        let reply = self.replies.lock().unwrap().pop_front().unwrap_or(Reply::Accept);
        let accepted = matches!(reply, Reply::Accept | Reply::Reject(_) | Reply::None);
        self.received.lock().unwrap().push(Received { request, headers, accepted });
        self.arrived.notify_waiters();
        reply
    }
}

fn response(rejected_spans: i64) -> ExportTraceServiceResponse {
    let error_message = "over quota: secret".to_owned();
    let partial = ExportTracePartialSuccess { rejected_spans, error_message };
    ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) }
}

#[tonic::async_trait]
impl TraceService for Script {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let headers = texts(&request.metadata().clone().into_headers());
        let rejected = match self.receive(request.into_inner(), headers) {
            Reply::Accept => 0,
            Reply::Reject(rejected) => rejected,
            Reply::None => std::future::pending().await,
            Reply::Grpc(code, None) => return Err(tonic::Status::new(code, "secret")),
            Reply::Grpc(code, Some(delay)) => {
                let details = ErrorDetails::with_retry_info(Some(delay));
                return Err(tonic::Status::with_error_details(code, "secret", details));
            }
            Reply::Http(..) => return Err(tonic::Status::internal("not a reply of gRPC")),
        };
        Ok(tonic::Response::new(response(rejected)))
    }
}

async fn traces(State(script): State<Arc<Script>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut plain = Vec::new();
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip") {
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*body), &mut plain).unwrap();
    } else {
        plain.extend_from_slice(&body);
    }
    let request = ExportTraceServiceRequest::decode(&*plain).unwrap();
    let rejected = match script.receive(request, texts(&headers)) {
        Reply::Accept => 0,
        Reply::Reject(rejected) => rejected,
        Reply::None => std::future::pending().await,
        Reply::Http(status, retry_after) => {
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = (status, "secret").into_response();
            if let Some(value) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, value.parse().unwrap());
            }
            return response;
        }
        Reply::Grpc(..) => return StatusCode::IM_A_TEAPOT.into_response(),
    };
    response(rejected).encode_to_vec().into_response()
}

fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

struct Plain {
    connections: mpsc::UnboundedReceiver<TcpStream>,
    address: SocketAddr,
}

impl axum::serve::Listener for Plain {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        (self.connections.recv().await.unwrap(), self.address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

struct Encrypted {
    connections: mpsc::UnboundedReceiver<TcpStream>,
    address: SocketAddr,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl axum::serve::Listener for Encrypted {
    type Io = tokio_rustls::server::TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let connection = self.connections.recv().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(connection).await {
                return (stream, self.address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

fn acceptor(tls: &ServerTls) -> tokio_rustls::TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let cert = CertificateDer::from_pem_slice(tls.cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes()).unwrap();
    let builder = rustls::ServerConfig::builder();
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots));
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    Arc::new(builder.with_single_cert(vec![cert], key).unwrap()).into()
}
