//! What a [`VolumeDriver`] promises.

use std::path::Path;

use super::{Subject, Suite, assert_kind, fresh_name, run_promises};
use crate::error::ErrorKind;
use crate::mount::Mount;
use crate::volume_driver::{ANONYMOUS_LABEL, VolumeDriver, VolumeOptions};

/// Runs every promise, each on what `factory` makes anew.
///
/// # Panics
/// If a promise is broken; the message names all that are.
pub async fn all<T, F, Fut>(factory: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Subject<T>>,
    T: VolumeDriver,
{
    let mut suite = Suite::new("VolumeDriver");
    run_promises!(suite, factory, |subject|
        created_volume_is_found(&*subject.first);
        unknown_volume_is_none(&*subject.first);
        create_again_returns_the_same(&*subject.first);
        create_with_other_options_conflicts(&*subject.first);
        unknown_option_is_refused(&*subject.first);
        concurrent_creates_agree(&*subject.first, &*subject.second);
        list_is_ordered_by_name(&*subject.first);
        remove_is_idempotent(&*subject.first);
        removed_volume_is_gone(&*subject.first);
        content_goes_with_the_volume(&*subject.first);
        renamed_volume_is_the_same(&*subject.first, &*subject.second);
        rename_takes_no_name(&*subject.first);
        mount_has_the_target(&*subject.first);
        content_is_measured(&*subject.first);
        only_an_empty_volume_is_filled(&*subject.first);
        other_instances_see_volumes(&*subject.first, &*subject.second);
    );
    suite.finish();
}

fn labelled(value: &str) -> VolumeOptions {
    let mut options = VolumeOptions::default();
    options.labels.insert("conformance".to_owned(), value.to_owned());
    options
}

/// Promise: a created volume is found by name, with what it was made with.
pub async fn created_volume_is_found(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    let made = driver.create(&name, &labelled("x")).await.expect("create");
    assert_eq!((&made.name, made.driver.as_str()), (&name, driver.name()));
    assert_eq!(made.labels, labelled("x").labels);
    assert_eq!(driver.inspect(&name).await.expect("inspect"), Some(made));
}

/// Promise: a volume that does not exist is `None`, and no error.
pub async fn unknown_volume_is_none(driver: &dyn VolumeDriver) {
    assert_eq!(driver.inspect(&fresh_name("vol")).await.expect("inspect"), None);
}

/// Promise: creating a volume again with the same options returns it.
pub async fn create_again_returns_the_same(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    let first = driver.create(&name, &labelled("x")).await.expect("create");
    let again = driver.create(&name, &labelled("x")).await.expect("create again");
    assert_eq!(first, again);
}

/// Promise: creating a volume again with other options is a conflict, and changes nothing.
pub async fn create_with_other_options_conflicts(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    let first = driver.create(&name, &labelled("x")).await.expect("create");
    assert_kind(driver.create(&name, &labelled("y")).await, &[ErrorKind::Conflict], "create differently");
    assert_eq!(driver.inspect(&name).await.expect("inspect"), Some(first));
}

/// Promise: an option the driver does not know is refused, and no volume is left.
pub async fn unknown_option_is_refused(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    let mut options = VolumeOptions::default();
    options.driver_options.insert("conformance.no-such-option".to_owned(), "1".to_owned());
    assert_kind(driver.create(&name, &options).await, &[ErrorKind::InvalidArgument], "create");
    assert_eq!(driver.inspect(&name).await.expect("inspect"), None);
}

/// Promise: of several that create one volume at once, all get the same.
pub async fn concurrent_creates_agree(first: &dyn VolumeDriver, second: &dyn VolumeDriver) {
    let (name, options) = (fresh_name("vol"), labelled("x"));
    let (a, b, c) = tokio::join!(
        first.create(&name, &options),
        second.create(&name, &options),
        first.create(&name, &options),
    );
    let a = a.expect("first of three");
    assert_eq!(a, b.expect("second of three"));
    assert_eq!(a, c.expect("third of three"));
    assert_eq!(first.list().await.expect("list").iter().filter(|volume| volume.name == name).count(), 1);
}

/// Promise: volumes are listed by name.
pub async fn list_is_ordered_by_name(driver: &dyn VolumeDriver) {
    let mut names = [fresh_name("b"), fresh_name("c"), fresh_name("a")];
    for name in &names {
        driver.create(name, &VolumeOptions::default()).await.expect("create");
    }
    names.sort();
    let listed: Vec<_> = driver.list().await.expect("list").into_iter().map(|volume| volume.name).collect();
    assert_eq!(listed, names);
}

/// Promise: removing what is not there is no error.
pub async fn remove_is_idempotent(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    driver.remove(&name).await.expect("remove what never was");
    driver.create(&name, &VolumeOptions::default()).await.expect("create");
    driver.remove(&name).await.expect("remove");
    driver.remove(&name).await.expect("remove again");
}

/// Promise: a removed volume is neither found, listed nor mounted.
pub async fn removed_volume_is_gone(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    driver.create(&name, &VolumeOptions::default()).await.expect("create");
    driver.remove(&name).await.expect("remove");
    assert_eq!(driver.inspect(&name).await.expect("inspect"), None);
    assert!(driver.list().await.expect("list").is_empty());
    assert_kind(driver.mount(&name, Path::new("/data")).await, &[ErrorKind::NotFound], "mount");
    driver.create(&name, &labelled("new")).await.expect("the name is free again");
}

/// Promise: a renamed volume is found by its new name alone, with what it was made with and its content, and is no longer one
/// that nobody named.
pub async fn renamed_volume_is_the_same(driver: &dyn VolumeDriver, second: &dyn VolumeDriver) {
    let (old, new) = (fresh_name("old"), fresh_name("new"));
    let mut options = labelled("x");
    options.labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
    let made = driver.create(&old, &options).await.expect("create");
    if let Some(dir) = &made.mountpoint {
        std::fs::write(dir.join("file"), "content").expect("write");
    }
    let renamed = driver.rename(&old, &new).await.expect("rename");
    assert_eq!((&renamed.name, &renamed.labels), (&new, &labelled("x").labels));
    assert_eq!(
        renamed.created_at,
        driver.inspect(&new).await.expect("inspect").expect("it is there").created_at
    );
    assert_eq!(second.inspect(&old).await.expect("inspect"), None);
    let there = second.inspect(&new).await.expect("inspect").expect("it is there");
    assert_eq!(there, renamed);
    if let Some(dir) = there.mountpoint {
        assert_eq!(std::fs::read_to_string(dir.join("file")).expect("read"), "content");
    }
    driver.create(&old, &VolumeOptions::default()).await.expect("the old name is free");
}

/// Promise: a rename takes no volume's name, and one of nothing makes nothing.
pub async fn rename_takes_no_name(driver: &dyn VolumeDriver) {
    let (one, other, none) = (fresh_name("one"), fresh_name("other"), fresh_name("none"));
    for (name, value) in [(&one, "1"), (&other, "2")] {
        driver.create(name, &labelled(value)).await.expect("create");
    }
    for taken in [&other, &one] {
        assert_kind(driver.rename(&one, taken).await, &[ErrorKind::AlreadyExists], "rename to a taken name");
    }
    assert_kind(driver.rename(&none, &fresh_name("x")).await, &[ErrorKind::NotFound], "rename of nothing");
    let labels: Vec<_> = driver.list().await.expect("list").into_iter().map(|volume| volume.labels).collect();
    assert_eq!(labels, [labelled("1").labels, labelled("2").labels]);
}

/// Promise: a volume's content goes with it. Checked where it is in a directory of the host.
pub async fn content_goes_with_the_volume(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    let volume = driver.create(&name, &VolumeOptions::default()).await.expect("create");
    let Some(dir) = volume.mountpoint else { return };
    std::fs::create_dir_all(dir.join("a/b")).expect("write into the volume");
    std::fs::write(dir.join("a/b/file"), "x").expect("write into the volume");
    driver.create(&name, &VolumeOptions::default()).await.expect("create again");
    assert!(dir.join("a/b/file").exists(), "creating it again keeps the content");
    driver.remove(&name).await.expect("remove");
    assert!(!dir.join("a/b/file").exists(), "the content is gone");
    let again = driver.create(&name, &VolumeOptions::default()).await.expect("create");
    let dir = again.mountpoint.expect("it had one before");
    assert_eq!(std::fs::read_dir(dir).expect("read the volume").count(), 0, "a new volume is empty");
}

/// Promise: a volume is mounted where it was asked to be.
pub async fn mount_has_the_target(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    driver.create(&name, &VolumeOptions::default()).await.expect("create");
    let target = Path::new("/var/lib/data");
    assert_eq!(driver.mount(&name, target).await.expect("mount").target, target);
    assert_kind(driver.mount(&fresh_name("no"), target).await, &[ErrorKind::NotFound], "mount of nothing");
}

/// Promise: the size of a volume is that of its content, where the driver tells it.
pub async fn content_is_measured(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    assert_kind(driver.usage(&name).await, &[ErrorKind::NotFound], "measure nothing");
    let volume = driver.create(&name, &VolumeOptions::default()).await.expect("create");
    let Some(empty) = driver.usage(&name).await.expect("measure") else { return };
    assert_eq!(empty, 0, "an empty volume has no content");
    let Some(dir) = volume.mountpoint else { return };
    std::fs::create_dir(dir.join("sub")).expect("write into the volume");
    std::fs::write(dir.join("sub/file"), [0; 4321]).expect("write into the volume");
    std::fs::hard_link(dir.join("sub/file"), dir.join("again")).expect("link in the volume");
    assert_eq!(driver.usage(&name).await.expect("measure"), Some(4321));
}

/// Promise: a fill of nothing is an error, and one of a volume with content changes nothing.
pub async fn only_an_empty_volume_is_filled(driver: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    let source = std::env::temp_dir();
    let rootfs = [Mount::bind(&source, "/")];
    let path = Path::new("/");
    assert_kind(driver.fill(&name, &rootfs, path).await, &[ErrorKind::NotFound], "fill nothing");
    let volume = driver.create(&name, &VolumeOptions::default()).await.expect("create");
    let nowhere = Path::new("/no/such/directory");
    assert!(!driver.fill(&name, &rootfs, nowhere).await.expect("fill from nowhere"));
    let Some(dir) = volume.mountpoint else { return };
    std::fs::write(dir.join("kept"), "x").expect("write into the volume");
    assert!(!driver.fill(&name, &rootfs, path).await.expect("fill a volume with content"));
    assert_eq!(std::fs::read_dir(&dir).expect("read the volume").count(), 1);
}

/// Promise: what one instance acknowledged, another over the same state sees.
pub async fn other_instances_see_volumes(first: &dyn VolumeDriver, second: &dyn VolumeDriver) {
    let name = fresh_name("vol");
    let made = first.create(&name, &labelled("x")).await.expect("create");
    assert_eq!(second.inspect(&name).await.expect("inspect"), Some(made));
    second.remove(&name).await.expect("remove");
    assert_eq!(first.inspect(&name).await.expect("inspect"), None);
}
