//! Chains and their rules, which never change: what is translated, what is let through, what not.

use super::elements::{BRIDGES, INTERNAL, MAPS, MASQUERADED, Map, SAME, self_set};
use crate::nft::{Chain, Direction, Expression, Hook, Kind, Register, Table, Transaction, Verdict};

const PUBLISHED: &str = "published";
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;

/// Makes all of them.
pub(super) fn make(table: &Table<'_>, transaction: &mut Transaction) {
    let base = |name, kind, hook, priority| Chain { name, base: Some((kind, hook, priority)) };
    // Priorities raw, dstnat, filter and srcnat of nft(8).
    let guard = base("guard", Kind::Filter, Hook::Prerouting, -300);
    let prerouting = base("prerouting", Kind::Nat, Hook::Prerouting, -100);
    let output = base("output", Kind::Nat, Hook::Output, -100);
    let forward = base("forward", Kind::Filter, Hook::Forward, 0);
    let postrouting = base("postrouting", Kind::Nat, Hook::Postrouting, 100);
    let published = Chain { name: PUBLISHED, base: None };
    for chain in [published, guard, prerouting, output, forward, postrouting] {
        table.add_chain(transaction, &chain);
    }
    for map in MAPS {
        table.add_rule(transaction, PUBLISHED, &lookup(map));
    }
    let mut add = |chain: &Chain<'_>, rule: Vec<Expression>| table.add_rule(transaction, chain.name, &rule);

    // With route_localnet, only this keeps containers from the host's loopback addresses (CVE-2020-8558).
    let mut rule = interface_in(Direction::Source, BRIDGES, true);
    rule.extend(loopback(Direction::Destination));
    add(&guard, with(rule, Expression::verdict(Verdict::Drop)));

    // Translated before it is routed, what another host sends to 127.0.0.1 would not be seen for what it is.
    let rule = loopback(Direction::Destination);
    add(&prerouting, with(rule, Expression::verdict(Verdict::Accept)));

    // Only what is for this host: what is forwarded to others' addresses is none of ours (CVE-2025-67499).
    for chain in [&prerouting, &output] {
        let rule = Expression::destination_is_local().to_vec();
        add(chain, with(rule, Expression::verdict(Verdict::Jump(PUBLISHED))));
    }

    let established = Expression::connection_state(ESTABLISHED_OR_RELATED).to_vec();
    add(&forward, with(established, Expression::verdict(Verdict::Accept)));
    // Bridged packets come along here, too, where the host filters them (bridge-nf-call-iptables).
    add(&forward, with(both_interfaces(), Expression::verdict(Verdict::Accept)));
    for direction in [Direction::Source, Direction::Destination] {
        let rule = interface_in(direction, INTERNAL, true);
        add(&forward, with(rule, Expression::verdict(Verdict::Drop)));
    }
    let mut rule = Expression::destination_translated().to_vec();
    rule.extend(interface_in(Direction::Destination, BRIDGES, true));
    add(&forward, with(rule, Expression::verdict(Verdict::Accept)));
    // Neither another network nor another host reaches what is not published.
    let rule = interface_in(Direction::Destination, BRIDGES, true);
    add(&forward, with(rule, Expression::verdict(Verdict::Drop)));

    let mut rule = interface_in(Direction::Source, MASQUERADED, true);
    rule.extend(interface_in(Direction::Destination, BRIDGES, false));
    add(&postrouting, with(rule, Expression::masquerade()));
    // A container that asks a published port of its own network: its peer has to answer by way of the host.
    // Itself it would not believe its own address to come from outside.
    for v6 in [false, true] {
        let mut rule = Expression::destination_translated().to_vec();
        rule.extend(to_itself(v6));
        add(&postrouting, with(rule, Expression::masquerade()));
    }
    let mut rule = Expression::destination_translated().to_vec();
    rule.extend(both_interfaces());
    add(&postrouting, with(rule, Expression::masquerade()));
    // An address of the loopback interface means nothing to a container.
    let mut rule = interface_in(Direction::Destination, BRIDGES, true);
    rule.extend(loopback(Direction::Source));
    add(&postrouting, with(rule, Expression::masquerade()));
}

/// The rule that looks a packet up and translates its destination.
fn lookup(map: Map) -> Vec<Expression> {
    let (first, words) = (Register::at(0), if map.v6 { 4 } else { 1 });
    let mut rule = vec![
        Expression::family(first),
        Expression::equals(first, &[if map.v6 { 10 } else { 2 }]),
        Expression::transport(first),
    ];
    if map.at {
        rule.push(Expression::address(Direction::Destination, map.v6, Register::at(1)));
        rule.push(Expression::destination_port(Register::at(1 + words)));
    } else {
        rule.push(Expression::destination_port(Register::at(1)));
    }
    rule.push(Expression::in_map(map.name, first, first));
    rule.push(Expression::destination_nat(map.v6, first, Register::at(words)));
    rule
}

fn with(mut rule: Vec<Expression>, last: Expression) -> Vec<Expression> {
    rule.push(last);
    rule
}

/// Goes on if the interface is one of the set's, or is not.
fn interface_in(direction: Direction, set: &str, wanted: bool) -> Vec<Expression> {
    let register = Register::at(0);
    vec![Expression::interface(direction, register), Expression::in_set(set, register, wanted)]
}

/// Goes on if the packet leaves by the bridge that it came by.
fn both_interfaces() -> Vec<Expression> {
    let first = Register::at(0);
    vec![
        Expression::interface(Direction::Source, first),
        Expression::interface(Direction::Destination, Register::at(4)),
        Expression::in_set(SAME, first, true),
    ]
}

/// Goes on if the packet is from an endpoint with published ports to itself.
fn to_itself(v6: bool) -> Vec<Expression> {
    let (first, second) = (Register::at(0), Register::at(if v6 { 4 } else { 1 }));
    vec![
        Expression::family(first),
        Expression::equals(first, &[if v6 { 10 } else { 2 }]),
        Expression::address(Direction::Source, v6, first),
        Expression::address(Direction::Destination, v6, second),
        Expression::in_set(self_set(v6).name, first, true),
    ]
}

/// Goes on if the address is one of IPv4's loopback addresses.
fn loopback(direction: Direction) -> Vec<Expression> {
    let first = Register::at(0);
    let mut rule = vec![Expression::family(first), Expression::equals(first, &[2])];
    rule.extend(Expression::address_in(direction, [127, 0, 0, 0], [255, 0, 0, 0]));
    rule
}
