//! The style of rows: with or without colours and durations.

use std::{io::IsTerminal, time::Duration};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
    /// Without durations, the same history always gives the same text.
    pub durations: bool,
}

impl Style {
    /// The style for `out`: colours on a terminal, unless `NO_COLOR` is set and not empty.
    ///
    /// <https://no-color.org>
    pub fn for_output(out: &impl IsTerminal) -> Self {
        let is_disabled = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: out.is_terminal() && !is_disabled, durations: true }
    }

    /// Text that does not depend on time, for expected output.
    pub const STABLE: Self = Self { colour: false, durations: false };

    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Dim => 2,
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// ` 4.2s`, or nothing for the span of an instant, which lasts 1 or 2 µs only because viewers
    /// need an extent.
    pub(crate) fn duration(self, duration: Duration) -> String {
        if !self.durations || duration < Duration::from_micros(10) {
            return String::new();
        }
        let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
        match seconds {
            0 if millis == 0 => format!(" {}µs", duration.as_micros()),
            0 => format!(" {millis}ms"),
            1..60 => format!(" {seconds}.{}s", millis / 100),
            60..3600 => format!(" {}m{:02}s", seconds / 60, seconds % 60),
            _ => format!(" {}h{:02}m", seconds / 3600, seconds / 60 % 60),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_has_two_significant_units_at_most() {
        let style = Style { colour: false, durations: true };
        let text = |micros| style.duration(Duration::from_micros(micros));
        assert_eq!(text(2), "");
        assert_eq!(text(850), " 850µs");
        assert_eq!(text(12_400), " 12ms");
        assert_eq!(text(4_299_000), " 4.2s");
        assert_eq!(text(192_000_000), " 3m12s");
        assert_eq!(text(7_500_000_000), " 2h05m");
        assert_eq!(Style::STABLE.duration(Duration::from_secs(1)), "");
    }
}
