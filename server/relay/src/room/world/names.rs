//! The names in use in a room, and a free one for a player whose name somebody has.
//!
//! Names that look alike count as equal. All that is done here takes a time that grows with the logarithm of
//! the number of names, though a whole crowd may come with the same one.

use std::collections::{BTreeMap, BTreeSet};

use cubesync_protocol::limits::{MAX_NAME_BYTES, MAX_NAME_CHARS};
use cubesync_protocol::text::clusters;
use cubesync_protocol::{clean_name, folded};

/// The first number behind a name that is in use.
const FIRST_NUMBER: u32 = 2;

/// The names in use, folded.
#[derive(Debug, Default)]
pub(super) struct Names {
    in_use: BTreeSet<String>,
    /// The numbers in use behind each name.
    numbers: BTreeMap<String, Numbers>,
}

impl Names {
    /// Notes that a name is in use.
    pub(super) fn insert(&mut self, name: &str) {
        let name = folded(name);
        if let Some((before, number)) = split_number(&name) {
            let numbers = self.numbers.entry(before.to_owned()).or_default();
            numbers.insert(number);
        }
        self.in_use.insert(name);
    }

    /// Notes that a name is in use no more.
    pub(super) fn remove(&mut self, name: &str) {
        let name = folded(name);
        self.in_use.remove(&name);
        if let Some((before, number)) = split_number(&name)
            && let Some(numbers) = self.numbers.get_mut(before)
        {
            numbers.remove(number);
            if numbers.ranges.is_empty() {
                self.numbers.remove(before);
            }
        }
    }

    /// Returns a clean name as it is, or with the lowest number that makes it differ from all in use.
    pub(super) fn unused(&self, name: &str) -> String {
        if !self.in_use.contains(&folded(name)) {
            return name.to_owned();
        }
        (1..=u32::MAX.ilog10())
            .find_map(|digits| self.numbered(name, digits))
            .expect("there are more numbers than cubes")
    }

    /// Returns a name with the lowest unused number of so many digits. A long name is cut.
    fn numbered(&self, name: &str, digits: u32) -> Option<String> {
        let before = cut(name, 1 + digits as usize);
        let first = FIRST_NUMBER.max(10_u32.pow(digits - 1));
        let numbers = self.numbers.get(&folded(before));
        let number = numbers.map_or(first, |numbers| numbers.first_unused(first));
        let numbered = format!("{before}-{number}");
        // A joiner before the cut joins nothing any more.
        let clean = clean_name(&numbered).unwrap_or(numbered);
        (number < 10_u32.pow(digits)).then_some(clean)
    }
}

/// The numbers in use, as ranges from the first to the last that do not touch each other.
#[derive(Debug, Default)]
struct Numbers {
    ranges: BTreeMap<u32, u32>,
}

impl Numbers {
    fn first_unused(&self, from: u32) -> u32 {
        match self.range_of(from) {
            Some((_, last)) => last + 1,
            None => from,
        }
    }

    fn insert(&mut self, number: u32) {
        if self.range_of(number).is_some() {
            return;
        }
        let before = self.range_of(number - 1);
        let after = self.ranges.remove(&(number + 1));
        let first = before.map_or(number, |(first, _)| first);
        self.ranges.insert(first, after.unwrap_or(number));
    }

    fn remove(&mut self, number: u32) {
        let Some((first, last)) = self.range_of(number) else {
            return;
        };
        self.ranges.remove(&first);
        if first < number {
            self.ranges.insert(first, number - 1);
        }
        if number < last {
            self.ranges.insert(number + 1, last);
        }
    }

    /// Returns the range with this number.
    fn range_of(&self, number: u32) -> Option<(u32, u32)> {
        let (&first, &last) = self.ranges.range(..=number).next_back()?;
        (number <= last).then_some((first, last))
    }
}

/// Returns what stands before the number of a folded name, and that number.
fn split_number(name: &str) -> Option<(&str, u32)> {
    let (before, digits) = name.rsplit_once('-')?;
    let is_number = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = digits.parse().ok().filter(|_| is_number)?;
    (FIRST_NUMBER..u32::MAX)
        .contains(&number)
        .then_some((before, number))
}

/// Returns as much of a name as leaves room for so many letters behind it.
fn cut(name: &str, letters: usize) -> &str {
    let mut end = 0;
    for cluster in clusters(name).take(MAX_NAME_CHARS - letters) {
        if end + cluster.len() + letters > MAX_NAME_BYTES {
            break;
        }
        end += cluster.len();
    }
    name[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(in_use: &[&str]) -> Names {
        let mut names = Names::default();
        in_use.iter().for_each(|name| names.insert(name));
        names
    }

    #[test]
    fn a_name_that_looks_like_one_in_use_gets_a_number() {
        let names = names(&["Anna", "Anna-2", "Вася", "cube"]);
        for (name, expected) in [
            ("Boris", "Boris"),
            ("Ann", "Ann"),
            ("Anna", "Anna-3"),
            ("ANNA", "ANNA-3"),
            ("Ａｎｎａ", "Ａｎｎａ-3"),
            ("Anna\u{FE0F}", "Anna\u{FE0F}-3"),
            ("anna-2", "anna-2-2"),
            ("anna-02", "anna-02"),
            ("ВАСЯ", "ВАСЯ-2"),
            ("Cube", "Cube-2"),
        ] {
            assert_eq!(names.unused(name), expected);
        }
    }

    #[test]
    fn the_lowest_number_is_used_again() {
        let mut names = names(&["a", "a-2", "a-3", "a-5"]);
        names.remove("a-2");
        assert_eq!(names.unused("a"), "a-2");
        names.insert("A-2");
        assert_eq!(names.unused("a"), "a-4");
        ["a", "a-2", "a-3", "a-5"]
            .iter()
            .for_each(|name| names.remove(name));
        assert_eq!(names.unused("a"), "a");
        assert!(names.in_use.is_empty() && names.numbers.is_empty());
    }

    #[test]
    fn a_number_fits_a_name_of_the_longest_length() {
        let long = "я".repeat(MAX_NAME_CHARS);
        let mut names = names(&[&long]);
        for number in 2..=101 {
            let name = names.unused(&long);
            let digits = number.to_string();
            let before = "я".repeat(MAX_NAME_CHARS - 1 - digits.len());
            assert_eq!(name, format!("{before}-{digits}"));
            names.insert(&name);
        }
        // Bytes count as well, and nobody sees half of an emoji or a joiner for nothing.
        let family = "👩\u{200D}👩\u{200D}👧\u{200D}👦";
        let families = family.repeat(5) + "abc";
        names.insert(&families);
        assert_eq!(names.unused(&families), family.repeat(5) + "a-2");
        let word = "می\u{200C}";
        let persian = clean_name(&word.repeat(12)).unwrap();
        names.insert(&persian);
        let cut = word.repeat(11);
        assert_eq!(
            names.unused(&persian),
            cut.trim_end_matches('\u{200C}').to_owned() + "-2"
        );
    }

    proptest! {
        #[test]
        fn names_are_as_in_a_plain_list(steps in prop::collection::vec((any::<bool>(), "[aA]{1,2}(-[1-4])?", 0..9_usize), 1..60)) {
            let (mut names, mut list) = (Names::default(), Vec::<String>::new());
            for (joins, name, index) in steps {
                if joins {
                    let in_use = |name: &str| list.iter().any(|other| folded(other) == folded(name));
                    let numbered = (2..).map(|number| format!("{name}-{number}"));
                    let expected = std::iter::once(name.clone()).chain(numbered).find(|name| !in_use(name)).unwrap();
                    prop_assert_eq!(&names.unused(&name), &expected);
                    names.insert(&expected);
                    list.push(expected);
                } else if index < list.len() {
                    names.remove(&list.swap_remove(index));
                }
            }
        }
    }
}
