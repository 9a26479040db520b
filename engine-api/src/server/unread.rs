//! Answers of what others may have to wait for, to clients that read nothing.
//!
//! An operation that has nobody to tell its progress to stands still with all that it holds. So it works in a task of its own,
//! and ends when its client takes nothing for too long, or when the answer is dropped.

use std::time::Duration;

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio_util::task::AbortOnDropHandle;

/// Returns `items`, which are dropped as soon as nobody has taken one for `limit`: then `late` is the last.
pub(super) fn in_time<T: Send + 'static>(
    items: impl Stream<Item = T> + Send + 'static,
    limit: Duration,
    late: impl Fn() -> T + Send + 'static,
) -> impl Stream<Item = T> + Send + 'static {
    let (sender, receiver) = mpsc::channel(1);
    let work = async move {
        let mut items = Box::pin(items);
        while let Some(item) = items.next().await {
            match sender.send_timeout(Some(item), limit).await {
                Ok(()) => {}
                Err(SendTimeoutError::Closed(_)) => return,
                Err(SendTimeoutError::Timeout(_)) => {
                    drop(items);
                    // As soon as there is room, which is when the client goes on or goes.
                    let _ = sender.send(None).await;
                    return;
                }
            }
        }
    };
    let working = AbortOnDropHandle::new(tokio::spawn(work));
    stream::unfold((receiver, working, late), |(mut receiver, working, late)| async move {
        let item = receiver.recv().await?;
        Some((item.unwrap_or_else(&late), (receiver, working, late)))
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_nobody_takes_ends() {
        let (held, ended) = oneshot::channel::<()>();
        let items = stream::unfold((0, held), async |(count, held)| Some((count, (count + 1, held))));
        let mut sent = Box::pin(in_time(items, Duration::from_millis(5), || -1));
        assert_eq!(sent.next().await, Some(0));
        assert!(ended.await.is_err(), "it holds nothing any more");
        let rest: Vec<i32> = sent.collect().await;
        assert_eq!(rest.last(), Some(&-1), "{rest:?}");
        assert!(rest.len() <= 2, "it went on: {rest:?}");
    }
}
