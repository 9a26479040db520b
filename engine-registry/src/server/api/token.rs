//! The end-point of tokens: GET with a password in the head, POST with a form (OAuth2), as Docker's clients send them.
//!
//! Invariant: no answer with a token is kept by anything in between.

use axum::extract::Request;
use axum::http::header::{ALLOW, CACHE_CONTROL};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use zeroize::Zeroizing;

use super::body::RequestBody;
use super::query::Query;
use super::{Answer, Api, json as answer};
use crate::server::error::{ApiError, Code};
use crate::server::record::Record;
use crate::server::tokens::{Issued, Refused, Tokens};

/// A name, a password and some scopes.
const MAX_FORM: usize = 16 << 10;

impl Api {
    pub(in crate::server) async fn answer_token(&self, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let record = Record::begin(&self.metrics, &mut parts, "token", None);
        let body = RequestBody::new(body, self.idle, record.received());
        let mut response = match &self.tokens {
            Some(tokens) => self.token(tokens, &parts, body).await.unwrap_or_else(ApiError::into_response),
            None => ApiError::new(Code::NameUnknown, "there is no such end-point").into_response(),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        record.answer(response)
    }

    async fn token(&self, tokens: &Tokens, parts: &Parts, mut body: RequestBody) -> Answer {
        let issued = match parts.method {
            Method::GET => {
                let query = Query::of(&parts.uri);
                let offline = query.get("offline_token").is_some_and(|value| value == "true");
                tokens.issue_to_sender(parts, query.get("service"), &scopes(&query), offline).await
            }
            Method::POST => {
                let form = body.read(MAX_FORM).await?;
                let form = form.ok_or_else(|| {
                    ApiError::new(Code::SizeInvalid, "the form is too long")
                        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
                })?;
                let text = Zeroizing::new(String::from_utf8_lossy(&form).into_owned());
                by_form(tokens, parts, &Query::parse(&text)).await
            }
            _ => {
                return Err(ApiError::new(Code::Unsupported, "the end-point does not have this method")
                    .with_header(ALLOW, HeaderValue::from_static("GET, POST")));
            }
        };
        match issued {
            Ok(issued) => Ok(given(&issued)),
            Err(Refused::Unauthenticated) => Err(ApiError::unauthenticated(tokens.basic_challenge())),
            Err(Refused::TooMany(wait)) => Err(ApiError::too_many(wait)),
            Err(Refused::Invalid(why)) => {
                Err(ApiError::new(Code::Unsupported, why).with_status(StatusCode::BAD_REQUEST))
            }
        }
    }
}

async fn by_form(tokens: &Tokens, parts: &Parts, form: &Query) -> Result<Issued, Refused> {
    let (service, scopes) = (form.get("service"), scopes(form));
    let needed = |name| form.get(name).ok_or(Refused::Invalid("the form lacks a field"));
    match form.get("grant_type") {
        Some("password") => {
            let user = (needed("username")?, needed("password")?);
            let offline = form.get("access_type") == Some("offline");
            tokens.issue_for_password(parts, user, service, &scopes, offline).await
        }
        Some("refresh_token") => tokens.issue_for_refresh(needed("refresh_token")?, service, &scopes),
        _ => Err(Refused::Invalid("the grant_type is neither password nor refresh_token")),
    }
}

/// Several scopes come in several parameters, or in one with spaces.
fn scopes(query: &Query) -> Vec<&str> {
    query.all("scope").flat_map(str::split_whitespace).collect()
}

fn given(issued: &Issued) -> Response {
    let mut body = json!({
        "token": *issued.token,
        "access_token": *issued.token,
        "token_type": "bearer",
        "scope": issued.scope,
        "expires_in": issued.expires_in,
    });
    if let Some(refresh) = &issued.refresh {
        body["refresh_token"] = json!(**refresh);
    }
    answer(StatusCode::OK, body.to_string())
}
