//! The INI dialect of Python's ConfigParser: a thin layer over the `configparser` crate.
//!
//! The crate reads `=` and `:`, `#` and `;` comment lines, continuation lines and keys without case. This
//! module adds what it lacks, `[DEFAULT]` values behind every section and `%(name)s`.

use std::collections::BTreeMap;

use configparser::ini::Ini;

/// How deep `%(name)s` may lead from value to value; Python's ConfigParser has the same figure.
const SUBSTITUTION_DEPTH: usize = 10;

/// Bytes that a value may grow to by substitution: a file must not double itself up to gigabytes.
const VALUE_MAX: usize = 64 * 1024;

/// The sections of a settings file as they stand there, names in lower case, nothing substituted yet.
#[derive(Debug, Default)]
pub(super) struct IniFile {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

/// The name of the section whose values stand behind every other section's.
pub(super) const DEFAULT_SECTION: &str = "default";

impl IniFile {
    /// Reads the text of a settings file.
    ///
    /// # Errors
    ///
    /// The parser's complaint, with the line, about a section without its bracket or an empty key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut ini = Ini::new();
        ini.set_multiline(true);
        // ConfigParser cuts a comment off only where it has a line of its own: a password may hold `#`.
        let mut defaults = ini.defaults();
        defaults.enable_inline_comments = false;
        ini.load_defaults(defaults);
        let sections = ini.read(text.to_owned())?;
        Ok(Self {
            sections: sections
                .into_iter()
                .map(|(section, keys)| {
                    let keys = keys
                        .into_iter()
                        .map(|(key, value)| (key, value.unwrap_or_default()));
                    (section.to_lowercase(), keys.collect())
                })
                .collect(),
        })
    }

    /// Returns every section and key that the file itself writes down, in alphabetic order.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sections
            .iter()
            .flat_map(|(section, keys)| keys.keys().map(|key| (section.as_str(), key.as_str())))
    }

    /// Returns whether the file has that section.
    pub(super) fn has_section(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// Returns the value of a key in that section, else in `[DEFAULT]`, with `%(name)s` substituted.
    ///
    /// # Errors
    ///
    /// What is wrong with a substitution.
    pub(super) fn get(&self, section: &str, key: &str) -> Result<Option<String>, String> {
        match self.raw(section, key) {
            None => Ok(None),
            Some(value) => self.substitute(section, value, 0).map(Some),
        }
    }

    fn raw(&self, section: &str, key: &str) -> Option<&str> {
        [section, DEFAULT_SECTION]
            .into_iter()
            .find_map(|section| self.sections.get(section)?.get(key))
            .map(String::as_str)
    }

    fn substitute(&self, section: &str, value: &str, depth: usize) -> Result<String, String> {
        if depth > SUBSTITUTION_DEPTH {
            return Err(format!(
                "%(name)s leads through more than {SUBSTITUTION_DEPTH} values"
            ));
        }
        let mut out = String::with_capacity(value.len());
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('%') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                out.push('%');
                rest = after;
            } else if let Some((name, after)) =
                after.strip_prefix('(').and_then(|a| a.split_once(")s"))
            {
                let named = self
                    .raw(section, &name.trim().to_lowercase())
                    .ok_or_else(|| format!("%({name})s names a key that is not there"))?;
                out.push_str(&self.substitute(section, named, depth + 1)?);
                rest = after;
            } else {
                return Err("a % must be followed by % or by (name)s".to_owned());
            }
            if out.len() > VALUE_MAX {
                return Err(format!(
                    "the value grows beyond {VALUE_MAX} bytes by substitution"
                ));
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, section: &str, key: &str) -> Result<Option<String>, String> {
        IniFile::parse(text).unwrap().get(section, key)
    }

    #[test]
    fn the_dialect_is_python_s() {
        let text = "\
# comment
; comment
[Broker]
Host = one
port: 61614
password = a#b;c
empty =
bare
long = first
   second

   third
next = n
[Host]
vm_gc_grace=5
";
        for (section, key, want) in [
            ("broker", "host", Some("one")),
            ("broker", "port", Some("61614")),
            ("broker", "password", Some("a#b;c")),
            ("broker", "empty", Some("")),
            ("broker", "bare", Some("")),
            ("broker", "long", Some("first\nsecond\n\nthird")),
            ("broker", "next", Some("n")),
            ("host", "vm_gc_grace", Some("5")),
            ("host", "host", None),
        ] {
            assert_eq!(
                value(text, section, key).unwrap().as_deref(),
                want,
                "{section}.{key}"
            );
        }
    }

    #[test]
    fn default_stands_behind_every_section() {
        let text = "[DEFAULT]\nport = 1\n[Broker]\n[Host]\nport = 2\n";
        assert_eq!(value(text, "broker", "port").unwrap().as_deref(), Some("1"));
        assert_eq!(value(text, "host", "port").unwrap().as_deref(), Some("2"));
    }

    #[test]
    fn names_are_substituted() {
        let text = "[DEFAULT]\nnet = 192.168.56\n[Broker]\nhost = %(Net)s.1\nurl = %(host)s:%(port)s\nport = 5\np = 100%%\n";
        for (key, want) in [
            ("host", "192.168.56.1"),
            ("url", "192.168.56.1:5"),
            ("p", "100%"),
        ] {
            assert_eq!(
                value(text, "broker", key).unwrap().as_deref(),
                Some(want),
                "{key}"
            );
        }
    }

    #[test]
    fn bad_substitutions_are_errors() {
        for bad in ["%(nobody)s", "50%", "%(a", "%x", "%(a)d", "%(a)s"] {
            let text = format!("[Broker]\na = {bad}\n");
            assert!(value(&text, "broker", "a").is_err(), "{bad}");
        }
    }

    #[test]
    fn substitution_does_not_explode() {
        let mut text = "[b]\na0 = 0123456789abcdef\n".to_owned();
        for n in 1..10 {
            let wide = format!("%(a{})s", n - 1).repeat(16);
            text.push_str(&format!("a{n} = {wide}\n"));
        }
        assert!(value(&text, "b", "a9").unwrap_err().contains("grows"));
    }

    #[test]
    fn broken_files_are_errors() {
        for bad in ["[Broker\n", "[a]\n= 1\n"] {
            assert!(IniFile::parse(bad).is_err(), "{bad:?}");
        }
    }
}
