//! Requests in messages: the verb and what it is about.

use bytes::BytesMut;
use chirp_proto::{Request, encode};

use crate::error::printable;

/// Returns the verb as the wire names it.
pub(crate) fn verb(request: &Request) -> String {
    words(request).0
}

/// Returns what the request is about, as people write it; empty if it is about nothing.
pub(crate) fn object(request: &Request) -> String {
    use Request as R;
    match request {
        R::Open { path, .. }
        | R::Getfile { path }
        | R::Putfile { path, .. }
        | R::Getstream { path }
        | R::Putstream { path }
        | R::Getdir { path }
        | R::Getlongdir { path }
        | R::Mkdir { path, .. }
        | R::Rmdir { path }
        | R::Rmall { path }
        | R::Unlink { path }
        | R::Symlink { path, .. }
        | R::Readlink { path, .. }
        | R::Localpath { path }
        | R::Stat { path }
        | R::Lstat { path }
        | R::Statfs { path }
        | R::Access { path, .. }
        | R::Chmod { path, .. }
        | R::Chown { path, .. }
        | R::Lchown { path, .. }
        | R::Truncate { path, .. }
        | R::Utime { path, .. }
        | R::Hash { path, .. }
        | R::Sha256 { path }
        | R::Store { path, .. }
        | R::Getacl { path }
        | R::Setacl { path, .. }
        | R::Resetacl { path, .. } => printable(path.as_bytes()),
        R::Rename { from, to } | R::Link { from, to } => format!(
            "{} to {}",
            printable(from.as_bytes()),
            printable(to.as_bytes())
        ),
        R::Exec { .. } => String::new(),
        // The words of the line say it best.
        other => words(other).1,
    }
}

/// Returns the encoded line as its verb and the rest.
fn words(request: &Request) -> (String, String) {
    let mut line = BytesMut::new();
    encode::request(request, &mut line);
    let line = printable(line.trim_ascii());
    match line.split_once(' ') {
        Some((verb, rest)) => (verb.to_owned(), rest.to_owned()),
        None => (line, String::new()),
    }
}
