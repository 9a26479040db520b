use super::*;

fn spec(json: &str) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_str(json).unwrap()
}

/// Runs the program as the kernel would.
fn run(code: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0u32; 6];
    let mut at = 0;
    // It ends: all jumps lead forward.
    loop {
        let word = code[at];
        let (op, to, from) = (word as u8, (word >> 8) as usize & 15, (word >> 12) as usize & 15);
        let (offset, value) = ((word >> 16) as i16, (word >> 32) as u32);
        at += 1;
        let mut jump = |taken: bool| {
            if taken {
                assert!(offset > 0, "only forward");
                at += offset as usize;
            }
        };
        match op {
            LOAD_WORD => registers[to] = context[offset as usize / 4],
            AND => registers[to] &= value,
            SHIFT_RIGHT => registers[to] >>= value,
            MOVE => registers[to] = value,
            MOVE_REGISTER => registers[to] = registers[from],
            JUMP_NOT_EQUAL => jump(registers[to] != value),
            JUMP_EQUAL => jump(registers[to] == value),
            JUMP_NOT_EQUAL_REGISTER => jump(registers[to] != registers[from]),
            EXIT => return registers[0] != 0,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

#[test]
fn b5_nothing_but_the_default_devices_without_rules() {
    for list in [None, Some(&[][..])] {
        let rules = Rules::new(list);
        let code = program(&rules);
        for (major, minor) in
            [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 77)]
        {
            assert!(run(&code, CHARACTER, READ | WRITE, major, minor), "{major}:{minor}");
            assert!(run(&code, CHARACTER, READ, major, minor));
            assert!(!run(&code, CHARACTER, MKNOD, major, minor), "mknod of {major}:{minor}");
            assert!(!run(&code, BLOCK, READ, major, minor));
        }
        for (major, minor) in
            [(1, 1), (1, 2), (1, 4), (1, 11), (4, 0), (10, 200), (10, 229), (10, 232), (29, 0), (5, 3)]
        {
            assert!(!run(&code, CHARACTER, READ, major, minor), "{major}:{minor}");
        }
        assert!(!run(&code, BLOCK, READ, 8, 0));
    }
}

#[test]
fn b5_everything_is_denied_first() {
    // A list without a first rule, one of exceptions only, and rules that match nothing.
    let rules = Rules::new(Some(&spec(
        r#"[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},{"allow":false,"type":"b","major":8,"access":"w"},
            {"allow":true,"type":"p"},{"allow":true,"type":"c","access":""},{"allow":true,"type":"c","major":4294967296}]"#,
    )));
    assert_eq!((rules.allow_all, rules.rules.len()), (false, 2));
    let code = program(&rules);
    assert!(run(&code, CHARACTER, READ, 10, 229));
    assert!(!run(&code, CHARACTER, READ | MKNOD, 10, 229), "all of an access must be allowed");
    assert!(!run(&code, BLOCK, READ, 8, 0));
    assert!(!run(&code, CHARACTER, READ, 1, 3));
}

#[test]
fn the_last_rule_that_matches_wins() {
    let rules = Rules::new(Some(&spec(
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"a","major":-1,"minor":-1,"access":"rwm"},
            {"allow":false,"type":"c","major":1,"access":"w"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}]"#,
    )));
    assert!(rules.allow_all);
    let code = program(&rules);
    assert!(run(&code, CHARACTER, WRITE, 1, 3));
    assert!(!run(&code, CHARACTER, WRITE | READ, 1, 5), "any denied part denies");
    assert!(run(&code, CHARACTER, READ, 1, 5));
    assert!(run(&code, BLOCK, ALL, 8, 0));
    let closed = Rules::new(Some(&spec(r#"[{"allow":true,"access":"rwm"},{"allow":false,"access":"rwm"}]"#)));
    assert!(!run(&program(&closed), CHARACTER, READ, 1, 3));
    let wild = Rules::new(Some(&spec(r#"[{"allow":true,"type":"c","major":189,"minor":-1,"access":"r"}]"#)));
    assert!(run(&program(&wild), CHARACTER, READ, 189, 12345));
}

#[test]
fn the_kernel_verifies_the_program() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: bpf(2) needs root");
        return;
    }
    for list in [
        None,
        Some(spec(r#"[{"allow":true,"access":"rwm"},{"allow":false,"major":1,"access":"w"}]"#)),
        Some(
            (0..200)
                .flat_map(|n| {
                    spec(&format!(r#"[{{"allow":true,"type":"b","major":{n},"minor":1,"access":"r"}}]"#))
                })
                .collect(),
        ),
    ] {
        sys::load_device_program(&program(&Rules::new(list.as_deref()))).unwrap();
    }
}

/// The program in force, in the unified hierarchy, which a hybrid host has too.
#[test]
fn b5_the_program_of_v2_decides_about_real_devices() {
    let hierarchies = super::super::Hierarchies::detect().ok();
    let mounts = hierarchies.iter().flat_map(|hierarchies| hierarchies.mounts());
    let unified = mounts.filter(|mount| mount.unified).map(|mount| mount.point.clone()).next();
    let Some(unified) = unified.filter(|_| nix::unistd::geteuid().is_root()) else {
        eprintln!("skipped: needs root and a unified hierarchy");
        return;
    };
    let dir = unified.join(format!("engine_devices_{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    apply_v2(&dir, &Rules::new(None)).unwrap();
    let run = |script: &str| {
        let script = format!("echo 0 > '{}/cgroup.procs' && {script}", dir.display());
        std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap()
    };
    let (allowed, denied) = (run("exec 3<>/dev/null"), run("exec 3</dev/kmsg"));
    let made = run(&format!("mknod '{}' c 1 3", std::env::temp_dir().join("engine_node").display()));
    std::fs::remove_dir(&dir).unwrap();
    assert!(allowed.status.success(), "{allowed:?}");
    assert!(String::from_utf8_lossy(&denied.stderr).contains("not permitted"), "{denied:?}");
    assert!(String::from_utf8_lossy(&made.stderr).contains("not permitted"), "{made:?}");
}
