//! Weaknesses of the accounting of space.

use std::fs;
use std::sync::Barrier;

use crate::common::Place;

#[test]
fn w26_figures_stay_right_however_many_connections_change_them() {
    let place = Place::new();
    let server = place.serve(&["-Q", "100M"]);
    let mut owner = server.owner();
    owner.expect("mkalloc /a 20000000 448\n", "0\n");
    let barrier = Barrier::new(6);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (server, barrier) = (&server, &barrier);
            scope.spawn(move || {
                barrier.wait();
                // Connections in quick succession, which made the reference count anew each time.
                for round in 0..6 {
                    let mut peer = server.owner();
                    peer.putfile(&format!("/f{number}.{round}"), vec![b'x'; 5000]);
                    peer.putfile(&format!("/a/f{number}"), vec![b'x'; 100_000 + round]);
                    peer.answer(format!(
                        "mkalloc /m{number}.{round} 100000 448\nlsalloc /\n"
                    ));
                    if round % 2 == 0 {
                        peer.expect(
                            format!("rmall /m{number}.{round}\nunlink /f{number}.{round}\n"),
                            "0\n0\n",
                        );
                    }
                }
            });
        }
    });
    let files = 6 * 3 * 8192;
    let allocations = 20_000_000 + 6 * 3 * 100_000;
    owner.expect(
        "lsalloc /\nlsalloc /a\n",
        format!(
            "0\n/ 104857600 {}\n0\n/a 20000000 {}\n",
            files + allocations,
            6 * 102_400
        ),
    );
}

#[test]
fn w26_space_of_what_is_deleted_or_refused_is_given_back_at_once() {
    let place = Place::new();
    let server = place.serve(&["-Q", "1M"]);
    let mut owner = server.owner();
    let empty = owner.answer("lsalloc /\n");
    for _ in 0..5 {
        owner.expect("mkalloc /m 900000 448\nmkalloc /n 900000 448\n", "0\n-6\n");
        owner.expect("lsalloc /\n", "0\n/ 1048576 900000\n");
        // One that is refused for space leaves nothing, and the old one as it was.
        assert_eq!(owner.putfile("/m/f", "old"), 3);
        for path in ["/m/f", "/m/new", "/new"] {
            assert_eq!(owner.putfile(path, vec![b'x'; 950_000]), -6, "{path}");
        }
        assert_eq!(owner.list("/m"), [b"f"]);
        assert_eq!(owner.getfile("/m/f"), Ok(b"old".to_vec()));
        owner.answer("open /m/f w 0\n");
        owner.send("pwrite 0 950000 0\n").send(vec![b'x'; 950_000]);
        owner.expect("", "-6\n");
        owner.expect(
            "pwrite 0 1 899999999\nxftruncate 0 899999999\ntruncate /m/f 899999999\nclose 0\n",
            "-6\n-6\n-6\n0\n",
        );
        assert_eq!(owner.getfile("/m/f"), Ok(b"old".to_vec()));
        owner.expect("lsalloc /m\n", "0\n/m 900000 4096\n");
        owner.expect("rmall /m\nmkalloc /e 900000 448\nrmdir /e\n", "0\n0\n0\n");
        assert_eq!(owner.answer("lsalloc /\n"), empty);
    }
    // An upload that is cut off gives its reservation back.
    for _ in 0..3 {
        let mut cut = server.owner();
        cut.send("putfile /cut 420 800000\n").read_exactly("0\n");
        cut.send("some").finish_sending();
        cut.rest();
    }
    crate::common::eventually("all is given back", || owner.answer("lsalloc /\n") == empty);
    // The state on disk cannot be taken for a client's.
    owner.expect(
        "getfile /.__alloc\ntruncate /.__alloc 0\nunlink /.__alloc\nputfile /.__alloc 420 1\n",
        "-2\n-2\n-2\n-2\n",
    );
    assert!(
        fs::read_to_string(place.host(".__alloc"))
            .unwrap()
            .starts_with("1048576")
    );
}

#[test]
fn w26_two_clients_together_get_no_more_than_there_is() {
    let place = Place::new();
    let server = place.serve(&["-Q", "1M"]);
    server.owner().expect("lsalloc /\n", "0\n/ 1048576 0\n");
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (server, barrier) = (&server, &barrier);
            scope.spawn(move || {
                let mut peer = server.owner();
                peer.answer(format!("open /g{number} wc 420\n"));
                barrier.wait();
                for at in 0..100 {
                    peer.send(format!("pwrite 0 8192 {}\n", at * 8192))
                        .send([b'x'; 8192]);
                    peer.answer("");
                    peer.putfile(&format!("/f{number}.{at}"), [b'x'; 5000]);
                }
            });
        }
    });
    let used: u64 = fs::read_dir(place.base("root"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_str().unwrap().starts_with(".__"))
        .map(|entry| entry.metadata().unwrap().len().div_ceil(4096) * 4096)
        .sum();
    assert!(used <= 1_048_576, "{used} bytes");
    assert!(used > 900_000, "{used} bytes");
    server
        .owner()
        .expect("lsalloc /\n", format!("0\n/ 1048576 {used}\n"));
}
