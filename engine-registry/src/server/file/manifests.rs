//! Manifests, tags and referrers in the database.
//!
//! A manifest's bytes are in its row: they are small, and so they come and go with all that depends on them.

use bytes::Bytes;
use engine_core::database::Durability;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::index::{Index, is_fresh, keep_quota, limit, now, parsed, repository_id};
use crate::server::names::{RepositoryName, Tag, Target};
use crate::server::quota::Quota;
use crate::server::storage::{NewManifest, Page, PageRequest, PutManifest};

/// Bytes of a page of referrers, of which each may have annotations of any length. Clients read 4 MiB.
const MAX_REFERRERS: usize = 3 << 20;

fn corrupt(operation: &'static str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Corrupt, operation).with_source(error)
}

/// Reads one manifest, as far as `columns` go.
fn find<T>(
    c: &Connection,
    repository: &RepositoryName,
    target: &Target,
    columns: [&str; 2],
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let [by_digest, by_tag] = columns;
    match target {
        Target::Digest(digest) => {
            c.prepare_cached(by_digest)?.query_row((repository.as_str(), digest.to_string()), read).optional()
        }
        Target::Tag(tag) => {
            c.prepare_cached(by_tag)?.query_row((repository.as_str(), tag.as_str()), read).optional()
        }
    }
}

macro_rules! queries {
    ($columns:literal) => {
        [
            concat!(
                "SELECT ",
                $columns,
                " FROM repository r JOIN manifest m ON m.repository = r.id
                 WHERE r.name = ?1 AND m.digest = ?2"
            ),
            concat!(
                "SELECT ",
                $columns,
                " FROM repository r JOIN tag t ON t.repository = r.id
                 JOIN manifest m ON m.id = t.manifest WHERE r.name = ?1 AND t.name = ?2"
            ),
        ]
    };
}

/// Notes that the manifest a tag leads to was in use until now: whoever has just asked for the tag will ask for the manifest.
fn leave(tx: &Transaction<'_>, repository: i64, tag: &Tag) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE manifest SET at = ?3 WHERE id = (SELECT manifest FROM tag WHERE repository = ?1 AND name = ?2)",
    )?
    .execute((repository, tag.as_str(), now()))?;
    Ok(())
}

fn descriptor((digest, kind, size): (String, String, u64)) -> Result<Descriptor> {
    Ok(Descriptor::new(kind, digest.parse().map_err(|e: Error| corrupt("read manifest", e))?, size))
}

impl Index {
    pub(super) fn resolve(&self, repository: &RepositoryName, target: &Target) -> Result<Option<Descriptor>> {
        let found = self.used(|c| {
            find(c, repository, target, queries!("m.digest, m.media_type, m.size, m.id, m.at"), |row| {
                Ok(((row.get(0)?, row.get(1)?, row.get(2)?), (row.get(3)?, row.get(4)?)))
            })
        })?;
        found.map(descriptor).transpose()
    }

    pub(super) fn manifest(
        &self,
        repository: &RepositoryName,
        target: &Target,
    ) -> Result<Option<(Descriptor, Bytes)>> {
        let found = self.used(|c| {
            find(
                c,
                repository,
                target,
                queries!("m.digest, m.media_type, m.size, m.bytes, m.id, m.at"),
                |row| {
                    let own = (row.get(0)?, row.get(1)?, row.get(2)?);
                    Ok(((own, row.get::<_, Vec<u8>>(3)?), (row.get(4)?, row.get(5)?)))
                },
            )
        })?;
        found.map(|(row, bytes)| Ok((descriptor(row)?, bytes.into()))).transpose()
    }

    /// Finds something of a manifest, with its id and the time of its last use, and notes this one.
    fn used<T>(
        &self,
        find: impl Fn(&Connection) -> rusqlite::Result<Option<(T, (i64, i64))>>,
    ) -> Result<Option<T>> {
        loop {
            let Some((found, (id, at))) = self.0.read(&find)? else { return Ok(None) };
            if is_fresh(at) {
                return Ok(Some(found));
            }
            let noted = self.0.write(Durability::PowerLoss, |tx| {
                Ok(tx.prepare_cached("UPDATE manifest SET at = ?2 WHERE id = ?1")?.execute((id, now()))?)
            })?;
            // Else it was removed meanwhile, and a tag may lead to another.
            if noted > 0 {
                return Ok(Some(found));
            }
        }
    }

    pub(super) fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &NewManifest,
        tag: Option<&Tag>,
        quota: &Quota,
    ) -> Result<PutManifest> {
        let own = &manifest.descriptor;
        let referrer = match &manifest.referrer {
            None => None,
            Some((_, entry)) => {
                let text = serde_json::to_string(entry).map_err(|e| corrupt("write manifest", e))?;
                Some(text)
            }
        };
        let (subject, entry) =
            manifest.referrer.as_ref().map(|(subject, entry)| (subject.to_string(), entry)).unzip();
        let artifact_type = entry.and_then(|entry| entry.artifact_type.as_deref());
        self.0.write(Durability::PowerLoss, |tx| {
            let mut missing = Vec::new();
            let mut blob = tx.prepare_cached(
                "SELECT 1 FROM blob b JOIN repository r ON r.name = ?1
                 JOIN blob_link l ON l.repository = r.id AND l.blob = b.id WHERE b.digest = ?2",
            )?;
            let mut child = tx.prepare_cached(
                "SELECT 1 FROM repository r JOIN manifest m ON m.repository = r.id WHERE r.name = ?1 AND m.digest = ?2",
            )?;
            for (query, named) in [(&mut blob, &manifest.blobs), (&mut child, &manifest.manifests)] {
                for digest in named.iter().filter(|_| !manifest.lazy) {
                    if !query.exists((repository.as_str(), digest.to_string()))? {
                        missing.push(digest.clone());
                    }
                }
            }
            if !missing.is_empty() {
                return Ok(PutManifest::Missing(missing));
            }
            let repository = repository_id(tx, repository)?;
            let known = tx
                .prepare_cached("SELECT 1 FROM manifest WHERE repository = ?1 AND digest = ?2")?
                .exists((repository, own.digest.to_string()))?;
            let id: i64 = tx
                .prepare_cached(
                    "INSERT INTO manifest (repository, digest, media_type, size, subject, artifact_type, referrer, bytes, at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                     ON CONFLICT (repository, digest) DO UPDATE SET media_type = ?3, subject = ?5, artifact_type = ?6,
                     referrer = ?7, at = ?9 RETURNING id",
                )?
                .query_row(
                    rusqlite::params![
                        repository,
                        own.digest.to_string(),
                        own.media_type,
                        i64::try_from(own.size).unwrap_or(i64::MAX),
                        subject,
                        artifact_type,
                        referrer,
                        &manifest.bytes[..],
                        now(),
                    ],
                    |row| row.get(0),
                )?;
            if !known {
                keep_quota(tx, repository, quota)?;
            }
            let mut name =
                tx.prepare_cached("INSERT OR IGNORE INTO named (repository, digest, manifest) VALUES (?1, ?2, ?3)")?;
            for digest in manifest.blobs.iter().chain(&manifest.manifests) {
                name.execute((repository, digest.to_string(), id))?;
            }
            if let Some(tag) = tag {
                leave(tx, repository, tag)?;
                tx.prepare_cached(
                    "INSERT INTO tag (repository, name, manifest) VALUES (?1, ?2, ?3)
                     ON CONFLICT (repository, name) DO UPDATE SET manifest = ?3",
                )?
                .execute((repository, tag.as_str(), id))?;
            }
            Ok(PutManifest::Stored)
        })
    }

    /// Its tags go by the foreign key.
    pub(super) fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool> {
        self.0.write(Durability::PowerLoss, |tx| {
            let gone = tx.execute(
                "DELETE FROM manifest WHERE repository = (SELECT id FROM repository WHERE name = ?1) AND digest = ?2",
                (repository.as_str(), digest.to_string()),
            )?;
            Ok(gone > 0)
        })
    }

    pub(super) fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        self.0.write(Durability::PowerLoss, |tx| {
            let repository: Option<i64> = tx
                .prepare_cached("SELECT id FROM repository WHERE name = ?1")?
                .query_row([repository.as_str()], |row| row.get(0))
                .optional()?;
            let Some(repository) = repository else { return Ok(false) };
            leave(tx, repository, tag)?;
            let gone = tx
                .prepare_cached("DELETE FROM tag WHERE repository = ?1 AND name = ?2")?
                .execute((repository, tag.as_str()))?;
            Ok(gone > 0)
        })
    }

    pub(super) fn tags(&self, repository: &RepositoryName, page: &PageRequest) -> Result<Option<Page<Tag>>> {
        let names = self.0.read(|c| {
            let id: Option<i64> = c
                .prepare_cached("SELECT id FROM repository WHERE name = ?1")?
                .query_row([repository.as_str()], |row| row.get(0))
                .optional()?;
            let Some(id) = id else { return Ok(None) };
            let mut query = c.prepare_cached(
                "SELECT name FROM tag WHERE repository = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
            )?;
            let after = page.after.as_deref().unwrap_or("");
            let rows = query.query_map((id, after, limit(page)), |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>().map(Some)
        })?;
        names.map(|names| parsed(names, page)).transpose()
    }

    pub(super) fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<Descriptor>> {
        let (texts, more) = self.0.read(|c| {
            let mut query = c.prepare_cached(
                "SELECT m.referrer FROM repository r JOIN manifest m ON m.repository = r.id
                 WHERE r.name = ?1 AND m.subject = ?2 AND m.digest > ?3 AND (?4 IS NULL OR m.artifact_type = ?4)
                 ORDER BY m.digest LIMIT ?5",
            )?;
            let after = page.after.as_deref().unwrap_or("");
            let mut rows =
                query.query((repository.as_str(), subject.to_string(), after, artifact_type, limit(page)))?;
            let (mut texts, mut length) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let text: String = row.get(0)?;
                length += text.len();
                let full = texts.len() == page.limit || (length > MAX_REFERRERS && !texts.is_empty());
                if full {
                    return Ok((texts, page.limit > 0));
                }
                texts.push(text);
            }
            Ok((texts, false))
        })?;
        let entries = texts.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>();
        Ok(Page { entries: entries.map_err(|e| corrupt("read referrers", e))?, more })
    }
}
