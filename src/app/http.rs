//! One listener, outer layers, the routers.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::serve::ListenerExt as _;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use crate::base::chain::chain;
use crate::base::shutdown::Shutdown;

/// Whoever takes nothing of an answer for so long is cut off, in milliseconds: a stalled reader does not keep its connection.
const STALLED_MS: u32 = 60_000;

/// Takes the address.
///
/// # Errors
/// If it can't be had: with what to do about it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("can't listen on {address}: is another program there? `--listen ADDRESS` takes another one, port 0 a free one")
    })
}

/// Answers requests until a soft stop, then finishes those that are being answered.
pub fn serve(listener: TcpListener, router: Router, shutdown: &Shutdown) {
    let router = router.layer(CatchPanicLayer::new());
    let stopping = shutdown.clone();
    let ended = shutdown.clone();
    shutdown.spawn_essential("http", async move {
        // Nagle's algorithm would hold small frames back for up to 40 ms
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("TCP_NODELAY: {}", chain(&error));
            }
            if let Err(error) = set_tcp_user_timeout(&*stream, STALLED_MS) {
                tracing::debug!("TCP_USER_TIMEOUT: {error}");
            }
        });
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(async move { stopping.stopping().await });
        tokio::select! {
            served = serving => if let Err(error) = served {
                tracing::error!("the web server ended: {}", chain(&error));
            },
            () = ended.stopping_now() => {}
        }
    });
}
