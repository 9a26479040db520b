//! Serde forms that lose nothing: of paths and bytes that are no UTF-8, and of times before 1970.
//!
//! serde has forms of its own for paths and times, which fail there. Files in containers have such names and times, so what tells of them uses
//! these, as `#[serde(with = "…")]`. Where serde's form does, they are the same.

/// A path: text, or a list of its bytes where it is none.
pub mod path {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bytes(Vec<u8>),
    }

    /// Writes a path.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => OsStr::as_bytes(path.as_os_str()).serialize(serializer),
        }
    }

    /// Reads a path.
    ///
    /// # Errors
    /// Those of `deserializer`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) => text.into(),
            Either::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

/// Bytes: text, or a list of them where they are none.
pub mod bytes {
    use ::bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bytes(Vec<u8>),
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => (**bytes).serialize(serializer),
        }
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// Those of `deserializer`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Ok(match Either::deserialize(deserializer)? {
            Either::Text(text) => text.into(),
            Either::Bytes(bytes) => bytes.into(),
        })
    }
}

/// A time: seconds since 1970, which may be negative, and nanoseconds after that.
pub mod time {
    use std::time::{Duration, SystemTime};

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Since {
        secs_since_epoch: i64,
        nanos_since_epoch: u32,
    }

    /// Writes a time.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        let seconds = |whole: u64| i64::try_from(whole).unwrap_or(i64::MAX);
        let since = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => {
                Since { secs_since_epoch: seconds(after.as_secs()), nanos_since_epoch: after.subsec_nanos() }
            }
            Err(error) => {
                let before = error.duration();
                match before.subsec_nanos() {
                    0 => Since { secs_since_epoch: -seconds(before.as_secs()), nanos_since_epoch: 0 },
                    nanos => Since {
                        secs_since_epoch: -seconds(before.as_secs()) - 1,
                        nanos_since_epoch: 1_000_000_000 - nanos,
                    },
                }
            }
        };
        since.serialize(serializer)
    }

    /// Reads a time.
    ///
    /// # Errors
    /// Those of `deserializer`, and if no clock shows such a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let Since { secs_since_epoch: seconds, nanos_since_epoch: nanos } = Since::deserialize(deserializer)?;
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let second = if seconds < 0 { epoch.checked_sub(whole) } else { epoch.checked_add(whole) };
        second
            .filter(|_| nanos < 1_000_000_000)
            .and_then(|second| second.checked_add(Duration::from_nanos(nanos.into())))
            .ok_or_else(|| D::Error::custom("no clock shows such a time"))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::time::{Duration, SystemTime};

    use crate::files::{Change, ChangeKind, PathStat};

    #[test]
    fn names_and_times_come_back_whatever_they_are() {
        for path in [&b"/a b"[..], b"/\xff\xfe", "/ü".as_bytes()] {
            let change = Change { path: OsStr::from_bytes(path).into(), kind: ChangeKind::Added };
            let text = serde_json::to_string(&change).unwrap();
            assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change, "{text}");
        }
        let epoch = SystemTime::UNIX_EPOCH;
        let quarter = Duration::from_millis(2250);
        for time in [epoch, epoch + quarter, epoch - quarter, epoch - Duration::from_secs(3)] {
            let stat = PathStat::new("a", 0o100_644, 1, time);
            let text = serde_json::to_string(&stat).unwrap();
            assert_eq!(serde_json::from_str::<PathStat>(&text).unwrap(), stat, "{text}");
        }
        let wrong = r#"{"name":"","size":0,"mode":0,"link_target":"","modified":{"secs_since_epoch":1,"nanos_since_epoch":4000000000}}"#;
        assert!(serde_json::from_str::<PathStat>(wrong).is_err());
    }
}
