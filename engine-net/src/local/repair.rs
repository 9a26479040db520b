//! Putting right: the rules made anew from the records, what a crash left removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine_core::linux::netlink::Route;
use engine_core::network::{Endpoint, NetworkInfo};
use engine_core::{ErrorKind, Result};
use rustix::fs::FlockOperation;

use super::attach::warned;
use super::bridge::rules::Bridge;
use super::driver::Driver;
use super::networks::Networks;
use super::watch::Watch;
use super::{flows, links};

impl Networks {
    /// What the rules are to be, by the records; also for a network whose bridge is about to be made.
    fn wanted_rules(&self, new: Option<&NetworkInfo>) -> Result<(Vec<Bridge>, Vec<Endpoint>)> {
        let mut there: BTreeSet<String> =
            links::owned(&mut Route::open()?, &self.owner)?.into_iter().map(|(_, what)| what).collect();
        there.extend(new.map(|network| network.id.clone()));
        let mut bridges = Vec::new();
        for network in self.records.networks()?.into_iter().filter(|network| there.contains(&network.id)) {
            if let Driver::Bridge(options) = Driver::of(&network)? {
                bridges.push(Bridge { options, internal: network.options.internal });
            }
        }
        let endpoints = self.records.endpoints()?.into_iter().map(|record| record.endpoint).collect();
        Ok((bridges, endpoints))
    }

    /// Makes the table of rules anew from the records. To be called with the lock alone.
    pub(super) fn synchronize(&self) -> Result<()> {
        self.synchronize_for(None)
    }

    /// As [`synchronize`](Self::synchronize), for a network whose bridge is about to be made.
    pub(super) fn synchronize_for(&self, new: Option<&NetworkInfo>) -> Result<()> {
        let (bridges, endpoints) = self.wanted_rules(new)?;
        if bridges.is_empty() {
            // Nothing is left that it would be for.
            return self.rules.remove();
        }
        self.rules.replace(&bridges, &endpoints)
    }

    /// Makes the rules anew if they are not what they are to be. Returns whether they were not.
    pub(super) fn verify(&self) -> Result<bool> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let (bridges, endpoints) = self.wanted_rules(None)?;
        self.rules.settle_beside(&bridges)?;
        if bridges.is_empty() || self.rules.are_of(&bridges, &endpoints)? {
            return Ok(false);
        }
        self.rules.replace(&bridges, &endpoints)?;
        Ok(true)
    }

    /// Makes what others' rules need, if they may have changed.
    pub(super) fn verify_beside(&self) -> Result<()> {
        if self.rules.is_beside_wrong()? {
            let _lock = self.lock(FlockOperation::LockExclusive)?;
            let (bridges, _) = self.wanted_rules(None)?;
            self.rules.settle_beside(&bridges)?;
        }
        Ok(())
    }

    /// Watches over the rules from now on, as long as this value lives.
    pub(super) fn watch(self: &Arc<Self>) {
        self.watch.get_or_init(|| {
            Watch::begin(Arc::downgrade(self), self.rules.table())
                .inspect_err(|error| tracing::warn!(%error, "the rules of networks are not watched"))
                .ok()
        });
    }

    /// Removes endpoints, and what is in the kernel without a record if there were none before.
    pub(super) fn sweep(&self, gone: &[Endpoint]) -> Result<()> {
        let strangers = if self.fresh { self.strangers()? } else { Vec::new() };
        if gone.is_empty() && strangers.is_empty() {
            if self.is_used()? {
                if !self.rules.are_there()? {
                    self.verify()?;
                }
                self.verify_beside()?;
            } else if self.rules.are_there()? && self.wanted_rules(None)?.0.is_empty() {
                // Of a program that was killed as it removed its last network.
                let _lock = self.lock(FlockOperation::LockExclusive)?;
                self.synchronize()?;
            }
            return Ok(());
        }
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let mut route = Route::open()?;
        let mut right = strangers.is_empty();
        for endpoint in gone {
            let there = self.records.endpoint(&endpoint.network, &endpoint.container)?;
            if let Some(record) = there.filter(|record| record.endpoint.id == endpoint.id) {
                match self.rules.withdraw(endpoint) {
                    // Half of them may be gone.
                    Err(error) if error.kind() == ErrorKind::NotFound => right = false,
                    withdrawn => withdrawn?,
                }
                self.disconnect(&record)?;
                self.records.remove_endpoint(&endpoint.network, &endpoint.container)?;
            }
        }
        for index in strangers {
            links::remove(&mut route, index)?;
        }
        for name in gone.iter().map(|endpoint| &endpoint.network).collect::<BTreeSet<_>>() {
            self.write_zone(name)?;
        }
        // Anew only if they must: it costs what all endpoints cost, and a packet on its way may see none of them.
        if !right || self.is_used()? && !self.rules.are_there()? {
            self.synchronize()?;
        }
        gone.iter().for_each(|endpoint| warned(flows::forget_of(endpoint)));
        Ok(())
    }

    /// Whether there are endpoints.
    pub(super) fn is_used(&self) -> Result<bool> {
        self.records.has_endpoints()
    }

    /// Interfaces of this engine that no record knows.
    fn strangers(&self) -> Result<Vec<u32>> {
        let mut known: BTreeSet<String> =
            self.records.networks()?.into_iter().map(|network| network.id).collect();
        known.extend(self.records.endpoints()?.into_iter().map(|record| record.endpoint.id));
        let owned = links::owned(&mut Route::open()?, &self.owner)?;
        Ok(owned.into_iter().filter(|(_, what)| !known.contains(what)).map(|(index, _)| index).collect())
    }
}
