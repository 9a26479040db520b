//! The way to a container's resolver: what it asks 127.0.0.11 at port 53 reaches the port where the resolver is, so that a
//! container can have a name server of its own at port 53.

use engine_core::network::names;
use engine_core::{ErrorKind, Result};

use super::place::Namespace;
use crate::nft::{Chain, Direction, Expression, Family, Hook, Kind, Register, Table, Transaction};

/// Number of DNS.
const DNS: u16 = 53;

/// Leads queries to the resolver, in the container's own table.
pub(super) fn redirect(namespace: &Namespace) -> Result<()> {
    let table = Table { family: Family::Inet, name: "engine-names" };
    let mut transaction = Transaction::new();
    table.create_new(&mut transaction);
    let chain = Chain { name: "output", base: Some((Kind::Nat, Hook::Output, -100)) };
    table.add_chain(&mut transaction, &chain);
    let (first, second) = (Register::at(0), Register::at(1));
    for transport in [6, 17] {
        let rule = [
            Expression::family(first),
            Expression::equals(first, &[2]),
            Expression::address(Direction::Destination, false, first),
            Expression::equals(first, &names::ADDRESS.octets()),
            Expression::transport(first),
            Expression::equals(first, &[transport]),
            Expression::destination_port(first),
            Expression::equals(first, &DNS.to_be_bytes()),
            Expression::immediate(first, &names::ADDRESS.octets()),
            Expression::immediate(second, &names::PORT.to_be_bytes()),
            Expression::destination_nat(false, first, second),
        ];
        table.add_rule(&mut transaction, chain.name, &rule);
    }
    match namespace.nft()?.commit(transaction) {
        // From the container's first network with names.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}
