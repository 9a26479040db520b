//! What is in an image, read from its layout without any engine, as lines of text.
//!
//! A line of the tree is `file MODE OWNER PATH CONTENT`, `dir MODE OWNER PATH`, `link OWNER PATH -> TARGET`, `gone PATH` and so on; only
//! what is other than in the base is shown. A line of the configuration is a field and its value in JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;

use engine_testkit::image::digest;
use serde_json::Value;

/// Content that is shown as it is.
const SHOWN: usize = 100;

/// One entry, by all that a layer says of it but times.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Node {
    kind: Kind,
    mode: u32,
    owner: (u64, u64),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    File(Vec<u8>),
    Dir,
    Link(String),
    Other(&'static str),
}

/// An image: its files, its configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    files: BTreeMap<String, Node>,
    config: Value,
    layers: Vec<String>,
}

impl Image {
    /// Reads an OCI layout, or a directory as skopeo's `dir:` has it. What is like `base`'s lowest layers is not read again.
    pub(super) fn read(dir: &Path, base: Option<&Self>) -> Self {
        let is_layout = dir.join("index.json").exists();
        let read = |name: &str| fs::read(dir.join(name)).unwrap();
        let json = |name: &str| -> Value { serde_json::from_slice(&read(name)).unwrap() };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            if is_layout {
                format!("blobs/{}", digest.replace(':', "/"))
            } else {
                digest.replace("sha256:", "")
            }
        };
        let manifest =
            if is_layout { json(&blob(&json("index.json")["manifests"][0])) } else { json("manifest.json") };
        let config = json(&blob(&manifest["config"]));
        let layers: Vec<String> = config["rootfs"]["diff_ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap().to_owned())
            .collect();
        let mut image = Self { config, ..Self::default() };
        let known = base.filter(|base| layers.starts_with(&base.layers)).map_or(0, |base| {
            image.files.clone_from(&base.files);
            base.layers.len()
        });
        for descriptor in manifest["layers"].as_array().unwrap().iter().skip(known) {
            image.add(&read(&blob(descriptor)));
        }
        image.layers = layers;
        image
    }

    /// Puts a layer over what is there.
    fn add(&mut self, blob: &[u8]) {
        let mut bytes = Vec::new();
        match blob.starts_with(&[0x1f, 0x8b]) {
            true => drop(flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut bytes).unwrap()),
            false => bytes.extend_from_slice(blob),
        }
        let below = self.files.clone();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = format!("/{}", entry.path().unwrap().display());
            let path = path.trim_end_matches('/').replace("/./", "/");
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", ""));
            if let Some(hidden) = name.strip_prefix(".wh.") {
                let gone = if hidden == ".wh..opq" { dir.to_owned() } else { format!("{dir}/{hidden}") };
                let beneath = format!("{gone}/");
                // Only what is below is hidden, wherever in the archive that is said.
                self.files.retain(|path, node| {
                    let hit = path.starts_with(&beneath) || (hidden != ".wh..opq" && *path == gone);
                    !(hit && below.get(path) == Some(node))
                });
                continue;
            }
            let header = entry.header().clone();
            let link = || entry.link_name().unwrap().unwrap().display().to_string();
            let kind = match header.entry_type() {
                tar::EntryType::Directory => Kind::Dir,
                tar::EntryType::Symlink => Kind::Link(link()),
                tar::EntryType::Link => {
                    let node = self.files
                        [&format!("/{}", link().trim_start_matches("./").trim_start_matches('/'))]
                        .clone();
                    self.files.insert(path, node);
                    continue;
                }
                tar::EntryType::Fifo => Kind::Other("fifo"),
                tar::EntryType::Char | tar::EntryType::Block => Kind::Other("device"),
                _ => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).unwrap();
                    Kind::File(content)
                }
            };
            if path.is_empty() {
                continue;
            }
            if kind != Kind::Dir {
                let beneath = format!("{path}/");
                self.files.retain(|path, _| !path.starts_with(&beneath));
            }
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            self.files.insert(path, Node { kind, mode: header.mode().unwrap() & 0o7777, owner });
        }
    }

    /// What is other in its files than in `base`, if it is built on that.
    pub(super) fn tree(&self, base: &Self) -> Vec<String> {
        let nothing = Self::default();
        let base = if self.layers.starts_with(&base.layers) { base } else { &nothing };
        let paths: BTreeSet<&String> = self.files.keys().chain(base.files.keys()).collect();
        let changed = paths.into_iter().filter(|path| self.files.get(*path) != base.files.get(*path));
        changed
            .map(|path| self.files.get(path).map_or_else(|| format!("gone {path}"), |node| line(path, node)))
            .collect()
    }

    /// What is other in its configuration than in `base`'s.
    pub(super) fn config(&self, base: &Self) -> Vec<String> {
        let nothing = Self::default();
        let base = if self.layers.starts_with(&base.layers) { base } else { &nothing };
        let fields = |image: &Self| {
            let mut fields = image.config["config"].as_object().cloned().unwrap_or_default();
            // Each of its builds has another name of the host.
            fields.retain(|name, value| name != "Hostname" && !is_nothing(value));
            if let Some(author) = image.config.get("author").filter(|author| !is_nothing(author)) {
                fields.insert("Author".to_owned(), author.clone());
            }
            fields.into_iter().collect::<BTreeMap<_, _>>()
        };
        let (own, others) = (fields(self), fields(base));
        let names: BTreeSet<&String> = own.keys().chain(others.keys()).collect();
        let changed = names.into_iter().filter(|name| own.get(*name) != others.get(*name));
        changed
            .map(|name| {
                own.get(name).map_or_else(|| format!("gone {name}"), |value| format!("{name} {value}"))
            })
            .collect()
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    }
}

fn line(path: &str, node: &Node) -> String {
    let Node { kind, mode, owner: (uid, gid) } = node;
    match kind {
        Kind::Dir => format!("dir {mode:o} {uid}:{gid} {path}"),
        Kind::Link(target) => format!("link {uid}:{gid} {path} -> {target}"),
        Kind::Other(what) => format!("{what} {mode:o} {uid}:{gid} {path}"),
        Kind::File(content) => match std::str::from_utf8(content) {
            Ok(text) if text.len() <= SHOWN => format!("file {mode:o} {uid}:{gid} {path} {text:?}"),
            _ => {
                format!("file {mode:o} {uid}:{gid} {path} {} bytes {}", content.len(), &digest(content)[..19])
            }
        },
    }
}
