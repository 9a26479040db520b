//! From global flags to an engine.
//!
//! The only place that knows default paths and reads the environment for them: libraries never do.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use engine_core::Engine;
use engine_core::cgroups::{CgroupDriver, CgroupOptions, SystemdInstance};
use engine_core::container_spec::IdMappings;
use engine_core::engine::IdPool;
use engine_core::registry_client::Credentials;
use engine_net::{AddressPool, LocalNetworks};
use engine_registry::{DockerConfig, OciRegistry};
use tracing_subscriber::fmt::format::FmtSpan;

use crate::cli::GlobalArgs;
use crate::failure::{Failure, Result};
use crate::output;
use crate::remote::{HostArgs, Remote};

const DEFAULT_ROOT: &str = "/var/lib/engine-cli";
const DEFAULT_RUN_ROOT: &str = "/run/engine-cli";

/// What commands need to work.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) global: GlobalArgs,
    /// Where networks get their subnets from; Docker's pools without any.
    pub(crate) address_pools: Vec<AddressPool>,
}

impl Context {
    pub(crate) fn new(global: GlobalArgs) -> Self {
        Self { global, address_pools: Vec::new() }
    }

    /// Returns the engine's directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.global.root.clone().unwrap_or_else(|| DEFAULT_ROOT.into())
    }

    /// Returns what an engine with another directory needs.
    pub(crate) fn at_root(&self, root: &std::path::Path) -> Self {
        let mut global = self.global.clone();
        // The default one has its sockets elsewhere.
        global.root = Some(root.to_owned()).filter(|root| root != std::path::Path::new(DEFAULT_ROOT));
        global.run_root = None;
        // It is a directory of this machine, wherever the engine is.
        global.host = HostArgs::default();
        Self { global, address_pools: self.address_pools.clone() }
    }

    /// Returns the engine that the command works on.
    pub(crate) async fn engine(&self) -> Result<Engine> {
        match self.remote()? {
            Some(remote) => remote.connect().await,
            None => self.local_engine().await,
        }
    }

    /// Returns the engine elsewhere that the command works on, if it does. Whoever names a directory means the one in this process.
    pub(crate) fn remote(&self) -> Result<Option<Remote>> {
        let given = |value: Option<&std::ffi::OsStr>, name| {
            value.is_some() && std::env::var_os(name).as_deref() != value
        };
        let global = &self.global;
        let root = given(global.root.as_ref().map(|root| root.as_os_str()), "ENGINE_ROOT");
        match (root, global.host.is_given()) {
            (true, true) => Err(Failure::usage(
                "--root is the directory of an engine in this process, and --host or --context names another (leave one out)",
            )),
            (true, false) => Ok(None),
            (false, _) => global.host.remote(),
        }
    }

    /// Returns the credentials that an engine elsewhere needs for this registry; one in this process finds them itself.
    pub(crate) async fn credentials(&self, registry: &str) -> Result<Option<Credentials>> {
        match docker_config() {
            Some(config) if self.remote()?.is_some() => Ok(config.credentials(registry).await?),
            _ => Ok(None),
        }
    }

    /// As [`credentials`](Self::credentials), for every registry of which there are any.
    pub(crate) async fn all_credentials(&self) -> Result<BTreeMap<String, Credentials>> {
        let mut all = BTreeMap::new();
        if let Some(config) = docker_config()
            && self.remote()?.is_some()
        {
            for registry in config.registries().await? {
                match config.credentials(&registry).await {
                    Ok(credentials) => all.extend(credentials.map(|one| (registry, one))),
                    // The build may not need this registry.
                    Err(error) => {
                        let why = error.report();
                        output::build::say(&format!("warning: no credentials for {registry}: {why}\n"))?;
                    }
                }
            }
        }
        Ok(all)
    }

    /// Opens the engine in this process.
    pub(crate) async fn local_engine(&self) -> Result<Engine> {
        let root = absolute(self.root());
        let run_root = match (&self.global.run_root, &self.global.root) {
            (Some(run_root), _) => absolute(run_root.clone()),
            (None, Some(_)) => root.join("run"),
            (None, None) => DEFAULT_RUN_ROOT.into(),
        };
        let mut network = LocalNetworks::new(&root, &run_root);
        if !self.address_pools.is_empty() {
            network = network.with_address_pools(self.address_pools.iter().copied());
        }
        let mut builder = Engine::builder(root)
            .run_root(run_root)
            .network(network)
            .default_network(engine_net::DEFAULT_NETWORK.parse()?)
            .cgroups(self.cgroups()?);
        if let Some(pool) = id_pool() {
            builder = builder.id_pool(pool);
        }
        if let Some(owner) = self.global.userns_remap.as_deref().filter(|owner| !owner.is_empty()) {
            builder = builder.user_namespace(remapped(owner)?);
        }
        if let Some(max_bytes) = self.global.max_bytes {
            builder = builder.max_bytes(max_bytes);
        }
        let registry = self.registry()?;
        Ok(builder.url_fetcher(registry.clone()).registry(registry).open().await?)
    }

    /// Returns who makes control groups, and where.
    fn cgroups(&self) -> Result<CgroupOptions> {
        let mut options = CgroupOptions::default();
        options.driver = match self.global.cgroup_driver.as_deref().unwrap_or_default() {
            "" | "cgroupfs" => CgroupDriver::Cgroupfs,
            "systemd" => CgroupDriver::Systemd(systemd_instance()?),
            other => {
                return Err(Failure::usage(format!(
                    "invalid --cgroup-driver {other:?}: give cgroupfs or systemd"
                )));
            }
        };
        if let Some(root) = self.global.cgroup_root.as_ref().filter(|root| !root.as_os_str().is_empty()) {
            if options.driver != CgroupDriver::Cgroupfs {
                return Err(Failure::usage("--cgroup-root is for the cgroup driver cgroupfs".to_owned()));
            }
            options = options.with_root(root);
        }
        Ok(options)
    }

    /// Returns the client of registries.
    pub(crate) fn registry(&self) -> Result<OciRegistry> {
        self.registry_with(docker_config())
    }

    /// Returns a client of registries that has its credentials from `config`.
    pub(crate) fn registry_with(&self, config: Option<impl Into<DockerConfig>>) -> Result<OciRegistry> {
        let mut builder =
            OciRegistry::builder().with_user_agent(concat!("engine-cli/", env!("CARGO_PKG_VERSION")));
        if let Some(config) = config {
            builder = builder.with_docker_config(config);
        }
        for mirror in &self.global.registry_mirror {
            // A URL with a `=` in its path has a slash before it.
            let of = mirror.split_once('=').filter(|(registry, _)| !registry.contains('/'));
            let (registry, mirror) = of.unwrap_or((engine_core::reference::DEFAULT_REGISTRY, mirror));
            builder = builder.with_mirror(registry, mirror);
        }
        for registry in &self.global.insecure_registry {
            builder = builder.with_insecure(registry);
        }
        for file in &self.global.registry_ca {
            let pem = std::fs::read(file).map_err(|error| {
                Failure::usage(format!("cannot read --registry-ca {}: {error}", file.display()))
            })?;
            builder = builder.with_ca_pem(pem);
        }
        let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(proxy) = ["HTTPS_PROXY", "https_proxy"].iter().find_map(set) {
            builder = builder.with_proxy(&proxy);
        }
        Ok(builder.build()?)
    }
}

/// Returns root's systemd, which is the system's, or the user's own.
fn systemd_instance() -> Result<SystemdInstance> {
    if rustix::process::geteuid().is_root() {
        return Ok(SystemdInstance::System);
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Ok(SystemdInstance::User(dir.into())),
        None => {
            Err(Failure::usage("--cgroup-driver systemd needs XDG_RUNTIME_DIR to find systemd".to_owned()))
        }
    }
}

/// Returns the ids that the host's administrator set aside for the engine, or for containers as Podman calls them.
fn id_pool() -> Option<IdPool> {
    let of = |file: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        ["engine-cli", "containers"].iter().find_map(|owner| IdPool::from_subid(&text, owner))
    };
    of("/etc/subuid")?.intersection(of("/etc/subgid")?)
}

/// Returns the ids that the host's administrator gave to `owner`: `default`, `USER` or `USER:GROUP`, by name or number.
fn remapped(owner: &str) -> Result<IdMappings> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let (user, group) = match owner {
        // Docker's user of this purpose; whether there is one does not matter.
        "default" => ("dockremap", "dockremap"),
        _ => owner.split_once(':').unwrap_or((owner, owner)),
    };
    if user.is_empty() || group.is_empty() {
        return Err(Failure::usage(format!(
            "invalid --userns-remap {owner:?}: give default or USER[:GROUP]"
        )));
    }
    let (passwd, groups) = (read("/etc/passwd"), read("/etc/group"));
    Ok(IdMappings::from_subids(
        &read("/etc/subuid"),
        &read("/etc/subgid"),
        &names_of(&passwd, user),
        &names_of(&groups, group),
    )?)
}

/// Returns an owner as it was named, then by its name and its number in the text of /etc/passwd or /etc/group.
fn names_of<'a>(text: &'a str, owner: &'a str) -> Vec<&'a str> {
    let fields = |line: &'a str| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?))
    };
    let known = text.lines().filter_map(fields).find(|(name, id)| *name == owner || *id == owner);
    std::iter::once(owner).chain(known.into_iter().flat_map(|(name, id)| [name, id])).collect()
}

/// A relative directory is relative to where the user is.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Returns Docker's `config.json`: in `$DOCKER_CONFIG`, or in `.docker` of the home directory.
pub(crate) fn docker_config() -> Option<DockerConfig> {
    Some(DockerConfig::new(docker_dir()?.join("config.json")))
}

/// Returns the directory of Docker's configuration.
pub(crate) fn docker_dir() -> Option<PathBuf> {
    match std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
        Some(dir) => Some(PathBuf::from(dir)),
        None => Some(std::env::home_dir()?.join(".docker")),
    }
}

/// Turns messages of the libraries on, on standard error: those that the flags ask for, or else those of level `default`.
pub(crate) fn trace(global: &GlobalArgs, default: Option<&str>) {
    let filter = match (&global.log_level, global.debug, default) {
        (Some(level), ..) => level.as_str(),
        (None, true, _) => {
            "engine_api=debug,engine_cli=debug,engine_core=debug,engine_net=debug,engine_registry=debug"
        }
        (None, false, Some(level)) => level,
        // Warnings are for embedders' logs; what concerns the user comes back as an error.
        (None, false, None) => return,
    };
    let filter = tracing_subscriber::EnvFilter::new(filter);
    // The end of each phase with its times, besides what the libraries say, for whoever asks what happens.
    let phases = global.debug || global.log_level.is_some();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(if phases { FmtSpan::CLOSE } else { FmtSpan::NONE })
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
