//! Times of reading alone, without mapping: one line for each file named, as `name<TAB>bytes<TAB>letters<TAB>pages<TAB>
//! median seconds`. `benches/run.py` calls it; it asserts nothing.

use std::io::Write;
use std::time::{Duration, Instant};

use ttpmap::ingest::{Hints, Options, read};

/// Reads each file so long, and three times at least.
const EACH: Duration = Duration::from_millis(1500);

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for name in std::env::args().skip(1).filter(|a| !a.starts_with("--")) {
        let bytes = std::fs::read(&name)?;
        let hints = Hints { name: Some(&name), ..Hints::default() };
        let (mut times, begin) = (Vec::new(), Instant::now());
        let mut last = (0, 0);
        while times.len() < 3 || begin.elapsed() < EACH {
            let copy = bytes.clone();
            let start = Instant::now();
            let parts = read(copy, hints, &Options::default()).map_err(std::io::Error::other)?;
            times.push(start.elapsed());
            let document = parts[0].document.as_ref().map_err(|e| std::io::Error::other(e.to_string()))?;
            let end = document.text().len();
            last = (end, document.origin(end).page.unwrap_or(0));
        }
        times.sort();
        writeln!(out, "{name}\t{}\t{}\t{}\t{:.9}", bytes.len(), last.0, last.1, times[times.len() / 2].as_secs_f64())?;
    }
    Ok(())
}
