//! Header and body of one message, and how messages stand in the plaintext of frames.
//!
//! The first byte of a plaintext says what it is. Numbers are big-endian.
//!
//! | first byte | what | then |
//! |---|---|---|
//! | 0 | batch | time (8), then for each envelope kind (1), length of the body (2), body |
//! | 1 | first part of a long envelope | time (8), kind (1), length of the whole body (4), bytes |
//! | 2 | further part | bytes |
//! | 3 | ping | token (8), milliseconds of silence after which the sender may be given up (4) |
//! | 4 | pong | the ping's token (8) |
//! | 5 | close | nothing |
//!
//! Parts follow each other without a batch in between. Source and sequence don't travel: the handshake proved the one, counting
//! gives the other.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::base::clock::Timestamp;
use crate::base::id::NodeId;

/// The longest body, in bytes.
pub const MAX_BODY: usize = 4 << 20;

const BATCH: u8 = 0;
const FIRST_PART: u8 = 1;
const FURTHER_PART: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;
const CLOSE: u8 = 5;

/// What stands before the envelopes of a batch, in bytes.
const BATCH_HEADER: usize = 1 + 8;
/// What stands before a body in a batch, in bytes.
const ENTRY_HEADER: usize = 1 + 2;
/// What stands before the bytes of a first part, in bytes.
const FIRST_PART_HEADER: usize = 1 + 8 + 1 + 4;

/// One message between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What the body is; the messenger does not look.
    pub kind: u8,
    /// Which node it comes from: what the handshake proved, not what the sender wrote.
    pub source: NodeId,
    /// Rises by one with every envelope on one link, from 0.
    pub sequence: u64,
    /// When it was sent, by the sender's clock.
    pub time: Timestamp,
    /// The message.
    pub body: Bytes,
}

/// What one plaintext said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Envelopes, or a part of one, were added.
    Envelopes,
    /// "Answer this token; give me up if you hear nothing for so long."
    Ping { token: u64, silence: Duration },
    /// The answer to a ping.
    Pong(u64),
    /// "This was my last word."
    Close,
}

/// A plaintext that breaks the rules above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Gives `frame` the plaintexts, of at most `most` bytes each, in which `batch` travels; as few as possible. Bodies must be
/// no longer than [`MAX_BODY`]. `plain` is room that is used again.
pub(crate) fn pack(
    batch: &[(u8, Bytes)],
    time: Timestamp,
    most: usize,
    plain: &mut Vec<u8>,
    mut frame: impl FnMut(&[u8]),
) {
    let time = time.as_micros().to_be_bytes();
    plain.clear();
    for (kind, body) in batch {
        let entry = ENTRY_HEADER + body.len();
        if !plain.is_empty() && plain.len() + entry > most {
            frame(plain);
            plain.clear();
        }
        match u16::try_from(body.len()) {
            Ok(len) if BATCH_HEADER + entry <= most => {
                if plain.is_empty() {
                    plain.push(BATCH);
                    plain.extend_from_slice(&time);
                }
                let [high, low] = len.to_be_bytes();
                plain.extend_from_slice(&[*kind, high, low]);
                plain.extend_from_slice(body);
            }
            _ => {
                let len = u32::try_from(body.len()).expect("a body's length is bounded");
                plain.push(FIRST_PART);
                plain.extend_from_slice(&time);
                plain.push(*kind);
                plain.extend_from_slice(&len.to_be_bytes());
                let (first, rest) = body.split_at(body.len().min(most - FIRST_PART_HEADER));
                plain.extend_from_slice(first);
                frame(plain);
                for part in rest.chunks(most - 1) {
                    plain.clear();
                    plain.push(FURTHER_PART);
                    plain.extend_from_slice(part);
                    frame(plain);
                }
                plain.clear();
            }
        }
    }
    if !plain.is_empty() {
        frame(plain);
    }
}

/// The plaintext of a ping.
pub(crate) fn ping(token: u64, silence: Duration) -> [u8; 13] {
    let mut plain = [PING; 13];
    plain[1..9].copy_from_slice(&token.to_be_bytes());
    plain[9..].copy_from_slice(&u32::try_from(silence.as_millis()).unwrap_or(u32::MAX).to_be_bytes());
    plain
}

/// The plaintext of the answer to a ping.
pub(crate) fn pong(token: u64) -> [u8; 9] {
    let mut plain = [PONG; 9];
    plain[1..].copy_from_slice(&token.to_be_bytes());
    plain
}

/// The plaintext of the last frame.
pub(crate) const fn close() -> [u8; 1] {
    [CLOSE]
}

/// Takes plaintexts apart, in the order of the link.
#[derive(Debug)]
pub(crate) struct Unpacker {
    source: NodeId,
    sequence: u64,
    long: Option<Long>,
}

/// An envelope of which parts are missing.
#[derive(Debug)]
struct Long {
    kind: u8,
    time: Timestamp,
    len: usize,
    body: BytesMut,
}

impl Unpacker {
    /// For a link that starts now, from this node.
    pub(crate) fn new(source: NodeId) -> Self {
        Self { source, sequence: 0, long: None }
    }

    /// Adds the envelopes of the next plaintext to `batch`. Bodies are not copied: they share the plaintext's memory.
    pub(crate) fn unpack(&mut self, mut plain: Bytes, batch: &mut Vec<Envelope>) -> Result<Said, Malformed> {
        let (what, rest) = plain.split_first().ok_or(Malformed)?;
        match *what {
            BATCH => {
                let time = time(rest)?;
                drop(plain.split_to(BATCH_HEADER));
                self.unpack_batch(time, &plain, batch)
            }
            FIRST_PART => self.unpack_first_part(rest, batch),
            FURTHER_PART => self.unpack_further_part(rest, batch),
            PING if rest.len() == 12 => Ok(Said::Ping {
                token: u64::from_be_bytes(*rest.first_chunk().ok_or(Malformed)?),
                silence: Duration::from_millis(u32::from_be_bytes(*rest.last_chunk().ok_or(Malformed)?).into()),
            }),
            PONG => Ok(Said::Pong(u64::from_be_bytes(rest.try_into().map_err(|_| Malformed)?))),
            CLOSE if rest.is_empty() => Ok(Said::Close),
            _ => Err(Malformed),
        }
    }

    fn unpack_batch(&mut self, time: Timestamp, plain: &Bytes, batch: &mut Vec<Envelope>) -> Result<Said, Malformed> {
        if self.long.is_some() || plain.is_empty() {
            return Err(Malformed);
        }
        // its own for each batch: counting references to one for all would make the threads of both ends wait for each other
        let source = NodeId::new(self.source.as_str());
        let mut at = 0;
        while at < plain.len() {
            let [kind, high, low] = *plain[at..].first_chunk().ok_or(Malformed)?;
            let start = at + ENTRY_HEADER;
            at = start + usize::from(u16::from_be_bytes([high, low]));
            if at > plain.len() {
                return Err(Malformed);
            }
            batch.push(self.envelope(source.clone(), kind, time, plain.slice(start..at)));
        }
        Ok(Said::Envelopes)
    }

    fn unpack_first_part(&mut self, rest: &[u8], batch: &mut Vec<Envelope>) -> Result<Said, Malformed> {
        let time = time(rest)?;
        let [kind, a, b, c, d] = *rest[8..].first_chunk().ok_or(Malformed)?;
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| Malformed)?;
        // before room is made for it
        if self.long.is_some() || len > MAX_BODY {
            return Err(Malformed);
        }
        self.long = Some(Long { kind, time, len, body: BytesMut::with_capacity(len) });
        self.add_part(&rest[13..], batch)
    }

    fn unpack_further_part(&mut self, rest: &[u8], batch: &mut Vec<Envelope>) -> Result<Said, Malformed> {
        // an empty part would be progress without an end
        if rest.is_empty() { Err(Malformed) } else { self.add_part(rest, batch) }
    }

    fn add_part(&mut self, part: &[u8], batch: &mut Vec<Envelope>) -> Result<Said, Malformed> {
        let mut long = self.long.take().ok_or(Malformed)?;
        if part.len() > long.len - long.body.len() {
            return Err(Malformed);
        }
        long.body.extend_from_slice(part);
        if long.body.len() == long.len {
            let source = self.source.clone();
            batch.push(self.envelope(source, long.kind, long.time, long.body.freeze()));
        } else {
            self.long = Some(long);
        }
        Ok(Said::Envelopes)
    }

    fn envelope(&mut self, source: NodeId, kind: u8, time: Timestamp, body: Bytes) -> Envelope {
        let sequence = self.sequence;
        self.sequence += 1;
        Envelope { kind, source, sequence, time, body }
    }
}

fn time(bytes: &[u8]) -> Result<Timestamp, Malformed> {
    bytes.first_chunk().map(|time| Timestamp::from_micros(i64::from_be_bytes(*time))).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: Timestamp = Timestamp::from_micros(1_795_223_419_123_456);

    fn packed(batch: &[(u8, Bytes)], most: usize) -> Vec<Bytes> {
        let mut frames = Vec::new();
        pack(batch, AT, most, &mut Vec::new(), |plain| frames.push(Bytes::copy_from_slice(plain)));
        frames
    }

    fn unpacker() -> Unpacker {
        Unpacker::new(NodeId::new("service-1"))
    }

    #[test]
    fn the_bytes_are_pinned() {
        let batch = [(7, Bytes::from_static(b"hi")), (8, Bytes::new())];
        let time = [0x00, 0x06, 0x60, 0xbf, 0x06, 0x30, 0x77, 0x00];
        assert_eq!(AT.as_micros().to_be_bytes(), time);
        let expected = [&[0][..], &time, &[7, 0, 2], b"hi", &[8, 0, 0]].concat();
        assert_eq!(packed(&batch, 100), [expected]);
        assert_eq!(ping(1, Duration::from_secs(40)), [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x9c, 0x40]);
        assert_eq!(pong(2), [4, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(close(), [5]);
        let long = [(9, Bytes::from(vec![b'x'; 40]))];
        let first = [&[1][..], &time, &[9, 0, 0, 0, 40], &[b'x'; 16]].concat();
        assert_eq!(packed(&long, 30), [first, [&[2][..], &[b'x'; 24]].concat()]);
    }

    #[test]
    fn a_long_envelope_is_bounded_before_room_is_made_for_it() {
        let announce = |len: u32| {
            let mut plain = vec![1; 14];
            plain[10..].copy_from_slice(&len.to_be_bytes());
            Bytes::from(plain)
        };
        let most = u32::try_from(MAX_BODY).unwrap();
        assert_eq!(unpacker().unpack(announce(most + 1), &mut Vec::new()), Err(Malformed));
        assert_eq!(unpacker().unpack(announce(u32::MAX), &mut Vec::new()), Err(Malformed));
        assert_eq!(unpacker().unpack(announce(most), &mut Vec::new()), Ok(Said::Envelopes));
    }

    #[test]
    fn parts_out_of_place_are_malformed() {
        let batch = &packed(&[(1, Bytes::from_static(b"b"))], 100)[0];
        let long = packed(&[(1, Bytes::from(vec![1; 50]))], 40);
        let mut batches = Vec::new();
        for order in
            [vec![&long[1]], vec![&long[0], &long[0]], vec![&long[0], batch], vec![&long[0], &long[1], &long[1]]]
        {
            let mut unpacker = unpacker();
            let last = order.into_iter().map(|plain| unpacker.unpack(plain.clone(), &mut batches)).last();
            assert_eq!(last, Some(Err(Malformed)));
        }
    }

    proptest! {
        /// Envelopes come out as they went in, in order, in as many frames as it takes, none longer than allowed.
        #[test]
        fn envelopes_survive_the_way(
            batch in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..40),
            most in 20_usize..400,
        ) {
            let batch: Vec<_> = batch.into_iter().map(|(kind, body)| (kind, Bytes::from(body))).collect();
            let mut unpacker = unpacker();
            let mut envelopes = Vec::new();
            for plain in packed(&batch, most) {
                prop_assert!(plain.len() <= most);
                prop_assert_eq!(unpacker.unpack(plain, &mut envelopes), Ok(Said::Envelopes));
            }
            prop_assert_eq!(envelopes.len(), batch.len());
            for (at, (envelope, (kind, body))) in envelopes.into_iter().zip(batch).enumerate() {
                let expected = Envelope { kind, source: NodeId::new("service-1"), sequence: at as u64, time: AT, body };
                prop_assert_eq!(envelope, expected);
            }
        }

        /// Whatever is in a frame that opened, it is understood or refused; nothing panics.
        #[test]
        fn arbitrary_bytes_are_understood_or_refused(plains in prop::collection::vec((0_u8..7, prop::collection::vec(any::<u8>(), 0..200)), 0..8)) {
            let mut unpacker = unpacker();
            let mut envelopes = Vec::new();
            for (what, mut rest) in plains {
                rest.insert(0, what);
                if unpacker.unpack(Bytes::from(rest), &mut envelopes).is_err() {
                    break;
                }
            }
            prop_assert!(envelopes.iter().all(|envelope| envelope.body.len() <= MAX_BODY));
        }
    }
}
