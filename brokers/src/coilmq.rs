//! CoilMQ, the broker of the original system's time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::broker::{Processes, log};
use crate::process::Process;

pub(crate) fn start(directory: &Path, address: SocketAddr) -> Result<Processes> {
    let packages = packages()?;
    ensure!(
        packages.join("coilmq").is_dir(),
        "CoilMQ is not in {}; scripts/install-missing installs it",
        packages.display()
    );
    let mut command = Command::new("python3");
    command
        .current_dir(directory)
        .args(["-B", "-c", "from coilmq.start import main; main()"])
        .args([
            "--host",
            &address.ip().to_string(),
            "--port",
            &address.port().to_string(),
        ])
        .env("PYTHONPATH", packages)
        .env("PYTHONUTF8", "1")
        .stdout(log(directory)?)
        .stderr(log(directory)?);
    Ok(Processes {
        main: Process::start(&mut command)?,
        helper: None,
    })
}

/// Returns where `scripts/install-missing` puts CoilMQ and stomp.py: cargo's target directory, which holds
/// the directory of the profile that this program was built with.
///
/// # Errors
///
/// This program is not below a target directory.
pub fn packages() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut above = own.ancestors().skip(1);
    let target = above.find_map(|directory| {
        let profile = ["debug", "release"]
            .iter()
            .any(|name| directory.ends_with(name));
        profile.then(|| directory.parent()).flatten()
    });
    let target = target.with_context(|| format!("{} is in no target directory", own.display()))?;
    Ok(target.join("stomp-packages"))
}
