//! A message whose header is changed: fields taken out, replaced or put on top, while every other byte stays.
//!
//! What a field is told to say comes from elsewhere, so it can never end the header or begin another field: line ends in it become
//! folds (RFC 5322 2.2.3).

use std::borrow::Cow;

/// A header, field by field, and what follows it.
#[derive(Debug, Clone)]
pub struct Edit<'a> {
    fields: Vec<Cow<'a, [u8]>>,
    changed: bool,
    /// The empty line and the body.
    rest: Cow<'a, [u8]>,
}

impl<'a> Edit<'a> {
    /// Takes a message apart. Lines that are no fields stay where they are, as part of the field before them.
    #[must_use]
    pub fn of(content: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        let mut rest = content;
        let mut start = content;
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            let over = matches!(line, b"" | b"\n" | b"\r\n");
            if over || name_of(line).is_some() {
                let held = start.len() - rest.len();
                if let Some(field) = start.get(..held).filter(|field| !field.is_empty()) {
                    fields.push(Cow::Borrowed(field));
                }
                start = rest;
            }
            if over {
                return Self { fields, changed: false, rest: Cow::Borrowed(rest) };
            }
            rest = after;
        }
    }

    /// Name and value of each field, unfolded no further than its line ends go: what stands behind the colon and one blank.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().filter_map(|field| {
            let name = name_of(field)?;
            let value = field.get(field.iter().position(|byte| *byte == b':')? + 1..)?;
            let value = value.strip_prefix(b" ").unwrap_or(value);
            Some((name, value.trim_ascii_end()))
        })
    }

    /// What follows the empty line.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.rest.strip_prefix(b"\r\n").or_else(|| self.rest.strip_prefix(b"\n")).unwrap_or(&self.rest)
    }

    /// Another body.
    pub fn set_body(&mut self, body: &[u8]) {
        self.rest = Cow::Owned([b"\r\n", body].concat());
        self.changed = true;
    }

    /// The `number`th field of this name, from 1, says something else; it is added behind all others if it is not there.
    /// What is no name of a field changes nothing.
    pub fn set(&mut self, name: &str, number: usize, value: &str) {
        let Some(field) = field(name, value) else { return };
        self.changed = true;
        match self.place(name, number).and_then(|place| self.fields.get_mut(place)) {
            Some(place) => *place = Cow::Owned(field.into_bytes()),
            None => self.fields.push(Cow::Owned(field.into_bytes())),
        }
    }

    /// Takes out the `number`th field of this name, from 1.
    pub fn remove(&mut self, name: &str, number: usize) {
        if let Some(place) = self.place(name, number) {
            self.fields.remove(place);
            self.changed = true;
        }
    }

    /// Takes out every field of this name.
    pub fn remove_all(&mut self, name: &str) {
        let before = self.fields.len();
        self.fields.retain(|field| !is_named(field, name));
        self.changed |= self.fields.len() != before;
    }

    /// How many fields of this name there are.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|field| is_named(field, name)).count()
    }

    /// True if it is not the message any more that it was.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    fn place(&self, name: &str, number: usize) -> Option<usize> {
        let mut named = self.fields.iter().enumerate().filter(|(_, field)| is_named(field, name));
        named.nth(number.checked_sub(1)?).map(|(place, _)| place)
    }

    /// The message as it is now.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let size = self.fields.iter().map(|field| field.len()).sum::<usize>() + self.rest.len();
        let mut bytes = Vec::with_capacity(size);
        for field in &self.fields {
            bytes.extend_from_slice(field);
            // The last line of a header without a body may lack its end.
            if !field.ends_with(b"\n") {
                bytes.extend_from_slice(b"\r\n");
            }
        }
        bytes.extend_from_slice(&self.rest);
        bytes
    }
}

/// A whole field with its line end; `None` if `name` is no name. RFC 5322 3.6.8.
#[must_use]
pub fn field(name: &str, value: &str) -> Option<String> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if !is_name {
        return None;
    }
    let mut text = format!("{name}:");
    let lines = value.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty());
    for (number, line) in lines.enumerate() {
        text.push_str(if number == 0 { " " } else { "\r\n\t" });
        text.extend(line.trim_start().chars().filter(|letter| *letter != '\0'));
    }
    text.push_str("\r\n");
    Some(text)
}

fn name_of(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line.get(..colon)?.trim_ascii_end();
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some(name)
}

fn is_named(field: &[u8], name: &str) -> bool {
    name_of(field).is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"From: a\r\nSubject: one\r\n two\r\nX-A: 1\r\nx-a : 2\r\nno field\r\n\r\nbody\r\n\r\nX-A: 3\r\n";

    fn edited(change: impl FnOnce(&mut Edit<'_>)) -> String {
        let mut edit = Edit::of(MESSAGE);
        change(&mut edit);
        String::from_utf8(edit.to_bytes()).unwrap()
    }

    #[test]
    fn what_nobody_changes_stays_byte_for_byte() {
        for message in
            [MESSAGE, b"", b"\r\nbody", b"A: b\r\n", b"A: b\r\n\r\n", b"\xff\xfe\r\n\r\nx", b"A:b\nB:c\n\nx"]
        {
            assert_eq!(Edit::of(message).to_bytes(), message);
        }
        assert_eq!(Edit::of(MESSAGE).body(), b"body\r\n\r\nX-A: 3\r\n");
        let edit = Edit::of(MESSAGE);
        let fields: Vec<_> = edit.fields().collect();
        assert_eq!(fields.len(), 4);
        assert!(fields.contains(&(&b"Subject"[..], &b"one\r\n two"[..])));
    }

    #[test]
    fn fields_are_replaced_added_and_taken_out_by_name_and_number() {
        let text = edited(|edit| edit.set("subject", 1, "new"));
        assert!(text.contains("subject: new\r\nX-A: 1") && !text.contains("two"), "{text}");
        let text = edited(|edit| edit.remove("X-A", 2));
        assert!(text.contains("X-A: 1\r\n\r\nbody"), "{text}");
        let text = edited(|edit| edit.remove_all("x-a"));
        assert!(text.contains(" two\r\n\r\nbody") && text.contains("X-A: 3"), "{text}");
        let text = edited(|edit| edit.set("New", 1, "x"));
        assert!(text.contains("no field\r\nNew: x\r\n\r\nbody"), "{text}");
        let text = edited(|edit| edit.set_body(b"other\r\n"));
        assert!(text.ends_with("no field\r\n\r\nother\r\n"), "{text}");
        assert_eq!(edited(|edit| edit.remove("X-A", 9)).as_bytes(), MESSAGE);
    }

    #[test]
    fn a_value_never_begins_a_field_or_ends_the_header() {
        for value in ["a\r\n\r\nBcc: x", "a\nBcc: x", "a\rBcc: x", "a\n\n Bcc: x"] {
            assert_eq!(field("X", value).unwrap(), "X: a\r\n\tBcc: x\r\n", "{value:?}");
        }
        for name in ["", "a b", "a:", "a\r\nb", "\u{e4}"] {
            assert_eq!(field(name, "x"), None, "{name:?}");
        }
    }
}
