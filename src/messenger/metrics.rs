//! Counters of frames, bytes, repeats and refusals.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What went through a messenger so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Bytes sent, sealed.
    pub bytes_sent: u64,
    /// Bytes received, sealed.
    pub bytes_received: u64,
    /// Frames dropped because they had been seen before.
    pub repeats: u64,
    /// Handshakes that were refused or not finished.
    pub handshakes_refused: u64,
    /// Links that are up.
    pub links: u64,
}

/// The counters while they count; shared by all links of one client or server.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    frames_sent: AtomicU64,
    frames_received: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    repeats: AtomicU64,
    handshakes_refused: AtomicU64,
    links: AtomicU64,
}

impl Meter {
    /// A frame of so many bytes was sealed to be sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.frames_sent.fetch_add(1, Relaxed);
        self.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    /// A frame of so many bytes came and opened.
    pub(crate) fn received(&self, bytes: usize) {
        self.frames_received.fetch_add(1, Relaxed);
        self.bytes_received.fetch_add(bytes as u64, Relaxed);
    }

    /// A frame was dropped unopened: seen before, or of another session.
    pub(crate) fn repeat(&self) {
        self.repeats.fetch_add(1, Relaxed);
    }

    /// A peer was refused, or gave up before it proved itself.
    pub(crate) fn refused(&self) {
        self.handshakes_refused.fetch_add(1, Relaxed);
    }

    /// A link came up.
    pub(crate) fn up(&self) {
        self.links.fetch_add(1, Relaxed);
    }

    /// A link is gone.
    pub(crate) fn down(&self) {
        self.links.fetch_sub(1, Relaxed);
    }

    /// As they stand now.
    pub(crate) fn read(&self) -> Counters {
        Counters {
            frames_sent: self.frames_sent.load(Relaxed),
            frames_received: self.frames_received.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            repeats: self.repeats.load(Relaxed),
            handshakes_refused: self.handshakes_refused.load(Relaxed),
            links: self.links.load(Relaxed),
        }
    }
}
