//! Tables, chains, sets and their elements. Numbers are those of linux/netfilter/nf_tables.h.

use engine_core::Result;
use netlink_packet_core::NlasIterator;

use super::attributes::Attributes;
use super::expression::Expression;
use super::transaction::{NEW_RULE, Nft, Transaction, flag};

const ELEMENT: u16 = 1;
/// Most elements of one message, so that their list stays below 64 KiB.
const MOST_ELEMENTS: usize = 500;
/// The type of an interface's name, as nft(8) numbers it.
const INTERFACE_NAME: u32 = 41;
/// The map's data are values, not verdicts.
const MAP: u32 = 1 << 3;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    Ipv4 = 2,
    Ipv6 = 10,
}

/// Where in a packet's way a chain is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a chain is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Filter,
    Nat,
}

/// A table, which holds everything else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    pub(crate) family: Family,
    pub(crate) name: &'a str,
}

/// A chain of rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain<'a> {
    pub(crate) name: &'a str,
    /// Where packets enter it; without it, only by a jump.
    pub(crate) base: Option<(Kind, Hook, i32)>,
}

/// A set, or a map if there is something to each key. Types are only for people to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set<'a> {
    pub(crate) name: &'a str,
    /// Type and length of the key.
    pub(crate) key: (u32, u32),
    pub(crate) data: Option<(u32, u32)>,
}

impl Table<'_> {
    /// Makes the table, if it is not there.
    pub(crate) fn create(&self, transaction: &mut Transaction) {
        transaction.add(0, flag::CREATE, self.family, &Attributes::new().text(1, self.name));
    }

    /// Makes the table; the transaction fails if it is there.
    pub(crate) fn create_new(&self, transaction: &mut Transaction) {
        let table = Attributes::new().text(1, self.name);
        transaction.add(0, flag::CREATE | flag::EXCL, self.family, &table);
    }

    /// Removes the table with all that is in it; the transaction fails if it is not there.
    pub(crate) fn delete(&self, transaction: &mut Transaction) {
        transaction.add(2, 0, self.family, &Attributes::new().text(1, self.name));
    }

    pub(crate) fn add_chain(&self, transaction: &mut Transaction, chain: &Chain<'_>) {
        let mut attributes = Attributes::new().text(1, self.name).text(3, chain.name);
        if let Some((kind, hook, priority)) = chain.base {
            let place = Attributes::new().number(1, hook as u32).number(2, priority as u32);
            let kind = match kind {
                Kind::Filter => "filter",
                Kind::Nat => "nat",
            };
            attributes = attributes.nested(4, &place).text(7, kind);
        }
        transaction.add(3, flag::CREATE, self.family, &attributes);
    }

    /// Adds a rule at the end of a chain.
    pub(crate) fn add_rule(&self, transaction: &mut Transaction, chain: &str, rule: &[Expression]) {
        let list: Vec<u8> =
            rule.iter().flat_map(|expression| expression.element().as_bytes().to_vec()).collect();
        // The list is nested, and its elements are complete.
        let attributes = Attributes::new().text(1, self.name).text(2, chain).bytes(4 | 1 << 15, &list);
        transaction.add(NEW_RULE, flag::CREATE | flag::APPEND, self.family, &attributes);
    }

    pub(crate) fn add_set(&self, transaction: &mut Transaction, set: &Set<'_>) {
        let id = transaction.next_set();
        let (key_type, key_length) = set.key;
        let mut attributes = Attributes::new()
            .text(1, self.name)
            .text(2, set.name)
            .number(3, if set.data.is_some() { MAP } else { 0 })
            .number(4, key_type)
            .number(5, key_length);
        if let Some((kind, length)) = set.data {
            attributes = attributes.number(6, kind).number(7, length);
        }
        if key_type == INTERFACE_NAME {
            // Says to nft(8) that the key is in the order of the host's bytes, or it shows none.
            attributes = attributes.bytes(13, &[0, 4, 1, 0, 0, 0]);
        }
        transaction.add(9, flag::CREATE, self.family, &attributes.number(10, id));
    }

    /// Adds elements; the transaction fails if one of the keys is there.
    pub(crate) fn add_elements(&self, transaction: &mut Transaction, set: &str, elements: &[Element]) {
        self.elements(transaction, 12, flag::CREATE | flag::EXCL, set, elements);
    }

    /// Removes elements; the transaction fails if one is not there.
    pub(crate) fn delete_elements(&self, transaction: &mut Transaction, set: &str, elements: &[Element]) {
        self.elements(transaction, 14, 0, set, elements);
    }

    /// Counts the rules of the table; `None` if they changed meanwhile.
    pub(crate) fn count_rules(&self, nft: &mut Nft) -> Result<Option<usize>> {
        let rules = nft.list(7, self.family, &Attributes::new().text(1, self.name))?;
        Ok(rules.map(|rules| rules.len()))
    }

    /// Lists the elements of a set; `None` if they changed meanwhile.
    pub(crate) fn list_elements(&self, nft: &mut Nft, set: &str) -> Result<Option<Vec<Element>>> {
        let lists = nft.list(13, self.family, &Attributes::new().text(1, self.name).text(2, set))?;
        let element = |bytes: &[u8]| Element {
            key: find(bytes, 1).and_then(|key| find(key, 1)).unwrap_or_default().to_vec(),
            data: find(bytes, 2).and_then(|data| find(data, 1)).map(<[u8]>::to_vec),
        };
        let elements = |lists: Vec<Vec<u8>>| {
            let lists = lists.iter().filter_map(|list| find(list, 3));
            lists
                .flat_map(|list| {
                    NlasIterator::new(list).flatten().map(|one| element(one.value())).collect::<Vec<_>>()
                })
                .collect()
        };
        Ok(lists.map(elements))
    }

    fn elements(&self, transaction: &mut Transaction, kind: u8, flags: u16, set: &str, elements: &[Element]) {
        for some in elements.chunks(MOST_ELEMENTS) {
            let list = some
                .iter()
                .fold(Attributes::new(), |list, element| list.nested(ELEMENT, &element.attributes()));
            let attributes = Attributes::new().text(1, self.name).text(2, set).nested(3, &list);
            transaction.add(kind, flags, self.family, &attributes);
        }
    }
}

/// The value of the first attribute of this kind.
pub(crate) fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes).flatten().find(|one| one.kind() == kind)?;
    let end = usize::from(found.length());
    found.into_inner().get(4..end)
}

/// A key of a set, with what belongs to it in a map.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) data: Option<Vec<u8>>,
}

impl Element {
    pub(crate) fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), data: None }
    }

    fn attributes(&self) -> Attributes {
        let value = |bytes: &[u8]| Attributes::new().bytes(1, bytes);
        let key = Attributes::new().nested(1, &value(&self.key));
        match &self.data {
            Some(data) => key.nested(2, &value(data)),
            None => key,
        }
    }
}
