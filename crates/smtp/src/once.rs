//! XONCE: a hand-over that bears a name, so that a repeat of it makes no second copy. `docs/ONCE.md` is its specification.
//!
//! The EHLO keyword `XONCE` offers the parameter `XONCE=name` of MAIL and the command `XDONE name…`. Names are xtext of printable
//! ASCII. It is no standard: RFC 5321 4.1.5 leaves names in X to who agrees about them.

use crate::xtext;

/// The line of the EHLO reply.
pub const OFFER: &str = "XONCE";
/// The longest name, decoded.
const NAME_OCTETS_MAX: usize = 200;
/// Names in one XDONE.
pub const DONE_MAX: usize = 8;

/// The name of a hand-over, decoded; `None` if it is none.
pub(crate) fn name(text: &str) -> Option<Box<str>> {
    let name = xtext::decode(text)?;
    let whole = (1..=NAME_OCTETS_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    whole.then(|| name.into_boxed_str())
}

/// Reads what follows XDONE. `None` if one of the names is none, or if there are none or too many.
pub(crate) fn names(arguments: &str) -> Option<Vec<Box<str>>> {
    let words = arguments.split(' ').filter(|word| !word.is_empty());
    let names = words.map(name).collect::<Option<Vec<_>>>()?;
    (1..=DONE_MAX).contains(&names.len()).then_some(names)
}

/// `XDONE`, for the first names.
pub(crate) fn done(names: &[Box<str>]) -> String {
    let mut line = "XDONE".to_owned();
    for name in names.iter().take(DONE_MAX) {
        line.push(' ');
        xtext::encode(name, &mut line);
    }
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_were_written_and_nothing_else_is_a_name() {
        let given: Vec<Box<str>> = vec!["a-1-2.5@demo".into(), "+=~".into()];
        let line = done(&given);
        let arguments = line.strip_prefix("XDONE ").unwrap().trim_end();
        assert_eq!(names(arguments), Some(given));
        let long = "x".repeat(NAME_OCTETS_MAX + 1);
        for bad in ["", "+", "a+20b", "a=b", "+C3+A9", &long] {
            assert_eq!(name(bad), None, "{bad}");
        }
        assert_eq!((names(""), names("a +")), (None, None));
        assert_eq!(names(&"a ".repeat(DONE_MAX)).map(|names| names.len()), Some(DONE_MAX));
        assert_eq!(names(&"a ".repeat(DONE_MAX + 1)), None);
    }
}
