//! Long operations: a stream of typed progress, and a result.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A long operation under way.
///
/// It works only while it is polled: as a stream it yields progress until it has ended, and awaiting it
/// (before, amid or after that) gives its result. Dropping it cancels the work and leaves nothing half made.
#[must_use = "an operation does nothing unless it is awaited or polled"]
pub struct Operation<E, T> {
    work: Option<BoxFuture<Result<T>>>,
    result: Option<Result<T>>,
    events: mpsc::UnboundedReceiver<E>,
}

/// Where the work of an [`Operation`] reports its progress.
#[derive(Debug)]
pub struct Progress<E>(mpsc::UnboundedSender<E>);

impl<E> Progress<E> {
    /// Reports `event`, if somebody still listens.
    pub fn report(&self, event: E) {
        // The receiver is gone only when the operation is, and then this work is being dropped as well.
        let _ = self.0.send(event);
    }
}

impl<E> Clone for Progress<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E, T> Operation<E, T> {
    /// Creates an operation from its work. The channel is drained before the work is polled again, so it holds
    /// no more than one poll of the work can report.
    pub fn new<F>(work: impl FnOnce(Progress<E>) -> F) -> Self
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (sender, events) = mpsc::unbounded_channel();
        Self { work: Some(Box::pin(work(Progress(sender)))), result: None, events }
    }

    /// Polls the work, if it has not ended, and keeps its result.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.work else { return Poll::Ready(()) };
        match work.as_mut().poll(cx) {
            Poll::Ready(result) => {
                self.work = None;
                self.result = Some(result);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<E, T> Unpin for Operation<E, T> {}

impl<E, T> Stream for Operation<E, T> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
        match self.events.poll_recv(cx) {
            Poll::Ready(Some(event)) => return Poll::Ready(Some(event)),
            Poll::Ready(None) if self.work.is_none() => return Poll::Ready(None),
            _ => {}
        }
        let done = self.poll_work(cx).is_ready();
        match self.events.try_recv() {
            Ok(event) => Poll::Ready(Some(event)),
            Err(_) if done => Poll::Ready(None),
            Err(_) => Poll::Pending,
        }
    }
}

impl<E: Send + 'static, T: Send + 'static> IntoFuture for Operation<E, T> {
    type Output = Result<T>;
    type IntoFuture = BoxFuture<Result<T>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(std::future::poll_fn(move |cx| {
            // Nobody will see the events any more: keep the channel empty.
            while self.events.try_recv().is_ok() {}
            match self.poll_work(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(self.result.take().unwrap_or_else(|| {
                    Err(Error::new(ErrorKind::Canceled, "await operation")
                        .with_message("its result was taken before"))
                })),
            }
        }))
    }
}

impl<E, T> fmt::Debug for Operation<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("done", &self.work.is_none()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn count(to: u32) -> Operation<u32, u32> {
        Operation::new(move |progress| async move {
            for n in 0..to {
                progress.report(n);
                tokio::task::yield_now().await;
            }
            Ok(to)
        })
    }

    #[tokio::test]
    async fn events_come_first_then_the_result() {
        let mut operation = count(3);
        let mut seen = Vec::new();
        while let Some(n) = operation.next().await {
            seen.push(n);
        }
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(operation.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn awaiting_at_once_skips_the_events() {
        assert_eq!(count(100).await.unwrap(), 100);
    }
}
