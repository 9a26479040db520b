//! Health checks of simulated containers, on the tokio clock. Connections are not simulated: such a probe passes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::super::lock;
use super::container::Container;
use super::process::Program;
use crate::events::Action;
use crate::health::{
    Health, HealthAction, HealthProbe, HealthResult, HealthSpec, HealthStatus, MAX_OUTPUT, MAX_RESULTS,
};
use crate::io::AttachOptions;
use crate::launch::ExecSpec;
use crate::signal::SIGKILL;
use crate::state::ContainerStatus;

/// A run begins: it is starting, and the results of earlier ones stay.
pub(super) fn begin(spec: Option<&HealthSpec>, health: &mut Option<Health>) {
    if spec.is_some() {
        let health = health.get_or_insert_with(|| Health::new(HealthStatus::Starting, 0));
        (health.status, health.failing_streak) = (HealthStatus::Starting, 0);
    }
}

impl Container {
    /// Probes the run that begins, until it ends. `command` finds the program of a probe.
    pub(super) async fn watch_health(
        self: &Arc<Self>,
        command: &(dyn Fn(&str) -> Option<Arc<dyn Program>> + Send + Sync),
    ) -> Infallible {
        let Some(spec) = &self.launch().health else { return std::future::pending().await };
        let began = Instant::now();
        loop {
            let early = began.elapsed() < spec.start_period;
            let starting = early && self.health_status() == HealthStatus::Starting;
            sleep(if starting { spec.start_interval } else { spec.interval }).await;
            if lock(&self.inner).state.status != ContainerStatus::Running {
                // Paused.
                continue;
            }
            let (start, early) = (SystemTime::now(), began.elapsed() < spec.start_period);
            let (exit_code, output) = self.probe(spec, command).await;
            self.take_result(
                HealthResult::new(start, SystemTime::now(), exit_code, output),
                early,
                spec.retries,
            );
            if self.health_status() == HealthStatus::Unhealthy {
                self.act(spec).await;
            }
        }
    }

    fn health_status(&self) -> HealthStatus {
        lock(&self.inner).state.health.as_ref().map_or(HealthStatus::Starting, |health| health.status)
    }

    async fn probe(
        self: &Arc<Self>,
        spec: &HealthSpec,
        command: &(dyn Fn(&str) -> Option<Arc<dyn Program>> + Send + Sync),
    ) -> (i32, String) {
        let HealthProbe::Command(args) = &spec.probe else { return (0, String::new()) };
        let Some(program) = args.first().and_then(|name| command(name)) else {
            return (-1, format!("{}: there is no such program", args.first().map_or("", String::as_str)));
        };
        let exec = ExecSpec::new(args.iter().cloned());
        let mut process = match self.exec(program, &exec, AttachOptions::piped(false), 0) {
            Ok(process) => process,
            Err(error) => return (-1, error.report()),
        };
        let Ok(exec) = self.find_exec("check health", &process.id) else { return (-1, String::new()) };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let streams = (process.streams.stdout.take(), process.streams.stderr.take());
        let run = async {
            if let (Some(mut stdout), Some(mut stderr)) = streams {
                let _ = tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
            }
            exec.wait().await
        };
        match timeout(spec.timeout, run).await {
            Ok(status) => {
                out.append(&mut err);
                out.truncate(MAX_OUTPUT);
                (status.code.into(), String::from_utf8_lossy(&out).into_owned())
            }
            Err(_) => {
                exec.control.signal(SIGKILL);
                (-1, format!("the probe took longer than {:?}", spec.timeout))
            }
        }
    }

    fn take_result(&self, result: HealthResult, early: bool, retries: u32) {
        let mut inner = lock(&self.inner);
        let Some(health) = inner.state.health.as_mut() else { return };
        let before = health.status;
        if result.exit_code == 0 {
            (health.status, health.failing_streak) = (HealthStatus::Healthy, 0);
        } else if !early || health.status != HealthStatus::Starting {
            health.failing_streak += 1;
            if health.failing_streak >= retries {
                health.status = HealthStatus::Unhealthy;
            }
        }
        if health.results.len() == MAX_RESULTS {
            health.results.remove(0);
        }
        health.results.push(result);
        let status = health.status;
        drop(inner);
        if status != before {
            let action = Action::from(&*format!("{}: {status}", Action::HealthStatus));
            self.tell(&[], vec![self.event(action)], &[]);
        }
    }

    /// Does to an unhealthy container what its check says, once: nothing comes after it but the end.
    async fn act(&self, spec: &HealthSpec) {
        match spec.on_failure {
            HealthAction::None => return,
            HealthAction::Kill => self.signal(SIGKILL),
            HealthAction::Stop => self.stop(spec.stop_signal),
            HealthAction::Restart => {
                lock(&self.inner).back_off.insist();
                self.signal(spec.stop_signal);
            }
        }
        sleep(spec.stop_timeout).await;
        self.signal(SIGKILL);
        std::future::pending().await
    }
}
