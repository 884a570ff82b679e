//! What was found.

use std::fmt::Display;

use crate::lights::Light;

/// The word for a light here. Amber: it works, and will not when more goes wrong. Red: mail or its protection suffers from it.
pub(super) fn word(light: Light) -> &'static str {
    match light {
        Light::Green => "ok",
        Light::Amber => "warn",
        Light::Red => "bad",
    }
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) light: Light,
    pub(super) found: String,
    pub(super) remedy: Option<String>,
}

/// All of them, in the order in which they were looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, found: impl Display) {
        self.0.push(Finding { check, light: Light::Green, found: found.to_string(), remedy: None });
    }

    pub(super) fn warn(&mut self, check: &'static str, found: impl Display, remedy: impl Display) {
        self.add(check, Light::Amber, &found, &remedy);
    }

    pub(super) fn bad(&mut self, check: &'static str, found: impl Display, remedy: impl Display) {
        self.add(check, Light::Red, &found, &remedy);
    }

    /// A finding that is better or worse by a measure.
    pub(super) fn add(
        &mut self,
        check: &'static str,
        light: Light,
        found: &dyn Display,
        remedy: &dyn Display,
    ) {
        let remedy = (light != Light::Green).then(|| remedy.to_string());
        self.0.push(Finding { check, light, found: found.to_string(), remedy });
    }

    pub(super) fn all(&self) -> &[Finding] {
        &self.0
    }
}
