//! The users of the API server: their tokens, and the kubeconfig files with these.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

/// A user with a token of the API server; fixed when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// May everything (`system:masters`).
    Admin,
    /// May what RBAC grants this service account, which need not exist for that.
    Service { namespace: String, name: String },
    /// Has a token and no permission beyond what every authenticated user has.
    Unprivileged,
}

impl Account {
    /// The daemon's own account, as the shipped manifests name it.
    pub(crate) fn spanlink() -> Self {
        Self::Service { namespace: "spanlink-system".to_owned(), name: "spanlink".to_owned() }
    }

    /// The account's token. No secret: the API server that takes it listens on 127.0.0.1 and holds
    /// nothing but what tests put there.
    pub(crate) fn token(&self) -> String {
        format!("token-of-{}", self.file_stem())
    }

    fn user(&self) -> String {
        match self {
            Self::Admin => "admin".to_owned(),
            Self::Service { namespace, name } => {
                format!("system:serviceaccount:{namespace}:{name}")
            }
            Self::Unprivileged => "nobody".to_owned(),
        }
    }

    fn groups(&self) -> Vec<String> {
        match self {
            Self::Admin => vec!["system:masters".to_owned()],
            // The groups that a service account's real token carries.
            Self::Service { namespace, .. } => vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            Self::Unprivileged => Vec::new(),
        }
    }

    fn file_stem(&self) -> String {
        self.user().replace(':', "-")
    }

    pub(crate) fn kubeconfig_path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.kubeconfig", self.file_stem()))
    }

    /// Writes the kubeconfig file; its certificate authority is the API server's own certificate.
    pub(crate) fn write_kubeconfig(
        &self,
        folder: &Path,
        url: &str,
        authority: &Path,
    ) -> Result<()> {
        // JSON is YAML. A namespace is not set: it would be the one of `kubectl` without `-n`.
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "test",
                "cluster": { "server": url, "certificate-authority": authority },
            }],
            "users": [{ "name": "user", "user": { "token": self.token() } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
            "current-context": "test",
        });
        let path = self.kubeconfig_path(folder);
        fs::write(&path, kubeconfig.to_string())
            .with_context(|| format!("write {}", path.display()))
    }
}

/// The text of `--token-auth-file`: token, user, uid and groups of each account.
pub(crate) fn token_file(accounts: &[Account]) -> String {
    accounts.iter().enumerate().fold(String::new(), |mut text, (uid, account)| {
        let (token, user) = (account.token(), account.user());
        let line = format!("{token},{user},{uid},\"{}\"", account.groups().join(","));
        // Writing to a String cannot fail.
        writeln!(text, "{line}").ok();
        text
    })
}
