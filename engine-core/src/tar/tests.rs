//! Hand-made archives: what is read, and what is refused.

use super::build::{Archive, Block};
use super::*;

/// Name, kind, link, size and data of an entry.
type Listed = (String, EntryKind, String, u64, Vec<u8>);

fn list(bytes: &[u8]) -> Result<Vec<Listed>, TarError> {
    let mut reader = ArchiveReader::new(bytes, TarLimits::default());
    let mut entry = Entry::default();
    let mut entries = Vec::new();
    while reader.next_entry(&mut entry)? {
        let mut data = Vec::new();
        loop {
            let chunk = reader.data()?;
            if chunk.is_empty() {
                break;
            }
            data.extend_from_slice(chunk);
            let count = chunk.len();
            reader.consume(count);
        }
        entries.push((show(&entry.path), entry.kind, show(&entry.link), entry.size, data));
    }
    Ok(entries)
}

fn refused(what: &str, bytes: &[u8]) {
    let outcome = list(bytes);
    assert!(matches!(outcome, Err(TarError::Malformed { .. } | TarError::Limit(_))), "{what}: {outcome:?}");
}

#[test]
fn c3_sound_archives_are_read() {
    let long = "d/".repeat(150) + "name";
    let mut archive = Archive::new();
    archive
        .dir("dir/", 0o755)
        .file("dir/a", b"hello")
        .file("empty", b"")
        .symlink("s", "dir/a")
        .hard_link("h", "dir/a");
    archive.pax(&[(b"path", long.as_bytes()), (b"size", b"3")]).file("short", b"");
    // PAX size wins: the three bytes are this entry's data.
    archive.data(b"abc");
    archive.long(b'L', long.as_bytes()).long(b'K', b"target/of/link").block(&Block::gnu(b"x", b'2', 0));
    archive.block(Block::ustar(b"v7dir/", 0, 0).put(257, &[0; 255]));
    archive.block(&Block::ustar(b"contiguous", b'7', 1)).data(b"c");
    archive.block(Block::ustar(b"leaf", b'0', 0).put(345, b"pre/fix"));
    let entries = list(&archive.end()).unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| &*entry.0).collect();
    let cut = &long[..200];
    let shown = format!("{cut}…");
    let expected =
        ["dir/", "dir/a", "empty", "s", "h", &shown, &shown, "v7dir/", "contiguous", "pre/fix/leaf"];
    assert_eq!(names, expected);
    assert_eq!(entries[1].4, b"hello");
    assert_eq!((entries[5].3, &*entries[5].4), (3, &b"abc"[..]));
    assert_eq!((entries[6].1, &*entries[6].2), (EntryKind::Symlink, "target/of/link"));
    assert_eq!(entries[7].1, EntryKind::Directory);
}

#[test]
fn c3_the_end_may_be_missing_but_nothing_may_follow_it() {
    let mut archive = Archive::new();
    archive.file("a", b"x");
    assert_eq!(list(&archive.0).unwrap().len(), 1);
    assert_eq!(list(&[]).unwrap().len(), 0);
    assert_eq!(list(&[0; 512]).unwrap().len(), 0);
    assert_eq!(list(&[0; 10240]).unwrap().len(), 0);
    let hidden = [archive.end(), archive.end()].concat();
    refused("a second archive behind the end", &hidden);
    let lone = [vec![0; 512], archive.end()].concat();
    refused("an archive behind a lone zero block", &lone);
    for cut in [1, 100, 511, 513, 600, 1023] {
        refused("truncated", &archive.0[..cut]);
    }
}

#[test]
fn c3_ambiguous_archives_are_refused() {
    let make = |build: &dyn Fn(&mut Archive)| {
        let mut archive = Archive::new();
        build(&mut archive);
        archive.end()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "two PAX headers",
            make(&|a| drop(a.pax(&[(b"path", b"a")]).pax(&[(b"path", b"b")]).file("c", b"").clone())),
        ),
        (
            "PAX path and GNU name",
            make(&|a| drop(a.pax(&[(b"path", b"a")]).long(b'L', b"b").file("c", b"").clone())),
        ),
        (
            "PAX link and GNU link",
            make(&|a| drop(a.pax(&[(b"linkpath", b"a")]).long(b'K', b"b").symlink("c", "d").clone())),
        ),
        ("two GNU names", make(&|a| drop(a.long(b'L', b"a").long(b'L', b"b").file("c", b"").clone()))),
        ("extension without entry", make(&|a| drop(a.pax(&[(b"path", b"a")]).clone()))),
        ("long name without entry", make(&|a| drop(a.long(b'L', b"a").clone()))),
        (
            "directory with data",
            make(&|a| drop(a.block(&Block::ustar(b"d", b'5', 5)).data(b"hello").clone())),
        ),
        (
            "directory with PAX size",
            make(&|a| drop(a.pax(&[(b"size", b"5")]).dir("d", 0o755).data(b"hello").clone())),
        ),
        (
            "hard link with data",
            make(&|a| drop(a.block(Block::ustar(b"h", b'1', 512).link(b"x")).data(&[1; 512]).clone())),
        ),
        (
            "symlink with data",
            make(&|a| drop(a.block(Block::ustar(b"h", b'2', 512).link(b"x")).data(&[1; 512]).clone())),
        ),
        ("fifo with data", make(&|a| drop(a.block(&Block::ustar(b"f", b'6', 1)).data(b"x").clone()))),
        (
            "global path",
            make(&|a| {
                let data = build::record(b"path", b"evil");
                a.block(&Block::ustar(b"g", b'g', data.len() as u64)).data(&data).file("c", b"");
            }),
        ),
        (
            "global size",
            make(&|a| {
                let data = build::record(b"size", b"1024");
                a.block(&Block::ustar(b"g", b'g', data.len() as u64)).data(&data).file("c", b"");
            }),
        ),
        ("file with a directory's name", make(&|a| drop(a.file("d/", b"x").clone()))),
        ("unknown type", make(&|a| drop(a.block(&Block::ustar(b"d", b'V', 0)).clone()))),
        ("multi-volume", make(&|a| drop(a.block(&Block::gnu(b"d", b'M', 0)).clone()))),
        ("nameless", make(&|a| drop(a.file("", b"x").clone()))),
        ("link to nothing", make(&|a| drop(a.symlink("a", "").clone()))),
        ("bad magic", make(&|a| drop(a.block(Block::ustar(b"a", b'0', 0).put(257, b"USTAR\0")).clone()))),
        (
            "star",
            make(&|a| drop(a.block(Block::ustar(b"a", b'0', 0).put(508, b"tar\0").put(480, b"1")).clone())),
        ),
        (
            "negative size",
            make(&|a| drop(a.block(Block::ustar(b"a", b'0', 0).put(124, &[0xff; 12])).clone())),
        ),
        (
            "huge size",
            make(&|a| {
                drop(
                    a.block(
                        Block::ustar(b"a", b'0', 0)
                            .put(124, &[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]),
                    )
                    .clone(),
                )
            }),
        ),
        (
            "size that is no number",
            make(&|a| drop(a.block(Block::ustar(b"a", b'0', 0).put(124, b"12 34")).clone())),
        ),
        (
            "owner out of range",
            make(&|a| {
                drop(a.block(Block::ustar(b"a", b'0', 0).put(108, &[0x80, 0, 0, 1, 0, 0, 0, 0])).clone())
            }),
        ),
        ("device out of range", make(&|a| drop(a.device("a", b'3', 5000, 1).clone()))),
        ("embedded NUL in a long name", make(&|a| drop(a.long(b'L', b"a\0b").file("c", b"").clone()))),
        (
            "sparse GNU with PAX size",
            make(&|a| {
                let mut block = Block::gnu(b"s", b'S', 0);
                block.octal(483, 12, 0);
                a.pax(&[(b"size", b"0")]).block(&block);
            }),
        ),
        ("sparse flag in a ustar header", make(&|a| drop(a.block(&Block::ustar(b"s", b'S', 0)).clone()))),
        (
            "sparse map longer than data",
            make(&|a| {
                drop(
                    a.pax(&[
                        (b"GNU.sparse.major", b"1"),
                        (b"GNU.sparse.minor", b"0"),
                        (b"GNU.sparse.name", b"f"),
                        (b"GNU.sparse.realsize", b"100"),
                    ])
                    .file("x", b"1\n0\n")
                    .clone(),
                )
            }),
        ),
        (
            "sparse 1.0 without a name",
            make(&|a| {
                drop(
                    a.pax(&[
                        (b"GNU.sparse.major", b"1"),
                        (b"GNU.sparse.minor", b"0"),
                        (b"GNU.sparse.realsize", b"100"),
                    ])
                    .file("x", &[b'0'; 512])
                    .clone(),
                )
            }),
        ),
        (
            "sparse on a link",
            make(&|a| {
                drop(a.pax(&[(b"GNU.sparse.map", b""), (b"GNU.sparse.size", b"0")]).symlink("x", "y").clone())
            }),
        ),
    ];
    for (what, bytes) in &cases {
        refused(what, bytes);
    }
    let mut flipped = make(&|a| drop(a.file("a", b"").clone()));
    flipped[3] = b'x';
    refused("checksum", &flipped);
}

#[test]
fn c4_limits_of_headers_and_names() {
    let mut archive = Archive::new();
    archive.block(&Block::ustar(b"x", b'x', (1 << 20) + 1));
    refused("PAX header over 1 MiB", &archive.end());
    let mut archive = Archive::new();
    archive.long(b'L', "a/".repeat(2100).as_bytes()).file("x", b"");
    refused("name over 4096 bytes", &archive.end());
    let mut archive = Archive::new();
    archive.pax(&[(b"path", "a/".repeat(2100).as_bytes())]).file("x", b"");
    refused("PAX path over 4096 bytes", &archive.end());
    let mut archive = Archive::new();
    for n in 0..20 {
        archive.file(&n.to_string(), b"");
    }
    let mut reader = ArchiveReader::new(&*archive.0, TarLimits { entries: 10, ..TarLimits::default() });
    let mut entry = Entry::default();
    let outcome = loop {
        match reader.next_entry(&mut entry) {
            Ok(true) => {}
            other => break other,
        }
    };
    assert!(matches!(outcome, Err(TarError::Limit(_))));
}

#[test]
fn sparse_files_of_every_format_have_the_same_map() {
    let segments = [Segment { offset: 512, length: 3 }, Segment { offset: 4096, length: 2 }];
    let mut archive = Archive::new();
    let mut gnu = Block::gnu(b"f", b'S', 5);
    gnu.octal(386, 12, 512).octal(398, 12, 3).octal(410, 12, 4096).octal(422, 12, 2).octal(483, 12, 5000);
    archive.block(&gnu).data(b"abcde");
    let size: (&[u8], &[u8]) = (b"GNU.sparse.size", b"5000");
    archive
        .pax(&[
            size,
            (b"GNU.sparse.numblocks", b"2"),
            (b"GNU.sparse.offset", b"512"),
            (b"GNU.sparse.numbytes", b"3"),
            (b"GNU.sparse.offset", b"4096"),
            (b"GNU.sparse.numbytes", b"2"),
        ])
        .file("f", b"abcde");
    archive
        .pax(&[
            size,
            (b"GNU.sparse.name", b"f"),
            (b"GNU.sparse.numblocks", b"2"),
            (b"GNU.sparse.map", b"512,3,4096,2"),
        ])
        .file("g", b"abcde");
    let mut data = b"2\n512\n3\n4096\n2\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"abcde");
    archive
        .pax(&[
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", b"f"),
            (b"GNU.sparse.realsize", b"5000"),
        ])
        .file("g", &data);
    // Old GNU with an extension block: four slots in the header, two behind it.
    let mut gnu = Block::gnu(b"f", b'S', 5);
    for slot in 0..4 {
        gnu.octal(386 + slot * 24, 12, slot as u64).octal(398 + slot * 24, 12, 0);
    }
    gnu.put(482, &[1]).octal(483, 12, 5000);
    let mut extension = Block([0; 512]);
    extension.octal(0, 12, 512).octal(12, 12, 3).octal(24, 12, 4096).octal(36, 12, 2);
    archive.block(&gnu);
    archive.0.extend_from_slice(&extension.0);
    archive.data(b"abcde");

    let bytes = archive.end();
    let mut reader = ArchiveReader::new(&*bytes, TarLimits::default());
    let mut entry = Entry::default();
    for _ in 0..5 {
        assert!(reader.next_entry(&mut entry).unwrap());
        let mut map = entry.sparse.clone().unwrap();
        map.retain(|segment| segment.length > 0);
        assert_eq!((map, entry.size, &*entry.path), (segments.to_vec(), 5000, &b"f"[..]));
        assert_eq!(reader.data().unwrap(), b"abcde");
    }
    assert!(!reader.next_entry(&mut entry).unwrap());
}
