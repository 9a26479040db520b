//! Attributes as netlink(7) has them: length, type, value, padding. nf_tables has its numbers in network byte order.

const NESTED: u16 = 1 << 15;
const HEADER: usize = 4;

/// A list of attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A text with the zero byte that ends it.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(crate) fn nested(mut self, kind: u16, inner: &Self) -> Self {
        self.put(kind | NESTED, &inner.0);
        self
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = HEADER + value.len();
        // Names, keys and rules of this crate are far below the limit of 64 KiB; longer lists are cut by their writers.
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let inner = Attributes::new().text(1, "ab");
        assert_eq!(inner.as_bytes(), [7_u16.to_ne_bytes(), 1_u16.to_ne_bytes(), *b"ab", [0, 0]].concat());
        let outer = Attributes::new().nested(2, &inner).number(3, 1);
        assert_eq!(outer.as_bytes()[..4], [12_u16.to_ne_bytes(), (2 | NESTED).to_ne_bytes()].concat());
        assert_eq!(outer.as_bytes()[16..], [0, 0, 0, 1]);
    }
}
