//! Finding and removing what a dead engine left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Cgroup, DEFAULT_PARENT, Hierarchies, files, path_for};
use crate::error::{Error, Result};

/// Kills and removes every group of `owner` beneath `parent` (the default one for `None`) whose id `keep` does not want,
/// and returns their ids. The default parent goes too, once it is empty. Groups of other owners are not looked at.
///
/// # Errors
/// As [`path_for`] and [`Cgroup::remove`]; it goes on after a failure and returns the first.
pub fn sweep(
    hierarchies: &Hierarchies,
    parent: Option<&str>,
    owner: &str,
    keep: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>> {
    // The path of a group that cannot exist checks `parent` and `owner`.
    let probe = path_for(parent, owner, "x")?;
    let parent_path = probe.parent().unwrap_or(Path::new("/")).to_owned();
    let prefix = format!("{owner}-");
    let mut ids = BTreeSet::new();
    for dir in parents(hierarchies, &parent_path) {
        let names = files::children(&dir)
            .into_iter()
            .filter_map(|child| child.file_name()?.to_str().map(str::to_owned));
        ids.extend(names.filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned)));
    }
    ids.retain(|id| !keep(id));
    let mut first: Option<Error> = None;
    let mut removed = Vec::new();
    for id in ids {
        // A name that we cannot have made is left alone.
        let Ok(path) = path_for(parent, owner, &id) else { continue };
        let cgroup = Cgroup::open(hierarchies, &path);
        match cgroup.kill().and_then(|()| cgroup.remove()) {
            Ok(()) => removed.push(id),
            Err(error) => match &mut first {
                Some(first) => first.suppress(error),
                None => first = Some(error),
            },
        }
    }
    if parent_path == Path::new(DEFAULT_PARENT) {
        for dir in parents(hierarchies, &parent_path) {
            // It stays while others have groups in it.
            let _ = std::fs::remove_dir(dir);
        }
    }
    first.map_or(Ok(removed), Err)
}

fn parents(hierarchies: &Hierarchies, path: &Path) -> Vec<PathBuf> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    hierarchies.mounts().iter().map(|mount| mount.point.join(relative)).collect()
}
