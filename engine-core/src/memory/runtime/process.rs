//! Simulated processes: a future in place of a program, with signals, freezing and an exit status.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::Notify;

use super::super::lock;
use super::streams::{Input, Output};
use crate::io::TerminalSize;
use crate::secret::SecretFile;

const SIGKILL: i32 = 9;
const SIGWINCH: i32 = 28;
/// What a process that panics ends with: as one that was aborted.
const ABORTED: u8 = 134;

/// What runs in place of a command. Implemented for closures `Fn(Process) -> impl Future<Output = u8>`.
#[async_trait]
pub trait Program: Send + Sync + 'static {
    /// Runs to the end and returns the exit code. A signal that ends the process drops the future.
    async fn run(&self, process: Process) -> u8;
}

#[async_trait]
impl<F, Fut> Program for F
where
    F: Fn(Process) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = u8> + Send,
{
    async fn run(&self, process: Process) -> u8 {
        self(process).await
    }
}

/// What a simulated process sees.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Process {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// The environment, `NAME=value`.
    pub env: Vec<String>,
    /// The files of secrets it can read.
    pub secret_files: Vec<SecretFile>,
    /// The working directory.
    pub working_dir: String,
    /// Standard input.
    pub stdin: Input,
    /// Standard output, or the terminal.
    pub stdout: Output,
    /// Standard error, or the terminal.
    pub stderr: Output,
    /// The signals it gets.
    pub signals: Signals,
}

impl Process {
    /// Returns the value of an environment variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The signals of a simulated process.
///
/// One that it did not ask for does what signal(7) says; the first process of a container is spared those, as
/// pid_namespaces(7) says, unless the container has an init. SIGKILL always ends it.
#[derive(Clone)]
pub struct Signals(Arc<Control>);

impl Signals {
    /// Asks for `signal`, which from now on comes out of [`next`](Self::next).
    pub fn handle(&self, signal: i32) {
        lock(&self.0.state).handled.insert(signal);
    }

    /// Waits for a signal that was asked for.
    pub async fn next(&self) -> i32 {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(signal) = lock(&self.0.state).pending.pop_front() {
                return signal;
            }
            arrived.await;
        }
    }

    /// Returns a signal that was asked for and has come already.
    #[must_use]
    pub fn take(&self) -> Option<i32> {
        lock(&self.0.state).pending.pop_front()
    }

    /// Returns the size of the terminal, if there is one. SIGWINCH tells of changes.
    #[must_use]
    pub fn terminal_size(&self) -> Option<TerminalSize> {
        lock(&self.0.state).terminal
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}

/// What acts on a simulated process from outside.
#[derive(Debug)]
pub(super) struct Control {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug)]
struct State {
    /// Whether signals it did not ask for are ignored.
    first: bool,
    handled: BTreeSet<i32>,
    pending: VecDeque<i32>,
    killed_by: Option<i32>,
    frozen: bool,
    /// The program takes a step at this moment.
    stepping: bool,
    waker: Option<Waker>,
    terminal: Option<TerminalSize>,
}

impl Control {
    pub(super) fn new(first: bool, terminal: Option<TerminalSize>) -> Arc<Self> {
        let state = State {
            first,
            handled: BTreeSet::new(),
            pending: VecDeque::new(),
            killed_by: None,
            frozen: false,
            stepping: false,
            waker: None,
            terminal,
        };
        Arc::new(Self { state: Mutex::new(state), arrived: Notify::new() })
    }

    pub(super) fn signals(self: &Arc<Self>) -> Signals {
        Signals(Arc::clone(self))
    }

    pub(super) fn signal(&self, signal: i32) {
        let mut state = lock(&self.state);
        if signal != SIGKILL && state.handled.contains(&signal) {
            state.pending.push_back(signal);
            drop(state);
            self.arrived.notify_waiters();
            return;
        }
        // CHLD, CONT, URG and WINCH are ignored; STOP, TSTP, TTIN and TTOU stop, which is not simulated.
        let harmless = matches!(signal, 17..=23 | SIGWINCH);
        if signal == SIGKILL || !(harmless || state.first) {
            state.killed_by.get_or_insert(signal);
            state.wake();
        }
    }

    pub(super) fn freeze(&self, frozen: bool) {
        let mut state = lock(&self.state);
        state.frozen = frozen;
        state.wake();
    }

    /// Whether the program takes no step at this moment.
    pub(super) fn is_at_rest(&self) -> bool {
        !lock(&self.state).stepping
    }

    /// Sets the size of the terminal; returns whether there is one.
    pub(super) fn resize(&self, size: TerminalSize) -> bool {
        let mut state = lock(&self.state);
        let there = state.terminal.is_some();
        if there {
            state.terminal = Some(size);
        }
        drop(state);
        if there {
            self.signal(SIGWINCH);
        }
        there
    }

    /// Runs `program` until it ends or is ended, and returns the exit code.
    pub(super) async fn drive(&self, program: Arc<dyn Program>, process: Process) -> u8 {
        let mut run = Box::pin(AssertUnwindSafe(program.run(process)).catch_unwind());
        poll_fn(|cx| {
            {
                let mut state = lock(&self.state);
                if let Some(signal) = state.killed_by {
                    return Poll::Ready(u8::try_from(128 + signal).unwrap_or(u8::MAX));
                }
                state.waker = Some(cx.waker().clone());
                if state.frozen {
                    return Poll::Pending;
                }
                state.stepping = true;
            }
            let step = run.as_mut().poll(cx).map(|outcome| outcome.unwrap_or(ABORTED));
            lock(&self.state).stepping = false;
            step
        })
        .await
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
