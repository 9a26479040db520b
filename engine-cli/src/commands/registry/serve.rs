//! `registry serve`: a registry of one's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use engine_registry::server::{
    EventAction, FileStorage, GcPolicy, Policy, PullThrough, Quotas, RegistryServer, ServerTls, Upstream,
    Webhook, WebhookOptions,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::auth::AuthArgs;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output;
use crate::output::human::{parse_duration, parse_size};

/// `registry serve`'s flags. What one needs beside it is checked in `serve`, since it may be in a file or the environment.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 is any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    addr: String,
    /// Directory of the registry's content [default: ROOT/registry]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Bucket of the registry's content, which servers may share: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX,
    /// with the service's usual environment variables
    #[arg(long, value_name = "URL")]
    storage: Option<String>,
    /// File of the certificate (PEM), with those that lead to its authority; loaded anew when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// File of the certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Serve only clients with a certificate of an authority in this file (PEM)
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    #[command(flatten)]
    auth: AuthArgs,
    /// Take nothing: no push, no deletion
    #[arg(long)]
    read_only: bool,
    /// Delete nothing: no tag, manifest or blob
    #[arg(long)]
    no_delete: bool,
    /// Remove garbage this often, beside what clients do; 0 is never
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    gc_interval: Duration,
    /// Spare what was pushed, mounted or asked for in this time; it has to be longer than a push takes
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = parse_duration)]
    gc_grace: Duration,
    /// Remove manifests, too, that no tag leads to
    #[arg(long)]
    gc_untagged: bool,
    /// Bytes that each repository may have whose name matches (`team/*=20g`); the first that matches counts
    #[arg(long, value_name = "PATTERN=BYTES", value_parser = quota)]
    quota: Vec<(String, u64)>,
    /// Bytes that all repositories may have together
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    quota_total: Option<u64>,
    /// Send events of pushes and deletions to this address, as distribution does
    #[arg(long, value_name = "URL")]
    webhook: Vec<String>,
    /// File of headers for --webhook, one `Name: value` a line
    #[arg(long, value_name = "FILE")]
    webhook_headers: Option<PathBuf>,
    /// Send events of pulls, too
    #[arg(long)]
    webhook_pulls: bool,
    /// Address to serve figures for Prometheus on, at /metrics, to everybody who reaches it
    #[arg(long, value_name = "HOST:PORT")]
    metrics_addr: Option<String>,
    /// Serve no pages for people at /
    #[arg(long)]
    no_page: bool,
    /// Serve what is below PREFIX from another registry, fetched once and kept (`docker.io`, `hub=docker.io`)
    #[arg(long, value_name = "[PREFIX=]REGISTRY")]
    upstream: Vec<String>,
    /// How long a tag of an upstream is served before the upstream is asked again
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    upstream_ttl: Duration,
    /// How long content of an upstream stays that nobody asks for; 0 is for ever
    #[arg(long, value_name = "DURATION", default_value = "168h", value_parser = parse_duration)]
    upstream_unused: Duration,
    /// Docker's config.json with the credentials for upstreams
    #[arg(long, value_name = "FILE")]
    upstream_config: Option<PathBuf>,
    /// Serve plain http to other hosts, too
    #[arg(long)]
    insecure: bool,
}

/// Runs `registry serve`.
pub(crate) async fn serve(context: &Context, args: &ServeArgs) -> Result<u8> {
    let (cert, key) = (args.tls_cert.is_some(), args.tls_key.is_some());
    if cert != key || (args.tls_client_ca.is_some() && !cert) {
        return Err(Failure::usage("--tls-cert, --tls-key and --tls-client-ca: the first two are needed")
            .or_code(125));
    }
    let address = address("--addr", &args.addr).await?;
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    if scheme == "http" && !address.ip().is_loopback() && !args.insecure {
        return Err(Failure::usage(format!(
            "{address} is open to other hosts, and everything would go there in the clear: give --tls-cert and \
             --tls-key, or --insecure if you mean it"
        )));
    }
    let data = args.data.clone().unwrap_or_else(|| context.root().join("registry"));
    let policy = Policy::default().with_read_only(args.read_only).with_keep(args.no_delete);
    let mut quotas = Quotas::default();
    quotas.repositories.clone_from(&args.quota);
    quotas.total = args.quota_total;
    let (builder, place) = match &args.storage {
        Some(url) => {
            let storage = super::bucket(url).await?;
            let place = storage.location().to_owned();
            (RegistryServer::builder(storage), place)
        }
        None => (RegistryServer::builder(FileStorage::open(&data)?), data.display().to_string()),
    };
    let mut builder = builder.with_policy(policy).with_quotas(quotas).with_page(!args.no_page);
    if !args.gc_interval.is_zero() {
        let policy = GcPolicy::default().with_grace(args.gc_grace).with_untagged(args.gc_untagged);
        builder = builder.with_gc(args.gc_interval, policy);
    }
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        let mut tls = ServerTls::new(cert, key);
        if let Some(authorities) = &args.tls_client_ca {
            tls = tls.with_client_authorities(authorities);
        }
        builder = builder.with_tls(tls);
    }
    builder = args.auth.guard(builder, &data)?;
    if let Some(through) = pull_through(context, args, &data)? {
        builder = builder.with_pull_through(through);
    }
    for webhook in webhooks(args)? {
        builder = builder.with_listener(webhook);
    }
    let server = builder.build()?;
    let (listener, address) = listen(address).await?;
    let figures = match &args.metrics_addr {
        Some(text) => Some(listen(self::address("--metrics-addr", text).await?).await?),
        None => None,
    };
    let (mut interrupt, mut terminate) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    output::line(format!("Serving {scheme}://{address} from {place}"))?;
    if let Some((listener, address)) = figures {
        output::line(format!("Figures at http://{address}/metrics"))?;
        let server = server.clone();
        tokio::spawn(async move { server.serve_metrics(listener).await });
    }

    let mut signals = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut serving = std::pin::pin!(server.serve_until(listener, async {
        let _ = stopped.await;
    }));
    tokio::select! {
        done = &mut serving => done?,
        () = signals() => {
            eprintln!("engine-cli: letting requests under way finish; once more ends them");
            let _ = stop.send(());
            tokio::select! {
                done = &mut serving => done?,
                () = signals() => return Ok(130),
            }
        }
    }
    Ok(0)
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::usage(format!("cannot listen on {address}: {error}")))?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}

/// What comes from other registries. The credentials of whoever starts the server are not for whoever asks it: upstreams have
/// a file of their own.
fn pull_through(context: &Context, args: &ServeArgs, data: &Path) -> Result<Option<PullThrough>> {
    if args.upstream.is_empty() {
        return match args.upstream_config {
            Some(_) => Err(Failure::usage("--upstream-config needs --upstream").or_code(125)),
            None => Ok(None),
        };
    }
    let client = context.registry_with(args.upstream_config.as_deref())?;
    let unused = Some(args.upstream_unused).filter(|unused| !unused.is_zero());
    let mut through = PullThrough::new(data.join("spool"));
    for text in &args.upstream {
        let (prefix, registry) = text.split_once('=').unwrap_or((text, text));
        let upstream = Upstream::new(prefix, client.clone()).with_registry(registry);
        through = through.with_upstream(upstream.with_ttl(args.upstream_ttl).with_unused(unused));
    }
    Ok(Some(through))
}

fn webhooks(args: &ServeArgs) -> Result<Vec<Webhook>> {
    if args.webhook.is_empty() && (args.webhook_headers.is_some() || args.webhook_pulls) {
        return Err(Failure::usage("--webhook-headers and --webhook-pulls need --webhook").or_code(125));
    }
    let mut headers = Vec::new();
    if let Some(path) = &args.webhook_headers {
        let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            // Without the line: it may be a secret.
            let parts =
                line.split_once(':').ok_or_else(|| wrong(format!("line {} is no header", number + 1)))?;
            headers.push((parts.0.trim().to_owned(), parts.1.trim().to_owned()));
        }
    }
    let make = |url: &String| {
        let mut options = WebhookOptions::new(url);
        options.headers.clone_from(&headers);
        if args.webhook_pulls {
            options.actions.push(EventAction::Pull);
        }
        Ok(Webhook::new(options)?)
    };
    args.webhook.iter().map(make).collect()
}

fn quota(text: &str) -> std::result::Result<(String, u64), String> {
    let (pattern, bytes) = text.rsplit_once('=').ok_or("give PATTERN=BYTES, such as team/*=20g")?;
    Ok((pattern.to_owned(), parse_size(bytes)?))
}

/// Finds the address that a name stands for.
async fn address(flag: &str, text: &str) -> Result<SocketAddr> {
    let found = tokio::net::lookup_host(text).await.map(|mut found| found.next());
    match found {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(Failure::usage(format!("invalid {flag} {text:?}: the host has no address"))),
        Err(error) => Err(Failure::usage(format!("invalid {flag} {text:?}: {error} (give HOST:PORT)"))),
    }
}

fn hear(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")))
}
