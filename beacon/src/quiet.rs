//! Logging once a minute for each sender, in bounded memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// When each sender was last spoken of.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    spoken: HashMap<Option<IpAddr>, Instant>,
}

impl Quiet {
    /// Returns whether this sender may be spoken of now, and takes it for done.
    pub(crate) fn may_speak(&mut self, sender: Option<IpAddr>, now: Instant) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < EVERY;
        if self.spoken.get(&sender).is_some_and(recent) {
            return false;
        }
        if self.spoken.len() >= SENDERS {
            self.spoken.retain(|_, at| recent(at));
            if self.spoken.len() >= SENDERS {
                // More senders of nonsense than can be told apart in a minute: silence is safer.
                return false;
            }
        }
        self.spoken.insert(sender, now);
        true
    }
}

const EVERY: Duration = Duration::from_secs(60);
const SENDERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn once_a_minute_for_each_sender_and_never_more_than_so_many() {
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        let one = "10.0.0.1".parse().ok();
        assert!(quiet.may_speak(one, start));
        assert!(!quiet.may_speak(one, start + Duration::from_secs(59)));
        assert!(quiet.may_speak(None, start));
        assert!(quiet.may_speak(one, start + Duration::from_secs(60)));
        for number in 0..5000_u32 {
            quiet.may_speak(Some(IpAddr::from(number.to_be_bytes())), start);
        }
        assert!(quiet.spoken.len() <= SENDERS);
    }
}
