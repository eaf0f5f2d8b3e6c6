//! An editable line of text.

use crate::input::Edit;

/// A line of text with a caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextField {
    text: String,
    /// The caret's place in bytes, always between two characters.
    caret: usize,
    limit_chars: usize,
}

impl TextField {
    /// Creates a field with a text, and the caret at its end.
    pub(crate) fn new(text: impl Into<String>, limit_chars: usize) -> Self {
        let text = text.into();
        Self {
            caret: text.len(),
            text,
            limit_chars,
        }
    }

    /// Returns the whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text before the caret.
    pub(crate) fn before_caret(&self) -> &str {
        &self.text[..self.caret]
    }

    /// Replaces the text by another one, as if that had been typed.
    pub(crate) fn replace(&mut self, text: &str) {
        self.text.clear();
        self.caret = 0;
        text.chars()
            .filter(|character| !character.is_control())
            .for_each(|character| self.insert(character));
    }

    /// Applies one edit. `clipboard` is called only for a paste.
    pub(crate) fn apply(&mut self, edit: Edit, clipboard: impl FnOnce() -> Option<String>) {
        match edit {
            Edit::Type(character) => self.insert(character),
            Edit::Paste => {
                let pasted = clipboard().unwrap_or_default();
                let line = pasted.lines().next().unwrap_or_default().trim();
                line.chars()
                    .filter(|character| !character.is_control())
                    .for_each(|character| self.insert(character));
            }
            Edit::Backspace => {
                if let Some(character) = self.before_caret().chars().next_back() {
                    self.caret -= character.len_utf8();
                    self.text.remove(self.caret);
                }
            }
            Edit::Delete => {
                if self.caret < self.text.len() {
                    self.text.remove(self.caret);
                }
            }
            Edit::Clear => {
                self.text.drain(..self.caret);
                self.caret = 0;
            }
            Edit::Left => {
                let before = self.before_caret().chars().next_back();
                self.caret -= before.map_or(0, char::len_utf8);
            }
            Edit::Right => {
                let after = self.text[self.caret..].chars().next();
                self.caret += after.map_or(0, char::len_utf8);
            }
            Edit::Home => self.caret = 0,
            Edit::End => self.caret = self.text.len(),
            Edit::Next | Edit::Previous | Edit::Confirm => {}
        }
    }

    fn insert(&mut self, character: char) {
        if self.text.chars().count() < self.limit_chars {
            self.text.insert(self.caret, character);
            self.caret += character.len_utf8();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(start: &str, edits: &[Edit]) -> TextField {
        let mut field = TextField::new(start, 8);
        for &edit in edits {
            field.apply(edit, || Some(" héllo\u{7} \nsecond line".to_owned()));
        }
        field
    }

    #[test]
    fn the_caret_moves_by_characters_not_bytes() {
        let field = edited(
            "Вася",
            &[Edit::Left, Edit::Left, Edit::Type('ж'), Edit::Delete],
        );
        assert_eq!((field.text(), field.before_caret()), ("Важя", "Важ"));
        let field = edited(
            "Вася",
            &[Edit::Home, Edit::Backspace, Edit::Right, Edit::Backspace],
        );
        assert_eq!((field.text(), field.before_caret()), ("ася", ""));
    }

    #[test]
    fn edits_at_either_end_do_nothing() {
        let at_end = edited("я", &[Edit::Right, Edit::Delete]);
        assert_eq!(at_end, TextField::new("я", 8));
        let empty = edited("", &[Edit::Left, Edit::Backspace, Edit::Clear]);
        assert_eq!(empty, TextField::new("", 8));
    }

    #[test]
    fn a_paste_is_one_clean_line_and_keeps_the_limit() {
        assert_eq!(edited("", &[Edit::Paste]).text(), "héllo");
        assert_eq!(edited("12345", &[Edit::Paste]).text(), "12345hél");
    }

    #[test]
    fn a_replaced_text_keeps_the_limit_and_the_caret_goes_to_its_end() {
        let mut field = edited("abc", &[Edit::Home]);
        field.replace("Вася\n и все");
        assert_eq!(
            (field.text(), field.before_caret()),
            ("Вася и в", "Вася и в")
        );
    }

    #[test]
    fn clear_deletes_up_to_the_caret() {
        let field = edited("abcd", &[Edit::Left, Edit::Clear]);
        assert_eq!((field.text(), field.before_caret()), ("d", ""));
    }
}
