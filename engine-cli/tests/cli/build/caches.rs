//! The cache elsewhere: in registries, in directories, in images.

use std::fs;
use std::path::Path;
use std::process::Command;

use engine_testkit::{Registry, RegistryMode, require};
use serde_json::Value;

use super::Builder;

const DOCKERFILE: &str = "FROM busybox AS build
RUN echo built > /out
FROM scratch
COPY --from=build /out /out
COPY a /a
";

impl Builder {
    /// Builds with nothing in the engine's own cache. Returns the image's id, how many steps a cache had, and what was said.
    fn anew(&self, args: &[&str]) -> (String, usize, String) {
        self.run(&["image", "prune", "-f"]).ok();
        self.run(&["builder", "prune", "-f"]).ok();
        let id_file = self.cli.path("id");
        let told = ["build", "--iidfile", &id_file.display().to_string()];
        let said = self.run(&[&told, args, &[&self.context]].concat());
        assert_eq!(said.code, 0, "{said:?}");
        let cached = said.err.lines().filter(|line| line.ends_with(" CACHED")).count();
        (fs::read_to_string(id_file).unwrap(), cached, said.err)
    }
}

/// The largest blob of a layout.
fn largest(dir: &Path) -> std::path::PathBuf {
    let blobs = fs::read_dir(dir.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    blobs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Copies a cache, and has it say of each layer that its diff ID is `diff_id`.
fn poison(from: &Path, to: &Path, diff_id: &str) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let blob = |digest: &Value| to.join("blobs/sha256").join(&digest.as_str().unwrap()["sha256:".len()..]);
    // Each document is named by the one before.
    let write = |named: &mut Value, document: &Value| {
        let bytes = document.to_string();
        named["digest"] = engine_core::Digest::sha256(bytes.as_bytes()).to_string().into();
        named["size"] = bytes.len().into();
        fs::write(blob(&named["digest"]), bytes).unwrap();
    };
    let mut index = read(&to.join("index.json"));
    let mut manifest = read(&blob(&index["manifests"][0]["digest"]));
    let mut config = read(&blob(&manifest["config"]["digest"]));
    for step in config["steps"].as_array_mut().unwrap() {
        for (name, value) in step.as_object_mut().unwrap() {
            if name.contains("diff") && value.is_string() {
                *value = diff_id.into();
            }
        }
    }
    write(&mut manifest["config"], &config);
    write(&mut index["manifests"][0], &manifest);
    fs::write(to.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn steps_go_to_caches_elsewhere_and_are_found_there() {
    require!(root, overlayfs, "docker-registry");
    let registry = Registry::start(RegistryMode::Plain);
    let at = |name: &str| format!("{}/team/{name}", registry.host());
    // Nothing that a compression makes small.
    let text: String = (0..2000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let (one, other) = (Builder::new(&[("a", &text)]), Builder::new(&[("a", &text)]));
    let base = one.cli.path("base.tar").display().to_string();
    one.run(&["save", "-o", &base, "busybox"]).ok();
    other.run(&["rmi", "busybox"]).ok();
    other.run(&["load", "-q", "-i", &base]).ok();
    // No key has a time, but layers have: what is made anew is another layer.
    let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    fs::File::options().append(true).open(format!("{}/a", other.context)).unwrap().set_times(times).unwrap();
    one.write("Dockerfile", DOCKERFILE);
    other.write("Dockerfile", DOCKERFILE);

    let dir = one.cli.path("cache");
    let local = format!("type=local,dest={},mode=max", dir.display());
    let (max, min) = (
        format!("type=registry,ref={},mode=max", at("cache:max")),
        format!("type=registry,ref={}", at("cache:min")),
    );
    if std::env::var_os("ENGINE_TEST_HOST").is_some() {
        // A directory is one of the engine's host; all else is the same there.
        one.build(&["--cache-to", &local]).fails(1, &["cannot be asked for from elsewhere", "a registry"]);
        one.anew(&["--cache-to", &max]);
        assert_eq!(other.anew(&["--cache-from", &at("cache:max")]).1, 3);
        one.finish();
        other.finish();
        return;
    }
    let targets = ["--cache-to", &local, "--cache-to", &max, "--cache-to", &min, "--cache-to", "type=inline"];
    let image = at("app:1");
    let (id, cached, said) = one.anew(&[&["-t", &image, "--push"], &targets[..]].concat());
    assert_eq!(cached, 0, "{said}");
    assert!(said.contains(&format!("cache to {}: 3 steps", at("cache:max"))), "{said}");
    assert!(said.contains(&format!("cache to {}: 2 steps", at("cache:min"))), "{said}");

    let from = |source: &str| other.anew(&["--cache-from", source]);
    let found = format!("type=local,src={}", dir.display());
    for (source, steps) in [(at("cache:max"), 3), (found.clone(), 3), (at("cache:min"), 2), (image, 2)] {
        let (same, cached, said) = from(&source);
        assert_eq!((same, cached), (id.clone(), steps), "{source}: {said}");
    }
    // What is not there, or no cache, is told and is no reason not to build.
    let (made, cached, said) = from(&at("nothing:1"));
    assert!(made != id && cached == 0 && said.contains("nothing:1: not used: "), "{said}");
    // Nor what says of a blob that it is a layer that it is not, one that is here (SECURITY C6).
    let base = other.config("busybox", "{{index .RootFS.Layers 0}}");
    let lie = other.cli.path("lie");
    poison(&dir, &lie, &base);
    let (again, cached, said) = from(&format!("type=local,src={}", lie.display()));
    assert!(again == made && cached == 0, "{said}");
    assert!(said.contains("not used: ") && said.contains(&base) && said.contains("has the digest"), "{said}");
    // Nor is a layer that has not the digest that it should have, of which nothing stays.
    let blob = largest(&dir);
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let (again, cached, said) = from(&found);
    assert!(again == made && cached == 2 && said.contains("not used: "), "{said}");

    // A cache is written over an earlier one, and over nothing else. What an export that was killed left behind goes, and what one
    // that lives is writing stays.
    let (left, held) = (dir.join(".part.left"), dir.join("blobs/sha256/.part.held"));
    fs::write(&left, "x").unwrap();
    let lock = fs::File::create(&held).unwrap();
    lock.lock().unwrap();
    one.anew(&["--cache-to", &local]);
    assert!(!left.exists() && held.exists());
    drop(lock);
    one.anew(&["--cache-to", &local]);
    assert!(!held.exists());
    fs::write(dir.join("mine"), "m").unwrap();
    one.build(&["--cache-to", &local]).fails(1, &["mine", "no part of a cache"]);
    assert_eq!(fs::read_to_string(dir.join("mine")).unwrap(), "m");
    one.build(&["--cache-to", "127.0.0.1:1/cache"]).fails(1, &["127.0.0.1:1/cache"]);
    one.finish();
    other.finish();
}
