//! Work that takes the processors for long and that nobody waits for: on threads of its own, which step back whenever
//! the shop needs the processors.

use std::io;
use std::thread::Builder;

use rustix::process::nice;
use tokio::sync::oneshot;

/// By how much it's less urgent than the rest, in the system's steps: the least that there is. What the shop leaves is
/// its own all the same.
const NICE: i32 = 19;

/// Does this work, and gives what comes of it. The thread ends with it, because a thread without privileges can't become
/// more urgent again: that's why it's none of the runtime's.
///
/// # Errors
/// When there's no thread to be had, or the work panicked.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    Builder::new().name("background".into()).spawn(move || {
        // Where the system won't have it, it's as urgent as the rest.
        let _ = nice(NICE);
        // Whoever asked may have gone.
        let _ = tell.send(work());
    })?;
    told.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn its_thread_is_less_urgent_and_no_other_is() {
        let of_this_thread = || getpriority_process(None).unwrap();
        let before = of_this_thread();
        assert_eq!(run(of_this_thread).await.unwrap(), (before + NICE).min(19));
        assert_eq!(of_this_thread(), before);
        assert!(run(move || assert!(before > 19, "it panics")).await.is_err());
    }
}
