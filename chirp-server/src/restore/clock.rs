//! Steps of clocks.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::watched;

/// A smaller step is one of keeping time, a larger one of having lost it.
const STEP_SECONDS: i64 = 10;

/// How often clocks are compared where nobody sets one: what a clock gains or loses meanwhile by being made
/// faster or slower is no step.
const EVERY: Duration = Duration::from_secs(10);

/// Two readings of one clock that are further apart than this have been interrupted.
const APART: i64 = NANOSECONDS / 10;

const NANOSECONDS: i64 = 1_000_000_000;

/// A clock that people set, as far as this module needs one.
pub(super) trait Clock {
    /// Returns how far it is ahead of the one that only goes forward, in nanoseconds; nothing where it cannot be
    /// told now.
    fn ahead(&self) -> Option<i64>;

    /// Waits until it may have been set.
    ///
    /// Cancel safe.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// The steps of a clock.
#[derive(Debug)]
pub(super) struct Steps<C> {
    clock: C,
    last: Option<i64>,
}

impl<C: Clock> Steps<C> {
    /// Begins to look at a clock.
    pub(super) fn new(clock: C) -> Self {
        let last = clock.ahead();
        Self { clock, last }
    }

    /// Waits for a step and returns its seconds, forwards where positive.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> i64 {
        loop {
            self.clock.changed().await;
            let Some(ahead) = self.clock.ahead() else {
                continue;
            };
            let last = self.last.replace(ahead).unwrap_or(ahead);
            let step = ahead.saturating_sub(last) / NANOSECONDS;
            if step.saturating_abs() > STEP_SECONDS {
                return step;
            }
        }
    }
}

/// The system's clock, against the one that also counts while the machine sleeps: a machine that slept is not
/// a restored one.
#[derive(Debug)]
pub(super) struct SystemClock {
    /// Readable when the clock was set; none where the kernel has no such thing.
    set: Option<AsyncFd<OwnedFd>>,
}

impl SystemClock {
    /// Must be called within the runtime.
    pub(super) fn new() -> Self {
        let set = timer().map_err(io::Error::from).and_then(watched);
        let set = set.inspect_err(|error| {
            tracing::debug!(%error, "the kernel does not tell when the clock is set; it is looked at");
        });
        Self { set: set.ok() }
    }
}

/// Returns a timer that is due in centuries, and is cancelled when the clock is set.
fn timer() -> rustix::io::Result<OwnedFd> {
    let timer = timerfd_create(
        TimerfdClockId::Realtime,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let far = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: i64::from(u32::MAX) * 2,
            tv_nsec: 0,
        },
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(&timer, flags, &far)?;
    Ok(timer)
}

impl Clock for SystemClock {
    fn ahead(&self) -> Option<i64> {
        // A process that is stopped between two readings would see a step where there was none.
        let mut read = (0, 0);
        for _ in 0..8 {
            let before = nanoseconds(ClockId::Boottime);
            let ahead = nanoseconds(ClockId::Realtime).saturating_sub(before);
            let took = nanoseconds(ClockId::Boottime).saturating_sub(before);
            read = (ahead, took);
            if took < APART {
                break;
            }
        }
        Some(read.0)
    }

    async fn changed(&self) {
        let set = async {
            match &self.set {
                Some(timer) => {
                    if let Ok(mut ready) = timer.readable().await {
                        // It fails with ECANCELED, which is the news, and has told it then.
                        let _ = rustix::io::read(timer, &mut [0; 8]);
                        ready.clear_ready();
                    }
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = set => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// The machine's battery clock, against the one that also counts while the machine sleeps: hypervisors keep it at
/// the host's time, which goes on while the machine does not.
#[derive(Debug)]
pub(super) struct BatteryClock {
    /// Says the seconds since 1970.
    file: PathBuf,
}

impl BatteryClock {
    /// Returns the first one, if it can be read.
    pub(super) fn open() -> Option<Self> {
        let clock = Self {
            file: "/sys/class/rtc/rtc0/since_epoch".into(),
        };
        clock.seconds().map(|_| clock)
    }

    fn seconds(&self) -> Option<i64> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        text.trim().parse().ok()
    }
}

impl Clock for BatteryClock {
    fn ahead(&self) -> Option<i64> {
        let before = nanoseconds(ClockId::Boottime);
        let ahead = self
            .seconds()?
            .saturating_mul(NANOSECONDS)
            .saturating_sub(before);
        let took = nanoseconds(ClockId::Boottime).saturating_sub(before);
        (took < NANOSECONDS).then_some(ahead)
    }

    async fn changed(&self) {
        tokio::time::sleep(EVERY).await;
    }
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(NANOSECONDS)
        .saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// A clock that a test sets.
    #[derive(Default)]
    struct Hand {
        ahead: AtomicI64,
        news: Notify,
        settings: Mutex<Vec<i64>>,
    }

    impl Clock for &Hand {
        fn ahead(&self) -> Option<i64> {
            Some(self.ahead.load(Ordering::SeqCst))
        }

        async fn changed(&self) {
            let set = self.settings.lock().unwrap().pop();
            match set {
                Some(seconds) => self.ahead.store(seconds * NANOSECONDS, Ordering::SeqCst),
                None => self.news.notified().await,
            }
        }
    }

    #[tokio::test]
    async fn steps_of_more_than_ten_seconds_are_told_both_ways_and_drifting_is_not() {
        let hand = Hand::default();
        let set = |seconds: &[i64]| {
            // The last is taken first.
            *hand.settings.lock().unwrap() = seconds.iter().rev().copied().collect();
            hand.news.notify_one();
        };
        let mut steps = Steps::new(&hand);
        let soon = async |steps: &mut Steps<&Hand>| {
            let step = tokio::time::timeout(Duration::from_secs(10), steps.next());
            step.await.expect("a step")
        };
        set(&[1_000_000, 900]);
        assert_eq!(soon(&mut steps).await, 1_000_000);
        assert_eq!(soon(&mut steps).await, 900 - 1_000_000);
        // Ten seconds at a time, as far as one likes, and once more.
        let drift: Vec<i64> = (1..=1000).map(|turn| 900 + turn * 10).collect();
        set(&drift);
        let drifting = tokio::time::timeout(Duration::from_millis(100), steps.next()).await;
        assert!(drifting.is_err(), "{drifting:?}");
        set(&[10_900 - 11]);
        assert_eq!(soon(&mut steps).await, -11);
    }

    #[test]
    fn a_battery_clock_is_read_where_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let clock = BatteryClock {
            file: directory.path().join("since_epoch"),
        };
        assert_eq!(clock.ahead(), None);
        for (text, seconds) in [("1700000000\n", Some(1_700_000_000)), ("soon\n", None)] {
            std::fs::write(&clock.file, text).unwrap();
            let ahead = clock.ahead();
            let up = nanoseconds(ClockId::Boottime);
            let told = ahead.map(|ahead| (ahead + up) / NANOSECONDS);
            // The time that the test itself took comes on top.
            assert!(
                told.zip(seconds)
                    .is_none_or(|(told, seconds)| (seconds..seconds + 60).contains(&told))
                    && told.is_some() == seconds.is_some(),
                "{text:?}: {told:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_system_s_clock_is_not_set_by_looking_at_it() {
        let clock = SystemClock::new();
        assert!(clock.set.is_some(), "this kernel tells when it is set");
        let (first, second) = (clock.ahead().unwrap(), clock.ahead().unwrap());
        assert!((first - second).abs() < NANOSECONDS, "{first} {second}");
        let quiet = tokio::time::timeout(Duration::from_millis(100), clock.changed()).await;
        assert!(quiet.is_err());
    }
}
