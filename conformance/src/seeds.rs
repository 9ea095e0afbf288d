//! Seed corpora for the fuzz targets, taken from the recorded vectors.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::vector::{Vector, latin1};

/// The first byte of an input of the target `request`: plain lines, in pieces of 127 bytes.
const PLAIN: u8 = 0x7f;

/// Writes a file for each vector below `directory`: `request/`, `reply/` and `acl/`.
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
        if let Some(reply) = &vector.expect.reply {
            let reply = latin1(reply)?;
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
        for target in ["request", "reply", "acl"] {
            let files = fs::read_dir(directory.path().join(target)).unwrap();
            assert!(files.count() > 1, "{target}");
        }
    }
}
