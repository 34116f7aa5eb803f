//! An OTLP receiver on 127.0.0.1 that answers as scripted and keeps what it got.

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
use tonic::{codec::CompressionEncoding, metadata::MetadataMap};

/// What comes of one request. When the script is over, every request is accepted.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Accept,
    /// A partial success.
    Reject(i64),
    Grpc(tonic::Code, Option<Duration>),
    /// With `Retry-After`.
    Http(u16, Option<&'static str>),
    /// Accepted, but nobody is told.
    Mute,
}

/// A request that came, whatever the answer was.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) request: ExportTraceServiceRequest,
    pub(crate) headers: BTreeMap<String, String>,
    /// By the script; the sender may not have been told.
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
    steps: Mutex<VecDeque<Step>>,
    /// Connections to cut after their first bytes.
    cuts: Mutex<usize>,
    got: Mutex<Vec<Got>>,
    came: Notify,
}

/// PEM texts for a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls {
    pub(crate) cert: String,
    pub(crate) key: String,
    /// Who signs the clients' certificates, where they need one.
    pub(crate) client_ca: Option<String>,
}

impl Receiver {
    pub(crate) async fn grpc(
        steps: impl IntoIterator<Item = Step>,
        tls: Option<ServerTls>,
    ) -> Self {
        let (script, listener) = begin(steps).await;
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
        steps: impl IntoIterator<Item = Step>,
        tls: Option<ServerTls>,
    ) -> Self {
        let (script, listener) = begin(steps).await;
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

    /// The next connections end after their first bytes.
    pub(crate) fn cut(&self, connections: usize) {
        *self.script.cuts.lock().unwrap() = connections;
    }

    pub(crate) fn cuts_left(&self) -> usize {
        *self.script.cuts.lock().unwrap()
    }

    /// What has been accepted by now.
    pub(crate) fn accepted(&self) -> Vec<Got> {
        let got = self.script.got.lock().unwrap();
        got.iter().filter(|got| got.accepted).cloned().collect()
    }

    /// Waits until so many requests have come.
    pub(crate) async fn got(&self, count: usize) -> Vec<Got> {
        loop {
            let came = self.script.came.notified();
            {
                let got = self.script.got.lock().unwrap();
                if got.len() >= count {
                    return got.clone();
                }
            }
            came.await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn begin(steps: impl IntoIterator<Item = Step>) -> (Arc<Script>, TcpListener) {
    let steps = Mutex::new(steps.into_iter().collect());
    let script = Arc::new(Script { steps, ..Script::default() });
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
    fn next(&self, request: ExportTraceServiceRequest, headers: BTreeMap<String, String>) -> Step {
        let step = self.steps.lock().unwrap().pop_front().unwrap_or(Step::Accept);
        let accepted = matches!(step, Step::Accept | Step::Reject(_) | Step::Mute);
        self.got.lock().unwrap().push(Got { request, headers, accepted });
        self.came.notify_waiters();
        step
    }
}

fn answer(rejected_spans: i64) -> ExportTraceServiceResponse {
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
        let rejected = match self.next(request.into_inner(), headers) {
            Step::Accept => 0,
            Step::Reject(rejected) => rejected,
            Step::Mute => std::future::pending().await,
            Step::Grpc(code, None) => return Err(tonic::Status::new(code, "secret")),
            Step::Grpc(code, Some(delay)) => {
                let details = retry_info(delay).into();
                let metadata = MetadataMap::new();
                return Err(tonic::Status::with_details_and_metadata(
                    code, "secret", details, metadata,
                ));
            }
            Step::Http(..) => return Err(tonic::Status::internal("not a step of gRPC")),
        };
        Ok(tonic::Response::new(answer(rejected)))
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
    let rejected = match script.next(request, texts(&headers)) {
        Step::Accept => 0,
        Step::Reject(rejected) => rejected,
        Step::Mute => std::future::pending().await,
        Step::Http(status, retry_after) => {
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = (status, "secret").into_response();
            if let Some(value) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, value.parse().unwrap());
            }
            return response;
        }
        Step::Grpc(..) => return StatusCode::IM_A_TEAPOT.into_response(),
    };
    answer(rejected).encode_to_vec().into_response()
}

fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// An encoded `google.rpc.Status` with a `google.rpc.RetryInfo`, put together by hand.
fn retry_info(delay: Duration) -> Vec<u8> {
    let field = |tag: u8, content: &[u8]| {
        let mut field = vec![tag << 3 | 2, u8::try_from(content.len()).unwrap()];
        field.extend_from_slice(content);
        field
    };
    let mut duration = vec![1 << 3, u8::try_from(delay.as_secs()).unwrap(), 2 << 3];
    prost::encoding::encode_varint(delay.subsec_nanos().into(), &mut duration);
    let info = field(1, &duration);
    let any = [field(1, b"type.googleapis.com/google.rpc.RetryInfo"), field(2, &info)].concat();
    field(3, &any)
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
