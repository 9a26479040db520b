//! The daemon's file of options: dockerd's names and meaning.
//!
//! Invariant: a key that nobody knows is an error, and so is one that a flag gives, too.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use engine_api::server::ContainerDefaults;
use engine_net::AddressPool;
use serde::Deserialize;

use super::DaemonArgs;
use crate::context::Context;
use crate::failure::{Failure, Result};

/// What may stand in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Config {
    hosts: Option<Vec<String>>,
    group: Option<String>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    pidfile: Option<PathBuf>,
    shutdown_timeout: Option<u64>,
    metrics_addr: Option<SocketAddr>,
    debug: Option<bool>,
    log_level: Option<String>,
    tls: Option<bool>,
    tlsverify: Option<bool>,
    tlscacert: Option<PathBuf>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
    registry_mirrors: Option<Vec<String>>,
    insecure_registries: Option<Vec<String>>,
    userns_remap: Option<String>,
    exec_opts: Option<Vec<String>>,
    cgroup_parent: Option<PathBuf>,
    default_address_pools: Option<Vec<Pool>>,
    live_restore: Option<bool>,
    log_driver: Option<String>,
    log_opts: Option<BTreeMap<String, String>>,
    #[serde(rename = "$schema")]
    _schema: Option<String>,
    features: Option<BTreeMap<String, bool>>,
}

/// One of `default-address-pools`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pool {
    base: String,
    size: u8,
}

impl Config {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let wrong = |why: String| Failure::usage(format!("invalid --config {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // It names the key, and the line.
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
    }

    /// Puts the file's options where the flags' are.
    pub(super) fn apply(self, path: &Path, context: &mut Context, args: &mut DaemonArgs) -> Result<()> {
        let mut merge = Merge { path, twice: Vec::new() };
        let global = &mut context.global;
        merge.list("hosts", &mut args.hosts, self.hosts);
        merge.one("group", &mut args.group, self.group);
        merge.one("data-root", &mut global.root, self.data_root);
        merge.one("exec-root", &mut global.run_root, self.exec_root);
        merge.one("pidfile", &mut args.pidfile, self.pidfile);
        merge.one("shutdown-timeout", &mut args.shutdown_timeout, self.shutdown_timeout);
        merge.one("metrics-addr", &mut args.metrics_addr, self.metrics_addr);
        merge.flag("debug", &mut global.debug, self.debug);
        merge.one("log-level", &mut global.log_level, self.log_level);
        merge.flag("tlsverify", &mut args.tlsverify, self.tlsverify);
        merge.one("tlscacert", &mut args.tlscacert, self.tlscacert);
        merge.one("tlscert", &mut args.tlscert, self.tlscert);
        merge.one("tlskey", &mut args.tlskey, self.tlskey);
        merge.list("registry-mirrors", &mut global.registry_mirror, self.registry_mirrors);
        merge.list("insecure-registries", &mut global.insecure_registry, self.insecure_registries);
        merge.one("userns-remap", &mut global.userns_remap, self.userns_remap);
        merge.one("cgroup-parent", &mut global.cgroup_root, self.cgroup_parent);
        for option in self.exec_opts.unwrap_or_default() {
            let driver = option.strip_prefix("native.cgroupdriver=").map(str::to_owned);
            let driver = driver.ok_or_else(|| {
                merge.wrong(format!(
                    "exec-opts: {option:?} is unknown: give native.cgroupdriver=cgroupfs or =systemd"
                ))
            })?;
            merge.one("exec-opts", &mut global.cgroup_driver, Some(driver));
        }
        for pool in self.default_address_pools.unwrap_or_default() {
            let base = pool
                .base
                .parse()
                .map_err(|_| merge.wrong(format!("default-address-pools: {:?} is no subnet", pool.base)))?;
            let pool = AddressPool::new(base, pool.size)
                .map_err(|error| merge.wrong(format!("default-address-pools: {}", error.report())))?;
            context.address_pools.push(pool);
        }
        let defaults = ContainerDefaults::default();
        args.defaults = defaults
            .with_log(self.log_driver, self.log_opts.unwrap_or_default())
            .map_err(|error| merge.wrong(format!("log-driver, log-opts: {}", error.report())))?;
        if self.tls == Some(true) && !args.tlsverify {
            return Err(
                merge.wrong("tls: clients without a certificate are never served; set tlsverify".to_owned())
            );
        }
        if self.live_restore == Some(false) {
            return Err(merge.wrong("live-restore: containers always outlive the daemon".to_owned()));
        }
        if let Some((name, _)) = self.features.iter().flatten().find(|(_, on)| **on) {
            return Err(merge.wrong(format!("features: {name:?} is unknown")));
        }
        merge.end()
    }
}

/// Options of the file, on their way to those of the flags.
struct Merge<'a> {
    path: &'a Path,
    twice: Vec<String>,
}

impl Merge<'_> {
    fn wrong(&self, why: String) -> Failure {
        Failure::usage(format!("invalid --config {}: {why}", self.path.display()))
    }

    fn one<T: Debug>(&mut self, key: &str, flag: &mut Option<T>, file: Option<T>) {
        match (&*flag, file) {
            (Some(given), Some(file)) => self.twice(key, given, &file),
            (None, Some(file)) => *flag = Some(file),
            (_, None) => {}
        }
    }

    fn list(&mut self, key: &str, flag: &mut Vec<String>, file: Option<Vec<String>>) {
        match file {
            Some(file) if !flag.is_empty() => self.twice(key, flag, &file),
            Some(file) => *flag = file,
            None => {}
        }
    }

    /// A flag that is given cannot be taken back, so the file only adds.
    fn flag(&mut self, key: &str, flag: &mut bool, file: Option<bool>) {
        match file {
            Some(file) if *flag && !file => self.twice(key, &true, &file),
            Some(file) => *flag |= file,
            None => {}
        }
    }

    fn twice(&mut self, key: &str, flag: &dyn Debug, file: &dyn Debug) {
        self.twice.push(format!("{key}: (from flag: {flag:?}, from file: {file:?})"));
    }

    fn end(self) -> Result<()> {
        if self.twice.is_empty() {
            return Ok(());
        }
        let twice = self.twice.join(", ");
        Err(self.wrong(format!(
            "the following directives are specified both as a flag and in the configuration file: {twice}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _, Parser as _};

    use super::*;
    use crate::cli::Cli;

    /// What a file and flags come to.
    fn merged(text: &str, flags: &[&str]) -> std::result::Result<(Context, DaemonArgs), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, text).unwrap();
        let cli = Cli::try_parse_from(["engine-cli", "version"].iter().chain(flags)).unwrap();
        let mut context = Context::new(cli.global);
        let command = DaemonArgs::augment_args(clap::Command::new("daemon"));
        let matches = command.try_get_matches_from(["daemon"]).unwrap();
        let mut args = DaemonArgs::from_arg_matches(&matches).unwrap();
        let report = |failure: Failure| failure.report().unwrap_or_default().to_owned();
        Config::read(&path)
            .and_then(|config| config.apply(&path, &mut context, &mut args))
            .map_err(report)?;
        Ok((context, args))
    }

    #[test]
    fn options_are_dockers() {
        let text = r#"{
            "hosts": ["unix:///run/a.sock"], "data-root": "/data", "exec-opts": ["native.cgroupdriver=systemd"],
            "registry-mirrors": ["http://127.0.0.1:5000"], "log-level": "debug", "live-restore": true,
            "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}], "shutdown-timeout": 3
        }"#;
        let (context, args) = merged(text, &[]).unwrap();
        assert_eq!((args.hosts, args.shutdown_timeout), (vec!["unix:///run/a.sock".to_owned()], Some(3)));
        assert_eq!(context.global.root, Some("/data".into()));
        assert_eq!(context.global.cgroup_driver.as_deref(), Some("systemd"));
        assert_eq!((context.global.registry_mirror.len(), context.address_pools.len()), (1, 1));
        assert!(merged("", &[]).is_ok() && merged("{}", &[]).is_ok());
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, words) in [
            (r#"{"colour": "red"}"#, "colour"),
            ("{\n\"hosts\": 5}", "line 2"),
            ("{", "EOF"),
            (r#"{"live-restore": false}"#, "live-restore"),
            (r#"{"tls": true}"#, "tlsverify"),
            (r#"{"exec-opts": ["a=b"]}"#, "a=b"),
            (r#"{"default-address-pools": [{"base": "10.0.0.0/24", "size": 16}]}"#, "default-address-pools"),
            (r#"{"default-address-pools": [{"base": "here", "size": 16}]}"#, "here"),
            (r#"{"features": {"fast": true}}"#, "fast"),
            (r#"{"log-driver": "syslog"}"#, "syslog"),
            (r#"{"log-opts": {"max-size": "big"}}"#, "max-size"),
            (r#"{"log-opts": {"max-file": 5}}"#, "line 1"),
        ] {
            let said = merged(text, &[]).unwrap_err();
            assert!(said.contains(words) && said.contains("daemon.json"), "{text}: {said}");
        }
        let said =
            merged(r#"{"data-root": "/a", "debug": false}"#, &["--root", "/b", "--debug"]).unwrap_err();
        assert!(said.contains("data-root: (from flag: \"/b\"") && said.contains("debug"), "{said}");
    }
}
