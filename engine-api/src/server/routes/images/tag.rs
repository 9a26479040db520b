//! `POST /images/{name}/tag`.

use axum::response::Response;
use hyper::StatusCode;

use super::Named;
use crate::server::error::{ApiError, Result};
use crate::server::reply;

pub(super) async fn tag(Named { api, name, params, .. }: Named) -> Result<Response> {
    let reference = super::target(params.required("repo")?, params.text("tag"))?;
    if reference.familiar_name() == "sha256" {
        return Err(ApiError::bad_request(
            "refusing to create an ambiguous tag using digest algorithm as name",
        ));
    }
    api.engine.tag(&name, &reference).await.map_err(|error| super::absent(&name, error))?;
    Ok(reply::with_status(StatusCode::CREATED))
}
