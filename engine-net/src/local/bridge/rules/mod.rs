//! The packet filter's table of an engine: what is translated, what is let through, what not.
//!
//! Networks, bridges and published ports are elements of sets and maps, so that a packet's way and a change cost the same
//! with one as with a thousand. The rules themselves never change.

mod beside;
mod chains;
mod elements;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use engine_core::network::Endpoint;
use engine_core::{Error, ErrorKind, Result};

pub(in crate::local) use beside::{USER, concerns};
pub(in crate::local) use elements::Bridge;
use elements::{all_sets, of_bridge, of_endpoint};

use crate::nft::{Element, Family, Nft, Table, Transaction};

/// The engine's table.
#[derive(Debug)]
pub(in crate::local) struct Rules {
    table: String,
    /// A conversation to go on with. Its end would wait until what was removed is freed, which takes a grace period of RCU.
    spare: Mutex<Option<Nft>>,
}

impl Rules {
    pub(in crate::local) fn new(owner: &str) -> Self {
        Self { table: format!("engine-{owner}"), spare: Mutex::new(None) }
    }

    pub(in crate::local) fn table(&self) -> &str {
        &self.table
    }

    /// Does something in a conversation with the kernel. After a failure, the next one is another.
    fn with_nft<T>(&self, work: impl FnOnce(&mut Nft) -> Result<T>) -> Result<T> {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = spare().take();
        let mut nft = match taken {
            Some(nft) => nft,
            None => Nft::open()?,
        };
        let done = work(&mut nft);
        if done.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::NotFound) {
            spare().replace(nft);
        }
        done
    }

    fn as_table(&self) -> Table<'_> {
        Table { family: Family::Inet, name: &self.table }
    }

    /// Makes the table anew, whatever was there, with these networks and endpoints.
    pub(in crate::local) fn replace(&self, bridges: &[Bridge], endpoints: &[Endpoint]) -> Result<()> {
        let mut transaction = Transaction::new();
        let table = self.as_table();
        table.create(&mut transaction);
        table.delete(&mut transaction);
        table.create_new(&mut transaction);
        self.sets(&mut transaction);
        chains::make(&table, &mut transaction);
        let elements = bridges.iter().flat_map(of_bridge).chain(endpoints.iter().flat_map(of_endpoint));
        self.change(&mut transaction, elements.collect(), Change::Add);
        self.with_nft(|nft| nft.commit(transaction))?;
        self.settle_beside(bridges)
    }

    /// Makes what others' rules need to let packets of these networks through.
    pub(in crate::local) fn settle_beside(&self, bridges: &[Bridge]) -> Result<()> {
        // Nothing of an internal network is forwarded, but where the host filters bridged packets they come along there, too.
        let names: Vec<_> = bridges.iter().map(|bridge| bridge.options.bridge.as_str()).collect();
        if self.with_nft(|nft| self.stand_beside(nft, &names))? {
            tracing::info!(
                table = self.table,
                "rules for networks in Docker's chain DOCKER-USER are as they need to be"
            );
        }
        Ok(())
    }

    /// Whether what others' rules need may be missing.
    pub(in crate::local) fn is_beside_wrong(&self) -> Result<bool> {
        self.with_nft(|nft| self.look_beside(nft))
    }

    /// Whether the table is there with all its rules.
    pub(in crate::local) fn are_there(&self) -> Result<bool> {
        let mut rules = Transaction::new();
        chains::make(&self.as_table(), &mut rules);
        let count = self.with_nft(|nft| self.as_table().count_rules(nft).or_else(none_if_missing))?;
        Ok(count == Some(rules.rules()))
    }

    /// Whether the table is there, with these networks and endpoints and nothing else.
    pub(in crate::local) fn are_of(&self, bridges: &[Bridge], endpoints: &[Endpoint]) -> Result<bool> {
        let mut wanted: BTreeMap<&str, Vec<Element>> = BTreeMap::new();
        for (set, element) in bridges.iter().flat_map(of_bridge).chain(endpoints.iter().flat_map(of_endpoint))
        {
            wanted.entry(set).or_default().push(element);
        }
        if !self.are_there()? {
            return Ok(false);
        }
        let table = self.as_table();
        for set in all_sets() {
            let found = self.with_nft(|nft| table.list_elements(nft, set.name).or_else(none_if_missing))?;
            let mut wanted = wanted.remove(set.name).unwrap_or_default();
            wanted.sort();
            let is_same = found.is_some_and(|mut found| {
                found.sort();
                found == wanted
            });
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the table, if it is there.
    pub(in crate::local) fn remove(&self) -> Result<()> {
        self.settle_beside(&[])?;
        let mut transaction = Transaction::new();
        self.as_table().create(&mut transaction);
        self.as_table().delete(&mut transaction);
        self.with_nft(|nft| nft.commit(transaction))
    }

    /// Publishes the ports of an endpoint.
    ///
    /// # Errors
    /// `NotFound` if the table is not there.
    pub(in crate::local) fn publish(&self, endpoint: &Endpoint) -> Result<()> {
        self.commit_change(of_endpoint(endpoint), Change::Add).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::new(ErrorKind::Conflict, "publish port")
                .with("network", &endpoint.network)
                .with("container", endpoint.container.short())
                .with_source(error)
                .with_message("port is already allocated by another container")
                .with_hint("publish another port of the host, or stop the container that has it"),
            _ => error,
        })
    }

    /// Takes them back.
    ///
    /// # Errors
    /// `NotFound` if the table or one of them is not there.
    pub(in crate::local) fn withdraw(&self, endpoint: &Endpoint) -> Result<()> {
        self.commit_change(of_endpoint(endpoint), Change::Delete)
    }

    fn commit_change(&self, elements: Vec<(&'static str, Element)>, change: Change) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        self.change(&mut transaction, elements, change);
        self.with_nft(|nft| nft.commit(transaction))
    }

    fn change(
        &self,
        transaction: &mut Transaction,
        mut elements: Vec<(&'static str, Element)>,
        change: Change,
    ) {
        elements.sort();
        for of_set in elements.chunk_by(|one, other| one.0 == other.0) {
            let set = of_set.first().map_or("", |(set, _)| set);
            let elements: Vec<Element> = of_set.iter().map(|(_, element)| element.clone()).collect();
            match change {
                Change::Add => self.as_table().add_elements(transaction, set, &elements),
                Change::Delete => self.as_table().delete_elements(transaction, set, &elements),
            }
        }
    }

    fn sets(&self, transaction: &mut Transaction) {
        for set in all_sets() {
            self.as_table().add_set(transaction, &set);
        }
    }
}

fn none_if_missing<T>(error: Error) -> Result<Option<T>> {
    if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error) }
}

/// What becomes of elements.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add,
    Delete,
}
