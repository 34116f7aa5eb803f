//! A panic of the writer thread is reported, and blocks neither producer nor shutdown.

use std::{
    fmt::{self, Display, Formatter},
    io,
    panic::panic_any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::FutureExt as _;
use redb::{Builder, Database, DatabaseError};

use super::{
    super::{
        Closed,
        storage::{Contents, Storage},
    },
    simulated::{Faults, SimulatedDisk},
    *,
};

/// A disk whose `open` panics once `armed` is set.
#[derive(Debug)]
struct PanickingStorage {
    disk: SimulatedDisk,
    armed: Arc<AtomicBool>,
}

/// A panic payload that panics again when it is dropped. The outbox turns the first panic of a
/// database operation into an error, so only the second one ends the thread.
struct SecondPanic;

impl Drop for SecondPanic {
    fn drop(&mut self) {
        panic!("the second panic");
    }
}

impl Storage for PanickingStorage {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        if self.armed.load(Ordering::SeqCst) {
            panic_any(SecondPanic);
        }
        self.disk.open(builder)
    }

    fn contents(&self) -> io::Result<Box<dyn Contents>> {
        self.disk.contents()
    }

    fn create_replacement(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        self.disk.create_replacement(builder)
    }

    fn install_replacement(&self) -> io::Result<()> {
        self.disk.install_replacement()
    }
}

impl Display for PanickingStorage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

#[test]
fn a_panic_of_the_writer_thread_closes_the_outbox_and_reports_the_reason() {
    let disk = SimulatedDisk::default();
    let armed = Arc::new(AtomicBool::new(false));
    let storage = PanickingStorage { disk: disk.clone(), armed: Arc::clone(&armed) };
    let limits = Limits::records(1000);
    let outbox = Outbox::with_storage(Box::new(storage), limits, metrics(), BACKOFF).unwrap();
    outbox.commit(commit(&["durable"]));
    wait(outbox.written());
    assert!(outbox.ended().now_or_never().is_none());
    armed.store(true, Ordering::SeqCst);
    disk.fail(Faults { writes: 1, ..Faults::default() });
    outbox.commit(commit(&["lost"]));
    let failure = wait(outbox.ended());
    assert_eq!(failure.to_string(), "the outbox writer thread panicked: the second panic");
    assert_eq!(wait(outbox.ended()), failure);
    assert_eq!(wait(outbox.ready()), Err(Closed));
    wait(outbox.written());
    drop(outbox);
    assert_eq!(open_on(&disk).take(9, 9), ["durable"]);
}

#[test]
fn closing_the_outbox_is_not_reported_as_a_panic() {
    let outbox = open_on(&SimulatedDisk::default());
    outbox.close();
    wait(outbox.written());
    assert!(outbox.ended().now_or_never().is_none());
    let outbox = Outbox::in_memory(Limits::records(1), metrics());
    assert!(outbox.ended().now_or_never().is_none());
}
