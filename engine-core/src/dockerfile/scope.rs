//! Which variables an instruction sees: arguments of the file, of the caller and of the platform, and the environment.
//!
//! Docker's rules: what is in front of the first `FROM` is seen by the `FROM`s alone; a stage sees an argument from its `ARG` on, and
//! so do the stages built on it; the caller's values are before defaults, and `ENV` is before `ARG`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::directives::Escape;
use super::error::SyntaxError;
use super::expand::{ExpandError, Expander, Variables};
use super::file::Dockerfile;
use super::instruction::{Arg, Instruction};
use crate::platform::Platform;

/// Arguments that need no `ARG`, in any case: they are in the environment of commands, and not in the history.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// What every process gets that has no other.
pub(crate) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns whether an argument needs no `ARG`: `HTTP_PROXY`, `no_proxy` and their like.
#[must_use]
pub fn is_predefined_arg(name: &str) -> bool {
    PROXIES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// What the `FROM`s of a file see, and what stages get from the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GlobalScope {
    given: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
    escape: Escape,
}

impl GlobalScope {
    /// Creates the scope of `file` with the caller's arguments (`--build-arg`) and the platforms of a build; `target` is the name of
    /// the stage that is built.
    ///
    /// # Errors
    /// A default that cannot be expanded, at its line.
    pub fn new(
        file: &Dockerfile,
        given: BTreeMap<String, String>,
        build: &Platform,
        target_platform: &Platform,
        target: Option<&str>,
    ) -> Result<Self, SyntaxError> {
        let mut values = platform_args(build, target_platform, target);
        for (name, value) in &mut values {
            if let Some(given) = given.get(name) {
                value.clone_from(given);
            }
        }
        let escape = file.directives.escape;
        for arg in &file.args {
            for definition in &arg.definitions {
                let value = match (given.get(&definition.name), &definition.default) {
                    (Some(given), _) => given.clone(),
                    (None, Some(default)) => {
                        let mut expander = Expander::new(&values, escape);
                        let value = expander.word(default);
                        value.map_err(|error| file.error_at(arg.span, error.to_string()))?
                    }
                    (None, None) => continue,
                };
                values.insert(definition.name.clone(), value);
            }
        }
        Ok(Self { given, values, escape })
    }

    /// Returns the arguments and their values, in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the proxies that the caller gives, under both of their names: for the environment of commands, not for the
    /// history and not for what the cache depends on.
    #[must_use]
    pub fn proxies(&self) -> Vec<(String, String)> {
        let mut proxies = Vec::new();
        for name in PROXIES {
            let mut given = self.given.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
            if let Some((_, value)) = given.next_back().filter(|(_, value)| !value.is_empty()) {
                proxies.push((name.to_ascii_uppercase(), value.clone()));
                proxies.push((name.to_owned(), value.clone()));
            }
        }
        proxies
    }
}

impl Variables for GlobalScope {
    fn value(&self, name: &str) -> Option<&str> {
        self.values.value(name)
    }
}

/// What says which platforms a build is for. They are for every `FROM`, and for a stage that asks with `ARG`.
fn platform_args(build: &Platform, target: &Platform, stage: Option<&str>) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", text(&platform.os_version)),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", text(&platform.variant)),
        ] {
            values.insert(format!("{prefix}{name}"), value);
        }
    }
    values.insert("TARGETSTAGE".to_owned(), stage.unwrap_or("default").to_owned());
    values
}

/// What the instructions of a stage see, one after the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scope {
    global: Arc<GlobalScope>,
    /// In the order in which they were set first.
    env: Vec<(String, String)>,
    places: BTreeMap<String, usize>,
    /// In the order of their `ARG`s; those without a value are defined all the same.
    args: Vec<(String, Option<String>)>,
    arg_places: BTreeMap<String, usize>,
}

impl Scope {
    /// Creates the scope of a stage on an image with this environment (`NAME=value`).
    pub fn new<'a>(global: Arc<GlobalScope>, env: impl IntoIterator<Item = &'a str>) -> Self {
        let (places, arg_places) = (BTreeMap::new(), BTreeMap::new());
        let mut scope = Self { global, env: Vec::new(), places, args: Vec::new(), arg_places };
        for entry in env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            scope.set_env(name, value);
        }
        scope
    }

    /// Creates the scope of a stage on another stage, whose scope at its end this is: arguments are inherited, too.
    #[must_use]
    pub fn inherit(&self) -> Self {
        self.clone()
    }

    /// Carries out an `ARG`: each of its variables sees those before it.
    ///
    /// # Errors
    /// A default that is needed and cannot be expanded.
    pub fn define(&mut self, arg: &Arg) -> Result<(), ExpandError> {
        for definition in &arg.definitions {
            let name = &definition.name;
            let value = match (self.global.given.get(name), &definition.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(Expander::new(&*self, self.global.escape).word(default)?),
                (None, None) => self.global.value(name).map(str::to_owned),
            };
            match self.arg_places.get(name) {
                Some(place) => self.args[*place].1 = value,
                None => {
                    self.arg_places.insert(name.clone(), self.args.len());
                    self.args.push((name.clone(), value));
                }
            }
        }
        Ok(())
    }

    /// Sets a variable of the environment: what `ENV` does with each of its pairs.
    pub fn set_env(&mut self, name: &str, value: &str) {
        match self.places.get(name) {
            Some(place) => value.clone_into(&mut self.env[*place].1),
            None => {
                self.places.insert(name.to_owned(), self.env.len());
                self.env.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// Returns the environment, in the order in which its variables were set first: for the image's configuration.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Returns the arguments in scope that have values, in the order of their `ARG`s, with the values that count: for the history and
    /// for what the cache depends on.
    pub fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        self.args.iter().filter_map(|(name, value)| {
            let value = self.env_value(name).or(value.as_deref())?;
            Some((name.as_str(), value))
        })
    }

    /// Returns the value of an argument, whatever the environment has.
    pub(super) fn arg(&self, name: &str) -> Option<&str> {
        self.args[*self.arg_places.get(name)?].1.as_deref()
    }

    /// Returns the environment of a command: the image's, arguments in scope, and proxies.
    #[must_use]
    pub fn command_env(&self) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        let args = self.args.iter().filter(|(name, _)| self.env_value(name).is_none());
        env.extend(args.filter_map(|(name, value)| Some((name.clone(), value.clone()?))));
        let proxies = self.global.proxies().into_iter();
        let own: Vec<_> = proxies.filter(|(name, _)| self.value(name).is_none()).collect();
        env.extend(own);
        env
    }

    /// Returns whether `name` is an argument in scope, with a value or without.
    #[must_use]
    pub fn is_defined(&self, name: &str) -> bool {
        self.env_value(name).is_some() || self.arg_places.contains_key(name)
    }

    /// Returns the names in scope.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.env.iter().map(|(name, _)| name.as_str()).chain(self.args.iter().map(|(name, _)| name.as_str()))
    }

    fn env_value(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.env[*place].1.as_str())
    }
}

impl Variables for Scope {
    fn value(&self, name: &str) -> Option<&str> {
        self.env_value(name).or_else(|| self.arg(name))
    }
}

impl Dockerfile {
    /// Returns those of the caller's arguments that no `ARG` of the file has and that mean nothing without: to warn about.
    pub fn unused_args<'a>(&self, given: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let of_stages = self.stages.iter().flat_map(|stage| &stage.instructions);
        let in_stages = of_stages.filter_map(|instruction| match &instruction.value {
            Instruction::Arg(arg) => Some(arg),
            _ => None,
        });
        let all = self.args.iter().map(|arg| &arg.value).chain(in_stages);
        let names: std::collections::BTreeSet<&str> =
            all.flat_map(|arg| &arg.definitions).map(|definition| definition.name.as_str()).collect();
        let meant = |name: &str| names.contains(name) || is_predefined_arg(name) || is_engine_arg(name);
        given.into_iter().filter(|name| !meant(name)).collect()
    }
}

/// Arguments for the builder itself.
fn is_engine_arg(name: &str) -> bool {
    let platform = Platform::host();
    name == "SOURCE_DATE_EPOCH"
        || name.starts_with("BUILDKIT_")
        || platform_args(&platform, &platform, None).contains_key(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn global(text: &str, given: &[(&str, &str)]) -> (Dockerfile, Arc<GlobalScope>) {
        let file = Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap();
        let build = Platform::new("linux", "amd64", None);
        let target = Platform::new("linux", "arm", Some("v7"));
        let global = GlobalScope::new(&file, map(given), &build, &target, Some("last")).unwrap();
        (file, Arc::new(global))
    }

    /// Carries out the `ARG`s and `ENV`s of a stage.
    fn run(file: &Dockerfile, stage: usize, mut scope: Scope) -> Scope {
        for instruction in &file.stages[stage].instructions {
            match &instruction.value {
                Instruction::Arg(arg) => scope.define(arg).unwrap(),
                Instruction::Env(_) => {
                    let expanded = {
                        let mut expander = Expander::new(&scope, file.directives.escape);
                        file.expand(instruction, &mut expander).unwrap()
                    };
                    let Instruction::Env(env) = expanded else { panic!() };
                    env.pairs.iter().for_each(|pair| scope.set_env(&pair.key, &pair.value));
                }
                _ => {}
            }
        }
        scope
    }

    #[test]
    fn froms_see_global_arguments_and_platforms() {
        let (_, global) =
            global("ARG A=1 B=$A C D=d\nARG E=$BUILDARCH\nFROM x", &[("A", "2"), ("C", "3"), ("Z", "9")]);
        for (name, expected) in [
            ("A", Some("2")),
            ("B", Some("2")),
            ("C", Some("3")),
            ("D", Some("d")),
            ("E", Some("amd64")),
            ("Z", None),
            ("BUILDPLATFORM", Some("linux/amd64")),
            ("TARGETPLATFORM", Some("linux/arm/v7")),
            ("TARGETOS", Some("linux")),
            ("TARGETVARIANT", Some("v7")),
            ("BUILDVARIANT", Some("")),
            ("TARGETSTAGE", Some("last")),
        ] {
            assert_eq!(global.value(name), expected, "{name}");
        }
    }

    #[test]
    fn stages_see_what_they_ask_for() {
        let (file, global) = global(
            "ARG G=g H\nFROM x\nARG G\nARG H\nARG TARGETARCH\nARG A=a\nARG B=$A-$G\nENV E=$B\nARG A=a2\n",
            &[("H", "given"), ("B", "built"), ("UNASKED", "u")],
        );
        let start = Scope::new(Arc::clone(&global), ["PATH=/bin", "EMPTY"]);
        for (name, expected) in [
            ("G", None),
            ("TARGETARCH", None),
            ("UNASKED", None),
            ("PATH", Some("/bin")),
            ("EMPTY", Some("")),
        ] {
            assert_eq!(start.value(name), expected, "{name}");
        }
        let end = run(&file, 0, start);
        for (name, expected) in [
            ("G", Some("g")),
            ("H", Some("given")),
            ("TARGETARCH", Some("arm")),
            ("A", Some("a2")),
            ("B", Some("built")),
            ("E", Some("built")),
            ("UNASKED", None),
            ("TARGETOS", None),
        ] {
            assert_eq!(end.value(name), expected, "{name}");
        }
        let args: Vec<_> = end.args().collect();
        assert_eq!(args, [("G", "g"), ("H", "given"), ("TARGETARCH", "arm"), ("A", "a2"), ("B", "built")]);
        assert_eq!(end.inherit().value("G"), Some("g"));
    }

    #[test]
    fn the_environment_is_before_arguments() {
        let (file, global) = global("FROM x\nARG A=arg\nENV A=env\nARG B=arg\nARG C\n", &[("B", "given")]);
        let scope = run(&file, 0, Scope::new(global, ["B=image"]));
        assert_eq!(
            (scope.value("A"), scope.value("B"), scope.value("C")),
            (Some("env"), Some("image"), None)
        );
        assert!(scope.is_defined("C") && !scope.is_defined("D"));
        assert_eq!(scope.args().collect::<Vec<_>>(), [("A", "env"), ("B", "image")]);
        let env = [("B", "image"), ("A", "env")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(scope.env(), env);
        assert_eq!(scope.command_env(), env);
    }

    #[test]
    fn proxies_reach_commands_and_nothing_else() {
        let (file, global) = global(
            "FROM x\nARG https_proxy\n",
            &[("HTTP_PROXY", "http://p"), ("https_proxy", "http://q"), ("NO_PROXY", "")],
        );
        let scope = run(&file, 0, Scope::new(global, ["HTTP_PROXY=image"]));
        assert_eq!(scope.value("http_proxy"), None);
        assert_eq!(scope.args().collect::<Vec<_>>(), [("https_proxy", "http://q")]);
        let env = scope.command_env();
        let names: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            names,
            [
                ("HTTP_PROXY", "image"),
                ("https_proxy", "http://q"),
                ("http_proxy", "http://p"),
                ("HTTPS_PROXY", "http://q"),
            ]
        );
    }

    #[test]
    fn arguments_that_mean_nothing_are_told() {
        let (file, _) = global("ARG A\nFROM x\nARG B\n", &[]);
        let given = ["A", "B", "C", "HTTP_PROXY", "no_proxy", "TARGETOS", "SOURCE_DATE_EPOCH", "BUILDKIT_X"];
        assert_eq!(file.unused_args(given), ["C"]);
    }

    #[test]
    fn defaults_that_cannot_be_expanded_fail_where_they_are_needed() {
        let text = "ARG A=1\nARG B=\"${C:?set it}\"\nFROM x\nARG D=${E}${";
        let file = Dockerfile::parse("f", text.as_bytes()).unwrap();
        let host = Platform::host();
        let error = GlobalScope::new(&file, BTreeMap::new(), &host, &host, None).unwrap_err();
        assert_eq!((error.line(), error.message().contains("set it")), (2, true), "{error}");
        let given = map(&[("B", "b"), ("D", "d")]);
        let global = Arc::new(GlobalScope::new(&file, given, &host, &host, None).unwrap());
        run(&file, 0, Scope::new(global, []));
    }
}
