//! What a Dockerfile tells without being built, as text: as `docker build --call` shows it.

use std::fmt::Write as _;

use engine_core::dockerfile::{Dockerfile, Outline, OutlineMount, Span, Warning};

use super::build::printable;
use super::table::{align, align_with};

/// Lines that are shown beside those of an instruction.
const AROUND: usize = 4;
const LINE: &str = "--------------------\n";

/// Returns warnings with the lines that they are about.
pub(crate) fn warnings(file: &Dockerfile, warnings: &[Warning]) -> String {
    let mut text = match warnings.len() {
        0 => String::new(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for Warning { rule, message, span, .. } in warnings {
        let _ = write!(text, "\nWARNING: {rule} - {}\n{message}\n", rule.url());
        excerpt(&mut text, file, *span);
    }
    text
}

/// The lines of a place with some before and behind it.
fn excerpt(text: &mut String, file: &Dockerfile, span: Span) {
    let lines: Vec<&str> = file.text().lines().collect();
    let (first, last) = (span.line as usize, (span.end_line.max(span.line) as usize).min(lines.len()));
    // A short place has more around it.
    let around = if first == last { AROUND } else { AROUND / 2 };
    let (mut from, mut to, mut shown) = (first, last, 0);
    while shown < around {
        if from > 1 {
            from -= 1;
            shown += 1;
        }
        if to < lines.len() {
            to += 1;
            shown += 1;
        }
        shown += 1;
    }
    let _ = writeln!(text, "{}:{first}", printable(file.name()));
    text.push_str(LINE);
    for (number, line) in (from..=to).zip(lines.iter().skip(from - 1)) {
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(text, " {number:3} | {mark} {}", printable(line));
    }
    text.push_str(LINE);
}

/// Returns a target's parameters.
pub(crate) fn outline(outline: &Outline) -> String {
    let mut text = String::new();
    if outline.name.is_some() || outline.description.is_some() {
        let name = outline.name.as_deref().unwrap_or("(default)");
        let mut head = vec![format!("TARGET:\t{name}")];
        head.extend(
            outline.description.as_deref().map(|about| format!("DESCRIPTION:\t{}", printable(about))),
        );
        text.push_str(&align_with(&head, 1));
        text.push('\n');
    }
    let mut table = |heading: &str, rows: Vec<String>| {
        if !rows.is_empty() {
            text.push_str(&align(&[vec![heading.to_owned()], rows].concat()));
            text.push('\n');
        }
    };
    let shown = |text: &Option<String>| printable(text.as_deref().unwrap_or_default());
    let args = outline.args.iter();
    let args = args
        .map(|arg| format!("{}\t{}\t{}", printable(&arg.name), shown(&arg.value), shown(&arg.description)));
    table("BUILD ARG\tVALUE\tDESCRIPTION", args.collect());
    let mount = |mount: &OutlineMount| {
        let required = if mount.required { "true" } else { "" };
        format!("{}\t{required}", printable(&mount.id))
    };
    table("SECRET\tREQUIRED", outline.secrets.iter().map(mount).collect());
    table("SSH\tREQUIRED", outline.ssh.iter().map(mount).collect());
    table("CACHE", outline.caches.iter().map(|cache| printable(&cache.id)).collect());
    text
}

/// Returns the stages that can be built.
pub(crate) fn targets(file: &Dockerfile) -> String {
    let mut rows = vec!["TARGET\tDESCRIPTION".to_owned()];
    rows.extend(file.targets().iter().map(|target| {
        let name = match (&target.name, target.default) {
            (Some(name), true) => format!("{name} (default)"),
            (None, true) => "(default)".to_owned(),
            (name, false) => name.clone().unwrap_or_default(),
        };
        format!("{name}\t{}", printable(target.description.as_deref().unwrap_or_default()))
    }));
    align_with(&rows, 1)
}
