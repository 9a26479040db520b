//! `context create`, `ls`, `inspect`, `use`, `show`, `update`, `rm`: names for engines elsewhere.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use engine_api::client::Host;
use serde_json::{Value, json};

use crate::context::Context;
use crate::contexts::{CERTIFICATES, Contexts, DEFAULT, NamedContext};
use crate::failure::{Failure, Result, Several};
use crate::output;
use crate::output::documents::Documents;
use crate::output::table::Listing;

/// `engine-cli context …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Give an engine elsewhere a name
    Create(CreateArgs),
    /// Show contexts as JSON
    Inspect(InspectArgs),
    /// List contexts
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Forget contexts
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Print the name of the context in use
    Show,
    /// Change a context
    Update(CreateArgs),
    /// Use a context from now on; default is the engine in this process
    Use(UseArgs),
}

/// `context create`'s and `context update`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// What it is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Where it is: host=HOST, and ca=FILE, cert=FILE and key=FILE for one by TCP
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',')]
    docker: Vec<String>,
    /// The name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

/// `context inspect`'s flags.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// A Go template
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Names; the one in use without any
    #[arg(value_name = "CONTEXT")]
    names: Vec<String>,
}

/// `context ls`'s flags.
#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    /// A Go template, `table TEMPLATE`, or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
}

/// `context rm`'s flags.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Forget the one in use, too, and say nothing about those that are gone
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "CONTEXT")]
    names: Vec<String>,
}

/// `context use`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct UseArgs {
    /// The name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    headings: &[
        ("Name", "NAME"),
        ("Current", ""),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
    quiet: "Name",
};

/// Runs a command of contexts.
pub(crate) fn run(context: &Context, command: ContextCommand) -> Result<u8> {
    let contexts = Contexts::required()?;
    match command {
        ContextCommand::Create(args) => {
            if contexts.find(&args.name)?.is_some() {
                return Err(Failure::usage(format!(
                    "context {:?} exists already (\"context update\" changes it)",
                    args.name
                )));
            }
            store(&contexts, &args, NamedContext::new(&args.name))?;
            output::line(&args.name)?;
            eprintln!("Successfully created context {:?}", args.name);
        }
        ContextCommand::Update(args) => {
            let known = contexts.require(&args.name)?;
            store(&contexts, &args, known)?;
            output::line(&args.name)?;
        }
        ContextCommand::Inspect(args) => inspect(context, &contexts, &args)?,
        ContextCommand::Ls(args) => ls(context, &contexts, &args)?,
        ContextCommand::Show => output::line(context.global.host.context_name()?)?,
        ContextCommand::Use(args) => {
            if args.name != DEFAULT {
                contexts.require(&args.name)?;
            }
            contexts.choose(&args.name)?;
            output::line(&args.name)?;
            if std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty()) {
                eprintln!(
                    "Warning: DOCKER_HOST counts before the context in use. To use {:?}, unset it, or name it by --context.",
                    args.name
                );
            }
        }
        ContextCommand::Rm(args) => return rm(&contexts, &args),
    }
    Ok(0)
}

/// Keeps what the flags say of a context, and what they do not say as it was.
fn store(contexts: &Contexts, args: &CreateArgs, mut context: NamedContext) -> Result<()> {
    let usual = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    let begins = args.name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if args.name == DEFAULT || !begins || args.name.len() < 2 || !args.name.chars().all(usual) {
        return Err(Failure::usage(format!(
            "{:?} cannot be the name of a context: give two or more of a-z A-Z 0-9 _ . + -, but not {DEFAULT}",
            args.name
        )));
    }
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    for option in &args.docker {
        match option.split_once('=') {
            Some(("host", value)) => context.set_host(value.parse::<Host>()?.to_string()),
            Some((kind, file))
                if let Some((_, name)) = CERTIFICATES.iter().find(|(known, _)| *known == kind) =>
            {
                files.push((name, file.into()));
            }
            _ => {
                return Err(Failure::usage(format!(
                    "invalid --docker {option:?}: give host=HOST, ca=FILE, cert=FILE or key=FILE"
                )));
            }
        }
    }
    if context.host().is_empty() {
        return Err(Failure::usage("a context needs a host: --docker host=HOST"));
    }
    let given: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    if let Some(missing) = contexts.missing_certificate(&args.name, &given) {
        return Err(Failure::usage(format!(
            "certificates are on both sides, so ca, cert and key belong together: --docker {missing}=FILE is missing"
        )));
    }
    if let Some(description) = &args.description {
        context.metadata.description.clone_from(description);
    }
    let files: Vec<(&str, &Path)> = files.iter().map(|(name, file)| (*name, file.as_path())).collect();
    contexts.store(&context, &files)
}

fn ls(context: &Context, contexts: &Contexts, args: &LsArgs) -> Result<()> {
    let current = context.global.host.context_name()?;
    let row = |name: &str, description: &str, host: &str| {
        json!({
            "Name": name,
            "Current": name == current,
            "Description": description,
            "DockerEndpoint": host,
            "Error": "",
        })
    };
    let mut rows: Vec<Value> = vec![row(DEFAULT, "The engine in this process", "")];
    rows.extend(contexts.list()?.iter().map(|one| row(&one.name, &one.metadata.description, one.host())));
    output::print(&LISTING.show(&rows, args.format.as_deref(), args.quiet)?)
}

fn inspect(context: &Context, contexts: &Contexts, args: &InspectArgs) -> Result<()> {
    let names = match &args.names[..] {
        [] => vec![context.global.host.context_name()?],
        names => names.to_vec(),
    };
    let mut documents = Vec::new();
    for name in &names {
        let found = match name.as_str() {
            DEFAULT => NamedContext::new(DEFAULT),
            name => contexts.require(name)?,
        };
        let mut document = serde_json::to_value(&found).map_err(|error| Failure::usage(error.to_string()))?;
        document["Storage"] = json!({ "TLSPath": contexts.tls(name) });
        documents.push(document);
    }
    Documents::new(args.format.as_deref())?.print(&documents)
}

fn rm(contexts: &Contexts, args: &RmArgs) -> Result<u8> {
    let mut several = Several::default();
    for name in &args.names {
        let removed = || {
            if name == DEFAULT {
                return Err(Failure::usage("the context default cannot be removed"));
            }
            if contexts.find(name)?.is_none() && !args.force {
                contexts.require(name)?;
            }
            if contexts.current()? == *name {
                if !args.force {
                    return Err(Failure::usage(format!(
                        "context {name:?} is in use: choose another with \"context use\", or force the removal"
                    )));
                }
                contexts.choose(DEFAULT)?;
            }
            contexts.remove(name)?;
            output::line(name)
        };
        several.note(removed());
    }
    several.finish()
}
