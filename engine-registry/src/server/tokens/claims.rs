//! What a token says, and for how long that holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine_core::digest::Digest;
use serde::{Deserialize, Serialize};

use super::scope::Grant;

pub(super) const ISSUER: &str = "engine-registry";
/// Docker's clients take at least a minute for granted.
pub(super) const ACCESS_LIFE: u64 = 5 * 60;
/// A login that is not used for so long is made anew. A changed password ends it at once.
pub(super) const REFRESH_LIFE: u64 = 90 * 24 * 60 * 60;
/// How far the clocks of servers over one directory may differ.
const SKEW: u64 = 60;

/// What a token is for: one is never taken for another.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Use {
    /// For requests.
    Access,
    /// For other tokens.
    Refresh,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: String,
    /// The user; nobody's is empty.
    pub(super) sub: String,
    pub(super) iat: u64,
    pub(super) nbf: u64,
    pub(super) exp: u64,
    pub(super) jti: String,
    #[serde(rename = "use")]
    pub(super) purpose: Use,
    /// Which password it was got with, as a hash of the bcrypt hash: with another one, it is worth nothing.
    pub(super) pwd: String,
    pub(super) access: Vec<Grant>,
}

impl Claims {
    pub(super) fn new(
        purpose: Use,
        audience: &str,
        user: Option<&str>,
        hash: &str,
        access: Vec<Grant>,
    ) -> Self {
        let now = now();
        let life = match purpose {
            Use::Access => ACCESS_LIFE,
            Use::Refresh => REFRESH_LIFE,
        };
        Self {
            iss: ISSUER.to_owned(),
            aud: audience.to_owned(),
            sub: user.unwrap_or_default().to_owned(),
            iat: now,
            nbf: now,
            exp: now + life,
            jti: crate::server::names::UploadId::random().as_str().to_owned(),
            purpose,
            pwd: fingerprint(user, hash),
            access,
        }
    }

    /// Whether these claims hold at `now` for this purpose. Who signed them is checked before.
    pub(super) fn hold(&self, purpose: Use, audience: &str, now: u64) -> bool {
        self.iss == ISSUER
            && self.aud == audience
            && self.purpose == purpose
            && self.nbf <= now + SKEW
            && self.iat <= now + SKEW
            && now < self.exp.saturating_add(SKEW)
            && self.exp.saturating_sub(self.nbf) <= REFRESH_LIFE
            && self.jti.len() == 32
    }
}

/// Returns what tells one password of a user from another.
pub(super) fn fingerprint(user: Option<&str>, hash: &str) -> String {
    match user {
        // bcrypt's salt makes it nothing that could be guessed.
        Some(user) => Digest::sha256(format!("{user}:{hash}").as_bytes()).hex()[..32].to_owned(),
        None => String::new(),
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d5_each_claim_is_checked() {
        let good = || Claims::new(Use::Access, "reg", Some("alice"), "hash", Vec::new());
        let now = now();
        assert!(good().hold(Use::Access, "reg", now));
        assert!(good().hold(Use::Access, "reg", now + ACCESS_LIFE + SKEW - 2), "within the skew");
        assert!(good().hold(Use::Access, "reg", now - SKEW + 2), "within the skew");
        assert!(!good().hold(Use::Access, "reg", now + ACCESS_LIFE + SKEW + 5));
        assert!(!good().hold(Use::Access, "reg", now - SKEW - 5));
        assert!(!good().hold(Use::Refresh, "reg", now));
        assert!(!good().hold(Use::Access, "other", now));
        for spoil in [
            |claims: &mut Claims| claims.iss = "other".to_owned(),
            |claims: &mut Claims| claims.jti.clear(),
            |claims: &mut Claims| claims.exp = u64::MAX,
            |claims: &mut Claims| claims.exp = 0,
            |claims: &mut Claims| claims.nbf = u64::MAX,
            |claims: &mut Claims| claims.iat += 1000,
        ] {
            let mut claims = good();
            spoil(&mut claims);
            assert!(!claims.hold(Use::Access, "reg", now), "{claims:?}");
        }
        assert_ne!(fingerprint(Some("a"), "x"), fingerprint(Some("a"), "y"));
        assert_ne!(good().jti, good().jti);
    }
}
