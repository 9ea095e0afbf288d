//! Replies made of several lines and counted texts, read as a whole.

use bytes::Bytes;
use chirp_proto::parse::reply::Status;

use super::{Fault, Reader};

/// Bytes that one such reply may bring. The longest honest one is an audit or a ticket's key.
const TEXTS_MAX: usize = 16 * 1024 * 1024;

/// What a text costs besides its bytes, so that many empty ones are bounded as well.
const TEXT_COST: usize = size_of::<Bytes>();

/// How the texts follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As many lines as the status says: `audit`.
    StatusLines,
    /// Lines up to an empty one: `getacl`.
    Lines,
    /// Counted texts up to a count of 0: `ticket_list`.
    Counted,
    /// Two counted texts, a line, and lines up to a `0`: `ticket_get`.
    Ticket,
}

impl Reader {
    /// Takes all texts of a reply off, whose status was `number`.
    pub(super) async fn texts(&mut self, layout: Layout, number: u64) -> Result<Vec<Bytes>, Fault> {
        let mut texts = Texts::default();
        match layout {
            Layout::StatusLines => {
                for _ in 0..number {
                    texts.add(self.name_line().await?)?;
                }
            }
            Layout::Lines => loop {
                match self.name_line().await? {
                    end if end.is_empty() => break,
                    line => texts.add(line)?,
                }
            },
            Layout::Counted => {
                while let Some(text) = self.counted_text(&texts).await? {
                    texts.add(text)?;
                }
            }
            Layout::Ticket => {
                for _ in 0..2 {
                    let text = self.counted_text(&texts).await?;
                    texts.add(text.unwrap_or_default())?;
                }
                texts.add(self.name_line().await?)?;
                loop {
                    match self.name_line().await? {
                        end if end == "0" => break,
                        line => texts.add(line)?,
                    }
                }
            }
        }
        Ok(texts.list)
    }

    /// Takes a count and as many bytes off; `None` for a count of 0.
    async fn counted_text(&mut self, so_far: &Texts) -> Result<Option<Bytes>, Fault> {
        let length = match self.status().await? {
            Status::Success(length) => length,
            Status::Failure { code, .. } => {
                return Err(Fault::Protocol(format!(
                    "the server sent {} where the length of a text was due",
                    code.value()
                )));
            }
        };
        match usize::try_from(length) {
            Ok(0) => Ok(None),
            Ok(length) if length <= so_far.room() => Ok(Some(self.exact(length).await?)),
            _ => Err(too_much()),
        }
    }
}

/// The texts that came, and what they cost.
#[derive(Default)]
struct Texts {
    list: Vec<Bytes>,
    size: usize,
}

impl Texts {
    fn room(&self) -> usize {
        TEXTS_MAX.saturating_sub(self.size)
    }

    fn add(&mut self, text: Bytes) -> Result<(), Fault> {
        self.size = self.size.saturating_add(text.len() + TEXT_COST);
        if self.size > TEXTS_MAX {
            return Err(too_much());
        }
        // A copy, lest a few bytes keep the whole receive buffer.
        self.list.push(Bytes::copy_from_slice(&text));
        Ok(())
    }
}

fn too_much() -> Fault {
    Fault::Protocol(format!("an answer of more than {TEXTS_MAX} bytes"))
}
