//! The start summary for a terminal: which addresses to open.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use cubesync_server::{Addresses, network};
use qrcode::{EcLevel, QrCode};

/// Width of the light border around the QR code. The standard asks for four modules. Two were enough
/// for every reader that was tried, and with them the code and the addresses fit on a terminal of 24
/// lines.
const QUIET_MODULES: usize = 2;

/// Black and white from the part of the palette of 256 colours that themes do not change.
const BLACK: u8 = 16;
const WHITE: u8 = 231;

/// Returns a few lines for the terminal: the addresses for this machine and for the network. With
/// `with_qr` they end with a QR code of the page, if other machines can reach it.
pub(crate) fn summary(bound: &Addresses, with_qr: bool) -> String {
    let lan = network::lan_address();
    summary_from(bound, lan, with_qr)
}

fn summary_from(bound: &Addresses, lan: Option<IpAddr>, with_qr: bool) -> String {
    let mut text = format!("cubesync {} is serving\n", env!("CARGO_PKG_VERSION"));
    let mut line = |label: &str, what: &dyn Fn(SocketAddr) -> String, address: SocketAddr| {
        let [here, there] = reachable_addresses(address, lan);
        for (address, place) in [(here, "on this machine"), (there, "on your network")] {
            if let Some(address) = address {
                writeln!(text, "  {label:<8} {:<36} {place}", what(address))
                    .expect("writing to a string cannot fail");
            }
        }
    };
    let is_encrypted = bound.tls.is_some();
    let page = |address: SocketAddr| match is_encrypted {
        true => format!("https://{address}/"),
        false => format!("http://{address}/"),
    };
    let client = |address: SocketAddr| match is_encrypted {
        true => format!("--server tls://{address}"),
        false => address.to_string(),
    };
    line("browser", &page, bound.http);
    line("clients", &client, bound.tcp);
    if let Some(address) = bound.text {
        line(
            "text",
            &|address| format!("nc {} {}", address.ip(), address.port()),
            address,
        );
    }
    if let Some(fingerprint) = bound.tls {
        writeln!(text, "  SHA-256  {fingerprint}").expect("writing to a string cannot fail");
    }
    text.push_str("Play at the browser address; its /status shows who is here. Ctrl-C stops it.\n");
    if with_qr && let [_, Some(address)] = reachable_addresses(bound.http, lan) {
        text.push_str(&qr_code(&page(address)));
    }
    text
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

/// Returns the addresses at which a listener is reached from this machine and from others.
fn reachable_addresses(bound: SocketAddr, lan: Option<IpAddr>) -> [Option<SocketAddr>; 2] {
    let port = bound.port();
    if bound.ip().is_unspecified() {
        let here = network::reachable(bound, None);
        [Some(here), lan.map(|lan| SocketAddr::new(lan, port))]
    } else if bound.ip().is_loopback() {
        [Some(bound), None]
    } else {
        [None, Some(bound)]
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use cubesync_server::Fingerprint;

    use super::*;

    #[test]
    fn each_place_gets_an_address_that_works_there() {
        let lan: IpAddr = "192.168.1.5".parse().unwrap();
        let reach = |bound: &str| {
            reachable_addresses(bound.parse().unwrap(), Some(lan)).map(|a| a.map(|a| a.to_string()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            reach("0.0.0.0:80"),
            [some("127.0.0.1:80"), some("192.168.1.5:80")]
        );
        assert_eq!(
            reach("[::]:80"),
            [some("127.0.0.1:80"), some("192.168.1.5:80")]
        );
        assert_eq!(reach("127.0.0.1:80"), [some("127.0.0.1:80"), None]);
        assert_eq!(reach("10.0.0.7:80"), [None, some("10.0.0.7:80")]);
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
        for expected in ["127.0.0.1:1 ", "http://127.0.0.1:2/ ", "nc 127.0.0.1 3 "] {
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
        for expected in [
            "--server tls://127.0.0.1:1 ",
            "https://127.0.0.1:2/ ",
            "0A0A0A0A",
        ] {
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
        let longest = "255.255.255.255".parse().ok();
        for bound in [bound, encrypted] {
            let text = summary_from(&bound, longest, true);
            let lines: Vec<_> = text.lines().map(without_colours).collect();
            // The command and the cursor take a line each.
            assert!(lines.len() <= 24 - 2, "{} lines:\n{text}", lines.len());
            let widest = lines.iter().map(|line| line.chars().count()).max();
            assert!(widest <= Some(80), "{widest:?} columns:\n{text}");
            let without = summary_from(&bound, longest, false);
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
