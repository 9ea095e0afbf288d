//! Every key of `host-agent.md` part 2, so that a misspelt one is told from one of a later version.

/// What this version does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is read.
    Used,
    /// It belongs to the guest's side of a file that both sides share.
    Guest,
    /// It has its place in the format, and no effect in this version.
    Later,
}

/// Returns what is known of that key; both names in lower case.
pub(crate) fn lookup(section: &str, key: &str) -> Option<Known> {
    TABLE
        .iter()
        .find(|(known, keys, _)| *known == section && keys.contains(&key))
        .map(|(_, _, known)| *known)
}

/// Returns whether any section has such a key: `[DEFAULT]` may hold it.
pub(crate) fn anywhere(key: &str) -> bool {
    TABLE.iter().any(|(_, keys, _)| keys.contains(&key))
}

/// Sections, their keys, and what is done with them.
const TABLE: &[(&str, &[&str], Known)] = &[
    (
        "broker",
        &[
            "host",
            "port",
            "username",
            "password",
            "vhost",
            "tls",
            "destination",
        ],
        Known::Used,
    ),
    ("broker", &["ca"], Known::Later),
    (
        "embeddedbroker",
        &["enabled", "listen_addr", "listen_port"],
        Known::Used,
    ),
    (
        "host",
        &[
            "vm_gc_grace",
            "accept_unknown_guests",
            "api_socket",
            "guests_file",
        ],
        Known::Used,
    ),
    (
        "host",
        &[
            "xmlrpc_listen_on",
            "xmlrpc_port",
            "api_token",
            "chirp_path",
            "network_interface",
            "file_roots",
            "watchdog",
            "boot_timeout",
            "reboot_after",
            "max_restarts",
            "result_keep",
            "result_keep_max",
        ],
        Known::Later,
    ),
    ("hypervisor", &["hypervisor"], Known::Used),
    ("hypervisor", &["hypervisor_helpers_path"], Known::Later),
    (
        "vm",
        &[
            "network_interface",
            "beacon_interval",
            "dir_to_serve",
            "advertise",
            "name",
        ],
        Known::Guest,
    ),
];
