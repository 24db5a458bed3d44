//! Signals into shutdown: the first is soft, after it was announced for a while; the second hard.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::base::shutdown::Shutdown;
use crate::config::value::show_duration;

/// After a hard stop, tasks that still do not end are left behind after so long.
const HARD_PATIENCE: Duration = Duration::from_secs(10);

/// Begins to listen for SIGINT and SIGTERM.
///
/// # Errors
/// If the system refuses.
pub fn listen(shutdown: &Shutdown) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = shutdown.clone();
    // not one of the tasks that are waited for: it goes on listening while they end
    let task = async move {
        let mut asked = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        asked().await;
        let announced = stop.drain_time();
        if !announced.is_zero() {
            tracing::info!("asked to stop; this node drains for {} first; again to stop now", show_duration(announced));
            stop.drain();
            tokio::select! {
                () = sleep(announced) => {}
                () = asked() => {}
                () = stop.stopping() => {}
            }
        }
        tracing::info!("{}", if announced.is_zero() { "asked to stop; again to stop at once" } else { "stopping" });
        stop.stop();
        asked().await;
        tracing::info!("asked to stop at once");
        stop.stop_now();
    };
    shutdown.spawn_detached(task);
    Ok(())
}

/// Waits for a stop, then for every task; a hard stop, or `patience` over, shortens the wait. The exit code.
pub async fn wait(shutdown: &Shutdown, patience: impl Fn() -> Duration) -> u8 {
    shutdown.stopping().await;
    let soft = shutdown.finished(patience());
    let finished = tokio::select! {
        finished = soft => finished,
        () = shutdown.stopping_now() => Err(Vec::new()),
    };
    if finished.is_err() {
        shutdown.stop_now();
        if let Err(names) = shutdown.finished(HARD_PATIENCE).await {
            tracing::error!("left behind: {}", names.join(", "));
            return 1;
        }
    }
    match shutdown.fallen() {
        Some(name) => {
            tracing::error!("stopped because the task `{name}` ended by itself; this is a fault of the program");
            1
        }
        None => u8::from(shutdown.gave_up()),
    }
}
