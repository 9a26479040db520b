//! Platforms: operating system, architecture and variant, and which image of an index fits.
//!
//! Normalisation and the ARM variant order follow containerd's rules, which Docker uses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// A platform as in an image index: `linux/arm/v7`.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Platform {
    /// The operating system in Go's words: `linux`.
    pub os: String,
    /// The architecture in Go's words: `amd64`, `arm64`.
    pub architecture: String,
    /// The CPU variant: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system's version (Windows images).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system that the image needs.
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

impl Platform {
    /// Creates a normalised platform: `x86_64` becomes `amd64`, `aarch64` becomes `arm64`.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let lower = architecture.to_ascii_lowercase();
        let variant = variant.filter(|v| !v.is_empty()).map(str::to_ascii_lowercase);
        let (architecture, variant) = match (lower.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v.filter(|v| *v != "v1")),
            ("aarch64" | "arm64", v) => ("arm64", v.filter(|v| !matches!(*v, "8" | "v8"))),
            ("i386" | "i486" | "i586" | "i686", _) => ("386", None),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7" | "v7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            (other, v) => (other, v),
        };
        Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Returns the platform this program was compiled for.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// Returns how well an image for `image` runs where `self` is wanted: `None` not at all, else lower is better.
    #[must_use]
    pub fn rank(&self, image: &Platform) -> Option<u32> {
        let image = Self::new(&image.os, &image.architecture, image.variant.as_deref());
        let want = Self::new(&self.os, &self.architecture, self.variant.as_deref());
        if want.os != image.os {
            return None;
        }
        if want.architecture == image.architecture {
            return match (want.variant.as_deref(), image.variant.as_deref()) {
                (w, i) if w == i => Some(0),
                // "v7" runs "v6" and "v5"; "v3" of amd64 runs "v2" and the baseline (no variant).
                (Some(w), Some(i)) => level(w)?.checked_sub(level(i)?),
                (Some(w), None) => level(w),
                (None, Some(_)) => None,
                (None, None) => Some(0),
            };
        }
        // A 64-bit ARM machine also runs 32-bit images, after every native choice.
        if want.architecture == "arm64" && image.architecture == "arm" {
            return Some(100 + 8_u32.checked_sub(level(image.variant.as_deref()?)?)?);
        }
        None
    }
}

fn level(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.split('.').next()?.parse().ok()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Parses `os/arch[/variant]`, or a single word that is one of the two.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::new(ErrorKind::InvalidArgument, "parse platform")
                .with("platform", text)
                .with_message("it must look like os/architecture or os/architecture/variant")
                .with_hint("for example linux/amd64 or linux/arm64/v8")
        };
        let clean =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| clean(part)) {
            return Err(wrong());
        }
        match parts[..] {
            ["linux"] => Ok(Self::host()),
            [architecture] => Ok(Self::new("linux", architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(want: &str, image: &str) -> Option<u32> {
        want.parse::<Platform>().unwrap().rank(&image.parse().unwrap())
    }

    #[test]
    fn variants_fall_back_downwards_only() {
        assert_eq!(rank("linux/amd64", "linux/x86_64"), Some(0));
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert!(rank("linux/arm/v7", "linux/arm/v6") > rank("linux/arm/v7", "linux/arm/v7"));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert!(rank("linux/arm64", "linux/arm/v7") < rank("linux/arm64", "linux/arm/v6"));
        assert_eq!(rank("linux/amd64", "linux/amd64/v3"), None);
        assert!(rank("linux/amd64/v3", "linux/amd64").is_some());
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
    }

    #[test]
    fn malformed_platforms_are_refused() {
        for text in ["", "/", "linux/", "a/b/c/d", "lin ux/amd64"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
    }
}
