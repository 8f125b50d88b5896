//! The format of the file, and the transactions that write it.

use crate::clock::Moment;
use crate::session::{EpochSeconds, Reason, SessionId, Source};
use crate::store::table::{StoredEnd, StoredSession};
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::HashMap;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Session id → last activity, its source, created, ended (0 where live), reason (0 where live).
const SESSIONS: TableDefinition<'_, [u8; 16], (u64, u8, u64, u64, u8)> = TableDefinition::new("sessions");
/// Session id → the start of its idle time when it ended, if that was not its last activity.
const COUNTING: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("counting");
/// Values that concern the whole file.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// The version of the file format. This release refuses a later one.
const FORM: u64 = 1;

/// The cache for the file's own pages, in bytes. The sessions themselves are all in the table.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Why a file cannot be the store.
#[derive(Debug)]
pub struct FileError {
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Open(std::io::Error),
    InUse,
    Form(u64),
    Database(Box<redb::Error>),
}

impl FileError {
    /// Whether another process has the file open.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self.cause, Cause::InUse)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[store] url = \"file:{}\": ", self.path.display())?;
        match &self.cause {
            Cause::Open(error) => {
                write!(f, "cannot be opened ({error}); make its folder, writable for the user idlegate runs as")
            }
            Cause::InUse => f.write_str("is in use by another process; each idlegate needs a file of its own"),
            Cause::Form(form) => {
                write!(f, "was written by a later version (form {form}); use that version, or another file")
            }
            Cause::Database(error) => {
                write!(f, "is damaged or no store of idlegate ({error}); move it away to begin with an empty one")
            }
        }
    }
}

impl std::error::Error for FileError {}

/// The content of the file.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) records: HashMap<SessionId, StoredSession>,
    /// The start of unbroken counting.
    pub(super) counting: EpochSeconds,
    /// The last time at which an idlegate was counting.
    pub(super) counted: CountedUntil,
}

/// A moment at which an idlegate was counting, by each clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct CountedUntil {
    /// In epoch milliseconds, by the store's own time.
    pub(super) epoch: u64,
    /// By the machine's clock, which counts from a boot.
    pub(super) at: Moment,
    /// The boot. `None` in a file that lacks it, or where the system did not provide it.
    pub(super) boot: Option<u64>,
}

/// Opens the database. It is opened again after each failure, because redb refuses all further use after one.
type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// The file.
pub(super) struct Disk {
    path: PathBuf,
    open: Open,
    database: Option<Database>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Disk {
    /// The file at `path`, readable by its owner alone.
    pub(super) fn at(path: &Path) -> Result<Self, FileError> {
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        options().map_err(|error| FileError { path: path.to_owned(), cause: Cause::Open(error) })?;
        let file = path.to_owned();
        let open = move || {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file)?;
            Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(FileBackend::new(file)?)
        };
        Self::opened_by(path, Box::new(open))
    }

    pub(super) fn opened_by(path: &Path, open: Open) -> Result<Self, FileError> {
        let path = path.to_owned();
        let database = open().map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => FileError { path: path.clone(), cause: Cause::InUse },
            error => FileError { path: path.clone(), cause: Cause::Database(Box::new(error.into())) },
        })?;
        Ok(Self { path, open, database: Some(database) })
    }

    /// Reads the whole file.
    pub(super) fn load(&self) -> Result<Kept, FileError> {
        let failed = |cause| FileError { path: self.path.clone(), cause };
        let kept = self.read().map_err(|error| failed(Cause::Database(Box::new(error))))?;
        kept.map_err(|form| failed(Cause::Form(form)))
    }

    fn read(&self) -> Result<Result<Kept, u64>, redb::Error> {
        let mut kept = Kept::default();
        let Some(database) = &self.database else { return Ok(Ok(kept)) };
        let reading = database.begin_read()?;
        let about = match reading.open_table(ABOUT) {
            Ok(about) => about,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Ok(kept)),
            Err(error) => return Err(error.into()),
        };
        let number = |name| about.get(name).map(|value| value.map_or(0, |value| value.value()));
        let form = number("form")?;
        if form != FORM {
            return Ok(Err(form));
        }
        kept.counting = number("counting")?;
        let (until, epoch) = (number("counted_until")?, number("counted_epoch")?);
        kept.counted.epoch = until.saturating_mul(1000);
        // An earlier version writes only `counted_until`.
        if epoch / 1000 == until {
            let boot = about.get("boot")?.map(|boot| boot.value());
            kept.counted = CountedUntil { epoch, at: Moment(number("counted_at")?), boot };
        }
        let mut counting = HashMap::new();
        // An earlier version has no such table.
        if let Ok(table) = reading.open_table(COUNTING) {
            for entry in table.iter()? {
                let (id, second) = entry?;
                counting.insert(id.value(), second.value());
            }
        }
        for entry in reading.open_table(SESSIONS)?.iter()? {
            let (id, value) = entry?;
            let counting = counting.get(&id.value()).copied();
            let (last_activity, source, created, ended, reason) = value.value();
            let record = StoredSession {
                last_activity,
                source: Source::from_code(source).unwrap_or(Source::Request),
                created,
                end: reason_of(reason).map(|reason| StoredEnd { at: ended, reason, counting }),
            };
            kept.records.insert(SessionId::from_bytes(id.value()), record);
        }
        Ok(Ok(kept))
    }

    /// Writes changes in one transaction: after a crash all of them are there, or none.
    pub(super) fn save(
        &mut self,
        changes: &[(SessionId, Option<StoredSession>)],
        counting: EpochSeconds,
        counted: CountedUntil,
    ) -> Result<(), redb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.open)()?,
        };
        write(&database, changes, counting, counted)?;
        // Only a database that did not fail is kept.
        self.database = Some(database);
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn write(
    database: &Database,
    changes: &[(SessionId, Option<StoredSession>)],
    counting: EpochSeconds,
    counted: CountedUntil,
) -> Result<(), redb::Error> {
    let writing = database.begin_write()?;
    {
        let mut about = writing.open_table(ABOUT)?;
        about.insert("form", FORM)?;
        about.insert("counting", counting)?;
        about.insert("counted_until", counted.epoch / 1000)?;
        about.insert("counted_epoch", counted.epoch)?;
        about.insert("counted_at", counted.at.0)?;
        match counted.boot {
            Some(boot) => drop(about.insert("boot", boot)?),
            None => drop(about.remove("boot")?),
        }
        let mut sessions = writing.open_table(SESSIONS)?;
        let mut starts = writing.open_table(COUNTING)?;
        for (id, record) in changes {
            let id = id.to_bytes();
            let Some(StoredSession { last_activity, source, created, end }) = record else {
                sessions.remove(id)?;
                starts.remove(id)?;
                continue;
            };
            let (ended, reason) = end.map_or((0, 0), |end| (end.at, code_of(end.reason)));
            sessions.insert(id, (*last_activity, *source as u8, *created, ended, reason))?;
            match end.and_then(|end| end.counting) {
                Some(second) => drop(starts.insert(id, second)?),
                None => drop(starts.remove(id)?),
            }
        }
    }
    writing.commit()?;
    Ok(())
}

fn code_of(reason: Reason) -> u8 {
    match reason {
        Reason::Idle => 1,
        Reason::Lifetime => 2,
        Reason::Logout => 3,
        Reason::Operator => 4,
    }
}

fn reason_of(code: u8) -> Option<Reason> {
    Reason::ALL.into_iter().find(|reason| code_of(*reason) == code)
}
