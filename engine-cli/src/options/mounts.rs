//! `--volume`, `--mount` and `--tmpfs`.

use std::path::PathBuf;

use engine_core::container_spec::MountSpec;
use engine_core::mount::{MountKind, MountOptions, Propagation};
use engine_core::{Mount, Name};

use crate::failure::{Failure, Result};
use crate::output::human;

/// Parses `-v`: `/host:/path[:options]`, `name:/path[:options]` or `/path`.
pub(crate) fn volume(text: &str) -> Result<MountSpec> {
    let wrong = |why: &str| Failure::usage(format!("invalid volume {text:?}: {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, flags) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, flags] => (Some(source), target, flags),
        _ => return Err(wrong("it has more than three parts; --mount can say what ':' cannot")),
    };
    if target.is_empty() || source.is_some_and(str::is_empty) {
        return Err(wrong("a part is empty"));
    }
    let mut options = MountOptions::default();
    let mut no_copy = false;
    for flag in flags.split(',').filter(|f| !f.is_empty()) {
        match flag {
            "rw" => options.read_only = false,
            "ro" => options.read_only = true,
            "nocopy" => no_copy = true,
            // SELinux labels; there is nothing to label where it is off.
            "z" | "Z" => {}
            other => options.propagation = propagation(other).ok_or_else(|| wrong("unknown option"))?,
        }
    }
    match source {
        Some(path) if path.starts_with(['/', '.']) => {
            let mut mount = Mount::bind(absolute(path)?, target);
            options.create_source = true;
            options.recursive_read_only = options.read_only;
            mount.options = options;
            Ok(MountSpec::Mount(mount))
        }
        name => Ok(MountSpec::Volume {
            name: name.map(str::parse::<Name>).transpose()?,
            target: target.into(),
            options,
            no_copy,
        }),
    }
}

/// Parses `--mount type=bind,source=/a,target=/b,readonly`.
pub(crate) fn mount(text: &str) -> Result<MountSpec> {
    let wrong = |why: String| Failure::usage(format!("invalid mount {text:?}: {why}"));
    let (mut kind, mut source, mut target) = ("volume", None, None);
    let mut options = MountOptions::default();
    let (mut recursive, mut no_copy, mut recursive_writable) = (true, false, false);
    let (mut size, mut mode) = (None, None);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').map_or((part, None), |(k, v)| (k, Some(v)));
        let needed = || value.filter(|v| !v.is_empty()).ok_or_else(|| wrong(format!("{key} needs a value")));
        let flag = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(wrong(format!("{key} is true or false, not {other:?}"))),
        };
        match key {
            "type" => kind = needed()?,
            "source" | "src" => source = Some(needed()?),
            "target" | "destination" | "dst" => target = Some(needed()?),
            "readonly" | "ro" => options.read_only = flag()?,
            "bind-propagation" => {
                options.propagation =
                    propagation(needed()?).ok_or_else(|| wrong("unknown bind-propagation".to_owned()))?;
            }
            "bind-nonrecursive" => recursive = !flag()?,
            "bind-create-src" => options.create_source = flag()?,
            "bind-recursive" => match needed()? {
                "enabled" | "readonly" => {}
                "disabled" => recursive = false,
                "writable" => recursive_writable = true,
                other => return Err(wrong(format!("unknown bind-recursive {other:?}"))),
            },
            "volume-nocopy" => no_copy = flag()?,
            "tmpfs-size" => size = Some(human::parse_size(needed()?).map_err(wrong)?),
            "tmpfs-mode" => {
                mode = Some(octal(needed()?).ok_or_else(|| wrong("tmpfs-mode is not octal".into()))?)
            }
            _ => return Err(wrong(format!("unknown key {key:?}"))),
        }
    }
    let target = target.ok_or_else(|| wrong("it has no target".to_owned()))?;
    match kind {
        "bind" => {
            let source = source.ok_or_else(|| wrong("a bind has a source".to_owned()))?;
            let mut mount = Mount::bind(absolute(source)?, target);
            mount.kind = MountKind::Bind { source: absolute(source)?, recursive };
            options.recursive_read_only = options.read_only && !recursive_writable;
            mount.options = options;
            Ok(MountSpec::Mount(mount))
        }
        "volume" => Ok(MountSpec::Volume {
            name: source.map(str::parse::<Name>).transpose()?,
            target: target.into(),
            options,
            no_copy,
        }),
        "tmpfs" => {
            let mut mount = Mount::tmpfs(target);
            mount.options.read_only = options.read_only;
            mount.kind = MountKind::Tmpfs { size, mode: mode.unwrap_or(0o1777), uid: 0, gid: 0 };
            Ok(MountSpec::Mount(mount))
        }
        other => Err(wrong(format!("type is bind, volume or tmpfs, not {other:?}"))),
    }
}

/// Parses `--tmpfs /path[:options]`.
pub(crate) fn tmpfs(text: &str) -> Result<MountSpec> {
    let wrong = |why: String| Failure::usage(format!("invalid tmpfs {text:?}: {why}"));
    let (target, flags) = text.split_once(':').unwrap_or((text, ""));
    let mut mount = Mount::tmpfs(target);
    let (mut size, mut mode, mut uid, mut gid) = (None, 0o1777, 0, 0);
    for flag in flags.split(',').filter(|f| !f.is_empty()) {
        let options = &mut mount.options;
        let number = |text: &str| text.parse().map_err(|_| wrong(format!("{text:?} is no id")));
        match flag.split_once('=') {
            Some(("size", value)) => size = Some(human::parse_size(value).map_err(wrong)?),
            Some(("mode", value)) => {
                mode = octal(value).ok_or_else(|| wrong("mode is not octal".to_owned()))?
            }
            Some(("uid", value)) => uid = number(value)?,
            Some(("gid", value)) => gid = number(value)?,
            Some(_) => return Err(wrong(format!("unknown option {flag:?}"))),
            None => match flag {
                "rw" => options.read_only = false,
                "ro" => options.read_only = true,
                "exec" => options.noexec = false,
                "noexec" => options.noexec = true,
                "suid" => options.nosuid = false,
                "nosuid" => options.nosuid = true,
                "dev" => options.nodev = false,
                "nodev" => options.nodev = true,
                _ => return Err(wrong(format!("unknown option {flag:?}"))),
            },
        }
    }
    mount.kind = MountKind::Tmpfs { size, mode, uid, gid };
    Ok(MountSpec::Mount(mount))
}

fn propagation(text: &str) -> Option<Propagation> {
    Some(match text {
        "rprivate" => Propagation::Rprivate,
        "private" => Propagation::Private,
        "rshared" => Propagation::Rshared,
        "shared" => Propagation::Shared,
        "rslave" => Propagation::Rslave,
        "slave" => Propagation::Slave,
        _ => return None,
    })
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

/// A relative path is relative to where the user is.
fn absolute(path: &str) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("cannot resolve {path:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_mount(spec: MountSpec) -> Mount {
        match spec {
            MountSpec::Mount(mount) => mount,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn volumes_binds_and_anonymous_ones() {
        let bind = as_mount(volume("/a:/b:ro,rslave").unwrap());
        assert!(bind.options.read_only && bind.options.create_source);
        assert_eq!(bind.options.propagation, Propagation::Rslave);
        assert!(
            matches!(volume("data:/b:nocopy").unwrap(), MountSpec::Volume { name: Some(n), no_copy: true, .. } if n.as_str() == "data")
        );
        assert!(matches!(volume("/b").unwrap(), MountSpec::Volume { name: None, .. }));
        assert!(
            matches!(as_mount(volume("./x:/b").unwrap()).kind, MountKind::Bind { source, .. } if source.is_absolute())
        );
        for bad in ["", ":/b", "/a:", "/a:/b:bogus", "a:b:c:d"] {
            assert!(volume(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mounts_by_key_and_value() {
        let bind = as_mount(mount("type=bind,src=/a,dst=/b,ro,bind-recursive=disabled").unwrap());
        assert!(bind.options.read_only && !bind.options.create_source);
        assert!(matches!(bind.kind, MountKind::Bind { recursive: false, .. }));
        let memory = as_mount(mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap());
        assert_eq!(memory.kind, MountKind::Tmpfs { size: Some(1 << 20), mode: 0o700, uid: 0, gid: 0 });
        for bad in ["", "type=bind,target=/b", "type=x,target=/b", "type=bind,src=/a", "target=/a,bogus=1"] {
            assert!(mount(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tmpfs_options() {
        let memory = as_mount(tmpfs("/t:size=64k,exec,mode=755").unwrap());
        assert!(!memory.options.noexec && memory.options.nosuid);
        assert_eq!(memory.kind, MountKind::Tmpfs { size: Some(64 << 10), mode: 0o755, uid: 0, gid: 0 });
        assert!(tmpfs("/t:bogus").is_err());
    }
}
