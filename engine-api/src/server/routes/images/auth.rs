//! `POST /auth`: whether a registry accepts credentials. They are the client's to keep.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use engine_core::ErrorKind;
use hyper::StatusCode;
use serde_json::json;

use crate::server::api::Api;
use crate::server::body::Json;
use crate::server::error::{ApiError, Result};
use crate::server::registry_auth::AuthConfig;
use crate::server::reply;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/auth", post(auth))
}

async fn auth(State(api): State<Arc<Api>>, Json(config): Json<AuthConfig>) -> Result<Response> {
    let unauthorized =
        |cause: &str| ApiError::new(StatusCode::UNAUTHORIZED, format!("unauthorized: {cause}"));
    let Some(credentials) = config.credentials() else {
        return Err(unauthorized("there are no credentials to check"));
    };
    api.engine.check_credentials(config.registry(), &credentials).await.map_err(|error| {
        match error.kind() {
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => unauthorized(&error.report()),
            _ => error.into(),
        }
    })?;
    Ok(reply::json(&json!({ "Status": "Login Succeeded", "IdentityToken": "" })))
}
