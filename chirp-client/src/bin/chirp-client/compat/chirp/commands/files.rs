//! Contents of files, and whole trees.

use std::time::Instant;

use chirp_client::transfer;
use chirp_client::{Client, HashAlgorithm, VirtualPath};

use crate::compat::chirp::session::{self, Session};
use crate::compat::trouble::{Trouble, say};
use crate::compat::{text, upload};
use crate::output;

pub(crate) async fn cat(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    for word in words {
        let path = session.path(word)?;
        match to_stdout(client, &path).await {
            Ok(()) => {}
            // As in the reference, a file that cannot be read is named and fails nothing.
            Err(trouble @ Trouble::Client(_)) => trouble.tell(&path.to_string()),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

async fn to_stdout(client: &Client, path: &VirtualPath) -> Result<(), Trouble> {
    let body = client.getfile(path).await?;
    body.copy_to(&mut tokio::io::stdout()).await?;
    Ok(())
}

pub(crate) async fn get(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let (remote, local) = match words {
        [remote] => {
            let path = session.path(remote)?;
            let name = path.components().next_back().unwrap_or(b".").to_vec();
            (path, name)
        }
        [remote, local] => (session.path(remote)?, local.to_vec()),
        _ => return Err(Trouble::Usage),
    };
    let start = Instant::now();
    let local = session::local(&local);
    let done = transfer::get(client, &remote, local, &upload::exactly()).await?;
    report(done.bytes, "read", start);
    Ok(())
}

pub(crate) async fn put(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let (local, remote) = match words {
        [local] => {
            let local = session::local(local);
            let name = local.file_name().unwrap_or_default();
            (local, session.path(name.as_encoded_bytes())?)
        }
        [local, remote] => (session::local(local), session.path(remote)?),
        _ => return Err(Trouble::Usage),
    };
    let start = Instant::now();
    let bytes = upload::path(client, local, &remote).await?;
    report(bytes, "written", start);
    Ok(())
}

fn report(bytes: u64, verb: &str, start: Instant) {
    if let Some(line) = text::copied(bytes, verb, start.elapsed()) {
        say(&line);
    }
}

pub(crate) async fn md5(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    digest(client, HashAlgorithm::Md5, &session.path(word)?).await
}

pub(crate) async fn hash(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [algorithm, word] = session::exactly(words)?;
    let algorithm = match algorithm {
        b"md5" => HashAlgorithm::Md5,
        b"sha1" => HashAlgorithm::Sha1,
        _ => return Err(Trouble::invalid()),
    };
    digest(client, algorithm, &session.path(word)?).await
}

async fn digest(
    client: &Client,
    algorithm: HashAlgorithm,
    path: &VirtualPath,
) -> Result<(), Trouble> {
    let digest = client.hash(algorithm, path).await?;
    let mut text: Vec<u8> = digest
        .iter()
        .flat_map(|byte| format!("{byte:02X}").into_bytes())
        .collect();
    text.push(b'\t');
    text.extend_from_slice(&output::name(path.as_bytes()));
    text.push(b'\n');
    Ok(output::write(&text)?)
}
