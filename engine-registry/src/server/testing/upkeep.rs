//! What a storage promises of garbage, usage and quotas.

use std::time::Duration;

use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_core::error::ErrorKind;

use super::{FREE, Two, append, by_tag, fails, has, manifest, name, put, read, tag, upload};
use crate::server::garbage::{Eviction, GcPolicy, GcReport};
use crate::server::names::{RepositoryName, Target};
use crate::server::quota::{Quota, Usage};
use crate::server::storage::{NewManifest, PageRequest, Storage};

fn at_once() -> GcPolicy {
    GcPolicy::default().with_grace(Duration::ZERO)
}

fn naming(text: &str, blobs: &[&Digest], manifests: &[&NewManifest]) -> NewManifest {
    let mut one = manifest(text);
    one.blobs = blobs.iter().map(|digest| (*digest).clone()).collect();
    one.manifests = manifests.iter().map(|child| child.descriptor.digest.clone()).collect();
    one
}

async fn is_there(storage: &dyn Storage, repository: &RepositoryName, manifest: &NewManifest) -> bool {
    let target = Target::Digest(manifest.descriptor.digest.clone());
    storage.resolve(repository, &target).await.expect("resolve").is_some()
}

/// Promise: blobs that no manifest of their repository names are collected, and nothing else; a dry run tells the same and
/// takes nothing.
pub async fn what_no_manifest_names_is_collected(subject: Two<'_>) {
    let (storage, mine, other) = (&*subject.first, name("mine"), name("other"));
    let (kept, loose, shared) = (
        upload(storage, &mine, b"kept").await,
        upload(storage, &mine, b"loose").await,
        upload(storage, &mine, b"shared").await,
    );
    assert!(storage.mount_blob(&other, &shared, Some(&mine), FREE).await.expect("mount"));
    upload(storage, &name("emptied"), b"also loose").await;
    put(storage, &mine, &naming("mine", &[&kept], &[]), Some("v")).await;
    put(storage, &other, &naming("other", &[&shared], &[]), None).await;
    let deleted = upload(storage, &mine, b"deleted").await;
    assert!(storage.delete_blob(&mine, &deleted).await.expect("delete"));

    let would = storage.collect(&at_once().with_dry_run(true)).await.expect("dry run");
    assert!(has(storage, &mine, &loose).await && has(storage, &mine, &shared).await);
    let did = subject.second.collect(&at_once()).await.expect("collect");
    assert_eq!(would, did, "the dry run tells what is done");
    assert_eq!((did.manifests, did.unlinked), (0, 3));
    // Whether a deleted blob takes space until then is the storage's own.
    let bytes = (b"loose".len() + b"also loose".len()) as u64;
    assert!(
        (did.blobs, did.bytes) == (2, bytes)
            || (did.blobs, did.bytes) == (3, bytes + b"deleted".len() as u64),
        "{did:?}"
    );
    assert!(!has(storage, &mine, &loose).await && !has(storage, &mine, &shared).await);
    assert_eq!(read(storage, &mine, &kept, 0, 4).await.expect("kept"), b"kept");
    assert_eq!(read(storage, &other, &shared, 0, 6).await.expect("shared"), b"shared");
    let repositories = storage.repositories(&PageRequest::new(None, 10)).await.expect("repositories");
    assert_eq!(repositories.entries, [mine.clone(), other], "an empty repository is gone");
    assert_eq!(storage.collect(&at_once()).await.expect("collect again"), GcReport::default());
    // What was collected may come again.
    assert_eq!(upload(storage, &mine, b"loose").await, loose);
    assert_eq!(read(storage, &mine, &loose, 0, 5).await.expect("loose"), b"loose");
}

/// Promise: what was just pushed, mounted or tagged is not collected, also if nothing names it yet.
pub async fn what_is_young_is_spared(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("young"));
    let policy = GcPolicy::default().with_grace(Duration::from_secs(600)).with_untagged(true);
    let digest = upload(storage, &repository, b"young").await;
    assert!(storage.mount_blob(&name("mounted"), &digest, None, FREE).await.expect("mount"));
    let untagged = manifest("untagged");
    put(storage, &repository, &untagged, None).await;
    assert_eq!(subject.second.collect(&policy).await.expect("collect"), GcReport::default());
    assert!(has(storage, &repository, &digest).await && has(storage, &name("mounted"), &digest).await);
    assert!(is_there(storage, &repository, &untagged).await);
    put(storage, &repository, &naming("late", &[&digest], &[]), Some("v")).await;
}

/// Promise: asked to, a collection takes manifests that no tag leads to: not through an index, and not as referrers.
pub async fn what_tags_lead_to_is_spared(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("tagged"));
    let blob = upload(storage, &repository, b"of the child").await;
    let (child, gone) = (naming("child", &[&blob], &[]), manifest("gone"));
    let (inner, index) = (naming("inner", &[], &[&child]), naming("index", &[], &[&gone]));
    let outer = naming("outer", &[], &[&inner]);
    let mut about = Vec::new();
    for (text, of) in [("about the child", &child), ("about gone", &gone)] {
        let mut referrer = manifest(text);
        referrer.referrer = Some((of.descriptor.digest.clone(), referrer.descriptor.clone()));
        let mut second = manifest(&format!("about what is {text}"));
        second.referrer = Some((referrer.descriptor.digest.clone(), second.descriptor.clone()));
        about.extend([referrer, second]);
    }
    for one in [&child, &gone, &inner, &index] {
        put(storage, &repository, one, None).await;
    }
    put(storage, &repository, &outer, Some("v")).await;
    put(storage, &repository, &gone, Some("moves")).await;
    put(storage, &repository, &outer, Some("moves")).await;
    for one in &about {
        put(storage, &repository, one, None).await;
    }
    assert_eq!(storage.collect(&at_once()).await.expect("collect"), GcReport::default(), "nobody asked");
    let policy = at_once().with_untagged(true);
    let would = storage.collect(&policy.clone().with_dry_run(true)).await.expect("dry run");
    let did = storage.collect(&policy).await.expect("collect");
    assert_eq!((would, did.manifests, did.blobs), (did, 4, 0));
    for kept in [&child, &inner, &outer, &about[0], &about[1]] {
        assert!(is_there(storage, &repository, kept).await, "{:?}", kept.bytes);
    }
    for gone in [&gone, &index, &about[2], &about[3]] {
        assert!(!is_there(storage, &repository, gone).await, "{:?}", gone.bytes);
    }
    assert!(has(storage, &repository, &blob).await);
    // Without its tags, all goes.
    assert!(storage.delete_tag(&repository, &tag("v")).await.expect("delete"));
    assert!(storage.delete_tag(&repository, &tag("moves")).await.expect("delete"));
    let did = storage.collect(&policy).await.expect("collect");
    assert_eq!((did.manifests, did.unlinked, did.blobs), (5, 1, 1));
    assert_eq!(storage.usage(None).await.expect("usage"), Usage::default());
}

/// Promise: what is kept for a time only goes after it, tagged or not; elsewhere everything stays.
pub async fn what_is_evicted_goes_with_its_tags(subject: Two<'_>) {
    let (storage, cached, like, own) =
        (&*subject.first, name("docker.io/library/a"), name("docker.io-mine"), name("own"));
    for repository in [&cached, &like, &own] {
        let blob = upload(storage, repository, repository.as_str().as_bytes()).await;
        put(storage, repository, &naming(repository.as_str(), &[&blob], &[]), Some("v")).await;
    }
    let policy = |unused| at_once().with_eviction(Eviction::new("docker.io", unused));
    let kept = storage.collect(&policy(Duration::from_secs(600))).await.expect("collect");
    assert_eq!(kept, GcReport::default());
    let policy = policy(Duration::ZERO);
    let would = storage.collect(&policy.clone().with_dry_run(true)).await.expect("dry run");
    let did = storage.collect(&policy).await.expect("collect");
    assert_eq!((would, did.manifests, did.unlinked, did.blobs), (did, 1, 1, 1));
    assert!(storage.resolve(&cached, &by_tag("v")).await.expect("resolve").is_none());
    for repository in [&like, &own] {
        assert!(storage.resolve(repository, &by_tag("v")).await.expect("resolve").is_some());
    }
}

/// Promise: a lazy manifest is stored without what it names, and keeps it when it has come.
pub async fn a_manifest_may_come_before_what_it_names(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("lazy"));
    let digest = Digest::sha256(b"later");
    let mut lazy = naming("lazy", &[&digest], &[&manifest("never")]);
    lazy.lazy = true;
    put(storage, &repository, &lazy, Some("v")).await;
    assert_eq!(upload(storage, &repository, b"later").await, digest);
    assert_eq!(storage.collect(&at_once()).await.expect("collect"), GcReport::default());
    assert!(has(storage, &repository, &digest).await);
}

/// Promise: a repository counts what it has, the registry counts every blob once, and what goes is not counted any more.
pub async fn usage_is_counted(subject: Two<'_>) {
    let (storage, a, b) = (&*subject.first, name("a"), name("b"));
    let of = async |repository| {
        let usage = subject.second.usage(repository).await.expect("usage");
        (usage.bytes, usage.blobs, usage.manifests, usage.repositories)
    };
    assert_eq!(of(None).await, (0, 0, 0, 0));
    assert_eq!(of(Some(&a)).await, (0, 0, 0, 0));
    let digest = upload(storage, &a, b"1234567").await;
    upload(storage, &a, b"1234567").await;
    assert!(storage.mount_blob(&b, &digest, Some(&a), FREE).await.expect("mount"));
    let one = naming("123", &[&digest], &[]);
    for _ in 0..2 {
        put(storage, &a, &one, Some("v")).await;
    }
    assert_eq!(of(Some(&a)).await, (10, 1, 1, 0));
    assert_eq!(of(Some(&b)).await, (7, 1, 0, 0));
    assert_eq!(of(None).await, (10, 1, 1, 2));
    assert!(storage.delete_manifest(&a, &one.descriptor.digest).await.expect("delete"));
    assert!(storage.delete_blob(&a, &digest).await.expect("delete"));
    assert_eq!(of(Some(&a)).await, (0, 0, 0, 0));
    assert_eq!(of(None).await.0, 7, "the other one has it");
    storage.collect(&at_once()).await.expect("collect");
    assert_eq!(of(None).await, (0, 0, 0, 0));
}

/// Promise: however many add at the same time, there is never more than the quota; what is there may be pushed again.
pub async fn a_quota_is_never_exceeded(subject: Two<'_>) {
    let (storage, repository) = (&*subject.first, name("full"));
    let quota = Quota::default().with_repository(Some(1000));
    let pushes = (0..12_u8).map(|number| {
        let storage = if number % 2 == 0 { &subject.first } else { &subject.second };
        let (quota, repository) = (&quota, &repository);
        async move {
            let bytes = vec![number; 300];
            let upload = storage.begin_upload(repository).await.expect("begin");
            append(&**storage, repository, &upload, None, &bytes).await.expect("append");
            storage.commit_upload(repository, &upload, &Digest::sha256(&bytes), quota).await
        }
    });
    let done = futures_util::future::join_all(pushes).await;
    assert_eq!(done.iter().filter(|result| result.is_ok()).count(), 3);
    for refused in done.into_iter().filter(Result::is_err) {
        fails(refused, ErrorKind::Conflict, "a push over the quota");
    }
    assert_eq!(storage.usage(Some(&repository)).await.expect("usage").bytes, 900);

    let elsewhere = upload(storage, &name("elsewhere"), &[99; 300]).await;
    let mounted = storage.mount_blob(&repository, &elsewhere, None, &quota).await;
    fails(mounted, ErrorKind::Conflict, "a mount over the quota");
    assert!(!has(storage, &repository, &elsewhere).await);
    let bytes = bytes::Bytes::from(vec![b' '; 101]);
    let large = NewManifest::new(Descriptor::of(media_type::OCI_MANIFEST, &bytes), bytes);
    let stored = storage.put_manifest(&repository, &large, Some(&tag("v")), &quota).await;
    fails(stored, ErrorKind::Conflict, "a manifest over the quota");
    assert!(storage.resolve(&repository, &by_tag("v")).await.expect("resolve").is_none());
    let bytes = bytes::Bytes::from(vec![b' '; 100]);
    let fits = NewManifest::new(Descriptor::of(media_type::OCI_MANIFEST, &bytes), bytes);
    storage.put_manifest(&repository, &fits, Some(&tag("v")), &quota).await.expect("what fits");
    let less = Quota::default().with_repository(Some(1)).with_total(Some(1));
    storage.put_manifest(&repository, &fits, Some(&tag("w")), &less).await.expect("what is there");

    let total = Quota::default().with_total(Some(1000));
    let upload = storage.begin_upload(&name("fresh")).await.expect("begin");
    append(storage, &name("fresh"), &upload, None, b"x").await.expect("append");
    let stored = storage.commit_upload(&name("fresh"), &upload, &Digest::sha256(b"x"), &total).await;
    fails(stored, ErrorKind::Conflict, "a push over the quota of all");
}
