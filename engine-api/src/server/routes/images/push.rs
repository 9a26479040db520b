//! `POST /images/{name}/push`.

use axum::response::Response;
use engine_core::descriptor::{Descriptor, media_type};
use engine_core::engine::{PushEvent, PushOptions};
use engine_core::registry_client::PushOutcome;
use engine_core::{Error, ErrorKind, Reference};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::Named;
use crate::server::error::{ApiError, Result};
use crate::server::progress::{self, Listening, Told, counted, line, status};
use crate::server::{registry_auth, reply};

pub(super) async fn push(Named { api, name, params, version, headers, follower }: Named) -> Result<Response> {
    let named = super::reference(&name)?;
    let mut options = PushOptions::default();
    options.credentials = registry_auth::of(&headers);
    options.platform = super::platform_since(&params, "platform", version, 46)?;
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let here: Vec<Reference> = api
        .engine
        .images()
        .await?
        .into_iter()
        .map(|image| image.reference)
        .filter(|known| {
            known.registry() == named.registry()
                && known.repository() == named.repository()
                && known.tag().is_some()
        })
        .collect();
    let wanted = match params.text("tag") {
        Some(tag) => vec![super::target(&name, Some(tag))?],
        None if has_tag => vec![named.clone()],
        None => here.clone(),
    };
    let repository = format!("{}/{}", named.registry(), named.repository());
    let first = status(format!("The push refers to repository [{repository}]"));
    // Docker says these as lines, too.
    let missing = if here.is_empty() {
        Some(format!("An image does not exist locally with the tag: {}", named.familiar_name()))
    } else {
        let absent = wanted.iter().find(|wanted| wanted.digest().is_none() && !here.contains(wanted));
        absent.map(|absent| format!("tag does not exist: {}", absent.familiar()))
    };
    if let Some(missing) = missing {
        let failure = progress::failure(&ApiError::not_found(missing));
        return Ok(reply::json_lines(stream::iter([first, failure])));
    }
    let engine = api.engine.clone();
    let rest = stream::iter(wanted).flat_map(move |wanted| {
        progress::lines(engine.push(&wanted, options.clone()), told(&wanted)).boxed()
    });
    let lines = progress::until_failure(stream::iter([first]).chain(rest));
    Ok(Listening::new(&api, follower).answer(lines))
}

fn told(wanted: &Reference) -> Told<PushEvent, Descriptor> {
    let tag = wanted.tag_or_digest();
    Told {
        event: Box::new(event_lines),
        end: Box::new(move |target| {
            vec![
                status(format!("{tag}: digest: {} size: {}", target.digest, target.size)),
                json!({
                    "progressDetail": {},
                    "aux": { "Tag": tag, "Digest": target.digest, "Size": target.size },
                }),
            ]
        }),
        error: Box::new(refused),
    }
}

fn event_lines(event: PushEvent) -> Vec<Value> {
    let shown = |blob: &Descriptor| media_type::is_layer(&blob.media_type);
    match event {
        PushEvent::Transferring { blob, done } if shown(&blob) => {
            vec![counted(blob.digest.short(), "Pushing", done, blob.size)]
        }
        PushEvent::Blob { blob, outcome } if shown(&blob) => {
            let status = match outcome {
                PushOutcome::Existed => "Layer already exists",
                PushOutcome::Mounted => "Mounted from another repository",
                _ => "Pushed",
            };
            vec![line(blob.digest.short(), status)]
        }
        PushEvent::Skipped { blob } => vec![line(blob.digest.short(), "Skipped foreign layer")],
        _ => Vec::new(),
    }
}

/// What a registry refused, in the words that clients look for.
fn refused(error: Error) -> ApiError {
    let cause = error.report();
    match error.kind() {
        ErrorKind::Unauthenticated => ApiError::new(
            hyper::StatusCode::UNAUTHORIZED,
            format!("unauthorized: authentication required: {cause}"),
        ),
        ErrorKind::PermissionDenied => ApiError::new(
            hyper::StatusCode::FORBIDDEN,
            format!("denied: requested access to the resource is denied: {cause}"),
        ),
        _ => error.into(),
    }
}
