//! TLS to the collector: which authorities are trusted, which certificate the client presents, and
//! how both are read again when their files change.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing::{info, warn};
use xxhash_rust::xxh3::Xxh3;

use super::pem::PemFile;
use crate::{config::settings::TlsSettings, error_chain::ErrorChain, export::error::ClientError};

const CA_FILE: &str = "otlp.tls.ca_file";
const CERT_FILE: &str = "otlp.tls.cert_file";
const KEY_FILE: &str = "otlp.tls.key_file";

/// Creates TLS connections. Each handshake uses the files as they are then: certificates expire, and
/// are replaced while the daemon runs.
#[derive(Clone)]
pub(super) struct Tls {
    shared: Arc<Shared>,
    server_name: ServerName<'static>,
}

struct Shared {
    settings: TlsSettings,
    /// The protocol to negotiate, by its name in ALPN.
    protocol: &'static [u8],
    current: Mutex<Current>,
}

/// What the last handshake used.
struct Current {
    config: Arc<ClientConfig>,
    fingerprint: u128,
    /// The files were unusable since, which is logged once.
    is_failing: bool,
}

impl Tls {
    /// Reads and checks the files of the settings. `host` is the name that the certificate of the
    /// server must have, unless the settings name another.
    pub(super) fn new(
        settings: &TlsSettings,
        host: &str,
        protocol: &'static [u8],
    ) -> Result<Self, ClientError> {
        let name = settings.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_invalid| ClientError::ServerName { name: name.to_owned() })?;
        let credentials = Files::read(settings)?;
        let current = Current {
            fingerprint: credentials.fingerprint(),
            config: credentials.config(settings, protocol)?,
            is_failing: false,
        };
        let shared = Shared { settings: settings.clone(), protocol, current: Mutex::new(current) };
        Ok(Self { shared: Arc::new(shared), server_name })
    }

    pub(super) async fn connect<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = Arc::clone(&self.shared);
        let config = tokio::task::spawn_blocking(move || shared.config()).await?;
        TlsConnector::from(config).connect(self.server_name.clone(), stream).await
    }
}

impl Shared {
    /// The configuration of the files as they are now; the last usable one, if they are unusable.
    fn config(&self) -> Arc<ClientConfig> {
        let files = Files::read(&self.settings);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match files {
            Ok(files) if files.fingerprint() == current.fingerprint => None,
            Ok(files) => Some(
                files
                    .config(&self.settings, self.protocol)
                    .map(|config| (config, files.fingerprint())),
            ),
            Err(error) => Some(Err(error)),
        };
        match changed {
            None => current.is_failing = false,
            Some(Ok((config, fingerprint))) => {
                *current = Current { config, fingerprint, is_failing: false };
                info!(
                    "The TLS files of the collector's connection changed; new connections use them."
                );
            }
            Some(Err(error)) => {
                if !std::mem::replace(&mut current.is_failing, true) {
                    let error = ErrorChain(&error);
                    warn!(%error, "Cannot use the changed TLS files; new connections use the previous ones.");
                }
            }
        }
        Arc::clone(&current.config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// The contents of the files that the settings name.
struct Files {
    /// The certificates of the trusted authorities.
    authorities: Vec<CertificateDer<'static>>,
    /// The certificate of the client, with those between it and its authority, and its key.
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Files {
    fn read(settings: &TlsSettings) -> Result<Self, ClientError> {
        let authorities = match &settings.ca_file {
            Some(path) => PemFile { option: CA_FILE, path }.authorities()?,
            None => system_authorities()?,
        };
        let identity = match (&settings.cert_file, &settings.key_file) {
            (Some(cert), Some(key)) => Some((
                PemFile { option: CERT_FILE, path: cert }.certificate_chain()?,
                PemFile { option: KEY_FILE, path: key }.private_key()?,
            )),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(ClientError::HalfIdentity),
        };
        Ok(Self { authorities, identity })
    }

    /// Differs if and only if the contents differ.
    fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        let mut add = |bytes: &[u8]| {
            hash.update(&bytes.len().to_le_bytes());
            hash.update(bytes);
        };
        for certificate in &self.authorities {
            add(certificate);
        }
        add(&[]);
        if let Some((chain, key)) = &self.identity {
            for certificate in chain {
                add(certificate);
            }
            add(key.secret_der());
        }
        hash.digest128()
    }

    fn config(
        &self,
        settings: &TlsSettings,
        protocol: &'static [u8],
    ) -> Result<Arc<ClientConfig>, ClientError> {
        let mut roots = RootCertStore::empty();
        // Those of the configured file are checked already. The system may have others that webpki
        // does not support, which no connection needs.
        roots.add_parsable_certificates(self.authorities.iter().cloned());
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| unusable_identity(settings, &error))?,
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }
}

fn system_authorities() -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        return Err(ClientError::NoAuthorities);
    }
    Ok(loaded.certs)
}

fn unusable_identity(settings: &TlsSettings, error: &rustls::Error) -> ClientError {
    let path = settings.key_file.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let cert_file = settings.cert_file.as_deref().map(|path| path.display().to_string());
    let cert_file = cert_file.unwrap_or_default();
    PemFile { option: KEY_FILE, path }.unusable(match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("it is not the key of the certificate in {cert_file} ({CERT_FILE})")
        }
        other => format!("it is not usable with the certificate in {cert_file} ({other})"),
    })
}
