//! Content in buckets: in memory, and of a real S3 server that speaks http.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine_core::ErrorKind;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_core::testing::Subject;
use engine_registry::server::{
    GcPolicy, NewManifest, ObjectStorage, PageRequest, PutManifest, Quota, RepositoryName, Storage, Tag,
    Target, testing,
};
use engine_testkit::S3;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use serde_json::Value;

/// A place in the bucket of a real S3 server.
async fn open(s3: &S3, prefix: &str) -> ObjectStorage {
    ObjectStorage::open(&format!("s3://{}/{prefix}", S3::BUCKET), options(s3)).await.unwrap()
}

fn options(s3: &S3) -> Vec<(String, String)> {
    let all = s3.variables().into_iter().chain([("PATH", "/usr/bin")]);
    all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Asks S3 for one of its lists.
async fn ask(s3: &S3, query: &str) -> String {
    let answer = client().get(format!("{}/{}?{query}", s3.endpoint(), S3::BUCKET)).send().await.unwrap();
    answer.text().await.unwrap()
}

fn client() -> reqwest::Client {
    let tls = crate::client::client_tls(rustls::RootCertStore::empty());
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8 ^ (n >> 13) as u8).collect()
}

async fn append(
    storage: &dyn Storage,
    repository: &RepositoryName,
    upload: &engine_registry::server::UploadId,
    bytes: &[u8],
) -> u64 {
    let pieces: Vec<_> = bytes.chunks(300_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    storage.append(repository, upload, None, &mut stream::iter(pieces)).await.unwrap()
}

async fn read(
    storage: &dyn Storage,
    repository: &RepositoryName,
    digest: &Digest,
    range: Range<u64>,
) -> Vec<u8> {
    let pieces: Vec<Bytes> =
        storage.read_blob(repository, digest, range).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

fn at_once() -> GcPolicy {
    GcPolicy::default().with_grace(Duration::ZERO)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_in_memory_keeps_every_promise() {
    testing::all(async || {
        let store = InMemory::new();
        let open = async || ObjectStorage::over(store.clone(), "some/place").await.unwrap();
        let (first, second): (Arc<dyn Storage>, Arc<dyn Storage>) =
            (Arc::new(open().await), Arc::new(open().await));
        Subject::new(first, second)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_s3_keeps_every_promise() {
    engine_testkit::require!("moto_server");
    let s3 = S3::start();
    let number = AtomicU32::new(0);
    testing::all(async || {
        let prefix = format!("suite/{}", number.fetch_add(1, Ordering::Relaxed));
        let (first, second): (Arc<dyn Storage>, Arc<dyn Storage>) =
            (Arc::new(open(&s3, &prefix).await), Arc::new(open(&s3, &prefix).await));
        Subject::new(first, second)
    })
    .await;
}

/// One after another, since each would start a server of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_share_a_bucket_of_s3() {
    engine_testkit::require!("moto_server");
    let s3 = S3::start();
    // What cannot be reached is tried for a while.
    tokio::join!(large_blobs_are_parts(&s3), a_wrong_bucket_is_told(&s3));
    pushes_at_the_same_time_all_stay(&open(&s3, "pushes").await, &open(&s3, "pushes").await).await;
    what_a_killed_server_left_is_removed(&s3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_share_a_bucket_in_memory() {
    let store = InMemory::new();
    let open = async || ObjectStorage::over(store.clone(), "").await.unwrap();
    pushes_at_the_same_time_all_stay(&open().await, &open().await).await;
    a_total_is_never_exceeded(&open().await, &open().await).await;
}

/// A blob of some parts and a tail, whose pieces come through two servers, and whose commit copies nothing.
async fn large_blobs_are_parts(s3: &S3) {
    let (first, second, repository) = (open(s3, "large").await, open(s3, "large").await, name("large"));
    let bytes = content(21 << 20);
    for (through, digest) in [(&first, Digest::sha256(&bytes)), (&second, Digest::sha256(&bytes[..20 << 20]))]
    {
        let upload = first.begin_upload(&repository).await.unwrap();
        append(&first, &repository, &upload, &bytes[..9 << 20]).await;
        append(through, &repository, &upload, &bytes[9 << 20..19 << 20]).await;
        let end = if std::ptr::eq(through, &first) { 21 << 20 } else { 20 << 20 };
        let size = append(&first, &repository, &upload, &bytes[19 << 20..end]).await;
        assert_eq!(size, end as u64);
        second.commit_upload(&repository, &upload, &digest, &Quota::default()).await.unwrap();
        assert!(read(&second, &repository, &digest, 0..size).await == bytes[..end]);
        let middle = read(&first, &repository, &digest, (8 << 20) - 5..(8 << 20) + 5).await;
        assert_eq!(middle, &bytes[(8 << 20) - 5..(8 << 20) + 5]);
    }
    let listed = ask(s3, "list-type=2&prefix=large/").await;
    assert_eq!(listed.matches("<Key>large/blobs/").count(), 2, "no tail stays: {listed}");
    assert_eq!(listed.matches("<Key>large/uploads/").count(), 0, "{listed}");

    // Other bytes than promised are no blob, however they came.
    let upload = first.begin_upload(&repository).await.unwrap();
    append(&first, &repository, &upload, &bytes[..9 << 20]).await;
    append(&second, &repository, &upload, b"wrong").await;
    let wrong = second.commit_upload(&repository, &upload, &Digest::sha256(&bytes), &Quota::default()).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Corrupt);
    let listed = ask(s3, "list-type=2&prefix=large/").await;
    assert_eq!(listed.matches("<Key>large/blobs/").count(), 2, "{listed}");
}

/// Two servers push into one repository, while a third collects.
async fn pushes_at_the_same_time_all_stay(first: &ObjectStorage, second: &ObjectStorage) {
    let repository = name("team/app");
    let image = async |number: usize| {
        let storage = if number.is_multiple_of(2) { first } else { second };
        let layer = testing::upload(storage, &repository, format!("layer {number}").as_bytes()).await;
        let bytes = Bytes::from(format!("{{\"layer\":\"{layer}\"}}"));
        let mut manifest = NewManifest::new(Descriptor::of(media_type::OCI_MANIFEST, &bytes), bytes);
        manifest.blobs = vec![layer.clone()];
        let tag: Tag = format!("v{number}").parse().unwrap();
        let put = storage.put_manifest(&repository, &manifest, Some(&tag), &Quota::default()).await.unwrap();
        assert_eq!(put, PutManifest::Stored);
        (tag, manifest, layer)
    };
    let pushes = futures_util::future::join_all((0..12).map(image));
    let collections = async {
        for _ in 0..3 {
            assert_eq!(second.collect(&GcPolicy::default()).await.unwrap().blobs, 0);
        }
    };
    let (images, ()) = tokio::join!(pushes, collections);
    let tags = first.tags(&repository, &PageRequest::new(None, 100)).await.unwrap().unwrap();
    assert_eq!(tags.entries.len(), images.len());
    first.collect(&at_once()).await.unwrap();
    for (tag, manifest, layer) in images {
        let (_, bytes) = second.manifest(&repository, &Target::Tag(tag)).await.unwrap().unwrap();
        assert_eq!(bytes, manifest.bytes);
        let size = second.blob_size(&repository, &layer).await.unwrap().unwrap();
        assert_eq!(Digest::sha256(&read(second, &repository, &layer, 0..size).await), layer);
    }
}

/// However many servers add to however many repositories, there is never more in all than the quota; and what fits gets in.
async fn a_total_is_never_exceeded(first: &ObjectStorage, second: &ObjectStorage) {
    let before = first.usage(None).await.unwrap().bytes;
    let quota = Quota::default().with_total(Some(before + 1000));
    let pushes = (0..6_u8).map(|number| {
        let storage = if number.is_multiple_of(2) { first } else { second };
        let (repository, quota) = (name(&format!("total/{number}")), &quota);
        async move {
            let upload = storage.begin_upload(&repository).await.unwrap();
            let bytes = vec![number; 300];
            append(storage, &repository, &upload, &bytes).await;
            storage.commit_upload(&repository, &upload, &Digest::sha256(&bytes), quota).await
        }
    });
    let done = futures_util::future::join_all(pushes).await;
    assert_eq!(done.iter().filter(|result| result.is_ok()).count(), 3, "{done:?}");
    assert!(done.iter().all(|result| result.as_ref().err().is_none_or(|e| e.kind() == ErrorKind::Conflict)));
    assert_eq!(first.usage(None).await.unwrap().bytes, before + 900);
}

/// A server dies while it takes a blob: nothing of that is seen, and all of it goes.
async fn what_a_killed_server_left_is_removed(s3: &S3) {
    let (survivor, repository) = (open(s3, "killed").await, name("killed"));
    let kept = testing::upload(&survivor, &repository, b"kept").await;
    let bytes = content(10 << 20);
    let digest = Digest::sha256(&bytes);
    let options = options(s3);
    let (sent, taken) = tokio::sync::oneshot::channel();
    // Its runtime is a program of its own: when it is shut down, nothing of it runs any more.
    let program = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let push = (repository.clone(), bytes.clone());
    program.spawn(async move {
        let (repository, bytes) = push;
        let url = format!("s3://{}/killed", S3::BUCKET);
        let storage = ObjectStorage::open(&url, options).await.unwrap();
        let upload = storage.begin_upload(&repository).await.unwrap();
        let mut sent = Some((sent, upload.clone()));
        let pieces = stream::iter([Ok(Bytes::from(bytes))]).chain(stream::poll_fn(move |_| {
            if let Some((sent, upload)) = sent.take() {
                sent.send(upload).unwrap();
            }
            std::task::Poll::Pending
        }));
        let mut pieces = pieces;
        storage.append(&repository, &upload, None, &mut pieces).await
    });
    let upload = tokio::time::timeout(Duration::from_secs(60), taken).await.unwrap().unwrap();
    program.shutdown_background();

    assert_eq!(
        survivor.upload_size(&repository, &upload).await.unwrap(),
        Some(8 << 20),
        "the parts that it has"
    );
    assert_eq!(survivor.blob_size(&repository, &digest).await.unwrap(), None);
    let refused = survivor.commit_upload(&repository, &upload, &digest, &Quota::default()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable, "it might be alive");
    assert_eq!(survivor.sweep_uploads(Duration::ZERO).await.unwrap(), 0, "it might be alive");
    assert!(ask(s3, "uploads").await.contains("<UploadId>"));

    // As if half a minute had passed.
    let client = client();
    let object = format!("{}/{}/killed/uploads/{upload}", s3.endpoint(), S3::BUCKET);
    // moto looks whether a request is signed, not how.
    let signed =
        "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let stored =
        client.get(&object).header("Authorization", signed).send().await.unwrap().bytes().await.unwrap();
    let mut stored: Value = serde_json::from_slice(&stored).unwrap();
    stored["lease"]["until"] = 0.into();
    assert!(
        client
            .put(&object)
            .header("Authorization", signed)
            .body(stored.to_string())
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );

    assert_eq!(survivor.sweep_uploads(Duration::ZERO).await.unwrap(), 1);
    assert!(!ask(s3, "uploads").await.contains("<UploadId>"), "its parts are gone");
    let loose = survivor.collect(&at_once()).await.unwrap();
    assert_eq!((loose.unlinked, loose.blobs), (1, 1), "{loose:?}");
    assert_eq!(survivor.blob_size(&repository, &kept).await.unwrap(), None);
    let listed = ask(s3, "list-type=2&prefix=killed/").await;
    let left: Vec<&str> =
        listed.split("<Key>").skip(1).filter_map(|rest| rest.split_once('<')).map(|(key, _)| key).collect();
    assert_eq!(left, ["killed/repositories/killed!state"], "only that there was a repository");
}

async fn a_wrong_bucket_is_told(s3: &S3) {
    let open = async |url: &str, more: &[(&str, &str)]| {
        let more = more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ObjectStorage::open(url, options(s3).into_iter().chain(more)).await.unwrap_err()
    };
    let error = open("s3://nobodys/x", &[]).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(error.report().contains("nobodys") && !error.report().contains("sesame"), "{error:?}");
    let error = open("s3://registry/x", &[("AWS_CONDITIONAL_PUT", "disabled")]).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    for wrong in [
        "nonsense",
        "https://example.com/x",
        "ftp://a/b",
        "s3://user:sesame@registry/x",
        "s3://registry/x?a=sesame",
    ] {
        let error = open(wrong, &[]).await;
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}: {error:?}");
        assert!(!error.report().contains("sesame"), "{error:?}");
    }
    let closed = format!("http://127.0.0.1:{}", engine_testkit::free_port());
    let error = open("s3://registry/x", &[("AWS_ENDPOINT_URL", &closed)]).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

/// A service that takes conditions and does not heed them, as many did; or heeds them, and does not delete when it is told not to.
#[derive(Debug)]
struct Careless(InMemory, Option<Arc<AtomicBool>>);

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("careless")
    }
}

type Done<T> = object_store::Result<T>;

#[async_trait]
impl ObjectStore for Careless {
    async fn put_opts(&self, at: &Path, payload: PutPayload, mut options: PutOptions) -> Done<PutResult> {
        if self.1.is_none() {
            options.mode = PutMode::Overwrite;
        }
        self.0.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Done<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Done<GetResult> {
        self.0.get_opts(at, options).await
    }

    fn delete_stream(&self, all: BoxStream<'static, Done<Path>>) -> BoxStream<'static, Done<Path>> {
        if self.1.as_ref().is_some_and(|keeps| keeps.load(Ordering::Relaxed)) {
            let kept = |_| Err(object_store::Error::NotSupported { source: "it is kept".into() });
            return all.map(kept).boxed();
        }
        self.0.delete_stream(all)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Done<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Done<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Done<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Careless {
    async fn create_multipart(&self, at: &Path) -> Done<MultipartId> {
        self.0.create_multipart(at).await
    }

    async fn put_part(&self, at: &Path, id: &MultipartId, number: usize, data: PutPayload) -> Done<PartId> {
        self.0.put_part(at, id, number, data).await
    }

    async fn complete_multipart(&self, at: &Path, id: &MultipartId, parts: Vec<PartId>) -> Done<PutResult> {
        self.0.complete_multipart(at, id, parts).await
    }

    async fn abort_multipart(&self, at: &Path, id: &MultipartId) -> Done<()> {
        self.0.abort_multipart(at, id).await
    }
}

#[tokio::test]
async fn a_service_that_overwrites_is_refused() {
    let store = InMemory::new();
    let error = ObjectStorage::over(Careless(store.clone(), None), "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.report().contains("If-None-Match"), "{error:?}");
    assert_eq!(store.list(None).count().await, 0, "nothing stays of the attempt");
}

#[tokio::test]
async fn a_blob_is_there_whether_or_not_its_upload_is_tidied_away() {
    let keeps = Arc::new(AtomicBool::new(false));
    let store = Careless(InMemory::new(), Some(Arc::clone(&keeps)));
    let (storage, repository) = (ObjectStorage::over(store, "x").await.unwrap(), name("a"));
    // With parts and what is left over, and with the latter alone.
    for size in [10 << 20, 1000] {
        let bytes = content(size);
        let digest = Digest::sha256(&bytes);
        let upload = storage.begin_upload(&repository).await.unwrap();
        append(&storage, &repository, &upload, &bytes).await;
        keeps.store(true, Ordering::Relaxed);
        storage.commit_upload(&repository, &upload, &digest, &Quota::default()).await.unwrap();
        assert_eq!(storage.blob_size(&repository, &digest).await.unwrap(), Some(size as u64));
        assert_eq!(read(&storage, &repository, &digest, 0..10).await, bytes[..10]);
        keeps.store(false, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_leaves_before_the_end_is_in_nobodys_way() {
    let pause = Duration::from_millis(2);
    let slow = ThrottleConfig { wait_get_per_call: pause, wait_put_per_call: pause, ..Default::default() };
    let store = ThrottledStore::new(InMemory::new(), slow);
    let storage = ObjectStorage::over(store, "x").await.unwrap();
    let (repository, other) = (name("a"), name("b"));
    let digest = testing::upload(&storage, &repository, b"some bytes").await;
    let quota = Quota::default().with_total(Some(30));
    // Wherever a mount is, its client goes.
    for millis in (0..30).step_by(3) {
        let mount = storage.mount_blob(&other, &digest, Some(&repository), &quota);
        let _ = tokio::time::timeout(Duration::from_millis(millis), mount).await;
        storage.delete_blob(&other, &digest).await.unwrap();
    }
    // It takes all of the quota, so those that left are waited for.
    let upload = storage.begin_upload(&other).await.unwrap();
    append(&storage, &other, &upload, &[8; 20]).await;
    let added = storage.commit_upload(&other, &upload, &Digest::sha256(&[8; 20]), &quota).await;
    added.expect("all of those have left");
}
