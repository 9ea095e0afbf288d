//! Random requests over few names, subjects and numbers, so that they meet each other.

use chirp_proto::VirtualPath;
use chirp_proto::request::{
    AccessMode, HashAlgorithm, OpenFlags, Request, Stride, TicketName, XattrFlags,
};
use fastrand::Rng;

use super::kind::Kind;
use super::{By, Step, ticket};

/// The directory in which scripts play.
pub const PLACE: &str = "/s";

/// Stands for the server's own address in a request's words: it differs between servers.
pub const OWN_ADDRESS: &[u8] = b"own:0";

/// Names in a directory. One has a blank, one is no UTF-8, one is hidden in no way but begins with a
/// dot, and one has an escape of its own.
const NAMES: [&[u8]; 7] = [b"a", b"b", b"c", b"d", b"e f", b"\xe9%41", b".h"];
/// Whom lists name.
const PATTERNS: [&str; 7] = [
    "address:127.0.0.1",
    "address:127.*",
    "hostname:localhost",
    "hostname:*",
    "unix:somebody",
    "address:10.*",
    "*",
];
const RIGHTS: [&str; 14] = [
    "rwldax", "rl", "r", "l", "w", "d", "p", "a", "x", "v(rwl)", "lv", "rwd", "n", "rwlda",
];
/// Two keys that are none, for the server stores what it is told; and one to log in with.
pub const KEYS: [&[u8]; 3] = [b"abc", b"def", ticket::KEY];
/// Their names.
pub const TICKETS: [&[u8]; 3] = [
    b"ticket:900150983cd24fb0d6963f7d28e17f72",
    b"ticket:4ed9407630eb1000c0f6b63842defa7d",
    b"ticket:6e1991b66de852b3aeeebbc79307039b",
];

/// Makes a random step, of no kind in `without`.
pub fn step(rng: &mut Rng, without: &[Kind]) -> Step {
    loop {
        let kind = rng.choice(Kind::ALL).copied().unwrap_or(Kind::Whoami);
        // Trees grow slower than they are cut down otherwise.
        let kind = match rng.u8(..16) {
            0..=1 => Kind::Putfile,
            2 => Kind::Putstream,
            3 => Kind::Mkdir,
            4..=5 => Kind::Open,
            6 => Kind::Setacl,
            _ => kind,
        };
        if without.contains(&kind) {
            continue;
        }
        if let Some((request, body)) = request(kind, rng) {
            let by = match rng.u8(..20) {
                0..=8 => By::Unix,
                9..=15 => By::Address,
                16 | 17 => By::Hostname,
                _ => By::Ticket,
            };
            return Step { by, request, body };
        }
    }
}

/// Makes a request of a kind, with its body; none for those that the reference does not have.
#[expect(clippy::too_many_lines, reason = "a list: one arm for each request")]
pub fn request(kind: Kind, rng: &mut Rng) -> Option<(Request, Vec<u8>)> {
    let r = rng;
    let mut data = Vec::new();
    let request = match kind {
        Kind::Whoami => Request::Whoami { limit: number(r) },
        Kind::Whoareyou => Request::Whoareyou {
            host: OWN_ADDRESS.to_vec(),
            limit: number(r),
        },
        Kind::Debug => Request::Debug { flag: b"all".to_vec() },
        Kind::Open => Request::Open {
            path: path(r),
            flags: flags(r),
            mode: mode(r),
        },
        Kind::Close => Request::Close { fd: fd(r) },
        Kind::Pread => Request::Pread {
            fd: fd(r),
            length: number(r),
            offset: number(r),
        },
        Kind::Sread => Request::Sread {
            fd: fd(r),
            stride: stride(r),
        },
        Kind::Pwrite => {
            data = content(r);
            Request::Pwrite {
                fd: fd(r),
                length: data.len() as u64,
                offset: number(r),
            }
        }
        Kind::Swrite => {
            data = content(r);
            let stride = Stride {
                length: data.len() as u64,
                ..stride(r)
            };
            Request::Swrite { fd: fd(r), stride }
        }
        Kind::Fstat => Request::Fstat { fd: fd(r) },
        Kind::Fstatfs => Request::Fstatfs { fd: fd(r) },
        Kind::Fsync => Request::Fsync { fd: fd(r) },
        Kind::Ftruncate => Request::Ftruncate {
            fd: fd(r),
            length: number(r),
        },
        Kind::Fchmod => Request::Fchmod {
            fd: fd(r),
            mode: mode(r),
        },
        Kind::Fchown => Request::Fchown {
            fd: fd(r),
            uid: 1,
            gid: 1,
        },
        Kind::Fgetxattr => Request::Fgetxattr {
            fd: fd(r),
            name: attribute(r),
        },
        Kind::Flistxattr => Request::Flistxattr { fd: fd(r) },
        Kind::Fsetxattr => {
            data = content(r);
            Request::Fsetxattr {
                fd: fd(r),
                name: attribute(r),
                length: data.len() as u64,
                flags: xattr_flags(r),
            }
        }
        Kind::Fremovexattr => Request::Fremovexattr {
            fd: fd(r),
            name: attribute(r),
        },
        Kind::Getfile => Request::Getfile { path: path(r) },
        Kind::Putfile => {
            data = content(r);
            Request::Putfile {
                path: path(r),
                mode: mode(r),
                length: data.len() as u64,
            }
        }
        Kind::Getstream => Request::Getstream { path: path(r) },
        Kind::Putstream => {
            data = content(r);
            Request::Putstream { path: path(r) }
        }
        Kind::Getdir => Request::Getdir { path: path(r) },
        Kind::Getlongdir => Request::Getlongdir { path: path(r) },
        Kind::Mkdir => Request::Mkdir {
            path: path(r),
            mode: mode(r),
        },
        Kind::Rmdir => Request::Rmdir { path: path(r) },
        Kind::Rmall => Request::Rmall { path: path(r) },
        Kind::Unlink => Request::Unlink { path: path(r) },
        Kind::Rename => Request::Rename {
            from: path(r),
            to: path(r),
        },
        Kind::Link => Request::Link {
            from: path(r),
            to: path(r),
        },
        Kind::Symlink => Request::Symlink {
            target: target(r),
            path: path(r),
        },
        Kind::Readlink => Request::Readlink {
            path: path(r),
            limit: number(r),
        },
        Kind::Localpath => Request::Localpath { path: path(r) },
        Kind::Stat => Request::Stat { path: path(r) },
        Kind::Lstat => Request::Lstat { path: path(r) },
        Kind::Statfs => Request::Statfs { path: path(r) },
        Kind::Access => Request::Access {
            path: path(r),
            mode: AccessMode::new(r.u8(..8))?,
        },
        Kind::Chmod => Request::Chmod {
            path: path(r),
            mode: mode(r),
        },
        Kind::Chown => Request::Chown {
            path: path(r),
            uid: 1,
            gid: 1,
        },
        Kind::Lchown => Request::Lchown {
            path: path(r),
            uid: 1,
            gid: 1,
        },
        Kind::Truncate => Request::Truncate {
            path: path(r),
            length: number(r),
        },
        Kind::Utime => Request::Utime {
            path: path(r),
            atime: r.i64(-10..2_000_000_000),
            mtime: r.i64(-10..2_000_000_000),
        },
        Kind::Hash => Request::Hash {
            algorithm: *r.choice(&[HashAlgorithm::Md5, HashAlgorithm::Sha1])?,
            path: path(r),
        },
        Kind::Setrep => Request::Setrep {
            path: path(r),
            count: r.u64(..4),
        },
        Kind::Getxattr => Request::Getxattr {
            path: path(r),
            name: attribute(r),
        },
        Kind::Lgetxattr => Request::Lgetxattr {
            path: path(r),
            name: attribute(r),
        },
        Kind::Listxattr => Request::Listxattr { path: path(r) },
        Kind::Llistxattr => Request::Llistxattr { path: path(r) },
        Kind::Setxattr => {
            data = content(r);
            Request::Setxattr {
                path: path(r),
                name: attribute(r),
                length: data.len() as u64,
                flags: xattr_flags(r),
            }
        }
        Kind::Lsetxattr => {
            data = content(r);
            Request::Lsetxattr {
                path: path(r),
                name: attribute(r),
                length: data.len() as u64,
                flags: xattr_flags(r),
            }
        }
        Kind::Removexattr => Request::Removexattr {
            path: path(r),
            name: attribute(r),
        },
        Kind::Lremovexattr => Request::Lremovexattr {
            path: path(r),
            name: attribute(r),
        },
        Kind::Audit => Request::Audit { path: path(r) },
        Kind::Search => Request::Search {
            patterns: r.choice(&[&b"*"[..], b"a", b"/a", b"a/*|b", b"/*/b", b"?"])?.to_vec(),
            roots: plain_path(r),
            flags: r.u64(..128),
        },
        Kind::Getacl => Request::Getacl { path: path(r) },
        Kind::Setacl => Request::Setacl {
            path: path(r),
            subject: r.choice(&PATTERNS)?.as_bytes().to_vec(),
            rights: rights(r),
        },
        Kind::Resetacl => Request::Resetacl {
            path: path(r),
            rights: rights(r),
        },
        Kind::Thirdput => Request::Thirdput {
            path: path(r),
            host: OWN_ADDRESS.to_vec(),
            target: path(r),
        },
        Kind::TicketRegister => {
            data = r.choice(&KEYS)?.to_vec();
            Request::TicketRegister {
                subject: subject(r),
                seconds: 36_000,
                length: data.len() as u64,
            }
        }
        Kind::TicketModify => Request::TicketModify {
            ticket: ticket(r)?,
            path: path(r),
            rights: rights(r),
        },
        Kind::TicketDelete => Request::TicketDelete { ticket: ticket(r)? },
        Kind::TicketGet => Request::TicketGet { ticket: ticket(r)? },
        Kind::TicketList => Request::TicketList { subject: subject(r) },
        Kind::Lsalloc => Request::Lsalloc { path: path(r) },
        Kind::Mkalloc => Request::Mkalloc {
            path: path(r),
            length: r.u64(..100_000),
            mode: mode(r),
        },
        Kind::JobCreate => {
            data = b"{}".to_vec();
            Request::JobCreate { length: 2 }
        }
        Kind::JobCommit => {
            data = b"[1]".to_vec();
            Request::JobCommit { length: 3 }
        }
        Kind::JobKill => {
            data = b"[1]".to_vec();
            Request::JobKill { length: 3 }
        }
        Kind::JobReap => {
            data = b"[1]".to_vec();
            Request::JobReap { length: 3 }
        }
        Kind::JobStatus => {
            data = b"[1]".to_vec();
            Request::JobStatus { length: 3 }
        }
        Kind::JobWait => Request::JobWait { id: 1, seconds: 0 },
        // HTCondor's dialect, on connections of its own.
        Kind::Read
        | Kind::Write
        | Kind::Lseek
        | Kind::GetJobAttr
        | Kind::GetJobAttrDelayed
        | Kind::SetJobAttr
        | Kind::SetJobAttrDelayed
        | Kind::Ulog
        | Kind::Constrain
        | Kind::Lookup
        | Kind::Version
        // Extensions that one of the servers has: there is nothing to compare them with.
        | Kind::Features
        | Kind::Sha256
        | Kind::Store
        | Kind::Exec
        | Kind::ExecAttach
        | Kind::ExecStatus
        | Kind::ExecWait
        | Kind::ExecSignal
        | Kind::ExecList
        | Kind::ExecRemove
        | Kind::ExecOutput => return None,
    };
    Some((request, data))
}

/// A path of one to three names below [`PLACE`], rarely the place itself.
fn plain_path(rng: &mut Rng) -> Vec<u8> {
    let mut path = PLACE.as_bytes().to_vec();
    let depth = match rng.u8(..16) {
        0 => 0,
        1..=8 => 1,
        9..=13 => 2,
        _ => 3,
    };
    for _ in 0..depth {
        path.push(b'/');
        // The first names are more likely.
        let name = NAMES.get(rng.usize(..NAMES.len()).min(rng.usize(..NAMES.len())));
        path.extend_from_slice(name.copied().unwrap_or(b"a"));
    }
    path
}

fn path(rng: &mut Rng) -> VirtualPath {
    VirtualPath::from_decoded(&plain_path(rng)).unwrap_or_else(|_| VirtualPath::root())
}

/// What a link says: a name beside it, an absolute path, or a way out.
fn target(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..8) {
        0 => b"../../../../etc/passwd".to_vec(),
        1 => b"..".to_vec(),
        2..=4 => rng
            .choice(&NAMES[..4])
            .map_or_else(Vec::new, |name| name.to_vec()),
        _ => {
            let mut path = plain_path(rng);
            path.retain(|byte| !byte.is_ascii_whitespace());
            path
        }
    }
}

fn flags(rng: &mut Rng) -> OpenFlags {
    let letters = rng.choice(&[
        "r", "w", "rw", "wc", "rwc", "wct", "rwcx", "wa", "wcta", "rwct",
    ]);
    OpenFlags::parse(letters.copied().unwrap_or("r").as_bytes())
}

fn fd(rng: &mut Rng) -> u32 {
    rng.u32(..3)
}

fn mode(rng: &mut Rng) -> u32 {
    *rng.choice(&[0, 0o644, 0o755, 0o777, 0o4755, 0o600])
        .unwrap_or(&0)
}

/// A length or position: small, at a border, or large.
fn number(rng: &mut Rng) -> u64 {
    match rng.u8(..8) {
        0 => 0,
        1 => rng.u64(..70_000),
        2 => 4096,
        _ => rng.u64(..40),
    }
}

fn stride(rng: &mut Rng) -> Stride {
    Stride {
        length: rng.u64(..60),
        piece: rng.u64(..12),
        every: rng.u64(..20),
        offset: rng.u64(..30),
    }
}

fn content(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..16) {
        0 => 0,
        1 => 5000,
        _ => rng.usize(..40),
    };
    (0..length).map(|_| rng.u8(..)).collect()
}

fn attribute(rng: &mut Rng) -> Vec<u8> {
    let names: [&[u8]; 4] = [b"user.a", b"user.b", b"bogus", b"trusted.x"];
    rng.choice(&names)
        .map_or_else(Vec::new, |name| name.to_vec())
}

fn xattr_flags(rng: &mut Rng) -> XattrFlags {
    let all = [XattrFlags::Either, XattrFlags::Create, XattrFlags::Replace];
    rng.choice(&all).copied().unwrap_or(XattrFlags::Either)
}

fn rights(rng: &mut Rng) -> Vec<u8> {
    rng.choice(&RIGHTS)
        .copied()
        .unwrap_or("n")
        .as_bytes()
        .to_vec()
}

fn subject(rng: &mut Rng) -> Vec<u8> {
    let subject = rng.choice(&["self", "self", "address:127.0.0.1", "unix:somebody"]);
    subject.copied().unwrap_or("self").as_bytes().to_vec()
}

fn ticket(rng: &mut Rng) -> Option<TicketName> {
    rng.choice(&TICKETS)
        .and_then(|word| TicketName::parse(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_makes_requests_of_its_kind() {
        let mut rng = Rng::with_seed(1);
        for &kind in Kind::ALL {
            if let Some((request, body)) = request(kind, &mut rng) {
                assert_eq!(Kind::of(&request), kind);
                if kind != Kind::Putfile && kind != Kind::Putstream {
                    assert_eq!(request.body_length(), body.len() as u64, "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_seed_makes_the_same_script_again() {
        let script = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..100).map(|_| step(&mut rng, &[])).collect::<Vec<_>>()
        };
        assert_eq!(script(7), script(7));
        assert_ne!(script(7), script(8));
    }

    #[test]
    fn the_names_of_tickets_are_the_digests_of_the_keys() {
        use std::fmt::Write as _;
        for (key, name) in KEYS.iter().zip(TICKETS) {
            let digest = <md5::Md5 as md5::Digest>::digest(key);
            let mut expected = String::from("ticket:");
            for byte in digest {
                let _ = write!(expected, "{byte:02x}");
            }
            assert_eq!(expected.as_bytes(), name);
        }
    }
}
