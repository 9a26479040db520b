//! What the shim does while a container lives: log, restarts, health checks.

use core::ffi::CStr;

use super::record::Record;
use super::{health, restart};

/// How output is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogStep<'a> {
    /// Size at which a file is rotated; 0 for never.
    pub max_size: u64,
    /// Bytes that may wait to be written; 0 makes the container wait.
    pub ring_size: u64,
    /// How many files are kept.
    pub max_files: u32,
    /// Whether rotated files are compressed.
    pub compress: bool,
    /// Name of the newest.
    pub name: &'a CStr,
    /// Attributes of each record, as the inside of a JSON object.
    pub attributes: &'a CStr,
}

/// When the plan is run again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Restart {
    /// One of the kinds of [`restart`].
    pub kind: u32,
    /// Most restarts after failures; 0 is no limit.
    pub max_retries: u32,
    /// The second restart in a row waits this long; each next one twice as long.
    pub shortest_ms: u32,
    /// No restart waits longer.
    pub longest_ms: u32,
    /// A run this long begins a new row.
    pub steady_ms: u32,
}

impl Restart {
    /// What ended stays ended.
    pub const NEVER: Self =
        Restart { kind: restart::NEVER, max_retries: 0, shortest_ms: 0, longest_ms: 0, steady_ms: 0 };
}

/// A health check. All zero bytes are none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// One of the kinds of [`health`].
    pub kind: u32,
    /// One of the actions of [`health`].
    pub action: u32,
    /// Between the end of a probe and the next.
    pub interval_ms: u64,
    /// For one probe.
    pub timeout_ms: u64,
    /// After the start, in which failures do not count.
    pub start_period_ms: u64,
    /// Between probes in that time.
    pub start_interval_ms: u64,
    /// Failures in a row until it is unhealthy.
    pub retries: u32,
    /// Asks the container to stop.
    pub stop_signal: u32,
    /// Until it is killed after that.
    pub stop_timeout_ms: u64,
}

impl<'a> Record<'a> {
    /// Reads a [`super::tag::LOG`] body.
    pub fn log(&self) -> Option<LogStep<'a>> {
        let mut body = self.body;
        let log = LogStep {
            max_size: body.u64()?,
            ring_size: body.u64()?,
            max_files: body.u32()?,
            compress: body.u32()? != 0,
            name: body.text()?,
            attributes: body.text()?,
        };
        body.done()?;
        Some(log)
    }

    /// Reads a [`super::tag::RESTART`] body.
    pub fn restart(&self) -> Option<Restart> {
        let mut body = self.body;
        let rule = Restart {
            kind: body.u32()?,
            max_retries: body.u32()?,
            shortest_ms: body.u32()?,
            longest_ms: body.u32()?,
            steady_ms: body.u32()?,
        };
        body.done()?;
        (rule.kind <= restart::ON_FAILURE).then_some(rule)
    }

    /// Reads a [`super::tag::HEALTH`] body.
    pub fn health(&self) -> Option<Health> {
        let mut body = self.body;
        let check = Health {
            kind: body.u32()?,
            action: body.u32()?,
            interval_ms: body.u64()?,
            timeout_ms: body.u64()?,
            start_period_ms: body.u64()?,
            start_interval_ms: body.u64()?,
            retries: body.u32()?,
            stop_signal: body.u32()?,
            stop_timeout_ms: body.u64()?,
        };
        body.done()?;
        let times = check.interval_ms.min(check.start_interval_ms).min(check.timeout_ms);
        let longest = check.interval_ms.max(check.start_interval_ms).max(check.timeout_ms);
        let longest = longest.max(check.start_period_ms).max(check.stop_timeout_ms);
        let known = (health::COMMAND..=health::HTTP).contains(&check.kind) && check.action <= health::STOP;
        // So that sums of times never overflow.
        (known && times > 0 && longest < 1 << 62 && (1..=64).contains(&check.stop_signal)).then_some(check)
    }

    /// Reads a [`super::tag::HEALTH_TARGET`] body: the socket address, and the request.
    pub fn target(&self) -> Option<(&'a [u8], &'a [u8])> {
        let mut body = self.body;
        let length = body.u32()? as usize;
        let address = body.take(length)?;
        // At least a family, at most a struct sockaddr_storage.
        (2..=128).contains(&length).then_some((address, body.rest()))
    }
}
