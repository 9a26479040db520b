//! What the resolver looks things up in: the configuration and the zone files, read anew for each question, so that a change
//! holds at once and nothing is kept.

use core::ffi::CStr;

use super::answer::{self, Transport, Verdict, Zones};
use super::config::{Config, MAX_CONFIG};
use super::message::rcode;
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
struct Files {
    /// One could not be read, so it is not known what it has.
    broken: bool,
}

impl Zones for Files {
    fn find(&mut self, path: &[u8], key: &[u8], each: &mut dyn FnMut(&[u8])) {
        let mut text = [0; MAX_PATH];
        let Some(to) = text.get_mut(..path.len()).filter(|to| to.len() < MAX_PATH) else { return };
        to.copy_from_slice(path);
        let Ok(path) = CStr::from_bytes_until_nul(&text) else { return };
        let file = match sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY | sys::O_NONBLOCK, 0) {
            Ok(file) => file,
            // A network that has gone has no names.
            Err(sys::ENOENT | sys::ENOTDIR) => return,
            Err(_) => {
                self.broken = true;
                return;
            }
        };
        match sys::fstat(file) {
            Ok(stat) => {
                let mut read_at = |at, bytes: &mut [u8]| {
                    sys::pread(file, bytes, at).unwrap_or_else(|_| {
                        self.broken = true;
                        0
                    })
                };
                super::zone::find(&mut read_at, stat.size, key, each);
            }
            Err(_) => self.broken = true,
        }
        sys::close(file);
    }
}

impl Desk {
    pub(super) fn open(&mut self, run_dir: Fd) {
        self.run_dir = run_dir;
    }

    /// Reads the configuration. Without one, nothing is known and nobody is asked.
    fn config(&mut self) -> sys::Result<Config<'_>> {
        let length = match sys::openat(self.run_dir, c"resolver", sys::O_RDONLY | sys::O_NOFOLLOW, 0) {
            Ok(file) => {
                let length = sys::read(file, &mut self.config);
                sys::close(file);
                length?
            }
            Err(sys::ENOENT) => 0,
            Err(errno) => return Err(errno),
        };
        Ok(Config(&self.config[..length]))
    }

    /// Decides on a question. An answer goes to `out`. What cannot be looked up, for want of descriptors or by a fault of the
    /// disk, is a failure and not a name that is not there.
    pub(super) fn decide(&mut self, query: &[u8], transport: Transport, out: &mut [u8]) -> Verdict {
        let config = self.config();
        let mut files = Files { broken: config.is_err() };
        let config = config.unwrap_or(Config(&[]));
        match answer::answer(query, transport, config, &mut files, sys::random(), out) {
            Verdict::Answer(_) | Verdict::Forward if files.broken => {
                Verdict::Answer(answer::fail(query, rcode::SERVER_FAILURE, out))
            }
            verdict => verdict,
        }
    }

    /// Who is asked, as the `at`th one.
    pub(super) fn upstream(&mut self, at: usize) -> Option<Address> {
        let config = self.config().ok()?;
        config.upstreams().nth(at).filter(|_| config.forwards()).map(Address::from)
    }
}
