//! The workflows "discover" and "manage": end-8a, end-8b, end-9, end-10, end-12a, end-12b, and the catalog.

use engine_core::descriptor::media_type;
use engine_core::digest::Digest;
use engine_registry::server::Policy;
use serde_json::{Value, json};

use crate::client::{Image, Server, on_each_storage};

on_each_storage! {
    end_8a_tags_are_listed_in_order
    end_8a_an_unknown_repository_has_no_tags
    end_8b_tags_are_listed_page_by_page
    end_8b_a_page_has_a_number_of_entries
    end_9_a_tag_is_deleted_alone
    end_9_a_manifest_is_deleted_with_its_tags
    end_9_what_is_not_there_is_not_found
    end_10_a_blob_is_deleted
    end_10_d5_a_deleted_blob_stays_gone_while_others_have_it
    end_12a_referrers_are_listed
    end_12a_a_subject_that_is_not_there_has_none
    end_12a_a_malformed_digest_is_invalid
    end_12b_referrers_are_filtered
    end_12b_referrers_are_listed_page_by_page
    end_12a_large_annotations_make_short_pages
    repositories_are_listed_page_by_page
}

async fn tags(server: &Server, path: &str) -> (Vec<String>, Option<String>) {
    let said = server.get(path).await.is(200);
    assert_eq!(said.header("content-type"), "application/json");
    (serde_json::from_value(said.json()["tags"].clone()).unwrap(), said.next())
}

async fn end_8a_tags_are_listed_in_order(server: Server) {
    for tag in ["b", "a", "10", "9", "B"] {
        server.push_image("a/b", tag).await;
    }
    let said = server.get("/v2/a/b/tags/list").await.is(200);
    assert_eq!(said.json(), json!({ "name": "a/b", "tags": ["10", "9", "B", "a", "b"] }));
    assert_eq!(said.next(), None);
}

async fn end_8a_an_unknown_repository_has_no_tags(server: Server) {
    server.get("/v2/none/tags/list").await.fails(404, "NAME_UNKNOWN");
    server.push_image("a/b", "v1").await;
    server.get("/v2/a/tags/list").await.fails(404, "NAME_UNKNOWN");
}

async fn end_8b_tags_are_listed_page_by_page(server: Server) {
    let image = server.push_image("a", "t0").await;
    for number in 1..7 {
        server.put("a", &format!("t{number}"), media_type::OCI_MANIFEST, &image.text).await.is(201);
    }
    let (mut found, mut next, mut pages) = (Vec::new(), Some("/v2/a/tags/list?n=3".to_owned()), 0);
    while let Some(path) = next {
        let (page, more) = tags(&server, &path).await;
        assert!(page.len() <= 3);
        found.extend(page);
        (next, pages) = (more, pages + 1);
    }
    assert_eq!((found, pages), ((0..7).map(|number| format!("t{number}")).collect(), 3));
    assert_eq!(tags(&server, "/v2/a/tags/list?last=t4").await, (vec!["t5".into(), "t6".into()], None));
    assert_eq!(tags(&server, "/v2/a/tags/list?n=2&last=t3x").await.0, ["t4", "t5"]);
    assert_eq!(tags(&server, "/v2/a/tags/list?last=zzz").await, (vec![], None));
    assert_eq!(tags(&server, "/v2/a/tags/list?n=7").await.1, None, "there are no more");
}

async fn end_8b_a_page_has_a_number_of_entries(server: Server) {
    server.push_image("a", "v1").await;
    assert_eq!(tags(&server, "/v2/a/tags/list?n=0").await, (vec![], None));
    for n in ["2147483648", "18446744073709551616", "1001"] {
        assert_eq!(tags(&server, &format!("/v2/a/tags/list?n={n}")).await.0, ["v1"]);
    }
    for n in ["-1", "x", "", "1.5"] {
        let path = format!("/v2/a/tags/list?n={n}");
        server.get(&path).await.fails(400, "PAGINATION_NUMBER_INVALID");
    }
}

async fn end_9_a_tag_is_deleted_alone(server: Server) {
    let image = server.push_image("a", "v1").await;
    server.put("a", "v2", media_type::OCI_MANIFEST, &image.text).await.is(201);
    server.delete("/v2/a/manifests/v1").await.is(202);
    server.get("/v2/a/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/v2").await.is(200);
    server.get(&format!("/v2/a/manifests/{}", image.digest)).await.is(200);
    assert_eq!(tags(&server, "/v2/a/tags/list").await.0, ["v2"]);
}

async fn end_9_a_manifest_is_deleted_with_its_tags(server: Server) {
    let image = server.push_image("a", "v1").await;
    server.put("a", "v2", media_type::OCI_MANIFEST, &image.text).await.is(201);
    let other = server.push_image("a", "v3").await;
    let path = format!("/v2/a/manifests/{}", image.digest);
    server.delete(&path).await.is(202);
    for path in [path.as_str(), "/v2/a/manifests/v1", "/v2/a/manifests/v2"] {
        server.get(path).await.fails(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(server.get("/v2/a/manifests/v3").await.is(200).body, other.text);
    assert_eq!(tags(&server, "/v2/a/tags/list").await.0, ["v3"]);
    // It can come again.
    server.put("a", "v1", media_type::OCI_MANIFEST, &image.text).await.is(201);
}

async fn end_9_what_is_not_there_is_not_found(server: Server) {
    let image = server.push_image("a", "v1").await;
    server.delete("/v2/a/manifests/v2").await.fails(404, "MANIFEST_UNKNOWN");
    server.delete("/v2/b/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    server.delete(&format!("/v2/b/manifests/{}", image.digest)).await.fails(404, "MANIFEST_UNKNOWN");
    server.delete("/v2/a/manifests/sha256:x").await.fails(400, "DIGEST_INVALID");
    server.get("/v2/a/manifests/v1").await.is(200);
}

async fn end_10_a_blob_is_deleted(server: Server) {
    let digest = server.push_blob("a", b"content").await;
    let path = format!("/v2/a/blobs/{digest}");
    server.delete(&path).await.is(202);
    server.get(&path).await.fails(404, "BLOB_UNKNOWN");
    server.delete(&path).await.fails(404, "BLOB_UNKNOWN");
    server.delete("/v2/a/blobs/sha256:x").await.fails(400, "DIGEST_INVALID");
    server.push_blob("a", b"content").await;
    server.get(&path).await.is(200);
}

async fn end_10_d5_a_deleted_blob_stays_gone_while_others_have_it(server: Server) {
    let image = server.push_image("b", "v1").await;
    let digest = server.push_blob("a", &image.layer).await;
    let path = format!("/v2/a/blobs/{digest}");
    server.delete(&path).await.is(202);
    // Whatever happens in the other repository.
    server.push_image("b", "v2").await;
    server.get(&format!("/v2/b/blobs/{digest}")).await.is(200);
    server.get(&path).await.fails(404, "BLOB_UNKNOWN");
    server.head(&path).await.is(404);
    server.post(&format!("/v2/c/blobs/uploads/?mount={digest}&from=a")).await.is(202);
}

/// Pushes a manifest about `subject`, and returns its digest.
async fn refer(server: &Server, subject: &Image, seed: &str, more: Value) -> Digest {
    let mut fields = json!({ "subject": subject.descriptor() });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let image = Image::with(seed, fields);
    server.push_blob("a", &image.config).await;
    server.push_blob("a", &image.layer).await;
    server.put("a", &image.digest.to_string(), media_type::OCI_MANIFEST, &image.text).await.is(201);
    image.digest
}

async fn end_12a_referrers_are_listed(server: Server) {
    let subject = server.push_image("a", "v1").await;
    let kind = json!({ "artifactType": "application/signature", "annotations": { "by": "me" } });
    let signature = refer(&server, &subject, "signature", kind).await;
    let plain = refer(&server, &subject, "plain", json!({})).await;
    let said = server.get(&format!("/v2/a/referrers/{}", subject.digest)).await.is(200);
    assert_eq!(said.header("content-type"), media_type::OCI_INDEX);
    assert!(!said.headers.contains_key("oci-filters-applied"));
    let index = said.json();
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(media_type::OCI_INDEX)));
    let entries = index["manifests"].as_array().unwrap();
    let of = |digest: &Digest| entries.iter().find(|entry| entry["digest"] == digest.to_string()).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(of(&signature)["artifactType"], "application/signature");
    assert_eq!(of(&signature)["annotations"], json!({ "by": "me" }));
    assert_eq!(of(&signature)["mediaType"], media_type::OCI_MANIFEST);
    // Without a type of its own, it has its configuration's.
    assert_eq!(of(&plain)["artifactType"], media_type::OCI_CONFIG);
    server.delete(&format!("/v2/a/manifests/{signature}")).await.is(202);
    let left = server.get(&format!("/v2/a/referrers/{}", subject.digest)).await.is(200).json();
    assert_eq!(left["manifests"].as_array().unwrap().len(), 1);
}

async fn end_12a_a_subject_that_is_not_there_has_none(server: Server) {
    let digest = Digest::sha256(b"nobody pushed this");
    for path in [format!("/v2/none/referrers/{digest}"), format!("/v2/a/referrers/{digest}")] {
        let said = server.get(&path).await.is(200);
        assert_eq!(
            (said.header("content-type"), &said.json()["manifests"]),
            (media_type::OCI_INDEX, &json!([]))
        );
        server.push_image("a", "v1").await;
    }
    // One that refers to it may come before it.
    let subject = Image::new("later");
    let signature = refer(&server, &subject, "signature", json!({})).await;
    let said = server.get(&format!("/v2/a/referrers/{}", subject.digest)).await.is(200).json();
    assert_eq!(said["manifests"][0]["digest"], signature.to_string());
    // And belongs to its repository.
    let said = server.get(&format!("/v2/b/referrers/{}", subject.digest)).await.is(200).json();
    assert_eq!(said["manifests"], json!([]));
}

async fn end_12a_a_malformed_digest_is_invalid(server: Server) {
    for digest in ["x", "sha256:x", "v1"] {
        server.get(&format!("/v2/a/referrers/{digest}")).await.fails(400, "DIGEST_INVALID");
    }
}

async fn end_12b_referrers_are_filtered(server: Server) {
    let subject = server.push_image("a", "v1").await;
    let wanted = refer(&server, &subject, "one", json!({ "artifactType": "application/a+b" })).await;
    refer(&server, &subject, "two", json!({ "artifactType": "application/other" })).await;
    let path = format!("/v2/a/referrers/{}?artifactType=application%2Fa%2Bb", subject.digest);
    let said = server.get(&path).await.is(200);
    assert_eq!(said.header("oci-filters-applied"), "artifactType");
    let entries = said.json()["manifests"].as_array().unwrap().clone();
    assert_eq!((entries.len(), &entries[0]["digest"]), (1, &json!(wanted)));
    let path = format!("/v2/a/referrers/{}?artifactType=none", subject.digest);
    assert_eq!(server.get(&path).await.is(200).json()["manifests"], json!([]));
}

async fn end_12b_referrers_are_listed_page_by_page(server: Server) {
    let subject = server.push_image("a", "v1").await;
    let mut pushed = Vec::new();
    for number in 0..5 {
        let kind = json!({ "artifactType": "a/b" });
        pushed.push(refer(&server, &subject, &number.to_string(), kind).await.to_string());
        refer(&server, &subject, &format!("other {number}"), json!({})).await;
    }
    pushed.sort();
    let mut found = Vec::new();
    let mut next = Some(format!("/v2/a/referrers/{}?n=2&artifactType=a/b", subject.digest));
    while let Some(path) = next {
        let said = server.get(&path).await.is(200);
        assert_eq!(said.header("oci-filters-applied"), "artifactType");
        let page = said.json()["manifests"].as_array().unwrap().clone();
        found.extend(page.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()));
        next = said.next();
    }
    assert_eq!(found, pushed);
}

/// A client reads 4 MiB of a list (SECURITY D5: memory by query).
async fn end_12a_large_annotations_make_short_pages(server: Server) {
    if server.dir.is_none() {
        // Who keeps everything in memory has it there anyway.
        return;
    }
    let subject = server.push_image("a", "v1").await;
    for number in 0..3 {
        let annotations = json!({ "annotations": { "large": "x".repeat(2 << 20) } });
        refer(&server, &subject, &number.to_string(), annotations).await;
    }
    let (mut next, mut pages) = (Some(format!("/v2/a/referrers/{}", subject.digest)), 0);
    while let Some(path) = next {
        let said = server.get(&path).await.is(200);
        assert!(said.body.len() < 4 << 20, "{}", said.body.len());
        (next, pages) = (said.next(), pages + 1);
    }
    assert_eq!(pages, 3);
}

async fn repositories_are_listed_page_by_page(server: Server) {
    assert_eq!(server.get("/v2/_catalog").await.is(200).json(), json!({ "repositories": [] }));
    for name in ["b", "a/b", "a", "c"] {
        server.push_image(name, "v1").await;
    }
    let said = server.get("/v2/_catalog").await.is(200);
    assert_eq!((said.json(), said.next()), (json!({ "repositories": ["a", "a/b", "b", "c"] }), None));
    let said = server.get("/v2/_catalog?n=2").await.is(200);
    assert_eq!(said.json(), json!({ "repositories": ["a", "a/b"] }));
    let next = said.next().unwrap();
    assert_eq!(next, "/v2/_catalog?n=2&last=a%2Fb");
    let said = server.get(&next).await.is(200);
    assert_eq!((said.json(), said.next()), (json!({ "repositories": ["b", "c"] }), None));
    assert_eq!(server.get("/v2/_catalog?n=2147483648").await.is(200).next(), None);
    server.get("/v2/_catalog?n=x").await.fails(400, "PAGINATION_NUMBER_INVALID");
}

#[tokio::test]
async fn d5_a_registry_that_keeps_deletes_nothing_by_any_route() {
    let server = Server::with_policy(Policy::default().with_keep(true)).await;
    let image = server.push_image("a", "v1").await;
    let layer = Digest::sha256(&image.layer);
    for path in [
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/manifests/{}", image.digest),
        format!("/v2/a/blobs/{layer}"),
        "/v2/a/manifests/nothing".to_owned(),
    ] {
        server.delete(&path).await.fails(405, "UNSUPPORTED");
    }
    server.get("/v2/a/manifests/v1").await.is(200);
    server.get(&format!("/v2/a/blobs/{layer}")).await.is(200);
    // An upload is nothing that is kept.
    let location = server.begin("a").await;
    server.delete(&location).await.is(204);
}

#[tokio::test]
async fn a_read_only_registry_takes_nothing() {
    let server = Server::with_policy(Policy::default().with_read_only(true)).await;
    let (image, digest) = (Image::new("x"), Digest::sha256(b"x"));
    server.post("/v2/a/blobs/uploads/").await.fails(405, "UNSUPPORTED");
    server.post(&format!("/v2/a/blobs/uploads/?mount={digest}")).await.fails(405, "UNSUPPORTED");
    server.put("a", "v1", media_type::OCI_MANIFEST, &image.text).await.fails(405, "UNSUPPORTED");
    server.delete("/v2/a/manifests/v1").await.fails(405, "UNSUPPORTED");
    let upload = format!("/v2/a/blobs/uploads/{}", "0".repeat(32));
    server.send("PATCH", &upload, &[], "x").await.fails(405, "UNSUPPORTED");
    server.get("/v2/_catalog").await.is(200);
}
