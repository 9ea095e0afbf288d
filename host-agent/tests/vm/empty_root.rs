//! The guest's server in a root without any other file.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{NOBODY, Process};
use crate::harness::{guest_image, ordinary, wait_for};

#[test]
#[ignore = "needs the static server: make test-vm"]
fn the_static_server_serves_from_an_empty_root() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["srv", "state"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    std::fs::copy(
        guest_image().join("chirp-server"),
        root.join("chirp-server"),
    )
    .unwrap();
    for path in [root, &root.join("srv"), &root.join("state")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap_or_default();
    }
    ordinary();
    let log = root.join("state/log");
    // In a user namespace an ordinary user may change the root, and stays who it is.
    let child = Command::new("unshare")
        .args(["--user", "--map-current-user", "--wd=/"])
        .arg(format!("--root={}", root.display()))
        .args(["/chirp-server", "-r", "/srv", "-y", "/state/own", "--exec"])
        .args(["-I", "127.0.0.1", "-Z", "/state/port", "-c", "/state"])
        // There is nothing to look a name up with, and the server goes on.
        .arg("--announce=localhost:1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let port = wait_for(&|| format!("the server: {}", said()), || {
        assert!(process.0.try_wait().unwrap().is_none(), "{}", said());
        port_in(&root.join("state/port"))
    });
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut stream, b"address\n").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"yes\n", "{}", said());
}

fn port_in(file: &Path) -> Option<u16> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}
