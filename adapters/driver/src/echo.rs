//! A WebSocket echo, for conformance suites.
//!
//! Suites such as Autobahn test a server by what it echoes. A relay echoes nothing, so this does,
//! with all that lies under a relay: the head of the request, the decoder and the encoder are the
//! same. Text, which ends the conversation with a relay, is echoed as text.
//!
//! It is not for production: nothing has a deadline.

use std::io;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use pinch_proto::{Close, Frame};
use tungstenite::Utf8Bytes;

use crate::Stream;
use crate::codec::{Decoder, Incoming, encode, encode_text};
use crate::ends::{Turns, farewell};
use crate::http::{accept, encode as encode_head, encode_last, parse_head};

/// How much is read at once, in bytes.
const READ_SIZE: usize = 64 << 10;

/// Serves `stream` from its HTTP request to its end. Messages may have `message_bytes`.
///
/// # Errors
/// What the stream says. It is none that the peer closes, or breaks the protocol and is told so.
pub async fn serve(mut stream: impl Stream, message_bytes: usize) -> io::Result<()> {
    let (mut turns, mut rest) = (Turns::default(), Vec::new());
    let request = loop {
        match parse_head(&rest) {
            Ok(Some((request, length))) => {
                rest.drain(..length);
                break request;
            }
            Ok(None) if turns.read_some(&mut stream, &mut rest).await? > 0 => {}
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => {
                let response = encode_last(&error.response(), false);
                return farewell(&mut stream, &response).await;
            }
        }
    };
    match accept(&request) {
        Ok(response) => stream.write_all(&encode_head(&response)).await?,
        Err(error) => {
            let response = encode_last(&error.response(), false);
            return farewell(&mut stream, &response).await;
        }
    }
    let mut decoder = Decoder::new(message_bytes);
    decoder.preload(rest);
    let mut buffer = vec![0; READ_SIZE];
    let mut read = 0;
    loop {
        let (mut answers, mut over) = (Vec::new(), false);
        let bytes = buffer.get(..read).unwrap_or_default();
        decoder.decode(bytes, |incoming| {
            over = answer(incoming, message_bytes, &mut answers);
        });
        if over {
            return farewell(&mut stream, &answers).await;
        }
        stream.write_all(&answers).await?;
        read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Appends the answer to `incoming`; true if it is the last.
fn answer(incoming: Incoming<Utf8Bytes>, message_bytes: usize, answers: &mut Vec<u8>) -> bool {
    match incoming {
        Incoming::Message(message) => encode(&Frame::Message(message), answers),
        Incoming::Text(text) => encode_text(&text, answers),
        Incoming::Ping(payload) => encode(&Frame::Pong(payload), answers),
        Incoming::Pong(_) => {}
        Incoming::Close(close) => {
            encode(&Frame::Close(close.unwrap_or(Close::NO_STATUS)), answers);
            return true;
        }
        Incoming::Fault(fault) => {
            let close = fault.violation(message_bytes).close();
            encode(&Frame::Close(close), answers);
            return true;
        }
    }
    false
}
