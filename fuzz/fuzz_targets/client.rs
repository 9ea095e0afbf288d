//! A hostile server: whatever it says, in whatever pieces, the client's login and its calls end, with a
//! result or an error, and names in listings stay in their directory.
//!
//! An input is a line with a letter for each call, in their order, and then all that the server says.
#![no_main]

use std::cmp;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use chirp_client::{Client, Error, HashAlgorithm, Method, OpenFlags, VirtualPath, XattrTarget};
use chirp_proto::request::ExecutionName;
use exec_ext::request::ExecRequest;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, ReadBuf, join, sink};
use tokio::runtime::{Builder, Runtime};

/// Calls of one input at most.
const CALLS_MAX: usize = 8;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    // The clock stands: nothing here waits for time to pass.
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
});

fuzz_target!(|data: &[u8]| {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (calls, script) = (&data[..end], &data[end + 1..]);
    RUNTIME.block_on(async {
        let _ = converse(calls, script).await;
    });
});

async fn converse(calls: &[u8], script: &[u8]) -> Result<(), Error> {
    let server = Script {
        all: script.to_vec(),
        at: 0,
        piece: calls.first().map_or(1, |byte| usize::from(byte % 64) + 1),
    };
    let methods = [Method::Unix, Method::Hostname, Method::Address];
    let client = Client::from_stream("server", join(server, sink()), &methods).await?;
    for &letter in calls.iter().take(CALLS_MAX) {
        call(&client, letter).await?;
    }
    Ok(())
}

async fn call(client: &Client, letter: u8) -> Result<(), Error> {
    let path = VirtualPath::root();
    match letter {
        b'd' => {
            let mut names = client.getdir(&path).await?;
            while names.next().await?.is_some() {}
        }
        b'l' => {
            for (name, _) in client.getlongdir(&path).await?.collect().await? {
                assert!(!name.contains(&b'/') && !name.contains(&0));
                assert!(name != "." && name != "..");
            }
        }
        b's' => drop(client.stat(&path).await?),
        b'f' => drop(client.statfs(&path).await?),
        b'a' => drop(client.getacl(&path).await?),
        b'g' => drop(client.getfile(&path).await?.copy_to(&mut sink()).await?),
        b'r' => drop(client.readlink(&path).await?),
        b'p' => drop(client.localpath(&path).await?),
        b'w' => drop(client.whoami().await?),
        b'x' => drop(client.listxattr(&XattrTarget::Path(path)).await?),
        b'h' => drop(client.hash(HashAlgorithm::Md5, &path).await?),
        b'H' => drop(client.sha256(&path).await?),
        b'F' => drop(client.features().await?.cloned()),
        b'm' => client.mkdir(&path, 0o755).await?,
        b'P' => drop(client.putfile(&path, 0o644, 3, &mut &b"abc"[..]).await?),
        b'o' => {
            let (fd, _) = client.open(&path, OpenFlags::parse(b"rw"), 0o644).await?;
            assert!(client.pread(fd, 100, 0).await?.len() <= 100);
            assert!(client.pwrite(fd, "abc".into(), 0).await? <= 3);
            let _ = client.fstat(fd).await?;
            client.close(fd).await?;
        }
        b'e' | b'E' => {
            if let Some(name) = ExecutionName::parse(b"1") {
                drop(client.exec_status(&name).await?);
            }
        }
        b'R' => {
            if let Ok(request) = ExecRequest::parse(b"{\"cmd\":\"true\"}") {
                let _ = client.exec_detached(&request).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// A server that says all it has to say, piece by piece, and closes.
struct Script {
    all: Vec<u8>,
    at: usize,
    piece: usize,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.all.len() - self.at;
        let length = cmp::min(self.piece, buffer.remaining()).min(left);
        buffer.put_slice(&self.all[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}
