//! The program of the image `localhost/hello`: a report of what a process sees inside its container.
//!
//! It believes nothing but the kernel: every line is read from procfs, sysfs or a system call. Static, without the
//! standard library, so that an image of this one file runs.

#![no_std]
#![no_main]

mod report;
mod sys;

use core::fmt::Write;

/// Called by `_start`.
pub(crate) extern "C" fn main() -> ! {
    let mut page = Page { bytes: [0; 8 << 10], used: 0 };
    let written = report::write(&mut page);
    let text = &page.bytes[..page.used];
    sys::exit(if sys::write_all(1, text) && written.is_ok() { 0 } else { 1 })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(70)
}

/// The report, written at once.
struct Page {
    bytes: [u8; 8 << 10],
    used: usize,
}

impl Write for Page {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.used + text.len();
        let room = self.bytes.get_mut(self.used..end).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}
