//! The way to a container's resolver: what it asks 127.0.0.11 at port 53 reaches the port where the resolver is, so that a
//! container can have a name server of its own at port 53.

use engine_core::Result;

use super::place::Namespace;
use crate::nft::{Chain, Direction, Expression, Hook, Kind, Nft, Register, Table, Transaction};

/// The resolver's address in every container, as Docker's.
const ADDRESS: [u8; 4] = [127, 0, 0, 11];
/// Number of DNS.
const DNS: u16 = 53;

/// Leads queries to `port`, in the container's own table.
pub(super) fn redirect(namespace: &Namespace, port: u16) -> Result<()> {
    let table = Table { name: "engine-names" };
    let mut transaction = Transaction::new();
    table.create(&mut transaction);
    table.delete(&mut transaction);
    table.create_new(&mut transaction);
    let chain = Chain { name: "output", base: Some((Kind::Nat, Hook::Output, -100)) };
    table.add_chain(&mut transaction, &chain);
    let (first, second) = (Register::at(0), Register::at(1));
    for transport in [6, 17] {
        let rule = [
            Expression::family(first),
            Expression::equals(first, &[2]),
            Expression::address(Direction::Destination, false, first),
            Expression::equals(first, &ADDRESS),
            Expression::transport(first),
            Expression::equals(first, &[transport]),
            Expression::destination_port(first),
            Expression::equals(first, &DNS.to_be_bytes()),
            Expression::immediate(first, &ADDRESS),
            Expression::immediate(second, &port.to_be_bytes()),
            Expression::destination_nat(false, first, second),
        ];
        table.add_rule(&mut transaction, chain.name, &rule);
    }
    namespace.nft()?.commit(transaction)
}
