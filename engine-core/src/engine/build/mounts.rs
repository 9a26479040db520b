//! `RUN --mount`: what a command finds besides the layers, and what of that its key has.
//!
//! Files of the context are put into a layer first, which is mounted: so a command sees no file that the key does not have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use crate::container_spec::MountSpec;
use crate::digest::Digest;
use crate::dockerfile::{BindMount, CacheMount, CacheSharing, RunMount, SecretMount};
use crate::engine::records::MountedImage;
use crate::engine::turns::Turn;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ContainerId, Name};
use crate::mount::{Mount, MountKind};
use crate::secret::{SecretData, SecretFile, SecretVariable};
use crate::volume_driver::VolumeOptions;

use super::Build;
use super::copy::{Below, Hasher, stat};
use super::spec::BuildSpec;
use super::stage::State;

/// The label of volumes that are caches of builds: its value is the cache's id.
pub const BUILD_CACHE_LABEL: &str = "engine.build.cache";

/// What is mounted for one command.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) specs: Vec<MountSpec>,
    /// The images among them, in their order.
    pub(super) images: Vec<MountedImage>,
    pub(super) secret_files: Vec<SecretFile>,
    pub(super) secret_env: Vec<SecretVariable>,
    /// Caches that only one command uses at a time.
    locked: Vec<ContainerId>,
}

/// What `from` of a mount is: layers, and the image that keeps them.
pub(super) struct Mounted {
    pub(super) manifest: Digest,
    pub(super) layers: Vec<Digest>,
    /// What all of it is.
    pub(super) digest: Digest,
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "mount for command")
        .with_message(format!("{what} is not carried out yet"))
}

impl Mounts {
    /// Adds `type=bind`.
    pub(super) fn bind(
        &mut self,
        state: &State,
        bind: &BindMount,
        from: Mounted,
        key: &mut Hasher,
    ) -> Result<()> {
        if !bind.read_only {
            return Err(unsupported("a bind mount that is written to"));
        }
        let target = state.absolute(bind.target.as_deref().unwrap_or("."));
        let source: PathBuf = super::tree::inside(bind.source.as_deref().unwrap_or("/"))?.iter().collect();
        key.text("bind");
        key.path(&target);
        key.path(&source);
        key.text(&from.digest.to_string());
        let subpath = Some(source).filter(|path| !path.as_os_str().is_empty());
        self.images.push(MountedImage { manifest: from.manifest, layers: from.layers });
        self.specs.push(MountSpec::Image { image: "build".to_owned(), target, subpath });
        Ok(())
    }

    /// Adds a mount that takes no files from anywhere.
    pub(super) fn add(
        &mut self,
        state: &State,
        mount: &RunMount,
        spec: &BuildSpec,
        key: &mut Hasher,
    ) -> Result<()> {
        match mount {
            RunMount::Cache(cache) => self.cache(state, cache, key),
            RunMount::Tmpfs(tmpfs) => {
                let target = state.absolute(tmpfs.target.as_deref().unwrap_or("."));
                key.text("tmpfs");
                key.path(&target);
                key.number(tmpfs.size.unwrap_or(0));
                let mut mount = Mount::tmpfs(target);
                if let MountKind::Tmpfs { size, .. } = &mut mount.kind {
                    *size = tmpfs.size;
                }
                mount.options.noexec = false;
                mount.options.read_only = tmpfs.read_only;
                self.specs.push(MountSpec::Mount(mount));
                Ok(())
            }
            RunMount::Secret(secret) => self.secret(state, secret, spec, key),
            RunMount::Ssh(_) => Err(unsupported("--mount=type=ssh")),
            other => Err(unsupported(&format!("{other:?}"))),
        }
    }

    fn cache(&mut self, state: &State, cache: &CacheMount, key: &mut Hasher) -> Result<()> {
        if cache.from.is_some() || cache.source.is_some() {
            return Err(unsupported("a cache that begins with files"));
        }
        if cache.sharing == CacheSharing::Private {
            return Err(unsupported("sharing=private"));
        }
        if cache.mode.is_some() || cache.uid.is_some_and(|id| id != 0) || cache.gid.is_some_and(|id| id != 0)
        {
            return Err(unsupported("the owner or the mode of a cache"));
        }
        let target = state.absolute(cache.target.as_deref().unwrap_or("."));
        let id = cache.id.clone().unwrap_or_else(|| target.display().to_string());
        key.text("cache");
        key.path(&target);
        key.text(&id);
        // Whoever chooses the id chooses no name (SECURITY E1).
        let digest = Digest::sha256(id.as_bytes());
        let name: Name = format!("build-cache-{}", digest.hex()).parse()?;
        if cache.sharing == CacheSharing::Locked {
            self.locked.push(ContainerId::from_str(digest.hex())?);
        }
        let mut create = VolumeOptions::default();
        create.labels.insert(BUILD_CACHE_LABEL.to_owned(), id);
        let mut volume = MountSpec::volume(Some(name), target);
        if let MountSpec::Volume { options, no_copy, create: made, .. } = &mut volume {
            options.read_only = cache.read_only;
            (*no_copy, *made) = (true, create);
        }
        self.specs.push(volume);
        Ok(())
    }

    /// Secrets are in no key: only where they are.
    fn secret(
        &mut self,
        state: &State,
        secret: &SecretMount,
        spec: &BuildSpec,
        key: &mut Hasher,
    ) -> Result<()> {
        key.text("secret");
        key.text(&secret.id);
        key.texts([&secret.target, &secret.env].map(|text| text.clone().unwrap_or_default()));
        let Some(content) = spec.secrets.get(&secret.id) else {
            if secret.required {
                return Err(Error::new(ErrorKind::NotFound, "mount secret")
                    .with("secret", &secret.id)
                    .with_message("the build has no such secret")
                    .with_hint(format!("give it with --secret id={}", secret.id)));
            }
            return Ok(());
        };
        if let Some(target) = &secret.target {
            self.secret_files.push(SecretFile {
                path: state.absolute(target),
                content: content.clone(),
                uid: secret.uid.unwrap_or(0),
                gid: secret.gid.unwrap_or(0),
                mode: secret.mode.unwrap_or(0o400),
            });
        }
        if let Some(name) = &secret.env {
            self.secret_env.push(SecretVariable { name: name.clone(), value: content.clone() });
        }
        Ok(())
    }

    /// Adds a script that is run by its path, and returns that.
    pub(super) fn script(&mut self, name: &str, content: &str) -> String {
        let path = format!("/dev/pipes/{}", name.replace('/', "_"));
        let content = SecretData::new(content.as_bytes());
        self.secret_files.push(SecretFile {
            path: PathBuf::from(&path),
            content,
            uid: 0,
            gid: 0,
            mode: 0o755,
        });
        path
    }

    pub(super) fn is_empty(&self) -> bool {
        self.specs.is_empty() && self.secret_files.is_empty()
    }

    /// Waits for the caches that only one command uses at a time.
    pub(super) async fn lock(&self, build: &Build) -> Result<Vec<Turn>> {
        let mut ids = self.locked.clone();
        // Always in one order: so nobody waits for somebody who waits.
        ids.sort();
        ids.dedup();
        let mut turns = Vec::with_capacity(ids.len());
        for id in &ids {
            turns.push(build.engine.inner.turns.take(id).await?);
        }
        Ok(turns)
    }

    /// The mount points that are not there yet, with the directories above them.
    pub(super) async fn points(&self, below: &Below) -> Result<BTreeSet<PathBuf>> {
        let mut points = BTreeSet::new();
        let targets = self.specs.iter().map(MountSpec::target);
        for target in targets.chain(self.secret_files.iter().map(|file| &*file.path)) {
            for path in target.ancestors().filter(|path| *path != Path::new("/")) {
                if stat(below, path).await?.is_some() {
                    break;
                }
                points.insert(path.to_owned());
            }
        }
        Ok(points)
    }
}
