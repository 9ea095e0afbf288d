//! Every request there is, with any words: what is written is read as the same request, in each dialect
//! that has it. The compiler keeps the list complete.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use bytes::BytesMut;
use chirp_proto::parse::{Decoder, Step};
use chirp_proto::request::{
    AccessMode, ExecutionName, HashAlgorithm, OpenFlags, OutputStream, Stride, TicketName, Whence,
    XattrFlags,
};
use chirp_proto::{Dialect, Request, VirtualPath, encode};
use proptest::prelude::*;

/// What requests are made of.
#[derive(Clone, Debug)]
struct Words {
    path: VirtualPath,
    other: VirtualPath,
    word: Vec<u8>,
    second: Vec<u8>,
    count: u64,
    place: u64,
    /// The length of a body that fits in memory.
    length: u64,
    signed: i64,
    number: u32,
    stride: Stride,
    execution: ExecutionName,
    ticket: TicketName,
    choice: usize,
}

/// Makes a request of each variant, and a match on all variants.
macro_rules! requests {
    ($words:ident; $($variant:ident $fields:tt),* $(,)?) => {
        fn all($words: &Words) -> Vec<Request> {
            vec![$(Request::$variant $fields),*]
        }

        /// Fails to compile when a variant is not in the list.
        fn name(request: &Request) -> &'static str {
            match request {
                $(Request::$variant { .. } => stringify!($variant)),*
            }
        }
    };
}

requests! { w;
    Whoami { limit: w.count },
    Whoareyou { host: w.word.clone(), limit: w.count },
    Debug { flag: w.word.clone() },
    Open { path: w.path.clone(), flags: w.flags(), mode: w.number },
    Close { fd: w.number },
    Pread { fd: w.number, length: w.count, offset: w.place },
    Sread { fd: w.number, stride: w.stride },
    Pwrite { fd: w.number, length: w.count, offset: w.place },
    Swrite { fd: w.number, stride: w.stride },
    Fstat { fd: w.number },
    Fstatfs { fd: w.number },
    Fsync { fd: w.number },
    Ftruncate { fd: w.number, length: w.count },
    Fchmod { fd: w.number, mode: w.number },
    Fchown { fd: w.number, uid: w.signed, gid: !w.signed },
    Fgetxattr { fd: w.number, name: w.word.clone() },
    Flistxattr { fd: w.number },
    Fsetxattr { fd: w.number, name: w.word.clone(), length: w.length, flags: w.xattr() },
    Fremovexattr { fd: w.number, name: w.word.clone() },
    Getfile { path: w.path.clone() },
    Putfile { path: w.path.clone(), mode: w.number, length: w.count },
    Getstream { path: w.path.clone() },
    Putstream { path: w.path.clone() },
    Getdir { path: w.path.clone() },
    Getlongdir { path: w.path.clone() },
    Mkdir { path: w.path.clone(), mode: w.number },
    Rmdir { path: w.path.clone() },
    Rmall { path: w.path.clone() },
    Unlink { path: w.path.clone() },
    Rename { from: w.path.clone(), to: w.other.clone() },
    Link { from: w.path.clone(), to: w.other.clone() },
    Symlink { target: w.word.clone(), path: w.path.clone() },
    Readlink { path: w.path.clone(), limit: w.count },
    Localpath { path: w.path.clone() },
    Stat { path: w.path.clone() },
    Lstat { path: w.path.clone() },
    Statfs { path: w.path.clone() },
    Access { path: w.path.clone(), mode: AccessMode::new((w.number % 8) as u8).unwrap() },
    Chmod { path: w.path.clone(), mode: w.number },
    Chown { path: w.path.clone(), uid: w.signed, gid: !w.signed },
    Lchown { path: w.path.clone(), uid: w.signed, gid: !w.signed },
    Truncate { path: w.path.clone(), length: w.count },
    Utime { path: w.path.clone(), atime: w.signed, mtime: !w.signed },
    Hash { algorithm: w.algorithm(), path: w.path.clone() },
    Setrep { path: w.path.clone(), count: w.count },
    Getxattr { path: w.path.clone(), name: w.word.clone() },
    Lgetxattr { path: w.path.clone(), name: w.word.clone() },
    Listxattr { path: w.path.clone() },
    Llistxattr { path: w.path.clone() },
    Setxattr { path: w.path.clone(), name: w.word.clone(), length: w.length, flags: w.xattr() },
    Lsetxattr { path: w.path.clone(), name: w.word.clone(), length: w.length, flags: w.xattr() },
    Removexattr { path: w.path.clone(), name: w.word.clone() },
    Lremovexattr { path: w.path.clone(), name: w.word.clone() },
    Audit { path: w.path.clone() },
    Search { patterns: w.word.clone(), roots: w.second.clone(), flags: w.count },
    Getacl { path: w.path.clone() },
    Setacl { path: w.path.clone(), subject: w.word.clone(), rights: w.second.clone() },
    Resetacl { path: w.path.clone(), rights: w.word.clone() },
    Thirdput { path: w.path.clone(), host: w.word.clone(), target: w.other.clone() },
    TicketRegister { subject: w.word.clone(), seconds: w.signed, length: w.length },
    TicketModify { ticket: w.ticket, path: w.path.clone(), rights: w.word.clone() },
    TicketDelete { ticket: w.ticket },
    TicketGet { ticket: w.ticket },
    TicketList { subject: w.word.clone() },
    Lsalloc { path: w.path.clone() },
    Mkalloc { path: w.path.clone(), length: w.count, mode: w.number },
    JobCreate { length: w.length },
    JobCommit { length: w.length },
    JobKill { length: w.length },
    JobReap { length: w.length },
    JobStatus { length: w.length },
    JobWait { id: w.signed, seconds: !w.signed },
    Read { fd: w.number, length: w.count },
    Write { fd: w.number, length: w.count },
    Lseek { fd: w.number, offset: w.signed, whence: w.whence() },
    GetJobAttr { name: w.word.clone() },
    GetJobAttrDelayed { name: w.word.clone() },
    SetJobAttr { name: w.word.clone(), value: w.second.clone() },
    SetJobAttrDelayed { name: w.word.clone(), value: w.second.clone() },
    Ulog { text: w.word.clone() },
    Constrain { expression: w.word.clone() },
    Lookup { path: w.path.clone() },
    Version {},
    Features {},
    Sha256 { path: w.path.clone() },
    Store { path: w.path.clone(), mode: w.number, mtime: w.signed, length: w.length },
    Exec { length: w.count },
    ExecAttach { execution: w.execution.clone(), out: w.count, err: w.place },
    ExecStatus { execution: w.execution.clone() },
    ExecWait { execution: w.execution.clone(), seconds: w.count % 31 },
    ExecSignal { execution: w.execution.clone(), number: w.number },
    ExecList {},
    ExecRemove { execution: w.execution.clone() },
    ExecOutput { execution: w.execution.clone(), stream: w.output(), offset: w.count, length: w.place },
}

impl Words {
    fn pick<T: Copy, const N: usize>(&self, all: [T; N]) -> T {
        *all.iter().cycle().nth(self.choice).unwrap()
    }

    fn flags(&self) -> OpenFlags {
        OpenFlags::parse(
            self.pick(["r", "rw", "wct", "wcx", "as", "rwctaxs"])
                .as_bytes(),
        )
    }

    fn xattr(&self) -> XattrFlags {
        self.pick([XattrFlags::Either, XattrFlags::Create, XattrFlags::Replace])
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.pick([HashAlgorithm::Md5, HashAlgorithm::Sha1])
    }

    fn whence(&self) -> Whence {
        self.pick([Whence::Start, Whence::Position, Whence::End])
    }

    fn output(&self) -> OutputStream {
        self.pick([OutputStream::Out, OutputStream::Err])
    }
}

fn any_path() -> impl Strategy<Value = VirtualPath> {
    proptest::collection::vec(1u8..=255, 0..40)
        .prop_map(|raw| VirtualPath::from_decoded(&raw).unwrap())
}

fn any_word() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0x21u8..=0xff, 1..20)
}

fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![0..=i64::MAX as u64, Just(0), Just(i64::MAX as u64)]
}

prop_compose! {
    fn any_words()(
        path in any_path(),
        other in any_path(),
        word in any_word(),
        second in any_word(),
        (count, place) in (any_count(), any_count()),
        length in 0..=(16u64 << 20),
        signed in prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
        number in any::<u32>(),
        stride in (any_count(), any_count(), any_count(), any_count()),
        execution in prop_oneof![
            (1..u64::MAX).prop_map(ExecutionName::Id),
            "[A-Za-z0-9._-]{1,128}".prop_map(ExecutionName::CmdId),
        ],
        ticket in "[0-9a-f]{32}",
        choice in 0..60usize,
    ) -> Words {
        let (whole, piece, every, offset) = stride;
        let ticket = TicketName::parse(format!("ticket:{ticket}").as_bytes()).unwrap();
        let stride = Stride { length: whole, piece, every, offset };
        Words { path, other, word, second, count, place, length, signed, number, stride, execution, ticket, choice }
    }
}

fn read(dialect: Dialect, request: &Request) -> (Step, usize) {
    let mut line = BytesMut::new();
    encode::request_in(dialect, request, &mut line);
    (Decoder::new(dialect).step(&line), line.len())
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same_request(words in any_words()) {
        for request in all(&words) {
            let mut dialects = Vec::new();
            for dialect in [Dialect::Plain, Dialect::Condor] {
                match read(dialect, &request) {
                    (Step::Request { request: again, used }, length) => {
                        prop_assert_eq!(used, length);
                        prop_assert_eq!(&again, &request);
                        dialects.push(dialect);
                    }
                    // It is one line all the same, and the next one is read as such.
                    (Step::Malformed { used, .. }, length) => prop_assert_eq!(used, length),
                    (other, _) => prop_assert!(false, "{:?} from {:?}", other, request),
                }
            }
            prop_assert!(!dialects.is_empty(), "no dialect has {}", name(&request));
        }
    }
}
