use proptest::prelude::*;
use regex_syntax::hir::{Class as Set, HirKind};
use unicode_normalization::is_nfc;

use super::*;

fn kept(name: &str) {
    assert_eq!(
        clean_name(name).as_deref(),
        Ok(name),
        "{}",
        name.escape_unicode()
    );
}

fn cleaned(name: &str, expected: &str) {
    let clean = clean_name(name);
    assert_eq!(clean.as_deref(), Ok(expected), "{}", name.escape_unicode());
}

fn code_of(error: &TextError) -> Option<u32> {
    match error {
        TextError::Forbidden { code, .. } | TextError::LoneMark { code, .. } => Some(*code),
        _ => None,
    }
}

#[test]
fn names_in_any_script_are_kept_and_trimmed() {
    for name in [
        "Anna",
        "Вася",
        "Ελένη",
        "李小龙",
        "さくら",
        "김철수",
        "שָׁלוֹם",
        "مُحَمَّد",
        "สมหญิง",
        "प्रिया",
        "মৌসুমী",
        "தமிழ்",
        "Nguyễn Thị Hằng",
        "ཀརྨ",
        "ᠮᠣᠩᠭᠣᠯ",
        "🦀 crab",
        "O'Neil-Smith Jr.",
        "<b>&amp;",
    ] {
        cleaned(&format!(" \u{3000}{name} \n"), name);
    }
}

#[test]
fn joined_emoji_are_kept_and_each_is_one_character() {
    for name in [
        "👩\u{200D}👩\u{200D}👧\u{200D}👦",
        "👩🏽\u{200D}❤\u{FE0F}\u{200D}💋\u{200D}👨🏿",
        "🏳\u{FE0F}\u{200D}🌈",
        "🇺🇦",
        "👍🏿",
        "1\u{FE0F}\u{20E3}",
        "❤\u{FE0F}",
        "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
        "🐻\u{200D}❄\u{FE0F}",
    ] {
        kept(name);
        assert_eq!(clusters(name).count(), 1, "{name}");
    }
}

#[test]
fn joiners_that_a_script_needs_are_kept() {
    for name in [
        // Persian: between letters that join, with and without a mark between.
        "می\u{200C}خواهم",
        "خانه\u{200C}ام",
        "نِیَ\u{200C}م",
        "کار\u{200C}ها",
        // Hindi, Sinhala and Malayalam: after a virama, also at the end.
        "क्\u{200D}ष",
        "क्\u{200C}ष",
        "ක්\u{200D}රි",
        "മോഹന്\u{200D}",
        // Bengali: before a virama.
        "র\u{200D}্যাব",
    ] {
        kept(name);
    }
}

#[test]
fn what_shows_nothing_is_removed() {
    for (name, expected) in [
        ("\u{200B}Anna\u{FEFF}", "Anna"),
        ("An\u{AD}na\u{2060}", "Anna"),
        ("\u{2068}Anna\u{2069}", "Anna"),
        ("Anna\u{200E} \u{202C}", "Anna"),
        ("Anna\u{200D}", "Anna"),
        ("An\u{200C}na", "Anna"),
        ("Anna \u{FE0F}B", "Anna B"),
        ("Anna\u{FE0F}\u{FE0F}", "Anna\u{FE0F}"),
        ("Anna\u{E0067}\u{E007F}", "Anna"),
        ("🏴\u{E0067}", "🏴"),
        ("\u{3164}김\u{115F}\u{FFA0}", "김"),
        ("\u{2800}Anna\u{2800}\u{A0}B\u{3000}", "Anna B"),
        ("e\u{200D}\u{301}", "é"),
        ("e\u{34F}\u{301}", "é"),
        ("👩\u{200D}Anna", "👩Anna"),
    ] {
        cleaned(name, expected);
    }
}

#[test]
fn names_are_in_the_composed_form() {
    cleaned("Nguye\u{302}\u{303}n", "Nguyễn");
    cleaned("\u{1112}\u{1161}\u{11AB}", "한");
    cleaned("\u{212B}", "Å");
}

#[test]
fn names_that_show_nothing_are_refused() {
    for name in [
        "",
        " \t",
        "\u{3164}",
        "\u{115F}\u{1160}",
        "\u{FFA0}",
        "\u{2800}\u{2800}",
        "\u{200B}",
        "\u{200D}",
        "\u{FE0F}",
        "\u{E0100}",
        "\u{E0041}\u{E007F}",
        "\u{AD}",
        "\u{34F}",
        "\u{17B4}",
        "\u{1D159}",
        "\u{202E}\u{2066}",
        "\u{3000}\u{A0}",
    ] {
        let empty = TextError::Empty { what: "name" };
        assert_eq!(clean_name(name), Err(empty), "{}", name.escape_unicode());
    }
}

#[test]
fn characters_that_disguise_or_mean_nothing_are_refused() {
    for (name, code) in [
        ("a\nb", 0x0A),
        ("a\tb", 0x09),
        ("a\u{7}", 0x07),
        ("a\u{85}b", 0x85),
        ("a\u{2028}b", 0x2028),
        ("a\u{202E}b", 0x202E),
        ("a\u{2066}b", 0x2066),
        ("a\u{200F}b", 0x200F),
        ("a\u{FFF9}b\u{FFFB}", 0xFFF9),
        ("a\u{E000}", 0xE000),
        ("\u{10FFFD}", 0x10_FFFD),
        ("a\u{378}", 0x378),
        ("a\u{FDD0}", 0xFDD0),
        ("a\u{FFFF}", 0xFFFF),
        ("J\u{FFFD}rg", 0xFFFD),
        ("\u{FFFC}", 0xFFFC),
        ("\u{301}", 0x301),
        ("\u{301}a", 0x301),
        ("a \u{301}", 0x301),
        ("\u{20E3}", 0x20E3),
        ("\u{94D}", 0x94D),
        ("\u{903}a", 0x903),
    ] {
        let error = clean_name(name).unwrap_err();
        assert_eq!(
            code_of(&error),
            Some(code),
            "{}: {error}",
            name.escape_unicode()
        );
    }
}

#[test]
fn marks_are_not_stacked_higher_than_the_limit() {
    let stacked = |count: usize| "x".to_owned() + &"\u{327}".repeat(count);
    assert!(clean_name(&stacked(MAX_STACKED_MARKS)).is_ok());
    for name in [
        stacked(MAX_STACKED_MARKS + 1),
        // Nothing invisible interrupts a stack.
        stacked(3) + "\u{34F}\u{200D}" + &"\u{20DD}".repeat(2),
    ] {
        let error = clean_name(&name).unwrap_err();
        assert_eq!(error, TextError::TooManyMarks { what: "name" });
    }
}

#[test]
fn a_name_of_the_longest_length_is_accepted_and_one_more_is_not() {
    for character in ["я", "e\u{323}\u{304}", "한", "👍🏿"] {
        let limit = MAX_NAME_CHARS.min(MAX_NAME_BYTES / character.len());
        assert!(clean_name(&character.repeat(limit)).is_ok(), "{character}");
    }
    let too_long = TextError::TooLong {
        what: "name",
        chars: 25,
        limit: 24,
    };
    assert_eq!(clean_name(&"я".repeat(MAX_NAME_CHARS + 1)), Err(too_long));
    let flag = "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}";
    let too_many_bytes = TextError::TooManyBytes {
        what: "room name",
        bytes: 140,
        limit: 128,
    };
    assert_eq!(clean_room(&flag.repeat(5)), Err(too_many_bytes));
    // What is removed does not count.
    let padded = "я\u{200B}".repeat(MAX_NAME_CHARS) + &" ".repeat(1_000);
    assert!(clean_name(&padded).is_ok());
}

#[test]
fn names_that_look_alike_fold_to_the_same() {
    for (one, other) in [
        ("Anna", "ANNA"),
        ("Anna", "Ａｎｎａ"),
        ("Anna", "𝐀𝓃𝕟𝖆"),
        ("Anna", "Anna\u{FE0F}"),
        ("Straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ﬁ", "FI"),
        ("ᾳ", "ΑΙ"),
        ("㎒", "mhz"),
        ("می\u{200C}خواهم", "میخواهم"),
        ("葛\u{E0100}", "葛"),
        ("ｶﾞ", "ガ"),
    ] {
        assert_eq!(folded(one), folded(other), "{one} {other}");
    }
    for (one, other) in [("Anna", "Änna"), ("Anna", "Ann"), ("0", "O"), ("ی", "ي")] {
        assert_ne!(folded(one), folded(other), "{one} {other}");
    }
}

/// Unicode's own list, from another crate.
#[test]
fn ignorable_is_what_unicode_says() {
    let hir = regex_syntax::parse(r"\p{Default_Ignorable_Code_Point}").unwrap();
    let HirKind::Class(Set::Unicode(set)) = hir.kind() else {
        panic!("{hir:?}");
    };
    for character in '\0'..=char::MAX {
        let expected = set
            .iter()
            .any(|range| (range.start()..=range.end()).contains(&character));
        assert_eq!(
            is_ignorable(character),
            expected,
            "U+{:04X}",
            character as u32
        );
    }
}

/// Texts in which the rule's exceptions meet: any characters, and often those with a meaning.
fn texts() -> impl Strategy<Value = String> {
    let special: Vec<_> = " a1\u{301}\u{327}\u{200B}\u{200C}\u{200D}\u{FE0F}\u{E0100}\u{202E}\u{2800}\u{3164}\
        \u{E0067}\u{E007F}🏴👩👧🏿❤🇺\u{20E3}ی\u{64E}خरक\u{94D}\u{903}\u{1100}\u{1161}\u{11A8}\u{1820}\u{180B}\u{180E}\u{345}Åﬁ\u{AD}"
        .chars()
        .collect();
    let character = prop_oneof![prop::sample::select(special), any::<char>()];
    prop::collection::vec(character, 0..24).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_clean_name_is_visible_composed_and_stays_as_it_is(text in texts()) {
        if let Ok(name) = clean_name(&text) {
            prop_assert_eq!(clean_name(&name), Ok(name.clone()));
            prop_assert!(is_nfc(&name));
            prop_assert!((1..=MAX_NAME_CHARS).contains(&clusters(&name).count()));
            prop_assert!(name.len() <= MAX_NAME_BYTES);
            prop_assert!(!folded(&name).trim().is_empty());
            prop_assert!(!name.contains(char::is_control));
            prop_assert_eq!(name.trim(), &name);
        }
    }

    #[test]
    fn folding_twice_changes_nothing(text in texts()) {
        prop_assert_eq!(folded(&folded(&text)), folded(&text));
        if let Ok(name) = clean_name(&text) {
            prop_assert_eq!(folded(&name.to_lowercase()), folded(&name));
        }
    }
}

#[test]
fn a_typed_name_is_neither_empty_nor_endless() {
    assert_eq!(typed_name(" An\u{AD}na "), Ok("An\u{AD}na".to_owned()));
    assert_eq!(typed_name(" \n"), Err(TextError::Empty { what: "name" }));
    let endless = typed_room(&"a\u{200B}".repeat(1_000));
    let too_many_bytes = TextError::TooManyBytes {
        what: "room name",
        bytes: 4_000,
        limit: MAX_ROOM_BYTES,
    };
    assert_eq!(endless, Err(too_many_bytes));
}

#[test]
fn a_joiner_reaches_over_a_few_marks_only() {
    let word = |marks: usize| format!("ی{}\u{200C}م", "\u{64E}".repeat(marks));
    assert!(visible(&word(MAX_STACKED_MARKS)).contains('\u{200C}'));
    assert!(!visible(&word(MAX_REACH)).contains('\u{200C}'));
}
