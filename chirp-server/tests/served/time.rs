//! Time-outs by lack of progress, limits on clients, and the server's end.

use std::io::Read;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Peer, Place, eventually};

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let place = Place::new();
    let server = place.serve(&["-t", "1"]);
    let mut idle = server.owner();
    let mut busy = server.owner();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        busy.expect("whoami 4\n", "4\nunix");
        std::thread::sleep(Duration::from_millis(50));
    }
    idle.read_end();
    busy.expect("whoami 4\n", "4\nunix");
}

#[test]
fn the_idle_time_stands_still_while_a_program_is_streamed_or_waited_for() {
    let place = Place::new();
    let server = place.serve(&["-t", "1", "--exec"]);
    let request = r#"{"cmd":"sh","args":["-c","sleep 2.5; echo late"]}"#;
    let mut streaming = server.owner();
    let mut waiting = server.owner();
    streaming.send(format!("exec {}\n{request}", request.len()));
    let id = streaming.line();
    waiting.send(format!("exec_wait {id} 30\nwhoami 4\n"));
    assert_eq!(streaming.line(), "at 0 0 0 1");
    assert!(waiting.counted().is_ok());
    waiting.read_exactly("4\nunix");
    streaming.read_exactly("out 5\nlate\n");
}

#[test]
fn a_dribbled_line_does_not_extend_the_idle_time() {
    let place = Place::new();
    let server = place.serve(&["-t", "1"]);
    let mut peer = server.owner();
    let begun = Instant::now();
    // The first byte that is refused tells that the connection has ended.
    while peer.try_send("x") {
        assert!(begun.elapsed() < crate::common::PATIENCE, "still open");
        std::thread::sleep(Duration::from_millis(50));
    }
    peer.read_end();
}

#[test]
fn a_stalled_upload_ends_and_a_slow_one_goes_on() {
    let place = Place::new();
    let server = place.serve(&["-s", "1"]);
    let mut stalled = server.owner();
    assert_eq!(stalled.putfile("/f", "old"), 3);
    let mut slow = server.owner();
    stalled
        .send("putfile /f 420 100000\nsome")
        .read_exactly("0\n");
    slow.send("putfile /slow 420 40000\n").read_exactly("0\n");
    for _ in 0..40 {
        slow.send([b'x'; 1000]);
        // Less than 1 KiB a second is as good as nothing.
        stalled.try_send("x");
        std::thread::sleep(Duration::from_millis(50));
    }
    slow.expect("", "40000\n");
    stalled.read_end();
    assert_eq!(slow.getfile("/f"), Ok(b"old".to_vec()));
    eventually("nothing is left of the upload", || {
        place.debris().is_empty()
    });
}

#[test]
fn a_reader_that_takes_nothing_is_ended() {
    let place = Place::new();
    place.write("big", vec![b'x'; 32 << 20]);
    let server = place.serve(&["-s", "1"]);
    let mut peer = server.owner();
    peer.send("getfile /big\n").read_exactly("33554432\n");
    // What fits into the sockets is sent; then the server gives up, and the rest never comes.
    eventually("the transfer is given up", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        !open
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|target| target.ends_with("big"))
    });
    assert!(peer.rest().len() < 32 << 20);
    // Answers that nobody takes do not pile up either.
    for number in 0..200 {
        place.write(format!("{number:0200}"), "");
    }
    let mut flood = server.owner();
    rustix::net::sockopt::set_socket_recv_buffer_size(flood.socket(), 4096).unwrap();
    let requests = "getdir /\n".repeat(1000);
    while flood.try_send(&requests) {}
    assert!(server.memory_kib("VmRSS") < 64 * 1024);
    flood.rest();
}

#[test]
fn above_the_limit_clients_wait_and_are_served_when_another_leaves() {
    let place = Place::new();
    let server = place.serve(&["-M", "2"]);
    let first = server.owner();
    let mut second = server.owner();
    let mut third = server.connect();
    third.send("address\nwhoami 7\n");
    let mut socket = third.socket().try_clone().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(socket.read(&mut [0; 1]).is_err(), "not served yet");
    socket
        .set_read_timeout(Some(crate::common::PATIENCE))
        .unwrap();
    second.expect("whoami 4\n", "4\nunix");
    drop(first);
    third.read_exactly("yes\nyes\nyes\naddress\n127.0.0.1\n7\naddress");
}

#[test]
fn the_signals_end_the_server_with_status_0() {
    let place = Place::new();
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut server = place.serve(&[]);
        let mut idle = server.owner();
        let mut silent = server.connect();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal:?}");
        idle.read_end();
        silent.read_end();
    }
}

#[test]
fn term_lets_running_transfers_finish_and_takes_no_new_ones() {
    let place = Place::new();
    let content: Vec<u8> = (0..32 << 20)
        .map(|number: u32| number.to_le_bytes()[1])
        .collect();
    place.write("big", &content);
    let mut server = place.serve(&[]);
    let mut upload = server.owner();
    let mut download = server.owner();
    let mut idle = server.owner();
    upload.send("putfile /new 420 6\nabc").read_exactly("0\n");
    download
        .send("getfile /big\nwhoami 4\n")
        .read_exactly("33554432\n");
    server.signal(Signal::TERM);
    idle.read_end();
    eventually("new connections are refused", || {
        Peer::try_connect(server.port, 1).is_err()
    });
    upload.send("def").read_exactly("6\n").read_end();
    assert!(
        download.take(content.len()) == content,
        "the whole file came"
    );
    download.rest();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(std::fs::read(place.host("new")).unwrap(), b"abcdef");
}

#[test]
fn term_waits_a_bounded_time() {
    let place = Place::new();
    let mut server = place.serve(&["--drain", "1"]);
    let mut upload = server.owner();
    upload.putfile("/f", "old");
    upload.send("putfile /f 420 6\nabc").read_exactly("0\n");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    upload.read_end();
    assert_eq!(std::fs::read(place.host("f")).unwrap(), b"old");
    assert!(place.debris().is_empty());
}

#[test]
fn a_second_term_ends_at_once() {
    let place = Place::new();
    let mut server = place.serve(&["--drain", "1h"]);
    let mut upload = server.owner();
    upload.send("putfile /f 420 6\nabc").read_exactly("0\n");
    server.signal(Signal::TERM);
    eventually("new connections are refused", || {
        Peer::try_connect(server.port, 1).is_err()
    });
    upload.send("d");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    upload.read_end();
    assert!(place.debris().is_empty());
}
