//! SECURITY C4: content that grows. Memory stays, the disk stays within its limit, nothing is left behind.
//!
//! One test in a process of its own, since it looks at the process's memory. Also: a full disk.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use engine_core::database::Database;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::linux::image_store::{LocalImageStore, LocalImageStoreOptions};
use engine_core::{Digest, Error, ErrorKind, ImageStore as _};
use engine_testkit::{command, require};

const MIB: u64 = 1 << 20;
/// What may come out of one layer, well above the memory that may be used.
const LIMIT: u64 = 96 * MIB;
const MEMORY: u64 = 64 * MIB;

type Chunks = Box<dyn Iterator<Item = Vec<u8>>>;

fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    for (at, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000"), (136, "00000000000")] {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    block[124] = 0x80;
    block[128..136].copy_from_slice(&size.to_be_bytes());
    block[156] = kind;
    block[157] = b'd' * u8::from(matches!(kind, b'1' | b'2'));
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(mut data: Vec<u8>) -> Vec<u8> {
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

fn extension(kind: u8, data: &[u8]) -> Vec<u8> {
    [header("x", kind, data.len() as u64), padded(data.to_vec())].concat()
}

fn record(key: &str, value: &str) -> String {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length.to_string().len() + body != length {
        length = length.to_string().len() + body;
    }
    format!("{length} {key}={value}\n")
}

/// A name, and what makes the archive.
type Payload = (&'static str, fn() -> Chunks);

/// Archives that never end, or end far beyond the limit.
fn payloads() -> Vec<Payload> {
    fn repeat(make: impl FnMut(u64) -> Vec<u8> + 'static) -> Chunks {
        Box::new((0..).map(make))
    }
    vec![
        ("one endless file", || {
            Box::new(std::iter::once(header("f", b'0', 1 << 40)).chain(std::iter::repeat(vec![0; 64 << 10])))
        }),
        ("files of one name", || repeat(|_| header("same", b'0', 0))),
        ("new files", || repeat(|n| header(&format!("d{}/f{n}", n % 10), b'0', 0))),
        ("new directories", || repeat(|n| header(&format!("{n}-{}", "x".repeat(80)), b'5', 0))),
        ("one directory", || repeat(|_| header("d", b'5', 0))),
        ("implied directories", || repeat(|n| header(&format!("{n}-{}/f", "x".repeat(80)), b'0', 0))),
        ("hard links", || {
            Box::new(
                std::iter::once(header("d", b'0', 0)).chain((0..).map(|n| header(&format!("l{n}"), b'1', 0))),
            )
        }),
        ("symlinks", || repeat(|n| header(&format!("s{n}"), b'2', 0))),
        ("whiteouts", || repeat(|n| header(&format!(".wh.{n}"), b'0', 0))),
        ("megabyte PAX headers", || {
            repeat(|n| {
                [
                    extension(b'x', record("comment", &"x".repeat(1_000_000)).as_bytes()),
                    header(&format!("f{n}"), b'0', 0),
                ]
                .concat()
            })
        }),
        ("a PAX header too large", || repeat(|_| header("x", b'x', 1 << 40))),
        ("a global header too large", || repeat(|_| header("x", b'g', 1 << 30))),
        ("a long name too large", || repeat(|_| header("x", b'L', 1 << 33))),
        ("global headers", || {
            repeat(|_| extension(b'g', record("comment", &"x".repeat(900_000)).as_bytes()))
        }),
        ("many xattrs", || {
            repeat(|n| {
                let records: String =
                    (0..15_000).map(|k| record(&format!("SCHILY.xattr.user.{k}"), "some value")).collect();
                [extension(b'x', records.as_bytes()), header(&format!("f{n}"), b'0', 0)].concat()
            })
        }),
        ("sparse files of 4 EiB", || {
            repeat(|n| {
                let size = (1_u64 << 62).to_string();
                let records = [
                    record("GNU.sparse.size", &size),
                    record("GNU.sparse.numblocks", "0"),
                    record("GNU.sparse.map", ""),
                ]
                .concat();
                [extension(b'x', records.as_bytes()), header(&format!("f{n}"), b'0', 0)].concat()
            })
        }),
        ("sparse files of 1 TiB", || {
            repeat(|n| {
                let records = [
                    record("GNU.sparse.size", &(1_u64 << 40).to_string()),
                    record("GNU.sparse.map", &format!("{},1", (1_u64 << 40) - 1)),
                ]
                .concat();
                [extension(b'x', records.as_bytes()), header(&format!("f{n}"), b'0', 1), padded(vec![1])]
                    .concat()
            })
        }),
        ("an endless sparse map", || {
            let mut block = header("s", b'S', 1);
            block[257..265].copy_from_slice(b"ustar  \0");
            block[482] = 1;
            seal(&mut block);
            let mut more = vec![0; 512];
            more[..24].copy_from_slice(b"00000000000\x0000000000000\0");
            for slot in 1..21 {
                more.copy_within(0..24, slot * 24);
            }
            more[504] = 1;
            Box::new(std::iter::once(block).chain(std::iter::repeat(more)))
        }),
        ("a line map that lies", || {
            let records = [
                record("GNU.sparse.major", "1"),
                record("GNU.sparse.minor", "0"),
                record("GNU.sparse.name", "s"),
                record("GNU.sparse.realsize", "1"),
            ]
            .concat();
            let start =
                [extension(b'x', records.as_bytes()), header("s", b'0', 1 << 40), b"9999999999\n".to_vec()]
                    .concat();
            Box::new(std::iter::once(start).chain(std::iter::repeat(b"0\n".repeat(10_000))))
        }),
        ("deep directories", || repeat(|n| header(&format!("{}f{n}", "d/".repeat(45)), b'5', 0))),
        ("an archive in an archive", || {
            repeat(|n| [header(&format!("t{n}"), b'0', 10 * MIB), vec![7; 10 << 20]].concat())
        }),
        ("zeros after the end", || repeat(|_| vec![0; 64 << 10])),
        ("garbage", || repeat(|_| b"garbage ".repeat(8000))),
    ]
}

fn gzip(chunks: Chunks, total: u64) -> Vec<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut sent = 0;
    let mut out = Vec::new();
    for chunk in chunks {
        sent += chunk.len() as u64;
        encoder.write_all(&chunk).unwrap();
        if encoder.get_ref().len() > 1 << 16 {
            out.push(std::mem::take(encoder.get_mut()));
        }
        if sent > total {
            break;
        }
    }
    out.push(encoder.finish().unwrap());
    out
}

/// zstd by hand: runs of one byte as RLE blocks, the rest stored (RFC 8878, 3.1.1.2).
fn zstd(chunks: Chunks, total: u64, window_exponent: u8) -> Vec<Vec<u8>> {
    let mut out = vec![vec![0x28, 0xb5, 0x2f, 0xfd, 0, window_exponent << 3]];
    let mut sent = 0;
    for chunk in chunks {
        for part in chunk.chunks(100_000) {
            let run = part.iter().all(|byte| *byte == part[0]);
            let head = (u32::try_from(part.len()).unwrap() << 3) | if run { 2 } else { 0 };
            let mut block = head.to_le_bytes()[..3].to_vec();
            block.extend_from_slice(if run { &part[..1] } else { part });
            out.push(block);
        }
        sent += chunk.len() as u64;
        if sent > total {
            break;
        }
    }
    out.push(vec![1, 0, 0]);
    out
}

fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn open(root: &Path, options: LocalImageStoreOptions) -> LocalImageStore {
    let database = Database::open(&root.join("engine.db")).unwrap();
    LocalImageStore::open(root, database, options).unwrap()
}

async fn send(
    store: &LocalImageStore,
    chunks: impl Iterator<Item = Vec<u8>>,
    size: u64,
) -> Result<(), Error> {
    let descriptor = Descriptor::new(media_type::OCI_LAYER, Digest::sha256(b"unknown"), size);
    let mut ingest = store.ingest(&descriptor, Some(&Digest::sha256(b"unknown"))).await?;
    for chunk in chunks {
        ingest.write(Bytes::from(chunk)).await?;
    }
    ingest.commit().await
}

fn assert_clean(root: &Path, what: &str) {
    let sessions = fs::read_dir(root.join("images/ingest")).unwrap();
    let left: usize = sessions.map(|session| fs::read_dir(session.unwrap().path()).unwrap().count()).sum();
    assert_eq!(left, 0, "{what}: temporary files");
    for dir in ["images/layers", "images/blobs/sha256"] {
        assert_eq!(fs::read_dir(root.join(dir)).unwrap().count(), 0, "{what}: {dir}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_bombs_cost_no_memory_and_leave_nothing() {
    require!(root, overlayfs);
    // Thousands of files for each: not on a disk, if that can be.
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() };
    let options = LocalImageStoreOptions::default().with_max_bytes(LIMIT).with_max_entries(3_000);
    let store = Arc::new(open(dir.path(), options));
    store.capabilities();
    let mut bombs = 0;
    let mut worst = 0;
    for (name, payload) in payloads() {
        for form in ["plain", "gzip", "zstd"] {
            let what = format!("{name}, {form}");
            // The compressed forms are made before the measurement.
            let total = if name == "one endless file" { LIMIT + MIB } else { 8 * MIB };
            let made = match form {
                "gzip" => Some(gzip(payload(), total)),
                "zstd" => Some(zstd(payload(), total, 13)),
                _ => None,
            };
            // Resets the peak (proc_pid_clear_refs(5)).
            fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = status("VmRSS");
            let outcome = match made {
                Some(chunks) => {
                    let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
                    send(&store, chunks.into_iter(), size).await
                }
                None => send(&store, payload(), 1 << 40).await,
            };
            let error = outcome.unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::ResourceExhausted),
                "{what}: {error:?}"
            );
            let growth = status("VmHWM").saturating_sub(before);
            assert!(growth <= MEMORY, "{what}: memory grew by {} MiB", growth >> 20);
            worst = worst.max(growth);
            assert_clean(dir.path(), &what);
            bombs += 1;
        }
    }
    // Windows: more than allowed is refused before it is reserved.
    for exponent in [16, 17, 21, 31] {
        let chunks = zstd(Box::new(std::iter::repeat_n(vec![0; 100_000], 20)), LIMIT, exponent);
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmRSS");
        let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let error = send(&store, chunks.into_iter(), size).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        assert!(status("VmHWM").saturating_sub(before) <= MEMORY);
        bombs += 1;
    }
    // A ratio that no sound layer has.
    let strict =
        open(dir.path(), LocalImageStoreOptions::default().with_max_ratio(100).with_max_bytes(u64::MAX));
    let one: fn() -> Chunks = payloads()[0].1;
    let chunks = gzip(one(), 270 * MIB);
    let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let error = send(&strict, chunks.into_iter(), size).await.unwrap_err();
    assert!(error.report().contains("100 times"), "{error:?}");
    assert_clean(dir.path(), "ratio");
    println!("{} bombs, worst growth {} MiB", bombs + 1, worst >> 20);
    assert!(bombs >= 40);
}

#[tokio::test]
async fn a_full_disk_is_a_typed_error_and_leaves_nothing() {
    require!(root, overlayfs, loop_devices, "mkfs.ext4", "mount", "umount");
    let dir = tempfile::tempdir().unwrap();
    let (image, mount) = (dir.path().join("disk.img"), dir.path().join("mnt"));
    fs::create_dir(&mount).unwrap();
    fs::File::create(&image).unwrap().set_len(40 * MIB).unwrap();
    command("mkfs.ext4", ["-q".as_ref(), "-F".as_ref(), image.as_os_str()]);
    command("mount", ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), mount.as_os_str()]);
    let root = mount.join("root");
    fs::create_dir(&root).unwrap();
    let store = open(&root, LocalImageStoreOptions::default());
    store.capabilities();
    let data: Vec<u8> = (0..60 * MIB).map(|n| (n % 251) as u8).collect();
    let chunks = std::iter::once(header("f", b'0', 60 * MIB)).chain(data.chunks(100_000).map(<[u8]>::to_vec));
    let error = send(&store, chunks, 1 << 30).await.unwrap_err();
    let files = (0..).map(|n| header(&format!("f{n}"), b'0', 0));
    let inodes = send(&store, files, 1 << 30).await.unwrap_err();
    assert_clean(&root, "full disk");
    drop(store);
    command("umount", [mount.as_os_str()]);
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert_eq!(inodes.kind(), ErrorKind::ResourceExhausted, "{inodes:?}");
}
