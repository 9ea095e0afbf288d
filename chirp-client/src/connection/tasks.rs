//! The two tasks of a connection.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use chirp_proto::parse::reply::Status;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use super::loan::{Duplex, ReaderLoan, Rest, WriteHalf, WriterLoan};
use super::reader::Reader;
use super::{Command, Fault, Reply, Shape, State};

/// Small requests are collected up to this many bytes before they are written together.
const BATCH_BYTES: usize = 32 * 1024;

/// Of a reply that its caller dropped, this many bytes are read away so that the connection can go
/// on; more would cost more than a new connection.
const SKIP_MAX: u64 = 1024 * 1024;

/// A reply that is due.
pub(super) struct Expected {
    shape: Shape,
    reply: Due,
    /// For [`Shape::Exclusive`]: brings the writing half once the request is written.
    writer: Option<oneshot::Receiver<WriterLoan>>,
}

/// A reply that is owed since its request may have left. Dropped without one, it says so: a caller
/// who hears nothing at all knows that nothing was sent.
struct Due(Option<oneshot::Sender<Result<Reply, Fault>>>);

impl Due {
    fn send(mut self, result: Result<Reply, Fault>) {
        if let Some(reply) = self.0.take() {
            let _gone = reply.send(result);
        }
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            let _gone = reply.send(Err(Fault::Closed));
        }
    }
}

/// Puts requests on the wire.
pub(super) async fn write(
    mut submitted: mpsc::Receiver<Command>,
    expect: mpsc::Sender<Expected>,
    mut writer: WriteHalf,
    state: Arc<State>,
) {
    let work = async {
        let mut batch = BytesMut::new();
        while let Some(command) = submitted.recv().await {
            let mut next = Some(command);
            while let Some(command) = next.take() {
                let exclusive = matches!(command.shape, Shape::Exclusive);
                let (lend, lent) = oneshot::channel();
                let expected = Expected {
                    shape: command.shape,
                    reply: Due(Some(command.reply)),
                    writer: exclusive.then_some(lent),
                };
                if let Err(full) = expect.try_send(expected) {
                    // The replies that make room come only for what is on the wire.
                    writer.write_all_buf(&mut batch).await?;
                    writer.flush().await?;
                    if expect.send(full.into_inner()).await.is_err() {
                        return Ok(());
                    }
                }
                batch.extend_from_slice(&command.line);
                append(&mut batch, &mut writer, command.body).await?;
                if exclusive {
                    writer.write_all_buf(&mut batch).await?;
                    writer.flush().await?;
                    match lend_writer(writer, lend).await {
                        Some(returned) => writer = returned,
                        None => {
                            state.fail(Fault::Abandoned("a transfer was given up before its end"));
                            return Ok(());
                        }
                    }
                }
                if batch.len() < BATCH_BYTES {
                    next = submitted.try_recv().ok();
                }
            }
            writer.write_all_buf(&mut batch).await?;
            writer.flush().await?;
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::select! {
        () = state.ended.cancelled() => {}
        result = work => if let Err(error) = result {
            state.fail(error.into());
        },
    }
}

/// Adds a small body to the batch; writes the batch and a large one.
async fn append(
    batch: &mut BytesMut,
    writer: &mut WriteHalf,
    mut body: Bytes,
) -> std::io::Result<()> {
    if batch.len() + body.len() <= BATCH_BYTES {
        batch.extend_from_slice(&body);
        return Ok(());
    }
    writer.write_all_buf(batch).await?;
    while body.has_remaining() {
        writer.write_buf(&mut body).await?;
    }
    Ok(())
}

async fn lend_writer(writer: WriteHalf, lend: oneshot::Sender<WriterLoan>) -> Option<WriteHalf> {
    let (loan, returned) = WriterLoan::new(writer);
    // If the reader task refused the request meanwhile, the loan drops here and comes straight
    // back.
    let _unwanted = lend.send(loan);
    returned.await.ok()
}

/// Takes replies off the wire.
pub(super) async fn read(
    mut expected: mpsc::Receiver<Expected>,
    mut reader: Reader,
    state: Arc<State>,
) {
    let work = async {
        while let Some(next) = next_expected(&mut expected, &mut reader).await? {
            reader = answer(next, reader, &state).await?;
            // Whoever waits behind it sees that it goes on.
            state.step();
        }
        Ok::<(), Fault>(())
    };
    tokio::select! {
        () = state.ended.cancelled() => {}
        result = work => if let Err(fault) = result {
            state.fail(fault);
        },
    }
}

/// Waits for a request to be written; notices when the server closes an idle connection.
async fn next_expected(
    expected: &mut mpsc::Receiver<Expected>,
    reader: &mut Reader,
) -> Result<Option<Expected>, Fault> {
    tokio::select! {
        // A request is queued before its first byte is written, so whatever answers it is found
        // in the queue first.
        biased;
        next = expected.recv() => Ok(next),
        more = reader.fill() => {
            more?;
            match expected.try_recv() {
                Ok(next) => Ok(Some(next)),
                Err(_) => {
                    let begin: Vec<u8> = reader.buffered().iter().copied().take(20).collect();
                    let begin = begin.escape_ascii();
                    Err(Fault::Protocol(format!("the server sent \"{begin}\" unasked")))
                }
            }
        }
    }
}

/// Reads one reply and hands it over; returns the reader once the next reply begins.
async fn answer(
    expected: Expected,
    mut reader: Reader,
    state: &Arc<State>,
) -> Result<Reader, Fault> {
    let Expected {
        shape,
        reply,
        writer,
    } = expected;
    let value = match reader.status().await {
        Ok(Status::Success(value)) => value,
        Ok(refused) => {
            reply.send(Ok(Reply::Refused(refused)));
            return Ok(reader);
        }
        Err(fault) => return Err(failed(fault, reply)),
    };
    let data = match shape {
        Shape::Number => Ok(Bytes::new()),
        Shape::Line => reader.line().await,
        Shape::Counted(limit) if value > limit => Err(Fault::Protocol(format!(
            "the server announced {value} bytes where at most {limit} were asked for"
        ))),
        Shape::Counted(_) => {
            reader
                .exact(usize::try_from(value).unwrap_or(usize::MAX))
                .await
        }
        Shape::Texts(layout) => match reader.texts(layout, value).await {
            Ok(texts) => {
                reply.send(Ok(Reply::Texts(texts)));
                return Ok(reader);
            }
            Err(fault) => Err(fault),
        },
        Shape::Lend(rest) => {
            let (loan, returned) = ReaderLoan::new(reader, rest(value), Arc::clone(state));
            reply.send(Ok(Reply::Lent(value, loan)));
            return taken_back(returned).await;
        }
        Shape::Exclusive => {
            let writer = match writer {
                Some(writer) => writer.await.map_err(|_| Fault::Closed)?,
                None => return Err(failed(Fault::Closed, reply)),
            };
            let (loan, returned) = ReaderLoan::new(reader, Rest::Unknown, Arc::clone(state));
            reply.send(Ok(Reply::Exclusive(value, Duplex::new(loan, writer))));
            return taken_back(returned).await;
        }
    };
    match data {
        Ok(data) => {
            reply.send(Ok(Reply::Data(value, data)));
            Ok(reader)
        }
        Err(fault) => Err(failed(fault, reply)),
    }
}

fn failed(fault: Fault, reply: Due) -> Fault {
    reply.send(Err(fault.clone()));
    fault
}

/// Waits for the reading half and reads away what its user left.
async fn taken_back(returned: oneshot::Receiver<(Reader, Rest)>) -> Result<Reader, Fault> {
    const GIVEN_UP: Fault = Fault::Abandoned("a reply was given up before its end");
    let Ok((mut reader, rest)) = returned.await else {
        return Err(GIVEN_UP);
    };
    match rest {
        Rest::Nothing => {}
        Rest::Bytes(mut left) if left <= SKIP_MAX => {
            while left > 0 {
                left = left.saturating_sub(reader.some(left).await?.len() as u64);
            }
        }
        Rest::Lines => {
            let mut skipped = 0;
            loop {
                match reader.name_line().await?.len() as u64 {
                    0 => break,
                    _ if skipped > SKIP_MAX => return Err(GIVEN_UP),
                    length => skipped += length,
                }
            }
        }
        Rest::Bytes(_) | Rest::Unknown => return Err(GIVEN_UP),
    }
    Ok(reader)
}
