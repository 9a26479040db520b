//! Builds the shim (`shim/`, see its `main.rs`) with one direct `rustc` call, for `src/linux/shim` to embed.
//!
//! Not a crate of the workspace: it is `no_std` with its own `_start`, links nothing, and must come out the same under
//! whatever profile and flags the embedding program uses. `ENGINE_SHIM_PATH` names a prebuilt one, for builds where
//! `rustc` cannot link for the target.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(shim)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-env-changed=ENGINE_SHIM_PATH");
    let linux = env::var_os("CARGO_FEATURE_LINUX").is_some();
    if !linux || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let shim = match env::var_os("ENGINE_SHIM_PATH") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            PathBuf::from(path)
        }
        None => build(),
    };
    println!("cargo::rustc-env=ENGINE_SHIM={}", shim.display());
}

fn build() -> PathBuf {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let (host, target, architecture) =
        (variable("HOST"), variable("TARGET"), variable("CARGO_CFG_TARGET_ARCH"));
    if !matches!(architecture.as_str(), "x86_64" | "aarch64") {
        panic!(
            "the shim has no system call layer for {architecture}; set ENGINE_SHIM_PATH or turn the feature `linux` off"
        );
    }
    let output = Path::new(&variable("OUT_DIR")).join("engine-shim");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["shim/main.rs", "--crate-name", "engine_shim", "--crate-type", "bin", "--edition", "2024"]);
    rustc.args(["--cfg", "shim", "--check-cfg", "cfg(shim)"]);
    for option in ["panic=abort", "opt-level=s", "lto=fat", "codegen-units=1", "strip=symbols"] {
        rustc.args(["-C", option]);
    }
    // Static and at a fixed address: nothing to relocate, nothing to load.
    for option in ["relocation-model=static", "target-feature=+crt-static", "force-unwind-tables=no"] {
        rustc.args(["-C", option]);
    }
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none,-z,norelro,-z,noseparate-code",
    ] {
        rustc.arg("-C").arg(format!("link-arg={argument}"));
    }
    if host != target {
        rustc.args(["--target", &target]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    rustc.arg("-o").arg(&output);
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run {rustc:?}: {error}"));
    if !status.success() {
        panic!("the shim does not build for {target}; ENGINE_SHIM_PATH can name a prebuilt one: {rustc:?}");
    }
    output
}
