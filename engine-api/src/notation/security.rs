//! Privileges and namespaces: `--security-opt` and `SecurityOpt`, `--pid` and `PidMode`, and their like.

use std::sync::Arc;

use engine_core::Result;
use engine_core::container_spec::{ContainerSpec, IdMappings, IdRange, NamespaceMode, UserNamespace};
use engine_core::launch::SeccompPolicy;

use super::wrong;

/// Writes a security option into `spec`: `seccomp=`, `no-new-privileges`, `systempaths=unconfined` and their like. `profile` makes
/// a profile of what stands behind `seccomp=`.
///
/// # Errors
/// For options that there are not, and what `profile` says.
pub fn security_option(
    option: &str,
    spec: &mut ContainerSpec,
    profile: impl FnOnce(&str) -> std::result::Result<Arc<str>, String>,
) -> Result<()> {
    let wrong = |why: &str| wrong("security option", option, why);
    // Docker also takes the old separator.
    let (key, value) = option.split_once(['=', ':']).map_or((option, None), |(k, v)| (k, Some(v)));
    match (key, value) {
        ("no-new-privileges", None | Some("true")) => spec.allow_new_privileges = false,
        ("no-new-privileges", Some("false")) => spec.allow_new_privileges = true,
        ("seccomp", Some("unconfined")) => spec.seccomp = SeccompPolicy::Unconfined,
        ("seccomp", Some("builtin" | "default")) => spec.seccomp = SeccompPolicy::Default,
        ("seccomp", Some(text)) => {
            spec.seccomp = SeccompPolicy::Profile(profile(text).map_err(|why| wrong(&why))?);
        }
        ("systempaths", Some("unconfined")) => spec.unmask_system_paths = true,
        // Nothing to switch off: neither is applied yet.
        ("apparmor", Some("unconfined")) | ("label", Some("disable")) => {}
        ("apparmor" | "label", Some(_)) => {
            let module = if key == "apparmor" { "apparmor" } else { "selinux" };
            let active = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
            return Err(wrong(&if active.trim().split(',').any(|name| name == module) {
                format!("profiles and labels of {module} are not supported yet")
            } else {
                format!("{module} is not active on this host")
            }));
        }
        ("writable-cgroups", Some("false")) => {}
        ("writable-cgroups", _) => {
            return Err(wrong(
                "the groups of a container are read-only to it (--privileged makes them writable)",
            ));
        }
        _ => return Err(wrong("give seccomp=, no-new-privileges or systempaths=unconfined")),
    }
    Ok(())
}

/// Reads whose a namespace is: `private`, `host`, or `container:NAME` where that `joins`. `flag` is what it is called.
///
/// # Errors
/// For anything else.
pub fn namespace_mode(flag: &'static str, text: Option<&str>, joins: bool) -> Result<NamespaceMode> {
    match text {
        None | Some("" | "private") => Ok(NamespaceMode::Private),
        Some("host") => Ok(NamespaceMode::Host),
        Some(other) => match other.strip_prefix("container:").filter(|name| joins && !name.is_empty()) {
            Some(name) => Ok(NamespaceMode::Container(name.to_owned())),
            None => {
                let more = if joins { " or container:NAME" } else { "" };
                Err(wrong(flag, other, format!("give private, host{more}")))
            }
        },
    }
}

/// Reads `--userns`, or `UsernsMode`: `host`, `auto[:size=N]`, `container:NAME`, or ranges of ids; nothing if it is empty.
///
/// # Errors
/// For anything else.
pub fn user_namespace(text: &str) -> Result<Option<UserNamespace>> {
    let wrong = || {
        wrong(
            "--userns",
            text,
            "give host, auto[:size=N], container:NAME, or ranges INSIDE:OUTSIDE:SIZE such as \
             0:100000:65536",
        )
    };
    match text.split_once(':') {
        None if text.is_empty() => return Ok(None),
        None if text == "host" => return Ok(Some(UserNamespace::Host)),
        None if text == "auto" => return Ok(Some(UserNamespace::Auto { size: None })),
        Some(("auto", options)) => {
            let size =
                options.strip_prefix("size=").and_then(|size| size.parse().ok()).filter(|size| *size > 0);
            return Ok(Some(UserNamespace::Auto { size: Some(size.ok_or_else(wrong)?) }));
        }
        Some(("container", name)) if !name.is_empty() => {
            return Ok(Some(UserNamespace::Container(name.to_owned())));
        }
        _ => {}
    }
    let ranges: Vec<IdRange> = text
        .split(',')
        .map(|range| id_range(range).filter(|_| range.matches(':').count() == 2))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    Ok(Some(UserNamespace::Mapped(IdMappings { uids: ranges.clone(), gids: ranges })))
}

/// Reads `INSIDE:OUTSIDE[:SIZE]`.
#[must_use]
pub fn id_range(text: &str) -> Option<IdRange> {
    let numbers: Vec<u32> = text.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    match numbers[..] {
        [container, host] => Some(IdRange { container, host, size: 1 }),
        [container, host, size] => Some(IdRange { container, host, size }),
        _ => None,
    }
}

/// Returns whether a device is named as CDI does: `vendor.com/class=name`.
#[must_use]
pub fn is_cdi_device(text: &str) -> bool {
    !text.starts_with('/')
        && text.split_once('=').is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_read() {
        let mode = namespace_mode("--pid", Some("container:a"), true).unwrap();
        assert_eq!(mode, NamespaceMode::Container("a".into()));
        assert!(namespace_mode("--uts", Some("container:a"), false).is_err());
        assert!(is_cdi_device("vendor.com/class=name"));
        assert!(!is_cdi_device("/dev/a=b") && !is_cdi_device("a=b"));
    }

    #[test]
    fn security_options_and_user_namespaces() {
        let mut spec = ContainerSpec::default();
        let option = |option: &str, spec: &mut ContainerSpec| {
            security_option(option, spec, |text| match text {
                "{}" => Ok("{}".into()),
                _ => Err("it is no profile".to_owned()),
            })
        };
        for text in ["no-new-privileges=false", "seccomp=unconfined", "systempaths=unconfined"] {
            option(text, &mut spec).unwrap();
        }
        assert!(spec.allow_new_privileges && spec.unmask_system_paths);
        assert_eq!(spec.seccomp, SeccompPolicy::Unconfined);
        option("seccomp={}", &mut spec).unwrap();
        assert_eq!(spec.seccomp, SeccompPolicy::Profile("{}".into()));
        for wrong in ["seccomp=x", "apparmor=x", "colour=red", "no-new-privileges=some"] {
            assert!(option(wrong, &mut spec).is_err(), "{wrong}");
        }
        let Some(UserNamespace::Mapped(maps)) = user_namespace("0:100000:65536").unwrap() else { panic!() };
        assert_eq!(maps.gids, [IdRange { container: 0, host: 100_000, size: 65536 }]);
        assert_eq!(user_namespace("auto").unwrap(), Some(UserNamespace::Auto { size: None }));
        assert_eq!(user_namespace("auto:size=10").unwrap(), Some(UserNamespace::Auto { size: Some(10) }));
        assert_eq!(user_namespace("container:a").unwrap(), Some(UserNamespace::Container("a".into())));
        assert_eq!(user_namespace("host").unwrap(), Some(UserNamespace::Host));
        assert_eq!(user_namespace("").unwrap(), None);
        for wrong in ["keep-id", "auto:", "auto:size=0", "auto:uidmapping=1", "container:", "0:1", "0:1:2:3"]
        {
            assert!(user_namespace(wrong).is_err(), "{wrong}");
        }
    }
}
