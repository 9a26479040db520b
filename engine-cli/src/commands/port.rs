//! `port`.

use clap::Args;
use engine_core::network::Protocol;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::{self, ports};

/// `port`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct PortArgs {
    /// Name or id
    container: String,
    /// Show only where this port is published
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Runs `port`.
pub(crate) async fn port(context: &Context, args: &PortArgs) -> Result<u8> {
    let wanted = args.port.as_deref().map(wanted).transpose()?;
    let info = context.engine().await?.container(&args.container).await?.inspect().await?;
    let mut seen = false;
    for port in engine_api::port_summaries(&info) {
        let Some(place) = ports::place(&port) else { continue };
        let inside = format!("{}/{}", port.private_port, ports::protocol(&port));
        match &wanted {
            Some(wanted) if *wanted != inside => continue,
            Some(_) => output::line(place)?,
            None => output::line(format!("{inside} -> {place}"))?,
        }
        seen = true;
    }
    match wanted {
        Some(wanted) if !seen => {
            Err(Failure::usage(format!("no public port '{wanted}' published for {}", args.container)))
        }
        _ => Ok(0),
    }
}

fn wanted(text: &str) -> Result<String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number: u16 =
        number.parse().map_err(|_| Failure::usage(format!("invalid port {text:?}: give PORT[/PROTOCOL]")))?;
    Ok(format!("{number}/{}", protocol.parse::<Protocol>()?))
}
