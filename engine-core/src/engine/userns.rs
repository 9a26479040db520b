//! A user namespace for every container that asks for none: what dockerd calls `userns-remap`.
//!
//! All such containers have the same ids outside, unlike those of [`UserNamespace::Auto`]: they are kept from the host's
//! users, and not from each other's files on the host. The maps are written into a container's record at its creation, so
//! that another program, or this one with other maps, starts it with the ids it had.

use crate::container_spec::{ContainerSpec, IdMappings, IdRange, NamespaceMode, NetworkMode, UserNamespace};
use crate::error::{Error, ErrorKind, Result};

use super::{LocalEngine, launch};

impl IdMappings {
    /// Makes maps of the ids that /etc/subuid and /etc/subgid give to a user and a group (subuid(5)), whose texts are
    /// `users` and `groups`: all their ranges, the first from 0 on in the container. Each owner may be written in any of the
    /// ways that `user` and `group` name: its name, its number.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], with the line that is missing; [`ErrorKind::InvalidArgument`] for ranges that make no map.
    pub fn from_subids(users: &str, groups: &str, user: &[&str], group: &[&str]) -> Result<Self> {
        let maps =
            Self { uids: ranges(users, "/etc/subuid", user)?, gids: ranges(groups, "/etc/subgid", group)? };
        launch::check_maps(&maps)?;
        Ok(maps)
    }
}

fn ranges(text: &str, file: &'static str, owner: &[&str]) -> Result<Vec<IdRange>> {
    let mut ranges = Vec::new();
    let mut next = 0_u32;
    for line in text.lines().map(str::trim) {
        let mut fields = line.split(':');
        if !fields.next().is_some_and(|name| owner.contains(&name)) {
            continue;
        }
        let wrong = || {
            Error::new(ErrorKind::InvalidArgument, "read subordinate ids")
                .with("file", file)
                .with_message(format!("{line:?} is not NAME:FIRST:COUNT, or too much"))
        };
        let mut number = || fields.next().and_then(|field| field.parse::<u32>().ok()).ok_or_else(wrong);
        let (host, size) = (number()?, number()?);
        ranges.push(IdRange { container: next, host, size });
        next = next.checked_add(size).ok_or_else(wrong)?;
    }
    if ranges.is_empty() {
        let name = owner.first().copied().unwrap_or_default();
        return Err(Error::new(ErrorKind::NotFound, "read subordinate ids")
            .with("file", file)
            .with_message(format!("it has no line for {name}"))
            .with_hint(format!("add one such as {name}:100000:65536, with ids that nobody else has")));
    }
    Ok(ranges)
}

impl LocalEngine {
    /// Gives a container that asks for no user namespace the engine's, if it has one.
    pub(super) async fn complete_user_namespace(&self, spec: &mut ContainerSpec) -> Result<()> {
        if spec.user_namespace.is_some() {
            return Ok(());
        }
        let Some(maps) = &self.inner.user_namespace else { return Ok(()) };
        let modes = [&spec.pid_mode, &spec.ipc_mode];
        let network = match &spec.network {
            NetworkMode::Container(other) => Some(other),
            _ => None,
        };
        let joined = modes.into_iter().filter_map(|mode| match mode {
            NamespaceMode::Container(other) => Some(other),
            _ => None,
        });
        // Its other namespaces belong to that one's user namespace, and to it alone.
        let peer = network.into_iter().chain(joined).next().cloned();
        spec.user_namespace = match peer {
            None => Some(UserNamespace::Mapped(maps.clone())),
            Some(other) => {
                let record = self.inner.records.find(&other)?;
                self.maps_of(&record).await?.map(|_| UserNamespace::Container(other))
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_range_by_range() {
        let users = "root:1:2\n# x\ndockremap:100000:1000\n1001:7:7\ndockremap:300000:10\n";
        let maps = IdMappings::from_subids(users, "grp:5000:50", &["dockremap"], &["grp"]).unwrap();
        let range = |container, host, size| IdRange { container, host, size };
        assert_eq!(maps.uids, [range(0, 100_000, 1000), range(1000, 300_000, 10)]);
        assert_eq!(maps.gids, [range(0, 5000, 50)]);
        let by_number = IdMappings::from_subids(users, "grp:5:5", &["somebody", "1001"], &["grp"]).unwrap();
        assert_eq!(by_number.uids, [range(0, 7, 7)]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let read = |users: &str, groups: &str| {
            IdMappings::from_subids(users, groups, &["dockremap"], &["dockremap"]).unwrap_err()
        };
        let error = read("other:1:2", "dockremap:1:2");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.report().contains("/etc/subuid") && error.report().contains("dockremap:100000:65536"));
        assert!(read("dockremap:1:2", "").report().contains("/etc/subgid"));
        for wrong in [
            "dockremap",
            "dockremap:a:1",
            "dockremap:1:0",
            "dockremap:4294967295:5",
            "dockremap:1:9\ndockremap:5:9",
        ] {
            assert_eq!(read(wrong, "dockremap:1:2").kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }
}
