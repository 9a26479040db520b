//! SECURITY D1 and D4: manifests that lie, are ambiguous, malformed or huge.

use std::sync::{Arc, Mutex};

use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_core::error::ErrorKind;
use engine_core::registry_client::RegistryClient as _;

use crate::quick;
use crate::server::{Fake, Reply};

const TYPES: [&str; 4] =
    [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX];

fn entry(kind: &str) -> String {
    serde_json::to_string(&Descriptor::of(kind, b"x")).unwrap()
}

fn manifest(own_type: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{own_type}","config":{},"layers":[{}],"annotations":{{"a":"b"}}}}"#,
        entry(media_type::OCI_CONFIG),
        entry(media_type::OCI_LAYER_GZIP)
    )
}

/// A registry whose every manifest is what the cell holds.
async fn serving() -> (Fake, Arc<Mutex<Reply>>) {
    let cell = Arc::new(Mutex::new(Reply::new(404)));
    let reply = Arc::clone(&cell);
    (Fake::start(move |_| reply.lock().unwrap().clone()).await, cell)
}

#[tokio::test]
async fn d1_sixty_four_combinations_of_types_and_fields() {
    let (fake, cell) = serving().await;
    let registry = quick().build().unwrap();
    let image = format!(r#""config":{},"layers":[]"#, entry(media_type::OCI_CONFIG));
    let index = r#""manifests":[]"#.to_owned();
    let shapes = [image.clone(), index.clone(), format!("{image},{index}"), r#""x":1"#.to_owned()];
    let mut tried = 0;
    for content_type in TYPES {
        for own_type in TYPES {
            for (number, fields) in shapes.iter().enumerate() {
                let text = format!(r#"{{"schemaVersion":2,"mediaType":"{own_type}",{fields}}}"#);
                *cell.lock().unwrap() =
                    Reply::new(200).header("Content-Type", content_type).body(text.clone());
                let result = registry.fetch_manifest(&fake.reference("a:b")).await;
                let right = usize::from(media_type::is_index(content_type));
                let expected = content_type == own_type && number == right;
                assert_eq!(result.is_ok(), expected, "{text} as {content_type}: {result:?}");
                if let Ok((descriptor, bytes)) = result {
                    assert_eq!(descriptor, Descriptor::of(content_type, text.as_bytes()));
                    assert_eq!(bytes, text.as_bytes());
                }
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 64);
}

#[tokio::test]
async fn d1_a_digest_header_that_lies_is_refused() {
    let (fake, cell) = serving().await;
    let registry = quick().build().unwrap();
    let text = manifest(media_type::OCI_MANIFEST);
    let (right, wrong) = (Digest::sha256(text.as_bytes()), Digest::sha256(b"other"));
    let reply = Reply::new(200).header("Content-Type", media_type::OCI_MANIFEST).body(text);
    let by_tag = fake.reference("a:b");
    for told in [wrong.to_string(), "sha256:zz".to_owned(), String::new(), format!("{right}x")] {
        *cell.lock().unwrap() = reply.clone().header("Docker-Content-Digest", &told);
        for reference in [by_tag.clone(), by_tag.with_digest(right.clone())] {
            let error = registry.fetch_manifest(&reference).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{told}: {error:?}");
        }
    }
    // Without a header the bytes alone decide, and they are not what was asked for.
    *cell.lock().unwrap() = reply.clone();
    let error = registry.fetch_manifest(&by_tag.with_digest(wrong.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    // HEAD about another digest than the one asked for.
    *cell.lock().unwrap() = reply.clone().header("Docker-Content-Digest", &right);
    let error = registry.resolve(&by_tag.with_digest(wrong)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let resolved = registry.resolve(&by_tag).await.unwrap();
    assert_eq!(resolved.digest, right);
}

#[tokio::test]
async fn d1_types_must_be_given_once_and_be_known() {
    let (fake, cell) = serving().await;
    let registry = quick().build().unwrap();
    let text = manifest(media_type::OCI_MANIFEST);
    let bare = Reply::new(200).body(text);
    let typed = |kind: &str| bare.clone().header("Content-Type", kind);
    for reply in [
        bare.clone(),
        typed("application/json"),
        typed("text/html"),
        typed("application/vnd.docker.distribution.manifest.v1+prettyjws"),
        typed(media_type::OCI_MANIFEST).header("Content-Type", media_type::OCI_INDEX),
    ] {
        *cell.lock().unwrap() = reply.clone();
        let error = registry.fetch_manifest(&fake.reference("a:b")).await.unwrap_err();
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "{reply:?}: {error:?}");
    }
    *cell.lock().unwrap() = typed(&format!("{}; charset=utf-8", media_type::OCI_MANIFEST));
    registry.fetch_manifest(&fake.reference("a:b")).await.unwrap();
}

#[tokio::test]
async fn d4_a_manifest_beyond_the_limit_is_refused_unread() {
    let (fake, cell) = serving().await;
    let registry = quick().build().unwrap();
    let huge = Reply::new(200).header("Content-Type", media_type::OCI_MANIFEST);
    // Claimed in the head, and only found out on the way.
    for reply in [huge.clone().claiming(1 << 40), huge.body(vec![b' '; (4 << 20) + 1]).chunked()] {
        *cell.lock().unwrap() = reply;
        let error = registry.fetch_manifest(&fake.reference("a:b")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    }
}

#[tokio::test]
async fn d4_two_thousand_mutated_manifests_do_no_harm() {
    let (fake, cell) = serving().await;
    let registry = quick().build().unwrap();
    let reference = fake.reference("a:b");
    let seeds = TYPES.map(|kind| {
        let text = if media_type::is_index(kind) {
            let child = entry(media_type::OCI_MANIFEST);
            format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{child},{child}]}}"#)
        } else {
            manifest(kind)
        };
        (kind, text.into_bytes())
    });
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..2_000 {
        let (kind, seed) = &seeds[round % 4];
        let bytes = random.mutate(seed.clone());
        let mut reply = Reply::new(200).body(bytes.clone()).header("Content-Type", kind);
        if round % 3 == 0 {
            reply = reply.chunked();
        }
        *cell.lock().unwrap() = reply;
        // A panic would fail the test; what is accepted must be what was sent.
        match registry.fetch_manifest(&reference).await {
            Ok((descriptor, got)) => {
                assert_eq!((&got[..], descriptor.digest), (&bytes[..], Digest::sha256(&bytes)));
                accepted += 1;
            }
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "{error:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 1_000 && accepted + refused == 2_000, "{accepted} accepted, {refused} refused");
    // The client still works.
    *cell.lock().unwrap() = Reply::new(200).header("Content-Type", seeds[0].0).body(seeds[0].1.clone());
    registry.fetch_manifest(&reference).await.unwrap();
}

#[tokio::test]
async fn d4_malformed_answers_of_other_kinds_do_no_harm() {
    let (fake, cell) = serving().await;
    let registry = quick().build().unwrap();
    let mut random = Random(7);
    let tags = br#"{"name":"a","tags":["b","c"]}"#.to_vec();
    let errors = br#"{"errors":[{"code":"DENIED","message":"no","detail":{"a":[1]}}]}"#.to_vec();
    for round in 0..300 {
        let (status, seed) = if round % 2 == 0 { (200, &tags) } else { (403, &errors) };
        let challenge = String::from_utf8_lossy(&random.mutate(b"Bearer realm=\"x\",scope=\"y\"".to_vec()))
            .replace(|c: char| c.is_control() || !c.is_ascii(), "?");
        *cell.lock().unwrap() = Reply::new(if round % 5 == 0 { 401 } else { status })
            .header("WWW-Authenticate", challenge)
            .header(
                "Link",
                String::from_utf8_lossy(&random.mutate(b"</v2/>; rel=next".to_vec()))
                    .replace(|c: char| c.is_control() || !c.is_ascii(), "?"),
            )
            .body(random.mutate(seed.clone()));
        let _ = registry.list_tags(&fake.reference("a:b")).await;
    }
    *cell.lock().unwrap() = Reply::new(200).body(tags);
    assert_eq!(registry.list_tags(&fake.reference("a")).await.unwrap(), ["b", "c"]);
}

/// xorshift64*: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn mutate(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        const WORDS: [&str; 12] = [
            "null",
            "-1",
            "18446744073709551616",
            "[]",
            "{}",
            "\"\"",
            "1e999",
            "\\u0000",
            "true",
            ",",
            "}",
            "\u{fffd}",
        ];
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes.truncate(at),
                2 => drop(bytes.remove(at)),
                3 => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
                4 => {
                    let end = (at + self.below(10)).min(bytes.len());
                    bytes.splice(at..end, WORDS[self.below(WORDS.len())].bytes());
                }
                _ => {
                    let deep = "[".repeat(self.below(3_000));
                    bytes.splice(at..at, deep.bytes());
                }
            }
        }
        bytes
    }
}
