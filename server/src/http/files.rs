//! Files from inside the binary: the browser client, and what the status page needs.
//!
//! A file may lie in the folder as it is, compressed (`name.br`, `name.gz`), or both; what is
//! missing of plain and gzip is made once at the start. Files of unknown kind (notes, licences)
//! are for those who read the sources, and are not served.

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

// GAME_FILES, the browser client (nothing if somebody deleted the folder), and
// STATUS_PAGE_FILES: names and contents.
include!(concat!(env!("OUT_DIR"), "/files.rs"));

static GAME: LazyLock<Vec<File>> = LazyLock::new(|| load(GAME_FILES));
static STATUS_PAGE: LazyLock<Vec<File>> = LazyLock::new(|| load(STATUS_PAGE_FILES));

/// The page that the game starts from.
const INDEX: &str = "index.html";

/// Whether this server was built with the browser client.
pub(super) fn has_game() -> bool {
    GAME.iter().any(|file| file.path == INDEX)
}

/// A file of the browser client as it is, not packed; `None` if there is none of that name.
pub(crate) fn game_file(path: &str) -> Option<Bytes> {
    let file = GAME.iter().find(|file| file.path == path)?;
    let is_plain = |form: &&Form| form.encoding == Encoding::Identity;
    Some(file.forms.iter().find(is_plain)?.content.clone())
}

/// The browser client, its page at `/`; `None` if there is none.
pub(super) fn game<S: Clone + Send + Sync + 'static>() -> Option<Router<S>> {
    has_game().then(|| routes("/", &GAME))
}

/// What the status page refers to.
pub(super) fn status_page<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes("/status/", &STATUS_PAGE)
}

/// One route a file, so that nothing but these paths can be asked for.
fn routes<S: Clone + Send + Sync + 'static>(folder: &str, files: &'static [File]) -> Router<S> {
    files.iter().fold(Router::new(), |router, file| {
        let path = file.path.strip_suffix(INDEX).unwrap_or(&file.path);
        let answer = move |headers: HeaderMap| std::future::ready(file.answer(&headers));
        router.route(&format!("{folder}{path}"), get(answer))
    })
}

#[derive(Debug)]
struct File {
    /// Relative to its folder, `/` between names.
    path: String,
    media_type: &'static str,
    cache_control: &'static str,
    forms: Vec<Form>,
}

/// A file in one encoding.
#[derive(Debug)]
struct Form {
    encoding: Encoding,
    tag: HeaderValue,
    content: Bytes,
}

impl File {
    fn answer(&self, headers: &HeaderMap) -> Response {
        let encodings = self.forms.iter().map(|form| form.encoding);
        let encoding = encoding::choose(headers, encodings);
        let form = self
            .forms
            .iter()
            .find(|form| form.encoding == encoding)
            .expect("every file has the form that suits everybody");
        let about = [
            (header::ETAG, form.tag.clone()),
            (
                header::CACHE_CONTROL,
                HeaderValue::from_static(self.cache_control),
            ),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
        ];
        if is_known(headers, &form.tag) {
            return (StatusCode::NOT_MODIFIED, about).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.media_type)];
        let mut response = (about, content_type, form.content.clone()).into_response();
        if encoding != Encoding::Identity {
            let name = HeaderValue::from_static(encoding.as_str());
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, name);
        }
        response
    }
}

/// Whether the client has this form already (RFC 9110, 13.1.2).
pub(super) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
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
        // All forms are of one content, so the hash of any speaks for all.
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

/// The forms of a file that lie in the folder.
#[derive(Default)]
struct Stored {
    hash: u64,
    contents: BTreeMap<Encoding, Bytes>,
}

/// `None`: a file that is not to be served, or has no form that suits everybody.
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
        (Some(plain), None) => {
            Some((Encoding::Gzip, packed(plain))).filter(|(_, packed)| packed.len() < plain.len())
        }
        (None, Some(gzip)) => {
            let plain = unpacked(gzip)
                .inspect_err(|error| error!(path, %error, "a file was embedded broken"))
                .ok()?;
            Some((Encoding::Identity, plain))
        }
        (None, None) => return None,
    };
    contents.extend(missing);
    let forms = contents.into_iter().map(|(encoding, content)| Form {
        encoding,
        tag: HeaderValue::try_from(format!("\"{hash:016x}-{}\"", encoding.as_str()))
            .expect("hexadecimal digits and a name are a header's value"),
        content,
    });
    Some(File {
        media_type,
        cache_control: cache_control(&path),
        forms: forms.collect(),
        path,
    })
}

fn packed(plain: &[u8]) -> Bytes {
    let mut packed = Vec::new();
    GzEncoder::new(plain, Compression::best())
        .read_to_end(&mut packed)
        .expect("reading from memory cannot fail");
    packed.into()
}

fn unpacked(packed: &[u8]) -> io::Result<Bytes> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(packed).read_to_end(&mut plain)?;
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

/// What has its hash in its name never changes; everything else is asked for each time, which
/// costs a 304.
fn cache_control(path: &str) -> &'static str {
    if has_hashed_name(path) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

/// Whether a path ends like `client-0123abcd.wasm`: a dash and at least 8 hexadecimal digits
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

    fn stored(forms: &[(Encoding, &[u8])]) -> Stored {
        let contents = forms
            .iter()
            .map(|&(encoding, content)| (encoding, Bytes::copy_from_slice(content)));
        Stored {
            hash: 7,
            contents: contents.collect(),
        }
    }

    fn content(file: &File, encoding: Encoding) -> Option<&[u8]> {
        let form = file.forms.iter().find(|form| form.encoding == encoding)?;
        Some(&form.content)
    }

    #[test]
    fn what_is_stored_packed_can_be_had_plain() {
        let plain = "game ".repeat(1_000);
        let gzip = packed(plain.as_bytes());
        let stored = stored(&[(Encoding::Gzip, &gzip), (Encoding::Brotli, b"smaller")]);
        let file = file("client.wasm".into(), stored).unwrap();
        assert_eq!(content(&file, Encoding::Identity), Some(plain.as_bytes()));
        assert_eq!(content(&file, Encoding::Gzip), Some(&*gzip));
        assert_eq!(content(&file, Encoding::Brotli), Some(&b"smaller"[..]));
        let tags: std::collections::HashSet<_> = file.forms.iter().map(|form| &form.tag).collect();
        assert_eq!(tags.len(), 3, "each form has a tag of its own");
    }

    #[test]
    fn what_is_stored_plain_is_packed_where_that_helps() {
        let text = "text ".repeat(1_000);
        let long = file(
            "a.js".into(),
            stored(&[(Encoding::Identity, text.as_bytes())]),
        )
        .unwrap();
        let gzip = content(&long, Encoding::Gzip).unwrap();
        assert_eq!(unpacked(gzip).unwrap(), text);
        let short = file("a.js".into(), stored(&[(Encoding::Identity, b"x")])).unwrap();
        assert_eq!(content(&short, Encoding::Gzip), None);
    }

    #[test]
    fn what_nobody_could_read_and_what_is_no_page_is_not_served() {
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
    fn a_known_tag_is_found_in_any_list() {
        let tag = HeaderValue::from_static("\"1-br\"");
        let known = |given: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, given.parse().unwrap())]);
            is_known(&headers, &tag)
        };
        for given in ["\"1-br\"", "W/\"1-br\"", "\"0\", \"1-br\"", "*"] {
            assert!(known(given), "{given}");
        }
        for given in ["\"1-gzip\"", "1-br", "", "\"0\", \"2\""] {
            assert!(!known(given), "{given}");
        }
    }
}
