//! What the resolver looks things up in: the configuration and the zone files, read anew for each question, so that a change
//! holds at once and nothing is kept.

use core::ffi::CStr;

use super::answer::{self, Transport, Verdict, Zones};
use super::config::{Config, MAX_CONFIG};
use crate::sys::{self, Address, Fd};

/// Longest path of a zone file, with its NUL.
const MAX_PATH: usize = 1024;

/// All zero bytes are one to be opened.
pub(super) struct Desk {
    /// The directory with the configuration.
    run_dir: Fd,
    config: [u8; MAX_CONFIG],
}

/// Zone files of the host.
struct Files;

impl Zones for Files {
    fn find(&mut self, path: &[u8], key: &[u8], each: &mut dyn FnMut(&[u8])) {
        let mut text = [0; MAX_PATH];
        let Some(to) = text.get_mut(..path.len()).filter(|to| to.len() < MAX_PATH) else { return };
        to.copy_from_slice(path);
        let Ok(path) = CStr::from_bytes_until_nul(&text) else { return };
        // A network that has gone has no names.
        let flags = sys::O_RDONLY | sys::O_NONBLOCK | sys::O_NOCTTY;
        let Ok(file) = sys::openat(sys::AT_FDCWD, path, flags, 0) else { return };
        if let Ok(stat) = sys::fstat(file) {
            let mut read_at = |at, bytes: &mut [u8]| sys::pread(file, bytes, at).unwrap_or(0);
            super::zone::find(&mut read_at, stat.size, key, each);
        }
        sys::close(file);
    }
}

impl Desk {
    pub(super) fn open(&mut self, run_dir: Fd) {
        self.run_dir = run_dir;
    }

    /// Reads the configuration. Without one, nothing is known and nobody is asked.
    fn config(&mut self) -> Config<'_> {
        let mut length = 0;
        if let Ok(file) = sys::openat(self.run_dir, c"resolver", sys::O_RDONLY | sys::O_NOFOLLOW, 0) {
            length = sys::read(file, &mut self.config).unwrap_or(0);
            sys::close(file);
        }
        Config(&self.config[..length])
    }

    /// Decides on a question. An answer goes to `out`.
    pub(super) fn decide(&mut self, query: &[u8], transport: Transport, out: &mut [u8]) -> Verdict {
        answer::answer(query, transport, self.config(), &mut Files, sys::random(), out)
    }

    /// Who is asked, as the `at`th one.
    pub(super) fn upstream(&mut self, at: usize) -> Option<Address> {
        let config = self.config();
        config.upstreams().nth(at).filter(|_| config.forwards()).map(Address::from)
    }
}
