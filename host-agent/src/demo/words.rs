//! Word counts: how the host counts by itself, and how the guests' counts are merged.
//!
//! A word is a longest run of the letters A to Z of either case, taken in lower case, as the guests'
//! `tr -cs A-Za-z '\n' | tr A-Z a-z` has it. A table of counts is one line `COUNT WORD` for each word, in
//! order of the words' bytes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use super::input::InputFile;

/// The script that a guest runs: counts the words below `input` into `counts`.
///
/// The server's own files (`.__acl` in every directory) are no part of the input. Progress goes to standard error as `PERCENT%`, the table's SHA-256 to standard output. A file is followed
/// by a line's end, so that no word reaches from one file into the next.
pub(super) const SCRIPT: &str = r#"#!/bin/sh
set -eu
LC_ALL=C
export LC_ALL
find input -type f ! -name '.__*' | sort > files
total=$(wc -l < files)
n=0
told=0
while IFS= read -r file; do
    cat "$file" || echo "$file" >> failed
    echo
    n=$((n + 1))
    percent=$((n * 100 / total))
    if [ "$percent" -ge "$((told + 20))" ]; then
        told=$percent
        echo "$percent%" >&2
    fi
done < files \
    | tr -cs A-Za-z '\n' | tr A-Z a-z | sed '/^$/d' | sort | uniq -c | sed 's/^ *//' > counts.part
if [ -e failed ]; then
    echo "cannot read these files:" >&2
    cat failed >&2
    exit 1
fi
mv counts.part counts
sha256sum counts
"#;

/// Words and how often each occurs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(BTreeMap<Vec<u8>, u64>);

impl Counts {
    /// Counts the words of these files, on this host.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub(super) fn of_files(files: &[InputFile]) -> anyhow::Result<Self> {
        let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut word = Vec::new();
        for file in files {
            let unreadable = || format!("cannot read {}", file.path.display());
            let mut reader = File::open(&file.path).with_context(unreadable)?;
            loop {
                let n = reader.read(&mut buffer).with_context(unreadable)?;
                for &byte in buffer.iter().take(n) {
                    if byte.is_ascii_alphabetic() {
                        word.push(byte.to_ascii_lowercase());
                    } else {
                        count(&mut counts, &mut word);
                    }
                }
                if n == 0 {
                    break;
                }
            }
            count(&mut counts, &mut word);
        }
        Ok(Self(counts.into_iter().collect()))
    }

    /// Adds a guest's table.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line is not `COUNT WORD` in order.
    pub(super) fn add_table(&mut self, table: &Path) -> anyhow::Result<()> {
        let file = File::open(table).with_context(|| format!("cannot read {}", table.display()))?;
        let mut last: Vec<u8> = Vec::new();
        for (number, line) in BufReader::new(file).split(b'\n').enumerate() {
            let line = line.with_context(|| format!("cannot read {}", table.display()))?;
            let Some((n, word)) = parse(&line).filter(|(_, word)| *word > last.as_slice()) else {
                bail!(
                    "{}:{}: no line of a table of counts",
                    table.display(),
                    number + 1
                );
            };
            let sum = self.0.entry(word.to_vec()).or_default();
            *sum = sum.checked_add(n).context("a count does not fit")?;
            last = word.to_vec();
        }
        Ok(())
    }

    /// Returns the table.
    pub(super) fn table(&self) -> Vec<u8> {
        let mut table = Vec::new();
        for (word, n) in &self.0 {
            table.extend_from_slice(n.to_string().as_bytes());
            table.push(b' ');
            table.extend_from_slice(word);
            table.push(b'\n');
        }
        table
    }

    /// Returns how many words there are, and how many different ones.
    pub(super) fn totals(&self) -> (u64, usize) {
        (self.0.values().sum(), self.0.len())
    }
}

fn count(counts: &mut HashMap<Vec<u8>, u64>, word: &mut Vec<u8>) {
    if word.is_empty() {
        return;
    }
    match counts.get_mut(word.as_slice()) {
        Some(n) => *n += 1,
        None => drop(counts.insert(word.clone(), 1)),
    }
    word.clear();
}

fn parse(line: &[u8]) -> Option<(u64, &[u8])> {
    let at = line.iter().position(|&byte| byte == b' ')?;
    let (n, word) = line.split_at(at);
    let n = std::str::from_utf8(n).ok()?.parse().ok()?;
    let word = word.get(1..)?;
    (!word.is_empty() && word.iter().all(u8::is_ascii_lowercase)).then_some((n, word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn write(directory: &Path, name: &str, bytes: &[u8]) -> InputFile {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        InputFile {
            path,
            relative: name.into(),
            size: bytes.len() as u64,
        }
    }

    /// The script in a real shell and the host's own code agree, on bytes that are no text too.
    #[test]
    fn the_script_and_the_host_count_the_same() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("input")).unwrap();
        let all_bytes: Vec<u8> = (0..=255).collect();
        let files = [
            write(
                directory.path(),
                "input/a",
                b"The end of one file\nhas NO line end",
            ),
            write(
                directory.path(),
                "input/b b",
                b"the, other. begins the--same\n",
            ),
            write(directory.path(), "input/c", &all_bytes.repeat(50)),
            write(directory.path(), "input/empty", b""),
            write(
                directory.path(),
                "input/large",
                &b"one Two thr\xc3\xa9e ".repeat(20_000),
            ),
        ];
        let output = Command::new("sh")
            .args(["-c", SCRIPT])
            .current_dir(directory.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.ends_with("100%\n"), "{stderr}");
        let mut merged = Counts::default();
        merged.add_table(&directory.path().join("counts")).unwrap();
        let counted = Counts::of_files(&files).unwrap();
        assert_eq!(merged, counted);
        assert_eq!(
            merged.table(),
            std::fs::read(directory.path().join("counts")).unwrap()
        );
        assert!(
            counted
                .0
                .get(b"thr".as_slice())
                .is_some_and(|&n| n == 20_000)
        );
        assert!(!counted.0.contains_key(b"endthe".as_slice()));
    }

    #[test]
    fn tables_are_read_strictly() {
        let directory = tempfile::tempdir().unwrap();
        for bad in [
            "1 b\n1 a\n",
            "x a\n",
            "1 A\n",
            "1\n",
            "1  a\n",
            "-1 a\n",
            "1 a\n1 a\n",
            "\n",
        ] {
            let file = write(directory.path(), "t", bad.as_bytes());
            assert!(Counts::default().add_table(&file.path).is_err(), "{bad:?}");
        }
        let huge = write(
            directory.path(),
            "t",
            format!("{} a\n", u64::MAX).as_bytes(),
        );
        let mut counts = Counts::default();
        counts.add_table(&huge.path).unwrap();
        assert!(counts.add_table(&huge.path).is_err());
    }
}
