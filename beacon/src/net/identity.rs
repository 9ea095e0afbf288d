//! Ids of this machine, this start of it and its state.

/// Returns the id of this start of the machine: the kernel's boot id, or nothing where it has none.
#[must_use]
pub fn boot_id() -> Option<String> {
    first_word("/proc/sys/kernel/random/boot_id")
}

/// Returns a text that stays the same over restarts and differs between machines, as far as there is one:
/// the machine id, else the host name.
#[must_use]
pub fn host_id() -> String {
    first_word("/etc/machine-id")
        .or_else(|| first_word("/var/lib/dbus/machine-id"))
        .unwrap_or_else(host_name)
}

/// Returns the host's name, `localhost` where the kernel has none.
#[must_use]
pub fn host_name() -> String {
    first_word("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".to_owned())
}

/// Returns a new random id, for a run, and for a boot where the kernel has no id.
#[must_use]
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Returns the seconds since the machine started.
#[must_use]
pub fn uptime() -> Option<f64> {
    first_word("/proc/uptime")?.parse().ok()
}

/// Returns the load of the last minute.
#[must_use]
pub fn load_average() -> Option<f64> {
    first_word("/proc/loadavg")?.parse().ok()
}

fn first_word(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_ascii_whitespace().next().map(str::to_owned)
}
