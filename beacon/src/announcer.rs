//! The guest's side of presence: it says that its server is there, and when it leaves.
//!
//! Start it once the server takes requests: what it says is believed. It connects in the background, for
//! ever, and never holds the server up.

mod content;

pub use content::Template;

use crate::link::{Backoff, Link, LinkConfig, LinkError, jitter};
use crate::message::{Announcement, DESTINATION, Word};
use crate::net::{BROKER_PORT, HostPort, resolve_broker};
use content::{Content, NothingToSay};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Tells the free bytes below the server's root, or nothing where it cannot.
pub type FreeSpace = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Settings of an announcer.
#[derive(Clone)]
pub struct AnnouncerConfig {
    /// The broker; where there is none, the rules of [`crate::net::broker_name`], at every attempt anew.
    pub broker: Option<HostPort>,
    /// The broker's port where its place names none.
    pub broker_port: u16,
    /// The destination of presence messages.
    pub destination: String,
    /// How to introduce oneself.
    pub link: LinkConfig,
    /// The time between beacons.
    pub interval: Duration,
    /// What to announce.
    pub template: Template,
    /// The run id in the template's place, where it can change: each one begins with HELLO on a connection of its
    /// own and with number 0.
    pub runs: Option<watch::Receiver<String>>,
    /// Tells the free space; called before each beacon, aside, and never twice at once.
    pub free: Option<FreeSpace>,
}

impl AnnouncerConfig {
    /// Returns settings for these contents, all else as the specification has it.
    #[must_use]
    pub fn new(template: Template) -> Self {
        Self {
            broker: None,
            broker_port: BROKER_PORT,
            destination: DESTINATION.to_owned(),
            link: LinkConfig::default(),
            interval: Duration::from_secs(10),
            template,
            runs: None,
            free: None,
        }
    }
}

impl fmt::Debug for AnnouncerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnouncerConfig")
            .field("broker", &self.broker)
            .field("destination", &self.destination)
            .field("interval", &self.interval)
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

/// Says that a guest's server is there.
#[derive(Debug)]
pub struct Announcer {
    config: AnnouncerConfig,
    content: Content,
    /// The connection of the run before, until the new run is announced: its end would say that the guest is
    /// gone.
    former: Option<Link>,
}

impl Announcer {
    /// Returns an announcer that has not connected yet.
    #[must_use]
    pub fn new(mut config: AnnouncerConfig) -> Self {
        // A receiver drops intervals beyond a day, and none must make this spin.
        config.interval = config
            .interval
            .clamp(Duration::from_millis(50), Duration::from_secs(86_400));
        let content = Content::new(
            config.template.clone(),
            config.interval,
            config.free.clone(),
        );
        Self {
            config,
            content,
            former: None,
        }
    }

    /// Announces until the token is cancelled, then says BYE and returns, within 3 s and a little.
    ///
    /// Failures are logged and tried again after 1 s to 30 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection without BYE.
    pub async fn run(mut self, token: CancellationToken) {
        let mut backoff = Backoff::new(&self.config.link);
        let mut last_failure = String::new();
        loop {
            let mut proved = false;
            // A session notices the token by itself, to say BYE.
            let ended = self.session(&token, &mut proved).await;
            if token.is_cancelled() {
                return;
            }
            let error = match ended {
                Ok(Ended::Cancelled) => return,
                Ok(Ended::NewRun) => {
                    tracing::info!("a new run of this server is announced");
                    continue;
                }
                Err(error) => error,
            };
            self.former = None;
            if proved {
                backoff.reset();
                last_failure.clear();
            }
            let wait = backoff.after(&error);
            let failure = error.to_string();
            if failure == last_failure {
                tracing::debug!(%error, "cannot announce this server; trying again");
            } else {
                tracing::warn!(%error, retry_s = wait.as_secs_f64(), "cannot announce this server; trying again");
                last_failure = failure;
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// One connection: returns without error when the token or a new run ended it.
    async fn session(
        &mut self,
        token: &CancellationToken,
        proved: &mut bool,
    ) -> Result<Ended, LinkError> {
        let connect = async {
            let port = self.config.broker_port;
            let broker = resolve_broker(self.config.broker.as_ref(), port).await?;
            Link::open(broker, &self.config.link).await
        };
        let mut link = tokio::select! {
            () = token.cancelled() => return Ok(Ended::Cancelled),
            link = connect => link?,
        };
        if let Some(runs) = &mut self.config.runs {
            self.content.begin(&runs.borrow_and_update());
        }
        self.content.connected_from(link.local_ip());
        let mut beat = Beat::new();
        loop {
            let (said, changed) = self.announcement(None).await?;
            let word = beat.word(changed);
            let receipt = beat.receipt(&word);
            self.say(&mut link, said, &word, receipt.as_deref()).await?;
            beat.said(receipt.is_some());
            let next = Instant::now() + jitter(self.config.interval, 0.1);
            loop {
                let due = beat.receipt_due.map_or(next, |due| due.min(next));
                tokio::select! {
                    biased;
                    () = token.cancelled() => {
                        self.leave(link).await;
                        return Ok(Ended::Cancelled);
                    }
                    () = renewed(&mut self.config.runs) => {
                        self.former = Some(link);
                        return Ok(Ended::NewRun);
                    }
                    frame = link.next() => {
                        let frame = frame?;
                        if frame.command == "RECEIPT" && beat.takes(frame.header("receipt-id")) {
                            if !*proved {
                                tracing::info!("announced to the broker");
                            }
                            *proved = true;
                            self.former = None;
                        }
                    }
                    () = sleep_until(due) => {
                        if beat.receipt_due.is_some_and(|due| due <= Instant::now()) {
                            return Err(LinkError::Silent("RECEIPT", RECEIPT_WITHIN.as_secs()));
                        }
                        if next <= Instant::now() {
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn announcement(
        &mut self,
        reason: Option<&str>,
    ) -> Result<(Announcement, bool), LinkError> {
        self.content
            .next(reason)
            .await
            .map_err(|nothing| match nothing {
                NothingToSay::NoAddress => LinkError::NoAddress,
                NothingToSay::Moved(from) => LinkError::Moved(from),
            })
    }

    async fn say(
        &self,
        link: &mut Link,
        said: Announcement,
        word: &Word,
        receipt: Option<&str>,
    ) -> Result<(), LinkError> {
        let mut frame = said.frame(word, &self.config.destination);
        if let Some(receipt) = receipt {
            frame = frame.with("receipt", receipt);
        }
        link.send(&frame).await
    }

    /// Says BYE, and waits a bounded time until it has arrived.
    async fn leave(&mut self, mut link: Link) {
        let said = async {
            let (said, _) = self.announcement(Some("shutdown")).await?;
            self.say(&mut link, said, &Word::Bye, Some("leave")).await?;
            link.receipt("leave", Duration::from_secs(2)).await
        };
        match tokio::time::timeout(Duration::from_secs(3), said).await {
            Ok(Ok(())) => link.close().await,
            Ok(Err(error)) => tracing::debug!(%error, "BYE may not have arrived"),
            Err(_) => tracing::debug!("BYE may not have arrived in time"),
        }
    }
}

/// How a session ended that did not fail.
enum Ended {
    /// By the token.
    Cancelled,
    /// By a new run.
    NewRun,
}

/// Waits until there is another run than the one that was looked at.
async fn renewed(runs: &mut Option<watch::Receiver<String>>) {
    if let Some(runs) = runs
        && runs.changed().await.is_ok()
    {
        return;
    }
    // There will be none.
    std::future::pending().await
}

/// Which word is next, and which of them are to be receipted.
#[derive(Debug)]
struct Beat {
    count: u64,
    receipt_due: Option<Instant>,
}

impl Beat {
    fn new() -> Self {
        Self {
            count: 0,
            receipt_due: None,
        }
    }

    /// Returns the word for an announcement: HELLO where it is the first of a connection or says something
    /// new.
    fn word(&self, changed: bool) -> Word {
        if self.count == 0 || changed {
            Word::Hello
        } else {
            Word::StillAlive
        }
    }

    /// Returns the receipt to ask for: for HELLO and every sixth beacon, while none is awaited.
    fn receipt(&self, word: &Word) -> Option<String> {
        let wanted = *word == Word::Hello || self.count.is_multiple_of(6);
        (wanted && self.receipt_due.is_none()).then(|| format!("beacon-{}", self.count))
    }

    fn said(&mut self, with_receipt: bool) {
        self.count += 1;
        if with_receipt {
            self.receipt_due = Some(Instant::now() + RECEIPT_WITHIN);
        }
    }

    fn takes(&mut self, receipt: Option<&str>) -> bool {
        let ours = receipt.is_some_and(|id| id.starts_with("beacon-"));
        if ours {
            self.receipt_due = None;
        }
        ours
    }
}

/// How long a receipt may take before the path counts as broken.
const RECEIPT_WITHIN: Duration = Duration::from_secs(10);
