//! Addresses to listen on.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Parses an address to listen on: `ADDR:PORT` or `HOST:PORT`, where an IPv6 address stands in brackets
/// and may have a zone (`[fe80::1%eth0]:8080`). `8080`, `:8080` and `*:8080` are that port at all
/// addresses of IPv4, as the programs' defaults are. Asks the system for the address of a host.
///
/// # Errors
/// Says what is wrong, and where it can be known, what was meant.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return zoned(address);
    }
    let (host, port) = split(text)?;
    let port = port
        .parse::<u16>()
        .map_err(|_| format!("the port is {port:?}; expected a number from 0 to 65535"))?;
    match host.to_ascii_lowercase().as_str() {
        "" | "*" => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        _ => of_host(host, (host, port).to_socket_addrs()).and_then(zoned),
    }
}

/// Refuses a link-local address without the interface behind which it is: the system could not tell which
/// one is meant.
fn zoned(address: SocketAddr) -> Result<SocketAddr, String> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let (ip, port) = (v6.ip(), v6.port());
            Err(format!(
                "the address {ip} is link-local, and needs the network interface behind which it is: for \
                 example [{ip}%eth0]:{port}"
            ))
        }
        _ => Ok(address),
    }
}

/// Chooses one of a host's addresses: the first of IPv4, since the default is of IPv4 too.
fn of_host(
    host: &str,
    found: io::Result<impl Iterator<Item = SocketAddr>>,
) -> Result<SocketAddr, String> {
    let found: Vec<_> = found
        .map(Iterator::collect)
        .map_err(|error| match host.split_once('%') {
            Some((_, zone)) => format!("this machine has no network interface {zone:?}"),
            None => format!(
                "no address of {host:?} is known ({error}); expected ADDR:PORT, such as 0.0.0.0:8080"
            ),
        })?;
    let of_ipv4 = found.iter().find(|address| address.is_ipv4());
    let chosen = of_ipv4.or(found.first()).copied();
    chosen.ok_or_else(|| format!("{host:?} has no address"))
}

/// Splits an address into its host without brackets, which is empty in front of a port alone, and its
/// port.
fn split(text: &str) -> Result<(&str, &str), String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(text) {
        return Ok(("", text));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(format!(
            "an address to listen on has no {scheme}://; did you mean {rest}?"
        ));
    }
    if text.contains('/') {
        return Err("an address to listen on has no path; expected ADDR:PORT".to_owned());
    }
    let without_port =
        || format!("the port is missing; did you mean {text}:PORT, with a number for PORT?");
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or("the ] after the address is missing")?;
        let port = after.strip_prefix(':').ok_or_else(without_port)?;
        return Ok((host, port));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(without_port)?;
    if host.contains(':') {
        let address = host.split('%').next().unwrap_or(host);
        let meant = match address.parse::<Ipv6Addr>() {
            Ok(_) if !port.contains('%') => format!("[{host}]:{port}"),
            _ => format!("[{text}]:PORT"),
        };
        return Err(format!(
            "an address of IPv6 stands in brackets; did you mean {meant}?"
        ));
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_forms_are_addresses() {
        for (text, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::]:8080", "[::]:8080"),
            ("[fe80::1%7]:80", "[fe80::1%7]:80"),
            (" 8080 ", "0.0.0.0:8080"),
            (":8080", "0.0.0.0:8080"),
            ("*:8080", "0.0.0.0:8080"),
            ("0", "0.0.0.0:0"),
            ("LocalHost:14900", "127.0.0.1:14900"),
        ] {
            let address = listen_address(text).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Ok(expected), "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_zone_may_be_the_name_of_an_interface() {
        let address = listen_address("[fe80::1%lo]:80");
        let Ok(SocketAddr::V6(address)) = address else {
            panic!("{address:?}");
        };
        assert!(address.scope_id() > 0);
        let problem = listen_address("[fe80::1%nowhere]:80").unwrap_err();
        assert_eq!(problem, "this machine has no network interface \"nowhere\"");
    }

    #[test]
    fn a_host_is_listened_on_by_ipv4_if_it_can_be() {
        let choose = |found: &[&str]| {
            let found = found.iter().map(|address| address.parse().unwrap());
            of_host("host", Ok(found)).map(|address| address.to_string())
        };
        assert_eq!(
            choose(&["[::1]:1", "127.0.0.1:1"]).as_deref(),
            Ok("127.0.0.1:1")
        );
        assert_eq!(choose(&["[::1]:1"]).as_deref(), Ok("[::1]:1"));
        assert!(choose(&[]).is_err());
    }

    #[test]
    fn other_forms_are_refused_with_what_was_meant() {
        for (text, hint) in [
            ("", "the port is missing"),
            ("0.0.0.0", "did you mean 0.0.0.0:PORT,"),
            ("[::1]", "did you mean [::1]:PORT,"),
            ("::1", "did you mean [::1]:PORT?"),
            ("::1:8080", "did you mean [::1]:8080?"),
            ("fe80::1%eth0:8080", "did you mean [fe80::1%eth0]:8080?"),
            ("fe80::1:2:3%eth0", "did you mean [fe80::1:2:3%eth0]:PORT?"),
            ("[fe80::1]:80", "for example [fe80::1%eth0]:80"),
            (
                "2001:db8:0:0:0:0:0:1:8080",
                "did you mean [2001:db8:0:0:0:0:0:1]:8080?",
            ),
            ("http://0.0.0.0:8080/", "did you mean 0.0.0.0:8080?"),
            ("0.0.0.0:8080/game", "no path"),
            ("0.0.0.0:65536", "from 0 to 65535"),
            ("65536", "from 0 to 65535"),
            ("0.0.0.0:", "from 0 to 65535"),
            ("0.0.0.0:http", "from 0 to 65535"),
            ("[::1:80", "] after the address is missing"),
        ] {
            let problem = listen_address(text).unwrap_err();
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }
}
