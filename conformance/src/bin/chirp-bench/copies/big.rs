//! One large file, both ways, and what a bare socket does with it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Bytes of one `read` and one `write`.
const CHUNK: usize = 1 << 20;

/// Writes a file of so many MiB that nobody can compress.
pub(crate) fn make(path: &Path, size: usize) -> Result<()> {
    let mut file =
        File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut random = fastrand::Rng::with_seed(size as u64);
    let mut chunk = vec![0; CHUNK];
    random.fill(&mut chunk);
    for at in 0..size {
        // No two the same: bytes in the wrong place are seen.
        if let Some(start) = chunk.first_chunk_mut() {
            *start = (at as u64).to_le_bytes();
        }
        file.write_all(&chunk)?;
    }
    Ok(())
}

/// Compares two files byte for byte.
pub(crate) fn same(one: &Path, other: &Path) -> Result<bool> {
    let open =
        |path: &Path| File::open(path).with_context(|| format!("{} is missing", path.display()));
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut one).take(CHUNK as u64).read_to_end(&mut left)?;
        (&mut other).take(CHUNK as u64).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// Copies a file through a socket with two loops of `read` and `write`, and returns how long it took.
pub(crate) fn bare(from: &Path, to: &Path) -> Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut source = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let mut target = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    let begun = Instant::now();
    let sender = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        pump(|chunk| source.read(chunk), |bytes| stream.write_all(bytes))
    });
    let mut stream = TcpStream::connect(address)?;
    pump(|chunk| stream.read(chunk), |bytes| target.write_all(bytes))?;
    match sender.join() {
        Ok(result) => result?,
        Err(_) => bail!("the sender failed"),
    }
    Ok(begun.elapsed())
}

fn pump(
    mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    mut write: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        write(chunk.get(..count).unwrap_or_default())?;
    }
}
