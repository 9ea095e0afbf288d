//! Our server, and what the tests of this file have in common.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chirp_client::cookie::CookieFile;
use chirp_client::transfer::{Existing, Placement, TransferOptions};
use chirp_client::{Client, ConnectOptions, Method};

use crate::support::{LIMIT, as_nobody, give_away};

/// A running `chirp-server`; it ends with this value.
pub(crate) struct Ours {
    child: Child,
    directory: tempfile::TempDir,
    port: u16,
}

impl Ours {
    /// Starts one on an empty directory. `address:127.0.0.1` has all rights on it.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("root")).unwrap();
        let root = directory.path().join("root");
        Self::start_on(directory, &root)
    }

    /// Starts one that runs programs, too.
    pub(crate) fn start_with_exec() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir(&root).unwrap();
        Self::start_with(directory, &root, "address:127.0.0.1", &["--exec".as_ref()])
    }

    /// Starts one with this cookie, whose holder has all rights, too.
    pub(crate) fn start_by_cookie(cookie: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (root, file) = (
            directory.path().join("root"),
            directory.path().join("cookie"),
        );
        std::fs::create_dir(&root).unwrap();
        std::fs::write(&file, cookie).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        give_away(&file);
        let options = [OsStr::new("--cookie-file"), file.as_os_str()];
        Self::start_with(directory, &root, "unix:*", &options)
    }

    /// Starts one on a directory, whose list of rights is not touched.
    pub(crate) fn start_on(directory: tempfile::TempDir, root: &Path) -> Self {
        Self::start_with(directory, root, "address:127.0.0.1", &[])
    }

    fn start_with(
        directory: tempfile::TempDir,
        root: &Path,
        subject: &str,
        options: &[&OsStr],
    ) -> Self {
        give_away(directory.path());
        let rights = directory.path().join("rights");
        std::fs::write(
            &rights,
            format!(
                "{subject} {}\n",
                if options.is_empty() {
                    "rwldpa"
                } else {
                    "rwldpax"
                }
            ),
        )
        .unwrap();
        give_away(&rights);
        std::fs::create_dir(directory.path().join("transient")).unwrap();
        for name in ["transient", "root"] {
            let path = directory.path().join(name);
            if path.exists() {
                give_away(&path);
            }
        }
        let port_file = directory.path().join("port");
        let mut command = Command::new(program());
        command
            .args(["-u", "-", "-I", "127.0.0.1", "-p", "0", "-Z"])
            .arg(&port_file)
            .arg("-r")
            .arg(root)
            .arg("-A")
            .arg(&rights)
            .arg("-y")
            .arg(directory.path().join("transient"))
            .args(options)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        as_nobody(&mut command);
        let mut child = command.spawn().unwrap();
        let mut port = None;
        eventually("chirp-server listens", || {
            assert!(child.try_wait().unwrap().is_none(), "chirp-server ended");
            let text = std::fs::read_to_string(&port_file).unwrap_or_default();
            port = text.trim().parse().ok();
            port.is_some()
        });
        Self {
            child,
            directory,
            port: port.unwrap(),
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Logs in by address.
    pub(crate) async fn client(&self) -> Client {
        let mut options = ConnectOptions::new(self.address().parse().unwrap());
        options.methods = vec![Method::Address];
        Client::connect(options).await.unwrap()
    }

    /// Logs in with the cookie that it was started with.
    pub(crate) async fn client_by_cookie(&self) -> Client {
        let mut options = ConnectOptions::new(self.address().parse().unwrap());
        CookieFile::apply(Some(self.cookie_file()), &mut options).unwrap();
        Client::connect(options).await.unwrap()
    }

    /// The file with its cookie.
    pub(crate) fn cookie_file(&self) -> PathBuf {
        self.directory.path().join("cookie")
    }

    /// The directory that is served.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the server that is built beside the client, or the one of `CHIRP_SERVER`.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("CHIRP_SERVER") {
        return path.into();
    }
    let client = Path::new(env!("CARGO_BIN_EXE_chirp-client"));
    let path = client.with_file_name("chirp-server");
    let built = path.is_file();
    assert!(built, "build the server first: cargo build -p chirp-server");
    path
}

/// Waits for a state.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LIMIT, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The target is the name itself.
pub(crate) fn exactly() -> TransferOptions {
    TransferOptions {
        placement: Placement::Exact,
        ..TransferOptions::default()
    }
}

/// Likewise, and what is there already is left and continued.
pub(crate) fn resuming() -> TransferOptions {
    TransferOptions {
        existing: Existing::Update,
        resume: true,
        ..exactly()
    }
}

/// Content that does not repeat.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(length);
    content
}

/// The names in a directory, sorted; those of the server's own files are left out.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with(".__")).collect();
    names.sort();
    names
}
