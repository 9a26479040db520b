//! `--cache-from` and `--cache-to`: where steps of builds elsewhere come from and go to.

use std::collections::BTreeMap;

use engine_core::engine::{CacheMode, CacheSource, CacheTarget};

use crate::failure::{Failure, Result};
use crate::options::mounts::fields;

/// Reads one `--cache-from`.
pub(super) fn source(text: &str) -> Result<CacheSource> {
    let wrong = |why: String| Failure::usage(format!("--cache-from {text}: {why}"));
    if !text.contains('=') {
        return Ok(CacheSource::Registry(text.parse()?));
    }
    let mut given = Given::read(text, "--cache-from")?;
    let source = match &*given.take("type")? {
        "registry" => CacheSource::Registry(given.take("ref")?.parse()?),
        "local" => CacheSource::Directory(given.take("src")?.into()),
        other => return Err(wrong(format!("type {other} is not there: give registry or local"))),
    };
    given.end()?;
    Ok(source)
}

/// Reads one `--cache-to`.
pub(super) fn target(text: &str) -> Result<CacheTarget> {
    let wrong = |why: String| Failure::usage(format!("--cache-to {text}: {why}"));
    if !text.contains('=') {
        return Ok(CacheTarget::Registry { reference: text.parse()?, mode: CacheMode::Min });
    }
    let mut given = Given::read(text, "--cache-to")?;
    let mode = match given.fields.remove("mode").as_deref() {
        None | Some("min") => CacheMode::Min,
        Some("max") => CacheMode::Max,
        Some(other) => return Err(wrong(format!("mode is min or max, and not {other}"))),
    };
    let target = match &*given.take("type")? {
        "registry" => CacheTarget::Registry { reference: given.take("ref")?.parse()?, mode },
        "local" => CacheTarget::Directory { path: given.take("dest")?.into(), mode },
        "inline" if mode == CacheMode::Max => {
            return Err(wrong(
                "an image has the steps of its own layers alone: mode=max needs type=registry or local"
                    .to_owned(),
            ));
        }
        "inline" => CacheTarget::Inline,
        other => return Err(wrong(format!("type {other} is not there: give registry, local or inline"))),
    };
    given.end()?;
    Ok(target)
}

/// What a flag says.
struct Given<'a> {
    flag: &'static str,
    text: &'a str,
    fields: BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    fn read(text: &'a str, flag: &'static str) -> Result<Self> {
        let mut given = Self { flag, text, fields: BTreeMap::new() };
        for field in fields(text).map_err(|why| given.wrong(why))? {
            let (key, value) =
                field.split_once('=').ok_or_else(|| given.wrong(&format!("{field} has no value")))?;
            // That is what there is.
            let usual = [("oci-mediatypes", "true"), ("image-manifest", "true"), ("ignore-error", "false")];
            if !usual.contains(&(key, value)) {
                given.fields.insert(key.to_ascii_lowercase(), value.to_owned());
            }
        }
        Ok(given)
    }

    fn wrong(&self, why: &str) -> Failure {
        Failure::usage(format!("{} {}: {why}", self.flag, self.text))
    }

    fn take(&mut self, key: &str) -> Result<String> {
        let value = self.fields.remove(key).filter(|value| !value.is_empty());
        value.ok_or_else(|| self.wrong(&format!("it has no {key}=")))
    }

    fn end(&self) -> Result<()> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.wrong(&format!("{key} is not supported"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_as_buildkit_does() {
        let reference = |text: &str| text.parse::<engine_core::Reference>().unwrap();
        for text in ["registry.example/app:1", "type=registry,ref=registry.example/app:1"] {
            assert_eq!(source(text).unwrap(), CacheSource::Registry(reference("registry.example/app:1")));
        }
        assert_eq!(source("type=local,src=a/b").unwrap(), CacheSource::Directory("a/b".into()));
        assert_eq!(
            target("type=registry,ref=a:1,mode=max,image-manifest=true").unwrap(),
            CacheTarget::Registry { reference: reference("a:1"), mode: CacheMode::Max }
        );
        assert_eq!(
            target("type=local,dest=a").unwrap(),
            CacheTarget::Directory { path: "a".into(), mode: CacheMode::Min }
        );
        assert_eq!(target("type=inline").unwrap(), CacheTarget::Inline);
        for (text, word) in [
            ("type=inline,mode=max", "mode=max needs"),
            ("type=local,dest=a,mode=some", "mode is min or max"),
            ("type=local", "no dest="),
            ("ref=a", "no type="),
            ("type=gha", "type gha is not there"),
            ("type=registry,ref=a,compression=zstd", "compression is not supported"),
            ("type=registry,ref=a,ignore-error=true", "ignore-error is not supported"),
            ("type=local,dest", "dest has no value"),
        ] {
            let told = target(text).unwrap_err().to_string();
            assert!(told.contains(word), "{text}: {told}");
        }
        assert!(source("type=s3,bucket=a").unwrap_err().to_string().contains("type s3 is not there"));
    }
}
