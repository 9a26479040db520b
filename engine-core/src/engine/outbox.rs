//! Events that are there exactly if their change is, whenever a program is killed.
//!
//! A change in the database brings its events along in the same transaction, as rows of an outbox; they are appended to the
//! journal right after the commit. A change elsewhere (a directory renamed, a group frozen) has its row committed first,
//! as an *intent*. The row goes with the next transaction, not with one of its own. What a killed program left is settled
//! by the next open: its key in the journal says that it was appended; else the program's death, and for an intent a look
//! at the object, say whether it has to be.
//! Invariant: a row of a living program is that program's to append.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Transaction, params};

use crate::database::{Database, Durability, WriteError};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Journal, Line};

use super::records::ProcessIdentity;

const STEPS: &[&str] = &["CREATE TABLE outbox (
    key INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    intent INTEGER NOT NULL,
    line TEXT NOT NULL
) STRICT"];

/// The outbox of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Arc<Database>,
    journal: Journal,
    owner: String,
    /// Rows that are done with, for the next transaction to remove.
    done: Mutex<Vec<i64>>,
}

/// What a killed program left, and only a look at the object can settle.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub(crate) event: Event,
    row: (i64, Line),
}

/// A row for a change that is under way.
#[derive(Debug)]
pub(crate) struct Intent {
    key: i64,
    line: Line,
}

impl Outbox {
    /// Opens the outbox. Blocks.
    pub(crate) fn open(database: Arc<Database>, journal: Journal) -> Result<Self> {
        database.migrate("outbox", STEPS)?;
        let owner = serde_json::to_string(&ProcessIdentity::current()).unwrap_or_default();
        Ok(Self(Arc::new(Inner { database, journal, owner, done: Mutex::default() })))
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.0.database
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    fn done(&self) -> MutexGuard<'_, Vec<i64>> {
        self.0.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one transaction; the events it puts into the list happen if and only if it commits. Blocks.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>, &mut Vec<Event>) -> Result<T, WriteError>,
    ) -> Result<T> {
        let settled = std::mem::take(&mut *self.done());
        let mut rows = Vec::new();
        let written = self.0.database.write(durability, |tx| {
            let mut events = Vec::new();
            let value = work(tx, &mut events)?;
            for event in &events {
                rows.push(self.insert(tx, event, false)?);
            }
            delete(tx, &settled)?;
            Ok(value)
        });
        let value = written.inspect_err(|_| self.done().extend(&settled))?;
        self.append(rows);
        Ok(value)
    }

    /// Announces a change that is no transaction. Blocks.
    pub(crate) fn intend(&self, event: &Event) -> Result<Intent> {
        let settled = std::mem::take(&mut *self.done());
        let written = self.0.database.write(Durability::Crash, |tx| {
            delete(tx, &settled)?;
            self.insert(tx, event, true)
        });
        let (key, line) = written.inspect_err(|_| self.done().extend(&settled))?;
        Ok(Intent { key, line })
    }

    /// The change of `intent` happened. Blocks.
    pub(crate) fn happened(&self, intent: Intent) {
        self.append(vec![(intent.key, intent.line)]);
    }

    /// The change of `intent` did not happen. Its row goes now: later the object might look as if it had. Blocks.
    pub(crate) fn withdraw(&self, intent: &Intent) {
        if let Err(error) = self.0.database.write(Durability::Crash, |tx| delete(tx, &[intent.key])) {
            tracing::warn!(%error, "an event that did not happen stays in the outbox");
        }
    }

    fn insert(&self, tx: &Transaction<'_>, event: &Event, intent: bool) -> Result<(i64, Line), WriteError> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|_| Error::new(ErrorKind::Other, "name event"))?;
        let key = i64::from_le_bytes(bytes);
        let line = Line::new(event, Some(key));
        tx.prepare_cached("INSERT INTO outbox VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            key,
            self.0.owner,
            intent,
            line.as_str()
        ])?;
        Ok((key, line))
    }

    fn append(&self, rows: Vec<(i64, Line)>) {
        if rows.is_empty() {
            return;
        }
        let (keys, lines): (Vec<i64>, Vec<Line>) = rows.into_iter().unzip();
        match self.0.journal.append_lines(&lines) {
            Ok(()) => self.done().extend(keys),
            // The change happened all the same; the rows stay, and the next open appends them.
            Err(error) => tracing::warn!(%error, "events are late"),
        }
    }

    /// Appends what killed programs left, and returns what only a look at the objects can settle. Blocks.
    pub(crate) fn recover(&self) -> Result<Vec<Unsettled>> {
        let rows: Vec<(i64, String, bool, String)> = self.0.database.read(|c| {
            c.prepare_cached("SELECT key, owner, intent, line FROM outbox")?
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?
                .collect()
        })?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<i64> = rows.iter().map(|(key, ..)| *key).collect();
        let missing = self.0.journal.missing(&keys)?;
        self.done().extend(keys.iter().filter(|key| !missing.contains(key)));
        let (mut certain, mut unsettled) = (Vec::new(), Vec::new());
        for (key, owner, intent, line) in rows {
            let is_alive = || {
                let owner: Option<ProcessIdentity> = serde_json::from_str(&owner).unwrap_or_default();
                owner.is_some_and(|owner| owner.is_alive())
            };
            if !missing.contains(&key) || is_alive() {
                continue;
            }
            let row = (key, Line::from_text(line));
            match row.1.event() {
                Some(event) if intent => unsettled.push(Unsettled { event, row }),
                Some(_) => certain.push(row),
                // Of a program with another format of lines.
                None => self.done().push(key),
            }
        }
        self.0.journal.append_missing(&certain)?;
        self.done().extend(certain.iter().map(|(key, _)| *key));
        Ok(unsettled)
    }

    /// Settles what [`recover`](Self::recover) returned: appends those that happened. Blocks.
    pub(crate) fn settle(&self, settled: Vec<(Unsettled, bool)>) -> Result<()> {
        let keys: Vec<i64> = settled.iter().map(|(unsettled, _)| unsettled.row.0).collect();
        let rows: Vec<(i64, Line)> = settled
            .into_iter()
            .filter(|(_, happened)| *happened)
            .map(|(unsettled, _)| unsettled.row)
            .collect();
        self.0.journal.append_missing(&rows)?;
        // Now, not later: an intent that did not come to pass must not be looked at again when it has.
        self.0.database.write(Durability::Crash, |tx| delete(tx, &keys))
    }
}

fn delete(tx: &Transaction<'_>, keys: &[i64]) -> Result<(), WriteError> {
    for key in keys {
        tx.prepare_cached("DELETE FROM outbox WHERE key = ?1")?.execute([key])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures_util::StreamExt as _;

    use super::*;
    use crate::events::{Action, EventQuery, ObjectKind};

    fn event(id: &str) -> Event {
        Event::new(ObjectKind::Volume, Action::Create, id)
    }

    async fn ids(journal: &Journal) -> Vec<String> {
        let query = EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_until(SystemTime::now());
        journal.read(query).await.unwrap().map(|event| event.unwrap().id).collect().await
    }

    fn rows(outbox: &Outbox) -> i64 {
        outbox.database().read(|c| c.query_row("SELECT count(*) FROM outbox", [], |r| r.get(0))).unwrap()
    }

    /// An outbox whose program is dead by the time the next one opens it.
    fn of_a_dead_program(dir: &std::path::Path) -> Outbox {
        let database = Database::open(&dir.join("engine.db")).unwrap();
        let outbox = Outbox::open(database, Journal::open(&dir.join("events")).unwrap()).unwrap();
        let inner = Inner {
            database: Arc::clone(outbox.database()),
            journal: outbox.journal().clone(),
            owner: r#"{"pid":1,"started":1,"boot":"another"}"#.to_owned(),
            done: Mutex::default(),
        };
        Outbox(Arc::new(inner))
    }

    #[tokio::test]
    async fn what_a_killed_program_left_is_appended_once() {
        let dir = tempfile::tempdir().unwrap();
        let dead = of_a_dead_program(dir.path());
        dead.write(Durability::Crash, |_, events| {
            events.push(event("whole"));
            Ok(())
        })
        .unwrap();
        // Killed between the commit and the journal; in an intent; after one that was appended.
        for (id, intent) in [("late", false), ("intended", true), ("in vain", true)] {
            dead.database().write(Durability::Crash, |tx| dead.insert(tx, &event(id), intent)).unwrap();
        }
        let done = dead.intend(&event("appended")).unwrap();
        dead.happened(done);
        for _ in 0..2 {
            let database = Database::open(&dir.path().join("engine.db")).unwrap();
            let next = Outbox::open(database, Journal::open(&dir.path().join("events")).unwrap()).unwrap();
            let unsettled = next.recover().unwrap();
            let settled = unsettled.into_iter().map(|u| {
                let happened = u.event.id == "intended";
                (u, happened)
            });
            next.settle(settled.collect()).unwrap();
            let mut found = ids(next.journal()).await;
            found.sort();
            assert_eq!(found, ["appended", "intended", "late", "whole"]);
            next.write(Durability::Crash, |_, _| Ok(())).unwrap();
            assert_eq!(rows(&next), 0);
        }
    }

    #[tokio::test]
    async fn what_did_not_happen_is_no_event() {
        let outbox = Outbox::open(Database::in_memory().unwrap(), Journal::in_memory()).unwrap();
        let failed: Result<()> = outbox.write(Durability::Crash, |_, events| {
            events.push(event("failed"));
            Err(Error::new(ErrorKind::Conflict, "test").into())
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Conflict);
        let intent = outbox.intend(&event("withdrawn")).unwrap();
        outbox.withdraw(&intent);
        assert_eq!((rows(&outbox), ids(outbox.journal()).await.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_living_program_appends_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let database = Database::open(&dir.path().join("engine.db")).unwrap();
            Outbox::open(database, Journal::open(&dir.path().join("events")).unwrap()).unwrap()
        };
        let (a, b) = (open(), open());
        let intent = a.intend(&event("slow")).unwrap();
        assert!(b.recover().unwrap().is_empty());
        assert!(ids(b.journal()).await.is_empty());
        a.happened(intent);
        assert!(b.recover().unwrap().is_empty());
        assert_eq!(ids(b.journal()).await, ["slow"]);
    }
}
