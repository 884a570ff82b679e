//! What was looked at, one thing after the other, each with a light.

use serde_json::json;

use crate::output::Listing;

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Light {
    /// As it should be.
    Green,
    /// It works, but somebody should look.
    Amber,
    /// It would fail.
    Red,
}

impl Light {
    /// `green`, `amber`, `red`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Amber => "amber",
            Self::Red => "red",
        }
    }
}

/// What was found, in order.
#[derive(Debug, Default)]
pub(crate) struct Lights(Vec<(&'static str, Light, String)>);

impl Lights {
    /// Notes how `what` stands.
    pub(crate) fn add(&mut self, what: &'static str, light: Light, text: impl Into<String>) {
        self.0.push((what, light, text.into()));
    }

    /// Notes green if all is well with `what`, and another light if not.
    pub(crate) fn if_well(
        &mut self,
        what: &'static str,
        well: bool,
        otherwise: Light,
        text: impl Into<String>,
    ) {
        self.add(what, if well { Light::Green } else { otherwise }, text);
    }

    /// The worst of all.
    pub(crate) fn worst(&self) -> Light {
        self.0.iter().map(|(_, light, _)| *light).max().unwrap_or(Light::Green)
    }

    /// A row for each.
    pub(crate) fn listing(&self, schema: &'static str) -> Listing {
        let mut listing = Listing::new(schema, &["what", "light", "detail"]);
        for (what, light, text) in &self.0 {
            listing.row(vec![json!(what), json!(light.as_str()), json!(text)]);
        }
        listing.with("light", json!(self.worst().as_str()));
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_red_light_is_red_and_amber_is_no_failure() {
        let mut found = Lights::default();
        assert_eq!(found.worst(), Light::Green);
        found.if_well("a", false, Light::Amber, "");
        found.if_well("b", true, Light::Red, "");
        assert_eq!(found.worst(), Light::Amber);
        found.add("c", Light::Red, "");
        assert_eq!(found.worst(), Light::Red);
    }
}
