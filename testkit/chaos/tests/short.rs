//! The short form of the thousand kills: each CI run does some.

use std::process::Command;

#[test]
fn thirty_kills_lose_nothing_and_leave_nothing() {
    engine_testkit::require!(root, overlayfs, "docker-registry", "busybox");
    let output = Command::new(env!("CARGO_BIN_EXE_engine-chaos"))
        .args(["--rounds", "30", "--shared-machine"])
        .output()
        .expect("run engine-chaos");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    println!("{text}");
}
