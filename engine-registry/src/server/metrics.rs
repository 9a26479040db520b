//! Figures for Prometheus, in its text format.
//!
//! Owns the counters and their names. There is nothing of clients or repositories in them, so their number is bounded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::garbage::GcReport;
use super::quota::Usage;

/// The media type of the text.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the histogram of seconds, as Prometheus' own clients have them, with some for large blobs.
const BOUNDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    operations: Mutex<BTreeMap<&'static str, Operation>>,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) requests_under_way: AtomicU64,
    pub(super) uploads_under_way: AtomicU64,
    events: AtomicU64,
    collections: Mutex<Collections>,
}

#[derive(Debug, Default)]
struct Operation {
    statuses: BTreeMap<u16, u64>,
    /// Requests up to each bound, not counting those of the bounds below.
    buckets: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

#[derive(Debug, Default)]
struct Collections {
    done: u64,
    failed: u64,
    manifests: u64,
    blobs: u64,
    bytes: u64,
    seconds: f64,
}

impl Metrics {
    pub(super) fn request(&self, operation: &'static str, status: u16, took: Duration) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let found = operations.entry(operation).or_default();
        let seconds = took.as_secs_f64();
        *found.statuses.entry(status).or_default() += 1;
        found.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        found.seconds += seconds;
    }

    pub(super) fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn collection(&self, report: Option<&GcReport>, took: Duration) {
        let mut all = self.collections.lock().unwrap_or_else(PoisonError::into_inner);
        all.seconds += took.as_secs_f64();
        match report {
            Some(report) => {
                all.done += 1;
                all.manifests += report.manifests;
                all.blobs += report.blobs;
                all.bytes += report.bytes;
            }
            None => all.failed += 1,
        }
    }

    /// Writes all figures. Without `usage`, the storage could not say what there is.
    pub(super) fn text(&self, usage: Option<&Usage>) -> String {
        let mut text = String::new();
        self.requests(&mut text);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let collections = self.collections.lock().unwrap_or_else(PoisonError::into_inner);
        let mut one = |name: &str, kind: &str, help: &str, value: &dyn std::fmt::Display| {
            let name = format!("engine_registry_{name}");
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        let counters: [(&str, &str, u64); 8] = [
            ("received_bytes_total", "Bytes of bodies that clients sent.", load(&self.received)),
            ("sent_bytes_total", "Bytes of bodies that clients got.", load(&self.sent)),
            ("events_total", "Events that were told to listeners.", load(&self.events)),
            ("gc_runs_total", "Garbage collections that came to their end.", collections.done),
            ("gc_failures_total", "Garbage collections that failed.", collections.failed),
            ("gc_manifests_total", "Manifests that were collected.", collections.manifests),
            ("gc_blobs_total", "Blobs that were collected.", collections.blobs),
            ("gc_bytes_total", "Bytes of blobs that were collected.", collections.bytes),
        ];
        for (name, help, value) in counters {
            one(name, "counter", help, &value);
        }
        one("gc_seconds_total", "counter", "Time that garbage collections took.", &collections.seconds);
        let mut gauges = vec![
            ("requests_under_way", "Requests that are being answered.", load(&self.requests_under_way)),
            ("uploads_under_way", "Requests that upload a blob.", load(&self.uploads_under_way)),
        ];
        if let Some(usage) = usage {
            gauges.extend([
                ("storage_bytes", "Bytes of blobs and manifests, each blob once.", usage.bytes),
                ("storage_blobs", "Blobs.", usage.blobs),
                ("storage_manifests", "Manifests.", usage.manifests),
                ("storage_repositories", "Repositories.", usage.repositories),
            ]);
        }
        for (name, help, value) in gauges {
            one(name, "gauge", help, &value);
        }
        text
    }

    fn requests(&self, text: &mut String) {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let (requests, seconds) = ("engine_registry_requests_total", "engine_registry_request_seconds");
        let _ = writeln!(text, "# HELP {requests} Requests that were answered.\n# TYPE {requests} counter");
        for (operation, found) in operations.iter() {
            for (status, count) in &found.statuses {
                let _ = writeln!(text, "{requests}{{operation=\"{operation}\",status=\"{status}\"}} {count}");
            }
        }
        let _ = writeln!(
            text,
            "# HELP {seconds} Time from a request's head to the last byte of its answer.\n# TYPE {seconds} histogram"
        );
        for (operation, found) in operations.iter() {
            let mut count = 0;
            let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            for (bound, bucket) in bounds.zip(found.buckets) {
                count += bucket;
                let _ =
                    writeln!(text, "{seconds}_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(text, "{seconds}_sum{{operation=\"{operation}\"}} {}", found.seconds);
            let _ = writeln!(text, "{seconds}_count{{operation=\"{operation}\"}} {count}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_counted_and_named() {
        let metrics = Metrics::default();
        for (status, millis) in [(200, 5), (200, 6), (404, 400_000)] {
            metrics.request("blob", status, Duration::from_millis(millis));
        }
        metrics.collection(Some(&GcReport { bytes: 7, ..GcReport::default() }), Duration::from_secs(1));
        metrics.collection(None, Duration::from_secs(1));
        let text = metrics.text(Some(&Usage { bytes: 9, ..Usage::default() }));
        for line in [
            "engine_registry_requests_total{operation=\"blob\",status=\"200\"} 2",
            "engine_registry_requests_total{operation=\"blob\",status=\"404\"} 1",
            "engine_registry_request_seconds_bucket{operation=\"blob\",le=\"0.005\"} 1",
            "engine_registry_request_seconds_bucket{operation=\"blob\",le=\"0.01\"} 2",
            "engine_registry_request_seconds_bucket{operation=\"blob\",le=\"300\"} 2",
            "engine_registry_request_seconds_bucket{operation=\"blob\",le=\"+Inf\"} 3",
            "engine_registry_request_seconds_count{operation=\"blob\"} 3",
            "# TYPE engine_registry_request_seconds histogram",
            "engine_registry_gc_runs_total 1",
            "engine_registry_gc_failures_total 1",
            "engine_registry_gc_bytes_total 7",
            "engine_registry_gc_seconds_total 2",
            "engine_registry_storage_bytes 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!metrics.text(None).contains("storage_bytes"));
    }
}
