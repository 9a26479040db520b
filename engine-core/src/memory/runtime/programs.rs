//! The programs every [`MemoryRuntime`](super::MemoryRuntime) has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::process::{Process, Program};
use super::shell;

/// Programs by name.
pub(super) type Programs = BTreeMap<String, Arc<dyn Program>>;

/// Finds the program that `command` names: by the whole name, else by the last part of a path.
pub(super) fn find(programs: &Programs, command: &str) -> Option<Arc<dyn Program>> {
    let bare = command.rsplit('/').next().unwrap_or(command);
    match programs.get(command).or_else(|| programs.get(bare)) {
        Some(program) => Some(Arc::clone(program)),
        // The shell finds what there is when it is started.
        None if bare == "sh" => Some(Arc::new(shell::Shell(programs.clone()))),
        None => None,
    }
}

/// Returns `true`, `false`, `echo`, `cat`, `sleep`, `env` and `printf`. `sh` is always there.
pub(super) fn defaults() -> Programs {
    let mut programs = Programs::new();
    let mut add = |name: &str, program: Arc<dyn Program>| {
        programs.insert(name.to_owned(), program);
    };
    add("true", Arc::new(async |_: Process| 0));
    add("false", Arc::new(async |_: Process| 1));
    add("echo", Arc::new(echo));
    add("cat", Arc::new(cat));
    add("sleep", Arc::new(sleep));
    add("env", Arc::new(env));
    add("printf", Arc::new(printf));
    programs
}

async fn write(process: &Process, text: impl AsRef<[u8]>) -> u8 {
    process.stdout.write(text).await.map_or(1, |()| 0)
}

async fn complain(process: &Process, what: &str) -> u8 {
    let name = process.args.first().map_or("", String::as_str);
    let _ = process.stderr.write(format!("{name}: {what}\n")).await;
    1
}

async fn echo(process: Process) -> u8 {
    let words = process.args.get(1..).unwrap_or_default();
    match words {
        [first, rest @ ..] if first == "-n" => write(&process, rest.join(" ")).await,
        words => write(&process, words.join(" ") + "\n").await,
    }
}

/// printf(1) without conversions.
async fn printf(process: Process) -> u8 {
    let text = process.args.get(1).map_or("", String::as_str);
    write(&process, text.replace("\\n", "\n").replace("\\t", "\t")).await
}

async fn env(process: Process) -> u8 {
    write(&process, process.env.iter().map(|entry| format!("{entry}\n")).collect::<String>()).await
}

async fn cat(mut process: Process) -> u8 {
    if let Some(path) = process.args.get(1) {
        let found = process.secret_files.iter().find(|file| file.path == Path::new(path));
        return match found {
            Some(file) => write(&process, file.content.reveal()).await,
            None => complain(&process, "there are no files but those of secrets").await,
        };
    }
    loop {
        let bytes = process.stdin.read().await;
        if bytes.is_empty() {
            return 0;
        }
        if process.stdout.write(&bytes).await.is_err() {
            return 1;
        }
    }
}

async fn sleep(process: Process) -> u8 {
    let seconds = process.args.get(1).and_then(|text| text.parse::<f64>().ok());
    match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(time) => tokio::time::sleep(time).await,
        None => return complain(&process, "it needs a number of seconds").await,
    }
    0
}
