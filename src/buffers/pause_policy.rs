//! Which transfers are paused, resumed and cut while memory is exhausted, as a pure function.
//!
//! Each sample of the monitor is one call. At `exhausted` the heaviest running transfers are paused, as many as hold
//! what is used in excess. A pause lasts at most [`PAUSE_MAX`]. If memory is still exhausted then, the heaviest of
//! those that had their pause are cut; the others run on and are not paused again in the same episode. Below
//! `exhausted` everything runs and nothing is cut.

use std::time::Duration;

/// The longest pause of a transfer.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A transfer as the decision sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PauseCandidate {
    /// What it holds in kernel buffers and in the process.
    pub(crate) held_bytes: u64,
    pub(crate) state: PauseState,
}

/// Whether a transfer is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseState {
    /// It was not paused in this episode.
    Running,
    /// For so long.
    Paused(Duration),
    /// Its pause in this episode is over.
    Resumed,
}

/// What happens to a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseAction {
    Continue,
    Pause,
    Resume,
    Cut,
}

/// Decides for all transfers of one worker. `excess_bytes` is its part of what must be freed; none below `exhausted`.
pub(crate) fn decide(candidates: &[PauseCandidate], excess_bytes: Option<u64>) -> Vec<PauseAction> {
    let mut steps = vec![PauseAction::Continue; candidates.len()];
    let Some(excess_bytes) = excess_bytes else {
        for (step, candidate) in steps.iter_mut().zip(candidates) {
            if candidate.state != PauseState::Running {
                *step = PauseAction::Resume;
            }
        }
        return steps;
    };
    let mut by_weight: Vec<usize> = (0..candidates.len()).collect();
    by_weight.sort_by_key(|at| std::cmp::Reverse(candidates[*at].held_bytes));
    let mut take = |step: PauseAction, is_taken: &dyn Fn(PauseState) -> bool| {
        let mut left = excess_bytes.max(1);
        for at in by_weight.iter().copied().filter(|at| is_taken(candidates[*at].state)) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(candidates[at].held_bytes.max(1));
            steps[at] = step;
        }
    };
    take(PauseAction::Cut, &has_used_pause);
    take(PauseAction::Pause, &|state| state == PauseState::Running);
    for (step, candidate) in steps.iter_mut().zip(candidates) {
        if *step == PauseAction::Continue
            && matches!(candidate.state, PauseState::Paused(since) if since >= PAUSE_MAX)
        {
            *step = PauseAction::Resume;
        }
    }
    steps
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

    fn candidate(held_bytes: u64, state: PauseState) -> PauseCandidate {
        PauseCandidate { held_bytes, state }
    }

    /// X1: the heaviest are paused first, as many as hold the excess
    #[test]
    fn the_heaviest_are_paused() {
        let running = [10, 50, 30].map(|bytes| candidate(bytes, PauseState::Running));
        assert_eq!(
            decide(&running, Some(60)),
            [PauseAction::Continue, PauseAction::Pause, PauseAction::Pause]
        );
        assert_eq!(
            decide(&running, Some(1)),
            [PauseAction::Continue, PauseAction::Pause, PauseAction::Continue]
        );
        assert_eq!(decide(&running, None), [PauseAction::Continue; 3]);
    }

    /// X1: after the longest pause the heaviest are cut, the others run on
    #[test]
    fn the_heaviest_are_cut_after_their_pause() {
        let paused = [10, 50, 30].map(|bytes| candidate(bytes, PauseState::Paused(PAUSE_MAX)));
        assert_eq!(decide(&paused, Some(40)), [PauseAction::Resume, PauseAction::Cut, PauseAction::Resume]);
        let resumed = [10, 30].map(|bytes| candidate(bytes, PauseState::Resumed));
        assert_eq!(decide(&resumed, Some(20)), [PauseAction::Continue, PauseAction::Cut]);
        assert_eq!(decide(&paused, None), [PauseAction::Resume; 3]);
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
        /// X1: nothing is cut below exhausted or before its pause, and no pause outlasts its maximum
        #[test]
        fn cuts_come_last(all in candidates(), excess in proptest::option::of(0_u64..5000)) {
            for (candidate, step) in all.iter().zip(decide(&all, excess)) {
                if step == PauseAction::Cut {
                    prop_assert!(excess.is_some() && has_used_pause(candidate.state));
                }
                if step == PauseAction::Pause {
                    prop_assert!(excess.is_some() && candidate.state == PauseState::Running);
                }
                if matches!(candidate.state, PauseState::Paused(since) if since >= PAUSE_MAX) {
                    prop_assert!(step == PauseAction::Cut || step == PauseAction::Resume);
                }
            }
        }

        /// X1: whatever is cut is at least as heavy as whatever had its pause and stays
        #[test]
        fn the_heaviest_go(all in candidates(), excess in 0_u64..5000) {
            let steps = decide(&all, Some(excess));
            let of = |cut: bool| all.iter().zip(&steps)
                .filter(|(candidate, step)| has_used_pause(candidate.state) && (**step == PauseAction::Cut) == cut)
                .map(|(candidate, _)| candidate.held_bytes).collect::<Vec<_>>();
            let lightest_cut = of(true).into_iter().min().unwrap_or(u64::MAX);
            prop_assert!(of(false).into_iter().all(|kept| kept <= lightest_cut));
        }
    }
}
