//! Reaches the API server: its client, and the runtime the watches live on.

use std::{io, path::Path, path::PathBuf, thread, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::runtime::{Builder, Runtime};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot use the kubeconfig {path}")]
    Kubeconfig { path: PathBuf, source: kube::config::KubeconfigError },
    #[error(
        "no cluster to watch: no kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config) and not in a Pod"
    )]
    NoCluster { source: kube::config::InferConfigError },
    #[error("cannot make a client of the API server {server}")]
    Client { server: String, source: kube::Error },
}

/// By the kubeconfig, else `KUBECONFIG` or `~/.kube/config`, else the Pod's own account.
///
/// # Errors
/// When there is none of them, or what they say cannot be used.
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
    // Failures are to be seen, and each kind's own to wait for.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A watch may be silent for as long as it likes; who watches it notices when that is too long.
    config.read_timeout = None;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| ClientError::Client { server, source })
}

/// A runtime for the watches. Waking up costs more than reading: before it would block, it rests,
/// then drains all connections at once. Idle it costs nothing.
///
/// # Errors
/// When the operating system gives no event queue.
pub fn runtime(batch: Duration) -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    if !batch.is_zero() {
        builder.on_thread_park(move || thread::sleep(batch));
    }
    builder.build()
}
