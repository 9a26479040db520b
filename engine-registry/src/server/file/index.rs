//! The database: which repository has which blob, and in `manifests` which manifest and tag.
//!
//! Invariant: a row of `blob` has its file, whole and synced.

use std::path::Path;
use std::sync::Arc;

use engine_core::database::{Database, Durability};
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use rusqlite::{OptionalExtension as _, Transaction};

use crate::server::names::RepositoryName;
use crate::server::storage::{Page, PageRequest};

const STEPS: &[&str] = &["
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
"];

#[derive(Debug)]
pub(super) struct Index(pub(super) Arc<Database>);

impl Index {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let database = Database::open(path)?;
        database.migrate("registry", STEPS)?;
        Ok(Self(database))
    }

    pub(super) fn blob_size(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<u64>> {
        self.0.read(|c| {
            c.prepare_cached(
                "SELECT b.size FROM blob b JOIN repository r ON r.name = ?1
                 JOIN blob_link l ON l.repository = r.id AND l.blob = b.id WHERE b.digest = ?2",
            )?
            .query_row((repository.as_str(), digest.to_string()), |row| row.get(0))
            .optional()
        })
    }

    /// Gives a repository a blob that another one has.
    pub(super) fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool> {
        self.link(
            repository,
            "SELECT b.id FROM blob b JOIN blob_link l ON l.blob = b.id JOIN repository r ON r.id = l.repository
             WHERE b.digest = ?1 AND (?2 IS NULL OR r.name = ?2) LIMIT 1",
            (digest.to_string(), from.map(RepositoryName::as_str)),
        )
    }

    /// Gives a repository a blob whose bytes were uploaded. Returns false if the registry does not have it.
    pub(super) fn link_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        self.link(repository, "SELECT id FROM blob WHERE digest = ?1", [digest.to_string()])
    }

    fn link(
        &self,
        repository: &RepositoryName,
        query: &str,
        parameters: impl rusqlite::Params + Clone,
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
            let repository = repository_id(tx, repository)?;
            tx.prepare_cached("INSERT OR IGNORE INTO blob_link VALUES (?1, ?2)")?
                .execute((repository, blob))?;
            Ok(true)
        })
    }

    /// Adds a blob whose file is in its place, if `is_there` still says so.
    pub(super) fn add_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        is_there: impl Fn() -> bool,
    ) -> Result<()> {
        let signed = i64::try_from(size).unwrap_or(i64::MAX);
        self.0.write(Durability::PowerLoss, |tx| {
            if !is_there() {
                return Err(Error::new(ErrorKind::Unavailable, "store blob")
                    .with("blob", digest)
                    .with_message("it was removed as garbage")
                    .into());
            }
            tx.prepare_cached("INSERT OR IGNORE INTO blob (digest, size) VALUES (?1, ?2)")?
                .execute((digest.to_string(), signed))?;
            let repository = repository_id(tx, repository)?;
            tx.prepare_cached("INSERT OR IGNORE INTO blob_link SELECT ?1, id FROM blob WHERE digest = ?2")?
                .execute((repository, digest.to_string()))?;
            Ok(())
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
