//! What QEMU's words for a machine's state mean.

use crate::hypervisor::State;

/// Returns the state that QEMU's `query-status` names. `shutdown` is a guest that has turned itself off.
pub(super) fn state(word: &str) -> State {
    match word {
        "running" => State::Running,
        // The second is one that was started so.
        "paused" | "prelaunch" | "suspended" | "debug" | "postmigrate" => State::Paused,
        "preconfig" => State::Starting,
        "inmigrate" | "restore-vm" => State::Restoring,
        "save-vm" | "finish-migrate" => State::Saving,
        "shutdown" => State::PoweredOff,
        "guest-panicked" | "internal-error" | "io-error" | "watchdog" => State::Stuck,
        _ => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_qemu_s_has_a_state_and_others_none() {
        // RunState of its qapi/run-state.json.
        for word in
            "debug inmigrate internal-error io-error paused postmigrate prelaunch finish-migrate \
                     restore-vm running save-vm shutdown suspended watchdog guest-panicked"
                .split_whitespace()
        {
            assert_ne!(state(word), State::Unknown, "{word}");
        }
        assert_eq!(state("colo"), State::Unknown);
        assert_eq!(state(""), State::Unknown);
    }
}
