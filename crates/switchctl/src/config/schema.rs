//! The configuration's JSON Schema, for editors: which keys there are, and what each means.

use serde_json::{Map, Value, json};

use crate::command::{Outcome, say};
use crate::exit::Exit;

/// Prints it.
pub(crate) fn schema() -> Outcome {
    say(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mailswitch.yaml",
        "type": "object",
        "additionalProperties": false,
        "properties": properties(""),
    }))?;
    Ok(Exit::Ok)
}

/// The keys of the map at `path`.
fn properties(path: &str) -> Value {
    let mut found = Map::new();
    for key in settings::explain(&[], path) {
        let below = if path.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'))
        };
        let Some(below) = below else { continue };
        let (name, rest) = below.split_at(below.find(['.', '[']).unwrap_or(below.len()));
        if found.contains_key(name) {
            continue;
        }
        let whole = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let described = |meaning: &str, form: &str| json!({ "description": format!("{meaning} ({form})") });
        let value = match rest {
            "" => described(key.meaning, key.form),
            "[]" => json!({ "type": "array", "items": described(key.meaning, key.form) }),
            _ if rest.starts_with("[].") => json!({
                "type": "array",
                "items": {
                    "type": "object", "additionalProperties": false, "properties": properties(&format!("{whole}[]"))
                }
            }),
            _ => json!({ "type": "object", "additionalProperties": false, "properties": properties(&whole) }),
        };
        found.insert(name.to_owned(), value);
    }
    Value::Object(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_schema_where_a_file_writes_it() {
        let whole = properties("");
        for key in settings::explain(&[], "") {
            let mut at = &whole;
            for step in key.path.replace("[]", ".[]").split('.') {
                at = match step {
                    "[]" => &at["items"],
                    name if at.get("properties").is_some() => &at["properties"][name],
                    name => &at[name],
                };
            }
            let told = at["description"].as_str().unwrap_or_default();
            assert!(told.starts_with(key.meaning), "{}: {at}", key.path);
        }
    }
}
