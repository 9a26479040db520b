//! What others have in the packet filter: chains and rules, read as far as one has to know to live beside them, and rules
//! of ours in their chains.

use engine_core::Result;
use netlink_packet_core::NlasIterator;

use super::attributes::Attributes;
use super::expression::Expression;
use super::object::{Hook, Table, find};
use super::transaction::{NEW_RULE, Nft, Transaction, flag};

// Messages, see linux/netfilter/nf_tables.h.
const GET_CHAIN: u8 = 4;
const DELETE_CHAIN: u8 = 5;
const GET_RULE: u8 = 7;
const DELETE_RULE: u8 = 8;
const SUBSYSTEM: u16 = 10;
/// NF_DROP, as the policy of a chain and as a verdict.
const DROP: u32 = 0;
const JUMP: u32 = -3_i32 as u32;
const GOTO: u32 = -4_i32 as u32;
const RETURN: u32 = -5_i32 as u32;
/// Keys of meta: names of the interfaces that a packet came in by and goes out by.
const INTERFACE_NAMES: [u32; 2] = [6, 7];

/// A chain that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FoundChain {
    /// NFPROTO_…: 1 for inet, 2 for IPv4, 10 for IPv6.
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// Whether forwarded packets go through it.
    pub(crate) forwards: bool,
    /// Whether it drops what none of its rules lets through.
    pub(crate) drops: bool,
}

/// A rule that is there, as far as it is understood.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct FoundRule {
    pub(crate) handle: u64,
    pub(crate) comment: Option<String>,
    /// The chain that it leads to.
    pub(crate) jump: Option<String>,
    /// Interfaces that a packet has to have come by, or to go by.
    pub(crate) interfaces: Vec<String>,
    /// Nothing behind it sees a packet.
    pub(crate) returns_always: bool,
}

/// Where a rule goes in a chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    End,
    /// Before the rule with this handle.
    Before(u64),
}

fn text(attributes: &[u8], kind: u16) -> Option<String> {
    let bytes = find(attributes, kind)?;
    Some(String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next()?).into_owned())
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    find(attributes, kind)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn chain(family: u8, attributes: &[u8]) -> FoundChain {
    let hook = find(attributes, 4).and_then(|hook| number(hook, 1));
    FoundChain {
        family,
        table: text(attributes, 1).unwrap_or_default(),
        name: text(attributes, 3).unwrap_or_default(),
        forwards: hook == Some(Hook::Forward as u32),
        drops: hook.is_some() && number(attributes, 5) == Some(DROP),
    }
}

/// Lists the chains of all tables.
pub(crate) fn chains(nft: &mut Nft) -> Result<Vec<FoundChain>> {
    let found = nft.dump(SUBSYSTEM << 8 | u16::from(GET_CHAIN), 0, &Attributes::new())?;
    let messages = found.unwrap_or_default();
    Ok(messages.iter().filter_map(|message| Some(chain(*message.first()?, message.get(4..)?))).collect())
}

fn rule(attributes: &[u8]) -> FoundRule {
    let mut rule = FoundRule {
        handle: find(attributes, 3)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |b| u64::from_be_bytes(*b)),
        comment: find(attributes, 7).and_then(comment),
        ..FoundRule::default()
    };
    // The name that the last expression loaded, and whether anything was asked of the packet.
    let (mut loaded, mut conditional, mut returns) = (false, false, false);
    for expression in NlasIterator::new(find(attributes, 4).unwrap_or_default()).flatten() {
        let name = text(expression.value(), 1).unwrap_or_default();
        let data = find(expression.value(), 2).unwrap_or_default();
        let was_loaded = std::mem::take(&mut loaded);
        match name.as_str() {
            "meta" => loaded = number(data, 2).is_some_and(|key| INTERFACE_NAMES.contains(&key)),
            "cmp" => {
                conditional = true;
                let value = find(data, 3).and_then(|value| find(value, 1)).unwrap_or_default();
                // A prefix, as `eth+`, has no zero at its end.
                if was_loaded && number(data, 2) == Some(0) && value.last() == Some(&0) {
                    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                    rule.interfaces.push(String::from_utf8_lossy(name).into_owned());
                }
            }
            "immediate" => {
                let verdict = find(data, 2).and_then(|data| find(data, 2)).unwrap_or_default();
                match number(verdict, 1) {
                    Some(JUMP | GOTO) => rule.jump = text(verdict, 2),
                    Some(RETURN) => returns = true,
                    _ => {}
                }
            }
            "counter" => {}
            _ => conditional = true,
        }
    }
    rule.returns_always = returns && !conditional;
    rule
}

/// The comment in a rule's data of its user: kind 0 of pairs of kind and length (libnftnl's udata.h).
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        data = &rest[value.len()..];
    }
    None
}

fn with_comment(text: &str) -> Vec<u8> {
    let mut text: Vec<u8> = text.bytes().take(128).collect();
    text.push(0);
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[0, length], &text[..]].concat()
}

impl Table<'_> {
    /// Looks a chain up.
    pub(crate) fn chain(&self, nft: &mut Nft, name: &str) -> Result<Option<FoundChain>> {
        let wanted = Attributes::new().text(1, self.name).text(3, name);
        let found = nft.get(GET_CHAIN, self.family, &wanted)?;
        Ok(found.map(|attributes| chain(self.family as u8, &attributes)))
    }

    /// Lists the rules of a chain; none if there is no such chain.
    pub(crate) fn rules(&self, nft: &mut Nft, chain: &str) -> Result<Vec<FoundRule>> {
        let wanted = Attributes::new().text(1, self.name).text(2, chain);
        let found = nft.list(GET_RULE, self.family, &wanted)?;
        Ok(found.unwrap_or_default().iter().map(|attributes| rule(attributes)).collect())
    }

    /// Adds a rule with a comment, at a place.
    pub(crate) fn add_rule_at(
        &self,
        transaction: &mut Transaction,
        chain: &str,
        place: Place,
        rule: &[Expression],
        comment: &str,
    ) {
        let list: Vec<u8> = rule.iter().flat_map(|one| one.element().as_bytes().to_vec()).collect();
        let rule = Attributes::new().text(1, self.name).text(2, chain).bytes(4 | 1 << 15, &list);
        let (rule, flags) = match place {
            Place::End => (rule, flag::CREATE | flag::APPEND),
            Place::Before(handle) => (rule.bytes(6, &handle.to_be_bytes()), flag::CREATE),
        };
        transaction.add(NEW_RULE, flags, self.family, &rule.bytes(7, &with_comment(comment)));
    }

    /// Removes a rule; the transaction fails if it is not there.
    pub(crate) fn delete_rule(&self, transaction: &mut Transaction, chain: &str, handle: u64) {
        let rule = Attributes::new().text(1, self.name).text(2, chain).bytes(3, &handle.to_be_bytes());
        transaction.add(DELETE_RULE, 0, self.family, &rule);
    }

    /// Removes all rules of a chain; the transaction fails if there is no such chain.
    pub(crate) fn flush_chain(&self, transaction: &mut Transaction, chain: &str) {
        let all = Attributes::new().text(1, self.name).text(2, chain);
        transaction.add(DELETE_RULE, 0, self.family, &all);
    }

    /// Removes an empty chain that nothing leads to.
    pub(crate) fn delete_chain(&self, transaction: &mut Transaction, chain: &str) {
        let chain = Attributes::new().text(1, self.name).text(3, chain);
        transaction.add(DELETE_CHAIN, 0, self.family, &chain);
    }
}

#[cfg(test)]
mod tests {
    use super::super::expression::{Direction, Verdict};
    use super::*;

    fn written(expressions: &[Expression], comment: &str) -> FoundRule {
        let list: Vec<u8> =
            expressions.iter().flat_map(|expression| expression.element().as_bytes().to_vec()).collect();
        let attributes = Attributes::new().bytes(3, &7_u64.to_be_bytes()).bytes(4 | 1 << 15, &list);
        rule(attributes.bytes(7, &with_comment(comment)).as_bytes())
    }

    #[test]
    fn what_is_written_is_read() {
        let mut rule = Expression::interface_is(Direction::Destination, "docker0").to_vec();
        rule.push(Expression::counter());
        rule.push(Expression::verdict(Verdict::Jump("DOCKER")));
        let found = written(&rule, "for people");
        assert_eq!((found.handle, found.comment.as_deref()), (7, Some("for people")));
        assert_eq!((found.jump.as_deref(), found.interfaces), (Some("DOCKER"), vec!["docker0".to_owned()]));
        assert!(!found.returns_always);
        let back = [Expression::counter(), Expression::verdict(Verdict::Return)];
        assert!(written(&back, "").returns_always);
        let some = [&Expression::interface_is(Direction::Source, "a")[..], &back].concat();
        assert!(!written(&some, "").returns_always);
    }

    #[test]
    fn nonsense_is_no_rule() {
        for bytes in [&[][..], &[0], &[0, 9, 1], &[9, 0, 4, 128, 1, 1, 1, 1]] {
            assert_eq!(rule(bytes).jump, None);
            assert!(comment(bytes).is_none_or(|text| text.is_empty()));
        }
    }
}
