use super::*;
use std::time::{Duration, Instant};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\
    \n\
    daemon:x:1:1::/usr/sbin:/sbin/nologin\n\
    web:x:1000:1001:Web:/home/web:/bin/sh\r\n\
    1234:x:0:0:a name of digits:/evil:\n\
    huge:x:4294967295:0::/:\n\
    negative:x:-1:0::/:\n\
    empty:x:::/:\n\
    short\n\
    nogid:x:55\n\
    nohome:x:60:60\n";
const GROUP: &str = "root:x:0:\n\
    daemon:x:1:web\n\
    web:x:1001:\n\
    extra:x:2000:daemon,web\n\
    more:x:2001:web,\n\
    777:x:0:\n\
    bad:x:zero:web\n\
    prefix:x:2002:webmaster,ww\n";

struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    fn new() -> Self {
        let image = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(image.dir.path().join("etc")).unwrap();
        image
    }

    fn with(files: &[(&str, &[u8])]) -> Self {
        let image = Self::new();
        for (name, bytes) in files {
            std::fs::write(image.path(name), bytes).unwrap();
        }
        image
    }

    fn standard() -> Self {
        Self::with(&[("passwd", PASSWD.as_bytes()), ("group", GROUP.as_bytes())])
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("etc").join(name)
    }

    fn resolve(&self, user: &str, add: &[&str]) -> Result<ResolvedUser> {
        let add: Vec<String> = add.iter().map(|group| (*group).to_owned()).collect();
        resolve(&RootFd::open(self.dir.path()).unwrap(), user, &add)
    }

    fn ids(&self, user: &str, add: &[&str]) -> (u32, u32, Vec<u32>) {
        let user = self.resolve(user, add).unwrap();
        (user.uid, user.gid, user.groups)
    }
}

#[test]
fn b2_groups_are_primary_and_image_and_added_ones() {
    let image = Image::standard();
    for (user, add, expected) in [
        ("", &[][..], (0, 0, vec![0])),
        ("root", &[], (0, 0, vec![0])),
        ("0", &[], (0, 0, vec![0])),
        ("web", &[], (1000, 1001, vec![1001, 1, 2000, 2001])),
        ("1000", &[], (1000, 1001, vec![1001, 1, 2000, 2001])),
        ("1000:", &[], (1000, 1001, vec![1001, 1, 2000, 2001])),
        ("web:daemon", &[], (1000, 1, vec![1])),
        ("web:5", &[], (1000, 5, vec![5])),
        ("1000:0", &[], (1000, 0, vec![0])),
        ("1000:extra", &[], (1000, 2000, vec![2000])),
        ("4321", &[], (4321, 0, vec![0])),
        ("4321:4321", &[], (4321, 4321, vec![4321])),
        ("4321:extra", &[], (4321, 2000, vec![2000])),
        ("daemon", &[], (1, 1, vec![1, 2000])),
        ("web", &["extra", "9", "9"], (1000, 1001, vec![1001, 1, 2000, 2001, 9])),
        ("web:daemon", &["extra", "1"], (1000, 1, vec![1, 2000])),
        ("4321", &["more", "44"], (4321, 0, vec![0, 2001, 44])),
        ("", &["extra"], (0, 0, vec![0, 2000])),
        ("nohome", &[], (60, 60, vec![60])),
        ("2147483647:2147483647", &[], (MAX_ID, MAX_ID, vec![MAX_ID])),
        ("1234", &[], (1234, 0, vec![0])),
        ("1234:777", &[], (1234, 777, vec![777])),
        ("web", &["777"], (1000, 1001, vec![1001, 1, 2000, 2001, 777])),
        ("007", &[], (7, 0, vec![0])),
    ] {
        assert_eq!(image.ids(user, add), expected, "{user:?} {add:?}");
    }
}

#[test]
fn home_and_name_come_from_the_image() {
    let image = Image::standard();
    let home = |user| image.resolve(user, &[]).unwrap().home;
    assert_eq!(
        [home(""), home("web"), home("1000:5"), home("4321"), home("nohome")],
        ["/root", "/home/web", "/home/web", "/", "/"]
    );
    assert_eq!(image.resolve("1000", &[]).unwrap().name.as_deref(), Some("web"));
    let bare = Image::new();
    assert_eq!(bare.ids("", &[]), (0, 0, vec![0]));
    assert_eq!(bare.ids("5:6", &["7"]), (5, 6, vec![6, 7]));
    assert!(bare.resolve("web", &[]).is_err());
    std::fs::remove_dir(bare.dir.path().join("etc")).unwrap();
    assert_eq!(bare.ids("5", &[]), (5, 0, vec![0]));
}

#[test]
fn b3_nobody_becomes_root_by_mistake() {
    let image = Image::standard();
    let mut strings: Vec<String> = [
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "99999999999999999999",
        "-1",
        "-0",
        "+0",
        "0x0",
        "0b0",
        "0o0",
        " 0",
        "0 ",
        "\t0",
        "0\n",
        "0\0",
        "٠",
        "０",
        "0.0",
        "0e0",
        "00x",
        ":",
        ":0",
        "::",
        ":web",
        "0:-1",
        "0:nobody",
        "0:0:0",
        "web:web:web",
        "root ",
        "Root",
        "roo",
        "roott",
        "huge",
        "negative",
        "empty",
        "short",
        "nogid",
        "#",
        "# a comment",
        "x",
        "web:bad",
        "web:2147483648",
        "web: 0",
        "*",
        "root\n",
        "root:x",
        "../root",
        "null",
        "NaN",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    // Numbers of every size with a decoration that is not a digit, and beyond the limit without one.
    for n in 0..150u64 {
        let big = (1u64 << 31) + (n * n * n * 7919);
        strings.push(big.to_string());
        strings.push(format!("{n}{}", ['x', ' ', '-', '_', '\u{200b}'][(n % 5) as usize]));
        strings.push(format!("{}{n}", ["-", "+", " ", "0x", "\u{feff}"][(n % 5) as usize]));
    }
    assert!(strings.len() >= 490, "{}", strings.len());
    for user in &strings {
        let result = image.resolve(user, &[]);
        let error = result.expect_err(user);
        assert!(
            matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::Corrupt),
            "{user:?}: {error:?}"
        );
    }
    for n in 1..20 {
        assert_eq!(image.ids(&format!("{}", n * 100_000), &[]).0, n * 100_000);
    }
    for add in ["bad", "nobody", "-1", "2147483648", ""] {
        assert!(image.resolve("web", &[add]).is_err(), "{add:?}");
    }
}

#[test]
fn a10_hostile_files_end_quickly_in_an_error() {
    let started = Instant::now();
    let line = format!("web:x:1000:{}\n", "m,".repeat(1_000_000));
    let many = "a:x:1:1:::\n".repeat(70_000);
    type Make<'a> = &'a dyn Fn(&Image);
    let hostile: [(&str, Make<'_>); 7] = [
        ("FIFO", &|image| {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(rustix::fs::CWD, image.path("passwd"), rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }),
        ("directory", &|image| std::fs::create_dir(image.path("passwd")).unwrap()),
        ("sparse", &|image| {
            std::fs::File::create(image.path("passwd")).unwrap().set_len(2 << 30).unwrap();
        }),
        ("members", &|image| std::fs::write(image.path("group"), &line).unwrap()),
        ("lines", &|image| std::fs::write(image.path("passwd"), &many).unwrap()),
        ("socket", &|image| {
            std::os::unix::net::UnixListener::bind(image.path("passwd")).unwrap();
        }),
        ("loop", &|image| std::os::unix::fs::symlink("passwd", image.path("passwd")).unwrap()),
    ];
    for (what, make) in hostile {
        let image = Image::new();
        make(&image);
        let error = image.resolve("1:web", &[]).expect_err(what);
        assert_ne!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error:?}");
    }
    // A link to the host's file is a link to nothing in the image.
    let image = Image::new();
    std::os::unix::fs::symlink("/etc/passwd", image.path("passwd")).unwrap();
    assert!(image.resolve("daemon", &[]).is_err());
    assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
}

#[test]
fn a10_a_device_is_never_opened() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mknod(2) needs root");
        return;
    }
    let image = Image::new();
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, image.path("passwd"), kind, mode, rustix::fs::makedev(1, 5))
        .unwrap();
    assert_eq!(image.resolve("1", &[]).unwrap_err().kind(), ErrorKind::Corrupt);
}
