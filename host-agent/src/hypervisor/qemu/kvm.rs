//! Whether KVM boots a machine on this host. That its device is there, and opens, proves nothing: where KVM is
//! itself emulated a guest's kernel takes minutes, or dies. So one is booted, as a machine's would be, without a
//! file system: it gets as far as looking for one, or it does not.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::process::last_words;
use crate::hypervisor::tool::Tool;
use crate::hypervisor::{Error, Finding};

/// Where the kernel offers KVM.
const KVM: &str = "/dev/kvm";

/// How long a kernel may take: with a processor of silicon it takes a second.
const LIMIT: Duration = Duration::from_secs(10);

/// What ends the probe's QEMU should this process be killed meanwhile.
const AT_MOST: &str = "--signal=KILL 20";

/// What a kernel says when it has come up and there is no file system for it.
const UP: &str = "Unable to mount root fs";

/// What to do where KVM does not boot a machine.
pub(super) const REMEDY: &str = "set Hypervisor.accel = tcg, which is slower and works everywhere";

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A kernel came up in this time.
    Boots(Duration),
    /// None did, for this reason.
    Fails(String),
}

impl Verdict {
    /// Returns what is to be said of it where KVM is what machines are to use, or where it only could be.
    pub(super) fn finding(&self, wanted: bool) -> Finding {
        match self {
            Self::Boots(took) => {
                let advice = if wanted {
                    ""
                } else {
                    "; Hypervisor.accel = kvm would make machines faster"
                };
                Finding::good(format!(
                    "KVM: a kernel came up in {:.1} s{advice}",
                    took.as_secs_f64()
                ))
            }
            Self::Fails(why) if wanted => Finding::bad(format!("KVM: {why}"), REMEDY),
            Self::Fails(why) => {
                Finding::good(format!("KVM: {why}; machines run without it (accel = tcg)"))
            }
        }
    }
}

/// Returns a kernel to try KVM with: that of a machine, else the host's own where this user may read it.
pub(super) fn kernel(machines: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let release = rustix::system::uname();
    let own = format!("/boot/vmlinuz-{}", release.release().to_string_lossy());
    machines
        .into_iter()
        .chain([PathBuf::from(own)])
        .find(|kernel| std::fs::File::open(kernel).is_ok())
}

/// Boots a kernel with KVM, and ends it again.
///
/// # Errors
///
/// QEMU is not there.
pub(super) async fn probe(qemu: &Tool, kernel: &Path) -> Result<Verdict, Error> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(KVM) {
        let why = match error.kind() {
            io::ErrorKind::NotFound => format!("there is no {KVM} on this host"),
            io::ErrorKind::PermissionDenied => {
                format!("{KVM} is not this user's to open (often: as root, usermod -aG kvm USER)")
            }
            _ => format!("{KVM}: {error}"),
        };
        return Ok(Verdict::Fails(why));
    }
    booted(qemu, kernel).await
}

/// Boots a kernel.
async fn booted(qemu: &Tool, kernel: &Path) -> Result<Verdict, Error> {
    let failed = |error: io::Error| Error::Failed {
        what: "trying KVM".to_owned(),
        said: error.to_string(),
    };
    let directory = tempfile::tempdir().map_err(failed)?;
    let console = directory.path().join("console");
    let guarded = Tool::new("timeout", None, "install coreutils")
        .with(AT_MOST.split(' '))
        .with([qemu.program()]);
    let began = Instant::now();
    match guarded.run(arguments(kernel, &console), LIMIT).await {
        // What `timeout` says of a program that is not there.
        Ok(output) if matches!(output.code, 126 | 127) => Err(Error::ToolMissing {
            tool: qemu.program().display().to_string(),
            reason: output.said(),
            remedy: super::REMEDY.to_owned(),
        }),
        Ok(output) if output.code != 0 => Ok(Verdict::Fails(format!(
            "QEMU cannot use it: {}",
            output.said()
        ))),
        Ok(_) => {
            let said = last_words(&console);
            Ok(if said.contains(UP) {
                Verdict::Boots(began.elapsed())
            } else {
                Verdict::Fails(format!("a kernel died: {}", end_of(&said)))
            })
        }
        Err(Error::TimedOut { limit, .. }) => Ok(Verdict::Fails(format!(
            "a kernel had not come up after {} s; {}",
            limit.as_secs(),
            end_of(&last_words(&console))
        ))),
        Err(error) => Err(error),
    }
}

/// Returns the arguments of a QEMU that boots a kernel without a file system, and ends with it.
fn arguments(kernel: &Path, console: &Path) -> Vec<OsString> {
    let mut serial = OsString::from("file:");
    serial.push(console);
    let mut line: Vec<OsString> = "-accel kvm -machine pc -cpu host -m 256M -nodefaults -no-user-config \
         -display none -no-reboot -sandbox on,obsolete=deny,resourcecontrol=deny,elevateprivileges=deny,spawn=deny"
        .split_whitespace()
        .map(OsString::from)
        .collect();
    line.extend([
        "-serial".into(),
        serial,
        "-kernel".into(),
        kernel.into(),
        "-append".into(),
        "console=ttyS0 earlyprintk=ttyS0 panic=-1 root=none".into(),
    ]);
    line
}

/// Returns what a console said last.
fn end_of(said: &str) -> String {
    match said.rsplit("; ").next().map(str::trim) {
        None | Some("") => "it said nothing".to_owned(),
        Some(last) => format!("it last said {last:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Returns what is made of a QEMU that does as this script says, with the console's file in `$console`.
    async fn verdict_of(script: &str) -> Verdict {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("qemu");
        let text = format!(
            "#!/bin/sh\nfor word; do case $word in file:*) console=${{word#file:}};; esac; done\n{script}\n"
        );
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let qemu = Tool::new("qemu", Some(directory.path()), "");
        booted(&qemu, Path::new("/kernel")).await.unwrap()
    }

    #[tokio::test]
    async fn only_a_kernel_that_came_up_is_one() {
        let panic = "VFS: Unable to mount root fs on unknown-block(0,0)";
        let up = verdict_of(&format!("echo '[ 1.0] {panic}' >$console")).await;
        assert!(matches!(up, Verdict::Boots(_)), "{up:?}");
        for (script, word) in [
            ("echo Decompressing >$console", "\"Decompressing\""),
            ("", "it said nothing"),
            ("echo no MSR >&2; exit 1", "no MSR"),
            ("kill -ABRT $$", "exit code 134"),
        ] {
            match verdict_of(script).await {
                Verdict::Fails(why) => assert!(why.contains(word), "{script}: {why}"),
                other => panic!("{script}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_fails_is_wrong_only_where_it_is_wanted() {
        let fails = Verdict::Fails("no".to_owned());
        assert!(fails.finding(false).ok);
        let wanted = fails.finding(true);
        assert!(
            !wanted.ok && wanted.remedy.contains("accel = tcg"),
            "{wanted:?}"
        );
        let boots = Verdict::Boots(Duration::from_millis(1250));
        assert!(boots.finding(true).ok);
        assert!(boots.finding(false).what.contains("accel = kvm"));
    }
}
