//! Tickets: keys in files, with which their holders act for who registered them, as far as the
//! tickets' masks allow (`chirp-protocol.md`, parts 2.5, 2.6 and 7). The files are the reference's.
//!
//! ```no_run
//! use std::time::Duration;
//! use chirp_client::ticket::{TicketFile, TicketKey};
//! use chirp_client::{Client, VirtualPath};
//!
//! # async fn example(client: Client, data: VirtualPath) -> Result<(), Box<dyn std::error::Error>> {
//! let key = tokio::task::spawn_blocking(|| TicketKey::generate(2048)).await??;
//! let day = Duration::from_secs(86_400);
//! client.ticket_register("self", key.public_pem(), day).await?;
//! client.ticket_modify(&key.name(), &data, "rl").await?;
//! // Whoever has this file can read /data for a day.
//! TicketFile::create(key.file_name(), key)?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chirp_proto::request::TicketName;
use jiff::Zoned;
use md5::{Digest, Md5};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use zeroize::Zeroizing;

use crate::Error;

/// The list of ticket files that clients offer unless they are told otherwise.
pub const TICKETS_VARIABLE: &str = "CHIRP_CLIENT_TICKETS";

/// Bits of the smallest key that can sign a challenge of 64 bytes.
pub const BITS_MIN: usize = 600;

/// Bits of the largest key that our server takes.
pub const BITS_MAX: usize = 16 * 1024;

/// Bytes of a ticket file that are looked at. A key of [`BITS_MAX`] has some 13,000; the comments
/// behind it are not needed.
const FILE_MAX: u64 = 256 * 1024;

/// Bytes of the longest challenge (part 2.5).
pub(crate) const CHALLENGE_MAX: u64 = 1024;

/// A private key, whose holder can log in once its public half is registered.
///
/// It is wiped from memory when it is dropped, and never printed.
pub struct TicketKey {
    key: RsaPrivateKey,
    public: String,
    name: TicketName,
}

impl TicketKey {
    /// Makes a new key. That takes from tens of milliseconds up to minutes: do it where it holds up
    /// nobody.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for less than [`BITS_MIN`] or more than [`BITS_MAX`] bits;
    /// [`Error::Local`] if the system has no random numbers.
    pub fn generate(bits: usize) -> Result<Self, Error> {
        if !(BITS_MIN..=BITS_MAX).contains(&bits) {
            return Err(Error::Argument {
                what: format!("a key of {bits} bits"),
                reason: "tickets have 600 to 16384 bits",
            });
        }
        let key = RsaPrivateKey::new(&mut random()?, bits);
        key.ok().and_then(Self::new).ok_or_else(|| Error::Argument {
            what: format!("a key of {bits} bits"),
            reason: "none could be made",
        })
    }

    /// Reads a private key from a PEM text in PKCS#8 or PKCS#1 form with anything before and after
    /// it; `None` if there is none that can be used.
    #[must_use]
    pub fn from_pem(text: &str) -> Option<Self> {
        let block = |label: &str| {
            let (begin, end) = (
                format!("-----BEGIN {label}-----"),
                format!("-----END {label}-----"),
            );
            let from = text.find(&begin)?;
            let length = text.get(from..)?.find(&end)? + end.len();
            text.get(from..from + length)
        };
        let key = match block("PRIVATE KEY") {
            Some(pem) => RsaPrivateKey::from_pkcs8_pem(pem).ok()?,
            None => RsaPrivateKey::from_pkcs1_pem(block("RSA PRIVATE KEY")?).ok()?,
        };
        (BITS_MIN..=BITS_MAX)
            .contains(&key.size().saturating_mul(8))
            .then(|| Self::new(key))?
    }

    fn new(key: RsaPrivateKey) -> Option<Self> {
        let public = key.to_public_key().to_public_key_pem(LineEnding::LF).ok()?;
        let name = TicketName::from_digest(Md5::digest(&public).into());
        Some(Self { key, public, name })
    }

    /// Returns the ticket's name on servers: the MD5 of the public key's text.
    #[must_use]
    pub const fn name(&self) -> TicketName {
        self.name
    }

    /// Returns the text that servers register.
    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public
    }

    /// Returns the bits of the key.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.key.n().bits()
    }

    /// Returns the name of the file in which clients find the ticket by themselves.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("ticket.{}", self.name.digits())
    }

    /// Signs a challenge, without the prefix of any digest. Blinded, so that the time it takes says
    /// nothing of the key to the server, which chooses what is signed.
    pub(crate) fn sign(&self, challenge: &[u8]) -> Result<Vec<u8>, Error> {
        let scheme = Pkcs1v15Sign::new_unprefixed();
        self.key
            .sign_with_rng(&mut random()?, scheme, challenge)
            .map_err(|_| Error::Argument {
                what: format!("a challenge of {} bytes", challenge.len()),
                reason: "the ticket's key is too small for it",
            })
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({})", self.name.digits())
    }
}

/// A ticket in its file. What becomes of it is noted there in comments, as the reference does.
#[derive(Debug)]
pub struct TicketFile {
    path: PathBuf,
    key: TicketKey,
}

impl TicketFile {
    /// Writes a key to a new file that only its owner may read.
    ///
    /// # Errors
    ///
    /// [`Error::Local`], also if there is a file of that name.
    pub fn create(path: impl Into<PathBuf>, key: TicketKey) -> Result<Self, Error> {
        let path = path.into();
        let written = || {
            let pem = key.key.to_pkcs8_pem(LineEnding::LF);
            let pem = pem.map_err(|error| io::Error::other(error.to_string()))?;
            let now = Zoned::now().strftime("%a %b %e %H:%M:%S %Z %Y").to_string();
            let head = format!("# Chirp Ticket\n# {now}: Ticket Created.\n");
            let text = Zeroizing::new([head.as_bytes(), pem.as_bytes()].concat());
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(&text)
        };
        written().map_err(failed("create the ticket", &path))?;
        Ok(Self { path, key })
    }

    /// Reads a file of this program, of the reference or of `openssl genrsa`.
    ///
    /// # Errors
    ///
    /// [`Error::Local`], also if there is no usable key in it.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let read = || {
            let mut text = Zeroizing::new(String::new());
            File::open(&path)?
                .take(FILE_MAX)
                .read_to_string(&mut text)?;
            TicketKey::from_pem(&text).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "there is no private RSA key of 600 to 16384 bits in it",
                )
            })
        };
        let key = read().map_err(failed("read the ticket", &path))?;
        Ok(Self { path, key })
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the key.
    #[must_use]
    pub const fn key(&self) -> &TicketKey {
        &self.key
    }

    /// Notes that a server (`HOST:PORT`) registered the ticket.
    ///
    /// # Errors
    ///
    /// [`Error::Local`].
    pub fn note_registered(
        &self,
        host: &str,
        subject: &str,
        valid_for: Duration,
    ) -> Result<(), Error> {
        let ends = Zoned::now().saturating_add(valid_for);
        self.note(&format!(
            "Registered with {host} as {subject:?}. Expires on {}",
            ends.strftime(DATE)
        ))
    }

    /// Notes that a server (`HOST:PORT`) set the ticket's mask of a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Local`].
    pub fn note_mask(&self, host: &str, directory: &str, rights: &str) -> Result<(), Error> {
        let what = format!("Set ACL Mask on {host} directory = '{directory}' mask = '{rights}'.");
        // Whatever the directory is called, a comment is one line.
        self.note(&what.replace(['\n', '\r'], " "))
    }

    fn note(&self, what: &str) -> Result<(), Error> {
        let line = format!("# {}: {what}\n", Zoned::now().strftime(DATE));
        let appended = || {
            let mut file = OpenOptions::new().append(true).open(&self.path)?;
            file.write_all(line.as_bytes())
        };
        appended().map_err(failed("note it in the ticket", &self.path))
    }
}

/// Dates in comments.
const DATE: &str = "%a %b %e %H:%M:%S %Y";

/// Returns the name of a ticket that is named either so, `ticket:DIGEST`, or by its file.
///
/// # Errors
///
/// As [`TicketFile::read`].
pub fn name_of(word: &str) -> Result<TicketName, Error> {
    match TicketName::parse(word.as_bytes()) {
        Some(name) => Ok(name),
        None => Ok(TicketFile::read(word)?.key.name),
    }
}

/// Which tickets a client offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Offered {
    /// The files that the environment lists in [`TICKETS_VARIABLE`]; without it those of the working
    /// directory that are named `ticket.` and 32 characters more.
    #[default]
    Found,
    /// These files, in this order.
    Files(Vec<PathBuf>),
}

impl Offered {
    /// Reads a list of files with commas between them.
    #[must_use]
    pub fn from_list(list: &std::ffi::OsStr) -> Self {
        let names = list.as_bytes().split(|&byte| byte == b',');
        let names = names.filter(|name| !name.is_empty());
        Self::Files(
            names
                .map(|name| std::ffi::OsStr::from_bytes(name).into())
                .collect(),
        )
    }

    /// Returns the keys; what cannot be read is none, as with the reference.
    pub(crate) fn keys(&self) -> Vec<TicketKey> {
        let files = match self {
            Self::Files(files) => files.clone(),
            Self::Found => match std::env::var_os(TICKETS_VARIABLE) {
                Some(list) => return Self::from_list(&list).keys(),
                None => in_directory(Path::new(".")),
            },
        };
        let read = files.into_iter().filter_map(|file| {
            TicketFile::read(file)
                .inspect_err(|error| tracing::debug!(%error, "passed over"))
                .ok()
        });
        read.map(|file| file.key).collect()
    }
}

/// Returns the ticket files of a directory in the order of their names.
fn in_directory(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let is_ticket = |name: &std::ffi::OsStr| {
        let digest = name.as_bytes().strip_prefix(b"ticket.");
        digest.is_some_and(|digest| digest.len() == 32)
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut names: Vec<_> = names.filter(|name| is_ticket(name)).collect();
    names.sort();
    names.into_iter().map(|name| directory.join(name)).collect()
}

/// Returns a generator that was seeded by the system.
fn random() -> Result<ChaCha20Rng, Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|error| Error::Local {
        doing: "get random numbers from",
        path: "the system".into(),
        source: io::Error::other(error),
    })?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Local {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Made by `openssl genrsa -traditional 1024`, for these tests only.
    const PKCS1: &str = include_str!("../tests/data/ticket.pkcs1");

    #[test]
    fn a_key_survives_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let key = TicketKey::generate(BITS_MIN.next_multiple_of(64)).unwrap();
        let (name, public) = (key.name(), key.public_pem().to_owned());
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        assert!(public.ends_with("-----END PUBLIC KEY-----\n"));
        let path = directory.path().join(key.file_name());
        let file = TicketFile::create(&path, key).unwrap();
        let day = Duration::from_secs(86_400);
        file.note_registered("h:1", "self", day).unwrap();
        file.note_mask("h:1", "/a\n-----BEGIN", "rl").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = TicketFile::read(&path).unwrap();
        assert_eq!(read.key().name(), name);
        assert_eq!(read.key().public_pem(), public);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Chirp Ticket\n# "), "{text}");
        let last = text.lines().last().unwrap();
        assert!(
            last.ends_with("directory = '/a -----BEGIN' mask = 'rl'."),
            "{last}"
        );
        assert_eq!(in_directory(directory.path()), std::slice::from_ref(&path));
        // Another key of that name would be lost.
        let other = TicketKey::generate(640).unwrap();
        assert!(TicketFile::create(&path, other).is_err());
        let word = format!("ticket:{}", name.digits());
        assert_eq!(name_of(&word).unwrap(), name);
        assert_eq!(name_of(path.to_str().unwrap()).unwrap(), name);
    }

    #[test]
    fn both_forms_of_pem_read_with_anything_around_them() {
        let key = TicketKey::from_pem(PKCS1).unwrap();
        assert_eq!(key.bits(), 1024);
        // What `openssl rsa -pubout | md5sum` says of it.
        assert_eq!(
            key.name().digits(),
            include_str!("../tests/data/ticket.md5").trim()
        );
        let around = format!("# a\n# comment\n{PKCS1}# more\n");
        assert_eq!(TicketKey::from_pem(&around).unwrap().name(), key.name());
        let words = format!("{key:?}");
        assert_eq!(words, format!("TicketKey({})", key.name().digits()));
        for bad in [
            "",
            "-----BEGIN PRIVATE KEY-----",
            &PKCS1.replace('A', "B"),
            &PKCS1[..500],
        ] {
            assert!(TicketKey::from_pem(bad).is_none(), "{bad}");
        }
        assert!(TicketKey::generate(512).is_err());
    }

    #[test]
    fn a_list_names_files() {
        let expected = Offered::Files(vec!["a".into(), "b c".into()]);
        assert_eq!(Offered::from_list("a,b c,".as_ref()), expected);
    }
}
