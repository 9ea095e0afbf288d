//! Files that the server reads back, in which clients have a say: the jobs, what was left unfinished, the
//! size of an allocation, the members of a group. The first byte says which.
#![no_main]

use chirp_server::acl::groups::is_member;
use chirp_server::jobs::inspect::restarted;
use chirp_server::space::disk::figures;
use chirp_server::vfs::journal::places;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, content)) = data.split_first() else {
        return;
    };
    match choice {
        b'j' => {
            if let Some(first) = restarted(content) {
                let second = restarted(&first).expect("what was written can be read");
                assert_eq!(
                    second.escape_ascii().to_string(),
                    first.escape_ascii().to_string()
                );
            }
        }
        b'u' => {
            for (directory, name) in places(content) {
                let mut steps = directory.split(|byte| *byte == b'/');
                assert!(steps.all(|step| step != b"." && step != b".."));
                assert!(name.starts_with(b".__") && !name.contains(&b'/'));
            }
        }
        b'a' => {
            let Ok(text) = std::str::from_utf8(content) else {
                return;
            };
            if let Some((size, used)) = figures(text) {
                assert_eq!(figures(&format!("{size}\n{used}\n")), Some((size, used)));
            }
        }
        b'g' => {
            let mut lines = content.split(|byte| *byte == b'\n');
            let subject = lines.next().unwrap_or_default();
            let members: Vec<&[u8]> = lines.collect();
            let expected = members.contains(&subject)
                || subject
                    .strip_prefix(b"unix:")
                    .is_some_and(|login| !login.contains(&b':') && members.contains(&login));
            if !members.is_empty() {
                assert_eq!(is_member(&members.join(&b'\n'), subject), expected);
            }
        }
        _ => {}
    }
});
