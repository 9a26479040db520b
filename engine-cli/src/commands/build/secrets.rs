//! `--secret`: where the content of a secret comes from.

use engine_core::Error;
use engine_core::secret::SecretData;

use crate::failure::{Failure, Result};
use crate::options::mounts::fields;

/// Reads `id=ID,src=FILE`, `id=ID,env=NAME`; what is left out is the id.
pub(super) async fn read(text: &str) -> Result<(String, SecretData)> {
    use std::os::unix::ffi::OsStrExt as _;

    let wrong =
        |why: &str| Failure::usage(format!("--secret {text}: {why}: give id=ID,src=FILE or id=ID,env=NAME"));
    let (mut id, mut source, mut env, mut kind) = (None, None, None, None);
    for field in fields(text).map_err(wrong)? {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong("a field has no ="))?;
        let place = match key.to_ascii_lowercase().as_str() {
            "id" => &mut id,
            "src" | "source" => &mut source,
            "env" => &mut env,
            "type" => &mut kind,
            _ => return Err(wrong(&format!("it has no field {key}"))),
        };
        *place = Some(value.to_owned());
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("it has no id"))?;
    // Without a file, a variable of the id's name is meant if there is one.
    let implied = || std::env::var_os(&id).is_some().then(|| id.clone());
    let variable = match (kind.as_deref(), &source) {
        (Some("env"), _) => Some(env.or(source.clone()).unwrap_or_else(|| id.clone())),
        (Some("file"), _) => None,
        (None, Some(_)) => env,
        (None, None) => env.or_else(implied),
        (Some(_), _) => return Err(wrong("its type is neither file nor env")),
    };
    if let Some(variable) = variable {
        let value = std::env::var_os(&variable)
            .ok_or_else(|| Failure::usage(format!("--secret {text}: the environment has no {variable}")))?;
        return Ok((id, SecretData::new(value.as_bytes())));
    }
    let file = source.unwrap_or_else(|| id.clone());
    let content =
        tokio::fs::read(&file).await.map_err(|e| Error::from_io("read secret", e).with("path", file))?;
    Ok((id, SecretData::new(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn secrets_are_read_as_buildx_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a,b");
        std::fs::write(&file, b"\xff").unwrap();
        let known = std::env::var("PATH").expect("a PATH");
        let known = known.as_bytes();
        for (text, content) in [
            (format!("id=x,\"src={}\"", file.display()), &b"\xff"[..]),
            ("type=env,id=x,src=PATH".to_owned(), known),
            ("id=x,env=PATH".to_owned(), known),
            ("id=PATH".to_owned(), known),
        ] {
            let (_, secret) = read(&text).await.unwrap_or_else(|failure| panic!("{text}: {failure}"));
            assert_eq!(secret.reveal(), content, "{text}");
        }
        for (text, word) in [
            ("src=x", "no id"),
            ("id=x,scr=y", "no field scr"),
            ("id=x,type=floppy", "neither file nor env"),
            ("id=x,env=ENGINE_NO_SUCH", "no ENGINE_NO_SUCH"),
            ("x", "no ="),
        ] {
            let failure = read(text).await.unwrap_err().to_string();
            assert!(failure.contains(word), "{text}: {failure}");
        }
    }
}
