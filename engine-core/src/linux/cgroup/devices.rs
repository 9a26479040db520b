//! Which device nodes a container may open: v1's devices controller, and the BPF program that v2 has instead.
//!
//! Invariant: everything is denied first, unless the rules begin by allowing everything (`--privileged`); so no list
//! can be one of exceptions to "allowed" by accident (SECURITY B5).

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::{Cgroup, files, limits, sys};
use crate::error::{Error, Result};
use crate::policy::defaults;

// linux/bpf.h: BPF_DEVCG_ACC_…, BPF_DEVCG_DEV_…
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// One rule after the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rule {
    allow: bool,
    /// Any type where `None`.
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

impl Rule {
    fn is_everything(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }
}

/// What is allowed: a first answer, and rules of which the last that matches wins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Rules {
    allow_all: bool,
    rules: Vec<Rule>,
}

impl Rules {
    /// From a runtime spec's list; without one, the default devices.
    pub(super) fn new(list: Option<&[LinuxDeviceCgroup]>) -> Self {
        let mut result = Self { allow_all: false, rules: Vec::new() };
        let Some(list) = list.filter(|list| !list.is_empty()) else {
            result.rules.extend(defaults::DEVICE_RULES.map(|(major, minor)| Rule {
                allow: true,
                kind: Some(CHARACTER),
                major: Some(major),
                minor,
                access: READ | WRITE,
            }));
            return result;
        };
        for rule in list.iter().filter_map(rule) {
            if rule.is_everything() {
                // Nothing that was said before counts any more.
                result = Self { allow_all: rule.allow, rules: Vec::new() };
            } else {
                result.rules.push(rule);
            }
        }
        result
    }
}

/// `None` for a rule that can match nothing.
fn rule(spec: &LinuxDeviceCgroup) -> Option<Rule> {
    let kind = match spec.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(BLOCK),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
        Some(LinuxDeviceType::P) => return None,
    };
    // -1 and nothing are "any".
    let number = |value: Option<i64>| value.filter(|value| *value >= 0).map(u32::try_from).transpose().ok();
    let access = match spec.access().as_deref() {
        None => ALL,
        Some(text) => text.chars().fold(0, |bits, c| {
            bits | match c {
                'm' => MKNOD,
                'r' => READ,
                'w' => WRITE,
                _ => 0,
            }
        }),
    };
    if access == 0 {
        return None;
    }
    Some(Rule {
        allow: spec.allow(),
        kind,
        major: number(spec.major())?,
        minor: number(spec.minor())?,
        access,
    })
}

/// Puts the rules in force in a new group.
pub(super) fn apply(cgroup: &Cgroup, rules: &Rules) -> Result<()> {
    if let Some(group) = cgroup.with("devices") {
        return apply_v1(&group.dir, rules);
    }
    if rules.allow_all && rules.rules.is_empty() {
        return Ok(());
    }
    match cgroup.unified_dir() {
        Some(dir) => apply_v2(dir, rules),
        // No way to deny anything: a container must not start like this.
        None => Err(limits::unsupported("devices")),
    }
}

fn apply_v2(dir: &Path, rules: &Rules) -> Result<()> {
    let failed = |error| Error::from_io("restrict devices of cgroup", error).with("path", dir.display());
    let group = std::fs::File::open(dir).map_err(failed)?;
    let program = sys::load_device_program(&program(rules)).map_err(|error| {
        failed(error)
            .with_hint("the kernel needs CONFIG_CGROUP_BPF, and this process CAP_BPF and CAP_NET_ADMIN")
    })?;
    sys::attach_device_program(group.as_fd(), program).map_err(failed)
}

/// A new group starts with a copy of its parent's list. One file takes one rule for each write(2).
fn apply_v1(dir: &Path, rules: &Rules) -> Result<()> {
    files::write(dir, if rules.allow_all { "devices.allow" } else { "devices.deny" }, "a")?;
    let open = |file| {
        let path = dir.join(file);
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|error| Error::from_io("restrict devices of cgroup", error).with("file", path.display()))
    };
    let (mut allow, mut deny) = (None, None);
    for rule in &rules.rules {
        let any = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter(|(bit, _)| rule.access & bit != 0)
            .map(|(_, c)| *c)
            .collect();
        // `a` takes no numbers in v1, so a rule for any type is one for each.
        for kind in
            [BLOCK, CHARACTER].into_iter().filter(|kind| rule.kind.is_none_or(|wanted| wanted == *kind))
        {
            let letter = if kind == BLOCK { 'b' } else { 'c' };
            let text = format!("{letter} {}:{} {access}", any(rule.major), any(rule.minor));
            let (slot, name) =
                if rule.allow { (&mut allow, "devices.allow") } else { (&mut deny, "devices.deny") };
            let file: &mut std::fs::File = match slot {
                Some(file) => file,
                None => slot.insert(open(name)?),
            };
            file.write_all(text.as_bytes()).map_err(|error| files::failed(dir, name, &text, error))?;
        }
    }
    Ok(())
}

// Registers and instructions of eBPF (linux/bpf.h, linux/bpf_common.h).
const R0: u8 = 0;
const R1: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const MOVE: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const JUMP_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d; // BPF_JMP | BPF_JNE | BPF_X
const JUMP_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// One `struct bpf_insn` as a little-endian word.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: u32) -> u64 {
    code as u64
        | ((to as u64) << 8)
        | ((from as u64) << 12)
        | ((offset as u16 as u64) << 16)
        | ((value as u64) << 32)
}

/// The rules as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`: it returns 1 to allow.
///
/// An access is allowed by a rule that allows all of it, and denied by one that denies any of it.
fn program(rules: &Rules) -> Vec<u64> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, access_type = access << 16 | type.
    let mut code = vec![
        instruction(LOAD_WORD, TYPE, R1, 0, 0),
        instruction(AND, TYPE, 0, 0, 0xffff),
        instruction(LOAD_WORD, ACCESS, R1, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, R1, 4, 0),
        instruction(LOAD_WORD, MINOR, R1, 8, 0),
    ];
    for rule in rules.rules.iter().rev() {
        // Each check jumps behind the rule where it does not match; `left` is how far that is.
        let mut checks: Vec<(u8, u8, u8, u32)> = Vec::new();
        if let Some(kind) = rule.kind {
            checks.push((JUMP_NOT_EQUAL, TYPE, 0, kind));
        }
        if rule.access != ALL {
            checks.push((MOVE_REGISTER, R0, ACCESS, 0));
            checks.push((AND, R0, 0, rule.access));
            checks.push(if rule.allow {
                (JUMP_NOT_EQUAL_REGISTER, R0, ACCESS, 0)
            } else {
                (JUMP_EQUAL, R0, 0, 0)
            });
        }
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                checks.push((JUMP_NOT_EQUAL, register, 0, number));
            }
        }
        let mut left = i16::try_from(checks.len()).unwrap_or(i16::MAX) + 2;
        for (op, to, from, value) in checks {
            left -= 1;
            let offset = if matches!(op, MOVE_REGISTER | AND) { 0 } else { left };
            code.push(instruction(op, to, from, offset, value));
        }
        code.push(instruction(MOVE, R0, 0, 0, u32::from(rule.allow)));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    code.push(instruction(MOVE, R0, 0, 0, u32::from(rules.allow_all)));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
