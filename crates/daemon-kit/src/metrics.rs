//! Prometheus text. Each part declares its own metrics and hands them to a registry; here they become a page.
//!
//! A [`Page`] writes numbers that are looked up when somebody asks. Names are written in full, `mailswitch_…`; that of a
//! counter without its `_total`, which the text adds. `docs/METRICS.md` lists them all.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What a page is sent as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of one row: names and values.
pub type Labels = Vec<(&'static str, String)>;

/// Writes numbers.
#[derive(Debug)]
pub struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    /// A page on top of what a collector is given.
    #[must_use]
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// One number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// The same by labels.
    pub fn gauges(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.try_for_each(|(labels, value)| row(&mut metric, &labels)?.encode_gauge(&value))
    }

    /// Numbers that only grow, by labels.
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.try_for_each(|(labels, value)| {
            row(&mut metric, &labels)?.encode_counter::<Labels, u64, u64>(&value, None)
        })
    }
}

fn row<'s>(metric: &'s mut MetricEncoder<'_>, labels: &'s Labels) -> Result<MetricEncoder<'s>, fmt::Error> {
    metric.encode_family(labels)
}

/// A count as a number with a fraction.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "nobody needs the last digit of more than 2^53")]
pub fn real(count: u64) -> f64 {
    count as f64
}

/// The page of `registry`, in the text format that Prometheus and everything like it reads.
#[must_use]
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail; a collector that gives up leaves its part out.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    let mut page = String::with_capacity(text.len());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = types.filter_map(|rest| rest.strip_suffix(" counter")).collect();
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        // OpenMetrics names a counter without its ending, the older format by what is on its rows.
        let mut words = line.splitn(4, ' ');
        let (hash, kind, name, rest) = (words.next(), words.next(), words.next(), words.next());
        match (hash, kind, name, rest) {
            (Some("#"), Some(kind @ ("TYPE" | "HELP")), Some(name), Some(rest))
                if counters.contains(name) =>
            {
                let _ = writeln!(page, "# {kind} {name}_total {rest}");
            }
            _ => {
                page.push_str(line);
                page.push('\n');
            }
        }
    }
    page
}

/// One page of several: each metric is described once, with the rows of all.
#[must_use]
pub fn merged(pages: &[String]) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut families: HashMap<&str, (String, String)> = HashMap::new();
    for page in pages {
        let mut family = "";
        for line in page.lines() {
            let described = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
            if let Some(name) = described.and_then(|rest| rest.split(' ').next()) {
                family = name;
            }
            let known = families.contains_key(family);
            let (head, rows) = families.entry(family).or_default();
            if !known {
                order.push(family);
            }
            if described.is_none() {
                rows.push_str(line);
                rows.push('\n');
            } else if !head.lines().any(|before| before == line) {
                head.push_str(line);
                head.push('\n');
            }
        }
    }
    let family = |name: &&str| families.get(name).map(|(head, rows)| format!("{head}{rows}"));
    order.iter().filter_map(family).collect()
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[derive(Debug)]
    struct Two;

    impl Collector for Two {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let mut page = Page::new(encoder);
            page.gauges("mailswitch_some", "Some", [(vec![("of", "a\"b".to_owned())], 1.5)])?;
            page.counters("mailswitch_seen", "Seen", [(vec![("by", "c".to_owned())], 3)])?;
            page.gauges("mailswitch_none", "None", [])?;
            page.gauge("mailswitch_one", "One", real(2))
        }
    }

    fn page(queue: &str) -> String {
        let mut registry = Registry::with_labels([("queue".into(), queue.to_owned().into())].into_iter());
        let counter: Counter = Counter::default();
        counter.inc_by(7);
        registry.register("mailswitch_done", "Done", counter);
        registry.register_collector(Box::new(Two));
        text(&registry)
    }

    #[test]
    fn a_page_is_in_the_format_that_prometheus_reads() {
        let wanted = "# HELP mailswitch_done_total Done.\n# TYPE mailswitch_done_total counter\n\
            mailswitch_done_total{queue=\"a\"} 7\n# HELP mailswitch_some Some\n# TYPE mailswitch_some gauge\n\
            mailswitch_some{queue=\"a\",of=\"a\\\"b\"} 1.5\n# HELP mailswitch_seen_total Seen\n\
            # TYPE mailswitch_seen_total counter\nmailswitch_seen_total{queue=\"a\",by=\"c\"} 3\n\
            # HELP mailswitch_one One\n# TYPE mailswitch_one gauge\nmailswitch_one{queue=\"a\"} 2.0\n";
        assert_eq!(page("a"), wanted);
    }

    #[test]
    fn pages_of_two_queues_describe_each_metric_once() {
        let both = merged(&[page("a"), page("b")]);
        assert_eq!(both.matches("# TYPE mailswitch_done_total counter\n").count(), 1);
        let rows = "mailswitch_done_total{queue=\"a\"} 7\nmailswitch_done_total{queue=\"b\"} 7\n";
        assert!(both.contains(rows), "{both}");
        assert_eq!(merged(&[page("a")]), page("a"));
    }
}
