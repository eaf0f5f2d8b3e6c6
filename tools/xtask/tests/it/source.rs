//! Rust source as far as the tests of the structure read it.

/// Returns the code alone: comments are gone, strings and characters are empty, and so are items that
/// are compiled for tests only.
pub(crate) fn code(text: &str) -> String {
    without_tests(&without_texts(text))
}

/// Cuts out comments and the inside of strings and characters.
fn without_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !ends_in_a_word(&code)) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            rest = &rest[skipped..];
        }
    }
    code
}

fn ends_in_a_word(code: &str) -> bool {
    let last = code.chars().next_back();
    last.is_some_and(|last| last.is_alphanumeric() || last == '_')
}

/// Returns the length of a comment in `/*` and `*/`, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Returns the length of a raw string if the text begins with one.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let content = after.trim_start_matches('#');
    let hashes = &after[..after.len() - content.len()];
    let content = content.strip_prefix('"')?;
    let end = format!("\"{hashes}");
    let length = content
        .find(&end)
        .map_or(content.len(), |at| at + end.len());
    Some(text.len() - content.len() + length)
}

/// Returns the length of a literal between two of these quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of a character, or 0 where the quote begins the name of a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.chars().skip(1);
    match (characters.next(), characters.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 0,
    }
}

/// Cuts out the items behind `#[cfg(test)]` and `#[cfg(all(test, ...))]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    loop {
        let starts = ["#[cfg(test)]", "#[cfg(all(test"].map(|start| rest.find(start));
        let Some(start) = starts.into_iter().flatten().min() else {
            kept.push_str(rest);
            return kept;
        };
        kept.push_str(&rest[..start]);
        rest = &rest[start..];
        rest = &rest[item(rest)..];
    }
}

/// Returns the length of an item with its attributes: up to its closing brace, or to its semicolon.
fn item(code: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return at + 1,
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[test]
fn only_code_is_left() {
    let text = r##"
        use crate::a; // crate::b
        /* crate::c /* crate::d */ crate::e */
        fn f<'a>(x: &'a str) -> char { "crate::g \" {"; r#"crate::h " {"#; b"}"; '\''; '{' }
        #[cfg(test)]
        #[path = "t.rs"]
        mod tests;
        #[cfg(all(test, unix))]
        mod more { use crate::i; }
        use crate::z;
    "##;
    let code: Vec<_> = code(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(
        code.join(" "),
        "use crate::a; fn f<'a>(x: &'a str) -> char { ; ; b; ; } use crate::z;"
    );
}
