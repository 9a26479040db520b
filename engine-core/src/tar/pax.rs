//! PAX extended header records.
//!
//! Owns the record syntax (`"%d %s=%s\n"`, POSIX pax) and the keywords we understand. A record that readers
//! interpret differently is an error; vendor keywords that no reader of layers applies are skipped.

use super::{
    entry::{Segment, Timestamp, Xattr},
    header::id,
    show, sparse,
};

use std::collections::HashSet;

type Reason = String;

/// What one extended header says about the entry after it.
#[derive(Debug, Default)]
pub(super) struct PaxRecords {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: PaxSparse,
}

/// The `GNU.sparse.*` records.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    blocks: Option<u64>,
    map: Option<Vec<Segment>>,
    /// 0.0 repeats its keywords: an offset waits here for its length.
    pairs: Vec<Segment>,
    pending: Option<u64>,
}

/// A sparse file as its records describe it.
#[derive(Debug)]
pub(super) struct SparseFile {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: u64,
    /// `None`: format 1.0, the map stands before the data.
    pub(super) map: Option<Vec<Segment>>,
}

/// Reads every record of an extended header.
pub(super) fn parse(mut data: &[u8]) -> Result<PaxRecords, Reason> {
    let mut records = PaxRecords::default();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    while !data.is_empty() {
        let (key, value, rest) = record(data)?;
        data = rest;
        // Format 0.0 of GNU's sparse files is the one place where repetition has a meaning.
        let repeats = matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes");
        if !repeats && is_interpreted(key) && !seen.insert(key) {
            return Err(format!("PAX keyword {} appears twice", show(key)));
        }
        records.apply(key, value)?;
    }
    Ok(records)
}

/// Checks a global header: it may hold comments, as git's does, and nothing that changes an entry, since
/// some readers apply it to all that follows and others to nothing.
pub(super) fn check_global(mut data: &[u8]) -> Result<(), Reason> {
    while !data.is_empty() {
        let (key, _, rest) = record(data)?;
        if is_interpreted(key) {
            return Err(format!("global PAX header sets {}", show(key)));
        }
        data = rest;
    }
    Ok(())
}

fn is_interpreted(key: &[u8]) -> bool {
    matches!(
        key,
        b"path"
            | b"linkpath"
            | b"size"
            | b"uid"
            | b"gid"
            | b"mtime"
            | b"atime"
            | b"ctime"
            | b"hdrcharset"
            | b"charset"
    ) || key.starts_with(b"GNU.")
        || key.starts_with(b"SCHILY.")
}

/// A record's keyword and value, and the data behind it.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn record(data: &[u8]) -> Result<Record<'_>, Reason> {
    let blank = data.iter().take(20).position(|byte| *byte == b' ').ok_or("PAX record without a length")?;
    let length = decimal(&data[..blank]).map_err(|_| "PAX record length is not a number".to_owned())?;
    if data[0] == b'0' {
        return Err("PAX record length begins with 0".into());
    }
    let length = usize::try_from(length).ok().filter(|n| *n <= data.len() && *n > blank + 2);
    let length = length.ok_or("PAX record is longer than its header, or too short")?;
    let (this, rest) = data.split_at(length);
    let body = this[blank + 1..].strip_suffix(b"\n").ok_or("PAX record does not end in a newline")?;
    let equals = body.iter().position(|byte| *byte == b'=').ok_or("PAX record without '='")?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err("PAX keyword is empty or holds a NUL".into());
    }
    Ok((key, value, rest))
}

impl PaxRecords {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() {
                return Err("extended attribute without a name".into());
            }
            // Linux: XATTR_NAME_MAX 255, XATTR_SIZE_MAX 65536 (xattr(7)).
            if name.len() > 255 || value.len() > 65536 {
                return Err("extended attribute larger than Linux allows".into());
            }
            self.xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.apply(key, value).map_err(|e| format!("GNU.sparse.{}: {e}", show(key)));
        }
        match key {
            b"path" => self.path = Some(text(key, value)?),
            b"linkpath" => self.link = Some(text(key, value)?),
            b"size" => self.size = Some(decimal(value).map_err(|e| format!("PAX size: {e}"))?),
            b"uid" => self.uid = Some(pax_id(value).map_err(|e| format!("PAX uid: {e}"))?),
            b"gid" => self.gid = Some(pax_id(value).map_err(|e| format!("PAX gid: {e}"))?),
            b"mtime" => self.mtime = Some(timestamp(value).map_err(|e| format!("PAX mtime: {e}"))?),
            b"atime" | b"ctime" => {
                timestamp(value).map_err(|e| format!("PAX {}: {e}", show(key)))?;
            }
            b"hdrcharset" | b"charset" if value != b"BINARY" && value != b"ISO-IR 10646 2000 UTF-8" => {
                return Err(format!("PAX character set {} is not supported", show(value)));
            }
            // star's own sparse files, volumes and multi-volume pieces change where data ends.
            b"SCHILY.realsize" | b"SCHILY.filetype" | b"SCHILY.dir" => {
                return Err(format!("PAX keyword {} is not supported", show(key)));
            }
            _ if key.starts_with(b"GNU.volume.") => {
                return Err("multi-volume archives are not supported".into());
            }
            _ => {}
        }
        Ok(())
    }
}

impl PaxSparse {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), Reason> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = Some(text(key, value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"realsize" => self.real_size = Some(decimal(value)?),
            b"numblocks" => self.blocks = Some(decimal(value)?),
            b"map" => self.map = Some(sparse::parse_comma_map(value)?),
            b"offset" => {
                if self.pending.replace(decimal(value)?).is_some() {
                    return Err("two offsets in a row".into());
                }
            }
            b"numbytes" => {
                let offset = self.pending.take().ok_or("length without an offset")?;
                self.pairs.push(Segment { offset, length: decimal(value)? });
                if self.pairs.len() > sparse::MAX_SEGMENTS {
                    return Err("too many segments".into());
                }
            }
            _ => return Err("unknown keyword".into()),
        }
        Ok(())
    }

    /// The sparse file these records describe, if they describe one.
    pub(super) fn finish(self) -> Result<Option<SparseFile>, Reason> {
        let Self { major, minor, name, size, real_size, blocks, map, pairs, pending } = self;
        if pending.is_some() {
            return Err("GNU.sparse.offset without a length".into());
        }
        let file = match (major, minor, map, blocks) {
            (None, None, None, None) => {
                if name.is_some() || size.is_some() || real_size.is_some() || !pairs.is_empty() {
                    return Err("incomplete sparse records".into());
                }
                return Ok(None);
            }
            (Some(1), Some(0), None, None) if pairs.is_empty() && size.is_none() => {
                let (Some(name), Some(real_size)) = (name, real_size) else {
                    return Err("sparse format 1.0 without name or real size".into());
                };
                SparseFile { name: Some(name), real_size, map: None }
            }
            (None | Some(0), None | Some(1), Some(map), blocks)
                if pairs.is_empty() && real_size.is_none() =>
            {
                let real_size = size.ok_or("sparse format 0.1 without a size")?;
                if blocks.is_some_and(|blocks| blocks != map.len() as u64) {
                    return Err("sparse map and its count differ".into());
                }
                SparseFile { name, real_size, map: Some(map) }
            }
            (None | Some(0), None | Some(0), None, Some(blocks)) if name.is_none() && real_size.is_none() => {
                let real_size = size.ok_or("sparse format 0.0 without a size")?;
                if blocks != pairs.len() as u64 {
                    return Err("sparse map and its count differ".into());
                }
                SparseFile { name: None, real_size, map: Some(pairs) }
            }
            _ => return Err("contradictory or unknown sparse records".into()),
        };
        Ok(Some(file))
    }
}

fn text(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Reason> {
    if value.is_empty() || value.contains(&0) {
        return Err(format!("PAX {} is empty or holds a NUL", show(key)));
    }
    Ok(value.to_vec())
}

/// Digits only: no sign, no blank. The value fits a file offset.
pub(super) fn decimal(text: &[u8]) -> Result<u64, Reason> {
    if text.is_empty() || text.len() > 19 {
        return Err("not a number in range".into());
    }
    let mut value: u64 = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err("not a decimal number".into());
        }
        value = value * 10 + u64::from(byte - b'0');
    }
    i64::try_from(value).map(|_| value).map_err(|_| "number out of range".into())
}

fn pax_id(value: &[u8]) -> Result<u32, Reason> {
    id(decimal(value)?.cast_signed())
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut, toward the past as in GNU tar and Go.
fn timestamp(value: &[u8]) -> Result<Timestamp, Reason> {
    let (negative, digits) = match value {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let dot = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = dot.map_or((digits, &[][..]), |dot| (&digits[..dot], &digits[dot + 1..]));
    let seconds = decimal(whole)?.cast_signed();
    let mut nanoseconds: u32 = 0;
    let mut rest = false;
    for (index, byte) in fraction.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return Err("not a time".into());
        }
        if index < 9 {
            nanoseconds += u32::from(byte - b'0') * 10u32.pow(8 - u32::try_from(index).unwrap_or(8));
        } else {
            rest |= *byte != b'0';
        }
    }
    if !negative {
        return Ok(Timestamp { seconds, nanoseconds });
    }
    if rest {
        nanoseconds += 1;
    }
    if nanoseconds == 0 {
        return Ok(Timestamp { seconds: -seconds, nanoseconds: 0 });
    }
    if nanoseconds == 1_000_000_000 {
        return Ok(Timestamp { seconds: -seconds - 1, nanoseconds: 0 });
    }
    Ok(Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_bad_ones_refused() {
        let records = parse(b"12 path=a/b\n24 mtime=-1.25000000000\n24 SCHILY.xattr.user.a=\n12 comment=\n");
        let records = records.unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(records.mtime, Some(Timestamp { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(records.xattrs, [Xattr { name: b"user.a".to_vec(), value: Vec::new() }]);
        for bad in [
            &b"12 path=a/b"[..],
            b"13 path=a/b\n",
            b"11 path=a/b\n",
            b"012 path=a/b\n",
            b"+12 path=a/b\n",
            b" 12 path=a/b\n",
            b"8 =a/b\n\n",
            b"12 path=a\0b\n",
            b"8 path=\n",
            b"10 path:ab\n",
            b"12 path=a/b\n12 path=a/b\n",
            b"11 size=-1\n",
            b"12 size=0x1\n",
            b"27 size=99999999999999999999\n",
            b"18 uid=4294967295\n",
            b"99999999999999999999 path=a\n",
            b"25 GNU.sparse.numbytes=1\n",
            b"22 GNU.sparse.offset=1\n",
            b"14 mtime=1.2x\n",
        ] {
            let outcome = parse(bad).and_then(|records| records.sparse.finish());
            assert!(outcome.is_err(), "{}", show(bad));
        }
    }

    #[test]
    fn global_headers_may_only_comment() {
        assert!(check_global(b"15 comment=abc\n").is_ok());
        assert!(check_global(b"12 path=a/b\n").is_err());
        assert!(check_global(b"10 size=10\n").is_err());
    }
}
