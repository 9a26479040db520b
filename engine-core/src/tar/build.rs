//! Archives by hand, sound and unsound, for tests.

/// Builds one header block; every field can be overwritten before the checksum is made.
#[derive(Clone, Debug)]
pub(crate) struct Block(pub(crate) [u8; 512]);

impl Block {
    pub(crate) fn ustar(name: &[u8], typeflag: u8, size: u64) -> Self {
        let mut block = Self([0; 512]);
        block.put(0, &name[..name.len().min(100)]);
        block.octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0).octal(124, 12, size).octal(
            136,
            12,
            1_700_000_000,
        );
        block.0[156] = typeflag;
        block.put(257, b"ustar\x0000");
        block.octal(329, 8, 0).octal(337, 8, 0);
        block
    }

    pub(crate) fn gnu(name: &[u8], typeflag: u8, size: u64) -> Self {
        let mut block = Self::ustar(name, typeflag, size);
        block.put(257, b"ustar  \0");
        block
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn octal(&mut self, at: usize, width: usize, value: u64) -> &mut Self {
        let text = format!("{value:0w$o}\0", w = width - 1);
        self.put(at, text.as_bytes())
    }

    pub(crate) fn mode(&mut self, mode: u32) -> &mut Self {
        self.octal(100, 8, mode.into())
    }

    pub(crate) fn owner(&mut self, uid: u32, gid: u32) -> &mut Self {
        self.octal(108, 8, uid.into()).octal(116, 8, gid.into())
    }

    pub(crate) fn link(&mut self, target: &[u8]) -> &mut Self {
        self.put(157, &target[..target.len().min(100)])
    }

    pub(crate) fn device(&mut self, major: u32, minor: u32) -> &mut Self {
        self.octal(329, 8, major.into()).octal(337, 8, minor.into())
    }

    pub(crate) fn seal(&self) -> [u8; 512] {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// An archive under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Archive(pub(crate) Vec<u8>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn block(&mut self, block: &Block) -> &mut Self {
        self.0.extend_from_slice(&block.seal());
        self
    }

    /// Data with its padding.
    pub(crate) fn data(&mut self, data: &[u8]) -> &mut Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(&mut self, name: &str, data: &[u8]) -> &mut Self {
        self.block(&Block::ustar(name.as_bytes(), b'0', data.len() as u64)).data(data)
    }

    pub(crate) fn dir(&mut self, name: &str, mode: u32) -> &mut Self {
        self.block(Block::ustar(name.as_bytes(), b'5', 0).mode(mode))
    }

    pub(crate) fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        self.block(Block::ustar(name.as_bytes(), b'2', 0).link(target.as_bytes()))
    }

    pub(crate) fn hard_link(&mut self, name: &str, target: &str) -> &mut Self {
        self.block(Block::ustar(name.as_bytes(), b'1', 0).link(target.as_bytes()))
    }

    pub(crate) fn device(&mut self, name: &str, kind: u8, major: u32, minor: u32) -> &mut Self {
        self.block(Block::ustar(name.as_bytes(), kind, 0).device(major, minor))
    }

    /// A PAX header with these records.
    pub(crate) fn pax(&mut self, records: &[(&[u8], &[u8])]) -> &mut Self {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.block(&Block::ustar(b"PaxHeaders/x", b'x', data.len() as u64)).data(&data)
    }

    /// GNU's header for a long name (`L`) or link (`K`).
    pub(crate) fn long(&mut self, typeflag: u8, name: &[u8]) -> &mut Self {
        let mut data = name.to_vec();
        data.push(0);
        self.block(&Block::gnu(b"././@LongLink", typeflag, data.len() as u64)).data(&data)
    }

    pub(crate) fn end(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// One PAX record; its length counts itself.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length.to_string().len() + body != length {
        length = length.to_string().len() + body;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}
