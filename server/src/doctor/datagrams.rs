//! Datagrams: whether their port is free.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::Finding;
use crate::config::Config;

const DATAGRAMS: &str = "datagrams";

/// Tries the port for datagrams.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let finding = match config.udp_address() {
        None => Finding::ok(
            DATAGRAMS,
            "off: everything goes over the players' connections",
        ),
        Some(address) => judge(address, UdpSocket::bind(address).map(drop)),
    };
    vec![finding]
}

fn judge(address: SocketAddr, bound: io::Result<()>) -> Finding {
    let port = address.port();
    let Err(error) = bound else {
        return match port {
            0 => Finding::ok(DATAGRAMS, "any free UDP port"),
            _ => Finding::ok(DATAGRAMS, format!("UDP {address} is free")),
        };
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => Finding::note(
            DATAGRAMS,
            format!("a program has UDP {address}"),
            format!(
                "`ss -lunp 'sport = :{port}'` names it. If it is the cubesync server you ask about, \
                 all is well; else choose another port with --udp, or --udp off"
            ),
        ),
        io::ErrorKind::PermissionDenied => Finding::problem(
            DATAGRAMS,
            format!("no permission for UDP port {port}"),
            "choose one above 1023 with --udp, or --udp off",
        ),
        kind => Finding::problem(
            DATAGRAMS,
            format!("cannot use UDP {address}: {kind}"),
            "choose another address with --udp, or --udp off",
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Verdict;
    use super::*;

    fn examined(udp: &str) -> Finding {
        let config = Config::parse_from(["cubesync-server", "--udp", udp]);
        examine(&config).remove(0)
    }

    #[test]
    fn a_free_port_is_in_order_and_one_in_use_is_worth_a_note() {
        assert_eq!(examined("off").verdict, Verdict::Ok);
        assert!(examined("127.0.0.1:0").summary.contains("any free"));
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().to_string();
        let finding = examined(&taken);
        assert_eq!(finding.verdict, Verdict::Note, "{finding:?}");
        drop(other);
        assert!(examined(&taken).summary.ends_with("is free"));
    }

    #[test]
    fn an_address_that_cannot_be_used_is_a_problem() {
        for kind in [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::AddrNotAvailable,
        ] {
            let finding = judge("192.0.2.1:80".parse().unwrap(), Err(kind.into()));
            assert_eq!(finding.verdict, Verdict::Problem, "{finding:?}");
        }
    }
}
