//! Small tar archives: whether one is sound, what is in it. Source: pax(1), "ustar Interchange Format".

use bytes::Bytes;

/// Checks the headers of `tar`: checksums, sizes, and that no entry is cut short.
///
/// An archive without the two zero blocks at its end is accepted, as GNU tar does.
pub(super) fn check(tar: &[u8]) -> Result<(), String> {
    let mut rest = tar;
    while !rest.is_empty() {
        let header: &[u8; 512] = rest.first_chunk().ok_or("a header is cut short")?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let sum: u64 = header
            .iter()
            .enumerate()
            // The checksum's own field counts as blanks.
            .map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte }))
            .sum();
        if octal(&header[148..156]) != Some(sum) {
            return Err("a header's checksum is wrong".to_owned());
        }
        let size = number(&header[124..136]).ok_or("an entry's size is no number")?;
        let padded = size.div_ceil(512).checked_mul(512).and_then(|n| n.checked_add(512));
        let padded = padded.and_then(|n| usize::try_from(n).ok()).ok_or("an entry's size is absurd")?;
        if padded - 512 > 0 && rest.len() < 512 + usize::try_from(size).unwrap_or(usize::MAX) {
            return Err("an entry is cut short".to_owned());
        }
        rest = &rest[padded.min(rest.len())..];
    }
    Ok(())
}

/// Reads a size: octal, or GNU's binary form for large ones.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        return field[1..]
            .iter()
            .try_fold(0_u64, |n, byte| n.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    octal(field)
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(|c| c == ' ' || c == '\0');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// What an entry is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Directory,
    File(Bytes),
    Link(String),
}

/// An entry without its name.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) modified: u64,
}

/// Reads an archive of directories, files and symbolic links with short names.
pub(super) fn read(tar: &Bytes) -> Result<Vec<(String, Item)>, String> {
    check(tar)?;
    let (mut at, mut items) = (0, Vec::new());
    while let Some(header) = tar.get(at..at + 512).filter(|header| header.iter().any(|byte| *byte != 0)) {
        let text = |field: &[u8]| {
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).map_err(|_| "a name is not UTF-8")
        };
        let size = usize::try_from(number(&header[124..136]).unwrap_or(0)).unwrap_or(usize::MAX);
        let data = at + 512;
        let kind = match header[156] {
            b'5' => Kind::Directory,
            b'2' => Kind::Link(text(&header[157..257])?),
            0 | b'0' => Kind::File(tar.slice(data..data + size)),
            other => return Err(format!("entries of type {:?} are not known here", char::from(other))),
        };
        let field = |range: std::ops::Range<usize>| octal(&header[range]).unwrap_or(0);
        let mode = u32::try_from(field(100..108)).unwrap_or(0) & 0o7777;
        items.push((text(&header[..100])?, Item { kind, mode, modified: field(136..148) }));
        at = data + size.next_multiple_of(512);
    }
    Ok(items)
}

/// Appends an entry. A name is cut after 99 bytes.
pub(super) fn write(archive: &mut Vec<u8>, name: &str, item: &Item) {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        let length = bytes.len().min(99);
        header[at..at + length].copy_from_slice(&bytes[..length]);
    };
    let (kind, data, link) = match &item.kind {
        Kind::Directory => (b'5', &[][..], ""),
        Kind::File(bytes) => (b'0', &bytes[..], ""),
        Kind::Link(target) => (b'2', &[][..], target.as_str()),
    };
    put(0, name.as_bytes());
    put(100, format!("{:07o}\0", item.mode).as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, format!("{:011o}\0", item.modified).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend_from_slice(&header);
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(512), 0);
}
