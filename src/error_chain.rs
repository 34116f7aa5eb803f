//! Prints an error together with its causes, on one line.

use std::{error::Error, fmt};

/// Displays an error and every cause below it, separated by `: `.
///
/// Some libraries repeat the text of their cause in their own message; a cause whose text was
/// already printed is left out.
///
/// ```
/// # use spanlink::error_chain::ErrorChain;
/// let error = std::io::Error::other("disk full");
/// assert_eq!(ErrorChain(&error).to_string(), "disk full");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = String::new();
        for error in causes(self.0) {
            let text = error.to_string();
            if printed.is_empty() {
                printed = text;
            } else if !printed.contains(&text) {
                printed.push_str(": ");
                printed.push_str(&text);
            }
        }
        f.write_str(&printed)
    }
}

/// The error itself, then its cause, then the cause of that, and so on.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| Error::source(*error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    fn chain(texts: &[&'static str]) -> Level {
        let (text, below) = texts.split_first().unwrap();
        let source = (!below.is_empty()).then(|| Box::new(chain(below)));
        Level { text, source }
    }

    #[test]
    fn every_cause_is_printed_once() {
        let error = chain(&["cannot read the file", "open /x", "permission denied"]);
        let text = "cannot read the file: open /x: permission denied";
        assert_eq!(ErrorChain(&error).to_string(), text);
        assert_eq!(causes(&error).count(), 3);
    }

    #[test]
    fn cause_repeated_by_the_error_above_it_is_left_out() {
        let error = chain(&["send: connection refused", "connection refused", "os error 111"]);
        let text = "send: connection refused: os error 111";
        assert_eq!(ErrorChain(&error).to_string(), text);
    }
}
