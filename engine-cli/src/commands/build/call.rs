//! `--check` and `--call`: what a Dockerfile tells without being built.

use std::collections::BTreeMap;
use std::str::FromStr;

use engine_api::{check_document, outline_document, targets_document};
use engine_core::dockerfile::{BaseImage, CheckReport, Checks, Dockerfile, Inquiry};
use engine_core::engine::{BuildContext, BuildSpec, BuildTexts};
use engine_core::{Engine, ErrorKind, Platform};
use serde_json::Value;

use super::{BuildArgs, agents, asked};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::mounts::fields;
use crate::output;
use crate::output::build::say;
use crate::output::dockerfile;

/// What is to be done with a Dockerfile: nothing of this if it is to be built.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Call(pub(super) Option<Question>);

/// A question, and how it is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Question {
    about: About,
    json: bool,
    ignore_status: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum About {
    Check,
    Outline,
    Targets,
}

impl Question {
    /// `--check`.
    pub(super) const CHECK: Self = Self { about: About::Check, json: false, ignore_status: false };
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut about, mut json, mut ignore_status) = (None, false, false);
        for field in fields(text)? {
            match field.split_once('=') {
                None if about.is_none() => {
                    about = Some(match &*field {
                        "build" => None,
                        "check" | "lint" => Some(About::Check),
                        "outline" => Some(About::Outline),
                        "targets" => Some(About::Targets),
                        _ => return Err(format!("{field} is none of build, check, outline and targets")),
                    });
                }
                None => return Err(format!("there is more than one method: {field}")),
                Some(("format", "json")) => json = true,
                Some(("format", "text" | "")) => json = false,
                Some(("format", other)) => return Err(format!("format is text or json, and not {other}")),
                Some(("ignorestatus", "true" | "1")) => ignore_status = true,
                Some(("ignorestatus", "false" | "0")) => ignore_status = false,
                Some(("ignorestatus", other)) => {
                    return Err(format!("ignorestatus is true or false, and not {other}"));
                }
                Some((key, _)) => return Err(format!("it has no field {key}: give format or ignorestatus")),
            }
        }
        let about = about.ok_or("it names no method: give build, check, outline or targets")?;
        Ok(Self(about.map(|about| Question { about, json, ignore_status })))
    }
}

/// Answers a question about the Dockerfile that the flags name.
pub(super) async fn answer(context: &Context, args: &BuildArgs, question: Question) -> Result<u8> {
    let mut spec = asked(args).await?;
    let texts = match spec.context {
        BuildContext::Remote(_) => {
            spec.ssh = agents(args)?;
            context.engine().await?.build_texts(spec.clone()).await?
        }
        _ => BuildTexts::read(&spec).await?,
    };
    let file = match Dockerfile::parse_with(&texts.name, &texts.dockerfile, spec.checks()?) {
        Ok(file) => file,
        Err(errors) => {
            if question.json && question.about == About::Check {
                let mut report = CheckReport::default();
                report.errors = errors.as_slice().to_vec();
                document(&check_document(&texts.name, &texts.dockerfile, &report, &Checks::default()))?;
            }
            return Err(engine_core::Error::from(errors).into());
        }
    };
    if question.about == About::Targets {
        return shown(question, &targets_document(&file), || dockerfile::targets(&file));
    }
    let mut inquiry = Inquiry::default();
    inquiry.ignore = texts.ignore_patterns()?;
    inquiry.args.clone_from(&spec.args);
    inquiry.target.clone_from(&spec.target);
    inquiry.platform = spec.platforms.first().cloned();
    inquiry.images = images(context, &spec, &file, &inquiry).await?;
    if question.about == About::Outline {
        let outline = file.outline(&inquiry)?;
        return shown(question, &outline_document(&file, &outline), || dockerfile::outline(&outline));
    }
    let report = file.check(&inquiry)?;
    if !args.quiet {
        for image in &report.unknown_images {
            let what = "variables that it may set, and its platform, are not looked at";
            say(&format!("note: {} is not here: {what}\n", output::build::printable(image)))?;
        }
    }
    let json = check_document(file.name(), file.text().as_bytes(), &report, &file.checks);
    shown(question, &json, || match report.is_clean() {
        true => "Check complete, no warnings found.\n".to_owned(),
        false => dockerfile::warnings(&file, &report.warnings),
    })?;
    report.verdict(&file.checks)?;
    Ok(u8::from(!report.warnings.is_empty() && !question.ignore_status))
}

/// What is known of what stages are built on: contexts by name, and images that the engine has.
async fn images(
    context: &Context,
    spec: &BuildSpec,
    file: &Dockerfile,
    inquiry: &Inquiry,
) -> Result<BTreeMap<String, BaseImage>> {
    let mut known = BTreeMap::new();
    // By which name each image is asked for.
    let mut named = BTreeMap::new();
    for (name, source) in &spec.contexts {
        match source {
            BuildContext::Image(image) => drop(named.insert(name.clone(), image.clone())),
            _ => drop(known.insert(name.clone(), BaseImage::default())),
        }
    }
    let mut inquiry = inquiry.clone();
    inquiry.images = known.clone();
    let wanted = file.check(&inquiry)?.unknown_images;
    if wanted.is_empty() {
        return Ok(known);
    }
    let engine = match engine(context).await {
        Ok(Some(engine)) => engine,
        Ok(None) => return Ok(known),
        Err(failure) => {
            say(&format!("note: images are not looked at: {failure}\n"))?;
            return Ok(known);
        }
    };
    let host = Platform::host();
    let platform = inquiry.platform.unwrap_or_else(|| host.clone());
    for name in wanted {
        let image = named.get(&name).unwrap_or(&name);
        match engine.image_for(image, &platform).await {
            Ok(image) => {
                let mut base = BaseImage::from(&image.config);
                // A build for another platform would get another image.
                base.platform = base.platform.filter(|_| platform == host);
                known.insert(name, base);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => say(&format!("note: {name} is not looked at: {}\n", error.report()))?,
        }
    }
    Ok(known)
}

/// The engine that may have images; there is none to be made for this.
async fn engine(context: &Context) -> Result<Option<Engine>> {
    if context.remote()?.is_none() && !context.root().is_dir() {
        return Ok(None);
    }
    context.engine().await.map(Some)
}

fn shown(question: Question, json: &Value, text: impl FnOnce() -> String) -> Result<u8> {
    if question.json {
        document(json)?
    } else {
        output::print(&text())?
    }
    Ok(0)
}

fn document(json: &Value) -> Result<()> {
    output::line(serde_json::to_string_pretty(json).map_err(|e| Failure::usage(e.to_string()))?)
}
