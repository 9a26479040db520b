//! SECURITY C3: what we read is what Python's tarfile, GNU tar and bsdtar read, or we refuse.
//!
//! Archives are generated from a fixed seed: sound ones, and ones whose headers disagree with each other.
//! `ENGINE_TEST_ARCHIVES` sets their number. A reader that fails itself has no opinion.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use engine_testkit::require;

use super::build::{Archive, Block, record};
use super::*;

/// xorshift64*: the same archives on every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.next(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next(from.len())]
    }

    fn name(&mut self) -> Vec<u8> {
        let length = self.pick(&[1, 3, 8, 20, 99, 100, 101, 160]);
        let mut name: Vec<u8> = (0..length).map(|_| self.pick(b"abcdefgh-_.xyz0123")).collect();
        if length > 8 && self.chance(2) {
            name[length / 2] = b'/';
        }
        name[0] = b'n';
        name
    }
}

/// Data that is itself an archive: a reader that loses count shows it.
fn smuggled(random: &mut Random) -> Vec<u8> {
    let mut inner = Archive::new();
    for _ in 0..=random.next(2) {
        inner.file("SMUGGLED", b"boo");
    }
    let mut bytes = inner.0;
    bytes.truncate(bytes.len() - random.pick(&[0, 0, 512, 100]));
    bytes
}

fn generate(seed: u64) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let r = &mut random;
    let mut a = Archive::new();
    for _ in 0..=r.next(4) {
        item(r, &mut a);
    }
    let mut bytes = match r.next(8) {
        0 => a.0,
        1 => [a.0, vec![0; 512]].concat(),
        2 => [a.end(), smuggled(r)].concat(),
        3 => [a.0, vec![0; 512], smuggled(r)].concat(),
        _ => a.end(),
    };
    if r.chance(12) {
        let at = r.next(bytes.len().max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << r.next(8);
        }
    }
    if r.chance(20) {
        bytes.truncate(r.next(bytes.len() + 1));
    }
    bytes
}

fn item(r: &mut Random, a: &mut Archive) {
    let data = if r.chance(2) { smuggled(r) } else { vec![b'x'; r.pick(&[0, 1, 511, 512, 513, 1500])] };
    let name = r.name();
    let length = data.len() as u64;
    let declared =
        if r.chance(4) { r.pick(&[0, 512, 1024, length + 512, length.saturating_sub(1)]) } else { length };
    let gnu = r.chance(3);
    let kind = if r.chance(4) { r.pick(b"\x0012345670DLKMNSVxgXA") } else { b'0' };
    let size = if matches!(kind, b'1'..=b'6') && !r.chance(4) { 0 } else { declared };
    let mut block = if gnu { Block::gnu(&name, kind, size) } else { Block::ustar(&name, kind, size) };
    if matches!(kind, b'1' | b'2') {
        block.link(&r.name());
    }
    if r.chance(10) {
        // Base-256 says the same, or something else.
        let value = r.pick(&[size, size, 0, 512]);
        let mut field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
        block.put(124, &field);
    }
    if r.chance(12) {
        let text: &[u8] = r.pick(&[
            &b"           8"[..],
            b"0000000010 \0",
            b"10\0         ",
            b"-1         \0",
            b"+10\0",
            b"0x200\0",
            b" \0\0\0",
            b"\xff\xff\xff\xff",
        ]);
        block.put(124, text);
    }
    if r.chance(15) {
        block.put(
            257,
            r.pick(&[&b"ustar  \0"[..], b"ustar\x0000", b"\0\0\0\0\0\0\0\0", b"ustar 00", b"USTAR\x0000"]),
        );
    }
    if !gnu && r.chance(6) {
        block.put(345, r.pick(&[&b"prefix"[..], b"pre/fix/", b"/abs", b"./dot"]));
    }
    if r.chance(20) {
        block.put(508, b"tar\0");
    }
    if r.chance(3) {
        let mut records = Vec::new();
        for _ in 0..=r.next(2) {
            let value = r.name();
            let number = r.pick(&[length, length, 0, 512, 1024]).to_string();
            let (key, value): (&[u8], &[u8]) = match r.next(9) {
                0 | 1 => (b"path", &value),
                2 => (b"linkpath", &value),
                3..=5 => (b"size", number.as_bytes()),
                6 => (b"comment", b"size=512\n10 size=1\n"),
                7 => (b"SCHILY.xattr.user.x", b"\n20 path=evil\n"),
                _ => (b"mtime", b"1.5"),
            };
            records.extend(record(key, value));
        }
        match r.next(15) {
            0 => records.extend(b"7 a=\n"),
            1 => records.extend(b"99 path=x\n"),
            2 => records.extend(b"\0\0\0\0"),
            3 => drop(records.pop()),
            _ => {}
        }
        let kind = if r.chance(8) { b'g' } else { b'x' };
        a.block(&Block::ustar(b"PaxHeader", kind, records.len() as u64)).data(&records);
    }
    if r.chance(6) {
        let long = r.name();
        a.long(r.pick(b"LLK"), &long);
    }
    if r.chance(12) {
        return sparse(r, a);
    }
    a.block(&block).data(&data);
}

fn sparse(r: &mut Random, a: &mut Archive) {
    let real = r.pick(&[600_u64, 2048, 4096]);
    let offset = r.pick(&[0_u64, 512, 1024, 5000]);
    let length = r.pick(&[0_u64, 4, 512]);
    let data = vec![b's'; usize::try_from(length).unwrap()];
    let (real_text, map) = (real.to_string(), format!("{offset},{length}"));
    match r.next(3) {
        0 => {
            let mut block = Block::gnu(b"nsparse", b'S', length);
            block.octal(386, 12, offset).octal(398, 12, length).octal(483, 12, real);
            a.block(&block).data(&data);
        }
        1 => {
            a.pax(&[
                (b"GNU.sparse.size", real_text.as_bytes()),
                (b"GNU.sparse.numblocks", b"1"),
                (b"GNU.sparse.map", map.as_bytes()),
                (b"GNU.sparse.name", b"nsparse01"),
            ])
            .file("nstored", &data);
        }
        _ => {
            let mut stored = format!("1\n{offset}\n{length}\n").into_bytes();
            stored.resize(512, 0);
            stored.extend_from_slice(&data);
            a.pax(&[
                (b"GNU.sparse.major", b"1"),
                (b"GNU.sparse.minor", b"0"),
                (b"GNU.sparse.name", b"nsparse10"),
                (b"GNU.sparse.realsize", real_text.as_bytes()),
            ])
            .file("nstored", &stored);
        }
    }
}

/// One entry as every reader can tell it: name, `f`ile or not, size.
type Line = (String, bool, u64);

fn plain(name: &str) -> String {
    name.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

fn ours(bytes: &[u8]) -> Option<Vec<Line>> {
    let mut reader = ArchiveReader::new(bytes, TarLimits::default());
    let mut entry = Entry::default();
    let mut lines = Vec::new();
    loop {
        match reader.next_entry(&mut entry) {
            Ok(true) => {
                let name = plain(&String::from_utf8_lossy(&entry.path));
                lines.push((name, entry.kind == EntryKind::File, entry.size));
            }
            Ok(false) => return Some(lines),
            Err(_) => return None,
        }
    }
}

const PYTHON: &str = r#"
import sys, io, struct, tarfile
data = sys.stdin.buffer
while True:
    head = data.read(4)
    if len(head) < 4: break
    body = data.read(struct.unpack("<I", head)[0])
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as archive:
            lines = ["%s\t%d\t%d" % (m.name.encode("utf-8", "surrogateescape").hex(), m.isreg(), m.size if m.isreg() else 0) for m in archive.getmembers()]
        print("ok " + " ".join(line.replace("\t", ",") for line in lines))
    except Exception as error:
        print("error")
"#;

fn python(archives: &[Vec<u8>]) -> Vec<Option<Vec<Line>>> {
    let mut child = Command::new("python3")
        .args(["-c", PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            for archive in archives {
                stdin.write_all(&u32::try_from(archive.len()).unwrap().to_le_bytes()).unwrap();
                stdin.write_all(archive).unwrap();
            }
        });
        child.wait_with_output().unwrap()
    });
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| {
        let entries = line.strip_prefix("ok")?;
        Some(
            entries
                .split_whitespace()
                .map(|entry| {
                    let mut parts = entry.split(',');
                    let name = hex::decode(parts.next().unwrap()).unwrap();
                    let file = parts.next().unwrap() == "1";
                    (
                        plain(&String::from_utf8_lossy(&name)),
                        file,
                        parts.next().and_then(|size| size.parse().ok()).unwrap_or(u64::MAX),
                    )
                })
                .collect(),
        )
    };
    text.lines().map(parse).collect()
}

/// Lists with a command that reads standard input; `None` if it fails or warns.
fn listing(program: &str, arguments: &[&str], archive: &[u8]) -> Option<String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(file)
        .output()
        .unwrap();
    (output.status.success() && output.stderr.is_empty())
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn gnu_tar(archive: &[u8]) -> Option<Vec<Line>> {
    let text = listing("tar", &["-tvf", "-", "--numeric-owner", "--quoting-style=literal"], archive)?;
    text.lines()
        .map(|line| {
            let mut fields = line.split_whitespace();
            // A contiguous file, type 7, is a file.
            let file = fields.next()?.starts_with(['-', 'C']);
            let size = fields.nth(1)?;
            let name = fields.nth(2)?;
            Some((plain(name), file, if file { size.parse().ok()? } else { 0 }))
        })
        .collect()
}

#[test]
fn c3_every_reader_sees_the_same_entries_or_we_refuse() {
    require!("python3", "tar", "bsdtar");
    let count = std::env::var("ENGINE_TEST_ARCHIVES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let archives: Vec<Vec<u8>> = (0..count).map(generate).collect();
    let (mut accepted, mut problems, mut opinions) = (0, String::new(), [0_u32; 3]);
    let mut report = |index: usize, reader: &str, ours: &[Line], theirs: &[Line]| {
        if problems.len() < 3000 {
            let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
            let cut = |lines: &[Line]| {
                lines.get(at).map(|(name, file, size)| {
                    (name.len(), name[name.len().saturating_sub(80)..].to_owned(), *file, *size)
                })
            };
            writeln!(problems, "{index}: {reader}\n  ours   {:?}\n  theirs {:?}", cut(ours), cut(theirs))
                .unwrap();
        }
    };
    let theirs = python(&archives);
    assert_eq!(theirs.len(), archives.len());
    for (index, (archive, python)) in archives.iter().zip(theirs).enumerate() {
        let Some(ours) = ours(archive) else { continue };
        accepted += 1;
        if let Some(python) = python {
            opinions[0] += 1;
            if python != ours {
                report(index, "Python", &ours, &python);
            }
        }
        // A process for each: a part of them.
        if index % 16 != 0 {
            continue;
        }
        if let Some(gnu) = gnu_tar(archive) {
            opinions[1] += 1;
            if gnu != ours {
                report(index, "GNU tar", &ours, &gnu);
            }
        }
        if let Some(text) = listing("bsdtar", &["-tf", "-"], archive) {
            opinions[2] += 1;
            let names: Vec<Line> = text.lines().map(|name| (plain(name), false, 0)).collect();
            if names.iter().map(|line| &line.0).ne(ours.iter().map(|line| &line.0)) {
                report(index, "bsdtar", &ours, &names);
            }
        }
    }
    println!("{count} archives, {accepted} accepted; compared with Python, GNU tar, bsdtar: {opinions:?}");
    assert!(problems.is_empty(), "{problems}");
    assert!(accepted > archives.len() / 10);
}
