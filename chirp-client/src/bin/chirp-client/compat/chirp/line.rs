//! What a line says: commands between `;`, words between blanks, quotes and backslashes.

/// Splits a line into commands, and those into words.
///
/// `'` and `"` quote alike; a backslash takes the next byte as it is, also between quotes. A quote that
/// nobody closes ends with the line. Unlike in the reference, where a `;` between quotes separates
/// commands and leaves both halves wrong, quotes protect it.
pub(super) fn commands(line: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut commands = Vec::new();
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\\', _) => {
                let word = word.get_or_insert_default();
                word.extend(bytes.next());
            }
            (_, Some(open)) if byte == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(byte),
            (b'\'' | b'"', None) => {
                quote = Some(byte);
                // An empty word can be meant, as in `xattr_set F A ''`.
                word.get_or_insert_default();
            }
            (b';', None) => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            (b' ' | b'\t' | b'\r' | b'\n', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands
}

/// A line as far as it is typed: the words of its last command, and the word at its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// The words before the last.
    pub(super) before: Vec<String>,
    /// The last word, which may be empty.
    pub(super) word: String,
    /// The byte of the line at which the last word begins, with its quotes.
    pub(super) start: usize,
}

/// Takes a line apart whose last word is being typed.
pub(super) fn unfinished(line: &str) -> Unfinished {
    let text = |word: Vec<u8>| String::from_utf8_lossy(&word).into_owned();
    // A mark behind the line keeps an empty last word, and goes again.
    let mut words = commands(format!("{line}x").as_bytes())
        .pop()
        .unwrap_or_default();
    let mut word = text(words.pop().unwrap_or_default());
    word.pop();
    let before: Vec<String> = words.into_iter().map(text).collect();
    let start = start_of_last_word(line);
    Unfinished {
        before,
        word,
        start,
    }
}

fn start_of_last_word(line: &str) -> usize {
    let (mut start, mut quote, mut escaped) = (0, None, false);
    for (at, c) in line.char_indices() {
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            (_, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            (' ' | '\t' | ';', None) => start = at + 1,
            _ => {}
        }
    }
    start
}

/// Writes a word so that it is read as it is.
pub(super) fn quoted(word: &str) -> String {
    let mut text = String::with_capacity(word.len());
    for c in word.chars() {
        if matches!(c, ' ' | '\t' | ';' | '\'' | '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Reports whether a line says nothing at all: it is blank, or a comment.
pub(super) fn is_comment(line: &[u8]) -> bool {
    let text = line.trim_ascii();
    text.is_empty() || text.starts_with(b"#")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<Vec<String>> {
        let text = |word: Vec<u8>| String::from_utf8(word).unwrap();
        let command = |words: Vec<Vec<u8>>| words.into_iter().map(text).collect();
        commands(line.as_bytes()).into_iter().map(command).collect()
    }

    #[test]
    fn lines_are_split_as_the_reference_splits_them() {
        for (line, expected) in [
            ("", vec![]),
            (" ;; ", vec![]),
            ("ls", vec![vec!["ls"]]),
            ("  ls\t -l  / ", vec![vec!["ls", "-l", "/"]]),
            (
                "cd /p; ls ;pwd;",
                vec![vec!["cd", "/p"], vec!["ls"], vec!["pwd"]],
            ),
            (r"mkdir a\;b", vec![vec!["mkdir", "a;b"]]),
            (r#"mkdir "a b"c\ d"#, vec![vec!["mkdir", "a bc d"]]),
            (r#"mkdir a"b c"d"#, vec![vec!["mkdir", "ab cd"]]),
            (r"mkdir 'a\b'", vec![vec!["mkdir", "ab"]]),
            (r"mkdir \\", vec![vec!["mkdir", r"\"]]),
            (
                r#"mkdir "unterminated"#,
                vec![vec!["mkdir", "unterminated"]],
            ),
            (r#"put '' "" x"#, vec![vec!["put", "", "", "x"]]),
            ("whoami # hi", vec![vec!["whoami", "#", "hi"]]),
            // Ours alone.
            (r#"mkdir "a;b""#, vec![vec!["mkdir", "a;b"]]),
        ] {
            assert_eq!(split(line), expected, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_being_typed_shows_its_last_word() {
        for (line, before, word, start) in [
            ("", vec![], "", 0),
            ("l", vec![], "l", 0),
            ("ls ", vec!["ls"], "", 3),
            ("pwd; ls -l /a", vec!["ls", "-l"], "/a", 11),
            (r"put a\ b", vec!["put"], "a b", 4),
            (r#"put "a b"#, vec!["put"], "a b", 4),
            ("ls;", vec![], "", 3),
            ("cat é", vec!["cat"], "é", 4),
        ] {
            let unfinished = unfinished(line);
            assert_eq!(unfinished.before, before, "{line}");
            assert_eq!((unfinished.word.as_str(), unfinished.start), (word, start));
        }
        let odd = r#"a b;c'd"e\f"#;
        assert_eq!(split(&quoted(odd)), [[odd]]);
    }

    #[test]
    fn comments_and_blank_lines_say_nothing() {
        for line in ["", "  ", "# x", "\t# x", "\n"] {
            assert!(is_comment(line.as_bytes()), "{line:?}");
        }
        assert!(!is_comment(b"ls # x") && !is_comment(b";"));
    }
}
