//! Status objects as the reference writes them (part 9.4): its order of keys, no white space,
//! `\/`, and bytes above ASCII as they are.

use super::description::File;
use super::job::{Exit, Job};

/// Appends the status of a job.
pub(super) fn status(job: &Job, out: &mut Vec<u8>) {
    out.push(b'{');
    fields(job, out);
    out.push(b'}');
}

/// Returns how long the status of a job is.
pub(super) fn length(job: &Job) -> usize {
    let mut text = Vec::new();
    status(job, &mut text);
    text.len()
}

/// Appends the keys and values of a status, without braces around them.
pub(super) fn fields(job: &Job, out: &mut Vec<u8>) {
    let (times, description) = (&job.times, &job.description);
    let (code, status, signal) = match job.exit {
        None => (None, None, None),
        Some(Exit::Exited(code)) => (Some(i64::from(code)), Some("EXITED"), None),
        Some(Exit::Signaled(number)) => (None, Some("SIGNALED"), Some(signal_name(number))),
    };
    let id = i64::try_from(job.id).ok();
    number("id", id, out);
    text(",error", job.error.as_deref().map(str::as_bytes), out);
    text(",executable", Some(description.executable.as_bytes()), out);
    number(",exit_code", code, out);
    text(",exit_status", status.map(str::as_bytes), out);
    text(",exit_signal", signal.map(str::as_bytes), out);
    number(",priority", Some(1), out);
    text(",status", Some(job.state.name().as_bytes()), out);
    text(",subject", Some(job.owner.subject.as_bytes()), out);
    text(",tag", Some(description.tag.as_bytes()), out);
    number(",time_commit", times.commit, out);
    number(",time_create", Some(times.create), out);
    number(",time_error", times.error, out);
    number(",time_finish", times.finish, out);
    number(",time_kill", times.kill, out);
    number(",time_start", times.start, out);
    number(",time_reap", times.reap, out);
    out.extend_from_slice(b",\"arguments\":[");
    separated(&description.arguments, out, |argument, out| {
        string(argument.as_bytes(), out);
    });
    out.extend_from_slice(b"],\"environment\":{");
    separated(&description.environment, out, |(name, value), out| {
        string(name.as_bytes(), out);
        out.push(b':');
        string(value.as_bytes(), out);
    });
    out.extend_from_slice(b"},\"files\":[");
    separated(job.files.iter(), out, file);
    out.push(b']');
}

fn file(file: &File, out: &mut Vec<u8>) {
    out.push(b'{');
    text("binding", Some(file.binding.name().as_bytes()), out);
    text(",serv_path", Some(file.serv_path.as_bytes()), out);
    let size = file.size.and_then(|size| i64::try_from(size).ok());
    number(",size", size, out);
    let tag = file.tag.as_ref();
    text(",tag", tag.map(super::text::Text::as_bytes), out);
    text(",task_path", Some(file.task_path.as_bytes()), out);
    text(",type", Some(file.kind.name().as_bytes()), out);
    out.push(b'}');
}

/// Appends elements with commas between them.
fn separated<T>(
    elements: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    for (at, element) in elements.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(element, out);
    }
}

/// Appends a key, which may begin with a comma to stand before it, and a number.
pub(super) fn number(name: &str, value: Option<i64>, out: &mut Vec<u8>) {
    key(name, out);
    match value {
        None => out.extend_from_slice(b"null"),
        Some(value) => out.extend_from_slice(value.to_string().as_bytes()),
    }
}

/// Appends a key, as [`number`] does, and a string.
pub(super) fn text(name: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    key(name, out);
    match value {
        None => out.extend_from_slice(b"null"),
        Some(value) => string(value, out),
    }
}

fn key(name: &str, out: &mut Vec<u8>) {
    let name = match name.strip_prefix(',') {
        Some(name) => {
            out.push(b',');
            name
        }
        None => name,
    };
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' | b'/' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            // The reference writes these as they are, which is no JSON.
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Returns the name of a signal as the reference writes it.
fn signal_name(number: i32) -> &'static str {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    at.and_then(|at| NAMES.get(at))
        .copied()
        .unwrap_or("(Unknown)")
}
