//! Parameters of MAIL and RCPT: `KEYWORD` or `KEYWORD=value`, separated by spaces. RFC 5321 4.1.2.
//!
//! A keyword that stands twice is refused: two meanings for one command is how filters and relays come to disagree.

use mail_model::{BodyType, DsnReturn, Notify, OriginalRecipient};

use crate::{once, xtext};

/// Why a parameter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParameterError {
    /// Not `KEYWORD` or `KEYWORD=value`.
    #[error("a parameter is malformed")]
    Malformed,
    /// Nobody offered it.
    #[error("a parameter is not known")]
    Unknown,
    /// It stands twice.
    #[error("a parameter stands twice")]
    Duplicate,
    /// Its value means nothing.
    #[error("the value of {0} is malformed")]
    Value(&'static str),
    /// `BODY=BINARYMIME`, which is not offered.
    #[error("BINARYMIME is not offered")]
    BinaryMime,
}

/// What MAIL says beside its path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailParameters {
    /// SIZE=. RFC 1870. A number of 20 digits above the range counts as the largest number.
    pub size: Option<u64>,
    /// BODY=. RFC 6152.
    pub body: Option<BodyType>,
    /// SMTPUTF8. RFC 6531.
    pub smtputf8: bool,
    /// REQUIRETLS. RFC 8689.
    pub require_tls: bool,
    /// RET=. RFC 3461 4.3.
    pub ret: Option<DsnReturn>,
    /// ENVID=, decoded, at most 100 octets. RFC 3461 4.4.
    pub envid: Option<Box<str>>,
    /// AUTH=, decoded, empty for `<>`: who is said to have submitted the message. RFC 4954 5. It is read and not believed.
    pub submitter: Option<Box<str>>,
    /// XONCE=, decoded: the name of this hand-over. Ours, see [`crate::once`].
    pub once: Option<Box<str>>,
}

/// What RCPT says beside its path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecipientParameters {
    /// NOTIFY=. RFC 3461 4.1.
    pub notify: Option<Notify>,
    /// ORCPT=. RFC 3461 4.2.
    pub original: Option<OriginalRecipient>,
}

impl MailParameters {
    /// Reads what follows the path.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        let mut found = Self::default();
        for (keyword, value) in split(text)? {
            match keyword.to_ascii_uppercase().as_str() {
                "SIZE" => found.size = Some(size(value).ok_or(ParameterError::Value("SIZE"))?),
                "BODY" => found.body = Some(body(value)?),
                "SMTPUTF8" if value.is_none() => found.smtputf8 = true,
                "SMTPUTF8" => return Err(ParameterError::Value("SMTPUTF8")),
                "REQUIRETLS" if value.is_none() => found.require_tls = true,
                "REQUIRETLS" => return Err(ParameterError::Value("REQUIRETLS")),
                "RET" => found.ret = Some(ret(value).ok_or(ParameterError::Value("RET"))?),
                "AUTH" => found.submitter = Some(submitter(value).ok_or(ParameterError::Value("AUTH"))?),
                "XONCE" => {
                    found.once = Some(value.and_then(once::name).ok_or(ParameterError::Value("XONCE"))?);
                }
                "ENVID" => found.envid = Some(envid(value).ok_or(ParameterError::Value("ENVID"))?),
                _ => return Err(ParameterError::Unknown),
            }
        }
        Ok(found)
    }
}

impl RecipientParameters {
    /// Reads what follows the path.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        let mut found = Self::default();
        for (keyword, value) in split(text)? {
            match keyword.to_ascii_uppercase().as_str() {
                "NOTIFY" => found.notify = Some(notify(value).ok_or(ParameterError::Value("NOTIFY"))?),
                "ORCPT" => found.original = Some(original(value).ok_or(ParameterError::Value("ORCPT"))?),
                _ => return Err(ParameterError::Unknown),
            }
        }
        Ok(found)
    }
}

/// Keywords and values, each keyword once.
fn split(text: &str) -> Result<Vec<(&str, Option<&str>)>, ParameterError> {
    let mut found: Vec<(&str, Option<&str>)> = Vec::new();
    if text.is_empty() {
        return Ok(found);
    }
    // Between the path and the first parameter stands a space; `<a@b>SIZE=1` is no parameter.
    let text = text.strip_prefix(' ').ok_or(ParameterError::Malformed)?;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword_is_word = keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && keyword.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !keyword_is_word || value.is_some_and(|v| v.is_empty() || v.contains('=')) {
            return Err(ParameterError::Malformed);
        }
        if found.iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(keyword)) {
            return Err(ParameterError::Duplicate);
        }
        found.push((keyword, value));
    }
    Ok(found)
}

/// RFC 1870 4: 1 to 20 digits. 20 digits may exceed 64 bits; such a message is too large for anyone.
fn size(value: Option<&str>) -> Option<u64> {
    let digits = value?;
    let well_formed = (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    well_formed.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn body(value: Option<&str>) -> Result<BodyType, ParameterError> {
    let fault = ParameterError::Value("BODY");
    let value = value.ok_or(fault)?;
    if value.eq_ignore_ascii_case("7BIT") {
        Ok(BodyType::SevenBit)
    } else if value.eq_ignore_ascii_case("8BITMIME") {
        Ok(BodyType::EightBitMime)
    } else if value.eq_ignore_ascii_case("BINARYMIME") {
        Err(ParameterError::BinaryMime)
    } else {
        Err(fault)
    }
}

fn ret(value: Option<&str>) -> Option<DsnReturn> {
    let value = value?;
    if value.eq_ignore_ascii_case("FULL") {
        Some(DsnReturn::Full)
    } else if value.eq_ignore_ascii_case("HDRS") {
        Some(DsnReturn::Headers)
    } else {
        None
    }
}

fn envid(value: Option<&str>) -> Option<Box<str>> {
    // RFC 3461 5.4: at most 100 characters.
    let decoded = xtext::decode(value?)?;
    (decoded.len() <= 100).then(|| decoded.into_boxed_str())
}

/// RFC 4954 5: `<>`, or an address in xtext.
fn submitter(value: Option<&str>) -> Option<Box<str>> {
    match value? {
        "<>" => Some(Box::default()),
        text => xtext::decode(text).filter(|address| address.contains('@')).map(String::into_boxed_str),
    }
}

/// RFC 3461 4.1: `NEVER` alone, or a list of the others.
fn notify(value: Option<&str>) -> Option<Notify> {
    let value = value?;
    let mut found = Notify::NEVER;
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(found);
    }
    for word in value.split(',') {
        let flag = if word.eq_ignore_ascii_case("SUCCESS") {
            &mut found.success
        } else if word.eq_ignore_ascii_case("FAILURE") {
            &mut found.failure
        } else if word.eq_ignore_ascii_case("DELAY") {
            &mut found.delay
        } else {
            return None;
        };
        *flag = true;
    }
    Some(found)
}

fn original(value: Option<&str>) -> Option<OriginalRecipient> {
    // RFC 3461 5.4: at most 500 characters.
    let value = value.filter(|v| v.len() <= 500)?;
    let (address_type, address) = value.split_once(';')?;
    let type_is_word = is_address_type(address_type);
    let address = if address_type.eq_ignore_ascii_case("utf-8") {
        xtext::decode_utf8_address(address)
    } else {
        xtext::decode_international(address)
    };
    let address = address.filter(|a| type_is_word && !a.is_empty())?;
    Some(OriginalRecipient { address_type: address_type.into(), address: address.into_boxed_str() })
}

/// RFC 3461 4.2: the type is an atom. The registered ones are letters, digits and hyphens.
pub(crate) fn is_address_type(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
