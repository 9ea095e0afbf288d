//! Twenty guests on one agent: two machines, and eighteen servers on this host in place of more.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use brokers::process::Process;
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::agent::{Agent, program};
use crate::table::Times;

const MACHINES: usize = 2;
const PROCESSES: usize = 18;

/// Commands that run on all of them.
const COMMANDS: usize = 10;

/// The user that the servers become where this runs as root.
const NOBODY: (&str, u32) = ("nobody", 65534);

/// Brings them up and watches them for so many seconds; returns what was found.
pub(crate) fn run(image: &Path, watch: u64) -> Result<String> {
    let mut agent = Agent::start()?;
    let begun = Instant::now();
    let names: Vec<_> = (0..MACHINES)
        .map(|number| format!("machine-{number}"))
        .collect();
    for name in &names {
        agent.create(image, name)?;
        agent.run(&["vm", "start", name])?;
    }
    let mut servers = Vec::new();
    for number in 0..PROCESSES {
        servers.push(server(&agent, &format!("process-{number}"))?);
    }
    let all = (MACHINES + PROCESSES).to_string();
    agent.run(&["wait", "--ready", "*", "--count", &all])?;
    let ready = begun.elapsed();
    let used = agent.process.processor_time()?;
    std::thread::sleep(Duration::from_secs(watch));
    let idle = agent.process.processor_time()?.saturating_sub(used);
    let mut times = Times::default();
    for _ in 0..COMMANDS {
        times.add(agent.run(&["exec", "--to", "*", "--", "true"])?);
    }
    // All of them are still there.
    agent.run(&["wait", "--ready", "*", "--count", &all, "--timeout", "0"])?;
    Ok(format!(
        "{MACHINES} machines and {PROCESSES} processes on one agent, a beacon every 10 s from each:\n\
         \x20   all ready after            {ready:.1?}, the machines' boot included\n\
         \x20   the agent's processor time {:.2} s in {watch} s\n\
         \x20   the agent's memory         {:.1} MiB\n\
         \x20   `exec --to '*' -- true`    {times}, median (best) of {COMMANDS}\n",
        idle.as_secs_f64(),
        agent.process.memory()? as f64 / f64::from(1 << 20),
    ))
}

/// Starts a server that announces itself to the agent, in directories of its own.
fn server(agent: &Agent, name: &str) -> Result<(Process, TempDir)> {
    let directory = tempfile::tempdir()?;
    let path = directory.path();
    let mut command = Command::new(program("chirp-server")?);
    command
        .arg("-r")
        .arg(path.join("root"))
        .arg("-y")
        .arg(path.join("transient"))
        .args(["-I", "127.0.0.1", "-p", "0", "--exec", "--name", name])
        .arg(format!("--announce={}", agent.broker));
    for part in ["root", "transient"] {
        std::fs::create_dir(path.join(part))?;
        if geteuid().is_root() {
            std::os::unix::fs::chown(path.join(part), Some(NOBODY.1), Some(NOBODY.1))?;
        }
    }
    if geteuid().is_root() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711))?;
        command.args(["-i", NOBODY.0]);
    }
    let log = File::create(path.join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok((Process::start(&mut command)?, directory))
}
