//! The modes in simulated time: what is recorded, what is done, and what a change of the mode does.

use super::tests::{SPRING, World, id, limits, run};
use super::{Attachment, Resolved, Switch};
use crate::session::{Limits, Mode, Reason, Source};
use proptest::prelude::*;
use std::time::Duration;

#[test]
fn time_in_off_never_counts_as_idle() {
    run(async {
        let world = World::new(limits(60), SPRING);
        world.registry.table.accept(id("ada"), None, None).await;
        world.pass(30_000).await;
        world.registry.modes.switch(Switch::File, Mode::Off, None);
        world.pass(7_200_000).await;
        world.registry.modes.switch(Switch::File, Mode::Enforce, None);
        assert!(world.registry.table.overdue().is_empty());
        world.pass(60_000).await;
        assert!(world.is_live(id("ada")).await, "cut for time that did not count");
        world.pass(2_500).await;
        assert!(world.is_dead(id("ada")).await, "idle time did not count after `off`");
    });
}

#[test]
fn observe_cuts_no_session_and_enforce_then_cuts_the_overdue_ones() {
    run(async {
        let world = World::new(limits(60), SPRING);
        world.registry.modes.switch(Switch::Replica, Mode::Observe, None);
        for token in ["idle", "back", "logged out"] {
            world.registry.table.accept(id(token), None, None).await;
        }
        let Resolved::Live(session) = world.registry.table.resolve(id("logged out")).await else { panic!("not begun") };
        world.registry.table.end(&session, Reason::Logout).await;
        world.pass(70_000).await;
        for token in ["idle", "back", "logged out"] {
            assert!(world.is_live(id(token)).await, "{token} was cut");
        }
        let count = || world.registry.metrics().would_cuts();
        assert_eq!(count(), 4, "three are idle, and a logout would have ended one");
        world.pass(600_000).await;
        assert_eq!(count(), 4, "each is recorded once");
        world.touch(id("back"), Source::ClientFrame);
        assert_eq!(world.registry.table.overdue().len(), 2, "activity clears overdue");
        world.registry.modes.switch(Switch::Replica, Mode::Enforce, None);
        world.pass(1_200).await;
        assert!(world.is_dead(id("idle")).await && world.is_dead(id("logged out")).await);
        assert!(world.is_live(id("back")).await);
    });
}

#[test]
fn a_temporary_setting_ends_by_itself() {
    run(async {
        let world = World::new(limits(60), SPRING);
        world.registry.modes.switch(Switch::Replica, Mode::Off, Some(Duration::from_secs(1_800)));
        world.pass(1_799_000).await;
        assert_eq!(world.registry.mode(), Mode::Off);
        world.pass(2_500).await;
        assert_eq!(world.registry.mode(), Mode::Enforce);
    });
}

#[test]
fn observe_tolerates_expired_tokens_but_not_logged_out_ones() {
    run(async {
        let world = World::new(limits(10), SPRING);
        world.registry.table.accept(id("idle"), None, None).await;
        world.pass(12_000).await;
        assert!(world.is_dead(id("idle")).await);
        let Resolved::Live(session) = world.registry.table.accept(id("ada"), None, None).await else {
            panic!("not begun")
        };
        world.registry.table.end(&session, Reason::Logout).await;
        world.registry.modes.switch(Switch::File, Mode::Observe, None);
        assert!(matches!(world.registry.table.resolve(id("idle")).await, Resolved::Tolerated(_)));
        assert!(matches!(world.registry.table.accept(id("idle"), None, None).await, Resolved::Tolerated(_)), "revived");
        assert!(world.is_dead(id("ada")).await);
        world.registry.modes.switch(Switch::File, Mode::Off, None);
        let mut passed_in_off = Vec::new();
        for token in ["ada", "idle"] {
            let Resolved::Tolerated(tolerated) = world.registry.table.resolve(id(token)).await else {
                panic!("refused")
            };
            passed_in_off.push(Attachment::tolerated(tolerated));
        }
        world.registry.modes.switch(Switch::File, Mode::Observe, None);
        assert_eq!(passed_in_off.iter().map(Attachment::is_cut).collect::<Vec<_>>(), [true, false]);
        world.registry.modes.switch(Switch::File, Mode::Enforce, None);
        assert!(passed_in_off.iter().all(Attachment::is_cut));
        assert!(world.is_dead(id("idle")).await && world.is_dead(id("ada")).await, "dead stays dead");
    });
}

#[test]
fn a_connection_opened_in_off_is_attached_in_enforce() {
    run(async {
        let world = World::new(limits(60), SPRING);
        world.registry.modes.switch(Switch::File, Mode::Off, None);
        let mut attached = Vec::new();
        for token in ["active", "idle"] {
            let Resolved::Live(session) = world.registry.table.accept(id(token), None, None).await else {
                panic!("not begun")
            };
            attached.push(Attachment::new(session).unwrap());
        }
        world.pass(300_000).await;
        world.registry.modes.switch(Switch::File, Mode::Enforce, None);
        for _ in 0..3 {
            world.pass(30_000).await;
            attached[0].touch(world.now(), Source::ClientFrame);
        }
        assert_eq!(attached.iter().map(Attachment::is_cut).collect::<Vec<_>>(), [false, true]);
        assert!(world.is_live(id("active")).await && world.is_dead(id("idle")).await);
    });
}

#[test]
fn off_forgets_what_is_unused_for_timeout_and_retention() {
    run(async {
        let world = World::new(Limits { retention: 300, ..limits(60) }, SPRING);
        world.registry.modes.switch(Switch::File, Mode::Off, None);
        world.registry.table.accept(id("gone"), None, None).await;
        world.pass(480_000).await;
        assert!(world.registry.table.known(id("gone")).is_none(), "kept for ever");
    });
}

#[test]
fn an_operator_ends_a_session_in_any_mode() {
    run(async {
        for mode in Mode::ALL {
            let world = World::new(limits(10), SPRING);
            let Resolved::Live(session) = world.registry.table.accept(id("ada"), None, None).await else {
                panic!("not begun")
            };
            world.registry.modes.switch(Switch::File, mode, None);
            world.registry.table.end(&session, Reason::Operator).await;
            assert_eq!(session.ended().map(|ended| ended.reason), Some(Reason::Operator), "{mode}");
        }
    });
}

proptest! {
    /// Runs the same schedule in `enforce` and in `observe`: what would be cut in one is what is cut in the other, at
    /// the same second and by the same arithmetic.
    #[test]
    fn observe_records_the_cuts_that_enforce_makes(
        timeout in 1u64..8,
        phase in 0u64..1000,
        pauses in proptest::collection::vec((0usize..3, 0u64..9_000), 1..60),
    ) {
        run(async {
            let [enforced, observed] = [Mode::Enforce, Mode::Observe].map(|mode| {
                let world = World::new(limits(timeout), SPRING + phase);
                world.registry.modes.switch(Switch::File, mode, None);
                world
            });
            let ids = [id("ada"), id("bob"), id("eve")];
            for world in [&enforced, &observed] {
                for id in ids {
                    world.registry.table.accept(id, None, None).await;
                }
            }
            let mut first = [None; 3];
            for (who, pause) in pauses {
                for (number, id) in ids.into_iter().enumerate() {
                    let record = observed.registry.table.known(id).unwrap().overdue();
                    first[number] = first[number].or(record);
                }
                for world in [&enforced, &observed] {
                    world.touch(ids[who], Source::ClientFrame);
                    world.pass(pause).await;
                }
            }
            for (number, id) in ids.into_iter().enumerate() {
                let cut = enforced.registry.table.known(id).unwrap().ended().copied();
                let would = first[number].or(observed.registry.table.known(id).unwrap().overdue());
                let arithmetic = |record: crate::store::Ended| (record.last_activity, record.ended, record.reason);
                assert_eq!(would.map(arithmetic), cut.map(arithmetic));
            }
        });
    }
}

#[test]
fn observe_forgets_a_session_that_is_idle_past_timeout_and_retention_and_has_no_connection() {
    run(async {
        let limits = Limits { retention: 300, ..limits(60) };
        let world = World::new(limits, SPRING);
        world.registry.modes.switch(Switch::Replica, Mode::Observe, None);
        world.registry.table.accept(id("gone"), None, None).await;
        let Resolved::Live(session) = world.registry.table.accept(id("open tab"), None, None).await else {
            panic!("not begun")
        };
        let attachment = Attachment::new(session).unwrap();
        world.pass(350_000).await;
        assert_eq!((world.registry.inspect.overview().live, world.registry.table.overdue().len()), (2, 2));
        world.pass(120_000).await;
        assert_eq!(world.registry.inspect.overview().live, 1, "an idle session is kept for ever");
        assert!(
            world.registry.table.known(id("gone")).is_none() && world.registry.table.known(id("open tab")).is_some()
        );
        // The store does not make it again.
        world.pass(7_200_000).await;
        assert!(world.registry.table.known(id("gone")).is_none());
        drop(attachment);
        world.pass(120_000).await;
        assert_eq!(world.registry.inspect.overview().live, 0);
    });
}
