//! A panic of the writer thread is reported, and stops nothing from ending.

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

/// A disk whose database, once `armed`, cannot be opened without a panic.
#[derive(Debug)]
struct PanickingStorage {
    disk: SimulatedDisk,
    armed: Arc<AtomicBool>,
}

/// The outbox survives a panic of the database, but not a second one, when the payload of the
/// first is dropped.
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

    fn bytes(&self) -> io::Result<Box<dyn Contents>> {
        Storage::bytes(&self.disk)
    }

    fn begin(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        self.disk.begin(builder)
    }

    fn replace(&self) -> io::Result<()> {
        self.disk.replace()
    }
}

impl Display for PanickingStorage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

#[test]
fn a_panic_of_the_writer_thread_closes_the_outbox_and_gives_its_reason() {
    let disk = SimulatedDisk::default();
    let armed = Arc::new(AtomicBool::new(false));
    let storage = PanickingStorage { disk: disk.clone(), armed: Arc::clone(&armed) };
    let limits = Limits::records(1000);
    let outbox = Outbox::stored(Box::new(storage), limits, metrics(), PATIENCE).unwrap();
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
    assert_eq!(on(&disk).take(9, 9), ["durable"]);
}

#[test]
fn closing_the_outbox_is_not_reported_as_an_end_of_the_writer_thread() {
    let outbox = on(&SimulatedDisk::default());
    outbox.close();
    wait(outbox.written());
    assert!(outbox.ended().now_or_never().is_none());
    let outbox = Outbox::in_memory(Limits::records(1), metrics());
    assert!(outbox.ended().now_or_never().is_none());
}
