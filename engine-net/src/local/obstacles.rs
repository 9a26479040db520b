//! What of others' rules keeps containers and other hosts from reaching each other, and cannot be helped from here.
//!
//! Whoever drops a packet has the last word, so a chain that drops by policy what it does not know stops all that we let
//! through. Rules of ours in such a chain are the administrator's decision; only beside Docker there is a place for them
//! (`bridge::rules::beside`). So this module looks and tells.

use std::fs;

use engine_core::Result;
use engine_core::engine::{Check, Verdict};

use super::bridge::rules;
use super::sys;
use crate::nft::{FoundChain, Nft, chains};

const SUBJECT: &str = "forwarding";
const HINT: &str = "let packets from and to the networks' bridges pass there: iptables -I FORWARD -i BRIDGE -j ACCEPT and \
                    -o BRIDGE, ufw default allow routed, or firewall-cmd --zone=trusted --add-interface=BRIDGE";
/// Names of the tables that the old iptables has made in this network namespace.
const OLD_TABLES: &str = "/proc/thread-self/net/ip_tables_names";
/// Numbers of netfilter's families.
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];

/// Finds what is in the way, in the words of an administrator.
pub(super) fn find() -> Result<Vec<String>> {
    let all = chains(&mut Nft::open()?)?;
    let mut found = stopping(&all);
    if let Some(true) = old_forward_drops() {
        found.push("chain FORWARD of the old iptables (iptables-legacy) drops by policy".to_owned());
    }
    Ok(found)
}

fn stopping(all: &[FoundChain]) -> Vec<String> {
    let is_dockers = |chain: &FoundChain| {
        chain.table == "filter"
            && all.iter().any(|other| {
                (other.family, other.table.as_str()) == (chain.family, "filter") && other.name == rules::USER
            })
    };
    let mut found = Vec::new();
    for chain in all.iter().filter(|chain| chain.forwards) {
        let Some((_, family)) = FAMILIES.iter().find(|(number, _)| *number == chain.family) else { continue };
        if chain.drops && !is_dockers(chain) {
            found.push(format!("chain {} of table {family} {} drops by policy", chain.name, chain.table));
        } else if chain.table == "firewalld" && chain.name == "filter_FORWARD" {
            // What is of no zone it rejects at the end of the chain, whatever the policy is.
            found.push("firewalld rejects what comes by interfaces of no zone".to_owned());
        }
    }
    found
}

/// The finding for `info`.
pub(super) fn check() -> Check {
    match find() {
        Ok(found) if found.is_empty() => {
            Check::new(SUBJECT, Verdict::Works, "no rules of others keep containers from other hosts")
        }
        Ok(found) => Check::new(SUBJECT, Verdict::Degraded, format!("{}: {HINT}", found.join(", "))),
        Err(error) => Check::new(SUBJECT, Verdict::Degraded, format!("not looked at: {error}")),
    }
}

/// Tells once, when a network is about to be used.
pub(super) fn warn(bridge: &str) {
    match find() {
        Ok(found) => {
            for what in found {
                tracing::warn!(
                    bridge,
                    hint = HINT,
                    "containers and other hosts may not reach each other: {what}"
                );
            }
        }
        Err(error) => tracing::debug!(%error, "looking for others' rules failed"),
    }
}

/// Whether the chain FORWARD of the old iptables drops by policy; `None` if it has no rules here. Asked for a table, the
/// kernel would make it, so the list of those that are there comes first.
fn old_forward_drops() -> Option<bool> {
    let tables = fs::read_to_string(OLD_TABLES).ok()?;
    tables.lines().find(|line| *line == "filter")?;
    // Offsets in struct ipt_getinfo, ipt_get_entries and ipt_entry (linux/netfilter_ipv4/ip_tables.h): where the rule for
    // the policy of the hook FORWARD is, how long all are, and where the verdict of a rule is.
    const INFO: (i32, usize, usize, usize) = (64, 84, 32 + 4 + 20 + 2 * 4, 80);
    const ENTRIES: (i32, usize) = (65, 40);
    const TARGET_OFFSET: usize = 88;
    const VERDICT: usize = 32;
    let (option, length, underflow, size) = INFO;
    let named = |length: usize| {
        let mut buffer = vec![0; length];
        buffer[..6].copy_from_slice(b"filter");
        buffer
    };
    let socket = sys::raw_socket().ok()?;
    let mut info = named(length);
    sys::ip_option(&socket, option, &mut info).ok()?;
    let number = |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b));
    let (underflow, size) = (number(&info, underflow)? as usize, number(&info, size)? as usize);
    let (option, head) = ENTRIES;
    let mut entries = named(head.checked_add(size)?);
    entries[32..36].copy_from_slice(&u32::try_from(size).ok()?.to_ne_bytes());
    sys::ip_option(&socket, option, &mut entries).ok()?;
    let entry = entries.get(head + underflow..)?;
    let target = u16::from_ne_bytes(*entry.get(TARGET_OFFSET..)?.first_chunk()?);
    // A verdict is kept as its negative less one: NF_DROP is 0.
    Some(number(entry, usize::from(target) + VERDICT)? == -1_i32 as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: u8, table: &str, name: &str, drops: bool) -> FoundChain {
        let forwards = name.to_uppercase().contains("FORWARD");
        FoundChain { family, table: table.into(), name: name.into(), forwards, drops }
    }

    #[test]
    fn only_what_has_the_last_word_is_told() {
        let ours = chain(1, "engine-01234567", "forward", false);
        assert!(stopping(&[ours.clone(), chain(2, "filter", "FORWARD", false)]).is_empty());
        let policy = chain(2, "filter", "FORWARD", true);
        assert_eq!(
            stopping(&[ours.clone(), policy.clone()]),
            ["chain FORWARD of table ip filter drops by policy"]
        );
        // Beside Docker it is helped, of that family.
        assert!(stopping(&[policy.clone(), chain(2, "filter", rules::USER, false)]).is_empty());
        assert_eq!(stopping(&[policy, chain(10, "filter", rules::USER, false)]).len(), 1);
        assert_eq!(stopping(&[chain(1, "filter", "forward", true)]).len(), 1);
        assert_eq!(stopping(&[chain(7, "filter", "forward", true)]).len(), 0, "of a bridge");
        assert_eq!(stopping(&[chain(1, "firewalld", "filter_FORWARD", false)]).len(), 1);
    }
}
