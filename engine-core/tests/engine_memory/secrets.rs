//! Secrets of an engine, and what containers get of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine_core::engine::ForkOptions;
use engine_core::secret::{MAX_SIZE, SecretData, SecretOptions, SecretUse};
use engine_core::{Name, mount::Mount};

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn data(text: &str) -> SecretData {
    SecretData::new(text)
}

async fn log_of(container: &engine_core::Container) -> String {
    let log: Vec<_> = container.logs(&LogQuery::default()).await.unwrap().try_collect().await.unwrap();
    String::from_utf8(log.iter().flat_map(|entry| entry.message.to_vec()).collect()).unwrap()
}

#[tokio::test]
async fn secrets_are_created_found_replaced_and_removed() {
    let (_parts, engine, _) = with_image().await;
    let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
    let options = SecretOptions::default().with_labels(labels.clone());
    let db = engine.create_secret(&name("db"), data("one"), options).await.unwrap();
    let other = engine.create_secret(&name("api"), data("x"), SecretOptions::default()).await.unwrap();
    assert_eq!(engine.secrets().await.unwrap(), [other.clone(), db.clone()]);
    for text in ["db", db.id.as_str(), &db.id.as_str()[..12]] {
        assert_eq!(engine.secret(text).await.unwrap(), db);
    }
    assert_eq!(engine.reveal_secret(&db.id).await.unwrap(), data("one"));
    let again = engine.create_secret(&name("db"), data("two"), SecretOptions::default()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let replace = SecretOptions::default().with_replace(true);
    let new = engine.create_secret(&name("db"), data("two"), replace).await.unwrap();
    assert_eq!((new.created_at, engine.secret("db").await.unwrap()), (db.created_at, new.clone()));
    assert!(new.id != db.id && new.labels.is_empty() && new.updated_at > db.updated_at);
    let gone = engine.reveal_secret(&db.id).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "nobody held what was replaced");
    for _ in 0..2 {
        engine.remove_secret(&new.id).await.unwrap();
    }
    for text in ["db", new.id.as_str(), "", "*", "zz"] {
        assert_eq!(engine.secret(text).await.unwrap_err().kind(), ErrorKind::NotFound, "{text:?}");
    }
    assert_eq!(engine.secrets().await.unwrap(), [other]);
}

#[tokio::test]
async fn sizes_are_docker_s() {
    let (_parts, engine, _) = with_image().await;
    let create = async |content: Vec<u8>| {
        engine.create_secret(&name("db"), SecretData::new(content), SecretOptions::default()).await
    };
    for size in [0, MAX_SIZE] {
        let wrong = create(vec![1; size]).await.unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::InvalidArgument, "{size}");
    }
    let made = create(vec![0; MAX_SIZE - 1]).await.unwrap();
    assert_eq!(engine.reveal_secret(&made.id).await.unwrap(), SecretData::new(vec![0; MAX_SIZE - 1]));
}

#[tokio::test]
async fn a_container_keeps_what_it_was_created_with() {
    let (_parts, engine, image) = with_image().await;
    let first = engine.create_secret(&name("db"), data("first"), SecretOptions::default()).await.unwrap();
    let spec = ContainerSpec::command(["sh", "-c", "cat /run/secrets/db; echo \" $TOKEN\""])
        .with_env(["TOKEN=plain"])
        .with_secret(SecretUse::file(&first.id.as_str()[..10]))
        .with_secret(SecretUse::env("db", "TOKEN"));
    let container = engine.create(&image, spec.clone()).await.unwrap();
    let replace = SecretOptions::default().with_replace(true);
    let second = engine.create_secret(&name("db"), data("second"), replace).await.unwrap();
    engine.remove_secret(&second.id).await.unwrap();
    assert_eq!(engine.create(&image, spec.clone()).await.unwrap_err().kind(), ErrorKind::NotFound);
    for _ in 0..2 {
        assert!(container.run().await.unwrap().success());
    }
    assert_eq!(log_of(&container).await, "first first\n".repeat(2));
    // It is no copy in the record: nobody who looks at the container sees it.
    let info = container.inspect().await.unwrap();
    assert_eq!(info.secrets, [first.id.clone(), first.id.clone()]);
    assert_eq!(info.spec.secrets[0], SecretUse::file("db").with_path("db"));
    assert!(!format!("{info:?}").contains("first"));
    assert_eq!(engine.reveal_secret(&first.id).await.unwrap(), data("first"));
    container.remove(RemoveOptions::default()).await.unwrap();
    let gone = engine.reveal_secret(&first.id).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "its last holder is gone");
}

#[tokio::test]
async fn a_fork_has_the_secrets_of_its_source() {
    let (_parts, engine, image) = with_image().await;
    let secret = engine.create_secret(&name("db"), data("kept"), SecretOptions::default()).await.unwrap();
    let spec = ContainerSpec::command(["cat", "/run/secrets/db"]).with_secret(SecretUse::file("db"));
    let source = engine.create(&image, spec).await.unwrap();
    engine.remove_secret(&secret.id).await.unwrap();
    let fork = match source.fork(ForkOptions::default()).await {
        Ok(fork) => fork,
        // Stores in memory cannot freeze; what a fork is, the Linux tests show.
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Unsupported),
    };
    source.remove(RemoveOptions::default()).await.unwrap();
    assert!(fork.run().await.unwrap().success());
    assert_eq!(log_of(&fork).await, "kept");
}

#[tokio::test]
async fn what_no_secret_can_be_shown_as_is_refused_and_makes_nothing() {
    let (parts, engine, image) = with_image().await;
    for (secret, content) in [("db", &b"x"[..]), ("zero", b"a\0b")] {
        engine
            .create_secret(&name(secret), SecretData::new(content), SecretOptions::default())
            .await
            .unwrap();
    }
    let big = SecretData::new(vec![b'x'; 400 << 10]);
    for secret in ["big-1", "big-2"] {
        engine.create_secret(&name(secret), big.clone(), SecretOptions::default()).await.unwrap();
    }
    let file = SecretUse::file;
    let of = |uses: &[SecretUse]| {
        let spec = ContainerSpec::command(["true"]).with_mount(Mount::tmpfs("/data"));
        uses.iter().cloned().fold(spec, ContainerSpec::with_secret)
    };
    for uses in [
        &[file("db").with_path("../x")][..],
        &[file("db").with_path("/data")],
        &[file("db").with_mode(0o4755)],
        &[file("db"), file("db").with_path("/run/secrets/db")],
        &[SecretUse::env("db", "A=B")],
        &[SecretUse::env("db", "A"), SecretUse::env("zero", "A")],
        &[SecretUse::env("zero", "A")],
        &[file("big-1"), file("big-2")],
    ] {
        let error = engine.create(&image, of(uses)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{uses:?}: {error:?}");
    }
    assert_eq!(engine.create(&image, of(&[file("none")])).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(engine.containers().await.unwrap().is_empty());
    parts.assert_no_containers().await;
}

#[tokio::test]
async fn what_a_crash_left_is_removed_and_what_is_needed_stays() {
    let (parts, dir) = (Parts::new(), tempfile::tempdir().unwrap());
    let open = async || parts.builder(Engine::builder(dir.path())).open().await.unwrap();
    let engine = open().await;
    let made = engine.create_secret(&name("db"), data("x"), SecretOptions::default()).await.unwrap();
    let files = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir.path().join("secrets")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into()).collect()
    };
    // Written, and then the program was killed before the commit.
    std::fs::write(dir.path().join("secrets").join("0".repeat(25)), "half").unwrap();
    let engine = {
        drop(engine);
        open().await
    };
    assert_eq!(files(), [Path::new(made.id.as_str())]);
    assert_eq!(engine.reveal_secret(&made.id).await.unwrap(), data("x"));
    engine.remove_secret(&made.id).await.unwrap();
    assert!(files().is_empty());
}
