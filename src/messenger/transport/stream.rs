//! Frames over any byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::messenger::frame::{InBuffer, OutBuffer};
use crate::messenger::transport::{FrameSink, FrameStream, Link};

/// A link over the two halves of a byte stream. Dropping the writing half must close that direction.
pub fn link<R, W>(reader: R, writer: W) -> Link
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    Link {
        sink: Box::new(Writer { io: writer, buffer: OutBuffer::default() }),
        stream: Box::new(Reader { io: reader, buffer: InBuffer::default() }),
        address: None,
    }
}

struct Writer<W> {
    io: W,
    buffer: OutBuffer,
}

impl<W: AsyncWrite + Unpin + Send> FrameSink for Writer<W> {
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        self.buffer.reserve(len)
    }

    fn queued(&self) -> usize {
        self.buffer.unwritten().len()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.unwritten().is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, self.buffer.unwritten()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

struct Reader<R> {
    io: R,
    buffer: InBuffer,
}

impl<R: AsyncRead + Unpin + Send> FrameStream for Reader<R> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<&[u8]>>> {
        loop {
            match self.buffer.take() {
                Ok(Some(frame)) => return Poll::Ready(Ok(Some(self.buffer.frame(frame)))),
                Ok(None) => {}
                Err(bad) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, bad))),
            }
            let mut room = ReadBuf::new(self.buffer.room());
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
            match room.filled().len() {
                0 if self.buffer.is_empty() => return Poll::Ready(Ok(None)),
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => self.buffer.filled(read),
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.buffer.is_ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(room: usize) -> (Link, Link) {
        let (a, b) = tokio::io::duplex(room);
        let ((ar, aw), (br, bw)) = (tokio::io::split(a), tokio::io::split(b));
        (link(ar, aw), link(br, bw))
    }

    #[tokio::test]
    async fn frames_cross_a_narrow_stream_whole() {
        let (mut a, mut b) = pair(7);
        let frames: Vec<Vec<u8>> = (1..50_u8).map(|n| vec![n; usize::from(n) * 11]).collect();
        let send = async {
            for frame in &frames {
                a.send(frame).await.unwrap();
            }
        };
        let receive = async {
            for frame in &frames {
                assert_eq!(b.recv().await.unwrap().unwrap(), frame);
            }
        };
        tokio::join!(send, receive);
    }

    #[tokio::test]
    async fn a_stream_cut_inside_a_frame_is_an_error_and_between_frames_an_end() {
        let (mut raw, other) = tokio::io::duplex(100);
        let (reader, writer) = tokio::io::split(other);
        let mut whole = link(reader, writer);
        tokio::io::AsyncWriteExt::write_all(&mut raw, &[0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 1]).await.unwrap();
        drop(raw);
        assert_eq!(whole.recv().await.unwrap().unwrap(), [1, 2].as_slice());
        assert_eq!(whole.recv().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (a, mut b) = pair(100);
        drop(a);
        assert_eq!(b.recv().await.unwrap(), None);
    }
}
