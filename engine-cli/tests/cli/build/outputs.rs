//! What becomes of a build: directories, archives, registries, and what is told of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use engine_testkit::{Registry, RegistryMode, require};
use serde_json::Value;

use super::Builder;

const DOCKERFILE: &str = "FROM scratch
COPY --chown=7:8 --chmod=4755 file /dir/file
COPY other /etc/other
";

fn tar(args: &[&str], input: &Path) -> String {
    let out = Command::new("tar").args(args).arg(input).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_build_goes_to_directories_and_archives_and_tells_of_itself() {
    require!(root, overlayfs);
    let all = Builder::new(&[("file", "f\n"), ("other", "o\n")]);
    all.write("Dockerfile", DOCKERFILE);
    let path = |name: &str| all.cli.path(name);
    let text = |name: &str| path(name).display().to_string();
    let (out, files) = (text("out"), format!("type=tar,dest={}", text("files.tar")));
    let (oci, docker) =
        (format!("type=oci,dest={}", text("oci.tar")), format!("type=docker,dest={}", text("docker.tar")));
    let layout = format!("type=oci,tar=false,dest={}", text("layout"));
    // Where a link leads out of the directory, nothing goes.
    fs::create_dir_all(path("out")).unwrap();
    fs::create_dir_all(path("outside")).unwrap();
    symlink(path("outside"), path("out").join("etc")).unwrap();
    fs::write(path("out").join("mine"), "m\n").unwrap();
    let (meta, id_file) = (text("meta.json"), text("id"));
    let meta_file = meta.clone();
    let outputs = ["-o", &out, "-o", &files, "-o", &oci, "-o", &docker, "-o", &layout];
    let told = ["--metadata-file", &meta, "--iidfile", &id_file, "--annotation", "manifest:a.b=c"];
    all.build(&[&["-t", "app:1", "-t", "app:2"], &outputs[..], &told].concat()).ok();
    let file = path("out/dir/file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "f\n");
    let metadata = file.metadata().unwrap();
    // Who made the image gives no rights here.
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (0, 0, 0o755));
    assert_eq!(fs::read_dir(path("outside")).unwrap().count(), 0, "followed a link out");
    assert_eq!(fs::read_to_string(path("out/mine")).unwrap(), "m\n");
    let listed = tar(&["--numeric-owner", "-tvf"], &path("files.tar"));
    assert!(listed.contains("-rwsr-xr-x 7/8") && listed.contains("etc/other"), "{listed}");
    let meta = json(&path("meta.json"));
    let id = fs::read_to_string(path("id")).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id);
    assert_eq!(meta["containerimage.descriptor"]["digest"], meta["containerimage.digest"]);
    assert_eq!(meta["image.name"], "docker.io/library/app:1,docker.io/library/app:2");
    // The archives have the names and the same image, and so has the layout.
    let digest = meta["containerimage.digest"].as_str().unwrap();
    let index = json(&path("layout/index.json"));
    assert_eq!(index["manifests"][0]["digest"], digest);
    let manifest = json(&path("layout/blobs").join(digest.replace(':', "/")));
    assert_eq!(manifest["annotations"]["a.b"], "c");
    for name in ["oci.tar", "docker.tar"] {
        let index = tar(&["-xOf", &text(name)], Path::new("index.json"));
        assert!(index.contains(digest) && index.contains("app:1") && index.contains("app:2"), "{index}");
    }
    assert_eq!(tar(&["-xOf", &text("docker.tar")], Path::new("manifest.json")).matches("app:").count(), 2);
    // Where a link leads, all of it is replaced; a build that fails leaves no id of another one.
    fs::write(path("old.tar"), vec![1; 1 << 20]).unwrap();
    symlink("old.tar", path("link.tar")).unwrap();
    all.build(&["-q", "-o", &format!("type=tar,dest={}", text("link.tar"))]).ok();
    assert!(fs::read(path("old.tar")).unwrap() == fs::read(path("files.tar")).unwrap(), "old bytes are left");
    all.build(&["--iidfile", &id_file, "--metadata-file", &meta_file, "--target", "none"])
        .fails(1, &["none"]);
    assert!(!path("id").exists() && !path("meta.json").exists());
    // What is no file is written to, and stays.
    let pipe = path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    let built = all.build(&["-q", "--iidfile", &text("pipe")]).ok();
    assert_eq!(reader.join().unwrap(), built.trim());
    assert!(pipe.exists());
    all.build(&["--progress=tty"]).fails(1, &["no terminal"]);
    // Standard output is the archive alone.
    let said = all.cli.command(&["build", "-q", "-o", "-", &all.context]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.stdout, fs::read(path("files.tar")).unwrap());
    for (args, words) in [
        (&["-o", "type=local"][..], &["dest=DIR"][..]),
        (&["-o", "-", "-o", "type=oci"], &["only one"]),
        (&["--push"], &["--tag"]),
        (&["-o", &text("oci.tar")], &["not a directory"]),
        (&["--annotation", "index:a=b"], &["without an index"]),
    ] {
        all.build(args).fails(1, words);
    }
    all.finish();
}

#[test]
fn a_build_is_pushed_under_all_its_names() {
    require!(root, overlayfs, "docker-registry");
    let registry = Registry::start(RegistryMode::Plain);
    let all = Builder::new(&[("file", "f\n"), ("other", "o\n")]);
    all.write("Dockerfile", DOCKERFILE);
    let name = |tag: &str| format!("{}/team/app:{tag}", registry.host());
    let output = format!("type=image,name={},push=true", name("b"));
    all.build(&["-q", "-t", &name("a"), "-o", &output]).ok();
    let digest = |tag: &str| {
        all.run(&["rmi", &name(tag)]).ok();
        all.run(&["pull", &name(tag)])
            .ok()
            .lines()
            .find(|line| line.starts_with("Digest: "))
            .unwrap()
            .to_owned()
    };
    assert_eq!(digest("a"), digest("b"));
    // What it was made of is attached to it, without secrets and without the times of a build that has one of its own.
    all.write("Dockerfile", "FROM busybox\nARG TOKEN\nARG SOURCE_DATE_EPOCH\nCOPY file /\n");
    let meta = all.cli.path("meta.json").display().to_string();
    let provenance = |wish: &str| {
        let (image, wish) = (name("c"), format!("--provenance={wish}"));
        let args = ["-q", "-t", &image, "--push", &wish, "--metadata-file", &meta];
        let arguments = ["--build-arg", "TOKEN=s3cret", "--build-arg", "SOURCE_DATE_EPOCH=1"];
        all.build(&[&args[..], &arguments].concat()).ok();
        json(Path::new(&meta))["buildx.build.provenance"].clone()
    };
    let statement = provenance("true");
    assert_eq!(statement, provenance("mode=min"), "twice");
    let parts = &statement["buildDefinition"]["resolvedDependencies"];
    assert!(parts[0]["uri"] == "Dockerfile" && parts[0]["digest"]["sha256"].as_str().unwrap().len() == 64);
    let base = parts[1]["uri"].as_str().unwrap();
    assert!(base.starts_with("pkg:docker/busybox@latest?platform=linux%2F"), "{base}");
    assert_eq!(statement["runDetails"]["metadata"], serde_json::json!({}));
    assert!(!statement.to_string().contains("s3cret"), "{statement}");
    assert_eq!(provenance("mode=max")["buildDefinition"]["externalParameters"]["args"]["TOKEN"], "s3cret");
    let attached = all.run(&["artifact", "referrers", &name("c")]).ok();
    assert!(attached.contains("application/vnd.in-toto+json"), "{attached}");
    all.build(&["--provenance=true"]).fails(1, &["--push or --metadata-file"]);
    all.build(&["-t", "127.0.0.1:1/app", "--push"]).fails(1, &["127.0.0.1:1"]);
    all.finish();
}
