//! What is kept of a password: enough to check it, not enough to know it.
//!
//! Two verifiers stand side by side, since neither serves both ways of asking. A password that is sent (PLAIN, LOGIN) is
//! checked with argon2id, which is costly for whoever stole the file. SCRAM never sends it, and needs keys that only PBKDF2
//! gives (RFC 5802 3). A user may have either alone; a password that is sent is checked with the SCRAM keys where there is no
//! argon2.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Iterations of new SCRAM keys. RFC 7677 4 asks for 4096 or more and for what is bearable; a client pays this once a login.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
const KEY_OCTETS: usize = digest::SHA256_OUTPUT_LEN;

/// Why a verifier cannot be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// A password of no characters.
    #[error("the password is empty")]
    Empty,
    /// A password with a control character, which no client can send in every mechanism.
    #[error("the password has a control character")]
    Control,
    /// The machine gives no random numbers, or no memory.
    #[error("the password cannot be hashed")]
    Hash,
    /// Not `$argon2id$…`.
    #[error("argon2 is no hash in PHC form: $argon2id$v=19$…")]
    Argon2,
    /// Not `SCRAM-SHA-256$iterations:salt$stored:server`.
    #[error("scram is not of the form SCRAM-SHA-256$iterations:salt$stored-key:server-key")]
    Scram,
}

/// The password as it is compared: spellings that look the same are the same. RFC 4013; what that forbids is kept as it is.
pub(crate) fn prepared(password: &str) -> String {
    stringprep::saslprep(password).map_or_else(|_| password.to_owned(), std::borrow::Cow::into_owned)
}

/// What SCRAM-SHA-256 needs of a password. RFC 5802 3.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// How often the password is hashed.
    pub iterations: NonZeroU32,
    /// With what.
    pub salt: Vec<u8>,
    /// Checks the client's proof.
    pub stored_key: [u8; KEY_OCTETS],
    /// Makes the server's.
    pub server_key: [u8; KEY_OCTETS],
}

impl ScramKeys {
    /// The keys of a prepared password.
    pub(crate) fn derive(password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let mut salted = [0; KEY_OCTETS];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let sized = |bytes: &[u8]| bytes.try_into().unwrap_or([0; KEY_OCTETS]);
        let client_key = hmac::sign(&key, b"Client Key");
        Self {
            iterations,
            salt,
            stored_key: sized(digest::digest(&digest::SHA256, client_key.as_ref()).as_ref()),
            server_key: sized(hmac::sign(&key, b"Server Key").as_ref()),
        }
    }

    /// Keys that belong to no password.
    pub(crate) fn invented(salt: Vec<u8>, key: [u8; KEY_OCTETS]) -> Self {
        Self { iterations: ITERATIONS, salt, stored_key: key, server_key: key }
    }

    fn checks(&self, password: &str) -> bool {
        let derived = Self::derive(password, self.salt.clone(), self.iterations);
        constant_time::verify_slices_are_equal(&derived.stored_key, &self.stored_key).is_ok()
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

// RFC 5803 3 in the spelling that PostgreSQL made common.
impl fmt::Display for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] = [self.salt.as_slice(), &self.stored_key, &self.server_key];
        let [salt, stored, server] = [salt, stored, server].map(|bytes| STANDARD.encode(bytes));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl FromStr for ScramKeys {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let read = || {
            let (salted, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
            let ((iterations, salt), (stored, server)) = (salted.split_once(':')?, keys.split_once(':')?);
            let key = |text: &str| <[u8; KEY_OCTETS]>::try_from(STANDARD.decode(text).ok()?).ok();
            // A salt of nothing, or a million rounds for every guess, would be a mistake.
            let iterations = iterations.parse::<NonZeroU32>().ok().filter(|n| n.get() <= 10_000_000)?;
            let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
            Some(Self { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
        };
        read().ok_or(VerifierError::Scram)
    }
}

/// All that is kept of one password.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Verifiers {
    argon2: Option<String>,
    scram: Option<ScramKeys>,
}

impl Verifiers {
    /// Those of a new password.
    pub fn of(password: &str, with_scram: bool) -> Result<Self, VerifierError> {
        if password.is_empty() {
            return Err(VerifierError::Empty);
        }
        if password.chars().any(char::is_control) {
            return Err(VerifierError::Control);
        }
        let password = prepared(password);
        let hash: PasswordHash =
            Argon2::default().hash_password(password.as_bytes()).map_err(|_| VerifierError::Hash)?;
        let scram = with_scram.then(|| {
            let mut salt = vec![0; 16];
            rand::fill(&mut salt).map_err(|_| VerifierError::Hash)?;
            Ok(ScramKeys::derive(&password, salt, ITERATIONS))
        });
        Ok(Self { argon2: Some(hash.to_string()), scram: scram.transpose()? })
    }

    /// Those that were kept, as they stand in a file.
    pub fn read(argon2: Option<&str>, scram: Option<&str>) -> Result<Self, VerifierError> {
        if let Some(text) = argon2 {
            let known = text.starts_with("$argon2") && PasswordHash::new(text).is_ok();
            known.then_some(()).ok_or(VerifierError::Argon2)?;
        }
        Ok(Self { argon2: argon2.map(str::to_owned), scram: scram.map(str::parse).transpose()? })
    }

    /// For passwords that are sent.
    #[must_use]
    pub fn argon2(&self) -> Option<&str> {
        self.argon2.as_deref()
    }

    /// For SCRAM.
    #[must_use]
    pub fn scram(&self) -> Option<&ScramKeys> {
        self.scram.as_ref()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.argon2.is_none() && self.scram.is_none()
    }

    /// True if this is the password. Takes tens of milliseconds, whatever the answer.
    #[must_use]
    pub fn check(&self, password: &str) -> bool {
        let password = prepared(password);
        match (&self.argon2, &self.scram) {
            (Some(hash), _) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            (None, Some(keys)) => keys.checks(&password),
            (None, None) => false,
        }
    }
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (argon2, scram) = (self.argon2.is_some(), self.scram.is_some());
        f.debug_struct("Verifiers").field("argon2", &argon2).field("scram", &scram).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_rfc_7677() {
        // RFC 7677 3: user "user", password "pencil".
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = ScramKeys::derive("pencil", salt, NonZeroU32::new(4096).unwrap());
        // The keys of that example, as PostgreSQL writes them for the same salt.
        assert_eq!(
            keys.to_string(),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn either_verifier_checks_a_password_and_no_other() {
        let both = Verifiers::of("pass wörd", true).unwrap();
        let argon2 = Verifiers::read(both.argon2(), None).unwrap();
        let scram = both.scram().unwrap().to_string();
        let scram = Verifiers::read(None, Some(&scram)).unwrap();
        for verifiers in [&both, &argon2, &scram] {
            assert!(verifiers.check("pass wörd"), "{verifiers:?}");
            // The same word in another Unicode spelling.
            assert!(verifiers.check("pass wo\u{308}rd"), "{verifiers:?}");
            for wrong in ["", "pass word", "Pass wörd", "pass wörd "] {
                assert!(!verifiers.check(wrong), "{wrong:?} {verifiers:?}");
            }
        }
        assert!(!Verifiers::default().check(""));
        assert_eq!(Verifiers::of("", true), Err(VerifierError::Empty));
        assert_eq!(Verifiers::of("a\nb", true), Err(VerifierError::Control));
    }

    #[test]
    fn what_is_no_verifier_is_refused_and_nothing_secret_is_shown() {
        for bad in ["", "secret", "$6$salt$hash", "$argon2id$v=19$nonsense$x$y"] {
            assert_eq!(Verifiers::read(Some(bad), None), Err(VerifierError::Argon2), "{bad}");
        }
        for bad in [
            "",
            "SCRAM-SHA-1$1:AA==$AA==:AA==",
            "SCRAM-SHA-256$0:AAAA$AA==:AA==",
            "SCRAM-SHA-256$4096:AAAA$AA==:AA==",
        ] {
            assert_eq!(Verifiers::read(None, Some(bad)), Err(VerifierError::Scram), "{bad}");
        }
        let shown = format!("{:?}", Verifiers::of("secret", true).unwrap());
        assert_eq!(shown, "Verifiers { argon2: true, scram: true }");
    }
}
