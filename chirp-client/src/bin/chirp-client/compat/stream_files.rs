//! `chirp_stream_files`: one local file, many remote ones (part 12.6).

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use chirp_client::{GetStream, PutStream, VirtualPath};
use clap::{CommandFactory as _, Parser};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};

use super::access::{Access, Log, Logged};
use super::connect;
use super::trouble::{Ending, Trouble, say, say_fatal};

/// Copies the lines of one local file to many remote ones, or back.
///
/// `copy` sends the file to all of them, `split` its lines round robin, and `join` brings lines from
/// all of them in turn into the local file. `-` as the local file is standard input, for `join`
/// standard output.
#[derive(Parser)]
#[command(
    name = "chirp_stream_files",
    version = super::VERSION,
    disable_version_flag = true,
    override_usage = "chirp_stream_files [options] [copy|split|join] <local-file> { <hostname[:port]> <remote-file> }",
    max_term_width = 100,
    infer_long_args = true
)]
pub(super) struct StreamFiles {
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    log: Log,
    /// Accepted for old scripts: lines of any length go through a small buffer.
    #[arg(short, long, value_name = "SIZE")]
    block_size: Option<String>,
    /// Show the version.
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// What to do, the file here, and the servers each with a file there.
    #[arg(value_name = "OPERATION LOCAL HOST REMOTE ...", hide = true)]
    words: Vec<OsString>,
}

impl Logged for StreamFiles {
    fn log(&self) -> &Log {
        &self.log
    }
}

/// What is done with lines.
#[derive(Clone, Copy)]
enum Operation {
    Copy,
    Split,
    Join,
}

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// Streams, and says in the reference's form what did not work.
pub(super) async fn run(stream: StreamFiles) -> Ending {
    let [operation, local, remotes @ ..] = stream.words.as_slice() else {
        return super::help(StreamFiles::command(), Ending::Failure);
    };
    let (pairs, rest) = remotes.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return super::help(StreamFiles::command(), Ending::Failure);
    }
    let operation = match operation.to_str() {
        Some("copy") => Operation::Copy,
        Some("split") => Operation::Split,
        Some("join") => Operation::Join,
        _ => {
            say(&format!("unknown operation: {}", operation.display()));
            return super::help(StreamFiles::command(), Ending::Failure);
        }
    };
    if let Err(reason) = stream.access.methods() {
        say_fatal(&reason);
        return Ending::Fatal;
    }
    let local = Path::new(local);
    let done = match operation {
        Operation::Join => join(&stream.access, local, pairs).await,
        operation => send(&stream.access, operation, local, pairs).await,
    };
    match done {
        Ok(()) => Ending::Success,
        Err(Failed(_, Trouble::PipeClosed)) => Ending::PipeClosed,
        Err(Failed(what, trouble)) => {
            trouble.tell(&what);
            Ending::Failure
        }
    }
}

/// What could not be done, and why.
struct Failed(String, Trouble);

impl Failed {
    fn local(doing: &str, path: &Path, error: std::io::Error) -> Self {
        let trouble = match error.kind() {
            std::io::ErrorKind::BrokenPipe => Trouble::PipeClosed,
            _ => error.into(),
        };
        Self(format!("couldn't {doing} {}", path.display()), trouble)
    }
}

/// A remote file as it was named, with its stream.
struct Remote<S> {
    name: String,
    stream: S,
}

/// Opens a remote file on a connection of its own, as every stream needs.
async fn open<S>(
    access: &Access,
    [host, path]: &[OsString; 2],
    begin: impl AsyncFnOnce(&chirp_client::Client, &VirtualPath) -> Result<S, chirp_client::Error>,
) -> Result<Remote<S>, Failed> {
    let (host, name) = (host.to_string_lossy(), path.display());
    let name = format!("{host}:{name}");
    let opened = async {
        let client = connect::open(access, &host).await?;
        let path = VirtualPath::from_decoded(path.as_bytes())?;
        Ok(begin(&client, &path).await?)
    };
    match opened.await {
        Ok(stream) => Ok(Remote { name, stream }),
        Err(trouble) => Err(Failed(format!("couldn't open {name}"), trouble)),
    }
}

async fn send(
    access: &Access,
    operation: Operation,
    local: &Path,
    pairs: &[[OsString; 2]],
) -> Result<(), Failed> {
    let source: Box<dyn AsyncRead + Unpin> = if local == Path::new("-") {
        Box::new(crate::stdin::reading(std::io::stdin()))
    } else {
        let file = File::open(local).map_err(|error| Failed::local("open", local, error))?;
        Box::new(crate::stdin::reading(file))
    };
    let mut source = BufReader::with_capacity(PIECE, source);
    let mut targets = Vec::new();
    for pair in pairs {
        let begin =
            async |client: &chirp_client::Client, path: &VirtualPath| client.putstream(path).await;
        targets.push(open(access, pair, begin).await?);
    }
    let mut turn = 0;
    loop {
        let piece = source.fill_buf().await;
        let piece = piece.map_err(|error| Failed::local("read", local, error))?;
        if piece.is_empty() {
            break;
        }
        let used = match operation {
            Operation::Split => {
                let (piece, ends) = up_to_line_end(piece);
                if let Some(target) = targets.get_mut(turn) {
                    write(target, piece).await?;
                }
                if ends {
                    turn = (turn + 1) % targets.len();
                }
                piece.len()
            }
            _ => {
                for target in &mut targets {
                    write(target, piece).await?;
                }
                piece.len()
            }
        };
        source.consume(used);
    }
    for Remote { name, stream } in targets {
        let finished = stream.finish().await;
        finished.map_err(|error| Failed(format!("couldn't write {name}"), error.into()))?;
    }
    Ok(())
}

async fn write(target: &mut Remote<PutStream>, bytes: &[u8]) -> Result<(), Failed> {
    let written = target.stream.write_all(bytes).await;
    written.map_err(|error| Failed(format!("couldn't write {}", target.name), error.into()))
}

/// Returns the piece up to its first line end, and whether there is one.
fn up_to_line_end(piece: &[u8]) -> (&[u8], bool) {
    match piece.iter().position(|&byte| byte == b'\n') {
        Some(at) => (piece.get(..=at).unwrap_or(piece), true),
        None => (piece, false),
    }
}

async fn join(access: &Access, local: &Path, pairs: &[[OsString; 2]]) -> Result<(), Failed> {
    let mut sources = Vec::new();
    for pair in pairs {
        let begin =
            async |client: &chirp_client::Client, path: &VirtualPath| client.getstream(path).await;
        let Remote { name, stream } = open(access, pair, begin).await?;
        let stream = BufReader::with_capacity(PIECE, stream);
        sources.push(Remote { name, stream });
    }
    // Only now: a source that is not there leaves the local file as it was.
    let target: Box<dyn Write> = if local == Path::new("-") {
        Box::new(std::io::stdout())
    } else {
        Box::new(File::create(local).map_err(|error| Failed::local("open", local, error))?)
    };
    let mut target = Target {
        writer: BufWriter::with_capacity(PIECE, target),
        path: local,
        cut: false,
    };
    while !sources.is_empty() {
        let mut going = Vec::with_capacity(sources.len());
        for mut source in sources {
            if line(&mut source, &mut target).await? {
                going.push(source);
            }
        }
        sources = going;
    }
    let flushed = target.writer.flush();
    flushed.map_err(|error| Failed::local("write", local, error))
}

/// The local file of `join`.
struct Target<'a, W> {
    writer: W,
    path: &'a Path,
    /// Whether a source ended in the middle of a line, which must not become one with the next.
    cut: bool,
}

impl<W: Write> Target<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let failed = |error| Failed::local("write", self.path, error);
        if std::mem::take(&mut self.cut) {
            self.writer.write_all(b"\n").map_err(failed)?;
        }
        self.writer.write_all(bytes).map_err(failed)
    }
}

/// Moves one line; returns whether there may be more.
async fn line(
    source: &mut Remote<BufReader<GetStream>>,
    target: &mut Target<'_, impl Write>,
) -> Result<bool, Failed> {
    let mut begun = false;
    loop {
        let piece = source.stream.fill_buf().await;
        let piece = piece
            .map_err(|error| Failed(format!("couldn't read {}", source.name), error.into()))?;
        if piece.is_empty() {
            target.cut |= begun;
            return Ok(false);
        }
        let (piece, ends) = up_to_line_end(piece);
        target.write(piece)?;
        begun = true;
        let used = piece.len();
        source.stream.consume(used);
        if ends {
            return Ok(true);
        }
    }
}
