//! Environment variables of our programs, and names that look like one.

use std::fmt::{self, Display, Formatter};

/// What the names of all variables begin with.
const PREFIX: &str = "CUBESYNC_";

/// How much a name must resemble a known one to be taken for it, from 0 to 1.
const SIMILAR: f64 = 0.85;

/// Every variable that one of our programs, tests or scripts reads. A test in `tools/xtask` compares the
/// list with the sources.
const KNOWN: &[&str] = &[
    "CUBESYNC_ALLOW_ORIGIN",
    "CUBESYNC_BANS",
    "CUBESYNC_BUS",
    "CUBESYNC_BUS_CA",
    "CUBESYNC_BUS_CERT",
    "CUBESYNC_BUS_CREDENTIALS",
    "CUBESYNC_BUS_FILE",
    "CUBESYNC_BUS_KEY",
    "CUBESYNC_CA",
    "CUBESYNC_CHROMIUM",
    "CUBESYNC_CI_OUTPUT",
    "CUBESYNC_CLUSTER_NAME",
    "CUBESYNC_COLOUR",
    "CUBESYNC_CONTROL",
    "CUBESYNC_COUNT",
    "CUBESYNC_CUBES",
    "CUBESYNC_DEAD_AFTER",
    "CUBESYNC_DRAIN",
    "CUBESYNC_FOR",
    "CUBESYNC_HELLO_DEADLINE",
    "CUBESYNC_HTTP",
    "CUBESYNC_HTTP_LIFETIME",
    "CUBESYNC_HTTP_PATH",
    "CUBESYNC_INSECURE",
    "CUBESYNC_JOIN_KEY",
    "CUBESYNC_JOIN_KEY_FILE",
    "CUBESYNC_LAB_BANDWIDTH",
    "CUBESYNC_LAB_JITTER",
    "CUBESYNC_LAB_LATENCY",
    "CUBESYNC_LAB_LOSS",
    "CUBESYNC_LAB_NO_DATAGRAMS",
    "CUBESYNC_LAB_SEED",
    "CUBESYNC_LISTEN",
    "CUBESYNC_LOG",
    "CUBESYNC_LOG_FORMAT",
    "CUBESYNC_MAX_ARRIVALS_PER_ADDRESS",
    "CUBESYNC_MAX_BYTES",
    "CUBESYNC_MAX_BYTES_PER_ADDRESS",
    "CUBESYNC_MAX_CONNECTIONS",
    "CUBESYNC_MAX_CONNECTIONS_PER_ADDRESS",
    "CUBESYNC_MAX_CUBES",
    "CUBESYNC_MAX_HTTP_CONNECTIONS",
    "CUBESYNC_MAX_HTTP_CONNECTIONS_PER_ADDRESS",
    "CUBESYNC_MAX_MESSAGES",
    "CUBESYNC_MAX_MESSAGES_PER_ADDRESS",
    "CUBESYNC_MAX_PENDING",
    "CUBESYNC_MAX_PENDING_PER_ADDRESS",
    "CUBESYNC_MAX_REQUESTS_PER_ADDRESS",
    "CUBESYNC_MAX_ROOMS",
    "CUBESYNC_MAX_ROOMS_PER_ADDRESS",
    "CUBESYNC_MAX_SPEED",
    "CUBESYNC_NAME",
    "CUBESYNC_NO_DATAGRAMS",
    "CUBESYNC_NO_QR",
    "CUBESYNC_PLAY",
    "CUBESYNC_PUBLIC_ADDRESS",
    "CUBESYNC_PUBLIC_HTTP",
    "CUBESYNC_RECORD",
    "CUBESYNC_RECORD_MAX",
    "CUBESYNC_REPLAY",
    "CUBESYNC_RESUME_WITHIN",
    "CUBESYNC_ROOM",
    "CUBESYNC_ROOM_KEY",
    "CUBESYNC_ROOM_KEY_FILE",
    "CUBESYNC_SAMPLES",
    "CUBESYNC_SEED",
    "CUBESYNC_SERVER",
    "CUBESYNC_SERVER_BIN",
    "CUBESYNC_SLOW_READER_AFTER",
    "CUBESYNC_TEXT",
    "CUBESYNC_TICK",
    "CUBESYNC_TLS",
    "CUBESYNC_TLS_CERT",
    "CUBESYNC_TLS_KEY",
    "CUBESYNC_TLS_SELF_SIGNED",
    "CUBESYNC_TRUST_PROXY",
    "CUBESYNC_UDP",
    "CUBESYNC_VIEW_DISTANCE",
    "CUBESYNC_WINDOW_POSITION",
    "CUBESYNC_WINDOW_SIZE",
    "CUBESYNC_WINDOW_TILE",
    "CUBESYNC_WORLD",
];

/// An environment variable that no program of ours reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name.
    pub name: String,
    /// The variable whose name is most like it.
    pub meant: Option<&'static str>,
}

/// Returns the environment's variables that look like ours and have no effect.
pub fn unknown_variables() -> Vec<UnknownVariable> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
    let mut unknown: Vec<_> = variables
        .filter(|(name, value)| is_unknown(name, value))
        .map(|(name, _)| UnknownVariable {
            meant: nearest(&name),
            name,
        })
        .collect();
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

fn is_unknown(name: &str, value: &str) -> bool {
    let is_known = KNOWN.contains(&name) || (cfg!(windows) && KNOWN.contains(&&*upper(name)));
    // An empty one counts as not set.
    upper(name).starts_with(PREFIX)
        && !value.is_empty()
        && !is_known
        && !is_of_a_container(name, value)
}

/// Returns whether Kubernetes or Docker set a variable for a service whose name begins with cubesync.
fn is_of_a_container(name: &str, value: &str) -> bool {
    let is_port =
        name.ends_with("_PORT") && (value.starts_with("tcp://") || value.starts_with("udp://"));
    let is_of_port = name.split("_PORT_").nth(1).is_some_and(|rest| {
        let number = rest.split('_').next().unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_port || is_of_port || name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

fn nearest(name: &str) -> Option<&'static str> {
    let name = upper(name);
    let end = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).replace('_', "");
    let likeness = |known: &str| strsim::jaro_winkler(&end(&name), &end(known));
    let alike = KNOWN.iter().map(|known| (*known, likeness(known)));
    let (known, likeness) = alike.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (likeness >= SIMILAR).then_some(known)
}

fn upper(name: &str) -> String {
    name.to_ascii_uppercase()
}

impl Display for UnknownVariable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable {} has no effect", self.name)?;
        match self.meant {
            Some(meant) => write!(f, "; did you mean {meant}?"),
            None => write!(f, ": no program of cubesync knows it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_name_is_unknown_and_the_right_one_is_near() {
        for (name, meant) in [
            ("CUBESYNC_JOINKEY", Some("CUBESYNC_JOIN_KEY")),
            ("cubesync_join_key", Some("CUBESYNC_JOIN_KEY")),
            ("CUBESYNC_JION_KEY", Some("CUBESYNC_JOIN_KEY")),
            ("CUBESYNC_ALLOW_ORIGINS", Some("CUBESYNC_ALLOW_ORIGIN")),
            ("CUBESYNC_COLOR", Some("CUBESYNC_COLOUR")),
            ("CUBESYNC_PORT", None),
            ("CUBESYNC_XYZZY", None),
            ("CUBESYNC_", None),
        ] {
            assert!(is_unknown(name, "1"), "{name}");
            assert_eq!(nearest(name), meant, "{name}");
        }
    }

    #[test]
    fn variables_of_other_programs_and_of_containers_are_known() {
        for (name, value) in [
            ("CUBESYNC_TICK", "30"),
            ("CUBESYNC_XYZZY", ""),
            ("CUBESYNC_COUNT", "3"),
            ("CUBESYNC_SERVICE_HOST", "10.0.0.1"),
            ("CUBESYNC_SERVICE_PORT_HTTP", "80"),
            ("CUBESYNC_PORT", "tcp://10.0.0.1:80"),
            ("CUBESYNC_GAME_PORT_14900_UDP_ADDR", "10.0.0.1"),
            ("CUBES_LISTEN", "1"),
            ("PATH", "/bin"),
        ] {
            assert!(!is_unknown(name, value), "{name}");
        }
    }

    #[test]
    fn names_are_in_order_and_there_once() {
        assert!(KNOWN.is_sorted_by(|one, next| one < next));
        assert!(KNOWN.iter().all(|name| name.starts_with(PREFIX)));
    }
}
