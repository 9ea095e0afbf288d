//! Seed corpora for the fuzz targets, taken from the recorded vectors.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::vector::{Login, Vector, latin1};

/// The first byte of an input of the target `request`: plain lines, in pieces of 127 bytes.
const PLAIN: u8 = 0x7f;

/// The first byte of an input of the target `login`: in pieces of 255 bytes.
const PIECES: u8 = 0xff;

/// What a server says to a client of the target `client`, which tries three methods, before its replies.
const LET_IN: &[u8] = b"no\nno\nyes\nyes\nyes\naddress\n127.0.0.1\n";

/// The letter by which the target `client` knows the call that sends a request.
const CALLS: [(&str, u8); 14] = [
    ("getdir", b'd'),
    ("getlongdir", b'l'),
    ("stat", b's'),
    ("statfs", b'f'),
    ("getacl", b'a'),
    ("getfile", b'g'),
    ("readlink", b'r'),
    ("localpath", b'p'),
    ("whoami", b'w'),
    ("listxattr", b'x'),
    ("md5", b'h'),
    ("mkdir", b'm'),
    ("putfile", b'P'),
    ("open", b'o'),
];

/// Writes files for each vector below `directory`, in a folder for each target.
///
/// # Errors
///
/// Fails if a file cannot be written or a vector is damaged.
pub fn write(vectors: &[Vector], directory: &Path) -> Result<usize> {
    let mut count = 0;
    let mut seed = |target: &str, name: &str, bytes: &[u8]| {
        let folder = directory.join(target);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(name), bytes))
            .with_context(|| format!("cannot write seeds to {}", folder.display()))?;
        count += 1;
        anyhow::Ok(())
    };
    for vector in vectors {
        let name = vector.name.as_str();
        let sent = latin1(&vector.send)?;
        let mut bytes = vec![PLAIN];
        for line in &vector.setup {
            bytes.extend(latin1(line)?);
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(&sent);
        seed("request", name, &bytes)?;
        let verb = vector.send.split([' ', '\n']).next().unwrap_or_default();
        let words: Vec<&str> = vector.send.split_ascii_whitespace().collect();
        match (vector.auth, words.as_slice()) {
            (Login::None, _) => seed("login", name, &[&[PIECES], sent.as_slice()].concat())?,
            (_, ["search", patterns, roots, ..]) => {
                seed("pattern", name, format!("{patterns}\n{roots}").as_bytes())?;
            }
            _ => {}
        }
        if let Some((_, body)) = vector.send.split_once('\n')
            && verb.starts_with("job_")
        {
            seed("job", name, &latin1(body)?)?;
        }
        if let Some(reply) = &vector.expect.reply {
            let reply = latin1(reply)?;
            if let Some((_, letter)) = CALLS.iter().find(|(call, _)| *call == verb) {
                seed(
                    "client",
                    name,
                    &[&[*letter, b'\n'], LET_IN, &reply].concat(),
                )?;
            }
            seed("reply", name, &reply)?;
            if let Some(list) = reply.strip_prefix(b"0\n").filter(|_| name.contains("acl")) {
                seed("acl", name, list)?;
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_becomes_a_seed() {
        let directory = tempfile::tempdir().unwrap();
        let vectors = crate::vector::recorded().unwrap();
        assert!(write(&vectors, directory.path()).unwrap() >= vectors.len());
        for target in [
            "request", "reply", "acl", "login", "client", "job", "pattern",
        ] {
            let files = fs::read_dir(directory.path().join(target)).unwrap();
            assert!(files.count() > 1, "{target}");
        }
    }
}
