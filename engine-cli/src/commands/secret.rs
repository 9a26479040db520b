//! `secret create`, `ls`, `inspect`, `rm`, `exists`, as Podman has them.

use std::io::Read as _;
use std::path::Path;

use clap::{Args, Subcommand};
use engine_core::engine::LabelFilter;
use engine_core::secret::{MAX_SIZE, Secret, SecretData, SecretOptions};
use engine_core::{ErrorKind, Name};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Result, Several};
use crate::options::env;
use crate::options::list::ListArgs;
use crate::output::documents::Documents;
use crate::output::table::Listing;
use crate::output::{self, docker_json, human};

/// `engine-cli secret …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Create a secret from a file or standard input
    Create(CreateArgs),
    /// List secrets
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Show secrets as JSON
    Inspect(InspectArgs),
    /// Remove secrets; containers that have them keep them
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Tell by the exit code whether there is such a secret
    Exists(ExistsArgs),
}

/// `secret create`'s flags.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Driver: file
    #[arg(short, long, value_name = "DRIVER", default_value = "file", hide_default_value = true, value_parser = ["file"])]
    driver: String,
    /// Take the content from an environment variable of this name, not from a file
    #[arg(long)]
    env: bool,
    /// Say nothing if there is a secret of this name, and leave it as it is
    #[arg(long, conflicts_with = "replace")]
    ignore: bool,
    /// Label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Take the place of a secret of this name; containers that have that one keep it
    #[arg(long)]
    replace: bool,
    /// The name
    name: Name,
    /// A file, or - for standard input
    #[arg(value_name = "FILE|-")]
    source: String,
}

/// `secret ls`'s flags.
#[derive(Args, Debug)]
#[command(mut_arg("filter", |arg| arg.help("Show only those that match: driver, id, label, name")))]
pub(crate) struct LsArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Leave the headings out
    #[arg(short, long)]
    noheading: bool,
}

/// `secret inspect`'s flags.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// A Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show the content too
    #[arg(long)]
    showsecret: bool,
    /// Names or ids
    #[arg(required = true, value_name = "SECRET")]
    names: Vec<String>,
}

/// `secret rm`'s flags.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// Remove all
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// Say nothing about secrets that are not there
    #[arg(short, long)]
    ignore: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "SECRET")]
    names: Vec<String>,
}

/// `secret exists`'s arguments.
#[derive(Args, Debug)]
pub(crate) struct ExistsArgs {
    /// Name or id
    #[arg(value_name = "SECRET")]
    name: String,
}

const LISTING: Listing<'_> = Listing {
    columns: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}",
    headings: &[
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("CreatedAt", "CREATED"),
        ("UpdatedAt", "UPDATED"),
        ("Labels", "LABELS"),
    ],
    quiet: "ID",
};

/// Runs a command of secrets.
pub(crate) async fn run(context: &Context, command: SecretCommand) -> Result<u8> {
    match command {
        SecretCommand::Create(args) => create(context, &args).await,
        SecretCommand::Ls(args) => ls(context, &args).await,
        SecretCommand::Inspect(args) => inspect(context, &args).await,
        SecretCommand::Rm(args) => rm(context, &args).await,
        SecretCommand::Exists(args) => match context.engine().await?.secret(&args.name).await {
            Ok(_) => Ok(0),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(1),
            Err(error) => Err(Failure::from(error).or_code(125)),
        },
    }
}

async fn create(context: &Context, args: &CreateArgs) -> Result<u8> {
    let engine = context.engine().await?;
    if args.ignore {
        match engine.secret(args.name.as_str()).await {
            Ok(there) if there.name == args.name => {
                output::line(there.id)?;
                return Ok(0);
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let options =
        SecretOptions::default().with_labels(env::labels(&[], &args.label)?).with_replace(args.replace);
    let made = engine.create_secret(&args.name, args.content()?, options).await?;
    output::line(made.id)?;
    Ok(0)
}

impl CreateArgs {
    fn content(&self) -> Result<SecretData> {
        if self.env {
            let value = std::env::var_os(&self.source).ok_or_else(|| {
                Failure::usage(format!(
                    "cannot create secret: there is no environment variable {:?}",
                    self.source
                ))
            })?;
            return Ok(SecretData::new(std::os::unix::ffi::OsStringExt::into_vec(value)));
        }
        let failed = |error| Failure::usage(format!("cannot read {}: {error}", self.source));
        let input: Box<dyn std::io::Read> = match self.source.as_str() {
            "-" => Box::new(std::io::stdin()),
            path => Box::new(std::fs::File::open(Path::new(path)).map_err(failed)?),
        };
        let mut content = Vec::new();
        // What is larger is refused, with no need to read it all.
        input.take(MAX_SIZE as u64 + 1).read_to_end(&mut content).map_err(failed)?;
        Ok(SecretData::new(content))
    }
}

fn row(secret: &Secret) -> Value {
    let labels: Vec<String> = secret.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    json!({
        "ID": secret.id.as_str(),
        "Name": secret.name.as_str(),
        "Driver": "file",
        "CreatedAt": human::ago(secret.created_at),
        "UpdatedAt": human::ago(secret.updated_at),
        "Labels": labels.join(","),
    })
}

async fn ls(context: &Context, args: &LsArgs) -> Result<u8> {
    let filters = args.list.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>>>()?;
    let secrets = context.engine().await?.secrets().await?;
    let shown = |secret: &&Secret| Filter::all_match(&filters, secret);
    let rows: Vec<Value> = secrets.iter().filter(shown).map(row).collect();
    let mut text = args.list.show(&LISTING, &rows)?;
    let has_heading =
        !args.list.quiet && args.list.format.as_deref().is_none_or(|format| format.starts_with("table"));
    if args.noheading && has_heading {
        text = text.split_once('\n').map_or_else(String::new, |(_, rows)| rows.to_owned());
    }
    output::print(&text)?;
    Ok(0)
}

/// One `--filter`. Values of one key are alternatives, except labels; keys must all match.
#[derive(Debug)]
enum Filter {
    Driver(String),
    Id(String),
    Name(String),
    Label(LabelFilter),
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Failure::usage(format!("invalid filter {text:?}: {why}"));
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("give KEY=VALUE"))?;
        match key {
            "driver" => Ok(Self::Driver(value.to_owned())),
            "id" => Ok(Self::Id(value.to_owned())),
            "name" => Ok(Self::Name(value.to_owned())),
            "label" => Ok(Self::Label(LabelFilter::parse(value, true))),
            _ => Err(wrong("the keys are driver, id, label and name")),
        }
    }

    /// Whether a secret has what the filter wants; `None` if it is of another kind than `of`.
    fn matches(&self, of: &Self, secret: &Secret) -> Option<bool> {
        (std::mem::discriminant(self) == std::mem::discriminant(of)).then(|| match self {
            Self::Driver(driver) => driver == "file",
            Self::Id(id) => secret.id.as_str().starts_with(id.as_str()),
            Self::Name(name) => secret.name.as_str().contains(name.as_str()),
            Self::Label(label) => label.matches(|key| secret.labels.get(key)),
        })
    }

    fn all_match(filters: &[Self], secret: &Secret) -> bool {
        filters.iter().all(|filter| {
            let mut same = filters.iter().filter_map(|other| other.matches(filter, secret));
            if matches!(filter, Self::Label(_)) { same.all(|fits| fits) } else { same.any(|fits| fits) }
        })
    }
}

async fn inspect(context: &Context, args: &InspectArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let documents = Documents::new(args.format.as_deref())?;
    let mut several = Several::default();
    let mut found = Vec::new();
    for name in &args.names {
        let one = async {
            let secret = engine.secret(name).await?;
            let content = match args.showsecret {
                true => Some(engine.reveal_secret(&secret.id).await?),
                false => None,
            };
            Ok(docker_json::secret(&secret, content.as_ref()))
        };
        found.extend(several.note(one.await));
    }
    documents.print(&found)?;
    several.finish()
}

async fn rm(context: &Context, args: &RmArgs) -> Result<u8> {
    let engine = context.engine().await?;
    let mut several = Several::default();
    if args.all {
        for secret in engine.secrets().await? {
            let removed = async {
                engine.remove_secret(&secret.id).await?;
                output::line(&secret.id)
            };
            several.note(removed.await);
        }
    }
    for name in &args.names {
        let removed = async {
            let secret = match engine.secret(name).await {
                Err(error) if error.kind() == ErrorKind::NotFound && args.ignore => return Ok(()),
                found => found?,
            };
            engine.remove_secret(&secret.id).await?;
            output::line(secret.id)
        };
        several.note(removed.await);
    }
    several.finish()
}
