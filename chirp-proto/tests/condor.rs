//! Lines in HTCondor's dialect to requests, and the laws of its decoder.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use bytes::BytesMut;
use chirp_proto::limits::CONDOR_LINE_MAX;
use chirp_proto::parse::{Decoder, Step};
use chirp_proto::request::{AccessMode, OpenFlags, Stride, Whence};
use chirp_proto::{Code, Dialect, Request, VirtualPath, encode};
use proptest::prelude::*;

fn step(bytes: &[u8]) -> Step {
    Decoder::new(Dialect::Condor).step(bytes)
}

fn path(text: &str) -> VirtualPath {
    VirtualPath::from_decoded(text.as_bytes()).unwrap()
}

#[track_caller]
fn parsed(line: &str) -> Request {
    match step(line.as_bytes()) {
        Step::Request { request, used } if used == line.len() => request,
        other => panic!("{line:?} gave {other:?}"),
    }
}

#[track_caller]
fn refused(line: &str, code: Code, body: u64) {
    let used = line.len();
    let expected = Step::Malformed { code, used, body };
    assert_eq!(step(line.as_bytes()), expected, "{line:?}");
}

#[test]
fn the_verbs_of_the_dialect_are_read() {
    for (line, expected) in [
        ("read 3 10\n", Request::Read { fd: 3, length: 10 }),
        ("write 3 10\n", Request::Write { fd: 3, length: 10 }),
        (
            "lseek 0 -4 2\n",
            Request::Lseek {
                fd: 0,
                offset: -4,
                whence: Whence::End,
            },
        ),
        (
            "get_job_attr Owner\n",
            Request::GetJobAttr {
                name: b"Owner".to_vec(),
            },
        ),
        (
            "get_job_attr_delayed Owner\n",
            Request::GetJobAttrDelayed {
                name: b"Owner".to_vec(),
            },
        ),
        (
            "set_job_attr A \"x\\ y\"\n",
            Request::SetJobAttr {
                name: b"A".to_vec(),
                value: b"\"x y\"".to_vec(),
            },
        ),
        (
            "set_job_attr_delayed A 1\n",
            Request::SetJobAttrDelayed {
                name: b"A".to_vec(),
                value: b"1".to_vec(),
            },
        ),
        (
            "ulog two\\\nlines\\ and\\\tmore\n",
            Request::Ulog {
                text: b"two\nlines and\tmore".to_vec(),
            },
        ),
        (
            "constrain A==1\n",
            Request::Constrain {
                expression: b"A==1".to_vec(),
            },
        ),
        ("lookup /f\n", Request::Lookup { path: path("/f") }),
        ("version\n", Request::Version),
        ("version\r\n", Request::Version),
    ] {
        assert_eq!(parsed(line), expected, "{line:?}");
    }
}

#[test]
fn shared_verbs_differ_in_escapes_and_the_order_of_strides() {
    let stride = Stride {
        length: 100,
        piece: 2,
        every: 10,
        offset: 7,
    };
    assert_eq!(
        parsed("sread 1 100 7 2 10\n"),
        Request::Sread { fd: 1, stride }
    );
    assert_eq!(
        parsed("swrite 1 100 7 2 10\n"),
        Request::Swrite { fd: 1, stride }
    );
    assert_eq!(
        parsed("stat a\\ b%20\\\\c\n"),
        Request::Stat {
            path: path("/a b%20\\c")
        }
    );
    assert_eq!(
        parsed("symlink some\\ where /l\n"),
        Request::Symlink {
            target: b"some where".to_vec(),
            path: path("/l")
        }
    );
    // Escaped or not, `..` is what it is.
    assert_eq!(parsed("stat /a/../b\n"), Request::Stat { path: path("/b") });
}

#[test]
fn malformed_lines_are_refused_with_what_follows_them() {
    for line in [
        "read 0\n",
        "read x 1\n",
        "read 0 -1\n",
        "lseek 0 0\n",
        "lseek 0 0 3\n",
        "lseek 0 0 -1\n",
        "set_job_attr A\n",
        "set_job_attr A \n",
        "ulog\n",
        "stat a\\x\n",
        "stat \\%20\n",
        "stat a\\\0b\n",
        "write 0 -5\n",
        "write 0\n",
        "write\\ 0 5\n",
        " version\n",
        "VERSION\n",
        "versions\n",
        "  \n",
    ] {
        refused(line, Code::InvalidRequest, 0);
    }
    refused("write 4294967296 5\n", Code::BadDescriptor, 5);
    refused("write -1 5\n", Code::BadDescriptor, 5);
    refused("swrite 0 5 -1 1 1\n", Code::InvalidRequest, 5);
    refused("pwrite 0 5 -1\n", Code::InvalidRequest, 5);
}

#[test]
fn each_dialect_lacks_the_verbs_of_the_other() {
    for line in [
        "read 0 5\n",
        "write 0 5\n",
        "lseek 0 0 0\n",
        "get_job_attr A\n",
        "get_job_attr_delayed A\n",
        "set_job_attr A 1\n",
        "set_job_attr_delayed A 1\n",
        "ulog x\n",
        "constrain x\n",
        "lookup /f\n",
        "version\n",
        "cookie x\n",
        "phase\n",
    ] {
        let expected = Step::Malformed {
            code: Code::InvalidRequest,
            used: line.len(),
            body: 0,
        };
        assert_eq!(Decoder::default().step(line.as_bytes()), expected, "{line}");
    }
    for line in [
        "hash md5 /f\n",
        "md5 /f\n",
        "getacl /\n",
        "setacl / unix:x rl\n",
        "resetacl / rl\n",
        "getstream /f\n",
        "setxattr /f user.a 3 0\n",
        "thirdput /f h /f\n",
        "search x / 0\n",
        "ticket_list self\n",
        "job_create 2\n",
        "debug all\n",
        "exec 10\n",
        "features\n",
        "cookie x\n",
    ] {
        refused(line, Code::InvalidRequest, 0);
    }
}

#[test]
fn an_overlong_line_is_the_last_however_it_arrives() {
    let line = |content: usize| format!("ulog {}\n", "x".repeat(content - 5));
    assert!(matches!(
        step(line(CONDOR_LINE_MAX).as_bytes()),
        Step::Request { .. }
    ));
    let over = line(CONDOR_LINE_MAX + 1);
    assert_eq!(step(over.as_bytes()), Step::TooLong);
    assert_eq!(step(&over.as_bytes()[..=CONDOR_LINE_MAX]), Step::TooLong);
    assert_eq!(step(&over.as_bytes()[..CONDOR_LINE_MAX]), Step::More);
    assert_eq!(step(&b"\\\n".repeat(4000)), Step::TooLong);
    assert_eq!(step(&[b'\\'; 9000]), Step::TooLong);
    assert_eq!(step(&[b'\r'; 9000]), Step::TooLong);
}

#[test]
fn blank_lines_and_eot_are_no_requests() {
    assert_eq!(step(b"\nversion\n"), Step::Skip { used: 1 });
    assert_eq!(step(b"\r\n"), Step::Skip { used: 2 });
    assert_eq!(step(b"\0version\nx"), Step::Skip { used: 9 });
    assert_eq!(step(b"\x04version\n"), Step::End);
    assert_eq!(step(b"\r\x04\n"), Step::End);
    assert_eq!(step(b""), Step::More);
    assert_eq!(step(b"version"), Step::More);
    assert_eq!(step(b"version\\\n"), Step::More);
}

fn any_path() -> impl Strategy<Value = VirtualPath> {
    proptest::collection::vec(1u8..=255, 0..40)
        .prop_map(|raw| VirtualPath::from_decoded(&raw).unwrap())
}

/// Any bytes but NUL: every word survives in this dialect.
fn any_word() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1u8..=255, 1..40)
}

fn any_count() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

fn any_stride() -> impl Strategy<Value = Stride> {
    let counts = (any_count(), any_count(), any_count(), any_count());
    counts.prop_map(|(length, piece, every, offset)| Stride {
        length,
        piece,
        every,
        offset,
    })
}

fn any_whence() -> impl Strategy<Value = Whence> {
    prop_oneof![
        Just(Whence::Start),
        Just(Whence::Position),
        Just(Whence::End)
    ]
}

/// One strategy per verb of the dialect and shape of words.
fn any_request() -> impl Strategy<Value = Request> {
    use Request as R;
    let path = any_path;
    let fd = any::<u32>;
    prop_oneof![
        any_count().prop_map(|limit| R::Whoami { limit }),
        (any_word(), any_count()).prop_map(|(host, limit)| R::Whoareyou { host, limit }),
        (path(), "[rwctaxs]{1,7}", any::<u32>()).prop_map(|(path, flags, mode)| R::Open {
            path,
            flags: OpenFlags::parse(flags.as_bytes()),
            mode
        }),
        fd().prop_map(|fd| R::Close { fd }),
        (fd(), any_stride()).prop_map(|(fd, stride)| R::Sread { fd, stride }),
        (fd(), any_stride()).prop_map(|(fd, stride)| R::Swrite { fd, stride }),
        (fd(), any_count()).prop_map(|(fd, length)| R::Read { fd, length }),
        (fd(), any_count()).prop_map(|(fd, length)| R::Write { fd, length }),
        (fd(), any::<i64>(), any_whence()).prop_map(|(fd, offset, whence)| R::Lseek {
            fd,
            offset,
            whence
        }),
        (path(), any::<u32>(), any_count()).prop_map(|(path, mode, length)| R::Putfile {
            path,
            mode,
            length
        }),
        path().prop_map(|path| R::Getlongdir { path }),
        (path(), path()).prop_map(|(from, to)| R::Rename { from, to }),
        (any_word(), path()).prop_map(|(target, path)| R::Symlink { target, path }),
        (path(), 1..6000u64).prop_map(|(path, limit)| R::Readlink { path, limit }),
        (path(), 0u8..8).prop_map(|(path, mode)| R::Access {
            path,
            mode: AccessMode::new(mode).unwrap()
        }),
        (path(), any::<i64>(), any::<i64>()).prop_map(|(path, atime, mtime)| R::Utime {
            path,
            atime,
            mtime
        }),
        any_word().prop_map(|name| R::GetJobAttr { name }),
        any_word().prop_map(|name| R::GetJobAttrDelayed { name }),
        (any_word(), any_word()).prop_map(|(name, value)| R::SetJobAttr { name, value }),
        (any_word(), any_word()).prop_map(|(name, value)| R::SetJobAttrDelayed { name, value }),
        any_word().prop_map(|text| R::Ulog { text }),
        any_word().prop_map(|expression| R::Constrain { expression }),
        path().prop_map(|path| R::Lookup { path }),
        Just(R::Version),
    ]
}

proptest! {
    #[test]
    fn an_encoded_request_decodes_to_itself(request in any_request()) {
        let mut line = BytesMut::new();
        encode::request_in(Dialect::Condor, &request, &mut line);
        match step(&line) {
            Step::Request { request: again, used } => {
                prop_assert_eq!(used, line.len());
                prop_assert_eq!(again, request);
            }
            other => prop_assert!(false, "{:?} from {:?}", other, line),
        }
    }

    #[test]
    fn any_chunking_gives_the_same_requests(
        requests in proptest::collection::vec(any_request(), 1..8),
        cuts in proptest::collection::vec(1usize..40, 1..60)
    ) {
        let mut wire = BytesMut::new();
        for request in &requests {
            encode::request_in(Dialect::Condor, request, &mut wire);
        }
        let mut decoder = Decoder::new(Dialect::Condor);
        let (mut buffer, mut decoded) = (Vec::new(), Vec::new());
        let mut cuts = cuts.into_iter().cycle();
        while !wire.is_empty() {
            let cut = cuts.next().unwrap().min(wire.len());
            buffer.extend_from_slice(&wire.split_to(cut));
            while let Step::Request { request, used } = decoder.step(&buffer) {
                buffer.drain(..used);
                decoded.push(request);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(decoded, requests);
    }

    #[test]
    fn garbage_never_panics_and_always_gets_on(
        bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(&b"\\\\\n\n \r"[..])],
            0..3000,
        )
    ) {
        let mut decoder = Decoder::new(Dialect::Condor);
        let mut rest = &bytes[..];
        loop {
            match decoder.step(rest) {
                Step::More | Step::End | Step::TooLong => break,
                Step::Skip { used } | Step::Request { used, .. } | Step::Malformed { used, .. } => {
                    prop_assert!(used > 0 && used <= rest.len());
                    rest = &rest[used..];
                }
            }
        }
    }
}
