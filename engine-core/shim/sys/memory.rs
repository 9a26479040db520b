//! Memory: mappings, and the routines that the compiler and core call by name.
//!
//! `memcpy` is written for each architecture, beside its system calls.

use super::Fd;
use super::arch::{self, nr};
use super::call::sys;
use super::errno::Result;

/// Maps a whole sealed file for reading, for the life of the process.
pub(crate) fn map(fd: Fd, length: usize) -> Result<&'static [u8]> {
    let at = sys!(nr::MMAP, 0_usize, length, 1_usize, 2_usize, fd, 0_usize)?;
    // SAFETY: a fresh private read-only mapping of `length` bytes that is never unmapped; the caller checked the
    // seals, so the file can neither shrink below it nor change.
    Ok(unsafe { core::slice::from_raw_parts(at as *const u8, length) })
}

/// Unmaps what [`map`] made.
///
/// # Safety
/// Nothing borrowed from the mapping may be used afterwards.
pub(crate) unsafe fn unmap(bytes: &'static [u8]) {
    let _ = sys!(nr::MUNMAP, bytes.as_ptr(), bytes.len());
}

/// Maps zeroed memory for `count` words, for the life of the process.
pub(crate) fn words(count: usize) -> Result<&'static mut [usize]> {
    let at = sys!(nr::MMAP, 0_usize, count * size_of::<usize>(), 3_usize, 0x22_usize, -1, 0_usize)?;
    // SAFETY: a fresh private anonymous mapping, page aligned, that nothing else refers to.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut usize, count) })
}

/// Moves memory between ranges that may overlap; the compiler calls it by this name.
///
/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: copying upwards never overwrites bytes still to be read.
        return unsafe { arch::memcpy(to, from, count) };
    }
    for at in (0..count).rev() {
        // SAFETY: the caller answers for both ranges. Volatile keeps this loop from becoming a call of itself.
        unsafe { to.add(at).write_volatile(from.add(at).read()) };
    }
    to
}

/// Compares memory; the compiler calls it by this name.
///
/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: the caller answers for both ranges. Volatile as in memmove.
        let (x, y) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// Compares memory for equality; the compiler calls it by this name.
///
/// # Safety
/// As bcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, count) }
}

/// Measures a text; core's CStr calls it by this name.
///
/// # Safety
/// As strlen(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller answers for the terminating NUL.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
