//! `registry init` and `registry user`: the file of users and rules, for people who would rather not write it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use engine_core::ErrorKind;
use engine_registry::server::{Action, RulesFile};

use super::rules_in;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output;
use crate::session::terminal;

/// Where the file is.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// Directory of the registry's content [default: ROOT/registry]
    #[arg(long, value_name = "DIR", env = "ENGINE_REGISTRY_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// File of users and rules [default: DATA/rules.toml]
    #[arg(long, value_name = "FILE", env = "ENGINE_REGISTRY_RULES", hide_env_values = true)]
    rules: Option<PathBuf>,
}

impl Place {
    fn data(&self, context: &Context) -> PathBuf {
        self.data.clone().unwrap_or_else(|| context.root().join("registry"))
    }

    fn rules(&self, context: &Context) -> PathBuf {
        self.rules.clone().unwrap_or_else(|| rules_in(&self.data(context)))
    }
}

/// `registry init`'s flags.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The first user
    #[arg(value_name = "USER")]
    user: String,
    /// Private repository of the user, or a pattern of such [default: USER/**]
    #[arg(long = "repository", value_name = "NAME")]
    repositories: Vec<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    place: Place,
}

/// `engine-cli registry user …`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user
    Add(AddArgs),
    /// Give a user another password; tokens got with the one before end
    Passwd(PasswordArgs),
    /// List users
    #[command(visible_alias = "list")]
    Ls(Place),
    /// Remove users, also from groups and rules
    Rm(RmArgs),
}

/// `registry user add`'s flags.
#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// The user
    #[arg(value_name = "USER")]
    user: String,
    /// Repository of the user, or a pattern of such
    #[arg(long = "repository", value_name = "NAME")]
    repositories: Vec<String>,
    /// What the user may do there
    #[arg(
        long,
        value_name = "ACTION",
        value_delimiter = ',',
        default_value = "push,delete",
        requires = "repositories"
    )]
    may: Vec<Word>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    place: Place,
}

/// `registry user passwd`'s flags.
#[derive(Args, Debug)]
pub(crate) struct PasswordArgs {
    /// The user
    #[arg(value_name = "USER")]
    user: String,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    place: Place,
}

/// `registry user rm`'s flags.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// The users
    #[arg(value_name = "USER", required = true)]
    users: Vec<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    Pull,
    Push,
    Delete,
}

impl From<Word> for Action {
    fn from(word: Word) -> Self {
        match word {
            Word::Pull => Self::Pull,
            Word::Push => Self::Push,
            Word::Delete => Self::Delete,
        }
    }
}

/// Runs `registry init`.
pub(crate) fn init(context: &Context, args: &InitArgs) -> Result<u8> {
    let (data, rules) = (args.place.data(context), args.place.rules(context));
    let exists = || {
        let text = format!("{} is there already: add users with `registry user add`", rules.display());
        Err(Failure::usage(text))
    };
    if rules.exists() {
        return exists();
    }
    let password = password(&args.user, args.password_stdin)?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data);
    made.map_err(|error| Failure::usage(format!("cannot make {}: {error}", data.display())))?;
    let own = || vec![format!("{}/**", args.user)];
    let repositories = if args.repositories.is_empty() { own() } else { args.repositories.clone() };
    match RulesFile::create(&rules, |file| {
        file.add_user(&args.user, &password)?;
        file.add_rule(&args.user, &[Action::Push, Action::Delete], &repositories)
    }) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return exists(),
        done => done?,
    }
    output::line(format!("User {} may use {} and nobody else may.", args.user, repositories.join(", ")))?;
    output::line(format!("Users and rules are in {}", rules.display()))?;
    let place = match &args.place.rules {
        Some(rules) => format!("--data {} --rules {}", data.display(), rules.display()),
        None => format!("--data {}", data.display()),
    };
    output::line(format!("Serve it with: engine-cli registry serve {place}"))?;
    Ok(0)
}

/// Runs `registry user`.
pub(crate) fn user(context: &Context, command: &UserCommand) -> Result<u8> {
    match command {
        UserCommand::Add(args) => {
            let password = password(&args.user, args.password_stdin)?;
            let may: Vec<Action> = args.may.iter().map(|word| (*word).into()).collect();
            edit(context, &args.place, |file| {
                file.add_user(&args.user, &password)?;
                match args.repositories.is_empty() {
                    true => Ok(()),
                    false => file.add_rule(&args.user, &may, &args.repositories),
                }
            })?;
        }
        UserCommand::Passwd(args) => {
            let password = password(&args.user, args.password_stdin)?;
            edit(context, &args.place, |file| file.set_password(&args.user, &password))?;
        }
        UserCommand::Ls(place) => {
            for user in edit(context, place, |file| Ok(file.users()))? {
                output::line(user)?;
            }
        }
        UserCommand::Rm(args) => {
            edit(context, &args.place, |file| args.users.iter().try_for_each(|user| file.remove_user(user)))?;
        }
    }
    Ok(0)
}

fn edit<T>(
    context: &Context,
    place: &Place,
    change: impl FnOnce(&mut RulesFile) -> engine_core::error::Result<T>,
) -> Result<T> {
    let rules = place.rules(context);
    if !rules.exists() {
        let text = format!("there is no {}: `registry init` makes it", rules.display());
        return Err(Failure::usage(text));
    }
    Ok(RulesFile::edit(rules, change)?)
}

/// Asks for a new password; a person gives it twice.
fn password(user: &str, from_stdin: bool) -> Result<String> {
    use std::io::IsTerminal as _;
    let ask = |prompt: &str| {
        terminal::read_secret(prompt)
            .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))
    };
    if from_stdin {
        return ask("");
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for a password: give --password-stdin"));
    }
    let first = ask(&format!("Password of {user}: "))?;
    match ask("Again: ")? == first {
        true => Ok(first),
        false => Err(Failure::usage("the passwords differ")),
    }
}
