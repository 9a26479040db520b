//! Seccomp profiles: Docker's JSON format, and the seccomp section of an OCI runtime spec.
//!
//! Docker's format has conditions (`includes`, `excludes`) on capabilities, architecture and kernel version, which are
//! decided when a profile is compiled. Unknown members are ignored, unknown actions and operators are errors.
//! Invariant: an action is held as the value that the filter returns.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};
use serde::Deserialize;

use super::table::Abi;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::CapabilitySet;

/// Longest profile that is read.
const MAX_JSON: usize = 1 << 20;

// What a filter returns (linux/seccomp.h).
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
pub(super) const RET_ERRNO: u32 = 0x0005_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

// errno(3); the same on all our architectures.
const EPERM: u32 = 1;
pub(super) const ENOSYS: u32 = 38;
/// The kernel cuts errors beyond this one.
const MAX_ERRNO: u32 = 4095;

const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;

/// A profile, checked and independent of architecture and capabilities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Profile {
    pub(super) default: u32,
    pub(super) rules: Vec<Rule>,
    pub(super) flags: u32,
}

/// One entry of `syscalls`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: u32,
    pub(super) conditions: Vec<Condition>,
    includes: Selector,
    excludes: Selector,
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// The argument under this mask equals the value.
    Masked(u64),
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Selector {
    capabilities: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<(u32, u32)>,
}

impl Profile {
    /// Reads Docker's JSON format, of which the OCI runtime spec's is a part.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`], naming what is wrong.
    pub fn from_json(json: &str) -> Result<Self> {
        if json.len() > MAX_JSON {
            return Err(invalid(format!("longer than {MAX_JSON} bytes")));
        }
        let raw: raw::Profile = serde_json::from_str(json).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, "read seccomp profile").with_source(error)
        })?;
        let mut flags = 0;
        for flag in raw.flags.unwrap_or_default() {
            flags |= match flag.as_str() {
                "SECCOMP_FILTER_FLAG_LOG" => FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FLAG_SPEC_ALLOW,
                // There is one thread when the filter is installed, and nobody is notified.
                "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
                other => return Err(invalid(format!("unknown flag {other:?}"))),
            };
        }
        let rules =
            raw.syscalls.unwrap_or_default().into_iter().map(Rule::from_raw).collect::<Result<_>>()?;
        Ok(Self { default: action(&raw.default_action, raw.default_errno_ret)?, rules, flags })
    }

    /// Takes the seccomp section of an OCI runtime spec.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for notifications; [`ErrorKind::InvalidArgument`] for an impossible condition.
    pub fn from_oci(seccomp: &LinuxSeccomp) -> Result<Self> {
        let mut flags = 0;
        for flag in seccomp.flags().iter().flatten() {
            flags |= match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                _ => 0,
            };
        }
        let mut rules = Vec::new();
        for syscall in seccomp.syscalls().iter().flatten() {
            let conditions = syscall.args().iter().flatten().map(|arg| {
                let two = arg.value_two().unwrap_or(0);
                condition(arg.index(), oci_operator(arg.op()), arg.value(), two)
            });
            rules.push(Rule {
                names: syscall.names().clone(),
                action: action(oci_action(syscall.action()), syscall.errno_ret())?,
                conditions: conditions.collect::<Result<_>>()?,
                includes: Selector::default(),
                excludes: Selector::default(),
            });
        }
        let default = action(oci_action(seccomp.default_action()), seccomp.default_errno_ret())?;
        Ok(Self { default, rules, flags })
    }
}

impl Rule {
    fn from_raw(raw: raw::Syscall) -> Result<Self> {
        let mut names = raw.names.unwrap_or_default();
        names.extend(raw.name.filter(|name| !name.is_empty()));
        let conditions = raw.args.unwrap_or_default().into_iter();
        let conditions = conditions.map(|arg| condition(arg.index, &arg.op, arg.value, arg.value_two));
        Ok(Self {
            names,
            action: action(&raw.action, raw.errno_ret)?,
            conditions: conditions.collect::<Result<_>>()?,
            includes: Selector::from_raw(raw.includes)?,
            excludes: Selector::from_raw(raw.excludes)?,
        })
    }

    /// Docker's meaning: all capabilities that are included, none that is excluded, and so on.
    pub(super) fn applies(&self, capabilities: CapabilitySet, abi: Abi, kernel: (u32, u32)) -> bool {
        let (includes, excludes) = (&self.includes, &self.excludes);
        let arch = |names: &[String]| names.iter().any(|name| abi.is_named(name));
        includes.capabilities.iter().all(|name| capabilities.contains(name))
            && (includes.arches.is_empty() || arch(&includes.arches))
            && includes.min_kernel.is_none_or(|least| kernel >= least)
            && !excludes.capabilities.iter().any(|name| capabilities.contains(name))
            && !arch(&excludes.arches)
            && excludes.min_kernel.is_none_or(|least| kernel < least)
    }

    /// The conditions as alternatives, each of which is a list that must hold as a whole.
    ///
    /// That is one list, unless an argument occurs twice: then each condition is an alternative, as runc and crun do it.
    pub(super) fn alternatives(&self) -> impl Iterator<Item = Vec<Condition>> {
        let mut seen = BTreeMap::new();
        for condition in &self.conditions {
            *seen.entry(condition.index).or_insert(0) += 1;
        }
        let size = if seen.values().any(|count| *count > 1) { 1 } else { self.conditions.len().max(1) };
        self.conditions.chunks(size).map(<[Condition]>::to_vec)
    }
}

impl Selector {
    fn from_raw(raw: Option<raw::Selector>) -> Result<Self> {
        let raw = raw.unwrap_or_default();
        let capabilities = raw.caps.unwrap_or_default();
        for name in &capabilities {
            CapabilitySet::from_names([name])?;
        }
        let min_kernel = match raw.min_kernel.filter(|text| !text.is_empty()) {
            Some(text) => Some(
                parse_version(&text)
                    .ok_or_else(|| invalid(format!("minKernel {text:?} is no kernel version")))?,
            ),
            None => None,
        };
        Ok(Self { capabilities, arches: raw.arches.unwrap_or_default(), min_kernel })
    }
}

/// `6.18.44-x` → (6, 18).
pub(super) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What the filter returns for an action.
fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let errno = errno.unwrap_or(EPERM);
    if errno > MAX_ERRNO {
        return Err(invalid(format!("errnoRet {errno} is no error number")));
    }
    Ok(match name {
        "SCMP_ACT_ALLOW" => RET_ALLOW,
        "SCMP_ACT_ERRNO" => RET_ERRNO | errno,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => RET_KILL_PROCESS,
        "SCMP_ACT_LOG" => RET_LOG,
        "SCMP_ACT_TRAP" => RET_TRAP,
        "SCMP_ACT_TRACE" => RET_TRACE | errno,
        "SCMP_ACT_NOTIFY" => {
            return Err(Error::new(ErrorKind::Unsupported, "read seccomp profile")
                .with_message("SCMP_ACT_NOTIFY needs a listener, which this engine does not offer"));
        }
        other => return Err(invalid(format!("unknown action {other:?}"))),
    })
}

fn condition(index: usize, operator: &str, value: u64, two: u64) -> Result<Condition> {
    let index = u8::try_from(index)
        .ok()
        .filter(|index| *index < 6)
        .ok_or_else(|| invalid(format!("a system call has no argument {index}: they count from 0 to 5")))?;
    let (operator, value) = match operator {
        "SCMP_CMP_EQ" => (Operator::Equal, value),
        "SCMP_CMP_NE" => (Operator::NotEqual, value),
        "SCMP_CMP_GT" => (Operator::Greater, value),
        "SCMP_CMP_GE" => (Operator::GreaterOrEqual, value),
        "SCMP_CMP_LT" => (Operator::Less, value),
        "SCMP_CMP_LE" => (Operator::LessOrEqual, value),
        "SCMP_CMP_MASKED_EQ" => (Operator::Masked(value), two),
        other => return Err(invalid(format!("unknown operator {other:?}"))),
    };
    Ok(Condition { index, operator, value })
}

fn oci_action(action: LinuxSeccompAction) -> &'static str {
    match action {
        LinuxSeccompAction::ScmpActKill => "SCMP_ACT_KILL",
        LinuxSeccompAction::ScmpActKillThread => "SCMP_ACT_KILL_THREAD",
        LinuxSeccompAction::ScmpActKillProcess => "SCMP_ACT_KILL_PROCESS",
        LinuxSeccompAction::ScmpActTrap => "SCMP_ACT_TRAP",
        LinuxSeccompAction::ScmpActErrno => "SCMP_ACT_ERRNO",
        LinuxSeccompAction::ScmpActNotify => "SCMP_ACT_NOTIFY",
        LinuxSeccompAction::ScmpActTrace => "SCMP_ACT_TRACE",
        LinuxSeccompAction::ScmpActLog => "SCMP_ACT_LOG",
        LinuxSeccompAction::ScmpActAllow => "SCMP_ACT_ALLOW",
    }
}

fn oci_operator(operator: LinuxSeccompOperator) -> &'static str {
    match operator {
        LinuxSeccompOperator::ScmpCmpNe => "SCMP_CMP_NE",
        LinuxSeccompOperator::ScmpCmpLt => "SCMP_CMP_LT",
        LinuxSeccompOperator::ScmpCmpLe => "SCMP_CMP_LE",
        LinuxSeccompOperator::ScmpCmpEq => "SCMP_CMP_EQ",
        LinuxSeccompOperator::ScmpCmpGe => "SCMP_CMP_GE",
        LinuxSeccompOperator::ScmpCmpGt => "SCMP_CMP_GT",
        LinuxSeccompOperator::ScmpCmpMaskedEq => "SCMP_CMP_MASKED_EQ",
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, "read seccomp profile").with_message(message)
}

/// The JSON as it is written. Lists may be `null`, as Go writes empty ones.
mod raw {
    use super::Deserialize;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Profile {
        pub(super) default_action: String,
        pub(super) default_errno_ret: Option<u32>,
        pub(super) flags: Option<Vec<String>>,
        pub(super) syscalls: Option<Vec<Syscall>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Syscall {
        pub(super) name: Option<String>,
        pub(super) names: Option<Vec<String>>,
        pub(super) action: String,
        pub(super) errno_ret: Option<u32>,
        pub(super) args: Option<Vec<Arg>>,
        pub(super) includes: Option<Selector>,
        pub(super) excludes: Option<Selector>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Arg {
        pub(super) index: usize,
        pub(super) value: u64,
        #[serde(default)]
        pub(super) value_two: u64,
        pub(super) op: String,
    }

    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Selector {
        pub(super) caps: Option<Vec<String>>,
        pub(super) arches: Option<Vec<String>>,
        pub(super) min_kernel: Option<String>,
    }
}
