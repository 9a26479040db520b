use super::*;
use crate::dockerfile::{Dockerfile, Rule};
use crate::error::ErrorKind;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse("f", text.as_bytes()).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

fn image(env: &[&str], on_build: &[&str]) -> BaseImage {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let platform = Some(Platform::new("linux", "s390x", None));
    BaseImage { env: owned(env), on_build: owned(on_build), platform }
}

/// An inquiry that knows an image of a rare platform and an ignore file.
fn inquiry() -> Inquiry {
    Inquiry::default()
        .with_platform(Platform::new("linux", "amd64", None))
        .with_ignore(IgnorePatterns::new(["*.log"]).unwrap())
        .with_image("known", image(&["HERE=1"], &[]))
        .with_arg("T", "1")
}

/// Line and rule of each warning.
fn found(text: &str) -> Vec<(u32, Rule)> {
    let report = parse(text).check(&inquiry()).unwrap();
    assert_eq!(report.errors, [], "{text}");
    report.warnings.iter().map(|warning| (warning.span.line, warning.rule)).collect()
}

#[test]
fn every_rule_finds_what_is_not_good_and_nothing_else() {
    let experimental = |text: &str| format!("# check=experimental=all\n{text}");
    for (rule, bad, line, good) in [
        (Rule::ConsistentInstructionCasing, "FROM a\nrun x\nRUN y", 2, "FROM a\nRUN x\nRUN y"),
        (Rule::CopyIgnoredFile, "FROM a\nCOPY x.log y /", 3, "FROM a\nCOPY x.txt y /\nADD http://h/x.log /"),
        (Rule::DuplicateStageName, "FROM a AS b\nFROM c AS b", 2, "FROM a AS b\nFROM c AS d"),
        (
            Rule::ExposeInvalidFormat,
            "FROM scratch\nARG P=1:2\nEXPOSE $P",
            3,
            "FROM scratch\nARG P=2\nEXPOSE $P",
        ),
        (Rule::ExposeProtoCasing, "FROM scratch\nARG P=TCP\nEXPOSE 1/$P", 3, "FROM scratch\nEXPOSE 1/tcp"),
        (Rule::FromAsCasing, "FROM a as b", 1, "FROM a AS b"),
        (
            Rule::FromPlatformFlagConstDisallowed,
            "FROM --platform=linux/amd64 a",
            1,
            "FROM --platform=$BUILDPLATFORM a",
        ),
        (Rule::InvalidBaseImagePlatform, "FROM known", 1, "FROM --platform=linux/s390x known AS s390x"),
        (Rule::InvalidDefaultArgInFrom, "ARG T\nFROM a:$T", 2, "ARG T=1\nFROM a:$T"),
        (Rule::InvalidDefinitionDescription, "FROM a\n# no name\nARG B=1", 4, "FROM a\n# B is it\nARG B=1"),
        (Rule::JsonArgsRecommended, "FROM a\nENTRYPOINT x", 2, "FROM a\nENTRYPOINT [\"x\"]"),
        (Rule::LegacyKeyValueFormat, "FROM a\nENV b c", 2, "FROM a\nENV b=c"),
        (Rule::MaintainerDeprecated, "FROM a\nMAINTAINER me", 2, "FROM a\nLABEL maintainer=me"),
        (
            Rule::MultipleInstructionsDisallowed,
            "FROM a\nHEALTHCHECK CMD x\nHEALTHCHECK NONE",
            2,
            "FROM a\nHEALTHCHECK NONE\nFROM b\nHEALTHCHECK NONE",
        ),
        (Rule::NoEmptyContinuation, "FROM a\nRUN x \\\n\n y", 3, "FROM a\nRUN x \\\n # why\n y"),
        (
            Rule::RedundantTargetPlatform,
            "FROM --platform=$TARGETPLATFORM a",
            1,
            "FROM --platform=$BUILDPLATFORM a",
        ),
        (Rule::ReservedStageName, "FROM a AS context", 1, "FROM a AS contexts"),
        (Rule::SecretsUsedInArgOrEnv, "FROM a\nENV GIT_TOKEN=x", 2, "FROM a\nENV TOKEN_FILE=x TOKENS=1"),
        (Rule::StageNameCasing, "FROM a AS Build", 1, "FROM a AS build"),
        (Rule::UndefinedArgInFrom, "ARG T=1\nFROM a:${X:-1}$T", 2, "ARG T=1\nFROM a:${T:-1}"),
        (
            Rule::UndefinedVar,
            "FROM known AS k\nFROM k\nENV A=$HER",
            3,
            "FROM scratch\nARG B\nENV A=$B P=$PATH:/x",
        ),
        (Rule::WorkdirRelativePath, "FROM a\nWORKDIR b", 2, "FROM a\nWORKDIR /b\nWORKDIR c"),
    ] {
        let (bad, good) = match rule.is_experimental() {
            true => (experimental(bad), experimental(good)),
            false => (bad.to_owned(), good.to_owned()),
        };
        // The image's platform is in the way of another rule here.
        let expected: Vec<_> = found(&bad).into_iter().filter(|(_, other)| *other == rule).collect();
        assert_eq!(expected, [(line, rule)], "{bad}: {:?}", found(&bad));
        let others = found(&good);
        assert!(others.iter().all(|(_, other)| *other != rule), "{good}: {others:?}");
        let skip = format!("# check=skip={rule}\n{}", bad.trim_start_matches("# check=experimental=all\n"));
        assert!(found(&skip).iter().all(|(_, other)| *other != rule), "{skip}");
        assert!(rule.description().len() > 20 && rule.url().starts_with("https://"), "{rule}");
    }
    assert_eq!(
        Rule::JsonArgsRecommended.url(),
        "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    );
}

#[test]
fn what_an_image_may_define_is_left_open_until_it_is_known() {
    let text = "FROM base AS one\nENV A=$SET_THERE\nFROM one\nENV B=$SET_THERE C=$NOWHERE\n";
    let report = parse(text).check(&Inquiry::default()).unwrap();
    assert!(report.is_clean() && report.unknown_images.iter().eq(["base"]), "{report:?}");
    // What it wants done first defines, too, and is carried out by the first stage alone.
    let known = image(&["SET_THERE=1"], &["ARG ASKED=$GONE", "COPY x.log /"]);
    let known = BaseImage { platform: None, ..known };
    let text = format!("# check=experimental=all\n{text}RUN --mount=type=cache,id=$ASKED,target=/c x\n");
    let report = parse(&text).check(&inquiry().with_image("base", known)).unwrap();
    let found: Vec<_> = report.warnings.iter().map(|warning| (warning.span.line, warning.rule)).collect();
    assert_eq!(found, [(2, Rule::CopyIgnoredFile), (5, Rule::UndefinedVar)], "{report:?}");
    assert!(report.unknown_images.is_empty() && report.errors.is_empty());
}

#[test]
fn a_check_finds_what_a_build_would_fail_with() {
    for (text, line, words) in [
        ("FROM a\nEXPOSE http", 2, "http"),
        ("FROM a\nSTOPSIGNAL SIGNONE", 2, "SIGNONE"),
        ("FROM a\nCOPY --chmod=u+y a b", 2, "u+y"),
        ("FROM a\nENV A=${B:?gone}", 2, "gone"),
        ("ARG A=${B:?gone}\nFROM a", 1, "gone"),
        ("FROM a\nARG B=${C:?gone}", 2, "gone"),
        ("FROM A//b", 1, "A//b"),
        ("FROM a\nCOPY --from=B//c d e", 2, "B//c"),
        ("FROM --platform=a/b/c/d a", 1, "a/b/c/d"),
        ("FROM a\nCOPY --from=later x y\nFROM b AS later", 2, "comes later"),
        ("FROM scratch\nFROM wrong", 2, "RUNN x"),
    ] {
        let inquiry = Inquiry::default().with_image("wrong", image(&[], &["RUNN x"]));
        let report = parse(text).check(&inquiry).unwrap();
        let [error] = &report.errors[..] else { panic!("{text}: {report:?}") };
        assert!(error.line() == line && error.message().contains(words), "{text}: {error}");
    }
    // The rules are applied to the rest, and what an unneeded stage has is nothing to one that was named.
    let text = "FROM scratch AS a\nENV A=${B:?gone} C=$D\nFROM scratch AS b\nENV A=$E\n";
    let report = parse(text).check(&Inquiry::default()).unwrap();
    assert_eq!((report.errors.len(), report.warnings.len()), (1, 1), "{report:?}");
    let report = parse(text).check(&Inquiry::default().with_target("b")).unwrap();
    assert_eq!((report.errors.len(), report.warnings.len()), (0, 1), "{report:?}");
    let error = parse(text).check(&Inquiry::default().with_target("c")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // A report goes anywhere.
    let report = parse(text).check(&Inquiry::default()).unwrap();
    let again: CheckReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again, report);
}

#[test]
fn an_outline_has_what_the_target_can_be_given() {
    let file = parse(
        "ARG inherited=box\nARG inherited2=box2\nARG unused=abc${inherited2}\n# sfx is a suffix\nARG sfx=\"usy${inherited}\"\n\n\
         FROM b${sfx} AS first\n# about nothing\nARG FOO=123\n# BAR is a number\nARG BAR=456\nARG TARGETARCH\n\
         RUN --mount=type=secret,target=/etc/passwd --mount=type=ssh --mount=type=cache,target=/cache true\n\n\
         FROM alpine${unused} AS second\nARG BAZ\nRUN --mount=type=secret,id=other true\n\nFROM scratch AS third\nARG ABC=a\nENV ABC=b\n\
         ARG BAR\nRUN --mount=type=secret,id=third${BAR},required=true --mount=type=secret,id=passwd,required=true true\n\n\
         # target defines build target\nFROM third AS target\nCOPY --from=first /etc/passwd /\nARG inherited2 ABC=$ABC\n\
         RUN --mount=type=ssh,id=mine,required --mount=type=cache,id=kept,target=/x true\n\nFROM second\n",
    );
    let outline = file.outline(&Inquiry::default().with_arg("BAR", "678").with_target("target")).unwrap();
    assert_eq!(outline.name.as_deref(), Some("target"));
    assert_eq!(outline.description.as_deref(), Some("defines build target"));
    let args: Vec<_> = outline
        .args
        .iter()
        .map(|arg| (&*arg.name, arg.value.as_deref(), arg.description.as_deref(), arg.span.line))
        .collect();
    assert_eq!(
        args,
        [
            ("inherited", Some("box"), None, 1),
            ("inherited2", Some("box2"), None, 2),
            ("sfx", Some("usybox"), Some("is a suffix"), 5),
            ("FOO", Some("123"), None, 9),
            ("BAR", Some("678"), None, 22),
            ("ABC", Some("b"), None, 28),
        ]
    );
    let mounts = |list: &[OutlineMount]| {
        list.iter().map(|one| (one.id.clone(), one.required, one.span.line)).collect::<Vec<_>>()
    };
    let owned = |(id, required, line): (&str, bool, u32)| (id.to_owned(), required, line);
    assert_eq!(mounts(&outline.secrets), [("passwd", true, 13), ("third678", true, 23)].map(owned));
    assert_eq!(mounts(&outline.ssh), [("default", false, 13), ("mine", true, 29)].map(owned));
    let caches: Vec<_> = outline.caches.iter().map(|cache| (&*cache.id, cache.span.line)).collect();
    assert_eq!(caches, [("/cache", 13), ("kept", 29)]);
    // The last stage is another one.
    let outline = file.outline(&Inquiry::default()).unwrap();
    let args: Vec<_> = outline.args.iter().map(|arg| (&*arg.name, arg.value.as_deref())).collect();
    assert_eq!(args, [("inherited2", Some("box2")), ("unused", Some("abcbox2")), ("BAZ", None)]);
    assert_eq!(mounts(&outline.secrets), [("other", false, 17)].map(owned));
    for (text, kind) in
        [("FROM a\nENV A=${B:?}", ErrorKind::InvalidArgument), ("FROM $A", ErrorKind::InvalidArgument)]
    {
        assert_eq!(parse(text).outline(&Inquiry::default()).unwrap_err().kind(), kind, "{text}");
    }
    let error = file.outline(&Inquiry::default().with_target("none")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn targets_are_all_stages() {
    let file = parse(
        "\n# build compiles it\nFROM --platform=$BUILDPLATFORM a:$V AS Build\nRUN x\nFROM b\n# last is all of it\nFROM build AS last\n",
    );
    let targets = file.targets();
    let found: Vec<_> = targets
        .iter()
        .map(|target| (target.name.as_deref(), &*target.base, target.default, target.span.line))
        .collect();
    assert_eq!(
        found,
        [(Some("build"), "a:$V", false, 3), (None, "b", false, 5), (Some("last"), "build", true, 7)]
    );
    assert_eq!(targets[0].platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!(targets[0].description.as_deref(), Some("compiles it"));
    assert_eq!(targets[1].description, None);
}

#[test]
fn wide_and_deep_graphs_end_soon() {
    use std::fmt::Write as _;
    let mut text = String::from("FROM scratch AS s0\nARG A=1\n");
    for index in 1..200 {
        let _ = write!(text, "FROM s{} AS s{index}\nARG A{index}=$A\n", index - 1);
        for from in 0..index.min(20) {
            let _ = writeln!(text, "COPY --from=s{from} a b");
        }
    }
    let outline = parse(&text).outline(&Inquiry::default()).unwrap();
    assert_eq!(outline.args.len(), 200);
    assert!(parse(&text).check(&Inquiry::default()).unwrap().is_clean());
}
