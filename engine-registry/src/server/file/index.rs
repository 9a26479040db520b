//! The database: which repository has which blob, and in `manifests` which manifest and tag.
//!
//! How much there is, triggers count: so it is right whatever removes a row.
//!
//! Invariant: a row of `blob` has its file, whole and synced.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use engine_core::database::{Database, Durability, WriteError};
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use rusqlite::{OptionalExtension as _, Transaction};

use crate::server::garbage::RENEW;
use crate::server::names::RepositoryName;
use crate::server::quota::{Quota, Usage};
use crate::server::storage::{Page, PageRequest};

pub(super) const STEPS: &[&str] = &["
CREATE TABLE repository (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE blob (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, size INTEGER NOT NULL) STRICT;
CREATE TABLE blob_link (
    repository INTEGER NOT NULL REFERENCES repository (id),
    blob INTEGER NOT NULL REFERENCES blob (id),
    PRIMARY KEY (repository, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX link_of_blob ON blob_link (blob);
CREATE TABLE manifest (
    id INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repository (id),
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    subject TEXT,
    artifact_type TEXT,
    referrer TEXT,
    bytes BLOB NOT NULL,
    UNIQUE (repository, digest)
) STRICT;
CREATE INDEX manifest_of_subject ON manifest (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE TABLE tag (
    repository INTEGER NOT NULL REFERENCES repository (id),
    name TEXT NOT NULL,
    manifest INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_of_manifest ON tag (manifest);
", "
-- When a link or a manifest was last used, in seconds since 1970: garbage collection spares what is young.
ALTER TABLE blob_link ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE manifest ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
UPDATE blob_link SET at = unixepoch();
UPDATE manifest SET at = unixepoch();

-- The blobs and manifests that a manifest names, which need not be there.
CREATE TABLE named (
    repository INTEGER NOT NULL,
    digest TEXT NOT NULL,
    manifest INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    PRIMARY KEY (repository, digest, manifest)
) STRICT, WITHOUT ROWID;
CREATE INDEX named_by ON named (manifest);
INSERT OR IGNORE INTO named SELECT repository, digest, id FROM (
    SELECT repository, json_extract(CAST(bytes AS TEXT), '$.config.digest') AS digest, id FROM manifest
    UNION ALL SELECT m.repository, json_extract(e.value, '$.digest'), m.id
    FROM manifest m, json_each(CAST(m.bytes AS TEXT), '$.layers') e
    UNION ALL SELECT m.repository, json_extract(e.value, '$.digest'), m.id
    FROM manifest m, json_each(CAST(m.bytes AS TEXT), '$.manifests') e
) WHERE digest IS NOT NULL;

-- How much there is: in each repository, and in all, where a blob counts once.
ALTER TABLE repository ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repository ADD COLUMN blobs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repository ADD COLUMN manifests INTEGER NOT NULL DEFAULT 0;
CREATE TABLE total (bytes INTEGER NOT NULL, blobs INTEGER NOT NULL, manifests INTEGER NOT NULL) STRICT;
UPDATE repository SET
    blobs = (SELECT count(*) FROM blob_link l WHERE l.repository = repository.id),
    manifests = (SELECT count(*) FROM manifest m WHERE m.repository = repository.id),
    bytes = (SELECT coalesce(sum(b.size), 0) FROM blob_link l JOIN blob b ON b.id = l.blob WHERE l.repository = repository.id)
          + (SELECT coalesce(sum(m.size), 0) FROM manifest m WHERE m.repository = repository.id);
INSERT INTO total SELECT
    (SELECT coalesce(sum(size), 0) FROM blob) + (SELECT coalesce(sum(size), 0) FROM manifest),
    (SELECT count(*) FROM blob), (SELECT count(*) FROM manifest);
CREATE TRIGGER blob_added AFTER INSERT ON blob BEGIN
    UPDATE total SET bytes = bytes + NEW.size, blobs = blobs + 1;
END;
CREATE TRIGGER blob_removed AFTER DELETE ON blob BEGIN
    UPDATE total SET bytes = bytes - OLD.size, blobs = blobs - 1;
END;
CREATE TRIGGER link_added AFTER INSERT ON blob_link BEGIN
    UPDATE repository SET blobs = blobs + 1, bytes = bytes + (SELECT size FROM blob WHERE id = NEW.blob)
    WHERE id = NEW.repository;
END;
CREATE TRIGGER link_removed AFTER DELETE ON blob_link BEGIN
    UPDATE repository SET blobs = blobs - 1, bytes = bytes - (SELECT size FROM blob WHERE id = OLD.blob)
    WHERE id = OLD.repository;
END;
CREATE TRIGGER manifest_added AFTER INSERT ON manifest BEGIN
    UPDATE repository SET manifests = manifests + 1, bytes = bytes + NEW.size WHERE id = NEW.repository;
    UPDATE total SET manifests = manifests + 1, bytes = bytes + NEW.size;
END;
CREATE TRIGGER manifest_removed AFTER DELETE ON manifest BEGIN
    UPDATE repository SET manifests = manifests - 1, bytes = bytes - OLD.size WHERE id = OLD.repository;
    UPDATE total SET manifests = manifests - 1, bytes = bytes - OLD.size;
END;
"];

/// A note of the last use is renewed when it is older.
const RENEW_SECONDS: i64 = RENEW.as_secs().cast_signed();

#[derive(Debug)]
pub(super) struct Index(pub(super) Arc<Database>);

impl Index {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let database = Database::open(path)?;
        database.migrate("registry", STEPS)?;
        Ok(Self(database))
    }

    /// Returns the size of a blob, and notes that somebody has heard of it.
    pub(super) fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        let found = self.0.read(|c| {
            c.prepare_cached(
                "SELECT b.size, l.at, l.repository, l.blob FROM blob b JOIN repository r ON r.name = ?1
                 JOIN blob_link l ON l.repository = r.id AND l.blob = b.id WHERE b.digest = ?2",
            )?
            .query_row((repository.as_str(), digest.to_string()), |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?, (row.get::<_, i64>(2)?, row.get::<_, i64>(3)?)))
            })
            .optional()
        })?;
        let Some((size, at, (repository, blob))) = found else { return Ok(None) };
        if is_fresh(at) {
            return Ok(Some(size));
        }
        // Where there is nothing to note it at, the blob was collected meanwhile.
        let noted = self.0.write(Durability::PowerLoss, |tx| {
            let mut note =
                tx.prepare_cached("UPDATE blob_link SET at = ?3 WHERE repository = ?1 AND blob = ?2")?;
            Ok(note.execute((repository, blob, now()))?)
        })?;
        Ok((noted > 0).then_some(size))
    }

    /// Gives a repository a blob that another one has.
    pub(super) fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
        quota: &Quota,
    ) -> Result<bool> {
        self.link(
            repository,
            "SELECT b.id FROM blob b JOIN blob_link l ON l.blob = b.id JOIN repository r ON r.id = l.repository
             WHERE b.digest = ?1 AND (?2 IS NULL OR r.name = ?2) LIMIT 1",
            (digest.to_string(), from.map(RepositoryName::as_str)),
            quota,
        )
    }

    /// Gives a repository a blob whose bytes were uploaded. Returns false if the registry does not have it.
    pub(super) fn link_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        quota: &Quota,
    ) -> Result<bool> {
        self.link(repository, "SELECT id FROM blob WHERE digest = ?1", [digest.to_string()], quota)
    }

    fn link(
        &self,
        repository: &RepositoryName,
        query: &str,
        parameters: impl rusqlite::Params + Clone,
        quota: &Quota,
    ) -> Result<bool> {
        let find = |c: &rusqlite::Connection| {
            c.prepare_cached(query)?.query_row(parameters.clone(), |row| row.get::<_, i64>(0)).optional()
        };
        // Most uploads are of what is not there: a look costs no commit.
        if self.0.read(find)?.is_none() {
            return Ok(false);
        }
        self.0.write(Durability::PowerLoss, |tx| {
            let Some(blob) = find(tx)? else { return Ok(false) };
            add_link(tx, repository, blob, quota)?;
            Ok(true)
        })
    }

    /// Adds a blob whose file is in its place after `ensure`.
    pub(super) fn add_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        quota: &Quota,
        ensure: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let signed = i64::try_from(size).unwrap_or(i64::MAX);
        self.0.write(Durability::PowerLoss, |tx| {
            ensure()?;
            tx.prepare_cached("INSERT OR IGNORE INTO blob (digest, size) VALUES (?1, ?2)")?
                .execute((digest.to_string(), signed))?;
            let blob = tx
                .prepare_cached("SELECT id FROM blob WHERE digest = ?1")?
                .query_row([digest.to_string()], |row| row.get(0))?;
            add_link(tx, repository, blob, quota)
        })
    }

    pub(super) fn unlink_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        self.0.write(Durability::PowerLoss, |tx| {
            let gone = tx.execute(
                "DELETE FROM blob_link WHERE repository = (SELECT id FROM repository WHERE name = ?1)
                 AND blob = (SELECT id FROM blob WHERE digest = ?2)",
                (repository.as_str(), digest.to_string()),
            )?;
            Ok(gone > 0)
        })
    }

    pub(super) fn repositories(&self, page: &PageRequest) -> Result<Page<RepositoryName>> {
        let names = self.0.read(|c| {
            let mut query =
                c.prepare_cached("SELECT name FROM repository WHERE name > ?1 ORDER BY name LIMIT ?2")?;
            let rows =
                query.query_map((page.after.as_deref().unwrap_or(""), limit(page)), |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        })?;
        parsed(names, page)
    }

    pub(super) fn usage(&self, repository: Option<&RepositoryName>) -> Result<Usage> {
        let (query, name) = match repository {
            Some(name) => {
                ("SELECT bytes, blobs, manifests, 0 FROM repository WHERE name = ?1", name.as_str())
            }
            None => (
                "SELECT bytes, blobs, manifests, (SELECT count(*) FROM repository) FROM total WHERE ?1 = ''",
                "",
            ),
        };
        let usage = self.0.read(|c| {
            let row = |row: &rusqlite::Row<'_>| {
                Ok(Usage {
                    bytes: row.get(0)?,
                    blobs: row.get(1)?,
                    manifests: row.get(2)?,
                    repositories: row.get(3)?,
                })
            };
            c.prepare_cached(query)?.query_row([name], row).optional()
        })?;
        Ok(usage.unwrap_or_default())
    }
}

/// Gives a repository a blob, or notes that it was given once more.
fn add_link(
    tx: &Transaction<'_>,
    repository: &RepositoryName,
    blob: i64,
    quota: &Quota,
) -> Result<(), WriteError> {
    let repository = repository_id(tx, repository)?;
    let added = tx
        .prepare_cached("INSERT OR IGNORE INTO blob_link (repository, blob, at) VALUES (?1, ?2, ?3)")?
        .execute((repository, blob, now()))?;
    if added > 0 {
        return keep_quota(tx, repository, quota);
    }
    tx.prepare_cached("UPDATE blob_link SET at = ?3 WHERE repository = ?1 AND blob = ?2")?.execute((
        repository,
        blob,
        now(),
    ))?;
    Ok(())
}

/// Fails if there is more than there may be, which undoes the transaction.
pub(super) fn keep_quota(tx: &Transaction<'_>, repository: i64, quota: &Quota) -> Result<(), WriteError> {
    if !quota.is_limited() {
        return Ok(());
    }
    let (own, total) = tx
        .prepare_cached("SELECT r.bytes, t.bytes FROM repository r, total t WHERE r.id = ?1")?
        .query_row([repository], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(quota.check(own, total)?)
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Whether a use need not be noted, since one was a little while ago.
pub(super) fn is_fresh(at: i64) -> bool {
    now().saturating_sub(at) < RENEW_SECONDS
}

/// Returns a repository's row, which is made with the first thing in it.
pub(super) fn repository_id(tx: &Transaction<'_>, name: &RepositoryName) -> rusqlite::Result<i64> {
    tx.prepare_cached("INSERT OR IGNORE INTO repository (name) VALUES (?1)")?.execute([name.as_str()])?;
    tx.prepare_cached("SELECT id FROM repository WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get(0))
}

/// One row more than wanted tells whether there are more.
pub(super) fn limit(page: &PageRequest) -> i64 {
    i64::try_from(page.limit).unwrap_or(i64::MAX - 1).saturating_add(1)
}

/// Makes a page of names that were asked for with [`limit`].
pub(super) fn parsed<T: std::str::FromStr<Err = Error>>(
    mut names: Vec<String>,
    page: &PageRequest,
) -> Result<Page<T>> {
    let more = names.len() > page.limit && page.limit > 0;
    names.truncate(page.limit);
    let entries = names.iter().map(|name| name.parse()).collect::<Result<_>>();
    Ok(Page { entries: entries.map_err(|error: Error| error.with_kind(ErrorKind::Corrupt))?, more })
}
