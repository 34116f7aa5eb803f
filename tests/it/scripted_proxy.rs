//! A proxy on 127.0.0.1, by HTTP or SOCKS 5, that connects everything to one server and keeps what it
//! was asked for.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How the proxy is asked for a connection, and how it responds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A tunnel by CONNECT, or a request with the whole URL that is forwarded.
    Http,
    /// CONNECT gets this status.
    Refusing(&'static str),
    /// SOCKS 5, with a user and a password if the client has them.
    Socks5,
}

#[derive(Debug)]
pub(crate) struct ScriptedProxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    kind: Kind,
    server: Mutex<SocketAddr>,
    /// One entry per connection: the head of its first request, or `host:port user password`.
    asked: Mutex<Vec<String>>,
    connections: Mutex<Vec<JoinHandle<()>>>,
}

impl ScriptedProxy {
    pub(crate) async fn start(kind: Kind, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            kind,
            server: Mutex::new(server),
            asked: Mutex::default(),
            connections: Mutex::default(),
        });
        let accepting = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let connection = Arc::clone(&shared);
                    // The client is gone, or the server: either closes both.
                    let task =
                        tokio::spawn(async move { connection.serve(client).await.unwrap_or(()) });
                    shared.connections.lock().unwrap().push(task);
                }
            }
        });
        Self { address, shared, accepting }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Cuts every connection; later ones are connected to another server.
    pub(crate) fn switch_to(&self, server: SocketAddr) {
        *self.shared.server.lock().unwrap() = server;
        self.shared.connections.lock().unwrap().drain(..).for_each(|task| task.abort());
    }
}

impl Drop for ScriptedProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.connections.lock().unwrap().drain(..).for_each(|task| task.abort());
    }
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut forwarded = Vec::new();
        match self.kind {
            Kind::Http | Kind::Refusing(_) => {
                let head = read_head(&mut client).await?;
                let is_connect = head.starts_with(b"CONNECT ");
                self.asked.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                if let Kind::Refusing(status) = self.kind {
                    let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    client.write_all(response.as_bytes()).await?;
                    return client.shutdown().await;
                }
                if is_connect {
                    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                } else {
                    forwarded = head;
                }
            }
            Kind::Socks5 => {
                let asked = negotiate(&mut client).await?;
                self.asked.lock().unwrap().push(asked);
            }
        }
        let address = *self.server.lock().unwrap();
        let mut server = TcpStream::connect(address).await?;
        server.write_all(&forwarded).await?;
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    }
}

async fn read_head(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    Ok(head)
}

/// <https://www.rfc-editor.org/rfc/rfc1928>, <https://www.rfc-editor.org/rfc/rfc1929>
async fn negotiate(client: &mut TcpStream) -> io::Result<String> {
    const WITH_LOGIN: u8 = 2;
    let mut login = String::new();
    let _version = client.read_u8().await?;
    let methods = read_counted(client).await?;
    if methods.contains(&WITH_LOGIN) {
        client.write_all(&[5, WITH_LOGIN]).await?;
        let _version = client.read_u8().await?;
        for _ in ["user", "password"] {
            login.push(' ');
            login.push_str(&String::from_utf8_lossy(&read_counted(client).await?));
        }
        client.write_all(&[1, 0]).await?;
    } else {
        client.write_all(&[5, 0]).await?;
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let host = String::from_utf8_lossy(&read_counted(client).await?).into_owned();
    let port = client.read_u16().await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(format!("{host}:{port}{login}"))
}

async fn read_counted(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}
