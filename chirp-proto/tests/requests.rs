//! Literal lines to requests, and the laws of the decoder.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use bytes::BytesMut;
use chirp_proto::parse::{Decoder, Step};
use chirp_proto::request::{
    AccessMode, ExecutionName, HashAlgorithm, OpenFlags, OutputStream, Stride, TicketName,
    XattrFlags,
};
use chirp_proto::{Code, Request, VirtualPath, encode};
use proptest::prelude::*;

fn step(bytes: &[u8]) -> Step {
    Decoder::default().step(bytes)
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
    assert_eq!(
        step(line.as_bytes()),
        Step::Malformed {
            code,
            used: line.len(),
            body
        },
        "{line:?}"
    );
}

#[test]
fn words_and_numbers_are_read_as_part_1_3_says() {
    assert_eq!(parsed("whoami 4\n"), Request::Whoami { limit: 4 });
    assert_eq!(parsed("whoami 4\r\n"), Request::Whoami { limit: 4 });
    assert_eq!(
        parsed("whoami\t+4abc extra\n"),
        Request::Whoami { limit: 4 }
    );
    assert_eq!(
        parsed("pread 0 5 7x\n"),
        Request::Pread {
            fd: 0,
            length: 5,
            offset: 7
        }
    );
    assert_eq!(
        parsed("whoami 99999999999999999999\n"),
        Request::Whoami {
            limit: i64::MAX as u64
        }
    );
    assert_eq!(parsed("stat a\0junk\n"), Request::Stat { path: path("/a") });
    for line in [
        "WHOAMI 4\n",
        "  whoami 4\n",
        "   \n",
        "whoami\n",
        "whoami x\n",
        "whoami -1\n",
        "pread 0x10 5 0\n",
        "pread 0 5.5 0\n",
        "fgetxattr 1x user.a\n",
        "stat/v\n",
        "statx /v\n",
    ] {
        refused(line, Code::InvalidRequest, 0);
    }
}

#[test]
fn blank_lines_and_eot_are_no_requests() {
    assert_eq!(step(b"\nstat /\n"), Step::Skip { used: 1 });
    assert_eq!(step(b"\r\n"), Step::Skip { used: 2 });
    assert_eq!(step(b"\0stat /\nx"), Step::Skip { used: 8 });
    assert_eq!(step(b"\x04whoami 4"), Step::End);
    assert_eq!(step(b"\r\x04\n"), Step::End);
    assert_eq!(step(b""), Step::More);
}

#[test]
fn an_overlong_line_is_answered_once_and_the_next_line_is_a_request() {
    let fits = format!("stat /{}\n", "a".repeat(1017));
    refused(&fits, Code::NameTooLong, 0);
    let over = format!("stat /{}\n", "a".repeat(1018));
    refused(&over, Code::TooBig, 0);

    let mut decoder = Decoder::default();
    assert_eq!(decoder.step(&[b'a'; 1024]), Step::Skip { used: 1024 });
    assert_eq!(decoder.step(&[b'b'; 70_000]), Step::Skip { used: 70_000 });
    assert_eq!(
        decoder.step(b"tail\nwhoami 4\n"),
        Step::Malformed {
            code: Code::TooBig,
            used: 5,
            body: 0
        }
    );
    assert!(matches!(decoder.step(b"whoami 4\n"), Step::Request { .. }));

    // Bytes that are no content do not make a receiver buffer for ever.
    assert_eq!(
        Decoder::default().step(&[b'\r'; 5000]),
        Step::Skip { used: 5000 }
    );
}

#[test]
fn a_refused_request_says_how_long_its_body_is() {
    refused("pwrite 0 5\n", Code::InvalidRequest, 0);
    refused("pwrite 0 5 x\n", Code::InvalidRequest, 0);
    refused("swrite 0 6 2 5\n", Code::InvalidRequest, 0);
    refused("pwrite 0 -5 0\n", Code::InvalidRequest, 0);
    refused("pwrite 0 5 -1\n", Code::InvalidRequest, 5);
    refused("pwrite 4294967296 5 0\n", Code::BadDescriptor, 5);
    refused("pwrite -1 5 0\n", Code::BadDescriptor, 5);
    refused("swrite 0 6 -2 5 0\n", Code::InvalidRequest, 6);
    refused("swrite 0 -6 2 5 0\n", Code::InvalidRequest, 0);
    refused("setxattr /f user.a -1 0\n", Code::InvalidRequest, 0);
    refused("setxattr /f user.a 3 9\n", Code::InvalidRequest, 3);
    refused(
        "setxattr /f user.a 16777217 0\n",
        Code::NoMemory,
        16_777_217,
    );
    refused(
        "ticket_register self 60 16777217\n",
        Code::NoMemory,
        16_777_217,
    );
    refused("job_create 16777217\n", Code::NoMemory, 16_777_217);
    refused("pread 4294967296 5 0\n", Code::BadDescriptor, 0);
}

#[test]
fn typed_words_are_checked() {
    assert_eq!(
        parsed("open /f rwcq 420\n"),
        Request::Open {
            path: path("/f"),
            flags: OpenFlags {
                read: true,
                write: true,
                create: true,
                ..OpenFlags::default()
            },
            mode: 420,
        }
    );
    assert!(OpenFlags::parse(b"c").read, "without w a descriptor reads");
    assert!(!OpenFlags::parse(b"wct").read);
    assert_eq!(parsed("md5 /f\n"), parsed("hash md5 /f\n"));
    refused("hash sha256 /f\n", Code::InvalidRequest, 0);
    refused("access /f 8\n", Code::InvalidRequest, 0);
    assert!(matches!(
        parsed("readlink /f 0\n"),
        Request::Readlink { limit: 0, .. }
    ));
    refused("putfile /f 420 -1\n", Code::InvalidRequest, 0);
    refused("ticket_get ticket:zz\n", Code::InvalidRequest, 0);
    refused("exec_status 0\n", Code::InvalidRequest, 0);
    refused("exec_status @a/b\n", Code::InvalidRequest, 0);
    assert_eq!(
        parsed("exec_wait @wu_42-0 99\n"),
        Request::ExecWait {
            execution: ExecutionName::CmdId("wu_42-0".to_owned()),
            seconds: 30
        }
    );
    assert_eq!(
        parsed("symlink a%20b /l\n"),
        Request::Symlink {
            target: b"a%20b".to_vec(),
            path: path("/l")
        }
    );
    assert_eq!(
        parsed("ticket_register self x 3\n"),
        parsed("ticket_register self 0 3\n")
    );
}

prop_compose! {
    fn any_path()(raw in proptest::collection::vec(1u8..=255, 0..40)) -> VirtualPath {
        VirtualPath::from_decoded(&raw).unwrap()
    }
}

fn any_word() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0x21u8..=0xff, 1..20)
}

fn any_count() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

fn any_stride() -> impl Strategy<Value = Stride> {
    (any_count(), any_count(), any_count(), any_count()).prop_map(
        |(length, piece, every, offset)| Stride {
            length,
            piece,
            every,
            offset,
        },
    )
}

fn any_execution() -> impl Strategy<Value = ExecutionName> {
    prop_oneof![
        (1..u64::MAX).prop_map(ExecutionName::Id),
        "[A-Za-z0-9._-]{1,128}".prop_map(ExecutionName::CmdId),
    ]
}

/// One strategy per verb and shape of words.
fn any_request() -> impl Strategy<Value = Request> {
    use Request as R;
    let ticket = TicketName::parse(b"ticket:0123456789abcdef0123456789abcdef").unwrap();
    let path = any_path;
    let fd = any::<u32>;
    let small = 0..=(16u64 << 20);
    prop_oneof![
        any_count().prop_map(|limit| R::Whoami { limit }),
        (any_word(), any_count()).prop_map(|(host, limit)| R::Whoareyou { host, limit }),
        any_word().prop_map(|flag| R::Debug { flag }),
        (path(), "[rwctaxs]{1,7}", any::<u32>()).prop_map(|(path, flags, mode)| R::Open {
            path,
            flags: OpenFlags::parse(flags.as_bytes()),
            mode
        }),
        fd().prop_map(|fd| R::Close { fd }),
        (fd(), any_count(), any_count()).prop_map(|(fd, length, offset)| R::Pread {
            fd,
            length,
            offset
        }),
        (fd(), any_stride()).prop_map(|(fd, stride)| R::Sread { fd, stride }),
        (fd(), any_count(), any_count()).prop_map(|(fd, length, offset)| R::Pwrite {
            fd,
            length,
            offset
        }),
        (fd(), any_stride()).prop_map(|(fd, stride)| R::Swrite { fd, stride }),
        fd().prop_map(|fd| R::Fstat { fd }),
        fd().prop_map(|fd| R::Fstatfs { fd }),
        fd().prop_map(|fd| R::Fsync { fd }),
        (fd(), any_count()).prop_map(|(fd, length)| R::Ftruncate { fd, length }),
        (fd(), any::<u32>()).prop_map(|(fd, mode)| R::Fchmod { fd, mode }),
        (fd(), any::<i64>(), any::<i64>()).prop_map(|(fd, uid, gid)| R::Fchown { fd, uid, gid }),
        (fd(), any_word()).prop_map(|(fd, name)| R::Fgetxattr { fd, name }),
        (fd(), any_word(), small.clone()).prop_map(|(fd, name, length)| R::Fsetxattr {
            fd,
            name,
            length,
            flags: XattrFlags::Create
        }),
        path().prop_map(|path| R::Getfile { path }),
        (path(), any::<u32>(), any_count()).prop_map(|(path, mode, length)| R::Putfile {
            path,
            mode,
            length
        }),
        (path(), any::<u32>(), any::<i64>(), any_count()).prop_map(
            |(path, mode, mtime, length)| R::Store {
                path,
                mode,
                mtime,
                length
            }
        ),
        path().prop_map(|path| R::Getlongdir { path }),
        (path(), any::<u32>()).prop_map(|(path, mode)| R::Mkdir { path, mode }),
        (path(), path()).prop_map(|(from, to)| R::Rename { from, to }),
        (any_word(), path()).prop_map(|(target, path)| R::Symlink { target, path }),
        (path(), 1..1000u64).prop_map(|(path, limit)| R::Readlink { path, limit }),
        (path(), 0u8..8).prop_map(|(path, mode)| R::Access {
            path,
            mode: AccessMode::new(mode).unwrap()
        }),
        (path(), any::<i64>(), any::<i64>()).prop_map(|(path, atime, mtime)| R::Utime {
            path,
            atime,
            mtime
        }),
        path().prop_map(|path| R::Hash {
            algorithm: HashAlgorithm::Sha1,
            path
        }),
        (path(), any_word(), small.clone()).prop_map(|(path, name, length)| R::Lsetxattr {
            path,
            name,
            length,
            flags: XattrFlags::Replace
        }),
        (any_word(), any_word(), any_count()).prop_map(|(patterns, roots, flags)| R::Search {
            patterns,
            roots,
            flags
        }),
        (path(), any_word(), any_word()).prop_map(|(path, subject, rights)| R::Setacl {
            path,
            subject,
            rights
        }),
        (path(), any_word(), path()).prop_map(|(path, host, target)| R::Thirdput {
            path,
            host,
            target
        }),
        (any_word(), any::<i64>(), small.clone()).prop_map(|(subject, seconds, length)| {
            R::TicketRegister {
                subject,
                seconds,
                length,
            }
        }),
        (path(), any_word()).prop_map(move |(path, rights)| R::TicketModify {
            ticket,
            path,
            rights
        }),
        (path(), any_count(), any::<u32>()).prop_map(|(path, length, mode)| R::Mkalloc {
            path,
            length,
            mode
        }),
        small.prop_map(|length| R::JobStatus { length }),
        (any::<i64>(), any::<i64>()).prop_map(|(id, seconds)| R::JobWait { id, seconds }),
        Just(R::Features),
        any_count().prop_map(|length| R::Exec { length }),
        (any_execution(), any_count(), any_count()).prop_map(|(execution, out, err)| {
            R::ExecAttach {
                execution,
                out,
                err,
            }
        }),
        (any_execution(), any::<u32>())
            .prop_map(|(execution, number)| R::ExecSignal { execution, number }),
        (any_execution(), any_count(), any_count()).prop_map(|(execution, offset, length)| {
            R::ExecOutput {
                execution,
                stream: OutputStream::Err,
                offset,
                length,
            }
        }),
    ]
}

proptest! {
    #[test]
    fn an_encoded_request_decodes_to_itself(request in any_request()) {
        let mut line = BytesMut::new();
        encode::request(&request, &mut line);
        prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
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
            encode::request(request, &mut wire);
        }
        let mut decoder = Decoder::default();
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
    fn garbage_never_panics_and_always_gets_on(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let mut decoder = Decoder::default();
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
