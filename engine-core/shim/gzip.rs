//! A gzip encoder (RFC 1952, RFC 1951) for bytes that are all at hand.
//!
//! Pure: bytes in, bytes out through a function, all memory in one value of zeroes. engine-core compiles this file too (by
//! `#[path]`), for its tests and for the mark of where a file comes from. Quick rather than small: the first good match is
//! taken, and each block has codes of its own or the fixed ones, whichever is shorter.

/// How far back a match may lie.
const WINDOW: usize = 32 * 1024;
const HASH_BITS: u32 = 15;
/// How many earlier places with the same hash are looked at.
const DEPTH: usize = 16;
/// A match this long is taken without a look for a longer one.
const GOOD: usize = 96;
/// Matches are longer than this: a shorter one is hardly shorter than its bytes.
const LEAST: usize = 3;
const LONGEST: usize = 258;
/// Literals and matches of one block.
const TOKENS: usize = 32 * 1024;
const OUT: usize = 32 * 1024;
/// Marks a token that is a match: its length less 3 from bit 16 on, its distance less 1 below.
const MATCH: u32 = 1 << 31;

const END: usize = 256;
/// Two of them never occur, but have fixed codes.
const LITERALS: usize = 288;
const DISTANCES: usize = 30;
const LENGTHS: usize = 19;
/// In which order the lengths of the codes for lengths stand.
const ORDER: [u8; LENGTHS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The subfield of the header that names the file the content was (RFC 1952, 2.3.1.1).
const ORIGIN: [u8; 4] = [b'e', b'O', 8, 0];

/// The header's extra field, which tells the inode that the content had before.
pub fn extra(inode: u64) -> [u8; 12] {
    let mut field = [0; 12];
    field[..4].copy_from_slice(&ORIGIN);
    field[4..].copy_from_slice(&inode.to_le_bytes());
    field
}

/// Reads what [`extra`] made.
#[cfg_attr(shim, expect(dead_code, reason = "for the reader"))]
pub fn origin(extra: &[u8]) -> Option<u64> {
    let bytes = extra.strip_prefix(&ORIGIN)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// All that encoding needs. All zero bytes are one that is ready.
pub struct Encoder {
    /// The last place of each hash, and before each place the one with the same hash: the low bits, since both are only
    /// hints where to look.
    heads: [u32; 1 << HASH_BITS],
    before: [u32; WINDOW],
    tokens: [u32; TOKENS],
    count: usize,
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    bits: u64,
    bit_count: u32,
    out: [u8; OUT],
    filled: usize,
    failed: bool,
}

/// Where the output goes: `false` ends the encoding.
pub type Sink<'a> = dyn FnMut(&[u8]) -> bool + 'a;

impl Encoder {
    /// An encoder.
    #[cfg_attr(shim, expect(dead_code, reason = "the shim's is made of zeroes"))]
    pub const fn new() -> Self {
        Self {
            heads: [0; 1 << HASH_BITS],
            before: [0; WINDOW],
            tokens: [0; TOKENS],
            count: 0,
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
            bits: 0,
            bit_count: 0,
            out: [0; OUT],
            filled: 0,
            failed: false,
        }
    }

    /// Writes `input` as one gzip member. Returns whether `sink` took all of it.
    pub fn encode(&mut self, input: &[u8], extra: &[u8; 12], sink: &mut Sink<'_>) -> bool {
        // Deflate, with an extra field, of no time, of Unix.
        self.bytes(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 3, extra.len() as u8, 0], sink);
        self.bytes(extra, sink);
        let (mut at, mut begun, mut crc) = (0, 0, !0);
        while !self.failed {
            while at < input.len() && self.count < TOKENS {
                at += self.token(input, at);
            }
            crc = checksum(crc, &input[begun..at]);
            begun = at;
            self.block(at == input.len(), sink);
            if at == input.len() {
                break;
            }
        }
        self.put(0, (8 - self.bit_count % 8) % 8, sink);
        self.bytes(&(!crc).to_le_bytes(), sink);
        self.bytes(&(input.len() as u32).to_le_bytes(), sink);
        self.flush(sink);
        !self.failed
    }

    /// Adds the next token; returns how many bytes it stands for.
    fn token(&mut self, input: &[u8], at: usize) -> usize {
        let (length, distance) = self.find(input, at);
        let token = if length > LEAST {
            self.literals[length_code(length).0] += 1;
            self.distances[distance_code(distance).0] += 1;
            for inside in at + 1..at + length {
                self.remember(input, inside);
            }
            MATCH | ((length - 3) as u32) << 16 | (distance - 1) as u32
        } else {
            self.literals[usize::from(input[at])] += 1;
            u32::from(input[at])
        };
        self.tokens[self.count] = token;
        self.count += 1;
        length.max(1)
    }

    /// Notes the place `at`; returns the one before with the same hash.
    fn remember(&mut self, input: &[u8], at: usize) -> Option<u32> {
        let word = u32::from_le_bytes(*input.get(at..)?.first_chunk()?);
        let head = &mut self.heads[(word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize];
        let earlier = *head;
        *head = at as u32;
        self.before[at % WINDOW] = earlier;
        Some(earlier)
    }

    /// The longest match for what is at `at` among those looked at: length and distance; a length of 0 without one.
    fn find(&mut self, input: &[u8], at: usize) -> (usize, usize) {
        let Some(mut place) = self.remember(input, at) else { return (0, 0) };
        let here = &input[at..input.len().min(at + LONGEST)];
        let (mut length, mut found, mut last) = (LEAST, 0, 0);
        for _ in 0..DEPTH {
            // Of low bits only, so it may be that of a place long gone: the bytes there tell.
            let distance = (at as u32).wrapping_sub(place) as usize;
            if distance <= last || distance > WINDOW || distance > at || length == here.len() {
                break;
            }
            last = distance;
            let there = &input[at - distance..];
            if there[length] == here[length] {
                let same = same(there, here);
                if same > length {
                    (length, found) = (same, distance);
                    if length >= GOOD {
                        break;
                    }
                }
            }
            place = self.before[(at - distance) % WINDOW];
        }
        if found > 0 { (length, found) } else { (0, 0) }
    }

    /// Writes the tokens as one block.
    fn block(&mut self, last: bool, sink: &mut Sink<'_>) {
        self.literals[END] += 1;
        let (mut literals, mut distances) = ([0; LITERALS], [0; DISTANCES]);
        code_lengths(&self.literals, 15, &mut literals);
        code_lengths(&self.distances, 15, &mut distances);
        let header = Header::of(&literals, &distances);
        let size = |lengths: &[u8], counts: &[u32]| -> u64 {
            lengths.iter().zip(counts).map(|(&length, &count)| u64::from(length) * u64::from(count)).sum()
        };
        let own = header.size() + size(&literals, &self.literals) + size(&distances, &self.distances);
        let fixed = fixed();
        let other = size(&fixed.0, &self.literals) + size(&fixed.1, &self.distances);
        self.put(u32::from(last), 1, sink);
        if own < other {
            self.put(2, 2, sink);
            header.write(self, sink);
        } else {
            self.put(1, 2, sink);
            (literals, distances) = fixed;
        }
        let (mut literal_codes, mut distance_codes) = ([0; LITERALS], [0; DISTANCES]);
        codes(&literals, &mut literal_codes);
        codes(&distances, &mut distance_codes);
        for at in 0..self.count {
            let token = self.tokens[at];
            if token & MATCH == 0 {
                let literal = token as usize;
                self.put(literal_codes[literal].into(), literals[literal].into(), sink);
                continue;
            }
            let (code, extra) = length_code((token >> 16 & 0xff) as usize + 3);
            self.put(literal_codes[code].into(), literals[code].into(), sink);
            self.put(extra.0, extra.1, sink);
            let (code, extra) = distance_code((token & 0x7fff) as usize + 1);
            self.put(distance_codes[code].into(), distances[code].into(), sink);
            self.put(extra.0, extra.1, sink);
        }
        self.put(literal_codes[END].into(), literals[END].into(), sink);
        (self.count, self.literals, self.distances) = (0, [0; LITERALS], [0; DISTANCES]);
    }

    /// Writes the low `count` bits of `value`, at most 16.
    fn put(&mut self, value: u32, count: u32, sink: &mut Sink<'_>) {
        self.bits |= u64::from(value) << self.bit_count;
        self.bit_count += count;
        while self.bit_count >= 8 {
            self.byte(self.bits as u8, sink);
            self.bits >>= 8;
            self.bit_count -= 8;
        }
    }

    fn bytes(&mut self, bytes: &[u8], sink: &mut Sink<'_>) {
        for &byte in bytes {
            self.byte(byte, sink);
        }
    }

    fn byte(&mut self, byte: u8, sink: &mut Sink<'_>) {
        if self.filled == OUT {
            self.flush(sink);
        }
        self.out[self.filled] = byte;
        self.filled += 1;
    }

    fn flush(&mut self, sink: &mut Sink<'_>) {
        self.failed = self.failed || !sink(&self.out[..self.filled]);
        self.filled = 0;
    }
}

/// How many bytes are the same, at most those of `here`.
fn same(there: &[u8], here: &[u8]) -> usize {
    let (ours, _) = here.as_chunks::<8>();
    let (theirs, _) = there.as_chunks::<8>();
    let mut length = 0;
    for (a, b) in ours.iter().zip(theirs) {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return length + differ.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + here[length..].iter().zip(&there[length..]).take_while(|(a, b)| a == b).count()
}

/// The code of a length from 3 to 258; the value and number of the bits behind it.
fn length_code(length: usize) -> (usize, (u32, u32)) {
    let from = (length - 3) as u32;
    if length == LONGEST {
        return (285, (0, 0));
    }
    let bits = from.max(4).ilog2() - 2;
    (257 + (4 * bits + (from >> bits)) as usize, (from & ((1 << bits) - 1), bits))
}

/// The code of a distance from 1 to 32768; the value and number of the bits behind it.
fn distance_code(distance: usize) -> (usize, (u32, u32)) {
    let from = (distance - 1) as u32;
    let bits = from.max(2).ilog2() - 1;
    ((2 * bits + (from >> bits)) as usize, (from & ((1 << bits) - 1), bits))
}

/// The lengths of the fixed codes (RFC 1951, 3.2.6).
fn fixed() -> ([u8; LITERALS], [u8; DISTANCES]) {
    let mut literals = [8; LITERALS];
    literals[144..256].fill(9);
    literals[256..280].fill(7);
    (literals, [5; DISTANCES])
}

/// Finds the lengths of a Huffman code for symbols that occur so often, none longer than `limit`. There are always two
/// codes, since a code of one symbol is not whole.
fn code_lengths(counts: &[u32], limit: usize, lengths: &mut [u8]) {
    lengths.fill(0);
    // The symbols that occur, rarest first.
    let mut symbols = [(0_u32, 0_u16); LITERALS];
    let mut used = 0;
    for (symbol, &count) in counts.iter().enumerate() {
        if count > 0 {
            let mut at = used;
            while at > 0 && symbols[at - 1].0 > count {
                symbols[at] = symbols[at - 1];
                at -= 1;
            }
            symbols[at] = (count, symbol as u16);
            used += 1;
        }
    }
    if used < 2 {
        let only = usize::from(symbols[0].1);
        lengths[only] = 1;
        lengths[usize::from(only == 0)] = 1;
        return;
    }
    // The tree from its leaves: the two lightest of leaves and knots become one knot. Knots come in order of weight.
    let mut weights = [0_u32; LITERALS];
    let (mut leaf_above, mut knot_above) = ([0_u16; LITERALS], [0_u16; LITERALS]);
    let (mut leaf, mut knot) = (0, 0);
    for made in 0..used - 1 {
        for _ in 0..2 {
            if leaf < used && (knot >= made || symbols[leaf].0 <= weights[knot]) {
                weights[made] += symbols[leaf].0;
                leaf_above[leaf] = made as u16;
                leaf += 1;
            } else {
                weights[made] += weights[knot];
                knot_above[knot] = made as u16;
                knot += 1;
            }
        }
    }
    // From the root down: how many leaves there are at each depth.
    let mut depths = [0_u16; LITERALS];
    for at in (0..used - 2).rev() {
        depths[at] = depths[usize::from(knot_above[at])] + 1;
    }
    let mut at_depth = [0_u32; 16];
    for &above in &leaf_above[..used] {
        at_depth[(usize::from(depths[usize::from(above)]) + 1).min(limit)] += 1;
    }
    // Too deep ones were put at the limit, where there is no room for all: others go down to make it.
    let mut room: u32 =
        at_depth.iter().enumerate().skip(1).map(|(depth, count)| count << (limit - depth.min(limit))).sum();
    while room > 1 << limit {
        at_depth[limit] -= 1;
        if let Some(depth) = (1..limit).rev().find(|&depth| at_depth[depth] > 0) {
            at_depth[depth] -= 1;
            at_depth[depth + 1] += 2;
        }
        room -= 1;
    }
    let mut rarest = symbols[..used].iter();
    for depth in (1..=limit).rev() {
        for (_, symbol) in rarest.by_ref().take(at_depth[depth] as usize) {
            lengths[usize::from(*symbol)] = depth as u8;
        }
    }
}

/// The canonical codes of these lengths, as they are written: the first bit lowest.
fn codes(lengths: &[u8], codes: &mut [u16]) {
    let mut counts = [0_u16; 16];
    for &length in lengths {
        counts[usize::from(length)] += 1;
    }
    counts[0] = 0;
    let mut next = [0_u16; 16];
    for length in 1..16 {
        next[length] = (next[length - 1] + counts[length - 1]) << 1;
    }
    for (&length, code) in lengths.iter().zip(codes) {
        if length > 0 {
            let own = &mut next[usize::from(length)];
            *code = own.reverse_bits() >> (16 - length);
            *own = own.wrapping_add(1);
        }
    }
}

/// What stands before the tokens of a block with codes of its own (RFC 1951, 3.2.7).
struct Header {
    literals: usize,
    distances: usize,
    /// Lengths and repetitions, each with the value of the bits behind it.
    steps: [(u8, u8); LITERALS + DISTANCES],
    count: usize,
    lengths: [u8; LENGTHS],
    ordered: usize,
}

impl Header {
    fn of(literals: &[u8; LITERALS], distances: &[u8; DISTANCES]) -> Self {
        let used = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|&length| length > 0).map_or(least, |last| (last + 1).max(least))
        };
        let (literal_count, distance_count) = (used(literals, END + 1), used(distances, 1));
        let mut all = [0; LITERALS + DISTANCES];
        all[..literal_count].copy_from_slice(&literals[..literal_count]);
        all[literal_count..literal_count + distance_count].copy_from_slice(&distances[..distance_count]);
        let all = &all[..literal_count + distance_count];
        let mut header = Self {
            literals: literal_count,
            distances: distance_count,
            steps: [(0, 0); LITERALS + DISTANCES],
            count: 0,
            lengths: [0; LENGTHS],
            ordered: 0,
        };
        let mut at = 0;
        while at < all.len() {
            let run = all[at..].iter().take_while(|&&length| length == all[at]).count();
            let (step, taken) = match (all[at], run) {
                (0, 11..) => ((18, run.min(138) - 11), run.min(138)),
                (0, 3..) => ((17, run - 3), run),
                // Repeats the one before.
                (length, 3..) if at > 0 && all[at - 1] == length => ((16, run.min(6) - 3), run.min(6)),
                (length, _) => ((length, 0), 1),
            };
            header.steps[header.count] = (step.0, step.1 as u8);
            header.count += 1;
            at += taken;
        }
        let mut counts = [0; LENGTHS];
        for &(step, _) in &header.steps[..header.count] {
            counts[usize::from(step)] += 1;
        }
        code_lengths(&counts, 7, &mut header.lengths);
        let last = ORDER.iter().rposition(|&step| header.lengths[usize::from(step)] > 0);
        header.ordered = last.map_or(4, |last| (last + 1).max(4));
        header
    }

    fn size(&self) -> u64 {
        let steps = self.steps[..self.count].iter();
        let steps: u32 =
            steps.map(|&(step, _)| u32::from(self.lengths[usize::from(step)]) + step_bits(step)).sum();
        u64::from(14 + 3 * self.ordered as u32 + steps)
    }

    fn write(&self, to: &mut Encoder, sink: &mut Sink<'_>) {
        to.put((self.literals - 257) as u32, 5, sink);
        to.put((self.distances - 1) as u32, 5, sink);
        to.put((self.ordered - 4) as u32, 4, sink);
        for &step in &ORDER[..self.ordered] {
            to.put(self.lengths[usize::from(step)].into(), 3, sink);
        }
        let mut step_codes = [0; LENGTHS];
        codes(&self.lengths, &mut step_codes);
        for &(step, extra) in &self.steps[..self.count] {
            to.put(step_codes[usize::from(step)].into(), self.lengths[usize::from(step)].into(), sink);
            to.put(extra.into(), step_bits(step), sink);
        }
    }
}

fn step_bits(step: u8) -> u32 {
    match step {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

/// Goes on with a CRC-32 over `bytes`.
fn checksum(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| CRC[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

/// CRC-32 of each byte.
static CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ value >> 1 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};
