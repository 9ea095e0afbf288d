//! An ssh server of the benchmark's own, with keys that live as long as it does.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// How often another port is tried, because somebody else took it meanwhile.
const TRIES: u32 = 5;

/// A running `sshd` on loopback that lets in this user by one key. Dropping it kills it.
pub(crate) struct Sshd {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Sshd {
    /// Starts it, and returns when it listens.
    pub(crate) fn start() -> Result<Self> {
        let program = find("sshd", "openssh-server")?;
        find("ssh", "openssh-client")?;
        // Where the package's service would make it, Debian's sshd wants this one.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").context("cannot create /run/sshd")?;
        }
        for _ in 0..TRIES {
            if let Some(running) = Self::start_once(&program)? {
                return Ok(running);
            }
        }
        bail!("sshd found no free port")
    }

    fn start_once(program: &Path) -> Result<Option<Self>> {
        let directory = tempfile::Builder::new()
            .prefix("chirp-bench-")
            .tempdir()
            .context("cannot create a temporary directory")?;
        for name in ["host", "key"] {
            let path = directory.path().join(name);
            let made = Command::new(find("ssh-keygen", "openssh-client")?)
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&path)
                .stdin(Stdio::null())
                .status()
                .context("cannot run ssh-keygen")?;
            ensure!(made.success(), "ssh-keygen failed: {made}");
        }
        let allowed = directory.path().join("allowed");
        fs::copy(directory.path().join("key.pub"), &allowed)?;
        fs::set_permissions(&allowed, fs::Permissions::from_mode(0o600))?;
        // Free a moment ago; sshd cannot be told to choose.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let log = fs::File::create(directory.path().join("log"))?;
        let child = Command::new(program)
            .args(["-D", "-e", "-f", "/dev/null", "-h"])
            .arg(directory.path().join("host"))
            .args(["-p", &port.to_string()])
            .args(
                [
                    "ListenAddress=127.0.0.1".to_owned(),
                    format!("AuthorizedKeysFile={}", allowed.display()),
                    "StrictModes=no".to_owned(),
                    "UsePAM=no".to_owned(),
                    "PidFile=none".to_owned(),
                    "PermitRootLogin=prohibit-password".to_owned(),
                    "PasswordAuthentication=no".to_owned(),
                    "MaxStartups=100".to_owned(),
                    "Subsystem=sftp internal-sftp".to_owned(),
                ]
                .map(|option| format!("-o{option}")),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut running = Self {
            child,
            port,
            directory,
        };
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(running.address()).is_err() {
            if running.child.try_wait()?.is_some() {
                let said = fs::read_to_string(running.directory.path().join("log"))?;
                ensure!(said.contains("in use"), "sshd ended at once: {said}");
                return Ok(None);
            }
            ensure!(Instant::now() < deadline, "sshd does not listen after 20 s");
            thread::sleep(POLL);
        }
        Ok(Some(running))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Returns the options that `ssh`, `scp` and `sftp` need to get in, but for the port.
    pub(crate) fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = ["-F", "/dev/null", "-i"].map(OsString::from).to_vec();
        options.push(self.directory.path().join("key").into());
        for option in [
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
        ] {
            options.push("-o".into());
            options.push(option.into());
        }
        options
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Finds a program in `PATH`, or where Debian keeps those of the administrator.
pub(crate) fn find(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not there; install it: apt-get install {package}"))
}
