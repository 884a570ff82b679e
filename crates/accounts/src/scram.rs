//! SCRAM-SHA-256 of both sides. The mechanism is rsasl's; here it is asked and answered. RFC 5802, RFC 7677.
//!
//! rsasl 2.3 panics on messages that are cut short, and a peer needs no password to send one. So nothing reaches it that does
//! not have the shape of RFC 5802 7, in either direction; attributes beyond that shape are refused, as nobody has any.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rsasl::callback::{CallbackError, Context, Request, SessionCallback, SessionData};
use rsasl::mechanisms::scram::properties::ScramStoredPassword;
use rsasl::prelude::{
    Mechname, SASLClient, SASLConfig, SASLServer, Session, SessionError, State, Validation,
};
use rsasl::property::{AuthId, AuthzId, Password};
use rsasl::validate::{Validate, ValidationError};
use smtp::sasl;

use crate::account::Account;
use crate::directory::{Directory, Unavailable};
use crate::said::{Denial, Said};
use crate::verifier::prepared;

const NAME: &str = "SCRAM-SHA-256";

/// What the look-up of the name gave.
#[derive(Debug, Default)]
struct Asked {
    name: Option<String>,
    account: Option<Account>,
    unavailable: Option<Unavailable>,
}

/// Said once the client has proved that it knows the password: whether it also asked for nobody else's rights.
struct Proved;

impl Validation for Proved {
    type Value = bool;
}

struct Callback {
    directory: Arc<dyn Directory>,
    asked: Arc<Mutex<Asked>>,
}

impl SessionCallback for Callback {
    fn callback(
        &self,
        _session: &SessionData,
        context: &Context,
        request: &mut Request,
    ) -> Result<(), SessionError> {
        let Some(name) = context.get_ref::<AuthId>().and_then(unescaped) else { return Ok(()) };
        let found = self.directory.scram(&name);
        let mut asked = self.asked.lock();
        asked.name = Some(name);
        match found {
            Ok((keys, account)) => {
                asked.account = account;
                drop(asked);
                let (stored, server) = (keys.stored_key, keys.server_key);
                let iterations = keys.iterations.get();
                let keys = ScramStoredPassword::new(iterations, &keys.salt, &stored, &server);
                request.satisfy::<ScramStoredPassword>(&keys)?;
                Ok(())
            }
            Err(unavailable) => {
                asked.unavailable = Some(unavailable);
                Err(CallbackError::NoValue.into())
            }
        }
    }

    fn validate(
        &self,
        _session: &SessionData,
        context: &Context,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        let name = context.get_ref::<AuthId>().unwrap_or_default();
        let other = context.get_ref::<AuthzId>().unwrap_or_default();
        validate.finalize::<Proved>(other.is_empty() || other.eq_ignore_ascii_case(name));
        Ok(())
    }
}

type Check = fn(&str) -> bool;

/// RFC 5802 7: the client's first message, without channel binding.
const CLIENT_FIRST: &[(&str, Check)] = &[("n=", is_name), ("r=", is_nonce)];
const CLIENT_FINAL: &[(&str, Check)] = &[("c=", is_base64), ("r=", is_nonce), ("p=", is_key)];
const SERVER_FIRST: &[(&str, Check)] = &[("r=", is_nonce), ("s=", is_base64), ("i=", is_bearable)];
const SERVER_FINAL: &[(&str, Check)] = &[("v=", is_key)];

/// True if `text` has exactly these attributes in this order.
fn has_shape(text: &str, shape: &[(&str, Check)]) -> bool {
    let mut parts = text.split(',');
    let all = shape
        .iter()
        .all(|(key, check)| parts.next().and_then(|part| part.strip_prefix(key)).is_some_and(check));
    all && parts.next().is_none()
}

fn is_client_first(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("n,").or_else(|| text.strip_prefix("y,")) else { return false };
    let Some((other, bare)) = rest.split_once(',') else { return false };
    (other.is_empty() || other.strip_prefix("a=").is_some_and(is_name)) && has_shape(bare, CLIENT_FIRST)
}

fn is_name(text: &str) -> bool {
    !text.contains('\0') && unescaped(text).is_some_and(|name| !name.is_empty())
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_base64(text: &str) -> bool {
    sasl::decode(text.as_bytes()).is_some_and(|bytes| !bytes.is_empty())
}

fn is_key(text: &str) -> bool {
    sasl::decode(text.as_bytes()).is_some_and(|bytes| bytes.len() == 32)
}

/// A server that asks for more rounds than this wants to keep us busy.
fn is_bearable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u32>().is_ok_and(|rounds| (1..=1_000_000).contains(&rounds))
}

/// RFC 5802 5.1: `,` and `=` of a name are sent as `=2C` and `=3D`.
fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (None, None) => return None,
        };
        text.push(sign);
        text.push_str(rest);
    }
    Some(text)
}

/// The server's side.
pub(crate) struct ScramServer {
    session: Option<Session<Proved>>,
    began: bool,
    asked: Arc<Mutex<Asked>>,
}

impl fmt::Debug for ScramServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramServer").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl ScramServer {
    pub(crate) fn new(directory: Arc<dyn Directory>) -> Self {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let callback = Callback { directory, asked: Arc::clone(&asked) };
        let session = || {
            let config = SASLConfig::builder().with_default_mechanisms().with_callback(callback).ok()?;
            let name = Mechname::parse(NAME.as_bytes()).ok()?;
            SASLServer::<Proved>::new(config).start_suggested(name).ok()
        };
        Self { session: session(), began: false, asked }
    }

    /// Takes the client's next message. With an acceptance comes the server's own proof, which the client wants to see.
    pub(crate) fn step(&mut self, message: &[u8]) -> (Said, Option<Vec<u8>>) {
        let mut reply = Vec::new();
        let shaped = std::str::from_utf8(message)
            .is_ok_and(|text| if self.began { has_shape(text, CLIENT_FINAL) } else { is_client_first(text) });
        self.began = true;
        if !shaped {
            self.session = None;
        }
        // After a fault the mechanism must not be asked again, so it is taken out.
        let Some(mut session) = self.session.take() else { return (self.denied(Denial::Malformed), None) };
        match session.step(Some(message), &mut reply) {
            Ok(State::Running) => {
                self.session = Some(session);
                (Said::Challenge(reply), None)
            }
            Ok(State::Finished(_)) => match session.validation() {
                Some(true) => match self.asked.lock().account.take() {
                    Some(account) => (Said::Accepted(account), Some(reply)),
                    None => (self.denied(Denial::Wrong), None),
                },
                Some(false) => (self.denied(Denial::Other), None),
                None => (self.denied(Denial::Wrong), None),
            },
            Err(_) => {
                let unavailable = self.asked.lock().unavailable.take();
                let said = unavailable.map(Said::Unavailable);
                (said.unwrap_or_else(|| self.denied(Denial::Malformed)), None)
            }
        }
    }

    fn denied(&self, why: Denial) -> Said {
        Said::Denied { name: self.asked.lock().name.clone(), why }
    }
}

struct Credentials {
    name: String,
    password: String,
}

impl SessionCallback for Credentials {
    fn callback(
        &self,
        _session: &SessionData,
        _context: &Context,
        request: &mut Request,
    ) -> Result<(), SessionError> {
        request.satisfy::<AuthId>(&self.name)?.satisfy::<Password>(self.password.as_bytes())?;
        Ok(())
    }
}

/// The client's side, toward a next hop.
pub struct ScramClient {
    session: Session,
    /// The shape of the next challenge.
    awaited: &'static [(&'static str, Check)],
}

impl fmt::Debug for ScramClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramClient").finish_non_exhaustive()
    }
}

impl ScramClient {
    /// Who is to be authenticated. `None` if the name cannot be sent.
    #[must_use]
    pub fn new(name: &str, password: &str) -> Option<Self> {
        let callback = Credentials { name: name.to_owned(), password: prepared(password) };
        let config = SASLConfig::builder().with_default_mechanisms().with_callback(callback).ok()?;
        let mechanism = Mechname::parse(NAME.as_bytes()).ok()?;
        let session = SASLClient::new(config).start_suggested(&[mechanism]).ok()?;
        Some(Self { session, awaited: SERVER_FIRST })
    }

    /// The first message (`None` in), and each answer to a challenge. `Err` if the server does not prove that it knows the
    /// password, or does not follow the mechanism; the client must not be asked again then. The flag says that the server
    /// has proved itself.
    pub fn step(&mut self, challenge: Option<&[u8]>) -> Result<(Vec<u8>, bool), String> {
        if let Some(challenge) = challenge {
            let text = std::str::from_utf8(challenge).map_err(|error| error.to_string())?;
            if !has_shape(text, self.awaited) {
                return Err("the server's message is not one of this mechanism".to_owned());
            }
            self.awaited = SERVER_FINAL;
        }
        let mut message = Vec::new();
        match self.session.step(challenge, &mut message) {
            Ok(state) => Ok((message, matches!(state, State::Finished(_)))),
            Err(error) => Err(error.to_string()),
        }
    }
}
