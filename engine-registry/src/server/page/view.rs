//! The HTML of pages. All text is escaped by maud: what images say of themselves is their makers' word.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use engine_core::descriptor::Descriptor;
use engine_core::digest::Digest;
use engine_core::image_config::ImageConfig;
use maud::{DOCTYPE, Markup, html};

use super::read::{Content, Layer, Shown};
use crate::server::names::{RepositoryName, Tag, Target};
use crate::server::storage::Page;

fn layout(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header { a href="/" { "Repositories" } }
                main { (content) }
            }
        }
    }
}

pub(super) fn failure(status: StatusCode, text: &str) -> Markup {
    let title = status.canonical_reason().unwrap_or("Error");
    layout(title, &html! { h1 { (title) } p { (text) "." } })
}

/// Links to the first page, and to the one after `last` if there are more.
fn pager(path: &str, is_later: bool, last: Option<&str>) -> Markup {
    let last = last.map(|last| reqwest::Url::parse_with_params("query:", [("last", last)]));
    let query = last.and_then(|url| url.ok()?.query().map(str::to_owned));
    html! {
        @if is_later || query.is_some() {
            nav {
                @if is_later { a href=(path) { "First page" } " " }
                @if let Some(query) = query { a rel="next" href=(format!("{path}?{query}")) { "Next page" } }
            }
        }
    }
}

pub(super) fn repositories(found: &Page<RepositoryName>, is_later: bool) -> Markup {
    let last = found.entries.last().filter(|_| found.more).map(RepositoryName::as_str);
    layout(
        "Repositories",
        &html! {
            h1 { "Repositories" }
            @if found.entries.is_empty() { p.note { "There are none that you may see." } }
            table {
                tbody {
                    @for name in &found.entries {
                        tr { td { a href=(path_of(name, None)) { (name) } } }
                    }
                }
            }
            (pager("/", is_later, last))
        },
    )
}

pub(super) fn repository(name: &RepositoryName, tags: &Page<(Tag, Descriptor)>, is_later: bool) -> Markup {
    let last = tags.entries.last().filter(|_| tags.more).map(|(tag, _)| tag.as_str());
    layout(
        name.as_str(),
        &html! {
            h1 { (name) }
            @if tags.entries.is_empty() {
                p.note { "There are no tags." }
            } @else {
                table {
                    thead { tr { th { "Tag" } th { "Digest" } th { "Type" } } }
                    tbody {
                        @for (tag, descriptor) in &tags.entries {
                            tr {
                                td { a href=(path_of(name, Some(&Target::Tag(tag.clone())))) { (tag) } }
                                td { (linked(name, &descriptor.digest)) }
                                td { (descriptor.media_type) }
                            }
                        }
                    }
                }
            }
            (pager(&path_of(name, None), is_later, last))
        },
    )
}

pub(super) fn manifest(host: &str, name: &RepositoryName, target: &Target, shown: &Shown) -> Markup {
    let reference = reference(name, Some(target));
    let descriptor = &shown.descriptor;
    layout(
        &reference,
        &html! {
            h1 { a href=(path_of(name, None)) { (name) } (reference.trim_start_matches(name.as_str())) }
            @if matches!(shown.content, Content::Image { .. } | Content::Index(_)) {
                code.command { "docker pull " (host) "/" (reference) }
            }
            h2 { "Manifest" }
            dl {
                dt { "Digest" } dd { code { (descriptor.digest) } }
                dt { "Type" } dd { (descriptor.media_type) }
                @if let Some(kind) = &shown.artifact_type { dt { "Artifact" } dd { (kind) } }
                @if let Some(subject) = &shown.subject { dt { "About" } dd { (linked(name, subject)) } }
                dt { "Size" } dd { (size(descriptor.size)) }
            }
            @match &shown.content {
                Content::Image { layers, config } => { (image(name, layers, config.as_deref())) }
                Content::Artifact(blobs) => { (artifact(name, blobs)) }
                Content::Index(manifests) => { (index(name, manifests)) }
                Content::Unknown => { p.note { "This registry does not know what a manifest of this type has." } }
            }
            @if !shown.annotations.is_empty() { h2 { "Annotations" } (pairs(&shown.annotations)) }
            @if !shown.referrers.entries.is_empty() {
                h2 { "Referrers" }
                (table_of(name, &shown.referrers.entries, "Artifact", |one| one.artifact_type.clone().unwrap_or_default()))
                (pager(&path_of(name, Some(target)), false, next_of(&shown.referrers).as_deref()))
            }
        },
    )
}

fn next_of(page: &Page<Descriptor>) -> Option<String> {
    page.entries.last().filter(|_| page.more).map(|last| last.digest.to_string())
}

fn image(name: &RepositoryName, layers: &[Layer], config: Option<&ImageConfig>) -> Markup {
    let total = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.descriptor.size));
    html! {
        @if let Some(config) = config { (configuration(config)) }
        h2 { "Layers" }
        table {
            thead { tr { th { "Digest" } th { "Made by" } th.number { "Size" } } }
            tbody {
                @for layer in layers {
                    tr {
                        td { (blob(name, &layer.descriptor.digest)) }
                        td { code { (layer.made_by) } }
                        td.number { (size(layer.descriptor.size)) }
                    }
                }
            }
            tfoot { tr { th { (layers.len()) (if layers.len() == 1 { " layer" } else { " layers" }) } th {} th.number { (size(total)) } } }
        }
    }
}

fn configuration(config: &ImageConfig) -> Markup {
    let process = &config.config;
    let platform = match &config.variant {
        Some(variant) => format!("{}/{}/{variant}", config.os, config.architecture),
        None => format!("{}/{}", config.os, config.architecture),
    };
    let ports: Vec<&str> = process.exposed_ports.keys().map(String::as_str).collect();
    let rows = [
        ("Platform", platform),
        ("Created", config.created.clone()),
        ("Author", config.author.clone()),
        ("Entrypoint", words(&process.entrypoint)),
        ("Command", words(&process.cmd)),
        ("User", process.user.clone()),
        ("Directory", process.working_dir.clone()),
        ("Ports", ports.join(" ")),
        ("Environment", process.env.join("\n")),
    ];
    html! {
        h2 { "Image" }
        dl {
            @for (key, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
                dt { (key) }
                dd { @for (number, line) in value.lines().enumerate() { @if number > 0 { br; } (line) } }
            }
        }
        @if !process.labels.is_empty() { h2 { "Labels" } (pairs(&process.labels)) }
    }
}

/// A command as its JSON, which tells words with spaces apart.
fn words(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { serde_json::json!(words).to_string() }
}

fn artifact(name: &RepositoryName, blobs: &[Descriptor]) -> Markup {
    html! {
        h2 { "Content" }
        table {
            thead { tr { th { "Digest" } th { "Title" } th { "Type" } th.number { "Size" } } }
            tbody {
                @for one in blobs {
                    tr {
                        td { (blob(name, &one.digest)) }
                        td { (one.annotations.get("org.opencontainers.image.title").map_or("", String::as_str)) }
                        td { (one.media_type) }
                        td.number { (size(one.size)) }
                    }
                }
            }
        }
    }
}

fn index(name: &RepositoryName, manifests: &[Descriptor]) -> Markup {
    html! {
        h2 { "Platforms" }
        (table_of(name, manifests, "Platform", |one| one.platform.as_ref().map(ToString::to_string).unwrap_or_default()))
    }
}

/// Manifests with one thing that is said of each.
fn table_of(
    name: &RepositoryName,
    manifests: &[Descriptor],
    title: &str,
    what: impl Fn(&Descriptor) -> String,
) -> Markup {
    html! {
        table {
            thead { tr { th { (title) } th { "Digest" } th { "Type" } th.number { "Size" } } }
            tbody {
                @for one in manifests {
                    tr {
                        td { (what(one)) }
                        td { (linked(name, &one.digest)) }
                        td { (one.media_type) }
                        td.number { (size(one.size)) }
                    }
                }
            }
        }
    }
}

fn pairs(all: &BTreeMap<String, String>) -> Markup {
    html! { dl { @for (key, value) in all { dt { (key) } dd { (value) } } } }
}

fn linked(name: &RepositoryName, digest: &Digest) -> Markup {
    html! { a href=(path_of(name, Some(&Target::Digest(digest.clone())))) title=(digest) { code { (digest.short()) } } }
}

fn blob(name: &RepositoryName, digest: &Digest) -> Markup {
    html! { a href=(format!("/v2/{name}/blobs/{digest}")) title=(digest) { code { (digest.short()) } } }
}

fn reference(name: &RepositoryName, target: Option<&Target>) -> String {
    match target {
        None => name.to_string(),
        Some(Target::Tag(tag)) => format!("{name}:{tag}"),
        Some(Target::Digest(digest)) => format!("{name}@{digest}"),
    }
}

fn path_of(name: &RepositoryName, target: Option<&Target>) -> String {
    format!("/repositories/{}", reference(name, target))
}

/// A size in the units of `docker image ls`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (2_221_930, "2.22 MB"),
            (99_960, "100 kB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
