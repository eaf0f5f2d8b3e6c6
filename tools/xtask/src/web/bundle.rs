//! The files of the bundle: their names contain hashes, so that browsers may cache them for ever, and the
//! page refers to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::hash;
use super::manifest::{Entry, MANIFEST, Manifest};
use super::sources::Sources;
use super::tools::{self, Built};

const SOURCES: &str = "assets/web-src";
/// The page, whose name has no hash.
const PAGE: &str = "index.html";
/// Contents that are longer than this are stored only in compressed form.
const LONGEST_PLAIN_BYTES: usize = 32 * 1024;

/// Writes the bundle into a folder, where it replaces the last one.
pub(super) fn write(
    workspace: &Path,
    folder: &Path,
    sources: &Sources,
    built: &Built,
) -> Result<Manifest> {
    clear(folder)?;
    let mut contents = read_folder(&workspace.join(SOURCES))?;
    let page = contents.remove(PAGE).context("there is no page")?;
    contents.insert("client.wasm".to_owned(), built.wasm.clone());
    contents.insert("gl.js".to_owned(), fs::read(&sources.miniquad.gl_js)?);

    let mut manifest = Manifest::new(sources, built);
    let mut names = vec![
        ("build".to_owned(), sources.hash.clone()),
        ("wasm-bytes".to_owned(), built.wasm.len().to_string()),
    ];
    for (name, content) in contents {
        let content = if name.ends_with(".js") {
            without_comments(&String::from_utf8(content)?).into_bytes()
        } else {
            content
        };
        let hashed = hashed_name(&name, &content);
        let entry = store(folder, &hashed, &content)?;
        manifest.files.insert(hashed.clone(), entry);
        names.push((name, hashed));
    }
    let page = fill(&String::from_utf8(page)?, &names)?;
    let entry = store(folder, PAGE, page.as_bytes())?;
    manifest.files.insert(PAGE.to_owned(), entry);
    fs::write(folder.join(MANIFEST), manifest.to_json()?)?;
    Ok(manifest)
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::create_dir_all(folder)?)
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let entries = fs::read_dir(folder)?.map(|entry| {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok((name, fs::read(entry.path())?))
    });
    entries.collect()
}

/// Writes a content, compressed if it is long.
fn store(folder: &Path, name: &str, content: &[u8]) -> Result<Entry> {
    let mut entry = Entry {
        bytes: content.len(),
        br: None,
        gz: None,
    };
    if content.len() <= LONGEST_PLAIN_BYTES {
        fs::write(folder.join(name), content)?;
        return Ok(entry);
    }
    let (br, gz) = (tools::brotli(content)?, tools::gzip(content)?);
    fs::write(folder.join(format!("{name}.br")), &br)?;
    fs::write(folder.join(format!("{name}.gz")), &gz)?;
    (entry.br, entry.gz) = (Some(br.len()), Some(gz.len()));
    Ok(entry)
}

/// Returns the name of a file with the hash of its content: `page.js` becomes `page-0123456789abcdef.js`.
fn hashed_name(name: &str, content: &[u8]) -> String {
    let hash = hash([content]);
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{hash}.{extension}"),
        None => format!("{name}-{hash}"),
    }
}

/// Removes comment lines, empty lines and indentation from a script. Every line of code stays a line of its
/// own, so no knowledge of the language is needed; scripts must have no strings over several lines.
fn without_comments(script: &str) -> String {
    let lines = script.lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    code.flat_map(|line| [line, "\n"]).collect()
}

/// Replaces `{page.js}` and the like by the names of the files. All of them must occur, and no others.
fn fill(page: &str, names: &[(String, String)]) -> Result<String> {
    let mut page = page.to_owned();
    for (name, hashed) in names {
        let place = format!("{{{name}}}");
        if !page.contains(&place) {
            bail!("{PAGE} does not refer to {place}");
        }
        page = page.replace(&place, hashed);
    }
    match page.find('{') {
        Some(place) => bail!("{PAGE} refers to what is not there: {:.20}", &page[place..]),
        None => Ok(page),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_changes_with_the_content_and_keeps_its_kind() {
        let [one, other] = ["a", "b"].map(|content| hashed_name("page.js", content.as_bytes()));
        assert_ne!(one, other);
        assert!(one.starts_with("page-") && one.ends_with(".js"), "{one}");
    }

    #[test]
    fn a_script_loses_the_lines_for_people_only() {
        let script = "// About a.\nconst a = [\n    1, // one\n\n    2,\n];\n";
        assert_eq!(without_comments(script), "const a = [\n1, // one\n2,\n];\n");
    }

    #[test]
    fn a_page_refers_to_every_file_and_to_no_other() {
        let names = [("a.js".to_owned(), "a-1.js".to_owned())];
        assert_eq!(
            fill("<script src={a.js}>", &names).unwrap(),
            "<script src=a-1.js>"
        );
        assert!(fill("<script>", &names).is_err());
        assert!(fill("{a.js} {b.js}", &names).is_err());
    }
}
