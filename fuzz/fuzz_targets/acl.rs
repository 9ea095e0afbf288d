//! Access control lists: what is read and written again grants the same to the same subjects.
#![no_main]

use chirp_proto::acl::{Acl, Rights};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let acl = Acl::parse(data);
    // Lines without a right are shown, but are not read from what was written.
    let again = Acl::parse(&acl.to_text());
    let text = again.to_text();
    assert_eq!(Acl::parse(&text).to_text(), text);
    let mut subjects = vec![
        "unix:alice".to_owned(),
        "hostname:a.b".to_owned(),
        String::new(),
    ];
    for entry in acl.entries() {
        let literal = String::from_utf8_lossy(&entry.subject);
        subjects.push(literal.replace('*', ""));
        subjects.push(literal.into_owned());
    }
    for subject in subjects.iter().take(16) {
        assert_eq!(again.rights_of(subject), acl.rights_of(subject));
    }
    if let Some(entry) = acl.entries().first() {
        let mut changed = acl.clone();
        changed.set(&entry.subject, Rights::NONE);
        assert!(
            changed
                .entries()
                .iter()
                .all(|other| other.subject != entry.subject)
        );
    }
});
