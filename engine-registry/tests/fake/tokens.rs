//! Bearer tokens: fetched once, refreshed when refused, kept apart by scope.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine_core::error::ErrorKind;
use engine_core::registry_client::{Credentials, RegistryClient as _};

use crate::quick;
use crate::server::{Fake, Reply, Seen};

const TAGS: &str = r#"{"name":"a","tags":["t"]}"#;

/// A registry whose tokens hold for `uses` requests each.
async fn fake(uses: usize, body: fn(usize) -> String) -> (Fake, Arc<AtomicUsize>) {
    let (issued, used) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let count = Arc::clone(&issued);
    let handler = move |seen: &Seen| {
        let host = seen.header("host").unwrap();
        let challenge =
            format!("Bearer realm=\"http://{host}/token?x=1\",service=\"the service\",scope=\"ignored\"");
        let refuse = Reply::new(401).header("WWW-Authenticate", challenge);
        if seen.path() == "/token" {
            used.store(0, Ordering::SeqCst);
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::new(200).body(body(number));
        }
        let current = format!("Bearer token-{}", issued.load(Ordering::SeqCst));
        if seen.header("authorization") != Some(&current) || used.fetch_add(1, Ordering::SeqCst) >= uses {
            return refuse;
        }
        Reply::new(200).body(TAGS)
    };
    (Fake::start(handler).await, count)
}

#[tokio::test]
async fn a_token_is_fetched_once_and_kept() {
    let (fake, issued) = fake(1_000, |n| format!(r#"{{"token":"token-{n}","expires_in":300}}"#)).await;
    let registry = quick().build().unwrap();
    registry.list_tags(&fake.reference("a")).await.unwrap();
    let reference = fake.reference("a");
    let calls = (0..20).map(|_| registry.list_tags(&reference));
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(issued.load(Ordering::SeqCst), 1);
    let requests = fake.requests();
    let token = requests.iter().find(|seen| seen.path() == "/token").unwrap();
    assert_eq!(token.target, "/token?x=1&service=the+service&scope=repository%3Aa%3Apull");
    assert!(token.header("authorization").is_none());
    // After the first call, no request goes without: no second round trip for each.
    assert_eq!(requests.iter().filter(|seen| seen.header("authorization").is_none()).count(), 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let (fake, issued) = fake(1, |n| format!(r#"{{"access_token":"token-{n}"}}"#)).await;
    let registry = quick().build().unwrap();
    for _ in 0..4 {
        registry.list_tags(&fake.reference("a")).await.unwrap();
    }
    assert_eq!(issued.load(Ordering::SeqCst), 4);
    // One that is never accepted ends the call.
    let (fake, issued) = self::fake(0, |n| format!(r#"{{"token":"token-{n}"}}"#)).await;
    let error = registry.list_tags(&fake.reference("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(issued.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn accounts_and_identity_tokens_get_tokens() {
    let (fake, _) = fake(1_000, |n| format!(r#"{{"token":"token-{n}"}}"#)).await;
    let basic = Credentials::Basic { username: "robot".to_owned(), password: "p w".to_owned() };
    let registry = quick().with_credentials(&fake.host(), basic).build().unwrap();
    registry.list_tags(&fake.reference("a")).await.unwrap();
    let seen = fake.requests().into_iter().find(|seen| seen.path() == "/token").unwrap();
    assert_eq!((seen.method.as_str(), seen.header("authorization")), ("GET", Some("Basic cm9ib3Q6cCB3")));
    assert!(seen.target.ends_with("&account=robot"), "{}", seen.target);

    let (fake, _) = self::fake(1_000, |n| format!(r#"{{"access_token":"token-{n}"}}"#)).await;
    let token = Credentials::IdentityToken("refresh&me".to_owned());
    let registry = quick().with_credentials(&fake.host(), token).build().unwrap();
    registry.list_tags(&fake.reference("a")).await.unwrap();
    let seen = fake.requests().into_iter().find(|seen| seen.path() == "/token").unwrap();
    assert_eq!(seen.method, "POST");
    let body = String::from_utf8(seen.body).unwrap();
    assert!(
        body.contains("grant_type=refresh_token") && body.contains("refresh_token=refresh%26me"),
        "{body}"
    );
}

#[tokio::test]
async fn malformed_token_answers_are_errors_that_quote_nothing() {
    let bodies: [fn(usize) -> String; 7] = [
        |_| String::new(),
        |_| "{}".to_owned(),
        |_| r#"{"token":["canary-1"]}"#.to_owned(),
        |_| r#"{"token":""}"#.to_owned(),
        |_| "{\"token\":\"canary-1\\r\\nX: y\"}".to_owned(),
        |_| r#"{"token":"canary-1","expires_in":"canary-1"}"#.to_owned(),
        |_| format!(r#"{{"token":"{}"}}"#, "x".repeat(2 << 20)),
    ];
    for (number, body) in bodies.into_iter().enumerate() {
        let (fake, _) = fake(1_000, body).await;
        let error = quick().build().unwrap().list_tags(&fake.reference("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{number}: {error:?}");
        assert!(!crate::everything(&error).contains("canary"), "{number}: {error:?}");
    }
}

#[tokio::test]
async fn logins_are_checked_without_being_remembered() {
    let fake = Fake::start(|seen| match seen.header("authorization") {
        Some("Basic YTpi") => Reply::new(200),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let registry = quick().build().unwrap();
    let login =
        |password: &str| Credentials::Basic { username: "a".to_owned(), password: password.to_owned() };
    registry.check_credentials(&fake.host(), &login("b")).await.unwrap();
    let error = registry.check_credentials(&fake.host(), &login("wrong")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.report().contains("did not accept the credentials"), "{error:?}");
    let error = registry.list_tags(&fake.reference("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "what was checked is not used");
    // A registry that lets everybody in accepts any; a web server is no registry.
    let open = Fake::start(|_| Reply::new(200)).await;
    registry.check_credentials(&open.host(), &login("b")).await.unwrap();
    let other = Fake::start(|_| Reply::new(404)).await;
    let error = registry.check_credentials(&other.host(), &login("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    for wrong in ["", "a/b", "u:p@a"] {
        let error = registry.check_credentials(wrong, &login("b")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}: {error:?}");
    }
}
