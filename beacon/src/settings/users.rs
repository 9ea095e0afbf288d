//! Who may connect to the embedded broker: lines `ROLE LOGIN PASSCODE`, in the settings or in a file of their own.

use super::{FILE_MAX, Settings, SettingsError};
use crate::broker::{Role, User};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Reads `users` and `users_file` of that section.
///
/// # Errors
///
/// A line is none of a user, a login stands twice, or the file cannot be read or is not the owner's alone.
pub fn users(settings: &Settings, section: &str) -> Result<Vec<User>, SettingsError> {
    let mut users = Vec::new();
    if let Some(lines) = settings.text(section, "users")? {
        read(&lines, &format!("{section}.users"), &mut users)?;
    }
    if let Some(path) = settings.text(section, "users_file")? {
        let key = format!("{section}.users_file");
        let lines = of_file(Path::new(&path))
            .map_err(|reason| SettingsError::value(&key, &path, &reason))?;
        read(&lines, &key, &mut users)?;
    }
    Ok(users)
}

/// Reads lines. No error holds one: there is a passcode in it.
fn read(lines: &str, key: &str, users: &mut Vec<User>) -> Result<(), SettingsError> {
    for (number, line) in (1..).zip(lines.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |reason: &str| SettingsError::value(key, &format!("line {number}"), reason);
        let user = user(line)
            .ok_or_else(|| wrong("not ROLE LOGIN PASSCODE with the role guest or agent"))?;
        if users.iter().any(|other| other.name == user.name) {
            return Err(wrong(&format!(
                "the login {:?} stands there twice",
                user.name
            )));
        }
        users.push(user);
    }
    Ok(())
}

fn user(line: &str) -> Option<User> {
    let (role, rest) = line.split_once(char::is_whitespace)?;
    let (name, passcode) = rest.trim_start().split_once(char::is_whitespace)?;
    let role = match role {
        "guest" => Role::Guest,
        "agent" => Role::Agent,
        _ => return None,
    };
    Some(User {
        name: name.to_owned(),
        passcode: passcode.trim_start().to_owned(),
        role,
    })
}

fn of_file(path: &Path) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
    // Without O_NONBLOCK a FIFO would keep the program from starting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| failed(&error))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(&error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("not a regular file".to_owned());
    }
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own && stat.st_uid != 0 {
        return Err(format!(
            "belongs to user {}, who could change it",
            stat.st_uid
        ));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(format!(
            "open to others (mode {:03o}); close it: chmod 600",
            stat.st_mode & 0o777
        ));
    }
    let mut text = String::new();
    let read = File::from(file)
        .take(FILE_MAX + 1)
        .read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 > FILE_MAX => Err(format!("longer than {FILE_MAX} bytes")),
        Ok(_) => Ok(text),
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Side;

    fn of(text: &str) -> Result<Vec<User>, SettingsError> {
        let settings = Settings::from_text(Side::Host, None, text, |_| None).unwrap();
        users(&settings, "EmbeddedBroker")
    }

    #[test]
    fn users_stand_in_the_settings_one_a_line() {
        let found = of(
            "[EmbeddedBroker]\nusers =\n  guest vm  a secret: of words 100%%\n  agent watch p\n",
        )
        .unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|user| (&*user.name, &*user.passcode, user.role))
            .collect();
        assert_eq!(
            shown,
            [
                ("vm", "a secret: of words 100%", Role::Guest),
                ("watch", "p", Role::Agent)
            ]
        );
        assert_eq!(of("").unwrap(), []);
    }

    #[test]
    fn wrong_lines_are_told_by_number_and_never_shown() {
        for (lines, words) in [
            ("guest vm", "line 1"),
            ("guest vm s3cret\n  root vm2 s3cret", "line 2"),
            ("guest vm s3cret\n  agent vm s3cret", "twice"),
        ] {
            let error = of(&format!("[EmbeddedBroker]\nusers = {lines}\n")).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(words) && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_of_users_is_its_owner_s_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        std::fs::write(&path, "# comment\n\nguest vm s3cret\n").unwrap();
        let text = format!("[EmbeddedBroker]\nusers_file = {}\n", path.display());
        let with = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            of(&text)
        };
        assert_eq!(with(0o600).unwrap().len(), 1);
        let error = with(0o640).unwrap_err().to_string();
        assert!(
            error.contains("chmod 600") && error.contains("users_file"),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(
            of(&text)
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
    }
}
