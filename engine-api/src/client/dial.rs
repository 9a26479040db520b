//! Carrying a connection, as `system dial-stdio` does at the other end of ssh.

use engine_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy};

use super::connect;
use super::host::Host;
use super::options::ConnectOptions;

/// Connects to `host` and copies `input` there, and what comes back to `output`, until the other side closes. The end of the input
/// is passed on.
///
/// # Errors
/// If nobody is there, or the copying fails.
pub async fn relay(
    host: &Host,
    options: &ConnectOptions,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<()> {
    let failed = |error| Error::from_io("carry connection", error).with("host", host);
    let (mut from, mut to) = tokio::io::split(connect::open(host, options).await?.stream);
    let going = async {
        // It may well go on answering, also where it takes nothing more: what comes back decides.
        let _ = copy(&mut input, &mut to).await;
        let _ = to.shutdown().await;
        std::future::pending().await
    };
    let coming = async {
        // Each answer at once.
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = tokio::io::AsyncReadExt::read(&mut from, &mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            output.write_all(&piece[..read]).await?;
            output.flush().await?;
        }
    };
    tokio::select! {
        never = going => never,
        over = coming => over,
    }
    .map_err(failed)
}
