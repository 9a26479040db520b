//! The state file: what is true of the container, for whoever comes later.
//!
//! Lines of `key value`, put in place by a rename, so that a reader sees one state or the next. Written without
//! fsync: what a power loss takes with it is also not running any more.

use core::ffi::CStr;

use crate::Failure;
use crate::sys::{self, Fd};

/// What the file tells.
pub(crate) struct State<'a> {
    pub(crate) boot_id: &'a CStr,
    pub(crate) id: &'a CStr,
    pub(crate) cgroup: &'a CStr,
    /// Whether output is kept.
    pub(crate) log: bool,
    pub(crate) status: &'static str,
    pub(crate) shim: (i32, u64),
    pub(crate) init: (i32, u64),
    pub(crate) created_ns: u64,
    pub(crate) started_ns: u64,
    pub(crate) finished_ns: u64,
    /// Exit code, signal, whether the kernel killed for want of memory.
    pub(crate) exit: Option<(i32, i32, bool)>,
    pub(crate) error: Option<Failure>,
    /// How often the plan was run again.
    pub(crate) restarts: u32,
    /// Somebody asked it to end.
    pub(crate) stopped: bool,
    /// Health status and failing streak, of a container that has a check.
    pub(crate) health: Option<(u32, u32)>,
}

/// Text being put together in a buffer; what does not fit is dropped.
struct Text {
    bytes: [u8; 2048],
    length: usize,
}

impl Text {
    /// Begins with the version of the format.
    fn new() -> Self {
        let mut text = Text { bytes: [0; 2048], length: 0 };
        text.line("version", &[1]);
        text
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(to) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            to.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    fn line(&mut self, key: &str, values: &[u64]) {
        self.push(key.as_bytes());
        for &value in values {
            self.push(b" ");
            let mut digits = [0; 20];
            let mut at = digits.len();
            let mut rest = value;
            loop {
                at -= 1;
                digits[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            self.push(&digits[at..]);
        }
        self.push(b"\n");
    }

    fn word(&mut self, key: &str, value: &[u8]) {
        self.push(key.as_bytes());
        self.push(b" ");
        self.push(value);
        self.push(b"\n");
    }
}

/// Replaces the state file in `directory`.
pub(crate) fn write(directory: Fd, state: &State<'_>) -> sys::Result<()> {
    let mut text = Text::new();
    text.word("boot_id", state.boot_id.to_bytes());
    text.word("id", state.id.to_bytes());
    text.word("cgroup", state.cgroup.to_bytes());
    text.line("log", &[u64::from(state.log)]);
    text.word("status", state.status.as_bytes());
    text.line("shim", &[state.shim.0 as u64, state.shim.1]);
    text.line("init", &[state.init.0 as u64, state.init.1]);
    text.line("created", &[state.created_ns]);
    text.line("started", &[state.started_ns]);
    text.line("finished", &[state.finished_ns]);
    text.line("restarts", &[u64::from(state.restarts)]);
    text.line("stopped", &[u64::from(state.stopped)]);
    if let Some((status, streak)) = state.health {
        text.line("health", &[u64::from(status), u64::from(streak)]);
    }
    if let Some((code, signal, oom)) = state.exit {
        text.line("exit", &[code as u64, signal as u64, u64::from(oom)]);
    }
    if let Some(error) = &state.error {
        text.line("error", &[u64::from(error.step), u64::from(error.index), error.errno as u64]);
    }
    replace(directory, (c"state.new", c"state"), &text.bytes[..text.length], &[])
}

/// Writes the result of a health probe.
pub(crate) fn write_result(
    directory: Fd,
    name: &CStr,
    times: (u64, u64),
    code: i32,
    failure: Option<Failure>,
    output: &[u8],
) -> sys::Result<()> {
    let mut text = Text::new();
    text.line("times", &[times.0, times.1]);
    text.word("code", crate::process::decimal(code, &mut [0; 12]));
    if let Some(failure) = failure {
        text.line("failure", &[u64::from(failure.step), u64::from(failure.index), failure.errno as u64]);
    }
    text.push(b"output\n");
    replace(directory, (c"health.new", name), &text.bytes[..text.length], output)
}

/// Puts a file in place whole: under its first name, then under its second.
fn replace(directory: Fd, names: (&CStr, &CStr), head: &[u8], tail: &[u8]) -> sys::Result<()> {
    let file = sys::openat(
        directory,
        names.0,
        sys::O_WRONLY | sys::O_CREAT | sys::O_TRUNC | sys::O_NOFOLLOW,
        0o600,
    )?;
    let written = sys::write_all(file, head).and_then(|()| sys::write_all(file, tail));
    sys::close(file);
    written?;
    sys::renameat(directory, names.0, names.1)
}

/// The start time of a process in clock ticks since boot (proc_pid_stat(5), field 22); 0 when it is gone.
pub(crate) fn start_time(pid: i32) -> u64 {
    let mut path = [0; 32];
    let mut bytes = [0; 512];
    let read = proc_path(pid, b"stat", &mut path)
        .and_then(|path| sys::openat(sys::AT_FDCWD, path, sys::O_RDONLY, 0).ok())
        .and_then(|fd| {
            let count = sys::read(fd, &mut bytes).ok();
            sys::close(fd);
            count
        });
    let bytes = &bytes[..read.unwrap_or(0)];
    // The command is in parentheses and may hold anything; the rest has none.
    let after = bytes.iter().rposition(|&byte| byte == b')').map_or(&[][..], |at| &bytes[at + 1..]);
    let field = after.split(|&byte| byte == b' ').nth(20).unwrap_or(&[]);
    field.iter().fold(0, |value, digit| value * 10 + u64::from(digit.wrapping_sub(b'0')))
}

/// `/proc/<pid>/<name>` as a text.
pub(crate) fn proc_path<'a>(pid: i32, name: &[u8], path: &'a mut [u8; 32]) -> Option<&'a CStr> {
    let mut digits = [0; 12];
    let digits = crate::process::decimal(pid, &mut digits);
    let mut length = 0;
    for piece in [&b"/proc/"[..], digits, b"/", name, b"\0"] {
        path.get_mut(length..length + piece.len())?.copy_from_slice(piece);
        length += piece.len();
    }
    CStr::from_bytes_with_nul(path.get(..length)?).ok()
}
