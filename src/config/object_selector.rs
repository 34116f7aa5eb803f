//! Checks the namespaces, label selectors and field selectors of an entry of `watch` by Kubernetes'
//! own rules, so that the API server does not refuse the watch later.

use serde::{Deserialize, Deserializer, de::Error as _};

/// The longest DNS label, label value, and name of a label.
const NAME_MAX: usize = 63;
/// The longest prefix of a label key.
const PREFIX_MAX: usize = 253;

/// The name of a namespace: a
/// [DNS label](https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names).
#[derive(Clone, Debug)]
pub(super) struct NamespaceName(pub(super) String);

impl<'de> Deserialize<'de> for NamespaceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if is_dns_label(&text) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(match text.as_str() {
            "" | "*" => format!(
                "{text:?} is not the name of a namespace; leave out namespaces to watch them all"
            ),
            pattern if pattern.contains('*') => format!(
                "{pattern:?} is a pattern; list the namespaces by their names, or leave out \
                 namespaces to watch them all"
            ),
            name => format!(
                "{name:?} is not the name of a namespace; expected at most {NAME_MAX} lower-case \
                 letters, digits and '-', with a letter or digit at both ends"
            ),
        }))
    }
}

/// A label selector as `kubectl --selector` takes it
/// ([grammar](https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors)).
#[derive(Clone, Debug)]
pub(super) struct LabelSelector(pub(super) String);

impl<'de> Deserialize<'de> for LabelSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match LabelParser::new(&text).parse() {
            Ok(()) => Ok(Self(text)),
            Err(problem) => {
                Err(D::Error::custom(format!("{text:?} is not a label selector: {problem}")))
            }
        }
    }
}

/// A field selector as `kubectl --field-selector` takes it
/// ([grammar](https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/)).
#[derive(Clone, Debug)]
pub(super) struct FieldSelector(pub(super) String);

impl<'de> Deserialize<'de> for FieldSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match check_field_selector(&text) {
            Ok(()) => Ok(Self(text)),
            Err(problem) => {
                Err(D::Error::custom(format!("{text:?} is not a field selector: {problem}")))
            }
        }
    }
}

fn is_alphanumeric_at_both_ends(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= NAME_MAX
        && is_alphanumeric_at_both_ends(text)
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// A label's name or value.
fn is_label_text(text: &str) -> bool {
    text.len() <= NAME_MAX
        && is_alphanumeric_at_both_ends(text)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            prefix.len() <= PREFIX_MAX && prefix.split('.').all(is_dns_label) && is_label_text(name)
        }
        None => is_label_text(text),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Comma,
    Not,
    /// `=`, `==`, `!=`, `<` or `>`.
    Operator(&'a str),
    Word(&'a str),
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let symbol =
            ["==", "!=", "=", "<", ">"].into_iter().find(|symbol| rest.starts_with(symbol));
        let (token, length) = match (first, symbol) {
            ('(', _) => (Token::Open, 1),
            (')', _) => (Token::Close, 1),
            (',', _) => (Token::Comma, 1),
            (_, Some(symbol)) => (Token::Operator(symbol), symbol.len()),
            ('!', None) => (Token::Not, 1),
            _ => {
                let is_end = |c: char| c.is_whitespace() || "(),!=<>".contains(c);
                let end = rest.find(is_end).unwrap_or(rest.len());
                (Token::Word(rest.get(..end).unwrap_or_default()), end)
            }
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    tokens
}

/// Follows the grammar of
/// [`labels.Parse`](https://pkg.go.dev/k8s.io/apimachinery/pkg/labels#Parse).
struct LabelParser<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token<'a>>>,
}

impl<'a> LabelParser<'a> {
    fn new(text: &'a str) -> Self {
        Self { tokens: tokens(text).into_iter().peekable() }
    }

    fn parse(mut self) -> Result<(), String> {
        if self.tokens.peek().is_none() {
            return Ok(());
        }
        loop {
            self.requirement()?;
            match self.tokens.next() {
                None => return Ok(()),
                Some(Token::Comma) => {}
                Some(_) => return Err("separate requirements by commas, as in a=b,c=d".to_owned()),
            }
        }
    }

    fn requirement(&mut self) -> Result<(), String> {
        let is_absence = self.tokens.next_if_eq(&Token::Not).is_some();
        let Some(Token::Word(key)) = self.tokens.next() else {
            return Err("expected the key of a label, as in app=web".to_owned());
        };
        if !is_label_key(key) {
            return Err(format!("{key:?} is not the key of a label"));
        }
        match self.tokens.peek().copied() {
            None | Some(Token::Comma) => Ok(()),
            Some(_) if is_absence => Err(format!("write !{key} alone, without a value")),
            Some(Token::Operator(operator)) => {
                self.tokens.next();
                self.exact_value(key, operator)
            }
            Some(Token::Word(operator @ ("in" | "notin"))) => {
                self.tokens.next();
                self.values(key, operator)
            }
            Some(_) => {
                Err(format!("expected =, ==, !=, in, notin, < or > after {key}, as in {key}=web"))
            }
        }
    }

    fn exact_value(&mut self, key: &str, operator: &str) -> Result<(), String> {
        let value = match self.tokens.peek().copied() {
            None | Some(Token::Comma) => "",
            Some(Token::Word(value)) => {
                self.tokens.next();
                value
            }
            Some(_) => return Err(format!("expected a value after {key}{operator}")),
        };
        if matches!(operator, "<" | ">") {
            return match value.parse::<i64>() {
                Ok(_number) => Ok(()),
                Err(_malformed) => Err(format!("expected a whole number after {key}{operator}")),
            };
        }
        check_label_value(value)
    }

    fn values(&mut self, key: &str, operator: &str) -> Result<(), String> {
        let expected = match self.tokens.peek().copied() {
            Some(Token::Word(value)) => format!("write {key} {operator} ({value})"),
            _ => format!("write {key} {operator} (a,b)"),
        };
        if self.tokens.next() != Some(Token::Open) {
            return Err(expected);
        }
        loop {
            // An empty value stands between commas.
            if let Some(Token::Word(value)) =
                self.tokens.next_if(|token| matches!(token, Token::Word(_)))
            {
                check_label_value(value)?;
            }
            match self.tokens.next() {
                Some(Token::Comma) => {}
                Some(Token::Close) => return Ok(()),
                _ => return Err(format!("expected ',' or ')' in the values after {operator}")),
            }
        }
    }
}

fn check_label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_label_text(value) {
        return Ok(());
    }
    Err(format!("{value:?} is not the value of a label"))
}

/// Follows the grammar of
/// [`fields.ParseSelector`](https://pkg.go.dev/k8s.io/apimachinery/pkg/fields#ParseSelector).
fn check_field_selector(text: &str) -> Result<(), String> {
    let mut term = Term::default();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('\\' | ',' | '=') => term.push('_'),
                _ => return Err("a backslash escapes only a comma, = or \\".to_owned()),
            },
            ',' => std::mem::take(&mut term).check()?,
            '!' if !term.has_operator && characters.next_if_eq(&'=').is_some() => {
                term.has_operator = true;
            }
            '=' if !term.has_operator => {
                characters.next_if_eq(&'=');
                term.has_operator = true;
            }
            '=' => return Err("write = inside a value as \\=".to_owned()),
            c => term.push(c),
        }
    }
    term.check()
}

/// One `path=value` of a field selector.
#[derive(Default)]
struct Term {
    field: String,
    value: String,
    has_operator: bool,
}

impl Term {
    fn push(&mut self, c: char) {
        if self.has_operator { self.value.push(c) } else { self.field.push(c) }
    }

    fn check(self) -> Result<(), String> {
        let Self { field, value, has_operator } = self;
        if !has_operator {
            // Kubernetes skips an empty term.
            return if field.is_empty() {
                Ok(())
            } else {
                Err(format!("expected path=value or path!=value, found {field:?}"))
            };
        }
        if field.is_empty() || field.contains(char::is_whitespace) {
            return Err(format!(
                "{field:?} is not the path of a field; write status.phase=Running"
            ));
        }
        if value.starts_with(char::is_whitespace) || value.ends_with(char::is_whitespace) {
            return Err(format!("write {field}={} without spaces", value.trim()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_follow_the_grammar_of_kubernetes() {
        for text in [
            "",
            "app",
            "!app",
            "app=web",
            "app == web, tier != ",
            "app.kubernetes.io/part-of=shop",
            "app in (web,api),tier notin (a),!x",
            "app in (,)",
            "in in (in)",
            "size>3,size<9",
            "a=b,c in (d)",
        ] {
            assert_eq!(LabelParser::new(text).parse(), Ok(()), "{text}");
        }
        for text in [
            "app in web",
            "app in (web",
            "app in",
            "app=a b",
            "app web",
            "=web",
            "!",
            "!app=web",
            "a,",
            ",a",
            "a/b/c=d",
            "-a",
            "app=we_",
            "size>many",
            "app=(web)",
            "app=a=b",
            "A.b/C!",
        ] {
            assert!(LabelParser::new(text).parse().is_err(), "{text}");
        }
    }

    #[test]
    fn field_selectors_follow_the_grammar_of_kubernetes() {
        for text in ["", "metadata.name=a", "a==b,c!=d", r"a=b\,c\=d\\", "a=,b="] {
            assert_eq!(check_field_selector(text), Ok(()), "{text}");
        }
        for text in ["a", "a in (b)", "a=b=c", r"a=b\c", "=b", "a = b", "a>3"] {
            assert!(check_field_selector(text).is_err(), "{text}");
        }
    }

    #[test]
    fn namespaces_are_dns_labels() {
        for name in ["a", "kube-system", "1", "a-1"] {
            assert!(is_dns_label(name), "{name}");
        }
        for name in ["", "*", "A", "-a", "a-", "a.b", "a_b", &"a".repeat(64)] {
            assert!(!is_dns_label(name), "{name}");
        }
    }
}
