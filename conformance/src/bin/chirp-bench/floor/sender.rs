//! Sends a file with `sendfile`, or takes bytes and forgets them.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail};

use crate::subject::BIG;

/// Bytes asked of one `sendfile`, and of one `read`.
const CHUNK: usize = 1 << 20;

/// A server for one connection with one request.
pub(crate) struct Sender {
    address: SocketAddr,
    thread: JoinHandle<Result<()>>,
}

impl Sender {
    /// Starts it with the file that a `getfile` returns.
    pub(crate) fn start(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let address = listener.local_addr()?;
        let thread = thread::spawn(move || serve(listener.accept()?.0, &file));
        Ok(Self { address, thread })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the end of the connection.
    pub(crate) fn finish(self) -> Result<()> {
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the floor's thread failed"),
        }
    }
}

fn serve(mut stream: TcpStream, file: &File) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut line = Vec::new();
    // A client sends nothing after its line before it has an answer.
    BufReader::with_capacity(256, &stream).read_until(b'\n', &mut line)?;
    if line.starts_with(b"getfile ") {
        stream.write_all(format!("{BIG}\n").as_bytes())?;
        let mut offset = 0;
        while offset < BIG {
            let sent = rustix::fs::sendfile(&stream, file, Some(&mut offset), CHUNK)?;
            if sent == 0 {
                bail!("the file is shorter than {BIG} bytes");
            }
        }
        return Ok(());
    }
    stream.write_all(b"0\n")?;
    let mut chunk = vec![0; CHUNK];
    let mut left = BIG;
    while left > 0 {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            bail!("the client closed with {left} bytes to come");
        }
        left = left.saturating_sub(count as u64);
    }
    stream.write_all(format!("{BIG}\n").as_bytes())?;
    Ok(())
}
