//! `RUN`: what a command is made of, and what it finds besides the layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container_spec::{ContainerSpec, NetworkMode};
use crate::dockerfile::{Run, RunMount, RunNetwork, RunScript, RunSecurity, Scope, is_predefined_arg};
use crate::error::{Error, ErrorKind, Result};
use crate::network::EndpointOptions;

use super::cache::Layer;
use super::copy::Hasher;
use super::event::BuildEvent;
use super::mounts::{Mounted, Mounts};
use super::run::Command;
use super::spec::BuildNetwork;
use super::stage::{State, shell};
use super::steps::Step;
use super::tree::{Tree, TreeKind};

impl Step<'_> {
    /// The layers that show `source` of a tree, for a mount.
    async fn mounted(&self, tree: &Tree, source: Option<&str>) -> Result<Mounted> {
        let source: PathBuf = super::tree::inside(source.unwrap_or_default())?.iter().collect();
        match (&tree.kind, &tree.layers) {
            (TreeKind::Layers(digest), Some((manifest, layers))) => {
                Ok(Mounted { manifest: manifest.clone(), layers: layers.clone(), digest: digest.clone() })
            }
            _ => self.tree_layer(tree, &source).await,
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
        let mut key = Hasher::new("run-2");
        key.time(state.time);
        key.text(&state.chain().to_string());
        key.text(&state.platform.to_string());
        key.texts(&arguments);
        key.texts(&env);
        key.texts([&state.config.user, &state.config.working_dir]);
        key.text(network.as_str());
        // Memory and processors are not what a result is made of.
        key.texts(spec.extra_hosts.iter().map(|(name, address)| format!("{name} {address}")));
        key.texts(spec.ulimits.iter().map(|limit| format!("{limit:?}")));
        key.number(spec.shm_size.unwrap_or(0));
        if let RunScript::File { content, .. } = &script {
            key.text(content);
        }
        for (index, mount) in run.mounts.iter().enumerate() {
            check_target(state, mount)?;
            match mount {
                RunMount::Bind(bind) => {
                    let tree = froms.get(&index).unwrap_or(&self.build.context);
                    let from = self.mounted(tree, bind.source.as_deref()).await?;
                    mounts.bind(state, bind, from, &mut key)?;
                }
                RunMount::Cache(cache) => {
                    let source = cache.source.as_deref();
                    let from = match froms.get(&index) {
                        Some(tree) => Some(self.mounted(tree, source).await?),
                        None => None,
                    };
                    mounts.cache(state, cache, from, &mut key)?;
                }
                mount => mounts.add(state, mount, spec, &mut key)?,
            }
        }
        let make = async {
            let opened = mounts.open(&self.build.engine).await?;
            let mount_points = match mounts.is_empty() {
                true => Default::default(),
                false => mounts.points(&self.below(state).await?).await?,
            };
            let Some(image) = state.image.clone() else {
                return Err(Error::new(ErrorKind::InvalidArgument, "run command")
                    .with_message("there is nothing to run: the stage has no files yet"));
            };
            env.extend(hidden.into_iter().map(|(name, value)| format!("{name}={value}")));
            env.extend(opened.env.iter().cloned());
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
                layers: state.diff_ids(),
                platform: state.platform.clone(),
                mounts,
                mount_points,
                time: state.time,
                opened,
            };
            let (progress, step) = (&self.build.progress, self.id);
            let report = |stream, bytes| progress.report(BuildEvent::Output { step, stream, bytes });
            self.build.engine.run_step(command, report).await
        };
        self.layer(&key.finish(), Box::pin(make)).await
    }
}

/// Refuses a mount over everything: without a target, it is at the working directory.
fn check_target(state: &State, mount: &RunMount) -> Result<()> {
    let target = match mount {
        RunMount::Bind(bind) => &bind.target,
        RunMount::Cache(cache) => &cache.target,
        RunMount::Tmpfs(tmpfs) => &tmpfs.target,
        _ => return Ok(()),
    };
    if state.absolute(target.as_deref().unwrap_or(".")) != Path::new("/") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidArgument, "mount for command")
        .with_message("nothing can be mounted at /")
        .with_hint("say where with target=PATH"))
}
