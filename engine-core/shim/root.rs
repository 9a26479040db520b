//! Paths inside the container's root: opened, or made where missing, never outside it.
//!
//! Every step goes through `openat2` from the root's descriptor with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`
//! (SECURITY A1, A5). A link that points nowhere is followed by reading it and starting again, so that also then
//! each directory that something is made in was itself opened beneath the root.

use core::ffi::CStr;

use crate::sys::{self, Errno, Fd};

const PATH_MAX: usize = 4096;
const IN_ROOT: u64 = sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS;

/// What to make when the last component is missing.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Make {
    Nothing,
    File,
    Directory,
}

/// Opens `path` (O_PATH) in `root`. `real` refuses every symbolic link.
pub(crate) fn open(root: Fd, path: &CStr, make: Make, real: bool) -> sys::Result<Fd> {
    let resolve = if real { sys::RESOLVE_BENEATH | sys::RESOLVE_NO_SYMLINKS } else { IN_ROOT };
    let relative = relative(path);
    match sys::openat2(root, relative, sys::O_PATH, resolve) {
        Err(sys::ENOENT) if make != Make::Nothing => create(root, relative, make, real),
        result => result,
    }
}

/// `path` without its leading slashes; the root itself is `.`.
fn relative(path: &CStr) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().position(|&byte| byte != b'/').unwrap_or(0);
    match CStr::from_bytes_with_nul(&bytes[start..]) {
        Ok(rest) if !rest.is_empty() => rest,
        _ => c".",
    }
}

/// A path being rewritten as links are read.
struct Path {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Path {
    /// The text of `range`, which stays NUL-terminated in place while `with` looks at it.
    fn with<T>(&mut self, start: usize, end: usize, with: impl FnOnce(&CStr) -> T) -> sys::Result<T> {
        let kept = *self.bytes.get(end).ok_or(sys::ENAMETOOLONG)?;
        self.bytes[end] = 0;
        let text = self.bytes.get(start..=end).and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok());
        let result = text.map(with).ok_or(sys::EINVAL);
        self.bytes[end] = kept;
        result
    }

    /// Replaces the component `start..end` by `target`, which begins at the root if it is absolute.
    fn substitute(&mut self, start: usize, end: usize, target: &[u8]) -> sys::Result<()> {
        let mut next = [0; PATH_MAX];
        let absolute = target.first() == Some(&b'/');
        let before = if absolute { 0 } else { start };
        let mut length = 0;
        for piece in [&self.bytes[..before], target, &self.bytes[end..self.length]] {
            next.get_mut(length..length + piece.len()).ok_or(sys::ENAMETOOLONG)?.copy_from_slice(piece);
            length += piece.len();
        }
        if length >= PATH_MAX {
            return Err(sys::ENAMETOOLONG);
        }
        (self.bytes, self.length) = (next, length);
        Ok(())
    }
}

fn create(root: Fd, relative: &CStr, make: Make, real: bool) -> sys::Result<Fd> {
    let mut path = Path { bytes: [0; PATH_MAX], length: relative.to_bytes().len() };
    if path.length >= PATH_MAX {
        return Err(sys::ENAMETOOLONG);
    }
    path.bytes[..path.length].copy_from_slice(relative.to_bytes());
    for _ in 0..40 {
        match walk(root, &mut path, make, real) {
            Err(RESTART) if !real => {}
            Err(RESTART) => return Err(sys::ELOOP),
            result => return result,
        }
    }
    Err(sys::ELOOP)
}

/// Not a kernel error: the path was rewritten, walk it again.
const RESTART: Errno = Errno(i32::MAX);

/// Goes down `path`, making what is missing.
fn walk(root: Fd, path: &mut Path, make: Make, real: bool) -> sys::Result<Fd> {
    let resolve = if real { sys::RESOLVE_BENEATH | sys::RESOLVE_NO_SYMLINKS } else { IN_ROOT };
    let mut parent = sys::openat2(root, c".", sys::O_PATH | sys::O_DIRECTORY, resolve)?;
    let mut start = 0;
    loop {
        while start < path.length && path.bytes[start] == b'/' {
            start += 1;
        }
        if start == path.length {
            return Ok(parent);
        }
        let end = path.bytes[start..path.length]
            .iter()
            .position(|&byte| byte == b'/')
            .map_or(path.length, |at| start + at);
        let last = path.bytes[end..path.length].iter().all(|&byte| byte == b'/');
        let kind = if last { 0 } else { sys::O_DIRECTORY };
        // The whole prefix from the root: `..` and links mean what they mean inside the root.
        let found =
            path.with(0, end, |prefix| sys::openat2(root, prefix_of(prefix), sys::O_PATH | kind, resolve))?;
        let next = match found {
            Err(sys::ENOENT) => make_one(parent, path, (start, end), last && make == Make::File),
            other => other,
        };
        sys::close(parent);
        parent = next?;
        start = end;
    }
}

fn prefix_of(prefix: &CStr) -> &CStr {
    relative(prefix)
}

/// Makes the component at `range` in `parent`, or follows it if it is a link that points nowhere.
fn make_one(parent: Fd, path: &mut Path, range: (usize, usize), file: bool) -> sys::Result<Fd> {
    let (start, end) = range;
    if matches!(&path.bytes[start..end], b"." | b"..") {
        return Err(sys::ENOENT);
    }
    let made = path.with(start, end, |name| {
        let made = if file {
            sys::mknodat(parent, name, sys::S_IFREG | 0o644, 0)
        } else {
            sys::mkdirat(parent, name, 0o755)
        };
        match made {
            // Made by us, or by another container that shares the directory: either way opened without following.
            Ok(()) | Err(sys::EEXIST) => sys::openat(parent, name, sys::O_PATH | sys::O_NOFOLLOW, 0),
            Err(error) => Err(error),
        }
    })??;
    let mode = u32::from(sys::fstat(made)?.mode) & sys::S_IFMT;
    if mode != sys::S_IFLNK {
        return Ok(made);
    }
    let mut target = [0; PATH_MAX];
    let length = sys::readlinkat(made, c"", &mut target);
    sys::close(made);
    let length = length?;
    if length == 0 || length >= PATH_MAX {
        return Err(sys::ENAMETOOLONG);
    }
    path.substitute(start, end, &target[..length])?;
    Err(RESTART)
}
