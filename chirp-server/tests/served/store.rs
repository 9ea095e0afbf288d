//! `store`: a whole file in one step, with no go-ahead between line and content.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::common::{Place, eventually};

#[test]
fn many_files_are_stored_without_waiting_and_what_is_refused_is_dropped() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.expect(
        "mkdir /d 448\nstore /d/a 493 1000 3\nabcstore /d/b 420 -5 0\nstore /none/c 420 1 6\nwhoamistore /d 420 1 2\nxxstore /d/a/b 420 1 1\nxstore /d/\x2e__acl2 420 1 1\nxgetfile /d/a\n",
        "0\n3\n0\n-3\n-13\n-3\n-2\n3\nabc",
    );
    let (a, b) = (place.host("d/a"), place.host("d/b"));
    let a = fs::metadata(a).unwrap();
    assert_eq!((a.permissions().mode() & 0o7777, a.mtime()), (0o755, 1000));
    let b = fs::metadata(b).unwrap();
    assert_eq!((b.permissions().mode() & 0o7777, b.mtime()), (0o644, -5));
}

#[test]
fn an_old_file_stays_until_the_new_one_is_whole_and_then_has_the_new_ones_mode_and_time() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.expect("store /f 448 1 3\nold", "3\n");
    let mut cut = server.owner();
    cut.send("store /f 384 2 100\nhalf of it");
    eventually("it is begun", || !place.debris().is_empty());
    drop(cut);
    eventually("nothing is left of it", || place.debris().is_empty());
    owner.expect("getfile /f\n", "3\nold");
    owner.expect("store /f 420 77 5\nnewer", "5\n");
    let found = fs::metadata(place.host("f")).unwrap();
    assert_eq!(
        (found.permissions().mode() & 0o7777, found.mtime()),
        (0o644, 77)
    );
    assert_eq!(owner.getfile("/f"), Ok(b"newer".to_vec()));
}
