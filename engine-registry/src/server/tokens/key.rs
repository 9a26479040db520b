//! The key that tokens are signed with: Ed25519, in a file that nobody else may read.
//!
//! Invariant: the file appears whole, once: several servers that start at the same time over one directory have one key.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine_core::digest::Digest;
use engine_core::error::{Error, ErrorKind, Result};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

const MAX_FILE: u64 = 4096;

pub(super) struct SigningKey {
    pair: Ed25519KeyPair,
    /// The first part of every token of this key.
    header: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("header", &self.header).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads the key, or makes one if there is none.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::from_io("open key of tokens", error).with("path", path.display());
        match fs::metadata(path) {
            Ok(found) => {
                let wrong = |why: &str| {
                    Error::new(ErrorKind::InvalidArgument, "open key of tokens")
                        .with("path", path.display())
                        .with_message(why)
                };
                if found.permissions().mode() & 0o077 != 0 {
                    return Err(wrong("others may read or write it")
                        .with_hint("chmod 600, or remove it: then there is a new one"));
                }
                if found.len() > MAX_FILE {
                    return Err(wrong("it is no key"));
                }
                let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
                // The parser's own error says nothing that helps.
                let pair = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| wrong("it is no key"))?;
                Ok(Self::new(pair))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(failed)?;
                Self::open(path)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn new(pair: Ed25519KeyPair) -> Self {
        let id = Digest::sha256(pair.public_key().as_ref());
        let id = &id.hex()[..16];
        let header = format!("{{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"{id}\"}}");
        Self { pair, header: URL_SAFE_NO_PAD.encode(header) }
    }

    /// Makes a token of claims (RFC 7519; the signature as RFC 8037 has it).
    pub(super) fn sign(&self, claims: &[u8]) -> String {
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Returns the claims of a token of this key. What the token says of its algorithm or key is not read, but has to be what
    /// this key writes (SECURITY D5).
    pub(super) fn verify(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != self.header {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ED25519, self.pair.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        URL_SAFE_NO_PAD.decode(claims).ok()
    }
}

fn create(path: &Path) -> io::Result<()> {
    let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| io::Error::other("no key can be made"))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{:016x}", u64::from_le_bytes(random)));
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes.as_ref())?;
        file.sync_all()?;
        match fs::hard_link(&temporary, path) {
            // Another server was first: its key is ours.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    })();
    let _ = fs::remove_file(&temporary);
    written?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d5_only_whole_tokens_of_the_key_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::open(&dir.path().join("key")).unwrap();
        let other = SigningKey::open(&dir.path().join("other")).unwrap();
        let token = key.sign(b"{}");
        assert_eq!(key.verify(&token).unwrap(), b"{}");
        assert_eq!(SigningKey::open(&dir.path().join("key")).unwrap().verify(&token).unwrap(), b"{}");
        assert!(other.verify(&token).is_none());
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (none, embedded) = (
            encode(r#"{"alg":"none"}"#),
            encode(r#"{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}}"#),
        );
        let forged = other.sign(b"{}");
        for bad in [
            format!("{none}.{claims}."),
            format!("{none}.{claims}.{signature}"),
            format!("{embedded}.{claims}.{signature}"),
            format!("{header}.{}.{signature}", encode("{\"a\":1}")),
            format!("{header}.{claims}."),
            format!("{header}.{claims}"),
            format!("{header}.{claims}.{signature}="),
            format!("{header}.{claims}.{signature}.x"),
            format!("{header}.{claims}.{}", forged.rsplit('.').next().unwrap()),
            String::new(),
            "..".to_owned(),
        ] {
            assert!(key.verify(&bad).is_none(), "{bad}");
        }
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(key.verify(&changed).is_none(), "{at}");
        }
    }

    #[test]
    fn b9_the_key_is_nobody_else_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = SigningKey::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left");
        assert!(!format!("{key:?}").contains("pair"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(SigningKey::open(&path).unwrap_err().report().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(SigningKey::open(&path).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
