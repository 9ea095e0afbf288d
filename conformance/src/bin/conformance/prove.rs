//! `conformance prove`: puts mistakes into the programs, one at a time, and sees what catches them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use conformance::differences::path;
use conformance::matrix::clients::Clients;
use conformance::program::Program;
use conformance::proof::{Bug, Proof};
use conformance::suite::results::{Conclusion, Results};
use conformance::suite::run::{self, Matrix, Random, Run};
use conformance::suite::subject::Subject;

/// The random scripts that each mistake has to pass.
const SEED: u64 = 1;
const SCRIPTS: u64 = 200;
/// After this no further script is begun.
const TIME: Duration = Duration::from_secs(60);
/// Suites that run at the same time. They mostly wait.
const SUITES: usize = 3;

const HEAD: &str = "\
# Which cases caught which mistake, put into the programs on purpose: bugs/NAME.patch.
# Written by `conformance prove`.

";

/// Mistakes, one at a time.
#[derive(Args, Clone, Debug)]
pub(crate) struct Prove {
    /// Only these mistakes, by the names of their patches
    bugs: Vec<String>,
    /// Of the journeys, which are for what nothing else catches, only those whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "")]
    journeys: String,
    /// Where the copy of the workspace is kept and built
    #[arg(long, default_value_os_t = path("../target/prove"))]
    scratch: PathBuf,
}

impl Prove {
    pub(crate) fn run(self) -> Result<Conclusion> {
        let all = Bug::all()?;
        for name in &self.bugs {
            ensure!(
                all.iter().any(|bug| bug.name == *name),
                "there is no bugs/{name}.patch"
            );
        }
        let chosen = |bug: &&Bug| self.bugs.is_empty() || self.bugs.contains(&bug.name);
        let chosen: Vec<&Bug> = all.iter().filter(chosen).collect();
        let copy = Copy::make(&self.scratch)?;
        for part in PARTS {
            if chosen.iter().any(|bug| part.has(bug)) {
                let built = copy.build(part, "none")?;
                let results = part.suite(&built)?;
                ensure!(
                    results.conclusion() == Conclusion::Same,
                    "the suite fails without any mistake, so it can prove nothing:\n{results}"
                );
            }
        }
        // What an earlier run wrote, perhaps with this very program.
        let mut proof = Proof::read()?;
        proof
            .bug
            .retain(|proven| all.iter().any(|bug| bug.name == proven.name));
        let proof = Mutex::new(proof);
        // A suite runs while the next mistake is built; each is alone in what was built with it.
        let (ready, waiting) = sync_channel::<(&Bug, Part, PathBuf)>(0);
        let waiting = Mutex::new(waiting);
        let missed = thread::scope(|scope| -> Result<usize> {
            let workers: Vec<_> = (0..SUITES)
                .map(|_| scope.spawn(|| judge(&waiting, &proof, &self.journeys)))
                .collect();
            for bug in chosen {
                copy.restore()?;
                bug.apply(&copy.tree, false)?;
                for part in PARTS.into_iter().filter(|part| part.has(bug)) {
                    let built = copy
                        .build(part, &bug.name)
                        .with_context(|| format!("with the mistake {}", bug.name))?;
                    // Nobody to take it means that all have failed, which is told below.
                    let _ = ready.send((bug, part, built));
                }
            }
            drop(ready);
            let mut missed = 0;
            for worker in workers {
                missed += match worker.join() {
                    Ok(missed) => missed?,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
            }
            Ok(missed)
        })?;
        Ok(if missed == 0 {
            Conclusion::Same
        } else {
            Conclusion::Differs
        })
    }
}

/// Runs the suite on what was built, and records what catches the mistakes in it. Returns how many
/// nothing has caught.
#[expect(clippy::print_stdout, reason = "a program says what it saw")]
fn judge(
    waiting: &Mutex<Receiver<(&Bug, Part, PathBuf)>>,
    proof: &Mutex<Proof>,
    journeys: &str,
) -> Result<usize> {
    let mut missed = 0;
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok((bug, part, built)) = next else {
            return Ok(missed);
        };
        let mut caught = part.suite(&built)?.caught();
        if caught.is_empty() && part == Part::Server {
            caught = journeys_on(&built, journeys)?.caught();
        }
        missed += usize::from(caught.is_empty());
        let mut proof = proof.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{}: caught by {}", bug.name, caught.len());
        for case in &caught {
            println!("  {case}");
        }
        proof.set(bug.proven(&caught));
        // At once: what follows may take hours, or be ended.
        let text = format!("{HEAD}{}", toml::to_string_pretty(&*proof)?);
        fs::write(path("proof.toml"), text).context("proof.toml")?;
    }
}

/// Does the journeys with the reference's clients on what was built. They take longer than the rest, and
/// show what nothing else has.
fn journeys_on(built: &Path, only: &str) -> Result<Results> {
    let built = Program {
        label: "built".to_owned(),
        path: built.to_owned(),
    };
    run::run(&Run {
        servers: [Program::reference_server()?, built]
            .map(Subject::program)
            .to_vec(),
        overwrite: false,
        vectors: None,
        random: None,
        matrix: Some(Matrix {
            clients: [Clients::reference()?, Clients::reference()?],
            only: only.to_owned(),
        }),
    })
}

/// What a mistake is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Server,
    Client,
}

/// All of them.
const PARTS: [Part; 2] = [Part::Server, Part::Client];

impl Part {
    /// Returns whether a mistake is in it, by its name.
    fn has(self, bug: &Bug) -> bool {
        (self == Self::Client) == bug.name.starts_with("client-")
    }

    fn package(self) -> &'static str {
        match self {
            Self::Server => "chirp-server",
            Self::Client => "chirp-client",
        }
    }

    /// Runs what of the suite is about it.
    fn suite(self, built: &Path) -> Result<Results> {
        let reference = Program::reference_server()?;
        let (servers, clients) = match self {
            Self::Server => {
                let built = Program {
                    label: "built".to_owned(),
                    path: built.to_owned(),
                };
                ([reference, built], None)
            }
            Self::Client => {
                let clients = [Clients::reference()?, Clients::of("built", built)?];
                ([reference.clone(), reference], Some(clients))
            }
        };
        let of_server = clients.is_none();
        run::run(&Run {
            servers: servers.map(Subject::program).to_vec(),
            overwrite: false,
            vectors: of_server.then(String::new),
            random: of_server.then(|| Random {
                options: vec![String::new()],
                seed: SEED,
                scripts: SCRIPTS,
                time: TIME,
                without: Vec::new(),
                go_on: false,
            }),
            matrix: clients.map(|clients| Matrix {
                clients,
                only: String::new(),
            }),
        })
    }
}

/// A copy of the workspace.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
    /// The files as they are without a mistake.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Copy {
    /// Copies what belongs to the workspace. What is there already stays as it is, for cargo's sake.
    fn make(scratch: &Path) -> Result<Self> {
        let root = path("..");
        let output = Command::new("git")
            .current_dir(&root)
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .output()
            .context("cannot run git; install it: apt-get install git")?;
        ensure!(
            output.status.success(),
            "{} is no git repository",
            root.display()
        );
        let mut files = BTreeMap::new();
        for name in output.stdout.split(|byte| *byte == 0) {
            let name = PathBuf::from(std::str::from_utf8(name)?);
            // What was deleted and is not committed is listed too.
            if let Ok(content) = fs::read(root.join(&name)) {
                files.insert(name, content);
            }
        }
        fs::create_dir_all(scratch)?;
        let scratch = scratch.canonicalize()?;
        let this = Self {
            tree: scratch.join("tree"),
            target: scratch.join("target"),
            files,
        };
        this.restore()?;
        Ok(this)
    }

    /// Undoes every mistake.
    fn restore(&self) -> Result<()> {
        for (name, content) in &self.files {
            let path = self.tree.join(name);
            if fs::read(&path).ok().as_ref() == Some(content) {
                continue;
            }
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Builds a part, and returns the program under a name of its own.
    fn build(&self, part: Part, name: &str) -> Result<PathBuf> {
        let output = Command::new("cargo")
            .current_dir(&self.tree)
            .args(["build", "--locked", "--bins", "-p", part.package()])
            .arg("--target-dir")
            .arg(&self.target)
            .output()
            .context("cannot run cargo")?;
        ensure!(
            output.status.success(),
            "the copy does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let directory = self.target.join("built").join(name);
        fs::create_dir_all(&directory)?;
        let built = directory.join(part.package());
        // Another file: one that runs cannot be overwritten.
        let _ = fs::remove_file(&built);
        fs::copy(self.target.join("debug").join(part.package()), &built)
            .with_context(|| format!("cannot copy to {}", built.display()))?;
        Ok(built)
    }
}
