//! An API server whose answers a test scripts one by one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// Nothing in these tests takes as long, not the longest rest after a server was away either.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Discovery is answered, unless the test takes it over; every other request waits for the test to
/// answer it.
pub(crate) struct ScriptedApiServer {
    pub(crate) url: String,
    discovery: Arc<Mutex<Discovery>>,
    arrived: mpsc::UnboundedReceiver<Request>,
    waiting: VecDeque<Request>,
}

/// How requests at `/api` and `/apis` are answered.
struct Discovery {
    kinds: Vec<Kind>,
    /// They wait for the test as well.
    is_taken_over: bool,
    answered: usize,
}

/// A kind the server serves.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) name: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) verbs: &'static [&'static str],
    pub(crate) scope: &'static str,
}

pub(crate) const POD: Kind = Kind {
    group: "",
    version: "v1",
    name: "Pod",
    plural: "pods",
    verbs: ALL,
    scope: IN_NAMESPACES,
};
pub(crate) const DEPLOYMENT: Kind = Kind {
    group: "apps",
    version: "v1",
    name: "Deployment",
    plural: "deployments",
    verbs: ALL,
    scope: IN_NAMESPACES,
};
pub(crate) const EVENT: Kind = Kind {
    group: "events.k8s.io",
    version: "v1",
    name: "Event",
    plural: "events",
    verbs: ALL,
    scope: IN_NAMESPACES,
};
pub(crate) const NODE: Kind =
    Kind { group: "", version: "v1", name: "Node", plural: "nodes", verbs: ALL, scope: "Cluster" };
pub(crate) const WIDGET: Kind = Kind {
    group: "example.com",
    version: "v1",
    name: "Widget",
    plural: "widgets",
    verbs: ALL,
    scope: IN_NAMESPACES,
};
const IN_NAMESPACES: &str = "Namespaced";
pub(crate) const ALL: &[&str] = &["get", "list", "watch"];

/// A request on a connection of its own.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) head: String,
    stream: TcpStream,
}

impl ScriptedApiServer {
    pub(crate) async fn start(kinds: &[Kind]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let kinds = kinds.to_vec();
        let discovery = Discovery { kinds, is_taken_over: false, answered: 0 };
        let discovery = Arc::new(Mutex::new(discovery));
        let (sender, arrived) = mpsc::unbounded_channel();
        let served = Arc::clone(&discovery);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, served) = (sender.clone(), Arc::clone(&served));
                tokio::spawn(async move {
                    let Some(request) = Request::read(stream).await else { return };
                    let kinds = {
                        let mut discovery = served.lock().unwrap();
                        let is_discovery = matches!(request.path.as_str(), "/api" | "/apis");
                        let answers = is_discovery && !discovery.is_taken_over;
                        discovery.answered += usize::from(answers);
                        answers.then(|| discovery.kinds.clone())
                    };
                    match kinds {
                        Some(kinds) => request.answer_discovery(&kinds).await,
                        None => drop(sender.send(request)),
                    }
                });
            }
        });
        Self { url, discovery, arrived, waiting: VecDeque::new() }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let mut config = kube::Config::new(self.url.parse().unwrap());
        config.default_retry = false;
        kube::Client::try_from(config).unwrap()
    }

    pub(crate) fn serves(&self, kinds: &[Kind]) {
        self.discovery.lock().unwrap().kinds = kinds.to_vec();
    }

    /// From now on, requests at `/api` and `/apis` wait for the test to answer them.
    pub(crate) fn take_over_discovery(&self) {
        self.discovery.lock().unwrap().is_taken_over = true;
    }

    /// How often the kinds were requested: at two paths each time.
    pub(crate) fn discoveries(&self) -> usize {
        self.discovery.lock().unwrap().answered / 2
    }

    /// The next request at this path.
    pub(crate) async fn request(&mut self, path: &str) -> Request {
        if let Some(at) = self.waiting.iter().position(|request| request.path == path) {
            return self.waiting.remove(at).unwrap();
        }
        loop {
            let arrived = timeout(PATIENCE, self.arrived.recv()).await.ok().flatten();
            assert!(arrived.is_some(), "no request at {path}");
            let request = arrived.unwrap();
            if request.path == path {
                return request;
            }
            self.waiting.push_back(request);
        }
    }

    /// Answers the next streaming list and hands back the watch that follows it.
    pub(crate) async fn list(&mut self, path: &str, objects: &[Value], version: u64) -> Request {
        self.request(path).await.list(objects, version).await;
        let watch = self.request(path).await;
        assert!(watch.watches_from(version), "{}", watch.query);
        watch
    }
}

impl Request {
    async fn read(mut stream: TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        let target = head.split(' ').nth(1)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Self { path: path.to_owned(), query: query.to_owned(), head: head.clone(), stream })
    }

    pub(crate) async fn answer_discovery(self, kinds: &[Kind]) {
        let is_core = self.path == "/api";
        self.answer(200, &groups(kinds, is_core).to_string()).await;
    }

    pub(crate) fn watches_from(&self, version: u64) -> bool {
        let parameters: Vec<&str> = self.query.split('&').collect();
        parameters.contains(&format!("resourceVersion={version}").as_str())
            && parameters.contains(&"watch=1")
            && !self.query.contains("sendInitialEvents")
    }

    pub(crate) fn lists(&self) -> bool {
        self.query.contains("sendInitialEvents=true")
    }

    /// Answers a streaming list.
    pub(crate) async fn list(self, objects: &[Value], version: u64) {
        assert!(self.lists(), "{}", self.query);
        let mut lines = self.stream().await;
        for object in objects {
            lines.send_event("ADDED", object).await;
        }
        lines.end_of_list(version).await;
    }

    /// How long it is to be, in seconds.
    pub(crate) fn timeout(&self) -> u64 {
        let timeout = self.query.split('&').find_map(|one| one.strip_prefix("timeoutSeconds="));
        timeout.unwrap().parse().unwrap()
    }

    pub(crate) async fn answer(self, status: u16, body: &str) {
        self.answer_with(status, "", body).await;
    }

    /// `headers`: each ended by CRLF.
    pub(crate) async fn answer_with(mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close\r\n\
             {headers}Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(answer.as_bytes()).await.ok();
        self.stream.shutdown().await.ok();
    }

    pub(crate) async fn refuse(self, status: u16, message: &str) {
        self.answer(status, &failure(status, message).to_string()).await;
    }

    pub(crate) async fn stream(mut self) -> Lines {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                    Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        self.stream.write_all(head.as_bytes()).await.unwrap();
        Lines { stream: self.stream }
    }
}

/// A watch under way; dropped, its connection breaks.
pub(crate) struct Lines {
    stream: TcpStream,
}

impl Lines {
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let head = format!("{:x}\r\n", bytes.len());
        self.stream.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat()).await.unwrap();
    }

    pub(crate) async fn send_event(&mut self, kind: &str, object: &Value) {
        self.bytes(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").as_bytes()).await;
    }

    pub(crate) async fn bookmark(&mut self, version: u64) {
        self.send_event("BOOKMARK", &json!({"metadata": {"resourceVersion": version.to_string()}}))
            .await;
    }

    pub(crate) async fn end_of_list(&mut self, version: u64) {
        let object = json!({"metadata": {"resourceVersion": version.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"}}});
        self.send_event("BOOKMARK", &object).await;
    }

    pub(crate) async fn fail(&mut self, code: u16, message: &str) {
        self.send_event("ERROR", &failure(code, message)).await;
    }

    /// A clean end.
    pub(crate) async fn end(mut self) {
        self.stream.write_all(b"0\r\n\r\n").await.unwrap();
        self.stream.shutdown().await.ok();
    }
}

fn failure(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "x", "code": code})
}

fn groups(kinds: &[Kind], is_core: bool) -> Value {
    let mut groups: Vec<Value> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group.is_empty() == is_core) {
        let resource = json!({
            "resource": kind.plural, "scope": kind.scope, "verbs": kind.verbs,
            "singularResource": kind.name.to_lowercase(),
            "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.name},
        });
        let version = json!({"version": kind.version, "freshness": "Current",
            "resources": [resource]});
        let known = groups.iter_mut().find(|group| group["metadata"]["name"] == kind.group);
        match known {
            Some(group) => group["versions"][0]["resources"].as_array_mut().unwrap().push(resource),
            None => groups.push(json!({"metadata": {"name": kind.group}, "versions": [version]})),
        }
    }
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": groups})
}
