//! How long a small request takes beside heavy ones.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conformance::connection::PATIENCE;

use crate::small;
use crate::subject::{self, Subject, Subjects};
use crate::trees;

/// Heavy requests, or busy threads in their place.
const BESIDE: usize = 8;
/// Trees that each of two of them removes.
const DOOMED: usize = 8;
/// Files of each, for each MiB of the file whose digest is asked for.
const DOOMED_FILES: usize = 8;
/// Entries of the tree that is searched and audited, for each such MiB.
const ENTRIES: usize = 100;
/// Small requests before the measurement, so that the others have begun.
const WARM_UP: Duration = Duration::from_millis(100);

/// Returns the 99th percentile of the time of a `stat`, in microseconds: with our server, while
/// `rmall`, `md5` of `size` MiB, `audit` and `search` run twice each, again and again; as the floor, while eight
/// threads of this program do nothing but run. The reference is not asked: its clients have a process
/// each.
pub(crate) fn measure(
    subjects: &Subjects,
    subject: Subject,
    size: usize,
    time: Duration,
) -> Result<Option<f64>> {
    if subject == Subject::Reference {
        return Ok(None);
    }
    let address = subjects.address(Subject::Ours).context("no server")?;
    let heavy = subject == Subject::Ours;
    if heavy {
        prepare(subjects, size)?;
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut beside = Vec::new();
        for index in 0..BESIDE {
            let stop = &stop;
            beside.push(scope.spawn(move || {
                if heavy {
                    repeat(address, index, stop)
                } else {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    Ok(())
                }
            }));
        }
        let found = percentile(address, "/bench/f", time);
        stop.store(true, Ordering::Relaxed);
        for one in beside {
            one.join()
                .map_err(|_| anyhow::anyhow!("a thread beside it failed"))??;
        }
        found.map(Some)
    })
}

/// Makes what is digested, removed, searched and audited.
fn prepare(subjects: &Subjects, size: usize) -> Result<()> {
    let server = subjects.server(Subject::Ours).context("no server")?;
    let mut connection = subject::log_in(server.address())?;
    let exists = |name: &str| server.root().join(name).exists();
    if !exists("wide") {
        subject::request(&mut connection, b"mkdir /wide 448\n")?;
        trees::plant(server, "wide", size * ENTRIES, b"")?;
        trees::plant(server, "bench", 1, &vec![b'x'; size << 20])?;
    }
    for number in 0..2 * DOOMED {
        let name = format!("doomed{number}");
        if !exists(&name) {
            subject::request(&mut connection, format!("mkdir /{name} 448\n").as_bytes())?;
            trees::plant(server, &name, size * DOOMED_FILES, b"")?;
        }
    }
    Ok(())
}

/// Sends one kind of heavy request again and again.
fn repeat(address: SocketAddr, index: usize, stop: &AtomicBool) -> Result<()> {
    let mut stream = small::connect(address)?;
    stream.write_all(b"address\n")?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    for _ in 0..5 {
        answers.read_line(&mut line)?;
    }
    // A heavy request may take its time.
    stream.set_read_timeout(Some(10 * PATIENCE))?;
    let mut removed = 0;
    while !stop.load(Ordering::Relaxed) {
        match index % 4 {
            0 if removed < DOOMED => {
                let number = index / 4 * DOOMED + removed;
                stream.write_all(format!("rmall /doomed{number}\n").as_bytes())?;
                removed += 1;
            }
            // Also in place of what is removed already.
            0 | 1 => stream.write_all(b"md5 /bench/n0\n")?,
            2 => stream.write_all(b"audit /wide\n")?,
            _ => stream.write_all(b"search nothing /wide 0\n")?,
        }
        line.clear();
        answers.read_line(&mut line)?;
        let code: i64 = line.trim_end().parse().context("no number")?;
        ensure!(code >= 0, "a heavy request was answered {code}");
        match index % 4 {
            // The digest, the owners, the empty line.
            0 | 1 => answers.read_exact(&mut vec![0; usize::try_from(code)?])?,
            2 => {
                for _ in 0..code {
                    answers.read_line(&mut line)?;
                }
            }
            _ => {
                answers.read_line(&mut line)?;
            }
        }
    }
    Ok(())
}

/// Returns the 99th percentile of the time of a `stat` of `path`, in microseconds.
pub(crate) fn percentile(address: SocketAddr, path: &str, time: Duration) -> Result<f64> {
    let request = format!("stat {path}\n");
    let mut stream = small::connect(address)?;
    small::log_in(&mut stream)?;
    let begin = Instant::now();
    let mut times = Vec::new();
    let mut chunk = [0; 4096];
    while begin.elapsed() < WARM_UP + time {
        let start = Instant::now();
        stat(&mut stream, request.as_bytes(), &mut chunk)?;
        if begin.elapsed() > WARM_UP {
            times.push(start.elapsed());
        }
    }
    times.sort_unstable();
    let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    let found = times.get(at).context("nothing was measured")?;
    Ok(found.as_secs_f64() * 1e6)
}

fn stat(stream: &mut TcpStream, request: &[u8], chunk: &mut [u8]) -> Result<()> {
    stream.write_all(request)?;
    let mut lines = 0;
    while lines < 2 {
        let count = stream.read(chunk).context("no reply")?;
        ensure!(count > 0, "the server closed the connection");
        lines += chunk
            .iter()
            .take(count)
            .filter(|byte| **byte == b'\n')
            .count();
    }
    Ok(())
}
