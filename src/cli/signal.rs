//! The first Ctrl-C, SIGTERM or SIGHUP asks the running operation to stop at a clean point. The second ends the process
//! immediately. Before an operation starts, signals have their default effect.

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Exit;
use crate::base::cancel::Cancel;
use crate::base::progress::SharedProgress;

/// The signals that stop an operation.
const KINDS: [SignalKind; 3] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// Handles signals from now until the process ends.
/// Fails if the system refuses a signal handler.
pub(crate) fn listen(runtime: &Handle, cancel: Cancel, progress: SharedProgress) -> std::io::Result<()> {
    let _inside = runtime.enter();
    let signals: std::io::Result<Vec<Signal>> = KINDS.into_iter().map(signal).collect();
    runtime.spawn(stop(signals?, cancel, progress));
    Ok(())
}

/// Stops the operation at the first signal, and the process at the second.
async fn stop(mut signals: Vec<Signal>, cancel: Cancel, progress: SharedProgress) {
    any(&mut signals).await;
    cancel.cancel();
    progress.note("stopping; interrupt again to stop immediately");
    any(&mut signals).await;
    tracing::warn!(exit_code = Exit::Interrupted.code(), "stopped at once by a second signal");
    // Nothing is lost: uncommitted work is not visible, and the next backup reuses what was uploaded.
    std::process::exit(Exit::Interrupted.code().into());
}

async fn any(signals: &mut [Signal]) {
    let received = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures_util::future::select_all(received).await;
}
