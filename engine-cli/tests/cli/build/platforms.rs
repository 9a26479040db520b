//! One image for several platforms, and commands of platforms that this machine is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use engine_testkit::{Registry, RegistryMode, require};
use serde_json::Value;

use super::Builder;

const PLATFORMS: &str = "--platform=linux/amd64,linux/arm64,linux/arm/v7";

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn several_platforms_make_one_image_and_share_what_they_can() {
    require!(root, overlayfs, "docker-registry");
    let registry = Registry::start(RegistryMode::Plain);
    let all = Builder::new(&[("file", "f\n")]);
    all.write(
        "Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS maker
RUN --mount=type=cache,target=/c echo once >> /c/runs; cp /c/runs /runs
ARG TARGETPLATFORM TARGETARCH TARGETVARIANT
RUN echo $TARGETPLATFORM > /platform
FROM scratch
ARG TARGETARCH
LABEL arch=$TARGETARCH
COPY --from=maker /runs /platform /
",
    );
    let name = format!("{}/team/many:1", registry.host());
    let text = |name: &str| all.cli.path(name).display().to_string();
    let (out, layout, meta) = (text("out"), text("layout"), text("meta.json"));
    let outputs = ["-o", &out, "-o", &format!("type=oci,tar=false,dest={layout}"), "--metadata-file", &meta];
    let args = ["-t", &name, PLATFORMS, "--platform", "linux/aarch64", "--push", "--provenance=true"];
    all.build(&[&args[..], &outputs].concat()).ok();
    let read = |path: &str| fs::read_to_string(all.cli.path(path)).unwrap();
    for (dir, platform) in
        [("linux_amd64", "linux/amd64"), ("linux_arm64", "linux/arm64"), ("linux_arm_v7", "linux/arm/v7")]
    {
        assert_eq!(read(&format!("out/{dir}/platform")).trim(), platform);
        assert_eq!(read(&format!("out/{dir}/runs")), "once\n", "it ran for each platform");
    }
    let blob =
        |digest: &Value| json(&all.cli.path("layout/blobs").join(digest.as_str().unwrap().replace(':', "/")));
    let built = json(&all.cli.path("meta.json"));
    assert_eq!(
        json(&all.cli.path("layout/index.json"))["manifests"][0]["digest"],
        built["containerimage.digest"]
    );
    let entries = blob(&built["containerimage.digest"])["manifests"].as_array().unwrap().clone();
    let mut seen = Vec::new();
    for entry in entries {
        let config = blob(&blob(&entry["digest"])["config"]["digest"]);
        assert_eq!(config["architecture"], entry["platform"]["architecture"]);
        assert_eq!(config["config"]["Labels"]["arch"], entry["platform"]["architecture"]);
        seen.push((config["architecture"].as_str().unwrap().to_owned(), config["variant"].clone()));
    }
    assert_eq!(
        seen,
        [("amd64", Value::Null), ("arm64", Value::Null), ("arm", "v7".into())]
            .map(|(a, v)| (a.to_owned(), v))
    );
    let parameters = &built["buildx.build.provenance"]["buildDefinition"]["externalParameters"];
    assert_eq!(parameters["platforms"], serde_json::json!(["linux/amd64", "linux/arm64", "linux/arm/v7"]));
    // What was pushed is all of it.
    all.run(&["rmi", &name]).ok();
    all.run(&["pull", "--platform", "linux/arm64", &name]).ok();
    assert_eq!(
        all.run(&["image", "inspect", "--platform", "linux/arm64", "--format", "{{.Architecture}}", &name])
            .ok(),
        "arm64\n"
    );
    // Without one for this machine, the index is the image.
    let id = all.build(&["-q", "-t", "foreign", "--platform=linux/arm64,linux/s390x"]).ok();
    all.run(&["tag", id.trim(), "again"]).ok();
    all.run(&["run", "--rm", "--pull", "never", "again"]).fails(125, &["linux/amd64", "linux/s390x"]);
    all.build(&[PLATFORMS, "-o", "-"]).fails(1, &["type=local"]);
    all.build(&["--platform=windows/amd64"]).fails(1, &["windows", "Linux"]);
    all.finish();
}

/// A kind of programs that the kernel has busybox run, as it has qemu run those of another machine. Gone when it is dropped.
struct Emulator {
    mounted: PathBuf,
    name: String,
}

/// The first bytes of a program for a machine that there is not.
const HEAD: [u8; 20] = [0x7f, b'E', b'L', b'F', 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xfe, 0xed];

impl Emulator {
    fn new(mounted: PathBuf) -> Self {
        fs::create_dir(&mounted).unwrap();
        let said = Command::new("mount").args(["-t", "binfmt_misc", "none"]).arg(&mounted).status().unwrap();
        assert!(said.success(), "binfmt_misc cannot be mounted");
        let emulator = Self { name: format!("engine-test-{}", std::process::id()), mounted };
        let magic: String = HEAD.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        // F: it is opened now, and so found in containers.
        let line = format!(":{}:M::{magic}::/bin/busybox:F", emulator.name);
        fs::write(emulator.mounted.join("register"), line).unwrap();
        emulator
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Both may be gone, and a test that fails says why.
        let _ = fs::write(self.mounted.join(&self.name), "-1");
        let _ = Command::new("umount").arg(&self.mounted).status();
    }
}

#[test]
fn commands_of_another_platform_run_if_the_kernel_knows_an_emulator() {
    require!(root, overlayfs);
    let all = Builder::new(&[("sh", "")]);
    fs::write(Path::new(&all.context).join("sh"), HEAD).unwrap();
    all.write("Dockerfile", "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN echo emulated > /out\n");
    let args = ["-t", "foreign", "--platform=linux/s390x"];
    let out = all.cli.path("out").display().to_string();
    all.build(&args).fails(1, &["Dockerfile:3", "s390x", "binfmt_misc"]);
    let emulator = Emulator::new(all.cli.path("binfmt"));
    all.build(&[&args[..], &["-o", &out]].concat()).ok();
    assert_eq!(fs::read_to_string(all.cli.path("out/out")).unwrap(), "emulated\n");
    drop(emulator);
    all.finish();
}
