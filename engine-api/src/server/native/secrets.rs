//! Secrets, over the wire.

use std::ops::ControlFlow;

use axum::response::Response;
use engine_core::id::{Name, SecretId};
use engine_core::secret::SecretOptions;

use super::call::Call;
use crate::wire::secret::WireSecret;

pub(super) async fn answer(operation: &str, call: Call) -> ControlFlow<Response, Call> {
    ControlFlow::Break(match operation {
        "create_secret" => {
            call.plain(async move |engine, (name, content, options): (Name, WireSecret, SecretOptions)| {
                engine.create_secret(&name, content.0, options).await
            })
            .await
        }
        "secrets" => call.plain(async move |engine, (): ()| engine.secrets().await).await,
        "secret" => call.plain(async move |engine, (text,): (String,)| engine.secret(&text).await).await,
        "reveal_secret" => {
            call.plain(async move |engine, (id,): (SecretId,)| {
                engine.reveal_secret(&id).await.map(WireSecret)
            })
            .await
        }
        "remove_secret" => {
            call.plain(async move |engine, (id,): (SecretId,)| engine.remove_secret(&id).await).await
        }
        _ => return ControlFlow::Continue(call),
    })
}
