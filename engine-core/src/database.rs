//! The SQLite database of an engine root: opened once, shared by the parts that keep records in it.
//!
//! This module owns the connections, the durability of a commit and the format versions; each part owns its
//! tables. Several programs may have one database open (WAL, a busy timeout, `BEGIN IMMEDIATE` so that a
//! writer waits at the beginning and never fails in the middle). The file is opened by nothing but SQLite:
//! closing any other descriptor of it would drop SQLite's POSIX locks (fcntl(2)).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, ErrorKind, Result};

/// How much of a crash a commit survives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// Power loss: the commit is synced.
    PowerLoss,
    /// The death of every program, but not of the machine: enough for what cannot outlive a reboot.
    Crash,
}

/// A database shared by the parts of an engine.
pub struct Database {
    path: Option<PathBuf>,
    /// Whoever reads waits for no writer. A database in memory has only this one.
    reader: Mutex<Connection>,
    /// Those that write, since `synchronous` is a property of a connection; opened when they are first needed.
    synced: Mutex<Option<Connection>>,
    unsynced: Mutex<Option<Connection>>,
}

impl Database {
    /// Opens the database at `path`, and creates it if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the file is no database; else what the file system says.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        let reader = Mutex::new(connect(path, "NORMAL")?);
        close_to_others(path)
            .map_err(|e| Error::from_io("set permissions of database", e).with("path", path.display()))?;
        let (synced, unsynced) = Default::default();
        Ok(Arc::new(Self { path: Some(path.to_owned()), reader, synced, unsynced }))
    }

    /// Creates a database in memory, which ends with this value.
    ///
    /// # Errors
    /// [`ErrorKind::ResourceExhausted`] if there is no memory.
    pub fn in_memory() -> Result<Arc<Self>> {
        let connection = Connection::open_in_memory()
            .and_then(|c| configure(c, "OFF"))
            .map_err(|e| Error::from_sqlite("open database in memory", e))?;
        let (synced, unsynced) = Default::default();
        Ok(Arc::new(Self { path: None, reader: Mutex::new(connection), synced, unsynced }))
    }

    /// Brings the tables of `component` up to date: `steps[n]` leads from version n to n + 1.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if a newer program has been here.
    pub fn migrate(&self, component: &str, steps: &[&str]) -> Result<()> {
        let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
        let current = self
            .read(|c| {
                c.query_row("SELECT version FROM format WHERE component = ?1", [component], |r| r.get(0))
            })
            .unwrap_or(0_i64);
        if current == known {
            return Ok(());
        }
        self.write(Durability::PowerLoss, |tx| {
            tx.execute_batch(
                "CREATE TABLE IF NOT EXISTS format (component TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
            )?;
            // Read again under the lock: another program may have been faster.
            let version: i64 = tx
                .query_row("SELECT version FROM format WHERE component = ?1", [component], |r| r.get(0))
                .or_else(|e| if e == rusqlite::Error::QueryReturnedNoRows { Ok(0) } else { Err(e) })?;
            if version > known {
                return Err(Error::new(ErrorKind::Unsupported, "open database")
                    .with("component", component)
                    .with_message(format!("its format has version {version}, newer than {known}"))
                    .with_hint("use the program that wrote it, or a newer one")
                    .into());
            }
            for step in steps.iter().skip(usize::try_from(version).unwrap_or(0)) {
                tx.execute_batch(step)?;
            }
            tx.execute("INSERT OR REPLACE INTO format VALUES (?1, ?2)", (component, known))?;
            Ok(())
        })
    }

    /// Reads. It waits for other readers alone: a few rows take some microseconds, less than it takes to have another thread
    /// read them; more of them belong off the async workers.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&lock(&self.reader)).map_err(|e| self.error("read database", e))
    }

    /// Runs `work` in one transaction, which is committed if it returns `Ok`. Blocks for as long as other writers and the file
    /// system take: call it off the async workers.
    ///
    /// # Errors
    /// What `work` returns, or what SQLite says.
    pub fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, WriteError>,
    ) -> Result<T> {
        let Some(path) = &self.path else { return self.transact(&mut lock(&self.reader), work) };
        let (connection, synchronous) = match durability {
            Durability::PowerLoss => (&self.synced, "FULL"),
            Durability::Crash => (&self.unsynced, "NORMAL"),
        };
        let mut connection = lock(connection);
        let connection = match &mut *connection {
            Some(open) => open,
            closed => closed.insert(connect(path, synchronous)?),
        };
        self.transact(connection, work)
    }

    fn transact<T>(
        &self,
        connection: &mut Connection,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, WriteError>,
    ) -> Result<T> {
        let tx = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| self.error("begin transaction", e))?;
        let value = work(&tx).map_err(|e| match e {
            WriteError::Sqlite(e) => self.error("write database", e),
            WriteError::Own(e) => e,
        })?;
        tx.commit().map_err(|e| self.error("commit transaction", e))?;
        Ok(value)
    }

    fn error(&self, operation: &'static str, error: rusqlite::Error) -> Error {
        let path = self.path.as_deref().map_or_else(|| ":memory:".into(), |p| p.to_string_lossy());
        Error::from_sqlite(operation, error).with("path", path)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a transaction is given up: SQLite's word, or the caller's own.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The caller decided so.
    #[error(transparent)]
    Own(#[from] Error),
}

fn lock<T>(connection: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a transaction rolled it back: the connection itself is sound.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(path: &Path, synchronous: &str) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
        .and_then(|connection| configure(connection, synchronous))
        .map_err(|e| Error::from_sqlite("open database", e).with("path", path.display()))
}

fn configure(connection: Connection, synchronous: &str) -> rusqlite::Result<Connection> {
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The last program to close a database would copy its log back, sync twice and delete the log, which the next
    // one makes and syncs anew: several milliseconds of every short program. Commits copy it back as it grows.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

impl Error {
    /// Creates an error from one of SQLite.
    #[must_use]
    pub fn from_sqlite(operation: &'static str, error: rusqlite::Error) -> Self {
        use rusqlite::ffi::ErrorCode as Code;
        let kind = match error.sqlite_error_code() {
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => ErrorKind::Corrupt,
            Some(Code::DiskFull | Code::OutOfMemory) => ErrorKind::ResourceExhausted,
            Some(Code::PermissionDenied | Code::ReadOnly | Code::AuthorizationForStatementDenied) => {
                ErrorKind::PermissionDenied
            }
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => ErrorKind::Unavailable,
            Some(Code::ConstraintViolation) => ErrorKind::AlreadyExists,
            _ => ErrorKind::Other,
        };
        Self::new(kind, operation).with_source(error)
    }
}

/// Leaves the database to its owner (SECURITY B9), without opening it. SQLite makes its files for all to read, and gives
/// those it makes later the mode of the first.
fn close_to_others(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o600)) {
            // The other two come and go with their users.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[&str] = &["CREATE TABLE t (x INTEGER) STRICT", "ALTER TABLE t ADD COLUMN y INTEGER"];

    #[test]
    fn two_programs_migrate_once_and_see_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        let a = Database::open(&path).unwrap();
        let b = Database::open(&path).unwrap();
        a.migrate("t", &STEPS[..1]).unwrap();
        b.migrate("t", STEPS).unwrap();
        a.write(Durability::Crash, |tx| Ok(tx.execute("INSERT INTO t VALUES (1, 2)", [])?)).unwrap();
        let y: i64 = b.read(|c| c.query_row("SELECT y FROM t", [], |r| r.get(0))).unwrap();
        assert_eq!(y, 2);
        assert_eq!(a.migrate("t", &STEPS[..1]).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_failed_transaction_changes_nothing() {
        let db = Database::in_memory().unwrap();
        db.migrate("t", STEPS).unwrap();
        let failed: Result<()> = db.write(Durability::PowerLoss, |tx| {
            tx.execute("INSERT INTO t VALUES (1, 2)", [])?;
            Err(Error::new(ErrorKind::Conflict, "test").into())
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Conflict);
        let rows: i64 = db.read(|c| c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))).unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn a_file_that_is_no_database_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert_eq!(Database::open(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
