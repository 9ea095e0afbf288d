//! Names and directories of the server.

use chirp_client::{Client, Code, VirtualPath};

use super::line;
use crate::commands::ls;
use crate::commands::stat::clock;
use crate::compat::chirp::session::{self, Session};
use crate::compat::trouble::Trouble;
use crate::output;

/// The mode that the reference asks for in a new directory; servers make it 0700 anyway.
const DIRECTORY_MODE: u32 = 0o777;

pub(crate) async fn cd(
    session: &mut Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    let path = session.path(word)?;
    if !client.stat(&path).await?.is_directory() {
        return Err(Code::NotDirectory.into());
    }
    session.enter(path);
    Ok(())
}

pub(crate) fn pwd(session: &Session) -> Result<(), Trouble> {
    line(session.directory().as_bytes())
}

pub(crate) async fn ls(session: &Session, client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let (mut long, mut all, mut path) = (false, false, None);
    for word in words {
        match word.strip_prefix(b"-") {
            Some(letters) if path.is_none() && !letters.is_empty() => {
                for letter in letters {
                    match letter {
                        b'l' => long = true,
                        b'a' => all = true,
                        other => {
                            let other = char::from(*other);
                            line(format!("ls: unknown option: {other}").as_bytes())?;
                            return Err(Trouble::invalid());
                        }
                    }
                }
            }
            _ if path.is_none() => path = Some(*word),
            _ => return Err(Trouble::Usage),
        }
    }
    let path = session.path_or_here(path)?;
    let listing = client.getlongdir(&path).await?;
    let mut entries = listing.collect_with_dots().await?;
    entries.retain(|(name, _)| all || !name.starts_with(b"."));
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    let now = clock::now();
    let mut text = Vec::new();
    for (name, stat) in entries {
        if long {
            text.extend_from_slice(ls::line(&stat, now).as_bytes());
        }
        text.extend_from_slice(&output::name(&name));
        text.push(b'\n');
    }
    Ok(output::write(&text)?)
}

pub(crate) async fn mkdir(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let path = match words {
        [b"-p", word] => {
            let path = session.path(word)?;
            ancestors(client, &path).await?;
            path
        }
        [word] => session.path(word)?,
        _ => return Err(Trouble::Usage),
    };
    match client.mkdir(&path, DIRECTORY_MODE).await {
        Err(error) if error.code() == Some(Code::AlreadyExists) => Ok(()),
        other => Ok(other?),
    }
}

/// Makes all directories above; which of them cannot be made shows at the last.
async fn ancestors(client: &Client, path: &VirtualPath) -> Result<(), Trouble> {
    let mut above = VirtualPath::root();
    let mut names: Vec<&[u8]> = path.components().collect();
    names.pop();
    for name in names {
        above = above.join(name)?;
        match client.mkdir(&above, DIRECTORY_MODE).await {
            Err(error) if error.code().is_none() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

pub(crate) async fn rmdir(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    Ok(client.rmdir(&session.path(word)?).await?)
}

pub(crate) async fn rm(session: &Session, client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    Ok(client.rmall(&session.path(word)?).await?)
}

pub(crate) async fn mv(session: &Session, client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let [from, to] = session::exactly(words)?;
    let (from, to) = (session.path(from)?, session.path(to)?);
    Ok(client.rename(&from, &to).await?)
}

pub(crate) async fn ln(session: &Session, client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    match words {
        // The text is stored as it is, whatever it leads to.
        [b"-s", text, name] => Ok(client.symlink(text, &session.path(name)?).await?),
        [from, to] if *from != b"-s" => {
            let (from, to) = (session.path(from)?, session.path(to)?);
            Ok(client.link(&from, &to).await?)
        }
        _ => Err(Trouble::Usage),
    }
}
