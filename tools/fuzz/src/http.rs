//! The parts of a request's head that the server parses itself: hosts, origins, keys, codings, tags.

use cubesync_server::fuzzing::{HeadAnswer, answer_head};

/// Checks that only a page of the same host may connect, that a coding is one that was named, and that no
/// host adds to the policy of a page.
pub fn check(bytes: &[u8]) {
    // One `name:value` a line, as in a request; hyper has cut the lines.
    let lines = bytes.split(|&byte| byte == b'\n');
    let headers = lines.filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((&line[..colon], &line[colon + 1..]))
    });
    let HeadAnswer {
        headers,
        is_upgrade,
        coding,
        is_cached,
        policy,
    } = answer_head(headers);
    let all = |name| {
        let values = headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase())
    };
    if is_upgrade {
        let hosts: Vec<_> = all("host").collect();
        let origins: Vec<_> = all("origin").collect();
        assert_eq!(hosts.len(), 1);
        assert!(origins.len() <= 1);
        if let Some(origin) = origins.first() {
            let is_of = |scheme: &str, port: &str| {
                let bare = |host: &str| host.strip_suffix(port).unwrap_or(host).to_owned();
                let host = origin.strip_prefix(scheme).map(bare);
                host == Some(bare(&hosts[0]))
            };
            assert!(
                is_of("http://", ":80") || is_of("https://", ":443"),
                "{origin}"
            );
        }
    }
    let wishes = all("accept-encoding").collect::<String>();
    match coding {
        "identity" => {}
        named => assert!(wishes.contains(named) || wishes.contains('*'), "{named}"),
    }
    let tags = all("if-none-match").collect::<String>();
    assert!(!is_cached || tags.contains("\"1\"") || tags.contains('*'));
    let policy = policy.to_str().expect("a policy is plain text");
    assert_eq!(policy.matches(';').count(), 7, "{policy}");
    assert!(!policy.contains(','), "{policy}");
}
