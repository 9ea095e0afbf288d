//! What our server, QEMU's guest agent and a bare TCP server are given to do, in turns, in one guest.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::floor;
use crate::machine::Machine;
use crate::ours::Ours;
use crate::rival::Rival;
use crate::table::{HEAD, Row, Times};

/// The program that does nothing, and how often it is run in a turn.
const NOTHING: &str = "/bin/true";
const EXECUTIONS: u32 = 50;

/// Bytes of the file that goes in and out.
const FILE: usize = 16 << 20;

/// Bytes that a program writes: more than the guest agent keeps.
const OUTPUT: usize = 17 << 20;

/// Small files, and the bytes in each.
const SMALL: usize = 1000;
const SMALL_BYTES: usize = 4096;

/// Runs all of it; returns the table.
pub(crate) fn run(image: &Path, turns: u32) -> Result<String> {
    let mut machine = Machine::start(image)?;
    let ours = machine.ours()?;
    let mut rival = machine.rival()?;
    let before = resident(&mut rival)?;
    let mut rows = vec![
        nothing(&ours, &mut rival, turns)?,
        output(&ours, &mut rival, turns)?,
    ];
    rows.extend(copies(&machine, &ours, &mut rival, turns)?);
    rows.push(small(&ours, &mut rival, turns)?);
    let mut text = format!("{HEAD}\n");
    for row in rows {
        writeln!(text, "{row}")?;
    }
    writeln!(
        text,
        "resident memory of our server in the guest: {before}, idle; {}, after all this",
        resident(&mut rival)?
    )?;
    Ok(text)
}

fn nothing(ours: &Ours, rival: &mut Rival, turns: u32) -> Result<Row> {
    let mut row = Row::new(format!("exec {NOTHING}"), 1.5);
    for _ in 0..turns {
        let mut spent = Duration::ZERO;
        for _ in 0..EXECUTIONS {
            let begun = Instant::now();
            let (_, id) = ours.exec(NOTHING, &[])?;
            spent += begun.elapsed();
            ours.forget(id)?;
        }
        row.ours.add(spent / EXECUTIONS);
        let begun = Instant::now();
        for _ in 0..EXECUTIONS {
            rival.exec(NOTHING, &[])?;
        }
        row.rival.add(begun.elapsed() / EXECUTIONS);
    }
    Ok(row)
}

fn output(ours: &Ours, rival: &mut Rival, turns: u32) -> Result<Row> {
    let mut row = Row::new("17 MiB of output", 5.0);
    let content = noise(OUTPUT);
    ours.put("/output", &content)?;
    let cat = ["/srv/output"];
    for _ in 0..turns {
        let (out, id) = timed(&mut row.ours, || ours.exec("/bin/cat", &cat))?;
        ensure!(out == content, "our output is another");
        ours.forget(id)?;
        let theirs = timed(&mut row.rival, || rival.exec("/bin/cat", &cat))?;
        ensure!(
            content.starts_with(&theirs.bytes),
            "their output is another"
        );
        row.note = format!(
            "ours is complete; the guest agent has {} of {OUTPUT} bytes, {}",
            theirs.bytes.len(),
            if theirs.cut {
                "and says so"
            } else {
                "and does not say so"
            }
        );
    }
    ours.remove("/output")?;
    Ok(row)
}

fn copies(machine: &Machine, ours: &Ours, rival: &mut Rival, turns: u32) -> Result<[Row; 2]> {
    let mut put = Row::new("16 MiB in", 5.0);
    let mut get = Row::new("16 MiB out", 5.0);
    let (content, bare) = (noise(FILE), machine.floor());
    for _ in 0..turns {
        timed(&mut put.ours, || ours.put("/ours", &content))?;
        timed(&mut put.floor, || floor::put(bare, &content))?;
        timed(&mut put.rival, || rival.put("/srv/rival", &content))?;
        let came = [
            timed(&mut get.ours, || ours.get("/ours"))?,
            timed(&mut get.floor, || floor::get(bare))?,
            timed(&mut get.rival, || rival.get("/srv/rival"))?,
        ];
        ensure!(
            came.iter().all(|came| *came == content),
            "a copy is another"
        );
    }
    Ok([put, get])
}

fn small(ours: &Ours, rival: &mut Rival, turns: u32) -> Result<Row> {
    let mut row = Row::new(format!("{SMALL} files of 4 KiB in"), 5.0);
    let tree = tempfile::tempdir()?;
    let content = noise(SMALL_BYTES);
    for number in 0..SMALL {
        std::fs::write(tree.path().join(number.to_string()), &content)?;
    }
    rival.exec("/bin/mkdir", &["/srv/theirs"])?;
    for _ in 0..turns {
        timed(&mut row.ours, || ours.put_tree(tree.path(), "/small"))?;
        let last = ours.get(&format!("/small/{}", SMALL - 1))?;
        ensure!(last == content, "a small file is another");
        ours.remove("/small")?;
        timed(&mut row.rival, || {
            for number in 0..SMALL {
                rival.put(&format!("/srv/theirs/{number}"), &content)?;
            }
            Ok(())
        })?;
    }
    Ok(row)
}

/// Returns what the guest's kernel says of our server's memory; the guest agent asks, so that we need not.
fn resident(rival: &mut Rival) -> Result<String> {
    let script = "cat /proc/$(cat /run/chirp-server.pid)/status";
    let status = rival.exec("/bin/sh", &["-c", script])?;
    let status = String::from_utf8(status.bytes)?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).context("no such line")
    };
    Ok(format!(
        "{} ({} of them its own)",
        field("VmRSS:")?,
        field("RssAnon:")?
    ))
}

fn timed<T>(times: &mut Times, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let done = work()?;
    times.add(begun.elapsed());
    Ok(done)
}

/// Returns bytes that nobody can compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
