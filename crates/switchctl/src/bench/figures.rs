//! What was measured, and what is made of several measurements of one load.

use serde::Serialize;

use super::server::Name;
use super::work::Work;

/// One run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Sample {
    /// Messages a second.
    pub(crate) rate: f64,
    pub(crate) messages: u64,
    /// Transactions that got no 250.
    pub(crate) failed: u64,
    /// Processor seconds of the server for 10,000 messages.
    pub(crate) cpu_s: f64,
    /// The same of generator and sink together.
    pub(crate) rig_cpu_s: f64,
    /// Bytes given to the disk for a message.
    pub(crate) written: Option<f64>,
    /// Resident bytes at the end.
    pub(crate) resident: u64,
    /// From the final dot to the 250, half of them, in microseconds.
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    pub(crate) max_us: u32,
    /// From the start of the server to its first delivery.
    pub(crate) first_ms: Option<f64>,
    /// How many 250s took up to so many milliseconds; the last holds all that took longer.
    pub(crate) answers: Vec<(u32, u64)>,
    /// What was measured around the traffic: its name, and the figure. A name ends with its unit.
    pub(crate) around: Vec<(&'static str, f64)>,
}

/// Milliseconds up to which answers are counted together.
const STEPS_MS: [u32; 9] = [1, 2, 5, 10, 20, 50, 100, 200, u32::MAX];

/// How many answers took up to each step, given in microseconds.
pub(crate) fn histogram(answers_us: &[u32]) -> Vec<(u32, u64)> {
    let mut below = 0;
    let count = |step: u32| {
        let within = |us: &&u32| **us > below && **us <= step.saturating_mul(1_000);
        let counted = answers_us.iter().filter(within).count() as u64;
        below = step.saturating_mul(1_000);
        (step, counted)
    };
    STEPS_MS.into_iter().map(count).collect()
}

/// All runs of one load.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) work: Work,
    /// No server: generator into sink.
    pub(crate) ceiling: Vec<Sample>,
    pub(crate) ours: Vec<Sample>,
    pub(crate) theirs: Vec<Sample>,
}

impl Figures {
    pub(crate) fn new(work: Work) -> Self {
        Self { work, ceiling: Vec::new(), ours: Vec::new(), theirs: Vec::new() }
    }

    pub(crate) fn of(&mut self, name: Name) -> &mut Vec<Sample> {
        match name {
            Name::Mailswitch => &mut self.ours,
            Name::Postfix => &mut self.theirs,
        }
    }

    /// Ours to theirs, run by run; the median.
    pub(crate) fn ratio(&self, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        let pairs = self.ours.iter().zip(&self.theirs);
        let ratios = pairs.map(|(ours, theirs)| (figure(ours), figure(theirs)));
        median(ratios.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs))
    }
}

/// The one in the middle, or the mean of the two there.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(*values.get(half - 1)?, upper)) }
}

/// The value that so many of a hundred do not exceed.
pub(crate) fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_in_one_step() {
        let counted = histogram(&[1, 1_000, 1_001, 99_999, 200_000, 200_001, u32::MAX]);
        let steps = counted.iter().filter(|(_, count)| *count > 0).copied();
        assert_eq!(steps.collect::<Vec<_>>(), [(1, 2), (2, 1), (100, 1), (200, 1), (u32::MAX, 2)]);
    }

    #[test]
    fn medians_and_percentiles_are_those_of_the_sorted_values() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
        let sorted: Vec<u32> = (1..=200).collect();
        assert_eq!((percentile(&sorted, 50), percentile(&sorted, 99), percentile(&[], 50)), (101, 199, 0));
        assert_eq!(percentile(&sorted, 100), 200);
    }
}
