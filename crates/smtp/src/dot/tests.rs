//! What ends a message, and what does not, under every cut of the input.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{BareLineEnd, Decoded, DotDecoder, DotEncoder};

/// The message, its fault, and what was left after its end; `None` if it did not end.
type Message = (Vec<u8>, Option<BareLineEnd>, Vec<u8>);

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<Message> {
    let mut decoder = DotDecoder::default();
    let mut input = BytesMut::new();
    let mut body = Vec::new();
    let mut ended = false;
    for piece in pieces {
        input.extend_from_slice(piece);
        while !ended {
            match decoder.decode(&mut input) {
                Decoded::Body(bytes) => body.extend_from_slice(&bytes),
                Decoded::More => {
                    assert!(input.len() <= 2, "undecided bytes are at most two");
                    break;
                }
                Decoded::End => ended = true,
            }
        }
    }
    ended.then(|| (body, decoder.fault(), input.to_vec()))
}

fn encode(pieces: &[&[u8]]) -> Vec<u8> {
    let mut encoder = DotEncoder::default();
    let mut out = Vec::new();
    for piece in pieces {
        encoder.encode(Bytes::copy_from_slice(piece), &mut out);
    }
    out.push(encoder.finish());
    out.concat()
}

#[test]
fn a_message_ends_at_crlf_dot_crlf_and_its_dots_are_removed() {
    let table: &[(&[u8], &[u8])] = &[
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"..a\r\n..b\r\nc.\r\n.\r\n", b".a\r\n.b\r\nc.\r\n"),
        (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n"),
    ];
    for (wire, wanted) in table {
        for size in 1..=wire.len() {
            assert_eq!(decode(wire.chunks(size)), Some((wanted.to_vec(), None, Vec::new())), "{size}");
        }
    }
}

#[test]
fn no_other_line_end_ends_a_message_and_each_is_a_fault() {
    // Every false end that was ever used to smuggle a second message, followed by more and by the true end.
    let corpus: &[&[u8]] = &[
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r\n.\rX",
        b"\n.\r",
        b"\r.\n",
        b"\r\n.\r\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n\n.\r\n",
        b"\n\n.\n\n",
        b"\r\n.\n\r\n",
        b"\r\n\r.\r\n",
        b"\r\n.\0\n\r\n",
    ];
    for false_end in corpus {
        let wire = [b"a".as_slice(), false_end, b"MAIL FROM:<x@y>\r\n.\r\nNOOP\r\n"].concat();
        for size in 1..=wire.len() {
            let (body, fault, rest) = decode(wire.chunks(size)).unwrap();
            let shown = false_end.escape_ascii();
            assert!(body.ends_with(b"MAIL FROM:<x@y>\r\n"), "{shown} by {size}");
            assert!(fault.is_some(), "{shown} by {size}");
            assert_eq!(rest, b"NOOP\r\n", "{shown} by {size}");
        }
    }
}

#[test]
fn what_was_not_ended_is_no_message() {
    for wire in [b"".as_slice(), b"a", b"a\r\n", b".", b".\r", b"a\r\n.\r", b"a.\r\n", b"a\r\n.\r\r\n"] {
        for size in 1..=wire.len().max(1) {
            assert_eq!(decode(wire.chunks(size)), None, "{} by {size}", wire.escape_ascii());
        }
    }
}

#[test]
fn only_dots_at_line_starts_and_a_missing_last_line_end_are_added() {
    let table: &[(&[u8], &[u8])] = &[
        (b"", b".\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n.\r\n..b\r\nc.d", b"a\r\n..\r\n..\r\n...b\r\nc.d\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
    ];
    for (body, wanted) in table {
        for size in 1..=body.len().max(1) {
            let pieces: Vec<&[u8]> = body.chunks(size).collect();
            assert_eq!(encode(&pieces), *wanted, "{} by {size}", body.escape_ascii());
        }
    }
}

fn bytes_of_interest() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), any::<u8>()], 0..60)
}

/// Lines that end with CRLF, many of them dots.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just("."), Just(".."), Just("\r\n"), Just("\r\n."), Just("a")], 0..40)
        .prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #[test]
    fn what_was_encoded_decodes_to_itself_under_any_cut(body in text(), inward in 1_usize..9, outward in 1_usize..9) {
        let pieces: Vec<&[u8]> = body.chunks(inward).collect();
        let wire = encode(&pieces);
        let mut wanted = body.clone();
        if !wanted.is_empty() && !wanted.ends_with(b"\r\n") {
            wanted.extend_from_slice(b"\r\n");
        }
        prop_assert_eq!(decode(wire.chunks(outward)), Some((wanted, None, Vec::new())));
    }

    #[test]
    fn any_bytes_end_exactly_at_the_first_crlf_dot_crlf(wire in bytes_of_interest(), size in 1_usize..9) {
        // The naive truth: the DATA command's CRLF in front, then the first CRLF . CRLF.
        let with_front = [b"\r\n".as_slice(), &wire].concat();
        let end = with_front.windows(5).position(|window| window == b"\r\n.\r\n");
        let found = decode(wire.chunks(size));
        prop_assert_eq!(found.is_some(), end.is_some());
        if let (Some((_, fault, rest)), Some(end)) = (found, end) {
            prop_assert_eq!(&rest, &with_front[end + 5..]);
            let content = String::from_utf8_lossy(&with_front[2..end.max(2)]).replace("\r\n", "");
            prop_assert_eq!(fault.is_some(), content.contains(['\r', '\n']));
        }
    }
}
