//! The files of names of a container that has networks: `/etc/hosts` and `/etc/resolv.conf`.
//!
//! They change while the container runs, with the networks it is put on. So they lie in its directory, are mounted into it,
//! and are written in place: what is mounted is the file, not its name. Runs by a restart policy mount the same ones.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::network::Endpoint;

use super::launch::{self, Linked, NameFiles, Naming};
use super::records::Record;
use super::{LocalEngine, blocking};

impl LocalEngine {
    /// Returns where the files of a container are, if the engine has a directory.
    pub(super) fn name_files(&self, id: &ContainerId) -> Option<NameFiles> {
        let dir = self.inner.root.as_ref()?.join("containers").join(id.as_str());
        Some(NameFiles { hosts: dir.join("hosts"), resolv_conf: dir.join("resolv.conf") })
    }

    /// Writes the files for a start, before its addresses are known.
    pub(super) async fn write_name_files(&self, record: &Record, naming: &Naming) -> Result<()> {
        let Some(files) = naming.files.clone() else { return Ok(()) };
        let hosts = launch::hosts(&record.data.spec, naming)?;
        let resolv_conf = launch::resolv_conf(&record.data.spec, naming);
        // Root inside is who may change them.
        let root = |ranges: &[crate::container_spec::IdRange]| {
            ranges.iter().find(|range| range.container == 0).map(|range| range.host)
        };
        let owner = self.maps_of(record).await?.and_then(|maps| root(&maps.uids).zip(root(&maps.gids)));
        blocking(move || {
            if let Some(dir) = files.hosts.parent() {
                super::defaults::make_private_dir(dir)?;
            }
            for (path, text) in [(&files.hosts, hosts), (&files.resolv_conf, resolv_conf)] {
                write(path, &text).map_err(|error| failed(path, error))?;
                if let Some((user, group)) = owner {
                    std::os::unix::fs::chown(path, Some(user), Some(group))
                        .map_err(|error| failed(path, error))?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Adds the lines of an endpoint to `/etc/hosts`, as Docker writes them.
    pub(super) async fn add_host_lines(&self, record: &Record, endpoint: &Endpoint) -> Result<()> {
        let Some(files) = self.name_files(&record.id) else { return Ok(()) };
        let lines = host_lines(record, endpoint);
        blocking(move || {
            File::options()
                .append(true)
                .open(&files.hosts)
                .and_then(|mut file| file.write_all(lines.as_bytes()))
                .map_err(|error| failed(&files.hosts, error))
        })
        .await
    }

    /// Removes the lines of an endpoint from `/etc/hosts`.
    pub(super) async fn remove_host_lines(&self, record: &Record, endpoint: &Endpoint) -> Result<()> {
        let Some(files) = self.name_files(&record.id) else { return Ok(()) };
        let lines = host_lines(record, endpoint);
        blocking(move || {
            let text = fs::read_to_string(&files.hosts).map_err(|error| failed(&files.hosts, error))?;
            let keep = |line: &&str| !lines.lines().any(|own| own == *line);
            let left: String = text.lines().filter(keep).flat_map(|line| [line, "\n"]).collect();
            write(&files.hosts, &left).map_err(|error| failed(&files.hosts, error))
        })
        .await
    }

    /// Makes the lines of a link those of its present address.
    pub(super) async fn replace_link_lines(&self, record: &Record, linked: &Linked) -> Result<()> {
        let Some(files) = self.name_files(&record.id) else { return Ok(()) };
        let linked = linked.clone();
        blocking(move || {
            let text = fs::read_to_string(&files.hosts).map_err(|error| failed(&files.hosts, error))?;
            let keep = |line: &&str| !Linked::is_line_of(&linked.alias, line);
            let left: String = text.lines().filter(keep).flat_map(|line| [line, "\n"]).collect();
            let new = left + &linked.host_lines();
            write(&files.hosts, &new).map_err(|error| failed(&files.hosts, error))
        })
        .await
    }

    /// Writes `/etc/resolv.conf` anew, unless the container has changed it.
    pub(super) async fn change_resolver(&self, record: &Record, embedded: bool) -> Result<()> {
        let Some(files) = self.name_files(&record.id) else { return Ok(()) };
        let text =
            |embedded| launch::resolv_conf(&record.data.spec, &Naming { embedded, ..Naming::default() });
        let (old, new) = (text(!embedded), text(embedded));
        blocking(move || {
            let path = &files.resolv_conf;
            let is = fs::read_to_string(path).map_err(|error| failed(path, error))?;
            if is != old {
                return Ok(());
            }
            write(path, &new).map_err(|error| failed(path, error))
        })
        .await
    }

    /// Removes the files. The last thing that keeps a container's directory must not be these.
    pub(super) async fn remove_name_files(&self, id: &ContainerId) -> Result<()> {
        let Some(files) = self.name_files(id) else { return Ok(()) };
        blocking(move || {
            for path in [&files.hosts, &files.resolv_conf] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(failed(path, error));
                    }
                    _ => {}
                }
            }
            // Others have what is theirs in it; the last to remove theirs removes it.
            if let Some(dir) = files.hosts.parent() {
                let _ = fs::remove_dir(dir);
            }
            Ok(())
        })
        .await
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::from_io("write names of container", error).with("path", path.display())
}

fn host_lines(record: &Record, endpoint: &Endpoint) -> String {
    let spec = &record.data.spec;
    let hostname = spec.hostname.as_deref().unwrap_or_else(|| record.id.short());
    let names = match &spec.domainname {
        Some(domain) => format!("{hostname}.{domain} {hostname}"),
        None => hostname.to_owned(),
    };
    let mut text = String::new();
    for address in &endpoint.addresses {
        let address: &IpAddr = address;
        let _ = writeln!(text, "{address}\t{names}");
    }
    text
}
