//! Download of one file with progress and cancellation.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::{HFError, HFRepositorySync, RepoTypeModel};

use crate::context::Context;
use crate::error::{Error, Result};

/// How often the waiting thread looks for news and for Ctrl-C.
const TICK: Duration = Duration::from_millis(50);
/// Smaller files come without a bar.
const SHOWN_BYTES: u64 = 1 << 20;

/// One file to fetch.
pub(super) struct Download {
    pub(super) repository: HFRepositorySync<RepoTypeModel>,
    pub(super) file: String,
    pub(super) revision: String,
    pub(super) offline: bool,
}

/// Messages between the downloading thread and the waiting one.
#[derive(Default)]
struct Shared {
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    stop: AtomicBool,
}

impl ProgressHandler for Shared {
    fn on_progress(&self, event: &ProgressEvent) {
        if self.stop.load(Relaxed) {
            // The client has no other way out of a download. No panic message is printed, and
            // its partial file never gets the name of a complete one.
            std::panic::resume_unwind(Box::new("stopped by the user"));
        }
        let ProgressEvent::Download(event) = event else { return };
        match event {
            DownloadEvent::Start { total_bytes, .. } => {
                self.total_bytes.store(*total_bytes, Relaxed);
            }
            DownloadEvent::Progress { files } => {
                let done = files.iter().map(|file| file.bytes_completed).sum();
                self.done_bytes.store(done, Relaxed);
            }
            DownloadEvent::AggregateProgress { bytes_completed, .. } => {
                self.done_bytes.store(*bytes_completed, Relaxed);
            }
            DownloadEvent::Complete => {}
        }
    }
}

/// The client's answer, and how many bytes the hub announced (0: unknown).
pub(super) type Outcome = (std::result::Result<PathBuf, HFError>, u64);

/// Fetches on a thread of its own, so that a stalled network cannot swallow a Ctrl-C.
pub(super) fn run(download: Download, context: &Context) -> Result<Outcome> {
    let shared = Arc::new(Shared::default());
    let (sender, receiver) = channel();
    let handler = Arc::clone(&shared);
    let title = format!("fetch {}", download.file);
    std::thread::spawn(move || {
        let outcome = download
            .repository
            .download_file()
            .filename(download.file)
            .revision(download.revision)
            .local_files_only(download.offline)
            .progress(handler)
            .send();
        // The waiting thread may have given up: then nobody wants to know.
        let _ = sender.send(outcome);
    });
    let outcome = wait(&receiver, &shared, &title, context)?;
    Ok((outcome, shared.total_bytes.load(Relaxed)))
}

fn wait(
    receiver: &Receiver<std::result::Result<PathBuf, HFError>>,
    shared: &Shared,
    title: &str,
    context: &Context,
) -> Result<std::result::Result<PathBuf, HFError>> {
    let mut shown = false;
    let result = loop {
        match receiver.recv_timeout(TICK) {
            Ok(outcome) => break Ok(outcome),
            Err(RecvTimeoutError::Disconnected) => {
                break Err(Error::internal("the download ended without an answer"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if context.is_cancelled() {
            shared.stop.store(true, Relaxed);
            break Err(Error::interrupted("stopped during a download")
                .hint("complete files stay in the cache: the same command resumes from there"));
        }
        let total = shared.total_bytes.load(Relaxed);
        if !shown && total >= SHOWN_BYTES {
            context.begin(title, total, "bytes");
            shown = true;
        }
        if shown {
            context.advance(shared.done_bytes.load(Relaxed), "");
        }
    };
    if shown {
        context.end();
    }
    result
}
