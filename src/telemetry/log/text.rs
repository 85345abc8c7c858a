//! The text format of log lines: `TIME LEVEL message key=value key="a value"`.

use std::{
    fmt::{self, Debug, Display, Write as _},
    time::Duration,
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use super::is_ours;

/// Formats events as text lines.
pub(super) struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = event.metadata();
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {}", about.level())?;
        let ours = is_ours(about.target());
        if !ours {
            write!(writer, " {}:", about.target())?;
        }
        let mut pairs = Pairs { writer, ours, result: Ok(()) };
        event.record(&mut pairs);
        pairs.result?;
        pairs.writer.write_char('\n')
    }
}

/// Writes an event's fields as `key=value`; the message, which is first, without its key.
struct Pairs<'a> {
    writer: Writer<'a>,
    /// True for events of this crate, whose floating-point fields are durations in seconds.
    ours: bool,
    result: fmt::Result,
}

impl Pairs<'_> {
    /// Writes one field, unless a field before it could not be written.
    fn pair(&mut self, field: &Field, value: &dyn Display) {
        if self.result.is_ok() {
            self.result = match field.name() {
                "message" => write!(self.writer, " {}", Escaped(&value.to_string(), "")),
                name => write!(self.writer, " {name}={}", Quoted(&value.to_string())),
            };
        }
    }
}

impl Visit for Pairs<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match Duration::try_from_secs_f64(value) {
            Ok(duration) if self.ours => self.pair(field, &HumanDuration(duration)),
            _ => self.pair(field, &value),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.pair(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.pair(field, &format_args!("{value:?}"));
    }
}

/// Displays a value, in quotes if it would not be read as one word.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"\\=".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        write!(f, "\"{}\"", Escaped(self.0, "\"\\"))
    }
}

/// Displays a text without control characters, so that it stays on its line and sends a terminal nothing. Control
/// characters and the characters in the second field are escaped.
struct Escaped<'a>(&'a str, &'static str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if c.is_control() || self.1.contains(c) {
                write!(f, "{}", c.escape_default())
            } else {
                f.write_char(c)
            }
        })
    }
}

/// Displays a duration as people write it: `0.18ms`, `2.1ms`, `236ms`, `1.53s`, `41s`.
#[derive(Debug, Clone, Copy)]
pub struct HumanDuration(pub Duration);

impl Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let millis = seconds * 1e3;
        match self.0.as_micros() {
            0..=4 => f.write_str("0ms"),
            5..=999 => write!(f, "{millis:.2}ms"),
            1_000..=9_999 => write!(f, "{millis:.1}ms"),
            10_000..=999_999 => write!(f, "{millis:.0}ms"),
            1_000_000..=9_999_999 => write!(f, "{seconds:.2}s"),
            _ => write!(f, "{seconds:.0}s"),
        }
    }
}
