//! A TCP proxy that stops forwarding and closes nothing, as a firewall does that has forgotten a
//! connection.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A proxy between clients and one server on this machine; ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
    accepting: JoinHandle<()>,
}

/// One that was accepted and forwarded, in the order they came.
pub(crate) struct Connection {
    /// Bytes from the server.
    received: AtomicU64,
    mute: watch::Sender<bool>,
}

impl Connection {
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Stops forwarding in both directions, ends of connections included.
    pub(crate) fn falls_mute(&self) {
        self.mute.send_replace(true);
    }
}

impl Proxy {
    /// The address of the API server in the kubeconfig.
    pub(crate) async fn before(kubeconfig: &Path) -> Result<Self> {
        let server = server(&read(kubeconfig)?)?.parse()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mute, is_mute) = watch::channel(false);
                let connection = Arc::new(Connection { received: AtomicU64::new(0), mute });
                accepted.lock().unwrap().push(Arc::clone(&connection));
                tokio::spawn(forward(client, server, connection, is_mute));
            }
        });
        Ok(Self { address, connections, accepting })
    }

    /// The same kubeconfig, through the proxy; in that folder.
    pub(crate) fn kubeconfig(&self, of: &Path, folder: &Path) -> Result<PathBuf> {
        let mut kubeconfig = read(of)?;
        let server = format!("https://{}", self.address);
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(server);
        let path = folder.join("through-the-proxy.kubeconfig");
        std::fs::write(&path, kubeconfig.to_string())?;
        Ok(path)
    }

    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Those of the control plane's accounts are JSON.
fn read(kubeconfig: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(kubeconfig)?)?)
}

fn server(kubeconfig: &Value) -> Result<&str> {
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str();
    server.and_then(|server| server.strip_prefix("https://")).context("no server")
}

async fn forward(
    client: TcpStream,
    server: SocketAddr,
    connection: Arc<Connection>,
    is_mute: watch::Receiver<bool>,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = pump(&mut from_client, &mut to_server, &is_mute, |_| {});
    let down = pump(&mut from_server, &mut to_client, &is_mute, |bytes| {
        connection.received.fetch_add(bytes, Ordering::Relaxed);
    });
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Forwards until one side ends; never returns once the connection is mute.
async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    is_mute: &watch::Receiver<bool>,
    counted: impl Fn(u64),
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if *is_mute.borrow() {
            return std::future::pending().await;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        counted(read as u64);
    }
}
