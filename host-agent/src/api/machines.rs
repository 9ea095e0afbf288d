//! The agent's side of the API for machines. What is done to a machine is told to the registry of guests in
//! the same breath, so that a pause is no silence and a restart no guest that is still ready.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use host_agent::hypervisor::{self, Error, Finding, Operation};
use serde::Deserialize;
use serde_json::Value;

use super::http::{Api, ApiError};
use super::types::{MachineCall, MachineInfo, MachineList};
use crate::agent::{Power, Which};

/// Returns the HTTP status of a driver's error.
pub(super) fn status(error: &Error) -> StatusCode {
    match error {
        Error::NotSupported { .. } => StatusCode::NOT_IMPLEMENTED,
        Error::NoSuchMachine { .. } | Error::NoSuchSnapshot { .. } => StatusCode::NOT_FOUND,
        Error::BadName { .. } | Error::BadArgument { .. } => StatusCode::BAD_REQUEST,
        Error::Ambiguous { .. }
        | Error::Exists { .. }
        | Error::WrongState { .. }
        | Error::Busy { .. } => StatusCode::CONFLICT,
        Error::Rights { .. } => StatusCode::FORBIDDEN,
        Error::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<MachineList>, ApiError> {
    let machines = api.machines.list().await?;
    let guests = api.agent.guests(Which::Registered).await?;
    Ok(Json(MachineList {
        driver: api.machines.driver().name().to_owned(),
        machines: machines
            .into_iter()
            .map(|machine| MachineInfo::new(machine, &guests))
            .collect(),
    }))
}

pub(super) async fn check(State(api): State<Api>) -> Result<Json<Vec<Finding>>, ApiError> {
    Ok(Json(hypervisor::check(api.machines.driver()).await?))
}

/// The query of `GET /machine`.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    name: String,
    /// What is asked for; the machine itself where there is nothing.
    #[serde(default)]
    what: What,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    #[default]
    Machine,
    Snapshots,
    Performance,
    Console,
}

pub(super) async fn question(
    State(api): State<Api>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let name = asked.name.as_str();
    let driver = api.machines.driver();
    let answer = match asked.what {
        What::Machine => {
            let machine = api.machines.machine(name).await?;
            let guests = api.agent.guests(Which::Registered).await?;
            serde_json::to_value(MachineInfo::new(machine, &guests))
        }
        What::Snapshots => serde_json::to_value(driver.snapshots(name).await?),
        What::Performance => serde_json::to_value(driver.performance(name).await?),
        What::Console => serde_json::to_value(driver.console(name).await?),
    };
    // Only maps with other keys than text cannot be written, and there are none in these types.
    Ok(Json(answer.unwrap_or_default()))
}

pub(super) async fn operate(
    State(api): State<Api>,
    Json(call): Json<MachineCall>,
) -> Result<Json<Option<MachineInfo>>, ApiError> {
    // The work goes on when the caller is gone: half of it would leave registry and hypervisor apart.
    let tasks = api.tasks.clone();
    match tasks.spawn(operate_and_tell(api, call)).await {
        Ok(done) => done.map(Json),
        Err(error) => Err(Error::Failed {
            what: "the operation".to_owned(),
            said: error.to_string(),
        }
        .into()),
    }
}

async fn operate_and_tell(api: Api, call: MachineCall) -> Result<Option<MachineInfo>, ApiError> {
    let MachineCall { machine, operation } = call;
    let (before, macs) = match &operation {
        Operation::Create(_) => (None, Vec::new()),
        _ => {
            let found = api.machines.machine(&machine).await?;
            (Some(found.state), found.macs)
        }
    };
    let effect = Effect::of(&operation, before);
    if let Some(power) = effect.first {
        api.agent.power(macs.clone(), power).await?;
    }
    let removed = matches!(operation, Operation::Remove);
    let done = api.machines.operate(&machine, operation).await;
    let after = if done.is_ok() {
        effect.then
    } else {
        effect.failed
    };
    if let Some(power) = after {
        api.agent.power(macs, power).await?;
    }
    done?;
    // Names and ids may be new or gone.
    if let Ok(machines) = api.machines.list().await {
        api.agent.machines(machines).await?;
    }
    if removed {
        return Ok(None);
    }
    let found = api.machines.machine(&machine).await?;
    let guests = api.agent.guests(Which::Registered).await?;
    Ok(Some(MachineInfo::new(found, &guests)))
}

/// What the registry is told before an operation, after it, and when it failed.
#[derive(Debug, Default)]
struct Effect {
    first: Option<Power>,
    then: Option<Power>,
    failed: Option<Power>,
}

impl Effect {
    fn of(operation: &Operation, before: Option<hypervisor::State>) -> Self {
        use hypervisor::State as Is;
        let paused = before == Some(Is::Paused) || before == Some(Is::Saved);
        match operation {
            // Told before, so that no deadline ends in between.
            Operation::Pause | Operation::Save => Self {
                first: Some(Power::Paused),
                failed: (!paused).then_some(Power::Resumed),
                ..Self::default()
            },
            // The machine may stand still while its memory is written or read.
            Operation::TakeSnapshot { .. } if !paused => Self {
                first: Some(Power::Paused),
                then: Some(Power::Resumed),
                failed: Some(Power::Resumed),
            },
            // One that was paused or saved stays so.
            Operation::RestoreSnapshot { .. } if !paused => Self {
                first: Some(Power::Paused),
                then: Some(Power::Restored),
                failed: Some(Power::Resumed),
            },
            Operation::Resume => Self {
                then: Some(Power::Resumed),
                ..Self::default()
            },
            Operation::Start if paused => Self {
                then: Some(Power::Resumed),
                ..Self::default()
            },
            // Whoever was ready in the last run is not yet in this one.
            Operation::Start if before.is_some_and(Is::is_off) => Self {
                first: Some(Power::Ended("its machine starts from the beginning")),
                ..Self::default()
            },
            Operation::Reset => Self {
                then: Some(Power::Ended("its machine was reset")),
                ..Self::default()
            },
            Operation::PowerOff | Operation::Discard | Operation::Remove => Self {
                then: Some(Power::Ended("its machine was turned off")),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }
}
