//! The one control plane that the tests of a binary share, each in namespaces of its own; and those
//! that tests have for themselves.

use std::{
    io::{Write, stderr},
    ops::Deref,
};

use anyhow::{Context, Result};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::plane::{ControlPlane, Options};

/// Belongs to no test's runtime: servers are processes, and clients are made for each test.
static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// Each is six processes, so many at once would make each other late.
static OWN: Semaphore = Semaphore::const_new(2);

/// Everything, with Jaeger; started by the first test that asks. A test that kills or restarts parts,
/// or counts what happens in the whole cluster, starts its own.
pub(crate) async fn shared() -> Result<&'static ControlPlane> {
    let start = async || ControlPlane::start(&Options::default().with_jaeger(), &to_stderr).await;
    SHARED.get_or_try_init(start).await.context("the shared control plane")
}

/// A test's own, once there are not too many.
pub(crate) async fn own(options: &Options) -> Result<Own> {
    let permit = OWN.acquire().await?;
    let plane = ControlPlane::start(options, &to_stderr).await?;
    Ok(Own { plane, _permit: permit })
}

/// A control plane that counts as one of the few at once.
pub(crate) struct Own {
    plane: ControlPlane,
    /// After `plane`, so that its servers have ended before the next begin.
    _permit: SemaphorePermit<'static>,
}

impl Deref for Own {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.plane
    }
}

/// Prints progress past the test harness, which would keep it until a test fails: a first build takes
/// ten minutes.
pub(crate) fn to_stderr(message: &str) {
    writeln!(stderr(), "{message}").ok();
}
