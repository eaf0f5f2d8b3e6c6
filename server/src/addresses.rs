//! The start summary for a terminal: which addresses to open.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use cubesync_network::{Network, OwnAddress, Unreachable};
use cubesync_server::Addresses;
use qrcode::{EcLevel, QrCode};

/// Width of the light border around the QR code. The standard asks for four modules. Two were enough
/// for every reader that was tried, and with them the code and the addresses fit on a terminal of 24
/// lines.
const QUIET_MODULES: usize = 2;

/// Black and white from the part of the palette of 256 colours that themes do not change.
const BLACK: u8 = 16;
const WHITE: u8 = 231;

/// Returns a few lines for the terminal: the addresses for this machine and for other people. With
/// `with_qr` they end with a QR code of the page at the likeliest address, if others can reach it.
pub(crate) fn summary(bound: &Addresses, with_qr: bool) -> String {
    let network = Network::now();
    summary_from(bound, with_qr, |ip| network.for_others(ip))
}

fn summary_from(
    bound: &Addresses,
    with_qr: bool,
    for_others: impl Fn(IpAddr) -> Result<Vec<OwnAddress>, Unreachable>,
) -> String {
    let mut text = format!("cubesync {} is serving\n", env!("CARGO_PKG_VERSION"));
    let (page_scheme, client_scheme) = match bound.tls {
        Some(_) => ("https://", "tls://"),
        None => ("http://", ""),
    };
    let page = |address: SocketAddr| format!("{page_scheme}{address}/");
    let client = |address: SocketAddr| format!("{client_scheme}{address}");
    let command = |address: SocketAddr| format!("nc {} {}", address.ip(), address.port());
    let pages = for_others(bound.http.ip());
    // The pages' lines show all of the addresses; the other ports are reached at the same.
    let others = pages.as_deref().unwrap_or_default();
    let mut lines = lines("browser", bound.http, others, page);
    let likeliest = |bound: SocketAddr| for_others(bound.ip()).into_iter().flatten().take(1);
    let others: Vec<OwnAddress> = likeliest(bound.tcp).collect();
    lines.extend(self::lines("clients", bound.tcp, &others, client));
    if let Some(address) = bound.text {
        let others: Vec<OwnAddress> = likeliest(address).collect();
        lines.extend(self::lines("text", address, &others, command));
    }
    let width = lines.iter().map(|line| line.what.len()).max();
    let width = width.unwrap_or_default();
    for Line { label, what, place } in lines {
        writeln!(text, "  {label:<8} {what:<width$} {place}")
            .expect("writing to a string cannot fail");
    }
    if let Some(fingerprint) = bound.tls {
        writeln!(text, "  SHA-256  {fingerprint}").expect("writing to a string cannot fail");
    }
    text.push_str("Play at the browser address; its /status shows who is here. Ctrl-C stops it.\n");
    match pages.as_deref() {
        Ok([likeliest, ..]) if with_qr => {
            let address = SocketAddr::new(likeliest.ip, bound.http.port());
            text.push_str(&qr_code(&page(address)));
        }
        Err(reason) if *reason != Unreachable::LoopbackOnly => {
            writeln!(text, "Nobody else can join yet: {reason}.")
                .expect("writing to a string cannot fail");
        }
        _ => {}
    }
    text
}

/// A line of the summary.
struct Line {
    label: &'static str,
    what: String,
    place: String,
}

/// Returns the lines of a listener: its address on this machine, and those for other people.
fn lines(
    label: &'static str,
    bound: SocketAddr,
    others: &[OwnAddress],
    what: impl Fn(SocketAddr) -> String,
) -> Vec<Line> {
    let is_here = bound.ip().is_unspecified() || bound.ip().to_canonical().is_loopback();
    let here = is_here.then(|| {
        (
            cubesync_network::reachable(bound, None),
            "on this machine".to_owned(),
        )
    });
    let there = others
        .iter()
        .map(|own| (SocketAddr::new(own.ip, bound.port()), own.to_string()));
    let line = |(address, place)| Line {
        label,
        what: what(address),
        place,
    };
    here.into_iter().chain(there).map(line).collect()
}

/// Returns a text as a QR code of two modules a character, or an empty string if it does not fit.
/// The upper module is the background colour, so that a font whose blocks do not touch leaves no
/// gaps.
fn qr_code(text: &str) -> String {
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::L) else {
        return String::new();
    };
    let colour = |x: usize, y: usize| {
        let inside = |place: usize| {
            let module = place.checked_sub(QUIET_MODULES)?;
            (module < code.width()).then_some(module)
        };
        match (inside(x), inside(y)) {
            (Some(x), Some(y)) => code[(x, y)].select(BLACK, WHITE),
            _ => WHITE,
        }
    };
    let side = code.width() + 2 * QUIET_MODULES;
    let mut lines = String::new();
    for y in (0..side).step_by(2) {
        lines.push_str("  ");
        for x in 0..side {
            let (upper, lower) = (colour(x, y), colour(x, y + 1));
            write!(lines, "\x1b[38;5;{lower};48;5;{upper}m\u{2584}")
                .expect("writing to a string cannot fail");
        }
        lines.push_str("\x1b[0m\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use cubesync_server::Fingerprint;

    use super::*;

    /// Returns an address for others that no interface has.
    fn others(ips: &[&str]) -> Result<Vec<OwnAddress>, Unreachable> {
        let network = Network::default();
        let address = |ip: &&str| network.for_others(ip.parse().unwrap()).unwrap();
        Ok(ips.iter().flat_map(address).collect())
    }

    /// Returns the addresses at which a server listens, pages and clients at one.
    fn bound(ip: &str) -> Addresses {
        let ip: IpAddr = ip.parse().unwrap();
        Addresses {
            tcp: (ip, 14_900).into(),
            udp: None,
            http: (ip, 8_080).into(),
            text: None,
            tls: None,
        }
    }

    #[test]
    fn pages_show_every_address_and_clients_the_likeliest() {
        let text = summary_from(&bound("0.0.0.0"), false, |ip| {
            assert!(ip.is_unspecified());
            others(&["192.168.77.5", "203.0.113.9"])
        });
        let expected = "\
  browser  http://127.0.0.1:8080/    on this machine
  browser  http://192.168.77.5:8080/ on your network
  browser  http://203.0.113.9:8080/  from the internet
  clients  127.0.0.1:14900           on this machine
  clients  192.168.77.5:14900        on your network
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn one_address_is_shown_alone_and_the_reason_for_none_is_said() {
        let text = summary_from(&bound("192.168.77.5"), true, |ip| {
            others(&[&ip.to_string()])
        });
        assert!(
            text.contains("http://192.168.77.5:8080/ on your network"),
            "{text}"
        );
        assert!(!text.contains("127.0.0.1"), "{text}");
        let text = summary_from(&bound("0.0.0.0"), true, |_| Err(Unreachable::NoNetwork));
        assert!(
            text.contains("Nobody else can join yet: this machine has no network"),
            "{text}"
        );
        let text = summary(&bound("127.0.0.1"), true);
        assert!(!text.contains("Nobody"), "it was asked for: {text}");
    }

    #[test]
    fn the_summary_names_each_listener() {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let bound = Addresses {
            tcp: local(1),
            udp: None,
            http: local(2),
            text: Some(local(3)),
            tls: None,
        };
        let text = summary(&bound, true);
        for expected in ["127.0.0.1:1 ", "http://127.0.0.1:2/", "nc 127.0.0.1 3 "] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
        assert!(
            !text.contains('\u{2584}'),
            "nobody else can reach this, so there is nothing to scan"
        );
        let encrypted = Addresses {
            tls: Some(Fingerprint([0x0A; 32])),
            ..bound
        };
        let text = summary(&encrypted, true);
        for expected in ["tls://127.0.0.1:1 ", "https://127.0.0.1:2/", "0A0A0A0A"] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
    }

    #[test]
    fn everything_and_the_code_fit_a_terminal_of_80_by_24() {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let bound = Addresses {
            tcp: any(65_535),
            udp: Some(any(65_535)),
            http: any(65_535),
            text: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 65_535))),
            tls: None,
        };
        let encrypted = Addresses {
            text: None,
            tls: Some(Fingerprint([0xFF; 32])),
            ..bound
        };
        for bound in [bound, encrypted] {
            let longest = |ip: IpAddr| match ip.is_loopback() {
                true => Err(Unreachable::LoopbackOnly),
                false => others(&["255.255.255.254", "255.255.255.255"]),
            };
            let text = summary_from(&bound, true, longest);
            let lines: Vec<_> = text.lines().map(without_colours).collect();
            // The cursor takes a line.
            assert!(lines.len() < 24, "{} lines:\n{text}", lines.len());
            // With a place, a line also has to hold the name of the interface.
            let rest = |line: &&String| match line.contains("internet") {
                true => ", Wi-Fi wlp0s20f3".len(),
                false => 0,
            };
            let widest = lines.iter().map(|line| line.chars().count() + rest(&line));
            assert!(widest.max() <= Some(80), "it is too wide:\n{text}");
            let without = summary_from(&bound, false, longest);
            assert!(
                lines.len() > without.lines().count() + 12,
                "the code is there"
            );
        }
    }

    #[test]
    fn the_code_has_its_three_corners_and_a_light_border() {
        // 25 modules hold 32 bytes; with the border 29.
        let dark = dark_modules(&qr_code("http://192.168.1.5:8080/"));
        assert!(dark.iter().all(|line| line.len() == 29));
        let corner = [
            "#######", "#.....#", "#.###.#", "#.###.#", "#.###.#", "#.....#", "#######",
        ];
        for (left, top) in [(2, 2), (20, 2), (2, 20)] {
            let seen = dark[top..top + 7].iter().map(|line| {
                let line = &line[left..left + 7];
                line.iter().map(|&dark| if dark { '#' } else { '.' })
            });
            let seen: Vec<String> = seen.map(Iterator::collect).collect();
            assert_eq!(seen, corner, "at {left}, {top}");
        }
        for border in [&dark[0], &dark[1], &dark[27], &dark[28]] {
            assert!(!border.contains(&true));
        }
    }

    fn without_colours(line: &str) -> String {
        let mut parts = line.split("\x1b[");
        let mut text = parts.next().unwrap().to_owned();
        text.extend(parts.map(|part| part.split_once('m').unwrap().1));
        text
    }

    /// Returns which modules of a printed code are dark.
    fn dark_modules(code: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in code.lines() {
            let cells = line.split("\x1b[38;5;").skip(1).map(|cell| {
                let (colours, _) = cell.split_once('m').unwrap();
                let (lower, upper) = colours.split_once(";48;5;").unwrap();
                [upper, lower].map(|colour| colour == BLACK.to_string())
            });
            let cells: Vec<_> = cells.collect();
            for half in [0, 1] {
                rows.push(cells.iter().map(|cell| cell[half]).collect());
            }
        }
        rows
    }
}
