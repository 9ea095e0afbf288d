//! `host-agent exec`: one program on many guests.

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use beacon::mac::MacId;
use clap::Args;
use exec_ext::request::ExecRequest;
use exec_ext::status::Status;

use super::AgentArguments;
use super::boot::BootArguments;
use crate::api::client::ApiClient;
use crate::api::types::{ExecCall, ExecFrame, Target};
use crate::output::{self, Prefixed, Stream};

/// Runs a program on guests, with live output.
///
/// It runs on every guest that the pattern takes, on all of them at once. Their output is printed as it
/// comes, each line with its guest's name before it.
///
/// The program is not run by a shell unless it is one. Standard output and standard error stay apart.
/// Ctrl-C ends the program on every guest. A pattern is a list of globs over name, id and address,
/// separated by commas (`name:`, `id:`, `ip:` look at one of them only; a leading `!` takes away); `*` means
/// every ready guest.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentArguments,
    #[command(flatten)]
    boot: BootArguments,
    /// Which guests.
    #[arg(long, value_name = "PATTERN")]
    to: String,
    /// Working directory in the guest's exported tree.
    #[arg(long, value_name = "DIR", default_value = "/")]
    cwd: OsString,
    /// Set a variable in the program's environment. May be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<OsString>,
    /// End the program after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    timeout: Option<u64>,
    /// The program: a path in the guest, or a name found through the guest's PATH; then its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  host-agent exec --to '*' -- uname -a
  host-agent exec --to 'worker-*,!worker-3' --cwd /job -- ./run.sh --fast
  host-agent exec --to ip:192.168.56.101 -- sh -c 'df -h / | tail -1'

Exit codes:
  0  the program exited with 0 on every guest
  1  it failed, or could not be started, on at least one guest
  2  the command line is wrong
  3  no guest matches, or one that does is not ready
  4  no agent is running";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (agent, pattern) = (arguments.agent.clone(), arguments.to.clone());
    let boot = arguments.boot.clone();
    boot.around(&agent, &pattern, work(arguments)).await
}

async fn work(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = arguments.agent.client()?;
    let call = ExecCall {
        to: arguments.to.clone(),
        request: serde_json::from_slice(&request(arguments)?.to_json())?,
    };
    let failures = stream(&client, &call).await?;
    for failure in &failures {
        output::note(&format!("host-agent: {failure}"));
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn request(arguments: Arguments) -> anyhow::Result<ExecRequest> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    let mut program = arguments.program.into_iter();
    let mut request = ExecRequest::new(program.next().context("no program is given")?);
    request.args = program.collect();
    request.path = arguments.cwd;
    request.limits.wall_s = arguments.timeout;
    for variable in arguments.environment {
        let bytes = variable.as_bytes();
        let at = bytes
            .iter()
            .position(|&byte| byte == b'=')
            .with_context(|| format!("--env {}: must be NAME=VALUE", variable.display()))?;
        let (name, value) = bytes.split_at(at);
        let name = String::from_utf8(name.to_vec())
            .with_context(|| format!("--env {}: the name is not UTF-8", variable.display()))?;
        let value = value.get(1..).unwrap_or_default().to_vec();
        request.env.insert(name, OsString::from_vec(value));
    }
    Ok(request)
}

/// Runs the call, prints its output, and returns what failed, one line each.
async fn stream(client: &ApiClient, call: &ExecCall) -> anyhow::Result<Vec<String>> {
    let mut lines = client.exec(call).await?;
    let Some(ExecFrame::Targets { guests }) = lines.next().await? else {
        bail!("the agent's answer does not begin with the guests");
    };
    let labels = labels(&guests);
    let label = |id: &MacId| labels.get(id).map_or("?", String::as_str);
    let mut prefixed = Prefixed::new();
    let mut failures = Vec::new();
    loop {
        match lines
            .next()
            .await?
            .context("the agent stopped before the programs ended")?
        {
            ExecFrame::Targets { .. } => {}
            ExecFrame::Out { id, data } => {
                output::write(
                    Stream::Out,
                    &prefixed.take(id, Stream::Out, label(&id), &data),
                )?;
            }
            ExecFrame::Err { id, data } => {
                output::write(
                    Stream::Err,
                    &prefixed.take(id, Stream::Err, label(&id), &data),
                )?;
            }
            ExecFrame::End { id, status } => {
                flush(&mut prefixed, id, label(&id))?;
                if let Some(failure) = failure(&status) {
                    failures.push(format!("{}: {failure}", label(&id)));
                }
            }
            ExecFrame::Failed { id, error } => {
                flush(&mut prefixed, id, label(&id))?;
                failures.push(format!("{}: {error}", label(&id)));
            }
            ExecFrame::Done => return Ok(failures),
        }
    }
}

fn flush(prefixed: &mut Prefixed<MacId>, id: MacId, label: &str) -> anyhow::Result<()> {
    for stream in [Stream::Out, Stream::Err] {
        output::write(stream, &prefixed.finish(id, stream, label))?;
    }
    Ok(())
}

/// Returns what each guest is called before its lines: its name, with the id where two share it.
fn labels(guests: &[Target]) -> HashMap<MacId, String> {
    let mut count: HashMap<&str, usize> = HashMap::new();
    for guest in guests {
        *count.entry(&guest.name).or_default() += 1;
    }
    guests
        .iter()
        .map(|guest| {
            let shared = count.get(guest.name.as_str()).is_some_and(|&n| n > 1);
            let label = if shared {
                format!("{} ({})", guest.name, guest.id)
            } else {
                guest.name.clone()
            };
            (guest.id, label)
        })
        .collect()
}

/// Returns how a program failed, or nothing where it exited with 0.
pub(crate) fn failure(status: &Status) -> Option<String> {
    let Some(results) = &status.results else {
        return Some("the guest does not know how it ended".to_owned());
    };
    let code = results.exit_code_or_signal;
    let how = match (results.finished, code) {
        (true, 0) => return None,
        (true, _) => format!("exited with {code}"),
        (false, _) => format!("was ended by signal {code}"),
    };
    Some(match &results.limit {
        Some(limit) => format!("{how} (limit {limit})"),
        None => how,
    })
}
