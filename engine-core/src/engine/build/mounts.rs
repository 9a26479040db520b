//! `RUN --mount`: what a command finds besides the layers, and what of that its key has.
//!
//! Files of the context are put into a layer first, which is mounted: so a command sees no file that the key does not have.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::container_spec::MountSpec;
use crate::digest::Digest;
use crate::dockerfile::{BindMount, CacheMount, RunMount, SecretMount, SshMount};
use crate::engine::records::MountedImage;
use crate::engine::turns::Turn;
use crate::engine::{LocalEngine, blocking};
use crate::error::{Error, ErrorKind, Result};
use crate::mount::{Mount, MountKind, OverlayUpper};
use crate::secret::{SecretData, SecretFile, SecretVariable};

use super::agent::{Agent, AgentSocket};
use super::caches::Cache;
use super::copy::{Below, Hasher, stat};
use super::scratch::Scratch;
use super::spec::BuildSpec;
use super::stage::State;

/// What is mounted for one command.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) specs: Vec<MountSpec>,
    /// The images among them, in their order.
    pub(super) images: Vec<MountedImage>,
    /// Images whose layers are mounted in another way.
    pub(super) held: Vec<MountedImage>,
    pub(super) secret_files: Vec<SecretFile>,
    pub(super) secret_env: Vec<SecretVariable>,
    caches: Vec<Cache>,
    agents: Vec<Agent>,
    writable: Vec<Writable>,
}

/// Layers that a command writes to, for itself alone.
#[derive(Debug)]
struct Writable {
    from: Mounted,
    source: PathBuf,
    target: PathBuf,
}

/// What has to be there for as long as a command runs.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Variables that tell where things are.
    pub(super) env: Vec<String>,
    _turns: Vec<Turn>,
    _agents: Vec<AgentSocket>,
    /// Dropped last: sockets and layers are in there.
    _scratch: Option<Scratch>,
}

/// What `from` of a mount is: layers, and the image that keeps them.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    pub(super) manifest: Digest,
    pub(super) layers: Vec<Digest>,
    /// What all of it is.
    pub(super) digest: Digest,
}

/// Where agents are for whoever gives no target, as with BuildKit.
const AGENT: &str = "/run/buildkit/ssh_agent.";

impl Mounts {
    /// Adds `type=bind`.
    pub(super) fn bind(
        &mut self,
        state: &State,
        bind: &BindMount,
        from: Mounted,
        key: &mut Hasher,
    ) -> Result<()> {
        let target = state.absolute(bind.target.as_deref().unwrap_or("."));
        let source: PathBuf = super::tree::inside(bind.source.as_deref().unwrap_or("/"))?.iter().collect();
        key.text(if bind.read_only { "bind" } else { "writable bind" });
        key.path(&target);
        key.path(&source);
        key.text(&from.digest.to_string());
        if !bind.read_only {
            self.writable.push(Writable { from, source, target });
            return Ok(());
        }
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
            RunMount::Tmpfs(tmpfs) => {
                let target = state.absolute(tmpfs.target.as_deref().unwrap_or("."));
                key.text("tmpfs");
                key.path(&target);
                key.number(tmpfs.size.unwrap_or(0));
                key.number(tmpfs.read_only.into());
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
            RunMount::Ssh(ssh) => self.agent(state, ssh, spec, key),
            other => Err(Error::new(ErrorKind::Unsupported, "mount for command")
                .with_message(format!("{other:?} is not carried out"))),
        }
    }

    /// Adds `type=cache`.
    pub(super) fn cache(
        &mut self,
        state: &State,
        cache: &CacheMount,
        from: Option<Mounted>,
        key: &mut Hasher,
    ) -> Result<()> {
        let cache = Cache::new(state, cache, from)?;
        cache.describe(key);
        self.caches.push(cache);
        Ok(())
    }

    /// Agents are in no key: only where they are.
    fn agent(&mut self, state: &State, ssh: &SshMount, spec: &BuildSpec, key: &mut Hasher) -> Result<()> {
        let id = ssh.id.as_deref().unwrap_or("default");
        let target = match &ssh.target {
            Some(target) => state.absolute(target),
            None => PathBuf::from(format!("{AGENT}{}", self.agents.len())),
        };
        key.text("ssh");
        key.text(id);
        key.path(&target);
        key.texts([ssh.mode, ssh.uid, ssh.gid].map(|number| format!("{number:?}")));
        let Some(socket) = spec.ssh.get(id) else {
            if ssh.required {
                return Err(Error::new(ErrorKind::NotFound, "mount ssh agent")
                    .with("ssh", id)
                    .with_message("the build has no such agent")
                    .with_hint(format!("give it with --ssh {id}")));
            }
            return Ok(());
        };
        self.agents.push(Agent {
            socket: socket.clone(),
            target,
            mode: ssh.mode.unwrap_or(0o600),
            owner: (ssh.uid.unwrap_or(0), ssh.gid.unwrap_or(0)),
        });
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
        key.texts([secret.mode, secret.uid, secret.gid].map(|number| format!("{number:?}")));
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

    /// Makes what is mounted: waits for caches, opens sockets, and gives what is written to a layer for that.
    pub(super) async fn open(&mut self, engine: &LocalEngine) -> Result<Opened> {
        let mut opened = Opened::default();
        if !self.caches.is_empty() {
            let (turns, mut specs) = engine.open_caches(&self.caches).await?;
            opened._turns = turns;
            self.specs.append(&mut specs);
        }
        if self.agents.is_empty() && self.writable.is_empty() {
            return Ok(opened);
        }
        let scratch = engine.scratch().await?;
        for (number, agent) in self.agents.iter().enumerate() {
            let socket = AgentSocket::open(agent, scratch.path(), &format!("agent.{number}"))?;
            self.specs.push(MountSpec::Mount(Mount::bind(&socket.path, &agent.target)));
            opened._agents.push(socket);
        }
        // As BuildKit: the first one's.
        let first = self.agents.first();
        opened.env.extend(first.map(|agent| format!("SSH_AUTH_SOCK={}", agent.target.display())));
        for (number, writable) in std::mem::take(&mut self.writable).into_iter().enumerate() {
            let dir = scratch.path().join(format!("written.{number}"));
            let mount = writable.mount(engine, &dir).await?;
            self.specs.push(MountSpec::Mount(mount));
            self.held.push(MountedImage { manifest: writable.from.manifest, layers: writable.from.layers });
        }
        opened._scratch = Some(scratch);
        Ok(opened)
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

impl Writable {
    /// The layers with one to write to, in `dir`.
    async fn mount(&self, engine: &LocalEngine, dir: &Path) -> Result<Mount> {
        // The container holds them from its record on; until then, the build's lease does.
        let (mut mount, held) =
            engine.held_image(&self.from.manifest, &self.from.layers, &self.target).await?;
        drop(held);
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        let MountKind::Overlay { upper: written, .. } = &mut mount.kind else {
            return Err(Error::new(ErrorKind::Unsupported, "mount for command")
                .with_message("this image store has no layers that could be written to"));
        };
        *written = Some(OverlayUpper { upper: upper.clone(), work: work.clone() });
        mount.options.read_only = false;
        mount.subpath = Some(self.source.clone()).filter(|path| !path.as_os_str().is_empty());
        let make = move || {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o755);
            [upper, work].iter().try_for_each(|path| builder.create(path))
        };
        let made = blocking(move || make().map_err(|e| Error::from_io("make directory of build", e)));
        made.await.map(|()| mount)
    }
}
