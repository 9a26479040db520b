//! Who lets whom into a served registry.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use engine_registry::server::{Htpasswd, RegistryServerBuilder, Rules, Tokens};

use super::rules_in;
use crate::failure::{Failure, Result};

/// How clients say who they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Auth {
    /// They do not.
    None,
    /// By a password with each request.
    Basic,
    /// By tokens that they get for a password.
    Token,
}

/// The flags of `registry serve` about users.
#[derive(Args, Clone, Debug)]
pub(crate) struct AuthArgs {
    /// Serve only the users in this file of bcrypt hashes (htpasswd -B); read anew when it changes
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// File of users and rules; read anew when it changes [default: DATA/rules.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// How clients say who they are: none (everybody is let in), basic, or token (and basic) [default: token with rules, basic with htpasswd]
    #[arg(long, value_name = "HOW")]
    auth: Option<Auth>,
    /// Where clients find the registry, if something in between changes that; tokens are got there
    #[arg(long, value_name = "URL")]
    external_url: Option<String>,
}

impl AuthArgs {
    /// Puts in front of the registry who lets whom in.
    pub(super) fn guard(&self, builder: RegistryServerBuilder, data: &Path) -> Result<RegistryServerBuilder> {
        if self.rules.is_some() && self.htpasswd.is_some() {
            return Err(Failure::usage("--rules and --htpasswd: give one of them"));
        }
        // A registry that was set up to be private is not opened by leaving a flag out.
        let found = || Some(rules_in(data)).filter(|path| self.htpasswd.is_none() && path.exists());
        let rules = self.rules.clone().or_else(found);
        let auth = self.auth.unwrap_or(match (&rules, &self.htpasswd) {
            (Some(_), _) => Auth::Token,
            (None, Some(_)) => Auth::Basic,
            (None, None) => Auth::None,
        });
        if self.external_url.is_some() && auth != Auth::Token {
            return Err(Failure::usage("--external-url is for --auth token"));
        }
        Ok(match (auth, rules, &self.htpasswd) {
            (Auth::None, ..) => builder,
            (Auth::Basic, Some(rules), _) => builder.with_authorizer(Rules::open(rules)?),
            (Auth::Basic, None, Some(users)) => builder.with_authorizer(Htpasswd::open(users)?),
            (Auth::Token, Some(rules), _) => {
                let mut tokens = Tokens::open(Rules::open(rules)?, data.join("token.key"))?;
                if let Some(url) = &self.external_url {
                    tokens = tokens.with_external_url(url)?;
                }
                builder.with_tokens(tokens)
            }
            (Auth::Token, None, _) => {
                return Err(Failure::usage("--auth token needs --rules (`registry init` makes a file)"));
            }
            (Auth::Basic, None, None) => {
                return Err(Failure::usage(
                    "--auth basic needs --rules (`registry init` makes a file) or --htpasswd",
                ));
            }
        })
    }
}
