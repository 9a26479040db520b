//! A registry of many repositories and tags: how long it takes to start, and what a page of each list costs.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::digest::Digest;
use engine_registry::server::{FileStorage, NewManifest, Quota, Storage as _};

use super::Subject;
use crate::host::{self, Host, best};

const REPOSITORIES: usize = 10_000;
const TAGS: usize = 10;

pub(super) fn run(host: &Host) -> Result<()> {
    // Made where nothing is synced, and then put on the disk.
    let made = tempfile::Builder::new().prefix("engine-bench-").tempdir_in("/dev/shm")?;
    fill(made.path())?;
    let data = host.dir().join("large-registry");
    host::run(Command::new("cp").arg("-a").arg(made.path()).arg(&data))?;
    let mut start = f64::MAX;
    for _ in 0..host::BEST_OF {
        let started = Instant::now();
        let subject = Subject::ours(&data)?;
        subject.connect()?.get("/v2/repository-05000/tags/list")?.success()?;
        start = start.min(started.elapsed().as_secs_f64() * 1e3);
    }
    let subject = Subject::ours(&data)?;
    let mut connection = subject.connect()?;
    let mut page = |path: &str| best(|_| connection.get(path)?.success().map(drop));
    let first = page("/v2/_catalog?n=100")?;
    let middle = page("/v2/_catalog?n=100&last=repository-05000")?;
    let tags = page("/v2/repository-05000/tags/list")?;
    println!("### A registry of {REPOSITORIES} repositories with {TAGS} tags each\n");
    println!(
        "| start to the first answer ms | first 100 repositories ms | 100 from the middle ms | tags of one ms |"
    );
    println!("| ---: | ---: | ---: | ---: |\n| {start:.1} | {first:.2} | {middle:.2} | {tags:.2} |\n");
    Ok(())
}

fn fill(dir: &Path) -> Result<()> {
    let storage = FileStorage::open(dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        for number in 0..REPOSITORIES {
            let text = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"number":"{number}"}}}}"#,
                media_type::OCI_INDEX
            );
            let bytes = Bytes::from(text);
            let descriptor =
                Descriptor::new(media_type::OCI_INDEX, Digest::sha256(&bytes), bytes.len() as u64);
            let manifest = NewManifest::new(descriptor, bytes);
            let repository = format!("repository-{number:05}").parse()?;
            for tag in 0..TAGS {
                let tag = format!("v{tag}").parse()?;
                storage.put_manifest(&repository, &manifest, Some(&tag), &Quota::default()).await?;
            }
        }
        Ok(())
    })
}
