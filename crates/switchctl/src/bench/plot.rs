//! Bars: the rate of each load, ours above theirs, on one scale.

use std::fmt::Write as _;

use super::figures::{Figures, Sample, median};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 260.0;
const RIGHT: f64 = 160.0;
const BAR: f64 = 14.0;
const GAP: f64 = 12.0;

/// An SVG picture of the rates.
pub(crate) fn bars(all: &[Figures]) -> String {
    let of = |samples: &[Sample]| median(samples.iter().map(|sample| sample.rate));
    let max = all.iter().flat_map(|f| [of(&f.ours), of(&f.theirs)]).flatten().fold(1.0, f64::max);
    let mut body = String::new();
    let mut y = 40.0;
    for figures in all {
        let (ours, theirs) = (of(&figures.ours), of(&figures.theirs));
        if ours.is_none() {
            continue;
        }
        let ratio = figures.ratio(|sample| sample.rate).map(|ratio| format!(" ({ratio:.1}×)"));
        text(&mut body, LEFT - 10.0, y + BAR, "end", &figures.work.name());
        for (rate, colour, note) in [(ours, "#2563eb", ratio), (theirs, "#9ca3af", None)] {
            let Some(rate) = rate else { continue };
            let width = (rate / max * (WIDTH - LEFT - RIGHT)).max(1.0);
            // Writing to a string never fails.
            writeln!(
                body,
                r#"<rect x="{LEFT}" y="{y:.0}" width="{width:.1}" height="{BAR}" fill="{colour}"/>"#
            )
            .ok();
            let label = format!("{rate:.0}{}", note.unwrap_or_default());
            text(&mut body, LEFT + width + 6.0, y + BAR - 2.5, "start", &label);
            y += BAR + 2.0;
        }
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\">messages a second: mailswitch (blue) and Postfix (grey), same run</text>\n\
         {body}</svg>\n"
    )
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, what: &str) {
    writeln!(body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{what}</text>"#).ok();
}
