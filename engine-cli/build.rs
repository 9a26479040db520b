//! Builds the program of the embedded image (`hello/`) with one direct `rustc` call, for `src/hello.rs` to embed.
//!
//! Not a crate of the workspace: it is `no_std` with its own `_start` and must be static whatever the target's C
//! library is. On an architecture without its own layer of system calls the image is empty, and its use says so.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=hello");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = Path::new(&variable("OUT_DIR")).join("hello");
    let target = (variable("CARGO_CFG_TARGET_OS"), variable("CARGO_CFG_TARGET_ARCH"));
    if target.0 == "linux" && matches!(target.1.as_str(), "x86_64" | "aarch64") {
        build(&out, &variable("RUSTC"), &variable("HOST"), &variable("TARGET"));
    } else {
        std::fs::write(&out, []).unwrap_or_else(|error| panic!("cannot write {}: {error}", out.display()));
    }
    println!("cargo::rustc-env=ENGINE_HELLO={}", out.display());
}

fn build(out: &PathBuf, rustc: &str, host: &str, target: &str) {
    let mut command = Command::new(rustc);
    command.args(["hello/main.rs", "--crate-name", "hello", "--crate-type", "bin", "--edition", "2024"]);
    for option in ["panic=abort", "opt-level=s", "lto=fat", "codegen-units=1", "strip=symbols"] {
        command.args(["-C", option]);
    }
    // Static and at a fixed address: nothing to relocate, nothing to load.
    for option in ["relocation-model=static", "target-feature=+crt-static", "force-unwind-tables=no"] {
        command.args(["-C", option]);
    }
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-z,norelro"] {
        command.arg("-C").arg(format!("link-arg={argument}"));
    }
    if host != target {
        command.args(["--target", target]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        command.arg("-C").arg(option);
    }
    let status =
        command.arg("-o").arg(out).status().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "the embedded image's program does not build for {target}: {command:?}");
}
