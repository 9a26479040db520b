//! Compression of a stream, on a thread of the pool.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::Error;
use crate::io::ByteStream;
use crate::pieces::transform;

/// Compresses `stream` by gzip. The same bytes give the same bytes: the header has no time. Dropping it ends the work.
pub(super) fn gzip(stream: ByteStream) -> ByteStream {
    transform(stream, |plain, packed| {
        let fail = |e| Error::from_io("compress layer", e);
        // What compresses little more costs several times as much.
        let mut encoder = GzEncoder::new(packed, Compression::fast());
        io::copy(plain, &mut encoder).map_err(fail)?;
        encoder.finish().and_then(|mut packed| packed.flush()).map_err(fail)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use bytes::Bytes;
    use futures_util::{StreamExt as _, TryStreamExt as _, stream};

    use super::*;
    use crate::error::{ErrorKind, Result};

    async fn packed(pieces: Vec<Result<Bytes>>) -> Result<Vec<u8>> {
        gzip(stream::iter(pieces).boxed())
            .try_fold(Vec::new(), async |mut all, piece| {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
    }

    #[tokio::test]
    async fn what_is_packed_is_the_same_again_and_the_same_each_time() {
        let plain: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let pieces =
            || plain.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
        let first = packed(pieces()).await.unwrap();
        let mut again = Vec::new();
        flate2::read::GzDecoder::new(&first[..]).read_to_end(&mut again).unwrap();
        assert!(again == plain);
        assert!(packed(pieces()).await.unwrap() == first);
        let empty = packed(Vec::new()).await.unwrap();
        assert_eq!(flate2::read::GzDecoder::new(&empty[..]).read_to_end(&mut Vec::new()).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_failure_of_the_source_is_told() {
        let failure = Err(Error::new(ErrorKind::NotFound, "read"));
        let told = packed(vec![Ok(Bytes::from_static(b"x")), failure]).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::NotFound);
    }
}
