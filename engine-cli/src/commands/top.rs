//! `top`.

use clap::Args;
use engine_core::top::ProcessTable;

use crate::context::Context;
use crate::failure::Result;
use crate::output::{self, table};

/// `top`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Name or id
    container: String,
    /// Options of ps, such as aux or -o pid,user,args [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    options: Vec<String>,
}

/// Runs `top`.
pub(crate) async fn top(context: &Context, args: &TopArgs) -> Result<u8> {
    let container = context.engine().await?.container(&args.container).await?;
    let processes = container.processes().await?;
    let shown = ProcessTable::new(&processes, &args.options)?;
    let lines: Vec<String> =
        std::iter::once(&shown.titles).chain(&shown.rows).map(|row| row.join("\t")).collect();
    output::print(&table::align(&lines))?;
    Ok(0)
}
