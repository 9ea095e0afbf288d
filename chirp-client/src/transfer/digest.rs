//! Digests of both sides.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use chirp_proto::VirtualPath;
use chirp_proto::request::HashAlgorithm;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::{Client, Error};

/// A digest that the server can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Sha256,
    Md5,
}

/// Bytes of a file that a server surely digests in a second; it answers only at the end.
const BYTES_A_SECOND: u64 = 20_000_000;

impl Algorithm {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    /// Returns the digest of a remote file of about `size` bytes.
    pub(super) async fn remote(
        self,
        client: &Client,
        path: &VirtualPath,
        size: u64,
    ) -> Result<Vec<u8>, Error> {
        let client = client.with_timeout(
            client
                .timeout()
                .saturating_add(Duration::from_secs(size / BYTES_A_SECOND)),
        );
        let digest = match self {
            Self::Sha256 => client.sha256(path).await?,
            Self::Md5 => client.hash(HashAlgorithm::Md5, path).await?,
        };
        Ok(digest.to_vec())
    }

    /// Returns the digest of a local file from where it stands. Blocks.
    pub(super) fn local(self, file: &File) -> io::Result<Vec<u8>> {
        match self {
            Self::Sha256 => digest::<Sha256>(file),
            Self::Md5 => digest::<Md5>(file),
        }
    }
}

fn digest<D: Digest>(mut file: &File) -> io::Result<Vec<u8>> {
    let mut digest = D::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digest.finalize().to_vec()),
            Ok(count) => digest.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
