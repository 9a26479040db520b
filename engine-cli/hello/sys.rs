//! The five system calls of this program, and what the compiler expects of a C library.

use core::ffi::CStr;

#[cfg(target_arch = "aarch64")]
#[path = "sys/aarch64.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "sys/x86_64.rs"]
mod arch;

use arch::{nr, syscall};

const AT_FDCWD: usize = -100_isize as usize;
const O_CLOEXEC: usize = 0o2_000_000;

/// Ends the program. See exit_group(2).
pub(crate) fn exit(code: usize) -> ! {
    loop {
        // SAFETY: exit_group takes no pointers.
        unsafe { syscall(nr::EXIT_GROUP, [code, 0, 0, 0]) };
    }
}

/// Returns the process id. See getpid(2).
pub(crate) fn getpid() -> isize {
    // SAFETY: getpid takes no arguments.
    unsafe { syscall(nr::GETPID, [0; 4]) }
}

/// Writes all of `bytes` and returns whether that worked. See write(2).
pub(crate) fn write_all(fd: usize, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: the kernel reads at most `len` bytes from where `bytes` begins.
        match unsafe { syscall(nr::WRITE, [fd, bytes.as_ptr() as usize, bytes.len(), 0]) } {
            written if written > 0 => bytes = &bytes[written as usize..],
            // EINTR
            -4 => {}
            _ => return false,
        }
    }
    true
}

/// Reads the file at `path` as far as `buffer` goes. See open(2) and read(2).
pub(crate) fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: `path` is a C string, which the kernel only reads.
    let fd = unsafe { syscall(nr::OPENAT, [AT_FDCWD, path.as_ptr() as usize, O_CLOEXEC, 0]) };
    let fd = usize::try_from(fd).ok()?;
    let mut used = 0;
    while used < buffer.len() {
        let rest = &mut buffer[used..];
        // SAFETY: the kernel writes at most `len` bytes from where `rest` begins.
        match unsafe { syscall(nr::READ, [fd, rest.as_mut_ptr() as usize, rest.len(), 0]) } {
            count if count > 0 => used += count as usize,
            -4 => {}
            _ => break,
        }
    }
    // SAFETY: close takes no pointers, and `fd` is not used after it.
    unsafe { syscall(nr::CLOSE, [fd, 0, 0, 0]) };
    Some(&buffer[..used])
}

/// Returns where the symbolic link at `path` points. See readlink(2).
pub(crate) fn read_link<'a>(path: &CStr, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let arguments = [AT_FDCWD, path.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: `path` is a C string, and the kernel writes at most `len` bytes to `buffer`.
    let size = unsafe { syscall(nr::READLINKAT, arguments) };
    buffer.get(..usize::try_from(size).ok()?)
}

/// Copies memory; the compiler calls it by this name.
///
/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for at in 0..count {
        // SAFETY: the caller answers for both ranges. Volatile keeps this loop from becoming a call of itself.
        unsafe { to.add(at).write_volatile(from.add(at).read()) };
    }
    to
}

/// Moves memory between ranges that may overlap; the compiler calls it by this name.
///
/// # Safety
/// As memmove(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: copying upwards never overwrites bytes still to be read.
        return unsafe { memcpy(to, from, count) };
    }
    for at in (0..count).rev() {
        // SAFETY: as in memcpy.
        unsafe { to.add(at).write_volatile(from.add(at).read()) };
    }
    to
}

/// Fills memory; the compiler calls it by this name.
///
/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    for at in 0..count {
        // SAFETY: the caller answers for the range. Volatile as in memcpy.
        unsafe { to.add(at).write_volatile(value as u8) };
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
        // SAFETY: the caller answers for both ranges. Volatile as in memcpy.
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
