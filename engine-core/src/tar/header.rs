//! One 512-byte header block: fields, numbers, checksum.
//!
//! Owns the fixed layout of V7, ustar and GNU headers. Extension headers are joined in `reader`.

use super::entry::Segment;

pub(super) const BLOCK: usize = 512;

/// Which dialect the magic bytes name. It decides whether bytes 345.. are a name prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    V7,
    Ustar,
    Gnu,
}

/// The fixed fields of a header block. Numbers that only matter to some kinds stay raw.
#[derive(Debug)]
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    pub(super) dialect: Dialect,
    pub(super) typeflag: u8,
    pub(super) size: u64,
}

type Reason = String;

impl<'a> Header<'a> {
    /// Checks the checksum, the magic and the size.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, Reason> {
        check_sum(block)?;
        let dialect = match &block[257..265] {
            b"ustar  \0" => Dialect::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Dialect::Ustar,
            [0, 0, 0, 0, 0, 0, 0, 0] => Dialect::V7,
            _ => return Err("unknown magic".into()),
        };
        // V7 ends with the link's name; some readers take a ustar prefix from behind it all the same.
        if dialect == Dialect::V7 && block[257..].iter().any(|byte| *byte != 0) {
            return Err("V7 header with fields of a later format".into());
        }
        // GNU's headers have times of incremental backups there, which some readers take for a prefix too.
        if dialect == Dialect::Gnu && block[156] != b'S' && block[345..500].iter().any(|byte| *byte != 0) {
            return Err("GNU header with fields of incremental backups".into());
        }
        // star puts times behind a shorter prefix; readers disagree about the name then.
        if dialect == Dialect::Ustar
            && &block[508..512] == b"tar\0"
            && block[476..508].iter().any(|b| *b != 0)
        {
            return Err("star header with private fields".into());
        }
        let size = number(&block[124..136]).map_err(|e| format!("size field: {e}"))?;
        let size = u64::try_from(size).map_err(|_| "negative size".to_owned())?;
        Ok(Self { block, dialect, typeflag: block[156], size })
    }

    /// The name, with the ustar prefix joined.
    pub(super) fn path_into(&self, out: &mut Vec<u8>) {
        out.clear();
        if self.dialect == Dialect::Ustar {
            let prefix = until_nul(&self.block[345..500]);
            if !prefix.is_empty() {
                out.extend_from_slice(prefix);
                out.push(b'/');
            }
        }
        out.extend_from_slice(until_nul(&self.block[..100]));
    }

    pub(super) fn link(&self) -> &'a [u8] {
        until_nul(&self.block[157..257])
    }

    pub(super) fn mode(&self) -> Result<u32, Reason> {
        // Some writers put the file type bits in the mode as well.
        let mode = number(&self.block[100..108]).map_err(|e| format!("mode field: {e}"))?;
        u32::try_from(mode).map(|mode| mode & 0o7777).map_err(|_| "mode out of range".to_owned())
    }

    pub(super) fn uid(&self) -> Result<u32, Reason> {
        id(number(&self.block[108..116]).map_err(|e| format!("uid field: {e}"))?)
    }

    pub(super) fn gid(&self) -> Result<u32, Reason> {
        id(number(&self.block[116..124]).map_err(|e| format!("gid field: {e}"))?)
    }

    pub(super) fn mtime(&self) -> Result<i64, Reason> {
        number(&self.block[136..148]).map_err(|e| format!("mtime field: {e}"))
    }

    /// Device numbers; V7 headers have none.
    pub(super) fn device(&self) -> Result<(u32, u32), Reason> {
        if self.dialect == Dialect::V7 {
            return Err("device entry in a header without device numbers".into());
        }
        let part = |range: std::ops::Range<usize>| {
            number(&self.block[range]).and_then(|n| u32::try_from(n).map_err(|_| "out of range".to_owned()))
        };
        let major = part(329..337).map_err(|e| format!("device major: {e}"))?;
        let minor = part(337..345).map_err(|e| format!("device minor: {e}"))?;
        // dev_t of the kernel: 12 bits of major, 20 of minor.
        if major >= 1 << 12 || minor >= 1 << 20 {
            return Err(format!("device number {major}:{minor} does not exist on Linux"));
        }
        Ok((major, minor))
    }

    /// The sparse fields of an old GNU `S` header: segments, whether more follow, the real size.
    pub(super) fn gnu_sparse(&self, out: &mut Vec<Segment>) -> Result<(bool, u64), Reason> {
        if self.dialect != Dialect::Gnu {
            return Err("sparse entry in a header that is not GNU's".into());
        }
        sparse_slots(&self.block[386..482], out)?;
        let more = flag(self.block[482])?;
        let real = number(&self.block[483..495]).map_err(|e| format!("sparse size: {e}"))?;
        Ok((more, u64::try_from(real).map_err(|_| "negative sparse size".to_owned())?))
    }
}

/// Whether bytes begin with the header of an entry, if only by its checksum.
pub(crate) fn begins_entry(bytes: &[u8]) -> bool {
    let block = bytes.first_chunk::<BLOCK>();
    block.is_some_and(|block| block.iter().any(|byte| *byte != 0) && check_sum(block).is_ok())
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), Reason> {
    let stored = number(&block[148..156]).map_err(|e| format!("checksum field: {e}"))?;
    // The sum counts the checksum field as blanks; old tars summed signed bytes.
    let blanks = 8 * i64::from(b' ');
    let (mut unsigned, mut signed) = (blanks, blanks);
    for (index, byte) in block.iter().enumerate() {
        if !(148..156).contains(&index) {
            unsigned += i64::from(*byte);
            signed += i64::from(byte.cast_signed());
        }
    }
    if stored != unsigned && stored != signed {
        return Err("header checksum does not match".into());
    }
    Ok(())
}

/// One extension block of an old GNU sparse header: 21 slots and a flag.
pub(super) fn gnu_sparse_extension(block: &[u8; BLOCK], out: &mut Vec<Segment>) -> Result<bool, Reason> {
    sparse_slots(&block[..504], out)?;
    flag(block[504])
}

fn flag(byte: u8) -> Result<bool, Reason> {
    match byte {
        0 | b'0' => Ok(false),
        1 | b'1' => Ok(true),
        _ => Err("sparse continuation flag is neither 0 nor 1".into()),
    }
}

fn sparse_slots(slots: &[u8], out: &mut Vec<Segment>) -> Result<(), Reason> {
    let mut ended = false;
    for slot in slots.chunks_exact(24) {
        // An unused slot is blank; nothing may follow it.
        if slot.iter().all(|byte| *byte == 0) {
            ended = true;
            continue;
        }
        if ended {
            return Err("gap in the sparse map".into());
        }
        let field =
            |bytes: &[u8]| number(bytes).and_then(|n| u64::try_from(n).map_err(|_| "negative".to_owned()));
        let offset = field(&slot[..12]).map_err(|e| format!("sparse offset: {e}"))?;
        let length = field(&slot[12..]).map_err(|e| format!("sparse length: {e}"))?;
        out.push(Segment { offset, length });
    }
    Ok(())
}

/// A user or group id: 0..2^32-2. The last value means "unchanged" to chown(2).
pub(super) fn id(value: i64) -> Result<u32, Reason> {
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or_else(|| format!("id {value} out of range"))
}

pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field.iter().position(|byte| *byte == 0).map_or(field, |end| &field[..end])
}

/// Reads a numeric field: octal text, or GNU's base-256 (first byte 0x80, or 0xff for negative numbers).
pub(super) fn number(field: &[u8]) -> Result<i64, Reason> {
    match field[0] {
        0x80 => base256(&field[1..], 0),
        0xff => base256(&field[1..], 0xff),
        byte if byte >= 0x80 => Err("malformed base-256 number".into()),
        _ => octal(field),
    }
}

fn base256(bytes: &[u8], fill: u8) -> Result<i64, Reason> {
    let spare = bytes.len().saturating_sub(8);
    if bytes[..spare].iter().any(|byte| *byte != fill) {
        return Err("base-256 number too large".into());
    }
    let mut word = [fill; 8];
    let tail = &bytes[spare..];
    word[8 - tail.len()..].copy_from_slice(tail);
    let value = i64::from_be_bytes(word);
    if (value < 0) == (fill == 0xff) { Ok(value) } else { Err("base-256 number too large".into()) }
}

fn octal(field: &[u8]) -> Result<i64, Reason> {
    let mut text = until_nul(field);
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    if text.len() > 21 {
        return Err("octal number too long".into());
    }
    let mut value: i64 = 0;
    for byte in text {
        if !(b'0'..=b'7').contains(byte) {
            return Err("not an octal number".into());
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(byte - b'0')))
            .ok_or_else(|| "octal number too large".to_owned())?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_octal_and_base_256() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        assert_eq!(number(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]).unwrap(), i64::MAX);
        for bad in [&b"64 4\0\0\0\0"[..], b"-1\0\0\0\0\0\0", b"0x10\0\0\0\0", b"8\0\0\0\0\0\0\0"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
        assert!(number(&[0x81, 0, 0, 0, 0, 0, 0, 1]).is_err());
        assert!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(number(&[0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn ids_stop_before_the_unchanged_marker() {
        assert_eq!(id(0).unwrap(), 0);
        assert_eq!(id(4_294_967_294).unwrap(), 4_294_967_294);
        assert!(id(4_294_967_295).is_err());
        assert!(id(-1).is_err());
    }
}
