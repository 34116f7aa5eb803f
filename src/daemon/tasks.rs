//! Supervises the tasks of the daemon: none of them may end before the daemon is stopped.

use std::{any::Any, collections::HashMap, thread};

use anyhow::Context as _;
use tokio::{
    sync::oneshot,
    task::{Id, JoinError, JoinSet},
};
use tracing::error;

use crate::{admin::Health, error_chain::ErrorChain};

/// A task ended although the daemon was not being stopped.
///
/// The reason was logged when the task ended; the caller only chooses the exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {task} failed: {reason}")]
pub struct TaskFailure {
    /// The name of the task: `watch`, `sender`, `outbox`, `admin`, `control`.
    pub task: &'static str,
    /// The error with its causes, or the message of the panic.
    pub reason: String,
}

impl TaskFailure {
    /// A task that ended early has failed, also without an error.
    pub(super) fn new(task: &'static str, ended: anyhow::Result<()>) -> Self {
        let reason = match ended {
            Ok(()) => "it ended before the daemon was stopped".to_owned(),
            Err(error) => ErrorChain(&*error).to_string(),
        };
        Self { task, reason }
    }

    /// Logs why the daemon ends, and lets `/livez` fail until the process is gone.
    pub(super) fn report(&self, health: &Health) {
        error!(task = self.task, error = self.reason, "Stopping because a task failed.");
        health.fail(&self.to_string());
    }
}

/// The tasks that run until the process ends. Dropping them aborts those on a tokio runtime.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task on the current runtime.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let handle = self.running.spawn(work);
        self.names.insert(handle.id(), name);
    }

    /// Resolves when the first task has ended, with its name and reason. Never resolves while every
    /// task runs.
    pub(super) async fn failure(&mut self) -> TaskFailure {
        let Some(end) = self.running.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (id, ended) = match end {
            Ok((id, ended)) => (id, ended),
            Err(error) => (error.id(), Err(anyhow::Error::msg(join_failure(error)))),
        };
        TaskFailure::new(self.name(id), ended)
    }

    /// Ends every task. Returns the first that had panicked or returned an error until then; a task
    /// that returned without an error has done its work.
    pub(super) async fn shut_down(&mut self) -> Option<TaskFailure> {
        self.running.abort_all();
        let mut failure = None;
        while let Some(end) = self.running.join_next_with_id().await {
            let (id, error) = match end {
                Ok((_, Ok(()))) => continue,
                Ok((id, Err(error))) => (id, error),
                Err(error) if error.is_cancelled() => continue,
                Err(error) => (error.id(), anyhow::Error::msg(join_failure(error))),
            };
            failure.get_or_insert_with(|| TaskFailure::new(self.name(id), Err(error)));
        }
        failure
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unnamed")
    }
}

/// Runs `work` on a new thread; the future resolves when it returns or panics.
pub(super) fn spawn_thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<impl Future<Output = anyhow::Result<T>>> {
    let (done, ended) = oneshot::channel();
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = work();
            // The receiver is gone when the daemon no longer waits for the thread.
            done.send(result).ok();
        })
        .with_context(|| format!("cannot start the thread {name}"))?;
    Ok(async move {
        match ended.await {
            Ok(result) => result,
            // Only a panic drops the sender unused, so this does not wait.
            Err(_dropped) => Err(thread.join().map_or_else(
                |panic| anyhow::Error::msg(panic_message(&*panic)),
                |()| anyhow::anyhow!("the thread {name} ended without a result"),
            )),
        }
    })
}

/// The result of a task that was joined; a panic is an error.
pub(super) fn unwind<T>(joined: Result<T, JoinError>) -> anyhow::Result<T> {
    joined.map_err(|error| anyhow::Error::msg(join_failure(error)))
}

/// Why a task could not be joined, as one line.
pub(super) fn join_failure(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic_message(&*panic),
        Err(error) => error.to_string(),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", message.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn panicking_task_is_reported_with_its_name_and_message() {
        let mut tasks = Tasks::default();
        tasks.spawn("admin", std::future::pending());
        tasks.spawn("sender", async { panic!("queue index out of range") });
        let failure = tasks.failure().await;
        assert_eq!(
            failure.to_string(),
            "the task sender failed: panicked: queue index out of range"
        );
    }

    #[tokio::test]
    async fn task_that_returns_is_a_failure_too() {
        let mut tasks = Tasks::default();
        tasks.spawn("admin", async { Err(anyhow::anyhow!("inner").context("outer")) });
        let failure = tasks.failure().await;
        assert_eq!(failure.to_string(), "the task admin failed: outer: inner");
        tasks.spawn("sender", async { Ok(()) });
        let failure = tasks.failure().await;
        let reason = "it ended before the daemon was stopped".to_owned();
        assert_eq!(failure, TaskFailure { task: "sender", reason });
    }

    #[tokio::test(start_paused = true)]
    async fn running_tasks_are_not_failures() {
        let mut tasks = Tasks::default();
        let hour = Duration::from_hours(1);
        assert!(timeout(hour, tasks.failure()).await.is_err());
        tasks.spawn("admin", std::future::pending());
        assert!(timeout(hour, tasks.failure()).await.is_err());
    }

    #[tokio::test]
    async fn panic_of_a_thread_is_its_result() {
        let work = || -> anyhow::Result<()> { panic!("the sink broke") };
        let error = spawn_thread("watch", work).unwrap().await.unwrap_err();
        assert_eq!(error.to_string(), "panicked: the sink broke");
        assert_eq!(spawn_thread("watch", || Ok(7)).unwrap().await.unwrap(), 7);
    }
}
