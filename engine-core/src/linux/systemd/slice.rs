//! Names of slices, and where their groups are.
//!
//! Source: systemd.slice(5): a dash in the name separates the parts of the path, and `-.slice` is the root.

use std::path::PathBuf;

/// Whether `name` is the name of a slice: `x.slice`, `a-b.slice`.
pub(in crate::linux) fn is_slice(name: &str) -> bool {
    slice_path(name).is_some()
}

/// Returns the path of a slice's group beneath that of its manager: `a.slice/a-b.slice` for `a-b.slice`.
pub(in crate::linux) fn slice_path(name: &str) -> Option<PathBuf> {
    let stem = name.strip_suffix(".slice").filter(|stem| !stem.is_empty() && name.len() < 256)?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.' | b'\\' | b'@');
    let mut path = PathBuf::new();
    let mut so_far = String::new();
    for part in stem.split('-') {
        if part.is_empty() || !part.bytes().all(plain) {
            return None;
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(escaped(format!("{so_far}.slice")));
    }
    Some(path)
}

/// Files of the kernel begin with a controller's name and a dot: a unit named so gets an underscore before it.
fn escaped(name: String) -> String {
    let kernel = ["cgroup", "cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc"];
    let begins = name.starts_with(['_', '.'])
        || name.split_once('.').is_some_and(|(first, _)| kernel.contains(&first));
    if begins { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_nest() {
        let path = |name: &str| slice_path(name).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(path("system.slice").as_deref(), Some("system.slice"));
        assert_eq!(path("a-b-c.slice").as_deref(), Some("a.slice/a-b.slice/a-b-c.slice"));
        assert_eq!(path("-.slice").as_deref(), Some(""));
        assert_eq!(path("memory.slice").as_deref(), Some("_memory.slice"));
        for wrong in [
            "",
            ".slice",
            "a",
            "a.slic",
            "a.scope",
            "a/b.slice",
            "/a.slice",
            "a--b.slice",
            "-a.slice",
            "a-.slice",
            "a b.slice",
            "ü.slice",
            "a\0.slice",
        ] {
            assert!(!is_slice(wrong), "{wrong:?}");
        }
    }
}
