//! The login of HTCondor's clients: a secret in a file (`chirp-protocol.md`, part 2.9).
//!
//! Whoever can read the file can already act as the server's account, which alone may read it; so the
//! login is that of the account, `unix:USER`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use chirp_proto::{Method, Subject};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::Uid;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How long a wrong cookie keeps its sender waiting, and nobody else.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Bytes that a cookie file may have.
const FILE_MAX: u64 = 4096;

/// Bytes below which a cookie is easily guessed.
const SHORT: usize = 16;

/// The file of `--cookie-file`, open but not read yet.
///
/// It is opened before the server becomes an ordinary user, so that it may be root's own.
#[derive(Debug)]
pub struct CookieFile {
    path: PathBuf,
    file: File,
}

impl CookieFile {
    /// Opens the file.
    ///
    /// # Errors
    ///
    /// The system's, with the file's name.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let named = || {
            format!(
                "cannot open the cookie file {} (--cookie-file)",
                path.display()
            )
        };
        let path = path.canonicalize().with_context(named)?;
        // Without O_NONBLOCK a FIFO would keep the server from starting.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, &path, flags, Mode::empty()).with_context(named)?;
        Ok(Self {
            path,
            file: file.into(),
        })
    }

    /// Reads the cookie: the file's only line, or the last word of it where the line is the
    /// `HOST PORT COOKIE` of a client's configuration.
    ///
    /// # Errors
    ///
    /// If others than `account` could know it: the file is not the account's own (or root's), is open
    /// to others, has a second name, or lies in the exported directory `root`. If it is no such line.
    pub fn read(self, account: Uid, root: &Path) -> anyhow::Result<Cookie> {
        let shown = self.path.display();
        let stat = rustix::fs::fstat(&self.file)
            .with_context(|| format!("cannot examine the cookie file {shown}"))?;
        ensure!(
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            "the cookie file {shown} (--cookie-file) is not a regular file; name one"
        );
        ensure!(
            stat.st_uid == account.as_raw() || stat.st_uid == 0,
            "the cookie file {shown} belongs to user {}, who could change it; make user {} its owner",
            stat.st_uid,
            account.as_raw()
        );
        ensure!(
            stat.st_mode & 0o077 == 0,
            "the cookie file {shown} is open to others (mode {:03o}); close it with: chmod 600 {shown}",
            stat.st_mode & 0o777
        );
        ensure!(
            stat.st_nlink == 1 && !self.path.starts_with(root),
            "the cookie file {shown} may be reached through the exported directory {}, where clients \
             could read it; keep it elsewhere, under one name",
            root.display()
        );
        let mut text = Vec::new();
        self.file
            .take(FILE_MAX + 1)
            .read_to_end(&mut text)
            .with_context(|| format!("cannot read the cookie file {}", self.path.display()))?;
        let shown = self.path.display();
        ensure!(
            text.len() as u64 <= FILE_MAX,
            "the cookie file {shown} is longer than {FILE_MAX} bytes; it should be one line"
        );
        let cookie = only_cookie(&text).with_context(|| {
            format!(
                "the cookie file {shown} does not hold one line with a cookie, or HOST PORT COOKIE, \
                 of printable ASCII without backslashes; make one with: \
                 (umask 077; openssl rand -hex 32 > {shown})"
            )
        })?;
        if cookie.len() < SHORT {
            tracing::warn!(
                file = %shown,
                "the cookie is shorter than {SHORT} characters and may be guessed"
            );
        }
        Ok(Cookie(Sha256::digest(cookie).into()))
    }
}

/// Finds the cookie in the content of a file.
fn only_cookie(text: &[u8]) -> Option<&[u8]> {
    let line = text.trim_ascii();
    if memchr::memchr(b'\n', line).is_some() {
        return None;
    }
    let words: Vec<&[u8]> = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .collect();
    let ([cookie] | [_, _, cookie]) = words[..] else {
        return None;
    };
    // Clients differ in whether they escape it, which makes a difference for none of these.
    let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'\\';
    cookie.iter().all(plain).then_some(cookie)
}

/// What a client has to know. Only its digest is kept.
pub struct Cookie([u8; 32]);

impl Cookie {
    /// Reports whether a client knows the cookie. The time this takes depends on the length of the
    /// guess only: digests are compared, all of them.
    #[must_use]
    pub fn matches(&self, guess: &[u8]) -> bool {
        let guess: [u8; 32] = Sha256::digest(guess).into();
        self.0.ct_eq(&guess).into()
    }
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie")
    }
}

/// What logins by cookie need to know.
#[derive(Debug)]
pub struct CookieLogin {
    /// The cookie.
    pub cookie: Cookie,
    /// Who logs in with it.
    pub subject: Subject,
}

impl CookieLogin {
    /// Makes the login of a server's account.
    #[must_use]
    pub fn new(cookie: Cookie, account: &str) -> Self {
        Self {
            cookie,
            subject: Subject::new(Method::Unix, account.as_bytes()),
        }
    }
}

/// Returns the guess in a line `cookie TEXT`; `None` for any other line.
pub(super) fn guess(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"cookie")?;
    let mut words = rest.split(|byte| matches!(byte, b' ' | b'\t'));
    if !words.next()?.is_empty() {
        return None;
    }
    Some(words.find(|word| !word.is_empty()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_the_only_or_the_third_word_of_one_line() {
        for (text, expected) in [
            ("secret\n", Some("secret")),
            ("secret", Some("secret")),
            ("10.0.2.2 9094 secret\r\n", Some("secret")),
            ("", None),
            ("\n", None),
            ("two words\n", None),
            ("a b c d\n", None),
            ("one\ntwo\n", None),
            ("caf\u{e9}\n", None),
            ("back\\slash\n", None),
        ] {
            let found = only_cookie(text.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{text:?}");
        }
    }

    #[test]
    fn a_guess_is_the_word_behind_the_verb() {
        assert_eq!(guess(b"cookie abc"), Some(&b"abc"[..]));
        assert_eq!(guess(b"cookie \t abc x"), Some(&b"abc"[..]));
        assert_eq!(guess(b"cookie"), Some(&b""[..]));
        assert_eq!(guess(b"cookie "), Some(&b""[..]));
        for line in [&b"cookies abc"[..], b" cookie abc", b"COOKIE abc", b""] {
            assert_eq!(guess(line), None);
        }
    }

    #[test]
    fn only_the_whole_cookie_matches() {
        let cookie = Cookie(Sha256::digest(b"abc").into());
        assert!(cookie.matches(b"abc"));
        for guess in [&b""[..], b"ab", b"abcd", b"abd", b"ABC"] {
            assert!(!cookie.matches(guess));
        }
        assert_eq!(format!("{cookie:?}"), "Cookie");
    }
}
