//! What must be true: kept from what workers acknowledged.
//!
//! Invariant: what was acknowledged is definite; the subject of an operation under way may be as before or as after.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::{Line, Operation, Outcome};

/// A container as far as it is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    /// Created, never started.
    Created,
    /// Runs, as this process: pid and start time.
    Running(String),
    /// Has ended.
    Exited,
    /// Somebody who was starting or ending it was killed before that was acknowledged: it may be in any state, and may
    /// still change it.
    Unsure,
}

/// All that workers acknowledged, and what they were doing last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) containers: BTreeMap<String, Known>,
    pub(crate) images: BTreeMap<String, ()>,
    pub(crate) volumes: BTreeSet<String>,
    pub(crate) networks: BTreeSet<String>,
    /// The networks of containers, as far as they are known.
    pub(crate) on: BTreeMap<String, BTreeSet<String>>,
    /// Containers of which a network was to come or go when the program was killed: their record and their interfaces may
    /// differ until the next start.
    pub(crate) loose: BTreeSet<String>,
    /// Files that were copied into containers, as (container, path).
    pub(crate) files: BTreeSet<(String, String)>,
    /// The operation under way in each lane, by its subject.
    open: BTreeMap<String, Operation>,
}

impl Model {
    /// Takes a line of a worker.
    pub(crate) fn apply(&mut self, line: &Line) {
        let subject = line.subject.clone();
        let Some(outcome) = &line.result else {
            self.open.insert(subject, line.operation);
            return;
        };
        let Outcome::Done(note) = outcome else {
            // A failed operation may have got anywhere; the next look says where. One that fails to start has ended at once.
            if matches!(line.operation, Operation::Start | Operation::Run)
                && self.containers.contains_key(&subject)
            {
                self.containers.insert(subject, Known::Unsure);
            }
            return;
        };
        self.open.remove(&subject);
        match line.operation {
            Operation::Pull | Operation::Tag | Operation::Commit | Operation::Reload => {
                self.images.insert(subject, ());
            }
            Operation::RemoveImage => {
                self.images.remove(&subject);
            }
            Operation::Create => {
                let networks = note.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
                self.on.insert(subject.clone(), networks.collect());
                self.containers.insert(subject, Known::Created);
            }
            Operation::Fork => {
                self.containers.insert(subject, Known::Created);
            }
            Operation::Start => {
                self.loose.remove(&subject);
                self.containers.insert(subject, Known::Running(note.clone()));
            }
            Operation::Run | Operation::Stop => {
                self.containers.insert(subject, Known::Exited);
            }
            Operation::Remove => {
                self.containers.remove(&subject);
                self.files.retain(|(container, _)| *container != subject);
                self.on.remove(&subject);
                self.loose.remove(&subject);
            }
            Operation::CopyIn => {
                self.files.insert((subject, note.clone()));
            }
            Operation::CreateVolume => {
                self.volumes.insert(subject);
            }
            Operation::RemoveVolume => {
                self.volumes.remove(&subject);
            }
            Operation::CreateNetwork => {
                self.networks.insert(subject);
            }
            Operation::RemoveNetwork => {
                self.networks.remove(&subject);
            }
            Operation::Connect => {
                // Of one that is a fork, nothing is known before the next look.
                if let Some(on) = self.on.get_mut(&subject) {
                    on.insert(note.clone());
                }
            }
            Operation::Disconnect => {
                if let Some(on) = self.on.get_mut(&subject) {
                    on.remove(note);
                }
            }
            Operation::Exec | Operation::Freeze => {}
        }
    }

    /// Returns how many operations nobody acknowledged.
    pub(crate) fn under_way(&self) -> u64 {
        self.open.len() as u64
    }

    /// Returns the operation under way on `subject`.
    pub(crate) fn open(&self, subject: &str) -> Option<Operation> {
        self.open.get(subject).copied()
    }

    /// Forgets what was under way: it has been looked at.
    pub(crate) fn settle(&mut self) {
        self.open.clear();
    }
}
