//! The report of a drill as one page that needs nothing else: numbers, a chart as SVG, events.

use super::report::{Point, Report};

const WIDTH: u64 = 960;
const HEIGHT: u64 = 260;
const MARGIN: u64 = 40;
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}\
.pass{color:#176b2c}.fail{color:#a31515}svg{width:100%;height:auto;border:1px solid #ddd}\
.a{stroke:#1f5fa8}.d{stroke:#d9822b}.a,.d{fill:none;stroke-width:2}.f{fill:#a3151522}.m{stroke:#555;stroke-dasharray:4 3}\
text{font:12px system-ui,sans-serif;fill:#444}";

/// The whole page.
pub(crate) fn html(report: &Report) -> String {
    let rows = lines(report.rows(), |(what, value)| row(&[what, &value]));
    let nodes = lines(&report.nodes, |n| row(&[n.name.as_str(), &n.version, &n.config_hash]));
    let events = lines(&report.events, |event| row(&[&event.ms.to_string(), &event.text]));
    let faults = lines(&report.faults, |fault| format!("<li class=\"fail\">{}</li>", safe(fault)));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Drill {id}: {verdict}</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>Drill {id}: <span class=\"{verdict}\">{verdict}</span></h1>\n\
         <p><b>{fault}</b> of node {node}, ordered on node {by} by {who}, {at}.</p>\n<ul>{faults}</ul>\n\
         {chart}\n<table>{rows}</table>\n<h2>Nodes</h2>\n<table><tr><th>node</th><th>version</th><th>configuration</th></tr>\n{nodes}</table>\n\
         <h2>Events</h2>\n<table><tr><th>ms</th><th>event</th></tr>\n{events}</table>\n</body></html>\n",
        id = safe(&report.id),
        verdict = safe(&report.verdict),
        fault = safe(&report.fault),
        node = report.node,
        by = report.ordered_by,
        who = safe(&report.who),
        at = safe(&report.at),
        chart = chart(report),
    )
}

fn lines<T>(of: impl IntoIterator<Item = T>, line: impl Fn(T) -> String) -> String {
    of.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn row(cells: &[&str]) -> String {
    format!("<tr><td>{}</td></tr>", lines(cells, |cell| safe(cell)).replace('\n', "</td><td>"))
}

/// Sums of accepted and delivered probes over time; the fault is shaded, the phases are dashed.
fn chart(report: &Report) -> String {
    let span = report.points.last().map_or(1, |point| point.ms).max(1);
    let top = report.points.iter().map(|point| point.accepted.max(point.delivered)).max().unwrap_or(1).max(1);
    let x = |ms: u64| MARGIN + ms.min(span) * (WIDTH - 2 * MARGIN) / span;
    let y = |count: u64| HEIGHT - MARGIN - count * (HEIGHT - 2 * MARGIN) / top;
    let line = |class: &str, count: fn(&Point) -> u64| {
        let points: Vec<String> =
            report.points.iter().map(|point| format!("{},{}", x(point.ms), y(count(point)))).collect();
        format!("<polyline class=\"{class}\" points=\"{}\"/>\n", points.join(" "))
    };
    let mut shapes = Vec::new();
    if let Some(fault) = report.fault_ms {
        let end = report.over_ms.unwrap_or(span);
        let (from, width) = (x(fault), x(end).saturating_sub(x(fault)));
        shapes
            .push(format!("<rect class=\"f\" x=\"{from}\" y=\"0\" width=\"{width}\" height=\"{HEIGHT}\"/>"));
        let phases = report.takeover_ms;
        let marks = [
            ("fault", Some(0)),
            ("active", phases.active),
            ("first delivery", phases.first_delivery),
            ("drained", phases.drained),
        ];
        for (row, (name, ms)) in (1..).zip(marks) {
            let Some(ms) = ms else { continue };
            let (at, high) = (x(fault + ms), 14 * row);
            shapes.push(format!(
                "<line class=\"m\" x1=\"{at}\" x2=\"{at}\" y1=\"0\" y2=\"{HEIGHT}\"/><text x=\"{}\" y=\"{high}\">{name} +{ms} ms</text>",
                at + 4));
        }
    }
    for second in (0..=span / 1_000).step_by(usize::try_from(span / 12_000).unwrap_or(0) + 1) {
        let at = x(second * 1_000);
        shapes.push(format!("<text x=\"{at}\" y=\"{}\">{second} s</text>", HEIGHT - MARGIN / 2));
    }
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"probes accepted and delivered over time\">\n{}\n{}{}\
         <text x=\"{MARGIN}\" y=\"{}\">{top} probes; blue: accepted (250), orange: delivered</text>\n</svg>",
        shapes.join("\n"),
        line("a", |point| point.accepted),
        line("d", |point| point.delivered),
        HEIGHT - 4,
    )
}

/// Text that stays text.
fn safe(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_never_becomes_markup() {
        assert_eq!(safe("<b x=\"1\">&</b>"), "&lt;b x=&quot;1&quot;&gt;&amp;&lt;/b&gt;");
    }
}
