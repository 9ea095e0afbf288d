//! How soon a machine's guest is ready: heard, connected to, and a no-op program run.

use std::path::Path;

use anyhow::Result;

use crate::agent::Agent;
use crate::table::Times;

const NAME: &str = "bench";

/// Starts a machine in each of the ways, in turns; returns what was found.
pub(crate) fn run(image: &Path, turns: u32) -> Result<String> {
    let mut agent = Agent::start()?;
    agent.create(image, NAME)?;
    let start = ["vm", "start", NAME, "--wait"];
    let (mut cold, mut snapshot, mut saved, mut back) = Default::default();
    let all: [&mut Times; 4] = [&mut cold, &mut snapshot, &mut saved, &mut back];
    let [cold_times, snapshot_times, saved_times, back_times] = all;
    for turn in 0..turns {
        cold_times.add(agent.run(&start)?);
        let name = format!("ready-{turn}");
        agent.run(&["vm", "snapshot", NAME, &name])?;
        // As it runs: the command returns when QEMU is done, and the guest is waited for.
        let begun = std::time::Instant::now();
        agent.run(&["vm", "restore", NAME, &name])?;
        agent.run(&start)?;
        back_times.add(begun.elapsed());
        agent.run(&["vm", "save", NAME])?;
        saved_times.add(agent.run(&start)?);
        // Off, as a host finds it that keeps a snapshot to start from.
        agent.run(&["vm", "kill", NAME])?;
        agent.run(&["vm", "restore", NAME, &name])?;
        snapshot_times.add(agent.run(&start)?);
        agent.run(&["vm", "kill", NAME])?;
    }
    Ok(format!(
        "from `vm start` to ready, {turns} turns, median (best):\n\
         \x20   cold                                   {cold}\n\
         \x20   of a machine that is off, from a snapshot  {snapshot}\n\
         \x20   of a saved machine                     {saved}\n\
         \x20   `vm restore` of a running machine      {back}\n"
    ))
}
