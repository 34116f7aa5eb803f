//! Creates the client of the API server and the runtime of the watches.

use std::{io, path::Path, path::PathBuf, thread, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::runtime::{Builder, Runtime};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why no client could be created.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot use the kubeconfig {path}")]
    Kubeconfig { path: PathBuf, source: kube::config::KubeconfigError },
    #[error(
        "no cluster to watch: no kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config) and not in a Pod"
    )]
    NoCluster { source: kube::config::InferConfigError },
    #[error("cannot create a client for the API server {server}")]
    Client { server: String, source: kube::Error },
}

/// Creates a client from the kubeconfig, else from `KUBECONFIG` or `~/.kube/config`, else from the
/// service account of the Pod.
///
/// # Errors
/// When none of these exists, or its content is invalid.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, ClientError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let wrong = |source| ClientError::Kubeconfig { path: path.to_owned(), source };
            let file = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(wrong)?
        }
        None => Config::infer().await.map_err(|source| ClientError::NoCluster { source })?,
    };
    // Each watch counts its own failures and backs off by itself.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A watch without events is normal; its reader has a time limit.
    config.read_timeout = None;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| ClientError::Client { server, source })
}

/// Creates the runtime of the watches. A wake-up costs more than a read, so the thread sleeps for
/// `batch` before it blocks, and then reads all connections at once. An idle runtime does not wake.
///
/// # Errors
/// When the operating system does not provide an event queue.
pub fn runtime(batch: Duration) -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    if !batch.is_zero() {
        builder.on_thread_park(move || thread::sleep(batch));
    }
    builder.build()
}
