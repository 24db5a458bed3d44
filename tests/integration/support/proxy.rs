//! Stands between two nodes, keeps what crosses, and breaks it on demand: frame by frame on any transport, or byte by byte on
//! the pipe.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use switchboard::base::shutdown::Shutdown;
use switchboard::messenger::endpoint::Endpoint;
use switchboard::messenger::transport::{self, Link};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToService,
    ToWeb,
}

/// What is done to the frames of one way.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    Pass,
    /// Each comes twice.
    Repeat,
    /// The next one has a bit changed in the middle.
    Tamper,
    /// The next one is replaced by this.
    Replace(Bytes),
    /// They vanish; the link stays open.
    Swallow,
}

/// A proxy of frames.
pub(crate) struct FrameProxy {
    state: Arc<State>,
    shutdown: Shutdown,
}

struct State {
    frames: Mutex<Vec<(Way, Bytes)>>,
    faults: Mutex<[Fault; 2]>,
}

impl FrameProxy {
    /// Listens at `front` and passes on to `back`.
    pub(crate) async fn start(front: &Endpoint, back: &Endpoint) -> Self {
        let shutdown = Shutdown::new();
        let state = Arc::new(State { frames: Mutex::default(), faults: Mutex::new([Fault::Pass, Fault::Pass]) });
        let mut listener = transport::to(front).listen().await.unwrap();
        let (back, tasks, shared) = (back.clone(), shutdown.clone(), Arc::clone(&state));
        shutdown.spawn("proxy", async move {
            loop {
                let web = tokio::select! {
                    () = tasks.stopping() => return,
                    web = listener.accept() => web.unwrap(),
                };
                if let Ok(service) = transport::to(&back).connect().await {
                    let (web, service) = crossed(web, service);
                    tasks.spawn("to service", pass(tasks.clone(), web, Way::ToService, Arc::clone(&shared)));
                    tasks.spawn("to web", pass(tasks.clone(), service, Way::ToWeb, Arc::clone(&shared)));
                }
            }
        });
        Self { state, shutdown }
    }

    /// From now on, or for the next frame, does this to what goes this way.
    pub(crate) fn fault(&self, way: Way, fault: Fault) {
        self.state.faults.lock().unwrap()[way as usize] = fault;
    }

    /// What crossed so far.
    pub(crate) fn frames(&self) -> Vec<(Way, Bytes)> {
        self.state.frames.lock().unwrap().clone()
    }
}

impl Drop for FrameProxy {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

/// What comes from one goes to the other.
fn crossed(a: Link, b: Link) -> (Link, Link) {
    (
        Link { stream: a.stream, sink: b.sink, address: a.address },
        Link { stream: b.stream, sink: a.sink, address: b.address },
    )
}

async fn pass(shutdown: Shutdown, mut link: Link, way: Way, state: Arc<State>) {
    loop {
        let frame = tokio::select! {
            () = shutdown.stopping() => return,
            frame = link.recv() => frame,
        };
        let Ok(Some(frame)) = frame else {
            let swallowed = matches!(state.faults.lock().unwrap()[way as usize], Fault::Swallow);
            if swallowed {
                // the end too
                shutdown.stopping().await;
            }
            return;
        };
        state.frames.lock().unwrap().push((way, frame.clone()));
        let fault = {
            let mut faults = state.faults.lock().unwrap();
            let fault = &mut faults[way as usize];
            match fault {
                Fault::Tamper | Fault::Replace(_) => std::mem::replace(fault, Fault::Pass),
                Fault::Pass | Fault::Repeat | Fault::Swallow => fault.clone(),
            }
        };
        let pieces = match fault {
            Fault::Pass => vec![frame],
            Fault::Repeat => vec![frame.clone(), frame],
            Fault::Tamper => {
                let mut changed = frame.to_vec();
                // within the ciphertext
                let at = usize::midpoint(changed.len(), 17);
                changed[at] ^= 4;
                vec![Bytes::from(changed)]
            }
            Fault::Replace(other) => vec![other],
            Fault::Swallow => Vec::new(),
        };
        for piece in pieces {
            if link.send(&piece).await.is_err() {
                return;
            }
        }
    }
}

/// A proxy of bytes between two Unix sockets, which keeps every byte.
pub(crate) struct ByteProxy {
    bytes: Arc<Mutex<Vec<u8>>>,
    shutdown: Shutdown,
}

impl ByteProxy {
    pub(crate) fn start(front: &Path, back: &Path) -> Self {
        let shutdown = Shutdown::new();
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let listener = UnixListener::bind(front).unwrap();
        let (tasks, back, kept) = (shutdown.clone(), back.to_owned(), Arc::clone(&bytes));
        shutdown.spawn("proxy", async move {
            loop {
                let (web, _) = tokio::select! {
                    () = tasks.stopping() => return,
                    accepted = listener.accept() => accepted.unwrap(),
                };
                let service = UnixStream::connect(&back).await.unwrap();
                let ((web_in, web_out), (service_in, service_out)) = (web.into_split(), service.into_split());
                for (mut from, mut to) in [(web_in, service_out), (service_in, web_out)] {
                    let (shutdown, kept) = (tasks.clone(), Arc::clone(&kept));
                    tasks.spawn("way", async move {
                        let mut room = vec![0; 64 << 10];
                        loop {
                            let read = tokio::select! {
                                () = shutdown.stopping() => return,
                                read = from.read(&mut room) => read.unwrap_or(0),
                            };
                            kept.lock().unwrap().extend_from_slice(&room[..read]);
                            if read == 0 || to.write_all(&room[..read]).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { bytes, shutdown }
    }

    /// Every byte that crossed so far, both ways.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Drop for ByteProxy {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}
