//! Deliberate faults in the script: the simulated fleet must notice each of them.

use super::histories::failovers;
use super::{Event, World, event, run_fleet};
use crate::store::EXCHANGE;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::panic::catch_unwind;

/// How many schedules a fault may take to be noticed.
const SCHEDULES: usize = 600;

/// What is replaced, and by what.
const FAULTS: [(&str, &str); 15] = [
    // A verdict is given while something may be missing.
    ("if not judges then return answer() end", ""),
    // A session ends though not every replica has reported.
    ("is_idle(last, counted_since, math.floor(watermark / 1000))", "is_idle(last, counted_since, now)"),
    // Activity is not merged.
    ("if newer then last, last_source = claimed, source end", ""),
    // The last activity moves back.
    ("local newer = not last or claimed > last or last > now", "local newer = true"),
    // Activity is taken for older than it is.
    ("return math.floor((now_ms - age) / 1000)", "return math.floor((now_ms - age) / 1000) - 2"),
    // A lost session does not start again.
    ("if gone then restored = now end", ""),
    // A verdict does not wait for replicas that write back.
    ("    complete = complete and mark.generation == generation\n", ""),
    // A replica is struck off too early.
    ("elapsed - mark.heard > grace", "elapsed - mark.heard > 1000"),
    // A replica that reports is taken for silent.
    ("own.call, own.heard = math.max(own.call, call), elapsed", "own.call = math.max(own.call, call)"),
    // Ends of other replicas are not told.
    ("if known and cursor >= 0 and facts.ended > cursor then", "if false then"),
    // The loss of acknowledged data is not noticed.
    ("local lost = own ~= nil and own.call < confirmed", "local lost = false"),
    // No loss but that of all data begins a generation.
    ("(generation == 0 or lost or ends_lost)", "generation == 0"),
    // Idle time goes on while a replica is off.
    ("if uncounted or newest == 0", "if newest == 0"),
    // Idle time counts from before counting began.
    ("math.max(counting, restored or 0,", "math.max(restored or 0,"),
    // Unknown tokens are decided while replicas write back.
    ("complete and 1 or 0", "1"),
];

#[test]
fn each_fault_is_one_in_the_script() {
    for (true_text, _) in FAULTS {
        assert_eq!(EXCHANGE.matches(true_text).count(), 1, "{true_text}");
    }
}

/// Whether one of the schedules of this seed shows the fault.
fn is_noticed(fault: (&'static str, &'static str)) -> bool {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[17; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let schedule =
        (2u64..6, any::<u64>(), prop_oneof![Just(3u64), Just(60)], proptest::collection::vec(event(), 40..120));
    let fails = |timeout, seed, distance, events: Vec<Event>| {
        let world = World { fault: Some(fault), ..World::new(timeout, seed, distance) };
        catch_unwind(|| run_fleet(world, events)).is_err()
    };
    failovers().into_iter().any(|events| fails(4, 7, 3, events))
        || (0..SCHEDULES).any(|_| {
            let (timeout, seed, distance, events) = schedule.new_tree(&mut runner).expect("a schedule").current();
            fails(timeout, seed, distance, events)
        })
}

#[test]
#[ignore = "takes minutes: bash tests/run simulation"]
fn each_fault_in_the_script_is_noticed() {
    for (from, _) in FAULTS {
        assert_eq!(EXCHANGE.matches(from).count(), 1, "{from}");
    }
    assert!(!is_noticed(("", "")), "the true script does not pass");
    let unnoticed: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = FAULTS.into_iter().map(|fault| (fault, scope.spawn(move || is_noticed(fault)))).collect();
        threads.into_iter().filter_map(|(fault, thread)| (!thread.join().unwrap()).then_some(fault)).collect()
    });
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}
