//! The JSON of `exec`: what is accepted is written and read again as the same request.
#![no_main]

use exec_ext::request::ExecRequest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(received) = ExecRequest::parse(data) else {
        return;
    };
    let text = received.to_json();
    let again = ExecRequest::parse(&text).expect("what was written can be read");
    assert_eq!(again.to_json(), text);
});
