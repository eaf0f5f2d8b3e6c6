//! The value of `--http-path`.

use std::str::FromStr;

/// The path under which a reverse proxy passes pages on, such as `/game`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagesPath(String);

/// The reason why a path cannot be one for pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write it as /game or /games/cubes, with letters, digits and -._~ between the slashes")]
pub struct PagesPathError;

impl FromStr for PagesPath {
    type Err = PagesPathError;

    fn from_str(text: &str) -> Result<Self, PagesPathError> {
        let names: Vec<_> = text.split('/').filter(|name| !name.is_empty()).collect();
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_name = |name: &&str| !["..", "."].contains(name) && name.bytes().all(is_safe);
        if names.is_empty() || !names.iter().all(is_name) {
            return Err(PagesPathError);
        }
        Ok(Self(names.iter().flat_map(|name| ["/", name]).collect()))
    }
}

impl PagesPath {
    /// Returns the rest of a path under this one, or the whole path if it is not under it.
    pub(crate) fn rest_of<'path>(&self, path: &'path str) -> &'path str {
        let rest = path.strip_prefix(&self.0);
        rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
    }

    /// Returns whether a path is this one without the slash at its end.
    pub(crate) fn is(&self, path: &str) -> bool {
        path == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_for_pages_is_removed_where_it_is_whole_names() {
        let pages: PagesPath = "games//cubes/".parse().unwrap();
        assert_eq!(pages, PagesPath("/games/cubes".to_owned()));
        assert_eq!(pages.rest_of("/games/cubes/status"), "/status");
        assert_eq!(pages.rest_of("/games/cubes/"), "/");
        for path in ["/games/cubes2/", "/games", "/status", "/games/cubes"] {
            assert_eq!(pages.rest_of(path), path);
        }
        assert!(pages.is("/games/cubes") && !pages.is("/games/cubes/"));
        for wrong in ["", "/", "/a b", "/a?b", "/../a", "http://a/b", "/ü"] {
            assert_eq!(wrong.parse::<PagesPath>(), Err(PagesPathError), "{wrong:?}");
        }
    }
}
