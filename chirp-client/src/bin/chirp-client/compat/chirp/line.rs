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
    fn comments_and_blank_lines_say_nothing() {
        for line in ["", "  ", "# x", "\t# x", "\n"] {
            assert!(is_comment(line.as_bytes()), "{line:?}");
        }
        assert!(!is_comment(b"ls # x") && !is_comment(b";"));
    }
}
