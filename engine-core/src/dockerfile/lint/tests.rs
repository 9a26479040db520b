use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::dockerfile::{Dockerfile, Expander, GlobalScope};

/// Returns line and rule of each warning.
fn warnings(text: &str) -> Vec<(u32, &'static str)> {
    let file = Dockerfile::parse("f", text.as_bytes()).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    file.warnings.iter().map(|warning| (warning.span.line, warning.rule.as_str())).collect()
}

#[test]
fn rules_find_what_they_are_for() {
    for (text, expected) in [
        ("FROM a AS Build\nFROM a AS build2", &[(1, "StageNameCasing")][..]),
        ("FROM a as b", &[(1, "FromAsCasing")]),
        ("from a AS b", &[(1, "FromAsCasing")]),
        ("from a as b", &[]),
        ("FROM a\nRUN x \\\n\n y", &[(3, "NoEmptyContinuation")]),
        ("FROM a\nrun x\nRUN y", &[(2, "ConsistentInstructionCasing")]),
        ("from a\nrun x\nRUN y", &[(3, "ConsistentInstructionCasing")]),
        ("FROM a\nRun x", &[(2, "ConsistentInstructionCasing")]),
        ("FROM a AS b\nFROM c AS b", &[(2, "DuplicateStageName")]),
        ("FROM a AS scratch\nFROM c AS context", &[(1, "ReservedStageName"), (2, "ReservedStageName")]),
        ("FROM a\nCMD x\nENTRYPOINT [\"y\"]", &[(2, "JSONArgsRecommended")]),
        ("FROM a\nSHELL [\"x\"]\nCMD x", &[]),
        ("FROM a AS b\nSHELL [\"x\"]\nFROM b\nENTRYPOINT x", &[]),
        ("FROM a\nMAINTAINER x", &[(2, "MaintainerDeprecated")]),
        ("ARG VERSION\nFROM a:$VERSOIN", &[(2, "InvalidDefaultArgInFrom"), (2, "UndefinedArgInFrom")]),
        ("ARG VERSION\nFROM a:${VERSION:-1}", &[]),
        ("ARG VERSION\nFROM a:$VERSION", &[(2, "InvalidDefaultArgInFrom")]),
        ("ARG B\nFROM $B", &[(2, "InvalidDefaultArgInFrom")]),
        ("FROM a AS b\nFROM b", &[]),
        ("FROM scratch\nWORKDIR x\nWORKDIR y", &[(2, "WorkdirRelativePath")]),
        ("FROM scratch\nWORKDIR /x\nWORKDIR y", &[]),
        ("FROM scratch AS s\nWORKDIR /x\nFROM s\nWORKDIR y", &[]),
        ("FROM scratch\nWORKDIR $D/x", &[]),
        ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]", &[(2, "MultipleInstructionsDisallowed")]),
        ("FROM a\nCMD [\"x\"]\nFROM a\nCMD [\"y\"]", &[]),
        ("FROM a\nENV a b\nLABEL c d", &[(2, "LegacyKeyValueFormat"), (3, "LegacyKeyValueFormat")]),
        ("FROM --platform=$TARGETPLATFORM a", &[(1, "RedundantTargetPlatform")]),
        ("FROM --platform=${TARGETPLATFORM} a", &[(1, "RedundantTargetPlatform")]),
        ("FROM --platform=$BUILDPLATFORM a", &[]),
        ("FROM --platform=linux/s390x a", &[(1, "FromPlatformFlagConstDisallowed")]),
        ("FROM --platform=linux/s390x a AS b-s390x", &[]),
        (
            "FROM a\nARG API_KEY\nENV TOKEN=x PUBLIC_KEY=y KEYBOARD=z",
            &[(2, "SecretsUsedInArgOrEnv"), (3, "SecretsUsedInArgOrEnv")],
        ),
        ("FROM a\nEXPOSE 80/TCP", &[(2, "ExposeProtoCasing")]),
        ("FROM a\nEXPOSE 8080:80", &[(2, "ExposeInvalidFormat")]),
        ("FROM a\nEXPOSE 80 53/udp $X", &[]),
        ("# check=experimental=all\n# what it is\nFROM a AS b", &[(3, "InvalidDefinitionDescription")]),
        ("# check=experimental=all\n# b what it is\nFROM a AS b", &[]),
        ("# check=experimental=all\n# what it is\n\nFROM a AS b", &[]),
        ("# what it is\nFROM a AS b", &[]),
    ] {
        assert_eq!(warnings(text), expected, "{text}");
    }
}

#[test]
fn checks_choose_rules_and_make_errors() {
    for (check, expected) in [
        ("", 2),
        ("# check=skip=MaintainerDeprecated\n", 1),
        ("# check=skip=MaintainerDeprecated, JSONArgsRecommended\n", 0),
        ("# check=skip=all\n", 0),
        ("# check=skip=NoSuchRule\n", 2),
        ("# check=error=true\n", 2),
    ] {
        let text = format!("{check}FROM a\nMAINTAINER x\nCMD y\n");
        let file = Dockerfile::parse("f", text.as_bytes()).unwrap();
        assert_eq!(file.warnings.len(), expected, "{check}");
        let verdict = file.checks.verdict(&file.warnings);
        assert_eq!(verdict.is_err(), check.contains("error"), "{check}");
    }
    for check in ["skip", "error=maybe", "x=y", "skip="] {
        Checks::parse(check).expect_err(check);
    }
    let checks = Checks::parse("skip=all; error = true ;experimental=CopyIgnoredFile").unwrap();
    assert!(checks.warnings_are_errors() && checks.apply(Rule::CopyIgnoredFile));
    assert!(!checks.apply(Rule::UndefinedVar) && !checks.apply(Rule::InvalidDefinitionDescription));
    assert!(checks.verdict(&[]).is_ok());
}

#[test]
fn rules_for_whoever_knows_more() {
    let checks = Checks::parse("experimental=all").unwrap();
    let span = Span::lines(3, 3);
    let file = Dockerfile::parse("f", b"FROM a\nARG ASKED\n").unwrap();
    let host = Platform::new("linux", "amd64", None);
    let global = Arc::new(GlobalScope::new(&file, BTreeMap::new(), &host, &host, None).unwrap());
    let mut scope = Scope::new(global, ["VERSION=1"]);
    let super::super::Instruction::Arg(arg) = &file.stages[0].instructions[0].value else { panic!() };
    scope.define(arg).unwrap();
    let mut expander = Expander::new(&scope, file.directives.escape);
    expander.word("$VERSOIN $ASKED $VERSION").unwrap();
    let found = checks.undefined_variables(expander.unset(), &scope, span);
    let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["UndefinedVar: the variable $VERSOIN is not defined (did you mean $VERSION?) (line 3)"]
    );

    let ignore = IgnorePatterns::new(["*.log"]).unwrap();
    assert!(checks.copy_of_ignored("COPY", "x.log", &ignore, span).is_some());
    assert!(checks.copy_of_ignored("COPY", "x.txt", &ignore, span).is_none());
    assert!(checks.copy_of_ignored("COPY", ".", &ignore, span).is_none());
    assert!(Checks::default().copy_of_ignored("COPY", "x.log", &ignore, span).is_none());
    let all = IgnorePatterns::new(["*"]).unwrap();
    assert!(checks.copy_of_ignored("COPY", "/", &all, span).is_some());
    let exceptions = IgnorePatterns::new(["*", "!a"]).unwrap();
    assert!(checks.copy_of_ignored("COPY", "b", &exceptions, span).is_none());

    let arm = Platform::new("linux", "arm64", None);
    assert!(checks.base_platform("a", &host, &arm, span).is_some());
    assert!(checks.base_platform("a", &host, &host, span).is_none());
}

#[test]
fn every_rule_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(names.len(), Rule::ALL.len());
}
