//! System call tables: which ABIs there are, and the number of each name.
//!
//! The tables are those of the `syscalls` crate. Invariant: an [`Abi`] is one value of `seccomp_data.arch`.

use std::str::FromStr as _;

use crate::error::{Error, ErrorKind, Result};

/// A system call ABI.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// Calls that the 32-bit ARM kernel has beside its table (`arch/arm/include/uapi/asm/unistd.h`).
const ARM_PRIVATE: [(&str, u32); 4] =
    [("breakpoint", 0x0f_0001), ("cacheflush", 0x0f_0002), ("set_tls", 0x0f_0005), ("get_tls", 0x0f_0006)];

impl Abi {
    /// The ABI that this program was compiled for.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on other processors.
    pub fn native() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            other => Err(Error::new(ErrorKind::Unsupported, "compile seccomp profile")
                .with("architecture", other)
                .with_message("no system call table")),
        }
    }

    /// `AUDIT_ARCH_…` (linux/audit.h).
    pub(super) const fn audit_arch(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether `name` in a profile's list of architectures means this one: Go's word, or libseccomp's.
    pub(super) fn is_named(self, name: &str) -> bool {
        let names: &[&str] = match self {
            Self::X86_64 => &["amd64", "x86_64"],
            Self::X86 => &["386", "x86"],
            Self::Aarch64 => &["arm64", "aarch64"],
            Self::Arm => &["arm"],
        };
        names.contains(&name)
    }

    /// The number of the call `name`, if this ABI has it.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        let id = match self {
            Self::X86_64 => syscalls::x86_64::Sysno::from_str(name).map(|call| call.id()),
            Self::X86 => syscalls::x86::Sysno::from_str(name).map(|call| call.id()),
            Self::Aarch64 => syscalls::aarch64::Sysno::from_str(name).map(|call| call.id()),
            Self::Arm => syscalls::arm::Sysno::from_str(name).map(|call| call.id()),
        };
        match id {
            Ok(id) => u32::try_from(id).ok(),
            Err(()) if self == Self::Arm => {
                ARM_PRIVATE.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
            }
            Err(()) => None,
        }
    }
}

/// For which ABIs a filter is: the processor's own, and the 32-bit one where the image needs it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Target {
    native: Abi,
    compat: Option<Abi>,
}

impl Target {
    /// The ABIs for an image of the architecture `architecture` (Go's word, as in its configuration) on this host.
    ///
    /// The 64-bit calls are always there: our shim makes some after it has installed the filter.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on processors other than x86_64 and aarch64.
    pub fn for_image(architecture: &str) -> Result<Self> {
        let native = Abi::native()?;
        let compat = match (native, architecture) {
            (Abi::X86_64, "386") => Some(Abi::X86),
            (Abi::Aarch64, "arm") => Some(Abi::Arm),
            _ => None,
        };
        Ok(Self::new(native, compat))
    }

    /// Any pair of ABIs.
    #[must_use]
    pub const fn new(native: Abi, compat: Option<Abi>) -> Self {
        Self { native, compat }
    }

    pub(super) fn abis(self) -> impl Iterator<Item = Abi> {
        [Some(self.native), self.compat].into_iter().flatten()
    }
}
