//! Runs compiled programs in tests, with the kernel's checks (`seccomp_check_filter`, `bpf_check_classic`).

use super::Program;

/// What the kernel shows a filter: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) arch: u32,
    pub(super) args: [u64; 6],
}

fn decode(program: &Program) -> Vec<(u16, u8, u8, u32)> {
    let instructions = program.as_bytes().chunks_exact(8);
    instructions
        .map(|b| (u16::from_ne_bytes([b[0], b[1]]), b[2], b[3], u32::from_ne_bytes([b[4], b[5], b[6], b[7]])))
        .collect()
}

/// Panics where the kernel would refuse the program.
pub(super) fn check(program: &Program) {
    let code = decode(program);
    assert!(!code.is_empty() && code.len() <= 4096);
    for (at, (op, jt, jf, k)) in code.iter().enumerate() {
        let left = code.len() - at - 1;
        match op {
            0x20 => assert!(*k < 64 && k % 4 == 0, "load outside of seccomp_data"),
            0x05 => assert!((*k as usize) < left, "jump past the end"),
            0x15 | 0x25 | 0x35 => assert!((*jt as usize) < left && (*jf as usize) < left),
            0x54 => {}
            0x06 => {}
            other => panic!("unknown instruction {other:#x}"),
        }
    }
    assert_eq!(code.last().unwrap().0, 0x06, "the last instruction must return");
}

/// The return value, and how many instructions it took.
pub(super) fn run(program: &Program, call: &Call) -> (u32, usize) {
    let code = decode(program);
    let mut data = Vec::new();
    data.extend(call.number.to_le_bytes());
    data.extend(call.arch.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    for arg in call.args {
        data.extend(arg.to_le_bytes());
    }
    let (mut at, mut a, mut steps) = (0, 0u32, 0);
    loop {
        let (op, jt, jf, k) = code[at];
        at += 1;
        steps += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { jt } else { jf });
        match op {
            0x20 => a = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
            0x05 => at += k as usize,
            0x15 => branch(a == k),
            0x25 => branch(a > k),
            0x35 => branch(a >= k),
            0x54 => a &= k,
            0x06 => return (k, steps),
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}
