//! Invite links, as they come back from messengers.

use cubesync_protocol::{clean_name, clean_room};

use super::Target;
use crate::options::ClientOptions;
use crate::socket::full_address;

/// The ports from which the game's is known: that of pages, and the game's own.
const USUAL_PORTS: [u16; 2] = [8_080, 14_900];
/// What messengers and sentences put around a link. None of these stand at the end of a link that a
/// program made.
const AROUND: &[char] = &[
    '.', ',', ';', ':', '!', '?', '\'', '"', '*', '_', '~', '(', ')', '[', ']', '{', '}', '<', '>',
    '«', '»', '‘', '’', '“', '”', '…', '。', '，', '（', '）', '「', '」',
];

/// Reads the address of a server's page, which names the room. Returns `None` for any other text.
///
/// # Errors
/// It is such an address, but leads to no game; says why.
pub(super) fn read(text: &str) -> Option<Result<Target, String>> {
    let text = text.trim().trim_start_matches(AROUND);
    let (scheme, rest) = text.split_once("://")?;
    let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (pages, rest) = rest.split_at(end);
    let server = match game(pages) {
        Some(host) if is_encrypted => full_address(&format!("{}{host}", ClientOptions::TLS)),
        Some(host) => full_address(host),
        // Says that it is the address of a page, and which one was meant.
        None => full_address(text),
    };
    Some(server.and_then(|server| {
        let room = parameter(rest, "room")
            .map(|room| clean_room(&room))
            .transpose();
        let name = parameter(rest, "name")
            .map(|name| clean_name(&name))
            .transpose();
        let wrong = |error| format!("in the link \"{text}\": {error}");
        Ok(Target {
            server,
            room: room.map_err(wrong)?,
            name: name.map_err(wrong)?,
        })
    }))
}

/// Returns the host of the game whose pages are here, if its port is the usual one.
fn game(pages: &str) -> Option<&str> {
    let around = |character| AROUND.contains(&character) && !matches!(character, '[' | ']');
    let pages = pages.trim_matches(around);
    let port = pages
        .rsplit_once(':')
        .filter(|(_, port)| !port.contains(']'));
    match port {
        Some((host, port)) => USUAL_PORTS.map(Ok).contains(&port.parse()).then_some(host),
        None => Some(pages),
    }
}

/// Returns a parameter of the query, or else of the fragment, unless it is empty.
fn parameter(path: &str, key: &str) -> Option<String> {
    let path = path.trim_end_matches(AROUND);
    let (path, fragment) = path.split_once('#').unwrap_or((path, ""));
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let all = [query, fragment]
        .into_iter()
        .map(str::as_bytes)
        .flat_map(form_urlencoded::parse);
    let mut values = all.filter(|(name, _)| name.eq_ignore_ascii_case(key));
    let value = values.find(|(_, value)| !value.is_empty())?;
    Some(value.1.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> (String, Option<String>) {
        let link = read(text).unwrap().unwrap();
        (link.server, link.room)
    }

    #[test]
    fn a_link_names_the_server_and_the_room() {
        for (text, server, room) in [
            ("http://10.0.0.5:8080/", "10.0.0.5:14900", None),
            ("http://10.0.0.5:8080", "10.0.0.5:14900", None),
            ("http://10.0.0.5:8080/?room=", "10.0.0.5:14900", None),
            (
                "Http://game.example/?room=den",
                "game.example:14900",
                Some("den"),
            ),
            (
                "https://game.example/play/?room=den",
                "tls://game.example:14900",
                Some("den"),
            ),
            (
                "http://[fe80::1]:8080/?room=a+b",
                "[fe80::1]:14900",
                Some("a b"),
            ),
            ("https://[::1]?ROOM=a%20b", "tls://[::1]:14900", Some("a b")),
            (
                "http://h:14900/?x=1&room=%D0%B4%D0%B2%D0%B0",
                "h:14900",
                Some("два"),
            ),
            ("http://h/#room=den", "h:14900", Some("den")),
            ("http://h/?room=den#room=attic", "h:14900", Some("den")),
            (
                "http://h/?utm_source=a&room=den&fbclid=b#top",
                "h:14900",
                Some("den"),
            ),
        ] {
            assert_eq!(
                link(text),
                (server.to_owned(), room.map(str::to_owned)),
                "{text}"
            );
        }
        let named = read("http://h/?room=den&name=Anna+B").unwrap().unwrap();
        assert_eq!(named.name.as_deref(), Some("Anna B"));
    }

    #[test]
    fn what_a_messenger_added_to_a_link_is_no_part_of_it() {
        for text in [
            "http://h:8080/?room=den.",
            "(http://h:8080/?room=den)",
            "<http://h:8080/?room=den>,",
            " «http://h:8080/?room=den»…\n",
            "http://h:8080/?room=den%E2%80%8B",
            "http://h:8080/?room=den\u{FEFF}",
            "http://h:8080/?room=%20den%E2%81%A9&",
        ] {
            assert_eq!(
                link(text),
                ("h:14900".to_owned(), Some("den".to_owned())),
                "{text}"
            );
        }
        assert_eq!(link("http://[::1]."), ("[::1]:14900".to_owned(), None));
        // A room that is called so stands encoded in a link.
        assert_eq!(link("http://h/?room=den%2E").1.as_deref(), Some("den."));
    }

    #[test]
    fn a_link_that_cannot_be_followed_says_why() {
        for (text, reason) in [
            ("http://h:9000/", "is the address of a page"),
            ("http:///?room=den", "is no address"),
            ("https://a@b/", "is no address"),
            ("http://h/?room=%E3%85%A4", "a room name needs"),
            ("http://h/?room=%E9t%E9", "could not be read"),
            ("http://h/?name=%00", "control character"),
        ] {
            let error = read(text).unwrap().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        for other in ["localhost:14900", "tls://h:1", "::1", "", "ws://h/"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
