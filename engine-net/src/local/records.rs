//! What is known of networks and endpoints: records in a database that every program over the same root shares.
//!
//! A record is written before what it describes is made, and removed after that is gone: whatever is there after a crash is
//! known. Networks survive the machine's reboot, endpoints do not need to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use engine_core::database::{Database, Durability, WriteError};
use engine_core::network::{Endpoint, NetworkInfo};
use engine_core::{ContainerId, Error, ErrorKind, Name, Result};
use rusqlite::{Connection, OptionalExtension as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::place::Place;

const STEPS: &[&str] = &["
CREATE TABLE network (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
CREATE TABLE endpoint (network TEXT NOT NULL, container TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (network, container))
    STRICT;
CREATE INDEX endpoint_of_container ON endpoint (container);
CREATE TABLE address (network TEXT NOT NULL, address TEXT NOT NULL, container TEXT NOT NULL, PRIMARY KEY (network, address))
    STRICT;
"];

/// What is kept of an endpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndpointRecord {
    pub(super) endpoint: Endpoint,
    /// Its container's network namespace.
    pub(super) place: Place,
    /// How its packets leave for elsewhere.
    #[serde(default)]
    pub(super) way: Way,
}

/// How an endpoint's packets leave for elsewhere, where it has the default route.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(super) enum Way {
    /// By the endpoint's routers, if there are any.
    #[default]
    Routers,
    /// By its interface, whatever they are for: the kernel routes there.
    Interface,
}

impl EndpointRecord {
    /// Whether its packets can leave.
    pub(super) fn leads_out(&self) -> bool {
        self.way == Way::Interface || !self.endpoint.gateways.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Records(Arc<Database>);

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Corrupt, "read network")
            .with_source(error)
            .with_message("its record cannot be read")
    })
}

fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::Other, "write network").with_source(error))
}

fn rows(connection: &Connection, query: &str, parameters: &[&str]) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(query)?;
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(0))?;
    rows.collect()
}

impl Records {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let database = Database::open(path)?;
        database.migrate("networks", STEPS)?;
        Ok(Self(database))
    }

    /// Adds the network that `make` returns for the others.
    pub(super) fn add_network(
        &self,
        name: &Name,
        make: impl FnOnce(&[NetworkInfo]) -> Result<NetworkInfo>,
    ) -> Result<NetworkInfo> {
        self.0.write(Durability::PowerLoss, |tx| {
            let mut others = Vec::new();
            for record in rows(tx, "SELECT record FROM network", &[])? {
                let other: NetworkInfo = parse(&record)?;
                if other.name == *name {
                    return Err(Error::new(ErrorKind::AlreadyExists, "create network")
                        .with("network", name)
                        .with_message("a network of this name exists")
                        .into());
                }
                others.push(other);
            }
            let network = make(&others)?;
            tx.execute("INSERT INTO network VALUES (?1, ?2)", (name.as_str(), text(&network)?))?;
            Ok(network)
        })
    }

    /// Returns a network that is to be removed, if it is there.
    ///
    /// # Errors
    /// `Conflict` if something is on it.
    pub(super) fn unused_network(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        let network = self.network(name)?;
        if let Some(endpoint) = network.iter().find_map(|network| network.endpoints.first()) {
            return Err(Error::new(ErrorKind::Conflict, "remove network")
                .with("network", name)
                .with("container", endpoint.container.short())
                .with_message("the network has active endpoints")
                .with_hint("disconnect its containers first, or remove them"));
        }
        Ok(network)
    }

    /// Removes a network that nothing is on.
    pub(super) fn remove_network(&self, name: &Name) -> Result<()> {
        self.0.write(Durability::PowerLoss, |tx| {
            tx.execute("DELETE FROM network WHERE name = ?1", [name.as_str()])?;
            Ok(())
        })
    }

    pub(super) fn network(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        flat(self.0.read(|connection| Ok(network(connection, name)))?)
    }

    /// A network without its endpoints.
    pub(super) fn bare_network(&self, name: &Name) -> Result<Option<NetworkInfo>> {
        flat(self.0.read(|connection| Ok(bare_network(connection, name)))?)
    }

    pub(super) fn networks(&self) -> Result<Vec<NetworkInfo>> {
        let names =
            self.0.read(|connection| rows(connection, "SELECT name FROM network ORDER BY name", &[]))?;
        let mut networks = Vec::new();
        for name in names {
            networks.extend(self.network(&name.parse()?)?);
        }
        Ok(networks)
    }

    /// Adds the endpoint that `make` returns for the network and its addresses that are taken.
    pub(super) fn add_endpoint(
        &self,
        name: &Name,
        container: &ContainerId,
        make: impl FnOnce(&NetworkInfo, &BTreeSet<IpAddr>) -> Result<EndpointRecord>,
    ) -> Result<(NetworkInfo, EndpointRecord)> {
        let fail = |kind, why: &str| {
            Error::new(kind, "attach to network")
                .with("network", name)
                .with("container", container.short())
                .with_message(why.to_owned())
        };
        self.0.write(Durability::Crash, |tx| {
            let network = bare_network(tx, name)?
                .ok_or_else(|| fail(ErrorKind::NotFound, "there is no such network"))?;
            let query = "SELECT record FROM endpoint WHERE network = ?1 AND container = ?2";
            if !rows(tx, query, &[name.as_str(), container.as_str()])?.is_empty() {
                return Err(fail(ErrorKind::AlreadyExists, "the container is on the network").into());
            }
            let taken = rows(tx, "SELECT address FROM address WHERE network = ?1", &[name.as_str()])?;
            let taken = taken.iter().filter_map(|address| address.parse().ok()).collect();
            let record = make(&network, &taken)?;
            tx.execute(
                "INSERT INTO endpoint VALUES (?1, ?2, ?3)",
                (name.as_str(), container.as_str(), text(&record)?),
            )?;
            for address in &record.endpoint.addresses {
                tx.execute(
                    "INSERT INTO address VALUES (?1, ?2, ?3)",
                    (name.as_str(), address.to_string(), container.as_str()),
                )?;
            }
            Ok((network, record))
        })
    }

    pub(super) fn endpoint(&self, name: &Name, container: &ContainerId) -> Result<Option<EndpointRecord>> {
        let query = "SELECT record FROM endpoint WHERE network = ?1 AND container = ?2";
        let parameters = [name.as_str(), container.as_str()];
        let found = self.0.read(|connection| {
            connection.query_row(query, parameters, |row| row.get::<_, String>(0)).optional()
        })?;
        found.map(|record| parse(&record)).transpose()
    }

    /// The endpoints of a container, the first one first.
    pub(super) fn of_container(&self, container: &ContainerId) -> Result<Vec<EndpointRecord>> {
        let query = "SELECT record FROM endpoint WHERE container = ?1 ORDER BY rowid";
        let records = self.0.read(|connection| rows(connection, query, &[container.as_str()]))?;
        records.iter().map(|record| parse(record)).collect()
    }

    /// All endpoints, of all networks.
    pub(super) fn endpoints(&self) -> Result<Vec<EndpointRecord>> {
        let records = self.0.read(|connection| rows(connection, "SELECT record FROM endpoint", &[]))?;
        records.iter().map(|record| parse(record)).collect()
    }

    pub(super) fn has_endpoints(&self) -> Result<bool> {
        self.0.read(|connection| {
            connection.query_row("SELECT EXISTS (SELECT 1 FROM endpoint)", [], |row| row.get(0))
        })
    }

    /// Changes an endpoint.
    pub(super) fn change_endpoint(
        &self,
        name: &Name,
        container: &ContainerId,
        change: impl FnOnce(&mut Endpoint),
    ) -> Result<()> {
        self.0.write(Durability::Crash, |tx| {
            let query = "SELECT record FROM endpoint WHERE network = ?1 AND container = ?2";
            let Some(record) = rows(tx, query, &[name.as_str(), container.as_str()])?.pop() else {
                return Err(Error::new(ErrorKind::NotFound, "change endpoint")
                    .with("network", name)
                    .with("container", container.short())
                    .with_message("the container is not on the network")
                    .into());
            };
            let mut record: EndpointRecord = parse(&record)?;
            change(&mut record.endpoint);
            let query = "UPDATE endpoint SET record = ?3 WHERE network = ?1 AND container = ?2";
            tx.execute(query, (name.as_str(), container.as_str(), text(&record)?))?;
            Ok(())
        })
    }

    pub(super) fn remove_endpoint(&self, name: &Name, container: &ContainerId) -> Result<()> {
        self.0.write(Durability::Crash, |tx| {
            for table in ["endpoint", "address"] {
                let query = format!("DELETE FROM {table} WHERE network = ?1 AND container = ?2");
                tx.execute(&query, [name.as_str(), container.as_str()])?;
            }
            Ok(())
        })
    }
}

/// An error of ours that came out of a closure for SQLite.
fn flat<T>(result: Result<T, WriteError>) -> Result<T> {
    result.map_err(|error| match error {
        WriteError::Own(error) => error,
        WriteError::Sqlite(error) => Error::new(ErrorKind::Other, "read network").with_source(error),
    })
}

fn bare_network(connection: &Connection, name: &Name) -> Result<Option<NetworkInfo>, WriteError> {
    let found = connection
        .query_row("SELECT record FROM network WHERE name = ?1", [name.as_str()], |row| {
            row.get::<_, String>(0)
        })
        .optional()?;
    Ok(found.map(|record| parse(&record)).transpose()?)
}

fn network(connection: &Connection, name: &Name) -> Result<Option<NetworkInfo>, WriteError> {
    let Some(mut network) = bare_network(connection, name)? else { return Ok(None) };
    let query = "SELECT record FROM endpoint WHERE network = ?1 ORDER BY rowid";
    for record in rows(connection, query, &[name.as_str()])? {
        network.endpoints.push(parse::<EndpointRecord>(&record)?.endpoint);
    }
    Ok(Some(network))
}
