//! Which pages may connect to `/ws`.

use crate::config::Origin;

/// Returns why a page of this origin may not connect, as a sentence for the person who opened it.
/// Pages may connect from this server (`host` is the request's `Host` header), from another server of the
/// cluster (`is_neighbour` looks up a `host:port`) and from the origins that the operator allows.
pub(super) fn refusal(
    origin: &str,
    host: &str,
    allowed: &[Origin],
    is_neighbour: impl Fn(&str) -> bool,
) -> Option<String> {
    let Some(origin) = parse(origin) else {
        return Some("a page without an origin of its own may not connect here".to_owned());
    };
    let is_allowed = allowed.contains(&origin)
        || origin.is_of_host(host)
        || origin.page().is_some_and(|page| is_neighbour(&page));
    (!is_allowed).then(|| {
        format!(
            "pages of {origin} may not connect here; the operator can allow them with --allow-origin {origin}"
        )
    })
}

/// Parses an origin as browsers send it, without what only people write.
fn parse(origin: &str) -> Option<Origin> {
    let is_sent = !origin.ends_with('/') && origin.trim() == origin;
    is_sent.then(|| origin.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_same_origin(origin: &str, host: &str) -> bool {
        refusal(origin, host, &[], |_| false).is_none()
    }

    #[test]
    fn the_same_origin_is_the_same_host_and_port() {
        for (origin, host) in [
            ("http://game.example:8080", "game.example:8080"),
            ("http://Game.example", "game.EXAMPLE:80"),
            ("https://game.example", "game.example"),
            ("https://game.example:443", "game.example"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_same_origin(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "null"),
            ("", ""),
            ("http://", ""),
            ("http://game.example:8081", "game.example:8080"),
            ("https://game.example", "game.example:80"),
            ("http://game.example.evil", "game.example"),
            ("http://evil/game.example", "game.example"),
            ("http://game.example/", "game.example"),
            ("http://user@game.example", "game.example"),
            ("file://game.example", "game.example"),
            ("game.example", "game.example"),
        ] {
            assert!(!is_same_origin(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn allowed_origins_match_however_the_operator_wrote_them() {
        for written in [
            "https://Page.example/",
            "https://page.example:443",
            "HTTPS://page.example",
        ] {
            let allowed = [written.parse().unwrap()];
            let refused = |origin| refusal(origin, "game.example", &allowed, |_| false).is_some();
            assert!(!refused("https://page.example"), "{written}");
            for other in [
                "http://page.example",
                "https://page.example:444",
                "https://a.page.example",
            ] {
                assert!(refused(other), "{written} {other}");
            }
        }
        let refused = refusal("https://page.example", "game.example", &[], |_| false);
        assert!(
            refused
                .unwrap()
                .ends_with("--allow-origin https://page.example")
        );
    }
}
