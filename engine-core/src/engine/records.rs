//! Container records: what the engine was asked for, in SQLite.
//!
//! A record is the configuration of a container and nothing of its running state, which the runtime owns.
//! Invariant: a record is committed before anything is made for its container, and deleted before what is
//! left of the container is swept; so whatever has no record is garbage.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::container_spec::{ContainerSpec, IdMappings, UserNamespace};
use crate::database::{Database, Durability};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Action, Event};
use crate::id::{ContainerId, Name, SecretId};
use crate::image_config::ProcessDefaults;

use super::events::of_container;
use super::fork::{ForkBase, Snapshot};
use super::id_pool::{self, IdPool};
use super::outbox::Outbox;
use super::secrets;

/// How many records are read at once, without another thread.
const FEW: i64 = 16;

const STEPS: &[&str] = &[
    "CREATE TABLE container (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    data TEXT NOT NULL
) STRICT, WITHOUT ROWID",
    id_pool::STEP,
    secrets::STEP,
    // Runs whose end nothing could tell, and the library has.
    "CREATE TABLE lost (id TEXT PRIMARY KEY, started INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];

/// A container as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) name: Name,
    pub(crate) created_at: SystemTime,
    pub(crate) data: RecordData,
}

/// The part of a record that is kept as JSON. New fields get a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordData {
    pub(crate) spec: ContainerSpec,
    /// The image as the user wrote it.
    pub(crate) image: String,
    /// The image's manifest.
    pub(crate) manifest: Digest,
    /// The image's configuration, which is its id.
    pub(crate) config: Digest,
    /// The layers by diff ID, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// What the image says about the process.
    pub(crate) defaults: ProcessDefaults,
    /// The image's architecture.
    pub(crate) architecture: String,
    /// Anonymous volumes made for this container, which go with it.
    #[serde(default)]
    pub(crate) anonymous_volumes: Vec<Name>,
    /// What it was forked from.
    #[serde(default)]
    pub(crate) base: Option<ForkBase>,
    /// States of its root file system, oldest first.
    #[serde(default)]
    pub(crate) snapshots: Vec<Snapshot>,
    /// The images it mounts beside its own, in the order of its mounts.
    #[serde(default)]
    pub(crate) mounted_images: Vec<MountedImage>,
    /// The maps of its own user namespace.
    #[serde(default)]
    pub(crate) id_mappings: Option<IdMappings>,
    /// Containers that are linked to it on the default network, and maybe some that have gone.
    #[serde(default)]
    pub(crate) linked_by: Vec<ContainerId>,
    /// Its secrets, in the order of its spec. It keeps their content as it was at its creation.
    #[serde(default)]
    pub(crate) secrets: Vec<SecretId>,
    /// The program a scoped container ends with.
    #[serde(default)]
    pub(crate) owner: Option<ProcessIdentity>,
}

/// An image whose file system a container mounts.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct MountedImage {
    pub(crate) manifest: Digest,
    /// The layers by diff ID, lowest first.
    pub(crate) layers: Vec<Digest>,
}

impl RecordData {
    /// Returns what a crash must not lose: a container that ends with a program or removes itself need not
    /// survive a power loss, since its processes do not either.
    fn durability(&self) -> Durability {
        if self.owner.is_some() || self.spec.auto_remove { Durability::Crash } else { Durability::PowerLoss }
    }
}

/// A process, told apart from later ones of the same number.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    pub(crate) pid: u32,
    /// The start time in clock ticks since boot, field 22 of /proc/PID/stat (proc_pid_stat(5)).
    pub(crate) started: u64,
    /// /proc/sys/kernel/random/boot_id.
    pub(crate) boot: String,
}

impl ProcessIdentity {
    /// Returns this process.
    pub(crate) fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command in field 2 may hold spaces and parentheses: count from its last one.
        let rest = &stat[stat.rfind(')')? + 2..];
        let started = rest.split(' ').nth(19)?.parse().ok()?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { pid, started, boot })
    }

    /// Returns whether the process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }
}

/// The table of container records.
#[derive(Clone, Debug)]
pub(crate) struct Records(Outbox);

impl Records {
    pub(crate) fn open(outbox: Outbox) -> Result<Self> {
        outbox.database().migrate("containers", STEPS)?;
        Ok(Self(outbox))
    }

    /// Commits a new record, with a range of ids from `pool` if it wants one, and returns it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the name is taken; [`ErrorKind::ResourceExhausted`] if no range is free.
    pub(crate) async fn insert(&self, record: &Record, pool: IdPool) -> Result<Record> {
        let mut record = record.clone();
        self.changing(move |outbox| {
            outbox.write(record.data.durability(), |tx, events| {
                let taken: Option<String> = tx
                    .prepare_cached("SELECT id FROM container WHERE name = ?1")?
                    .query_row([record.name.as_str()], |r| r.get(0))
                    .optional()?;
                if let Some(id) = taken {
                    return Err(Error::new(ErrorKind::AlreadyExists, "create container")
                        .with("name", &record.name)
                        .with_message(format!("the name is in use by container {}", &id[..12]))
                        .with_hint("remove or rename that container, or choose another name")
                        .into());
                }
                match &record.data.spec.user_namespace {
                    Some(UserNamespace::Auto { size }) => {
                        record.data.id_mappings = Some(pool.take(tx, &record.id, *size)??);
                    }
                    Some(UserNamespace::Mapped(maps)) => record.data.id_mappings = Some(maps.clone()),
                    _ => {}
                }
                secrets::take(tx, &mut record)?;
                tx.prepare_cached("INSERT INTO container VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                    record.id.as_str(),
                    record.name.as_str(),
                    nanos(record.created_at),
                    to_json(&record.data)?
                ])?;
                events.push(of_container(Action::Create, &record));
                Ok(())
            })?;
            Ok(record)
        })
        .await
    }

    /// Deletes a record and returns whether it was there.
    pub(crate) async fn delete(&self, record: &Record) -> Result<bool> {
        let record = record.clone();
        self.changing(move |outbox| {
            outbox.write(record.data.durability(), |tx, events| {
                IdPool::free(tx, &record.id)?;
                secrets::let_go(tx, &record)?;
                tx.prepare_cached("DELETE FROM lost WHERE id = ?1")?.execute([record.id.as_str()])?;
                let gone = tx
                    .prepare_cached("DELETE FROM container WHERE id = ?1")?
                    .execute([record.id.as_str()])?
                    > 0;
                if gone {
                    events.push(of_container(Action::Destroy, &record));
                }
                Ok(gone)
            })
        })
        .await
    }

    /// Changes the data of a record in one transaction, so that no change of another program is lost. `change` returns
    /// what tells of it, if anything is to.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such container; what `change` says, and then nothing changed.
    pub(crate) async fn revise<T: Send + 'static, E: Into<Option<Event>>>(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut Record) -> Result<(T, E)> + Send + 'static,
    ) -> Result<T> {
        let id = id.clone();
        self.changing(move |outbox| {
            let find = |c: &rusqlite::Connection| {
                c.prepare_cached("SELECT id, name, created, data FROM container WHERE id = ?1")?
                    .query_row([id.as_str()], from_row)
                    .optional()
            };
            let missing = || {
                Error::new(ErrorKind::NotFound, "change container")
                    .with("container", id.short())
                    .with_message("no such container")
            };
            let durability = outbox.database().read(find)?.ok_or_else(missing)?.data.durability();
            outbox.write(durability, |tx, events| {
                let mut record = find(tx)?.ok_or_else(missing)?;
                let (value, event) = change(&mut record)?;
                tx.prepare_cached("UPDATE container SET data = ?2 WHERE id = ?1")?
                    .execute(params![record.id.as_str(), to_json(&record.data)?])?;
                events.extend(event.into());
                Ok(value)
            })
        })
        .await
    }

    /// Gives the container another name.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if another has it; [`ErrorKind::InvalidArgument`] if it has it itself;
    /// [`ErrorKind::NotFound`] if there is no such container.
    pub(crate) async fn rename(&self, old: &Record, name: &Name) -> Result<()> {
        let renamed = Record { name: name.clone(), ..old.clone() };
        let event = of_container(Action::Rename, &renamed).with("oldName", format!("/{}", old.name));
        self.changing(move |outbox| {
            let failed = |kind| Error::new(kind, "rename container").with("name", &renamed.name);
            outbox.write(renamed.data.durability(), |tx, events| {
                let owner: Option<String> = tx
                    .prepare_cached("SELECT id FROM container WHERE name = ?1")?
                    .query_row([renamed.name.as_str()], |r| r.get(0))
                    .optional()?;
                match owner {
                    Some(owner) if owner == renamed.id.as_str() => {
                        return Err(failed(ErrorKind::InvalidArgument)
                            .with_message("renaming a container with the same name as its current name")
                            .into());
                    }
                    Some(owner) => {
                        return Err(failed(ErrorKind::AlreadyExists)
                            .with_message(format!("the name is in use by container {}", &owner[..12]))
                            .with_hint("remove or rename that container, or choose another name")
                            .into());
                    }
                    None => {}
                }
                let found = tx
                    .prepare_cached("UPDATE container SET name = ?2 WHERE id = ?1")?
                    .execute(params![renamed.id.as_str(), renamed.name.as_str()])?;
                if found == 0 {
                    return Err(failed(ErrorKind::NotFound).with_message("no such container").into());
                }
                events.push(event);
                Ok(())
            })
        })
        .await
    }

    /// Notes that the end of the run that began at `started` was told by `events`; they happen if it was not before, and
    /// the record is there.
    pub(crate) async fn lost(&self, record: &Record, started: SystemTime, events: Vec<Event>) -> Result<()> {
        let (id, durability) = (record.id.clone(), record.data.durability());
        self.changing(move |outbox| {
            let started = nanos(started);
            let known: Option<i64> = outbox.database().read(|c| {
                c.prepare_cached("SELECT started FROM lost WHERE id = ?1")?
                    .query_row([id.as_str()], |r| r.get(0))
                    .optional()
            })?;
            if known == Some(started) {
                return Ok(());
            }
            outbox.write(durability, |tx, told| {
                let noted = tx
                    .prepare_cached(
                        "INSERT INTO lost SELECT id, ?2 FROM container WHERE id = ?1
                         ON CONFLICT (id) DO UPDATE SET started = excluded.started
                         WHERE started <> excluded.started",
                    )?
                    .execute(params![id.as_str(), started])?;
                if noted > 0 {
                    told.extend(events);
                }
                Ok(())
            })
        })
        .await
    }

    /// Returns the record with this id.
    pub(crate) fn by_id(&self, id: &ContainerId) -> Result<Option<Record>> {
        self.0.database().read(|c| {
            c.prepare_cached("SELECT id, name, created, data FROM container WHERE id = ?1")?
                .query_row([id.as_str()], from_row)
                .optional()
        })
    }

    /// Returns all records, newest first.
    pub(crate) async fn all(&self) -> Result<Vec<Record>> {
        let read = |db: &Database, most: i64| {
            db.read(|c| {
                c.prepare_cached(
                    "SELECT id, name, created, data FROM container ORDER BY created DESC, id LIMIT ?1",
                )?
                .query_map([most], from_row)?
                .collect::<rusqlite::Result<Vec<_>>>()
            })
        };
        let first = read(self.0.database(), FEW + 1)?;
        if first.len() as i64 <= FEW {
            return Ok(first);
        }
        // A negative limit is none.
        self.changing(move |outbox| read(outbox.database(), -1)).await
    }

    /// Finds the container a user means: by id, by name, by the beginning of an id.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidArgument`] if several ids begin so.
    pub(crate) fn find(&self, text: &str) -> Result<Record> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let found: Vec<Record> = self.0.database().read(|c| {
            let exact = c
                .prepare_cached("SELECT id, name, created, data FROM container WHERE id = ?1 OR name = ?1")?
                .query_map([text], from_row)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let is_hex = !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !exact.is_empty() || !is_hex {
                return Ok(exact);
            }
            // No digit comes after f, and the index is asked.
            c.prepare_cached(
                "SELECT id, name, created, data FROM container WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2",
            )?
            .query_map([text], from_row)?
            .collect()
        })?;
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(record),
            (None, _) => Err(Error::new(ErrorKind::NotFound, "find container")
                .with("container", text)
                .with_message("no such container")),
            // An exact match of an id wins over another container's name of the same text.
            (Some(first), Some(second)) => {
                [first, second].into_iter().find(|r| r.id.as_str() == text).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidArgument, "find container")
                        .with("container", text)
                        .with_message("several ids begin with it")
                        .with_hint("give more digits")
                })
            }
        }
    }

    async fn changing<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Outbox) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let outbox = self.0.clone();
        super::blocking(move || work(&outbox)).await
    }
}

fn to_json(data: &RecordData) -> Result<String> {
    serde_json::to_string(data)
        .map_err(|e| Error::new(ErrorKind::Other, "write container record").with_source(e))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Record> {
    let text = |index: usize| row.get::<_, String>(index);
    let wrong = |index: usize, e: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e)
    };
    Ok(Record {
        id: text(0)?.parse().map_err(|e: Error| wrong(0, e.into()))?,
        name: text(1)?.parse().map_err(|e: Error| wrong(1, e.into()))?,
        created_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(row.get::<_, i64>(2)?.unsigned_abs()),
        data: serde_json::from_str(&text(3)?).map_err(|e| wrong(3, e.into()))?,
    })
}

pub(super) fn nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Journal;

    fn record(name: &str) -> Record {
        let digest = Digest::sha256(b"");
        Record {
            id: ContainerId::random(),
            name: name.parse().unwrap(),
            created_at: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789),
            data: RecordData {
                spec: ContainerSpec::command(["sh"]),
                image: "busybox".to_owned(),
                manifest: digest.clone(),
                config: digest.clone(),
                layers: vec![digest],
                defaults: ProcessDefaults::default(),
                architecture: "amd64".to_owned(),
                anonymous_volumes: Vec::new(),
                base: None,
                snapshots: Vec::new(),
                mounted_images: Vec::new(),
                id_mappings: None,
                linked_by: Vec::new(),
                secrets: Vec::new(),
                owner: ProcessIdentity::current(),
            },
        }
    }

    #[tokio::test]
    async fn records_are_found_by_id_name_and_prefix() {
        let outbox = Outbox::open(Database::in_memory().unwrap(), Journal::in_memory()).unwrap();
        let records = Records::open(outbox).unwrap();
        let (a, b) = (record("aa"), record("bb"));
        records.insert(&a, IdPool::default()).await.unwrap();
        records.insert(&b, IdPool::default()).await.unwrap();
        assert_eq!(records.find("aa").unwrap(), a);
        assert_eq!(records.find("/bb").unwrap(), b);
        assert_eq!(records.find(b.id.as_str()).unwrap(), b);
        assert_eq!(records.find(&b.id.as_str()[..20]).unwrap(), b);
        assert_eq!(records.find("zz").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(records.find("").unwrap_err().kind(), ErrorKind::NotFound);
        let again = records.insert(&record("aa"), IdPool::default()).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert!(records.delete(&a).await.unwrap());
        assert!(!records.delete(&a).await.unwrap());
        assert_eq!(records.all().await.unwrap(), [b]);
    }

    #[tokio::test]
    async fn no_two_containers_share_a_range_and_a_removed_ones_is_free() {
        let records =
            Records::open(Outbox::open(Database::in_memory().unwrap(), Journal::in_memory()).unwrap())
                .unwrap();
        let pool = IdPool::new(1000, 20).unwrap();
        let wish = |name: &str| {
            let mut record = record(name);
            record.data.spec.user_namespace = Some(UserNamespace::Auto { size: Some(10) });
            record
        };
        let a = records.insert(&wish("a1"), pool).await.unwrap();
        let b = records.insert(&wish("b1"), pool).await.unwrap();
        let start = |record: &Record| record.data.id_mappings.as_ref().unwrap().uids[0].host;
        assert_eq!((start(&a), start(&b)), (1000, 1010));
        let full = records.insert(&wish("c1"), pool).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::ResourceExhausted);
        assert!(records.find("c1").is_err(), "a record without its range");
        records.delete(&a).await.unwrap();
        assert_eq!(start(&records.insert(&wish("c1"), pool).await.unwrap()), 1000);
    }

    #[test]
    fn a_process_identity_knows_its_own_life() {
        let own = ProcessIdentity::current().unwrap();
        assert!(own.is_alive());
        assert!(!ProcessIdentity { started: own.started + 1, ..own }.is_alive());
    }
}
