//! Progress of a long operation on standard error: one line that is redrawn on a terminal, or a new line every ten
//! seconds for a log. Counting costs a few atomic additions. A separate thread draws. Nothing is shown for the first
//! 250 ms. Dropping the [`ProgressView`] ends the thread and clears the line.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::Span;

use super::render::{bytes, duration, magnitude, printable};
use crate::base::pipeline::lock;
use crate::base::progress::{CountUnit, ImageState, Progress, SharedProgress};

/// Operations that are shorter than this show nothing.
const SILENCE: Duration = Duration::from_millis(250);
const REDRAW: Duration = Duration::from_millis(100);
/// Time between two lines in a log.
const LINE: Duration = Duration::from_secs(10);
/// Minimum age of an image for its age to be shown.
const HELD_SHOWN: Duration = Duration::from_secs(2);
/// Minimum duration of a phase before its pace is shown. The time left is shown a little later.
const PACE_AFTER_MS: u64 = 1000;
const TIME_LEFT_AFTER_MS: u64 = 2000;
const UNITS: usize = 4;

/// How to show progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// One line on a terminal, redrawn in place.
    Redrawn,
    /// A new line every ten seconds.
    Lines,
    /// Only notes.
    Notes,
    /// Nothing at all.
    None,
}

/// Progress that is being shown.
pub(crate) struct ProgressView {
    meter: Arc<Meter>,
    drawing: Option<JoinHandle<()>>,
}

impl ProgressView {
    /// Starts to show progress.
    pub(crate) fn start(style: Style) -> Self {
        let meter = Arc::new(Meter::new(style));
        let is_drawn = matches!(style, Style::Redrawn | Style::Lines);
        let drawing = is_drawn.then(|| start_drawing(Arc::clone(&meter)));
        Self { meter, drawing }
    }

    /// The receiver of the operation's reports.
    pub(crate) fn progress(&self) -> SharedProgress {
        Arc::clone(&self.meter) as SharedProgress
    }
}

fn start_drawing(meter: Arc<Meter>) -> JoinHandle<()> {
    std::thread::spawn(move || meter.draw())
}

impl Drop for ProgressView {
    fn drop(&mut self) {
        self.meter.end_phase();
        self.meter.done.store(true, Ordering::SeqCst);
        if let Some(thread) = self.drawing.take() {
            thread.thread().unpark();
            // The panic hook has already reported a panic of the drawing thread. It affects nothing else.
            let _ = thread.join();
        }
    }
}

/// A count for each unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct UnitCounts([u64; UNITS]);

impl UnitCounts {
    fn of(&self, unit: CountUnit) -> u64 {
        self.0[index(unit)]
    }

    fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }
}

fn index(unit: CountUnit) -> usize {
    match unit {
        CountUnit::Rows => 0,
        CountUnit::ContentBytes => 1,
        CountUnit::StoredBytes => 2,
        CountUnit::Objects => 3,
    }
}

/// Counts what the operation reports, for the progress line and for the log.
struct Meter {
    counts: [AtomicU64; UNITS],
    phase: Mutex<Option<Phase>>,
    /// When the current image was opened.
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
    /// The counts at the start of the phase.
    before: UnitCounts,
    /// The span of the phase in the log.
    span: Span,
}

impl Phase {
    fn begin(name: &str, unit: CountUnit, total: Option<u64>, before: UnitCounts) -> Self {
        let name = printable(name).into_owned();
        let span = tracing::info_span!("phase", phase = name);
        span.in_scope(|| tracing::info!(total, "phase begins"));
        Self { name, unit, total, started: Instant::now(), before, span }
    }

    fn log_end(&self, counts: UnitCounts) {
        let _entered = self.span.enter();
        let done = counts.since(&self.before);
        tracing::info!(
            duration_ms = millis(self.started.elapsed()),
            rows = done.of(CountUnit::Rows),
            content_bytes = done.of(CountUnit::ContentBytes),
            stored_bytes = done.of(CountUnit::StoredBytes),
            objects = done.of(CountUnit::Objects),
            "phase ends"
        );
    }
}

impl Meter {
    fn new(style: Style) -> Self {
        Self {
            counts: Default::default(),
            phase: Mutex::new(None),
            held: Mutex::new(None),
            done: AtomicBool::new(false),
            bar: (style == Style::Redrawn).then(hidden_bar),
            style,
            started: Instant::now(),
        }
    }

    fn counts(&self) -> UnitCounts {
        UnitCounts(std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)))
    }

    fn end_phase(&self) {
        if let Some(phase) = lock(&self.phase).take() {
            phase.log_end(self.counts());
        }
    }

    fn line(&self) -> Option<String> {
        let phase = lock(&self.phase).clone()?;
        let elapsed = phase.started.elapsed();
        let line = PhaseLine { phase: &phase, counts: self.counts(), elapsed }.text();
        Some(line + &self.held_text())
    }

    /// How long the image of the database has been open. Empty if that is short.
    fn held_text(&self) -> String {
        match self.held_for() {
            Some(age) if age >= HELD_SHOWN => format!("  image open {}", duration(age)),
            _ => String::new(),
        }
    }

    /// How long the current image has been open.
    fn held_for(&self) -> Option<Duration> {
        let since = *lock(&self.held);
        since.map(|since| since.elapsed())
    }

    fn draw(&self) {
        let mut last_line = self.started;
        let mut is_visible = false;
        while !self.is_done() {
            std::thread::park_timeout(if is_visible { REDRAW } else { SILENCE });
            if self.started.elapsed() < SILENCE || self.is_done() {
                continue;
            }
            self.show(&mut last_line, is_visible);
            is_visible = true;
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Redraws the bar, or writes a line if the last one was long enough ago.
    fn show(&self, last_line: &mut Instant, is_visible: bool) {
        if let Some(bar) = &self.bar {
            self.redraw(bar, is_visible);
        } else if last_line.elapsed() >= LINE {
            *last_line = Instant::now();
            self.write_log_line();
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    fn redraw(&self, bar: &ProgressBar, is_visible: bool) {
        if !is_visible {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_message(self.line().unwrap_or_default());
        bar.tick();
    }

    fn write_log_line(&self) {
        if let Some(line) = self.line() {
            write_line(&line);
        }
    }
}

/// A bar that is not yet drawn on the terminal.
fn hidden_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("a valid template"));
    bar
}

impl Meter {
    fn image_opens(&self) {
        tracing::info!("image opens");
        *lock(&self.held) = Some(Instant::now());
    }

    fn image_closes(&self) {
        let held_ms = self.held_for().map(millis);
        tracing::info!(held_ms, "image closes");
        *lock(&self.held) = None;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end_phase();
    }
}

impl Progress for Meter {
    fn phase(&self, name: &str, unit: CountUnit, total: Option<u64>) {
        self.end_phase();
        *lock(&self.phase) = Some(Phase::begin(name, unit, total, self.counts()));
    }

    fn add(&self, count: CountUnit, by: u64) {
        self.counts[index(count)].fetch_add(by, Ordering::Relaxed);
    }

    fn note(&self, text: &str) {
        let text = printable(text);
        tracing::info!(text = &*text, "note");
        match &self.bar {
            Some(bar) => bar.suspend(|| write_line(&text)),
            None if self.style == Style::None => {}
            None => write_line(&text),
        }
    }

    fn image(&self, image: ImageState) {
        match image {
            ImageState::Held => self.image_opens(),
            ImageState::Released => self.image_closes(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Ignores errors: if the reader of standard error has gone away, the operation continues.
fn write_line(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn seconds_left(left_ms: u128) -> String {
    let seconds = u64::try_from(left_ms / 1000).unwrap_or(u64::MAX).max(1);
    match seconds {
        0..60 => format!("{seconds} s left"),
        _ => format!("{} left", duration(Duration::from_secs(seconds))),
    }
}

/// The progress line of a phase:
/// `reading contacts  1.2 M of 3.4 M rows  52 k rows/s  8.4 MB/s  3.1 MB stored  42 s left`
struct PhaseLine<'a> {
    phase: &'a Phase,
    counts: UnitCounts,
    elapsed: Duration,
}

impl PhaseLine<'_> {
    fn text(&self) -> String {
        let mut parts = vec![self.phase.name.clone()];
        parts.extend(self.amount());
        parts.extend(self.pace());
        parts.extend(self.content_pace());
        parts.extend(self.stored());
        parts.extend(self.time_left());
        parts.join("  ")
    }

    /// How much of `unit` this phase has processed.
    fn done(&self, unit: CountUnit) -> u64 {
        self.counts.since(&self.phase.before).of(unit)
    }

    fn millis(&self) -> u64 {
        millis(self.elapsed).max(1)
    }

    fn per_second(&self, n: u64) -> u64 {
        let rate = u128::from(n) * 1000 / u128::from(self.millis());
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    fn amount(&self) -> Option<String> {
        let unit = self.phase.unit;
        let noun = noun(unit);
        let done = self.done(unit);
        match self.phase.total {
            // A total may be an estimate that was too low.
            Some(total) if total >= done => Some(format!("{} of {}{noun}", amount(unit, done), amount(unit, total))),
            _ if done > 0 => Some(format!("{}{noun}", amount(unit, done))),
            _ => None,
        }
    }

    fn pace(&self) -> Option<String> {
        let unit = self.phase.unit;
        let done = self.done(unit);
        // Once everything is read, other work follows, whose pace is not known.
        if done == 0 || self.millis() < PACE_AFTER_MS || self.phase.total == Some(done) {
            return None;
        }
        Some(format!("{}{}/s", amount(unit, self.per_second(done)), noun(unit)))
    }

    fn content_pace(&self) -> Option<String> {
        let done = self.done(CountUnit::ContentBytes);
        if self.phase.unit == CountUnit::ContentBytes || done == 0 || self.millis() < PACE_AFTER_MS {
            return None;
        }
        Some(format!("{}/s", bytes(self.per_second(done))))
    }

    /// How much all phases have stored.
    fn stored(&self) -> Option<String> {
        let stored = self.counts.of(CountUnit::StoredBytes);
        if self.phase.unit == CountUnit::StoredBytes || stored == 0 {
            return None;
        }
        Some(format!("{} stored", bytes(stored)))
    }

    fn time_left(&self) -> Option<String> {
        let done = self.done(self.phase.unit);
        let left = self.phase.total?.checked_sub(done)?;
        if left == 0 || done == 0 || self.millis() < TIME_LEFT_AFTER_MS {
            return None;
        }
        Some(seconds_left(self.millis_for(left, done)))
    }

    /// Time for `left` at the pace of `done`.
    fn millis_for(&self, left: u64, done: u64) -> u128 {
        u128::from(left) * u128::from(self.millis()) / u128::from(done)
    }
}

fn amount(unit: CountUnit, n: u64) -> String {
    match unit {
        CountUnit::Rows | CountUnit::Objects => magnitude(n),
        CountUnit::ContentBytes | CountUnit::StoredBytes => bytes(n),
    }
}

fn noun(unit: CountUnit) -> &'static str {
    match unit {
        CountUnit::Rows => " rows",
        CountUnit::Objects => " objects",
        CountUnit::ContentBytes | CountUnit::StoredBytes => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tracing::Span;

    use super::{Meter, Phase, PhaseLine, ProgressView, Style, UnitCounts};
    use crate::base::progress::{CountUnit, ImageState, Progress};

    fn phase(unit: CountUnit, total: Option<u64>) -> Phase {
        let before = UnitCounts([1000, 0, 0, 0]);
        let name = "reading contacts".to_owned();
        Phase { name, unit, total, started: Instant::now(), before, span: Span::none() }
    }

    #[test]
    fn a_line_shows_amount_pace_and_time_left() {
        let counts = UnitCounts([501_000, 40_000_000, 3_100_000, 0]);
        let line = |phase: &Phase, seconds| PhaseLine { phase, counts, elapsed: Duration::from_secs(seconds) }.text();
        assert_eq!(
            line(&phase(CountUnit::Rows, Some(2_000_000)), 10),
            "reading contacts  500 k of 2.0 M rows  50 k rows/s  4.0 MB/s  3.1 MB stored  30 s left"
        );
        // An estimate that was too low is not shown.
        assert_eq!(
            line(&phase(CountUnit::Rows, Some(400_000)), 10),
            "reading contacts  500 k rows  50 k rows/s  4.0 MB/s  3.1 MB stored"
        );
        assert_eq!(line(&phase(CountUnit::Objects, None), 0), "reading contacts  3.1 MB stored");
    }

    #[test]
    fn a_phase_counts_from_its_start() {
        let meter = Meter::new(Style::Notes);
        meter.add(CountUnit::Rows, 700);
        assert_eq!(meter.line(), None);
        Progress::phase(&meter, "one\n", CountUnit::Rows, None);
        meter.add(CountUnit::Rows, 3);
        assert_eq!(meter.line().as_deref(), Some("one\\n  3 rows"));
    }

    #[test]
    fn the_age_of_an_image_is_shown_while_it_is_open() {
        let meter = Meter::new(Style::Notes);
        Progress::phase(&meter, "one", CountUnit::Rows, None);
        meter.image(ImageState::Held);
        assert_eq!(meter.line().as_deref(), Some("one"));
        let since = Instant::now().checked_sub(Duration::from_secs(130));
        *meter.held.lock().expect("not poisoned") = since;
        assert_eq!(meter.line().as_deref(), since.map(|_| "one  image open 2 min 10 s"));
        meter.image(ImageState::Released);
        assert_eq!(meter.line().as_deref(), Some("one"));
    }

    #[test]
    fn dropping_the_view_does_not_wait() {
        let started = Instant::now();
        for style in [Style::Lines, Style::Notes, Style::None] {
            let view = ProgressView::start(style);
            view.progress().phase("a", CountUnit::Rows, Some(1));
            view.progress().add(CountUnit::Rows, 1);
        }
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
