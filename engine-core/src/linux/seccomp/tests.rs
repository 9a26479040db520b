use super::interpreter::{Call, check, run};
use super::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = RET_ERRNO | 1;
const EINVAL: u32 = RET_ERRNO | 22;
const MISSING: u32 = RET_ERRNO | ENOSYS;

const AMD64: Target = Target::new(Abi::X86_64, None);

fn program(json: &str, capabilities: CapabilitySet, target: Target) -> Program {
    let program = compile(&Profile::from_json(json).unwrap(), capabilities, target).unwrap();
    check(&program);
    program
}

fn default_program(target: Target) -> Program {
    program(DEFAULT_PROFILE, CapabilitySet::default_set(), target)
}

fn call(program: &Program, abi: Abi, name: &str, args: [u64; 6]) -> u32 {
    let number = abi.number(name).unwrap_or_else(|| panic!("no {name}"));
    run(program, &Call { number, arch: abi.audit_arch(), args }).0
}

fn caps(names: &[&str]) -> CapabilitySet {
    CapabilitySet::from_names(names).unwrap()
}

#[test]
fn every_name_of_the_default_profile_is_a_system_call() {
    let profile = Profile::from_json(DEFAULT_PROFILE).unwrap();
    // Calls of other processors, of ancient kernels, and the C library's names for time64 variants.
    let elsewhere =
        ["pciconfig_iobase", "pciconfig_read", "pciconfig_write", "timerfd", "fstatat64", "sync_file_range2"];
    let abis = [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm];
    let unknown: Vec<_> = profile
        .rules
        .iter()
        .flat_map(|rule| &rule.names)
        .filter(|name| abis.iter().all(|abi| abi.number(name).is_none()))
        .filter(|name| !elsewhere.contains(&name.as_str()))
        .collect();
    assert_eq!(unknown, Vec::<&String>::new());
    assert_eq!(profile.rules[0].names.len(), 343);
}

/// The verdict of the default profile for each call of each ABI, as text that a person can review.
#[test]
fn b7_default_profile_equals_the_golden_file() {
    let mut text = String::new();
    for (title, abi, target) in [
        ("x86_64", Abi::X86_64, AMD64),
        ("i386 (images of that architecture)", Abi::X86, Target::new(Abi::X86_64, Some(Abi::X86))),
        ("aarch64", Abi::Aarch64, Target::new(Abi::Aarch64, None)),
    ] {
        let program = default_program(target);
        text.push_str(&format!("# {title}\n"));
        let names: Vec<(&'static str, i32)> = match abi {
            Abi::X86_64 => syscalls::x86_64::Sysno::iter().map(|call| (call.name(), call.id())).collect(),
            Abi::X86 => syscalls::x86::Sysno::iter().map(|call| (call.name(), call.id())).collect(),
            _ => syscalls::aarch64::Sysno::iter().map(|call| (call.name(), call.id())).collect(),
        };
        for (name, number) in names {
            let number = u32::try_from(number).unwrap();
            let verdict = |args| match run(&program, &Call { number, arch: abi.audit_arch(), args }).0 {
                ALLOW => "allow".to_owned(),
                EPERM => "EPERM".to_owned(),
                MISSING => "ENOSYS".to_owned(),
                other => format!("{other:#x}"),
            };
            let (zeros, ones) = (verdict([0; 6]), verdict([u64::MAX; 6]));
            text.push_str(&format!("{name} {zeros}"));
            if zeros != ones {
                text.push_str(&format!(" (arguments of ones: {ones})"));
            }
            text.push('\n');
        }
    }
    if std::env::var_os("ENGINE_UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/linux/seccomp/default.golden");
        return std::fs::write(path, &text).unwrap();
    }
    let golden = include_str!("default.golden");
    let differing: Vec<_> =
        text.lines().zip(golden.lines()).filter(|(new, old)| new != old).take(10).collect();
    assert!(text == golden, "run with ENGINE_UPDATE_GOLDEN=1 if meant: {differing:?}");
}

#[test]
fn b7_new_kernel_surface_is_closed() {
    let program = default_program(AMD64);
    let sock =
        |family: u64, protocol: u64| call(&program, Abi::X86_64, "socket", [family, 1, protocol, 0, 0, 0]);
    assert_eq!(sock(2, 0), ALLOW);
    assert_eq!(sock(16, 0), ALLOW);
    assert_eq!(sock(38, 0), EPERM, "AF_ALG");
    assert_eq!(sock(40, 0), EPERM, "AF_VSOCK");
    assert_eq!(sock(16, 9), EINVAL, "NETLINK_AUDIT");
    // The kernel takes an int: bits above it must not help.
    assert_eq!(sock(0xdead_0000_0000_0026, 0), EPERM);
    assert_eq!(sock(1 << 32 | 40, 0), EPERM);
    assert_eq!(sock(1 << 40 | 16, 1 << 33 | 9), EINVAL);
    assert_eq!(call(&program, Abi::X86_64, "socketpair", [38, 1, 0, 0, 0, 0]), EPERM);
    assert_eq!(call(&program, Abi::X86_64, "socketpair", [1, 1, 0, 0, 0, 0]), ALLOW);
    let audit = self::program(DEFAULT_PROFILE, caps(&["AUDIT_WRITE"]), AMD64);
    assert_eq!(call(&audit, Abi::X86_64, "socket", [16, 3, 9, 0, 0, 0]), ALLOW);
    for name in
        ["futex_waitv", "listmount", "statmount", "mseal", "setxattrat", "uretprobe", "open_tree_attr"]
    {
        assert_eq!(call(&program, Abi::X86_64, name, [0; 6]), MISSING, "{name}");
    }
    for name in [
        "io_uring_setup",
        "userfaultfd",
        "add_key",
        "keyctl",
        "mount",
        "unshare",
        "setns",
        "pivot_root",
        "bpf",
    ] {
        assert_eq!(call(&program, Abi::X86_64, name, [0; 6]), EPERM, "{name}");
    }
    for name in ["ptrace", "process_vm_readv", "chroot", "fchmodat2"] {
        assert_eq!(call(&program, Abi::X86_64, name, [0; 6]), ALLOW, "{name}");
    }
    let unknown = Call { number: 1000, arch: Abi::X86_64.audit_arch(), args: [0; 6] };
    assert_eq!(run(&program, &unknown).0, MISSING);
}

#[test]
fn b7_namespaces_and_personalities_by_argument() {
    let program = default_program(AMD64);
    let clone = |flags: u64| call(&program, Abi::X86_64, "clone", [flags, 0, 0, 0, 0, 0]);
    assert_eq!(clone(0x11), ALLOW);
    assert_eq!(clone(0x003d_0f00), ALLOW, "pthread_create");
    for flag in [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(clone(flag | 0x11), EPERM, "{flag:#x}");
    }
    assert_eq!(call(&program, Abi::X86_64, "clone3", [0; 6]), MISSING);
    let persona = |value| call(&program, Abi::X86_64, "personality", [value, 0, 0, 0, 0, 0]);
    for value in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        assert_eq!(persona(value), ALLOW);
    }
    for value in [1, 0x0004_0000, u64::MAX, 1 << 32] {
        assert_eq!(persona(value), EPERM, "{value:#x}");
    }
    let admin = self::program(DEFAULT_PROFILE, caps(&["SYS_ADMIN"]), AMD64);
    for name in ["clone", "clone3", "mount", "setns", "unshare", "bpf", "syslog"] {
        assert_eq!(call(&admin, Abi::X86_64, name, [u64::MAX; 6]), ALLOW, "{name}");
    }
    assert_eq!(call(&admin, Abi::X86_64, "pivot_root", [0; 6]), EPERM);
    assert_eq!(call(&self::program(DEFAULT_PROFILE, caps(&[]), AMD64), Abi::X86_64, "chroot", [0; 6]), EPERM);
}

#[test]
fn b7_other_tables_of_the_processor_are_refused() {
    let write = |program: &Program, abi: Abi| call(program, abi, "write", [0; 6]);
    let amd64 = default_program(AMD64);
    assert_eq!(write(&amd64, Abi::X86_64), ALLOW);
    assert_eq!(write(&amd64, Abi::X86), MISSING);
    assert_eq!(write(&amd64, Abi::Aarch64), MISSING);
    let i386 = default_program(Target::new(Abi::X86_64, Some(Abi::X86)));
    assert_eq!((write(&i386, Abi::X86_64), write(&i386, Abi::X86)), (ALLOW, ALLOW));
    assert_eq!(call(&i386, Abi::X86, "socket", [38, 0, 0, 0, 0, 0]), EPERM);
    // x32: the write of that table, and one of its own numbers.
    for program in [&amd64, &i386, &program(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, caps(&[]), AMD64)] {
        for number in [X32_BIT, X32_BIT | 1, X32_BIT | 520, u32::MAX] {
            let call = Call { number, arch: Abi::X86_64.audit_arch(), args: [0; 6] };
            assert_eq!(run(program, &call).0, MISSING, "{number:#x}");
        }
    }
    assert_eq!(Target::for_image("amd64").unwrap().abis().count(), 1);
    if Abi::native().unwrap() == Abi::X86_64 {
        assert_eq!(Target::for_image("386").unwrap(), Target::new(Abi::X86_64, Some(Abi::X86)));
    }
}

/// Every operator against a plain model, on values around the borders of the two words.
#[test]
fn conditions_agree_with_a_model() {
    let edges: Vec<u64> =
        [0u64, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 1, 5 << 32, u64::MAX]
            .into_iter()
            .flat_map(|v| [v.wrapping_sub(1), v, v.wrapping_add(1)])
            .collect();
    type Model = fn(u64, u64, u64) -> bool;
    let operators: [(&str, Model); 7] = [
        ("SCMP_CMP_EQ", |arg, value, _| arg == value),
        ("SCMP_CMP_NE", |arg, value, _| arg != value),
        ("SCMP_CMP_GT", |arg, value, _| arg > value),
        ("SCMP_CMP_GE", |arg, value, _| arg >= value),
        ("SCMP_CMP_LT", |arg, value, _| arg < value),
        ("SCMP_CMP_LE", |arg, value, _| arg <= value),
        ("SCMP_CMP_MASKED_EQ", |arg, mask, value| arg & mask == value),
    ];
    for (operator, model) in operators {
        for value in &edges {
            let two = edges[(*value % 30) as usize];
            let json = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":3,"value":{value},"valueTwo":{two},"op":"{operator}"}}]}}]}}"#
            );
            let program = program(&json, caps(&[]), AMD64);
            for arg in &edges {
                let verdict = call(&program, Abi::X86_64, "read", [0, 0, 0, *arg, 0, 0]);
                assert_eq!(
                    verdict == ALLOW,
                    model(*arg, *value, two),
                    "{arg:#x} {operator} {value:#x} {two:#x}"
                );
            }
        }
    }
}

#[test]
fn rules_of_one_name() {
    let json = r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS","defaultErrnoRet":7,"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[
        {"names":["read"],"action":"SCMP_ACT_ALLOW","args":null},
        {"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"names":["read"],"action":"SCMP_ACT_LOG"},
        {"name":"write","action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"names":["open","no_such_call"],"action":"SCMP_ACT_TRACE","errnoRet":9},
        {"names":["close"],"action":"SCMP_ACT_TRAP","includes":{"minKernel":"999.0"}},
        {"names":["close"],"action":"SCMP_ACT_KILL","includes":{"minKernel":"2.6","arches":["amd64"]},"excludes":{}},
        {"names":["pipe"],"action":"SCMP_ACT_ALLOW","excludes":{"arches":["amd64"]}}
    ]}"#;
    let program = program(json, caps(&[]), AMD64);
    let verdict = |name, args| call(&program, Abi::X86_64, name, args);
    assert_eq!(program.flags(), 2);
    assert_eq!(verdict("read", [0; 6]), ALLOW, "the first without conditions");
    assert_eq!(verdict("read", [1, 2, 0, 0, 0, 0]), RET_ERRNO | 5, "conditions come first");
    assert_eq!(verdict("read", [1, 3, 0, 0, 0, 0]), ALLOW, "all conditions must hold");
    assert_eq!(verdict("write", [2, 0, 0, 0, 0, 0]), EPERM, "two on one argument: either");
    assert_eq!(verdict("write", [3, 0, 0, 0, 0, 0]), 0x8000_0000);
    assert_eq!(verdict("open", [0; 6]), 0x7ff0_0009);
    assert_eq!(verdict("close", [0; 6]), 0);
    assert_eq!(verdict("pipe", [0; 6]), 0x8000_0000);
}

#[test]
fn bad_profiles_are_refused_with_a_reason() {
    for (json, reason) in [
        ("", "EOF"),
        ("{}", "defaultAction"),
        (r#"{"defaultAction":"ALLOW"}"#, "unknown action"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "listener"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#, "error number"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["X"]}"#, "unknown flag"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_X"]}}]}"#,
            "CAP_X",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"x"}}]}"#,
            "minKernel",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            "argument 6",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"EQ"}]}]}"#,
            "unknown operator",
        ),
    ] {
        let error = Profile::from_json(json).unwrap_err();
        assert!(error.report().contains(reason), "{json}: {}", error.report());
    }
    assert!(Profile::from_json(&" ".repeat(2 << 20)).is_err());
    // More rules than a program can hold.
    let args: Vec<String> = (0..2000)
        .map(|n| format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{n},"op":"SCMP_CMP_EQ"}}]}}"#))
        .collect();
    let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, args.join(","));
    let profile = Profile::from_json(&json).unwrap();
    assert_eq!(compile(&profile, caps(&[]), AMD64).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn oci_sections_compile_like_json() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],
        "flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
        {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":255,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
    let oci: LinuxSeccomp = serde_json::from_str(json).unwrap();
    assert_eq!(Profile::from_oci(&oci).unwrap(), Profile::from_json(json).unwrap());
    let cache = Cache::default();
    let one = cache.oci(&oci, caps(&[]), AMD64).unwrap();
    assert!(Arc::ptr_eq(&one.bytes, &cache.oci(&oci, caps(&[]), AMD64).unwrap().bytes));
}

#[test]
fn programs_are_kept_by_content_capabilities_and_target() {
    let cache = Cache::default();
    let set = CapabilitySet::default_set();
    let one = cache.json(DEFAULT_PROFILE, set, AMD64).unwrap();
    assert!(Arc::ptr_eq(&one.bytes, &cache.json(DEFAULT_PROFILE, set, AMD64).unwrap().bytes));
    let other = cache.json(DEFAULT_PROFILE, caps(&["SYS_ADMIN"]), AMD64).unwrap();
    assert_ne!(one, other);
    let copy = DEFAULT_PROFILE.to_owned();
    assert_eq!(cache.json(&copy, set, AMD64).unwrap(), one);
    for n in 0..200 {
        cache
            .json(&format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":{n}}}"#), set, AMD64)
            .unwrap();
    }
    assert!(cache.lock().len() <= KEPT);
    assert!(format!("{one:?}").contains("instructions"));
}

#[test]
fn any_call_is_decided_in_a_few_steps() {
    let program = default_program(AMD64);
    let arch = Abi::X86_64.audit_arch();
    let worst = (0..600).map(|number| run(&program, &Call { number, arch, args: [0; 6] }).1).max().unwrap();
    assert!(worst <= 40, "{worst}");
    assert!(program.instructions() <= 400, "{}", program.instructions());
}
