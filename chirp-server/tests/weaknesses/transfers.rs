//! Weaknesses of bodies: cut off, too short, never finished.

use std::fs;

use crate::common::{Place, Server, eventually};
use crate::reference::Reference;

#[test]
fn w10_an_interrupted_upload_keeps_the_old_file() {
    let place = Place::new();
    let attack = |server: &Server<'_>| {
        place.write("good", "the old content");
        let mut peer = server.owner();
        peer.send("putfile /good 420 100\n").read_exactly("0\n");
        peer.send("7 bytes");
        peer.finish_sending();
        peer.rest();
        server.owner().getfile("/good")
    };
    assert_eq!(attack(&Reference::serve(&place, &[])), Err(-3));
    let ours = place.serve(&[]);
    assert_eq!(attack(&ours), Ok(b"the old content".to_vec()));
    eventually("nothing is left of it", || {
        place
            .debris()
            .iter()
            .all(|path| !path.to_string_lossy().contains(".__put"))
    });
}

#[test]
fn w11_a_file_that_shrinks_does_not_put_answers_into_its_body() {
    const LENGTH: usize = 60_000_000;
    let place = Place::new();
    let attack = |server: &Server<'_>| {
        place.write("big", vec![b'x'; LENGTH]);
        let mut owner = server.owner();
        owner
            .send("getfile /big\nwhoami 4\n")
            .read_exactly("60000000\n");
        // The sockets hold less than the file, so it is still being sent.
        let big = fs::File::options()
            .write(true)
            .open(place.host("big"))
            .unwrap();
        big.set_len(1000).unwrap();
        owner.finish_sending();
        owner.rest()
    };
    let theirs = attack(&Reference::serve(&place, &[]));
    assert!(theirs.len() < LENGTH && theirs.ends_with(b"4\nunix"));
    let ours = attack(&place.serve(&[]));
    assert!(
        ours.len() < LENGTH && !ours.contains(&b'\n'),
        "{} bytes",
        ours.len()
    );
}

#[test]
fn w27_a_stream_ends_without_a_stray_line_and_with_all_its_bytes() {
    let place = Place::new();
    let attack = |server: &Server<'_>| {
        let mut owner = server.owner();
        owner.send("putstream /f\n").read_exactly("0\n");
        owner.send("some words");
        owner.finish_sending();
        String::from_utf8(owner.rest()).unwrap()
    };
    let stray = attack(&Reference::serve(&place, &[]));
    assert!(stray.starts_with('-'), "{stray}");
    let ours = place.serve(&[]);
    assert_eq!(attack(&ours), "");
    eventually("all is there", || {
        ours.owner().getfile("/f") == Ok(b"some words".to_vec())
    });
}
