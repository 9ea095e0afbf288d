//! `conformance prove`: puts mistakes into the programs, one at a time, and sees what catches them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use conformance::differences::path;
use conformance::program::Program;
use conformance::proof::{Bug, Proof};
use conformance::suite::results::{Conclusion, Results};
use conformance::suite::run::{self, Random, Run};
use conformance::suite::subject::Subject;

/// The random scripts that each mistake has to pass.
const SEED: u64 = 1;
const SCRIPTS: u64 = 200;
/// After this no further script is begun.
const TIME: Duration = Duration::from_secs(60);

const HEAD: &str = "\
# Which cases caught which mistake, put into the programs on purpose: bugs/NAME.patch.
# Written by `conformance prove`.

";

/// Mistakes, one at a time.
#[derive(Args, Clone, Debug)]
pub(crate) struct Prove {
    /// Only these mistakes, by the names of their patches
    bugs: Vec<String>,
    /// Where the copy of the workspace is kept and built
    #[arg(long, default_value_os_t = path("../target/prove"))]
    scratch: PathBuf,
}

impl Prove {
    #[expect(clippy::print_stdout, reason = "a program says what it saw")]
    pub(crate) fn run(self) -> Result<Conclusion> {
        let all = Bug::all()?;
        for name in &self.bugs {
            ensure!(
                all.iter().any(|bug| bug.name == *name),
                "there is no bugs/{name}.patch"
            );
        }
        let mut copy = Copy::make(&self.scratch)?;
        copy.build()?;
        let results = copy.suite()?;
        ensure!(
            results.conclusion() == Conclusion::Same,
            "the suite fails without any mistake, so it can prove nothing:\n{results}"
        );
        let mut proof = Proof::written()?;
        proof
            .bug
            .retain(|proven| all.iter().any(|bug| bug.name == proven.name));
        let mut missed = 0;
        for bug in &all {
            if !self.bugs.is_empty() && !self.bugs.contains(&bug.name) {
                continue;
            }
            copy.restore()?;
            bug.apply(&copy.tree, false)?;
            copy.build()
                .with_context(|| format!("with the mistake {}", bug.name))?;
            let caught = copy.suite()?.caught();
            println!("{}: caught by {}", bug.name, caught.len());
            for case in &caught {
                println!("  {case}");
            }
            missed += usize::from(caught.is_empty());
            proof.set(bug.proven(&caught));
            // At once: what follows may take hours, or be ended.
            let text = format!("{HEAD}{}", toml::to_string_pretty(&proof)?);
            fs::write(path("proof.toml"), text).context("proof.toml")?;
        }
        Ok(if missed == 0 {
            Conclusion::Same
        } else {
            Conclusion::Differs
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

    fn build(&mut self) -> Result<()> {
        let output = Command::new("cargo")
            .current_dir(&self.tree)
            .args([
                "build",
                "--locked",
                "-p",
                "chirp-server",
                "-p",
                "chirp-client",
                "--bins",
            ])
            .arg("--target-dir")
            .arg(&self.target)
            .output()
            .context("cannot run cargo")?;
        ensure!(
            output.status.success(),
            "the copy does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn suite(&self) -> Result<Results> {
        let built = Program {
            label: "built".to_owned(),
            path: self.target.join("debug/chirp-server"),
        };
        let reference = Program::reference_server()?;
        run::run(&Run {
            servers: [reference, built].map(Subject::program).to_vec(),
            overwrite: false,
            vectors: Some(String::new()),
            random: Some(Random {
                seed: SEED,
                scripts: SCRIPTS,
                time: TIME,
                without: Vec::new(),
                go_on: false,
            }),
        })
    }
}
