//! The page for people: what a browser makes of it, and who is shown what.
//!
//! The browser's screenshots are in the directory that the tests print: `target/tmp/page`.

use std::path::{Path, PathBuf};

use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_registry::server::{MemoryStorage, RegistryServer, Rules};
use engine_testkit::{command, require};
use serde_json::json;

use crate::client::{Image, Said, Server, limits};
use crate::rules::{RULES, USERS, basic, rules_file};

async fn server() -> Server {
    let builder = RegistryServer::builder(MemoryStorage::new()).with_page(true).with_limits(limits());
    Server::start(builder, None).await
}

const HOSTILE: &str = "<script>document.title = 'owned'</script>";

/// Pushes an image with everything that a page shows.
async fn push_shop(server: &Server) -> Digest {
    let config = json!({
        "os": "linux", "architecture": "riscv64", "created": "2026-11-26T08:00:00Z", "author": HOSTILE,
        "config": {"Entrypoint": ["/bin/shop", "--open now"], "Env": ["MODE=calm"], "Labels": {"team": "<b>us</b>"},
            "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [{"created_by": "COPY shop /bin/"}, {"created_by": "ENV MODE=calm", "empty_layer": true}],
    });
    let (config, layer) = (config.to_string(), vec![b'x'; 1_234_567]);
    server.push_blob("team/shop", config.as_bytes()).await;
    server.push_blob("team/shop", &layer).await;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()),
        "layers": [Descriptor::of(media_type::OCI_LAYER, &layer)],
        "annotations": {"org.example.note": HOSTILE},
    });
    let manifest = manifest.to_string();
    server.put("team/shop", "1.0", media_type::OCI_MANIFEST, &manifest).await.is(201);
    let digest = Digest::sha256(manifest.as_bytes());
    let mut entry = Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes());
    entry.platform = Some("linux/riscv64".parse().unwrap());
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]});
    server.put("team/shop", "all", media_type::OCI_INDEX, &index.to_string()).await.is(201);
    let about = json!({"subject": entry_of(&manifest), "artifactType": "application/x.signature"});
    let signature = Image::with("signature", about);
    for blob in [&signature.config, &signature.layer] {
        server.push_blob("team/shop", blob).await;
    }
    server.put("team/shop", "signature", media_type::OCI_MANIFEST, &signature.text).await.is(201);
    digest
}

fn entry_of(manifest: &str) -> Descriptor {
    Descriptor::of(media_type::OCI_MANIFEST, manifest.as_bytes())
}

/// Lets a browser look at a page; returns its DOM and saves what it looks like.
async fn browse(url: String, picture: PathBuf) -> String {
    tokio::task::spawn_blocking(move || {
        let profile = tempfile::tempdir().unwrap();
        command(
            "chromium-headless-shell",
            [
                "--no-sandbox".to_owned(),
                "--disable-gpu".to_owned(),
                "--hide-scrollbars".to_owned(),
                "--disable-background-networking".to_owned(),
                "--window-size=900,1200".to_owned(),
                format!("--user-data-dir={}", profile.path().display()),
                format!("--screenshot={}", picture.display()),
                "--dump-dom".to_owned(),
                url,
            ],
        )
    })
    .await
    .unwrap()
}

/// Checks that a picture is one: not of one colour, which compresses to next to nothing.
fn assert_drawn(picture: &Path) {
    let bytes = std::fs::read(picture).unwrap();
    assert!(bytes.starts_with(b"\x89PNG\r\n"), "{}", picture.display());
    assert!(bytes.len() > 8_000, "{} has {} bytes", picture.display(), bytes.len());
    println!("screenshot: {}", picture.display());
}

#[tokio::test]
async fn a_browser_shows_repositories_tags_and_manifests() {
    require!("chromium-headless-shell");
    let server = server().await;
    let digest = push_shop(&server).await;
    server.push_image("alone", "v1").await;
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&pictures).unwrap();

    let picture = |name: &str| pictures.join(format!("{name}.png"));
    let (repositories, repository, manifest, index) = tokio::join!(
        browse(format!("{}/", server.base), picture("repositories")),
        browse(format!("{}/repositories/team/shop", server.base), picture("repository")),
        browse(format!("{}/repositories/team/shop:1.0", server.base), picture("manifest")),
        browse(format!("{}/repositories/team/shop:all", server.base), picture("index")),
    );
    for name in ["repositories", "repository", "manifest", "index"] {
        assert_drawn(&picture(name));
    }

    for link in ["alone", "team/shop"] {
        assert!(
            repositories.contains(&format!(r#"<a href="/repositories/{link}">{link}</a>"#)),
            "{repositories}"
        );
    }
    for tag in ["1.0", "all", "signature"] {
        let link = format!(r#"<a href="/repositories/team/shop:{tag}">{tag}</a>"#);
        assert!(repository.contains(&link), "{repository}");
    }
    let pull = format!("docker pull {}/team/shop:1.0", server.addr);
    for text in [
        &pull,
        digest.to_string().as_str(),
        "linux/riscv64",
        "COPY shop /bin/",
        "1.23 MB",
        "MODE=calm",
        "80/tcp",
        r#"["/bin/shop","--open now"]"#,
        "&lt;b&gt;us&lt;/b&gt;",
        "application/x.signature",
        // As text, also where it is read by a browser.
        "&lt;script&gt;document.title = 'owned'&lt;/script&gt;",
        "<title>team/shop:1.0</title>",
    ] {
        assert!(manifest.contains(text), "no {text} in {manifest}");
    }
    assert!(!manifest.contains("<script"), "{manifest}");
    let linked = format!(r#"href="/repositories/team/shop@{digest}""#);
    assert!(index.contains(&linked) && index.contains("linux/riscv64"), "{index}");
}

#[tokio::test]
async fn pages_are_paged_and_errors_are_pages() {
    let server = server().await;
    let image = server.push_image("many", "t000").await;
    for number in 1..105 {
        let tag = format!("t{number:03}");
        server.put("many", &tag, media_type::OCI_MANIFEST, &image.text).await.is(201);
    }
    let text = |said: &Said| String::from_utf8(said.body.to_vec()).unwrap();
    let first = server.get("/repositories/many").await;
    assert_eq!((first.status, first.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = first.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let next = r#"href="/repositories/many?last=t099""#;
    assert!(text(&first).contains(">t099<") && !text(&first).contains(">t100<"));
    assert!(text(&first).contains(next), "{}", text(&first));
    let second = text(&server.get("/repositories/many?last=t099").await);
    assert!(second.contains(">t100<") && second.contains(">t104<") && !second.contains("?last="), "{second}");

    for (path, status) in [
        ("/repositories/none", 404),
        ("/repositories/many:none", 404),
        ("/repositories/UPPER", 404),
        ("/repositories/many@sha256:0", 404),
    ] {
        let said = server.get(path).await;
        assert_eq!(
            (said.status, said.header("content-type")),
            (status, "text/html; charset=utf-8"),
            "{path}"
        );
        assert!(text(&said).contains("<h1>Not Found</h1>"), "{}", text(&said));
    }
    let said = server.post("/").await;
    assert_eq!((said.status, said.header("allow")), (405, "GET, HEAD"));
    assert_eq!(server.get("/style.css").await.header("content-type"), "text/css; charset=utf-8");
    // A registry without pages has none.
    let plain = Server::memory().await;
    assert_eq!(plain.get("/").await.status, 404);
}

#[tokio::test]
async fn d5_a_page_shows_what_its_viewer_may_pull() {
    let dir = tempfile::tempdir().unwrap();
    let rules = Rules::open(rules_file(dir.path(), &USERS, RULES)).unwrap();
    let builder = RegistryServer::builder(MemoryStorage::new()).with_page(true).with_authorizer(rules);
    let server = Server::start(builder.with_limits(limits()), None).await;
    let root = basic("root");
    for repository in ["team/shop", "public/tool"] {
        let image = Image::new(repository);
        for blob in [&image.config, &image.layer] {
            let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::sha256(blob));
            server.send("POST", &path, &[("Authorization", &root)], blob.clone()).await.is(201);
        }
        let headers = [("Content-Type", media_type::OCI_MANIFEST), ("Authorization", &root)];
        server.send("PUT", &format!("/v2/{repository}/manifests/v1"), &headers, image.text).await.is(201);
    }
    let see = async |user: Option<&str>, path: &str| {
        let header = user.map(basic);
        let headers: Vec<_> = header.iter().map(|value| ("Authorization", value.as_str())).collect();
        let said = server.send("GET", path, &headers, "").await;
        let challenge = said.header("www-authenticate").to_owned();
        (said.status, challenge, String::from_utf8(said.body.to_vec()).unwrap())
    };
    let (status, _, text) = see(Some("bob"), "/").await;
    assert!(status == 200 && text.contains("team/shop") && text.contains("public/tool"), "{text}");
    let (status, _, text) = see(Some("carol"), "/").await;
    assert!(status == 200 && !text.contains("team/shop") && text.contains("public/tool"), "{text}");
    let nothing = see(Some("carol"), "/repositories/team/nothing").await;
    for path in ["/repositories/team/shop", "/repositories/team/shop:v1", "/repositories/team/nothing"] {
        let (status, challenge, text) = see(None, path).await;
        assert!(status == 401 && challenge.starts_with("Basic "), "{status} {challenge}");
        assert!(!text.contains("v1"), "{text}");
        // What is not there looks as what may not be seen.
        assert_eq!(see(Some("carol"), path).await, nothing);
        assert_eq!(nothing.0, 403);
    }
    assert_eq!(see(Some("bob"), "/repositories/team/shop:v1").await.0, 200);
}
