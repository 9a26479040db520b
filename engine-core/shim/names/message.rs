//! DNS messages (RFC 1035, RFC 6891): reading a question, building an answer, knowing the answer to one.
//!
//! Pure: bytes in, bytes out, no memory of its own. engine-core compiles this file too (by `#[path]`), for its tests.
//! Invariant: whatever bytes come, nothing here reads outside them, panics or loops for long.

/// Bytes of a message's header.
pub const HEADER: usize = 12;
/// Longest name in text form, without the root's dot.
pub const MAX_NAME: usize = 253;
/// What fits into an answer over UDP when the question does not say more (RFC 1035, 2.3.4).
pub const PLAIN_LIMIT: usize = 512;
/// What is said to fit into a question over UDP (RFC 6891, 6.2.5), and most of what is offered for an answer.
pub const UDP_LIMIT: usize = 4096;
/// How long an answer of ours may be remembered, in seconds: as Docker's.
const TTL: u32 = 600;

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
pub const OPT: u16 = 41;
pub const DS: u16 = 43;
pub const DNSKEY: u16 = 48;
pub const IXFR: u16 = 251;
pub const AXFR: u16 = 252;
pub const ANY: u16 = 255;
pub const IN: u16 = 1;

/// Response codes (RFC 1035, 4.1.1).
pub mod rcode {
    pub const NO_ERROR: u8 = 0;
    pub const FORMAT_ERROR: u8 = 1;
    pub const SERVER_FAILURE: u8 = 2;
    pub const NO_SUCH_NAME: u8 = 3;
    pub const NOT_IMPLEMENTED: u8 = 4;
    pub const REFUSED: u8 = 5;
}

/// What a message asks.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The message up to the end of its question.
    head: &'a [u8],
    pub kind: u16,
    pub class: u16,
    /// How many labels the name has.
    pub labels: usize,
    /// Whether the question can carry a longer answer than a plain one, and how long.
    pub edns: Option<u16>,
}

/// Why a message is no question that can be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Not even worth an answer: too short, or an answer itself.
    Ignored,
    /// To be answered with this code.
    Refused(u8),
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// Where a name ends.
struct Skipped {
    end: usize,
    labels: usize,
    /// Its end is elsewhere in the message.
    points: bool,
}

/// Skips a name at `at`, with or without a pointer at its end.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<Skipped> {
    let mut labels = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => return Some(Skipped { end: at + 1, labels, points: false }),
            1..=63 => {
                at += 1 + length;
                labels += 1;
            }
            // A pointer ends a name (RFC 1035, 4.1.4).
            192..=255 => {
                bytes.get(at + 1)?;
                return Some(Skipped { end: at + 2, labels, points: true });
            }
            _ => return None,
        }
    }
}

impl<'a> Question<'a> {
    /// Reads a question.
    ///
    /// # Errors
    /// What to make of one that is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let refused = Malformed::Refused(rcode::FORMAT_ERROR);
        if bytes.len() < HEADER || bytes[2] & 0x80 != 0 {
            return Err(Malformed::Ignored);
        }
        if bytes[2] & 0x78 != 0 {
            return Err(Malformed::Refused(rcode::NOT_IMPLEMENTED));
        }
        let count = |at| u16_at(bytes, at).unwrap_or(0);
        if count(4) != 1 {
            return Err(refused);
        }
        let name = skip_name(bytes, HEADER).ok_or(refused)?;
        // A pointer could only lead back into the header.
        if name.end - HEADER > MAX_NAME + 2 || name.points {
            return Err(refused);
        }
        let kind = u16_at(bytes, name.end).ok_or(refused)?;
        let class = u16_at(bytes, name.end + 2).ok_or(refused)?;
        let head = bytes.get(..name.end + 4).ok_or(refused)?;
        let mut question = Question { head, kind, class, labels: name.labels, edns: None };
        let mut at = head.len();
        for _ in 0..u32::from(count(6)) + u32::from(count(8)) + u32::from(count(10)) {
            let end = skip_name(bytes, at).ok_or(refused)?.end;
            let length = u16_at(bytes, end + 8).ok_or(refused)?;
            if u16_at(bytes, end) == Some(OPT) {
                question.edns = u16_at(bytes, end + 2);
            }
            at = end + 10 + usize::from(length);
            if at > bytes.len() {
                return Err(refused);
            }
        }
        Ok(question)
    }

    /// Where an answer's records begin.
    #[cfg_attr(shim, expect(dead_code, reason = "for tests"))]
    pub fn head_length(&self) -> usize {
        self.head.len()
    }

    /// How long an answer over UDP may be.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_LIMIT, |size| usize::from(size).clamp(PLAIN_LIMIT, UDP_LIMIT))
    }

    /// Writes the name as a text in lower case, without the root's dot. `None` for one that has no such form: a dot within
    /// a label, or what no name of ours has.
    pub fn name<'t>(&self, text: &'t mut [u8; MAX_NAME + 2]) -> Option<&'t [u8]> {
        let (mut at, mut length) = (HEADER, 0);
        loop {
            let count = usize::from(*self.head.get(at)?);
            if count == 0 {
                break;
            }
            if length > 0 {
                text[length] = b'.';
                length += 1;
            }
            for byte in self.head.get(at + 1..at + 1 + count)? {
                if !byte.is_ascii_graphic() || *byte == b'.' {
                    return None;
                }
                *text.get_mut(length)? = byte.to_ascii_lowercase();
                length += 1;
            }
            at += 1 + count;
        }
        text.get(..length)
    }
}

/// Whether `answer` is one to `query`: same number, same question.
pub fn is_answer(answer: &[u8], query: &[u8]) -> bool {
    let Ok(question) = Question::parse(query) else { return false };
    let Some(head) = answer.get(..question.head.len()) else { return false };
    let same_text = |range: core::ops::Range<usize>| head[range.clone()].eq_ignore_ascii_case(&query[range]);
    head[..2] == query[..2]
        && head[2] & 0x80 != 0
        && head[4..6] == query[4..6]
        && same_text(HEADER..head.len())
}

/// The response code of a message.
pub fn code(message: &[u8]) -> u8 {
    message.get(3).map_or(rcode::SERVER_FAILURE, |flags| flags & 0x0f)
}

/// Whether somebody else could have a better answer.
pub fn failed(message: &[u8]) -> bool {
    matches!(code(message), rcode::SERVER_FAILURE | rcode::REFUSED)
}

/// The number of a message, by which its answer is known.
pub fn number(message: &[u8]) -> u16 {
    u16_at(message, 0).unwrap_or(0)
}

/// Gives a message another number.
pub fn set_number(message: &mut [u8], number: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// Writes the answer to what is no question: `query` is at least a header.
pub fn refuse(query: &[u8], code: u8, out: &mut [u8]) -> usize {
    let (Some(to), Some(from)) = (out.get_mut(..HEADER), query.get(..HEADER)) else { return 0 };
    to.copy_from_slice(from);
    to[2] = from[2] & 0x79 | 0x80;
    to[3] = 0x80 | code & 0x0f;
    to[4..].fill(0);
    HEADER
}

/// An answer being put together.
#[derive(Debug)]
pub struct Answer<'a> {
    out: &'a mut [u8],
    length: usize,
    /// Where its records begin, how many bytes each of them has, and how many there are.
    records: usize,
    size: usize,
    count: usize,
    edns: bool,
}

/// Bytes of an OPT record without options.
const OPT_SIZE: usize = 11;
/// Bytes of a record before its data, with a name that points to the question's.
const RECORD: usize = 12;

impl<'a> Answer<'a> {
    /// Begins the answer to `question`. `None` if `out` is too small for that.
    pub fn new(question: &Question<'_>, code: u8, out: &'a mut [u8]) -> Option<Self> {
        let head = question.head;
        out.get_mut(..head.len())?.copy_from_slice(head);
        // An answer: it keeps whether recursion was asked for, and says that it is there.
        out[2] = head[2] & 0x79 | 0x80;
        out[3] = 0x80 | code & 0x0f;
        out[6..HEADER].fill(0);
        let length = head.len();
        Some(Answer { out, length, records: length, size: 0, count: 0, edns: question.edns.is_some() })
    }

    /// Adds a record of the question's name. All have data of the same length. One that does not fit is left out.
    pub fn push(&mut self, kind: u16, data: &[u8]) {
        let (Ok(size), Some(room)) =
            (u16::try_from(data.len()), self.out.get_mut(self.length..self.length + RECORD + data.len()))
        else {
            return;
        };
        let (head, body) = room.split_at_mut(RECORD);
        // The name is where the question has it.
        head[..2].copy_from_slice(&[0xc0, HEADER as u8]);
        head[2..4].copy_from_slice(&kind.to_be_bytes());
        head[4..6].copy_from_slice(&IN.to_be_bytes());
        head[6..10].copy_from_slice(&TTL.to_be_bytes());
        head[10..].copy_from_slice(&size.to_be_bytes());
        body.copy_from_slice(data);
        self.size = RECORD + data.len();
        self.length += self.size;
        self.count += 1;
    }

    /// Adds a record whose data is the name made of `parts`, joined by dots. What cannot be a name is left out.
    pub fn push_name(&mut self, kind: u16, parts: [&[u8]; 2]) {
        let mut name = [0; MAX_NAME + 2];
        let mut length = 0;
        for label in parts.iter().flat_map(|part| part.split(|&byte| byte == b'.')) {
            let room = name.get_mut(length..length + 1 + label.len());
            let (Some(room), 1..=63) = (room, label.len()) else { return };
            room[0] = label.len() as u8;
            room[1..].copy_from_slice(label);
            length += 1 + label.len();
        }
        // The root's label.
        if length < name.len() {
            self.push(kind, &name[..=length]);
        }
    }

    /// How many records there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Lets another record be the first: all have the same size. So those who ask share what there is.
    pub fn turn(&mut self, random: u32) {
        if self.count > 1 {
            let by = random as usize % self.count * self.size;
            self.out[self.records..self.length].rotate_left(by);
        }
    }

    /// Ends the answer, which is at most `limit` bytes. What does not fit is left out, and `cut` says that so.
    pub fn finish(mut self, limit: usize, cut: bool) -> usize {
        let tail = if self.edns { OPT_SIZE } else { 0 };
        let mut left_out = false;
        while self.count > 0 && self.length + tail > limit {
            self.length -= self.size;
            self.count -= 1;
            left_out = true;
        }
        if left_out && cut {
            self.out[2] |= 0x02;
        }
        self.out[6..8].copy_from_slice(&(self.count as u16).to_be_bytes());
        if self.edns
            && let Some(room) = self.out.get_mut(self.length..self.length + OPT_SIZE)
        {
            room.fill(0);
            room[1..3].copy_from_slice(&OPT.to_be_bytes());
            room[3..5].copy_from_slice(&(UDP_LIMIT as u16).to_be_bytes());
            self.length += OPT_SIZE;
            self.out[11] = 1;
        }
        self.length
    }
}
