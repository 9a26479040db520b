//! Rows of the store: names of images, and which images root file systems and mounts hold.

use std::sync::atomic::Ordering;

use super::layout::sync_dir;
use super::store::Shared;
use crate::database::{Database, Durability};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::reference::Reference;

/// Released steps are never edited.
const STEPS: &[&str] = &[
    "
    CREATE TABLE image_names (name TEXT PRIMARY KEY, target TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE image_rootfs (container TEXT PRIMARY KEY, image TEXT NOT NULL, layers TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
", "
    ALTER TABLE image_rootfs ADD COLUMN frozen TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE image_rootfs ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE image_snapshot (id TEXT PRIMARY KEY, image TEXT NOT NULL, layers TEXT NOT NULL, frozen TEXT NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE image_frozen (id TEXT PRIMARY KEY, origin TEXT) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE image_mounts (container TEXT NOT NULL, image TEXT NOT NULL, layers TEXT NOT NULL,
        PRIMARY KEY (container, image)) STRICT, WITHOUT ROWID;
",
];

pub(super) fn migrate(database: &Database) -> Result<()> {
    database.migrate("images", STEPS)
}

/// Reads a column that we wrote as JSON.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(ErrorKind::Corrupt, "read image records").with_message("a row is malformed").with_source(e)
    })
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Other, "write image records").with_source(e))
}

impl Shared {
    /// Makes the renames that are done already last: a name is the promise that its content is there.
    pub(super) fn sync_renames(&self) -> Result<()> {
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        use crate::digest::DigestAlgorithm::{Sha256, Sha512};
        [self.layout.blob_dir(Sha256), self.layout.blob_dir(Sha512), self.layout.layers()]
            .iter()
            .try_for_each(|dir| sync_dir(dir))
            .inspect_err(|_| self.unsynced.store(true, Ordering::Release))
    }

    pub(super) fn set_name(&self, name: &Reference, target: &Descriptor) -> Result<()> {
        self.sync_renames()?;
        let json = to_json(target)?;
        self.database.write(Durability::PowerLoss, |tx| {
            // Looked up inside the transaction: no collection can come between.
            if self.blob_size(&target.digest)?.is_none() {
                return Err(Error::new(ErrorKind::NotFound, "set image name")
                    .with("image", name)
                    .with_message(format!("its manifest {} is not in the store", target.digest))
                    .into());
            }
            tx.prepare_cached("INSERT OR REPLACE INTO image_names VALUES (?1, ?2)")?
                .execute((name.to_string(), &json))?;
            Ok(())
        })
    }

    pub(super) fn resolve_name(&self, name: &Reference) -> Result<Option<Descriptor>> {
        let text = self.database.read(|c| {
            let mut query = c.prepare_cached("SELECT target FROM image_names WHERE name = ?1")?;
            let mut rows = query.query([name.to_string()])?;
            rows.next()?.map(|row| row.get::<_, String>(0)).transpose()
        })?;
        text.map(|text| from_json(&text)).transpose()
    }

    pub(super) fn remove_name(&self, name: &Reference) -> Result<bool> {
        self.database.write(Durability::PowerLoss, |tx| {
            Ok(tx.execute("DELETE FROM image_names WHERE name = ?1", [name.to_string()])? > 0)
        })
    }

    pub(super) fn names(&self) -> Result<Vec<(Reference, Descriptor)>> {
        let rows = self.database.read(|c| {
            c.prepare_cached("SELECT name, target FROM image_names ORDER BY name")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(String, String)>>>()
        })?;
        rows.into_iter().map(|(name, target)| Ok((name.parse()?, from_json(&target)?))).collect()
    }

    /// Every image that must stay: what names point at, and what root file systems are made of.
    pub(super) fn roots(tx: &rusqlite::Connection) -> Result<(Vec<Digest>, Vec<Digest>), rusqlite::Error> {
        let bad =
            |e: Error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e));
        let (mut images, mut layers) = (Vec::new(), Vec::new());
        let mut query = tx.prepare("SELECT target FROM image_names")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            images.push(from_json::<Descriptor>(&row.get::<_, String>(0)?).map_err(bad)?.digest);
        }
        let mut query = tx.prepare(
            "SELECT image, layers FROM image_rootfs UNION ALL SELECT image, layers FROM image_snapshot
                UNION ALL SELECT image, layers FROM image_mounts",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            images.push(row.get::<_, String>(0)?.parse().map_err(bad)?);
            layers.extend(from_json::<Vec<Digest>>(&row.get::<_, String>(1)?).map_err(bad)?);
        }
        Ok((images, layers))
    }
}
