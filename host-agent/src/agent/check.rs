//! The connect-back check: is the one who answers at an announced address the one who announced it, and
//! can it be given work? (`host-agent.md` parts 3 and 4.)

use std::time::Duration;

use beacon::registry::{CheckResult, ProbeResult, Target};
use chirp_client::{Client, Error};
use exec_ext::request::{ExecRequest, OnDisconnect, OutputTo};

use super::exec::run_to_end;
use crate::commands::exec_failure;
use crate::guest::{self, Missed};

/// How long connecting and logging in may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long the no-op program may take.
const NO_OP_WITHIN: Duration = Duration::from_secs(10);

/// Makes the whole check: session, identity, no-op program.
pub(super) async fn check(target: &Target) -> CheckResult {
    let (client, runs_programs) = match meet(target).await {
        Ok(met) => met,
        Err(Missed::Failed(error)) => return CheckResult::Failed(error.to_string()),
        Err(Missed::Unprovable(why)) => return CheckResult::Failed(why.to_owned()),
        Err(Missed::Other(why)) => return CheckResult::Mismatch(why),
    };
    if !runs_programs {
        return CheckResult::Failed(
            "runs no programs: its server was started without --exec".to_owned(),
        );
    }
    match tokio::time::timeout(NO_OP_WITHIN, no_op(&client)).await {
        Ok(Ok(())) => CheckResult::Passed,
        Ok(Err(why)) => CheckResult::Failed(format!("cannot run a no-op program: {why}")),
        Err(_) => CheckResult::Failed(format!(
            "a no-op program took longer than {} s",
            NO_OP_WITHIN.as_secs()
        )),
    }
}

/// Makes the short check: is the same server still there?
pub(super) async fn probe(target: &Target) -> ProbeResult {
    match meet(target).await {
        Ok(_) => ProbeResult::Answered,
        Err(Missed::Other(why)) => ProbeResult::Refused(why),
        Err(Missed::Failed(error)) if is_refusal(&error) => ProbeResult::Refused(error.to_string()),
        Err(Missed::Failed(error)) => ProbeResult::Silent(error.to_string()),
        Err(Missed::Unprovable(why)) => ProbeResult::Silent(why.to_owned()),
    }
}

/// Returns whether the machine is there and says that nobody listens: silence and cut networks sound
/// otherwise.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Meets the one who was announced.
async fn meet(target: &Target) -> Result<(Client, bool), Missed> {
    let announced = (&*target.boot, &*target.run);
    let (client, runs_programs) = guest::meet(target.address, announced, CONNECT_WITHIN).await?;
    Ok((client.with_timeout(CONNECT_WITHIN), runs_programs))
}

/// Runs `true` in the guest.
async fn no_op(client: &Client) -> Result<(), String> {
    let mut request = ExecRequest::new("true");
    request.stdout = OutputTo::Discard;
    request.stderr = OutputTo::Discard;
    request.on_disconnect = OnDisconnect::Kill;
    request.limits.wall_s = Some(NO_OP_WITHIN.as_secs());
    let status = run_to_end(client, &request)
        .await
        .map_err(|error| error.to_string())?;
    match exec_failure(&status) {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}
