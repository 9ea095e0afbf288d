//! Who may connect, and as what.

use super::{Role, User};
use crate::frame::Frame;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use subtle::{Choice, ConstantTimeEq};

/// Returns the role of whoever sent this CONNECT frame, or nothing for a wrong login or passcode.
///
/// Takes the same time for every wrong answer: digests are compared, of all users, in constant time.
pub(super) fn role(users: &[User], frame: &Frame, peer: IpAddr) -> Option<Role> {
    if users.is_empty() {
        return Some(if peer.to_canonical().is_loopback() {
            Role::Agent
        } else {
            Role::Guest
        });
    }
    let given = digest(
        frame.header("login").unwrap_or_default(),
        frame.header("passcode").unwrap_or_default(),
    );
    let mut found = None;
    for user in users {
        let same: Choice = given.ct_eq(&digest(&user.name, &user.passcode));
        if bool::from(same) {
            found = Some(user.role);
        }
    }
    found
}

fn digest(login: &str, passcode: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    // The length keeps "ab" + "c" and "a" + "bc" apart.
    hasher.update(login.len().to_le_bytes());
    hasher.update(login);
    hasher.update(passcode);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, passcode: &str, role: Role) -> User {
        User {
            name: name.to_owned(),
            passcode: passcode.to_owned(),
            role,
        }
    }

    #[test]
    fn without_users_loopback_is_the_agent() {
        let frame = Frame::new("CONNECT");
        assert_eq!(
            role(&[], &frame, "127.0.0.9".parse().unwrap()),
            Some(Role::Agent)
        );
        assert_eq!(
            role(&[], &frame, "::ffff:127.0.0.1".parse().unwrap()),
            Some(Role::Agent)
        );
        assert_eq!(
            role(&[], &frame, "192.168.56.7".parse().unwrap()),
            Some(Role::Guest)
        );
    }

    #[test]
    fn with_users_only_the_right_pair_counts() {
        let users = [
            user("agent", "secret", Role::Agent),
            user("guest", "known", Role::Guest),
        ];
        let ask = |login: &str, passcode: &str| {
            let frame = Frame::new("CONNECT")
                .with("login", login)
                .with("passcode", passcode);
            role(&users, &frame, "127.0.0.1".parse().unwrap())
        };
        assert_eq!(ask("agent", "secret"), Some(Role::Agent));
        assert_eq!(ask("guest", "known"), Some(Role::Guest));
        for (login, passcode) in [
            ("agent", "known"),
            ("agents", "ecret"),
            ("", ""),
            ("agent", ""),
        ] {
            assert_eq!(ask(login, passcode), None);
        }
        assert_eq!(
            role(&users, &Frame::new("CONNECT"), "127.0.0.1".parse().unwrap()),
            None
        );
    }
}
