//! `ticket_register`, `ticket_modify`, `ticket_delete`, `ticket_get`, `ticket_list` (part 7.2).

use chirp_proto::acl::Rights;
use chirp_proto::request::TicketName;
use chirp_proto::{Code, Subject, VirtualPath};
use std::sync::Arc;

use crate::authorize::Failure;
use crate::export::Export;
use crate::outcome::Outcome;
use crate::session::Principal;
use crate::tickets::{self, KEY_MAX};

/// Takes a key, for the caller itself or, from the superuser, for anybody.
pub(crate) fn register(
    export: &Export,
    who: &Principal,
    owner: &[u8],
    seconds: i64,
    length: u64,
) -> Result<Outcome, Failure> {
    current(export, who)?;
    let is_superuser = export.is_superuser(who);
    let owner = named(who, owner);
    let owner = match owner {
        Some(owner) if owner == *who.subject() || is_superuser => owner,
        None if is_superuser => return Err(Code::InvalidRequest.into()),
        Some(_) | None => return Err(Code::NotAuthorized.into()),
    };
    let (tickets, who) = (Arc::clone(&export.tickets), who.clone());
    Ok(Outcome::Body {
        length,
        limit: KEY_MAX,
        then: Box::new(move |key| {
            match tickets.register(&who, is_superuser, owner, seconds, key) {
                Ok(()) => Outcome::Number(0),
                Err(code) => Outcome::Failed(code),
            }
        }),
    })
}

/// Sets what a ticket leaves of its owner's rights in a directory; the caller must hold that itself.
pub(crate) fn modify(
    export: &Export,
    who: &Principal,
    ticket: TicketName,
    path: &VirtualPath,
    rights: &[u8],
) -> Result<Outcome, Failure> {
    current(export, who)?;
    let is_superuser = export.is_superuser(who);
    let rights = Rights::parse(rights);
    // The directory first, as the reference has it.
    let dir = export.door(who).directory(path, rights)?;
    export
        .tickets
        .modify(who, is_superuser, ticket, dir.path(), rights)?;
    Ok(Outcome::Number(0))
}

/// Removes a ticket.
pub(crate) fn delete(
    export: &Export,
    who: &Principal,
    ticket: TicketName,
) -> Result<Outcome, Failure> {
    current(export, who)?;
    export
        .tickets
        .delete(who, export.is_superuser(who), ticket)?;
    Ok(Outcome::Number(0))
}

/// Shows a ticket to who owns it by login: one that acts by a ticket sees none.
pub(crate) fn get(export: &Export, who: &Principal, name: TicketName) -> Result<Outcome, Failure> {
    // Here an unknown one is -8 in the reference.
    let ticket = export
        .tickets
        .find(name)
        .map_err(|_| Code::InvalidRequest)?;
    if ticket.owner() != who.login() && !export.is_superuser(who) {
        return Err(Code::NotAuthorized.into());
    }
    Ok(Outcome::Text(ticket.describe(tickets::now())))
}

/// Lists a subject's tickets; `all` are for the superuser.
pub(crate) fn list(export: &Export, who: &Principal, owner: &[u8]) -> Result<Outcome, Failure> {
    let is_superuser = export.is_superuser(who);
    let names = match named(who, owner) {
        Some(owner) if owner == *who.subject() || is_superuser => {
            current(export, who)?;
            export.tickets.list(Some(&owner))
        }
        None if owner == b"all" && is_superuser => export.tickets.list(None),
        Some(_) | None => return Err(Code::NotAuthorized.into()),
    };
    let mut text = Vec::new();
    for name in names {
        text.extend_from_slice(format!("39\nticket:{}", name.digits()).as_bytes());
    }
    text.extend_from_slice(b"0\n");
    Ok(Outcome::Text(text))
}

/// Refuses who acts by a ticket that counts no more.
fn current(export: &Export, who: &Principal) -> Result<(), Failure> {
    match export.tickets.acting(who) {
        Ok(_) => Ok(()),
        Err(_) => Err(Code::NotAuthorized.into()),
    }
}

/// Reads whom a request names.
fn named(who: &Principal, word: &[u8]) -> Option<Subject> {
    match word {
        b"self" => Some(who.subject().clone()),
        word => Subject::parse(word),
    }
}
