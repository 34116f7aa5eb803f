//! The data directory: where the database file is stored. One process uses it at a time.

use std::{
    fmt::{self, Debug, Display, Formatter},
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, backends::FileBackend};

use super::error::OpenError;

/// Stores the database file, and its replacement while a corrupt file is being replaced. Its
/// `Display` is the path for log messages. Tests implement it with a simulated disk.
pub(super) trait Storage: Debug + Display + Send + Sync {
    /// Opens the database, or creates it if there is none.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;
    /// The raw bytes of the database file, corrupt or not.
    fn contents(&self) -> io::Result<Box<dyn Contents>>;
    /// Creates an empty replacement beside the database.
    fn create_replacement(&self, builder: &Builder) -> Result<Database, DatabaseError>;
    /// Renames the database so that it is set aside, in place of any older one, and renames the
    /// replacement so that it becomes the database.
    fn install_replacement(&self) -> io::Result<()>;
}

/// The raw bytes of a file, for salvage.
pub(super) trait Contents: Read + Seek {}

impl<T: Read + Seek> Contents for T {}

/// The directory of the option `data_dir`, locked for this process.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    /// Held until the directory is dropped. The database locks its own file too, but releases
    /// that lock while the file is reopened or replaced.
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if it is missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| OpenError::Directory { path: path.to_owned(), source })?;
        let lock_error = |source| OpenError::Lock { path: path.to_owned(), source };
        let lock = set_private(OpenOptions::new().write(true).create(true))
            .open(path.join("spanlink.lock"))
            .map_err(lock_error)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { path: path.display().to_string() });
            }
            Err(TryLockError::Error(source)) => return Err(lock_error(source)),
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        directory.finish_interrupted_replacement().map_err(lock_error)?;
        Ok(directory)
    }

    /// Whether the directory has a database, or what remains of one whose replacement was interrupted.
    pub(super) fn has_database(path: &Path) -> bool {
        ["spanlink.redb", "spanlink.redb.damaged"].iter().any(|file| path.join(file).exists())
    }

    fn database_path(&self) -> PathBuf {
        self.path.join("spanlink.redb")
    }

    fn replacement_path(&self) -> PathBuf {
        self.path.join("spanlink.redb.new")
    }

    fn damaged_path(&self) -> PathBuf {
        self.path.join("spanlink.redb.damaged")
    }

    /// A process can be killed between the two renames of [`Storage::install_replacement`]. This
    /// does the second one.
    fn finish_interrupted_replacement(&self) -> io::Result<()> {
        let is_missing = !self.database_path().try_exists()?;
        if is_missing
            && self.damaged_path().try_exists()?
            && self.replacement_path().try_exists()?
        {
            fs::rename(self.replacement_path(), self.database_path())?;
        }
        Ok(())
    }

    /// Makes renames durable: a file survives power loss only if its directory entry does.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn open_database(path: &Path, builder: &Builder) -> Result<Database, DatabaseError> {
    let file = set_private(OpenOptions::new().read(true).write(true).create(true)).open(path)?;
    builder.create_with_backend(FileBackend::new(file)?)
}

/// Lets only this user read a file that is created.
fn set_private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.truncate(false).mode(0o600)
}

impl Storage for DataDirectory {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        if self.database_path().try_exists()? {
            return open_database(&self.database_path(), builder);
        }
        // The file gets its name when it is complete. If its creation is interrupted, the next
        // start finds no database, instead of one that looks corrupt.
        let database = self.create_replacement(builder)?;
        fs::rename(self.replacement_path(), self.database_path())?;
        self.sync()?;
        Ok(database)
    }

    fn contents(&self) -> io::Result<Box<dyn Contents>> {
        Ok(Box::new(File::open(self.database_path())?))
    }

    fn create_replacement(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        // An earlier process may have left an incomplete replacement.
        match fs::remove_file(self.replacement_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        open_database(&self.replacement_path(), builder)
    }

    fn install_replacement(&self) -> io::Result<()> {
        fs::rename(self.database_path(), self.damaged_path())?;
        fs::rename(self.replacement_path(), self.database_path())?;
        self.sync()
    }
}

impl Display for DataDirectory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.database_path().display(), f)
    }
}
