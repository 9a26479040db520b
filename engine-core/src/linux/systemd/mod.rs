//! systemd as the manager of control groups: scopes for processes, by D-Bus, without a library for it.
//!
//! [`Systemd`] asks for transient scopes, changes and ends them; `wire` has D-Bus's messages, `connection` one conversation.
//! Which limits a scope gets is for `linux::cgroup` to say. Every operation is a conversation of its own: nothing is kept
//! open, so a systemd that executed itself anew is not noticed.
//!
//! Everything here blocks, for as long as systemd takes: call it beside the async workers.
//!
//! Invariant: an operation has ended when systemd says that its job has, or an error says why not.
//! See org.freedesktop.systemd1(5), systemd.scope(5), systemd.resource-control(5).

mod connection;
mod slice;
#[cfg(test)]
mod tests;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use crate::cgroups::SystemdInstance;
use crate::error::{Error, ErrorKind, Result};
use connection::{Connection, Failure};
pub(super) use slice::{is_slice, slice_path};
pub(super) use wire::Value;
use wire::{Malformed, Writer};

/// How long a job may take. Of a scope that is the time systemd needs for its own bookkeeping.
const PATIENCE: Duration = Duration::from_secs(30);

/// The manager whose unit the processes of this engine's containers become.
#[derive(Clone, Debug)]
pub(super) struct Systemd {
    /// Sockets to try in turn, and whether it is a bus that listens there.
    addresses: Vec<(PathBuf, bool)>,
    instance: SystemdInstance,
    /// Where the manager's groups are, once it has told.
    root: Arc<OnceLock<PathBuf>>,
}

impl Systemd {
    pub(super) fn new(instance: &SystemdInstance) -> Self {
        let addresses = match instance {
            SystemdInstance::System => {
                vec![("/run/systemd/private".into(), false), ("/run/dbus/system_bus_socket".into(), true)]
            }
            SystemdInstance::User(runtime_dir) => {
                vec![(runtime_dir.join("systemd/private"), false), (runtime_dir.join("bus"), true)]
            }
        };
        Self { addresses, instance: instance.clone(), root: Arc::default() }
    }

    /// The slice of containers that name none: Docker's and runc's.
    pub(super) fn default_slice(&self) -> &'static str {
        match self.instance {
            SystemdInstance::System => "system.slice",
            SystemdInstance::User(_) => "user.slice",
        }
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let mut first = None;
        for (path, is_bus) in &self.addresses {
            match Connection::open(path, *is_bus, PATIENCE) {
                Ok(connection) => return Ok(connection),
                // systemd's own socket is for root alone; the bus is for everybody.
                Err((nobody, failure)) => {
                    let denied = matches!(&failure, Failure::Broken(error) if error.kind() == ErrorKind::PermissionDenied);
                    if !nobody && !denied {
                        return Err(failure);
                    }
                    first.get_or_insert((path, failure));
                }
            }
        }
        let nowhere = Error::new(ErrorKind::Unavailable, "ask systemd");
        Err(Failure::Broken(match first {
            Some((path, failure)) => {
                let cause = failure.into_error("ask systemd");
                nowhere
                    .with("socket", path.display())
                    .with_message("there is no systemd to make the container's cgroup")
                    .with_hint("start systemd, or use the cgroup driver cgroupfs")
                    .with_source(cause)
            }
            None => nowhere,
        }))
    }

    /// Returns the control group beneath which the manager makes all others. It is asked once.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if there is no systemd.
    pub(super) fn root(&self) -> Result<PathBuf> {
        const OPERATION: &str = "find cgroup of systemd";
        if let Some(root) = self.root.get() {
            return Ok(root.clone());
        }
        let ask = || -> Result<PathBuf, Failure> {
            let mut body = Writer::default();
            body.text("org.freedesktop.systemd1.Manager").text("ControlGroup");
            let answer = self.connect()?.manager("Get", "ss", body)?;
            let [root] = answer.texts()?;
            // The root of all is the empty text.
            let root = Path::new("/").join(root);
            let plain = root.components().skip(1).all(|part| matches!(part, std::path::Component::Normal(_)));
            if plain { Ok(root) } else { Err(Malformed.into()) }
        };
        let root = ask().map_err(|failure| failure.into_error(OPERATION))?;
        Ok(self.root.get_or_init(|| root).clone())
    }

    /// Makes the scope `unit` of the process `pid`, and returns when it is in it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is such a unit; else in systemd's words.
    pub(super) fn start_scope(&self, unit: &str, pid: u32, properties: &[(&str, Value)]) -> Result<()> {
        const OPERATION: &str = "create scope";
        let start = || -> Result<String, Failure> {
            let mut all = properties.to_vec();
            all.push(("PIDs", Value::Pids(vec![pid])));
            let mut body = Writer::default();
            body.text(unit).text("fail").properties(&all).array(8, |_no_other_units| ());
            let mut connection = self.connect()?;
            let answer = connection.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
            let [job] = answer.texts()?;
            connection.wait(job)
        };
        let result = start().map_err(|failure| failure.into_error(OPERATION).with("unit", unit))?;
        if result == "done" {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Other, OPERATION)
            .with("unit", unit)
            .with_message(format!("systemd says that the job to start it is {result}"))
            .with_hint("journalctl tells more"))
    }

    /// Changes properties of a unit until it ends.
    pub(super) fn set_properties(&self, unit: &str, properties: &[(&str, Value)]) -> Result<()> {
        let set = || -> Result<(), Failure> {
            let mut body = Writer::default();
            body.text(unit).boolean(true).properties(properties);
            self.connect()?.manager("SetUnitProperties", "sba(sv)", body).map(drop)
        };
        set().map_err(|failure| failure.into_error("change scope").with("unit", unit))
    }

    /// Kills what runs in a unit, and returns when it is gone. One that is gone already is fine.
    pub(super) fn end(&self, unit: &str) -> Result<()> {
        let absent = |failure: &Failure| {
            let Failure::Refused { name, .. } = failure else { return false };
            ["NoSuchUnit", "UnknownUnit", "NoSuchProcess"].iter().any(|known| name.ends_with(known))
        };
        let end = || -> Result<(), Failure> {
            let mut connection = self.connect()?;
            let mut kill = Writer::default();
            kill.text(unit).text("all").number(9);
            match connection.manager("KillUnit", "ssi", kill) {
                Err(failure) if !absent(&failure) => return Err(failure),
                _ => {}
            }
            let mut stop = Writer::default();
            stop.text(unit).text("replace");
            let job = connection.manager("StopUnit", "ss", stop)?;
            let [job] = job.texts()?;
            connection.wait(job)?;
            // What failed is kept for people to look at; scopes of ours are not asked to be, and this one may be another's.
            let mut reset = Writer::default();
            reset.text(unit);
            connection.manager("ResetFailedUnit", "s", reset).map(drop)
        };
        match end() {
            Err(failure) if !absent(&failure) => Err(failure.into_error("end scope").with("unit", unit)),
            _ => Ok(()),
        }
    }
}
