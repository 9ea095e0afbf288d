//! One shard on one guest: pushed, counted, pulled, checked.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chirp_client::transfer::{self, Placement, TransferOptions};
use exec_ext::request::{ExecRequest, OnDisconnect};
use exec_ext::status::Status;
use sha2::{Digest as _, Sha256};

use super::guests::DemoGuest;
use super::input::{Shard, Stager};
use crate::api::client::ApiClient;
use crate::api::types::{ExecCall, ExecFrame};
use crate::commands::exec_failure;
use crate::guest;

/// How long connecting to a guest may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of the script's standard output at most: one line.
const SAID_MAX: usize = 4096;

/// A shard that was counted, and by what means.
#[derive(Debug)]
pub(super) struct Counted {
    /// The table on this host.
    pub(super) table: PathBuf,
    /// Its SHA-256, as the guest's program, the guest's server and this host have it.
    pub(super) digest: String,
    /// Bytes pushed and pulled.
    pub(super) moved: u64,
    /// From the first byte pushed to the last check.
    pub(super) took: Duration,
    /// Processor time of the guest's program and all its children, in seconds.
    pub(super) cpu: f64,
}

/// Counts a shard on a guest. `progress` hears each percentage as it comes, before anything else is done.
///
/// # Errors
///
/// Anything that went wrong: the guest's death among it, and digests that differ.
pub(super) async fn count(
    agent: &ApiClient,
    stager: &Stager,
    guest: &DemoGuest,
    shard: &Shard,
    attempt: u32,
    workspace: &Path,
    mut progress: impl FnMut(&str) + Send,
) -> anyhow::Result<Counted> {
    let began = Instant::now();
    let name = format!("shard-{:02}-{attempt}", shard.number + 1);
    let staged = workspace.join("shards").join(&name);
    stager.stage(shard, &staged).await?;

    let session = guest::meet_target(&guest.target, CONNECT_WITHIN).await?;
    let remote = guest::path(format!("/{name}").as_ref())?;
    let options = TransferOptions {
        placement: Placement::Exact,
        ..TransferOptions::default()
    };
    tracing::debug!(shard = name, took = ?began.elapsed(), "staged, connected");
    let pushed = transfer::put(&session, &staged, &remote, &options).await;
    // Each shard is staged when its turn comes and removed at once, so a copy of the input never piles up.
    std::fs::remove_dir_all(&staged)
        .with_context(|| format!("cannot remove {}", staged.display()))?;
    let pushed = pushed?;
    let since = |what: &str| tracing::debug!(shard = name, took = ?began.elapsed(), "{what}");
    since("pushed");

    let mut request = ExecRequest::new("sh");
    request.args = vec!["count.sh".into()];
    request.path = format!("/{name}").into();
    request.on_disconnect = OnDisconnect::Kill;
    let (status, said) = run(agent, guest, &request, &mut progress).await?;
    since("counted");
    let cpu = status.results.map_or(0.0, |results| {
        results.resources.ru_utime + results.resources.ru_stime
    });

    let counts = guest::path(format!("/{name}/counts").as_ref())?;
    let table = workspace.join("tables").join(&name);
    let pulled = transfer::get(&session, &counts, &table, &options).await?;
    since("pulled");
    let by_server = hex(&session.sha256(&counts).await?);
    let by_program = said.split_whitespace().next().unwrap_or_default();
    let digest = digest_of(&table).with_context(|| format!("cannot read {}", table.display()))?;
    if digest != by_server || digest != by_program {
        bail!(
            "the table's SHA-256 differs: {by_program} as the program wrote it, {by_server} as the server has it, \
             {digest} as it arrived"
        );
    }
    session.rmall(&remote).await?;
    since("checked and removed");
    Ok(Counted {
        table,
        digest,
        moved: pushed.bytes + pulled.bytes,
        took: began.elapsed(),
        cpu,
    })
}

/// Runs a program on the guest through the agent, and returns its status and standard output.
async fn run(
    agent: &ApiClient,
    guest: &DemoGuest,
    request: &ExecRequest,
    progress: &mut (impl FnMut(&str) + Send),
) -> anyhow::Result<(Status, String)> {
    let call = ExecCall {
        to: format!("id:{}", guest.id),
        request: serde_json::from_slice(&request.to_json())?,
    };
    let mut lines = agent.exec(&call).await?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut ended = None;
    while let Some(frame) = lines.next::<ExecFrame>().await? {
        match frame {
            ExecFrame::Targets { .. } => {}
            ExecFrame::Out { data, .. } => {
                out.extend_from_slice(&data);
                if out.len() > SAID_MAX {
                    bail!("the program says more than {SAID_MAX} bytes");
                }
            }
            ExecFrame::Err { data, .. } => {
                err.extend_from_slice(&data);
                while let Some(at) = err.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = err.drain(..=at).collect();
                    progress(String::from_utf8_lossy(&line).trim_end());
                }
                err.truncate(SAID_MAX);
            }
            ExecFrame::End { status, .. } => ended = Some(*status),
            ExecFrame::Failed { error, .. } => bail!("{error}"),
            ExecFrame::Done => {
                let status = ended.context("the program's end is not known")?;
                return match exec_failure(&status) {
                    None => Ok((status, String::from_utf8_lossy(&out).into_owned())),
                    Some(failure) => bail!("the count {failure}"),
                };
            }
        }
    }
    bail!("the agent stopped before the program ended")
}

/// Returns the SHA-256 of a local file.
fn digest_of(file: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(file)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
