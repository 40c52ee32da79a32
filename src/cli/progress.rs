//! What a long operation shows of itself on standard error: one line that is redrawn on a terminal, or a calm line
//! now and then for a log. Counting is a few atomic additions; a thread of its own looks and draws. The first 250 ms
//! show nothing. The thread ends, and its line is cleared, when the [`Shown`] is dropped.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::render::{bytes, duration, magnitude, printable};
use crate::base::progress::{CountUnit, ImageState, Progress, SharedProgress, Silent};

/// Nothing is shown of what is over sooner.
const SILENCE: Duration = Duration::from_millis(250);
const REDRAW: Duration = Duration::from_millis(100);
/// Between two lines of a log.
const LINE: Duration = Duration::from_secs(10);
/// An image that is younger is nobody's trouble.
const HELD_SHOWN: Duration = Duration::from_secs(2);
const COUNTS: [CountUnit; 4] = [CountUnit::Rows, CountUnit::ContentBytes, CountUnit::StoredBytes, CountUnit::Objects];

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// A line on a terminal, redrawn in place.
    Redrawn,
    /// A line every ten seconds.
    Lines,
    /// Notes only.
    Notes,
    /// Nothing at all.
    None,
}

/// Progress that is being shown.
pub(crate) struct Shown {
    progress: SharedProgress,
    drawing: Option<(Arc<Meter>, JoinHandle<()>)>,
}

impl Shown {
    /// Begins to show.
    pub(crate) fn start(style: Style) -> Self {
        if style == Style::None {
            return Self { progress: Arc::new(Silent), drawing: None };
        }
        let meter = Arc::new(Meter::new(style));
        let drawing = matches!(style, Style::Redrawn | Style::Lines).then(|| {
            let drawn = Arc::clone(&meter);
            (Arc::clone(&meter), std::thread::spawn(move || drawn.draw()))
        });
        Self { progress: meter, drawing }
    }

    /// What the operation tells.
    pub(crate) fn progress(&self) -> SharedProgress {
        Arc::clone(&self.progress)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some((meter, thread)) = self.drawing.take() {
            meter.done.store(true, Ordering::SeqCst);
            thread.thread().unpark();
            // A panic of the drawing thread was reported by its hook and harms nobody else.
            let _ = thread.join();
        }
    }
}

struct Meter {
    counts: [AtomicU64; COUNTS.len()],
    phase: Mutex<Option<Phase>>,
    /// Since when an image is held open.
    held: Mutex<Option<Instant>>,
    done: AtomicBool,
    bar: Option<ProgressBar>,
    style: Style,
    started: Instant,
}

#[derive(Clone)]
struct Phase {
    name: String,
    unit: CountUnit,
    total: Option<u64>,
    started: Instant,
    /// The counts when it began.
    before: [u64; COUNTS.len()],
}

impl Meter {
    fn new(style: Style) -> Self {
        let bar = (style == Style::Redrawn).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("a valid template");
            bar.set_style(style);
            bar
        });
        Self {
            counts: Default::default(),
            phase: Mutex::new(None),
            held: Mutex::new(None),
            done: AtomicBool::new(false),
            bar,
            style,
            started: Instant::now(),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Option<Phase>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> [u64; COUNTS.len()] {
        std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed))
    }

    fn line(&self) -> Option<String> {
        let phase = self.phase().clone()?;
        let line = describe(&phase, self.counts(), phase.started.elapsed());
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.map(|since| since.elapsed()).filter(|age| *age >= HELD_SHOWN);
        Some(held.map_or(line.clone(), |age| format!("{line}  snapshot open {}", duration(age))))
    }

    fn draw(&self) {
        let mut last_line = self.started;
        let mut is_visible = false;
        while !self.done.load(Ordering::SeqCst) {
            std::thread::park_timeout(if is_visible { REDRAW } else { SILENCE });
            if self.started.elapsed() < SILENCE || self.done.load(Ordering::SeqCst) {
                continue;
            }
            if let Some(bar) = &self.bar {
                if !is_visible {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                bar.set_message(self.line().unwrap_or_default());
                bar.tick();
            } else if last_line.elapsed() >= LINE {
                last_line = Instant::now();
                self.line().iter().for_each(|line| write_line(line));
            }
            is_visible = true;
        }
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

impl Progress for Meter {
    fn phase(&self, name: &str, unit: CountUnit, total: Option<u64>) {
        let name = printable(name).into_owned();
        *Meter::phase(self) = Some(Phase { name, unit, total, started: Instant::now(), before: self.counts() });
    }

    fn add(&self, count: CountUnit, by: u64) {
        self.counts[place(count)].fetch_add(by, Ordering::Relaxed);
    }

    fn note(&self, text: &str) {
        let text = printable(text);
        match &self.bar {
            Some(bar) => bar.suspend(|| write_line(&text)),
            None if self.style == Style::None => {}
            None => write_line(&text),
        }
    }

    fn image(&self, image: ImageState) {
        let since = (image == ImageState::Held).then(Instant::now);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

fn place(count: CountUnit) -> usize {
    match count {
        CountUnit::Rows => 0,
        CountUnit::ContentBytes => 1,
        CountUnit::StoredBytes => 2,
        CountUnit::Objects => 3,
    }
}

/// Whoever reads standard error may have gone; the operation goes on.
fn write_line(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// `reading contacts  1.2 M of 3.4 M rows  52 k rows/s  8.4 MB/s  3.1 MB stored  42 s left`
fn describe(phase: &Phase, counts: [u64; COUNTS.len()], elapsed: Duration) -> String {
    let done = |count: CountUnit| counts[place(count)].saturating_sub(phase.before[place(count)]);
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |n: u64| u64::try_from(u128::from(n) * 1000 / u128::from(millis)).unwrap_or(u64::MAX);
    let amount = |unit: CountUnit, n: u64| match unit {
        CountUnit::Rows => magnitude(n),
        CountUnit::ContentBytes | CountUnit::StoredBytes => bytes(n),
        CountUnit::Objects => magnitude(n),
    };
    let noun = match phase.unit {
        CountUnit::Rows => " rows",
        CountUnit::Objects => " objects",
        CountUnit::ContentBytes | CountUnit::StoredBytes => "",
    };
    let now = done(phase.unit);
    let mut parts = vec![phase.name.clone()];
    match phase.total {
        // Totals may be estimates.
        Some(total) if total >= now => {
            parts.push(format!("{} of {}{noun}", amount(phase.unit, now), amount(phase.unit, total)))
        }
        _ if now > 0 => parts.push(format!("{}{noun}", amount(phase.unit, now))),
        _ => {}
    }
    // Once all is read, what goes on is something else, and its pace is not known.
    if now > 0 && millis >= 1000 && phase.total != Some(now) {
        parts.push(format!("{}{noun}/s", amount(phase.unit, rate(now))));
    }
    if phase.unit != CountUnit::ContentBytes && done(CountUnit::ContentBytes) > 0 && millis >= 1000 {
        parts.push(format!("{}/s", bytes(rate(done(CountUnit::ContentBytes)))));
    }
    if phase.unit != CountUnit::StoredBytes && counts[place(CountUnit::StoredBytes)] > 0 {
        parts.push(format!("{} stored", bytes(counts[place(CountUnit::StoredBytes)])));
    }
    if let Some(total) = phase.total
        && let Some(left) = total.checked_sub(now).filter(|left| *left > 0)
        && now > 0
        && millis >= 2000
    {
        let left_ms = u128::from(left) * u128::from(millis) / u128::from(now);
        let seconds = u64::try_from(left_ms / 1000).unwrap_or(u64::MAX).max(1);
        parts.push(match seconds {
            0..60 => format!("{seconds} s left"),
            _ => format!("{} left", duration(Duration::from_secs(seconds))),
        });
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Meter, Phase, Shown, Style, describe};
    use crate::base::progress::{CountUnit, ImageState, Progress};

    fn phase(unit: CountUnit, total: Option<u64>) -> Phase {
        Phase { name: "reading contacts".to_owned(), unit, total, started: Instant::now(), before: [1000, 0, 0, 0] }
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let line =
            |phase: &Phase, seconds| describe(phase, [501_000, 40_000_000, 3_100_000, 0], Duration::from_secs(seconds));
        assert_eq!(
            line(&phase(CountUnit::Rows, Some(2_000_000)), 10),
            "reading contacts  500 k of 2.0 M rows  50 k rows/s  4.0 MB/s  3.1 MB stored  30 s left"
        );
        // An estimate that proved too low is not shown.
        assert_eq!(
            line(&phase(CountUnit::Rows, Some(400_000)), 10),
            "reading contacts  500 k rows  50 k rows/s  4.0 MB/s  3.1 MB stored"
        );
        assert_eq!(line(&phase(CountUnit::Objects, None), 0), "reading contacts  3.1 MB stored");
    }

    #[test]
    fn a_phase_counts_from_its_own_beginning() {
        let meter = Meter::new(Style::Notes);
        meter.add(CountUnit::Rows, 700);
        assert_eq!(meter.line(), None);
        Progress::phase(&meter, "one\n", CountUnit::Rows, None);
        meter.add(CountUnit::Rows, 3);
        assert_eq!(meter.line().as_deref(), Some("one\\n  3 rows"));
    }

    #[test]
    fn the_age_of_an_image_is_shown_while_it_is_held() {
        let meter = Meter::new(Style::Notes);
        Progress::phase(&meter, "one", CountUnit::Rows, None);
        meter.image(ImageState::Held);
        assert_eq!(meter.line().as_deref(), Some("one"));
        let since = Instant::now().checked_sub(Duration::from_secs(130));
        *meter.held.lock().expect("not poisoned") = since;
        assert_eq!(meter.line().as_deref(), since.map(|_| "one  snapshot open 2 min 10 s"));
        meter.image(ImageState::LetGo);
        assert_eq!(meter.line().as_deref(), Some("one"));
    }

    #[test]
    fn showing_ends_at_once() {
        let started = Instant::now();
        for style in [Style::Lines, Style::Notes, Style::None] {
            let shown = Shown::start(style);
            shown.progress().phase("a", CountUnit::Rows, Some(1));
            shown.progress().add(CountUnit::Rows, 1);
        }
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
