//! `vectors/recorded.jsonl`: a line that says where the vectors come from, and a line for each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::cases;
use crate::differences::path;
use crate::program::Program;
use crate::vector::{Header, Vector};

/// The command that writes the file.
const COMMAND: &str = "cargo run -p conformance -- record";

/// What the file holds now, which may be more than this program was built with.
#[derive(Debug)]
pub struct Written {
    /// The first line, if it is one.
    pub header: Option<Header>,
    /// The others.
    pub vectors: Vec<Vector>,
}

fn name() -> PathBuf {
    path("vectors/recorded.jsonl")
}

/// Reads the file.
///
/// # Errors
///
/// Fails if it cannot be read, or a line of it is damaged.
pub fn read() -> Result<Written> {
    let name = name();
    let text =
        fs::read_to_string(&name).with_context(|| format!("cannot read {}", name.display()))?;
    let mut lines = text.lines();
    let header = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok());
    let vectors: Result<Vec<Vector>, _> = lines.map(serde_json::from_str).collect();
    Ok(Written {
        header,
        vectors: vectors.with_context(|| format!("{} is damaged", name.display()))?,
    })
}

/// Writes vectors that `program` answered, in the order in which they are made. The date stays that of
/// `was` where nothing is new, so that recording the same twice writes the same bytes.
///
/// # Errors
///
/// Fails if the program does not say its version, or the file cannot be written.
pub fn write(program: &Program, was: Option<Header>, mut vectors: Vec<Vector>) -> Result<()> {
    let order: Vec<String> = cases()?.into_iter().flatten().map(|v| v.name).collect();
    let place = |vector: &Vector| order.iter().position(|name| *name == vector.name);
    vectors.retain(|vector| place(vector).is_some());
    vectors.sort_by_key(place);
    let mut body = String::new();
    for vector in &vectors {
        body.push_str(&serde_json::to_string(vector)?);
        body.push('\n');
    }
    let version = version(program)?;
    let same = fs::read_to_string(name())
        .ok()
        .is_some_and(|text| text.split_once('\n').is_some_and(|(_, rest)| rest == body));
    let date = match was {
        Some(was) if same && was.recorded_from == version => was.date,
        _ => jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
    };
    let header = Header {
        recorded_from: version,
        date,
        command: COMMAND.to_owned(),
    };
    let text = format!("{}\n{body}", serde_json::to_string(&header)?);
    fs::write(name(), text).with_context(|| format!("cannot write {}", name().display()))
}

fn version(program: &Program) -> Result<String> {
    let output = Command::new(&program.path)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", program.path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    ensure!(
        !line.is_empty(),
        "{} says no version",
        program.path.display()
    );
    // It calls itself as it was called.
    let directory = program.path.parent().unwrap_or_else(|| Path::new(""));
    let prefix = format!("{}/", directory.display());
    Ok(line.strip_prefix(&prefix).unwrap_or(line).to_owned())
}
