//! `engine-cli`: Docker's commands over the engine's library, without a daemon.
//!
//! Thin by design: arguments in, output out. Whatever a program that embeds the engine might want is in
//! `engine-core`.

mod cli;
mod commands;
mod context;
mod contexts;
mod failure;
mod hello;
mod options;
mod output;
mod remote;
mod session;

use std::io::IsTerminal as _;
use std::process;

use clap::{CommandFactory, FromArgMatches};

fn main() {
    let code = run();
    // Not a return: a thread may sit in a read of the terminal, and a runtime would wait for it.
    process::exit(i32::from(code));
}

fn run() -> u8 {
    let cli = match cli::Cli::command().try_get_matches().and_then(|m| cli::Cli::from_arg_matches(&m)) {
        Ok(cli) => cli,
        Err(error) => {
            if !error.use_stderr() {
                // Help and version are no errors.
                let _ = error.print();
                return 0;
            }
            let text = error.render().to_string();
            eprint!("engine-cli: {}", text.strip_prefix("error: ").unwrap_or(&text));
            // Docker's code for wrong flags.
            return 125;
        }
    };
    // A daemon's messages may be asked for in its file of options.
    if !cli.command.is_daemon() {
        context::trace(&cli.global, None);
    }
    let failed = |failure: &failure::Failure| {
        if let Some(report) = failure.report() {
            // It may have what an image's command or a server wrote, which is not to be obeyed by a terminal.
            let report = match std::io::stderr().is_terminal() {
                true => report.lines().map(output::build::printable).collect::<Vec<_>>().join("\n"),
                false => report.to_owned(),
            };
            eprintln!("engine-cli: {report}");
        }
        failure.code()
    };
    let mut builder = if cli.command.transfers() {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        // One thread is enough for a container, and starts faster.
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("engine-cli: cannot start: {error}");
            return 1;
        }
    };
    let code = runtime.block_on(commands::run(cli)).unwrap_or_else(|failure| failed(&failure));
    // Lets the clean-up of what was dropped end, which is soon, and leaves blocked reads behind.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    code
}
