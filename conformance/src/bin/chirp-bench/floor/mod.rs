//! The floor's two servers: what sockets alone cost.

mod canned;
mod sender;

pub(crate) use canned::{Canned, Replies};
pub(crate) use sender::Sender;
