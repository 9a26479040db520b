//! The rules, under BuildKit's names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A rule of `# check=`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Rule {
    /// Keywords are written in one case.
    ConsistentInstructionCasing,
    /// `COPY` of what the ignore file leaves out.
    CopyIgnoredFile,
    /// Two stages have one name.
    DuplicateStageName,
    /// `EXPOSE` with an address or a port of the host.
    ExposeInvalidFormat,
    /// The protocol of `EXPOSE` is in lower case.
    ExposeProtoCasing,
    /// `AS` is written as `FROM` is.
    FromAsCasing,
    /// `FROM --platform` with a fixed value.
    FromPlatformFlagConstDisallowed,
    /// The base image is for another platform.
    InvalidBaseImagePlatform,
    /// The defaults of arguments make no name of an image.
    InvalidDefaultArgInFrom,
    /// A comment above an argument or a stage that does not begin with its name.
    InvalidDefinitionDescription,
    /// `CMD` and `ENTRYPOINT` are arrays of JSON.
    JsonArgsRecommended,
    /// `ENV name value` without `=`.
    LegacyKeyValueFormat,
    /// `MAINTAINER` is deprecated.
    MaintainerDeprecated,
    /// `CMD`, `ENTRYPOINT` and `HEALTHCHECK` count once for a stage.
    MultipleInstructionsDisallowed,
    /// Empty lines in the middle of an instruction.
    NoEmptyContinuation,
    /// `FROM --platform=$TARGETPLATFORM` says nothing.
    RedundantTargetPlatform,
    /// A stage has a name that means something else.
    ReservedStageName,
    /// Secrets do not belong into `ARG` and `ENV`.
    SecretsUsedInArgOrEnv,
    /// Names of stages are in lower case.
    StageNameCasing,
    /// `FROM` with an argument that nothing defines.
    UndefinedArgInFrom,
    /// A variable that nothing defines.
    UndefinedVar,
    /// `WORKDIR` relative to what the base image has.
    WorkdirRelativePath,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 22] = [
        Self::ConsistentInstructionCasing,
        Self::CopyIgnoredFile,
        Self::DuplicateStageName,
        Self::ExposeInvalidFormat,
        Self::ExposeProtoCasing,
        Self::FromAsCasing,
        Self::FromPlatformFlagConstDisallowed,
        Self::InvalidBaseImagePlatform,
        Self::InvalidDefaultArgInFrom,
        Self::InvalidDefinitionDescription,
        Self::JsonArgsRecommended,
        Self::LegacyKeyValueFormat,
        Self::MaintainerDeprecated,
        Self::MultipleInstructionsDisallowed,
        Self::NoEmptyContinuation,
        Self::RedundantTargetPlatform,
        Self::ReservedStageName,
        Self::SecretsUsedInArgOrEnv,
        Self::StageNameCasing,
        Self::UndefinedArgInFrom,
        Self::UndefinedVar,
        Self::WorkdirRelativePath,
    ];

    /// Returns BuildKit's name of the rule.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => "ConsistentInstructionCasing",
            Self::CopyIgnoredFile => "CopyIgnoredFile",
            Self::DuplicateStageName => "DuplicateStageName",
            Self::ExposeInvalidFormat => "ExposeInvalidFormat",
            Self::ExposeProtoCasing => "ExposeProtoCasing",
            Self::FromAsCasing => "FromAsCasing",
            Self::FromPlatformFlagConstDisallowed => "FromPlatformFlagConstDisallowed",
            Self::InvalidBaseImagePlatform => "InvalidBaseImagePlatform",
            Self::InvalidDefaultArgInFrom => "InvalidDefaultArgInFrom",
            Self::InvalidDefinitionDescription => "InvalidDefinitionDescription",
            Self::JsonArgsRecommended => "JSONArgsRecommended",
            Self::LegacyKeyValueFormat => "LegacyKeyValueFormat",
            Self::MaintainerDeprecated => "MaintainerDeprecated",
            Self::MultipleInstructionsDisallowed => "MultipleInstructionsDisallowed",
            Self::NoEmptyContinuation => "NoEmptyContinuation",
            Self::RedundantTargetPlatform => "RedundantTargetPlatform",
            Self::ReservedStageName => "ReservedStageName",
            Self::SecretsUsedInArgOrEnv => "SecretsUsedInArgOrEnv",
            Self::StageNameCasing => "StageNameCasing",
            Self::UndefinedArgInFrom => "UndefinedArgInFrom",
            Self::UndefinedVar => "UndefinedVar",
            Self::WorkdirRelativePath => "WorkdirRelativePath",
        }
    }

    /// Returns what the rule says, as a sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::ConsistentInstructionCasing => {
                "Keywords of instructions are all written in capitals, or all in lower case"
            }
            Self::CopyIgnoredFile => "COPY and ADD do not find what the ignore file leaves out",
            Self::DuplicateStageName => "Each stage has a name of its own",
            Self::ExposeInvalidFormat => {
                "EXPOSE has ports of the container, without an address or a port of the host"
            }
            Self::ExposeProtoCasing => "The protocol of EXPOSE is written in lower case",
            Self::FromAsCasing => "AS is written in the case of its FROM",
            Self::FromPlatformFlagConstDisallowed => "The platform of FROM is not the same for every build",
            Self::InvalidBaseImagePlatform => "The base image is for the platform that is built for",
            Self::InvalidDefaultArgInFrom => {
                "With their defaults alone, the arguments of FROM make the name of an image"
            }
            Self::InvalidDefinitionDescription => {
                "A comment right above an argument or a stage begins with its name and describes it; an empty line keeps others apart"
            }
            Self::JsonArgsRecommended => {
                "CMD and ENTRYPOINT are arrays of JSON, so that signals reach the program"
            }
            Self::LegacyKeyValueFormat => "ENV and LABEL have = between a name and its value",
            Self::MaintainerDeprecated => "MAINTAINER is deprecated, and a label names the author",
            Self::MultipleInstructionsDisallowed => {
                "CMD, ENTRYPOINT and HEALTHCHECK are there once in a stage, since the last one counts"
            }
            Self::NoEmptyContinuation => "No empty lines are in the middle of an instruction",
            Self::RedundantTargetPlatform => "FROM needs no platform that is the default",
            Self::ReservedStageName => "No stage has a name that means something else",
            Self::SecretsUsedInArgOrEnv => "Secrets are not given by ARG and ENV, which stay in the image",
            Self::StageNameCasing => "Names of stages are written in lower case",
            Self::UndefinedArgInFrom => "Arguments of FROM are defined in front of the first FROM",
            Self::UndefinedVar => "Variables are defined before they are used",
            Self::WorkdirRelativePath => {
                "The first WORKDIR is absolute, so that it does not depend on the base image"
            }
        }
    }

    /// Returns where Docker describes the rule.
    #[must_use]
    pub fn url(self) -> String {
        let name = self.as_str();
        let mut page = String::with_capacity(name.len() + 8);
        for (index, c) in name.char_indices() {
            let begins = name[index + 1..].starts_with(|next: char| next.is_ascii_lowercase());
            if index > 0 && c.is_ascii_uppercase() && begins {
                page.push('-');
            }
            page.push(c.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{page}/")
    }

    /// Returns whether the rule only counts where it is asked for: `check=experimental=all`.
    #[must_use]
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::CopyIgnoredFile | Self::InvalidDefinitionDescription)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
