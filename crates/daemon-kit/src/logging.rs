//! The log: events with fields, one line each, on standard error. Nothing goes to standard output.
//!
//! A human line is logfmt: `2026-01-02T03:04:05.678901Z INFO takeover.started queue=b epoch=7 messages=412`. The JSON line
//! has the same fields. Every event has a name, its field `event`; `docs/LOGS.md` lists them all.
//! `MAILSWITCH_LOG` filters (`debug`, `info,switch=trace`), `MAILSWITCH_LOG_FORMAT` (`human`, `json`) overrules the setting.

mod lines;

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use self::lines::Lines;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// logfmt, for people and `grep`.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// The format of that name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error(
        "MAILSWITCH_LOG or the default filter '{filter}': {why}; use for example 'info' or 'info,switch=debug'"
    )]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The format is not one.
    #[error("MAILSWITCH_LOG_FORMAT '{0}': use 'human' or 'json'")]
    Format(String),
    /// Its thread could not be started.
    #[error("cannot start the thread of the log: {0}; raise the limit of processes of this user")]
    Thread(std::io::Error),
    /// The log was started before.
    #[error("the log was started before")]
    Twice,
}

/// The log of this process. What waits to be written is written when this is dropped.
#[must_use = "the log's last lines are written when it is dropped"]
#[derive(Debug)]
pub struct Log(Lines);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.write_out();
    }
}

/// Starts the log of this process, once. `filter` holds where `MAILSWITCH_LOG` is not set.
pub fn start(format: Format, filter: &str) -> Result<Log, LoggingError> {
    let filter = std::env::var("MAILSWITCH_LOG").unwrap_or_else(|_| filter.to_owned());
    let format = match std::env::var("MAILSWITCH_LOG_FORMAT") {
        Ok(word) => Format::from_word(&word).ok_or(LoggingError::Format(word))?,
        Err(_) => format,
    };
    let accepted = EnvFilter::try_new(&filter)
        .map_err(|error| LoggingError::Filter { filter: filter.clone(), why: error.to_string() })?;
    let lines = Lines::start().map_err(LoggingError::Thread)?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(accepted).with_writer(lines.clone()).with_ansi(false);
    match format {
        Format::Human => builder.event_format(Line).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    }
    .map_err(|_| LoggingError::Twice)?;
    // A panic aborts the process: what was said before it is what one wants to read.
    let last = lines.clone();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        last.write_out();
        usual(panic);
    }));
    Ok(Log(lines))
}

/// The human line.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut line)?;
        write!(line, " {}", event.metadata().level())?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        // An event of a library has no name: its place stands for it.
        let name = if fields.event.is_empty() { event.metadata().target() } else { &fields.event };
        writeln!(line, " {name}{}", fields.rest)
    }
}

#[derive(Default)]
struct Fields {
    event: String,
    rest: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == "event" {
            self.event = value.to_string();
            return;
        }
        self.rest.push(' ');
        self.rest.push_str(field.name());
        self.rest.push('=');
        let start = self.rest.len();
        // Writing to a string never fails.
        let _ = self.rest.write_fmt(value);
        let value = self.rest.get(start..).unwrap_or_default();
        let plain =
            !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
        if !plain {
            // Quoted and escaped: what a peer said cannot start a line of its own.
            let quoted = format!("{value:?}");
            self.rest.truncate(start);
            self.rest.push_str(&quoted);
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(speak: impl FnOnce()) -> String {
        let page = Page::default();
        let kept = page.clone();
        let subscriber =
            tracing_subscriber::fmt().event_format(Line).with_writer(move || page.clone()).finish();
        tracing::subscriber::with_default(subscriber, speak);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_human_line_is_time_level_name_and_fields() {
        let line =
            written(|| tracing::info!(event = "takeover.started", queue = %"b", epoch = 7, late = true));
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        assert_eq!(rest, "INFO takeover.started queue=b epoch=7 late=true\n");
    }

    #[test]
    fn a_value_from_outside_cannot_forge_a_line() {
        let line = written(|| tracing::warn!(event = "peer.said", text = "550 no\r\nINFO all.well x=1"));
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.ends_with("WARN peer.said text=\"550 no\\r\\nINFO all.well x=1\"\n"), "{line}");
    }

    #[test]
    fn an_event_of_a_library_is_named_by_its_place() {
        let line = written(|| tracing::info!(target: "library::part", "said something"));
        assert!(line.ends_with("INFO library::part message=\"said something\"\n"), "{line}");
    }

    #[test]
    fn unknown_words_are_no_format() {
        assert_eq!(Format::from_word("json"), Some(Format::Json));
        assert_eq!(Format::from_word("JSON"), None);
    }
}
