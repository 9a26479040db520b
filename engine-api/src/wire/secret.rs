//! What is secret, in the requests and answers that are about it.
//!
//! Neither has a form in serde of its own, so that nothing writes it by accident. These here have no `Debug` either.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::registry_client::Credentials;
use engine_core::secret::SecretData;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The content of a secret.
pub(crate) struct WireSecret(pub(crate) SecretData);

impl Serialize for WireSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.reveal()))
    }
}

impl<'de> Deserialize<'de> for WireSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The library's own text would quote what it read.
        let content = STANDARD.decode(text).map_err(|_| D::Error::custom("a secret is no base64"))?;
        Ok(Self(SecretData::new(content)))
    }
}

/// Who a registry is to think that we are.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireCredentials {
    Basic {
        username: String,
        password: String,
    },
    Token(String),
    /// Of a kind that a newer engine has.
    Unknown,
}

impl From<Credentials> for WireCredentials {
    fn from(credentials: Credentials) -> Self {
        match credentials {
            Credentials::Basic { username, password } => Self::Basic { username, password },
            Credentials::IdentityToken(token) => Self::Token(token),
            _ => Self::Unknown,
        }
    }
}

impl WireCredentials {
    /// Returns them as the engine takes them.
    pub(crate) fn given(given: Option<Self>) -> Option<Credentials> {
        match given? {
            Self::Basic { username, password } => Some(Credentials::Basic { username, password }),
            Self::Token(token) => Some(Credentials::IdentityToken(token)),
            Self::Unknown => None,
        }
    }
}
