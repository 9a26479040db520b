//! A look at a tar archive: whether it is one. Source: pax(1), "ustar Interchange Format".

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
