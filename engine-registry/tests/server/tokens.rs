//! Bearer tokens: what clients are told, what they get, and what that is worth.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine_core::registry_client::Credentials;
use engine_core::testing::registry_client;
use engine_registry::OciRegistry;
use engine_registry::server::{FileStorage, MemoryStorage, RegistryServer, Rules, Tokens, hash_password};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Said, Server, limits};
use crate::rules::{RULES, USERS, basic, rules_file};
use crate::secure::{authority, certificate};

pub(crate) fn tokens(dir: &Path) -> Tokens {
    Tokens::open(Rules::open(rules_file(dir, &USERS, RULES)).unwrap(), dir.join("token.key")).unwrap()
}

async fn server() -> (Server, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let builder = RegistryServer::builder(MemoryStorage::new()).with_tokens(tokens(dir.path()));
    (Server::start(builder.with_limits(limits()), None).await, dir)
}

async fn send(server: &Server, method: &str, path: &str, authorization: &str) -> Said {
    server.send(method, path, &[("Authorization", authorization)], "").await
}

/// Asks for a token as a user, or nobody.
async fn ask(server: &Server, user: Option<&str>, query: &str) -> Said {
    let path = format!("/token?service=registry&{query}");
    match user {
        Some(user) => send(server, "GET", &path, &basic(user)).await,
        None => server.get(&path).await,
    }
}

fn token(said: &Said) -> String {
    assert_eq!(said.status, 200, "{said:?}");
    assert_eq!(said.header("cache-control"), "no-store");
    let body = said.json();
    assert_eq!((&body["token"], &body["expires_in"]), (&body["access_token"], &json!(300)));
    format!("Bearer {}", body["token"].as_str().unwrap())
}

fn claims(bearer: &str) -> Value {
    let middle = bearer.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

async fn form(server: &Server, fields: &[(&str, &str)]) -> Said {
    let mut url = reqwest::Url::parse("form:").unwrap();
    url.query_pairs_mut().extend_pairs(fields);
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    server.send("POST", "/token", &kind, url.query().unwrap().to_owned()).await
}

#[tokio::test]
async fn a_client_is_told_where_to_get_which_token() {
    let (server, dir) = server().await;
    for (method, path, scope) in [
        ("GET", "/v2/", ""),
        ("GET", "/v2/team/app/tags/list", ",scope=\"repository:team/app:pull\""),
        ("POST", "/v2/team/app/blobs/uploads/", ",scope=\"repository:team/app:pull,push\""),
        ("DELETE", "/v2/team/app/manifests/v1", ",scope=\"repository:team/app:delete\""),
    ] {
        let said = server.send(method, path, &[], "").await.fails(401, "UNAUTHORIZED");
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"registry\"{scope}", server.addr);
        assert_eq!(said.header("www-authenticate"), realm);
    }
    // What a client calls the registry comes back to it, unless it is no name.
    let said = server.send("GET", "/v2/", &[("Host", "reg.example:8443")], "").await;
    assert!(said.header("www-authenticate").contains("\"http://reg.example:8443/token\""), "{said:?}");
    let said = server.send("GET", "/v2/", &[("Host", "x\",realm=\"http://evil")], "").await;
    assert!(!said.header("www-authenticate").contains("evil"), "{said:?}");
    for bad in ["registry.example", "ftp://x", "https://", "https://me@x/", "https://x/?a=b"] {
        assert!(tokens(dir.path()).with_external_url(bad).is_err(), "{bad}");
    }
    assert!(tokens(dir.path()).with_service("a\"b").is_err());
    let given = tokens(dir.path()).with_external_url("https://reg.example/").unwrap();
    let given = given.with_service("reg.example").unwrap();
    let server = Server::start(RegistryServer::builder(MemoryStorage::new()).with_tokens(given), None).await;
    let said = server.get("/v2/").await;
    let wanted = "Bearer realm=\"https://reg.example/token\",service=\"reg.example\"";
    assert_eq!(said.header("www-authenticate"), wanted);
}

#[tokio::test]
async fn a_token_grants_what_was_asked_for_and_is_allowed() {
    let (server, _dir) = server().await;
    let all = "scope=repository:team/app:pull,push,delete&scope=repository:bob/x:*%20repository:carol/x:pull";
    let bobs = token(&ask(&server, Some("bob"), all).await);
    let claims = claims(&bobs);
    assert_eq!((&claims["sub"], &claims["aud"]), (&json!("bob"), &json!("registry")));
    assert_eq!(
        claims["access"],
        json!([
            { "type": "repository", "name": "team/app", "actions": ["pull", "push"] },
            { "type": "repository", "name": "bob/x", "actions": ["pull", "push", "delete"] },
        ])
    );
    send(&server, "POST", "/v2/team/app/blobs/uploads/", &bobs).await.is(202);
    send(&server, "GET", "/v2/", &bobs).await.is(200);
    // Known, and not allowed.
    send(&server, "DELETE", "/v2/team/app/manifests/v1", &bobs).await.fails(403, "DENIED");
    send(&server, "GET", "/v2/carol/x/tags/list", &bobs).await.fails(403, "DENIED");
    // Allowed, and not in the token.
    for (method, path) in
        [("GET", "/v2/team/other/tags/list"), ("GET", "/v2/_catalog"), ("GET", "/v2/public/x/tags/list")]
    {
        let said = send(&server, method, path, &bobs).await.fails(401, "UNAUTHORIZED");
        let challenge = said.header("www-authenticate");
        assert!(
            challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope="),
            "{said:?}"
        );
    }
    let narrow = token(&ask(&server, Some("bob"), "scope=repository:team/app:pull").await);
    send(&server, "GET", "/v2/team/app/tags/list", &narrow).await.fails(404, "NAME_UNKNOWN");
    send(&server, "POST", "/v2/team/app/blobs/uploads/", &narrow).await.fails(401, "UNAUTHORIZED");
    // A mount needs the other repository in the token, too; and nothing else is found.
    let digest = engine_core::digest::Digest::sha256(b"x");
    let roots = token(&ask(&server, Some("root"), "scope=repository:team/app:*").await);
    let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    server.send("POST", &path, &[("Authorization", &roots)], "x").await.is(201);
    let mount = format!("/v2/bob/x/blobs/uploads/?mount={digest}&from=team/app");
    let only = token(&ask(&server, Some("bob"), "scope=repository:bob/x:pull,push").await);
    send(&server, "POST", &mount, &only).await.is(202);
    send(&server, "POST", &mount, &bobs).await.is(201);
    // The catalog is filtered for the token's user.
    let list = token(&ask(&server, Some("carol"), "scope=registry:catalog:*").await);
    assert_eq!(send(&server, "GET", "/v2/_catalog", &list).await.is(200).json()["repositories"], json!([]));
    let list = token(&ask(&server, Some("bob"), "scope=registry:catalog:*").await);
    let said = send(&server, "GET", "/v2/_catalog", &list).await.is(200);
    assert_eq!(said.json()["repositories"], json!(["bob/x", "team/app"]));
    // A password with each request is as good, and nobody needs a token for what is public.
    send(&server, "GET", "/v2/team/app/tags/list", &basic("bob")).await.is(200);
    server.get("/v2/public/x/tags/list").await.fails(404, "NAME_UNKNOWN");
    let nobody = token(&ask(&server, None, "scope=repository:public/x:pull,push").await);
    send(&server, "GET", "/v2/public/x/tags/list", &nobody).await.fails(404, "NAME_UNKNOWN");
    send(&server, "GET", "/v2/", &nobody).await.is(200);
    send(&server, "GET", "/v2/team/app/tags/list", &nobody).await.fails(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn who_is_not_known_gets_no_token() {
    let (server, _dir) = server().await;
    for query in ["", "scope=repository:team/app:pull"] {
        let said = ask(&server, None, query).await;
        assert_eq!((said.status, said.json()["errors"][0]["code"].as_str()), (401, Some("UNAUTHORIZED")));
        assert!(said.header("www-authenticate").starts_with("Basic "), "{said:?}");
    }
    for header in ["Basic Ym9iOndyb25n", "Basic bm9ib2R5Om5vYm9keS1wYXNz", "Basic x", "Bearer x", "x"] {
        let said = send(&server, "GET", "/token?scope=repository:public/x:pull", header).await;
        assert_eq!(said.status, 401, "{header}");
    }
    for (query, status) in [
        ("service=other".to_owned(), 400),
        (vec!["scope=repository:a:pull"; 40].join("&"), 400),
        ("scope=nonsense&scope=repository:../x:pull&scope=".to_owned(), 200),
    ] {
        let said = send(&server, "GET", &format!("/token?{query}"), &basic("bob")).await;
        assert_eq!(said.status, status, "{query}: {said:?}");
        if status == 200 {
            assert_eq!(claims(&token(&said))["access"], json!([]));
        }
    }
    assert_eq!(server.send("PUT", "/token", &[], "").await.status, 405);
    assert_eq!(server.send("POST", "/token", &[], "x".repeat(20_000)).await.status, 413);
    let guesses = async |number: usize| {
        let text = format!("alice:guess-{number}");
        let header = base64::engine::general_purpose::STANDARD.encode(text);
        send(&server, "GET", "/token", &format!("Basic {header}")).await.status
    };
    for number in 0..30 {
        if guesses(number).await == 429 {
            return;
        }
    }
    panic!("guesses at the end-point are not counted (SECURITY E7)");
}

#[tokio::test]
async fn oauth_forms_give_tokens_for_passwords_and_for_logins() {
    let (server, _dir) = server().await;
    let scope = "repository:team/app:pull registry:catalog:*";
    let log_in = [
        ("grant_type", "password"),
        ("service", "registry"),
        ("client_id", "test"),
        ("username", "bob"),
        ("password", "bob-pass"),
        ("scope", scope),
    ];
    let said = form(&server, &log_in).await;
    assert_eq!(said.json()["scope"], scope);
    assert!(said.json().get("refresh_token").is_none());
    send(&server, "GET", "/v2/_catalog", &token(&said)).await.is(200);
    let offline = form(&server, &[&log_in[..], &[("access_type", "offline")]].concat()).await;
    let by_get = ask(&server, Some("bob"), "offline_token=true&account=bob&client_id=docker").await;
    for said in [offline, by_get] {
        let refresh = said.json()["refresh_token"].as_str().unwrap().to_owned();
        let again = [("grant_type", "refresh_token"), ("refresh_token", &refresh), ("scope", scope)];
        let said = form(&server, &again).await;
        assert_eq!(said.json()["scope"], scope);
        send(&server, "GET", "/v2/_catalog", &token(&said)).await.is(200);
        // It is no token for requests, nor is the other one for tokens.
        send(&server, "GET", "/v2/", &format!("Bearer {refresh}")).await.fails(401, "UNAUTHORIZED");
        let access = said.json()["access_token"].as_str().unwrap().to_owned();
        let wrong = [("grant_type", "refresh_token"), ("refresh_token", access.as_str())];
        assert_eq!(form(&server, &wrong).await.status, 401);
    }
    for (fields, status) in [
        (vec![("grant_type", "password"), ("username", "bob"), ("password", "wrong")], 401),
        (vec![("grant_type", "password"), ("username", "nobody"), ("password", "x")], 401),
        (vec![("grant_type", "password"), ("username", "bob")], 400),
        (vec![("grant_type", "refresh_token"), ("refresh_token", "x.y.z")], 401),
        (vec![("grant_type", "refresh_token")], 400),
        (vec![("grant_type", "client_credentials")], 400),
        (vec![("x", "y")], 400),
    ] {
        assert_eq!(form(&server, &fields).await.status, status, "{fields:?}");
    }
}

#[tokio::test]
async fn d5_a_token_ends_with_the_right_the_user_and_the_password() {
    let (server, dir) = server().await;
    let file = dir.path().join("rules.toml");
    let text = fs::read_to_string(&file).unwrap();
    let said = ask(&server, Some("bob"), "scope=repository:team/app:pull&offline_token=true").await;
    let (bobs, refresh) = (token(&said), said.json()["refresh_token"].as_str().unwrap().to_owned());
    let status = async || send(&server, "GET", "/v2/team/app/tags/list", &bobs).await.status;
    let again = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    assert_eq!((status().await, form(&server, &again).await.status), (404, 200));
    fs::write(&file, text.replace("\"alice\", \"bob\"", "\"alice\"")).unwrap();
    assert_eq!((status().await, form(&server, &again).await.status), (403, 200));
    let line = text.lines().find(|line| line.starts_with("bob =")).unwrap();
    fs::write(&file, text.replace(line, "").replace("\"alice\", \"bob\"", "\"alice\"")).unwrap();
    assert_eq!((status().await, form(&server, &again).await.status), (401, 401));
    fs::write(&file, text.replace(line, &format!("bob = {:?}", hash_password("new").unwrap()))).unwrap();
    assert_eq!((status().await, form(&server, &again).await.status), (401, 401));
    fs::write(&file, &text).unwrap();
    assert_eq!((status().await, form(&server, &again).await.status), (404, 200));
}

#[tokio::test]
async fn d5_a_token_of_another_key_or_service_is_none() {
    let (server, dir) = server().await;
    let (other, other_dir) = self::server().await;
    let scope = "scope=repository:team/app:pull";
    let strange = token(&ask(&other, Some("bob"), scope).await);
    let said = send(&server, "GET", "/v2/team/app/tags/list", &strange).await.fails(401, "UNAUTHORIZED");
    assert!(said.header("www-authenticate").contains("error=\"invalid_token\""), "{said:?}");
    // Servers that share the key and the file share tokens, unless they are called otherwise.
    fs::copy(dir.path().join("token.key"), other_dir.path().join("token.key")).unwrap();
    let file = dir.path().join("rules.toml");
    let open = || Tokens::open(Rules::open(&file).unwrap(), other_dir.path().join("token.key")).unwrap();
    let start = async |tokens: Tokens| {
        Server::start(RegistryServer::builder(MemoryStorage::new()).with_tokens(tokens), None).await
    };
    let bobs = token(&ask(&server, Some("bob"), scope).await);
    let (second, third) = (start(open()).await, start(open().with_service("x").unwrap()).await);
    assert_eq!(send(&second, "GET", "/v2/team/app/tags/list", &bobs).await.status, 404);
    assert_eq!(send(&third, "GET", "/v2/team/app/tags/list", &bobs).await.status, 401);
}

#[tokio::test]
async fn our_client_keeps_its_promises_with_tokens_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = authority();
    let builder = RegistryServer::builder(FileStorage::open(dir.path().join("data")).unwrap())
        .with_tls(certificate(&issuer, dir.path(), "server"))
        .with_tokens(tokens(dir.path()))
        .with_limits(limits());
    let server = Server::start(builder, None).await;
    let host = server.addr.to_string();
    let client = || OciRegistry::builder().with_system_roots(false).with_ca_pem(issuer.pem());
    let of = |user: &str| Credentials::Basic { username: user.to_owned(), password: format!("{user}-pass") };
    let stranger = client().build().unwrap();
    registry_client::credentials_are_checked(&stranger, &host, &of("alice")).await;
    let reference = format!("{host}/alice/app:v1").parse().unwrap();
    registry_client::stranger_is_refused(&stranger, &reference).await;
    registry_client::credentials_are_lent(&stranger, &reference, &of("alice")).await;
    let alice = client().with_credentials(&host, of("alice")).build().unwrap();
    registry_client::pushed_image_is_fetched(&alice, &reference).await;
}
