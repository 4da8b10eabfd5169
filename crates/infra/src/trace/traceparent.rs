//! A place in a trace, as W3C's Trace Context writes it down: `00-<trace>-<span>-<flags>`.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use serde::{Serialize, Serializer};

/// The header's name, over HTTP and NATS, and the name in an event's metadata.
pub const TRACEPARENT: &str = "traceparent";

/// A span's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// It isn't as the standard has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct Malformed;

impl FromStr for Traceparent {
    type Err = Malformed;

    /// Of a later version only what this one knows is read, as the standard says.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split('-');
        let mut next = |digits| parts.next().and_then(|part| hex(part, digits)).ok_or(Malformed);
        let version = next(2)?;
        let trace_id = TraceId::from(next(32)?);
        let span_id = SpanId::from(u64::try_from(next(16)?).map_err(|_| Malformed)?);
        let flags = next(2)?;
        let known = version == 0 && parts.next().is_none() || (1..0xff).contains(&version);
        if known && trace_id != TraceId::INVALID && span_id != SpanId::INVALID {
            Ok(Self { trace_id, span_id, sampled: flags & 1 == 1 })
        } else {
            Err(Malformed)
        }
    }
}

/// Exactly so many digits, in small letters.
fn hex(part: &str, digits: usize) -> Option<u128> {
    let fits = part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(part, 16).ok()).flatten()
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl Serialize for Traceparent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<Traceparent> for SpanContext {
    fn from(Traceparent { trace_id, span_id, sampled }: Traceparent) -> Self {
        let flags = TraceFlags::default().with_sampled(sampled);
        Self::new(trace_id, span_id, flags, true, TraceState::NONE)
    }
}

impl From<&SpanContext> for Traceparent {
    fn from(context: &SpanContext) -> Self {
        let (trace_id, span_id) = (context.trace_id(), context.span_id());
        Self { trace_id, span_id, sampled: context.is_sampled() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_good_one_reads_and_writes() {
        let read: Traceparent = GOOD.parse().unwrap();
        assert!(read.sampled);
        assert_eq!(read.to_string(), GOOD);
        assert_eq!(serde_json::to_string(&read).unwrap(), format!("{GOOD:?}"));
        let unsampled = GOOD.replace("-01", "-00");
        assert_eq!(unsampled.parse::<Traceparent>().map(|read| read.sampled), Ok(false));
    }

    #[test]
    fn flags_and_versions_of_later_are_read_as_far_as_they_are_known() {
        for later in [
            GOOD.replace("-01", "-03"),
            GOOD.replacen("00", "01", 1),
            format!("{GOOD}-x").replacen("00", "cc", 1),
        ] {
            assert_eq!(
                later.parse::<Traceparent>().map(|read| read.to_string()),
                Ok(GOOD.to_owned()),
                "{later}"
            );
        }
    }

    #[test]
    fn a_malformed_one_is_none() {
        let none = |text: &str| assert_eq!(text.parse::<Traceparent>(), Err(Malformed), "{text:?}");
        ["", "-", "00", "---", "00-1-2-01", "\u{0}", "ü-ü-ü-ü"].into_iter().for_each(none);
        none(&GOOD.to_uppercase());
        none(&GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)));
        none(&GOOD.replace("b7ad6b7169203331", &"0".repeat(16)));
        none(&GOOD.replacen("00", "ff", 1));
        none(&GOOD.replacen("00", "+0", 1));
        none(&GOOD.replace("-01", "-1"));
        none(&GOOD.replace("-01", "-zz"));
        none(&format!("{GOOD}-00"));
        none(&format!(" {GOOD}"));
        (0..GOOD.len()).for_each(|end| none(&GOOD[..end]));
    }
}
