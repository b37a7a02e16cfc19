//! Selects the transfers to pause, resume and cut while memory is short: a pure function.
//!
//! Each sample of the monitor is one call. While memory is at the level of the action `pause_transfers`, the largest running transfers are
//! paused: as many as hold the excess bytes. A pause lasts at most [`PAUSE_MAX`]. If memory is at the level of the action `cut_transfers`
//! even then, the largest of the transfers that were paused are cut. The others resume and are not paused again in the same episode. Below
//! the level of `pause_transfers` all transfers run and none is cut.

use std::time::Duration;

/// The longest pause of a transfer.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The input of the decision for one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PauseCandidate {
    /// Bytes that it holds in kernel buffers and in the process.
    pub(crate) held_bytes: u64,
    pub(crate) state: PauseState,
}

/// The pause state of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseState {
    /// Not paused in this episode.
    Running,
    /// Paused, for this time so far.
    Paused(Duration),
    /// Its pause in this episode is over.
    Resumed,
}

/// Decision for one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseAction {
    Continue,
    Pause,
    Resume,
    Cut,
}

/// The worker's share of the bytes to free by each action; none if the action does not act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BytesToFree {
    pub(crate) by_pauses: Option<u64>,
    pub(crate) by_cuts: Option<u64>,
}

/// Decides for all transfers of one worker.
pub(crate) fn decide(candidates: &[PauseCandidate], to_free: BytesToFree) -> Vec<PauseAction> {
    let mut actions = vec![PauseAction::Continue; candidates.len()];
    let Some(by_pauses) = to_free.by_pauses else {
        for (action, candidate) in actions.iter_mut().zip(candidates) {
            if candidate.state != PauseState::Running {
                *action = PauseAction::Resume;
            }
        }
        return actions;
    };
    let mut by_size: Vec<usize> = (0..candidates.len()).collect();
    by_size.sort_by_key(|at| std::cmp::Reverse(candidates[*at].held_bytes));
    let mut assign = |action: PauseAction, bytes: u64, is_candidate: &dyn Fn(PauseState) -> bool| {
        let mut left = bytes.max(1);
        for at in by_size.iter().copied().filter(|at| is_candidate(candidates[*at].state)) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(candidates[at].held_bytes.max(1));
            actions[at] = action;
        }
    };
    if let Some(by_cuts) = to_free.by_cuts {
        assign(PauseAction::Cut, by_cuts, &has_used_pause);
    }
    assign(PauseAction::Pause, by_pauses, &|state| state == PauseState::Running);
    for (action, candidate) in actions.iter_mut().zip(candidates) {
        if *action == PauseAction::Continue
            && matches!(candidate.state, PauseState::Paused(since) if since >= PAUSE_MAX)
        {
            *action = PauseAction::Resume;
        }
    }
    actions
}

fn has_used_pause(state: PauseState) -> bool {
    match state {
        PauseState::Running => false,
        PauseState::Paused(since) => since >= PAUSE_MAX,
        PauseState::Resumed => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both actions act, and have the same bytes to free; or none acts.
    fn both(bytes: Option<u64>) -> BytesToFree {
        BytesToFree { by_pauses: bytes, by_cuts: bytes }
    }

    fn candidate(held_bytes: u64, state: PauseState) -> PauseCandidate {
        PauseCandidate { held_bytes, state }
    }

    /// X1: the largest are paused first, as many as hold the excess
    #[test]
    fn the_largest_are_paused() {
        let running = [10, 50, 30].map(|bytes| candidate(bytes, PauseState::Running));
        assert_eq!(
            decide(&running, both(Some(60))),
            [PauseAction::Continue, PauseAction::Pause, PauseAction::Pause]
        );
        assert_eq!(
            decide(&running, both(Some(1))),
            [PauseAction::Continue, PauseAction::Pause, PauseAction::Continue]
        );
        assert_eq!(decide(&running, both(None)), [PauseAction::Continue; 3]);
    }

    /// X1: after the maximum pause the largest are cut, and the others resume
    #[test]
    fn the_largest_are_cut_after_their_pause() {
        let paused = [10, 50, 30].map(|bytes| candidate(bytes, PauseState::Paused(PAUSE_MAX)));
        let after = [PauseAction::Resume, PauseAction::Cut, PauseAction::Resume];
        assert_eq!(decide(&paused, both(Some(40))), after);
        let resumed = [10, 30].map(|bytes| candidate(bytes, PauseState::Resumed));
        assert_eq!(decide(&resumed, both(Some(20))), [PauseAction::Continue, PauseAction::Cut]);
        assert_eq!(decide(&paused, both(None)), [PauseAction::Resume; 3]);
    }

    /// X1, X11: without the action that cuts, all resume after their pause; without pauses nothing is cut
    #[test]
    fn the_actions_are_independent() {
        let paused = [10, 50].map(|bytes| candidate(bytes, PauseState::Paused(PAUSE_MAX)));
        let no_cuts = BytesToFree { by_pauses: Some(60), by_cuts: None };
        assert_eq!(decide(&paused, no_cuts), [PauseAction::Resume; 2]);
        let no_pauses = BytesToFree { by_pauses: None, by_cuts: Some(60) };
        assert_eq!(decide(&paused, no_pauses), [PauseAction::Resume; 2]);
    }

    prop_compose! {
        fn candidates()(
            all in proptest::collection::vec((0_u64..1000, 0_u8..3, 0_u64..20), 0..30)
        ) -> Vec<PauseCandidate> {
            let state = |kind, seconds| match kind {
                0 => PauseState::Running,
                1 => PauseState::Paused(Duration::from_secs(seconds)),
                _ => PauseState::Resumed,
            };
            all.into_iter().map(|(bytes, kind, seconds)| candidate(bytes, state(kind, seconds))).collect()
        }
    }

    proptest! {
        /// X1: nothing is cut below exhausted or before its pause, and no pause exceeds its maximum
        #[test]
        fn cuts_come_last(all in candidates(), excess in proptest::option::of(0_u64..5000)) {
            for (candidate, action) in all.iter().zip(decide(&all, both(excess))) {
                if action == PauseAction::Cut {
                    prop_assert!(excess.is_some() && has_used_pause(candidate.state));
                }
                if action == PauseAction::Pause {
                    prop_assert!(excess.is_some() && candidate.state == PauseState::Running);
                }
                if matches!(candidate.state, PauseState::Paused(since) if since >= PAUSE_MAX) {
                    prop_assert!(action == PauseAction::Cut || action == PauseAction::Resume);
                }
            }
        }

        /// X1: each cut transfer is at least as large as each transfer that was paused and is not cut
        #[test]
        fn the_largest_are_cut_first(all in candidates(), excess in 0_u64..5000) {
            let actions = decide(&all, both(Some(excess)));
            let of = |cut: bool| all.iter().zip(&actions)
                .filter(|(candidate, action)| has_used_pause(candidate.state) && (**action == PauseAction::Cut) == cut)
                .map(|(candidate, _)| candidate.held_bytes).collect::<Vec<_>>();
            let lightest_cut = of(true).into_iter().min().unwrap_or(u64::MAX);
            prop_assert!(of(false).into_iter().all(|uncut| uncut <= lightest_cut));
        }
    }
}
