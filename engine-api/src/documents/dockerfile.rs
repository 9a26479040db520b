//! What a Dockerfile tells without being built, as BuildKit's frontend says it: `docker build --call=…,format=json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::dockerfile::{
    CheckReport, Checks, Dockerfile, Outline, OutlineMount, Span, SyntaxError, Target, Warning,
};
use serde_json::{Value, json};

/// Returns the document of `--call=check` for the file `name` with this text. A file that cannot be parsed has a report of its errors
/// alone; `checks` are those of the file ([`Dockerfile::checks`](engine_core::dockerfile::Dockerfile)).
#[must_use]
pub fn check_document(name: &str, text: &[u8], report: &CheckReport, checks: &Checks) -> Value {
    let warning = |warning: &Warning| {
        json!({
            "ruleName": warning.rule.as_str(),
            "description": warning.rule.description(),
            "url": warning.rule.url(),
            "detail": warning.message,
            "location": location(warning.span),
        })
    };
    let mut document = json!({
        "warnings": report.warnings.iter().map(warning).collect::<Vec<_>>(),
        "sources": [{ "filename": name, "language": "Dockerfile", "data": STANDARD.encode(text) }],
    });
    if let Some(error) = report.errors.first() {
        document["buildError"] = json!({ "message": message(error), "location": location(Span::lines(error.line(), error.line())) });
    } else if let Err(error) = report.verdict(checks) {
        let first = report.warnings.first().map(|warning| location(warning.span));
        document["buildError"] =
            json!({ "message": error.to_string(), "location": first.unwrap_or(json!({})) });
    }
    document
}

/// Returns the document of `--call=outline`.
#[must_use]
pub fn outline_document(file: &Dockerfile, outline: &Outline) -> Value {
    let mount = |mount: &OutlineMount| {
        let mut one = json!({ "name": mount.id, "location": location(mount.span) });
        if mount.required {
            one["required"] = true.into();
        }
        one
    };
    let mut document = json!({ "sources": [STANDARD.encode(file.text())] });
    put(&mut document, "name", outline.name.as_deref());
    put(&mut document, "description", outline.description.as_deref());
    let args = outline.args.iter().map(|arg| {
        let mut one = json!({ "name": arg.name, "location": location(arg.span) });
        put(&mut one, "description", arg.description.as_deref());
        put(&mut one, "value", arg.value.as_deref());
        one
    });
    let caches =
        outline.caches.iter().map(|cache| json!({ "ID": cache.id, "location": location(cache.span) }));
    for (name, list) in [
        ("args", args.collect::<Vec<_>>()),
        ("secrets", outline.secrets.iter().map(mount).collect()),
        ("ssh", outline.ssh.iter().map(mount).collect()),
        ("cache", caches.collect()),
    ] {
        if !list.is_empty() {
            document[name] = list.into();
        }
    }
    document
}

/// Returns the document of `--call=targets`.
#[must_use]
pub fn targets_document(file: &Dockerfile) -> Value {
    let target = |target: &Target| {
        let mut one = json!({ "base": target.base, "location": location(target.span) });
        put(&mut one, "name", target.name.as_deref());
        put(&mut one, "description", target.description.as_deref());
        put(&mut one, "platform", target.platform.as_deref());
        if target.default {
            one["default"] = true.into();
        }
        one
    };
    json!({
        "targets": file.targets().iter().map(target).collect::<Vec<_>>(),
        "sources": [STANDARD.encode(file.text())],
    })
}

/// Lines of the one source that there is.
fn location(span: Span) -> Value {
    json!({ "ranges": [{ "start": { "line": span.line }, "end": { "line": span.end_line.max(span.line) } }] })
}

/// BuildKit leaves out what is empty.
fn put(document: &mut Value, name: &str, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        document[name] = text.into();
    }
}

fn message(error: &SyntaxError) -> String {
    match error.hint() {
        Some(hint) => format!("{} ({hint})", error.message()),
        None => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use engine_core::dockerfile::Inquiry;

    use super::*;

    fn parse(text: &str) -> Dockerfile {
        Dockerfile::parse("Dockerfile", text.as_bytes()).unwrap()
    }

    fn checked(text: &str) -> Value {
        let file = parse(text);
        let report = file.check(&Inquiry::default()).unwrap();
        check_document("Dockerfile", text.as_bytes(), &report, &file.checks)
    }

    #[test]
    fn checks_are_as_buildkit_has_them() {
        let text = "FROM a\nCMD x \\\n y\n";
        assert_eq!(
            checked(text),
            json!({
                "warnings": [{
                    "ruleName": "JSONArgsRecommended",
                    "description": engine_core::dockerfile::Rule::JsonArgsRecommended.description(),
                    "url": "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
                    "detail": "CMD should be an array of JSON: a shell keeps signals from the program",
                    "location": { "ranges": [{ "start": { "line": 2 }, "end": { "line": 3 } }] },
                }],
                "sources": [{ "filename": "Dockerfile", "language": "Dockerfile", "data": STANDARD.encode(text) }],
            })
        );
        let broken = checked("# check=error=true\nFROM a\nCMD x\n");
        let message = broken["buildError"]["message"].as_str().unwrap();
        assert!(message.contains("JSONArgsRecommended"), "{message}");
        let wrong = checked("FROM a\nSTOPSIGNAL SIGNONE\n");
        assert_eq!(wrong["buildError"]["location"]["ranges"][0]["start"]["line"], 2, "{wrong}");
        let mut report = CheckReport::default();
        report.errors = Dockerfile::parse("f", b"FROM a\nRUNN x\n").unwrap_err().as_slice().to_vec();
        let document = check_document("f", b"", &report, &Checks::default());
        assert_eq!(document["buildError"]["message"], "unknown instruction RUNN (did you mean RUN?)");
    }

    #[test]
    fn outlines_and_targets_are_as_buildkit_has_them() {
        let text = "FROM a AS one\n# last does it\nFROM --platform=$BUILDPLATFORM one AS last\nARG A=1 B\n\
                    RUN --mount=type=secret,id=s,required=true --mount=type=ssh --mount=type=cache,target=/c x\n";
        let file = parse(text);
        let at = |line| json!({ "ranges": [{ "start": { "line": line }, "end": { "line": line } }] });
        let outline = file.outline(&Inquiry::default()).unwrap();
        assert_eq!(
            outline_document(&file, &outline),
            json!({
                "name": "last",
                "description": "does it",
                "args": [{ "name": "A", "value": "1", "location": at(4) }, { "name": "B", "location": at(4) }],
                "secrets": [{ "name": "s", "required": true, "location": at(5) }],
                "ssh": [{ "name": "default", "location": at(5) }],
                "cache": [{ "ID": "/c", "location": at(5) }],
                "sources": [STANDARD.encode(text)],
            })
        );
        assert_eq!(
            targets_document(&file),
            json!({
                "targets": [
                    { "name": "one", "base": "a", "location": at(1) },
                    {
                        "name": "last",
                        "description": "does it",
                        "default": true,
                        "base": "one",
                        "platform": "$BUILDPLATFORM",
                        "location": at(3),
                    },
                ],
                "sources": [STANDARD.encode(text)],
            })
        );
    }
}
