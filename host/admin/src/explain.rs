//! `/explain`: where a request would go, and why.

use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::output::{json, text};
use crate::server::AdminState;

/// Questions at a time; the gateway's processors are for traffic.
const MAX_QUESTIONS: usize = 4;

static QUESTIONS: Semaphore = Semaphore::const_new(MAX_QUESTIONS);

/// 400 with the reason for a question that cannot be answered, 503 when too many ask.
pub(crate) async fn respond(State(admin): State<AdminState>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let Ok(permit) = QUESTIONS.try_acquire() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "others ask already; try again\n");
    };
    let answer = tokio::task::spawn_blocking(move || (admin.explain)(&query)).await;
    drop(permit);
    match answer {
        Ok(Ok(value)) => json(&value),
        Ok(Err(reason)) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the gateway; its log tells more\n"),
    }
}
