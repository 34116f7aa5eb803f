//! Where the database stands: a folder of its own, which one process uses at a time.

use std::{
    fmt::{self, Debug, Display, Formatter},
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, DatabaseError, backends::FileBackend};

use super::disk::DiskError;

/// Why there is no outbox on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is no folder to keep data in (data_dir)", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot write in the folder {} (data_dir)", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("{place} is in use by another spanlink; each needs a data_dir of its own")]
    InUse { place: String },
    #[error("cannot open the outbox {place}")]
    Open { place: String, source: DiskError },
    #[error("cannot start the thread that writes the outbox")]
    Thread { source: io::Error },
}

/// What a database is kept in.
pub(super) trait Storage: Debug + Display + Send + Sync {
    /// Opens the database, or begins one where there is none.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;
    /// The bytes of the database, whatever they are.
    fn bytes(&self) -> io::Result<Box<dyn Contents>>;
    /// Begins another database beside it.
    fn begin(&self, builder: &Builder) -> Result<Database, DatabaseError>;
    /// Sets the database aside, replacing one that was set aside before; what was begun beside it
    /// takes its place.
    fn replace(&self) -> io::Result<()>;
}

pub(super) trait Contents: Read + Seek {}

impl<T: Read + Seek> Contents for T {}

/// The database's file in its folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked as long as it lives. The database locks its own file too, but not while it is being
    /// opened anew or replaced.
    _lock: File,
}

impl Folder {
    /// Creates the folder where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| OpenError::Folder { path: path.to_owned(), source })?;
        let cannot = |source| OpenError::Lock { path: path.to_owned(), source };
        let lock = private(OpenOptions::new().write(true).create(true))
            .open(path.join("spanlink.lock"))
            .map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { place: path.display().to_string() });
            }
            Err(TryLockError::Error(source)) => return Err(cannot(source)),
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.finish_replacing().map_err(cannot)?;
        Ok(folder)
    }

    fn current(&self) -> PathBuf {
        self.path.join("spanlink.redb")
    }

    fn begun(&self) -> PathBuf {
        self.path.join("spanlink.redb.new")
    }

    fn damaged(&self) -> PathBuf {
        self.path.join("spanlink.redb.damaged")
    }

    /// For a process that ended between the two renames of [`Storage::replace`].
    fn finish_replacing(&self) -> io::Result<()> {
        let missing = !self.current().try_exists()?;
        if missing && self.damaged().try_exists()? && self.begun().try_exists()? {
            fs::rename(self.begun(), self.current())?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        // A file is as durable as its name.
        File::open(&self.path)?.sync_all()
    }
}

fn database(path: &Path, builder: &Builder) -> Result<Database, DatabaseError> {
    let file = private(OpenOptions::new().read(true).write(true).create(true)).open(path)?;
    builder.create_with_backend(FileBackend::new(file)?)
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.truncate(false).mode(0o600)
}

impl Storage for Folder {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        if self.current().try_exists()? {
            return database(&self.current(), builder);
        }
        // It has its name once it is whole: one that was cut off is no damaged one.
        let database = self.begin(builder)?;
        fs::rename(self.begun(), self.current())?;
        self.sync()?;
        Ok(database)
    }

    fn bytes(&self) -> io::Result<Box<dyn Contents>> {
        Ok(Box::new(File::open(self.current())?))
    }

    fn begin(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        // What another process left unfinished.
        match fs::remove_file(self.begun()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        database(&self.begun(), builder)
    }

    fn replace(&self) -> io::Result<()> {
        fs::rename(self.current(), self.damaged())?;
        fs::rename(self.begun(), self.current())?;
        self.sync()
    }
}

impl Display for Folder {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.current().display(), f)
    }
}
