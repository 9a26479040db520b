//! `--annotation`: what the image's manifest is to say.

use std::collections::BTreeMap;

use crate::failure::{Failure, Result};

/// Reads `[manifest:]KEY=VALUE`.
pub(super) fn of_manifest(texts: &[String]) -> Result<BTreeMap<String, String>> {
    texts.iter().map(|text| annotation(text)).collect()
}

fn annotation(text: &str) -> Result<(String, String)> {
    let wrong = |why: &str| Failure::usage(format!("--annotation {text}: {why}"));
    let (left, value) = text.split_once('=').ok_or_else(|| wrong("give KEY=VALUE"))?;
    let (kind, key) = match left.split_once(':') {
        Some((kind, key)) => (kind, key),
        None => ("manifest", left),
    };
    match kind {
        _ if key.is_empty() => Err(wrong("it has no key")),
        "manifest" => Ok((key.to_owned(), value.to_owned())),
        "index" | "index-descriptor" | "manifest-descriptor" => Err(wrong(&format!(
            "the image is a manifest without an index, so there is no {kind} to annotate"
        ))),
        other => Err(wrong(&format!(
            "{other}: is none of the kinds of annotations, of which \"manifest:\" is there"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_the_manifests() {
        let read = |text: &str| annotation(text).map_err(|failure| failure.to_string());
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(read("a.b=c=d:e"), pair("a.b", "c=d:e"));
        assert_eq!(read("manifest:a.b="), pair("a.b", ""));
        for (text, word) in [
            ("a", "give KEY=VALUE"),
            ("=b", "no key"),
            ("manifest:=b", "no key"),
            ("index:a=b", "without an index"),
            ("manifest,index:a=b", "manifest,index:"),
        ] {
            assert!(read(text).unwrap_err().contains(word), "{text}: {:?}", read(text));
        }
    }
}
