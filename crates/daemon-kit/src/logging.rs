//! The log: events with fields, one line each, on standard error. Nothing goes to standard output.
//!
//! A line is logfmt: `2026-01-02T03:04:05.678901Z INFO takeover.started queue=b epoch=7 messages=412`. The JSON line has the
//! same fields. journald gets them as fields of its own, with the priority of syslog and a number for each kind of event. Every
//! event has a name, its field `event`; `docs/LOGS.md` lists them.
//!
//! Levels can be changed while the program runs, for all of it or for one of its [`SUBSYSTEMS`]. `MAILSWITCH_LOG` filters
//! (`debug`, `info,switch=trace`), `MAILSWITCH_LOG_FORMAT` (`auto`, `logfmt`, `json`, `journald`); both overrule the configuration.

mod journal;
mod lines;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use settings::{LogFormat, LogLevel, LogSettings};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt as printer};

use self::journal::Journal;
pub use self::journal::message_id;
use self::lines::{Lines, Outlet};

/// The parts of the programs that have a level of their own, and where their code lies.
pub const SUBSYSTEMS: [(&str, &str); 9] = [
    ("control", "control"),
    ("delivery", "switch::delivery"),
    ("heartbeat", "heartbeatd::link"),
    ("intake", "switch::intake"),
    ("launch", "heartbeatd::launch"),
    ("observe", "heartbeatd::observe"),
    ("queue", "queue_store"),
    ("takeover", "heartbeatd::node"),
    ("tls", "switch::tls"),
];

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("MAILSWITCH_LOG '{filter}': {why}; use for example 'info' or 'info,switch=debug'")]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The format is not one.
    #[error("MAILSWITCH_LOG_FORMAT '{0}': use auto, logfmt, json or journald")]
    Format(String),
    /// Its thread could not be started.
    #[error("cannot start the thread of the log: {0}; raise the limit of processes of this user")]
    Thread(std::io::Error),
    /// No socket for the journal could be made.
    #[error("cannot make a socket for the journal: {0}; raise the limit of open files")]
    Journal(std::io::Error),
    /// The log was started before.
    #[error("the log was started before")]
    Twice,
}

/// The log of this process. What waits to be written is written when this is dropped.
#[must_use = "the log's last lines are written when it is dropped"]
#[derive(Debug)]
pub struct Log {
    lines: Lines,
    levels: Levels,
}

impl Log {
    /// Its levels.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.levels.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.write_out();
    }
}

/// The levels in use, which can be changed.
#[derive(Clone)]
pub struct Levels(Arc<Inner>);

struct Inner {
    /// What holds where nothing was ordered.
    start: String,
    ordered: Mutex<BTreeMap<&'static str, LogLevel>>,
    filter: reload::Handle<EnvFilter, Registry>,
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Levels").field(&self.shown()).finish()
    }
}

impl Levels {
    /// Carries out an order, `SUBSYSTEM=LEVEL`: `delivery=debug`; `all=LEVEL` forgets every other. An empty one changes
    /// nothing. What holds then; the error says what to write.
    pub fn order(&self, order: &str) -> Result<String, String> {
        if order.is_empty() {
            return Ok(self.shown());
        }
        let mut ordered = self.0.ordered.lock();
        let (subsystem, level) = parsed(order)?;
        let before = ordered.clone();
        if subsystem == ALL {
            ordered.clear();
        }
        ordered.insert(subsystem, level);
        let filter = directives(&self.0.start, &ordered);
        let changed = EnvFilter::try_new(&filter).map_err(|error| error.to_string());
        let changed = changed.and_then(|filter| self.0.filter.reload(filter).map_err(|e| e.to_string()));
        if let Err(error) = changed {
            *ordered = before;
            return Err(format!("the log does not take '{filter}': {error}"));
        }
        drop(ordered);
        let shown = self.shown();
        // Said at WARN: whoever reads the log must know why it grew or fell silent.
        tracing::warn!(event = "log.levels_changed", levels = %shown);
        Ok(shown)
    }

    fn shown(&self) -> String {
        let ordered = self.0.ordered.lock();
        let all = ordered.get(ALL).map_or(self.0.start.as_str(), |level| level.as_str());
        let others = ordered.iter().filter(|(name, _)| **name != ALL);
        let others: Vec<String> = others.map(|(name, level)| format!(" {name}={}", level.as_str())).collect();
        format!("all={all}{}", others.concat())
    }
}

/// Every subsystem at once.
const ALL: &str = "all";

fn parsed(order: &str) -> Result<(&'static str, LogLevel), String> {
    let (name, level) = order
        .split_once('=')
        .ok_or_else(|| format!("'{order}': write SUBSYSTEM=LEVEL, for example delivery=debug"))?;
    let level = level.parse::<LogLevel>().map_err(|error| format!("'{order}': {error}"))?;
    let known = SUBSYSTEMS.iter().map(|(name, _)| *name).chain([ALL]).find(|known| *known == name);
    let subsystem = known.ok_or_else(|| {
        let names: Vec<&str> = SUBSYSTEMS.iter().map(|(name, _)| *name).collect();
        format!("'{name}' is no subsystem; write all, {}", names.join(", "))
    })?;
    Ok((subsystem, level))
}

/// The filter that does what was ordered.
fn directives(start: &str, ordered: &BTreeMap<&'static str, LogLevel>) -> String {
    let mut filter = ordered.get(ALL).map_or(start, |level| level.as_str()).to_owned();
    for (name, place) in SUBSYSTEMS {
        if let Some(level) = ordered.get(name) {
            let _ = write!(filter, ",{place}={}", level.as_str());
        }
    }
    filter
}

/// Starts the log of this process, once.
pub fn start(settings: &LogSettings) -> Result<Log, LoggingError> {
    let start = std::env::var("MAILSWITCH_LOG").unwrap_or_else(|_| settings.level.as_str().to_owned());
    let format = match std::env::var("MAILSWITCH_LOG_FORMAT") {
        Ok(word) => word.parse().map_err(|_| LoggingError::Format(word))?,
        Err(_) => settings.format,
    };
    let accepted = EnvFilter::try_new(&start)
        .map_err(|error| LoggingError::Filter { filter: start.clone(), why: error.to_string() })?;
    let (filter, handle) = reload::Layer::new(accepted);
    let format = match format {
        LogFormat::Auto if journal::is_behind_stderr() => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Logfmt,
        LogFormat::Logfmt | LogFormat::Json | LogFormat::Journald => format,
    };
    let outlet = match format {
        LogFormat::Journald => Outlet::Journal(Journal::open().map_err(LoggingError::Journal)?),
        LogFormat::Auto | LogFormat::Logfmt | LogFormat::Json => Outlet::Stderr,
    };
    let lines = Lines::start(outlet).map_err(LoggingError::Thread)?;
    let layer = printer::layer().with_writer(lines.clone()).with_ansi(false);
    let log = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Auto | LogFormat::Logfmt => {
            log.with(layer.event_format(Line { journald: false })).try_init()
        }
        LogFormat::Journald => log.with(layer.event_format(Line { journald: true })).try_init(),
        LogFormat::Json => log.with(layer.json().flatten_event(true).with_current_span(false)).try_init(),
    }
    .map_err(|_| LoggingError::Twice)?;
    // A panic aborts the process: what was said before it is what one wants to read.
    let last = lines.clone();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        last.write_out();
        usual(panic);
    }));
    let levels = Levels(Arc::new(Inner { start, ordered: Mutex::default(), filter: handle }));
    Ok(Log { lines, levels })
}

/// Bytes that the fields of a line mostly take.
const FIELDS_EXPECTED: usize = 384;

/// What is written of an event.
struct Line {
    /// An entry of the journal, in place of a line of logfmt.
    journald: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        let mut fields = Fields {
            rest: String::with_capacity(FIELDS_EXPECTED),
            entry: self.journald.then(|| String::with_capacity(FIELDS_EXPECTED)),
            ..Fields::default()
        };
        event.record(&mut fields);
        // An event of a library has no name: its place stands for it.
        let name = if fields.event.is_empty() { event.metadata().target() } else { &fields.event };
        if let Some(entry) = &fields.entry {
            let text = format_args!("{level} {name}{}", fields.rest);
            return journal::entry(&mut line, priority(level), text, &fields.event, entry);
        }
        SystemTime.format_time(&mut line)?;
        writeln!(line, " {level} {name}{}", fields.rest)
    }
}

/// As syslog numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[derive(Default)]
struct Fields {
    event: String,
    rest: String,
    /// The same for the journal, if it is written there.
    entry: Option<String>,
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
        if let Some(entry) = &mut self.entry {
            journal::field(entry, field.name(), value);
        }
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
        printed(Line { journald: false }, speak)
    }

    fn printed(format: Line, speak: impl FnOnce()) -> String {
        let page = Page::default();
        let kept = page.clone();
        let subscriber =
            tracing_subscriber::fmt().event_format(format).with_writer(move || page.clone()).finish();
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
    fn the_journal_gets_an_entry_with_every_field_and_not_the_time() {
        let entry = printed(Line { journald: true }, || tracing::error!(event = "a.b", x = 1, to = "c d"));
        let id = message_id("a.b");
        let wanted = format!(
            "PRIORITY=3\nMESSAGE=ERROR a.b x=1 to=\"c d\"\nMESSAGE_ID={id}\nMAILSWITCH_EVENT=a.b\n\
             MAILSWITCH_X=1\nMAILSWITCH_TO=c d\n\n"
        );
        assert_eq!(entry, wanted);
    }

    #[test]
    fn an_order_names_a_subsystem_and_a_level_or_says_what_to_write() {
        assert_eq!(parsed("delivery=debug"), Ok(("delivery", LogLevel::Debug)));
        assert_eq!(parsed("all=warn"), Ok(("all", LogLevel::Warn)));
        assert!(parsed("delivery").unwrap_err().contains("SUBSYSTEM=LEVEL"));
        assert!(parsed("mail=debug").unwrap_err().contains("delivery"));
        assert!(parsed("delivery=loud").unwrap_err().contains("debug"));
    }

    #[test]
    fn the_filter_has_every_level_that_was_ordered() {
        let mut ordered = BTreeMap::new();
        assert_eq!(directives("info,switch=debug", &ordered), "info,switch=debug");
        ordered.insert("queue", LogLevel::Trace);
        ordered.insert(ALL, LogLevel::Warn);
        assert_eq!(directives("info", &ordered), "warn,queue_store=trace");
    }
}
