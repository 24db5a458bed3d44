//! Seals and opens frames, counts nonces, drops repeats.
//!
//! Frame: kind (1) · session id (8, the first bytes of the handshake hash) · counter (8) · ciphertext. The counter is the nonce:
//! each is used once, and what was tampered with does not open.

use std::sync::Arc;

use snow::StatelessTransportState;

use crate::messenger::error::Error;
use crate::messenger::frame::MAX_FRAME;

/// The first byte of a sealed frame.
const SEALED: u8 = 0x10;

/// What stands before the ciphertext, in bytes.
const HEADER: usize = 1 + 8 + 8;

/// What sealing adds to a plaintext, in bytes.
const TAG: usize = 16;

/// The longest plaintext of one frame, in bytes.
pub(crate) const MAX_PLAIN: usize = MAX_FRAME - HEADER - TAG;

/// The half that seals.
#[derive(Debug)]
pub(crate) struct Sealer {
    noise: Arc<StatelessTransportState>,
    session: [u8; 8],
    next: u64,
}

/// The half that opens.
#[derive(Debug)]
pub(crate) struct Opener {
    noise: Arc<StatelessTransportState>,
    session: [u8; 8],
    expected: u64,
}

/// Both halves of a session that was agreed on.
pub(crate) fn halves(noise: StatelessTransportState, session: [u8; 8]) -> (Sealer, Opener) {
    let noise = Arc::new(noise);
    (Sealer { noise: Arc::clone(&noise), session, next: 0 }, Opener { noise, session, expected: 0 })
}

impl Sealer {
    /// The length of the frame that holds a plaintext of `plain` bytes.
    pub(crate) const fn sealed_len(plain: usize) -> usize {
        HEADER + plain + TAG
    }

    /// Seals `plain` (at most [`MAX_PLAIN`] bytes) into `frame`, which has the length that [`Self::sealed_len`] says.
    pub(crate) fn seal(&mut self, plain: &[u8], frame: &mut [u8]) {
        let (header, ciphertext) = frame.split_at_mut(HEADER);
        header[0] = SEALED;
        header[1..9].copy_from_slice(&self.session);
        header[9..].copy_from_slice(&self.next.to_be_bytes());
        let written = self.noise.write_message(self.next, plain, ciphertext);
        debug_assert_eq!(written.as_ref().ok(), Some(&(plain.len() + TAG)));
        written.expect("a plaintext that fits into a frame can be sealed");
        self.next += 1;
    }
}

impl Opener {
    /// The plaintext, or none if the frame was seen before or is of another session.
    ///
    /// # Errors
    /// If a frame is missing before this one, or this is not what the other end sealed. The link is of no more use then.
    pub(crate) fn open(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some((header, ciphertext)) = frame.split_first_chunk::<HEADER>() else {
            return Err(Error::Invalid("sealed frame: it is too short"));
        };
        if header[0] != SEALED {
            return Err(Error::Invalid("sealed frame: it is of another kind"));
        }
        let counter = header.last_chunk().map_or(0, |counter| u64::from_be_bytes(*counter));
        if header[1..9] != self.session || counter < self.expected {
            return Ok(None);
        }
        if counter > self.expected {
            return Err(Error::Invalid("sealed frame: one before it is missing"));
        }
        let mut plain = vec![0; ciphertext.len()];
        let opened = self.noise.read_message(counter, ciphertext, &mut plain);
        plain.truncate(opened.map_err(|_| Error::Invalid("sealed frame: it does not open"))?);
        self.expected += 1;
        Ok(Some(plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> ((Sealer, Opener), (Sealer, Opener)) {
        let build = || snow::Builder::new("Noise_NN_25519_AESGCM_SHA256".parse().unwrap());
        let (mut a, mut b) = (build().build_initiator().unwrap(), build().build_responder().unwrap());
        let (mut message, mut none) = ([0; 200], [0; 200]);
        let n = a.write_message(&[], &mut message).unwrap();
        b.read_message(&message[..n], &mut none).unwrap();
        let n = b.write_message(&[], &mut message).unwrap();
        a.read_message(&message[..n], &mut none).unwrap();
        let session = *b"session!";
        let stateless = |state: snow::HandshakeState| state.into_stateless_transport_mode().unwrap();
        (halves(stateless(a), session), halves(stateless(b), session))
    }

    fn seal(sealer: &mut Sealer, plain: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; Sealer::sealed_len(plain.len())];
        sealer.seal(plain, &mut frame);
        frame
    }

    #[test]
    fn the_longest_plaintext_fits_into_the_longest_frame() {
        let ((mut sealer, _), (_, mut opener)) = ends();
        let frame = seal(&mut sealer, &vec![7; MAX_PLAIN]);
        assert_eq!(frame.len(), MAX_FRAME);
        assert_eq!(opener.open(&frame).unwrap().unwrap(), vec![7; MAX_PLAIN]);
    }

    #[test]
    fn a_repeat_and_another_sessions_frame_are_dropped_and_a_gap_is_an_error() {
        let ((mut sealer, _), (_, mut opener)) = ends();
        let frames = [b"0", b"1", b"2"].map(|plain| seal(&mut sealer, plain));
        assert!(opener.open(&frames[0]).unwrap().is_some());
        assert!(opener.open(&frames[0]).unwrap().is_none());
        let mut foreign = frames[1].clone();
        foreign[1] ^= 1;
        assert!(opener.open(&foreign).unwrap().is_none());
        assert!(matches!(opener.open(&frames[2]), Err(Error::Invalid(_))));
        assert_eq!(opener.open(&frames[1]).unwrap().unwrap(), b"1");
    }

    #[test]
    fn a_changed_bit_anywhere_is_noticed() {
        let ((mut sealer, _), (_, mut opener)) = ends();
        let frame = seal(&mut sealer, b"secret");
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 0x80;
            assert!(!matches!(opener.open(&changed), Ok(Some(_))), "byte {at}");
        }
        assert_eq!(opener.open(&frame).unwrap().unwrap(), b"secret");
    }

    #[test]
    fn frames_too_short_to_be_sealed_are_refused() {
        let (_, (mut sealer, _)) = ends();
        let (_, (_, mut opener)) = ends();
        let mut frame = seal(&mut sealer, b"");
        while frame.pop().is_some() {
            assert!(opener.open(&frame).is_err());
        }
    }
}
