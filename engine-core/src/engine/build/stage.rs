//! A stage that is being built: its layers, its configuration, and what each instruction does to them.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};
use std::time::SystemTime;

use crate::digest::Digest;
use crate::dockerfile::{
    Command, DEFAULT_PATH, Healthcheck, HealthcheckCommand, Instruction, KeyValue, parse_ports,
};
use crate::engine::image::Image;
use crate::error::{Error, ErrorKind, Result};
use crate::image_config::{self, Empty, History, ImageConfig, ProcessDefaults, RootFs};
use crate::platform::Platform;
use crate::signal;

use super::cache::Layer;
use super::copy::Hasher;

/// An image that keeps layers, and what it is called.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pub(super) name: String,
    pub(super) manifest: Digest,
    pub(super) config: Digest,
}

/// What a stage is so far.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) platform: Platform,
    pub(super) config: ProcessDefaults,
    pub(super) layers: Vec<Layer>,
    pub(super) history: Vec<History>,
    pub(super) author: String,
    /// An image that is in the store, which a container's record names: the base, or that of the last step.
    pub(super) image: Option<Keeper>,
    /// The time that is said to be when what is made was made.
    pub(super) time: SystemTime,
    /// Whether this stage has said what its command is, so that an `ENTRYPOINT` leaves it.
    has_cmd: bool,
}

impl State {
    /// The state of `FROM scratch`.
    pub(super) fn scratch(platform: Platform, time: Option<SystemTime>) -> Self {
        let config = ProcessDefaults { env: vec![DEFAULT_PATH.to_owned()], ..ProcessDefaults::default() };
        Self {
            platform,
            config,
            layers: Vec::new(),
            history: Vec::new(),
            author: String::new(),
            image: None,
            time: time.unwrap_or(SystemTime::UNIX_EPOCH),
            has_cmd: false,
        }
    }

    /// The state of a stage on an image.
    pub(super) fn of_image(name: &str, image: &Image, layers: Vec<Layer>, time: SystemTime) -> Self {
        let mut config = image.config.config.clone();
        if !config.env.iter().any(|variable| variable.starts_with("PATH=")) {
            config.env.push(DEFAULT_PATH.to_owned());
        }
        Self {
            platform: image.platform(),
            config,
            layers,
            history: image.config.history.clone(),
            author: image.config.author.clone(),
            image: Some(Keeper {
                name: name.to_owned(),
                manifest: image.manifest.digest.clone(),
                config: image.id().clone(),
            }),
            time,
            has_cmd: false,
        }
    }

    /// The state of a stage that is built on this one.
    pub(super) fn successor(&self) -> Self {
        Self { has_cmd: false, ..self.clone() }
    }

    pub(super) fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|(_, diff_id)| diff_id.clone()).collect()
    }

    /// What all layers together are.
    pub(super) fn chain(&self) -> Digest {
        chain(&self.diff_ids())
    }

    pub(super) fn working_dir(&self) -> PathBuf {
        if self.config.working_dir.is_empty() {
            PathBuf::from("/")
        } else {
            PathBuf::from(&self.config.working_dir)
        }
    }

    /// An absolute path of what is relative to the working directory, without `.` and `..`.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        let mut whole = PathBuf::from("/");
        for component in self.working_dir().join(path).components() {
            match component {
                Component::Normal(name) => whole.push(name),
                Component::ParentDir => drop(whole.pop()),
                _ => {}
            }
        }
        whole
    }

    /// Adds what a step made, and a line of the history.
    pub(super) fn add_layer(&mut self, layer: Option<Layer>, text: String) {
        self.add_history(text, layer.is_none());
        self.layers.extend(layer);
    }

    fn add_history(&mut self, text: String, empty_layer: bool) {
        self.history.push(History {
            created: Some(crate::time::rfc3339(self.time)),
            created_by: Some(text),
            comment: Some("engine.dockerfile.v0".to_owned()),
            empty_layer,
            ..History::default()
        });
    }

    /// Carries out an instruction that changes the configuration alone.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a value that cannot be.
    pub(super) fn configure(&mut self, instruction: &Instruction, text: &str) -> Result<()> {
        let config = &mut self.config;
        match instruction {
            Instruction::Env(env) => {
                for KeyValue { key, value, .. } in &env.pairs {
                    set_env(&mut config.env, key, value);
                }
            }
            Instruction::Label(label) => {
                config.labels.extend(label.pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone())));
            }
            Instruction::Cmd(cmd) => {
                config.cmd = self_or_shell(&cmd.command, &config.shell);
                self.has_cmd = true;
            }
            Instruction::Entrypoint(entrypoint) => {
                config.entrypoint = self_or_shell(&entrypoint.command, &config.shell);
                // The base's command was meant for its own entrypoint.
                if !self.has_cmd {
                    config.cmd.clear();
                }
            }
            Instruction::Expose(expose) => {
                let ports = parse_ports(&expose.ports)?;
                config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
            }
            Instruction::Volume(volume) => {
                config.volumes.extend(volume.paths.iter().map(|path| (path.clone(), Empty {})));
            }
            Instruction::User(user) => config.user.clone_from(&user.user),
            Instruction::StopSignal(stop) => {
                signal::parse(&stop.signal)?;
                config.stop_signal.clone_from(&stop.signal);
            }
            Instruction::Shell(shell) => config.shell.clone_from(&shell.arguments),
            Instruction::OnBuild(on_build) => config.on_build.push(on_build.instruction.clone()),
            Instruction::Healthcheck(check) => config.healthcheck = Some(healthcheck(check, &config.shell)),
            Instruction::Maintainer(maintainer) => self.author.clone_from(&maintainer.name),
            _ => {
                return Err(Error::new(ErrorKind::Unsupported, "build image")
                    .with_message(format!("{} changes no configuration", instruction.name())));
            }
        }
        self.add_history(text.to_owned(), true);
        Ok(())
    }

    /// The image's configuration.
    pub(super) fn image_config(&self, labels: &BTreeMap<String, String>) -> ImageConfig {
        let mut config = self.config.clone();
        config.labels.extend(labels.clone());
        ImageConfig {
            created: crate::time::rfc3339(self.time),
            author: self.author.clone(),
            architecture: self.platform.architecture.clone(),
            os: self.platform.os.clone(),
            variant: self.platform.variant.clone(),
            config,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: self.diff_ids() },
            history: self.history.clone(),
        }
    }
}

/// What layers are together.
pub(super) fn chain(diff_ids: &[Digest]) -> Digest {
    let mut hasher = Hasher::new("layers");
    hasher.texts(diff_ids.iter().map(ToString::to_string));
    hasher.finish()
}

/// The shell of what has no other.
pub(super) fn shell(config: &ProcessDefaults) -> Vec<String> {
    if config.shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { config.shell.clone() }
}

fn self_or_shell(command: &Command, own_shell: &[String]) -> Vec<String> {
    let config = ProcessDefaults { shell: own_shell.to_vec(), ..ProcessDefaults::default() };
    match command {
        Command::Shell(line) if line.is_empty() => Vec::new(),
        command => command.arguments(&shell(&config)),
    }
}

pub(super) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let variable = format!("{name}={value}");
    match env.iter_mut().find(|known| known.split('=').next() == Some(name)) {
        Some(known) => *known = variable,
        None => env.push(variable),
    }
}

fn healthcheck(check: &Healthcheck, own_shell: &[String]) -> image_config::Healthcheck {
    let HealthcheckCommand { command, interval, timeout, start_period, start_interval, retries } = match check
    {
        Healthcheck::Command(check) => check,
        _ => return image_config::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() },
    };
    let test = match command {
        Command::Exec(arguments) => [&["CMD".to_owned()], &arguments[..]].concat(),
        // With a shell of its own, that is what runs it.
        Command::Shell(line) if own_shell.is_empty() => vec!["CMD-SHELL".to_owned(), line.clone()],
        Command::Shell(line) => [&["CMD".to_owned()], own_shell, std::slice::from_ref(line)].concat(),
    };
    let nanos = |time: &Option<std::time::Duration>| {
        time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    };
    image_config::Healthcheck {
        test,
        interval: nanos(interval),
        timeout: nanos(timeout),
        start_period: nanos(start_period),
        start_interval: nanos(start_interval),
        retries: *retries,
    }
}
