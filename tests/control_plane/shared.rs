//! The one control plane that the tests of a binary share, each in namespaces of its own.

use std::io::{Write, stderr};

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use super::plane::{ControlPlane, Options};

/// Belongs to no test's runtime: servers are processes, and clients are made for each test.
static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// Everything, with Jaeger; started by the first test that asks. A test that kills or restarts parts,
/// or counts what happens in the whole cluster, starts its own.
pub(crate) async fn shared() -> Result<&'static ControlPlane> {
    let start = async || ControlPlane::start(&Options::default().with_jaeger(), &to_stderr).await;
    SHARED.get_or_try_init(start).await.context("the shared control plane")
}

/// Tells progress past the test harness, which would keep it until a test fails: a first build takes
/// ten minutes, and who waits should know for what.
pub(crate) fn to_stderr(message: &str) {
    writeln!(stderr(), "{message}").ok();
}
