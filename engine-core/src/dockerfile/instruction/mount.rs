//! `RUN --mount`: mounts that are there while the command runs.
//!
//! Keys are checked when the file is read; values with variables only once they are expanded.

use super::files::no_variables;
use crate::dockerfile::expand::{ExpandError, Expander};
use crate::dockerfile::lines::Fail;
use crate::dockerfile::suggest;
use crate::dockerfile::words::{self, Word};

/// A mount of a `RUN`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RunMount {
    /// Files of the context, of a stage or of an image.
    Bind(BindMount),
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// An empty file system in memory.
    Tmpfs(TmpfsMount),
    /// A secret, as a file or in the environment.
    Secret(SecretMount),
    /// The socket of an ssh agent.
    Ssh(SshMount),
    /// A mount whose values have variables: keys and values. [`Instruction::expand`](super::Instruction::expand) leaves none.
    Unexpanded(Vec<(String, Option<String>)>),
}

/// `type=bind`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct BindMount {
    /// A stage, a named context or an image; without it the build's context.
    pub from: Option<String>,
    /// A path in there; its root without one.
    pub source: Option<String>,
    /// Where it is mounted, relative to the working directory; there without one.
    pub target: Option<String>,
    /// Whether writes fail. Those that do not are dropped after the command.
    pub read_only: bool,
}

/// `type=cache`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CacheMount {
    /// Which cache; caches without an id are told apart by their targets.
    pub id: Option<String>,
    /// Where it is mounted, relative to the working directory; there without one.
    pub target: Option<String>,
    /// A stage, a named context or an image that a new cache begins with.
    pub from: Option<String>,
    /// A path in there; its root without one.
    pub source: Option<String>,
    /// What several commands that run at once see.
    pub sharing: CacheSharing,
    /// Whether writes fail.
    pub read_only: bool,
    /// The mode of a new cache's directory; 0755.
    pub mode: Option<u32>,
    /// The owner of a new cache's directory; 0.
    pub uid: Option<u32>,
    /// The group of a new cache's directory; 0.
    pub gid: Option<u32>,
}

impl CacheMount {
    /// Returns the name of the cache: its id, or its target.
    #[must_use]
    pub fn name(&self) -> &str {
        self.id.as_deref().or(self.target.as_deref()).unwrap_or_default()
    }
}

/// What several commands that use a cache at once see.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum CacheSharing {
    /// All write to one.
    #[default]
    Shared,
    /// Each has one of its own.
    Private,
    /// One waits for the other.
    Locked,
}

/// `type=tmpfs`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct TmpfsMount {
    /// Where it is mounted, relative to the working directory; there without one.
    pub target: Option<String>,
    /// Its most bytes; the kernel's default without it.
    pub size: Option<u64>,
    /// Whether writes fail.
    pub read_only: bool,
}

/// `type=secret`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct SecretMount {
    /// Which secret.
    pub id: String,
    /// The file; none if it is in the environment alone.
    pub target: Option<String>,
    /// The environment variable.
    pub env: Option<String>,
    /// Whether the build fails without it.
    pub required: bool,
    /// The file's mode; 0400.
    pub mode: Option<u32>,
    /// The file's owner; 0.
    pub uid: Option<u32>,
    /// The file's group; 0.
    pub gid: Option<u32>,
}

/// `type=ssh`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct SshMount {
    /// Which agent; `default`.
    pub id: Option<String>,
    /// The socket; a path of the engine's without one.
    pub target: Option<String>,
    /// Whether the build fails without it.
    pub required: bool,
    /// The socket's mode; 0600.
    pub mode: Option<u32>,
    /// The socket's owner; 0.
    pub uid: Option<u32>,
    /// The socket's group; 0.
    pub gid: Option<u32>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARINGS: [(&str, CacheSharing); 3] =
    [("shared", CacheSharing::Shared), ("private", CacheSharing::Private), ("locked", CacheSharing::Locked)];
/// Where secrets are without a target.
const SECRETS: &str = "/run/secrets";

/// What is wrong with a mount: message and hint.
type Wrong = (String, Option<String>);

impl RunMount {
    pub(super) fn parse(word: &Word) -> Result<Self, Fail> {
        let fail = |(message, hint): Wrong| Fail::new(word.offset, message).with_hint(hint);
        let mut fields = Vec::new();
        let mut variables = false;
        for field in words::fields(word)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value.to_owned())),
                None => (field.to_ascii_lowercase(), None),
            };
            if !KEYS.contains(&key.as_str()) {
                let message = format!("unexpected key {key:?} in the flag --mount");
                return Err(fail((message, suggest::hint(&key, KEYS))));
            }
            if value.is_none() && !matches!(key.as_str(), "readonly" | "ro" | "readwrite" | "rw" | "required")
            {
                return Err(fail((format!("the key {key} of --mount lacks its value"), None)));
            }
            if key == "from" {
                let text = value.clone().unwrap_or_default();
                no_variables(&Word { text, offset: word.offset }, "from of --mount")?;
            }
            variables |= value.as_ref().is_some_and(|value| value.contains(['$', '\'', '"', '\\', '`']));
            fields.push((key, value));
        }
        if variables { Ok(Self::Unexpanded(fields)) } else { typed(fields).map_err(fail) }
    }

    pub(super) fn expand(&self, expander: &mut Expander<'_>) -> Result<Self, ExpandError> {
        let Self::Unexpanded(fields) = self else { return Ok(self.clone()) };
        let mut expanded = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            let value = value.as_deref().map(|value| expander.word(value)).transpose()?;
            expanded.push((key.clone(), value));
        }
        typed(expanded).map_err(|(message, hint)| {
            let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
            ExpandError::new("--mount", format!("{message}{hint}"))
        })
    }
}

/// All keys' values, before it is known which of them the type has.
#[derive(Default)]
struct Values {
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    env: Option<String>,
    sharing: Option<CacheSharing>,
    read_only: Option<bool>,
    required: Option<bool>,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

/// Makes a mount of its keys and values.
fn typed(fields: Vec<(String, Option<String>)>) -> Result<RunMount, Wrong> {
    let mut kind = "bind".to_owned();
    let mut all = Values::default();
    for (key, value) in fields {
        let invalid = |value: &str| (format!("invalid value {value:?} for {key} of --mount"), None);
        let truth = |value: Option<&str>| match value {
            None => Ok(true),
            Some(value) => boolean(value).ok_or_else(|| invalid(value)),
        };
        let text = value.clone().unwrap_or_default();
        match key.as_str() {
            "type" => kind = text.to_ascii_lowercase(),
            "from" => all.from = Some(text),
            "source" | "src" => all.source = Some(text),
            "target" | "dst" | "destination" => all.target = Some(text),
            "readonly" | "ro" => all.read_only = Some(truth(value.as_deref())?),
            "readwrite" | "rw" => all.read_only = Some(!truth(value.as_deref())?),
            "required" => all.required = Some(truth(value.as_deref())?),
            "id" => all.id = Some(text),
            "env" => all.env = Some(text),
            "sharing" => {
                let name = text.to_ascii_lowercase();
                let found = SHARINGS.iter().find(|(known, _)| *known == name);
                let unknown = || {
                    let hint = suggest::hint(&name, SHARINGS.map(|(known, _)| known));
                    (
                        format!("unsupported sharing {text:?}"),
                        hint.or(Some("shared, private or locked".to_owned())),
                    )
                };
                all.sharing = Some(found.ok_or_else(unknown)?.1);
            }
            "size" => all.size = Some(bytes(&text).ok_or_else(|| invalid(&text))?),
            "mode" => all.mode = Some(octal(&text).ok_or_else(|| invalid(&text))?),
            "uid" => all.uid = Some(text.parse().map_err(|_| invalid(&text))?),
            "gid" => all.gid = Some(text.parse().map_err(|_| invalid(&text))?),
            _ => return Err((format!("unexpected key {key:?} in the flag --mount"), None)),
        }
    }
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    all.from = filled(all.from);
    all.source = filled(all.source);
    all.target = filled(all.target);
    all.id = filled(all.id);
    all.check(&kind)?;
    Ok(match kind.as_str() {
        "bind" => RunMount::Bind(BindMount {
            from: all.from,
            source: all.source,
            target: all.target,
            read_only: all.read_only.unwrap_or(true),
        }),
        "cache" => RunMount::Cache(CacheMount {
            id: all.id,
            target: all.target,
            from: all.from,
            source: all.source,
            sharing: all.sharing.unwrap_or_default(),
            read_only: all.read_only.unwrap_or(false),
            mode: all.mode,
            uid: all.uid,
            gid: all.gid,
        }),
        "tmpfs" => RunMount::Tmpfs(TmpfsMount {
            target: all.target,
            size: all.size,
            read_only: all.read_only.unwrap_or(false),
        }),
        "secret" => all.secret()?,
        "ssh" => RunMount::Ssh(SshMount {
            id: all.id,
            target: all.target,
            required: all.required.unwrap_or(false),
            mode: all.mode,
            uid: all.uid,
            gid: all.gid,
        }),
        other => {
            let hint = suggest::hint(other, TYPES);
            let hint = hint.unwrap_or_else(|| format!("it is one of {}", TYPES.join(", ")));
            return Err((format!("unsupported type {other:?} of --mount"), Some(hint)));
        }
    })
}

impl Values {
    /// Refuses keys that the type does not have.
    fn check(&self, kind: &str) -> Result<(), Wrong> {
        let files = matches!(kind, "cache" | "secret" | "ssh");
        let given = matches!(kind, "secret" | "ssh");
        for (set, allowed, key) in [
            (self.mode.is_some(), files, "mode"),
            (self.uid.is_some(), files, "uid"),
            (self.gid.is_some(), files, "gid"),
            (self.required.is_some(), given, "required"),
            (self.size.is_some(), kind == "tmpfs", "size"),
            (self.sharing.is_some(), kind == "cache", "sharing"),
            (self.env.is_some(), kind == "secret", "env"),
            (self.from.is_some(), kind != "secret", "from"),
        ] {
            // An unknown type is told of as that.
            if set && !allowed && TYPES.contains(&kind) {
                return Err((format!("a mount of type {kind} has no {key}"), None));
            }
        }
        Ok(())
    }

    fn secret(self) -> Result<RunMount, Wrong> {
        if self.source.is_some() && self.id.is_some() {
            return Err(("a secret has an id or a source, not both".to_owned(), None));
        }
        let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = match (self.source.or(self.id), &self.target) {
            (Some(id), _) => id,
            (None, Some(target)) => base(target),
            (None, None) => {
                return Err((
                    "a secret needs an id or a target".to_owned(),
                    Some("such as --mount=type=secret,id=token".to_owned()),
                ));
            }
        };
        let target = match (self.target, &self.env) {
            (None, None) => Some(format!("{SECRETS}/{}", base(&id))),
            (target, _) => target,
        };
        Ok(RunMount::Secret(SecretMount {
            id,
            target,
            env: self.env,
            required: self.required.unwrap_or(false),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
        }))
    }
}

/// Go's words for true and false.
pub(in crate::dockerfile) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn octal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o7777)
}

/// Reads Docker's sizes: `64m`, `1.5GiB`, `4096`; units are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let unit = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let scale = 1_u64 << (10 * unit);
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(scale);
    }
    let bytes = number.parse::<f64>().ok()? * scale as f64;
    (bytes.is_finite() && bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}
