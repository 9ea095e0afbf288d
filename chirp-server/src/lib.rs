//! A confined Chirp server: one directory, served over the protocol of cctools' `chirp_server`,
//! with the exec extension.
//!
//! A request goes one way: bytes → [`chirp_proto::Request`] → rights ([`authorize`]) → handler →
//! confined file system ([`vfs`]) → [`outcome::Outcome`] → bytes.
//!
//! | module | content |
//! |---|---|
//! | [`config`] | the command line |
//! | [`manner`], [`daemon`], [`parent`] | the name it runs under; in the background; its parent's end |
//! | [`server`] | what all connections share; start and stop |
//! | [`listener`] | accepting connections; the limit on them; shutdown |
//! | [`connection`] | one client: login, then requests until the end |
//! | [`auth`] | login methods |
//! | [`socket`] | a client's connection, over TCP or a Unix socket |
//! | [`session`] | what one connection holds: its subject and descriptors |
//! | [`authorize`] | which rights a request needs; the one door to the files |
//! | [`rules`] | the rights that each request needs, in one table |
//! | [`dispatch`] | requests to handlers, the whole list on one screen |
//! | `handlers` | what requests do, grouped by concern |
//! | [`export`] | the tree together with what governs it |
//! | [`vfs`] | the confined tree |
//! | [`acl`] | rights files |
//! | `guard` | rights files, kept from programs |
//! | [`space`] | how much clients may write |
//! | [`tickets`] | ticket files, and who may do what to them |
//! | [`transfer`] | bodies between sockets and files |
//! | [`spool`] | what has to be complete before it can be sent |
//! | [`heavy`] | long work, on threads of its own |
//! | [`pattern`] | the shell patterns of `search` |
//! | [`third_party`] | which servers this one calls for clients |
//! | [`places`] | how many connections each subject has |
//! | [`transient`] | the directory for the server's own state |
//! | [`privileges`] | who the server works as |
//! | [`exec`] | programs for clients |
//! | [`jobs`] | programs described now and run later |
//! | [`features`] | what the server can do besides plain Chirp |
//! | [`settings`] | the settings file and environment behind the command line |
//! | [`restore`] | the machine was restored from a snapshot: a new run |
//! | [`announce`], [`catalog`] | presence by STOMP; status records for cctools' catalog |

pub mod acl;
pub mod announce;
pub mod auth;
pub mod authorize;
pub mod catalog;
pub mod config;
pub mod connection;
pub mod daemon;
pub mod dispatch;
pub mod exec;
pub mod export;
pub mod features;
mod guard;
mod handlers;
pub mod heavy;
pub mod jobs;
pub mod listener;
pub mod logging;
pub mod manner;
pub mod outcome;
pub mod parent;
pub mod pattern;
pub mod places;
pub mod privileges;
mod random;
pub mod restore;
pub mod rules;
pub mod server;
pub mod session;
pub mod settings;
pub mod socket;
pub mod space;
pub mod spool;
pub mod third_party;
pub mod tickets;
pub mod transfer;
pub mod transient;
pub mod vfs;
