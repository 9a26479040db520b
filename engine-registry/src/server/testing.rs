//! What a [`Storage`] promises, as functions anybody can run on an implementation.
//!
//! A promise that is broken panics; [`all`] goes on after it and names every broken one in the end.

use std::io::Read as _;
use std::panic::AssertUnwindSafe;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::{Digest, DigestAlgorithm, DigestHasher};
use engine_core::error::{Error, ErrorKind, Result};
use engine_core::testing::Subject;
use futures_core::Stream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Notify;

mod upkeep;

pub use self::upkeep::*;
use super::names::{RepositoryName, Tag, Target, UploadId};
use super::quota::Quota;
use super::storage::{NewManifest, PageRequest, PutManifest, Storage};

/// How long one promise may take. A promise that hangs is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// No quota.
const FREE: &Quota = &Quota { repository: None, total: None };

type Two<'a> = &'a Subject<dyn Storage>;

/// Runs every promise, each on what `factory` makes anew: two instances over the same place, with nothing in it.
///
/// # Panics
/// If a promise is broken; the message names all that are.
pub async fn all<F, Fut>(factory: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Subject<dyn Storage>>,
{
    let mut broken = Vec::new();
    macro_rules! run {
        ($($promise:ident)*) => {$(
            let subject = factory().await;
            let promise = tokio::time::timeout(LIMIT, $promise(&subject));
            match AssertUnwindSafe(promise).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => broken.push(format!("{}: not done after {LIMIT:?}", stringify!($promise))),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
                    broken.push(format!("{}: {text}", stringify!($promise)));
                }
            }
        )*};
    }
    run! {
        a_blob_is_uploaded_and_read
        an_empty_blob_is_a_blob
        a_blob_has_the_digest_it_was_asked_for_by
        wrong_bytes_are_corrupt_and_end_the_upload
        a_blob_belongs_to_its_repository
        a_blob_is_mounted_from_where_it_is
        a_blob_that_was_deleted_stays_so
        a_blob_that_is_deleted_is_read_to_its_end
        a_blob_s_file_has_its_bytes
        chunks_are_appended_in_order
        what_arrived_before_a_failure_stays
        an_upload_goes_on_in_another_program
        an_upload_has_one_writer
        an_upload_belongs_to_its_repository
        a_cancelled_upload_is_gone
        abandoned_uploads_are_swept
        the_same_blob_is_uploaded_by_many_at_once
        a_manifest_is_kept_as_it_came
        a_manifest_needs_what_it_names
        a_tag_moves_and_goes_alone
        a_manifest_goes_with_its_tags
        tags_are_listed_page_by_page
        repositories_are_listed_page_by_page
        referrers_are_listed_and_filtered
        each_sees_what_the_other_did
        what_no_manifest_names_is_collected
        what_is_young_is_spared
        what_tags_lead_to_is_spared
        what_is_evicted_goes_with_its_tags
        a_manifest_may_come_before_what_it_names
        usage_is_counted
        a_quota_is_never_exceeded
    }
    assert!(broken.is_empty(), "Storage: {} promises are broken:\n  {}", broken.len(), broken.join("\n  "));
}

fn name(text: &str) -> RepositoryName {
    text.parse().expect("a repository name")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn by_tag(text: &str) -> Target {
    Target::Tag(tag(text))
}

#[track_caller]
fn fails<T>(result: Result<T>, kind: ErrorKind, what: &str) {
    match result {
        Ok(_) => panic!("{what} succeeded"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error:?}"),
    }
}

async fn append(
    storage: &dyn Storage,
    repository: &RepositoryName,
    upload: &UploadId,
    offset: Option<u64>,
    bytes: &[u8],
) -> Result<u64> {
    let pieces: Vec<_> = bytes.chunks(70_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    storage.append(repository, upload, offset, &mut stream::iter(pieces)).await
}

/// Uploads a blob and returns its digest.
///
/// # Panics
/// If that fails.
pub async fn upload(storage: &dyn Storage, repository: &RepositoryName, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let upload = storage.begin_upload(repository).await.expect("begin");
    append(storage, repository, &upload, None, bytes).await.expect("append");
    storage.commit_upload(repository, &upload, &digest, FREE).await.expect("commit");
    digest
}

async fn read(
    storage: &dyn Storage,
    repository: &RepositoryName,
    digest: &Digest,
    from: u64,
    to: u64,
) -> Result<Vec<u8>> {
    let pieces: Vec<Bytes> = storage.read_blob(repository, digest, from..to).await?.try_collect().await?;
    Ok(pieces.concat())
}

async fn has(storage: &dyn Storage, repository: &RepositoryName, digest: &Digest) -> bool {
    storage.blob_size(repository, digest).await.expect("blob_size").is_some()
}

/// A body of which nothing more comes, and which tells that somebody waits for it.
fn endless(reached: &Notify) -> impl Stream<Item = Result<Bytes>> + Send + Unpin {
    stream::poll_fn(|_| {
        reached.notify_one();
        Poll::Pending
    })
}

fn large() -> Vec<u8> {
    (0..1_500_000_u32).map(|n| (n % 251) as u8).collect()
}

fn manifest(text: &str) -> NewManifest {
    let bytes = Bytes::from(text.to_owned());
    NewManifest::new(Descriptor::of(media_type::OCI_MANIFEST, &bytes), bytes)
}

async fn put(storage: &dyn Storage, repository: &RepositoryName, manifest: &NewManifest, name: Option<&str>) {
    let name = name.map(tag);
    let put = storage.put_manifest(repository, manifest, name.as_ref(), FREE).await.expect("put manifest");
    assert_eq!(put, PutManifest::Stored);
}

/// Promise: a blob is there once its upload is committed, and any part of it is read.
pub async fn a_blob_is_uploaded_and_read(subject: Two<'_>) {
    let (storage, repository, bytes) = (&*subject.first, name("a/b"), large());
    let size = bytes.len() as u64;
    let digest = Digest::sha256(&bytes);
    assert_eq!(storage.blob_size(&repository, &digest).await.expect("before"), None);
    fails(read(storage, &repository, &digest, 0, 1).await, ErrorKind::NotFound, "read before");
    let upload = storage.begin_upload(&repository).await.expect("begin");
    assert_eq!(append(storage, &repository, &upload, Some(0), &bytes).await.expect("append"), size);
    assert!(!has(storage, &repository, &digest).await, "it is seen before its commit");
    storage.commit_upload(&repository, &upload, &digest, FREE).await.expect("commit");
    assert_eq!(storage.blob_size(&repository, &digest).await.expect("after"), Some(size));
    for (from, to) in [(0, size), (0, 1), (size - 1, size), (262_144, 262_145), (100, 900_000), (7, 7)] {
        let part = read(storage, &repository, &digest, from, to).await.expect("read");
        let (from, to) = (usize::try_from(from).expect("small"), usize::try_from(to).expect("small"));
        assert!(part == bytes[from..to], "{from}..{to}: {} bytes", part.len());
    }
    assert_eq!(
        storage.upload_size(&repository, &upload).await.expect("upload"),
        None,
        "the upload has ended"
    );
    fails(
        storage.commit_upload(&repository, &upload, &digest, FREE).await,
        ErrorKind::NotFound,
        "a second commit",
    );
}

/// Promise: a blob may have no bytes.
pub async fn an_empty_blob_is_a_blob(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("empty"));
    let digest = upload(storage, &repository, b"").await;
    assert_eq!(storage.blob_size(&repository, &digest).await.expect("blob_size"), Some(0));
    assert!(read(storage, &repository, &digest, 0, 0).await.expect("read").is_empty());
}

/// Promise: each algorithm's digest names the blob; the same bytes under another one are another blob.
pub async fn a_blob_has_the_digest_it_was_asked_for_by(subject: Two<'_>) {
    let (storage, repository, bytes) = (&*subject.first, name("long"), b"hashed at length");
    let mut hasher = DigestHasher::new(DigestAlgorithm::Sha512);
    hasher.update(bytes);
    let digest = hasher.finish();
    let upload = storage.begin_upload(&repository).await.expect("begin");
    append(storage, &repository, &upload, None, bytes).await.expect("append");
    storage.commit_upload(&repository, &upload, &digest, FREE).await.expect("commit");
    assert!(has(storage, &repository, &digest).await);
    assert!(!has(storage, &repository, &Digest::sha256(bytes)).await);
}

/// Promise: bytes that do not have the digest become no blob, and their upload is over.
pub async fn wrong_bytes_are_corrupt_and_end_the_upload(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("wrong"));
    let digest = Digest::sha256(b"right");
    let upload = storage.begin_upload(&repository).await.expect("begin");
    append(storage, &repository, &upload, None, b"wrong").await.expect("append");
    fails(storage.commit_upload(&repository, &upload, &digest, FREE).await, ErrorKind::Corrupt, "commit");
    assert!(!has(storage, &repository, &digest).await);
    assert!(!has(storage, &repository, &Digest::sha256(b"wrong")).await);
    assert_eq!(storage.upload_size(&repository, &upload).await.expect("upload_size"), None);
}

/// Promise: what one repository has, another has not (SECURITY D5).
pub async fn a_blob_belongs_to_its_repository(subject: Two<'_>) {
    let (storage, mine, other) = (&*subject.first, name("mine"), name("mine/other"));
    let digest = upload(storage, &mine, b"mine").await;
    assert!(has(storage, &mine, &digest).await && !has(storage, &other, &digest).await);
    fails(read(storage, &other, &digest, 0, 1).await, ErrorKind::NotFound, "read from another repository");
    assert!(!storage.delete_blob(&other, &digest).await.expect("delete"), "deleted from another repository");
    assert!(has(storage, &mine, &digest).await);
}

/// Promise: a mount gives a repository what the named one, or any, has, and nothing else.
pub async fn a_blob_is_mounted_from_where_it_is(subject: Two<'_>) {
    let (storage, from, to) = (&*subject.first, name("from"), name("to"));
    let digest = upload(storage, &from, b"mounted").await;
    let absent = Digest::sha256(b"absent");
    let nobody = name("nobody");
    assert!(!storage.mount_blob(&to, &digest, Some(&nobody), FREE).await.expect("from nobody"));
    assert!(!storage.mount_blob(&to, &absent, Some(&from), FREE).await.expect("of nothing"));
    assert!(!storage.mount_blob(&to, &absent, None, FREE).await.expect("of nothing from anywhere"));
    assert!(!has(storage, &to, &digest).await);
    assert!(storage.mount_blob(&to, &digest, Some(&from), FREE).await.expect("mount"));
    assert!(storage.mount_blob(&to, &digest, Some(&from), FREE).await.expect("mount again"));
    assert_eq!(read(storage, &to, &digest, 0, 7).await.expect("read"), b"mounted");
    assert!(storage.mount_blob(&name("third"), &digest, None, FREE).await.expect("mount from anywhere"));
    assert!(has(storage, &name("third"), &digest).await);
}

/// Promise: a deleted blob is gone from its repository, whatever others have, until it is uploaded again.
pub async fn a_blob_that_was_deleted_stays_so(subject: Two<'_>) {
    let (storage, a, b) = (&*subject.first, name("a"), name("b"));
    let digest = upload(storage, &a, b"deleted").await;
    assert!(storage.mount_blob(&b, &digest, Some(&a), FREE).await.expect("mount"));
    assert!(storage.delete_blob(&a, &digest).await.expect("delete"));
    assert!(!storage.delete_blob(&a, &digest).await.expect("delete again"));
    assert!(!has(storage, &a, &digest).await && has(storage, &b, &digest).await);
    assert!(
        !storage.mount_blob(&name("c"), &digest, Some(&a), FREE).await.expect("mount"),
        "mounted from where it is gone"
    );
    assert!(storage.delete_blob(&b, &digest).await.expect("delete the last"));
    assert!(!storage.mount_blob(&a, &digest, None, FREE).await.expect("mount"), "mounted from nowhere");
    upload(storage, &a, b"deleted").await;
    assert_eq!(read(storage, &a, &digest, 0, 7).await.expect("read"), b"deleted");
}

/// Promise: whoever reads a blob that is deleted gets all of it.
pub async fn a_blob_that_is_deleted_is_read_to_its_end(subject: Two<'_>) {
    let (storage, repository, bytes) = (&*subject.first, name("a"), large());
    let digest = upload(storage, &repository, &bytes).await;
    let mut stream = storage.read_blob(&repository, &digest, 0..bytes.len() as u64).await.expect("read");
    let mut got = stream.next().await.expect("a piece").expect("the first piece").to_vec();
    assert!(storage.delete_blob(&repository, &digest).await.expect("delete"));
    while let Some(piece) = stream.next().await {
        got.extend_from_slice(&piece.expect("the rest"));
    }
    assert!(got == bytes);
}

/// Promise: a file of a blob, if there is one, has the blob's bytes and nothing else, and keeps them when the blob is deleted.
pub async fn a_blob_s_file_has_its_bytes(subject: Two<'_>) {
    let (storage, repository, bytes) = (&*subject.first, name("a"), large());
    let digest = upload(storage, &repository, &bytes).await;
    fails(storage.open_blob(&name("b"), &digest).await, ErrorKind::NotFound, "opened elsewhere");
    let file = storage.open_blob(&repository, &digest).await.expect("open");
    assert!(storage.delete_blob(&repository, &digest).await.expect("delete"));
    fails(storage.open_blob(&repository, &digest).await, ErrorKind::NotFound, "opened after deletion");
    if let Some(mut file) = file {
        let mut got = Vec::new();
        file.read_to_end(&mut got).expect("read");
        assert!(got == bytes, "{} bytes", got.len());
    }
}

/// Promise: a chunk is appended where it belongs, or not at all.
pub async fn chunks_are_appended_in_order(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("chunks"));
    let upload = storage.begin_upload(&repository).await.expect("begin");
    assert_eq!(storage.upload_size(&repository, &upload).await.expect("size"), Some(0));
    fails(
        append(storage, &repository, &upload, Some(1), b"x").await,
        ErrorKind::Conflict,
        "a gap at the begin",
    );
    assert_eq!(append(storage, &repository, &upload, Some(0), b"one ").await.expect("append"), 4);
    fails(
        append(storage, &repository, &upload, Some(0), b"one ").await,
        ErrorKind::Conflict,
        "the same again",
    );
    fails(append(storage, &repository, &upload, Some(9), b"x").await, ErrorKind::Conflict, "a gap");
    assert_eq!(storage.upload_size(&repository, &upload).await.expect("size"), Some(4));
    assert_eq!(append(storage, &repository, &upload, Some(4), b"two ").await.expect("append"), 8);
    assert_eq!(append(storage, &repository, &upload, None, b"three").await.expect("append"), 13);
    let digest = Digest::sha256(b"one two three");
    storage.commit_upload(&repository, &upload, &digest, FREE).await.expect("commit");
    assert_eq!(read(storage, &repository, &digest, 0, 13).await.expect("read"), b"one two three");
}

/// Promise: when the bytes of a request fail, or nobody waits for it any more, its upload goes on from where it is.
pub async fn what_arrived_before_a_failure_stays(subject: Two<'_>) {
    let (storage, repository, bytes) = (&*subject.first, name("broken"), large());
    let upload = storage.begin_upload(&repository).await.expect("begin");
    let first = Bytes::copy_from_slice(&bytes[..300_000]);
    let broken = Error::new(ErrorKind::Canceled, "read request");
    let mut body = stream::iter([Ok(first), Err(broken)]);
    fails(
        storage.append(&repository, &upload, None, &mut body).await,
        ErrorKind::Canceled,
        "a body that breaks",
    );
    let size = storage.upload_size(&repository, &upload).await.expect("size").expect("the upload is there");
    assert!(size <= 300_000, "{size}");

    let at = usize::try_from(size).expect("small");
    let second = Bytes::copy_from_slice(&bytes[at..at + 300_000]);
    let reached = Notify::new();
    let mut body = stream::iter([Ok(second)]).chain(endless(&reached));
    tokio::select! {
        result = storage.append(&repository, &upload, Some(size), &mut body) => panic!("it waits for more: {result:?}"),
        () = reached.notified() => {}
    }

    // What was given up may take a moment to end.
    let mut tries = 0;
    loop {
        let size = storage.upload_size(&repository, &upload).await.expect("size").expect("still there");
        let at = usize::try_from(size).expect("small");
        match append(storage, &repository, &upload, Some(size), &bytes[at..]).await {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Unavailable && tries < 100 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    let digest = Digest::sha256(&bytes);
    storage.commit_upload(&repository, &upload, &digest, FREE).await.expect("commit");
    assert!(read(storage, &repository, &digest, 0, bytes.len() as u64).await.expect("read") == bytes);
}

/// Promise: an upload is known by every instance over the same place.
pub async fn an_upload_goes_on_in_another_program(subject: Two<'_>) {
    let (first, second, repository) = (&*subject.first, &*subject.second, name("resumed"));
    let upload = first.begin_upload(&repository).await.expect("begin");
    append(first, &repository, &upload, Some(0), b"first, ").await.expect("append");
    append(second, &repository, &upload, Some(7), b"second, ").await.expect("append");
    append(first, &repository, &upload, Some(15), b"first").await.expect("append");
    let digest = Digest::sha256(b"first, second, first");
    second.commit_upload(&repository, &upload, &digest, FREE).await.expect("commit");
    assert_eq!(read(first, &repository, &digest, 0, 20).await.expect("read"), b"first, second, first");
    assert_eq!(first.upload_size(&repository, &upload).await.expect("size"), None);
}

/// Promise: while one request appends to an upload, no other changes it.
pub async fn an_upload_has_one_writer(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("busy"));
    let upload = storage.begin_upload(&repository).await.expect("begin");
    let reached = Notify::new();
    let mut body = endless(&reached);
    let mut waiting = std::pin::pin!(storage.append(&repository, &upload, None, &mut body));
    tokio::select! {
        result = &mut waiting => panic!("it waits for more: {result:?}"),
        () = reached.notified() => {}
    }
    for other in [&subject.first, &subject.second] {
        let result = append(&**other, &repository, &upload, None, b"x").await;
        fails(result, ErrorKind::Unavailable, "a second writer");
        let commit = other.commit_upload(&repository, &upload, &Digest::sha256(b""), FREE).await;
        fails(commit, ErrorKind::Unavailable, "a commit meanwhile");
    }
}

/// Promise: an upload's id is of no use in another repository.
pub async fn an_upload_belongs_to_its_repository(subject: Two<'_>) {
    let (storage, mine, other) = (&*subject.first, name("mine"), name("other"));
    let upload = storage.begin_upload(&mine).await.expect("begin");
    append(storage, &mine, &upload, None, b"mine").await.expect("append");
    assert_eq!(storage.upload_size(&other, &upload).await.expect("size"), None);
    fails(append(storage, &other, &upload, None, b"x").await, ErrorKind::NotFound, "append");
    let commit = storage.commit_upload(&other, &upload, &Digest::sha256(b"mine"), FREE).await;
    fails(commit, ErrorKind::NotFound, "commit");
    assert!(!storage.cancel_upload(&other, &upload).await.expect("cancel"));
    assert_eq!(storage.upload_size(&mine, &upload).await.expect("size"), Some(4));
}

/// Promise: a cancelled upload is gone, and cancelling it again finds nothing.
pub async fn a_cancelled_upload_is_gone(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("cancelled"));
    let upload = storage.begin_upload(&repository).await.expect("begin");
    append(storage, &repository, &upload, None, b"x").await.expect("append");
    assert!(storage.cancel_upload(&repository, &upload).await.expect("cancel"));
    assert!(!storage.cancel_upload(&repository, &upload).await.expect("cancel again"));
    assert_eq!(storage.upload_size(&repository, &upload).await.expect("size"), None);
    fails(append(storage, &repository, &upload, None, b"x").await, ErrorKind::NotFound, "append");
}

/// Promise: uploads that got nothing for so long are ended; others, and those that are being written to, are not.
pub async fn abandoned_uploads_are_swept(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("swept"));
    let old = storage.begin_upload(&repository).await.expect("begin");
    let busy = storage.begin_upload(&repository).await.expect("begin");
    assert_eq!(storage.sweep_uploads(Duration::from_secs(600)).await.expect("sweep"), 0);
    let reached = Notify::new();
    let mut body = endless(&reached);
    let mut waiting = std::pin::pin!(storage.append(&repository, &busy, None, &mut body));
    tokio::select! {
        result = &mut waiting => panic!("it waits for more: {result:?}"),
        () = reached.notified() => {}
    }
    assert_eq!(subject.second.sweep_uploads(Duration::ZERO).await.expect("sweep"), 1);
    assert_eq!(storage.upload_size(&repository, &old).await.expect("old"), None);
    assert_eq!(storage.upload_size(&repository, &busy).await.expect("busy"), Some(0));
}

/// Promise: pushes of the same blob at the same time all succeed.
pub async fn the_same_blob_is_uploaded_by_many_at_once(subject: Two<'_>) {
    let bytes = large();
    let pushes = (0..8).map(|number| {
        let storage = if number % 2 == 0 { &subject.first } else { &subject.second };
        let bytes = &bytes;
        async move { upload(&**storage, &name(&format!("same/{number}")), bytes).await }
    });
    let digests = futures_util::future::join_all(pushes).await;
    for (number, digest) in digests.iter().enumerate() {
        let repository = name(&format!("same/{number}"));
        assert!(
            read(&*subject.second, &repository, digest, 0, bytes.len() as u64).await.expect("read") == bytes
        );
    }
}

/// Promise: a manifest has the bytes and the media type it came with, by tag and by digest.
pub async fn a_manifest_is_kept_as_it_came(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("manifests"));
    let sent = manifest(" { \"spaces\" :\n\"stay\" } ");
    let by_digest = Target::Digest(sent.descriptor.digest.clone());
    assert!(storage.manifest(&repository, &by_digest).await.expect("before").is_none());
    put(storage, &repository, &sent, Some("v1")).await;
    put(storage, &repository, &sent, Some("v1")).await;
    for target in [by_digest.clone(), by_tag("v1")] {
        let (descriptor, bytes) =
            storage.manifest(&repository, &target).await.expect("manifest").expect("it is there");
        assert_eq!((&descriptor, &bytes), (&sent.descriptor, &sent.bytes));
        assert_eq!(
            storage.resolve(&repository, &target).await.expect("resolve").as_ref(),
            Some(&sent.descriptor)
        );
    }
    assert!(
        storage.manifest(&repository, &by_tag("V1")).await.expect("tag").is_none(),
        "tags have their case"
    );
    assert!(storage.resolve(&name("other"), &by_digest).await.expect("other").is_none());
}

/// Promise: a manifest that names what its repository lacks is not stored, and all that lacks is told.
pub async fn a_manifest_needs_what_it_names(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("needs"));
    let there = upload(storage, &repository, b"there").await;
    let elsewhere = upload(storage, &name("elsewhere"), b"elsewhere").await;
    let child = manifest("child");
    let mut wanted = manifest("parent");
    wanted.blobs = vec![there, elsewhere.clone()];
    wanted.manifests = vec![child.descriptor.digest.clone()];
    let missing = storage.put_manifest(&repository, &wanted, Some(&tag("v1")), FREE).await.expect("put");
    assert_eq!(missing, PutManifest::Missing(vec![elsewhere.clone(), child.descriptor.digest.clone()]));
    assert!(storage.resolve(&repository, &by_tag("v1")).await.expect("resolve").is_none());
    let fresh = name("needs/fresh");
    assert!(matches!(
        storage.put_manifest(&fresh, &wanted, None, FREE).await.expect("put"),
        PutManifest::Missing(_)
    ));
    put(storage, &repository, &child, None).await;
    assert!(storage.mount_blob(&repository, &elsewhere, None, FREE).await.expect("mount"));
    put(storage, &repository, &wanted, Some("v1")).await;
}

/// Promise: a tag points at what was put last; without it, its manifest stays.
pub async fn a_tag_moves_and_goes_alone(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("tags"));
    let (old, new) = (manifest("old"), manifest("new"));
    put(storage, &repository, &old, Some("v")).await;
    put(storage, &repository, &new, Some("v")).await;
    let current = storage.resolve(&repository, &by_tag("v")).await.expect("resolve");
    assert_eq!(current.as_ref(), Some(&new.descriptor));
    assert!(storage.delete_tag(&repository, &tag("v")).await.expect("delete"));
    assert!(!storage.delete_tag(&repository, &tag("v")).await.expect("delete again"));
    assert!(storage.resolve(&repository, &by_tag("v")).await.expect("resolve").is_none());
    for manifest in [old, new] {
        let target = Target::Digest(manifest.descriptor.digest.clone());
        assert!(storage.resolve(&repository, &target).await.expect("resolve").is_some());
    }
}

/// Promise: a deleted manifest takes its tags along, and no others.
pub async fn a_manifest_goes_with_its_tags(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("gone"));
    let (gone, stays) = (manifest("gone"), manifest("stays"));
    for tag in ["a", "b"] {
        put(storage, &repository, &gone, Some(tag)).await;
        put(storage, &name("other"), &gone, Some(tag)).await;
    }
    put(storage, &repository, &stays, Some("c")).await;
    assert!(storage.delete_manifest(&repository, &gone.descriptor.digest).await.expect("delete"));
    assert!(!storage.delete_manifest(&repository, &gone.descriptor.digest).await.expect("delete again"));
    let tags = storage.tags(&repository, &PageRequest::new(None, 10)).await.expect("tags").expect("there");
    assert_eq!((tags.entries, tags.more), (vec![tag("c")], false));
    assert!(storage.resolve(&name("other"), &by_tag("a")).await.expect("resolve").is_some());
}

/// Promise: tags come in the order of their bytes, page by page, and a repository that is not there has no list.
pub async fn tags_are_listed_page_by_page(subject: Two<'_>) {
    let (storage, repository, one) = (&*subject.first, name("listed"), manifest("one"));
    assert!(storage.tags(&repository, &PageRequest::new(None, 10)).await.expect("tags").is_none());
    let sorted = ["1", "10", "2", "B", "_x", "a", "b"];
    for name in ["b", "10", "_x", "2", "B", "a", "1"] {
        put(storage, &repository, &one, Some(name)).await;
    }
    let list = async |after: Option<&str>, limit: usize| {
        let page =
            storage.tags(&repository, &PageRequest::new(after, limit)).await.expect("tags").expect("there");
        (page.entries.iter().map(|tag| tag.as_str().to_owned()).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(list(None, 100).await, (sorted.map(str::to_owned).to_vec(), false));
    assert_eq!(list(None, 3).await, (sorted[..3].iter().map(ToString::to_string).collect(), true));
    assert_eq!(list(Some("2"), 4).await, (sorted[3..].iter().map(ToString::to_string).collect(), false));
    assert_eq!(list(Some("Z"), 2).await, (sorted[4..6].iter().map(ToString::to_string).collect(), true));
    assert_eq!(list(Some("b"), 2).await, (vec![], false));
    assert_eq!(list(None, 0).await, (vec![], false));
    storage.delete_manifest(&repository, &one.descriptor.digest).await.expect("delete");
    assert_eq!(list(None, 10).await, (vec![], false), "a repository without tags is one");
}

/// Promise: repositories come in the order of their bytes, page by page.
pub async fn repositories_are_listed_page_by_page(subject: Two<'_>) {
    let storage = &*subject.first;
    let list = async |after: Option<&str>, limit: usize| {
        let page = storage.repositories(&PageRequest::new(after, limit)).await.expect("repositories");
        (page.entries.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(list(None, 10).await, (vec![], false));
    for text in ["b", "a/b", "a-b", "a"] {
        upload(storage, &name(text), b"x").await;
    }
    storage.begin_upload(&name("begun")).await.expect("begin");
    put(storage, &name("c"), &manifest("c"), None).await;
    let sorted = ["a", "a-b", "a/b", "b", "c"];
    assert_eq!(list(None, 10).await, (sorted.map(str::to_owned).to_vec(), false));
    assert_eq!(list(Some("a"), 2).await, (vec!["a-b".into(), "a/b".into()], true));
    assert_eq!(list(Some("b"), 2).await, (vec!["c".into()], false));
}

/// Promise: what has a subject is listed with it, also before that is there, until it is deleted.
pub async fn referrers_are_listed_and_filtered(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("referred"));
    let about = Digest::sha256(b"subject");
    let mut sent = Vec::new();
    for number in 0..5 {
        let mut one = manifest(&format!("referrer {number}"));
        let mut entry = one.descriptor.clone();
        entry.artifact_type = Some(if number % 2 == 0 { "even/x" } else { "odd/x" }.to_owned());
        entry.annotations.insert("number".to_owned(), number.to_string());
        one.referrer = Some((about.clone(), entry.clone()));
        put(storage, &repository, &one, None).await;
        sent.push(entry);
    }
    put(storage, &repository, &manifest("about nothing"), None).await;
    sent.sort_by_key(|entry| entry.digest.to_string());
    let list = async |kind: Option<&str>, after: Option<&Digest>, limit: usize| {
        let after = after.map(ToString::to_string);
        let page = PageRequest::new(after.as_deref(), limit);
        storage.referrers(&repository, &about, kind, &page).await.expect("referrers")
    };
    let page = list(None, None, 10).await;
    assert_eq!((&page.entries, page.more), (&sent, false));
    let page = list(None, Some(&sent[1].digest), 2).await;
    assert_eq!((&page.entries[..], page.more), (&sent[2..4], true));
    let even = list(Some("even/x"), None, 10).await.entries;
    assert_eq!(even.len(), 3);
    assert!(list(Some("other/x"), None, 10).await.entries.is_empty());
    let elsewhere = storage.referrers(&name("elsewhere"), &about, None, &PageRequest::new(None, 10)).await;
    assert!(elsewhere.expect("referrers").entries.is_empty());
    storage.delete_manifest(&repository, &sent[0].digest).await.expect("delete");
    assert_eq!(list(None, None, 10).await.entries, sent[1..]);
}

/// Promise: an instance sees at once what another one over the same place did.
pub async fn each_sees_what_the_other_did(subject: Two<'_>) {
    let (first, second, repository) = (&*subject.first, &*subject.second, name("shared"));
    let digest = upload(first, &repository, b"shared").await;
    assert_eq!(read(second, &repository, &digest, 0, 6).await.expect("read"), b"shared");
    let mut wanted = manifest("shared");
    wanted.blobs = vec![digest.clone()];
    put(second, &repository, &wanted, Some("v")).await;
    assert!(first.resolve(&repository, &by_tag("v")).await.expect("resolve").is_some());
    assert!(first.delete_blob(&repository, &digest).await.expect("delete"));
    assert!(!has(second, &repository, &digest).await);
    assert!(second.delete_tag(&repository, &tag("v")).await.expect("delete"));
    assert!(first.resolve(&repository, &by_tag("v")).await.expect("resolve").is_none());
}
