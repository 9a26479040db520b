//! Looking up a name in a zone file: `engine_core::network::names` writes it, and says what is in it.
//!
//! Lines of `KEY VALUE`, in the order of their bytes, each shorter than [`MAX_LINE`]. So a lookup reads a few hundred bytes,
//! however long the file is, and nothing of it is kept.
//! Pure: the file is a function that reads at a place. engine-core compiles this file too (by `#[path]`), for its tests.
//! Invariant: a file of other bytes gives other values, or none; never a panic or a search without end.

/// Longest line, with its end: two names of 253 bytes between which is a space.
pub const MAX_LINE: usize = 512;
/// Read at once: a part of a line, and a whole one behind it.
const PIECE: usize = 2 * MAX_LINE;

/// Reads at a place in the file. Fewer bytes than asked for are its end.
pub type ReadAt<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> usize;

/// Key and value of a line.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|&byte| byte == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

/// Calls `each` with the values of `key` in a file of `size` bytes, in their order.
pub fn find(read_at: ReadAt<'_>, size: u64, key: &[u8], each: &mut dyn FnMut(&[u8])) {
    let mut piece = [0; PIECE];
    // A line begins at `low`, and the first with the key, if there is one, not behind `high`.
    let (mut low, mut high) = (0, size);
    while high - low > PIECE as u64 {
        let middle = low + (high - low) / 2;
        let count = read_at(middle, &mut piece).min(PIECE);
        let piece = &piece[..count];
        let whole = piece.iter().position(|&byte| byte == b'\n').and_then(|end| {
            let line = &piece[end + 1..];
            let length = line.iter().position(|&byte| byte == b'\n')?;
            Some((middle + end as u64 + 1, &line[..length]))
        });
        match whole {
            Some((at, line)) if split(line).0 < key && at < high => low = at,
            // Also where there is no whole line, as at the end.
            _ => high = middle,
        }
    }
    scan(read_at, low, key, each);
}

/// Goes through the lines from `at` on, as long as one could have the key.
fn scan(read_at: ReadAt<'_>, mut at: u64, key: &[u8], each: &mut dyn FnMut(&[u8])) {
    let mut piece = [0; PIECE];
    loop {
        let count = read_at(at, &mut piece).min(PIECE);
        let mut rest = &piece[..count];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (found, value) = split(&rest[..end]);
            if found > key {
                return;
            }
            if found == key {
                each(value);
            }
            rest = &rest[end + 1..];
        }
        let used = count - rest.len();
        // The end, or a line that is none of ours.
        if used == 0 || count < PIECE {
            return;
        }
        at += used as u64;
    }
}
