//! Sparse maps: where the stored bytes of a file go.
//!
//! Owns the text forms of the map and its checks. Invariant of a checked map: ascending, disjoint, inside
//! the file, and together exactly as long as the stored data.

use super::{entry::Segment, pax::decimal};

/// More segments than this is an attack, not a file: 4 MiB of map.
pub(super) const MAX_SEGMENTS: usize = 1 << 18;

type Reason = String;

/// `offset,length,offset,length…` of format 0.1.
pub(super) fn parse_comma_map(value: &[u8]) -> Result<Vec<Segment>, Reason> {
    let mut map = Vec::new();
    if value.is_empty() {
        return Ok(map);
    }
    let mut fields = value.split(|byte| *byte == b',');
    while let Some(offset) = fields.next() {
        let length = fields.next().ok_or("odd number of values in the sparse map")?;
        map.push(Segment { offset: decimal(offset)?, length: decimal(length)? });
        if map.len() > MAX_SEGMENTS {
            return Err("too many segments".into());
        }
    }
    Ok(map)
}

/// The map of format 1.0: a count, then offsets and lengths, each on a line, read block by block.
#[derive(Debug, Default)]
pub(super) struct LineMap {
    digits: Vec<u8>,
    expected: Option<u64>,
    values: Vec<u64>,
}

impl LineMap {
    /// Takes one 512-byte block; returns the map when it ended in this block.
    pub(super) fn push_block(&mut self, block: &[u8]) -> Result<Option<Vec<Segment>>, Reason> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 19 {
                    return Err("sparse map: number too long".into());
                }
                continue;
            }
            let value = decimal(&self.digits).map_err(|e| format!("sparse map: {e}"))?;
            self.digits.clear();
            match self.expected {
                None if value > MAX_SEGMENTS as u64 => return Err("sparse map: too many segments".into()),
                None => self.expected = Some(value * 2),
                Some(_) => self.values.push(value),
            }
            if self.expected == Some(self.values.len() as u64) {
                // The rest of the block is padding.
                let pairs = self.values.chunks_exact(2);
                return Ok(Some(pairs.map(|pair| Segment { offset: pair[0], length: pair[1] }).collect()));
            }
        }
        Ok(None)
    }
}

/// Checks a map against the file's size and the number of stored bytes.
pub(super) fn check(map: &[Segment], real_size: u64, stored: u64) -> Result<(), Reason> {
    if real_size > i64::MAX as u64 {
        return Err("sparse file too large".into());
    }
    let (mut end, mut sum) = (0u64, 0u64);
    for segment in map {
        if segment.offset < end {
            return Err("sparse segments overlap or are out of order".into());
        }
        end = segment.offset.checked_add(segment.length).ok_or("sparse segment too long")?;
        if end > real_size {
            return Err("sparse segment ends beyond the file".into());
        }
        sum += segment.length;
    }
    if sum == stored { Ok(()) } else { Err(format!("sparse map covers {sum} bytes, {stored} are stored")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let map = |text: &str| parse_comma_map(text.as_bytes());
        check(&map("0,10,512,5").unwrap(), 1000, 15).unwrap();
        check(&map("1000,0").unwrap(), 1000, 0).unwrap();
        for (text, size, stored) in [
            ("0,10,5,10", 100, 20),
            ("0,10", 9, 10),
            ("0,10", 10, 9),
            ("10,1,0,1", 100, 2),
            ("9223372036854775807,9", 10, 9),
        ] {
            assert!(check(&map(text).unwrap(), size, stored).is_err(), "{text}");
        }
        for bad in ["1", "1,2,3", "a,1", "1,,2", "-1,2", ","] {
            assert!(map(bad).is_err(), "{bad}");
        }
    }
}
