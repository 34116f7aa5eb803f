//! The errors of the outbox.

use std::{
    any::Any,
    io::{self, ErrorKind},
    path::PathBuf,
};

/// The outbox is closed and accepts no more commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox is closed")]
pub struct Closed;

/// The writer thread ended although the outbox was not closed: no commit becomes durable any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox writer thread panicked: {reason}")]
pub struct WriterPanicked {
    pub(super) reason: String,
}

/// The checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the checkpoint")]
pub struct ReadError(#[from] DiskError);

/// The checkpoint could not be deleted.
#[derive(Debug, thiserror::Error)]
#[error("cannot delete the checkpoint")]
pub struct DeleteError(#[from] DiskError);

/// The quarantine could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the quarantine in the outbox file")]
pub struct ListError(#[from] DiskError);

/// Entries could not be removed from quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    #[error("there is no quarantine without the option data_dir")]
    InMemory,
    #[error("the outbox was closed before the entries were removed from quarantine; try again")]
    Closed,
}

/// An outbox on disk could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot create the data directory {} (option data_dir)", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot write to the data directory {} (option data_dir)", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error(
        "{path} is in use by another spanlink process; \
         give each process a data directory of its own (option data_dir)"
    )]
    InUse { path: String },
    #[error("cannot open the outbox file {path}")]
    Open { path: String, source: DiskError },
    #[error("cannot start the outbox writer thread")]
    Thread { source: io::Error },
}

/// An operation on the database file failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("the database reported an error")]
    Database(#[from] redb::Error),
    #[error("the database panicked: {0}")]
    Panicked(String),
    #[error("record {sequence} is corrupt")]
    Record { sequence: u64 },
    #[error("record {position} of entry {id} in quarantine is corrupt")]
    Quarantined { id: u64, position: u32 },
    #[error("the reason of entry {id} in quarantine is corrupt")]
    Refusal { id: u64 },
}

impl DiskError {
    /// Whether the file system has no room left.
    pub(super) fn is_disk_full(&self) -> bool {
        use ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Database(redb::Error::Io(error)) => {
                matches!(error.kind(), StorageFull | QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Whether the content of the file is at fault. Otherwise access to the file failed, and the
    /// same operation may succeed later.
    pub(super) fn is_corruption(&self) -> bool {
        use ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match self {
            Self::Panicked(_)
            | Self::Record { .. }
            | Self::Quarantined { .. }
            | Self::Refusal { .. } => true,
            // redb reports a header with a wrong length or a wrong magic number as an I/O error.
            Self::Database(redb::Error::Io(error)) => {
                matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
            }
            Self::Database(error) => matches!(
                error,
                redb::Error::Corrupted(_)
                    | redb::Error::RepairAborted
                    | redb::Error::UpgradeRequired(_)
                    | redb::Error::TableTypeMismatch { .. }
                    | redb::Error::TypeDefinitionChanged { .. }
                    | redb::Error::TableIsMultimap(_)
            ),
        }
    }
}

/// The message of a panic, from the payload that `catch_unwind` returned.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}
