//! Length-prefixed frames in the bytes of a stream: what is to be written, and what was read.
//!
//! A frame on a byte stream is four bytes of length, most significant first, and the frame. Nothing here reads or writes.

use std::ops::Range;

/// The longest frame, in bytes; also the longest Noise message.
pub const MAX_FRAME: usize = 65_535;

/// The length before a frame on a byte stream, in bytes.
pub const PREFIX: usize = 4;

/// A reader starts with so much room; a link that only beats never needs more.
const FIRST_ROOM: usize = 4 << 10;

/// A reader's room grows up to this under load: two of the longest frames, so that one system call brings several.
const MOST_ROOM: usize = 2 * (MAX_FRAME + PREFIX);

/// A writer keeps no more than this once everything is written.
const KEPT_ROOM: usize = 256 << 10;

/// A length that no frame has: zero, or more than [`MAX_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes was announced; 1 to {MAX_FRAME} are allowed")]
pub struct BadLength(pub u32);

/// Frames with their prefixes, waiting to be written. Its memory is used again and never cleared in between.
#[derive(Debug, Default)]
pub struct OutBuffer {
    bytes: Vec<u8>,
    written: usize,
    end: usize,
}

impl OutBuffer {
    /// Room for a frame of `len` bytes after what waits already, to be filled by the caller; its content is arbitrary.
    ///
    /// # Panics
    /// If `len` is 0 or more than [`MAX_FRAME`].
    pub fn reserve(&mut self, len: usize) -> &mut [u8] {
        assert!((1..=MAX_FRAME).contains(&len), "no frame has {len} bytes");
        let start = self.end + PREFIX;
        self.end = start + len;
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end, 0);
        }
        let prefix = u32::try_from(len).expect("a frame's length fits").to_be_bytes();
        self.bytes[start - PREFIX..start].copy_from_slice(&prefix);
        &mut self.bytes[start..self.end]
    }

    /// What waits.
    #[must_use]
    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..self.end]
    }

    /// So many bytes of it were written.
    pub fn advance(&mut self, written: usize) {
        self.written = (self.written + written).min(self.end);
        if self.written == self.end {
            (self.written, self.end) = (0, 0);
            if self.bytes.len() > KEPT_ROOM {
                self.bytes.truncate(KEPT_ROOM);
                self.bytes.shrink_to_fit();
            }
        }
    }
}

/// Bytes as they were read, taken apart into frames. Bounded by two of the longest frames.
#[derive(Debug, Default)]
pub struct InBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl InBuffer {
    /// Takes the next complete frame off; its bytes are at [`Self::frame`] until more is read.
    ///
    /// # Errors
    /// If the length announced is no frame's. Checked before room is made for it.
    pub fn take(&mut self) -> Result<Option<Range<usize>>, BadLength> {
        match self.announced()? {
            Some(len) if self.end - self.start >= PREFIX + len => {
                let frame = self.start + PREFIX..self.start + PREFIX + len;
                self.start = frame.end;
                Ok(Some(frame))
            }
            _ => Ok(None),
        }
    }

    /// The bytes of a frame that was taken.
    #[must_use]
    pub fn frame(&self, at: Range<usize>) -> &[u8] {
        &self.bytes[at]
    }

    /// Whether another frame is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.announced(), Ok(Some(len)) if self.end - self.start >= PREFIX + len)
    }

    /// Whether nothing of a further frame was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room to read into: enough for the rest of the frame that began. Never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let wanted = match self.announced() {
            Ok(Some(len)) => PREFIX + len,
            _ => PREFIX,
        };
        if self.start + wanted > self.bytes.len() || self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let wanted = wanted.max(FIRST_ROOM);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were read into the room. A room that was filled is made larger, up to the bound.
    pub fn filled(&mut self, read: usize) {
        self.end = (self.end + read).min(self.bytes.len());
        if self.end == self.bytes.len() && self.bytes.len() < MOST_ROOM {
            self.bytes.resize((self.bytes.len() * 2).min(MOST_ROOM), 0);
        }
    }

    fn announced(&self) -> Result<Option<usize>, BadLength> {
        let Some(prefix) = self.bytes[self.start..self.end].first_chunk::<PREFIX>() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix);
        match usize::try_from(len) {
            Ok(len @ 1..=MAX_FRAME) => Ok(Some(len)),
            _ => Err(BadLength(len)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(buffer: &mut InBuffer, mut bytes: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, BadLength> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let room = buffer.room();
            let n = piece.min(bytes.len()).min(room.len());
            room[..n].copy_from_slice(&bytes[..n]);
            buffer.filled(n);
            bytes = &bytes[n..];
            while let Some(frame) = buffer.take()? {
                frames.push(buffer.frame(frame).to_vec());
            }
        }
        Ok(frames)
    }

    #[test]
    fn four_gigabytes_announced_are_refused_before_room_is_made() {
        for len in [0, 65_536, u32::MAX] {
            let mut buffer = InBuffer::default();
            assert_eq!(read(&mut buffer, &len.to_be_bytes(), 4), Err(BadLength(len)));
            assert!(buffer.bytes.len() <= FIRST_ROOM);
        }
    }

    #[test]
    fn a_writer_gives_back_what_a_burst_took() {
        let mut buffer = OutBuffer::default();
        for _ in 0..64 {
            buffer.reserve(MAX_FRAME).fill(1);
        }
        buffer.advance(10);
        buffer.advance(buffer.unwritten().len());
        assert!(buffer.unwritten().is_empty());
        assert!(buffer.bytes.capacity() <= KEPT_ROOM);
    }

    proptest! {
        /// Frames come out as they went in, however the bytes are cut on the way.
        #[test]
        fn frames_survive_any_cutting(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9000), 0..20), piece in 1_usize..20_000) {
            let mut out = OutBuffer::default();
            for frame in &frames {
                out.reserve(frame.len()).copy_from_slice(frame);
            }
            let mut buffer = InBuffer::default();
            prop_assert_eq!(read(&mut buffer, out.unwritten(), piece).unwrap(), frames);
            prop_assert!(buffer.is_empty() && buffer.bytes.len() <= MOST_ROOM);
        }

        /// Whatever comes, it is taken apart or refused, in bounded memory.
        #[test]
        fn garbage_is_refused_or_taken_apart(bytes in prop::collection::vec(any::<u8>(), 0..5000), piece in 1_usize..600) {
            let mut buffer = InBuffer::default();
            let _ = read(&mut buffer, &bytes, piece);
            prop_assert!(buffer.bytes.len() <= MOST_ROOM);
        }
    }
}
