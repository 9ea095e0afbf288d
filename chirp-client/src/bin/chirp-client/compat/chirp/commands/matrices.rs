//! Matrices: files whose rows lie in parts on several servers. Their description is a small file of
//! numbers and places, one a line: width, height, bytes of an element, hosts, parts, and a `HOST PATH`
//! of each part.

use std::io::Cursor;

use chirp_client::{Client, Code, OpenFlags, VirtualPath};

use super::foreign;
use crate::compat::access::Access;
use crate::compat::chirp::session::{self, Session};
use crate::compat::connect;
use crate::compat::trouble::Trouble;
use crate::output;

/// The variable that names a file of hosts, over which the parts are spread.
const HOSTS: &str = "CHIRP_HOSTS";

/// Bytes of an element.
const ELEMENT: u64 = 8;

/// The most parts of a matrix, and the most bytes of its description that are read.
const PARTS_MAX: u64 = 1024;
const DESCRIPTION_MAX: u64 = 1024 * 1024;

/// What the reference asks for: of the description and the directories, and of the parts.
const MODE: u32 = 0o700;
const PART_MODE: u32 = 0o755;

/// The directory of a user's matrices, below one with the user's name.
const DATA: &str = "matrixdata";

struct Matrix {
    width: u64,
    height: u64,
    element: u64,
    hosts: u64,
    parts: Vec<(String, VirtualPath)>,
}

impl Matrix {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        let mut number = || lines.next()?.trim().parse::<u64>().ok();
        let (width, height, element) = (number()?, number()?, number()?);
        let (hosts, count) = (number()?, number()?);
        let part = |line: &str| {
            let (host, path) = line.split_once(' ')?;
            let path = VirtualPath::from_decoded(path.as_bytes()).ok()?;
            Some((host.to_owned(), path))
        };
        let parts: Vec<_> = lines.map(part).collect::<Option<_>>()?;
        let whole = parts.len() as u64 == count && count <= PARTS_MAX;
        whole.then_some(Self {
            width,
            height,
            element,
            hosts,
            parts,
        })
    }

    fn to_text(&self) -> Vec<u8> {
        let numbers = [
            self.width,
            self.height,
            self.element,
            self.hosts,
            self.parts.len() as u64,
        ];
        let mut text: Vec<u8> = numbers
            .iter()
            .flat_map(|number| format!("{number}\n").into_bytes())
            .collect();
        for (host, path) in &self.parts {
            text.extend_from_slice(host.as_bytes());
            text.push(b' ');
            text.extend_from_slice(path.as_bytes());
            text.push(b'\n');
        }
        text
    }

    async fn read(client: &Client, path: &VirtualPath) -> Result<Self, Trouble> {
        let body = client.getfile(path).await?;
        if body.length() > DESCRIPTION_MAX {
            return Err(Trouble::Words("this is no matrix".to_owned()));
        }
        let mut text = Vec::new();
        body.copy_to(&mut text).await?;
        Self::parse(&text).ok_or_else(|| Trouble::Words("this is no matrix".to_owned()))
    }
}

pub(crate) async fn create(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word, width, height, count] = session::exactly(words)?;
    let number = |word: &[u8]| -> Result<u64, Trouble> {
        session::text(word)?.parse().map_err(|_| Trouble::invalid())
    };
    let (width, height, count) = (number(width)?, number(height)?, number(count)?);
    if !(1..=PARTS_MAX).contains(&count) {
        return Err(Trouble::invalid());
    }
    let directory = format!("/{}/{DATA}/{}", user()?, unique()?);
    let hosts = hosts(session.host())?;
    let mut parts = Vec::new();
    for (index, host) in (0..count).zip(hosts.iter().cycle()) {
        let path = format!("{directory}/data.{index}");
        parts.push((host.clone(), VirtualPath::from_decoded(path.as_bytes())?));
    }
    let directory = VirtualPath::from_decoded(directory.as_bytes())?;
    for (host, part) in &parts {
        let client = connect::open(session.access(), host).await?;
        directories(&client, &directory).await?;
        let flags = OpenFlags {
            read: true,
            write: true,
            create: true,
            ..OpenFlags::default()
        };
        let (descriptor, _) = client.open(part, flags, PART_MODE).await?;
        client.close(descriptor).await?;
    }
    let matrix = Matrix {
        width,
        height,
        element: ELEMENT,
        hosts: count,
        parts,
    };
    let text = matrix.to_text();
    let path = session.path(word)?;
    let length = text.len() as u64;
    Ok(client
        .putfile(&path, MODE, length, &mut Cursor::new(text))
        .await?)
}

/// Makes a directory and those above it; what is there already is right.
async fn directories(client: &Client, directory: &VirtualPath) -> Result<(), Trouble> {
    let mut path = VirtualPath::root();
    for name in directory.components() {
        path = path.join(name)?;
        match client.mkdir(&path, MODE).await {
            Err(error) if error.code() == Some(Code::AlreadyExists) => {}
            other => other?,
        }
    }
    Ok(())
}

pub(crate) async fn list(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    let path = session.path(word)?;
    let matrix = match Matrix::read(client, &path).await {
        Ok(matrix) => matrix,
        // As in the reference, a list of what is not there is empty.
        Err(Trouble::Client(error)) if error.code() == Some(Code::DoesntExist) => return Ok(()),
        Err(other) => return Err(other),
    };
    foreign(format!("host:   {}", session.host()).as_bytes())?;
    foreign(&[b"path:   ", path.as_bytes()].concat())?;
    let (width, height, element) = (matrix.width, matrix.height, matrix.element);
    let (hosts, parts) = (matrix.hosts, matrix.parts.len());
    Ok(output::write(
        format!(
            "width:  {width}\nheight: {height}\nesize:  {element}\nnhosts: {hosts}\nnfiles: {parts}\n"
        )
        .as_bytes(),
    )?)
}

pub(crate) async fn delete(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    let path = session.path(word)?;
    let matrix = Matrix::read(client, &path).await?;
    for (host, part) in &matrix.parts {
        remove(session.access(), host, part).await?;
    }
    Ok(client.unlink(&path).await?)
}

/// Removes the directory of a part. Whoever could write the description chose it, so it must be one
/// that only a matrix has.
async fn remove(access: &Access, host: &str, part: &VirtualPath) -> Result<(), Trouble> {
    let names: Vec<&[u8]> = part.components().collect();
    let [user, data, unique, file] = names.as_slice() else {
        return Err(Trouble::invalid());
    };
    if *data != DATA.as_bytes() || !file.starts_with(b"data.") {
        return Err(Trouble::invalid());
    }
    let mut directory = VirtualPath::root();
    for name in [user, data, unique] {
        directory = directory.join(name)?;
    }
    let client = connect::open(access, host).await?;
    match client.rmall(&directory).await {
        // It went with the part before.
        Err(error) if error.code() == Some(Code::DoesntExist) => Ok(()),
        other => Ok(other?),
    }
}

/// Returns the hosts over which the parts are spread; without a list that of the session.
fn hosts(here: &str) -> Result<Vec<String>, Trouble> {
    let listed: Vec<String> = match std::env::var_os(HOSTS).filter(|path| !path.is_empty()) {
        Some(path) => {
            let text = std::fs::read_to_string(path)?;
            text.split_whitespace().map(str::to_owned).collect()
        }
        None => vec![here.to_owned()],
    };
    if listed.is_empty() {
        return Err(Trouble::Words(format!("the file of {HOSTS} names no host")));
    }
    Ok(listed)
}

/// Returns this machine's name of the user.
fn user() -> Result<String, Trouble> {
    let name = uzers::get_current_username().and_then(|name| name.into_string().ok());
    let name = name.filter(|name| !name.is_empty() && !name.contains(['/', ' ', '\n']));
    name.ok_or_else(|| Trouble::Words("this user has no name here".to_owned()))
}

/// Returns a name that nothing has yet.
fn unique() -> Result<String, Trouble> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_the_reference_s() {
        let text = b"4\n3\n8\n2\n2\nh:1 /me/matrixdata/x/data.0\ng /me/matrixdata/x/data.1\n";
        let matrix = Matrix::parse(text).unwrap();
        assert_eq!((matrix.width, matrix.height, matrix.hosts), (4, 3, 2));
        assert_eq!(matrix.to_text(), text);
        for bad in [
            &b""[..],
            b"4\n3\n8\n2\n2\nh:1 /a\n",
            b"4\n3\n8\n2\n1\nh:1\n",
            b"x\n3\n8\n2\n0\n",
            b"4\n3\n8\n-1\n0\n",
        ] {
            assert!(Matrix::parse(bad).is_none(), "{bad:?}");
        }
    }
}
