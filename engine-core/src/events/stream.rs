//! Events as a stream: those kept, then those to come.

use std::pin::Pin;
use std::time::SystemTime;

use futures_core::Stream;
use futures_util::stream;
use tokio::sync::watch;

use super::event::{Event, nanos};
use super::journal::{Journal, Place};
use super::query::EventQuery;
use super::reader::{Reader, Start};
use super::watch::Watch;
use crate::error::{Error, ErrorKind, Result};

/// Events, oldest first. Dropping it ends the reading. After an error it ends.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;

impl Journal {
    /// Reads events. What happens after this returned is not missed.
    ///
    /// # Errors
    /// What the file system says. The stream yields [`ErrorKind::NotFound`] and ends if events after
    /// [`EventQuery::after`] are no longer kept, or a reader was so slow that events were dropped before it came to them.
    pub async fn read(&self, query: EventQuery) -> Result<EventStream> {
        let start = match (query.after, query.since) {
            (Some(cursor), _) => Start::After(cursor.0),
            (None, Some(since)) => Start::Since(nanos(since)),
            (None, None) => Start::Now,
        };
        let source = match self.place() {
            Place::Directory(files) => {
                // The watch first: what comes after the reader's place is announced.
                let watch = Watch::new(&files.path)?;
                let journal = self.clone();
                let reader = blocking(move || match journal.place() {
                    Place::Directory(files) => Reader::open(files, start),
                    Place::Memory(_) => Err(Error::new(ErrorKind::Other, "read events")),
                });
                Source::Files { reader: Some(Box::new(reader.await?)), watch }
            }
            Place::Memory(memory) => {
                let changed = memory.changed.subscribe();
                let (last, strict) = memory.begin(start);
                Source::Memory { journal: self.clone(), last, strict, changed }
            }
        };
        let state = State { source, query, pending: Vec::new().into_iter(), over: false };
        Ok(Box::pin(stream::unfold(state, |mut state| async {
            state.next().await.map(|event| (event, state))
        })))
    }
}

struct State {
    source: Source,
    query: EventQuery,
    pending: std::vec::IntoIter<Event>,
    over: bool,
}

enum Source {
    Files { reader: Option<Box<Reader>>, watch: Watch },
    Memory { journal: Journal, last: u64, strict: bool, changed: watch::Receiver<u64> },
}

impl State {
    async fn next(&mut self) -> Option<Result<Event>> {
        loop {
            for event in self.pending.by_ref() {
                if self.query.until.is_some_and(|until| event.time > until) {
                    self.over = true;
                    return None;
                }
                if self.query.filters.match_event(&event) {
                    return Some(Ok(event));
                }
            }
            if self.over {
                return None;
            }
            // Looked at before the reading, so that nothing up to then is missed.
            let ended = self.query.until.is_some_and(|until| until <= SystemTime::now());
            match self.source.read().await {
                Ok(events) if !events.is_empty() => self.pending = events.into_iter(),
                Ok(_) if ended => self.over = true,
                Ok(_) => {
                    let until = self.query.until;
                    tokio::select! {
                        () = self.source.changed() => {}
                        () = at(until) => {}
                    }
                }
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Source {
    async fn read(&mut self) -> Result<Vec<Event>> {
        match self {
            Self::Files { reader, .. } => {
                let Some(mut own) = reader.take() else { return Ok(Vec::new()) };
                let (own, events) = blocking(move || {
                    let events = own.events();
                    Ok((own, events))
                })
                .await?;
                *reader = Some(own);
                events
            }
            Self::Memory { journal, last, strict, changed } => {
                let Place::Memory(memory) = journal.place() else { return Ok(Vec::new()) };
                changed.mark_unchanged();
                let events = memory.read(*last, *strict)?;
                if let Some(event) = events.last() {
                    (*last, *strict) = (nanos(event.time), true);
                }
                Ok(events)
            }
        }
    }

    async fn changed(&mut self) {
        match self {
            Self::Files { watch, .. } => watch.changed().await,
            // The journal, and so the sender, lives as long as this.
            Self::Memory { changed, .. } => drop(changed.changed().await),
        }
    }
}

async fn at(time: Option<SystemTime>) {
    match time.map(|time| time.duration_since(SystemTime::now())) {
        Some(Ok(left)) => tokio::time::sleep(left).await,
        Some(Err(_)) => {}
        None => std::future::pending().await,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |error| Err(Error::new(ErrorKind::Canceled, "read events").with_source(error));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt as _;

    use super::super::{Action, EventFilters, ObjectKind};
    use super::*;

    fn event(n: usize) -> Event {
        Event::new(
            ObjectKind::Volume,
            if n.is_multiple_of(2) { Action::Create } else { Action::Destroy },
            n.to_string(),
        )
    }

    async fn take(stream: &mut EventStream, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(60), stream.next()).await.expect("in time");
            ids.push(next.expect("goes on").unwrap().id);
        }
        ids
    }

    async fn check(journal: Journal, other: Journal) {
        journal.append(&[event(0), event(1)]).unwrap();
        let mut live = journal.read(EventQuery::default()).await.unwrap();
        let evens = EventFilters { actions: vec![Action::Create], ..EventFilters::default() };
        let mut filtered = journal
            .read(EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_filters(evens))
            .await
            .unwrap();
        let writer = tokio::spawn(async move {
            for n in 2..600 {
                other.append(&[event(n)]).unwrap();
                if n.is_multiple_of(50) {
                    tokio::task::yield_now().await;
                }
            }
        });
        assert_eq!(take(&mut live, 598).await, (2..600).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(
            take(&mut filtered, 300).await,
            (0..600).step_by(2).map(|n| n.to_string()).collect::<Vec<_>>()
        );
        writer.await.unwrap();
        let past = EventQuery::default().with_since(SystemTime::UNIX_EPOCH).with_until(SystemTime::now());
        let all: Vec<Event> = journal.read(past).await.unwrap().map(|event| event.unwrap()).collect().await;
        assert_eq!(all.len(), 600);
        let after = EventQuery::default().with_after(all[597].cursor()).with_until(SystemTime::now());
        let rest: Vec<Event> = journal.read(after).await.unwrap().map(|event| event.unwrap()).collect().await;
        assert_eq!(rest, all[598..]);
        // An end in the future comes without an event.
        let soon = SystemTime::now() + Duration::from_millis(20);
        assert_eq!(journal.read(EventQuery::default().with_until(soon)).await.unwrap().count().await, 0);
    }

    #[tokio::test]
    async fn followers_of_a_directory_miss_nothing() {
        let dir = tempfile::tempdir().unwrap();
        check(Journal::open(dir.path()).unwrap(), Journal::open(dir.path()).unwrap()).await;
    }

    #[tokio::test]
    async fn followers_in_memory_miss_nothing() {
        let journal = Journal::in_memory();
        check(journal.clone(), journal).await;
    }
}
