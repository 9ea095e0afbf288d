//! Every key of `host-agent.md` part 2, so that a misspelt one is told from one that is for the other side or
//! for a later version.

use super::Side;
use super::ini::{DEFAULT_SECTION, IniFile};

/// Who reads a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Agent and guest.
    Both,
    /// The agent.
    Host,
    /// The guest's server.
    Guest,
    /// The agent, in a later version.
    Later,
}

/// Names the keys of the file that are unknown, or without effect on this side, for the log.
pub(super) fn odd(ini: &IniFile, side: Side) -> Vec<String> {
    ini.keys()
        .filter_map(|(section, key)| {
            if section == DEFAULT_SECTION {
                // A key of [DEFAULT] may also be there only to be named by %(key)s.
                let anywhere = TABLE.iter().any(|(_, keys, _)| keys.contains(&key));
                return (!anywhere).then(|| format!("[DEFAULT] {key} is no setting by itself"));
            }
            match (lookup(section, key), side) {
                // One file may serve both sides.
                (Some(For::Both | For::Host | For::Guest), _) | (Some(For::Later), Side::Guest) => {
                    None
                }
                (Some(For::Later), Side::Host) => {
                    Some(format!("[{section}] {key} has no effect in this version"))
                }
                (None, _) => Some(format!(
                    "[{section}] {key} is unknown and ignored; is it misspelt?"
                )),
            }
        })
        .collect()
}

/// Returns what is known of that key; both names in lower case.
fn lookup(section: &str, key: &str) -> Option<For> {
    // The original system's name of it.
    let section = if section == "coilmq" {
        "embeddedbroker"
    } else {
        section
    };
    TABLE
        .iter()
        .find(|(known, keys, _)| *known == section && keys.contains(&key))
        .map(|(_, _, known)| *known)
}

/// Sections, their keys, and who reads them.
const TABLE: &[(&str, &[&str], For)] = &[
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
        For::Both,
    ),
    ("broker", &["ca"], For::Later),
    (
        "embeddedbroker",
        &[
            "enabled",
            "listen_addr",
            "listen_port",
            "users",
            "users_file",
        ],
        For::Host,
    ),
    (
        "host",
        &[
            "vm_gc_grace",
            "accept_unknown_guests",
            "api_socket",
            "guests_file",
            "network_interface",
            "watchdog",
            "boot_timeout",
            "reboot_after",
            "max_restarts",
        ],
        For::Host,
    ),
    (
        "host",
        &[
            "xmlrpc_listen_on",
            "xmlrpc_port",
            "api_token",
            "chirp_path",
            "file_roots",
            "result_keep",
            "result_keep_max",
        ],
        For::Later,
    ),
    (
        "hypervisor",
        &[
            "hypervisor",
            "hypervisor_helpers_path",
            "accel",
            "network",
            "machines_path",
            "libvirt_uri",
            "command_list",
            "command_state",
            "command_start",
            "command_shutdown",
            "command_power_off",
            "command_reset",
            "command_pause",
            "command_resume",
            "command_save",
            "command_discard",
            "command_snapshot_take",
            "command_snapshot_restore",
            "command_snapshot_list",
            "command_snapshot_delete",
            "command_create",
            "command_remove",
            "command_performance",
            "command_console",
            "command_check",
        ],
        For::Host,
    ),
    (
        "vm",
        &[
            "network_interface",
            "beacon_interval",
            "dir_to_serve",
            "advertise",
            "name",
        ],
        For::Guest,
    ),
];
