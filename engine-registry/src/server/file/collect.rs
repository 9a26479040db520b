//! Garbage collection beside pushes.
//!
//! What may go is looked for on a connection of the collection's own, a page at a time; whether it may go is decided again in a
//! short transaction that removes it. So pushes wait for a page of deletions at most, and what they add or renew between the
//! look and the deletion stays. A row goes in one transaction, its file in a later one that finds no row: a file whose row came
//! back has one, and a crash in between leaves a file without a row, which every collection looks for.
//!
//! A dry run notes what it would remove in tables of its connection, and the steps that follow believe them.

use std::sync::Arc;
use std::time::Duration;

use engine_core::database::{Database, Durability};
use engine_core::digest::Digest;
use engine_core::error::Result;
use rusqlite::{Connection, Row};

use super::Parts;
use super::index::now;
use crate::server::garbage::{GcPolicy, GcReport};

/// Rows that are looked for, and removed, in one step; files take longer to remove.
const PAGE: usize = 256;
const FILES: usize = 16;

/// A manifest `m` that no tag leads to, nor anything that was used after `?1`: not through those that name it, nor through its
/// subject, whose referrers go with it.
const UNTAGGED: &str = "m.at <= ?1 AND NOT EXISTS (
    WITH RECURSIVE up (id, repository, digest, subject, at) AS (
        SELECT m.id, m.repository, m.digest, m.subject, m.at
        UNION SELECT p.id, p.repository, p.digest, p.subject, p.at FROM up
        JOIN named n ON n.repository = up.repository AND n.digest = up.digest JOIN manifest p ON p.id = n.manifest
        UNION SELECT s.id, s.repository, s.digest, s.subject, s.at FROM up
        JOIN manifest s ON s.repository = up.repository AND s.digest = up.subject
    ) SELECT 1 FROM up WHERE up.at > ?1 OR EXISTS (SELECT 1 FROM tag t WHERE t.manifest = up.id))";

/// A manifest `m` of a repository that is `?2` or below it, and that was not used after `?1`.
const EVICTED: &str = "m.at <= ?1 AND EXISTS (SELECT 1 FROM repository r WHERE r.id = m.repository
    AND (r.name = ?2 OR substr(r.name, 1, length(?2) + 1) = ?2 || '/'))";

/// A blob `b` that its repository has by the link `l` and by no manifest.
const UNNAMED: &str = "l.at <= ?1 AND NOT EXISTS (
    SELECT 1 FROM named n WHERE n.repository = l.repository AND n.digest = b.digest AND n.manifest NOT IN doomed)";

/// A blob `b` that no repository has.
const UNLINKED: &str = "NOT EXISTS (SELECT 1 FROM blob_link l WHERE l.blob = b.id
    AND NOT EXISTS (SELECT 1 FROM loose x WHERE x.repository = l.repository AND x.blob = l.blob))";

/// What a dry run would have removed; a real one leaves them empty. Each connection has its own.
const NOTES: &str = "CREATE TEMP TABLE IF NOT EXISTS doomed (manifest INTEGER PRIMARY KEY) STRICT;
    CREATE TEMP TABLE IF NOT EXISTS loose (repository INTEGER, blob INTEGER, PRIMARY KEY (repository, blob)) STRICT;
    CREATE TEMP TABLE IF NOT EXISTS gone (digest TEXT PRIMARY KEY) STRICT;";

struct Collection<'a> {
    parts: &'a Parts,
    view: Arc<Database>,
    dry_run: bool,
    report: GcReport,
}

pub(super) fn collect(parts: &Parts, policy: &GcPolicy) -> Result<GcReport> {
    let view = Database::open(&parts.database)?;
    view.read(|c| c.execute_batch(NOTES))?;
    let mut run = Collection { parts, view, dry_run: policy.dry_run, report: GcReport::default() };
    let before = |time: Duration| now().saturating_sub(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    for eviction in &policy.evictions {
        run.manifests(EVICTED, before(GcPolicy::age(eviction.unused)), &eviction.prefix)?;
    }
    if policy.untagged {
        run.manifests(UNTAGGED, before(GcPolicy::age(policy.grace)), "")?;
    }
    run.links(before(GcPolicy::age(policy.grace)))?;
    run.blobs()?;
    run.files(before(policy.grace))?;
    run.repositories()?;
    Ok(run.report)
}

impl Collection<'_> {
    /// Removes manifests of which `garbage` holds.
    fn manifests(&mut self, garbage: &str, before: i64, prefix: &str) -> Result<()> {
        let look = format!(
            "SELECT m.id FROM manifest m WHERE (?2 = ?2) AND m.id > ?3 AND m.id NOT IN doomed AND {garbage}
             ORDER BY m.id LIMIT {PAGE}"
        );
        let remove = format!(
            "DELETE FROM manifest WHERE id IN (SELECT m.id FROM manifest m WHERE (?2 = ?2) AND m.id = ?3 AND {garbage})"
        );
        let mut last = 0_i64;
        loop {
            let found: Vec<i64> = self.page(&look, (before, prefix, last), |row| row.get(0))?;
            let Some(end) = found.last() else { return Ok(()) };
            last = *end;
            let remove: Remove<'_, i64> = &|c, id| c.prepare_cached(&remove)?.execute((before, prefix, id));
            let note: Remove<'_, i64> =
                &|c, id| c.prepare_cached("INSERT INTO doomed VALUES (?1)")?.execute([id]);
            self.report.manifests += self.step(&found, remove, note)?.len() as u64;
        }
    }

    /// Takes blobs from repositories in which no manifest names them.
    fn links(&mut self, before: i64) -> Result<()> {
        let look = format!(
            "SELECT l.repository, l.blob FROM blob_link l JOIN blob b ON b.id = l.blob
             WHERE (l.repository, l.blob) > (?2, ?3) AND {UNNAMED} ORDER BY l.repository, l.blob LIMIT {PAGE}"
        );
        let remove = format!(
            "DELETE FROM blob_link WHERE repository = ?2 AND blob = ?3 AND EXISTS (
                 SELECT 1 FROM blob_link l JOIN blob b ON b.id = l.blob WHERE l.repository = ?2 AND l.blob = ?3 AND {UNNAMED})"
        );
        let mut last = (0_i64, 0_i64);
        loop {
            let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let found: Vec<(i64, i64)> = self.page(&look, (before, last.0, last.1), row)?;
            let Some(end) = found.last() else { return Ok(()) };
            last = *end;
            let remove: Remove<'_, (i64, i64)> =
                &|c, (repository, blob)| c.prepare_cached(&remove)?.execute((before, repository, blob));
            let note: Remove<'_, (i64, i64)> =
                &|c, link| c.prepare_cached("INSERT INTO loose VALUES (?1, ?2)")?.execute(*link);
            self.report.unlinked += self.step(&found, remove, note)?.len() as u64;
        }
    }

    /// Forgets blobs that no repository has. Their files have no row then.
    fn blobs(&mut self) -> Result<()> {
        let look = format!(
            "SELECT b.id, b.digest FROM blob b WHERE b.id > ?1 AND {UNLINKED} ORDER BY b.id LIMIT {PAGE}"
        );
        let remove =
            format!("DELETE FROM blob WHERE id IN (SELECT b.id FROM blob b WHERE b.id = ?1 AND {UNLINKED})");
        let mut last = 0_i64;
        loop {
            let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let found: Vec<(i64, String)> = self.page(&look, [last], row)?;
            let Some((end, _)) = found.last() else { return Ok(()) };
            last = *end;
            let remove: Remove<'_, (i64, String)> = &|c, (id, _)| c.prepare_cached(&remove)?.execute([id]);
            let note: Remove<'_, (i64, String)> =
                &|c, (_, digest)| c.prepare_cached("INSERT INTO gone VALUES (?1)")?.execute([digest]);
            self.step(&found, remove, note)?;
        }
    }

    /// Removes files that have no row, and had their place before: a younger one may be about to get its row.
    fn files(&mut self, before: i64) -> Result<()> {
        let (parts, mut batch) = (self.parts, Vec::new());
        parts.blobs.each(|digest| {
            batch.push(digest);
            if batch.len() < PAGE {
                return Ok(());
            }
            self.some_files(&std::mem::take(&mut batch), before)
        })?;
        self.some_files(&batch, before)
    }

    fn some_files(&mut self, digests: &[Digest], before: i64) -> Result<()> {
        let has_row = "SELECT 1 FROM blob WHERE digest = ?1 AND digest NOT IN gone";
        let without: Vec<&Digest> = self.view.read(|c| {
            let mut query = c.prepare_cached(has_row)?;
            let mut without = Vec::new();
            for digest in digests {
                if !query.exists([digest.to_string()])? {
                    without.push(digest);
                }
            }
            Ok(without)
        })?;
        let is_old = |digest: &Digest| {
            Ok::<_, engine_core::Error>(self.parts.blobs.age(digest)?.filter(|(_, since)| *since <= before))
        };
        let mut removed = Vec::new();
        for some in without.chunks(FILES) {
            if self.dry_run {
                for digest in some {
                    removed.extend(is_old(digest)?);
                }
                continue;
            }
            removed.extend(self.parts.index.0.write(Durability::PowerLoss, |tx| {
                let mut removed = Vec::new();
                let mut row = tx.prepare_cached("SELECT 1 FROM blob WHERE digest = ?1")?;
                for digest in some {
                    if let Some(found) = is_old(digest)?
                        && !row.exists([digest.to_string()])?
                    {
                        self.parts.blobs.remove(digest)?;
                        removed.push(found);
                    }
                }
                Ok(removed)
            })?);
        }
        self.report.blobs += removed.len() as u64;
        self.report.bytes += removed.iter().map(|(size, _)| size).sum::<u64>();
        Ok(())
    }

    /// Forgets repositories with nothing in them. A tag goes with its manifest, so there is none.
    fn repositories(&mut self) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let empty = "SELECT r.id FROM repository r WHERE r.id > ?1
             AND NOT EXISTS (SELECT 1 FROM blob_link l WHERE l.repository = r.id)
             AND NOT EXISTS (SELECT 1 FROM manifest m WHERE m.repository = r.id)";
        let look = format!("{empty} ORDER BY r.id LIMIT {PAGE}");
        let remove = format!("DELETE FROM repository WHERE id = ?2 AND id IN ({empty})");
        let mut last = 0_i64;
        loop {
            let found: Vec<i64> = self.page(&look, [last], |row| row.get(0))?;
            let Some(end) = found.last() else { return Ok(()) };
            last = *end;
            let remove: Remove<'_, i64> = &|c, id| c.prepare_cached(&remove)?.execute((0_i64, id));
            self.step(&found, remove, remove)?;
        }
    }

    fn page<T>(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.view.read(|c| c.prepare_cached(query)?.query_map(parameters, row)?.collect())
    }

    /// Removes what was found, as far as it is garbage still, or notes it. Returns what that was.
    fn step<'f, T>(&self, found: &'f [T], remove: Remove<'_, T>, note: Remove<'_, T>) -> Result<Vec<&'f T>> {
        let each = |c: &Connection, work: Remove<'_, T>| {
            let mut done = Vec::new();
            for one in found {
                if work(c, one)? > 0 {
                    done.push(one);
                }
            }
            Ok(done)
        };
        if self.dry_run {
            return self.view.read(|c| each(c, note));
        }
        self.parts.index.0.write(Durability::PowerLoss, |tx| {
            tx.execute_batch(NOTES)?;
            Ok(each(tx, remove)?)
        })
    }
}

/// Removes one thing, or notes it; returns how many rows that concerned.
type Remove<'a, T> = &'a dyn Fn(&Connection, &T) -> rusqlite::Result<usize>;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use engine_core::descriptor::{Descriptor, media_type};
    use futures_util::stream;

    use super::super::index::STEPS;
    use super::super::{FileStorage, Storage as _};
    use super::*;
    use crate::server::names::{RepositoryName, Target};
    use crate::server::quota::Quota;
    use crate::server::storage::NewManifest;

    async fn upload(storage: &FileStorage, repository: &RepositoryName, bytes: &'static [u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let upload = storage.begin_upload(repository).await.unwrap();
        let mut body = stream::iter([Ok(Bytes::from_static(bytes))]);
        storage.append(repository, &upload, None, &mut body).await.unwrap();
        storage.commit_upload(repository, &upload, &digest, &Quota::default()).await.unwrap();
        digest
    }

    fn manifest(text: &'static str) -> NewManifest {
        let bytes = Bytes::from_static(text.as_bytes());
        NewManifest::new(Descriptor::of(media_type::OCI_MANIFEST, &bytes), bytes)
    }

    fn sql(dir: &Path, text: &str) {
        let database = Database::open(&dir.join("registry.db")).unwrap();
        database.write(Durability::Crash, |tx| Ok(tx.execute_batch(text)?)).unwrap();
    }

    #[tokio::test]
    async fn what_a_client_found_is_young_again() {
        let dir = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(dir.path()).unwrap();
        let (repository, other): (RepositoryName, RepositoryName) =
            ("a".parse().unwrap(), "b".parse().unwrap());
        let free = Quota::default();
        let found = upload(&storage, &repository, b"found").await;
        let forgotten = upload(&storage, &repository, b"forgotten").await;
        let again = upload(&storage, &repository, b"again").await;
        storage.mount_blob(&other, &found, None, &free).await.unwrap();
        let (seen, unseen) = (manifest("seen"), manifest("unseen"));
        for one in [&seen, &unseen] {
            storage.put_manifest(&repository, one, None, &free).await.unwrap();
        }
        sql(dir.path(), "UPDATE blob_link SET at = 1; UPDATE manifest SET at = 1");
        assert_eq!(storage.blob_size(&repository, &found).await.unwrap(), Some(5));
        storage.mount_blob(&other, &found, None, &free).await.unwrap();
        upload(&storage, &repository, b"again").await;
        let target = Target::Digest(seen.descriptor.digest.clone());
        assert!(storage.resolve(&repository, &target).await.unwrap().is_some());
        let report = storage.collect(&GcPolicy::default().with_untagged(true)).await.unwrap();
        assert_eq!((report.manifests, report.unlinked), (1, 1));
        // The file came to its place a moment ago: the next collection has it.
        assert_eq!(report.blobs, 0);
        assert_eq!(storage.blob_size(&repository, &forgotten).await.unwrap(), None);
        for (repository, digest) in [(&repository, &found), (&other, &found), (&repository, &again)] {
            assert!(storage.blob_size(repository, digest).await.unwrap().is_some());
        }
        assert!(storage.resolve(&repository, &target).await.unwrap().is_some());
        let at_once = GcPolicy::default().with_grace(Duration::ZERO);
        assert_eq!(storage.collect(&at_once).await.unwrap().blobs, 3);
    }

    #[tokio::test]
    async fn a_database_of_an_earlier_build_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let old = Database::open(&dir.path().join("registry.db")).unwrap();
        old.migrate("registry", &STEPS[..1]).unwrap();
        let digests: Vec<Digest> = (0..4_u8).map(|n| Digest::sha256(&[n])).collect();
        let image = format!(
            r#"{{"config":{{"digest":"{}"}},"layers":[{{"digest":"{}"}},{{"digest":"{}"}}]}}"#,
            digests[0], digests[1], digests[1]
        );
        let index = format!(r#"{{"manifests":[{{"digest":"{}"}}]}}"#, digests[2]);
        old.write(Durability::PowerLoss, |tx| {
            tx.execute("INSERT INTO repository VALUES (1, 'a')", [])?;
            for (id, digest) in digests.iter().enumerate() {
                tx.execute("INSERT INTO blob VALUES (?1, ?2, 10)", (id + 1, digest.to_string()))?;
                tx.execute("INSERT INTO blob_link VALUES (1, ?1)", [id + 1])?;
            }
            for (id, text) in [(1, &image), (2, &index)] {
                let digest = Digest::sha256(text.as_bytes()).to_string();
                tx.execute(
                    "INSERT INTO manifest (id, repository, digest, media_type, size, bytes) VALUES (?1, 1, ?2, 'x', 100, ?3)",
                    (id, digest, text.as_bytes()),
                )?;
            }
            Ok(())
        })
        .unwrap();
        drop(old);

        let (storage, repository) = (FileStorage::open(dir.path()).unwrap(), "a".parse().unwrap());
        let usage = storage.usage(Some(&repository)).await.unwrap();
        assert_eq!((usage.bytes, usage.blobs, usage.manifests), (240, 4, 2));
        assert_eq!(storage.usage(None).await.unwrap().bytes, 240);
        assert_eq!(storage.collect(&GcPolicy::default()).await.unwrap(), GcReport::default(), "all is young");
        let at_once = GcPolicy::default().with_grace(Duration::ZERO);
        assert_eq!(storage.collect(&at_once).await.unwrap().unlinked, 1);
        assert_eq!(storage.blob_size(&repository, &digests[3]).await.unwrap(), None);
        for digest in &digests[..3] {
            assert_eq!(storage.blob_size(&repository, digest).await.unwrap(), Some(10));
        }
    }
}
