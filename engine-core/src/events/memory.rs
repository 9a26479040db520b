//! A journal in memory, for engines without a directory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use super::event::{BEGINNING, Event, nanos, time_of};
use super::reader::{Start, gap};
use crate::error::Result;

/// How many events are kept.
const KEPT: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Memory {
    inner: Mutex<Inner>,
    pub(super) changed: watch::Sender<u64>,
    /// Attributes that replace those a container was started with.
    pub(super) actors: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
}

#[derive(Debug)]
struct Inner {
    events: VecDeque<Event>,
    last: u64,
    /// The time of the last event that is kept no more.
    dropped: u64,
}

impl Memory {
    pub(super) fn new() -> Self {
        let inner = Inner { events: VecDeque::new(), last: BEGINNING, dropped: BEGINNING };
        Self { inner: Mutex::new(inner), changed: watch::channel(0).0, actors: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, events: &[Event]) {
        let mut inner = self.inner();
        for event in events {
            inner.last = nanos(SystemTime::now()).max(inner.last + 1);
            let event = Event { time: time_of(inner.last), ..event.clone() };
            inner.events.push_back(event);
            if inner.events.len() > KEPT {
                inner.dropped = inner.events.pop_front().map_or(inner.dropped, |event| nanos(event.time));
            }
        }
        let last = inner.last;
        drop(inner);
        self.changed.send_replace(last);
    }

    /// The time of the last event.
    pub(super) fn last(&self) -> u64 {
        self.inner().last
    }

    /// Where a reader begins: the last time it has seen, and whether a missing event is an error.
    pub(super) fn begin(&self, start: Start) -> (u64, bool) {
        match start {
            Start::Now => (self.inner().last, true),
            Start::Since(time) => (time.saturating_sub(1), false),
            Start::After(time) => (time, true),
        }
    }

    /// The events after `last`.
    pub(super) fn read(&self, last: u64, strict: bool) -> Result<Vec<Event>> {
        let inner = self.inner();
        if strict && last < inner.dropped {
            return Err(gap());
        }
        let first = inner.events.partition_point(|event| nanos(event.time) <= last);
        Ok(inner.events.range(first..).take(256).cloned().collect())
    }
}
