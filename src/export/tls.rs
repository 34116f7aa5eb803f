//! Connection settings of both protocols: PEM files and the time a connection may take.

use std::{path::PathBuf, time::Duration};

use super::error::ClientError;
use crate::config::settings::TlsSettings;

/// How long establishing a connection may take. The timeout of the request includes it.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The contents of the PEM files in the settings.
#[derive(Default)]
pub(super) struct Pem {
    /// The certificates of trusted authorities, and the file they are from.
    pub(super) ca: Option<(PathBuf, Vec<u8>)>,
    pub(super) identity: Option<PemIdentity>,
}

/// The client certificate and its private key.
pub(super) struct PemIdentity {
    /// The file of the certificate, for errors.
    pub(super) cert_file: PathBuf,
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Pem {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// When a file cannot be read, or only one of certificate and key is set.
    pub(super) fn read(tls: &TlsSettings) -> Result<Self, ClientError> {
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|source| ClientError::ReadFile { path: path.clone(), source })
        };
        let ca = match &tls.ca_file {
            Some(path) => Some((path.clone(), read(path)?)),
            None => None,
        };
        let identity = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => {
                Some(PemIdentity { cert_file: cert.clone(), cert: read(cert)?, key: read(key)? })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(ClientError::HalfIdentity),
        };
        Ok(Self { ca, identity })
    }
}
