//! Figures for Prometheus, in its text format, on a listener of their own.
//!
//! Those that dockerd has too have its names. There is nothing of clients or containers in them, so their number is bounded, and whoever
//! may read them learns nothing but numbers: the listener serves this and nothing else.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use engine_core::{ContainerStatus, Result};
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accept;
use super::api::Api;
use super::connection::BUFFER;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Upper bounds of the histogram of seconds: those of dockerd, which are Prometheus' own.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Who reads them are few.
const CONNECTIONS: usize = 16;
/// How long one may take to ask, and how long to read.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is counted while requests pass.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    answers: Mutex<BTreeMap<u16, u64>>,
    actions: Mutex<BTreeMap<&'static str, Times>>,
    under_way: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Times {
    /// Up to each bound, not counting those up to the bounds below.
    buckets: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

/// A request that is being answered, until this is dropped.
pub(super) struct UnderWay(Arc<Metrics>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Counts an answer: its head, since a body may go on for ever.
    pub(super) fn answered(&self, method: &Method, path: &str, status: u16, took: Duration) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
        if let Some(action) = action(method, path).filter(|_| status < 400) {
            let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
            let times = actions.entry(action).or_default();
            times.buckets[BOUNDS.partition_point(|bound| *bound < took.as_secs_f64())] += 1;
            times.seconds += took.as_secs_f64();
        }
    }
}

/// What dockerd calls the action on a container that a request is.
fn action(method: &Method, path: &str) -> Option<&'static str> {
    // A version may stand before.
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    parts.next_if(|part| part.starts_with('v') && part[1..].starts_with(|c: char| c.is_ascii_digit()));
    match (method, parts.next()?, parts.next(), parts.next()) {
        (&Method::POST, "containers", Some("create"), None) => Some("create"),
        (&Method::POST, "containers", Some(_), Some("start")) => Some("start"),
        (&Method::DELETE, "containers", Some(_), None) => Some("delete"),
        (&Method::GET, "containers", Some(_), Some("changes")) => Some("changes"),
        (&Method::POST, "commit", None, None) => Some("commit"),
        _ => None,
    }
}

/// Serves the figures at `/metrics` until `stop` is ready.
pub(super) async fn serve(listener: TcpListener, api: Arc<Api>, stop: impl Future<Output = ()>) {
    let router: Router = Router::new().route("/metrics", get(metrics)).with_state(api);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    let accept = || async { Ok(listener.accept().await?.0) };
    while let Some((slot, stream)) = accept::next(&slots, stop.as_mut(), accept).await {
        while connections.try_join_next().is_some() {}
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let _slot = slot;
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(BUFFER);
            // A failure here is the client's to see.
            let _ = timeout(PATIENCE, builder.serve_connection(TokioIo::new(stream), service)).await;
        });
    }
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    match text(&api).await {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => super::error::ApiError::from(error).into_response(),
    }
}

/// Text on its way. Writing to a string does not fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.begin(name, kind, help);
        self.value(name, "", value);
    }
}

/// A label's value, as the format has it.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

async fn text(api: &Api) -> Result<String> {
    let mut text = Text::default();
    let (info, uname) = (api.engine.info().await?, rustix::system::uname());
    let labels: Vec<String> = [
        ("version", api.info.version.as_str()),
        ("architecture", std::env::consts::ARCH),
        ("graphdriver", "overlayfs"),
        ("kernel", &uname.release().to_string_lossy()),
        ("os_type", "linux"),
    ]
    .map(|(name, value)| format!("{name}={}", quoted(value)))
    .into();
    text.begin("engine_daemon_engine_info", "gauge", "The engine and the host it is on.");
    text.value("engine_daemon_engine_info", &format!("{{{}}}", labels.join(",")), 1);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    text.one("engine_daemon_engine_cpus_cpus", "gauge", "Processors of the host.", cpus);
    text.one("engine_daemon_engine_memory_bytes", "gauge", "Memory of the host.", info.host.memory);
    let mut states = BTreeMap::from([("paused", 0), ("running", 0), ("stopped", 0)]);
    for container in api.engine.containers().await? {
        let state = match container.state.status {
            ContainerStatus::Paused => "paused",
            status if status.is_running() => "running",
            _ => "stopped",
        };
        *states.entry(state).or_default() += 1;
    }
    let name = "engine_daemon_container_states_containers";
    text.begin(name, "gauge", "Containers by state.");
    states.iter().for_each(|(state, count)| text.value(name, &format!("{{state=\"{state}\"}}"), count));
    let actions = api.metrics.actions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let name = "engine_daemon_container_actions_seconds";
    text.begin(name, "histogram", "Seconds that each action on a container took.");
    for (action, times) in actions {
        let mut count = 0;
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, more) in bounds.zip(times.buckets) {
            count += more;
            let labels = format!("{{action=\"{action}\",le=\"{bound}\"}}");
            text.value(&format!("{name}_bucket"), &labels, count);
        }
        let labels = format!("{{action=\"{action}\"}}");
        text.value(&format!("{name}_sum"), &labels, times.seconds);
        text.value(&format!("{name}_count"), &labels, count);
    }
    let answers = api.metrics.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let name = "engine_daemon_http_requests_total";
    text.begin(name, "counter", "Requests that were answered, by status.");
    answers.iter().for_each(|(status, count)| text.value(name, &format!("{{code=\"{status}\"}}"), count));
    let under_way = api.metrics.under_way.load(Ordering::Relaxed);
    text.one(
        "engine_daemon_http_requests_under_way",
        "gauge",
        "Requests that wait for an answer.",
        under_way,
    );
    process(&mut text);
    Ok(text.0)
}

/// What every program that Prometheus asks tells of itself (proc_pid_statm(5), proc_pid_stat(5)).
fn process(text: &mut Text) {
    let page = rustix::param::page_size() as u64;
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = |field| statm.split(' ').nth(field).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    text.one("process_virtual_memory_bytes", "gauge", "Size of the virtual memory.", pages(0) * page);
    text.one("process_resident_memory_bytes", "gauge", "Size of the resident memory.", pages(1) * page);
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    text.one("process_open_fds", "gauge", "Open file descriptors.", open);
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    text.one("process_threads", "gauge", "Threads.", threads);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have anything in it.
    let rest: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| rest.get(field).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    let seconds = (ticks(11) + ticks(12)) as f64 / rustix::param::clock_ticks_per_second() as f64;
    text.one(
        "process_cpu_seconds_total",
        "counter",
        "Time of processors, of the user and the kernel.",
        seconds,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_known_by_method_and_path() {
        let of = |method: &str, path| action(&method.parse().unwrap(), path);
        assert_eq!(of("POST", "/v1.47/containers/create"), Some("create"));
        assert_eq!(of("POST", "/containers/v1/start"), Some("start"));
        assert_eq!(of("DELETE", "/containers/x"), Some("delete"));
        assert_eq!(of("GET", "/containers/x"), None);
        assert_eq!(of("POST", "/volumes/create"), None);
        assert_eq!(quoted("a\"b\\\n"), r#""a\"b\\\n""#);
    }
}
