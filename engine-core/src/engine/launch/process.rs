//! The process of a container: command, environment, working directory, capabilities, limits.

use oci_spec::runtime::{
    Capability, LinuxCapabilitiesBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process,
    ProcessBuilder, UserBuilder,
};

use crate::container_spec::{ContainerSpec, Ulimit};
use crate::error::Result;
use crate::image_config::ProcessDefaults;
use crate::policy::{CapabilitySet, defaults};
use crate::signal;

use super::{cdi, failed, invalid};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(
    spec: &ContainerSpec,
    image: &ProcessDefaults,
    hostname: &str,
    links: &[String],
    cdi: &cdi::Edits,
) -> Result<Process> {
    let set =
        CapabilitySet::resolve(CapabilitySet::default_set(), &spec.cap_add, &spec.cap_drop, spec.privileged)?;
    // The runtime narrows these for a user that is not root, once it has looked the user up.
    let names: std::collections::HashSet<Capability> =
        set.names().filter_map(|name| serde_json::from_value(serde_json::Value::String(name)).ok()).collect();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(names.clone())
        .effective(names.clone())
        .permitted(names)
        .inheritable(std::collections::HashSet::new())
        .ambient(std::collections::HashSet::new())
        .build()
        .map_err(failed)?;
    let args = effective_command(spec, image);
    if args.is_empty() {
        return Err(invalid("no command specified: neither the image nor the caller gives one")
            .with_hint("give a command, such as sh"));
    }
    if args.iter().chain(&spec.env).any(|text| text.contains('\0')) {
        return Err(invalid("a command or environment variable contains a zero byte"));
    }
    let mut env = environment(spec, image, hostname, links)?;
    for variable in &cdi.env {
        let name = variable.split('=').next();
        env.retain(|known| known.split('=').next() != name);
        env.push(variable.clone());
    }
    let user = UserBuilder::default().uid(0_u32).gid(0_u32).additional_gids(cdi.groups.clone());
    let mut process = ProcessBuilder::default()
        .terminal(spec.terminal.is_some())
        .user(user.build().map_err(failed)?)
        .args(args)
        .env(env)
        .cwd(working_dir(spec, image))
        .capabilities(capabilities)
        .rlimits(rlimits(&spec.ulimits)?)
        .no_new_privileges(!spec.allow_new_privileges && !spec.privileged)
        .build()
        .map_err(failed)?;
    if let Some(score) = spec.oom_score_adj {
        if !(-1000..=1000).contains(&score) {
            return Err(
                invalid("the OOM score adjustment is not between -1000 and 1000").with("score", score)
            );
        }
        process.set_oom_score_adj(Some(score));
    }
    process.set_scheduler(spec.scheduler.clone());
    process.set_io_priority(spec.io_priority);
    process.set_exec_cpu_affinity(spec.exec_cpu_affinity.clone());
    Ok(process)
}

/// Returns what runs: the caller's entrypoint or the image's, then the caller's arguments or the image's.
///
/// A caller's entrypoint drops the image's command, which was written for another one.
pub(in crate::engine) fn effective_command(spec: &ContainerSpec, image: &ProcessDefaults) -> Vec<String> {
    let entrypoint = spec.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let command = match &spec.command[..] {
        [] if spec.entrypoint.is_none() => &image.cmd,
        _ => &spec.command,
    };
    entrypoint.iter().chain(command).cloned().collect()
}

/// Returns the number of the signal that asks the container to stop.
pub(in crate::engine) fn stop_signal(spec: &ContainerSpec, image: &ProcessDefaults) -> Result<i32> {
    match spec.stop_signal.as_deref().or(Some(&*image.stop_signal).filter(|text| !text.is_empty())) {
        Some(text) => signal::parse(text),
        None => Ok(signal::SIGTERM),
    }
}

/// Returns the environment: only what the image, the caller and links say, and what every container has.
fn environment(
    spec: &ContainerSpec,
    image: &ProcessDefaults,
    hostname: &str,
    links: &[String],
) -> Result<Vec<String>> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if spec.terminal.is_some() {
        env.push("TERM=xterm".to_owned());
    }
    env.extend_from_slice(links);
    for variable in image.env.iter().chain(&spec.env) {
        let (name, has_value) = match variable.split_once('=') {
            Some((name, _)) => (name, true),
            None => (variable.as_str(), false),
        };
        if name.is_empty() {
            return Err(invalid("an environment variable has no name").with("variable", variable));
        }
        let same = |known: &String| known.split_once('=').is_some_and(|(known, _)| known == name);
        match (env.iter().position(same), has_value) {
            (Some(index), true) => env[index].clone_from(variable),
            (None, true) => env.push(variable.clone()),
            (Some(index), false) => drop(env.remove(index)),
            (None, false) => {}
        }
    }
    Ok(env)
}

fn working_dir(spec: &ContainerSpec, image: &ProcessDefaults) -> String {
    match spec.working_dir.as_deref().unwrap_or(&image.working_dir) {
        "" => "/".to_owned(),
        dir if dir.starts_with('/') => dir.to_owned(),
        dir => format!("/{dir}"),
    }
}

fn rlimits(wishes: &[Ulimit]) -> Result<Vec<PosixRlimit>> {
    let limit = |kind, soft: u64, hard: u64| {
        PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build().map_err(failed)
    };
    let parse = |name: &str| -> Option<PosixRlimitType> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    };
    let mut list = Vec::new();
    // The runtime clamps what the host does not allow.
    for default in defaults::rlimits(u64::MAX) {
        let wished = wishes.iter().any(|w| format!("RLIMIT_{}", w.name.to_ascii_uppercase()) == default.name);
        if let (false, Some(kind)) = (wished, parse(default.name)) {
            list.push(limit(kind, default.soft, default.hard)?);
        }
    }
    for wish in wishes {
        let wrong = |why: &str| invalid(why).with("ulimit", &wish.name);
        let kind = parse(&format!("RLIMIT_{}", wish.name.to_ascii_uppercase()))
            .ok_or_else(|| wrong("there is no such limit").with_hint("see setrlimit(2) for the names"))?;
        let value = |v: i64| match v {
            -1 => Ok(u64::MAX),
            v => u64::try_from(v).map_err(|_| wrong("a limit is negative")),
        };
        let (soft, hard) = (value(wish.soft)?, value(wish.hard)?);
        if soft > hard {
            return Err(wrong("the soft limit is above the hard one"));
        }
        list.push(limit(kind, soft, hard)?);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ProcessDefaults {
        ProcessDefaults {
            entrypoint: vec!["/e".into()],
            cmd: vec!["c".into()],
            env: vec!["PATH=/x".into(), "A=1".into()],
            ..ProcessDefaults::default()
        }
    }

    #[test]
    fn entrypoint_and_command_follow_dockers_rules() {
        let command = |spec: &ContainerSpec| effective_command(spec, &image()).join(" ");
        assert_eq!(command(&ContainerSpec::default()), "/e c");
        assert_eq!(command(&ContainerSpec::command(["x", "y"])), "/e x y");
        let own = ContainerSpec { entrypoint: Some(vec!["/o".into()]), ..ContainerSpec::default() };
        assert_eq!(command(&own), "/o");
        let none = ContainerSpec { entrypoint: Some(vec![]), ..ContainerSpec::command(["x"]) };
        assert_eq!(command(&none), "x");
    }

    #[test]
    fn b11_the_environment_is_image_plus_request() {
        let spec = ContainerSpec::default().with_env(["A=2", "B=3", "PATH"]);
        let links = ["A=link".to_owned(), "DB_NAME=/web/db".to_owned()];
        let env = environment(&spec, &image(), "h", &links).unwrap();
        assert_eq!(env, ["HOSTNAME=h", "A=2", "DB_NAME=/web/db", "B=3"]);
        assert!(environment(&ContainerSpec::default().with_env(["=x"]), &image(), "h", &[]).is_err());
    }

    #[test]
    fn ulimits_replace_defaults_and_are_checked() {
        let wish = |name: &str, soft, hard| Ulimit { name: name.into(), soft, hard };
        assert_eq!(rlimits(&[wish("nofile", 10, -1)]).unwrap().len(), 2);
        assert!(rlimits(&[wish("nofile", 10, 5)]).is_err());
        assert!(rlimits(&[wish("bogus", 1, 1)]).is_err());
        assert!(rlimits(&[wish("core", -2, 1)]).is_err());
    }
}
