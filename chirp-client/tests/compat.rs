//! The binary under the names of the reference's tools, beside these.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Instant;

use support::{LIMIT, Reference};

/// Whose tool runs.
#[derive(Clone, Copy)]
enum Whose {
    Ours,
    Theirs,
}

/// Makes a tool ready to run in `directory` as an ordinary user.
fn tool(whose: Whose, name: &str, directory: &Path) -> Command {
    let mut command = match whose {
        Whose::Ours => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
            command.arg0(name);
            command
        }
        Whose::Theirs => Command::new(name),
    };
    command
        .current_dir(directory)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("HOME", directory)
        .env_remove("CHIRP_CLIENT_TICKETS")
        .stdin(Stdio::null());
    support::as_nobody(&mut command);
    command
}

/// Runs a line: a tool with its arguments, in which `HOST` is the server.
fn run(whose: Whose, server: &Reference, directory: &Path, line: &str) -> Output {
    let mut words = line.split(' ');
    let name = words.next().unwrap();
    let mut command = tool(whose, name, directory);
    if name != "chirp_status" {
        command.args(["-t", "10"]);
    }
    for word in words {
        command.arg(word.replace("HOST", &server.address()));
    }
    command
        .output()
        .expect("the reference's tools: apt-get install coop-computing-tools")
}

fn ours(server: &Reference, directory: &Path, line: &str) -> Output {
    run(Whose::Ours, server, directory, line)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes a file that the tools may read.
fn write(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    support::give_away(&path);
    path
}

/// What a tool said and how it ended, without what differs from run to run.
fn said(output: &Output) -> (String, String, Option<i32>) {
    let plain = |bytes: &[u8]| -> String {
        let lines = text(bytes);
        let lines = lines.lines().map(|line| match line.split_once(" in ") {
            Some((before, rate)) if rate.ends_with("/s)") => format!("{before} in"),
            _ => line.to_owned(),
        });
        lines.map(|line| line + "\n").collect()
    };
    let (out, err) = (plain(&output.stdout), plain(&output.stderr));
    (out, err, output.status.code())
}

/// Lines that leave things as they were, or as they are after the first time.
const ALIKE: &[&str] = &[
    "chirp -a address HOST whoami",
    "chirp -a address HOST mkdir /d",
    "chirp --aut=address HOST mkdir -p /d/e/f",
    "chirp -a address HOST put f /d/f",
    "chirp -a address HOST put empty /d/empty",
    "chirp -a address HOST put none",
    "chirp -a address HOST put f /no/f",
    "chirp -a address HOST put f /d",
    "chirp -a address HOST get /d/f back",
    "chirp -a address HOST get /d tree",
    "chirp -a address HOST get /none",
    "chirp -a address HOST get /d/f /no/such/place",
    "chirp -a address HOST cat /d/f /none /d",
    "chirp -a address HOST stat /d/f",
    "chirp -a address HOST stat",
    "chirp -a address HOST cd /d/f",
    "chirp -a address HOST ls -z",
    "chirp -a address HOST ls /none",
    "chirp -a address HOST ls /d/e",
    "chirp -a address HOST ls -l /d/e",
    "chirp -a address HOST df -x",
    "chirp -a address HOST hash sha1 d/f",
    "chirp -a address HOST md5 /d/../d/f",
    "chirp -a address HOST md5 /none",
    "chirp -a address HOST setacl /d unix:alice write",
    "chirp -a address HOST getacl /d",
    "chirp -a address HOST mv /none /x",
    "chirp -a address HOST rmdir /d",
    "chirp -a address HOST rm /none",
    "chirp -a address HOST chmod 644 /d/f",
    "chirp -a address HOST localpath d/f",
    "chirp -a address HOST audit -r",
    "chirp -a address HOST search -i /d f",
    "chirp -a address HOST search /none f",
    "chirp -a address HOST setrep /d/f 2",
    "chirp -a address HOST job_create {}",
    "chirp -a address HOST ticket_list self",
    "chirp -a address HOST ticket_get none",
    "chirp -a address HOST timeout 7",
    "chirp -a address HOST close",
    "chirp -a address HOST whoami too many",
    "chirp -a address HOST frobnicate",
    "chirp -a ticket HOST whoami",
    "chirp_get -a address HOST /d/f -",
    "chirp_get -a address HOST /d -",
    "chirp_get -a address HOST /none x",
    "chirp_get -a address HOST /d/f /no/place",
    "chirp_get -a ticket HOST /d/f x",
    "chirp_put -a address f HOST /d/put",
    "chirp_put -a address -b 100 none HOST /x",
    "chirp_put -a address f HOST /no/place",
    "chirp_put -a address /dev/null HOST /null",
    "chirp_stream_files -a address copy none HOST /a",
    "chirp_stream_files -a address copy f HOST /no/place",
    "chirp_stream_files -a address join out HOST /none",
];

#[test]
fn the_tools_say_what_the_reference_s_say() {
    let server = Reference::start();
    let directory = server.outside("local");
    write(&directory, "f", b"hello\n");
    write(&directory, "empty", b"");
    for line in ALIKE {
        // The reference's comes first, so that both find the same from the second line on.
        let theirs = run(Whose::Theirs, &server, &directory, line);
        let own = ours(&server, &directory, line);
        assert_eq!(said(&own), said(&theirs), "{line}");
    }
    assert_eq!(fs::read(directory.join("back")).unwrap(), b"hello\n");
    assert_eq!(fs::read(directory.join("tree/f")).unwrap(), b"hello\n");
}

#[test]
fn options_that_make_no_sense_end_as_the_reference_ends() {
    let server = Reference::start();
    let directory = server.outside("local");
    let status = |line: &str| ours(&server, &directory, line).status.code();
    for tool in ["chirp", "chirp_get", "chirp_put", "chirp_stream_files"] {
        // Help and version are for stdout and succeed; chirp_status has it otherwise.
        for option in ["-h", "--version"] {
            let output = ours(&server, &directory, &format!("{tool} {option}"));
            assert_eq!(output.status.code(), Some(0), "{tool} {option}");
            assert!(text(&output.stdout).contains(tool), "{output:?}");
        }
        assert_eq!(status(&format!("{tool} -a")), Some(1));
        assert_eq!(status(&format!("{tool} -z")), Some(1));
    }
    assert_eq!(status("chirp_status -h"), Some(1));
    // Too few words are a wish for help to these two, and a failure to the third.
    assert_eq!(status("chirp_get HOST /f"), Some(0));
    assert_eq!(status("chirp_put f HOST"), Some(0));
    assert_eq!(status("chirp_stream_files copy f HOST"), Some(1));
    let wrong = ours(&server, &directory, "chirp -a nonsense HOST whoami");
    assert_eq!(wrong.status.code(), Some(143));
    assert!(text(&wrong.stderr).contains("fatal: could not register"));
}

/// Gives a script to `chirp`.
fn script(server: &Reference, directory: &Path, lines: &str) -> (String, String, Option<i32>) {
    let mut command = tool(Whose::Ours, "chirp", directory);
    command
        .args(["-t", "10", "-a", "address", &server.address()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end before it has read all.
    let _gone = stdin.write_all(lines.as_bytes());
    drop(stdin);
    said(&child.wait_with_output().unwrap())
}

#[test]
fn a_script_goes_on_until_the_last_command_of_a_line_fails() {
    let server = Reference::start();
    let directory = server.outside("local");
    write(&directory, "f", b"hello\n");
    let session = "# a comment\n\nmkdir /p; cd p; put f 'sp ace'\ncat sp\\ ace\npwd\ncd ..; pwd\n\
                   mkdir \"/q;r\"\nls /\n";
    let (out, err, code) = script(&server, &directory, session);
    assert_eq!(out, "hello\n/p\n/\np\nq;r\n", "{err}");
    assert_eq!(code, Some(0));
    let failure = "couldn't ls: No such file or directory\n".to_owned();
    for (lines, expected) in [
        ("ls /none; pwd\npwd\n", ("/\n/\n", &failure[..], 0)),
        ("pwd; ls /none\npwd\n", ("/\n", &failure, 1)),
        ("close\npwd\npwd\n", ("not connected\n", "", 1)),
        ("pwd\nquit\nls /none\n", ("/\n", "", 0)),
        ("", ("", "", 1)),
        ("pwd", ("/\n", "", 0)),
    ] {
        let (out, err, code) = script(&server, &directory, lines);
        let found = (&out[..], &err[..], code.unwrap());
        assert_eq!(found, expected, "{lines:?}");
    }
}

#[test]
fn lines_are_split_and_joined() {
    let server = Reference::start();
    let directory = server.outside("local");
    let lines: String = (0..10_000).map(|line| format!("line {line}\n")).collect();
    let long = format!("{lines}{}\nno line end", "x".repeat(3_000_000));
    write(&directory, "lines", long.as_bytes());
    let places = "HOST /a HOST /b HOST /c";
    let stream = |words: &str| {
        let line = format!("chirp_stream_files -a address {words} {places}");
        let output = ours(&server, &directory, &line);
        assert!(output.status.success(), "{line}: {output:?}");
        output
    };
    stream("copy lines");
    for name in ["a", "b", "c"] {
        let copied = fs::read(server.root().join(name)).unwrap();
        assert!(copied == long.as_bytes(), "{name}: {} bytes", copied.len());
    }
    stream("split lines");
    let part = fs::read_to_string(server.root().join("b")).unwrap();
    assert!(part.starts_with("line 1\nline 4\n"), "{:?}", part.get(..40));
    stream("join back");
    assert!(fs::read(directory.join("back")).unwrap() == long.as_bytes());
    // An end in the middle of a line does not glue two together.
    fs::write(server.root().join("a"), "1\n4").unwrap();
    fs::write(server.root().join("b"), "2\n5\n6\n").unwrap();
    fs::write(server.root().join("c"), "").unwrap();
    for name in ["a", "b", "c"] {
        support::give_away(&server.root().join(name));
    }
    assert_eq!(text(&stream("join -").stdout), "1\n2\n4\n5\n6\n");
}

/// Waits until a file has this content.
fn wait_for(path: &Path, content: &str) {
    let start = Instant::now();
    while fs::read_to_string(path).unwrap_or_default() != content {
        assert!(start.elapsed() < LIMIT, "{path:?} is not {content:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A program that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Starts a `chirp_put` of a pipe to `/piped`, and waits until its first line is there.
fn piping(server: &Reference) -> (Running, ChildStdin) {
    let directory = server.outside("local");
    let mut command = tool(Whose::Ours, "chirp_put", &directory);
    command
        .args(["-a", "address", "-", &server.address(), "/piped"])
        .stdin(Stdio::piped());
    let mut child = Running(command.spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    wait_for(&server.root().join("piped"), "first\n");
    (child, stdin)
}

#[test]
fn what_a_pipe_brings_is_there_before_the_pipe_ends() {
    let server = Reference::start();
    let (mut child, mut stdin) = piping(&server);
    stdin.write_all(b"second\n").unwrap();
    drop(stdin);
    assert!(child.0.wait().unwrap().success());
    wait_for(&server.root().join("piped"), "first\nsecond\n");
}

#[test]
fn an_interrupted_tool_says_so_by_its_status() {
    let server = Reference::start();
    let (mut child, stdin) = piping(&server);
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    drop(stdin);
}

#[test]
fn a_file_is_followed() {
    let server = Reference::start();
    let directory = server.outside("local");
    // The reference writes down what came when its buffer is full or the stream ends.
    let long = "x".repeat(1_000_000) + "\n";
    let log = write(&directory, "log", long.as_bytes());
    let mut command = tool(Whose::Ours, "chirp_put", &directory);
    command.args(["-f", "-a", "address", "log", &server.address(), "/log"]);
    let _follower = Running(command.spawn().unwrap());
    let arrived = |least: u64| {
        let start = Instant::now();
        let target = server.root().join("log");
        while fs::metadata(&target).map_or(0, |file| file.len()) < least {
            assert!(start.elapsed() < LIMIT, "{least} bytes did not come");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    arrived(900_000);
    let mut file = fs::File::options().append(true).open(log).unwrap();
    file.write_all(long.as_bytes()).unwrap();
    arrived(1_900_000);
}

/// Takes a port at which nobody listens, and which nobody else can take.
fn reserve() -> (OwnedFd, String) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address.to_string())
}

#[test]
fn a_server_that_starts_late_is_waited_for() {
    let (reserved, address) = reserve();
    let mut command = tool(Whose::Ours, "chirp", Path::new("/"));
    command
        .args(["-t", "60", "-a", "address", &address, "whoami"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Running(command.spawn().unwrap());
    let mut said = String::new();
    let mut stderr = BufReader::new(child.0.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    let expected = format!("couldn't connect to {address}: Connection refused; still trying");
    assert!(said.starts_with(&expected), "{said}");

    rustix::net::listen(&reserved, 5).unwrap();
    let listener = TcpListener::from(reserved);
    let mut peer = accept(&listener);
    peer.write_all(WELCOME).unwrap();
    let mut out = String::new();
    let mut stdout = child.0.stdout.take().unwrap();
    stdout.read_to_string(&mut out).unwrap();
    assert_eq!(out, "address:127.0.0.1\n");
    assert!(child.0.wait().unwrap().success());
}

/// Takes the next connection, which comes in time.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((peer, _)) => {
                peer.set_nonblocking(false).unwrap();
                return peer;
            }
            Err(error) => assert!(start.elapsed() < LIMIT, "nobody calls: {error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A login by address, and the answer to the first request, `whoami`.
const WELCOME: &[u8] = b"yes\nyes\nyes\naddress\n127.0.0.1\n17\naddress:127.0.0.1";

#[test]
fn a_session_outlives_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = tool(Whose::Ours, "chirp", Path::new("/"));
    command
        .args(["-a", "address", &address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = Running(command.spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
    for _ in 0..3 {
        stdin.write_all(b"whoami\n").unwrap();
        let mut peer = accept(&listener);
        peer.write_all(WELCOME).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "address:127.0.0.1\n");
        // As a server does that has waited long enough for the next request.
        drop(peer);
    }
    drop(stdin);
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn a_server_that_never_comes_is_given_up_in_time() {
    let (_reserved, address) = reserve();
    let mut command = tool(Whose::Ours, "chirp", Path::new("/"));
    let output = command.args(["-t", "1", &address, "whoami"]);
    let output = output.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let last = format!("couldn't open {address}: Connection refused\n");
    assert!(text(&output.stderr).ends_with(&last), "{output:?}");
}

/// Answers HTTP requests, one after the other, and hands back their first lines.
fn catalog(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        let answer = |answer: &str| {
            let stream = accept(&listener);
            let mut lines = BufReader::new(&stream).lines();
            let first = lines.next().unwrap().unwrap();
            while lines.next().unwrap().unwrap() != "" {}
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            (&stream).write_all(head.as_bytes()).unwrap();
            (&stream).write_all(answer.as_bytes()).unwrap();
            first
        };
        answers.into_iter().map(answer).collect()
    });
    (address, serving)
}

const RECORDS: &str = r#"[
{"type":"chirp","name":"zeta","port":9094,"owner":"alice","version":"8.0.0","total":270553174016,"avail":77045039104},
{"type":"catalog","name":"cat","port":9097,"owner":"x","version":"7","total":1048576,"avail":1}
]
"#;

#[test]
fn a_catalog_s_servers_are_shown() {
    let (address, asked) = catalog(vec![RECORDS, RECORDS, "no JSON", RECORDS, "<html>"]);
    let status = |words: &str| {
        let mut command = tool(Whose::Ours, "chirp_status", Path::new("/"));
        command.env("CATALOG_HOST", &address).env("COLUMNS", "80");
        command.args(words.split_whitespace());
        command.output().unwrap()
    };
    let table = "\
TYPE     NAME                       PORT  OWNER      VERSION     TOTAL    AVAIL 
catalog  cat                        9097  x          7          1.0 MB     1.0B 
chirp    zeta                       9094  alice      8.0.0    252.0 GB  71.8 GB 
";
    assert_eq!(text(&status("").stdout), table);
    assert_eq!(text(&status("-s").stdout), "zeta:9094\n");
    // An old catalog understands no question, but tells all it knows.
    let owned = text(&status("-l owner alice").stdout);
    assert!(
        owned.starts_with("[\n{\"type\":\"chirp\",\"name\":\"zeta\""),
        "{owned}"
    );
    // What only the catalog can tell is not guessed.
    let failed = status("--where=port>0");
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).starts_with("couldn't query catalog: "));
    let asked = asked.join().unwrap();
    assert!(asked[0].starts_with("GET /query/"), "{asked:?}");
    assert!(asked[3].starts_with("GET /query.json "), "{asked:?}");
    // Of several the first that answers.
    let (address, _) = catalog(vec![RECORDS]);
    let (_reserved, dead) = reserve();
    let mut command = tool(Whose::Ours, "chirp_status", Path::new("/"));
    let output = command.args(["-s", "-c", &format!("{dead},{address}")]);
    assert_eq!(text(&output.output().unwrap().stdout), "zeta:9094\n");
}
