//! A case of the corpus: one text file with what goes in and what comes out.
//!
//! Lines before the first part are `KEY: VALUE`. A part begins with a line `-- KIND NAME … --` and lasts until the next:
//!
//! - `Dockerfile`; `base NAME` is one that is built before, as NAME
//! - `file PATH [MODE]`, `dir PATH [MODE]`, `link PATH TARGET`: the context; `%20` is a space
//! - `beside PATH`: a file that is not in the context; `socket PATH`: a socket there
//! - `tree`: what is other in the image than in the base; see [`super::tree`]
//! - `config`: what is other in its configuration
//!
//! Keys: `what` it shows (a sentence), `args` of the build, `peer` (`yes`, or why there is nothing to compare with), `differs` (a word of
//! the lines in which the peer's result differs, and why; may be repeated), `dockerfile` (a file of engine-core's corpus).
//! `{case}` and `{context}` in arguments are the directories, `{web}` and `{git}` are URLs of what all cases find.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// What is to be built, and what of it.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) name: String,
    args: Vec<String>,
    pub(super) peer: String,
    /// Words of lines that are other in the peer's result.
    pub(super) differs: Vec<String>,
    pub(super) dockerfile: Vec<u8>,
    pub(super) bases: Vec<(String, Vec<u8>)>,
    parts: Vec<(Vec<String>, Vec<u8>)>,
    pub(super) tree: Vec<String>,
    pub(super) config: Vec<String>,
    /// What stands for what in arguments.
    pub(super) places: Vec<(&'static str, String)>,
}

/// Returns all cases by name.
pub(super) fn all() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/build/corpus");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

impl Case {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut case = Self { name, ..Self::default() };
        let text = fs::read(path).unwrap();
        let mut parts: Vec<(Vec<String>, Vec<u8>)> = vec![(Vec::new(), Vec::new())];
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match std::str::from_utf8(line)
                .ok()
                .and_then(|line| line.trim_end().strip_prefix("-- ")?.strip_suffix(" --"))
            {
                Some(head) => {
                    parts.push((head.split(' ').map(|word| word.replace("%20", " ")).collect(), Vec::new()))
                }
                None => parts.last_mut().unwrap().1.extend_from_slice(line),
            }
        }
        let wrong = |what: &str| format!("{}: {what}", path.display());
        let mut parts = parts.into_iter();
        let head = String::from_utf8(parts.next().unwrap().1).unwrap();
        let mut explained = false;
        for line in head.lines() {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}", wrong(line)));
            match key {
                "what" => explained = true,
                "args" => case.args = value.split(' ').map(str::to_owned).collect(),
                "peer" => case.peer = value.to_owned(),
                "differs" => match value.split_once(": ") {
                    Some((word, _)) => case.differs.push(word.to_owned()),
                    None => panic!("{}", wrong("no reason is given for a difference")),
                },
                "dockerfile" => {
                    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine-core/tests/dockerfiles");
                    case.dockerfile = fs::read(dir.join(value)).unwrap();
                }
                _ => panic!("{}", wrong(line)),
            }
        }
        assert!(explained && !case.peer.is_empty(), "{}", wrong("what and peer are needed"));
        let lines = |text: Vec<u8>| {
            let text = String::from_utf8(text).unwrap();
            text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        for (head, text) in parts {
            match (&*head[0], head.len()) {
                ("Dockerfile", 1) => case.dockerfile = text,
                ("base", 2) => case.bases.push((head[1].clone(), text)),
                ("tree", 1) => case.tree = lines(text),
                ("config", 1) => case.config = lines(text),
                _ => case.parts.push((head, text)),
            }
        }
        case
    }

    /// Writes the context and what lies beside it into `dir`; the context is `dir/context`. All files are of one time.
    pub(super) fn write(&self, dir: &Path) {
        let context = dir.join("context");
        fs::create_dir_all(&context).unwrap();
        put(&context.join("Dockerfile"), &self.dockerfile, 0o644);
        for (head, text) in &self.parts {
            let words: Vec<&str> = head.iter().map(String::as_str).collect();
            let mode = |text: &str| u32::from_str_radix(text, 8).unwrap();
            match &words[..] {
                ["file", path] => put(&context.join(path), text, 0o644),
                ["file", path, octal] => put(&context.join(path), text, mode(octal)),
                // It stays when its listener goes: something that can be mounted, and that does not answer.
                ["socket", path] => {
                    let path = dir.join(path);
                    if !path.exists() {
                        drop(UnixListener::bind(path).unwrap());
                    }
                }
                ["beside", path] => put(&dir.join(path), text, 0o600),
                ["dir", path, rest @ ..] => {
                    let path = context.join(path);
                    fs::create_dir_all(&path).unwrap();
                    let permissions = fs::Permissions::from_mode(mode(rest.first().unwrap_or(&"755")));
                    fs::set_permissions(path, permissions).unwrap();
                }
                ["link", path, target] => {
                    let path = context.join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    symlink(target, path).unwrap();
                }
                // What can be said as text only by how it is made.
                ["archive", path, flags, members @ ..] => {
                    let path = context.join(path).display().to_string();
                    let beneath = context.display().to_string();
                    let mut args = vec![
                        "--sort=name",
                        "--mtime=@1700000000",
                        "--owner=7",
                        "--group=8",
                        "--numeric-owner",
                    ];
                    args.extend(["-C", &beneath, flags, "-cf", &path]);
                    args.retain(|arg| *arg != "plain");
                    args.extend(members);
                    engine_testkit::command("tar", args);
                }
                _ => panic!("{}: {head:?}", self.name),
            }
        }
    }

    /// The arguments of the build.
    pub(super) fn args(&self, dir: &Path) -> Vec<String> {
        let fill = |arg: &String| {
            let arg = arg
                .replace("{case}", &dir.display().to_string())
                .replace("{context}", &dir.join("context").display().to_string());
            self.places.iter().fold(arg, |arg, (place, what)| arg.replace(place, what))
        };
        self.args.iter().map(fill).collect()
    }

    /// All texts that are Dockerfiles.
    pub(super) fn dockerfiles(&self) -> impl Iterator<Item = &[u8]> {
        self.bases.iter().map(|(_, text)| &text[..]).chain([&self.dockerfile[..]])
    }
}

/// Writes a file of a time that is always the same.
fn put(path: &Path, content: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let time = fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    fs::File::options().append(true).open(path).unwrap().set_times(time).unwrap();
}
