//! The bodies of `job_create` and of the other verbs: what is accepted is said in a status, and that is
//! read as the same job.
#![no_main]

use chirp_server::jobs::inspect::{described, ids};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = ids(data);
    let Ok(status) = described(data) else {
        return;
    };
    let again = described(&status).expect("a status says a whole description");
    assert_eq!(
        again.escape_ascii().to_string(),
        status.escape_ascii().to_string()
    );
});
