//! Work that a dropped future must not leave half done.

use std::future::Future;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// Runs blocking work off the async workers.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(broken(e)))
}

/// Runs `work` to its end, also when the caller stops waiting for it.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|e| Err(broken(e)))
}

/// Runs `work` to its end; if the caller has stopped waiting by then, what it made is given to `undo`.
pub(super) async fn all_or_nothing<T, U>(
    work: impl Future<Output = Result<T>> + Send + 'static,
    undo: impl FnOnce(T) -> U + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(Ok(unwanted)) = sender.send(work.await) {
            undo(unwanted).await;
        }
    });
    // The task ends without an answer only if the runtime shuts down, or the work panicked.
    receiver.await.unwrap_or_else(|e| Err(broken(e)))
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Canceled, "run task").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_unwanted_result_is_undone() {
        let undone = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&undone);
        let work = all_or_nothing(
            async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(7)
            },
            move |value| async move {
                count.store(value, Ordering::SeqCst);
            },
        );
        assert!(tokio::time::timeout(Duration::from_millis(1), work).await.is_err());
        tokio::time::timeout(Duration::from_secs(5), async {
            while undone.load(Ordering::SeqCst) != 7 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("the undo ran");
    }

    #[tokio::test]
    async fn a_wanted_result_is_kept() {
        let result = all_or_nothing(async { Ok(1) }, |_| async { panic!("nobody asked for this") }).await;
        assert_eq!(result.unwrap(), 1);
    }
}
