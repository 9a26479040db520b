//! Records: the cursor over a body, the walk from one to the next, and bodies of a few plain fields.
//!
//! Bodies with fields of their own are in `process`, `mounts` and `supervision`.

use core::ffi::CStr;

use super::MAX_PLAN;

/// A cursor over the body of one record.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(count)?;
        self.bytes = tail;
        Some(head)
    }

    /// Reads a `u32`.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Reads a `u64`.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Reads a text.
    pub fn text(&mut self) -> Option<&'a CStr> {
        let length = self.u32()? as usize;
        CStr::from_bytes_with_nul(self.take(length)?).ok()
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.bytes)
    }

    pub(super) fn done(&self) -> Option<()> {
        self.bytes.is_empty().then_some(())
    }
}

/// One record: its tag and its body.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// One of [`super::tag`].
    pub tag: u16,
    /// The body, unpadded.
    pub body: Reader<'a>,
}

impl<'a> Record<'a> {
    /// Reads a body that is one text.
    pub fn text(&self) -> Option<&'a CStr> {
        let mut body = self.body;
        let text = body.text()?;
        body.done()?;
        Some(text)
    }

    /// Reads a body that is two texts.
    pub fn pair(&self) -> Option<(&'a CStr, &'a CStr)> {
        let mut body = self.body;
        let pair = (body.text()?, body.text()?);
        body.done()?;
        Some(pair)
    }

    /// Reads a body that is a number and a text.
    pub fn number_and_text(&self) -> Option<(u32, &'a CStr)> {
        let mut body = self.body;
        let pair = (body.u32()?, body.text()?);
        body.done()?;
        Some(pair)
    }

    /// Reads a body of one `u32`.
    pub fn number(&self) -> Option<u32> {
        let mut body = self.body;
        let number = body.u32()?;
        body.done()?;
        Some(number)
    }

    /// Reads a body of two `u32`: rows and columns of a [`super::tag::TTY_SIZE`], ids of an [`super::tag::OWNER`].
    pub fn two_numbers(&self) -> Option<(u32, u32)> {
        let mut body = self.body;
        let numbers = (body.u32()?, body.u32()?);
        body.done()?;
        Some(numbers)
    }

    /// Reads a body of a `u32` and what the kernel takes as it is: 1 to 1,024 words of 8 bytes.
    pub fn number_and_words(&self) -> Option<(u32, &'a [u8])> {
        let mut body = self.body;
        let number = body.u32()?;
        body.u32()?;
        let words = body.rest();
        (!words.is_empty() && words.len().is_multiple_of(8) && words.len() <= 8192).then_some((number, words))
    }

    /// Reads a [`super::tag::CONFIG`] body: clone flags and options.
    pub fn config(&self) -> Option<(u64, u32)> {
        let mut body = self.body;
        let config = (body.u64()?, body.u32()?);
        body.done()?;
        Some(config)
    }

    /// Returns the body as it is.
    pub fn bytes(&self) -> &'a [u8] {
        self.body.bytes
    }
}

/// Takes the first record off `walk`. `None` when there is no sound one.
pub(super) fn next<'a>(walk: &mut &'a [u8]) -> Option<Record<'a>> {
    let head = walk.get(..8)?;
    let tag = u16::from_le_bytes([head[0], head[1]]);
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if head[2] != 0 || head[3] != 0 || length > MAX_PLAN {
        return None;
    }
    let body = walk.get(8..8 + length)?;
    *walk = walk.get(8 + length.next_multiple_of(8)..)?;
    Some(Record { tag, body: Reader { bytes: body } })
}
