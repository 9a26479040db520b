//! The instructions that make layers: what each is made of, whether the cache has it, and doing it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::container_spec::{ContainerSpec, NetworkMode};
use crate::digest::Digest;
use crate::dockerfile::{
    FileMode, Heredoc, Run, RunMount, RunNetwork, RunScript, RunSecurity, Scope, is_predefined_arg,
};
use crate::error::{Error, ErrorKind, Result};
use crate::files::ContainerFiles;
use crate::network::EndpointOptions;
use crate::platform::Platform;

use super::Build;
use super::cache::Layer;
use super::copy::{Below, Hasher, Placing, Plan};
use super::event::{BuildEvent, StepId};
use super::gzip::gzip;
use super::ignore::{self, excluding, matches_name};
use super::mounts::{Mounted, Mounts};
use super::run::Command;
use super::spec::BuildNetwork;
use super::stage::{State, shell};
use super::tree::{Tree, TreeKind};

/// What `COPY` and `ADD` have in common, with all variables expanded.
pub(super) struct Copying {
    pub(super) sources: Vec<String>,
    pub(super) documents: Vec<Heredoc>,
    pub(super) destination: String,
    pub(super) chown: Option<String>,
    pub(super) chmod: Option<String>,
    pub(super) link: bool,
    pub(super) parents: bool,
    pub(super) exclude: Vec<String>,
}

/// One step on its way.
pub(super) struct Step<'a> {
    pub(super) build: &'a Build,
    pub(super) id: StepId,
    /// What its line in the history says.
    pub(super) text: String,
    pub(super) use_cache: bool,
    /// Whether nothing is told of it, since it is a part of another.
    pub(super) quiet: bool,
}

impl Step<'_> {
    /// Returns what the cache has for `key`, or has `make` make it and keeps that.
    async fn layer(
        &self,
        key: &Digest,
        make: impl Future<Output = Result<Option<Layer>>>,
    ) -> Result<Option<Layer>> {
        let engine = &self.build.engine;
        if self.use_cache
            && let Some(known) = engine.cached_step(key).await?
        {
            if !self.quiet {
                self.build.progress.report(BuildEvent::Cached { step: self.id });
            }
            return Ok(known);
        }
        let made = make.await?;
        engine.keep_step(key, made.as_ref(), &self.text).await?;
        Ok(made)
    }

    /// The file system below.
    async fn below(&self, state: &State) -> Result<Below> {
        match &state.image {
            Some((_, manifest, _)) if !state.layers.is_empty() => {
                let view = self.build.engine.view(manifest, &state.diff_ids()).await?;
                Ok(Some(view as Arc<dyn ContainerFiles>))
            }
            _ => Ok(None),
        }
    }

    /// Writes a layer of files of `tree`.
    async fn write(&self, tree: &dyn ContainerFiles, plan: Plan) -> Result<Option<Layer>> {
        if plan.is_empty() {
            return Ok(None);
        }
        let mut archive = gzip(tree.pack_files(plan.into_files()).await?);
        let mut writer = self.build.engine.inner.images.create_layer().await?;
        while let Some(piece) = archive.next().await {
            writer.write(piece?).await?;
        }
        let layer = writer.commit().await?;
        Ok(Some((layer.descriptor, layer.diff_id)))
    }

    /// `WORKDIR`: the directory, if it is not there.
    pub(super) async fn workdir(&self, state: &State, path: &Path) -> Result<Option<Layer>> {
        let mut key = Hasher::new("workdir-1");
        key.text(&state.chain().to_string());
        key.path(path);
        let make = async {
            let below = self.below(state).await?;
            let mut plan = Plan::default();
            if !plan.make_dirs(&below, path, None, state.time).await? {
                return Ok(None);
            }
            self.write(&**self.build.context.files(), plan).await
        };
        self.layer(&key.finish(), make).await
    }

    /// `COPY`, and `ADD` of files.
    pub(super) async fn copy(&self, state: &State, tree: &Tree, copying: &Copying) -> Result<Option<Layer>> {
        let destination = state.absolute(&copying.destination);
        let count = copying.sources.len() + copying.documents.len();
        let named_dir = copying.destination.ends_with('/')
            || matches!(&*copying.destination, "." | "..")
            || copying.destination.ends_with("/.")
            || copying.destination.ends_with("/..");
        if count > 1 && !named_dir {
            return Err(Error::new(ErrorKind::InvalidArgument, "copy files")
                .with("destination", &copying.destination)
                .with_message("with more than one source, the destination is a directory and ends with /"));
        }
        let chmod = copying.chmod.as_deref().map(FileMode::parse).transpose()?;
        let exclude = excluding(&copying.exclude)?;
        let mut sources = Vec::new();
        let mut key = Hasher::new("copy-1");
        if !copying.link {
            key.text(&state.chain().to_string());
        }
        key.path(&destination);
        key.texts([named_dir, copying.link, copying.parents].map(|flag| flag.to_string()));
        key.texts([&copying.chown, &copying.chmod].map(|text| text.clone().unwrap_or_default()));
        key.text("documents");
        for document in &copying.documents {
            key.texts([&document.name, &document.content]);
        }
        match &tree.kind {
            TreeKind::Layers(digest) => {
                key.text(&digest.to_string());
                key.texts(&copying.sources);
                key.texts(&copying.exclude);
            }
            TreeKind::Context => {
                for pattern in &copying.sources {
                    let mut found = tree.sources(pattern, exclude.as_ref(), &matches_name).await?;
                    for source in &found {
                        source.describe(&mut key);
                    }
                    sources.append(&mut found);
                }
            }
        }
        let make = async {
            if tree.kind != TreeKind::Context {
                for pattern in &copying.sources {
                    sources.append(&mut tree.sources(pattern, exclude.as_ref(), &matches_name).await?);
                }
            }
            let below = if copying.link { None } else { self.below(state).await? };
            let owner = match &copying.chown {
                Some(chown) => Some(self.owner(state, chown).await?),
                None => None,
            };
            let into_dir = named_dir || sources.len() + copying.documents.len() > 1;
            let chmod = chmod.as_ref();
            let placing =
                Placing { destination, into_dir, parents: copying.parents, owner, chmod, time: state.time };
            let mut plan = Plan::default();
            plan.add(&below, tree, sources, &placing).await?;
            for document in &copying.documents {
                let content = Bytes::from(document.document().into_owned());
                plan.add_document(&below, &document.name, content, &placing).await?;
            }
            self.write(&**tree.files(), plan).await
        };
        self.layer(&key.finish(), make).await
    }

    /// Refuses archives among the sources of an `ADD`: copied as they are, they would not be what Docker makes of them.
    pub(super) async fn refuse_archives(&self, tree: &Tree, sources: &[String]) -> Result<()> {
        for pattern in sources {
            for source in tree.sources(pattern, None, &matches_name).await? {
                if !source.is_dir() && ignore::is_archive(&**tree.files(), &source.path).await? {
                    return Err(Error::new(ErrorKind::Unsupported, "add files")
                        .with("source", source.name.display())
                        .with_message("archives are not unpacked yet")
                        .with_hint("copy it, and unpack it by RUN"));
                }
            }
        }
        Ok(())
    }

    /// The layers of a tree, for a mount.
    fn mounted(&self, tree: &Tree) -> Result<Mounted> {
        match (&tree.kind, &tree.layers) {
            (TreeKind::Layers(digest), Some((manifest, layers))) => {
                Ok(Mounted { manifest: manifest.clone(), layers: layers.clone(), digest: digest.clone() })
            }
            _ => Err(Error::new(ErrorKind::Unsupported, "mount for command")
                .with_message("a directory cannot be mounted by its name yet")
                .with_hint("copy from it")),
        }
    }

    /// A layer of what `source` is in the context, at its own path: only what is there for `COPY` is there for a mount.
    async fn context_layer(&self, source: &str) -> Result<Mounted> {
        let scratch = State::scratch(Platform::host(), Some(SystemTime::UNIX_EPOCH));
        let copying = Copying {
            sources: vec![source.to_owned()],
            documents: Vec::new(),
            destination: "/".to_owned(),
            chown: None,
            chmod: None,
            link: true,
            parents: true,
            exclude: Vec::new(),
        };
        let quiet = Step {
            build: self.build,
            id: self.id,
            text: format!("mount {source}"),
            use_cache: true,
            quiet: true,
        };
        let layer = Box::pin(quiet.copy(&scratch, &self.build.context, &copying)).await?;
        let (blob, diff_id) = layer.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "mount for command")
                .with("source", source)
                .with_message("there are no files")
        })?;
        let mut state = scratch;
        state.add_layer(Some((blob.clone(), diff_id.clone())), String::new());
        let config = state.image_config(&BTreeMap::new());
        let manifest = self.build.engine.put_image(&config, &[&blob], &[]).await?;
        Ok(Mounted { manifest: manifest.digest, layers: vec![diff_id], digest: state.chain() })
    }

    /// What `--chown` means: numbers, or names in the image.
    async fn owner(&self, state: &State, chown: &str) -> Result<(u32, u32)> {
        let (user, group) = match chown.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (chown, None),
        };
        let number = |text: &str| text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok());
        // A number without a group is both.
        if let (Some(uid), Some(gid)) = (number(user), group.map_or(number(user), number)) {
            return Ok((uid, gid));
        }
        match self.below(state).await? {
            Some(files) => files.owner(chown).await,
            None => Err(Error::new(ErrorKind::InvalidArgument, "find user")
                .with("chown", chown)
                .with_message("an image without files has no users")
                .with_hint("give numbers")),
        }
    }

    /// `RUN`.
    pub(super) async fn run(
        &self,
        state: &State,
        run: &Run,
        scope: &Scope,
        froms: &BTreeMap<usize, Tree>,
    ) -> Result<Option<Layer>> {
        let spec = &self.build.spec;
        let script = run.script();
        let mut mounts = Mounts::default();
        let arguments = match &script {
            RunScript::Shell(line) => [&shell(&state.config)[..], &[line.to_string()]].concat(),
            RunScript::Exec(arguments) => arguments.to_vec(),
            RunScript::File { name, content } => vec![mounts.script(name, content)],
        };
        if !run.devices.is_empty() || run.security != RunSecurity::Sandbox {
            return Err(Error::new(ErrorKind::Unsupported, "run command")
                .with_message("--device and --security=insecure are not carried out")
                .with_hint("leave them out"));
        }
        let network = match run.network {
            RunNetwork::None => BuildNetwork::None,
            RunNetwork::Host => BuildNetwork::Host,
            _ => spec.network.clone(),
        };
        if network == BuildNetwork::Host && !spec.allow_host_network {
            return Err(Error::new(ErrorKind::PermissionDenied, "run command")
                .with_message("the host's network is not allowed to this build")
                .with_hint("allow it for the build, or leave --network=host out"));
        }
        // Proxies have no part in what is made.
        let (hidden, env): (Vec<_>, Vec<_>) = scope
            .command_env()
            .into_iter()
            .partition(|(name, _)| is_predefined_arg(name) && !scope.is_defined(name));
        let mut env: Vec<String> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut key = Hasher::new("run-1");
        key.text(&state.chain().to_string());
        key.text(&state.platform.to_string());
        key.texts(&arguments);
        key.texts(&env);
        key.texts([&state.config.user, &state.config.working_dir]);
        key.text(network.as_str());
        if let RunScript::File { content, .. } = &script {
            key.text(content);
        }
        for (index, mount) in run.mounts.iter().enumerate() {
            match mount {
                RunMount::Bind(bind) => {
                    let from = match froms.get(&index) {
                        Some(tree) => self.mounted(tree)?,
                        None => self.context_layer(bind.source.as_deref().unwrap_or("/")).await?,
                    };
                    mounts.bind(state, bind, from, &mut key)?;
                }
                mount => mounts.add(state, mount, spec, &mut key)?,
            }
        }
        let make = async {
            let _turns = mounts.lock(self.build).await?;
            let mount_points = match mounts.is_empty() {
                true => Default::default(),
                false => mounts.points(&self.below(state).await?).await?,
            };
            let Some((image, manifest, config)) = state.image.clone() else {
                return Err(Error::new(ErrorKind::InvalidArgument, "run command")
                    .with_message("there is nothing to run: the stage has no files yet"));
            };
            env.extend(hidden.into_iter().map(|(name, value)| format!("{name}={value}")));
            let mut defaults = state.config.clone();
            (defaults.entrypoint, defaults.cmd, defaults.env) = (Vec::new(), Vec::new(), env);
            // They are for containers of the image, not for those that make it.
            (defaults.volumes, defaults.exposed_ports, defaults.healthcheck) = Default::default();
            let mut container = ContainerSpec::command(&arguments);
            container.platform = Some(state.platform.clone());
            // Nothing that a command sees is different the next time.
            container.hostname = Some("build".to_owned());
            container.allow_new_privileges = true;
            container.labels.insert("engine.build".to_owned(), self.text.clone());
            container.network = match network {
                BuildNetwork::Default => NetworkMode::Default,
                BuildNetwork::None => NetworkMode::None,
                BuildNetwork::Host => NetworkMode::Host,
                BuildNetwork::Named(name) => NetworkMode::Networks(vec![(name, EndpointOptions::default())]),
            };
            (container.resources, container.shm_size) = (spec.resources.clone(), spec.shm_size);
            (container.ulimits, container.extra_hosts) = (spec.ulimits.clone(), spec.extra_hosts.clone());
            let command = Command {
                spec: container,
                defaults,
                image,
                manifest,
                config,
                layers: state.diff_ids(),
                platform: state.platform.clone(),
                mounts,
                mount_points,
                time: state.time,
            };
            let (progress, step) = (&self.build.progress, self.id);
            let report = |stream, bytes| progress.report(BuildEvent::Output { step, stream, bytes });
            self.build.engine.run_step(command, report).await
        };
        self.layer(&key.finish(), make).await
    }
}

/// Reports that a step took from `begun` until now.
pub(super) fn finished(build: &Build, step: StepId, begun: Instant, layer: Option<&Layer>) {
    let layer = layer.map(|(blob, _)| blob.size);
    build.progress.report(BuildEvent::Finished { step, took: begun.elapsed(), layer });
}
