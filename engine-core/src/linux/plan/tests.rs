//! Tests of the plan format: both sides, and SECURITY row A8.

use super::format::{KIND_EXEC, KIND_LAUNCH, MAX_PLAN, Malformed, Plan, mount, tag};
use super::*;

fn sample() -> LaunchPlan {
    LaunchPlan {
        id: "c0ffee".into(),
        boot_id: "boot".into(),
        namespaces: 0x2002_0000,
        joins: vec![(0x4000_0000, "/proc/7/ns/net".into())],
        cgroups: vec![CgroupStep { flags: 5, path: b"/sys/fs/cgroup/x".to_vec() }],
        oom_counters: vec![(b"/sys/fs/cgroup/x/memory.events".to_vec(), "oom_kill".into())],
        mounts: vec![MountStep {
            kind: mount::FILESYSTEM,
            fstype: "overlay".into(),
            source: b"overlay".to_vec(),
            target: b"/".to_vec(),
            options: vec![("lowerdir+".into(), b"/a".to_vec()), ("userxattr".into(), Vec::new())],
            ..MountStep::default()
        }],
        entries: vec![EntryStep {
            mount: 0,
            mode: 0o100_644,
            path: "hosts".into(),
            data: b"127.0.0.1".to_vec(),
            ..EntryStep::default()
        }],
        masked: vec!["/proc/kcore".into()],
        sysctls: vec![("sys/net/ipv4/ip_forward".into(), "1".into())],
        hostname: Some("box".into()),
        log: Some(super::LogStep {
            max_size: 1 << 20,
            max_files: 3,
            name: "json.log".into(),
            ..super::LogStep::default()
        }),
        process: ProcessPlan {
            rlimits: vec![(7, 1024, 4096)],
            oom_score_adj: Some(-5),
            uid: 1000,
            gid: 1001,
            groups: vec![1001, 5],
            seccomp: Some((0, vec![0; 16])),
            argv: vec![b"true".to_vec(), b"x".to_vec()],
            env: Environment(vec![b"A=b".to_vec()]),
            cwd: "/".into(),
            terminal: Some((24, 80)),
            ..ProcessPlan::default()
        },
        ..LaunchPlan::default()
    }
}

#[test]
fn what_is_encoded_is_what_the_shim_reads() {
    let bytes = sample().encode().unwrap();
    let plan = Plan::parse(&bytes, KIND_LAUNCH).unwrap();
    assert_eq!(plan.config(), (0x2002_0000, 0));
    let root = plan.mounts().next().unwrap();
    assert_eq!(root.target, c"/");
    let options: Vec<_> = root.options().collect();
    assert_eq!(options, [(c"lowerdir+", c"/a"), (c"userxattr", c"")]);
    let user = plan.first(tag::USER).unwrap().user().unwrap();
    assert_eq!((user.uid, user.gid, user.groups), (1000, 1001, &[0xe9, 3, 0, 0, 5, 0, 0, 0][..]));
    assert_eq!(plan.first(tag::OOM_SCORE_ADJ).unwrap().number().unwrap().cast_signed(), -5);
    assert_eq!(plan.first(tag::SYSCTL).unwrap().pair(), Some((c"sys/net/ipv4/ip_forward", c"1")));
    assert_eq!(plan.first(tag::TTY_SIZE).unwrap().two_numbers(), Some((24, 80)));
    let argv: Vec<_> = plan.first(tag::ARGV).unwrap().texts().unwrap().iter().collect();
    assert_eq!(argv, [c"true", c"x"]);
}

#[test]
fn a_nul_inside_a_text_is_an_error_that_names_it() {
    let mut plan = sample();
    plan.process.argv.push(b"a\0b".to_vec());
    assert!(plan.encode().unwrap_err().to_string().contains("a\\\\0b"));
}

#[test]
fn a8_a_plan_is_length_checked_up_to_its_hard_limit() {
    let with = |extra: usize| {
        let mut plan = sample();
        plan.process.env = Environment(vec![vec![b'x'; extra]]);
        plan.encode()
    };
    let base = with(0).unwrap().len();
    // The length field of CVE-2021-43784 was 16 bits wide.
    for size in [65_534, 65_535, 65_536, 65_537] {
        let bytes = with(size).unwrap();
        let plan = Plan::parse(&bytes, KIND_LAUNCH).unwrap();
        let env: Vec<_> = plan.first(tag::ENV).unwrap().texts().unwrap().iter().collect();
        assert_eq!(env, [std::ffi::CString::new(vec![b'x'; size]).unwrap().as_c_str()]);
        assert_eq!(plan.all(tag::JOIN).count(), 1);
    }
    let fits = with(MAX_PLAN - base).unwrap();
    assert!(fits.len() <= MAX_PLAN && fits.len() > MAX_PLAN - 16);
    Plan::parse(&fits, KIND_LAUNCH).unwrap();
    assert_eq!(with(MAX_PLAN - base + 16).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut over = fits;
    over.resize(MAX_PLAN + 1, 0);
    assert_eq!(Plan::parse(&over, KIND_LAUNCH).unwrap_err(), Malformed::Size);
}

#[test]
fn a8_every_truncation_and_every_flipped_bit_is_refused_or_harmless() {
    let bytes = sample().encode().unwrap();
    for length in 0..bytes.len() {
        assert!(Plan::parse(&bytes[..length], KIND_LAUNCH).is_err());
    }
    assert!(Plan::parse(&bytes, KIND_EXEC).is_err());
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        walk(&changed);
    }
}

/// Reads everything there is to read, as the shim would.
fn walk(bytes: &[u8]) {
    let Ok(plan) = Plan::parse(bytes, KIND_LAUNCH) else { return };
    for record in plan.records() {
        let _ = (record.text(), record.pair(), record.number_and_text(), record.entry(), record.user());
        let _ =
            (record.seccomp(), record.rlimit(), record.log(), record.two_numbers(), record.capabilities());
        if let Some(step) = record.mount() {
            let _ = step.options().count();
        }
        if let Some(texts) = record.texts() {
            assert!(texts.iter().count() <= bytes.len());
        }
    }
}

proptest::proptest! {
    #[test]
    fn a8_arbitrary_records_never_read_outside(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..512)) {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&format::MAGIC.to_le_bytes());
        bytes.extend_from_slice(&format::VERSION.to_le_bytes());
        bytes.extend_from_slice(&KIND_LAUNCH.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(tail.len() + 16).unwrap().to_le_bytes());
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&tail);
        walk(&bytes);
    }
}

fn log_line(line: &[u8], time: u64) -> String {
    log_line_with(line, time, "")
}

fn log_line_with(line: &[u8], time: u64, attributes: &str) -> String {
    use super::jsonlog::{MAX_BODY, MAX_TAIL, Tail, encode};
    let mut tail = Tail::new();
    tail.set("stdout", attributes.as_bytes(), time);
    let mut out = vec![0; MAX_BODY + MAX_TAIL];
    let length = encode(line, &tail, &mut out);
    out.truncate(length);
    String::from_utf8(out).unwrap()
}

#[test]
fn log_lines_are_dockers() {
    assert_eq!(
        log_line(b"a\"b\\c\t<\xff\xe2\x80\xa8\xc3\xa9\x01\n", 1_700_000_000_120_000_000),
        "{\"log\":\"a\\\"b\\\\c\\t\\u003c\\ufffd\\u2028é\\u0001\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20.12Z\"}\n"
    );
    assert!(log_line(b"", 951_782_400_000_000_000).contains("\"2000-02-29T00:00:00Z\""));
    assert!(log_line(b"", 1_767_225_599_999_999_999).contains("\"2025-12-31T23:59:59.999999999Z\""));
}

#[test]
fn attributes_stand_in_each_log_line() {
    let line = log_line_with(b"x\n", 1_700_000_000_000_000_000, "\"tag\":\"a\"");
    assert_eq!(
        line,
        "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"a\"},\"time\":\"2023-11-14T22:13:20Z\"}\n"
    );
}

#[test]
fn the_longest_line_of_the_worst_bytes_fits() {
    let line = vec![1; super::jsonlog::MAX_LINE];
    let text = log_line_with(&line, 0, "");
    assert!(text.starts_with("{\"log\":\"\\u0001") && text.ends_with("Z\"}\n"), "{}", &text[..40]);
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["log"].as_str().unwrap().len(), line.len());
}

proptest::proptest! {
    #[test]
    fn log_lines_read_back_as_lossy_text(line in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let parsed: serde_json::Value = serde_json::from_str(&log_line(&line, 0)).unwrap();
        // Go replaces each bad byte, Rust each bad sequence: compared without their marks.
        let without = |text: &str| text.replace('\u{fffd}', "");
        proptest::prop_assert_eq!(without(parsed["log"].as_str().unwrap()), without(&String::from_utf8_lossy(&line)));
        proptest::prop_assert_eq!(super::jsonlog::newline(&line), line.iter().position(|byte| *byte == b'\n'));
    }

    #[test]
    fn long_plain_text_is_copied(line in "[ -~]{0,300}") {
        let parsed: serde_json::Value = serde_json::from_str(&log_line(line.as_bytes(), 0)).unwrap();
        proptest::prop_assert_eq!(parsed["log"].as_str().unwrap(), line);
    }
}

#[test]
fn any_log_line_is_json_that_reads_back() {
    for width in 1..=4 {
        for value in [0_u32, 0x7f80_c2e2, 0xf09f_9880, u32::MAX, 0xe280_a9e2, 0x22_5c_3e_26] {
            let bytes = &value.to_be_bytes()[..width];
            let parsed: serde_json::Value = serde_json::from_str(&log_line(bytes, 0)).unwrap();
            let text = parsed["log"].as_str().unwrap();
            if let Ok(same) = std::str::from_utf8(bytes) {
                assert_eq!(text, same);
            }
        }
    }
}
