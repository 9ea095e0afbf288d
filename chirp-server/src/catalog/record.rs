//! What a status record says (part 10.1).

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::clients::Activity;

/// Clients that a record names at most, the busiest, so that it fits into a datagram.
const NAMED_MAX: usize = 256;

/// What a record says that does not change.
#[derive(Clone, Debug)]
pub struct Description {
    /// The exported directory.
    pub root: PathBuf,
    /// The server's port.
    pub port: u16,
    /// The name to appear under.
    pub name: String,
    /// Who the server belongs to.
    pub owner: String,
    /// The project it belongs to.
    pub project: Option<String>,
    /// The tree's id ([`super::tree_id`]).
    pub uuid: String,
    /// Bytes that are to stay free (`-F`).
    pub free: u64,
    /// When the server started.
    pub started: SystemTime,
}

/// Makes a record of what is now.
pub(super) fn record(description: &Description, activity: &Activity) -> Value {
    let system = rustix::system::uname();
    let info = rustix::system::sysinfo();
    let lower = |text: &std::ffi::CStr| text.to_string_lossy().to_lowercase();
    let space = rustix::fs::statvfs(&description.root).ok();
    let bytes = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
        space
            .as_ref()
            .map_or(0, |space| blocks(space).saturating_mul(space.f_frsize))
    };
    let unit = u64::from(info.mem_unit.max(1));
    // Fixed-point numbers with 16 bits after the point, as the kernel keeps them.
    let [load1, load5, load15] = info.loads.map(|load| {
        let hundredths = load.saturating_mul(100) >> 16;
        hundredths as f64 / 100.0
    });
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let (name, port) = (&description.name, description.port);
    let mut record = json!({
        "type": "chirp",
        "avail": bytes(|space| space.f_bavail),
        "backend": format!("local://{}", description.root.display()),
        "cpu": lower(system.machine()),
        "cpus": cpus,
        "load1": load1,
        "load5": load5,
        "load15": load15,
        "memory_avail": info.freeram.saturating_mul(unit),
        "memory_total": info.totalram.saturating_mul(unit),
        "minfree": description.free,
        "name": name,
        "opsys": lower(system.sysname()),
        "opsysversion": lower(system.release()),
        "owner": description.owner,
        "port": port,
        "starttime": seconds_since_1970(description.started),
        "total": bytes(|space| space.f_blocks),
        "uuid": description.uuid,
        "url": format!("chirp://{name}:{port}"),
        "version": env!("CARGO_PKG_VERSION"),
        "bytes_written": activity.total.written,
        "bytes_read": activity.total.read,
        "total_ops": activity.total.requests,
        "clients": clients(activity),
    });
    if let (Some(project), Some(fields)) = (&description.project, record.as_object_mut()) {
        fields.insert("project".to_owned(), project.as_str().into());
    }
    record
}

/// Returns the busiest clients, in the reference's short names.
fn clients(activity: &Activity) -> Vec<Value> {
    let mut clients: Vec<_> = activity.clients.iter().collect();
    clients.sort_unstable_by_key(|(_, counts)| std::cmp::Reverse(counts.requests));
    clients
        .into_iter()
        .take(NAMED_MAX)
        .map(|(address, counts)| {
            json!({
                "a": address.to_string(),
                "o": counts.requests,
                "r": counts.read,
                "w": counts.written,
            })
        })
        .collect()
}

fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::super::clients::Counts;
    use super::*;

    #[test]
    fn a_record_of_many_clients_fits_into_a_datagram() {
        let counts = Counts {
            requests: u64::MAX,
            read: u64::MAX,
            written: u64::MAX,
        };
        let address = |number: u128| IpAddr::V6(Ipv6Addr::from(u128::MAX - number));
        let activity = Activity {
            total: counts,
            clients: (0..10_000)
                .map(|number| (address(number), counts))
                .collect(),
        };
        let description = Description {
            root: "/".into(),
            port: 9094,
            name: "n".repeat(1000),
            owner: "o".repeat(1000),
            project: Some("p".repeat(1000)),
            uuid: String::new(),
            free: 0,
            started: SystemTime::now(),
        };
        let record = record(&description, &activity);
        assert_eq!(record["clients"].as_array().unwrap().len(), NAMED_MAX);
        assert_eq!(record["project"], "p".repeat(1000));
        assert!(record.to_string().len() < 60_000);
    }
}
