//! Mounts: `-v` and `Binds`, `--tmpfs` and `Tmpfs`, `--volumes-from` and `VolumesFrom`.

use engine_core::container_spec::{MountSpec, VolumesFrom};
use engine_core::mount::{MountKind, MountOptions, Propagation};
use engine_core::volume_driver::VolumeOptions;
use engine_core::{Mount, Name, Result};

use super::{parse_size, wrong};

/// Reads `-v`, or one of `Binds`: `/host:/path[:options]`, `name:/path[:options]` or `/path`. A path that begins with a dot stays
/// as it is.
///
/// # Errors
/// [`InvalidArgument`](engine_core::ErrorKind::InvalidArgument), as all of this module.
pub fn volume(text: &str) -> Result<MountSpec> {
    let wrong = |why: &str| wrong("volume", text, why);
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
    let is_bind = source.is_some_and(|path| path.starts_with(['/', '.']));
    let mut options = MountOptions::default();
    let (mut no_copy, mut recursive) = (false, true);
    for flag in flags.split(',').filter(|f| !f.is_empty()) {
        match flag {
            "rw" => options.read_only = false,
            "ro" => options.read_only = true,
            // SELinux labels; there is nothing to label where it is off. The others tune Docker Desktop.
            "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            "nocopy" | "copy" if is_bind => return Err(wrong("a bind copies nothing")),
            "nocopy" => no_copy = true,
            "idmap" => options.id_mapped = true,
            "copy" => no_copy = false,
            "rbind" | "bind" if !is_bind => return Err(wrong("it is no bind")),
            "rbind" => recursive = true,
            "bind" => recursive = false,
            "U" | "O" => {
                return Err(wrong("the option is not supported: owners are changed and overlaid by nobody"));
            }
            other if mount_flag(&mut options, other) => {}
            other => {
                options.propagation = propagation(other).ok_or_else(|| wrong("unknown option"))?;
                if !is_bind {
                    return Err(wrong("only a bind has a propagation"));
                }
            }
        }
    }
    match source {
        Some(path) if is_bind => {
            let mut mount = Mount::bind(path, target);
            mount.kind = MountKind::Bind { source: path.into(), recursive };
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
            subpath: None,
            create: VolumeOptions::default(),
        }),
    }
}

/// Reads `--volumes-from`, or one of `VolumesFrom`: `CONTAINER[:ro|rw]`.
///
/// # Errors
/// If it names no container, or ends with something else.
pub fn volumes_from(text: &str) -> Result<VolumesFrom> {
    let (name, flags) = text.split_once(':').unwrap_or((text, ""));
    let mut from = VolumesFrom::new(name);
    for flag in flags.split(',').filter(|f| !f.is_empty()) {
        match flag {
            "ro" => from = from.with_read_only(true),
            "rw" => from = from.with_read_only(false),
            "z" | "Z" => {}
            _ => {
                return Err(wrong("--volumes-from", text, "it ends with ro or rw"));
            }
        }
    }
    if name.is_empty() {
        return Err(wrong("--volumes-from", text, "it names no container"));
    }
    Ok(from)
}

/// Checks the name of a volume driver: there is one.
///
/// # Errors
/// What is wrong with it.
pub fn volume_driver(name: &str) -> std::result::Result<(), String> {
    if name == "local" {
        return Ok(());
    }
    Err(format!("there is no volume driver {name:?} (the driver is local)"))
}

/// Reads `--tmpfs`: `/path[:options]`.
///
/// # Errors
/// For options that there are not.
pub fn tmpfs(text: &str) -> Result<MountSpec> {
    let (target, flags) = text.split_once(':').unwrap_or((text, ""));
    tmpfs_at(target, flags)
}

/// Reads the options of a memory file system at `target`, as `Tmpfs` has them: `size=64m,mode=755`.
///
/// # Errors
/// For options that there are not.
pub fn tmpfs_at(target: &str, flags: &str) -> Result<MountSpec> {
    let wrong = |why: String| wrong("tmpfs", &format!("{target}:{flags}"), why);
    let mut mount = Mount::tmpfs(target);
    let (mut size, mut mode, mut uid, mut gid) = (None, 0o1777, 0, 0);
    for flag in flags.split(',').filter(|f| !f.is_empty()) {
        let options = &mut mount.options;
        let number = |text: &str| text.parse().map_err(|_| wrong(format!("{text:?} is no id")));
        match flag.split_once('=') {
            Some(("size", value)) => size = Some(parse_size(value).map_err(wrong)?),
            Some(("mode", value)) => {
                mode = octal(value).ok_or_else(|| wrong("mode is not octal".to_owned()))?
            }
            Some(("uid", value)) => uid = number(value)?,
            Some(("gid", value)) => gid = number(value)?,
            Some(_) => return Err(wrong(format!("unknown option {flag:?}"))),
            None => match flag {
                "rw" => options.read_only = false,
                "ro" => options.read_only = true,
                "tmpcopyup" => options.copy_up = true,
                "notmpcopyup" => options.copy_up = false,
                "defaults" => {}
                other if mount_flag(options, other) => {}
                _ => return Err(wrong(format!("unknown option {flag:?}"))),
            },
        }
    }
    mount.kind = MountKind::Tmpfs { size, mode, uid, gid };
    Ok(MountSpec::Mount(mount))
}

/// Takes a flag of mount(8) that every mount has; returns whether it is one.
fn mount_flag(options: &mut MountOptions, flag: &str) -> bool {
    match flag {
        "exec" => options.noexec = false,
        "noexec" => options.noexec = true,
        "suid" => options.nosuid = false,
        "nosuid" => options.nosuid = true,
        "dev" => options.nodev = false,
        "nodev" => options.nodev = true,
        _ => return false,
    }
    true
}

/// Reads a mount propagation.
#[must_use]
pub fn propagation(text: &str) -> Option<Propagation> {
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

/// Reads a mode of a file in octal digits.
#[must_use]
pub fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
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
            matches!(as_mount(volume("./x:/b").unwrap()).kind, MountKind::Bind { source, .. } if source.is_relative())
        );
        for bad in ["", ":/b", "/a:", "/a:/b:bogus", "a:b:c:d", "/a:/b:nocopy", "a:/b:rslave", "a:/b:U"] {
            assert!(volume(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn containers_whose_volumes_are_taken() {
        assert_eq!(volumes_from("a:ro").unwrap(), VolumesFrom::new("a").with_read_only(true));
        assert_eq!(volumes_from("a").unwrap().read_only, None);
        assert!(volumes_from(":ro").is_err() && volumes_from("a:bogus").is_err());
    }

    #[test]
    fn tmpfs_options() {
        let memory = as_mount(tmpfs("/t:size=64k,exec,mode=755").unwrap());
        assert!(!memory.options.noexec && memory.options.nosuid);
        assert_eq!(memory.kind, MountKind::Tmpfs { size: Some(64 << 10), mode: 0o755, uid: 0, gid: 0 });
        assert!(tmpfs("/t:bogus").is_err());
        assert!(as_mount(tmpfs("/t:ro,tmpcopyup").unwrap()).options.copy_up);
        assert!(!as_mount(tmpfs("/t:tmpcopyup,notmpcopyup").unwrap()).options.copy_up);
    }
}
