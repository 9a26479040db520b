//! What the benchmark programs share: the payload, timing statistics.
//!
//! `engine-floor` makes what a container is made of with as few system calls as possible; `engine-bench` measures the
//! engine, the floor and peers in one run. README.md beside this file holds the last table.

/// A program of some 130 bytes for this machine's processor that exits with 0.
pub fn payload_true() -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    // xor edi, edi; mov eax, 60 (exit); syscall
    let code = [0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    #[cfg(target_arch = "aarch64")]
    // mov x0, 0; mov x8, 93 (exit); svc 0
    let code = words([0xd280_0000, 0xd280_0ba8, 0xd400_0001]);
    elf(&code)
}

/// A program of some 130 bytes that sleeps until it is killed.
pub fn payload_pause() -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    // mov eax, 34 (pause); syscall; jmp back
    let code = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    #[cfg(target_arch = "aarch64")]
    // mov x0..x3, 0; mov x8, 73 (ppoll); svc 0; b back
    let code =
        words([0xd280_0000, 0xd280_0001, 0xd280_0002, 0xd280_0003, 0xd280_0928, 0xd400_0001, 0x17ff_fffa]);
    elf(&code)
}

#[cfg(target_arch = "aarch64")]
fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// One loadable segment that is the whole file. See elf(5).
fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let size = HEADERS + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for value in [BASE + HEADERS, 64, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for value in [64u16, 56, 1, 0, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    file.extend(1u32.to_le_bytes());
    file.extend(5u32.to_le_bytes());
    for value in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(value.to_le_bytes());
    }
    file.extend(code);
    file
}

/// Durations of many runs of one thing, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// Takes the samples in any order.
    pub fn new(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        Self(nanoseconds)
    }

    /// Returns the shortest, in milliseconds.
    pub fn min(&self) -> f64 {
        self.at(0)
    }

    /// Returns the median, in milliseconds.
    pub fn median(&self) -> f64 {
        self.at(self.0.len() / 2)
    }

    /// Returns what nine of ten stay below, in milliseconds.
    pub fn p90(&self) -> f64 {
        self.at(self.0.len() * 9 / 10)
    }

    fn at(&self, index: usize) -> f64 {
        self.0.get(index.min(self.0.len().saturating_sub(1))).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    #[test]
    fn the_payload_runs() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for (name, program) in [("true", payload_true()), ("pause", payload_pause())] {
            let path = dir.path().join(name);
            fs::write(&path, program).expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        assert!(Command::new(dir.path().join("true")).status().expect("run").success());
        let mut pause = Command::new(dir.path().join("pause")).spawn().expect("run");
        assert!(pause.try_wait().expect("wait").is_none());
        pause.kill().expect("kill");
        pause.wait().expect("wait");
    }

    #[test]
    fn samples_are_ordered() {
        let samples = Samples::new(vec![3_000_000, 1_000_000, 2_000_000]);
        assert_eq!((samples.min(), samples.median(), samples.p90()), (1.0, 2.0, 3.0));
    }
}
