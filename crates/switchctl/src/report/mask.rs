//! Addresses of people in a text, masked: the part before the `@`. The domain stays, for it is what helps.

/// What stands for a local part.
const MASK: &str = "***";
/// Units of systemd look like addresses.
const UNITS: [&str; 5] =
    ["switch", "switch-takeover", "switch-smtp", "switch-submission", "switch-submissions"];

/// The text with every local part masked.
pub(super) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        let local = before.chars().rev().take_while(|c| is_local(*c)).map(char::len_utf8).sum::<usize>();
        let local = before.get(before.len() - local..).unwrap_or_default();
        // What opens a quotation in prose is no part of an address.
        let local = local.trim_start_matches(['\'', '`', '{', '|']);
        let (kept, local) = before.split_at(before.len() - local.len());
        out.push_str(kept);
        let domain = after.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '[');
        // A quoted local part ends with its quote; what is in it is not looked for further back than its line.
        let quoted = local.is_empty() && kept.ends_with('"');
        if quoted && domain {
            let open = kept.trim_end_matches('"').rfind(['"', '\n']).map_or(0, |at| at + 1);
            out.truncate(out.len() - (kept.len() - open));
            out.push_str(MASK);
            out.push('"');
        } else if local.is_empty() || !domain || UNITS.contains(&local) {
            out.push_str(local);
        } else {
            out.push_str(MASK);
        }
        out.push('@');
        rest = after;
    }
    out.push_str(rest);
    out
}

/// RFC 5321 4.1.2 `Dot-string`, with what RFC 6531 adds. Not `=`: in a log it stands between a name and its value.
fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "!#$%&'*+-/?^_`{|}~.".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_masked_and_all_else_is_kept() {
        for (text, wanted) in [
            ("from=ann.lee+x@example.test to=<bob@b.test>", "from=***@example.test to=<***@b.test>"),
            ("switch@a.service and @example.test, a @ b", "switch@a.service and @example.test, a @ b"),
            ("routes '@example.test' müller@x.test", "routes '@example.test' ***@x.test"),
            ("x \"odd one\"@c.test y", "x \"***\"@c.test y"),
            ("", ""),
        ] {
            assert_eq!(masked(text), wanted);
        }
    }
}
