//! The workflow "push": end-4a, end-4b, end-5, end-6, end-7, end-11, end-13, and the end-14 of the versions to come.

use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::{Digest, DigestAlgorithm, DigestHasher};
use engine_core::manifest::MAX_MANIFEST_SIZE;
use serde_json::json;

use crate::client::{Image, Server, on_each_storage};

on_each_storage! {
    end_4a_an_upload_begins_with_a_location
    end_4b_a_blob_is_pushed_in_one_request
    end_4b_wrong_bytes_are_refused
    end_4b_a_malformed_digest_is_refused
    end_5_chunks_come_in_order
    end_5_a_chunk_that_leaves_a_gap_is_refused
    end_5_a_chunk_is_as_long_as_it_says
    end_5_a_stream_needs_no_range
    end_5_an_unknown_upload_is_not_found
    end_6_an_upload_is_closed_with_all_its_bytes
    end_6_an_upload_is_closed_with_its_last_chunk
    end_6_the_last_chunk_has_to_fit
    end_6_an_upload_is_closed_by_its_digest
    end_6_wrong_bytes_are_refused
    end_6_longer_digests_are_known
    end_7_a_manifest_is_pushed_by_tag
    end_7_a_manifest_is_pushed_by_digest
    end_7_wrong_digests_are_refused
    end_7_what_a_manifest_names_has_to_be_there
    end_7_an_index_needs_its_manifests
    end_7_d1_ambiguous_manifests_are_refused
    end_7_d1_large_manifests_are_refused
    end_7_a_malformed_tag_is_refused
    end_7_foreign_layers_are_elsewhere
    end_7_a_subject_is_acknowledged
    end_11_a_blob_is_mounted_from_another_repository
    end_11_a_blob_is_mounted_from_wherever_it_is
    end_11_what_cannot_be_mounted_is_uploaded
    end_13_an_upload_tells_how_far_it_is
    end_14_an_upload_is_cancelled
    an_upload_is_of_one_repository
    a_push_that_broke_goes_on
}

fn digest_at(path: &str, digest: &Digest) -> String {
    format!("{path}?digest={digest}")
}

async fn end_4a_an_upload_begins_with_a_location(server: Server) {
    let said = server.post("/v2/a/b/blobs/uploads/").await.is(202);
    assert!(said.header("location").starts_with("/v2/a/b/blobs/uploads/"), "{said:?}");
    assert_eq!(said.header("range"), "0-0");
    let other = server.post("/v2/a/b/blobs/uploads/").await.is(202);
    assert_ne!(other.header("location"), said.header("location"));
    // Nothing is there yet.
    server.get("/v2/a/b/tags/list").await.fails(404, "NAME_UNKNOWN");
}

async fn end_4b_a_blob_is_pushed_in_one_request(server: Server) {
    let digest = Digest::sha256(b"content");
    let said = server.send("POST", &digest_at("/v2/a/blobs/uploads/", &digest), &[], "content").await.is(201);
    let location = format!("/v2/a/blobs/{digest}");
    assert_eq!(said.header("location"), location);
    assert_eq!(said.header("docker-content-digest"), digest.to_string());
    assert_eq!(server.get(&location).await.is(200).body, "content");
    // Once more is fine.
    server.send("POST", &digest_at("/v2/a/blobs/uploads/", &digest), &[], "content").await.is(201);
}

async fn end_4b_wrong_bytes_are_refused(server: Server) {
    let digest = Digest::sha256(b"content");
    let path = digest_at("/v2/a/blobs/uploads/", &digest);
    server.send("POST", &path, &[], "other").await.fails(400, "DIGEST_INVALID");
    server.send("POST", &path, &[], "").await.fails(400, "DIGEST_INVALID");
    server.get(&format!("/v2/a/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    server.get(&format!("/v2/a/blobs/{}", Digest::sha256(b"other"))).await.fails(404, "BLOB_UNKNOWN");
}

async fn end_4b_a_malformed_digest_is_refused(server: Server) {
    for digest in ["", "x", "sha256:x", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        server.send("POST", &path, &[], "content").await.fails(400, "DIGEST_INVALID");
    }
}

async fn end_5_chunks_come_in_order(server: Server) {
    let mut location = server.begin("a").await;
    for (chunk, range, told) in [("0123", "0-3", "0-3"), ("45", "4-5", "0-5"), ("6", "bytes 6-6/7", "0-6")] {
        let headers = [("Content-Range", range), ("Content-Type", "application/octet-stream")];
        let said = server.send("PATCH", &location, &headers, chunk).await.is(202);
        assert_eq!(said.header("range"), told);
        location = said.header("location").to_owned();
    }
    let digest = Digest::sha256(b"0123456");
    server.send("PUT", &digest_at(&location, &digest), &[], "").await.is(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, "0123456");
}

async fn end_5_a_chunk_that_leaves_a_gap_is_refused(server: Server) {
    let location = server.begin("a").await;
    server
        .send("PATCH", &location, &[("Content-Range", "1-3")], "123")
        .await
        .fails(416, "BLOB_UPLOAD_INVALID");
    server.send("PATCH", &location, &[("Content-Range", "0-3")], "0123").await.is(202);
    for range in ["0-3", "5-8", "2-5"] {
        let said = server.send("PATCH", &location, &[("Content-Range", range)], "xxxx").await;
        let said = said.fails(416, "BLOB_UPLOAD_INVALID");
        assert_eq!((said.header("range"), said.header("location")), ("0-3", location.as_str()), "{range}");
    }
    // The upload is as good as before.
    server.send("PATCH", &location, &[("Content-Range", "4-4")], "4").await.is(202);
    server.send("PUT", &digest_at(&location, &Digest::sha256(b"01234")), &[], "").await.is(201);
}

async fn end_5_a_chunk_is_as_long_as_it_says(server: Server) {
    let location = server.begin("a").await;
    for range in ["0-9", "0-1"] {
        server.send("PATCH", &location, &[("Content-Range", range)], "0123").await.fails(400, "SIZE_INVALID");
    }
    for range in ["", "x", "3-0", "0", "0-18446744073709551615"] {
        server
            .send("PATCH", &location, &[("Content-Range", range)], "0123")
            .await
            .fails(400, "BLOB_UPLOAD_INVALID");
    }
    // Without a Content-Length, it is counted.
    let stream = || reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("0123")]));
    for range in ["0-9", "0-1"] {
        let location = server.begin("a").await;
        let said = server.send("PATCH", &location, &[("Content-Range", range)], stream()).await;
        said.fails(400, "SIZE_INVALID");
    }
    let location = server.begin("a").await;
    server.send("PATCH", &location, &[("Content-Range", "0-3")], stream()).await.is(202);
}

async fn end_5_a_stream_needs_no_range(server: Server) {
    let location = server.begin("a").await;
    let pieces = (0..100_u8).map(|n| Ok::<_, std::io::Error>(vec![n; 10_000]));
    let whole: Vec<u8> = (0..100_u8).flat_map(|n| vec![n; 10_000]).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let said = server.send("PATCH", &location, &[], body).await.is(202);
    assert_eq!(said.header("range"), "0-999999");
    let digest = Digest::sha256(&whole);
    server.send("PUT", &digest_at(&location, &digest), &[], "").await.is(201);
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body == whole);
}

async fn end_5_an_unknown_upload_is_not_found(server: Server) {
    let unknown = format!("/v2/a/blobs/uploads/{}", "0".repeat(32));
    for path in [unknown.as_str(), "/v2/a/blobs/uploads/x", "/v2/a/blobs/uploads/x%2e%2e"] {
        server.send("PATCH", path, &[], "x").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        let put = digest_at(path, &Digest::sha256(b"x"));
        server.send("PUT", &put, &[], "x").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        server.send("PUT", &put, &[("Content-Length", "0")], "").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        server.get(path).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        server.delete(path).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

async fn end_6_an_upload_is_closed_with_all_its_bytes(server: Server) {
    let (location, digest) = (server.begin("a").await, Digest::sha256(b"content"));
    let said = server.send("PUT", &digest_at(&location, &digest), &[], "content").await.is(201);
    assert_eq!(said.header("location"), format!("/v2/a/blobs/{digest}"));
    assert_eq!(said.header("docker-content-digest"), digest.to_string());
    server.get(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
}

async fn end_6_an_upload_is_closed_with_its_last_chunk(server: Server) {
    let (location, digest) = (server.begin("a").await, Digest::sha256(b"0123456789"));
    server.send("PATCH", &location, &[("Content-Range", "0-4")], "01234").await.is(202);
    let path = digest_at(&location, &digest);
    server.send("PUT", &path, &[("Content-Range", "5-9")], "56789").await.is(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, "0123456789");
}

async fn end_6_the_last_chunk_has_to_fit(server: Server) {
    let (location, digest) = (server.begin("a").await, Digest::sha256(b"0123456789"));
    server.send("PATCH", &location, &[("Content-Range", "0-4")], "01234").await.is(202);
    let path = digest_at(&location, &digest);
    server.send("PUT", &path, &[("Content-Range", "6-9")], "6789").await.fails(416, "BLOB_UPLOAD_INVALID");
    server.send("PUT", &path, &[("Content-Range", "5-9")], "56789").await.is(201);
}

async fn end_6_an_upload_is_closed_by_its_digest(server: Server) {
    let location = server.begin("a").await;
    server.send("PATCH", &location, &[], "content").await.is(202);
    server.send("PUT", &location, &[], "").await.fails(400, "DIGEST_INVALID");
    server.send("PUT", &format!("{location}?digest=x"), &[], "").await.fails(400, "DIGEST_INVALID");
    // Escaped, as Go's clients do.
    let digest = Digest::sha256(b"content").to_string().replace(':', "%3A");
    server.send("PUT", &format!("{location}?digest={digest}"), &[], "").await.is(201);
}

async fn end_6_wrong_bytes_are_refused(server: Server) {
    let (location, digest) = (server.begin("a").await, Digest::sha256(b"content"));
    server.send("PATCH", &location, &[], "other").await.is(202);
    server.send("PUT", &digest_at(&location, &digest), &[], "").await.fails(400, "DIGEST_INVALID");
    server.get(&format!("/v2/a/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    server.get(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
}

async fn end_6_longer_digests_are_known(server: Server) {
    let mut hasher = DigestHasher::new(DigestAlgorithm::Sha512);
    hasher.update(b"content");
    let digest = hasher.finish();
    let location = server.begin("a").await;
    server.send("PUT", &digest_at(&location, &digest), &[], "content").await.is(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body, "content");
}

async fn end_7_a_manifest_is_pushed_by_tag(server: Server) {
    let image = Image::new("x");
    server.push_blob("a", &image.config).await;
    server.push_blob("a", &image.layer).await;
    let said = server.put("a", "v1", media_type::OCI_MANIFEST, &image.text).await.is(201);
    assert_eq!(said.header("location"), format!("/v2/a/manifests/{}", image.digest));
    assert_eq!(said.header("docker-content-digest"), image.digest.to_string());
    server.put("a", "v1", media_type::OCI_MANIFEST, &image.text).await.is(201);
    let parameter = format!("{}; charset=utf-8", media_type::OCI_MANIFEST);
    server.put("a", "v2", &parameter, &image.text).await.is(201);
    assert_eq!(server.get("/v2/a/manifests/v2").await.header("content-type"), media_type::OCI_MANIFEST);
}

async fn end_7_a_manifest_is_pushed_by_digest(server: Server) {
    let image = Image::new("x");
    server.push_blob("a", &image.config).await;
    server.push_blob("a", &image.layer).await;
    let digest = image.digest.to_string();
    server.put("a", &digest, media_type::OCI_MANIFEST, &image.text).await.is(201);
    assert_eq!(server.get("/v2/a/tags/list").await.is(200).json()["tags"], json!([]));
    let mut hasher = DigestHasher::new(DigestAlgorithm::Sha512);
    hasher.update(image.text.as_bytes());
    let long = hasher.finish().to_string();
    let said = server.put("a", &long, media_type::OCI_MANIFEST, &image.text).await.is(201);
    assert_eq!(said.header("docker-content-digest"), long);
    assert_eq!(server.get(&format!("/v2/a/manifests/{long}")).await.is(200).body, image.text);
}

async fn end_7_wrong_digests_are_refused(server: Server) {
    let image = server.push_image("a", "v1").await;
    let other = Digest::sha256(b"other").to_string();
    server.put("a", &other, media_type::OCI_MANIFEST, &image.text).await.fails(400, "DIGEST_INVALID");
    server.put("a", "sha256:x", media_type::OCI_MANIFEST, &image.text).await.fails(400, "DIGEST_INVALID");
    server.get(&format!("/v2/a/manifests/{other}")).await.fails(404, "MANIFEST_UNKNOWN");
}

async fn end_7_what_a_manifest_names_has_to_be_there(server: Server) {
    let image = Image::new("x");
    // Elsewhere is not here.
    server.push_blob("b", &image.config).await;
    server.push_blob("b", &image.layer).await;
    let said = server
        .put("a", "v1", media_type::OCI_MANIFEST, &image.text)
        .await
        .fails(404, "MANIFEST_BLOB_UNKNOWN");
    let errors = said.json()["errors"].as_array().unwrap().clone();
    let mut named: Vec<&str> =
        errors.iter().map(|error| error["detail"]["digest"].as_str().unwrap()).collect();
    let mut wanted = [Digest::sha256(&image.config).to_string(), Digest::sha256(&image.layer).to_string()];
    named.sort_unstable();
    wanted.sort();
    assert_eq!(named, wanted);
    server.push_blob("a", &image.config).await;
    let said = server
        .put("a", "v1", media_type::OCI_MANIFEST, &image.text)
        .await
        .fails(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(said.json()["errors"].as_array().unwrap().len(), 1);
    server.get("/v2/a/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    server.push_blob("a", &image.layer).await;
    server.put("a", "v1", media_type::OCI_MANIFEST, &image.text).await.is(201);
}

async fn end_7_an_index_needs_its_manifests(server: Server) {
    let (image, absent) = (server.push_image("a", "v1").await, Image::new("absent"));
    let index = |entries: &[Descriptor]| {
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries }).to_string()
    };
    let text = index(&[image.descriptor(), absent.descriptor()]);
    server.put("a", "all", media_type::OCI_INDEX, &text).await.fails(404, "MANIFEST_BLOB_UNKNOWN");
    let text = index(&[image.descriptor()]);
    server.put("a", "all", media_type::OCI_INDEX, &text).await.is(201);
    let said = server.get("/v2/a/manifests/all").await.is(200);
    assert_eq!((said.header("content-type"), &said.body[..]), (media_type::OCI_INDEX, text.as_bytes()));
    server.put("a", "none", media_type::OCI_INDEX, &index(&[])).await.is(201);
}

async fn end_7_d1_ambiguous_manifests_are_refused(server: Server) {
    let image = server.push_image("a", "v1").await;
    let (config, layers) = (
        Descriptor::of(media_type::OCI_CONFIG, &image.config),
        [Descriptor::of(media_type::OCI_LAYER, &image.layer)],
    );
    let both = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": config, "layers": layers, "manifests": [image.descriptor()],
    });
    let mut as_index = both.clone();
    as_index["mediaType"] = json!(media_type::OCI_INDEX);
    for (kind, text) in [
        (media_type::OCI_MANIFEST, both.to_string()),
        (media_type::OCI_INDEX, as_index.to_string()),
        // It calls itself something else than the request does.
        (media_type::DOCKER_MANIFEST, image.text.clone()),
        (media_type::OCI_INDEX, image.text.clone()),
        ("application/json", image.text.clone()),
        (
            media_type::DOCKER_MANIFEST,
            json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string(),
        ),
        (
            media_type::OCI_MANIFEST,
            json!({ "schemaVersion": 1, "config": config, "layers": layers }).to_string(),
        ),
        (media_type::OCI_MANIFEST, json!({ "schemaVersion": 2, "layers": layers }).to_string()),
        (media_type::OCI_MANIFEST, "{".to_owned()),
        (media_type::OCI_MANIFEST, String::new()),
        (media_type::OCI_MANIFEST, "[]".to_owned()),
        ("application/vnd.docker.distribution.manifest.v1+json", json!({ "schemaVersion": 1 }).to_string()),
    ] {
        server.put("a", "bad", kind, &text).await.fails(400, "MANIFEST_INVALID");
    }
    let said = server.send("PUT", "/v2/a/manifests/bad", &[], image.text.clone()).await;
    said.fails(400, "MANIFEST_INVALID");
    server.get("/v2/a/manifests/bad").await.fails(404, "MANIFEST_UNKNOWN");
}

async fn end_7_d1_large_manifests_are_refused(server: Server) {
    let limit = usize::try_from(MAX_MANIFEST_SIZE).unwrap();
    let image = server.push_image("a", "v1").await;
    let spaces = |size: usize| format!("{}{}", image.text, " ".repeat(size - image.text.len()));
    server.put("a", "full", media_type::OCI_MANIFEST, &spaces(limit)).await.is(201);
    assert_eq!(server.get("/v2/a/manifests/full").await.is(200).body.len(), limit);
    server.put("a", "over", media_type::OCI_MANIFEST, &spaces(limit + 1)).await.fails(413, "SIZE_INVALID");
    server.get("/v2/a/manifests/over").await.fails(404, "MANIFEST_UNKNOWN");
}

async fn end_7_a_malformed_tag_is_refused(server: Server) {
    let image = server.push_image("a", "v1").await;
    let long = "x".repeat(129);
    for tag in [".x", "-x", "a%20b", "%C3%A4", &long] {
        server.put("a", tag, media_type::OCI_MANIFEST, &image.text).await.fails(400, "MANIFEST_INVALID");
    }
    assert_eq!(server.get("/v2/a/tags/list").await.json()["tags"], json!(["v1"]));
}

async fn end_7_foreign_layers_are_elsewhere(server: Server) {
    let config = server.push_blob("a", b"{}").await;
    let text = json!({
        "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST,
        "config": { "mediaType": media_type::DOCKER_CONFIG, "digest": config, "size": 2 },
        "layers": [{
            "mediaType": media_type::DOCKER_LAYER_FOREIGN, "digest": Digest::sha256(b"foreign"), "size": 7,
            "urls": ["https://elsewhere.example/layer"],
        }],
    });
    server.put("a", "v1", media_type::DOCKER_MANIFEST, &text.to_string()).await.is(201);
}

async fn end_7_a_subject_is_acknowledged(server: Server) {
    let subject = Image::new("not pushed");
    let image = Image::with("signature", json!({ "subject": subject.descriptor() }));
    server.push_blob("a", &image.config).await;
    server.push_blob("a", &image.layer).await;
    let digest = image.digest.to_string();
    let said = server.put("a", &digest, media_type::OCI_MANIFEST, &image.text).await.is(201);
    assert_eq!(said.header("oci-subject"), subject.digest.to_string());
    let said = server.push_image("a", "v1").await;
    let said = server.put("a", "v1", media_type::OCI_MANIFEST, &said.text).await.is(201);
    assert!(!said.headers.contains_key("oci-subject"));
}

async fn end_11_a_blob_is_mounted_from_another_repository(server: Server) {
    let digest = server.push_blob("from", b"content").await;
    let said = server.post(&format!("/v2/to/blobs/uploads/?mount={digest}&from=from")).await.is(201);
    assert_eq!(said.header("location"), format!("/v2/to/blobs/{digest}"));
    assert_eq!(said.header("docker-content-digest"), digest.to_string());
    assert_eq!(server.get(&format!("/v2/to/blobs/{digest}")).await.is(200).body, "content");
}

async fn end_11_a_blob_is_mounted_from_wherever_it_is(server: Server) {
    let digest = server.push_blob("somewhere", b"content").await;
    server.post(&format!("/v2/to/blobs/uploads/?mount={digest}")).await.is(201);
    server.head(&format!("/v2/to/blobs/{digest}")).await.is(200);
}

async fn end_11_what_cannot_be_mounted_is_uploaded(server: Server) {
    let digest = server.push_blob("from", b"content").await;
    let absent = Digest::sha256(b"absent");
    for query in [
        format!("mount={digest}&from=nobody"),
        format!("mount={absent}&from=from"),
        format!("mount={absent}"),
        format!("mount={digest}&from=../from"),
    ] {
        let said = server.post(&format!("/v2/to/blobs/uploads/?{query}")).await.is(202);
        assert!(said.header("location").starts_with("/v2/to/blobs/uploads/"), "{query}");
    }
    server.post("/v2/to/blobs/uploads/?mount=x&from=from").await.fails(400, "DIGEST_INVALID");
    server.head(&format!("/v2/to/blobs/{digest}")).await.is(404);
}

async fn end_13_an_upload_tells_how_far_it_is(server: Server) {
    let location = server.begin("a").await;
    let said = server.get(&location).await.is(204);
    assert_eq!((said.header("range"), said.header("location")), ("0-0", location.as_str()));
    server.send("PATCH", &location, &[], "0123456789").await.is(202);
    let said = server.get(&location).await.is(204);
    assert_eq!((said.header("range"), said.header("location")), ("0-9", location.as_str()));
}

async fn end_14_an_upload_is_cancelled(server: Server) {
    let location = server.begin("a").await;
    server.send("PATCH", &location, &[], "content").await.is(202);
    server.delete(&location).await.is(204);
    server.delete(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    server.get(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    server.send("PATCH", &location, &[], "x").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
}

async fn an_upload_is_of_one_repository(server: Server) {
    let location = server.begin("mine").await;
    let other = location.replace("/mine/", "/other/");
    server.send("PATCH", &other, &[], "x").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    server.get(&other).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    server.delete(&other).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    server.get(&location).await.is(204);
}

/// A client that goes away in the middle of a body finds what arrived, and sends the rest.
async fn a_push_that_broke_goes_on(server: Server) {
    use tokio::io::AsyncWriteExt as _;
    let location = server.begin("a").await;
    let whole: Vec<u8> = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", whole.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&whole[..600_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let mut tries = 0;
    loop {
        let said = server.get(&location).await.is(204);
        let last: usize = said.header("range").strip_prefix("0-").unwrap().parse().unwrap();
        let at = if last == 0 { 0 } else { last + 1 };
        assert!(at <= 600_000, "{at}");
        let range = format!("{at}-{}", whole.len() - 1);
        let said = server.send("PATCH", &location, &[("Content-Range", &range)], whole[at..].to_vec()).await;
        if said.status == 202 {
            break;
        }
        // The server has not noticed yet, or got more meanwhile.
        assert!(matches!(said.status, 416 | 503) && tries < 200, "{said:?}");
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let digest = Digest::sha256(&whole);
    server.send("PUT", &digest_at(&location, &digest), &[], "").await.is(201);
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).await.is(200).body == whole);
}
