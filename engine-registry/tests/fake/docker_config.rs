//! Docker's config.json and credential helpers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use engine_core::error::ErrorKind;
use engine_core::registry_client::{Credentials, RegistryClient as _};
use engine_registry::DockerConfig;

use crate::server::{Fake, Reply};
use crate::{everything, quick};

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.to_owned(), password: password.to_owned() }
}

/// A helper that keeps what it is given in files beside it.
fn helper(dir: &Path, name: &str, script: &str) {
    let path = dir.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\ncd \"$(dirname \"$0\")\"\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

const KEEPER: &str = r#"
input=$(cat)
case "$1" in
  store) printf '%s' "$input" > kept ;;
  get) printf '%s' "$input" > asked; if [ -e kept ]; then cat kept; else echo 'credentials not found in native keychain'; exit 1; fi ;;
  erase) rm -f kept ;;
esac"#;

#[tokio::test]
async fn credentials_are_found_by_every_form_of_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(
        &path,
        r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"aHViOnB3"},
            "localhost:5000":{"auth":"bG9jYWw6cDp3"},
            "https://quay.example/v2/":{"identitytoken":"tok"},
            "team.example/only":{"auth":"aHViOnB3"},
            "plain.example":{"username":"u","password":"p"},
            "empty.example":{}}}"#,
    )
    .unwrap();
    let config = DockerConfig::new(&path);
    let find = async |name: &str| config.credentials(name).await.unwrap();
    assert_eq!(find("docker.io").await, Some(basic("hub", "pw")));
    assert_eq!(find("index.docker.io").await, Some(basic("hub", "pw")));
    assert_eq!(find("localhost:5000").await, Some(basic("local", "p:w")));
    assert_eq!(find("quay.example").await, Some(Credentials::IdentityToken("tok".to_owned())));
    assert_eq!(find("plain.example").await, Some(basic("u", "p")));
    for none in ["localhost", "localhost:5001", "team.example", "empty.example", "example", "other"] {
        assert_eq!(find(none).await, None, "{none}");
    }
    assert_eq!(DockerConfig::new(dir.path().join("absent")).credentials("a").await.unwrap(), None);
}

#[tokio::test]
async fn store_and_erase_keep_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub").join("config.json");
    let config = DockerConfig::new(&path);
    config.store("docker.io", &basic("hub", "pw")).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let before = r#"{"HttpHeaders":{"X":"y"},"auths":{"https://a.example":{"auth":"dTpw","email":"e"},
        "b.example":{"auth":"dTpw"}},"detachKeys":"ctrl-q","future":[1,2,{"x":null}]}"#;
    fs::write(&path, before).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let link = dir.path().join("link.json");
    symlink(&path, &link).unwrap();
    let config = DockerConfig::new(&link);
    config.store("a.example", &basic("new", "pass:word")).await.unwrap();
    config.store("docker.io", &Credentials::IdentityToken("t".to_owned())).await.unwrap();
    config.erase("b.example").await.unwrap();
    config.erase("never.example").await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "the link stays, its target is replaced");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let after: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        after,
        serde_json::json!({
            "HttpHeaders": {"X": "y"},
            "auths": {
                "a.example": {"auth": "bmV3OnBhc3M6d29yZA=="},
                "https://index.docker.io/v1/": {"identitytoken": "t"},
            },
            "detachKeys": "ctrl-q",
            "future": [1, 2, {"x": null}],
        })
    );
    assert_eq!(config.credentials("a.example").await.unwrap(), Some(basic("new", "pass:word")));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    assert!(config.store("a.example", &basic("a:b", "c")).await.is_err());
}

#[tokio::test]
async fn logins_at_the_same_time_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = DockerConfig::new(dir.path().join("config.json"));
    let names: Vec<_> = (0..20).map(|n| format!("r{n}.example")).collect();
    let login = basic("u", "p");
    for result in futures_util::future::join_all(names.iter().map(|name| config.store(name, &login))).await {
        result.unwrap();
    }
    for name in &names {
        assert!(config.credentials(name).await.unwrap().is_some(), "{name}");
    }
}

#[tokio::test]
async fn helpers_are_asked_where_they_are_named() {
    let dir = tempfile::tempdir().unwrap();
    helper(dir.path(), "keeper", KEEPER);
    helper(
        dir.path(),
        "special",
        r#"cat >/dev/null; echo '{"ServerURL":"x","Username":"<token>","Secret":"idt"}'"#,
    );
    let path = dir.path().join("config.json");
    let text = r#"{"credsStore":"keeper","credHelpers":{"special.example":"special"},"auths":{"a.example":{"auth":"dTpw"}}}"#;
    fs::write(&path, text).unwrap();
    let config = DockerConfig::new(&path).with_helper_dir(dir.path());
    assert_eq!(
        config.credentials("special.example").await.unwrap(),
        Some(Credentials::IdentityToken("idt".to_owned()))
    );
    // The store is asked for all others, and what lies in the file beside it is not used.
    assert_eq!(config.credentials("a.example").await.unwrap(), None);
    assert_eq!(fs::read_to_string(dir.path().join("asked")).unwrap(), "a.example");
    config.store("docker.io", &basic("hub", "canary")).await.unwrap();
    assert_eq!(config.credentials("docker.io").await.unwrap(), Some(basic("hub", "canary")));
    assert_eq!(fs::read_to_string(dir.path().join("asked")).unwrap(), "https://index.docker.io/v1/");
    let after = fs::read_to_string(&path).unwrap();
    assert!(!after.contains("canary") && after.contains("https://index.docker.io/v1/"), "{after}");
    config.erase("docker.io").await.unwrap();
    assert_eq!(config.credentials("docker.io").await.unwrap(), None);
    assert!(!fs::read_to_string(&path).unwrap().contains("index.docker.io"));
}

#[tokio::test]
async fn d2_a_missing_or_failing_helper_sends_nothing() {
    let fake = Fake::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let dir = tempfile::tempdir().unwrap();
    helper(dir.path(), "fails", "cat >/dev/null; echo canary-output; exit 3");
    helper(
        dir.path(),
        "garbage",
        r#"cat >/dev/null; echo '{"Username":"canary-output","Secret":["canary-output"]}'"#,
    );
    helper(dir.path(), "endless", "cat >/dev/null; exec yes canary-output");
    let path = dir.path().join("config.json");
    for name in ["absent", "fails", "garbage", "endless", "../evil"] {
        let host = fake.host();
        let text =
            format!(r#"{{"credHelpers":{{"{host}":"{name}"}},"auths":{{"{host}":{{"auth":"dTpw"}}}}}}"#);
        fs::write(&path, text).unwrap();
        let config = DockerConfig::new(&path).with_helper_dir(dir.path());
        let registry = quick().with_docker_config(config).build().unwrap();
        let error = registry.list_tags(&fake.reference("a")).await.unwrap_err();
        let text = everything(&error);
        assert!(text.contains(name) && !text.contains("canary"), "{name}: {text}");
    }
    assert!(fake.requests().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn d6_a_malformed_file_is_named_and_not_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let config = DockerConfig::new(&path);
    for text in [
        r#"["canary-1"]"#,
        r#""canary-1""#,
        r#"{"auths":{"a":{"auth":"canary-1"}}}"#,
        r#"{"auths":{"a":{"auth":"Y2FuYXJ5LTE="}}}"#,
        "{\"auths\":canary-1}",
        r#"{"credsStore":{"x":"canary-1"}}"#,
    ] {
        fs::write(&path, text).unwrap();
        let error = config.credentials("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}: {error:?}");
        let said = everything(&error);
        assert!(said.contains("config.json") && !said.contains("canary") && !said.contains("Y2Fu"), "{said}");
    }
}
