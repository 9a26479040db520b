//! Processes of `exec`, from their description on: Docker's API describes one, starts it, and asks how it went, in requests
//! of their own.
//!
//! They are this server's: another one, and the same after a restart, does not know them, as it is with Docker's daemon.
//! Invariant: there are no more than [`MOST`]; the oldest that has ended makes room.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine_core::{ContainerId, ExecId, ExecSpec};

use super::error::{ApiError, Result};

/// Most that are remembered.
const MOST: usize = 10_000;

/// A process as it was described, and how far it got.
#[derive(Clone, Debug)]
pub(super) struct ExecEntry {
    pub(super) container: ContainerId,
    pub(super) spec: ExecSpec,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) detach_keys: Option<String>,
    pub(super) state: ExecState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ExecState {
    Described,
    Running { pid: Option<u32> },
    Ended { code: u8, pid: Option<u32> },
}

#[derive(Debug, Default)]
pub(super) struct Execs(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<ExecId, ExecEntry>,
    /// In the order in which they came.
    order: VecDeque<ExecId>,
}

impl Execs {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a description and returns its id.
    pub(super) fn add(&self, entry: ExecEntry) -> Result<ExecId> {
        let id = ExecId::random();
        let mut table = self.table();
        if table.order.len() >= MOST {
            let idle = |id: &ExecId| {
                table.entries.get(id).is_none_or(|entry| !matches!(entry.state, ExecState::Running { .. }))
            };
            let place = table.order.iter().position(idle).ok_or_else(|| {
                ApiError::conflict(format!(
                    "there are {MOST} running processes of exec, and no more can be kept"
                ))
            })?;
            let oldest = table.order.remove(place);
            oldest.map(|id| table.entries.remove(&id));
        }
        table.order.push_back(id.clone());
        table.entries.insert(id.clone(), entry);
        Ok(id)
    }

    /// Finds one by its id.
    pub(super) fn find(&self, id: &str) -> Result<(ExecId, ExecEntry)> {
        let none = || ApiError::not_found(format!("No such exec instance: {id}"));
        let id: ExecId = id.parse().map_err(|_| none())?;
        let entry = self.table().entries.get(&id).cloned().ok_or_else(none)?;
        Ok((id, entry))
    }

    /// Marks one as being started, which happens once.
    pub(super) fn begin(&self, id: &ExecId) -> Result<()> {
        let mut table = self.table();
        match table.entries.get_mut(id) {
            Some(entry) if entry.state == ExecState::Described => {
                entry.state = ExecState::Running { pid: None };
                Ok(())
            }
            Some(ExecEntry { state: ExecState::Running { .. }, .. }) => {
                Err(ApiError::conflict(format!("exec {id} is already running")))
            }
            Some(_) => Err(ApiError::conflict(format!("exec {id} has already run"))),
            None => Err(ApiError::not_found(format!("No such exec instance: {id}"))),
        }
    }

    pub(super) fn set(&self, id: &ExecId, state: ExecState) {
        if let Some(entry) = self.table().entries.get_mut(id) {
            entry.state = state;
        }
    }

    /// Returns those of a container that have not ended.
    pub(super) fn running_in(&self, container: &ContainerId) -> Vec<ExecId> {
        let table = self.table();
        let of = table.order.iter().filter(|id| {
            table.entries.get(*id).is_some_and(|entry| {
                entry.container == *container && !matches!(entry.state, ExecState::Ended { .. })
            })
        });
        of.cloned().collect()
    }
}
