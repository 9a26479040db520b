//! Secrets of an engine: created, looked up, removed, and given to containers.
//!
//! `table` owns which secrets there are and which container holds which, `content` their bytes: the one place beneath the
//! engine's root where they are, each in a file that only its owner can read. They are not encrypted, as a key beside them
//! would protect nothing; who reads the file system as root reads them.
//!
//! A container holds its secrets by id. One that was removed or replaced has no name any more, and its content stays until
//! the last container that holds it is gone: as if each had a copy, as in Podman, but there is only one to be overwritten.
//! Invariant: content is on disk before its row is committed, and is removed after its row; what has no row is garbage.

mod content;
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::container_spec::ContainerSpec;
use crate::database::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Action, Event, ObjectKind};
use crate::id::{Name, SecretId};
use crate::secret::{
    MAX_SIZE, Secret, SecretData, SecretFile, SecretOptions, SecretTarget, SecretUse, SecretVariable,
};

use super::LocalEngine;
use super::outbox::Outbox;
use super::records::Record;
use content::Content;
pub(super) use table::{STEP, let_go, take};

/// The directory beneath the engine's root.
pub(super) const DIRECTORY: &str = "secrets";

/// What a container's secrets may add up to, in bytes: they travel to it in its launch plan, which has a limit.
const MAX_TOTAL: usize = 768 << 10;

/// The secrets of an engine. Methods that are not `async` block.
#[derive(Clone, Debug)]
pub(super) struct Secrets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    outbox: Outbox,
    content: Content,
}

impl LocalEngine {
    pub(super) async fn create_secret(
        &self,
        name: &Name,
        content: SecretData,
        options: SecretOptions,
    ) -> Result<Secret> {
        let size = content.reveal().len();
        if size == 0 || size >= MAX_SIZE {
            return Err(Error::new(ErrorKind::InvalidArgument, "create secret")
                .with("secret", name)
                .with_message(format!(
                    "it has {size} bytes; a secret has at least one and less than {MAX_SIZE}"
                )));
        }
        let name = name.clone();
        self.inner.secrets.with(move |secrets| secrets.create(&name, &content, &options)).await
    }

    pub(super) async fn secrets(&self) -> Result<Vec<Secret>> {
        self.inner.secrets.with(|secrets| secrets.outbox.database().read(table::all)).await
    }

    pub(super) async fn secret(&self, text: &str) -> Result<Secret> {
        let text = text.to_owned();
        self.inner
            .secrets
            .with(move |secrets| secrets.outbox.database().read(|c| table::find(c, "find secret", &text))?)
            .await
    }

    pub(super) async fn reveal_secret(&self, id: &SecretId) -> Result<SecretData> {
        let id = id.clone();
        self.inner.secrets.with(move |secrets| secrets.content.get(&id)).await
    }

    pub(super) async fn remove_secret(&self, id: &SecretId) -> Result<()> {
        let id = id.clone();
        self.inner.secrets.with(move |secrets| secrets.remove(&id)).await
    }

    /// Deletes the record of a container, and what only it held.
    pub(super) async fn delete_record(&self, record: &Record) -> Result<()> {
        self.inner.records.delete(record).await?;
        if record.data.secrets.is_empty() {
            return Ok(());
        }
        self.inner.secrets.with(Inner::collect).await
    }
}

/// Refuses what no secret could be shown as.
pub(super) fn check(spec: &ContainerSpec) -> Result<()> {
    let (mut paths, mut variables) = (BTreeSet::new(), BTreeSet::new());
    for wanted in &spec.secrets {
        if let Some(path) = wanted.path()? {
            if spec.mounts.iter().any(|mount| mount.target() == path) {
                return Err(wanted.invalid("a mount has the same target").with("target", path.display()));
            }
            if !paths.insert(path.clone()) {
                return Err(wanted
                    .invalid("two secrets have the same target")
                    .with("target", path.display()));
            }
        }
        if let Some(variable) = wanted.variable()?
            && !variables.insert(variable)
        {
            return Err(wanted.invalid("two secrets have the same variable").with("variable", variable));
        }
    }
    Ok(())
}

impl Secrets {
    /// Opens the secrets whose content is in `directory`, which is there; in memory without one.
    pub(super) fn open(outbox: Outbox, directory: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner { outbox, content: Content::new(directory) }))
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        super::blocking(move || work(&inner)).await
    }

    /// Returns what a container gets of its secrets.
    pub(super) async fn of(&self, record: &Record) -> Result<(Vec<SecretFile>, Vec<SecretVariable>)> {
        if record.data.secrets.is_empty() {
            return Ok(Default::default());
        }
        let (uses, ids) = (record.data.spec.secrets.clone(), record.data.secrets.clone());
        self.with(move |secrets| secrets.of(&uses, &ids)).await
    }

    /// Removes what a crash left.
    pub(super) async fn repair(&self) -> Result<()> {
        self.with(Inner::collect).await
    }
}

impl Inner {
    fn create(&self, name: &Name, content: &SecretData, options: &SecretOptions) -> Result<Secret> {
        let mut made = Secret::new(SecretId::random(), name.clone(), SystemTime::now());
        made.labels.clone_from(&options.labels);
        let written = self.outbox.write(Durability::PowerLoss, |tx, events| {
            let old = table::by_name(tx, name)?;
            if let Some(old) = &old {
                if !options.replace {
                    return Err(Error::new(ErrorKind::AlreadyExists, "create secret")
                        .with("secret", name)
                        .with_message("there is a secret of this name")
                        .with_hint("remove it, replace it, or choose another name")
                        .into());
                }
                made.created_at = old.created_at;
                table::forget(tx, &old.id)?;
            }
            // Under the lock of the database's writers, so that a repair takes it for no garbage.
            self.content.put(&made.id, content)?;
            table::insert(tx, &made)?;
            let action = if old.is_some() { Action::Update } else { Action::Create };
            events.push(event(action, &made));
            Ok(old.is_some())
        });
        let replaced = written.inspect_err(|_| self.content.remove(&made.id).unwrap_or_default())?;
        if replaced && let Err(error) = self.collect() {
            tracing::warn!(%error, "the content of a replaced secret stays until the next repair");
        }
        Ok(made)
    }

    fn remove(&self, id: &SecretId) -> Result<()> {
        self.outbox.write(Durability::PowerLoss, |tx, events| {
            if let Some(secret) = table::by_id(tx, id)? {
                table::forget(tx, id)?;
                events.push(event(Action::Remove, &secret));
            }
            Ok(())
        })?;
        self.collect()
    }

    /// Removes what has no name and no container that holds it, and content without a row.
    fn collect(&self) -> Result<()> {
        let database = self.outbox.database();
        let found = self.content.list()?;
        let known = database.read(table::needed)?;
        // All is well nearly always, and then this writes nothing. A row may come after `found` was listed, but not go.
        if found.iter().all(|id| known.contains(id))
            && database.read(table::has_garbage).is_ok_and(|has| !has)
        {
            return Ok(());
        }
        let garbage = database.write(Durability::PowerLoss, |tx| {
            table::collect(tx)?;
            let known = table::needed(tx)?;
            let mut found = self.content.list()?;
            found.retain(|id| !known.contains(id));
            Ok(found)
        })?;
        for id in &garbage {
            self.content.remove(id)?;
        }
        Ok(())
    }

    fn of(&self, uses: &[SecretUse], ids: &[SecretId]) -> Result<(Vec<SecretFile>, Vec<SecretVariable>)> {
        let (mut files, mut variables, mut total) = (Vec::new(), Vec::new(), 0);
        for (wanted, id) in uses.iter().zip(ids) {
            let content = self.content.get(id)?;
            total += content.reveal().len();
            if let (Some(path), SecretTarget::File { uid, gid, mode, .. }) = (wanted.path()?, &wanted.target)
            {
                files.push(SecretFile { path, content, uid: *uid, gid: *gid, mode: *mode });
            } else if let Some(name) = wanted.variable()? {
                if content.reveal().contains(&0) {
                    return Err(wanted
                        .invalid("it contains a zero byte, which no environment variable can")
                        .with_hint("show it as a file"));
                }
                variables.push(SecretVariable { name: name.to_owned(), value: content });
            }
        }
        if total > MAX_TOTAL {
            return Err(Error::new(ErrorKind::InvalidArgument, "use secrets").with_message(format!(
                "the secrets of a container add up to {total} bytes; the limit is {MAX_TOTAL}"
            )));
        }
        Ok((files, variables))
    }
}

fn event(action: Action, secret: &Secret) -> Event {
    Event::new(ObjectKind::Secret, action, secret.id.as_str()).with("name", &secret.name)
}
