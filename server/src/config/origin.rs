//! Origins of pages (RFC 6454), as browsers send them.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The origin of a page: scheme, host and port, in the one form in which two can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    /// The port; `None` for a scheme without a default one.
    port: Option<u16>,
}

impl Origin {
    /// Returns the host: a name, or an address, of IPv6 in brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host and port of a page that was loaded over HTTP, as in its `Host` header but with the
    /// port in any case.
    pub(crate) fn page(&self) -> Option<String> {
        let port = default_port(&self.scheme).and(self.port)?;
        Some(format!("{}:{port}", self.host))
    }

    /// Returns whether a request with this `Host` header went to this origin.
    pub(crate) fn is_of_host(&self, host: &str) -> bool {
        let whole = format!("{}://{host}", self.scheme);
        default_port(&self.scheme).is_some() && whole.parse() == Ok(self.clone())
    }
}

impl FromStr for Origin {
    type Err = String;

    /// Parses an origin. Capital letters, the default port and a slash at the end make no difference.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let expected = "expected an origin such as https://game.example";
        match text {
            "" => return Err(format!("it is empty; {expected}")),
            "null" => {
                return Err(format!(
                    "pages of every file and sandbox have this origin; {expected}"
                ));
            }
            _ => {}
        }
        if text.contains('*') {
            return Err(
                "there are no patterns; give each origin by itself, with commas between".to_owned(),
            );
        }
        if text.contains(['"', '\'']) {
            return Err(format!("write it without quotes; {expected}"));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => {
                return Err(format!(
                    "the scheme is missing; did you mean https://{text}?"
                ));
            }
        };
        let meant = |scheme, rest| {
            Err(format!(
                "an origin begins with http:// or https://; did you mean {scheme}://{rest}?"
            ))
        };
        match scheme.as_str() {
            "ws" => return meant("http", rest),
            "wss" => return meant("https", rest),
            "file" => {
                return Err(format!(
                    "pages of files have no origin of their own; {expected}"
                ));
            }
            _ => {}
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(end) = authority.find(['/', '?', '#', '\\']) {
            let authority = &authority[..end];
            return Err(format!(
                "an origin has no path; did you mean {scheme}://{authority}?"
            ));
        }
        if let Some((_, host)) = authority.rsplit_once('@') {
            return Err(format!(
                "an origin has no user; did you mean {scheme}://{host}?"
            ));
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None | Some("") => default_port(&scheme),
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                format!("the port is {port:?}; expected a number from 1 to 65535")
            })?),
        };
        let host = host_of(host)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        match is_scheme {
            true => Ok(Self { scheme, host, port }),
            false => Err(expected.to_owned()),
        }
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        match port.filter(|port| Some(*port) != default_port(scheme)) {
            Some(port) => write!(f, "{scheme}://{host}:{port}"),
            None => write!(f, "{scheme}://{host}"),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Splits a port off. The colons of an IPv6 address are in brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    match authority.rsplit_once(':') {
        Some((_, port)) if port.ends_with(']') => Ok((authority, None)),
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => Err(format!(
            "an address of IPv6 stands in brackets: [{authority}]"
        )),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// Returns a host in the form that browsers use.
fn host_of(host: &str) -> Result<String, String> {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        let address = address.parse::<Ipv6Addr>();
        return address
            .map(|address| format!("[{address}]"))
            .map_err(|_| format!("{host} is no address of IPv6"));
    }
    if !host.is_ascii() {
        return Err(format!(
            "browsers send the name {host} in ASCII; write it as `location.origin` in the console of a \
             page there has it, such as https://xn--..."
        ));
    }
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_number = host
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if host.is_empty()
        || !host.bytes().all(is_of_name)
        || (is_number && host.parse::<Ipv4Addr>().is_err())
    {
        return Err(format!("{host:?} is neither a host's name nor an address"));
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_mean_the_same_are_equal() {
        for (text, expected) in [
            ("https://game.example", "https://game.example"),
            ("https://game.example/", "https://game.example"),
            ("HTTPS://Game.Example", "https://game.example"),
            ("https://game.example:443", "https://game.example"),
            ("http://game.example:80/", "http://game.example"),
            ("http://game.example:443", "http://game.example:443"),
            ("https://game.example:08443", "https://game.example:8443"),
            ("http://192.168.1.5:8080", "http://192.168.1.5:8080"),
            ("https://[2001:DB8:0::1]:8080", "https://[2001:db8::1]:8080"),
            ("http://localhost", "http://localhost"),
            (
                " https://xn--bcher-kva.example ",
                "https://xn--bcher-kva.example",
            ),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            let origin = text.parse::<Origin>().map(|origin| origin.to_string());
            assert_eq!(origin.as_deref(), Ok(expected), "{text}");
            let again = expected.parse::<Origin>().map(|origin| origin.to_string());
            assert_eq!(again.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_no_page_has_is_refused_with_what_was_meant() {
        for (text, hint) in [
            ("", "it is empty"),
            ("*", "no patterns"),
            ("https://*.example", "no patterns"),
            ("null", "every file"),
            ("game.example", "did you mean https://game.example?"),
            (
                "game.example:8080",
                "did you mean https://game.example:8080?",
            ),
            (
                "https://game.example/play",
                "did you mean https://game.example?",
            ),
            (
                "https://game.example?a",
                "did you mean https://game.example?",
            ),
            (
                "https://game.example//",
                "did you mean https://game.example?",
            ),
            (
                "https://game.example#a",
                "did you mean https://game.example?",
            ),
            (
                "https://anna:secret@game.example",
                "did you mean https://game.example?",
            ),
            (
                "wss://game.example/ws",
                "did you mean https://game.example/ws?",
            ),
            ("ws://game.example", "did you mean http://game.example?"),
            ("file:///game.html", "pages of files"),
            ("\"https://game.example\"", "without quotes"),
            ("https://bücher.example", "in ASCII"),
            ("https://", "neither a host's name"),
            ("https://a b", "neither a host's name"),
            ("https://1.2.3", "neither a host's name"),
            ("https://::1:80", "in brackets"),
            ("https://[::g]", "no address of IPv6"),
            ("https://game.example:0", "from 1 to 65535"),
            ("https://game.example:65536", "from 1 to 65535"),
            ("https://game.example:http", "from 1 to 65535"),
            ("ht tp://game.example", "expected an origin"),
        ] {
            let problem = text.parse::<Origin>().unwrap_err();
            assert!(problem.contains(hint), "{text}: {problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn a_host_is_of_an_origin_if_it_has_its_port() {
        let is_of = |origin: &str, host: &str| origin.parse::<Origin>().unwrap().is_of_host(host);
        assert!(is_of("https://game.example", "GAME.example:443"));
        assert!(is_of("http://[::1]:8080", "[::1]:8080"));
        assert!(!is_of("https://game.example", "game.example:80"));
        assert!(!is_of("capacitor://localhost", "localhost"));
    }
}
