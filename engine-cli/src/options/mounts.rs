//! `--volume` and `--mount`.

use std::path::PathBuf;

use engine_api::notation::{self, octal, propagation, volume_driver};
use engine_core::container_spec::MountSpec;
use engine_core::mount::{MountKind, MountOptions};
use engine_core::volume_driver::VolumeOptions;
use engine_core::{Mount, Name};

use crate::failure::{Failure, Result};

/// Reads `-v`; a relative path is relative to where the user is.
pub(crate) fn volume(text: &str) -> Result<MountSpec> {
    let mut spec = notation::volume(text)?;
    if let MountSpec::Mount(Mount { kind: MountKind::Bind { source, .. }, .. }) = &mut spec {
        *source = absolute(&source.display().to_string())?;
    }
    Ok(spec)
}

/// Parses `--mount type=bind,source=/a,target=/b,readonly`. Fields may be quoted, as in CSV: `"volume-opt=o=a,b"`.
pub(crate) fn mount(text: &str) -> Result<MountSpec> {
    let wrong = |why: String| Failure::usage(format!("invalid mount {text:?}: {why}"));
    let (mut kind, mut source, mut target) = ("volume".to_owned(), None, None);
    let mut options = MountOptions::default();
    let (mut recursive, mut no_copy, mut recursion) = (true, false, "enabled".to_owned());
    let (mut size, mut mode, mut subpath, mut copy_up) = (None, None, None, None);
    let mut create = VolumeOptions::default();
    // Keys of one type, to be refused for the others.
    let mut special: Vec<String> = Vec::new();
    for part in fields(text).map_err(|why| wrong(why.to_owned()))? {
        let (key, value) = part.split_once('=').map_or((&*part, None), |(k, v)| (k, Some(v)));
        let needed = || value.filter(|v| !v.is_empty()).ok_or_else(|| wrong(format!("{key} needs a value")));
        let pair = || -> Result<(String, String)> {
            let (k, v) = needed()?.split_once('=').unwrap_or((needed()?, ""));
            Ok((k.to_owned(), v.to_owned()))
        };
        let flag = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(wrong(format!("{key} is true or false, not {other:?}"))),
        };
        if ["bind-", "volume-", "tmpfs-", "image-"].iter().any(|start| key.starts_with(start)) {
            special.push(key.to_owned());
        }
        match key {
            "type" => kind = needed()?.to_owned(),
            "source" | "src" => source = Some(needed()?.to_owned()),
            "target" | "destination" | "dst" => target = Some(needed()?.to_owned()),
            "readonly" | "ro" => options.read_only = flag()?,
            // It tunes Docker Desktop.
            "consistency" => drop(needed()?),
            "bind-propagation" => {
                options.propagation =
                    propagation(needed()?).ok_or_else(|| wrong("unknown bind-propagation".to_owned()))?;
            }
            "idmap" => options.id_mapped = flag()?,
            "bind-nonrecursive" => recursive = !flag()?,
            "bind-create-src" => options.create_source = flag()?,
            "bind-recursive" => match needed()? {
                wish @ ("enabled" | "writable" | "readonly") => recursion = wish.to_owned(),
                "disabled" => recursive = false,
                other => return Err(wrong(format!("unknown bind-recursive {other:?}"))),
            },
            "volume-nocopy" => no_copy = flag()?,
            "volume-subpath" | "image-subpath" => subpath = Some(PathBuf::from(needed()?)),
            "volume-label" => create.labels.extend([pair()?]),
            "volume-opt" => create.driver_options.extend([pair()?]),
            "volume-driver" => volume_driver(needed()?).map_err(wrong)?,
            // Podman's, which has them on by default.
            "tmpcopyup" => copy_up = Some(flag()?),
            "notmpcopyup" => copy_up = Some(!flag()?),
            "tmpfs-size" => size = Some(notation::parse_size(needed()?).map_err(wrong)?),
            "tmpfs-mode" => {
                mode = Some(octal(needed()?).ok_or_else(|| wrong("tmpfs-mode is not octal".into()))?)
            }
            _ => return Err(wrong(format!("unknown key {key:?}"))),
        }
    }
    let target = target.ok_or_else(|| wrong("it has no target".to_owned()))?;
    if let Some(key) = special.iter().find(|key| !key.starts_with(&format!("{kind}-"))) {
        return Err(wrong(format!("{key} is no key of type {kind}")));
    }
    if copy_up.is_some() && kind != "tmpfs" {
        return Err(wrong(format!("tmpcopyup is no key of type {kind}")));
    }
    if matches!(&*recursion, "writable" | "readonly") && !options.read_only {
        return Err(wrong(format!("bind-recursive={recursion} needs readonly")));
    }
    match &*kind {
        "bind" => {
            let source = source.ok_or_else(|| wrong("a bind has a source".to_owned()))?;
            let mut mount = Mount::bind(absolute(&source)?, target);
            mount.kind = MountKind::Bind { source: absolute(&source)?, recursive };
            options.recursive_read_only = options.read_only && recursion != "writable";
            mount.options = options;
            Ok(MountSpec::Mount(mount))
        }
        "volume" => Ok(MountSpec::Volume {
            name: source.map(|name| name.parse::<Name>()).transpose()?,
            target: target.into(),
            options,
            no_copy,
            subpath,
            create,
        }),
        "tmpfs" => {
            if source.is_some() {
                return Err(wrong("a tmpfs has no source".to_owned()));
            }
            let mut mount = Mount::tmpfs(target);
            mount.options.read_only = options.read_only;
            mount.options.copy_up = copy_up.unwrap_or(false);
            mount.kind = MountKind::Tmpfs { size, mode: mode.unwrap_or(0o1777), uid: 0, gid: 0 };
            Ok(MountSpec::Mount(mount))
        }
        "image" => {
            let image = source.ok_or_else(|| wrong("an image mount has a source: the image".to_owned()))?;
            Ok(MountSpec::Image { image, target: target.into(), subpath })
        }
        other => Err(wrong(format!("type is bind, volume, tmpfs or image, not {other:?}"))),
    }
}

/// Splits at commas, but not within quotes, as CSV (RFC 4180).
pub(crate) fn fields(text: &str) -> std::result::Result<Vec<String>, &'static str> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    all.push(field);
    if quoted { Err("a quote is not closed") } else { Ok(all) }
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
    fn a_relative_bind_begins_where_the_user_is() {
        assert!(
            matches!(as_mount(volume("./x:/b").unwrap()).kind, MountKind::Bind { source, .. } if source.is_absolute())
        );
    }

    #[test]
    fn mounts_by_key_and_value() {
        let bind = as_mount(mount("type=bind,src=/a,dst=/b,ro,bind-recursive=disabled").unwrap());
        assert!(bind.options.read_only && !bind.options.create_source);
        assert!(matches!(bind.kind, MountKind::Bind { recursive: false, .. }));
        let memory = as_mount(mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap());
        assert_eq!(memory.kind, MountKind::Tmpfs { size: Some(1 << 20), mode: 0o700, uid: 0, gid: 0 });
        for bad in [
            "",
            "type=bind,target=/b",
            "type=x,target=/b",
            "type=bind,src=/a",
            "target=/a,bogus=1",
            "type=bind,src=/a,dst=/b,volume-nocopy",
            "type=image,dst=/b",
            "type=image,src=a,dst=/b,volume-subpath=x",
            "type=tmpfs,dst=/b,src=/a",
            "src=a,dst=/b,volume-driver=nfs-plugin",
            "src=a,dst=/b,volume-subpath=",
            "type=bind,src=/a,dst=/b,bind-recursive=readonly",
            "src=a,\"dst=/b",
        ] {
            assert!(mount(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn volumes_and_images_by_key_and_value() {
        let text = "type=volume,src=data,dst=/d,ro,volume-nocopy,volume-label=a=b,volume-driver=local,\
                    volume-opt=type=nfs,\"volume-opt=o=addr=10.0.0.1,rw\",volume-subpath=x/y,consistency=cached";
        let MountSpec::Volume { name, options, no_copy: true, subpath, create, .. } = mount(text).unwrap()
        else {
            panic!("{text}")
        };
        assert_eq!((name.unwrap().as_str(), options.read_only), ("data", true));
        assert_eq!(subpath, Some(PathBuf::from("x/y")));
        assert_eq!((&*create.labels["a"], &*create.driver_options["o"]), ("b", "addr=10.0.0.1,rw"));
        let image = mount("type=image,source=busybox,target=/i,image-subpath=bin").unwrap();
        assert!(matches!(image, MountSpec::Image { image, subpath: Some(_), .. } if image == "busybox"));
    }

    #[test]
    fn a_tmpfs_may_be_filled() {
        assert!(as_mount(mount("type=tmpfs,dst=/t,tmpcopyup").unwrap()).options.copy_up);
        assert!(!as_mount(mount("type=tmpfs,dst=/t,notmpcopyup").unwrap()).options.copy_up);
        assert!(mount("type=bind,src=/a,dst=/t,tmpcopyup").is_err());
    }
}
