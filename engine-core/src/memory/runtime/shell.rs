//! A very small `sh -c`: lists of simple commands, as far as tests need them.
//!
//! It knows quotes, `$NAME`, `$?`, `;`, `&&`, `||`, `&`, `>&2`, `exit`, `:`, `trap 'exit N' SIGNAL` and `wait`.
//! Anything else is refused with code 2, never misread.

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::process::{Process, Program};
use super::programs::{Programs, find};

/// The shell, with the programs it finds.
pub(super) struct Shell(pub(super) Programs);

#[derive(Debug, Default, PartialEq)]
struct Command {
    words: Vec<Word>,
    to_stderr: bool,
    background: bool,
    /// Runs only if the one before succeeded or failed.
    only_if: Option<bool>,
}

/// Pieces of text: literal, or the name of a variable.
type Word = Vec<(bool, String)>;

#[async_trait]
impl Program for Shell {
    async fn run(&self, process: Process) -> u8 {
        let script = match &process.args[..] {
            [_, flag, script, ..] if flag == "-c" => script.clone(),
            _ => return refuse(&process, "only sh -c is simulated").await,
        };
        match parse(&script) {
            Ok(commands) => self.run_list(&process, &commands).await,
            Err(what) => refuse(&process, &what).await,
        }
    }
}

async fn refuse(process: &Process, what: &str) -> u8 {
    let _ = process.stderr.write(format!("sh: {what}\n")).await;
    2
}

impl Shell {
    async fn run_list(&self, process: &Process, commands: &[Command]) -> u8 {
        let mut status = 0;
        let mut traps: Vec<(i32, u8)> = Vec::new();
        let mut jobs: FuturesUnordered<BoxFuture<'static, u8>> = FuturesUnordered::new();
        for command in commands {
            if command.only_if.is_some_and(|wanted| wanted != (status == 0)) {
                continue;
            }
            let words: Vec<String> = command.words.iter().map(|word| expand(word, process, status)).collect();
            let Some(name) = words.first() else { continue };
            match name.as_str() {
                ":" => status = 0,
                "exit" => {
                    return words.get(1).map_or(Some(status), |code| code.parse().ok()).unwrap_or(2);
                }
                "trap" => match trap(&words) {
                    Some((signal, code)) => {
                        process.signals.handle(signal);
                        traps.push((signal, code));
                        status = 0;
                    }
                    None => return refuse(process, "only trap 'exit N' SIGNAL is simulated").await,
                },
                "wait" => {
                    let all = async { while jobs.next().await.is_some() {} };
                    tokio::select! {
                        () = all => status = 0,
                        signal = process.signals.next() => return trapped(&traps, signal),
                    }
                }
                _ => {
                    let Some(program) = find(&self.0, name) else {
                        let _ = process.stderr.write(format!("sh: {name}: not found\n")).await;
                        status = 127;
                        continue;
                    };
                    let mut child = process.clone();
                    child.args = words;
                    if command.to_stderr {
                        child.stdout = child.stderr.clone();
                    }
                    let run = async move { program.run(child).await };
                    if command.background {
                        jobs.push(Box::pin(run));
                        status = 0;
                    } else {
                        status = run.await;
                    }
                }
            }
            // A trap waits for the command in the foreground.
            if let Some(signal) = process.signals.take() {
                return trapped(&traps, signal);
            }
        }
        status
    }
}

fn trapped(traps: &[(i32, u8)], signal: i32) -> u8 {
    traps.iter().rev().find(|(known, _)| *known == signal).map_or(0, |(_, code)| *code)
}

fn trap(words: &[String]) -> Option<(i32, u8)> {
    let [_, action, signal] = words else { return None };
    let code = action.strip_prefix("exit ")?.trim().parse().ok()?;
    Some((crate::signal::parse(signal).ok()?, code))
}

fn expand(word: &Word, process: &Process, status: u8) -> String {
    word.iter()
        .map(|(variable, text)| match (variable, text.as_str()) {
            (false, text) => text.to_owned(),
            (true, "?") => status.to_string(),
            (true, name) => process.variable(name).unwrap_or_default().to_owned(),
        })
        .collect()
}

fn parse(script: &str) -> Result<Vec<Command>, String> {
    let mut commands = Vec::new();
    let mut command = Command::default();
    let mut word: Option<Word> = None;
    let mut chars = script.chars().peekable();
    let mut only_if = None;
    let literal = |word: &mut Option<Word>, c: char| {
        let pieces = word.get_or_insert_default();
        match pieces.last_mut() {
            Some((false, text)) => text.push(c),
            _ => pieces.push((false, c.to_string())),
        }
    };
    while let Some(c) = chars.next() {
        if " \t;\n&|>".contains(c) {
            command.words.extend(word.take());
        }
        match c {
            ' ' | '\t' => {}
            '\'' => {
                word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a quote is open")? {
                        '\'' => break,
                        c => literal(&mut word, c),
                    }
                }
            }
            '"' => {
                word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a quote is open")? {
                        '"' => break,
                        '$' => variable(&mut chars, word.get_or_insert_default()),
                        c => literal(&mut word, c),
                    }
                }
            }
            '$' => variable(&mut chars, word.get_or_insert_default()),
            '\\' => literal(&mut word, chars.next().ok_or("a backslash ends the script")?),
            ';' | '\n' | '&' | '|' => {
                let doubled = chars.next_if_eq(&c).is_some();
                let next = match (c, doubled) {
                    ('&', true) => Some(true),
                    ('|', true) => Some(false),
                    ('|', false) | (';', true) => return Err(format!("{c:?} is not simulated here")),
                    ('&', false) => {
                        command.background = true;
                        None
                    }
                    _ => None,
                };
                command.only_if = only_if.take();
                commands.push(std::mem::take(&mut command));
                only_if = next;
            }
            '>' if chars.next_if_eq(&'&').is_some() && chars.next_if_eq(&'2').is_some() => {
                command.to_stderr = true;
            }
            '>' | '<' | '(' | ')' | '`' | '*' | '{' | '}' => {
                return Err(format!("{c:?} is not simulated"));
            }
            c => literal(&mut word, c),
        }
    }
    command.words.extend(word);
    command.only_if = only_if;
    commands.push(command);
    commands.retain(|command| !command.words.is_empty());
    Ok(commands)
}

fn variable(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, word: &mut Word) {
    let mut name = String::new();
    if let Some(c) = chars.next_if_eq(&'?') {
        name.push(c);
    } else {
        let braced = chars.next_if_eq(&'{').is_some();
        while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if braced {
            chars.next_if_eq(&'}');
        }
    }
    word.push(if name.is_empty() { (false, "$".to_owned()) } else { (true, name) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let commands = parse("echo 'a b' \"c$X\" >&2; true&&false || sleep 1 & wait").unwrap();
        assert_eq!(commands.len(), 5);
        assert!(commands[0].to_stderr && commands[0].words.len() == 3);
        assert_eq!(commands[0].words[2], [(false, "c".to_owned()), (true, "X".to_owned())]);
        assert_eq!(
            commands.iter().map(|c| c.only_if).collect::<Vec<_>>(),
            [None, None, Some(true), Some(false), None]
        );
        assert!(commands[3].background && !commands[4].background);
        for wrong in ["a | b", "a > b", "'", "(a)"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
