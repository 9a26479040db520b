//! Ranges of ids for user namespaces: each container its own.
//!
//! A range is a row beside the container's record, made and deleted in the same transactions: so two containers never
//! share one, however many programs create at once, and a removed container's is free.

use rusqlite::{Transaction, params};

use crate::container_spec::{IdMappings, IdRange};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;

/// The table, as a step of the records' format.
pub(super) const STEP: &str = "CREATE TABLE id_range (
    container TEXT PRIMARY KEY,
    start INTEGER NOT NULL,
    size INTEGER NOT NULL
) STRICT, WITHOUT ROWID";

/// Ids of a container that does not say how many.
const DEFAULT_SIZE: u32 = 65_536;

/// The ids, of users and groups alike, that containers with a user namespace of their own may have on the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdPool {
    start: u32,
    size: u32,
}

impl Default for IdPool {
    /// 1,879,048,192 to 2,147,483,647: ids that distributions and systemd leave to others, room for 4,096 containers.
    fn default() -> Self {
        Self { start: 0x7000_0000, size: 0x1000_0000 }
    }
}

impl IdPool {
    /// Creates a pool of `size` ids from `start` on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for an empty pool, or one with root in it or beyond the last id.
    pub fn new(start: u32, size: u32) -> Result<Self> {
        // The last number means "nobody at all" to system calls (chown(2)).
        if start == 0 || size == 0 || start.checked_add(size).is_none() {
            return Err(Error::new(ErrorKind::InvalidArgument, "choose id pool")
                .with("start", start)
                .with("size", size)
                .with_message("a pool has at least one id, and neither root nor the last number"));
        }
        Ok(Self { start, size })
    }

    /// Finds the first range of `owner` in the text of /etc/subuid, by name (subuid(5)).
    #[must_use]
    pub fn from_subid(text: &str, owner: &str) -> Option<Self> {
        text.lines().find_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, start, size) = (fields.next()?, fields.next()?, fields.next()?);
            (name == owner).then(|| Self::new(start.parse().ok()?, size.parse().ok()?).ok())?
        })
    }

    /// Returns what both pools have: a range of users serves as one of groups only where it is both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = (self.start + self.size).min(other.start + other.size);
        end.checked_sub(start).and_then(|size| Self::new(start, size).ok())
    }

    /// Takes a free range for a container.
    pub(super) fn take(
        self,
        tx: &Transaction<'_>,
        container: &ContainerId,
        size: Option<u32>,
    ) -> rusqlite::Result<Result<IdMappings>> {
        let size = size.unwrap_or(DEFAULT_SIZE);
        let taken: Vec<(u32, u32)> = tx
            .prepare_cached("SELECT start, size FROM id_range ORDER BY start")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let Some(start) = self.gap(&taken, size) else {
            return Ok(Err(Error::new(ErrorKind::ResourceExhausted, "create container")
                .with("ids", size)
                .with_message(format!(
                    "no {size} ids in a row are free for a user namespace among {} from {} on",
                    self.size, self.start
                ))
                .with_hint(
                    "remove containers, ask for fewer ids (auto:size=), or give the engine a larger pool",
                )));
        };
        tx.prepare_cached("INSERT INTO id_range VALUES (?1, ?2, ?3)")?.execute(params![
            container.as_str(),
            start,
            size
        ])?;
        let range = IdRange { container: 0, host: start, size };
        Ok(Ok(IdMappings { uids: vec![range], gids: vec![range] }))
    }

    /// Frees a container's range, if it has one.
    pub(super) fn free(tx: &Transaction<'_>, container: &ContainerId) -> rusqlite::Result<()> {
        tx.prepare_cached("DELETE FROM id_range WHERE container = ?1")?
            .execute([container.as_str()])
            .map(drop)
    }

    /// The first gap of `size` between ranges that are taken, in order.
    fn gap(self, taken: &[(u32, u32)], size: u32) -> Option<u32> {
        let mut start = self.start;
        for &(other, length) in taken {
            if other.checked_sub(start).is_some_and(|room| room >= size) {
                break;
            }
            start = start.max(other.saturating_add(length));
        }
        let end = start.checked_add(size)?;
        (size > 0 && end <= self.start + self.size).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_in_order() {
        let pool = IdPool::new(100, 50).unwrap();
        assert_eq!(pool.gap(&[], 50), Some(100));
        assert_eq!(pool.gap(&[], 51), None);
        assert_eq!(pool.gap(&[(100, 10), (120, 10)], 10), Some(110));
        assert_eq!(pool.gap(&[(100, 10), (120, 10)], 20), Some(130));
        assert_eq!(pool.gap(&[(100, 10), (120, 10)], 21), None);
        // Ranges of an earlier, other pool.
        assert_eq!(pool.gap(&[(0, 10), (95, 10), (1000, 10)], 10), Some(105));
        assert_eq!(pool.gap(&[], 0), None);
    }

    #[test]
    fn pools_are_read_and_checked() {
        let text = "root:1:2\ncontainers:2147483648:1000\nengine:100000:65536\n";
        assert_eq!(IdPool::from_subid(text, "engine"), IdPool::new(100_000, 65_536).ok());
        assert_eq!(IdPool::from_subid(text, "nobody"), None);
        assert!(
            IdPool::new(0, 5).is_err() && IdPool::new(5, 0).is_err() && IdPool::new(u32::MAX, 1).is_err()
        );
        let (a, b) = (IdPool::new(100, 50).unwrap(), IdPool::new(120, 100).unwrap());
        assert_eq!(a.intersection(b), IdPool::new(120, 30).ok());
        assert_eq!(a.intersection(IdPool::new(150, 1).unwrap()), None);
    }
}
