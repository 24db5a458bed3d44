//! One WebSocket: its handshake, what is heard, and messages written as frames whose bytes all viewers share.
//!
//! What is heard goes through `tungstenite`. What is told does not: the library copies each message into a buffer of the socket
//! and keeps that buffer, so that a thousand idle tabs would hold a thousand copies of the last snapshot.

use std::io::{ErrorKind, IoSlice, Result};
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{Utf8Bytes, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::web::viewer::admission::Refused;

/// The longest message or frame of a page, in bytes.
const LONGEST_HEARD: usize = 64 << 10;

/// What a socket reads at once, in bytes: pages say little.
const READ_BUFFER: usize = 1 << 10;

/// The library's own answers (pong, close) are all that goes through its write buffer.
const WRITE_BUFFER: usize = 1 << 10;

/// A page that has not taken [`PORTION`] bytes after so long is given up.
const STALLED: Duration = Duration::from_secs(20);

/// So many bytes, and the rest of the message they end in, are written at a time.
const PORTION: usize = 48 << 10;

/// The longest header of a frame, in bytes.
const LONGEST_HEADER: usize = 14;

/// A request that asks for a WebSocket. As an extractor: 400 if it does not.
pub(crate) struct Handshake {
    upgrade: OnUpgrade,
    key: HeaderValue,
}

/// An open WebSocket.
pub(crate) struct Channel {
    stream: WebSocketStream<TokioIo<Upgraded>>,
}

impl<S: Send + Sync> FromRequestParts<S> for Handshake {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> std::result::Result<Self, Refused> {
        let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
        // looks at everything a handshake must have
        match (WebSocketUpgrade::from_request_parts(parts, state).await, upgrade, key) {
            (Ok(_), Some(upgrade), Some(key)) => Ok(Self { upgrade, key }),
            _ => Err(Refused::bad_request("this address is a WebSocket's, and nothing else")),
        }
    }
}

impl Handshake {
    /// The answer that opens the WebSocket once it is sent.
    pub(crate) fn answer(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::try_from(derive_accept_key(self.key.as_bytes()));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.expect("base64 is a header value"));
        response
    }

    /// The WebSocket, after the answer was sent; none if the connection broke before.
    pub(crate) async fn open(self) -> Option<Channel> {
        let upgraded = self.upgrade.await.ok()?;
        let limits = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(LONGEST_HEARD))
            .max_frame_size(Some(LONGEST_HEARD));
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
        Some(Channel { stream })
    }
}

impl Channel {
    /// What the page says next; none when it is closed. Pings are answered. Cancel safe.
    pub(crate) async fn hear(&mut self) -> Option<std::result::Result<Message, Error>> {
        self.stream.next().await
    }

    /// Tells messages, in portions.
    ///
    /// # Errors
    /// If the connection is gone, or the page takes nothing for [`STALLED`].
    pub(crate) async fn tell(&mut self, mut messages: &[Utf8Bytes]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        // an answer of the library that is half written must not be mixed with what comes now
        timeout(STALLED, self.stream.flush()).await?.map_err(|_| ErrorKind::BrokenPipe)?;
        while !messages.is_empty() {
            let mut bytes = 0;
            let before = messages.iter().take_while(|message| {
                let begins = bytes < PORTION;
                bytes += message.len();
                begins
            });
            let (now, later) = messages.split_at(before.count());
            timeout(STALLED, write(self.stream.get_mut(), now)).await??;
            messages = later;
        }
        Ok(())
    }

    /// Answers the page's own end of the WebSocket, if that is possible now.
    pub(crate) async fn finish(&mut self) {
        // whoever closed does not wait for long
        let _ = timeout(Duration::from_secs(1), self.stream.flush()).await;
    }

    /// Ends the WebSocket from this side.
    ///
    /// # Errors
    /// If the connection is gone.
    pub(crate) async fn close(&mut self, code: u16, reason: &'static str) -> Result<()> {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.stream.send(Message::Close(Some(frame))).await.map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

/// Writes each text as one frame, all of them with as few system calls as the connection allows.
async fn write(stream: &mut (impl AsyncWrite + Unpin), texts: &[Utf8Bytes]) -> Result<()> {
    let mut headers = vec![[0; LONGEST_HEADER]; texts.len()];
    let mut slices = Vec::with_capacity(texts.len() * 2);
    for (text, header) in texts.iter().zip(&mut headers) {
        let length = text.len() as u64;
        let text_frame = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
        text_frame.format(length, &mut &mut header[..]).expect("a header fits its longest form");
        slices.push(IoSlice::new(&header[..text_frame.len(length)]));
        slices.push(IoSlice::new(text.as_bytes()));
    }
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match stream.write_vectored(rest).await? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Reads what was written as a client of the library does.
    async fn read_back(texts: Vec<Utf8Bytes>) -> Vec<String> {
        // small, so that writes are cut in the middle of headers and texts
        let (mut here, there) = tokio::io::duplex(7);
        let written = async move {
            write(&mut here, &texts).await.unwrap();
            drop(here);
        };
        let read = async {
            let mut client = WebSocketStream::from_raw_socket(there, Role::Client, None).await;
            let mut texts = Vec::new();
            while let Some(Ok(Message::Text(text))) = client.next().await {
                texts.push(text.as_str().to_owned());
            }
            texts
        };
        tokio::join!(written, read).1
    }

    #[tokio::test]
    async fn what_is_written_is_read_by_any_client() {
        let texts: Vec<String> =
            [0, 1, 125, 126, 127, 65_535, 65_536, 100_000].map(|length| "ü".repeat(length / 2)).into();
        let told = texts.iter().map(|text| text.as_str().into()).collect();
        assert_eq!(read_back(told).await, texts);
        assert_eq!(read_back(Vec::new()).await, [""; 0]);
    }

    #[tokio::test]
    async fn a_page_that_is_gone_is_noticed() {
        let (mut here, mut there) = tokio::io::duplex(64);
        let texts = ["x".repeat(1000).into()];
        let read = async move { there.read_exact(&mut [0; 10]).await.map(|_| drop(there)).unwrap() };
        assert_eq!(tokio::join!(write(&mut here, &texts), read).0.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
