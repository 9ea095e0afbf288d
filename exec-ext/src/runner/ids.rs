//! Ids that are never used again for one transient directory.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::blocking::patiently;

/// How many ids one write of the file reserves. A restart skips what is left of them.
const BLOCK: u64 = 1024;

/// The longest content of the counter's file that is read: a decimal number and a newline.
const FILE_MAX: u64 = 32;

/// A counter whose upper bound is on disk before any id below it is given out.
#[derive(Debug)]
pub(super) struct Ids {
    file: PathBuf,
    next: u64,
    reserved: u64,
}

impl Ids {
    /// Continues the counter of `directory`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or does not hold a number: ids could then be given twice.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let file = directory.join("exec-ids");
        let next = match File::open(&file) {
            Ok(open) => {
                let mut text = String::new();
                open.take(FILE_MAX).read_to_string(&mut text)?;
                text.trim_end().parse().map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "{} does not hold a number; write one above every execution id given \
                             out so far",
                            file.display()
                        ),
                    )
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error),
        };
        Ok(Self {
            file,
            next,
            reserved: next,
        })
    }

    /// Gives out an id.
    ///
    /// # Errors
    ///
    /// The next block could not be written down.
    pub(super) fn next(&mut self) -> io::Result<u64> {
        if self.next >= self.reserved {
            let reserved = self.next.saturating_add(BLOCK);
            patiently(|| self.write(reserved))?;
            self.reserved = reserved;
        }
        let id = self.next;
        self.next += 1;
        Ok(id)
    }

    /// Replaces the file in one step, so that it always holds a whole number.
    fn write(&self, reserved: u64) -> io::Result<()> {
        let new = self.file.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{reserved}")?;
        file.sync_data()?;
        fs::rename(&new, &self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn ids_are_not_used_again_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = Ids::open(directory.path()).unwrap();
        let given: Vec<u64> = (0..1500).map(|_| first.next().unwrap()).collect();
        assert_eq!(given[0], 1);
        assert!(given.windows(2).all(|pair| pair[0] < pair[1]));
        let mut second = Ids::open(directory.path()).unwrap();
        assert!(second.next().unwrap() > given[1499]);
    }

    #[test]
    fn a_damaged_counter_is_an_error_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("exec-ids"), "many\n").unwrap();
        let error = Ids::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("write one above"));
    }
}
