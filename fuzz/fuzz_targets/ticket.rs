//! Ticket files: what is accepted is written and read again as the same ticket, its masks never leave more
//! than they say, and only what a tool wrote is a key.
#![no_main]

use chirp_proto::acl::Rights;
use chirp_proto::ticket::{TICKET_MAX, Ticket, is_storable};
use chirp_server::tickets::key::{CHALLENGE, Key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(ticket) = Ticket::parse(data) else {
        return;
    };
    assert!(is_storable(ticket.key().as_bytes()));
    let text = ticket.to_text();
    if text.len() <= TICKET_MAX {
        assert_eq!(Ticket::parse(&text).as_ref(), Ok(&ticket));
    }
    assert!(ticket.describe(0).ends_with(b"0\n"));
    if let Some(key) = Key::from_pem(ticket.key()) {
        assert!(!key.verify(&[0; CHALLENGE], &[1; 128]));
    }
    for mask in ticket.masks().iter().take(8) {
        let dir = String::from_utf8_lossy(&mask.path).into_owned();
        let dir = dir.trim_matches('/').as_bytes();
        let below = [dir, b"/below"].concat();
        // A mask of its own would count there.
        if !ticket
            .masks()
            .iter()
            .any(|mask| mask.path.windows(5).any(|part| part == b"below"))
        {
            assert_eq!(ticket.mask(dir), ticket.mask(&below));
        }
        let mut changed = ticket.clone();
        if changed.set_mask(dir, Rights::READ).is_ok() {
            assert_eq!(changed.mask(dir), Rights::READ);
            assert_eq!(Ticket::parse(&changed.to_text()), Ok(changed));
        }
    }
});
