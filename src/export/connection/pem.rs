//! Reads certificates and keys from PEM files, and names the file and its fault when one is unusable.

use std::{fs, path::Path};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject as _},
};

use crate::export::error::ClientError;

/// A file that an option names.
#[derive(Clone, Copy, Debug)]
pub(super) struct PemFile<'a> {
    pub(super) option: &'static str,
    pub(super) path: &'a Path,
}

impl PemFile<'_> {
    /// The certificates of trusted authorities.
    pub(super) fn authorities(self) -> Result<Vec<CertificateDer<'static>>, ClientError> {
        let certificates = self.parse_certificates(&self.read()?)?;
        for (index, certificate) in certificates.iter().enumerate() {
            if let Err(error) = webpki::anchor_from_trusted_cert(certificate) {
                return Err(self.unusable(unusable_certificate(index, &error)));
            }
        }
        Ok(certificates)
    }

    /// A certificate, and those between it and its authority.
    pub(super) fn certificate_chain(self) -> Result<Vec<CertificateDer<'static>>, ClientError> {
        let certificates = self.parse_certificates(&self.read()?)?;
        for (index, certificate) in certificates.iter().enumerate() {
            if let Err(error) = webpki::EndEntityCert::try_from(certificate) {
                return Err(self.unusable(unusable_certificate(index, &error)));
            }
        }
        Ok(certificates)
    }

    pub(super) fn private_key(self) -> Result<PrivateKeyDer<'static>, ClientError> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            self.unusable(match error {
                PemError::NoItemsFound if contains(&bytes, b"ENCRYPTED PRIVATE KEY") => {
                    "the key is encrypted; decrypt it: openssl pkey -in FILE -out key.pem"
                        .to_owned()
                }
                PemError::NoItemsFound if contains(&bytes, b"BEGIN CERTIFICATE") => {
                    "it has a certificate and no private key; name the file of the key".to_owned()
                }
                PemError::NoItemsFound => without_pem(&bytes, "private key", "openssl pkey"),
                other => broken(&other),
            })
        })
    }

    /// An error that names the file and the option.
    pub(super) fn unusable(self, problem: String) -> ClientError {
        let Self { option, path } = self;
        ClientError::TlsFile { option, path: path.to_owned(), problem }
    }

    fn read(self) -> Result<Vec<u8>, ClientError> {
        let Self { option, path } = self;
        fs::read(path).map_err(|source| ClientError::ReadFile {
            option,
            path: path.to_owned(),
            source,
        })
    }

    fn parse_certificates(self, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, ClientError> {
        let certificates: Result<Vec<_>, PemError> =
            CertificateDer::pem_slice_iter(bytes).collect();
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Err(self.unusable(without_pem(bytes, "certificate", "openssl x509")))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(self.unusable(broken(&error))),
        }
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

/// Why a file has no block of PEM. `command` converts such a file.
fn without_pem(bytes: &[u8], expected: &str, command: &str) -> String {
    /// Every certificate and key in DER is a SEQUENCE.
    const DER_SEQUENCE: u8 = 0x30;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        format!("the file is empty; it should have a {expected} in PEM")
    } else if bytes.first() == Some(&DER_SEQUENCE) {
        format!("it is in DER, not in PEM; convert it: {command} -inform der -in FILE -out out.pem")
    } else {
        format!("it has no {expected} in PEM (-----BEGIN …-----)")
    }
}

fn broken(error: &PemError) -> String {
    let problem = match error {
        PemError::MissingSectionEnd { .. } => "a block of PEM in it has no end (-----END …-----)",
        PemError::Base64Decode(_) => "a block of PEM in it is not base64",
        _ => "a block of PEM in it is damaged",
    };
    format!("{problem}; write the file again")
}

fn unusable_certificate(index: usize, error: &webpki::Error) -> String {
    let number = index + 1;
    match error {
        webpki::Error::UnsupportedCertVersion => format!(
            "certificate {number} in it has X.509 version 1, and TLS needs version 3; issue it again \
             with an extension: openssl x509 -req -extfile <(echo extendedKeyUsage=clientAuth) …"
        ),
        _ => format!("certificate {number} in it is damaged ({error}); write the file again"),
    }
}
