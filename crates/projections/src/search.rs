//! Text as it's searched: what a person typed, and what it is to be found in, made alike.
//!
//! Postgres is given Latin letters and digits only where it cuts text up itself. So nothing depends on what
//! the database's locale takes for a letter, and Hangul is compared by sound, letter by letter: a
//! two-syllable word has trigrams enough that one slip leaves most of them.

use deunicode::AsciiChars;
use unicode_normalization::UnicodeNormalization;

/// Postgres compares words letter by letter up to 255.
const LONGEST: usize = 200;

/// What Korean hangs on to nouns, longer ones first.
const PARTICLES: [&str; 19] = [
    "에서", "으로", "에게", "까지", "부터", "처럼", "이랑", "을", "를", "이", "가", "은", "는", "의", "에",
    "와", "과", "도", "로",
];

/// The words of a text: in small letters, composed, without accents.
pub(crate) fn words(text: &str) -> Vec<String> {
    let bare = text.nfkd().filter(|c| !('\u{300}'..='\u{36f}').contains(c));
    let text: String = bare.nfc().collect::<String>().to_lowercase();
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A word by its sound, in Latin letters and digits; empty where nothing is known of it.
pub(crate) fn letters(word: &str) -> String {
    let sound = word.ascii_chars().flatten().flat_map(str::chars);
    sound.filter(char::is_ascii_alphanumeric).take(LONGEST).collect::<String>().to_ascii_lowercase()
}

/// Words by their sound, as one text.
pub(crate) fn spelt(words: &[String]) -> String {
    words.iter().map(|word| letters(word)).collect::<Vec<_>>().join(" ")
}

/// A Korean word without its particle, if it ends in one.
pub(crate) fn stem(word: &str) -> Option<&str> {
    let stem = PARTICLES.iter().find_map(|particle| word.strip_suffix(particle))?;
    stem.ends_with(|c| ('가'..='힣').contains(&c)).then_some(stem)
}

/// How many letters may be wrong in a word of so many.
pub(crate) fn slips(letters: usize) -> usize {
    match letters {
        0..4 => 0,
        4..6 => 1,
        6..12 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_alike_however_they_were_typed() {
        for typed in
            ["Café 한강", "CAFE\u{301}  한강!", "ｃａｆé,\u{1112}\u{1161}\u{11ab}\u{1100}\u{1161}\u{11bc}"]
        {
            assert_eq!(words(typed), ["cafe", "한강"], "{typed}");
        }
        assert_eq!(words("100% Pure-Love's"), ["100", "pure", "love", "s"]);
        assert_eq!(words(" %'\"\\ \u{0} ♥"), Vec::<String>::new());
    }

    #[test]
    fn a_word_is_spelt_in_latin_letters() {
        assert_eq!(letters("한강"), "hangang");
        assert_eq!(letters("채식주의자"), "caesigjuyija");
        assert_eq!(letters("東京"), "dongjing");
        assert_eq!(letters("straße"), "strasse");
        assert_eq!(letters(&"책".repeat(200)).len(), 200);
        assert_eq!(spelt(&words("소년이 온다")), "sonyeoni onda");
    }

    #[test]
    fn a_particle_is_not_part_of_the_word() {
        assert_eq!(stem("채식주의자를"), Some("채식주의자"));
        assert_eq!(stem("도서관에서"), Some("도서관"));
        assert_eq!(stem("이"), None);
        assert_eq!(stem("한강"), None);
    }
}
