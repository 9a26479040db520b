//! From global flags to an engine.
//!
//! The only place that knows default paths and reads the environment for them: libraries never do.

use std::path::PathBuf;

use engine_core::Engine;

use crate::cli::GlobalArgs;
use crate::failure::Result;

const DEFAULT_ROOT: &str = "/var/lib/engine-cli";
const DEFAULT_RUN_ROOT: &str = "/run/engine-cli";

/// What commands need to work.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) global: GlobalArgs,
}

impl Context {
    /// Returns the engine's directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.global.root.clone().unwrap_or_else(|| DEFAULT_ROOT.into())
    }

    /// Opens the engine.
    pub(crate) async fn engine(&self) -> Result<Engine> {
        let mut builder = Engine::builder(absolute(self.root()));
        match (&self.global.run_root, &self.global.root) {
            (Some(run_root), _) => builder = builder.run_root(absolute(run_root.clone())),
            (None, Some(_)) => {}
            (None, None) => builder = builder.run_root(DEFAULT_RUN_ROOT),
        }
        Ok(builder.open().await?)
    }
}

/// A relative directory is relative to where the user is.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Returns the directory of Docker's `config.json`: `$DOCKER_CONFIG`, or `.docker` in the home directory.
pub(crate) fn docker_config_dir() -> Option<PathBuf> {
    match std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
        Some(dir) => Some(dir.into()),
        None => std::env::home_dir().map(|home| home.join(".docker")),
    }
}

/// Turns messages of the libraries on, on standard error.
pub(crate) fn trace(global: &GlobalArgs) {
    let filter = match (&global.log_level, global.debug) {
        (Some(level), _) => level.as_str(),
        (None, true) => "engine_cli=debug,engine_core=debug,engine_net=debug,engine_registry=debug",
        // Warnings are for embedders' logs; what concerns the user comes back as an error.
        (None, false) => return,
    };
    let filter = tracing_subscriber::EnvFilter::new(filter);
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
