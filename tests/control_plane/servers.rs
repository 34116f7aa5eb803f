//! Each component's command line.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use serde_json::json;

use super::accounts::{Account, token_file};
use super::binaries::Binaries;
use super::server::{Program, flag};
use super::{jaeger, ports, stages};

/// The components, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    /// The fake kubelet, of all nodes.
    Kwok,
    Jaeger,
}

/// The constants over kills and restarts of components: ports, files, flags.
pub(crate) struct Layout {
    pub(crate) folder: PathBuf,
    pub(crate) binaries: Binaries,
    pub(crate) etcd_port: u16,
    etcd_peer_port: u16,
    api_server_port: u16,
    pub(crate) jaeger: jaeger::Ports,
    audit: bool,
    api_server_flags: Vec<String>,
}

impl Layout {
    /// Chooses ports and writes every file that a server reads at its start.
    pub(crate) fn new(
        folder: &Path,
        binaries: Binaries,
        accounts: &[Account],
        audit: bool,
        api_server_flags: &[String],
    ) -> Result<Self> {
        let layout = Self {
            folder: folder.to_owned(),
            binaries,
            etcd_port: ports::free()?,
            etcd_peer_port: ports::free()?,
            api_server_port: ports::free()?,
            jaeger: jaeger::Ports::free()?,
            audit,
            api_server_flags: api_server_flags.to_vec(),
        };
        layout.write("tokens.csv", &token_file(accounts))?;
        layout.write("service-account.key", &service_account_key()?)?;
        layout.write("stages.yaml", &stages::configuration(&layout.binaries.kwok_stages)?)?;
        layout.write("jaeger.yaml", &layout.jaeger.configuration())?;
        if audit {
            let policy = json!({
                "apiVersion": "audit.k8s.io/v1",
                "kind": "Policy",
                "omitStages": ["RequestReceived"],
                "rules": [{ "level": "Metadata" }],
            });
            layout.write("audit-policy.yaml", &policy.to_string())?;
        }
        let (url, authority) = (layout.api_server_url(), layout.authority());
        for account in accounts {
            account.write_kubeconfig(&layout.folder, &url, &authority)?;
        }
        Ok(layout)
    }

    pub(crate) fn api_server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_server_port)
    }

    pub(crate) fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    pub(crate) fn etcd_data(&self) -> PathBuf {
        self.folder.join("etcd")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// The certificate that the API server makes for itself at its first start. The file holds the
    /// authority that signed it as well, so clients can verify the server by it.
    fn authority(&self) -> PathBuf {
        self.folder.join("certificates/apiserver.crt")
    }

    /// Writes the authority alone, for the controllers that hand it on to Pods: they refuse a bundle
    /// with the server's own certificate in it.
    pub(crate) fn write_root_authority(&self) -> Result<()> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        let path = self.authority();
        let chain =
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let (_, last) = chain
            .rsplit_once(BEGIN)
            .with_context(|| format!("no certificate in {}", path.display()))?;
        self.write("root-authority.crt", &format!("{BEGIN}{last}"))
    }

    fn kubeconfig(&self) -> PathBuf {
        Account::Admin.kubeconfig_path(&self.folder)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    pub(crate) fn program(&self, component: Component) -> Program {
        let (name, path, arguments) = match component {
            Component::Etcd => ("etcd", &self.binaries.etcd, self.etcd()),
            Component::ApiServer => {
                ("kube-apiserver", &self.binaries.kube_apiserver, self.api_server())
            }
            Component::ControllerManager => (
                "kube-controller-manager",
                &self.binaries.kube_controller_manager,
                self.controller_manager(),
            ),
            Component::Scheduler => {
                ("kube-scheduler", &self.binaries.kube_scheduler, self.scheduler())
            }
            Component::Kwok => ("kwok", &self.binaries.kwok, self.kwok()),
            Component::Jaeger => ("jaeger", &self.binaries.jaeger, self.jaeger()),
        };
        let log = self.folder.join(format!("{name}.log"));
        Program { name, path: path.clone(), arguments, log }
    }

    fn etcd(&self) -> Vec<OsString> {
        let client = self.etcd_url();
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer_port);
        vec![
            flag("data-dir", self.etcd_data()),
            flag("listen-client-urls", &client),
            flag("advertise-client-urls", &client),
            flag("listen-peer-urls", &peer),
            flag("initial-advertise-peer-urls", &peer),
            flag("initial-cluster", format!("default={peer}")),
            flag("log-level", "warn"),
            // The data need not outlive the machine.
            OsString::from("--unsafe-no-fsync"),
        ]
    }

    fn api_server(&self) -> Vec<OsString> {
        let key = self.folder.join("service-account.key");
        let mut flags = vec![
            flag("etcd-servers", self.etcd_url()),
            flag("cert-dir", self.folder.join("certificates")),
            flag("secure-port", self.api_server_port.to_string()),
            flag("bind-address", "127.0.0.1"),
            // Otherwise it looks for a network interface, which a test machine may not have.
            flag("advertise-address", "127.0.0.1"),
            // A loopback address is not a valid endpoint, and nothing here uses the Service.
            flag("endpoint-reconciler-type", "none"),
            flag("service-account-issuer", "https://kubernetes.default.svc"),
            flag("service-account-key-file", &key),
            flag("service-account-signing-key-file", &key),
            flag("authorization-mode", "RBAC"),
            flag("token-auth-file", self.folder.join("tokens.csv")),
            flag("service-cluster-ip-range", "10.96.0.0/16"),
            flag("allow-privileged", "true"),
        ];
        if self.audit {
            flags.push(flag("audit-policy-file", self.folder.join("audit-policy.yaml")));
            flags.push(flag("audit-log-path", self.audit_log()));
            // Written before the request is answered, so that a test can look right after it.
            flags.push(flag("audit-log-mode", "blocking-strict"));
        }
        flags.extend(self.api_server_flags.iter().map(OsString::from));
        flags
    }

    fn controller_manager(&self) -> Vec<OsString> {
        vec![
            flag("kubeconfig", self.kubeconfig()),
            flag("service-account-private-key-file", self.folder.join("service-account.key")),
            flag("use-service-account-credentials", "true"),
            flag("root-ca-file", self.folder.join("root-authority.crt")),
            flag("leader-elect", "false"),
            flag("bind-address", "127.0.0.1"),
            flag("secure-port", "0"),
            flag("kube-api-qps", "500"),
            flag("kube-api-burst", "1000"),
        ]
    }

    fn scheduler(&self) -> Vec<OsString> {
        vec![
            flag("kubeconfig", self.kubeconfig()),
            flag("leader-elect", "false"),
            flag("bind-address", "127.0.0.1"),
            flag("secure-port", "0"),
        ]
    }

    fn kwok(&self) -> Vec<OsString> {
        vec![
            flag("kubeconfig", self.kubeconfig()),
            flag("manage-all-nodes", "true"),
            flag("cidr", "10.0.0.0/16"),
            flag("config", self.folder.join("stages.yaml")),
            flag("node-lease-duration-seconds", "40"),
        ]
    }

    fn jaeger(&self) -> Vec<OsString> {
        vec![flag("config", self.folder.join("jaeger.yaml"))]
    }
}

/// A new P-256 key in PEM, which signs the tokens of service accounts.
///
/// Any number below the curve's order is a private key, and Go works out the public one, so this needs
/// nothing but random bytes in SEC 1's frame (RFC 5915).
fn service_account_key() -> Result<String> {
    let mut scalar = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut scalar))
        .context("read random bytes from /dev/urandom")?;
    // Certainly below the order, which begins with ffffffff, and certainly not zero.
    scalar[0] = 1;
    let mut der = vec![0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
    der.extend(scalar);
    // The curve: prime256v1, 1.2.840.10045.3.1.7.
    der.extend([0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
    let base64 = serde_json::to_value(ByteString(der)).context("encode a key as base64")?;
    let base64 = base64.as_str().unwrap_or_default();
    Ok(format!("-----BEGIN EC PRIVATE KEY-----\n{base64}\n-----END EC PRIVATE KEY-----\n"))
}
