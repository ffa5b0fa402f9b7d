//! How commands answer: a table or text for people, one JSON object as the last line of stdout for programs.
//!
//! result → [`Output::result`] → stdout;   progress → stderr, bars on a terminal only;   failure → stderr, and JSON on stdout

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// For programs.
    pub json: bool,
}

impl Output {
    /// Answers for people, or for programs.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints the result of a command: `human` for people, or `value` as one line of JSON.
    pub fn result(self, value: &impl Serialize, human: impl FnOnce() -> String) {
        if self.json {
            self.json_line(value);
        } else {
            print_line(human().trim_end());
        }
    }

    /// Prints one line of JSON.
    pub fn json_line(self, value: &impl Serialize) {
        let line = serde_json::to_string(value).expect("results have text keys and finite numbers");
        print_line(&line);
    }

    /// Tells people how it goes; programs are not disturbed.
    pub fn say(self, text: impl AsRef<str>) {
        if !self.json {
            print_line(text.as_ref());
        }
    }

    /// A bar of so many steps, or a spinner for 0; it shows on a terminal only.
    pub fn progress(self, steps: u64, text: impl Into<String>) -> ProgressBar {
        let bar = match steps {
            0 => ProgressBar::new_spinner(),
            _ => ProgressBar::new(steps),
        };
        if self.json || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = match steps {
            0 => "{spinner} {msg} {elapsed:.dim}",
            _ => "{msg} [{bar:30}] {pos}/{len} {elapsed:.dim}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates are well formed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}

/// A table with these headings.
pub fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

/// Two columns without headings: names and values.
pub fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in rows {
        table.add_row([name, &value]);
    }
    table.trim_fmt()
}

/// A line on stdout. A reader that went away is no fault of ours.
fn print_line(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// A Unix time in seconds as people read it: `2026-11-21 08:15:00 UTC`.
pub fn utc(seconds: u64) -> String {
    let time = i64::try_from(seconds).map(jiff::Timestamp::from_second);
    match time {
        Ok(Ok(time)) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        _ => format!("{seconds} (Unix time)"), // beyond the year 9999
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_read_as_people_write_them() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_795_248_900), "2026-11-21 08:15:00 UTC");
        assert_eq!(utc(u64::MAX), "18446744073709551615 (Unix time)");
    }
}
