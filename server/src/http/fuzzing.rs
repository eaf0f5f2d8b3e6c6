//! The server's own processing of a request's head, exposed for `tools/fuzz/`.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::encoding::{self, Encoding};
use super::{files, security, upgrade, well_formed};

/// The results for one head.
#[derive(Debug)]
pub struct HeadAnswer {
    /// The headers that are valid in a request, in order.
    pub headers: HeaderMap,
    /// Whether the request may become a WebSocket.
    pub is_upgrade: bool,
    /// The coding chosen for a file that is stored in all of them.
    pub coding: &'static str,
    /// Whether the client has a file with the tag `"1"` already.
    pub is_cached: bool,
    /// The content security policy.
    pub policy: HeaderValue,
}

/// Processes a head with everything that reads one. Ignores headers that are not valid in a request.
pub fn answer_head<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> HeadAnswer {
    let header = |(name, value)| {
        let name = HeaderName::from_bytes(name).ok()?;
        Some((name, HeaderValue::from_bytes(value).ok()?))
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers.filter_map(header) {
        map.append(name, value);
    }
    let mut request = Request::new(());
    *request.headers_mut() = map;
    let is_well_formed = well_formed::problem(&request).is_none();
    let map = request.into_parts().0.headers;
    let is_refused = upgrade::refuse_origin(&map, upgrade::host(&map), &[], |_| false).is_some()
        || upgrade::refuse_request(&map).is_some();
    let codings = [Encoding::Identity, Encoding::Gzip, Encoding::Brotli];
    HeadAnswer {
        is_upgrade: is_well_formed && !is_refused,
        coding: encoding::choose(&map, codings.into_iter()).as_str(),
        is_cached: files::is_cached(&map, &HeaderValue::from_static("\"1\"")),
        policy: security::policy(&map, &[]),
        headers: map,
    }
}
