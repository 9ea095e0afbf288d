//! The only place that writes to standard output and standard error.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

/// Bytes of an unfinished line that are kept; a longer one is written in parts, each as a line.
const LINE_MAX: usize = 64 * 1024;

/// One of the two standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    /// Standard output: results.
    Out,
    /// Standard error: everything else.
    Err,
}

/// Writes one line to standard output.
///
/// # Errors
///
/// The stream's own, a reader that went away among them: see [`is_broken_pipe`].
pub(crate) fn result(line: &str) -> io::Result<()> {
    write(Stream::Out, format!("{line}\n").as_bytes())
}

/// Writes one line to standard error. Nobody can be told if that fails.
pub(crate) fn note(line: &str) {
    let _ = write(Stream::Err, format!("{line}\n").as_bytes());
}

/// Writes bytes at once and lets nothing of them wait.
pub(crate) fn write(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Out => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        Stream::Err => io::stderr().lock().write_all(bytes),
    }
}

/// Returns whether standard output's reader went away, as `head` does: no failure of ours.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Puts the output of several guests into whole lines, each with its guest's label before it.
#[derive(Debug)]
pub(crate) struct Prefixed<K> {
    unfinished: BTreeMap<(K, Stream), Vec<u8>>,
}

impl<K: Ord + Copy> Prefixed<K> {
    /// Returns one that has heard nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            unfinished: BTreeMap::new(),
        }
    }

    /// Takes bytes of one guest's stream and returns the lines that are whole now.
    pub(crate) fn take(&mut self, guest: K, stream: Stream, label: &str, data: &[u8]) -> Vec<u8> {
        let unfinished = self.unfinished.entry((guest, stream)).or_default();
        let mut lines = Vec::new();
        for part in data.split_inclusive(|&byte| byte == b'\n') {
            for piece in part.chunks(LINE_MAX) {
                unfinished.extend_from_slice(piece);
                if unfinished.ends_with(b"\n") {
                    emit(&mut lines, label, unfinished);
                } else if unfinished.len() >= LINE_MAX {
                    unfinished.push(b'\n');
                    emit(&mut lines, label, unfinished);
                }
            }
        }
        lines
    }

    /// Returns what a guest left without a line's end, as a line.
    pub(crate) fn finish(&mut self, guest: K, stream: Stream, label: &str) -> Vec<u8> {
        let mut lines = Vec::new();
        if let Some(mut rest) = self.unfinished.remove(&(guest, stream))
            && !rest.is_empty()
        {
            rest.push(b'\n');
            emit(&mut lines, label, &mut rest);
        }
        lines
    }
}

fn emit(lines: &mut Vec<u8>, label: &str, line: &mut Vec<u8>) {
    lines.extend_from_slice(label.as_bytes());
    lines.extend_from_slice(b": ");
    lines.append(line);
}

/// Lays out rows in columns, the first row being the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:<width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_labelled() {
        let mut prefixed = Prefixed::new();
        assert_eq!(prefixed.take(1, Stream::Out, "a", b"one\ntw"), b"a: one\n");
        assert_eq!(prefixed.take(2, Stream::Out, "b", b"x\n"), b"b: x\n");
        assert_eq!(prefixed.take(1, Stream::Err, "a", b"e\n"), b"a: e\n");
        assert_eq!(
            prefixed.take(1, Stream::Out, "a", b"o\n\nz"),
            b"a: two\na: \n"
        );
        assert_eq!(prefixed.finish(1, Stream::Out, "a"), b"a: z\n");
        assert_eq!(prefixed.finish(1, Stream::Out, "a"), b"");
        assert_eq!(prefixed.finish(2, Stream::Out, "b"), b"");
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut prefixed = Prefixed::new();
        let lines = prefixed.take(1, Stream::Out, "a", &vec![b'x'; 3 * LINE_MAX + 5]);
        assert_eq!(lines.iter().filter(|&&byte| byte == b'\n').count(), 3);
        assert_eq!(prefixed.finish(1, Stream::Out, "a"), b"a: xxxxx\n");
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["NAME".to_owned(), "X".to_owned()],
            vec!["é".to_owned(), "y".to_owned()],
        ];
        assert_eq!(table(&rows), "NAME  X\né     y");
    }
}
