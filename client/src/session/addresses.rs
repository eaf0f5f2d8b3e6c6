//! Checks of the addresses of other servers that a server names.

use cubesync_protocol::ServerAddress;
use cubesync_protocol::limits::{MAX_ADDRESS_CHARS, MAX_SERVERS};

/// Returns the valid addresses of a server's list, at most [`MAX_SERVERS`] of it.
pub fn usable(mut servers: Vec<ServerAddress>) -> Vec<ServerAddress> {
    servers.truncate(MAX_SERVERS);
    servers.retain(|server| is_address(&server.tcp) && is_address(&server.web));
    servers
}

/// Whether an untrusted text is `host:port`, without characters that have another meaning in a URL.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_ipv6 = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.contains(':') && address.bytes().all(is_ipv6),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_host
        && is_number
        && port.parse::<u16>().is_ok_and(|port| port > 0)
        && text.len() <= MAX_ADDRESS_CHARS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_and_nothing_else() {
        let longest = format!("{}:65535", "a".repeat(253));
        for good in [
            "b.game.example:14900",
            "10.0.0.1:1",
            "[2001:db8::2]:8080",
            &longest,
        ] {
            assert!(is_address(good), "{good}");
        }
        let longer = format!("{}:65535", "a".repeat(254));
        for bad in [
            "",
            "b",
            ":1",
            "b:",
            "b:0",
            "b:65536",
            "b:+1",
            "b c:1",
            "a@b:1",
            "b/c:1",
            "b:1/c",
            "b:1 ",
            "::1:1",
            "[b]:1",
            "[::1:1",
            "tls://b:1",
            "b\n:1",
            "b?c:1",
            "б:1",
            &longer,
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_list_loses_invalid_addresses_and_those_beyond_the_limit() {
        let address = |tcp: &str, web: &str| ServerAddress {
            tcp: tcp.to_owned(),
            web: web.to_owned(),
        };
        let good = address("b:1", "b:2");
        let mut list = vec![address("b", "b:2"), good.clone(), address("b:1", "evil/:2")];
        list.extend(vec![good.clone(); 100]);
        assert_eq!(usable(list), vec![good; MAX_SERVERS - 2]);
    }
}
