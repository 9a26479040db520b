//! Checking a whole plan, and walking it afterwards.
//!
//! Invariant: what [`Plan::parse`] accepted, its readers read: each record was read once, by the same function.

use super::record::{Record, next};
use super::{HEADER, KIND_EXEC, MAGIC, MAX_CGROUPS, MAX_MOUNTS, MAX_PLAN, MountStep, VERSION, tag};

/// Why bytes are not a plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// Shorter than a header, or larger than [`MAX_PLAN`].
    Size,
    /// Not the magic, version or kind expected, or the lengths in the header do not fit the bytes.
    Header,
    /// A record reaches beyond the plan, or has bits set where zero is required.
    Record,
    /// The body of a record with this tag is too short, too long, or holds a text that is no text.
    Body(u16),
    /// A tag this version does not know.
    Tag(u16),
    /// More mounts or cgroups than the shim holds.
    TooMany(u16),
    /// A record that must be there (or be there once) is not.
    Count(u16),
}

/// A checked plan.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    records: &'a [u8],
}

impl<'a> Plan<'a> {
    /// A plan without records.
    #[cfg_attr(not(shim), allow(dead_code, reason = "the shim's side"))]
    pub const fn empty() -> Self {
        Plan { records: &[] }
    }

    /// Checks `bytes` as a plan of `kind`, whole and exact.
    pub fn parse(bytes: &'a [u8], kind: u16) -> Result<Self, Malformed> {
        if bytes.len() < HEADER || bytes.len() > MAX_PLAN {
            return Err(Malformed::Size);
        }
        let (header, records) = bytes.split_at(HEADER);
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if word(0) != MAGIC || half(4) != VERSION || half(6) != kind || word(8) as usize != bytes.len() {
            return Err(Malformed::Header);
        }
        let plan = Plan { records };
        let (mut walk, mut count, mut mounts, mut cgroups) = (records, 0, 0, 0);
        let (mut configs, mut argv) = (0, 0);
        while !walk.is_empty() {
            let record = next(&mut walk).ok_or(Malformed::Record)?;
            if kind == KIND_EXEC && record.tag == tag::HEALTH_PLAN {
                // A plan inside a plan, and no deeper.
                return Err(Malformed::Tag(record.tag));
            }
            record.check()?;
            count += 1;
            match record.tag {
                tag::MOUNT => mounts += 1,
                tag::CGROUP => cgroups += 1,
                tag::CONFIG => configs += 1,
                tag::ARGV => argv += 1,
                _ => {}
            }
        }
        if count != word(12) {
            return Err(Malformed::Header);
        }
        if mounts > MAX_MOUNTS {
            return Err(Malformed::TooMany(tag::MOUNT));
        }
        if cgroups > MAX_CGROUPS {
            return Err(Malformed::TooMany(tag::CGROUP));
        }
        if configs != 1 {
            return Err(Malformed::Count(tag::CONFIG));
        }
        if argv != 1 {
            return Err(Malformed::Count(tag::ARGV));
        }
        Ok(plan)
    }

    /// The records in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut walk = self.records;
        core::iter::from_fn(move || next(&mut walk))
    }

    /// The records with `tag`, in order.
    pub fn all(&self, tag: u16) -> impl Iterator<Item = Record<'a>> + use<'a> {
        self.records().filter(move |record| record.tag == tag)
    }

    /// The first record with `tag`.
    pub fn first(&self, tag: u16) -> Option<Record<'a>> {
        self.all(tag).next()
    }

    /// The clone flags and options.
    pub fn config(&self) -> (u64, u32) {
        self.first(tag::CONFIG).and_then(|record| record.config()).unwrap_or((0, 0))
    }

    /// The mounts in order.
    pub fn mounts(&self) -> impl Iterator<Item = MountStep<'a>> + use<'a> {
        self.all(tag::MOUNT).filter_map(|record| record.mount())
    }
}

impl Record<'_> {
    /// Checks the body against its tag.
    fn check(&self) -> Result<(), Malformed> {
        let sound = match self.tag {
            tag::CONFIG => self.config().is_some(),
            tag::ID | tag::BOOT_ID | tag::UID_MAP | tag::GID_MAP | tag::MASK | tag::READONLY => {
                self.text().is_some()
            }
            tag::HOSTNAME | tag::DOMAINNAME | tag::CWD | tag::CGROUP_PATH | tag::TIME_OFFSETS => {
                self.text().is_some()
            }
            tag::EVENT_ACTOR => self.text().is_some_and(|text| !text.is_empty()),
            tag::JOIN | tag::CGROUP | tag::EVENT => self.number_and_text().is_some(),
            tag::OOM_COUNTER | tag::SYSCTL | tag::LSM_EXEC | tag::EXEC_EVENT => self.pair().is_some(),
            tag::MOUNT => self.mount().is_some(),
            tag::ENTRY => self.entry().is_some(),
            tag::RLIMIT => self.rlimit().is_some(),
            tag::OOM_SCORE_ADJ | tag::IO_PRIORITY | tag::PERSONALITY => self.number().is_some(),
            tag::RESOLVER => self.number().is_some_and(|port| (1..=65_535).contains(&port)),
            // SCHED_ATTR_SIZE_VER0, see sched_setattr(2).
            tag::SCHEDULER => self.number_and_words().is_some_and(|(_, words)| words.len() == 48),
            tag::MEMORY_POLICY | tag::EXEC_AFFINITY => self.number_and_words().is_some(),
            tag::USER => self.user().is_some(),
            tag::CAPABILITIES => self.capabilities().is_some(),
            tag::SECCOMP => self.seccomp().is_some(),
            tag::ARGV => self.texts().is_some_and(|texts| texts.count > 0),
            tag::ENV => self.texts().is_some(),
            tag::TTY_SIZE | tag::OWNER => self.two_numbers().is_some(),
            tag::LOG => self.log().is_some(),
            tag::RESTART => self.restart().is_some(),
            tag::HEALTH => self.health().is_some(),
            tag::HEALTH_PLAN => Plan::parse(self.bytes(), KIND_EXEC).is_ok(),
            tag::HEALTH_TARGET => self.target().is_some(),
            other => return Err(Malformed::Tag(other)),
        };
        if sound { Ok(()) } else { Err(Malformed::Body(self.tag)) }
    }
}
