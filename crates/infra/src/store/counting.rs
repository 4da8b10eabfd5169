//! Counts what was appended, for the metrics.

use rentstream_domain::processes;

use crate::log::NewEvent;
use crate::metrics::METRICS;

/// Counts an event that is in the log now.
pub(super) fn count(event: &NewEvent) {
    let name = &event.event_type;
    METRICS.log_events.get_or_create(&[("event", name.clone())]).inc();
    if let Some(process) = process_of(&event.metadata) {
        METRICS
            .process_steps
            .get_or_create(&[("process", process.to_owned()), ("event", name.clone())])
            .inc();
    }
}

/// The process that has sent the command, if it was one. The writer has no time to read all of the metadata: who
/// acted stands first in it, and a process's name needs no escaping.
fn process_of(metadata: &str) -> Option<&'static str> {
    let actor = metadata.strip_prefix(r#"{"actor":""#)?.split('"').next()?;
    processes::names().find(|name| *name == actor)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::Context;

    #[test]
    fn a_step_is_its_process_and_a_callers_command_is_nobodys() {
        let by = |actor: &str| Context::of_process(actor, Uuid::nil()).metadata().unwrap();
        for name in processes::names() {
            assert_eq!(process_of(&by(name)), Some(name));
        }
        assert_eq!(process_of(&by("a caller called \"cancelling\"")), None);
        assert_eq!(process_of(&by("cancelling no more")), None);
    }
}
