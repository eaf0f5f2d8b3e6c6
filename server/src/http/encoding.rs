//! Negotiation of the content coding (RFC 9110, 12.5.3).

use axum::http::{HeaderMap, header};

/// A content coding in which files are stored. They are ordered from the largest result to the
/// smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Encoding {
    /// No compression.
    Identity,
    /// gzip, which every browser accepts.
    Gzip,
    /// Brotli, which browsers accept over https and from their own machine.
    Brotli,
}

impl Encoding {
    /// Returns the coding's registered name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }
}

/// Returns the available coding that the client prefers, and the smallest one if it prefers several
/// equally. Returns [`Encoding::Identity`] if the client accepts none of them.
pub(super) fn choose(headers: &HeaderMap, available: impl Iterator<Item = Encoding>) -> Encoding {
    let preferences = Preferences::read(headers);
    available
        .map(|encoding| (preferences.weight(encoding), encoding))
        .filter(|&(weight, _)| weight > 0)
        .max()
        .map_or(Encoding::Identity, |(_, encoding)| encoding)
}

/// The weights that a client gives, in thousandths.
#[derive(Debug, Default)]
struct Preferences {
    brotli: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    other: Option<u16>,
}

impl Preferences {
    fn read(headers: &HeaderMap) -> Self {
        let mut preferences = Self::default();
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
        let items = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','));
        for item in items {
            let (name, parameter) = item.split_once(';').unwrap_or((item, "q=1"));
            let place = match name.trim().to_ascii_lowercase().as_str() {
                "br" => &mut preferences.brotli,
                "gzip" | "x-gzip" => &mut preferences.gzip,
                "identity" => &mut preferences.identity,
                "*" => &mut preferences.other,
                _ => continue,
            };
            *place = weight(parameter);
        }
        preferences
    }

    fn weight(&self, encoding: Encoding) -> u16 {
        let (given, default) = match encoding {
            Encoding::Brotli => (self.brotli, 0),
            Encoding::Gzip => (self.gzip, 0),
            // It is allowed unless refused, but any coding that the client names is better.
            Encoding::Identity => (self.identity, 1),
        };
        given.or(self.other).unwrap_or(default)
    }
}

fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let weight: f32 = value.trim().parse().ok()?;
    (0.0..=1.0)
        .contains(&weight)
        .then_some((weight * 1_000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_gets_what_it_prefers_of_what_there_is() {
        use Encoding::{Brotli, Gzip, Identity};
        let all = [Identity, Gzip, Brotli];
        let chosen = |wish: &str, available: &[Encoding]| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, wish.parse().unwrap())]);
            choose(&headers, available.iter().copied())
        };
        for (wish, expected) in [
            ("gzip, deflate, br, zstd", Brotli),
            ("gzip, deflate", Gzip),
            ("GZIP;Q=0.5 , br ; q=0.4", Gzip),
            ("br;q=0, gzip", Gzip),
            ("x-gzip", Gzip),
            ("*", Brotli),
            ("*;q=0.5, br;q=0", Gzip),
            ("identity, gzip;q=0.5", Identity),
            ("identity;q=0, gzip;q=0.001", Gzip),
            ("deflate", Identity),
            ("", Identity),
            ("br;q=2, gzip;level=9", Identity),
            ("br;q=NaN", Identity),
            ("*;q=0", Identity),
        ] {
            assert_eq!(chosen(wish, &all), expected, "{wish}");
        }
        assert_eq!(chosen("br, gzip", &[Identity, Gzip]), Gzip);
        assert_eq!(chosen("br", &[Identity, Gzip]), Identity);
        assert_eq!(choose(&HeaderMap::new(), all.into_iter()), Identity);
    }

    #[test]
    fn wishes_may_stand_in_several_lines() {
        let mut headers = HeaderMap::new();
        for wish in ["gzip;q=0.5", "br"] {
            headers.append(header::ACCEPT_ENCODING, wish.parse().unwrap());
        }
        let available = [Encoding::Identity, Encoding::Gzip, Encoding::Brotli];
        assert_eq!(choose(&headers, available.into_iter()), Encoding::Brotli);
    }
}
