//! The default profile on the running kernel: a thread installs the program on itself and makes calls. Needs no privilege.

use nix::errno::Errno;
use nix::libc;

use super::*;

fn in_filtered_thread<T: Send + 'static>(program: Program, body: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        sys::install(program.as_bytes()).unwrap();
        body()
    });
    thread.join().unwrap()
}

fn default_program() -> Program {
    let set = CapabilitySet::default_set();
    Cache::default().json(DEFAULT_PROFILE, set, Target::for_image("amd64").unwrap()).unwrap()
}

#[test]
fn b7_the_kernel_refuses_what_the_default_profile_denies() {
    in_filtered_thread(default_program(), || {
        let socket =
            |family, protocol| sys::call(libc::SYS_socket, [family, libc::SOCK_RAW as u64, protocol]);
        assert_eq!(socket(38, 0), Err(Errno::EPERM));
        assert_eq!(socket(1 << 32 | 40, 0), Err(Errno::EPERM));
        assert_eq!(socket(16, 9), Err(Errno::EINVAL));
        let netlink = socket(16, 0).unwrap();
        sys::call(libc::SYS_close, [netlink as u64, 0, 0]).unwrap();
        assert_eq!(sys::call(libc::SYS_unshare, [libc::CLONE_NEWUTS as u64, 0, 0]), Err(Errno::EPERM));
        assert_eq!(sys::call(libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0]), Err(Errno::EPERM));
        assert_eq!(sys::call(libc::SYS_clone3, [0; 3]), Err(Errno::ENOSYS));
        assert_eq!(sys::call(libc::SYS_io_uring_setup, [1, 0, 0]), Err(Errno::EPERM));
        assert_eq!(sys::call(libc::SYS_futex_waitv, [0; 3]), Err(Errno::ENOSYS));
        assert_eq!(sys::call(100_000, [0; 3]), Err(Errno::ENOSYS));
        assert!(sys::call(libc::SYS_getppid, [0; 3]).is_ok());
    });
}

/// Every number that the program denies, with arguments of zero: none of them is executed, so none can do harm.
#[test]
fn b7_the_kernel_agrees_with_the_interpreter_on_every_denied_call() {
    let program = default_program();
    let arch = Abi::native().unwrap().audit_arch();
    let verdict = |number| {
        let call = interpreter::Call { number, arch, args: [0; 6] };
        interpreter::run(&program, &call).0
    };
    // uretprobe and uprobe pass every filter (Linux 6.14 and its stable relatives), and end in SIGILL where the kernel
    // did not make the call itself.
    let passed: &[u32] = if cfg!(target_arch = "x86_64") { &[335, 336] } else { &[] };
    let denied: Vec<(u32, u32)> = (0..1024)
        .filter(|number| !passed.contains(number))
        .map(|number| (number, verdict(number)))
        .filter(|(_, verdict)| *verdict != 0x7fff_0000)
        .collect();
    assert!(denied.len() > 600, "{}", denied.len());
    in_filtered_thread(program.clone(), move || {
        for (number, verdict) in denied {
            let result = sys::call(i64::from(number), [0; 3]);
            assert_eq!(result, Err(Errno::from_raw((verdict & 0xffff) as i32)), "call {number}");
        }
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn b7_the_kernel_refuses_other_tables() {
    // The gate exists where the kernel was built for 32-bit programs; elsewhere it is a fault.
    let gate = std::path::Path::new("/proc/sys/abi/vsyscall32").exists();
    in_filtered_thread(default_program(), move || {
        assert_eq!(sys::call(i64::from(X32_BIT) | libc::SYS_getpid, [0; 3]), Err(Errno::ENOSYS));
        if gate {
            assert_eq!(sys::getpid_by_int80(), -i64::from(libc::ENOSYS));
        }
    });
    if gate {
        let set = CapabilitySet::default_set();
        let target = Target::for_image("386").unwrap();
        let program = Cache::default().json(DEFAULT_PROFILE, set, target).unwrap();
        assert_eq!(in_filtered_thread(program, sys::getpid_by_int80), i64::from(std::process::id()));
    }
}
