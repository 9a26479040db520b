//! Expressions: what a rule does with a packet, one register at a time. Numbers are those of linux/netfilter/nf_tables.h.

use super::attributes::Attributes;

// Attributes of an element of a list, of an expression and of a verdict.
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// Longest name of an interface with its final zero.
const IFNAMSIZ: usize = 16;

/// One of the registers of four bytes; longer values take those behind it, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register(u32);

impl Register {
    /// The register that is `words` of four bytes behind the first.
    pub(crate) const fn at(words: u32) -> Self {
        // NFT_REG32_00.
        Self(8 + words)
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'a> {
    Accept,
    Drop,
    Jump(&'a str),
    /// Goes on behind the jump that led here.
    Return,
}

impl Verdict<'_> {
    fn data(self) -> Attributes {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3_i32 as u32, Some(chain)),
            Self::Return => (-5_i32 as u32, None),
        };
        let verdict = Attributes::new().number(VERDICT_CODE, code);
        let verdict = match chain {
            Some(chain) => verdict.text(VERDICT_CHAIN, chain),
            None => verdict,
        };
        Attributes::new().nested(DATA_VERDICT, &verdict)
    }
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    Source,
    Destination,
}

/// One expression.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    name: &'static str,
    data: Attributes,
}

/// The name of an interface as registers and sets have it.
pub(crate) fn interface_name(name: &str) -> [u8; IFNAMSIZ] {
    let mut bytes = [0; IFNAMSIZ];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

impl Expression {
    /// As an element of a rule's list.
    pub(super) fn element(&self) -> Attributes {
        let whole = Attributes::new().text(NAME, self.name).nested(DATA, &self.data);
        Attributes::new().nested(ELEMENT, &whole)
    }

    fn meta(key: u32, to: Register) -> Self {
        Self { name: "meta", data: Attributes::new().number(1, to.0).number(2, key) }
    }

    /// Loads the name of the interface that the packet came in by, or goes out by.
    pub(crate) fn interface(of: Direction, to: Register) -> Self {
        Self::meta(if of == Direction::Source { 6 } else { 7 }, to)
    }

    /// Goes on if the packet came in by this interface, or goes out by it; in the way that iptables-nft reads.
    pub(crate) fn interface_is(of: Direction, name: &str) -> [Self; 2] {
        // The first register of sixteen bytes.
        let register = Register(1);
        let bytes = [name.as_bytes(), &[0]].concat();
        [Self::interface(of, register), Self::equals(register, &bytes)]
    }

    /// Counts packets.
    pub(crate) fn counter() -> Self {
        Self { name: "counter", data: Attributes::new() }
    }

    /// Loads the family of the network layer: 2 for IPv4, 10 for IPv6.
    pub(crate) fn family(to: Register) -> Self {
        Self::meta(15, to)
    }

    /// Loads the number of the transport protocol.
    pub(crate) fn transport(to: Register) -> Self {
        Self::meta(16, to)
    }

    fn payload(base: u32, offset: u32, length: u32, to: Register) -> Self {
        let data = Attributes::new().number(1, to.0).number(2, base).number(3, offset).number(4, length);
        Self { name: "payload", data }
    }

    /// Loads an address.
    pub(crate) fn address(of: Direction, v6: bool, to: Register) -> Self {
        let (source, length) = if v6 { (8, 16) } else { (12, 4) };
        let offset = if of == Direction::Source { source } else { source + length };
        Self::payload(1, offset, length, to)
    }

    /// Loads the destination port.
    pub(crate) fn destination_port(to: Register) -> Self {
        Self::payload(2, 2, 2, to)
    }

    /// Goes on if the register equals `value`.
    pub(crate) fn equals(from: Register, value: &[u8]) -> Self {
        let value = Attributes::new().bytes(DATA_VALUE, value);
        Self { name: "cmp", data: Attributes::new().number(1, from.0).number(2, 0).nested(3, &value) }
    }

    fn differs_from_zero(from: Register) -> Self {
        let value = Attributes::new().bytes(DATA_VALUE, &[0; 4]);
        Self { name: "cmp", data: Attributes::new().number(1, from.0).number(2, 1).nested(3, &value) }
    }

    fn masked(register: Register, mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(4);
        let mask = Attributes::new().bytes(DATA_VALUE, mask);
        let zero = Attributes::new().bytes(DATA_VALUE, &vec![0; length as usize]);
        let data = Attributes::new()
            .number(1, register.0)
            .number(2, register.0)
            .number(3, length)
            .nested(4, &mask)
            .nested(5, &zero);
        Self { name: "bitwise", data }
    }

    /// Goes on if the address is of `subnet`, given as address and mask.
    pub(crate) fn address_in(of: Direction, subnet: [u8; 4], mask: [u8; 4]) -> [Self; 3] {
        let register = Register::at(0);
        [Self::address(of, false, register), Self::masked(register, &mask), Self::equals(register, &subnet)]
    }

    /// Goes on if the connection is in one of the states: 2 established, 4 related.
    pub(crate) fn connection_state(mask: u32) -> [Self; 3] {
        Self::connection(0, mask)
    }

    /// Goes on if the connection's destination was translated.
    pub(crate) fn destination_translated() -> [Self; 3] {
        // IPS_DST_NAT.
        Self::connection(2, 1 << 5)
    }

    fn connection(key: u32, mask: u32) -> [Self; 3] {
        let register = Register::at(0);
        let load = Self { name: "ct", data: Attributes::new().number(1, register.0).number(2, key) };
        // Unlike what is on the wire, these numbers are the host's.
        [load, Self::masked(register, &mask.to_ne_bytes()), Self::differs_from_zero(register)]
    }

    /// Goes on if the destination is an address of this host.
    pub(crate) fn destination_is_local() -> [Self; 2] {
        let register = Register::at(0);
        // Result 3 is the type of the address, flag 2 the destination; type 2 is RTN_LOCAL.
        let data = Attributes::new().number(1, register.0).number(2, 3).number(3, 1 << 1);
        [Self { name: "fib", data }, Self::equals(register, &2_u32.to_ne_bytes())]
    }

    /// Goes on if what begins at `from` is in the set, or is not.
    pub(crate) fn in_set(set: &str, from: Register, wanted: bool) -> Self {
        let data = Attributes::new().text(1, set).number(2, from.0).number(5, u32::from(!wanted));
        Self { name: "lookup", data }
    }

    /// Looks what begins at `from` up, goes on if it is there, and loads what belongs to it.
    pub(crate) fn in_map(map: &str, from: Register, to: Register) -> Self {
        Self { name: "lookup", data: Attributes::new().text(1, map).number(2, from.0).number(3, to.0) }
    }

    /// Sends the connection to the address and port in the registers.
    pub(crate) fn destination_nat(v6: bool, address: Register, port: Register) -> Self {
        let family = if v6 { 10 } else { 2 };
        let data = Attributes::new().number(1, 1).number(2, family).number(3, address.0).number(5, port.0);
        Self { name: "nat", data }
    }

    /// Loads a value.
    pub(crate) fn immediate(to: Register, value: &[u8]) -> Self {
        let value = Attributes::new().bytes(DATA_VALUE, value);
        Self { name: "immediate", data: Attributes::new().number(1, to.0).nested(2, &value) }
    }

    /// Gives the connection the address of the interface that it leaves by.
    pub(crate) fn masquerade() -> Self {
        Self { name: "masq", data: Attributes::new() }
    }

    pub(crate) fn verdict(verdict: Verdict<'_>) -> Self {
        // NFT_REG_VERDICT.
        Self { name: "immediate", data: Attributes::new().number(1, 0).nested(2, &verdict.data()) }
    }
}
