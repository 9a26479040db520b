//! How a pull or push gets on: bars on a terminal, plain lines in a pipe.

use std::collections::HashMap;

use engine_core::engine::{LayerProgress, LoadEvent, PullEvent, PushEvent};
use engine_core::registry_client::PushOutcome;
use engine_core::{Descriptor, Digest, Reference};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Result;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    Stdout,
    Stderr,
    Nowhere,
}

/// Progress of one transfer.
#[derive(Debug)]
pub(crate) struct Progress {
    target: Target,
    bars: Option<MultiProgress>,
    /// The bar of a blob, and the last thing said of it.
    blobs: HashMap<Digest, (Option<ProgressBar>, &'static str)>,
}

impl Progress {
    /// Begins to show progress; `terminal` says whether the target is one.
    pub(crate) fn new(target: Target, terminal: bool) -> Self {
        let draw = match target {
            Target::Stdout => ProgressDrawTarget::stdout(),
            Target::Stderr => ProgressDrawTarget::stderr(),
            Target::Nowhere => ProgressDrawTarget::hidden(),
        };
        let bars = (terminal && target != Target::Nowhere).then(|| MultiProgress::with_draw_target(draw));
        Self { target, bars, blobs: HashMap::new() }
    }

    /// Says a line.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        match (&self.bars, self.target) {
            (_, Target::Nowhere) => Ok(()),
            (Some(bars), _) => {
                // A terminal that is gone shows nothing, which is no reason to stop.
                let _ = bars.println(text);
                Ok(())
            }
            (None, Target::Stdout) => super::line(text),
            (None, Target::Stderr) => {
                eprintln!("{text}");
                Ok(())
            }
        }
    }

    /// Ends the bars and leaves the screen as it was.
    pub(crate) fn clear(&mut self) {
        for (bar, _) in self.blobs.values().filter_map(|(bar, word)| bar.as_ref().map(|b| (b, word))) {
            bar.finish();
        }
    }

    /// Shows an event of a pull.
    pub(crate) fn pulled(&mut self, reference: &Reference, event: &PullEvent) -> Result<()> {
        match event {
            PullEvent::Layer { layer, progress } => match *progress {
                LayerProgress::Waiting => self.say(layer, "Waiting", None),
                LayerProgress::Exists => self.say(layer, "Already exists", None),
                LayerProgress::Transferring { done, total } => {
                    self.say(layer, "Downloading", Some((done, total)))
                }
                LayerProgress::Unpacking => self.say(layer, "Extracting", None),
                LayerProgress::Done => self.say(layer, "Pull complete", None),
                _ => Ok(()),
            },
            PullEvent::Done { target, unchanged } => {
                let done = if *unchanged { "Image is up to date for" } else { "Downloaded newer image for" };
                self.line(&format!("Digest: {}\nStatus: {done} {}", target.digest, reference.familiar()))
            }
            _ => Ok(()),
        }
    }

    /// Shows an event of a load.
    pub(crate) fn loaded(&mut self, event: &LoadEvent) -> Result<()> {
        match event {
            LoadEvent::Layer { layer, progress } => match *progress {
                LayerProgress::Transferring { done, total } => {
                    self.say(layer, "Loading layer", Some((done, total)))
                }
                LayerProgress::Exists => self.say(layer, "Already exists", None),
                LayerProgress::Done => self.say(layer, "Loaded", None),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Shows an event of a push.
    pub(crate) fn pushed(&mut self, reference: &Reference, event: &PushEvent) -> Result<()> {
        match event {
            PushEvent::Transferring { blob, done } => self.say(blob, "Pushing", Some((*done, blob.size))),
            PushEvent::Blob { blob, outcome } => {
                let word = match outcome {
                    PushOutcome::Existed => "Layer already exists",
                    PushOutcome::Mounted => "Mounted",
                    _ => "Pushed",
                };
                self.say(blob, word, None)
            }
            PushEvent::Skipped { blob } => self.say(blob, "Skipped foreign layer", None),
            PushEvent::Done { target } => self.line(&format!(
                "{}: digest: {} size: {}",
                reference.tag().unwrap_or_default(),
                target.digest,
                target.size
            )),
            _ => Ok(()),
        }
    }

    /// Says `word` about a blob, once, with a bar while bytes move.
    fn say(&mut self, blob: &Descriptor, word: &'static str, bytes: Option<(u64, u64)>) -> Result<()> {
        let short = &blob.digest.hex()[..12];
        let (bar, last) = self.blobs.entry(blob.digest.clone()).or_insert((None, ""));
        let fresh = *last != word;
        *last = word;
        let Some(bars) = &self.bars else {
            return if fresh { self.line(&format!("{short}: {word}")) } else { Ok(()) };
        };
        let bar = bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix}: {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(blob.size).with_style(style).with_prefix(short.to_owned()))
        });
        if fresh {
            let template = match bytes {
                Some(_) => "{prefix}: {msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}",
                None => "{prefix}: {msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(word);
        }
        if let Some((done, total)) = bytes {
            bar.set_length(total);
            bar.set_position(done);
        }
        Ok(())
    }
}
