//! What a worker says to its supervisor: one line when an operation begins, one when it was acknowledged.
//!
//! Invariant: a line is one write to a pipe, so it is there whole or not at all, also when the writer is killed right after.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    str::FromStr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::WorkerArgs;

/// What is done to what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    Pull,
    Tag,
    RemoveImage,
    Create,
    Start,
    Run,
    Exec,
    Stop,
    Remove,
    /// Pause, then resume.
    Freeze,
    CreateVolume,
    RemoveVolume,
    /// An image from a container.
    Commit,
    /// A second container from the files of a first.
    Fork,
    /// A file into a container; its name is the note.
    CopyIn,
    /// Save to an archive, load it again.
    Reload,
    CreateNetwork,
    RemoveNetwork,
    /// A container to a network, which is the note.
    Connect,
    /// And off it.
    Disconnect,
}

const NAMES: [(Operation, &str); 20] = [
    (Operation::Pull, "pull"),
    (Operation::Tag, "tag"),
    (Operation::RemoveImage, "rmi"),
    (Operation::Create, "create"),
    (Operation::Start, "start"),
    (Operation::Run, "run"),
    (Operation::Exec, "exec"),
    (Operation::Stop, "stop"),
    (Operation::Remove, "rm"),
    (Operation::Freeze, "freeze"),
    (Operation::CreateVolume, "volume-create"),
    (Operation::RemoveVolume, "volume-rm"),
    (Operation::Commit, "commit"),
    (Operation::Fork, "fork"),
    (Operation::CopyIn, "cp"),
    (Operation::Reload, "reload"),
    (Operation::CreateNetwork, "network-create"),
    (Operation::RemoveNetwork, "network-rm"),
    (Operation::Connect, "connect"),
    (Operation::Disconnect, "disconnect"),
];

/// One line.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) lane: usize,
    pub(crate) operation: Operation,
    pub(crate) subject: String,
    /// None for a beginning.
    pub(crate) result: Option<Outcome>,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// With a note: the process id of a container that was started, for example, or its networks.
    Done(String),
    /// The engine said no.
    Failed(String),
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {} {:?} {}: {:?}", self.lane, self.operation, self.subject, self.result)
    }
}

impl Line {
    pub(crate) fn is_acknowledged(&self) -> bool {
        matches!(self.result, Some(Outcome::Done(_)))
    }

    /// Writes the line to standard output at once.
    pub(crate) fn say(&self) -> Result<()> {
        let name =
            NAMES.iter().find(|(operation, _)| *operation == self.operation).map_or("", |(_, name)| name);
        let rest = match &self.result {
            None => "begin".to_owned(),
            Some(Outcome::Done(note)) => format!("done {note}"),
            Some(Outcome::Failed(why)) => format!("failed {}", why.replace('\n', " ")),
        };
        say(&format!("{} {name} {} {rest}", self.lane, self.subject))
    }
}

/// Writes any line to standard output by one system call.
pub(crate) fn say(text: &str) -> Result<()> {
    // The standard library's lock buffers whole lines: the newline makes it write, at once and all of it.
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.splitn(5, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (lane, name, subject, state, rest) = (word().parse()?, word(), word().to_owned(), word(), word());
        let operation =
            NAMES.iter().find(|(_, known)| *known == name).with_context(|| format!("in {text:?}"))?.0;
        let result = match state {
            "begin" => None,
            "done" => Some(Outcome::Done(rest.to_owned())),
            "failed" => Some(Outcome::Failed(rest.to_owned())),
            _ => bail!("in {text:?}"),
        };
        Ok(Self { lane, operation, subject, result })
    }
}

/// When a worker is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Life {
    /// So long after it was spawned.
    FromSpawn(Duration),
    /// So long after it had opened the engine.
    FromReady(Duration),
}

/// Runs a worker, kills it, returns what it said.
///
/// # Errors
/// When it ended by itself or did not open the engine within a minute.
pub(crate) fn run_worker(args: &WorkerArgs, life: Life) -> Result<Vec<Line>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("worker")
        .arg("--root")
        .arg(&args.root)
        .arg("--run-root")
        .arg(&args.run_root)
        .args(["--registry", &args.registry, "--seed", &args.seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let spawned = Instant::now();
    let output = child.stdout.take().context("a pipe")?;
    let (ready, is_ready) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            if line == "ready" {
                let _ = ready.send(());
            } else {
                lines.push(line);
            }
        }
        lines
    });
    let late = match life {
        Life::FromSpawn(life) => {
            thread::sleep(life.saturating_sub(spawned.elapsed()));
            false
        }
        Life::FromReady(life) => {
            let answer = is_ready.recv_timeout(Duration::from_secs(60));
            thread::sleep(life);
            answer.is_err()
        }
    };
    let ended = child.try_wait()?;
    child.kill()?;
    child.wait()?;
    let lines = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    if let Some(status) = ended {
        bail!("the worker ended by itself: {status}");
    }
    anyhow::ensure!(!late, "the worker did not open the engine within a minute");
    lines.iter().map(|line| line.parse()).collect()
}
