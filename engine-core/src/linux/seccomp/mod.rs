//! Seccomp: profiles in Docker's JSON format (or the OCI runtime spec's) compiled to classic BPF.
//!
//! `profile` reads, `table` knows the numbers, `bpf` writes programs; this file puts them together and keeps what was
//! compiled. The shim installs a program.
//!
//! Where engines differ, we hold:
//! - Rules with conditions on arguments come first, in the profile's order; then the first rule of the name without any;
//!   then the default action. (libseccomp drops conditional rules beside an unconditional one, so that `deny AF_VSOCK`
//!   beside `allow socket` denies nothing.)
//! - The 32-bit system calls of the processor exist only for images of that architecture, x32 ones never: for all
//!   others they fail with `ENOSYS`, as on a kernel built without them. A profile's list of architectures cannot widen that
//!   (SECURITY B7).
//!
//! Invariant: every program is a tree that ends in a return on each path, within the kernel's 4,096 instructions.

mod bpf;
mod profile;
mod table;

pub use profile::Profile;
pub use table::{Abi, Target};

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::LinuxSeccomp;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::policy::CapabilitySet;

use bpf::Decision;
use profile::{ENOSYS, RET_ERRNO};

/// The engine's default profile, in Docker's JSON format.
pub const DEFAULT_PROFILE: &str = include_str!("default.json");

/// x86_64 marks the calls of the x32 ABI with this bit of the number.
const X32_BIT: u32 = 0x4000_0000;

/// A compiled filter: an array of the kernel's `struct sock_filter`, ready for seccomp(2).
#[derive(Clone, Eq, PartialEq)]
pub struct Program {
    bytes: Arc<[u8]>,
    flags: u32,
}

impl Program {
    /// The instructions, 8 bytes each, in the byte order of the host.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.bytes.len() / bpf::INSTRUCTION_SIZE
    }

    /// `SECCOMP_FILTER_FLAG_…` bits for seccomp(2).
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (instructions, flags) = (self.instructions(), self.flags);
        f.debug_struct("Program").field("instructions", &instructions).field("flags", &flags).finish()
    }
}

/// Compiles `profile` for a container with the bounding set `capabilities`.
///
/// Names that an architecture does not have are skipped, as runc does.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if the program is longer than the kernel takes.
pub fn compile(profile: &Profile, capabilities: CapabilitySet, target: Target) -> Result<Program> {
    let kernel = kernel_version();
    let sections: Vec<_> =
        target.abis().map(|abi| (abi.audit_arch(), intervals(profile, capabilities, abi, kernel))).collect();
    let instructions = bpf::program(&sections, RET_ERRNO | ENOSYS);
    if instructions.len() > bpf::MAX_INSTRUCTIONS {
        return Err(Error::new(ErrorKind::InvalidArgument, "compile seccomp profile").with_message(format!(
            "{} instructions are more than the kernel takes ({})",
            instructions.len(),
            bpf::MAX_INSTRUCTIONS
        )));
    }
    let bytes: Vec<u8> = instructions.iter().flat_map(|instruction| instruction.to_bytes()).collect();
    Ok(Program { bytes: bytes.into(), flags: profile.flags })
}

/// What is decided for each number of `abi`: the start of every run of equal decisions, from 0.
fn intervals(
    profile: &Profile,
    capabilities: CapabilitySet,
    abi: Abi,
    kernel: (u32, u32),
) -> Vec<(u32, Decision)> {
    let mut calls: BTreeMap<u32, Decision> = BTreeMap::new();
    // Whether the unconditional rule of a number has been seen.
    let mut settled: BTreeMap<u32, bool> = BTreeMap::new();
    for rule in profile.rules.iter().filter(|rule| rule.applies(capabilities, abi, kernel)) {
        for number in rule.names.iter().filter_map(|name| abi.number(name)) {
            let decision = calls
                .entry(number)
                .or_insert_with(|| Decision { rules: Vec::new(), otherwise: profile.default });
            if rule.conditions.is_empty() {
                if !std::mem::replace(settled.entry(number).or_default(), true) {
                    decision.otherwise = rule.action;
                }
            } else {
                decision.rules.extend(rule.alternatives().map(|conditions| (conditions, rule.action)));
            }
        }
    }
    if abi == Abi::X86_64 {
        let missing = Decision { rules: Vec::new(), otherwise: RET_ERRNO | ENOSYS };
        calls.split_off(&X32_BIT);
        calls.insert(X32_BIT, missing);
    }
    let default = Decision { rules: Vec::new(), otherwise: profile.default };
    let mut runs: Vec<(u32, Decision)> = Vec::new();
    let mut push = |start: u32, decision: &Decision| {
        if runs.last().is_none_or(|(_, last)| last != decision) {
            runs.push((start, decision.clone()));
        }
    };
    let mut next = 0;
    for (number, decision) in &calls {
        if *number > next {
            push(next, &default);
        }
        push(*number, decision);
        next = number + 1;
    }
    if abi != Abi::X86_64 {
        push(next, &default);
    }
    runs
}

/// Version of the running kernel, for `minKernel`.
fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    profile::parse_version(&release).unwrap_or((0, 0))
}

/// How many programs are kept; a container host uses a handful.
const KEPT: usize = 64;

/// Compiled programs by content, so that a start does not compile. Cheap to make, one for each runtime.
#[derive(Debug, Default)]
pub struct Cache {
    programs: Mutex<HashMap<Key, Program>>,
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct Key {
    content: [u8; 32],
    capabilities: CapabilitySet,
    target: Target,
}

impl Cache {
    /// The program of a profile in JSON; of the default profile with [`DEFAULT_PROFILE`].
    ///
    /// # Errors
    /// As [`Profile::from_json`] and [`compile`].
    pub fn json(&self, json: &str, capabilities: CapabilitySet, target: Target) -> Result<Program> {
        // Hashing the default profile, which is nearly all there is, would cost more than all the rest of a hit.
        let content = if std::ptr::eq(json, DEFAULT_PROFILE) { [0; 32] } else { Sha256::digest(json).into() };
        self.get(Key { content, capabilities, target }, || Profile::from_json(json))
    }

    /// The program of the seccomp section of an OCI runtime spec.
    ///
    /// # Errors
    /// As [`Profile::from_oci`] and [`compile`].
    pub fn oci(
        &self,
        seccomp: &LinuxSeccomp,
        capabilities: CapabilitySet,
        target: Target,
    ) -> Result<Program> {
        let json = serde_json::to_vec(seccomp).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, "read seccomp section").with_source(error)
        })?;
        let content = Sha256::digest(json).into();
        self.get(Key { content, capabilities, target }, || Profile::from_oci(seccomp))
    }

    fn get(&self, key: Key, read: impl FnOnce() -> Result<Profile>) -> Result<Program> {
        if let Some(program) = self.lock().get(&key) {
            return Ok(program.clone());
        }
        let program = compile(&read()?, key.capabilities, key.target)?;
        let mut programs = self.lock();
        if programs.len() >= KEPT {
            programs.clear();
        }
        programs.insert(key, program.clone());
        Ok(program)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Program>> {
        // Each change is one call on the map, so one that panicked left it whole.
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
#[expect(unsafe_code, reason = "seccomp(2) and raw system calls have no safe wrapper")]
mod sys;
#[cfg(test)]
mod tests;
