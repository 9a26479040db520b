//! The workflow "pull": end-1, end-2, end-3.

use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use serde_json::json;

use crate::client::{Server, on_each_storage};

on_each_storage! {
    end_1_says_that_there_is_a_registry
    end_1_other_methods_are_not_allowed
    end_1_other_paths_are_not_found
    end_2_a_blob_is_got
    end_2_a_blob_s_head_has_its_size
    end_2_an_unknown_blob_is_not_found
    end_2_a_malformed_digest_is_invalid
    end_2_a_malformed_name_is_invalid
    end_2_a_part_of_a_blob_is_got
    end_2_a_range_beyond_the_blob_is_not_satisfiable
    end_2_a_blob_that_is_known_is_not_sent
    end_2_a_blob_of_another_repository_is_not_found
    end_2_a_large_blob_arrives_whole
    end_3_a_manifest_is_got_by_tag_and_digest
    end_3_a_manifest_s_head_has_its_digest
    end_3_an_unknown_manifest_is_not_found
    end_3_a_manifest_that_is_known_is_not_sent
    end_3_a_manifest_is_sent_to_who_accepts_it
    end_3_a_list_becomes_an_image_for_who_knows_no_lists
    end_3_names_may_be_nested_and_look_like_end_points
}

async fn end_1_says_that_there_is_a_registry(server: Server) {
    for path in ["/v2/", "/v2"] {
        server.get(path).await.is(200);
        server.head(path).await.is(200);
    }
}

async fn end_1_other_methods_are_not_allowed(server: Server) {
    let said = server.send("PATCH", "/v2/", &[], "").await.fails(405, "UNSUPPORTED");
    assert_eq!(said.header("allow"), "GET, HEAD");
    let digest = Digest::sha256(b"");
    for (method, path) in [
        ("PUT", format!("/v2/a/blobs/{digest}")),
        ("GET", "/v2/a/blobs/uploads/".to_owned()),
        ("POST", "/v2/a/manifests/x".to_owned()),
        ("DELETE", "/v2/a/tags/list".to_owned()),
        ("POST", format!("/v2/a/referrers/{digest}")),
        ("OPTIONS", "/v2/_catalog".to_owned()),
        ("POST", "/v2/a/blobs/uploads/x".to_owned()),
    ] {
        let said = server.send(method, &path, &[], "").await.fails(405, "UNSUPPORTED");
        assert!(!said.header("allow").contains(method), "{method} {path}");
    }
}

async fn end_1_other_paths_are_not_found(server: Server) {
    for path in ["/v2/a", "/v2/a/b/c", "/v2/a/tags/x", "/v2/_catalog/x"] {
        server.get(path).await.fails(404, "NAME_UNKNOWN");
    }
    for path in ["/", "/v1/", "/v2x/"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
}

async fn end_2_a_blob_is_got(server: Server) {
    let digest = server.push_blob("a/b", b"content").await;
    let said = server.get(&format!("/v2/a/b/blobs/{digest}")).await.is(200);
    assert_eq!(said.body, "content");
    assert_eq!(said.header("docker-content-digest"), digest.to_string());
    assert_eq!(said.header("etag"), format!("\"{digest}\""));
    assert_eq!(said.header("content-length"), "7");
    assert_eq!(said.header("accept-ranges"), "bytes");
    assert_eq!(said.header("content-type"), "application/octet-stream");
    let empty = server.push_blob("a/b", b"").await;
    assert_eq!(server.get(&format!("/v2/a/b/blobs/{empty}")).await.is(200).body, "");
}

async fn end_2_a_blob_s_head_has_its_size(server: Server) {
    let digest = server.push_blob("a", b"content").await;
    let said = server.head(&format!("/v2/a/blobs/{digest}")).await.is(200);
    assert_eq!(
        (said.header("content-length"), said.header("docker-content-digest")),
        ("7", &*digest.to_string())
    );
}

async fn end_2_an_unknown_blob_is_not_found(server: Server) {
    let digest = Digest::sha256(b"nobody pushed this");
    server.get(&format!("/v2/none/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    server.push_blob("some", b"other").await;
    server.get(&format!("/v2/some/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    server.head(&format!("/v2/some/blobs/{digest}")).await.is(404);
}

async fn end_2_a_malformed_digest_is_invalid(server: Server) {
    let hex = "a".repeat(64);
    for digest in
        ["latest", "sha256:", "sha256:xyz", "md5:00", &hex, &format!("sha256:{}", hex.to_uppercase())]
    {
        server.get(&format!("/v2/a/blobs/{digest}")).await.fails(400, "DIGEST_INVALID");
    }
    server.get("/v2/a/manifests/sha256:x").await.fails(400, "DIGEST_INVALID");
}

async fn end_2_a_malformed_name_is_invalid(server: Server) {
    let (digest, long) = (Digest::sha256(b""), "a".repeat(256));
    for name in ["A", "a//b", "a..b", "-a", "a_", "a%2f..%2f..%2fetc", "a%00", "..%2f", &long] {
        server.get(&format!("/v2/{name}/blobs/{digest}")).await.fails(400, "NAME_INVALID");
        server.post(&format!("/v2/{name}/blobs/uploads/")).await.fails(400, "NAME_INVALID");
        server.put(name, "x", media_type::OCI_MANIFEST, "{}").await.fails(400, "NAME_INVALID");
    }
    // As they are: our client would take such components out of the path.
    for name in ["..", "a/../b", "../../etc", "%2e%2e", "a/%2e%2e/b", "."] {
        let said = server.raw(&format!("POST /v2/{name}/blobs/uploads/ HTTP/1.1")).await;
        assert!(said.starts_with("HTTP/1.1 400") && said.contains("NAME_INVALID"), "{name}: {said}");
    }
    assert_eq!(server.get("/v2/_catalog").await.json()["repositories"], json!([]));
}

async fn end_2_a_part_of_a_blob_is_got(server: Server) {
    let digest = server.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    for (range, part, told) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=4-", "456789", "bytes 4-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=9-100", "9", "bytes 9-9/10"),
    ] {
        let said = server.send("GET", &path, &[("Range", range)], "").await.is(206);
        assert_eq!((&said.body[..], said.header("content-range")), (part.as_bytes(), told), "{range}");
        assert_eq!(said.header("content-length"), part.len().to_string());
    }
    for range in ["bytes=0-1,4-5", "lines=1-2", "bytes=x-y", "bytes=5-4"] {
        let said = server.send("GET", &path, &[("Range", range)], "").await.is(200);
        assert_eq!(said.body, "0123456789", "{range}");
    }
    let tag = format!("\"{digest}\"");
    let ranged = [("Range", "bytes=2-3"), ("If-Range", tag.as_str())];
    assert_eq!(server.send("GET", &path, &ranged, "").await.is(206).body, "23");
    let other = [("Range", "bytes=2-3"), ("If-Range", "\"other\"")];
    assert_eq!(server.send("GET", &path, &other, "").await.is(200).body, "0123456789");
}

async fn end_2_a_range_beyond_the_blob_is_not_satisfiable(server: Server) {
    let digest = server.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    for range in ["bytes=10-", "bytes=99-100", "bytes=-0", "bytes=99999999999999999999999-"] {
        let said = server.send("GET", &path, &[("Range", range)], "").await.is(416);
        assert_eq!(said.header("content-range"), "bytes */10", "{range}");
    }
}

async fn end_2_a_blob_that_is_known_is_not_sent(server: Server) {
    let digest = server.push_blob("a", b"content").await;
    let path = format!("/v2/a/blobs/{digest}");
    for tag in
        [format!("\"{digest}\""), format!("W/\"{digest}\""), "*".to_owned(), format!("\"x\", \"{digest}\"")]
    {
        let said = server.send("GET", &path, &[("If-None-Match", &tag)], "").await.is(304);
        assert_eq!((said.body.len(), said.header("etag")), (0, &*format!("\"{digest}\"")));
    }
    server.send("GET", &path, &[("If-None-Match", "\"other\"")], "").await.is(200);
    let unknown = format!("/v2/b/blobs/{digest}");
    server.send("GET", &unknown, &[("If-None-Match", "*")], "").await.fails(404, "BLOB_UNKNOWN");
}

async fn end_2_a_blob_of_another_repository_is_not_found(server: Server) {
    let digest = server.push_blob("mine", b"mine").await;
    for other in ["other", "mine/deeper", "min"] {
        server.get(&format!("/v2/{other}/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    }
}

async fn end_2_a_large_blob_arrives_whole(server: Server) {
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = server.push_blob("large", &bytes).await;
    let path = format!("/v2/large/blobs/{digest}");
    assert!(server.get(&path).await.is(200).body == bytes);
    let said = server.send("GET", &path, &[("Range", "bytes=262143-1048577")], "").await.is(206);
    assert!(said.body == bytes[262_143..=1_048_577]);
}

async fn end_3_a_manifest_is_got_by_tag_and_digest(server: Server) {
    let image = server.push_image("a/b", "v1").await;
    for target in ["v1", &image.digest.to_string()] {
        let said = server.get(&format!("/v2/a/b/manifests/{target}")).await.is(200);
        assert_eq!(said.body, image.text, "byte for byte");
        assert_eq!(said.header("content-type"), media_type::OCI_MANIFEST);
        assert_eq!(said.header("docker-content-digest"), image.digest.to_string());
    }
}

async fn end_3_a_manifest_s_head_has_its_digest(server: Server) {
    let image = server.push_image("a", "v1").await;
    let said = server.head("/v2/a/manifests/v1").await.is(200);
    assert_eq!(said.header("docker-content-digest"), image.digest.to_string());
    assert_eq!(said.header("content-length"), image.text.len().to_string());
    assert_eq!(said.header("content-type"), media_type::OCI_MANIFEST);
}

async fn end_3_an_unknown_manifest_is_not_found(server: Server) {
    let digest = Digest::sha256(b"nobody pushed this").to_string();
    server.get("/v2/none/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    let image = server.push_image("a", "v1").await;
    for target in ["v2", "V1", ".INVALID_MANIFEST_NAME", &digest] {
        server.get(&format!("/v2/a/manifests/{target}")).await.fails(404, "MANIFEST_UNKNOWN");
        server.head(&format!("/v2/a/manifests/{target}")).await.is(404);
    }
    server.get(&format!("/v2/b/manifests/{}", image.digest)).await.fails(404, "MANIFEST_UNKNOWN");
    // A layer is no manifest.
    let layer = Digest::sha256(&image.layer);
    server.get(&format!("/v2/a/manifests/{layer}")).await.fails(404, "MANIFEST_UNKNOWN");
}

async fn end_3_a_manifest_that_is_known_is_not_sent(server: Server) {
    let image = server.push_image("a", "v1").await;
    let tag = format!("\"{}\"", image.digest);
    let said = server.send("GET", "/v2/a/manifests/v1", &[("If-None-Match", &tag)], "").await.is(304);
    assert_eq!(said.body.len(), 0);
    let newer = server.push_image("a", "v1-next").await;
    server.put("a", "v1", media_type::OCI_MANIFEST, &newer.text).await.is(201);
    server.send("GET", "/v2/a/manifests/v1", &[("If-None-Match", &tag)], "").await.is(200);
}

async fn end_3_a_manifest_is_sent_to_who_accepts_it(server: Server) {
    server.push_image("a", "v1").await;
    let docker = format!("{}, {}", media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX);
    for accept in [
        media_type::OCI_MANIFEST,
        "*/*",
        "application/*;q=0.1",
        &format!("{docker}, {}", media_type::OCI_MANIFEST),
    ] {
        server.send("GET", "/v2/a/manifests/v1", &[("Accept", accept)], "").await.is(200);
    }
    for accept in [docker.as_str(), "text/html"] {
        let said = server.send("GET", "/v2/a/manifests/v1", &[("Accept", accept)], "").await;
        assert!(said.fails(404, "MANIFEST_UNKNOWN").json().to_string().contains("does not accept"));
    }
}

async fn end_3_a_list_becomes_an_image_for_who_knows_no_lists(server: Server) {
    let (config, layer) = (b"{}".to_vec(), b"layer".to_vec());
    for blob in [&config, &layer] {
        server.push_blob("multi", blob).await;
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST,
        "config": Descriptor::of(media_type::DOCKER_CONFIG, &config),
        "layers": [Descriptor::of(media_type::DOCKER_LAYER, &layer)],
    });
    let text = manifest.to_string();
    let mut entry =
        serde_json::to_value(Descriptor::of(media_type::DOCKER_MANIFEST, text.as_bytes())).unwrap();
    server.put("multi", entry["digest"].as_str().unwrap(), media_type::DOCKER_MANIFEST, &text).await.is(201);
    entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let list = json!({ "schemaVersion": 2, "mediaType": media_type::DOCKER_INDEX, "manifests": [entry] })
        .to_string();
    server.put("multi", "v1", media_type::DOCKER_INDEX, &list).await.is(201);
    let knows = [("Accept", media_type::DOCKER_INDEX)];
    assert_eq!(server.send("GET", "/v2/multi/manifests/v1", &knows, "").await.is(200).body, list);
    let old = [("Accept", media_type::DOCKER_MANIFEST)];
    let said = server.send("GET", "/v2/multi/manifests/v1", &old, "").await.is(200);
    assert_eq!(
        (said.body, said.headers["content-type"].to_str().unwrap()),
        (text.into(), media_type::DOCKER_MANIFEST)
    );
    // By its digest, nothing else is meant than the list.
    let digest = Digest::sha256(list.as_bytes());
    let said = server.send("GET", &format!("/v2/multi/manifests/{digest}"), &old, "").await.is(200);
    assert_eq!(said.body, list);
}

async fn end_3_names_may_be_nested_and_look_like_end_points(server: Server) {
    for name in ["a/b/c/d/e", "blobs/uploads", "tags/list", "x/manifests/y", "referrers", "a__b/c---d/e.f"] {
        let image = server.push_image(name, "v1").await;
        assert_eq!(server.get(&format!("/v2/{name}/manifests/v1")).await.is(200).body, image.text, "{name}");
        assert_eq!(server.get(&format!("/v2/{name}/tags/list")).await.is(200).json()["name"], name);
    }
}
