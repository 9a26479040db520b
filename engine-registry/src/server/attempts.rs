//! How many wrong passwords somebody may try.
//!
//! Owns a count for each client's address, and one for each address and user, which go down with time. So whoever guesses
//! gets slow, and nobody can lock a user out from elsewhere. Invariant: memory is bounded; a count is taken before the password
//! is looked at, so that trying many at once gains nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong passwords of one address for one user, and how long each counts.
const OF_USER: (u32, Duration) = (10, Duration::from_secs(6));
/// The same for all users together.
const OF_ADDRESS: (u32, Duration) = (100, Duration::from_millis(600));
const MAX_COUNTS: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Attempts {
    counts: Mutex<HashMap<Key, Count>>,
    hasher: RandomState,
}

/// A network address, and the hash of a user's name.
type Key = (IpAddr, Option<u64>);

#[derive(Clone, Copy, Debug)]
struct Count {
    /// When it is back at zero.
    free: Instant,
}

impl Attempts {
    /// Counts a try, or says how long to wait before another one.
    pub(super) fn begin(&self, from: IpAddr, user: &str) -> Result<(), Duration> {
        self.begin_at(Instant::now(), from, user)
    }

    fn begin_at(&self, now: Instant, from: IpAddr, user: &str) -> Result<(), Duration> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MAX_COUNTS {
            counts.retain(|_, count| count.free > now);
            if counts.len() >= MAX_COUNTS {
                // Whoever has so many addresses is not stopped by counting them.
                counts.clear();
            }
        }
        let keys = self.keys(from, user);
        for (key, (most, each)) in keys {
            let full = now + each * most;
            let free = counts.get(&key).map_or(now, |count| count.free.max(now));
            if free + each > full {
                return Err(free + each - full);
            }
        }
        for (key, (_, each)) in keys {
            let count = counts.entry(key).or_insert(Count { free: now });
            count.free = count.free.max(now) + each;
        }
        Ok(())
    }

    /// Takes a try back whose password was right.
    pub(super) fn succeeded(&self, from: IpAddr, user: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, (_, each)) in self.keys(from, user) {
            if let Some(count) = counts.get_mut(&key) {
                count.free = count.free.checked_sub(each).unwrap_or(count.free);
            }
        }
    }

    fn keys(&self, from: IpAddr, user: &str) -> [(Key, (u32, Duration)); 2] {
        let from = network(from);
        [((from, None), OF_ADDRESS), ((from, Some(self.hasher.hash_one(user))), OF_USER)]
    }
}

/// One host of IPv6 has a whole network of addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_guesses_get_slow_for_who_guesses_only() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..10 {
            attempts.begin_at(now, one, "alice").unwrap();
        }
        let wait = attempts.begin_at(now, one, "alice").unwrap_err();
        assert_eq!(wait, Duration::from_secs(6));
        attempts.begin_at(now, one, "bob").unwrap();
        attempts.begin_at(now, two, "alice").unwrap();
        assert!(attempts.begin_at(now + wait - Duration::from_millis(1), one, "alice").is_err());
        attempts.begin_at(now + wait, one, "alice").unwrap();
        assert!(attempts.begin_at(now + wait, one, "alice").is_err());
        attempts.succeeded(one, "alice");
        attempts.begin_at(now + wait, one, "alice").unwrap();
        // Many users do not help.
        let mut tried = 0;
        while attempts.begin_at(now, two, &format!("user-{tried}")).is_ok() {
            tried += 1;
            assert!(tried < 1000);
        }
        assert_eq!(tried, 99);
    }

    #[test]
    fn e7_counts_are_bounded_and_of_networks() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let host = |low: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001 << 112) + low));
        for low in 0..10 {
            attempts.begin_at(now, host(low), "alice").unwrap();
        }
        assert!(attempts.begin_at(now, host(99), "alice").is_err());
        for number in 0..100_000_u32 {
            let _ = attempts.begin_at(now, IpAddr::from(number.to_be_bytes()), "alice");
        }
        assert!(attempts.counts.lock().unwrap().len() <= MAX_COUNTS + 2);
    }
}
