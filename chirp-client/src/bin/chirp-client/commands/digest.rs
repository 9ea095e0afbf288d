use bytes::Bytes;
use chirp_client::{Client, Code, Error, HashAlgorithm, VirtualPath};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{Array, Json, Text};
use crate::output;

/// Prints the MD5 of files, computed by the server: upper-case digits, a tab and the path, as the
/// reference's `chirp` does.
///
/// MD5 finds accidents, not forgery; sha256 does both.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest md5 /jobs/17/result.csv")]
pub(crate) struct Md5 {
    #[command(flatten)]
    json: Json,
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

/// Prints a digest of files, computed by the server: upper-case digits, a tab and the path, as the
/// reference's `chirp` does.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest hash sha1 /jobs/17/result.csv")]
pub(crate) struct Hash {
    #[command(flatten)]
    json: Json,
    /// The algorithm. Only chirp-server has sha256.
    algorithm: Algorithm,
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

/// Prints the SHA-256 of files, computed by the server, in the form of `sha256sum`.
///
/// Only chirp-server offers this; the reference's server has md5.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest sha256 /jobs/17/result.csv
  chirp-client guest sha256 /jobs/17/result.csv | sed 's: /: :' | (cd / && sha256sum -c)")]
pub(crate) struct Sha256 {
    #[command(flatten)]
    json: Json,
    /// The files.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Algorithm {
    Md5,
    Sha1,
    Sha256,
}

#[derive(Serialize)]
struct Digest<'a> {
    path: Text<'a>,
    algorithm: &'static str,
    /// Lower-case digits.
    digest: String,
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    async fn of(self, client: &Client, path: &VirtualPath) -> Result<Bytes, Error> {
        match self {
            Self::Md5 => client.hash(HashAlgorithm::Md5, path).await,
            Self::Sha1 => client.hash(HashAlgorithm::Sha1, path).await,
            Self::Sha256 => match client.sha256(path).await {
                // The reference says of an unknown verb what ours says of a bad path.
                Err(Error::Refused {
                    code: Code::InvalidRequest,
                    ..
                }) if client.features().await?.is_none() => Err(Error::Unsupported {
                    host: client.host().to_owned(),
                    feature: "sha256",
                }),
                other => other,
            },
        }
    }
}

impl Md5 {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        print(client, Algorithm::Md5, &self.paths, self.json, reference).await
    }
}

impl Hash {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        print(client, self.algorithm, &self.paths, self.json, reference).await
    }
}

impl Sha256 {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let sum = |digits: &str| format!("{digits}  ");
        print(client, Algorithm::Sha256, &self.paths, self.json, sum).await
    }
}

fn reference(digits: &str) -> String {
    format!("{}\t", digits.to_uppercase())
}

/// Prints the digest of each file; `before` makes what stands before the path.
async fn print(
    client: &Client,
    algorithm: Algorithm,
    paths: &[RemotePath],
    json: Json,
    before: fn(&str) -> String,
) -> Result<(), Failure> {
    let mut array = json.wanted.then(Array::default);
    let result = super::each(client, paths, async |path| {
        let path = &path.0;
        let digest = algorithm.of(client, path).await?;
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(array) = &mut array {
            return array.push(&Digest {
                path: path.into(),
                algorithm: algorithm.name(),
                digest,
            });
        }
        let mut line = before(&digest).into_bytes();
        line.append(&mut output::name(path.as_bytes()));
        line.push(b'\n');
        output::write(&line)
    })
    .await;
    if let Some(array) = array {
        array.finish()?;
    }
    result
}
