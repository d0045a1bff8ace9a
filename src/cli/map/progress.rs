//! How far a run is, on a terminal.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::settings::Settings;

/// A bar on standard error; nothing where that is no terminal, with `--quiet`, or where answers go to the same terminal as
/// they come.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// Inputs in all, where that is known: not for records.
    inputs: Option<usize>,
    done: AtomicUsize,
    failed: usize,
}

impl Progress {
    /// For so many bytes and inputs, as far as it is known how many.
    pub(super) fn new(settings: &Settings, streams: bool, bytes: Option<u64>, inputs: Option<usize>) -> Progress {
        let garbles = streams && io::stdout().is_terminal();
        let shown = !settings.quiet && io::stderr().is_terminal() && !garbles;
        Progress { bar: shown.then(|| bar(bytes)), inputs, done: AtomicUsize::new(0), failed: 0 }
    }

    /// So many inputs are done, of so many bytes. From any thread.
    pub(super) fn add(&self, inputs: usize, bytes: u64) {
        self.done.fetch_add(inputs, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_message(self.message());
            bar.inc(bytes);
        }
    }

    /// So many of the inputs could not be read.
    pub(super) fn fail(&mut self, inputs: usize) {
        self.failed += inputs;
    }

    fn message(&self) -> String {
        let of = self.inputs.map(|n| format!(" of {}", thousands(n))).unwrap_or_default();
        let failed = if self.failed > 0 { format!(", {} failed", thousands(self.failed)) } else { String::new() };
        format!("{}{of} mapped{failed}", thousands(self.done.load(Ordering::Relaxed)))
    }

    /// Writes something else to standard error meanwhile.
    pub(super) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(bytes: Option<u64>) -> ProgressBar {
    let template = match bytes {
        Some(_) => "{msg} [{bar:30}] {bytes} of {total_bytes}, {eta} left",
        None => "{msg}, {bytes}, {bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is right, as a test checks");
    ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr()).with_style(style.progress_chars("=> "))
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_with_and_without_a_total() {
        for total in [Some(100), None] {
            let mut progress =
                Progress { bar: Some(bar(total)), inputs: total.map(|n| n as usize * 20), done: AtomicUsize::new(0), failed: 0 };
            progress.fail(2);
            progress.add(1_234, 40);
            let expected = if total.is_some() { "1,234 of 2,000 mapped, 2 failed" } else { "1,234 mapped, 2 failed" };
            assert_eq!(progress.message(), expected);
            assert_eq!(progress.bar.as_ref().unwrap().position(), 40);
        }
    }
}
