//! Users and rules: who may do what where, and what others may not even see.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine as _;
use engine_core::descriptor::media_type;
use engine_registry::server::{MemoryStorage, RegistryServer, Rules, hash_password};
use tempfile::TempDir;

use crate::client::{Image, Said, Server, limits};

/// Writes a rules file: each user's password is the name and `-pass`.
pub(crate) fn rules_file(dir: &Path, users: &[&str], rules: &str) -> PathBuf {
    let mut text = "[users]\n".to_owned();
    for user in users {
        // Hashing takes its time.
        static HASHES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
        let mut hashes = HASHES.lock().unwrap();
        let hash = hashes
            .entry((*user).to_owned())
            .or_insert_with(|| hash_password(&format!("{user}-pass")).unwrap());
        writeln!(text, "{user} = {hash:?}").unwrap();
    }
    let path = dir.join("rules.toml");
    fs::write(&path, text + rules).unwrap();
    path
}

pub(crate) const RULES: &str = r#"
[groups]
team = ["alice", "bob"]

[[rules]]
who = "@team"
may = "push"
repositories = "team/**"

[[rules]]
who = "alice"
may = "delete"
repositories = ["team/**"]

[[rules]]
who = "*"
may = ["push", "delete"]
repositories = "{user}/**"

[[rules]]
who = ["anonymous", "*"]
may = "pull"
repositories = "public/*"

[[rules]]
who = "root"
may = ["push", "delete"]
repositories = "**"
"#;

pub(crate) const USERS: [&str; 4] = ["alice", "bob", "carol", "root"];

/// Returns the value of a header that logs a user in.
pub(crate) fn basic(user: &str) -> String {
    let text = format!("{user}:{user}-pass");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

async fn server() -> (Server, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let rules = Rules::open(rules_file(dir.path(), &USERS, RULES)).unwrap();
    let builder = RegistryServer::builder(MemoryStorage::new()).with_authorizer(rules);
    (Server::start(builder.with_limits(limits()), None).await, dir)
}

async fn send(server: &Server, user: Option<&str>, method: &str, path: &str, body: &str) -> Said {
    let mut headers = vec![("Content-Type", media_type::OCI_MANIFEST.to_owned())];
    if let Some(user) = user {
        headers.push(("Authorization", basic(user)));
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    server.send(method, path, &headers, body.to_owned()).await
}

/// Pushes an image as a user.
async fn push(server: &Server, user: &str, repository: &str) -> Image {
    let image = Image::new(repository);
    for blob in [&image.config, &image.layer] {
        let digest = engine_core::digest::Digest::sha256(blob);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let body = String::from_utf8(blob.clone()).unwrap();
        send(server, Some(user), "POST", &path, &body).await.is(201);
    }
    send(server, Some(user), "PUT", &format!("/v2/{repository}/manifests/v1"), &image.text).await.is(201);
    image
}

#[tokio::test]
async fn rules_say_who_may_do_what_where() {
    let (server, _dir) = server().await;
    for (user, repository) in [("bob", "team/app"), ("carol", "carol/own"), ("root", "public/base")] {
        push(&server, user, repository).await;
    }
    let (nobody, alice, bob, carol, root) = (None, Some("alice"), Some("bob"), Some("carol"), Some("root"));
    for (user, method, repository, status) in [
        (nobody, "GET", "team/app", 401),
        (alice, "GET", "team/app", 200),
        (bob, "HEAD", "team/app", 200),
        (carol, "GET", "team/app", 403),
        (root, "GET", "team/app", 200),
        (nobody, "GET", "public/base", 200),
        (carol, "GET", "public/base", 200),
        (nobody, "PUT", "public/base", 401),
        (carol, "PUT", "public/base", 403),
        (nobody, "GET", "carol/own", 401),
        (alice, "GET", "carol/own", 403),
        (carol, "GET", "carol/own", 200),
        (carol, "PUT", "carol/own", 201),
        (bob, "DELETE", "team/app", 403),
        (carol, "DELETE", "team/app", 403),
        (nobody, "DELETE", "public/base", 401),
        (alice, "DELETE", "team/app", 202),
        (carol, "DELETE", "carol/own", 202),
    ] {
        let body = if method == "PUT" { Image::new(repository).text } else { String::new() };
        let said = send(&server, user, method, &format!("/v2/{repository}/manifests/v1"), &body).await;
        assert_eq!(said.status, status, "{user:?} {method} {repository}: {said:?}");
        if status == 401 {
            assert!(said.header("www-authenticate").starts_with("Basic "), "{said:?}");
        }
    }
    send(&server, nobody, "POST", "/v2/team/new/blobs/uploads/", "").await.fails(401, "UNAUTHORIZED");
    send(&server, carol, "POST", "/v2/team/new/blobs/uploads/", "").await.fails(403, "DENIED");
    // Where one logs in, everybody is asked; a wrong password is nobody's, also where nobody is needed.
    server.get("/v2/").await.fails(401, "UNAUTHORIZED");
    send(&server, carol, "GET", "/v2/", "").await.is(200);
    let wrong = [("Authorization", "Basic Y2Fyb2w6d3Jvbmc=")];
    server.send("GET", "/v2/public/base/manifests/v1", &wrong, "").await.fails(401, "UNAUTHORIZED");
    let empty = [("Authorization", "Basic Og==")];
    server.send("GET", "/v2/public/base/manifests/v1", &empty, "").await.is(200);
}

#[tokio::test]
async fn d5_what_may_not_be_seen_looks_like_what_is_not_there() {
    let (server, _dir) = server().await;
    push(&server, "root", "team/there").await;
    let digest = engine_core::digest::Digest::sha256(b"x");
    for user in [None, Some("carol")] {
        for (method, rest) in [
            ("GET", "manifests/v1".to_owned()),
            ("HEAD", "manifests/v1".to_owned()),
            ("PUT", "manifests/v1".to_owned()),
            ("DELETE", "manifests/v1".to_owned()),
            ("GET", "tags/list".to_owned()),
            ("GET", format!("blobs/{digest}")),
            ("DELETE", format!("blobs/{digest}")),
            ("GET", format!("referrers/{digest}")),
            ("POST", "blobs/uploads/".to_owned()),
            ("PATCH", format!("blobs/uploads/{}", "a".repeat(32))),
        ] {
            let mut said = Vec::new();
            for name in ["there", "gone"] {
                let answer = send(&server, user, method, &format!("/v2/team/{name}/{rest}"), "").await;
                let mut headers = answer.headers.clone();
                headers.remove("date");
                said.push((answer.status, headers, answer.body.clone()));
            }
            assert_eq!(said[0], said[1], "{user:?} {method} {rest}");
            assert!(matches!(said[0].0, 401 | 403));
        }
    }
}

#[tokio::test]
async fn d5_a_blob_is_mounted_only_from_what_may_be_pulled() {
    let (server, _dir) = server().await;
    let secret = push(&server, "root", "team/secret").await;
    let base = push(&server, "root", "public/base").await;
    let digest = |bytes: &[u8]| engine_core::digest::Digest::sha256(bytes);
    let absent = digest(b"nowhere");
    let mut said = Vec::new();
    for (wanted, from) in [
        (digest(&secret.layer), "&from=team/secret"),
        (digest(&secret.layer), ""),
        (absent.clone(), "&from=team/secret"),
        (absent, "&from=team/gone"),
        (digest(&secret.layer), "&from=public/base"),
    ] {
        let path = format!("/v2/carol/x/blobs/uploads/?mount={wanted}{from}");
        let answer = send(&server, Some("carol"), "POST", &path, "").await.is(202);
        let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        names.sort();
        said.push(names);
        send(&server, Some("carol"), "GET", &format!("/v2/carol/x/blobs/{wanted}"), "").await.is(404);
    }
    said.dedup();
    assert_eq!(said.len(), 1, "answers differ: {said:?}");
    let path = format!("/v2/carol/x/blobs/uploads/?mount={}&from=public/base", digest(&base.layer));
    send(&server, Some("carol"), "POST", &path, "").await.is(201);
    // Who may read everything may take it from anywhere.
    let path = format!("/v2/other/x/blobs/uploads/?mount={}", digest(&secret.layer));
    send(&server, Some("root"), "POST", &path, "").await.is(201);
}

/// Reads the catalog as a user, page by page.
async fn catalog(server: &Server, user: Option<&str>, n: usize) -> Vec<String> {
    let (mut names, mut next) = (Vec::new(), Some(format!("/v2/_catalog?n={n}")));
    while let Some(path) = next {
        let said = send(server, user, "GET", &path, "").await.is(200);
        let page: Vec<String> = serde_json::from_value(said.json()["repositories"].clone()).unwrap();
        next = said.next();
        assert!(!page.is_empty() || next.is_none(), "an empty page in between");
        assert!(next.is_none() || page.len() == n, "a short page in between: {page:?}");
        names.extend(page);
    }
    names
}

#[tokio::test]
async fn d5_the_catalog_lists_what_may_be_pulled() {
    let (server, dir) = server().await;
    assert_eq!(catalog(&server, Some("carol"), 2).await, [""; 0]);
    let mut all: Vec<String> = Vec::new();
    for number in 0..9 {
        for prefix in ["a", "carol", "public", "team", "z"] {
            all.push(format!("{prefix}/x{number}"));
        }
    }
    for name in &all {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", engine_core::digest::Digest::sha256(b"x"));
        send(&server, Some("root"), "POST", &path, "x").await.is(201);
    }
    all.sort();
    let of = |prefixes: &[&str]| -> Vec<String> {
        let like = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(&format!("{prefix}/")));
        all.iter().filter(like).cloned().collect()
    };
    for n in [1, 2, 3, 9, 10, 18, 100, 2000] {
        assert_eq!(catalog(&server, None, n).await, of(&["public"]));
        assert_eq!(catalog(&server, Some("carol"), n).await, of(&["carol", "public"]));
        assert_eq!(catalog(&server, Some("bob"), n).await, of(&["public", "team"]));
        assert_eq!(catalog(&server, Some("root"), n).await, all);
    }
    // The last page of what one sees does not say that there is more of what one does not.
    let said = send(&server, Some("carol"), "GET", "/v2/_catalog?n=9&last=carol/x8", "").await.is(200);
    assert_eq!(said.next(), None);
    let said = send(&server, None, "GET", "/v2/_catalog?n=0", "").await.is(200);
    assert_eq!((said.json()["repositories"].as_array().unwrap().len(), said.next()), (0, None));
    // Who may do nothing at all without a password is asked for one.
    rules_file(dir.path(), &["carol"], "[[rules]]\nwho = '*'\nmay = 'pull'\nrepositories = 'public/*'\n");
    server.get("/v2/_catalog").await.fails(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_changed_file_holds_at_once_and_a_broken_one_changes_nothing() {
    let (server, dir) = server().await;
    push(&server, "bob", "team/app").await;
    let path = "/v2/team/app/manifests/v1";
    let file = dir.path().join("rules.toml");
    let text = fs::read_to_string(&file).unwrap();
    for broken in ["", "[[rules]]\nwho = 'nobody-here'\n", "[users\n", "\u{0}"] {
        fs::write(&file, if broken.is_empty() { "x = 1" } else { broken }).unwrap();
        send(&server, Some("bob"), "GET", path, "").await.is(200);
    }
    fs::remove_file(&file).unwrap();
    send(&server, Some("bob"), "GET", path, "").await.is(200);
    fs::write(&file, text.replace("\"alice\", \"bob\"", "\"alice\"")).unwrap();
    send(&server, Some("bob"), "GET", path, "").await.fails(403, "DENIED");
    send(&server, Some("alice"), "GET", path, "").await.is(200);
    let line = text.lines().find(|line| line.starts_with("alice =")).unwrap();
    fs::write(
        &file,
        text.replace(line, "").replace("\"alice\", ", "").replace("who = \"alice\"", "who = []"),
    )
    .unwrap();
    send(&server, Some("alice"), "GET", path, "").await.fails(401, "UNAUTHORIZED");
    send(&server, Some("bob"), "GET", path, "").await.is(200);
}

#[tokio::test]
async fn e7_who_guesses_is_told_to_wait() {
    let (server, _dir) = server().await;
    let guess = async |user: &str, password: &str| {
        let request = server.client.get(format!("{}/v2/", server.base)).basic_auth(user, Some(password));
        let said = request.send().await.unwrap();
        (said.status().as_u16(), said.headers().contains_key("retry-after"))
    };
    assert_eq!(guess("bob", "bob-pass").await, (200, false));
    let mut statuses = Vec::new();
    for number in 0..30 {
        statuses.push(guess("alice", &format!("guess {number}")).await);
        if statuses.last() == Some(&(429, true)) {
            break;
        }
    }
    assert!(statuses.len() > 10, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&(429, true)), "{statuses:?}");
    // The right one has to wait as well; who was let in before, and others, do not notice.
    assert_eq!(guess("alice", "alice-pass").await.0, 429);
    assert_eq!(guess("bob", "bob-pass").await.0, 200);
    assert_eq!(guess("carol", "carol-pass").await.0, 200);
    // Who does not exist is counted in the same way.
    for _ in 0..30 {
        if guess("mallory", "x").await.0 == 429 {
            return;
        }
    }
    panic!("guesses for nobody are not counted");
}
