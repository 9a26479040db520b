//! Beside Docker: what our networks need in the chain that it keeps for others, `DOCKER-USER`.
//!
//! A packet goes through the chains of all who have one, and whoever drops it has the last word. Docker's daemon makes the
//! chain FORWARD of iptables drop what it does not know, if it switched forwarding on itself: no rule in a table of ours lets
//! anything through there. So in that case, and in no other, packets of our bridges are accepted in `DOCKER-USER`: behind
//! what the host's administrator has there, as rules that iptables shows, in a chain of ours that they lead to. What our own
//! table drops stays dropped. What is between our bridges and Docker's goes back to Docker's rules, which protect its
//! containers by dropping what none of them accepts.
//!
//! Invariant: every rule has a comment with the table's name. By that they are found, and the watch sees them go.

use engine_core::{ErrorKind, Result};

use super::Rules;
use crate::nft::{Chain, Direction, Expression, Family, Nft, Place, Table, Transaction, Verdict};

/// Docker's documented place for rules of others.
pub(in crate::local) const USER: &str = "DOCKER-USER";
const FORWARD: &str = "FORWARD";
/// Where Docker jumps to for what goes to one of its bridges.
const DOCKER: &str = "DOCKER";
/// Chains that name Docker's bridges, in one of its versions or another; none has a rule for each container.
const OF_BRIDGES: [&str; 4] =
    ["DOCKER-BRIDGE", "DOCKER-INTERNAL", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2"];
/// Whether a change by somebody else is about what was looked at here.
pub(in crate::local) fn concerns(chain: &str) -> bool {
    chain == USER || chain == FORWARD || OF_BRIDGES.contains(&chain)
}

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];
/// How often a change of somebody else's may come between.
const TRIES: usize = 5;

const fn filter(family: Family) -> Table<'static> {
    Table { family, name: "filter" }
}

/// What is there, of one family.
#[derive(Debug, Default)]
struct Found {
    /// Whether Docker's chain is there, and packets that nobody accepts are dropped.
    needed: bool,
    /// Our rules in Docker's chain: handle and comment.
    ours: Vec<(u64, String)>,
    /// Whether packets get as far as our rules.
    reached: bool,
    /// The rule that ends Docker's chain.
    end: Option<u64>,
    /// Comments in the chain of ours, if it is there.
    chain: Option<Vec<String>>,
    /// Docker's bridges.
    bridges: Vec<String>,
}

fn comments<'a>(rules: impl Iterator<Item = &'a (String, Vec<Expression>)>) -> Vec<&'a str> {
    rules.map(|(comment, _)| comment.as_str()).collect()
}

fn accept_all(table: &str) -> (String, Vec<Expression>) {
    (table.to_owned(), vec![Expression::counter(), Expression::verdict(Verdict::Accept)])
}

/// A rule for what comes in by the interface, and one for what goes out by it.
fn both_ways(
    table: &str,
    words: [&str; 2],
    interface: &str,
    verdict: Verdict<'_>,
) -> [(String, Vec<Expression>); 2] {
    [(words[0], Direction::Source), (words[1], Direction::Destination)].map(|(word, direction)| {
        let mut rule = Expression::interface_is(direction, interface).to_vec();
        rule.extend([Expression::counter(), Expression::verdict(verdict)]);
        (format!("{table} {word} {interface}"), rule)
    })
}

impl Rules {
    fn found(&self, nft: &mut Nft, family: Family) -> Result<Found> {
        let filter = filter(family);
        let mut found = Found::default();
        if filter.chain(nft, &self.table)?.is_some() {
            let rules = filter.rules(nft, &self.table)?;
            found.chain = Some(rules.into_iter().map(|rule| rule.comment.unwrap_or_default()).collect());
        }
        if filter.chain(nft, USER)?.is_none() {
            return Ok(found);
        }
        found.needed = filter.chain(nft, FORWARD)?.is_some_and(|chain| chain.drops);
        found.reached = true;
        for rule in filter.rules(nft, USER)? {
            match rule.comment {
                Some(comment) if comment.starts_with(&self.table) => {
                    found.reached &= found.end.is_none();
                    found.ours.push((rule.handle, comment));
                }
                _ if rule.returns_always => found.end = found.end.or(Some(rule.handle)),
                _ => {}
            }
        }
        if found.needed {
            let to_docker = filter.rules(nft, FORWARD)?;
            let mut rules: Vec<_> =
                to_docker.into_iter().filter(|rule| rule.jump.as_deref() == Some(DOCKER)).collect();
            for chain in OF_BRIDGES {
                rules.extend(filter.rules(nft, chain)?);
            }
            found.bridges = rules.into_iter().flat_map(|rule| rule.interfaces).collect();
            found.bridges.sort();
            found.bridges.dedup();
        }
        Ok(found)
    }

    /// The chain of ours.
    fn passing(&self, found: &Found) -> Vec<(String, Vec<Expression>)> {
        let docker = found
            .bridges
            .iter()
            .flat_map(|name| both_ways(&self.table, ["not from", "not to"], name, Verdict::Return));
        docker.chain([accept_all(&self.table)]).collect()
    }

    /// Makes what is to be there for these bridges. Returns whether it was not.
    pub(super) fn stand_beside(&self, nft: &mut Nft, bridges: &[&str]) -> Result<bool> {
        let mut changed = false;
        for family in FAMILIES {
            for tried in 1.. {
                match self.stand_beside_in(nft, family, bridges) {
                    // Somebody else was just changing what was looked at.
                    Err(error) if error.kind() == ErrorKind::NotFound && tried < TRIES => {}
                    done => {
                        changed |= done?;
                        break;
                    }
                }
            }
        }
        Ok(changed)
    }

    fn stand_beside_in(&self, nft: &mut Nft, family: Family, bridges: &[&str]) -> Result<bool> {
        let found = self.found(nft, family)?;
        let bridges = if found.needed { bridges } else { &[] };
        let leading: Vec<_> = bridges
            .iter()
            .flat_map(|name| both_ways(&self.table, ["from", "to"], name, Verdict::Jump(&self.table)))
            .collect();
        let passing = if bridges.is_empty() { Vec::new() } else { self.passing(&found) };
        let is_right = found.reached | leading.is_empty()
            && found.ours.iter().map(|(_, comment)| comment.as_str()).eq(comments(leading.iter()))
            && found.chain.is_some() != passing.is_empty()
            && found.chain.iter().flatten().map(String::as_str).eq(comments(passing.iter()));
        if is_right {
            return Ok(false);
        }
        let (filter, mut transaction) = (filter(family), Transaction::new());
        for (handle, _) in &found.ours {
            filter.delete_rule(&mut transaction, USER, *handle);
        }
        if found.chain.is_some() {
            filter.flush_chain(&mut transaction, &self.table);
        }
        if passing.is_empty() {
            if found.chain.is_some() {
                filter.delete_chain(&mut transaction, &self.table);
            }
        } else {
            filter.add_chain(&mut transaction, &Chain { name: &self.table, base: None });
        }
        for (comment, rule) in &passing {
            filter.add_rule_at(&mut transaction, &self.table, Place::End, rule, comment);
        }
        let place = found.end.map_or(Place::End, Place::Before);
        for (comment, rule) in &leading {
            filter.add_rule_at(&mut transaction, USER, place, rule, comment);
        }
        nft.commit(transaction)?;
        Ok(true)
    }

    /// Whether somebody has to look closer: Docker is there and our rules beside it are not those for its bridges.
    pub(super) fn look_beside(&self, nft: &mut Nft) -> Result<bool> {
        for family in FAMILIES {
            let found = self.found(nft, family)?;
            let passing = if found.needed { self.passing(&found) } else { Vec::new() };
            let ours = found.chain.iter().flatten().map(String::as_str);
            let missing = found.needed && (found.ours.is_empty() || !found.reached);
            let left = !found.needed && !found.ours.is_empty();
            if missing || left || !ours.eq(comments(passing.iter())) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
