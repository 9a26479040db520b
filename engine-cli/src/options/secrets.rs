//! `--secret`, as Podman has it.

use engine_core::secret::{SecretTarget, SecretUse};

use crate::failure::{Failure, Result};

use super::mounts::fields;

/// Parses `NAME[,type=mount|env,target=,uid=,gid=,mode=]`; the name may also come as `source=`.
pub(super) fn secret(text: &str) -> Result<SecretUse> {
    let wrong = |why: &str| Failure::usage(format!("invalid secret {text:?}: {why}"));
    let (mut source, mut target, mut env) = (None, None, false);
    let (mut uid, mut gid, mut mode) = (None, None, None);
    for (index, part) in fields(text).map_err(wrong)?.iter().enumerate() {
        let Some((key, value)) = part.split_once('=') else {
            if index > 0 || part.is_empty() {
                return Err(wrong("give NAME, then KEY=VALUE"));
            }
            source = Some(part.clone());
            continue;
        };
        let id = || value.parse::<u32>().map_err(|_| wrong(&format!("{key} is a number")));
        match key {
            "source" | "src" if source.is_none() && !value.is_empty() => source = Some(value.to_owned()),
            "type" => {
                env = match value {
                    "mount" => false,
                    "env" => true,
                    _ => return Err(wrong("type is mount or env")),
                }
            }
            "target" if !value.is_empty() => target = Some(value.to_owned()),
            "uid" => uid = Some(id()?),
            "gid" => gid = Some(id()?),
            "mode" => {
                let bits = u32::from_str_radix(value, 8).map_err(|_| wrong("mode is octal"))?;
                mode = Some(bits);
            }
            _ => return Err(wrong("the keys are source, type, target, uid, gid and mode")),
        }
    }
    let source = source.ok_or_else(|| wrong("it names no secret"))?;
    let mut made = SecretUse::file(source);
    if env {
        if uid.or(gid).or(mode).is_some() {
            return Err(wrong("uid, gid and mode are for type=mount"));
        }
        made.target = SecretTarget::Env { variable: target };
    } else {
        made = made.with_owner(uid.unwrap_or(0), gid.unwrap_or(0)).with_mode(mode.unwrap_or(0o444));
        if let Some(target) = target {
            made = made.with_path(target);
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_by_name_and_keys() {
        assert_eq!(secret("db").unwrap(), SecretUse::file("db"));
        let all = secret("source=db,target=/etc/key,uid=5,gid=6,mode=0400").unwrap();
        assert_eq!(all, SecretUse::file("db").with_path("/etc/key").with_owner(5, 6).with_mode(0o400));
        assert_eq!(secret("db,type=env,target=DB").unwrap(), SecretUse::env("db", "DB"));
        assert_eq!(secret("db,type=env").unwrap().target, SecretTarget::Env { variable: None });
        for wrong in [
            "",
            "type=env",
            "db,x",
            "db,type=x",
            "db,uid=a",
            "db,mode=9",
            "db,type=env,mode=400",
            "db,a=b",
            "db,target=",
        ] {
            assert!(secret(wrong).is_err(), "{wrong:?}");
        }
    }
}
