//! How the database file is opened, and how a transaction begins.

use redb::{Builder, Database, Durability, TableError, WriteTransaction};

/// redb's page cache. At most half of it holds pages to be written, the rest pages that were read.
/// One export batch and its commits fit, and the system's page cache holds the other pages, so a
/// larger cache would only add to the memory of the daemon.
const CACHE_BYTES: usize = 2 << 20;

/// The settings with which every database file is opened or created.
pub(super) fn database_builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // By default redb trusts a file that another program changed; with this it fails to open.
    builder.set_check_integrity_on_open(true);
    builder
}

/// The first write to a table creates it; until then it is empty.
pub(super) fn if_exists<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // Without two phases redb takes a corrupt newest commit for an interrupted one, and silently
    // returns to the commit before it.
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}
