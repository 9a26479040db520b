//! How a build gets on: steps that run side by side on a terminal, with what their commands wrote last; lines in a pipe.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use engine_core::engine::{BuildEvent, LayerProgress, PullEvent, StepDescription, StepId};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Result;

/// Lines of output that are shown of a step on a terminal.
const SHOWN: usize = 5;
/// How often the time of a step is shown anew.
const TICK: Duration = Duration::from_millis(100);

/// How a build is shown: always on standard error.
pub(crate) enum BuildView {
    /// Not at all.
    Nothing,
    /// As lines, each of which begins with its step's number.
    Plain(Plain),
    /// On a terminal.
    Live(Box<Live>),
}

impl BuildView {
    pub(crate) fn plain() -> Self {
        Self::Plain(Plain::default())
    }

    pub(crate) fn live() -> Self {
        Self::Live(Box::new(Live::new()))
    }

    /// Shows an event.
    ///
    /// # Errors
    /// If standard error cannot be written to.
    pub(crate) fn event(&mut self, event: &BuildEvent) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Plain(plain) => plain.event(event),
            Self::Live(live) => {
                live.event(event);
                Ok(())
            }
        }
    }

    /// Ends it; what was done stays on the screen.
    pub(crate) fn end(&mut self) {
        if let Self::Live(live) = self {
            live.end();
        }
    }
}

/// Writes to standard error.
pub(crate) fn say(text: &str) -> Result<()> {
    super::write(&mut std::io::stderr().lock(), text.as_bytes())
}

fn title(description: &StepDescription) -> String {
    let StepDescription { platform, stage, number, count, text, .. } = description;
    let platform = platform.as_ref().map(|platform| format!("{platform} ")).unwrap_or_default();
    format!("[{platform}{stage} {number}/{count}] {}", text.lines().next().unwrap_or_default())
}

/// What is said of caches elsewhere.
fn cache_line(event: &BuildEvent) -> Option<String> {
    match event {
        BuildEvent::CacheFound { source, steps } => Some(format!("cache from {source}: {steps} steps")),
        BuildEvent::CacheUnavailable { source, message } => {
            Some(format!("cache from {source}: not used: {message}"))
        }
        BuildEvent::CacheExported { target, steps } => Some(format!("cache to {target}: {steps} steps")),
        _ => None,
    }
}

/// The lines of a build.
#[derive(Default)]
pub(crate) struct Plain {
    steps: BTreeMap<StepId, (Instant, Vec<u8>)>,
}

impl Plain {
    fn event(&mut self, event: &BuildEvent) -> Result<()> {
        match event {
            BuildEvent::Started { step, description } => {
                self.steps.insert(*step, (Instant::now(), Vec::new()));
                say(&format!("#{step} {}\n", title(description)))
            }
            BuildEvent::Cached { step } => say(&format!("#{step} CACHED\n")),
            BuildEvent::Output { step, bytes, .. } => self.output(*step, bytes),
            BuildEvent::Finished { step, took, .. } => {
                self.flush(*step)?;
                say(&format!("#{step} DONE {:.1}s\n", took.as_secs_f64()))
            }
            BuildEvent::Failed { step, message } => {
                self.flush(*step)?;
                // What the command wrote last stands above.
                let message =
                    message.lines().next().unwrap_or_default().trim_end_matches(", and last wrote:");
                say(&format!("#{step} ERROR: {message}\n"))
            }
            BuildEvent::Warning(warning) => say(&format!("warning: {warning}\n")),
            event => cache_line(event).map_or(Ok(()), |line| say(&format!("{line}\n"))),
        }
    }

    /// Shows whole lines of what a command wrote.
    fn output(&mut self, step: StepId, bytes: &[u8]) -> Result<()> {
        let Some((begun, rest)) = self.steps.get_mut(&step) else { return Ok(()) };
        rest.extend_from_slice(bytes);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let lines: Vec<u8> = rest.drain(..=end).collect();
        let mut text = String::new();
        for line in String::from_utf8_lossy(&lines).lines() {
            text.push_str(&format!("#{step} {:.3} {line}\n", begun.elapsed().as_secs_f64()));
        }
        say(&text)
    }

    /// Shows what came without the end of its line.
    fn flush(&mut self, step: StepId) -> Result<()> {
        match self.steps.remove(&step) {
            Some((begun, rest)) if !rest.is_empty() => {
                let text = String::from_utf8_lossy(&rest);
                say(&format!("#{step} {:.3} {text}\n", begun.elapsed().as_secs_f64()))
            }
            _ => Ok(()),
        }
    }
}

/// A build on a terminal: what is done above, what runs below.
pub(crate) struct Live {
    bars: MultiProgress,
    head: ProgressBar,
    planned: u32,
    done: u32,
    steps: BTreeMap<StepId, Row>,
}

/// A step that runs.
struct Row {
    title: String,
    cached: bool,
    bar: ProgressBar,
    output: Output,
    lines: Vec<ProgressBar>,
    /// Layers of a base image, by digest: bytes that came, and bytes in all.
    layers: BTreeMap<String, (u64, u64)>,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Live {
    fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let head = bars.add(ProgressBar::no_length().with_style(style("[+] Building {elapsed} {msg}")));
        head.enable_steady_tick(TICK);
        Self { bars, head, planned: 0, done: 0, steps: BTreeMap::new() }
    }

    fn event(&mut self, event: &BuildEvent) {
        match event {
            BuildEvent::Planned { steps } => self.planned = *steps,
            BuildEvent::Started { step, description } => self.begin(*step, description),
            BuildEvent::Cached { step } => {
                if let Some(row) = self.steps.get_mut(step) {
                    row.cached = true;
                }
            }
            BuildEvent::Pull { step, event } => self.pull(*step, event),
            BuildEvent::Output { step, bytes, .. } => self.output(*step, bytes),
            BuildEvent::Finished { step, took, .. } => {
                let Some(row) = self.steps.remove(step) else { return };
                let how = if row.cached { "CACHED ".to_owned() } else { String::new() };
                let line = format!(" => {how}{} {:.1}s", row.title, took.as_secs_f64());
                self.done += 1;
                self.remove(row, &line);
            }
            BuildEvent::Failed { step, .. } => {
                // The error that comes then says why, with the last lines.
                let Some(row) = self.steps.remove(step) else { return };
                let line = format!(" => ERROR {}", row.title);
                self.remove(row, &line);
            }
            BuildEvent::Warning(warning) => self.say(&format!("warning: {warning}")),
            event => {
                if let Some(line) = cache_line(event) {
                    self.say(&printable(&line));
                }
            }
        }
        self.head.set_message(format!("({}/{})", self.done, self.planned.max(self.done)));
    }

    fn begin(&mut self, step: StepId, description: &StepDescription) {
        let title = printable(&title(description));
        let bar = self.bars.add(ProgressBar::no_length().with_style(style(" => {wide_msg} {elapsed:>5}")));
        bar.set_message(title.clone());
        bar.enable_steady_tick(TICK);
        let (output, lines, layers) = (Output::default(), Vec::new(), BTreeMap::new());
        self.steps.insert(step, Row { title, cached: false, bar, output, lines, layers });
        self.planned = self.planned.max(self.done + u32::try_from(self.steps.len()).unwrap_or(0));
    }

    fn pull(&mut self, step: StepId, event: &PullEvent) {
        let PullEvent::Layer { layer, progress: LayerProgress::Transferring { done, total } } = event else {
            return;
        };
        let Some(row) = self.steps.get_mut(&step) else { return };
        row.layers.insert(layer.digest.to_string(), (*done, *total));
        let (done, total) = row.layers.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let bytes = format!("{} / {}", super::human::size(done), super::human::size(total));
        row.bar.set_message(format!("{} {bytes}", row.title));
    }

    fn output(&mut self, step: StepId, bytes: &[u8]) {
        let Some(row) = self.steps.get_mut(&step) else { return };
        row.output.add(bytes);
        while row.lines.len() < row.output.lines.len() {
            let last = row.lines.last().unwrap_or(&row.bar);
            let line = ProgressBar::no_length().with_style(style(" => => # {wide_msg}"));
            row.lines.push(self.bars.insert_after(last, line));
        }
        for (line, text) in row.lines.iter().zip(&row.output.lines) {
            line.set_message(text.clone());
            line.tick();
        }
    }

    /// Takes a step away from below; a line above tells of it.
    fn remove(&self, row: Row, line: &str) {
        for bar in row.lines.iter().chain([&row.bar]) {
            bar.finish_and_clear();
            self.bars.remove(bar);
        }
        self.say(line);
    }

    fn say(&self, line: &str) {
        // A terminal that is gone shows nothing, which is no reason to stop.
        let _ = self.bars.println(line);
    }

    fn end(&mut self) {
        for row in std::mem::take(&mut self.steps).into_values() {
            let line = format!(" => CANCELED {}", row.title);
            self.remove(row, &line);
        }
        let took = self.head.elapsed().as_secs_f64();
        self.head.finish_and_clear();
        self.say(&format!("[+] Building {took:.1}s ({}/{})", self.done, self.planned.max(self.done)));
    }
}

/// The last lines that a command wrote.
#[derive(Debug, Default)]
struct Output {
    lines: VecDeque<String>,
    rest: Vec<u8>,
}

impl Output {
    /// How much of a line without an end is kept.
    const MOST: usize = 4096;

    fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if self.rest.last() == Some(&b'\n') || self.rest.len() > Self::MOST {
                let line = std::mem::take(&mut self.rest);
                if self.lines.len() == SHOWN {
                    self.lines.pop_front();
                }
                self.lines.push_back(printable(&String::from_utf8_lossy(&line)));
            }
        }
    }
}

/// What a terminal shows of a line, and nothing that it would obey: of a line that is written over, what was written last.
pub(crate) fn printable(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    let last = line.rsplit('\r').next().unwrap_or_default();
    let mut text = String::with_capacity(last.len());
    let mut characters = last.chars();
    while let Some(character) = characters.next() {
        match character {
            // A sequence of ECMA-48: its parameters end with a letter.
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    characters.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\t' => text.push(' '),
            character if character.is_control() => {}
            character => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_obeyed_by_no_terminal() {
        let mut output = Output::default();
        output.add(b"one\ntw");
        assert_eq!(output.lines, ["one"]);
        output.add(b"o\nthree\nfour\nfive\n");
        output.add(b" 10%\r 50%\r\x1b[32mdone\x1b[0m\tall\x07\r\n");
        assert_eq!(output.lines, ["two", "three", "four", "five", "done all"]);
        output.add(&[b'x'; 3 * Output::MOST]);
        assert!(output.rest.len() <= Output::MOST && output.lines.back().unwrap().starts_with('x'));
        assert_eq!(printable("\u{1b}]0;title\u{7}a"), "0;titlea");
    }
}
