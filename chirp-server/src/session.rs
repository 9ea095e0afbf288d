//! What one connection holds: who it is, and its descriptors.

use std::fs::File;
use std::sync::Arc;

use chirp_proto::limits::DESCRIPTORS_MAX;
use chirp_proto::request::{Descriptor, TicketName};
use chirp_proto::{Code, Dialect, Method, Subject};

use crate::space::Held;

/// Who a connection acts as.
///
/// The two identities differ for a ticket only: its login proves `ticket:DIGEST`, and it acts for the
/// subject that owns the ticket (`chirp-protocol.md`, part 7.4).
#[derive(Clone, Debug)]
pub struct Principal {
    login: Subject,
    effective: Subject,
    ticket: Option<TicketName>,
}

impl Principal {
    /// Makes the principal of a login that acts for itself.
    #[must_use]
    pub fn new(login: Subject) -> Self {
        Self {
            effective: login.clone(),
            login,
            ticket: None,
        }
    }

    /// Makes the principal of a login by a ticket, which acts for the ticket's owner as far as the
    /// ticket lets it.
    #[must_use]
    pub fn by_ticket(name: TicketName, owner: Subject) -> Self {
        Self {
            login: Subject::new(Method::Ticket, name.digits().as_bytes()),
            effective: owner,
            ticket: Some(name),
        }
    }

    /// Returns the ticket that bounds the rights.
    #[must_use]
    pub const fn ticket(&self) -> Option<TicketName> {
        self.ticket
    }

    /// Returns what the login proved: the superuser rule and the ownership of tickets ask for this.
    #[must_use]
    pub const fn login(&self) -> &Subject {
        &self.login
    }

    /// Returns who this acts for: what `whoami` says, and who owns what is made.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.effective
    }
}

/// The state of a logged-in connection. It ends with the connection, and its files are closed.
#[derive(Debug)]
pub struct Session {
    who: Principal,
    dialect: Dialect,
    descriptors: Descriptors,
}

impl Session {
    /// Starts the session of a login, in the plain dialect.
    #[must_use]
    pub fn new(who: Principal) -> Self {
        Self {
            who,
            dialect: Dialect::Plain,
            descriptors: Descriptors::default(),
        }
    }

    /// Changes the dialect.
    #[must_use]
    pub const fn speaking(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Returns the dialect that this speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Returns who this is.
    #[must_use]
    pub const fn who(&self) -> &Principal {
        &self.who
    }

    /// Returns who this acts for.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        self.who.subject()
    }

    /// Returns the open files.
    #[must_use]
    pub const fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    /// Returns who this is, and the open files to open and close some.
    pub const fn parts_mut(&mut self) -> (&Principal, &mut Descriptors) {
        (&self.who, &mut self.descriptors)
    }
}

/// The open files of a connection, numbered from 0.
#[derive(Debug, Default)]
pub struct Descriptors {
    slots: Vec<Option<Slot>>,
}

#[derive(Debug)]
struct Slot {
    file: Arc<File>,
    /// Keeps the file in the figures of its allocation.
    _held: Option<Held>,
}

impl Descriptors {
    /// Gives a file the lowest free number. What `held` keeps goes with the number.
    ///
    /// # Errors
    ///
    /// -9 when [`DESCRIPTORS_MAX`] files are open.
    pub fn insert(
        &mut self,
        file: impl Into<Arc<File>>,
        held: Option<Held>,
    ) -> Result<Descriptor, Code> {
        let free = self.slots.iter().position(Option::is_none);
        let number = free.unwrap_or(self.slots.len());
        if number >= DESCRIPTORS_MAX {
            return Err(Code::TooManyOpen);
        }
        let opened = Some(Slot {
            file: file.into(),
            _held: held,
        });
        match self.slots.get_mut(number) {
            Some(slot) => *slot = opened,
            None => self.slots.push(opened),
        }
        Descriptor::try_from(number).map_err(|_| Code::TooManyOpen)
    }

    /// Returns an open file.
    ///
    /// # Errors
    ///
    /// -12.
    pub fn file(&self, number: Descriptor) -> Result<&Arc<File>, Code> {
        let slot = usize::try_from(number)
            .ok()
            .and_then(|at| self.slots.get(at));
        slot.and_then(Option::as_ref)
            .map(|slot| &slot.file)
            .ok_or(Code::BadDescriptor)
    }

    /// Closes a file.
    ///
    /// # Errors
    ///
    /// -12.
    pub fn close(&mut self, number: Descriptor) -> Result<(), Code> {
        let slot = usize::try_from(number)
            .ok()
            .and_then(|at| self.slots.get_mut(at));
        slot.and_then(Option::take)
            .map(drop)
            .ok_or(Code::BadDescriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        File::open("/dev/null").unwrap()
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let mut descriptors = Descriptors::default();
        for expected in 0..3 {
            assert_eq!(descriptors.insert(file(), None), Ok(expected));
        }
        assert_eq!(descriptors.close(1), Ok(()));
        assert_eq!(descriptors.close(1), Err(Code::BadDescriptor));
        assert!(descriptors.file(1).is_err());
        assert_eq!(descriptors.insert(file(), None), Ok(1));
        assert_eq!(descriptors.insert(file(), None), Ok(3));
        assert!(descriptors.file(u32::MAX).is_err());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut session = Session::new(Principal::new(Subject::new(Method::Unix, b"alice")));
        let shared = file();
        for expected in 0..DESCRIPTORS_MAX {
            let number = session
                .descriptors
                .insert(shared.try_clone().unwrap(), None);
            assert_eq!(number, Ok(u32::try_from(expected).unwrap()));
        }
        assert_eq!(
            session.descriptors.insert(file(), None),
            Err(Code::TooManyOpen)
        );
        assert_eq!(session.descriptors.close(512), Ok(()));
        assert_eq!(session.descriptors.insert(file(), None), Ok(512));
    }
}
