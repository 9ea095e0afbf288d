use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use chirp_client::{Client, XattrFlags, XattrTarget};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Failure;
use crate::cli::RemotePath;
use crate::json::{self, Array, Json, Text};
use crate::output;

/// Extended attributes of files of the server.
///
/// The part before the first dot of a NAME is its kind; `user` is the one for everybody.
#[derive(Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:
  chirp-client guest xattr set /jobs/17/out user.origin run-3
  chirp-client guest xattr get /jobs/17/out user.origin
  chirp-client guest xattr list /jobs/17/out
  chirp-client guest xattr rm /jobs/17/out user.origin"
)]
pub(crate) struct Xattr {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Get(Get),
    List(List),
    Set(Set),
    Rm(Rm),
}

/// Whose attributes are meant.
#[derive(Args)]
struct Target {
    /// A symbolic link itself, not what it leads to.
    #[arg(short = 'n', long)]
    no_dereference: bool,
    /// The file or directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
}

impl Target {
    fn meant(&self) -> XattrTarget {
        let path = self.path.0.clone();
        match self.no_dereference {
            true => XattrTarget::Link(path),
            false => XattrTarget::Path(path),
        }
    }
}

/// Prints the value of an attribute.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest xattr get /jobs/17/out user.origin")]
pub(crate) struct Get {
    #[command(flatten)]
    of: Target,
    #[command(flatten)]
    json: Json,
    /// The attribute.
    name: String,
}

/// Prints the names of the attributes.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest xattr list /jobs/17/out")]
pub(crate) struct List {
    #[command(flatten)]
    of: Target,
    #[command(flatten)]
    json: Json,
}

/// Sets an attribute.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest xattr set /jobs/17/out user.origin run-3")]
pub(crate) struct Set {
    /// Fail if there is one of that name.
    #[arg(short, long)]
    create: bool,
    /// Fail if there is none of that name.
    #[arg(short, long, conflicts_with = "create")]
    replace: bool,
    #[command(flatten)]
    of: Target,
    /// The attribute.
    name: String,
    /// Its value: any bytes.
    value: OsString,
}

/// Removes an attribute.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest xattr rm /jobs/17/out user.origin")]
pub(crate) struct Rm {
    #[command(flatten)]
    of: Target,
    /// The attribute.
    name: String,
}

/// Sets an attribute, or removes it if there is no VALUE, as the reference's `chirp` does.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest xattr_set /jobs/17/out user.origin run-3")]
pub(crate) struct ReferenceSet {
    /// The file or directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
    /// The attribute.
    name: String,
    /// Its value.
    value: Option<OsString>,
}

#[derive(Serialize)]
struct Attribute<'a> {
    path: Text<'a>,
    name: &'a str,
    value: Text<'a>,
}

impl Xattr {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self.action {
            Action::Get(get) => get.run(client).await,
            Action::List(list) => list.run(client).await,
            Action::Set(set) => set.run(client).await,
            Action::Rm(rm) => Ok(client.removexattr(&rm.of.meant(), &rm.name).await?),
        }
    }
}

impl Get {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let value = client.getxattr(&self.of.meant(), &self.name).await?;
        if self.json.wanted {
            return json::print(&Attribute {
                path: (&self.of.path.0).into(),
                name: &self.name,
                value: value[..].into(),
            });
        }
        output::write(&[&output::name(&value)[..], b"\n"].concat())
    }
}

impl List {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let names = client.listxattr(&self.of.meant()).await?;
        if self.json.wanted {
            let mut array = Array::default();
            for name in &names {
                array.push(&Text::from(&name[..]))?;
            }
            return array.finish();
        }
        let mut text = Vec::new();
        for name in &names {
            text.extend_from_slice(&output::name(name));
            text.push(b'\n');
        }
        output::write(&text)
    }
}

impl Set {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let flags = match (self.create, self.replace) {
            (true, _) => XattrFlags::Create,
            (false, true) => XattrFlags::Replace,
            (false, false) => XattrFlags::Either,
        };
        let value = Bytes::from(self.value.into_vec());
        let target = self.of.meant();
        Ok(client.setxattr(&target, &self.name, value, flags).await?)
    }
}

impl ReferenceSet {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let target = XattrTarget::Path(self.path.0);
        let Some(value) = self.value else {
            return Ok(client.removexattr(&target, &self.name).await?);
        };
        let value = Bytes::from(value.into_vec());
        let either = XattrFlags::Either;
        Ok(client.setxattr(&target, &self.name, value, either).await?)
    }
}
