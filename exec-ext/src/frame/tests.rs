use bytes::{Bytes, BytesMut};
use chirp_proto::Code;
use proptest::prelude::*;

use super::{ClientFrame, FrameError, Position, ServerFrame, client_frame, server_frame};

fn encoded_server(frame: &ServerFrame) -> BytesMut {
    let mut buffer = BytesMut::new();
    frame.put_header(&mut buffer);
    buffer.extend_from_slice(frame.payload().map_or(&[], |payload| &payload[..]));
    buffer
}

fn encoded_client(frame: &ClientFrame) -> BytesMut {
    let mut buffer = BytesMut::new();
    frame.put_header(&mut buffer);
    buffer.extend_from_slice(frame.payload().map_or(&[], |payload| &payload[..]));
    buffer
}

fn client(bytes: &[u8]) -> Result<Option<ClientFrame>, FrameError> {
    client_frame(&mut BytesMut::from(bytes), 1 << 20)
}

fn server(bytes: &[u8]) -> Result<Option<ServerFrame>, FrameError> {
    server_frame(&mut BytesMut::from(bytes))
}

#[test]
fn frames_read_as_the_specification_writes_them() {
    let at = Position {
        out: 1,
        err: 2,
        stdin: 3,
        eof: true,
    };
    assert_eq!(server(b"at 1 2 3 1\n"), Ok(Some(ServerFrame::At(at))));
    let out = ServerFrame::Out(Bytes::from_static(b"a\nb"));
    assert_eq!(server(b"out 3\na\nbrest"), Ok(Some(out)));
    assert_eq!(server(b"out 3\na\n"), Ok(None));
    assert_eq!(server(b"detached\n"), Ok(Some(ServerFrame::Detached)));
    let failure = ServerFrame::Failure {
        code: Code::InvalidRequest,
        message: "stdin beyond the credit".into(),
    };
    assert_eq!(server(b"-8 stdin beyond the credit\n"), Ok(Some(failure)));
    assert_eq!(client(b"signal 15\n"), Ok(Some(ClientFrame::Signal(15))));
    let ack = ClientFrame::Ack { out: 7, err: 0 };
    assert_eq!(client(b"ack 7 0\n"), Ok(Some(ack)));
    let resize = ClientFrame::Resize { rows: 24, cols: 80 };
    assert_eq!(client(b"resize 24 80\n"), Ok(Some(resize)));
    assert_eq!(client(b"eof\n"), Ok(Some(ClientFrame::Eof)));
}

#[test]
fn what_is_no_frame_is_malformed() {
    for bytes in [
        &b"\n"[..],
        b"in\n",
        b"in \n",
        b"in -1\n",
        b"in +1\n",
        b"in 1 \n",
        b" in 1\n",
        b"in 99999999999999999999\n",
        b"eof \n",
        b"eof\r\n",
        b"EOF\n",
        b"signal 0\n",
        b"signal 65\n",
        b"signal 4294967297\n",
        b"resize 24\n",
        b"resize 65536 1\n",
        b"resize 0 80\n",
        b"resize 24 0\n",
        b"ack 1\n",
        b"out 1\nx",
        b"\xff\xfe\n",
    ] {
        let got = client(bytes);
        assert!(
            matches!(got, Err(FrameError::Unknown(_))),
            "{:?} gave {got:?}",
            bytes.escape_ascii().to_string()
        );
    }
    for bytes in [
        &b"at 1 2 3\n"[..],
        b"at 1 2 3 2\n",
        b"in 1\nx",
        b"-8x\n",
        b"-\n",
    ] {
        assert!(matches!(server(bytes), Err(FrameError::Unknown(_))));
    }
}

#[test]
fn a_line_without_end_is_refused_before_it_fills_memory() {
    assert_eq!(client(&[b'a'; 128]), Ok(None));
    assert_eq!(client(&[b'a'; 129]), Err(FrameError::HeaderTooLong));
    assert_eq!(server(&[b'a'; 129]), Err(FrameError::HeaderTooLong));
    // Error lines may be longer.
    assert_eq!(server(&[b'-'; 1023]), Ok(None));
    assert_eq!(server(&[b'-'; 1024]), Err(FrameError::HeaderTooLong));
}

#[test]
fn a_payload_above_the_limit_or_the_credit_is_refused_at_its_header() {
    assert_eq!(
        server(b"out 1048577\n"),
        Err(FrameError::TooLarge { length: 1_048_577 })
    );
    assert_eq!(server(b"out 1048576\n"), Ok(None));
    assert_eq!(
        client(b"in 1048577\n"),
        Err(FrameError::TooLarge { length: 1_048_577 })
    );
    assert_eq!(
        client_frame(&mut BytesMut::from(&b"in 6\n"[..]), 5),
        Err(FrameError::BeyondCredit {
            length: 6,
            credit: 5
        })
    );
    assert_eq!(
        client_frame(&mut BytesMut::from(&b"in 5\nabcde"[..]), 5),
        Ok(Some(ClientFrame::In(Bytes::from_static(b"abcde"))))
    );
}

#[test]
fn an_error_line_stays_one_line_within_its_limit() {
    let line = super::encode::error_line(-8, "a\nb\0c");
    assert_eq!(line, "-8 a b c\n");
    let line = super::encode::error_line(-8, &"é".repeat(2000));
    assert!(line.len() <= 1024 && line.ends_with("é\n"));
    assert_eq!(super::encode::error_line(-23, ""), "-23\n");
}

fn any_payload() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn any_server_frame() -> impl Strategy<Value = ServerFrame> {
    prop_oneof![
        any::<(u64, u64, u64, bool)>().prop_map(|(out, err, stdin, eof)| {
            ServerFrame::At(Position {
                out,
                err,
                stdin,
                eof,
            })
        }),
        any_payload().prop_map(ServerFrame::Out),
        any_payload().prop_map(ServerFrame::Err),
        any::<u64>().prop_map(ServerFrame::Credit),
        any_payload().prop_map(ServerFrame::Usage),
        Just(ServerFrame::Alive),
        any_payload().prop_map(ServerFrame::End),
        Just(ServerFrame::Detached),
        "[a-z ]{0,50}".prop_map(|message| ServerFrame::Failure {
            code: Code::InvalidRequest,
            message,
        }),
    ]
}

fn any_client_frame() -> impl Strategy<Value = ClientFrame> {
    prop_oneof![
        any_payload().prop_map(ClientFrame::In),
        Just(ClientFrame::Eof),
        (1..=64).prop_map(ClientFrame::Signal),
        (1_u16.., 1_u16..).prop_map(|(rows, cols)| ClientFrame::Resize { rows, cols }),
        any::<(u64, u64)>().prop_map(|(out, err)| ClientFrame::Ack { out, err }),
        Just(ClientFrame::Alive),
        Just(ClientFrame::Detach),
        Just(ClientFrame::Done),
    ]
}

proptest! {
    #[test]
    fn server_frames_survive_any_chunking(
        frames in proptest::collection::vec(any_server_frame(), 0..6),
        chunk in 1_usize..64,
    ) {
        let wire: Vec<u8> = frames.iter().flat_map(encoded_server).collect();
        let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(chunk) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = server_frame(&mut buffer).unwrap() {
                got.push(frame);
            }
        }
        prop_assert_eq!(got, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn client_frames_survive_any_chunking(
        frames in proptest::collection::vec(any_client_frame(), 0..6),
        chunk in 1_usize..64,
    ) {
        let wire: Vec<u8> = frames.iter().flat_map(encoded_client).collect();
        let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(chunk) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = client_frame(&mut buffer, u64::MAX).unwrap() {
                got.push(frame);
            }
        }
        prop_assert_eq!(got, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn no_bytes_panic_or_are_taken_without_a_frame(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = server_frame(&mut buffer) {}
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = client_frame(&mut buffer, 100) {}
    }
}
