//! Text with wildcards (`*`: any text, `?`: any one character) and policy variables (`${aws:username}`).
//!
//! Matching never tries a place twice for a later wildcard: each piece between two `*` is put at the first place
//! where it fits, which is as good as any other. Pieces without `?` are found by the standard library's search,
//! so the work is linear in pattern and text; a piece with `?` costs at most its length at each place of the text.

use super::key::{ConditionKey, Fact, Facts};
use super::{PolicyError, Result};
use std::borrow::Cow;

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(String),
    AnyText,
    AnyCharacter,
    Variable {
        key: ConditionKey,
        default: Option<String>,
    },
}

/// A pattern, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// Which special text a pattern may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// `*` and `?`.
    pub(super) wildcards: bool,
    /// `${…}`: only in policies of version 2012-10-17.
    pub(super) variables: bool,
}

impl Pattern {
    /// What fits every text.
    pub(super) fn everything() -> Self {
        Self {
            tokens: vec![Token::AnyText],
        }
    }

    /// # Errors
    /// For variables that are not known.
    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Self> {
        let mut pattern = Self { tokens: Vec::new() };
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if syntax.variables
                && let Some(variable) = rest.strip_prefix("${")
            {
                let Some((name, after)) = variable.split_once('}') else {
                    return Err(PolicyError::new(format!(
                        "The policy variable in {text:?} has no end."
                    )));
                };
                pattern.push_variable(name)?;
                rest = after;
                continue;
            }
            match character {
                '*' if syntax.wildcards => {
                    if pattern.tokens.last() != Some(&Token::AnyText) {
                        pattern.tokens.push(Token::AnyText);
                    }
                }
                '?' if syntax.wildcards => pattern.tokens.push(Token::AnyCharacter),
                other => pattern.push_literal(other.encode_utf8(&mut [0; 4])),
            }
            rest = &rest[character.len_utf8()..];
        }
        Ok(pattern)
    }

    fn push_literal(&mut self, text: &str) {
        if let Some(Token::Literal(literal)) = self.tokens.last_mut() {
            literal.push_str(text);
        } else {
            self.tokens.push(Token::Literal(text.to_owned()));
        }
    }

    /// `${*}`, `${?}` and `${$}` are the characters themselves; `${key, 'default'}` has a default.
    fn push_variable(&mut self, name: &str) -> Result<()> {
        if matches!(name, "*" | "?" | "$") {
            self.push_literal(name);
            return Ok(());
        }
        let unknown = || PolicyError::new(format!("The policy variable ${{{name}}} is not known."));
        let (key, default) = match name.split_once(',') {
            None => (name, None),
            Some((key, default)) => {
                let default = default.trim();
                let quoted = default
                    .strip_prefix('\'')
                    .and_then(|rest| rest.strip_suffix('\''));
                (key, Some(quoted.ok_or_else(unknown)?.to_owned()))
            }
        };
        let key = ConditionKey::parse(key.trim()).map_err(|_| unknown())?;
        if !key.is_variable() {
            return Err(unknown());
        }
        self.tokens.push(Token::Variable { key, default });
        Ok(())
    }

    /// True if one text alone fits, whoever asks: without wildcards and variables.
    pub(super) fn is_fixed(&self) -> bool {
        let fixed = |token: &Token| matches!(token, Token::Literal(_));
        self.tokens.iter().all(fixed)
    }

    /// Whether `text` fits. A variable without a value and without a default fits nothing.
    pub(super) fn matches(&self, text: &str, facts: &dyn Facts) -> bool {
        self.with_pieces(facts, |pieces| fits(pieces, text))
            .unwrap_or(false)
    }

    /// As [`Pattern::matches`], whatever the case of ASCII letters.
    pub(super) fn matches_ignoring_case(&self, text: &str, facts: &dyn Facts) -> bool {
        let text = text.to_lowercase();
        self.with_pieces(facts, |pieces| {
            let lower: Vec<Piece<'_>> = pieces.iter().map(Piece::lower).collect();
            fits(&lower, &text)
        })
        .unwrap_or(false)
    }

    /// The pattern with its variables' values: text of variables is literal, whatever is in it.
    fn with_pieces<T>(&self, facts: &dyn Facts, then: impl FnOnce(&[Piece<'_>]) -> T) -> Option<T> {
        let mut pieces = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            pieces.push(match token {
                Token::Literal(text) => Piece::Literal(Cow::Borrowed(text)),
                Token::AnyText => Piece::AnyText,
                Token::AnyCharacter => Piece::AnyCharacter,
                Token::Variable { key, default } => match (facts.fact(key), default) {
                    (Fact::One(value), _) => Piece::Literal(value),
                    (_, Some(default)) => Piece::Literal(Cow::Borrowed(default)),
                    _ => return None,
                },
            });
        }
        Some(then(&pieces))
    }
}

#[derive(Clone, Debug)]
enum Piece<'a> {
    Literal(Cow<'a, str>),
    AnyText,
    AnyCharacter,
}

impl Piece<'_> {
    fn lower(&self) -> Piece<'static> {
        match self {
            Self::Literal(text) => Piece::Literal(Cow::Owned(text.to_lowercase())),
            Self::AnyText => Piece::AnyText,
            Self::AnyCharacter => Piece::AnyCharacter,
        }
    }
}

/// Whether the text behind one that fits `run` (pieces without `AnyText`) is there, and what it is.
fn strip<'t>(run: &[Piece<'_>], text: &'t str) -> Option<&'t str> {
    run.iter().try_fold(text, |rest, piece| match piece {
        Piece::Literal(literal) => rest.strip_prefix(&**literal),
        Piece::AnyCharacter => rest.chars().next().map(|character| &rest[character.len_utf8()..]),
        Piece::AnyText => None,
    })
}

/// What stands behind the first place in `text` where `run` fits.
fn strip_first<'t>(run: &[Piece<'_>], text: &'t str) -> Option<&'t str> {
    if let [Piece::Literal(literal)] = run {
        return text.find(&**literal).map(|at| &text[at + literal.len()..]);
    }
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.into_iter().find_map(|at| strip(run, &text[at..]))
}

/// Whether `run` fits the end of `text`.
fn fits_end(run: &[Piece<'_>], text: &str) -> bool {
    let stripped = run.iter().rev().try_fold(text, |rest, piece| match piece {
        Piece::Literal(literal) => rest.strip_suffix(&**literal),
        Piece::AnyCharacter => {
            let last = rest.chars().next_back()?;
            Some(&rest[..rest.len() - last.len_utf8()])
        }
        Piece::AnyText => None,
    });
    stripped.is_some()
}

fn fits(pieces: &[Piece<'_>], text: &str) -> bool {
    let mut runs = pieces.split(|piece| matches!(piece, Piece::AnyText));
    let first = runs.next().unwrap_or(&[]);
    let Some(mut rest) = strip(first, text) else {
        return false;
    };
    let Some(mut run) = runs.next() else {
        return rest.is_empty();
    };
    for next in runs {
        if !run.is_empty() {
            match strip_first(run, rest) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        run = next;
    }
    fits_end(run, rest)
}

/// Whether `text` fits `pattern`, whatever the case, without variables.
pub(super) fn glob_ignoring_case(pattern: &str, text: &str) -> bool {
    let syntax = Syntax {
        wildcards: true,
        variables: false,
    };
    Pattern::parse(pattern, syntax).is_ok_and(|pattern| pattern.matches_ignoring_case(text, &NoFacts))
}

#[derive(Debug)]
struct NoFacts;

impl Facts for NoFacts {
    fn fact(&self, _: &ConditionKey) -> Fact<'_> {
        Fact::Absent
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const WILD: Syntax = Syntax {
        wildcards: true,
        variables: false,
    };

    /// The meaning of wildcards, as short as it can be said; not for long texts.
    fn reference(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| reference(rest, &text[at..])),
            Some((&one, rest)) => text
                .split_first()
                .is_some_and(|(&first, behind)| (one == '?' || one == first) && reference(rest, behind)),
        }
    }

    fn check(pattern: &str, text: &str, expected: bool) {
        let parsed = Pattern::parse(pattern, WILD).unwrap();
        assert_eq!(parsed.matches(text, &NoFacts), expected, "{pattern:?} {text:?}");
    }

    #[test]
    fn wildcards_mean_what_they_say() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*b", "ab", true),
            ("a*b", "a", false),
            ("a*a", "a", false),
            ("a*bc*d", "abcbcd", true),
            ("a*b?c", "axbyc", true),
            ("*b?c", "bbc", true),
            ("?", "€", true),
            ("??", "€", false),
            ("*.jpg", "a.jpg.txt", false),
            ("home/*", "home/", true),
            ("home/*", "home", false),
        ] {
            check(pattern, text, expected);
        }
    }

    #[test]
    fn without_wildcards_they_are_characters() {
        let syntax = Syntax {
            wildcards: false,
            variables: false,
        };
        let pattern = Pattern::parse("a*${b}?", syntax).unwrap();
        assert!(pattern.matches("a*${b}?", &NoFacts));
        assert!(!pattern.matches("ab${b}c", &NoFacts));
    }

    #[test]
    fn bad_cases_take_no_time() {
        let pattern = "*a".repeat(5000) + "b";
        let text = "a".repeat(200_000);
        let started = std::time::Instant::now();
        check(&pattern, &text, false);
        check(&("*".to_owned() + &"?a".repeat(500) + "*b"), &text, false);
        // A search that tried every split would not end before the sun does.
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_meaning(pattern in "[ab*?é]{0,8}", text in "[abé]{0,8}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            let parsed = Pattern::parse(&pattern, WILD).unwrap();
            prop_assert_eq!(parsed.matches(&text, &NoFacts), reference(&p, &t));
        }

        #[test]
        fn patterns_never_panic(pattern in any::<String>(), text in any::<String>()) {
            let syntax = Syntax { wildcards: true, variables: true };
            if let Ok(pattern) = Pattern::parse(&pattern, syntax) {
                let _ = pattern.matches(&text, &NoFacts);
                let _ = pattern.matches_ignoring_case(&text, &NoFacts);
            }
        }
    }
}
