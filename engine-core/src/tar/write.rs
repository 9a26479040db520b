//! Writing tar archives: plain files and directories, the same bytes each time.
//!
//! POSIX ustar headers (pax(1)) with GNU's extensions for long names and large sizes, which all readers know.

use super::header::BLOCK;

/// What follows the last entry: two empty blocks.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Returns the header of a file of `size` bytes, or of a directory if the name ends in a slash. Owner and time are zero.
pub(crate) fn header(name: &str, size: u64) -> Vec<u8> {
    let mut blocks = Vec::new();
    if name.len() > 100 {
        // GNU: the name is the content of an entry before, with a NUL at its end.
        blocks.extend_from_slice(&block("././@LongLink", b'L', 0, name.len() as u64 + 1));
        blocks.extend_from_slice(name.as_bytes());
        blocks.push(0);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    }
    let (kind, mode) = if name.ends_with('/') { (b'5', 0o755) } else { (b'0', 0o644) };
    blocks.extend_from_slice(&block(name, kind, mode, size));
    blocks
}

/// Returns how many zero bytes follow a file of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    // Less than a block.
    (size.wrapping_neg() % BLOCK as u64) as usize
}

fn block(name: &str, kind: u8, mode: u32, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    match size {
        ..0o100_000_000_000 => put(124, format!("{size:011o}\0").as_bytes()),
        // GNU: a first bit that octal digits never have, and the number in base 256.
        _ => {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, if kind == b'L' || size >= 0o100_000_000_000 { b"ustar  \0" } else { b"ustar\x0000" });
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::super::{ArchiveReader, Entry, EntryKind, TarLimits};
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let long = format!("blobs/sha512/{}", "a".repeat(128));
        let mut bytes = Vec::new();
        for (name, content) in [("blobs/", &b""[..]), ("index.json", b"{}"), (&long, &[7; 513])] {
            bytes.extend(header(name, content.len() as u64));
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len() + padding(content.len() as u64), 0);
        }
        bytes.extend_from_slice(&END);
        let mut reader = ArchiveReader::new(&bytes[..], TarLimits::default());
        let mut entry = Entry::default();
        let mut seen = Vec::new();
        while reader.next_entry(&mut entry).unwrap() {
            seen.push((String::from_utf8(entry.path.clone()).unwrap(), entry.kind, entry.size));
        }
        let (dir, file) = (EntryKind::Directory, EntryKind::File);
        assert_eq!(
            seen,
            [("blobs/".to_owned(), dir, 0), ("index.json".to_owned(), file, 2), (long, file, 513)]
        );
    }

    #[test]
    fn sizes_beyond_octal_are_read_back() {
        let size = 9 << 30;
        let bytes = header("big", size);
        let mut reader = ArchiveReader::new(&bytes[..], TarLimits::default());
        let mut entry = Entry::default();
        assert!(reader.next_entry(&mut entry).unwrap());
        assert_eq!(entry.size, size);
    }
}
