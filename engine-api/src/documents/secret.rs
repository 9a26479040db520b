//! Secrets as `podman secret inspect` shows them: Docker's document has no content and belongs to Swarm.

use engine_core::ContainerInfo;
use engine_core::secret::{Secret, SecretData, SecretTarget};
use engine_core::time::rfc3339;
use serde_json::{Value, json};

/// Returns a secret's document, with `SecretData` if `content` is given.
#[must_use]
pub fn secret_inspect(secret: &Secret, content: Option<&SecretData>) -> Value {
    let mut document = json!({
        "ID": secret.id.as_str(),
        "CreatedAt": rfc3339(secret.created_at),
        "UpdatedAt": rfc3339(secret.updated_at),
        "Spec": {
            "Name": secret.name.as_str(),
            "Driver": { "Name": "file", "Options": {} },
            "Labels": secret.labels,
        },
    });
    if let Some(content) = content {
        document["SecretData"] = String::from_utf8_lossy(content.reveal()).into();
    }
    document
}

/// Returns the secrets of a container, as `Config.Secrets` of Podman's document has them. Variables have no owner and no mode.
#[must_use]
pub fn container_secrets(info: &ContainerInfo) -> Value {
    let one = |(wanted, id): (&engine_core::secret::SecretUse, &engine_core::SecretId)| {
        let (uid, gid, mode) = match wanted.target {
            SecretTarget::File { uid, gid, mode, .. } => (uid, gid, mode),
            _ => (0, 0, 0),
        };
        json!({ "Name": wanted.secret, "ID": id.as_str(), "UID": uid, "GID": gid, "Mode": mode })
    };
    info.spec.secrets.iter().zip(&info.secrets).map(one).collect()
}
