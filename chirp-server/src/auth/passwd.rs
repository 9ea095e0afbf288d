//! Login names from a file in the format of passwd(5) (`-W`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Bytes of the file that are read at most: tens of thousands of accounts.
const FILE_MAX: u64 = 16 << 20;

/// Returns the name that the first line with this uid gives it. Lines that are no entries are passed over.
pub(super) fn login(path: &Path, uid: u32) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?.take(FILE_MAX);
    for line in BufReader::new(file).split(b'\n') {
        if let Some(name) = name_of(&line?, uid) {
            return Ok(Some(name.to_vec()));
        }
    }
    Ok(None)
}

fn name_of(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|&byte| byte == b':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with(b"#"))?;
    let number = std::str::from_utf8(fields.nth(1)?).ok()?;
    (number.parse() == Ok(uid)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_of_the_uid_counts() {
        let line = |line: &str| name_of(line.as_bytes(), 7).map(<[u8]>::to_vec);
        assert_eq!(
            line("alice:x:7:7:Alice:/home/alice:/bin/sh"),
            Some(b"alice".to_vec())
        );
        assert_eq!(line("alice:x:7"), Some(b"alice".to_vec()));
        for other in [
            "alice:x:77:7",
            "",
            "alice",
            ":x:7:7",
            "# x:7:7",
            "a:7",
            "a:x:07x",
        ] {
            assert_eq!(line(other), None, "{other}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xff\n\nbob:*:7:1\ncarol:*:7:1\ndave:*:8:1").unwrap();
        assert_eq!(login(file.path(), 7).unwrap(), Some(b"bob".to_vec()));
        assert_eq!(login(file.path(), 8).unwrap(), Some(b"dave".to_vec()));
        assert_eq!(login(file.path(), 9).unwrap(), None);
    }
}
