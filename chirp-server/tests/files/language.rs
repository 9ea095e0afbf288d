//! The language of these tests: a temporary tree, and peers that send lines and expect bytes.

use std::path::{Path, PathBuf};

use bytes::{BufMut, BytesMut};
use chirp_proto::parse::{Decoder, Step};
use chirp_proto::{Method, Subject, encode};
use chirp_server::dispatch::dispatch;
use chirp_server::export::{Export, Policy};
use chirp_server::heavy::Slice;
use chirp_server::outcome::{Outcome, Turn};
use chirp_server::session::{Principal, Session};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// An exported temporary directory, of which `unix:alice` has all rights.
pub(crate) struct Tree {
    pub(crate) root: TempDir,
    pub(crate) transient: TempDir,
    pub(crate) export: Export,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self::with(Policy::default())
    }

    pub(crate) fn with(policy: Policy) -> Self {
        let root = tempfile::tempdir().unwrap();
        let transient = tempfile::tempdir().unwrap();
        let export = Export::open(root.path(), transient.path(), policy).unwrap();
        export.initialise_acl(b"unix:alice rwldax\n").unwrap();
        Self {
            root,
            transient,
            export,
        }
    }

    /// Returns the host path of something in the tree.
    pub(crate) fn host(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Forgets everything that is only in memory, as a new process does.
    pub(crate) fn restart(self) -> Self {
        let Self {
            root,
            transient,
            export,
        } = self;
        drop(export);
        let export = Export::open(root.path(), transient.path(), Policy::default()).unwrap();
        Self {
            root,
            transient,
            export,
        }
    }

    pub(crate) fn alice(&self) -> Peer<'_> {
        self.peer(Method::Unix, "alice")
    }

    pub(crate) fn bob(&self) -> Peer<'_> {
        self.peer(Method::Unix, "bob")
    }

    pub(crate) fn peer(&self, method: Method, name: &str) -> Peer<'_> {
        Peer {
            export: &self.export,
            session: Session::new(Principal::new(Subject::new(method, name.as_bytes()))),
        }
    }

    /// Returns the names in a directory of the tree, hidden ones too, sorted.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        names(&self.host(path))
    }
}

/// Returns the names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// One logged-in connection.
pub(crate) struct Peer<'a> {
    pub(crate) export: &'a Export,
    pub(crate) session: Session,
}

impl Peer<'_> {
    /// Sends any number of requests with their bodies and returns all the answers. A body that
    /// ends early is a lost connection.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut decoder = Decoder::default();
        let mut input = BytesMut::from(bytes.as_ref());
        let mut out = BytesMut::new();
        loop {
            match decoder.step(&input) {
                Step::More | Step::End | Step::TooLong => return out.to_vec(),
                Step::Skip { used } => drop(input.split_to(used)),
                Step::Malformed { code, used, body } => {
                    drop(input.split_to(used));
                    drop(input.split_to(input.len().min(usize::try_from(body).unwrap())));
                    encode::failure(code, &mut out);
                }
                Step::Request { request, used } => {
                    drop(input.split_to(used));
                    let outcome = dispatch(self.export, &mut self.session, &request);
                    if !answer(self.export, outcome, &mut input, &mut out) {
                        return out.to_vec();
                    }
                }
            }
        }
    }

    /// Sends requests and compares the answers, printable or not.
    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let reply = self.send(bytes);
        assert_eq!(
            reply.escape_ascii().to_string(),
            expected.as_ref().escape_ascii().to_string(),
            "the answer to {}",
            bytes.escape_ascii()
        );
    }

    /// Returns the names that `getdir` shows, sorted, without `.` and `..`.
    pub(crate) fn list(&mut self, path: &str) -> Vec<String> {
        let reply = String::from_utf8(self.send(format!("getdir {path}\n"))).unwrap();
        let mut lines: Vec<&str> = reply.lines().collect();
        assert_eq!((lines.remove(0), lines.pop()), ("0", Some("")), "{reply}");
        lines.retain(|name| *name != "." && *name != "..");
        lines.sort_unstable();
        lines.into_iter().map(str::to_owned).collect()
    }

    /// Returns the numbers of a stat line.
    #[track_caller]
    pub(crate) fn stat(&mut self, path: &str) -> chirp_proto::Stat {
        let reply = self.send(format!("stat {path}\n"));
        let line = reply
            .strip_prefix(b"0\n")
            .expect("a stat line")
            .trim_ascii_end();
        chirp_proto::Stat::parse(line).unwrap()
    }
}

/// Does what a connection does with an outcome; false if the body ended early.
fn answer(export: &Export, outcome: Outcome, input: &mut BytesMut, out: &mut BytesMut) -> bool {
    outcome.encode_head(out);
    match outcome {
        Outcome::Listing(mut listing) => while listing.fill(out).unwrap() {},
        Outcome::Gather(mut gather) => while gather.fill(out).unwrap() {},
        Outcome::SendFile {
            file,
            offset,
            length,
        } => {
            use std::os::unix::fs::FileExt;
            let mut data = vec![0; usize::try_from(length).unwrap()];
            file.read_exact_at(&mut data, offset).unwrap();
            out.put_slice(&data);
        }
        Outcome::Receive { length, sink } => return receive(length, sink, input, out),
        Outcome::ReceiveAfterGo { length, sink } => return receive(length, sink, input, out),
        Outcome::Body {
            length,
            limit,
            then,
        } => {
            let wanted = usize::try_from(length).unwrap();
            let body = input.split_to(wanted.min(input.len()));
            return match (body.len() == wanted, length > limit) {
                (false, _) => false,
                (true, true) => answer(
                    export,
                    Outcome::Failed(chirp_proto::Code::NoMemory),
                    input,
                    out,
                ),
                (true, false) => answer(export, then(body.to_vec()), input, out),
            };
        }
        Outcome::Steps(mut steps) => loop {
            let slice = Slice::new(CancellationToken::new());
            match steps.step(export, out, &slice) {
                Turn::More => {}
                Turn::End => return true,
                Turn::Answer(outcome) => return answer(export, outcome, input, out),
            }
        },
        // All that follows is the stream, and it ends with the connection.
        Outcome::SendStream(mut file) => {
            use std::io::Read;
            let mut data = Vec::new();
            file.read_to_end(&mut data).unwrap();
            out.put_slice(&data);
            return false;
        }
        Outcome::ReceiveStream(mut sink) => {
            sink.take(&input.split()).unwrap();
            sink.finish().unwrap();
            return false;
        }
        Outcome::Blocking { work, .. } => {
            return answer(export, work(&CancellationToken::new()), input, out);
        }
        _ => {}
    }
    true
}

fn receive(
    length: u64,
    mut sink: Box<dyn chirp_server::outcome::Receiver>,
    input: &mut BytesMut,
    out: &mut BytesMut,
) -> bool {
    let length = usize::try_from(length).unwrap();
    let body = input.split_to(length.min(input.len()));
    let mut taken = Ok(());
    // Odd portions, so that pieces and portions do not coincide.
    for portion in body.chunks(7) {
        if taken.is_ok() {
            taken = sink.take(portion);
        }
    }
    if body.len() < length {
        return false;
    }
    match taken.and_then(|()| sink.finish()) {
        Ok(number) => encode::number(number, out),
        Err(code) => encode::failure(code, out),
    }
    true
}
