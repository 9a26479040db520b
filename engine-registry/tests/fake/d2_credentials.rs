//! SECURITY D2 and D6: credentials stay where they belong, and out of every text.

use std::io::Write;
use std::sync::{Arc, Mutex, Once, OnceLock};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::error::Result;
use engine_core::io::ByteStream;
use engine_core::registry_client::{BlobSource, Credentials, RegistryClient as _};
use engine_registry::OciRegistry;
use futures_util::{StreamExt as _, stream};

use crate::server::{Fake, Reply, Seen};
use crate::{everything, quick};

const PASSWORD: &str = "canary-password-51c1";
const TOKEN: &str = "canary-token-77d2";
const IDENTITY: &str = "canary-identity-90e3";

fn canaries() -> Vec<String> {
    let mut all = vec![PASSWORD.to_owned(), TOKEN.to_owned(), IDENTITY.to_owned()];
    all.push(BASE64.encode(format!("robot:{PASSWORD}")));
    all
}

fn holds_a_canary(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    canaries().iter().any(|canary| text.contains(canary))
}

/// How the first origin lets clients in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scheme {
    Basic,
    /// A token from the first origin itself.
    Bearer,
}

/// What the first origin answers once the client is in: a template, in which `{B}` is the second
/// origin's `127.0.0.1:port`, `{P}` its port and `{A}` the first one's address.
#[derive(Clone, Copy, Debug)]
enum Trap {
    /// A redirect of every GET and HEAD.
    Redirect(u16, &'static str),
    /// An upload's Location.
    Upload(&'static str),
    /// A redirect of every PUT.
    Put(u16, &'static str),
    /// A redirect of every POST.
    Post(u16, &'static str),
    /// The realm of a challenge.
    Realm(&'static str),
    /// The realm is right, and the token server redirects.
    TokenRedirect(u16, &'static str),
    /// The next page of a list.
    Link(&'static str),
    /// The URL of a foreign layer.
    ForeignUrl(&'static str),
}

const TRAPS: &[Trap] = &[
    Trap::Redirect(301, "http://{B}/x"),
    Trap::Redirect(302, "http://{B}/x"),
    Trap::Redirect(303, "http://{B}/x"),
    Trap::Redirect(307, "http://{B}/x"),
    Trap::Redirect(308, "http://{B}/x"),
    Trap::Redirect(307, "//{B}/x"),
    Trap::Redirect(307, "http:\\\\{B}\\x"),
    Trap::Redirect(307, "http://user:pass@{B}/x"),
    Trap::Redirect(307, "http://{A}@{B}/x"),
    Trap::Redirect(307, "http://{A}%2f@{B}/x"),
    Trap::Redirect(307, "http://{B}/{A}/x"),
    Trap::Redirect(307, "http://{B}#@{A}/"),
    Trap::Redirect(307, "http://localhost:{P}/x"),
    Trap::Redirect(307, "http://127.1:{P}/x"),
    Trap::Redirect(307, "http://0x7f000001:{P}/x"),
    Trap::Redirect(307, "http://[::ffff:127.0.0.1]:{P}/x"),
    Trap::Redirect(307, "HTTP://{B}/x"),
    Trap::Redirect(307, " http://{B}/x"),
    Trap::Redirect(307, "https://{B}/x"),
    Trap::Redirect(307, "ftp://{B}/x"),
    Trap::Redirect(307, "http://xn--80ak6aa92e.com.localhost:{P}/x"),
    Trap::Redirect(307, "/bounce?to=http://{B}/x"),
    Trap::Redirect(307, "http://{B}/back"),
    Trap::Redirect(307, "http://{B}/challenge-basic"),
    Trap::Redirect(307, "http://{B}/challenge-bearer"),
    Trap::Upload("http://{B}/u"),
    Trap::Upload("//{B}/u"),
    Trap::Upload("http://robot@{B}/u"),
    Trap::Upload("http://localhost:{P}/u"),
    Trap::Upload("https://{B}/u"),
    Trap::Upload("http://{B}/challenge-basic"),
    Trap::Put(307, "http://{B}/u"),
    Trap::Put(302, "http://{B}/u"),
    Trap::Post(307, "http://{B}/u"),
    Trap::Post(303, "http://{B}/u"),
    Trap::Realm("http://{B}/token"),
    Trap::Realm("https://{B}/token"),
    Trap::Realm("//{B}/token"),
    Trap::Realm("http://{A}@{B}/token"),
    Trap::Realm("http://localhost:{P}/token"),
    Trap::Realm("http://user:pw@{A}/token"),
    Trap::Realm("http://{A}.localhost:{P}/token"),
    Trap::Realm("file:///etc/passwd"),
    Trap::TokenRedirect(302, "http://{B}/token"),
    Trap::TokenRedirect(307, "http://{B}/token"),
    Trap::TokenRedirect(308, "//{B}/token"),
    Trap::Link("<http://{B}/v2/app/tags/list>; rel=\"next\""),
    Trap::Link("<//{B}/v2/app/tags/list>; rel=next"),
    Trap::ForeignUrl("http://{B}/layer"),
];

fn fill(template: &str, seen: &Seen, second: &Fake) -> String {
    let own = seen.header("host").unwrap_or_default();
    template.replace("{A}", own).replace("{B}", &second.host()).replace("{P}", &second.port().to_string())
}

fn is_let_in(seen: &Seen, scheme: Scheme) -> bool {
    let sent = seen.header("authorization").unwrap_or_default();
    match scheme {
        Scheme::Basic => sent == format!("Basic {}", BASE64.encode(format!("robot:{PASSWORD}"))),
        Scheme::Bearer => sent == format!("Bearer {TOKEN}"),
    }
}

fn first_origin(seen: &Seen, scheme: Scheme, trap: Trap, second: &Fake, used: &str) -> Reply {
    let go = |status: u16, to: &str| Reply::new(status).header("Location", fill(to, seen, second));
    if seen.path() == "/token" {
        if let Trap::TokenRedirect(status, to) = trap {
            return go(status, to);
        }
        return Reply::new(200).body(format!(r#"{{"token":"{TOKEN}","expires_in":300}}"#));
    }
    if let Some(to) = seen.target.strip_prefix("/bounce?to=") {
        return Reply::new(307).header("Location", to);
    }
    if !is_let_in(seen, scheme) {
        let realm = match trap {
            Trap::Realm(realm) => fill(realm, seen, second),
            _ => format!("http://{}/token", seen.header("host").unwrap()),
        };
        return Reply::new(401).header(
            "WWW-Authenticate",
            match scheme {
                Scheme::Basic => "Basic realm=\"first\"".to_owned(),
                Scheme::Bearer => format!("Bearer realm=\"{realm}\",service=\"first\""),
            },
        );
    }
    match (seen.method.as_str(), trap) {
        ("GET", Trap::Link(link)) if seen.path().ends_with("/tags/list") => {
            Reply::new(200).header("Link", fill(link, seen, second)).body(r#"{"name":"app","tags":["1"]}"#)
        }
        ("GET" | "HEAD", Trap::Redirect(status, to)) => go(status, to),
        ("POST", Trap::Upload(to)) => go(202, to),
        ("POST", Trap::Post(status, to)) => go(status, to),
        ("POST", _) => Reply::new(202).header("Location", "/v2/app/blobs/uploads/1"),
        ("PUT", Trap::Put(status, to)) => go(status, to),
        ("PUT", _) => Reply::new(201),
        // Error text that echoes what was sent.
        _ => Reply::new(404).body(format!(
            r#"{{"errors":[{{"code":"X","message":"{} {}"}}]}}"#,
            seen.header("authorization").unwrap_or_default(),
            match scheme {
                Scheme::Basic => PASSWORD.to_owned(),
                Scheme::Bearer => used.to_owned(),
            }
        )),
    }
}

fn second_origin(seen: &Seen) -> Reply {
    match seen.path() {
        "/challenge-basic" => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"second\""),
        "/challenge-bearer" => {
            let host = seen.header("host").unwrap();
            Reply::new(401)
                .header("WWW-Authenticate", format!("Bearer realm=\"http://{host}/token\",service=\"s\""))
        }
        "/back" => Reply::new(307).header("Location", "/challenge-basic"),
        "/token" => Reply::new(200).body(r#"{"token":"stolen"}"#),
        _ => Reply::new(200).header("Content-Type", media_type::OCI_MANIFEST).body("{}"),
    }
}

#[derive(Debug)]
struct Small;

#[async_trait]
impl BlobSource for Small {
    async fn open(&self, _: u64) -> Result<ByteStream> {
        Ok(Box::pin(stream::iter([Ok(Bytes::from_static(b"hello"))])))
    }
}

/// Calls everything; returns all the text that came of it.
async fn call_all(
    registry: &OciRegistry,
    first: &Fake,
    second: &Fake,
    trap: Trap,
    login: &Credentials,
) -> String {
    let reference = first.reference("app:1");
    let mut layer = Descriptor::of(media_type::OCI_LAYER_GZIP, b"hello");
    if let Trap::ForeignUrl(url) = trap {
        layer.urls = vec![url.replace("{B}", &second.host())];
    }
    let mut text = format!("{registry:?} {login:?}");
    let mut note = |error: Option<engine_core::error::Error>| {
        if let Some(error) = error {
            text.push_str(&everything(&error));
        }
    };
    note(registry.resolve(&reference).await.err());
    note(registry.fetch_manifest(&reference).await.err());
    match registry.fetch_blob(&reference, &layer, 0).await {
        Err(error) => note(Some(error)),
        Ok(mut stream) => {
            while let Some(piece) = stream.next().await {
                note(piece.err());
            }
        }
    }
    note(registry.has_blob(&reference, &layer.digest).await.err());
    note(registry.push_blob(&reference, &layer, Some("other"), &Small).await.err());
    let manifest = Descriptor::of(media_type::OCI_MANIFEST, b"{}");
    note(registry.push_manifest(&reference, &manifest, Bytes::from_static(b"{}")).await.err());
    note(registry.list_tags(&reference).await.err());
    note(registry.check_credentials(&first.host(), login).await.err());
    text
}

#[tokio::test]
async fn d2_no_second_origin_ever_sees_a_credential() {
    capture_logs();
    let basic = Credentials::Basic { username: "robot".to_owned(), password: PASSWORD.to_owned() };
    let identity = Credentials::IdentityToken(IDENTITY.to_owned());
    let mut shapes = 0;
    let mut reached = 0;
    for trap in TRAPS {
        for (scheme, login) in
            [(Scheme::Basic, &basic), (Scheme::Bearer, &basic), (Scheme::Bearer, &identity)]
        {
            let about_tokens = matches!(trap, Trap::Realm(_) | Trap::TokenRedirect(..));
            if about_tokens && scheme == Scheme::Basic {
                continue;
            }
            let used = if *login == identity { IDENTITY } else { PASSWORD };
            let second = Fake::start(second_origin).await;
            let (trap, other) = (*trap, second.clone());
            let first = Fake::start(move |seen| first_origin(seen, scheme, trap, &other, used)).await;
            let registry = quick().with_credentials(&first.host(), login.clone()).build().unwrap();
            let text = call_all(&registry, &first, &second, trap, login).await;
            assert!(!holds_a_canary(&second.raw()), "{trap:?} {scheme:?}: {:#?}", second.requests());
            assert!(
                second.requests().iter().all(|seen| seen.header("authorization").is_none()),
                "{trap:?} {scheme:?}: {:#?}",
                second.requests()
            );
            assert!(!holds_a_canary(text.as_bytes()), "{trap:?} {scheme:?}: {text}");
            // The test tests something: the first origin did get them.
            let inside = first.requests().iter().any(|seen| is_let_in(seen, scheme));
            assert_eq!(inside, !about_tokens, "{trap:?} {scheme:?}: {:#?}", first.requests());
            reached += second.requests().len();
            shapes += 1;
        }
    }
    assert!(TRAPS.len() >= 40 && shapes > 120 && reached > 200, "{shapes} shapes, {reached} requests");
    let logs = logs();
    assert!(logs.contains("/v2/app/"), "logs were captured");
    assert!(!holds_a_canary(logs.as_bytes()), "a canary in the logs");
}

#[tokio::test]
async fn d6_secrets_in_the_wrong_place_are_not_repeated() {
    let mut texts = Vec::new();
    let canary = |n: usize| format!("canary-{n}-e7");
    let builders: [fn(engine_registry::RegistryBuilder, &str) -> engine_registry::RegistryBuilder; 12] = [
        |b, c| b.with_mirror("docker.io", &format!("https://user:{c}@mirror.example")),
        |b, c| b.with_mirror("docker.io", &format!("https://{c}@mirror.example")),
        |b, c| b.with_mirror("docker.io", &format!("ftp://user:{c}@mirror.example")),
        |b, c| b.with_mirror("docker.io", &format!("user:{c}@mirror.example")),
        |b, c| b.with_mirror("docker.io", &format!("https://mirror.example?token={c}")),
        |b, c| b.with_insecure(&format!("user:{c}@registry.example")),
        |b, c| b.with_insecure(&format!("user:{c}/x")),
        |b, c| b.with_token_server("a.example", &format!("user:{c}@b.example")),
        |b, c| b.with_proxy(&format!("http://user:{c}@proxy.example:3128")),
        |b, c| b.with_proxy(&format!("no url {c}")),
        |b, c| b.with_ca_pem(format!("-----BEGIN {c}")),
        |b, c| {
            let password = c.to_owned();
            b.with_credentials("a/b", Credentials::Basic { username: "u".to_owned(), password })
        },
    ];
    for (n, build) in builders.into_iter().enumerate() {
        let builder = build(quick(), &canary(n));
        texts.push(format!("{builder:?}"));
        match builder.build() {
            Ok(registry) => texts.push(format!("{registry:?}")),
            Err(error) => texts.push(everything(&error)),
        }
    }
    let fake = Fake::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    for (n, registry) in
        ["{}@a.example", "u:{}@a.example", "https://u:{}@a.example/v1/"].into_iter().enumerate()
    {
        let login = Credentials::Basic { username: "u".to_owned(), password: canary(20 + n) };
        let name = registry.replace("{}", &canary(30 + n));
        texts.push(everything(&quick().build().unwrap().check_credentials(&name, &login).await.unwrap_err()));
        texts.push(everything(
            &quick().build().unwrap().check_credentials(&fake.host(), &login).await.unwrap_err(),
        ));
    }
    for name in ["u:p", "u\n"] {
        let login = Credentials::Basic { username: name.to_owned(), password: canary(40) };
        texts.push(everything(
            &quick().build().unwrap().check_credentials(&fake.host(), &login).await.unwrap_err(),
        ));
    }
    assert!(texts.len() > 30);
    for text in texts {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn d2_credentials_are_for_one_host_and_port() {
    let ask = |_: &Seen| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    let (mine, other) = (Fake::start(ask).await, Fake::start(ask).await);
    let login = Credentials::Basic { username: "robot".to_owned(), password: PASSWORD.to_owned() };
    let registry = quick().with_credentials(&mine.host(), login).build().unwrap();
    let _ = registry.resolve(&other.reference("a")).await;
    let _ = registry.resolve(&format!("localhost:{}/a", mine.port()).parse().unwrap()).await;
    assert!(!holds_a_canary(&other.raw()) && !holds_a_canary(&mine.raw()));
    let _ = registry.resolve(&mine.reference("a")).await;
    assert!(holds_a_canary(&mine.raw()));
}

#[tokio::test]
async fn d2_a_mirror_gets_its_own_credentials_only() {
    let ask = |_: &Seen| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    let (mirror, origin) = (Fake::start(ask).await, Fake::start(ask).await);
    let login =
        |password: &str| Credentials::Basic { username: "robot".to_owned(), password: password.to_owned() };
    let registry = quick()
        .with_mirror(&origin.host(), &mirror.host())
        .with_credentials(&origin.host(), login(PASSWORD))
        .with_credentials(&mirror.host(), login("mirror-password"))
        .build()
        .unwrap();
    let _ = registry.resolve(&origin.reference("a")).await;
    let sent = |fake: &Fake, password: &str| {
        let encoded = BASE64.encode(format!("robot:{password}"));
        String::from_utf8_lossy(&fake.raw()).contains(&encoded)
    };
    assert!(sent(&mirror, "mirror-password") && !sent(&mirror, PASSWORD));
    assert!(sent(&origin, PASSWORD) && !sent(&origin, "mirror-password"));
}

#[tokio::test]
async fn d2_a_token_server_on_the_list_is_used() {
    let server = Fake::start(second_origin).await;
    let host = server.host();
    let registry_host = Fake::start(move |seen| match seen.header("authorization") {
        Some("Bearer stolen") => Reply::new(200).body(r#"{"name":"a","tags":["t"]}"#),
        _ => Reply::new(401).header("WWW-Authenticate", format!("Bearer realm=\"http://{host}/token\"")),
    })
    .await;
    let login = Credentials::Basic { username: "robot".to_owned(), password: PASSWORD.to_owned() };
    let build = |allow: bool| {
        let builder = quick().with_credentials(&registry_host.host(), login.clone());
        let name = registry_host.host();
        if allow { builder.with_token_server(&name, &server.host()) } else { builder }.build().unwrap()
    };
    let error = build(false).list_tags(&registry_host.reference("a")).await.unwrap_err();
    assert!(error.report().contains("with_token_server"), "{error:?}");
    assert!(server.requests().is_empty());
    assert_eq!(build(true).list_tags(&registry_host.reference("a")).await.unwrap(), ["t"]);
    assert!(holds_a_canary(&server.raw()));
}

static LOGS: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Captures what everything logs, `log` records of the HTTP crates included, at trace level.
fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let logs = Arc::clone(LOGS.get_or_init(Arc::default));
        use tracing_subscriber::util::SubscriberInitExt as _;
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || Sink(Arc::clone(&logs)))
            .finish()
            .init();
    });
}

fn logs() -> String {
    String::from_utf8_lossy(&LOGS.get().unwrap().lock().unwrap()).into_owned()
}
