//! `GET /images/{name}/history`.

use axum::response::Response;
use engine_core::{Platform, Reference};
use serde_json::{Value, json};

use super::Named;
use crate::server::error::Result;
use crate::server::{reply, times};

pub(super) async fn history(Named { api, name, params, version, .. }: Named) -> Result<Response> {
    let platform = super::platform_since(&params, "platform", version, 48)?.unwrap_or_else(Platform::host);
    let steps =
        api.engine.image_history(&name, &platform).await.map_err(|error| super::absent(&name, error))?;
    let list: Vec<Value> = steps
        .iter()
        .map(|entry| {
            let tags: Vec<String> =
                entry.names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
            json!({
                // The images between are nowhere.
                "Id": entry.id.as_ref().map_or_else(|| "<missing>".to_owned(), ToString::to_string),
                "Created": times::unix(entry.step.created.as_deref().and_then(times::created)),
                "CreatedBy": entry.step.created_by.as_deref().unwrap_or_default(),
                "Tags": Some(tags).filter(|tags| !tags.is_empty()),
                "Size": entry.size,
                "Comment": entry.step.comment.as_deref().unwrap_or_default(),
            })
        })
        .collect();
    Ok(reply::json(&list))
}
