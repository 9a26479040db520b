//! Messages of D-Bus, as far as a client of systemd needs them: written in little endian, read in either order.
//!
//! Source: D-Bus Specification, "Marshaling" and "Message Protocol". Invariant: whatever bytes come in, reading them ends,
//! takes no more memory than they have, and is either a value or [`Malformed`].

/// The largest message that is read; the specification allows 128 MiB, and systemd's answers to us have some hundred bytes.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// The fixed part of a message's head: enough to tell its length.
pub(super) const FIXED: usize = 16;
/// How deep containers may nest in a header field that nobody knows.
const MAX_DEPTH: u32 = 32;

const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// Bytes that are no message of D-Bus, or not the one that was expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// A value of a property.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Text(String),
    Number(u64),
    Bytes(Vec<u8>),
    Pids(Vec<u32>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::Text(_) => "s",
            Self::Number(_) => "t",
            Self::Bytes(_) => "ay",
            Self::Pids(_) => "au",
        }
    }
}

/// Writes values one after the other, each where its alignment wants it.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub(super) fn number(&mut self, value: u32) -> &mut Self {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn boolean(&mut self, value: bool) -> &mut Self {
        self.number(value.into())
    }

    /// A string or an object path.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.byte(0)
    }

    fn signature(&mut self, text: &str) -> &mut Self {
        self.byte(text.len() as u8);
        self.bytes.extend_from_slice(text.as_bytes());
        self.byte(0)
    }

    /// An array of elements with this alignment.
    pub(super) fn array(&mut self, align: usize, elements: impl FnOnce(&mut Self)) -> &mut Self {
        self.number(0);
        let length_at = self.bytes.len() - 4;
        self.align(align);
        let start = self.bytes.len();
        elements(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self
    }

    pub(super) fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => {
                self.boolean(*value);
            }
            Value::Text(text) => {
                self.text(text);
            }
            Value::Number(number) => {
                self.align(8);
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            Value::Bytes(bytes) => {
                self.array(1, |array| array.bytes.extend_from_slice(bytes));
            }
            Value::Pids(pids) => {
                self.array(4, |array| {
                    for pid in pids {
                        array.number(*pid);
                    }
                });
            }
        }
    }

    /// Names with values: `a(sv)`.
    pub(super) fn properties(&mut self, properties: &[(&str, Value)]) -> &mut Self {
        self.array(8, |array| {
            for (name, value) in properties {
                array.align(8);
                array.text(name).variant(value);
            }
        })
    }
}

/// A call of a method: to whom, what, and the arguments with their signature.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) signature: &'a str,
    pub(super) body: Writer,
}

impl Call<'_> {
    pub(super) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut message = Writer::default();
        message.byte(b'l').byte(METHOD_CALL).byte(0).byte(1);
        message.number(self.body.bytes.len() as u32).number(serial);
        let fields = [
            (1, "o", self.path),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.destination),
            (8, "g", self.signature),
        ];
        message.array(8, |array| {
            for (code, kind, text) in fields.iter().filter(|(_, _, text)| !text.is_empty()) {
                array.align(8);
                array.byte(*code).signature(kind);
                if *kind == "g" {
                    array.signature(text)
                } else {
                    array.text(text)
                };
            }
        });
        message.align(8);
        message.bytes.extend_from_slice(&self.body.bytes);
        message.bytes
    }
}

/// Reads values one after the other. Offsets count from the message's first byte.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), Malformed> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text_of(&mut self, length: usize) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)?;
        if self.byte()? == 0 && !text.contains('\0') { Ok(text) } else { Err(Malformed) }
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.number()? as usize;
        self.text_of(length)
    }

    fn signature(&mut self) -> Result<&'a str, Malformed> {
        let length = self.byte()?.into();
        self.text_of(length)
    }

    /// Passes over one value of the type that `signature` begins with; returns the rest of the signature.
    fn skip<'s>(&mut self, signature: &'s [u8], depth: u32) -> Result<&'s [u8], Malformed> {
        let (&kind, rest) = signature.split_first().ok_or(Malformed)?;
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        let size = match kind {
            b'y' => 1,
            b'n' | b'q' => 2,
            b'b' | b'i' | b'u' | b'h' => 4,
            b'x' | b't' | b'd' => 8,
            b's' | b'o' => return self.text().map(|_| rest),
            b'g' => return self.signature().map(|_| rest),
            b'v' => {
                let inner = self.signature()?.as_bytes();
                return if self.skip(inner, depth + 1)?.is_empty() { Ok(rest) } else { Err(Malformed) };
            }
            b'a' => {
                let length = self.number()? as usize;
                let element = *rest.first().ok_or(Malformed)?;
                self.align(if matches!(element, b'x' | b't' | b'd' | b'(' | b'{') { 8 } else { 1 })?;
                self.take(length)?;
                // What is in it does not matter, but how long its type is does.
                return after_type(rest, depth + 1);
            }
            b'(' => {
                self.align(8)?;
                let mut members = rest;
                while members.first() != Some(&b')') {
                    members = self.skip(members, depth + 1)?;
                }
                return Ok(&members[1..]);
            }
            _ => return Err(Malformed),
        };
        self.align(size)?;
        self.take(size)?;
        Ok(rest)
    }
}

/// What follows the one complete type that `signature` begins with.
fn after_type(signature: &[u8], depth: u32) -> Result<&[u8], Malformed> {
    let (&kind, rest) = signature.split_first().ok_or(Malformed)?;
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let close = match kind {
        b'a' => return after_type(rest, depth + 1),
        b'(' => b')',
        b'{' => b'}',
        b')' | b'}' => return Err(Malformed),
        _ => return Ok(rest),
    };
    let mut members = rest;
    while members.first() != Some(&close) {
        members = after_type(members, depth + 1)?;
    }
    Ok(&members[1..])
}

/// A message that came in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// Which of our calls it answers.
    pub(super) reply_to: Option<u32>,
    pub(super) member: String,
    /// The name of an error.
    pub(super) error: String,
    signature: String,
    bytes: Vec<u8>,
    body_at: usize,
}

impl Message {
    /// How long the message is that begins with `fixed`.
    pub(super) fn length(fixed: &[u8; FIXED]) -> Result<usize, Malformed> {
        let big = match fixed[0] {
            b'l' => false,
            b'B' => true,
            _ => return Err(Malformed),
        };
        if fixed[3] != 1 {
            return Err(Malformed);
        }
        let mut reader = Reader { bytes: fixed, at: 4, big };
        let body = reader.number()? as usize;
        let _serial = reader.number()?;
        let fields = reader.number()? as usize;
        if body > MAX_MESSAGE || fields > MAX_MESSAGE {
            return Err(Malformed);
        }
        let length = (FIXED + fields).next_multiple_of(8) + body;
        if length > MAX_MESSAGE { Err(Malformed) } else { Ok(length) }
    }

    /// Reads a whole message.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or(Malformed)?;
        if Self::length(fixed)? != bytes.len() {
            return Err(Malformed);
        }
        let (kind, big) = (fixed[1], fixed[0] == b'B');
        let mut reader = Reader { bytes: &bytes, at: 12, big };
        let end = FIXED + reader.number()? as usize;
        let (mut reply_to, mut member, mut error, mut signature) = (None, "", "", "");
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match (code, kind) {
                (3, "s") => member = reader.text()?,
                (4, "s") => error = reader.text()?,
                (5, "u") => reply_to = Some(reader.number()?),
                (8, "g") => signature = reader.signature()?,
                _ if reader.skip(kind.as_bytes(), 0)?.is_empty() => {}
                _ => return Err(Malformed),
            }
        }
        if reader.at != end {
            return Err(Malformed);
        }
        let (member, error, signature) = (member.to_owned(), error.to_owned(), signature.to_owned());
        let body_at = end.next_multiple_of(8);
        Ok(Self { kind, reply_to, member, error, signature, body_at, bytes })
    }

    fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.bytes, at: self.body_at, big: self.bytes[0] == b'B' }
    }

    /// The strings that the body begins with, passing over numbers between them; a variant counts as what is in it.
    pub(super) fn texts<const N: usize>(&self) -> Result<[&str; N], Malformed> {
        let mut body = self.body();
        let mut found = [""; N];
        let mut count = 0;
        let mut signature = self.signature.as_bytes();
        while count < N {
            signature = match signature.split_first() {
                Some((b's' | b'o', rest)) => {
                    found[count] = body.text()?;
                    count += 1;
                    rest
                }
                Some((b'v', rest)) => {
                    if !matches!(body.signature()?, "s" | "o") {
                        return Err(Malformed);
                    }
                    found[count] = body.text()?;
                    count += 1;
                    rest
                }
                Some(_) => body.skip(signature, 0)?,
                None => return Err(Malformed),
            };
        }
        Ok(found)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
pub(super) mod tests;
