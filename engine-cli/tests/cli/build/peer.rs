//! Debian's `buildah`, the builder that the corpus is compared with: in a root of its own, without a registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use engine_testkit::Said;

use super::case::Case;
use super::corpus::BASE;
use super::tree::Image;

/// A root of buildah's with the image `localhost/busybox`.
pub(super) struct Peer {
    dir: tempfile::TempDir,
}

impl Peer {
    /// Imports the image of an OCI layout.
    pub(super) fn new(base: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("engine-buildah-test").tempdir().unwrap();
        for name in ["policy.json", "registries.conf"] {
            let text =
                if name == "policy.json" { r#"{"default":[{"type":"insecureAcceptAnything"}]}"# } else { "" };
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let peer = Self { dir };
        let store = format!("[overlay@{}+{}]", peer.path("root"), peer.path("run"));
        for name in ["busybox:latest", "busybox:1.36"] {
            let (from, to) = (
                format!("oci:{}:{BASE}", base.display()),
                format!("containers-storage:{store}localhost/{name}"),
            );
            engine_testkit::command(
                "skopeo",
                ["--policy", &peer.path("policy.json"), "copy", "-q", &from, &to],
            );
        }
        peer
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn run<T: AsRef<str>>(&self, args: &[T]) -> Said {
        let mut command = Command::new("buildah");
        command.args([
            "--storage-driver",
            "overlay",
            "--root",
            &self.path("root"),
            "--runroot",
            &self.path("run"),
        ]);
        command.args(["--registries-conf", &self.path("registries.conf")]);
        command
            .args(args.iter().map(AsRef::as_ref))
            .env("TMPDIR", self.dir.path())
            .env("HOME", self.dir.path());
        command.output().expect("run buildah: .ci/setup installs it").into()
    }

    /// Builds a case that is written to `dir`, and reads what came out.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub(super) fn build(&self, case: &Case, dir: &Path, base: &Image) -> Result<Image, String> {
        let context = dir.join("context").display().to_string();
        for (name, _) in &case.bases {
            let file = dir.join(name).display().to_string();
            self.bud(
                &[&["-f".to_owned(), file][..], &["-t".to_owned(), format!("localhost/{name}")]].concat(),
                &context,
            )?;
        }
        let name = format!("localhost/case-{}", case.name);
        self.bud(&[case.args(dir), vec!["-t".to_owned(), name.clone()]].concat(), &context)?;
        let layout = PathBuf::from(self.path(&case.name));
        self.run(&[
            "push",
            "-q",
            "--signature-policy",
            &self.path("policy.json"),
            &name,
            &format!("dir:{}", layout.display()),
        ])
        .ok();
        Ok(Image::read(&layout, Some(base)))
    }

    fn bud(&self, args: &[String], context: &str) -> Result<(), String> {
        let policy = self.path("policy.json");
        let fixed = [
            "bud",
            "-q",
            "--format",
            "docker",
            "--isolation",
            "chroot",
            "--pull-never",
            "--layers=false",
            "--identity-label=false",
            "--signature-policy",
            &policy,
        ];
        let all: Vec<String> = fixed
            .iter()
            .map(|arg| (*arg).to_owned())
            .chain(args.iter().cloned())
            .chain([context.to_owned()])
            .collect();
        let said = self.run(&all);
        if said.code == 0 { Ok(()) } else { Err(said.err) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its storage is mounted on itself, as overlayfs wants it.
        for line in std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().rev() {
            let at = line.split(' ').nth(4).unwrap_or_default();
            if Path::new(at).starts_with(self.dir.path()) {
                let _ = Command::new("umount").args(["-l", at]).status();
            }
        }
    }
}
