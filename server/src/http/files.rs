//! Files that are embedded in the binary: the browser client and the status page's assets.
//!
//! The folder holds a file uncompressed, compressed (`name.br`, `name.gz`), or both. Where the
//! uncompressed or the gzip variant is missing, it is made once at the start. Files of unknown types,
//! such as notes and licences, are not served.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};
use tracing::error;

use super::encoding::{self, Encoding};

// Defines GAME_FILES, the browser client (empty if its folder is missing), and STATUS_PAGE_FILES, each
// as names and contents.
include!(concat!(env!("OUT_DIR"), "/files.rs"));

static GAME: LazyLock<Vec<File>> = LazyLock::new(|| load(GAME_FILES));
static STATUS_PAGE: LazyLock<Vec<File>> = LazyLock::new(|| load(STATUS_PAGE_FILES));

/// The game's page.
const INDEX: &str = "index.html";

/// The icon of the status page.
const ICON: &str = "icon.svg";

/// Returns whether this server was built with the browser client.
pub(super) fn has_game() -> bool {
    GAME.iter().any(|file| file.path == INDEX)
}

/// Returns an uncompressed file of the browser client.
pub(crate) fn game_file(path: &str) -> Option<Bytes> {
    let file = GAME.iter().find(|file| file.path == path)?;
    Some(file.variant(Encoding::Identity)?.content.clone())
}

/// Returns the routes of the browser client, with its page at `/`, if there is one.
pub(super) fn game<S: Clone + Send + Sync + 'static>() -> Option<Router<S>> {
    has_game().then(|| routes("/", &GAME))
}

/// Returns the routes of the status page's assets.
pub(super) fn status_page<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes("/status/", &STATUS_PAGE)
}

/// Responds with the icon for pages that name none, and for browsers that do not ask for theirs.
pub(super) async fn icon(headers: HeaderMap) -> Response {
    let icon = STATUS_PAGE.iter().find(|file| file.path == ICON);
    icon.expect("the status page has an icon").answer(&headers)
}

/// Makes one route for each file, so that no other path is reachable.
fn routes<S: Clone + Send + Sync + 'static>(folder: &str, files: &'static [File]) -> Router<S> {
    files.iter().fold(Router::new(), |router, file| {
        let path = file.path.strip_suffix(INDEX).unwrap_or(&file.path);
        let answer = move |headers: HeaderMap| std::future::ready(file.answer(&headers));
        router.route(&format!("{folder}{path}"), get(answer))
    })
}

#[derive(Debug)]
struct File {
    /// The path relative to its folder, with `/` as the separator.
    path: String,
    media_type: &'static str,
    cache_control: &'static str,
    variants: Vec<Variant>,
}

/// The content of a file in one encoding.
#[derive(Debug)]
struct Variant {
    encoding: Encoding,
    tag: HeaderValue,
    content: Bytes,
}

impl File {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let encodings = self.variants.iter().map(|variant| variant.encoding);
        let encoding = encoding::choose(headers, encodings);
        let variant = self
            .variant(encoding)
            .expect("every file has an uncompressed variant");
        let caching = [
            (header::ETAG, variant.tag.clone()),
            (
                header::CACHE_CONTROL,
                HeaderValue::from_static(self.cache_control),
            ),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
        ];
        if is_cached(headers, &variant.tag) {
            return (StatusCode::NOT_MODIFIED, caching).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.media_type)];
        let mut response = (caching, content_type, variant.content.clone()).into_response();
        if encoding != Encoding::Identity {
            let name = HeaderValue::from_static(encoding.as_str());
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, name);
        }
        response
    }

    fn variant(&self, encoding: Encoding) -> Option<&Variant> {
        self.variants
            .iter()
            .find(|variant| variant.encoding == encoding)
    }
}

/// Returns whether the client has the variant with this tag already (RFC 9110, 13.1.2).
pub(super) fn is_cached(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|known| known.trim())
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn load(files: &[(&'static str, &'static [u8])]) -> Vec<File> {
    let mut stored: BTreeMap<String, Stored> = BTreeMap::new();
    for &(name, content) in files {
        let (path, encoding) = match name.rsplit_once('.') {
            Some((path, "br")) => (path, Encoding::Brotli),
            Some((path, "gz")) => (path, Encoding::Gzip),
            _ => (name, Encoding::Identity),
        };
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        // All variants have the same content, so the hash of any of them identifies it.
        let stored = stored.entry(path.into()).or_default();
        stored.hash = hasher.finish();
        let content = Bytes::from_static(content);
        stored.contents.insert(encoding, content);
    }
    stored
        .into_iter()
        .filter_map(|(path, stored)| file(path, stored))
        .collect()
}

/// The variants of a file that the folder holds.
#[derive(Default)]
struct Stored {
    hash: u64,
    contents: BTreeMap<Encoding, Bytes>,
}

/// Completes a file's variants. Returns `None` if its type is unknown, or if it has neither an
/// uncompressed nor a valid gzip variant.
fn file(path: String, stored: Stored) -> Option<File> {
    let media_type = media_type(&path)?;
    let hash = stored.hash;
    let mut contents = stored.contents;
    let (plain, gzip) = (
        contents.get(&Encoding::Identity),
        contents.get(&Encoding::Gzip),
    );
    let missing = match (plain, gzip) {
        (Some(_), Some(_)) => None,
        (Some(plain), None) => Some((Encoding::Gzip, compress(plain)))
            .filter(|(_, compressed)| compressed.len() < plain.len()),
        (None, Some(gzip)) => {
            let plain = decompress(gzip)
                .inspect_err(|error| error!(path, %error, "an embedded file is broken"))
                .ok()?;
            Some((Encoding::Identity, plain))
        }
        (None, None) => return None,
    };
    contents.extend(missing);
    let variants = contents.into_iter().map(|(encoding, content)| Variant {
        encoding,
        tag: HeaderValue::try_from(format!("\"{hash:016x}-{}\"", encoding.as_str()))
            .expect("hexadecimal digits and a name are a valid header value"),
        content,
    });
    Some(File {
        media_type,
        cache_control: cache_control(&path),
        variants: variants.collect(),
        path,
    })
}

fn compress(plain: &[u8]) -> Bytes {
    let mut compressed = Vec::new();
    GzEncoder::new(plain, Compression::best())
        .read_to_end(&mut compressed)
        .expect("reading from memory cannot fail");
    compressed.into()
}

fn decompress(compressed: &[u8]) -> io::Result<Bytes> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(compressed).read_to_end(&mut plain)?;
    Ok(plain.into())
}

fn media_type(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit_once('.')?;
    Some(match extension {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "ttf" => "font/ttf",
        "woff2" => "font/woff2",
        _ => return None,
    })
}

/// Returns the caching rule for a file. A file with its hash in its name never changes. Browsers ask
/// for any other file each time, which costs a 304.
fn cache_control(path: &str) -> &'static str {
    if has_hashed_name(path) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

/// Returns whether a path ends like `client-0123abcd.wasm`: a dash and at least 8 hexadecimal digits
/// before the extension.
fn has_hashed_name(path: &str) -> bool {
    path.rsplit_once('.')
        .and_then(|(stem, _)| stem.rsplit_once('-'))
        .is_some_and(|(_, hash)| {
            hash.len() >= 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(variants: &[(Encoding, &[u8])]) -> Stored {
        let contents = variants
            .iter()
            .map(|&(encoding, content)| (encoding, Bytes::copy_from_slice(content)));
        Stored {
            hash: 7,
            contents: contents.collect(),
        }
    }

    fn content(file: &File, encoding: Encoding) -> Option<&[u8]> {
        Some(&file.variant(encoding)?.content)
    }

    #[test]
    fn a_file_stored_compressed_is_also_served_uncompressed() {
        let plain = "game ".repeat(1_000);
        let gzip = compress(plain.as_bytes());
        let stored = stored(&[(Encoding::Gzip, &gzip), (Encoding::Brotli, b"smaller")]);
        let file = file("client.wasm".into(), stored).unwrap();
        assert_eq!(content(&file, Encoding::Identity), Some(plain.as_bytes()));
        assert_eq!(content(&file, Encoding::Gzip), Some(&*gzip));
        assert_eq!(content(&file, Encoding::Brotli), Some(&b"smaller"[..]));
        let tags = file.variants.iter().map(|variant| &variant.tag);
        let tags: std::collections::HashSet<_> = tags.collect();
        assert_eq!(tags.len(), 3, "each variant has a tag of its own");
    }

    #[test]
    fn a_file_stored_uncompressed_is_compressed_if_that_makes_it_smaller() {
        let text = "text ".repeat(1_000);
        let long = file(
            "a.js".into(),
            stored(&[(Encoding::Identity, text.as_bytes())]),
        )
        .unwrap();
        let gzip = content(&long, Encoding::Gzip).unwrap();
        assert_eq!(decompress(gzip).unwrap(), text);
        let short = file("a.js".into(), stored(&[(Encoding::Identity, b"x")])).unwrap();
        assert_eq!(content(&short, Encoding::Gzip), None);
    }

    #[test]
    fn broken_files_and_files_of_unknown_types_are_not_served() {
        assert!(file("a.js".into(), stored(&[(Encoding::Gzip, b"broken")])).is_none());
        assert!(file("a.js".into(), stored(&[(Encoding::Brotli, b"alone")])).is_none());
        assert!(file("LICENSE".into(), stored(&[(Encoding::Identity, b"MIT")])).is_none());
    }

    #[test]
    fn only_hashed_names_are_cached_for_ever() {
        for path in ["client-0123abcd.wasm", "js/gl-00112233445566.js"] {
            assert!(cache_control(path).contains("immutable"), "{path}");
        }
        for path in [
            "index.html",
            "client-0123abc.wasm",
            "a-something.js",
            "0123abcd",
            "-.js",
        ] {
            assert_eq!(cache_control(path), "no-cache", "{path}");
        }
    }

    #[test]
    fn a_cached_tag_is_found_in_any_list() {
        let tag = HeaderValue::from_static("\"1-br\"");
        let cached = |given: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, given.parse().unwrap())]);
            is_cached(&headers, &tag)
        };
        for given in ["\"1-br\"", "W/\"1-br\"", "\"0\", \"1-br\"", "*"] {
            assert!(cached(given), "{given}");
        }
        for given in ["\"1-gzip\"", "1-br", "", "\"0\", \"2\""] {
            assert!(!cached(given), "{given}");
        }
    }
}
