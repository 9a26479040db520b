//! Which secrets there are, and which containers hold them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::database::WriteError;
use crate::engine::records::{Record, nanos};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Name, SecretId};
use crate::secret::{Secret, SecretTarget};

/// The tables, as a step of the records' format. A secret without a name was removed or replaced.
pub(in crate::engine) const STEP: &str = "CREATE TABLE secret (
    id TEXT PRIMARY KEY,
    name TEXT UNIQUE,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    labels TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE secret_use (
    container TEXT NOT NULL,
    secret TEXT NOT NULL,
    PRIMARY KEY (container, secret)
) STRICT, WITHOUT ROWID";

const COLUMNS: &str = "id, name, created, updated, labels";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Secret> {
    let wrong = |index: usize, e: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e)
    };
    let time = |index: usize| -> rusqlite::Result<SystemTime> {
        Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(row.get::<_, i64>(index)?.unsigned_abs()))
    };
    let text = |index: usize| row.get::<_, String>(index);
    let id = text(0)?.parse().map_err(|e: Error| wrong(0, e.into()))?;
    let name = text(1)?.parse().map_err(|e: Error| wrong(1, e.into()))?;
    let mut secret = Secret::new(id, name, time(2)?);
    secret.updated_at = time(3)?;
    secret.labels = serde_json::from_str(&text(4)?).map_err(|e| wrong(4, e.into()))?;
    Ok(secret)
}

fn one(c: &Connection, condition: &str, text: &str) -> rusqlite::Result<Option<Secret>> {
    let sql = format!("SELECT {COLUMNS} FROM secret WHERE name IS NOT NULL AND {condition}");
    c.prepare_cached(&sql)?.query_row([text], from_row).optional()
}

/// Returns the secret of this name.
pub(super) fn by_name(c: &Connection, name: &Name) -> rusqlite::Result<Option<Secret>> {
    one(c, "name = ?1", name.as_str())
}

/// Returns the secret of this id, if it has a name.
pub(super) fn by_id(c: &Connection, id: &SecretId) -> rusqlite::Result<Option<Secret>> {
    one(c, "id = ?1", id.as_str())
}

/// Returns all that have a name, by name.
pub(super) fn all(c: &Connection) -> rusqlite::Result<Vec<Secret>> {
    let sql = format!("SELECT {COLUMNS} FROM secret WHERE name IS NOT NULL ORDER BY name");
    c.prepare_cached(&sql)?.query_map([], from_row)?.collect()
}

/// Finds the secret that a user means: by name, by id, by the beginning of an id.
pub(super) fn find(c: &Connection, operation: &'static str, text: &str) -> rusqlite::Result<Result<Secret>> {
    if let Some(secret) = one(c, "name = ?1", text)? {
        return Ok(Ok(secret));
    }
    let is_id = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut found = if is_id {
        let sql =
            format!("SELECT {COLUMNS} FROM secret WHERE name IS NOT NULL AND id GLOB ?1 || '*' LIMIT 2");
        c.prepare_cached(&sql)?.query_map([text], from_row)?.collect::<rusqlite::Result<Vec<_>>>()?
    } else {
        Vec::new()
    };
    let failed = |kind| Error::new(kind, operation).with("secret", text);
    Ok(match (found.pop(), found.pop()) {
        (Some(secret), None) => Ok(secret),
        (None, _) => {
            Err(failed(ErrorKind::NotFound).with_message("no such secret").with_hint("create it first"))
        }
        _ => Err(failed(ErrorKind::InvalidArgument)
            .with_message("several ids begin with it")
            .with_hint("give more digits")),
    })
}

/// Adds a secret.
pub(super) fn insert(tx: &Transaction<'_>, secret: &Secret) -> Result<(), WriteError> {
    let labels = serde_json::to_string(&secret.labels)
        .map_err(|e| Error::new(ErrorKind::Other, "write secret").with_source(e))?;
    tx.prepare_cached("INSERT INTO secret VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        secret.id.as_str(),
        secret.name.as_str(),
        nanos(secret.created_at),
        nanos(secret.updated_at),
        labels
    ])?;
    Ok(())
}

/// Takes a secret's name.
pub(super) fn forget(tx: &Transaction<'_>, id: &SecretId) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE secret SET name = NULL WHERE id = ?1")?.execute([id.as_str()]).map(drop)
}

const GARBAGE: &str = "name IS NULL AND id NOT IN (SELECT secret FROM secret_use)";

/// Whether there is something to [`collect`].
pub(super) fn has_garbage(c: &Connection) -> rusqlite::Result<bool> {
    c.prepare_cached(&format!("SELECT EXISTS (SELECT 1 FROM secret WHERE {GARBAGE})"))?
        .query_row([], |row| row.get(0))
}

/// Deletes those without a name that no container holds.
pub(super) fn collect(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.prepare_cached(&format!("DELETE FROM secret WHERE {GARBAGE}"))?.execute([]).map(drop)
}

/// Returns the ids whose content is needed.
pub(super) fn needed(c: &Connection) -> rusqlite::Result<BTreeSet<SecretId>> {
    let mut statement = c.prepare_cached("SELECT id FROM secret")?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
    ids.map(|id| Ok(id?.parse().ok())).filter_map(Result::transpose).collect()
}

/// Gives the container of a new record its secrets: those of its spec, or those it was forked with.
pub(in crate::engine) fn take(tx: &Transaction<'_>, record: &mut Record) -> Result<(), WriteError> {
    let forked = !record.data.secrets.is_empty();
    let mut ids = std::mem::take(&mut record.data.secrets);
    for (at, wanted) in record.data.spec.secrets.iter_mut().enumerate() {
        if forked {
            let there = tx
                .prepare_cached("SELECT 1 FROM secret WHERE id = ?1")?
                .exists([ids.get(at).map(SecretId::as_str)])?;
            if !there {
                return Err(Error::new(ErrorKind::NotFound, "create container")
                    .with("secret", &wanted.secret)
                    .with_message("the container that it is forked from, and held it, is gone")
                    .into());
            }
        } else {
            let found = find(tx, "create container", &wanted.secret)??;
            // What it is called by default does not change with what it was asked for by.
            match &mut wanted.target {
                SecretTarget::File { path: path @ None, .. } => *path = Some(found.name.as_str().into()),
                SecretTarget::Env { variable: variable @ None } => *variable = Some(found.name.to_string()),
                _ => {}
            }
            wanted.secret = found.name.to_string();
            ids.push(found.id);
        }
    }
    for id in &ids {
        tx.prepare_cached("INSERT OR IGNORE INTO secret_use VALUES (?1, ?2)")?
            .execute([record.id.as_str(), id.as_str()])?;
    }
    record.data.secrets = ids;
    Ok(())
}

/// A container that goes holds no secrets any more.
pub(in crate::engine) fn let_go(tx: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    if record.data.secrets.is_empty() {
        return Ok(());
    }
    tx.prepare_cached("DELETE FROM secret_use WHERE container = ?1")?.execute([record.id.as_str()]).map(drop)
}
