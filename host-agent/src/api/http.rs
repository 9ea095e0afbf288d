//! The agent's side of the API: routes and answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use beacon::registry::{GuestRecord, GuestState};
use bytes::Bytes;
use futures_util::stream;
use host_agent::hypervisor::{self, Machines};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machines;
use super::types::{AgentInfo, ErrorBody, ExecCall, GuestList, Notice, Target, usable};
use crate::agent::{Handle, Stopping, Which, exec};
use crate::pattern::{BadPattern, Pattern};

/// What every request handler has.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// The agent.
    pub(crate) agent: Handle,
    /// The hypervisor's machines.
    pub(crate) machines: Machines,
    /// Where the embedded broker listens.
    pub(crate) broker_addresses: Arc<[SocketAddr]>,
    /// Ends streamed answers when the agent stops.
    pub(crate) token: CancellationToken,
    /// Owns what runs for callers.
    pub(crate) tasks: TaskTracker,
}

/// Returns the API's routes.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/agent", get(agent))
        .route("/guests", get(guests))
        .route("/events", get(events))
        .route("/exec", post(run))
        .route("/machines", get(machines::list))
        .route("/machines/check", get(machines::check))
        .route("/machine", get(machines::question).post(machines::operate))
        .with_state(api)
}

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The agent is on its way out.
    #[error(transparent)]
    Stopping(#[from] Stopping),
    /// The pattern says nothing.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The pattern takes nobody.
    #[error("no guest matches {pattern:?}; `host-agent guests` shows who is there")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A guest that was meant cannot take work.
    #[error("guest {name} is {state} and not ready: {why}")]
    NotReady {
        /// The guest's name.
        name: String,
        /// Its state.
        state: GuestState,
        /// The reason.
        why: String,
    },
    /// The hypervisor or its driver.
    #[error(transparent)]
    Machine(#[from] hypervisor::Error),
    /// The request to run is malformed.
    #[error("the program's request: {0}")]
    Request(String),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Stopping(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Pattern(_) | Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::NoMatch { .. } => StatusCode::NOT_FOUND,
            Self::NotReady { .. } => StatusCode::CONFLICT,
            Self::Machine(error) => machines::status(error),
        };
        (
            status,
            Json(ErrorBody {
                error: self.to_string(),
            }),
        )
            .into_response()
    }
}

async fn agent(State(api): State<Api>) -> Result<Json<AgentInfo>, ApiError> {
    let presence = api.agent.presence().await?;
    Ok(Json(AgentInfo {
        version: concat!("host-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
        pid: std::process::id(),
        broker_addresses: api.broker_addresses.to_vec(),
        broker_up: presence.broker_up,
        counters: presence.counters,
    }))
}

/// The query of `GET /guests`.
#[derive(Debug, Deserialize)]
struct Asked {
    /// Only those that the pattern takes.
    to: Option<String>,
    /// Those that are gone or left, too.
    #[serde(default)]
    all: bool,
}

async fn guests(
    State(api): State<Api>,
    Query(asked): Query<Asked>,
) -> Result<Json<GuestList>, ApiError> {
    let which = if asked.all {
        Which::All
    } else {
        Which::Registered
    };
    let mut guests = api.agent.guests(which).await?;
    if let Some(pattern) = asked.to {
        guests = taken(&pattern, guests)?;
    }
    Ok(Json(GuestList { guests }))
}

/// Returns the guests that a pattern takes.
fn taken(pattern: &str, mut guests: Vec<GuestRecord>) -> Result<Vec<GuestRecord>, ApiError> {
    let compiled = Pattern::parse(pattern)?;
    guests.retain(|guest| compiled.takes(guest));
    if guests.is_empty() {
        return Err(ApiError::NoMatch {
            pattern: pattern.to_owned(),
        });
    }
    Ok(guests)
}

async fn events(State(api): State<Api>) -> Result<Response, ApiError> {
    let (guests, notices) = api.agent.events().await?;
    let first = Some(line(&Notice::Snapshot { guests }));
    let lines = stream::unfold(
        (api, notices, first),
        |(api, mut notices, first)| async move {
            let next = match first {
                Some(line) => Some((line, None)),
                None => tokio::select! {
                    () = api.token.cancelled() => None,
                    next = next_notice(&api, &mut notices) => next,
                },
            };
            next.map(|(line, follows)| (Ok::<_, Infallible>(line), (api, notices, follows)))
        },
    );
    Ok(ndjson(Body::from_stream(lines)))
}

/// Returns the next line, and one that follows it at once where the reader missed some.
async fn next_notice(
    api: &Api,
    notices: &mut broadcast::Receiver<Arc<Notice>>,
) -> Option<(Bytes, Option<Bytes>)> {
    match notices.recv().await {
        Ok(notice) => Some((line(&*notice), None)),
        Err(RecvError::Closed) => None,
        Err(RecvError::Lagged(missed)) => {
            let (guests, fresh) = api.agent.events().await.ok()?;
            *notices = fresh;
            Some((
                line(&Notice::Lagged { missed }),
                Some(line(&Notice::Snapshot { guests })),
            ))
        }
    }
}

async fn run(State(api): State<Api>, Json(call): Json<ExecCall>) -> Result<Response, ApiError> {
    let request = exec::request(&call.request).map_err(ApiError::Request)?;
    let guests = taken(&call.to, api.agent.guests(Which::Registered).await?)?;
    if let Some(guest) = guests.iter().find(|guest| !usable(guest)) {
        return Err(ApiError::NotReady {
            name: guest.name.clone(),
            state: guest.state,
            why: guest.why.clone(),
        });
    }
    let targets: Vec<Target> = guests.iter().map(Target::from).collect();
    let (frames, received) = mpsc::channel(exec::FRAMES_WAITING);
    let token = api.token.child_token();
    // The caller's end of the answer: when it is dropped, what runs is ended.
    let guard = token.clone().drop_guard();
    api.tasks.spawn(exec::run(targets, request, frames, token));
    let lines = stream::unfold((received, guard), |(mut received, guard)| async move {
        let frame = received.recv().await?;
        Some((Ok::<_, Infallible>(line(&frame)), (received, guard)))
    });
    Ok(ndjson(Body::from_stream(lines)))
}

fn ndjson(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Returns a value as one line of JSON.
fn line(value: &impl Serialize) -> Bytes {
    // Only maps with other keys than text cannot be written, and there are none in these types.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
