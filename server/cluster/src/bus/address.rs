//! The address of a NATS server, and the login there.

use std::fmt::{self, Debug, Formatter};

use async_nats::ServerAddr;

/// The address of a NATS server as people write it: `nats://host:4222`, with `user:password@` or
/// `token@` before the host if the server requires it, or with `tls://` if it must be encrypted.
/// The text is kept unparsed, since a parser that refuses it would print the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BusAddress(String);

/// The login that an address contains.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// A name and its password.
    User(String, String),
    /// One secret.
    Token(String),
}

impl BusAddress {
    /// Checks the address. The error says what is wrong without quoting any part of it.
    ///
    /// # Errors
    /// Returns an error if the text is no address of a NATS server.
    pub fn check(&self) -> Result<(), String> {
        self.parse().map(drop)
    }

    /// Returns the host, and whether the connection to it is surely encrypted.
    pub fn host(&self) -> Option<(String, bool)> {
        let (address, _) = self.parse().ok()?;
        Some((address.host().to_owned(), address.tls_required()))
    }

    /// Returns the address without secrets, and the login.
    pub(super) fn parse(&self) -> Result<(ServerAddr, Option<Login>), String> {
        let expected = "expected nats://HOST:PORT or tls://HOST:PORT, with commas between several";
        let wrong = || expected.to_owned();
        // The library would leave them out and go on.
        if self.0.contains(char::is_control) {
            return Err("it has a line end or another control character".to_owned());
        }
        let given: ServerAddr = self.0.parse().map_err(|_| wrong())?;
        let scheme = given.scheme();
        if !matches!(scheme, "nats" | "tls") || given.host().is_empty() {
            return Err(wrong());
        }
        let (host, port) = (given.host(), given.port());
        let bare = match host.contains(':') {
            true => format!("{scheme}://[{host}]:{port}"),
            false => format!("{scheme}://{host}:{port}"),
        };
        let bare = bare.parse().map_err(|_| wrong())?;
        let secret = |text| unescaped(text).ok_or("a % in a password is written as %25".to_owned());
        let login = match (given.username(), given.password()) {
            (None, _) => None,
            (Some(token), None) => Some(Login::Token(secret(token)?)),
            (Some(user), Some(password)) => Some(Login::User(secret(user)?, secret(password)?)),
        };
        Ok((bare, login))
    }
}

impl From<&str> for BusAddress {
    fn from(text: &str) -> Self {
        Self(text.trim_start_matches('\u{FEFF}').trim().to_owned())
    }
}

impl Debug for BusAddress {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("BusAddress(..)")
    }
}

/// Decodes a text in which `%2F` stands for a slash, and so on (RFC 3986, 2.1).
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, Option<Login>) {
        let (address, login) = BusAddress::from(text).parse().unwrap();
        (address.as_url_str().to_owned(), login)
    }

    #[test]
    fn addresses_are_what_nats_takes_and_hold_no_secrets() {
        for (text, expected) in [
            ("nats://bus.example:4223", "nats://bus.example:4223"),
            ("bus.example", "nats://bus.example:4222"),
            ("\u{FEFF}nats://bus.example\r\n", "nats://bus.example:4222"),
            ("tls://u:p@[2001:db8::1]:1", "tls://[2001:db8::1]:1"),
        ] {
            assert_eq!(parse(text).0, expected);
        }
    }

    #[test]
    fn users_and_tokens_stand_before_the_host() {
        let user = Login::User("anna".into(), "p@ss/%".into());
        assert!(parse("nats://anna:p%40ss%2F%25@h:1").1 == Some(user));
        assert!(parse("nats://t0ken@h").1 == Some(Login::Token("t0ken".into())));
        assert!(parse("h").1.is_none());
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_printed() {
        for wrong in [
            "",
            "http://secret@h",
            "ws://secret@h",
            "nats://",
            "nats://u:secret@h:port",
            "nats://u:secret%zz@h",
            "nats://u:secret%2@h",
            "nats://u:sec\nret@h",
            "nats://u:secret\t@h",
            "\"nats://u:secret@h\"",
        ] {
            let address = BusAddress::from(wrong);
            let problem = address.check().unwrap_err();
            assert!(!problem.contains("secret"), "{problem}");
            assert!(!format!("{address:?}").contains("secret"));
        }
    }
}
