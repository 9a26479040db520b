//! What a [`Runtime`] promises.
//!
//! The suite speaks to containers in the language of a POSIX shell, so the harness provides a root file system with
//! `sh`, `echo`, `cat` and `sleep`, as busybox has them. What isolates and limits is left to the
//! implementation's own tests.

mod events;
mod exec;
mod files;
mod health;
mod keep;
mod life;
mod resolver;
mod restart;
mod secrets;
mod streams;

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub use events::*;
pub use exec::*;
pub use files::*;
pub use health::*;
pub use keep::*;
pub use life::*;
pub use resolver::*;
pub use restart::*;
pub use secrets::*;
pub use streams::*;

use super::{Subject, Suite, assert_kind};
use crate::error::ErrorKind;
use crate::id::ContainerId;
use crate::io::{AttachOptions, Reader, Streams};
use crate::launch::LaunchSpec;
use crate::runtime::Runtime;
use crate::state::ExitStatus;

/// Where the suite gets what it needs.
#[async_trait]
pub trait RuntimeHarness: Sync {
    /// Makes a runtime over fresh state.
    async fn runtime(&self) -> Subject<dyn Runtime>;

    /// Describes a container that runs `args`, with a root file system of its own or a read-only one.
    async fn launch(&self, id: &ContainerId, args: &[&str]) -> LaunchSpec;

    /// Removes what [`launch`](Self::launch) made for the container, which has been deleted.
    async fn release(&self, id: &ContainerId);
}

/// A runtime and its harness, as promises see them.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The runtime.
    pub runtime: &'a dyn Runtime,
    /// Another instance over the same state.
    pub second: &'a dyn Runtime,
    /// What makes containers.
    pub harness: &'a dyn RuntimeHarness,
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}

/// Runs every promise, each on a fresh runtime. What a promise leaves is deleted after it.
///
/// # Panics
/// If a promise is broken; the message names all that are.
pub async fn all(harness: &dyn RuntimeHarness) {
    let mut suite = Suite::new("Runtime");
    macro_rules! run {
        ($($promise:ident)*) => { $(
            let subject = harness.runtime().await;
            let bench = Bench { runtime: &*subject.first, second: &*subject.second, harness };
            suite.run(stringify!($promise), boxed(|| $promise(bench))).await;
            suite.run(concat!("delete after ", stringify!($promise)), boxed(|| clean_up(bench))).await;
        )* };
    }
    run! {
        exit_code_is_reported
        states_follow_each_other
        created_container_does_not_run
        missing_command_is_not_found
        directory_is_not_executable
        empty_command_is_refused
        start_happens_once
        unknown_container_is_not_found
        id_belongs_to_one_container
        ended_container_is_created_again
        sigkill_ends_a_container
        sigkill_ends_a_created_container
        signal_reaches_its_handler
        signal_after_the_end_is_ok
        unknown_signal_is_refused
        everybody_who_waits_is_told
        dropped_wait_harms_nothing
        delete_ends_and_removes
        delete_is_idempotent
        list_has_what_is_not_deleted
        containers_run_at_once
        other_instances_see_containers
        pause_stops_and_resume_goes_on
        pause_needs_a_running_container
        limits_are_kept
        processes_are_listed
    }
    run! {
        output_is_whole_from_the_start
        streams_end_with_the_process
        input_reaches_the_process
        input_may_be_empty
        closed_input_is_at_its_end
        input_may_stay_open
        every_client_gets_the_output
        later_client_gets_what_comes
        lost_client_harms_nothing
        slow_blocking_client_loses_nothing
        slow_client_is_cut_off
        attach_after_the_end_is_refused
        caller_may_bring_descriptors
        terminal_is_one_stream
        resize_needs_a_terminal
        log_has_all_output
        log_is_followed_to_the_end
        log_begins_where_asked
        log_may_be_off
    }
    run! {
        files_go_in_and_come_out
        files_are_looked_up_safely
    }
    run! {
        exec_runs_beside
        exec_streams_are_its_own
        exec_has_its_environment
        exec_has_the_chosen_id
        exec_of_missing_command_is_not_found
        exec_needs_a_running_container
        exec_is_signalled
        exec_ends_with_the_container
        unknown_exec_is_not_found
        execs_run_at_once
    }
    run! {
        policy_runs_it_again
        failures_are_retried_so_often
        success_is_no_failure
        stopped_container_stays_ended
        killed_container_runs_again
        stop_ends_the_wait_for_the_next_run
        deletion_ends_the_wait_for_the_next_run
        command_that_is_not_there_is_not_retried
        streams_end_with_each_run
        policy_is_changed_while_it_runs
    }
    run! {
        kept_descriptors_last_as_long_as_the_container
        many_descriptors_are_kept
        so_many_keys_are_kept
        only_what_is_there_keeps
    }
    run! {
        resolver_is_configured_while_it_is_there
    }
    run! {
        secrets_are_there_at_each_run
    }
    run! {
        passing_probe_makes_it_healthy
        health_needs_a_check
        failing_probes_make_it_unhealthy
        start_period_forgives
        missing_probe_is_a_failure
        hanging_probe_is_ended
        probe_output_is_bounded
        pause_holds_probes
        unhealthy_container_is_killed
        unhealthy_container_is_stopped
        unhealthy_container_is_restarted
        health_begins_anew_with_each_start
    }
    run! {
        life_is_told
        each_run_is_told
        health_is_told
    }
    suite.finish();
}

/// Puts a promise on the heap: all of them together are more than the stack of a test holds.
fn boxed<F: Future<Output = ()>>(promise: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(promise())
}

async fn clean_up(bench: Bench<'_>) {
    for id in bench.runtime.list().await.expect("list") {
        bench.runtime.delete(&id).await.expect("delete");
        bench.harness.release(&id).await;
    }
}

/// A command that runs until it is ended.
const FOREVER: &[&str] = &["sleep", "1000"];
/// A script that says when it is ready, and ends with code 7 on SIGTERM.
const GRACEFUL: &str = "trap 'exit 7' TERM; echo ready; sleep 1000 & wait";
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

impl Bench<'_> {
    /// Creates a container that runs `args`.
    async fn create(&self, args: &[&str]) -> ContainerId {
        self.create_with(args, |_| {}).await
    }

    async fn create_with(&self, args: &[&str], change: impl FnOnce(&mut LaunchSpec)) -> ContainerId {
        let id = ContainerId::random();
        let mut launch = self.harness.launch(&id, args).await;
        change(&mut launch);
        self.runtime.create(&id, &launch).await.expect("create");
        id
    }

    /// Creates and starts a container that runs `args`.
    async fn start(&self, args: &[&str]) -> ContainerId {
        let id = self.create(args).await;
        self.runtime.start(&id).await.expect("start");
        id
    }

    /// Creates, attaches to and starts a container.
    async fn run(
        &self,
        args: &[&str],
        change: impl FnOnce(&mut LaunchSpec),
        options: AttachOptions,
    ) -> (ContainerId, Streams) {
        let id = self.create_with(args, change).await;
        let streams = self.runtime.attach(&id, options).await.expect("attach");
        self.runtime.start(&id).await.expect("start");
        (id, streams)
    }

    async fn wait(&self, id: &ContainerId) -> u8 {
        self.runtime.wait(id).await.expect("wait").code
    }
}

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

fn interactive(launch: &mut LaunchSpec) {
    launch.open_stdin = true;
    launch.stdin_once = true;
}

async fn read_all(reader: Option<Reader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.expect("the stream was asked for").read_to_end(&mut bytes).await.expect("read");
    bytes
}

async fn read_text(reader: Option<Reader>) -> String {
    String::from_utf8(read_all(reader).await).expect("text")
}

/// Reads until `text` has come.
async fn read_until(reader: &mut Reader, text: &str) {
    let mut seen = Vec::new();
    while !seen.windows(text.len()).any(|window| window == text.as_bytes()) {
        let mut piece = [0; 512];
        let count = reader.read(&mut piece).await.expect("read");
        assert!(count > 0, "the stream ended before {text:?} came");
        seen.extend_from_slice(&piece[..count]);
    }
}

async fn write_all(streams: &mut Streams, bytes: &[u8]) {
    let stdin = streams.stdin.as_mut().expect("stdin was asked for");
    stdin.write_all(bytes).await.expect("write");
    stdin.flush().await.expect("flush");
}

/// Enough that pipes fill: a megabyte that repeats only after 251 bytes.
fn much() -> Vec<u8> {
    (0..1_000_000_u32).map(|n| (n % 251) as u8).collect()
}

fn code(status: ExitStatus) -> u8 {
    status.code
}
